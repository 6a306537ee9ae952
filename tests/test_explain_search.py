"""The search alone, on small tables with a fixed number of agreeing cells for each combination of causes."""

import polars as pl
import pytest

from cohortlib.compare.explain.causes import Cause
from cohortlib.compare.explain.explanation import Explanation
from cohortlib.compare.explain.search import SearchResult, Trial, search
from cohortlib.compare.reconcile.compare import reconcile
from cohortlib.errors import DataError

pytestmark = pytest.mark.unit


class FixedTable:
    """A table with a fixed number of agreeing cells for each combination of causes."""

    def __init__(self, cells, agreeing, assumed=(), alike=()):
        self.cells, self.agreeing, self.assumed, self.alike = cells, agreeing, assumed, alike
        self.recomputed = []

    def recompute(self, causes):
        names = "".join(sorted(cause.value for cause in causes))
        self.recomputed.append(names)
        # Other combinations do as well as the best part of them.
        parts = [count for known, count in self.agreeing.items() if set(known) <= set(names)]
        if None in parts:
            raise DataError("the data contradict it")
        return self.frame(self.agreeing.get(names, max(parts, default=0)))

    def frame(self, count):
        period = range(self.cells)
        return pl.DataFrame({"cohort": "2026-01", "period": period, "active_users": [at < count for at in period]})

    def candidates(self, causes, report):
        for name in sorted({letter for known in self.agreeing for letter in known}):
            yield Cause("alike" if name in self.alike else name, name, name, assumed=name in self.assumed)

    def describe_remaining(self, causes, report):
        return []

    def search(self, **more):
        remote = self.frame(self.cells)
        return search(self, lambda table: reconcile(table, remote), **{"seconds": 60} | more)


def best(result):
    return sorted(cause.value for cause in result.best.causes)


def test_two_together():
    assert best(FixedTable(10, {"a": 4, "b": 3, "c": 2, "ab": 10}).search()) == ["a", "b"]


def test_nothing_that_helps():
    result = FixedTable(10, {"": 3, "a": 3, "b": 2}).search()
    assert result.best == result.unchanged
    assert result.best.agreeing == 3
    assert result.complete


def test_nothing_to_explain():
    table = FixedTable(10, {"": 10, "a": 10})
    assert table.search().best.causes == ()
    assert table.recomputed == [""]


def test_the_beam_keeps_one_trial_per_set_of_kinds():
    """Three wrong causes of a kind do better alone than the cause that belongs to the right one."""
    result = FixedTable(10, {"w": 6, "x": 6, "y": 6, "z": 1, "b": 4, "bz": 10}, alike="wxyz").search()
    assert best(result) == ["b", "z"]
    assert all(len({"w", "x", "y", "z"} & {cause.value for cause in trial.causes}) < 2 for trial in result.trials)


def test_an_assumption_counts_as_three_causes():
    both = {"s": 10, "a": 4, "b": 3, "ab": 10}
    assert best(FixedTable(10, both, assumed="s").search()) == ["a", "b"]
    assert best(FixedTable(10, both).search()) == ["s"]
    assert best(FixedTable(10, {"s": 10, "a": 4}, assumed="s").search()) == ["s"]


def test_unneeded_causes_are_dropped():
    """The search reaches b and c through a, which they do not need."""
    agreeing = {"a": 6, "d": 5, "e": 5, "b": 1, "c": 1, "ab": 9, "ac": 8, "bc": 14, "abc": 14}
    assert best(FixedTable(14, agreeing).search()) == ["b", "c"]


def test_ties():
    result = FixedTable(10, {"a": 10, "b": 10, "c": 4}).search()
    assert best(result) == ["a"]
    assert [cause.value for trial in result.ties for cause in trial.causes] == ["b"]


def test_causes_that_are_errors_are_skipped():
    result = FixedTable(10, {"a": None, "b": 6}).search()
    assert best(result) == ["b"]
    assert all("a" not in {cause.value for cause in trial.causes} for trial in result.trials)


def test_errors_without_any_cause_are_raised():
    with pytest.raises(DataError, match="contradict"):
        FixedTable(10, {"": None, "a": 3}).search()


def test_tables_are_recomputed_once():
    table = FixedTable(20, {"a": 4, "b": 3, "c": 2, "ab": 9, "bc": 8, "abc": 20})
    table.search()
    # A second time only for trials that are extended.
    assert max(map(table.recomputed.count, table.recomputed)) == 2
    assert len(table.recomputed) - len(set(table.recomputed)) <= 6


def test_causes_that_do_not_help_are_not_combined():
    table = FixedTable(10, {"": 3, "a": 3, "b": 3, "c": 2})
    table.search()
    assert table.recomputed == ["", "a", "b", "c"]


def test_the_time_limit():
    result = FixedTable(10, {"a": 4, "b": 10}).search(seconds=-1)
    assert not result.complete
    assert result.best == result.unchanged


def test_progress():
    seen = []
    FixedTable(10, {"a": 4, "b": 3, "ab": 10}).search(progress=lambda done, of: seen.append((done, of)))
    assert [done for done, _ in seen] == [*range(1, len(seen)), len(seen) - 1]
    assert seen[-1][0] == seen[-1][1]
    assert all(done <= of for done, of in seen)


def test_causes_that_add_nothing_are_not_shown():
    a, b = (Cause(name, name, name) for name in "ab")
    before = Trial((), 3, 10)
    result = SearchResult(
        [Trial((a,), 8, 10), Trial((a, b), 8, 10), Trial((b,), 5, 10), before, Trial((b, a), 2, 10)], before, True
    )
    why = Explanation(result, (), ())
    assert why.block.rows == (("a", "8", "10"), ("b", "5", "10"))
