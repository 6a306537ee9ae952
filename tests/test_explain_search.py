"""The search alone, on small tables with a fixed set of agreeing cells for each combination of causes."""

import numpy as np
import pytest

from cohortlib.compare.explain.causes import Cause
from cohortlib.compare.explain.evidence import Standing
from cohortlib.compare.explain.search import search
from cohortlib.errors import DataError

pytestmark = pytest.mark.unit

CELLS = 100
BITS = 5.0  # of a cell, and of a cause


class FixedTable:
    """A table of 100 cells. `agreeing` has the number of the first cells that agree under each combination."""

    def __init__(self, agreeing, alike=(), claims=None, **costs):
        self.agreeing, self.alike, self.claims, self.costs = agreeing, alike, claims or {}, costs
        self.recomputed = []
        self.places = {"cohorts": np.arange(CELLS) // 50}

    def standing(self, causes):
        names = "".join(sorted(cause.value for cause in causes))
        self.recomputed.append(names)
        # Other combinations do as well as the best part of them.
        parts = {known: cells for known, cells in self.agreeing.items() if set(known) <= set(names)}
        if None in parts.values():
            raise DataError("the data contradict it")
        cells = self.agreeing.get(names)
        if cells is None:
            cells = max(parts.values(), key=lambda cells: len(as_cells(cells)), default=0)
        agrees = np.zeros(CELLS, bool)
        agrees[list(as_cells(cells))] = True
        return Standing(agrees, np.where(agrees, 0.0, BITS))

    def candidates(self, causes, in_time):
        for name in sorted({letter for known in self.agreeing for letter in known}):
            claims = self.claims.get(name, ())
            bits = self.costs.get(name, BITS)
            yield Cause("alike" if name in self.alike else name, name, name, bits=bits, claims=claims)

    def search(self, **more):
        return search(self, **{"seconds": 60} | more)


def as_cells(cells):
    return range(cells) if isinstance(cells, int) else cells


def best(result):
    return sorted(cause.value for cause in result.best.causes)


def test_two_together():
    assert best(FixedTable({"a": 30, "b": 20, "c": 10, "ab": 100}).search()) == ["a", "b"]


def test_two_of_which_neither_helps_enough_alone():
    """The bits of what still differs lead the search, and the cells that agree decide."""
    result = FixedTable({"a": 5, "b": 4, "ab": 100}).search()
    assert best(result) == ["a", "b"]


def test_nothing_that_helps():
    result = FixedTable({"": 30, "a": 30, "b": 20}).search()
    assert result.best == result.unchanged
    assert result.best.agreeing == 30
    assert result.complete


def test_nothing_to_explain():
    table = FixedTable({"": 100, "a": 100})
    assert table.search().best.causes == ()
    assert table.recomputed == [""]


def test_what_gains_little_is_tried_and_not_named():
    result = FixedTable({"": 30, "a": 40}).search()
    assert result.best.causes == ()
    assert [trial.evidence.net for trial in result.trials] == [10, 0]


def test_the_beam_keeps_one_trial_per_set_of_kinds():
    """Three wrong causes of a kind do better alone than the cause that belongs to the right one."""
    agreeing = {"w": 60, "x": 60, "y": 60, "z": 10, "b": 40, "bz": 100}
    result = FixedTable(agreeing, alike="wxyz").search()
    assert best(result) == ["b", "z"]
    assert all(len({"w", "x", "y", "z"} & {cause.value for cause in trial.causes}) < 2 for trial in result.trials)


def test_the_shortest_story_wins():
    """A cause of few alternatives and one of many explain the same cells; two causes cost more than one."""
    assert best(FixedTable({"a": 100, "b": 100}, a=40.0).search()) == ["b"]
    assert best(FixedTable({"s": 100, "a": 60, "b": 40, "ab": 100}, s=8.0).search()) == ["s"]
    assert best(FixedTable({"s": 100, "a": 60, "b": 40, "ab": 100}, s=80.0).search()) == ["a", "b"]


def test_a_further_cause_has_to_explain_half_of_what_is_left():
    some = tuple(range(60))
    # b makes 10 of the 40 cells agree that a leaves, enough for its own choice.
    result = FixedTable({"a": some, "ab": (*some, *range(60, 80, 2))}).search()
    assert best(result) == ["a"]
    assert best(FixedTable({"a": some, "ab": (*some, *range(60, 80))}).search()) == ["a", "b"]


def test_a_further_cause_has_to_pay_for_its_choice():
    result = FixedTable({"a": 90, "ab": 100}, b=31.0).search()
    assert best(result) == ["a"]
    assert best(FixedTable({"a": 90, "ab": 100}, b=29.0).search()) == ["a", "b"]


def test_causes_that_undo_each_other_do_not_stand_together():
    """b breaks cells and c mends them again: without both, nothing is lost."""
    result = FixedTable({"a": 90, "b": 0, "c": 0, "ab": 50, "ac": 50, "bc": 0, "abc": 90}).search()
    assert best(result) == ["a"]


def test_unneeded_causes_are_dropped():
    """The search reaches b and c through a, which they do not need."""
    agreeing = {"a": 50, "d": 40, "e": 40, "b": 10, "c": 10, "ab": 70, "ac": 60, "bc": 100, "abc": 100}
    assert best(FixedTable(agreeing).search()) == ["b", "c"]


def test_a_claim_that_does_not_hold():
    """The cause speaks of the second half of the cells, where few agree."""
    agreeing = {"a": 60}
    assert best(FixedTable(agreeing, claims={"a": (("cohorts", 0),)}).search()) == ["a"]
    assert best(FixedTable(agreeing, claims={"a": (("cohorts", 1),)}).search()) == []


def test_ties():
    result = FixedTable({"a": 100, "b": 100, "c": 40}, b=8.0).search()
    assert best(result) == ["a"]
    assert [cause.value for trial in result.ties for cause in trial.causes] == ["b"]


def test_causes_that_are_errors_are_skipped():
    result = FixedTable({"a": None, "b": 60}).search()
    assert best(result) == ["b"]
    assert all("a" not in {cause.value for cause in trial.causes} for trial in result.trials)


def test_errors_without_any_cause_are_raised():
    with pytest.raises(DataError, match="contradict"):
        FixedTable({"": None, "a": 30}).search()


def test_tables_are_recomputed_once():
    table = FixedTable({"a": 40, "b": 30, "c": 20, "ab": 90, "bc": 80, "abc": 100})
    table.search()
    assert len(table.recomputed) == len(set(table.recomputed))


def test_the_time_limit():
    result = FixedTable({"a": 40, "b": 100}).search(seconds=-1)
    assert not result.complete
    assert result.best == result.unchanged


def test_progress():
    seen = []
    FixedTable({"a": 40, "b": 30, "ab": 100}).search(progress=lambda done, of: seen.append((done, of)))
    done = [at for at, _ in seen]
    assert done == sorted(done)
    assert seen[-1][0] == seen[-1][1]
    assert all(at <= of for at, of in seen)
