"""Measure names: one spelling, that of ir_measures; BEIR's and trec_eval's are read too."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from tokret.errors import UsageError
from tokret.evaluation import rank_measures
from tokret.registry import did_you_mean, parse

if TYPE_CHECKING:
    from ir_measures import Measure, Provider

MAX_CUTOFF = 10**9  # trec_eval reads a cutoff as a C long and ends the process on one it dislikes
TREC_EVAL = {
    "map": "AP",
    "map_cut": "AP",
    "ndcg": "nDCG",
    "ndcg_cut": "nDCG",
    "recip_rank": "RR",
    "recall": "R",
    "success": "Success",
    "bpref": "Bpref",
    "num_q": "NumQ",
    "num_rel": "NumRel",
    "num_ret": "NumRet",
    "num_rel_ret": "NumRelRet",
}
_TREC_CUT = re.compile(r"(?P<name>[A-Za-z_]+?)[._](?P<cut>\d+)")


def measure_named(name: str | Measure) -> Measure:
    """Turn ``nDCG@10``, ``AP(rel=2)@100``, ``NDCG@10`` or ``ndcg_cut.10`` into a measure.

    ``str(measure)`` is the spelling that reports use; a measure of ir_measures passes.
    Raises UsageError for an unknown name, a parameter or cutoff that is not the
    measure's, and a measure that nothing installed computes.
    """
    import ir_measures

    name = str(name)
    known = ir_measures.measures.registry
    head, cut = _taken_apart(name, known)
    base, params = parse(head)
    if base not in known:
        raise UsageError(
            f"No measure {name.strip()!r}.{_nearest(base, known)} "
            f"Known: {', '.join(sorted(known))}; a cutoff is written {_shown(base, known)}@10."
        )
    measure = known[base]
    if cut is not None:
        params[measure.AT_PARAM] = cut
    _check_params(name, measure, params)
    built: Measure = measure(**params)
    if not rank_measures.supports(built) and not provider().supports(built):
        raise UsageError(
            f"Nothing installed computes {built}; for more measures: "
            "pip install 'ir-measures[pyndeval,cwl_eval,ranx]'."
        )
    return built


def measures_named(names: str | Measure | Iterable[str | Measure]) -> list[Measure]:
    """Turn names into measures, in their order, each once."""
    import ir_measures

    if isinstance(names, str | ir_measures.Measure):
        names = [names]
    measures = list(dict.fromkeys(measure_named(name) for name in names))
    if not measures:
        raise UsageError("Name at least one measure, such as nDCG@10.")
    return measures


def provider() -> Provider:
    """Chain what computes; gdeval is left out, it needs perl and ids that are numbers."""
    import ir_measures

    names = "runtime pytrec_eval cwl_eval compat pyndeval judged msmarco accuracy ranx"
    known = ir_measures.providers.registry
    return ir_measures.providers.FallbackProvider([known[name] for name in names.split()])


def _taken_apart(name: str, known: Iterable[str]) -> tuple[str, int | float | None]:
    """Split a name into what stands before ``@`` and the number after it."""
    text = name.strip()
    trec = _TREC_CUT.fullmatch(text)
    if trec and (trec["name"] in TREC_EVAL or trec["name"] in known):
        return TREC_EVAL.get(trec["name"], trec["name"]), int(trec["cut"])
    head, at, tail = text.partition("@")
    if not head.endswith("_cut"):  # without a number trec_eval means a list of cutoffs
        head = TREC_EVAL.get(head, head)
    if not at:
        return head, None
    try:
        return head, int(tail)
    except ValueError:
        pass
    try:
        return head, float(tail)
    except ValueError:
        raise UsageError(
            f"Cannot read the measure {text!r}; after @ comes a number: {_shown(head, known)}@10."
        ) from None


def _check_params(name: str, measure: Any, params: dict[str, Any]) -> None:  # noqa: ANN401
    takes = measure.SUPPORTED_PARAMS
    for key, value in params.items():
        if key not in takes:
            raise UsageError(
                f"The measure {name!r} has no {key!r}; "
                f"{measure.NAME} takes {', '.join(takes) or 'no parameters'}."
            )
        whole = isinstance(value, int) and not isinstance(value, bool)
        if (
            not takes[key].validate(value)
            or (key == "cutoff" and not (whole and 1 <= value <= MAX_CUTOFF))
            or (key in ("rel", "min_rel", "max_rel") and not (whole and value >= 1))
            or (key == "recall" and not 0 <= value <= 1)
            or (key == "gains" and not _integers(value))
        ):
            raise UsageError(f"The measure {name!r} cannot have {key} = {value!r}.")
    missing = [key for key, info in takes.items() if info.required and key not in params]
    if missing:
        example = f"{measure.NAME}@10" if measure.AT_PARAM in missing else f"{missing[0]}=..."
        raise UsageError(f"The measure {name!r} needs {', '.join(missing)}: {example}.")


def _integers(gains: dict[Any, Any]) -> bool:
    return all(type(x) is int and abs(x) <= MAX_CUTOFF for x in (*gains, *gains.values()))


def _nearest(base: str, known: Iterable[str]) -> str:
    """Suggest the same name in other letters first: ``ndcg`` for ``nDCG``."""
    for other in known:
        if other.casefold() == base.casefold():
            return f" Did you mean {other!r}?"
    return did_you_mean(base, [*known, *(f"{n}.10" if n[-4:] == "_cut" else n for n in TREC_EVAL)])


def _shown(head: str, known: Iterable[str]) -> str:
    return head if head in known else "nDCG"
