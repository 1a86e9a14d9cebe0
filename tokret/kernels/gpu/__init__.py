"""The kernels on a GPU, in Triton, under the names and signatures of reference.py.

They take NumPy arrays, which are copied to the device at each call, or a collection
uploaded once (``DeviceTokens``, ``DeviceResiduals``), and give NumPy arrays back.
Integer kernels give the reference's bits; the others are float32 sums in another order.
With ``TRITON_INTERPRET=1`` in the environment as Python starts, they run on the CPU, slowly.
Importing this raises MissingExtraError where torch or Triton is not installed.
"""

from tokret.errors import MissingExtraError

try:
    import torch
    import triton
except ImportError as error:
    raise MissingExtraError("A GPU kernel", "gpu") from error

from tokret.kernels.gpu.aggregate import xtr_aggregate
from tokret.kernels.gpu.device import DeviceTokens, choose, interpreted
from tokret.kernels.gpu.ragged import maxsim
from tokret.kernels.gpu.residual import DeviceResiduals, residual_maxsim
from tokret.kernels.gpu.topk import token_topk

VERSIONS = {"torch": torch.__version__, "triton": triton.__version__}

__all__ = [
    "VERSIONS",
    "DeviceResiduals",
    "DeviceTokens",
    "choose",
    "interpreted",
    "maxsim",
    "residual_maxsim",
    "token_topk",
    "xtr_aggregate",
]
