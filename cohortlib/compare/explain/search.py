"""The search for the causes that make the most cells agree.

Each cause is tried alone; then the best few are kept, and every other cause is tried beside each of them, until nothing
makes more cells agree or the time is over. A cause without which as many cells agree is left out in the end.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from time import monotonic
from typing import Any

from cohortlib.compare.explain.causes import Cause, Maker
from cohortlib.compare.reconcile.compare import Report
from cohortlib.engine.progress import Progress
from cohortlib.errors import CohortlibError

_WIDTH = 3  # combinations that are kept from one round to the next


@dataclass(frozen=True)
class Trial:
    """A combination of causes, and how many of all cells agree under it."""

    causes: tuple[Cause, ...]
    agreeing: int
    total: int

    @property
    def share(self) -> float:
        """The share of the cells that agree."""
        return self.agreeing / self.total if self.total else 1.0

    @property
    def rank(self) -> tuple[float, int]:
        """What the best has most of: agreement, then simplicity; what is assumed counts as three causes."""
        return self.share, -sum(1 + 2 * cause.assumed for cause in self.causes)

    @property
    def done(self) -> bool:
        """Whether nothing is left to explain, and nothing assumed."""
        return self.agreeing == self.total and not any(cause.assumed for cause in self.causes)


@dataclass(frozen=True)
class Found:
    """All trials, the best first, and whether the time was enough for all that was to be tried."""

    trials: list[Trial]
    before: Trial
    complete: bool

    @property
    def best(self) -> Trial:
        """The trial under which the most cells agree, by the fewest causes."""
        return self.trials[0]

    @property
    def equals(self) -> list[Trial]:
        """The other trials that do as well by as many causes: what the tables cannot tell from the best."""
        return [trial for trial in self.trials[1:] if trial.rank == self.best.rank]


class _TimeOver(Exception):  # noqa: N818 - no error, but the end of a search
    """The time is over."""


class _Search:
    def __init__(
        self,
        maker: Maker,
        compare: Callable[[Any], Report],
        deadline: float,
        progress: Progress | None,
    ) -> None:
        self._maker, self._compare, self._deadline, self._progress = maker, compare, deadline, progress
        self._trials: dict[frozenset[Cause], Trial | None] = {}
        self._done = 0

    def run(self) -> Found:
        before = self._first()
        complete = True
        try:
            self._rounds(before)
            self._drop_idle()
        except _TimeOver:
            complete = False
        if self._progress is not None:
            self._progress(self._done, self._done)
        trials = [trial for trial in self._trials.values() if trial is not None]
        return Found(sorted(trials, key=lambda trial: trial.rank, reverse=True), before, complete)

    def _first(self) -> Trial:
        """Try no cause at all: what fails here is the caller's to hear."""
        report = self._compare(self._maker.table(()))
        trial = Trial((), report.agreeing, report.total)
        self._trials[frozenset()] = trial
        self._reports = {frozenset[Cause](): report}
        return trial

    def _rounds(self, before: Trial) -> None:
        kept = [before]
        while kept and not any(trial.done for trial in kept):
            better: dict[frozenset[Cause], Trial] = {}
            for trial in kept:
                better |= self._round(trial)
                if any(tried.done for tried in better.values()):
                    break
            kept = self._various(better.values())

    def _round(self, trial: Trial) -> dict[frozenset[Cause], Trial]:
        """Try each cause beside those of a trial; give what is better than it."""
        kinds = {cause.kind for cause in trial.causes}
        beside = [cause for cause in self._maker.causes(trial.causes, self._report(trial)) if cause.kind not in kinds]
        better = {}
        for left, cause in zip(range(len(beside), 0, -1), beside, strict=True):
            tried = self._try((*trial.causes, cause), left)
            if tried is not None and tried.share > trial.share:
                better[frozenset(tried.causes)] = tried
        return better

    def _various(self, trials: Iterable[Trial]) -> list[Trial]:
        """Keep the best of those whose causes are of the same kinds: beside a wrong zone no second zone helps."""
        best: dict[frozenset[str], Trial] = {}
        for trial in sorted(trials, key=lambda trial: trial.rank, reverse=True):
            best.setdefault(frozenset(cause.kind for cause in trial.causes), trial)
        return list(best.values())[:_WIDTH]

    def _drop_idle(self) -> None:
        """Try the best without each of its causes."""
        best = None
        while best != (now := max(filter(None, self._trials.values()), key=lambda trial: trial.rank)):
            best = now
            for rest in _without_one(best.causes):
                self._try(rest, 1)

    def _try(self, causes: tuple[Cause, ...], left: int) -> Trial | None:
        """Recompute the table under some causes; None where there is none, as where they contradict the data."""
        key = frozenset(causes)
        if key not in self._trials:
            if monotonic() > self._deadline:
                raise _TimeOver
            try:
                report = self._compare(self._maker.table(causes))
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
            self._reports[key] = self._compare(self._maker.table(trial.causes))
        return self._reports[key]


def _without_one(causes: tuple[Cause, ...]) -> Iterator[tuple[Cause, ...]]:
    for at in range(len(causes)):
        yield causes[:at] + causes[at + 1 :]


def search(
    maker: Maker, compare: Callable[[Any], Report], *, seconds: float, progress: Progress | None = None
) -> Found:
    """Search for the causes that make the most cells agree.

    Parameters
    ----------
    maker
        Recomputes the table.
    compare
        Compares a recomputed table with the other one.
    seconds
        After this time no further trial is begun.
    progress
        Called with the number of trials done, and of all as far as is known.
    """
    return _Search(maker, compare, monotonic() + seconds, progress).run()
