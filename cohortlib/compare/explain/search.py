"""Search for the shortest story that turns the local table into the remote one: a beam search.

Each cause is tried alone. The best few combinations are kept, and further causes are tried together with each of them,
as long as that shortens the description: the bits of the causes and of the cells that still differ. At the end
causes without sufficient evidence are dropped: what is named passes the rule of `evidence`.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import combinations
from time import monotonic

from cohortlib.compare.explain.causes import Cause, LocalTable
from cohortlib.compare.explain.evidence import MARGIN, Evidence, Standing, bears_out, judge
from cohortlib.engine.progress import Progress
from cohortlib.errors import CohortlibError

_BEAM_WIDTH = 3  # combinations kept from one round to the next
_MOST_CAUSES = 4
_STEP = MARGIN / 2  # bits by which a cause has to shorten the description to be followed
_MOST_REFINEMENTS = 3
_CHECKED = 5  # combinations of which smaller ones are tried at the end


@dataclass(frozen=True, eq=False)
class Trial:
    """A combination of causes, and how the cells stand under it."""

    causes: tuple[Cause, ...]
    standing: Standing
    evidence: Evidence

    @property
    def agreeing(self) -> int:
        """How many cells agree."""
        return self.standing.agreeing

    @property
    def total(self) -> int:
        """How many cells are compared."""
        return self.standing.total

    @property
    def description(self) -> float:
        """The bits of the causes and of what still differs: less is better."""
        return self.evidence.cost + self.standing.remaining

    @property
    def solved(self) -> bool:
        """Whether all cells agree."""
        return self.agreeing == self.total

    @property
    def key(self) -> frozenset[Cause]:
        """The causes, whatever their order."""
        return frozenset(self.causes)


@dataclass(frozen=True)
class SearchResult:
    """The trials of a search."""

    trials: list[Trial]  # shortest description first
    unchanged: Trial  # without any cause
    best: Trial  # the shortest of those that pass; `unchanged` if none does
    ties: list[Trial]  # others that pass and explain the same cells: the tables cannot distinguish them
    complete: bool  # the search ended before its time limit


class _Search:
    def __init__(
        self, local: LocalTable, deadline: float, progress: Progress | None, confirm: Callable[[Trial], bool]
    ) -> None:
        self._local, self._deadline, self._progress, self._confirm = local, deadline, progress, confirm
        self._trials: dict[frozenset[Cause], Trial | None] = {}
        self._done = 0
        self._complete = True

    def run(self) -> SearchResult:
        # Errors without any cause are the caller's, so they are not caught.
        standing = self._local.standing(())
        self._unchanged = Trial((), standing, judge(standing, standing, 0.0, self._local.places))
        self._trials[frozenset()] = self._unchanged
        self._run_rounds()
        best, ties = self._choose()
        if self._progress is not None:
            self._progress(self._done, self._done)
        return SearchResult(self._sorted(), self._unchanged, best, ties, self._complete)

    def _in_time(self) -> bool:
        if monotonic() <= self._deadline:
            return True
        self._complete = False
        return False

    def _sorted(self) -> list[Trial]:
        trials = [trial for trial in self._trials.values() if trial is not None]
        return sorted(trials, key=lambda trial: (trial.description, len(trial.causes)))

    def _run_rounds(self) -> None:
        beam = [self._unchanged]
        for _ in range(_MOST_CAUSES):
            best = min(trial.description for trial in self._trials.values() if trial is not None)
            open_ends = [trial for trial in beam if not trial.solved and trial.evidence.cost + MARGIN / 2 < best]
            if not open_ends:
                return
            better: dict[frozenset[Cause], Trial] = {}
            for trial in open_ends:
                for extended in self._extend(trial):
                    better[extended.key] = extended
            self._refine(better)
            beam = self._select(better.values())

    def _extend(self, trial: Trial) -> Iterator[Trial]:
        """Try each candidate together with the causes of a trial. Yields the trials that are better than it."""
        kinds = {cause.kind for cause in trial.causes}
        for cause in self._local.candidates(trial.causes, self._in_time):
            if not self._in_time():
                return
            if cause.kind in kinds:
                continue
            extended = self._try((*trial.causes, cause))
            # A shorter step could not stand as a cause of its own.
            if extended is not None and extended.description < trial.description - _STEP:
                yield extended

    def _refine(self, trials: dict[frozenset[Cause], Trial]) -> None:
        """Replace members of the best of some combinations by others of their kind, found next to the other members.

        A factor or a date that was fitted while another cause was still in the differences may be a little off.
        """
        for _ in range(_MOST_REFINEMENTS):
            best = min(trials.values(), key=lambda trial: trial.description, default=self._unchanged)
            if best.solved or len(best.causes) < 2:
                return
            for member in best.causes:
                others = tuple(cause for cause in best.causes if cause != member)
                for cause in self._local.candidates(others, self._in_time):
                    if not self._in_time():
                        return
                    found = self._try((*others, cause)) if cause.kind == member.kind else None
                    if found is not None and found.description < best.description:
                        trials[found.key] = found
            if min(trials.values(), key=lambda trial: trial.description) is best:
                return

    def _select(self, trials: Iterable[Trial]) -> list[Trial]:
        """Keep the best trials, one for each set of kinds: three wrong time zones would crowd out other causes."""
        best: dict[frozenset[str], Trial] = {}
        for trial in sorted(trials, key=lambda trial: trial.description):
            best.setdefault(frozenset(cause.kind for cause in trial.causes), trial)
        return list(best.values())[:_BEAM_WIDTH]

    def _try(self, causes: tuple[Cause, ...]) -> Trial | None:
        """Recompute the table under causes. Returns None if that is an error: the causes contradict the data."""
        key = frozenset(causes)
        if key not in self._trials:
            try:
                standing = self._local.standing(causes)
            except CohortlibError:
                self._trials[key] = None
            else:
                cost = sum(cause.bits for cause in causes)
                partial = all(cause.partial for cause in causes)
                evidence = judge(self._unchanged.standing, standing, cost, self._local.places, partial=partial)
                self._trials[key] = Trial(causes, standing, evidence)
            self._done += 1
            if self._progress is not None:
                self._progress(self._done, self._done + 1)
        return self._trials[key]

    def _choose(self) -> tuple[Trial, list[Trial]]:
        """Return the shortest trial that passes, and those that explain the same cells."""
        # To check what is needed tries combinations of fewer causes, which may be the better ones.
        for trial in [trial for trial in self._sorted() if trial.evidence.passes][:_CHECKED]:
            self._all_needed(trial)
        best: Trial | None = None
        ties: list[Trial] = []
        for trial in self._sorted():
            if best is not None and (trial.standing.agrees != best.standing.agrees).any():
                continue
            if best is not None and any(other.key < trial.key for other in (best, *ties)):
                continue
            if trial.evidence.passes and self._claims_hold(trial) and self._all_needed(trial):
                if best is not None:
                    ties.append(trial)
                elif self._confirm(trial):
                    best = trial
        return best or self._unchanged, ties

    def _claims_hold(self, trial: Trial) -> bool:
        """Check that the cells which the causes speak of agree."""
        before, places = self._unchanged.standing, self._local.places
        return all(
            bears_out(before, trial.standing, places[name], group)
            for cause in trial.causes
            for name, group in cause.claims
            if name in places
        )

    def _all_needed(self, trial: Trial) -> bool:
        """Check that the other causes alone explain less, whichever are left out, by more than the choice of these.

        Leaving out several at once finds causes that undo each other.
        """
        for count in range(1, len(trial.causes)):
            for left in combinations(trial.causes, count):
                without = self._try(tuple(cause for cause in trial.causes if cause not in left))
                if without is None:
                    continue
                cost = sum(cause.bits for cause in left)
                partial = all(cause.partial for cause in left)
                evidence = judge(without.standing, trial.standing, cost, self._local.places, partial=partial)
                if not evidence.covers or evidence.surplus <= MARGIN:
                    return False
        return True


def search(
    local: LocalTable,
    *,
    seconds: float,
    progress: Progress | None = None,
    begun: float | None = None,
    confirm: Callable[[Trial], bool] = lambda _: True,
) -> SearchResult:
    """Search for the causes that the differences bear out.

    The time limit of `seconds` counts from `begun`, by default from now. `progress` is called with the number of
    trials done and to do. `confirm` has the last word on a combination before it is named.
    """
    return _Search(local, (monotonic() if begun is None else begun) + seconds, progress, confirm).run()
