"""Judge an explanation by what was planted."""

import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import cohortlib as cl
from benchmarks.planted.kinds import Plant
from cohortlib.compare.explain import explain as explaining
from cohortlib.compare.explain.causes import Cause
from cohortlib.errors import CohortlibError

RIGHT, PARTLY, SILENT, WRONG, ERROR = "right", "partly", "silent", "WRONG", "error"

_LEFT = 0.05  # of the differing cells may still differ where all causes are named, such as rounded ones


@dataclass(frozen=True)
class Verdict:
    """What an explanation is worth, and what it said."""

    word: str
    seconds: float
    said: str


def judged(
    plants: Sequence[Plant],
    local: Any,
    remotes: Sequence[Any],
    explain: Callable[[Any, Any, float], Any],
    seconds: float,
) -> Verdict:
    """Explain the last of the remote tables. The others are those of each plant alone, or none for a single plant."""
    begun = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            why = explain(local, remotes[-1], seconds)
        except CohortlibError as error:
            return Verdict(ERROR, time.perf_counter() - begun, str(error))
        spent = time.perf_counter() - begun
        return Verdict(_word(why, plants, local, remotes), spent, why.sentence)


def _word(why: Any, plants: Sequence[Plant], local: Any, remotes: Sequence[Any]) -> str:
    causes = list(why.causes)
    named = [plant.form or any(plant.named_by(cause) for cause in causes) for plant in plants]
    if why.ok:
        return RIGHT  # the same table from the rows: equal in effect
    if not causes:
        return SILENT
    false = [cause for cause in causes if not any(plant.named_by(cause) for plant in plants)]
    if false and not _equal_in_effect(causes, local, remotes):
        return WRONG
    left, before = why.report.differences.height, why.reports[0].differences.height
    return RIGHT if plants and all(named) and left <= _LEFT * before else PARTLY


def _equal_in_effect(causes: list[Cause], local: Any, remotes: Sequence[Any]) -> bool:
    """Return whether the table under the causes is that of one of the plants alone."""
    for remote in remotes[:-1]:
        arguments = dict(local.settings) if hasattr(local, "rows") else {
            "request": local.request, "installs": local.installs, "timezone": local.timezone,
            "conventions": cl.adapty.Conventions(**local.conventions),
        }  # fmt: skip
        source = local.rows if hasattr(local, "rows") else local.events
        table, other = explaining._local_table(source, remote, arguments)
        if cl.reconcile(table.recompute(tuple(causes)), other).ok:
            return True
    return False
