"""What all pictures of tokret have in common: colours, type, and files that do not change."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from tokret.errors import MissingExtraError, UsageError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLOURS = (  # Okabe and Ito, told apart with any colour vision; the yellow is too faint
    *("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000"),
)
SUFFIXES = (".png", ".svg")
LONGEST_NAME = 40  # characters
DOTS = 150  # an inch, of a PNG
STYLE = {
    "svg.fonttype": "none",
    "svg.hashsalt": "tokret",  # the same file for the same numbers
    "font.family": ["DejaVu Sans"],
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e4e4e4",
    "figure.facecolor": "white",
    "text.usetex": False,
}


def check_picture(path: str | Path) -> None:
    """Refuse a file that is neither PNG nor SVG by its name."""
    if Path(path).suffix.lower() not in SUFFIXES:
        raise UsageError(f"{path}: a picture is written as {' or '.join(SUFFIXES)}.")


@contextmanager
def style() -> Iterator[None]:
    """Let matplotlib draw in one style for as long as this lasts; no window, no pyplot.

    Raises MissingExtraError where matplotlib is not installed.
    """
    try:
        import matplotlib as mpl
    except ImportError:
        raise MissingExtraError("Drawing a picture", "plot") from None
    with mpl.rc_context(STYLE):
        yield


def shortened(name: str) -> str:
    """Make a name fit a picture, and stand for itself: matplotlib reads $ as mathematics."""
    plain = " ".join(name.split()).replace("$", r"\$")
    return plain if len(plain) <= LONGEST_NAME else plain[: LONGEST_NAME - 1] + "…"


def save(figure: Figure, path: str | Path) -> None:
    """Write a picture whole; the same figure gives the same file."""
    check_picture(path)
    svg = Path(path).suffix.lower() == ".svg"
    about = {"Date": None, "Creator": "tokret"} if svg else {"Software": "tokret"}
    with style(), warnings.catch_warnings():
        # A name in letters that the font lacks: boxes in a PNG, right in an SVG.
        warnings.filterwarnings("ignore", message="Glyph .* missing", category=UserWarning)
        figure.savefig(path, dpi=DOTS, metadata=about)
