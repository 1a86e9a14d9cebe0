"""The pytest plug-in: a fixture that holds runs to runs, and a summary of what it held.

A conftest.py asks for it: ``pytest_plugins = ["tokret.evaluation.pytest_plugin"]``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from tokret.evaluation.comparison import Comparison
from tokret.evaluation.regression import RegressionError, assert_no_regression

if TYPE_CHECKING:
    from _pytest.terminal import TerminalReporter

_HELD = pytest.StashKey[list[tuple[str, Comparison]]]()


@pytest.fixture(name="assert_no_regression")
def _assert_no_regression(request: pytest.FixtureRequest) -> Callable[..., Comparison]:
    """Hold a run to another; what was measured is told at the end of the session."""
    held = request.config.stash.setdefault(_HELD, [])

    def check(*args: Any, **options: Any) -> Comparison:  # noqa: ANN401
        __tracebackhide__ = True
        try:
            found = assert_no_regression(*args, **options)
        except RegressionError as error:
            held.append((request.node.nodeid, error.comparison))
            raise
        held.append((request.node.nodeid, found))
        return found

    return check


def pytest_terminal_summary(terminalreporter: TerminalReporter, config: pytest.Config) -> None:
    """List every difference that was tested, with its interval."""
    held = config.stash.get(_HELD, [])
    if not held:
        return
    terminalreporter.section("retrieval quality")
    for test, found in held:
        for d in found.differences:
            terminalreporter.write_line(
                f"{test}  {d.measure} {d.value_a:.4f} -> {d.value_b:.4f} ({d.difference:+.4f}, "
                f"{found.method['confidence']:.0%} {d.low:+.4f} to {d.high:+.4f})"
            )
