"""Scoring kernels: compiled where possible, else their NumPy reference.

``TOKRET_REQUIRE_NATIVE=1`` makes the absence of the compiled ones an error.
"""

import os
import warnings

try:
    from tokret.kernels.native import cell_sums, maxsim, nearest, token_topk, xtr_aggregate

    NATIVE = True
except ImportError as error:  # installed without a compiler
    if os.environ.get("TOKRET_REQUIRE_NATIVE", "") not in ("", "0"):
        raise ImportError(
            "TOKRET_REQUIRE_NATIVE asks for the compiled kernels, and they cannot be imported "
            f"({error}); install tokret anew where there is a C++17 compiler."
        ) from error
    from tokret.kernels.reference import cell_sums, maxsim, nearest, token_topk, xtr_aggregate

    NATIVE = False
    warnings.warn(
        "tokret computes in NumPy: its compiled kernels are not installed (`tokret doctor` says "
        "how to get them).",
        stacklevel=2,
    )

__all__ = ["NATIVE", "cell_sums", "maxsim", "nearest", "token_topk", "xtr_aggregate"]
