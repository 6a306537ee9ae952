"""Search for the causes that make the most cells agree: a beam search.

Each cause is tried alone. The best few combinations are kept, and each further candidate is tried together with each of
them, until no combination makes more cells agree or the time is up. Causes that the result does not need are dropped at
the end.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from time import monotonic
from typing import Any

from cohortlib.compare.explain.causes import Cause, LocalTable
from cohortlib.compare.reconcile.compare import Report
from cohortlib.engine.progress import Progress
from cohortlib.errors import CohortlibError

_BEAM_WIDTH = 3  # combinations kept from one round to the next


@dataclass(frozen=True)
class Trial:
    """A combination of causes, and how many of all cells agree under it."""

    causes: tuple[Cause, ...]
    agreeing: int
    total: int

    @property
    def share(self) -> float:
        """The share of cells that agree."""
        return self.agreeing / self.total if self.total else 1.0

    @property
    def rank(self) -> tuple[float, int]:
        """The sort key, highest first: agreement, then fewer causes. An assumed cause counts as three."""
        return self.share, -sum(1 + 2 * cause.assumed for cause in self.causes)

    @property
    def solved(self) -> bool:
        """Whether all cells agree without an assumption."""
        return self.agreeing == self.total and not any(cause.assumed for cause in self.causes)


@dataclass(frozen=True)
class SearchResult:
    """The trials of a search."""

    trials: list[Trial]  # best first
    unchanged: Trial  # without any cause
    complete: bool  # the search ended before its time limit

    @property
    def best(self) -> Trial:
        """The trial with the most agreeing cells; among equals, the one with the fewest causes."""
        return self.trials[0]

    @property
    def ties(self) -> list[Trial]:
        """The other trials of the same rank as the best: the tables cannot distinguish them."""
        return [trial for trial in self.trials[1:] if trial.rank == self.best.rank]


class _TimeUp(Exception):  # noqa: N818 - not an error: it ends the search
    """The time limit is reached."""


class _Search:
    def __init__(
        self,
        local: LocalTable,
        compare: Callable[[Any], Report],
        deadline: float,
        progress: Progress | None,
    ) -> None:
        self._local, self._compare, self._deadline, self._progress = local, compare, deadline, progress
        self._trials: dict[frozenset[Cause], Trial | None] = {}
        self._reports: dict[frozenset[Cause], Report] = {}
        self._done = 0

    def run(self) -> SearchResult:
        unchanged = self._try_unchanged()
        complete = True
        try:
            self._run_rounds(unchanged)
            self._drop_unneeded()
        except _TimeUp:
            complete = False
        if self._progress is not None:
            self._progress(self._done, self._done)
        trials = [trial for trial in self._trials.values() if trial is not None]
        return SearchResult(sorted(trials, key=lambda trial: trial.rank, reverse=True), unchanged, complete)

    def _try_unchanged(self) -> Trial:
        """Compute the table without any cause. Errors here are the caller's, so they are not caught."""
        report = self._compare(self._local.recompute(()))
        trial = Trial((), report.agreeing, report.total)
        self._trials[frozenset()] = trial
        self._reports[frozenset()] = report
        return trial

    def _run_rounds(self, unchanged: Trial) -> None:
        beam = [unchanged]
        while beam and not any(trial.solved for trial in beam):
            better: dict[frozenset[Cause], Trial] = {}
            for trial in beam:
                better |= self._extend(trial)
                if any(extended.solved for extended in better.values()):
                    break
            beam = self._select(better.values())

    def _extend(self, trial: Trial) -> dict[frozenset[Cause], Trial]:
        """Try each candidate together with the causes of a trial. Returns the trials that are better than it."""
        kinds = {cause.kind for cause in trial.causes}
        candidates = self._local.candidates(trial.causes, self._report(trial))
        candidates = [cause for cause in candidates if cause.kind not in kinds]
        better = {}
        for left, cause in zip(range(len(candidates), 0, -1), candidates, strict=True):
            extended = self._try((*trial.causes, cause), left)
            if extended is not None and extended.share > trial.share:
                better[frozenset(extended.causes)] = extended
        return better

    def _select(self, trials: Iterable[Trial]) -> list[Trial]:
        """Keep the best trials, one for each set of kinds: three wrong time zones would crowd out other causes."""
        best: dict[frozenset[str], Trial] = {}
        for trial in sorted(trials, key=lambda trial: trial.rank, reverse=True):
            best.setdefault(frozenset(cause.kind for cause in trial.causes), trial)
        return list(best.values())[:_BEAM_WIDTH]

    def _drop_unneeded(self) -> None:
        """Try the best combination without each of its causes, until that no longer improves its rank."""
        best = None
        while best != (now := max(filter(None, self._trials.values()), key=lambda trial: trial.rank)):
            best = now
            for at in range(len(best.causes)):
                self._try(best.causes[:at] + best.causes[at + 1 :], 1)

    def _try(self, causes: tuple[Cause, ...], left: int) -> Trial | None:
        """Recompute the table under causes. Returns None if that is an error: the causes contradict the data."""
        key = frozenset(causes)
        if key not in self._trials:
            if monotonic() > self._deadline:
                raise _TimeUp
            try:
                report = self._compare(self._local.recompute(causes))
            except CohortlibError:
                self._trials[key] = None
            else:
                self._trials[key] = Trial(causes, report.agreeing, report.total)
            self._done += 1
            if self._progress is not None:
                self._progress(self._done, self._done + left)
        return self._trials[key]

    def _report(self, trial: Trial) -> Report:
        key = frozenset(trial.causes)
        if key not in self._reports:
            self._reports[key] = self._compare(self._local.recompute(trial.causes))
        return self._reports[key]


def search(
    local: LocalTable, compare: Callable[[Any], Report], *, seconds: float, progress: Progress | None = None
) -> SearchResult:
    """Search for the causes that make the most cells agree; `compare` compares a table with the remote one.

    After `seconds` no further trial starts. `progress` is called with the number of trials done and to do.
    """
    return _Search(local, compare, monotonic() + seconds, progress).run()
