"""The search by itself, on tables of a few cells whose causes are written down."""

import polars as pl
import pytest

from cohortlib.compare.explain.causes import Cause
from cohortlib.compare.explain.explanation import Explanation
from cohortlib.compare.explain.search import SearchResult, Trial, search
from cohortlib.compare.reconcile.compare import reconcile
from cohortlib.errors import DataError

pytestmark = pytest.mark.unit


class FixedTable:
    """A table of cells, so many of which agree under each combination of causes as is written down."""

    def __init__(self, cells, agreeing, assumed=(), alike=()):
        self.cells, self.agreeing, self.assumed, self.alike = cells, agreeing, assumed, alike
        self.asked = []

    def recompute(self, causes):
        names = "".join(sorted(cause.value for cause in causes))
        self.asked.append(names)
        # What is not written down does as well as the best part of it.
        parts = [count for known, count in self.agreeing.items() if set(known) <= set(names)]
        if None in parts:
            raise DataError("the data contradict it")
        return self.made(self.agreeing.get(names, max(parts, default=0)))

    def made(self, count):
        period = range(self.cells)
        return pl.DataFrame({"cohort": "2026-01", "period": period, "active_users": [at < count for at in period]})

    def candidates(self, causes, report):
        for name in sorted({letter for known in self.agreeing for letter in known}):
            yield Cause("alike" if name in self.alike else name, name, name, assumed=name in self.assumed)

    def describe_remaining(self, causes, report):
        return []

    def found(self, **more):
        remote = self.made(self.cells)
        return search(self, lambda table: reconcile(table, remote), **{"seconds": 60} | more)


def best(found):
    return sorted(cause.value for cause in found.best.causes)


def test_two_together():
    assert best(FixedTable(10, {"a": 4, "b": 3, "c": 2, "ab": 10}).found()) == ["a", "b"]


def test_nothing_that_helps():
    found = FixedTable(10, {"": 3, "a": 3, "b": 2}).found()
    assert found.best == found.unchanged
    assert found.best.agreeing == 3
    assert found.complete


def test_nothing_to_explain():
    written = FixedTable(10, {"": 10, "a": 10})
    assert written.found().best.causes == ()
    assert written.asked == [""]


def test_of_one_kind_the_best_alone_is_kept_and_the_right_one_still_found():
    """Three wrong ones of a kind do better alone than what goes with the right one."""
    found = FixedTable(10, {"w": 6, "x": 6, "y": 6, "z": 1, "b": 4, "bz": 10}, alike="wxyz").found()
    assert best(found) == ["b", "z"]
    assert all(len({"w", "x", "y", "z"} & {cause.value for cause in trial.causes}) < 2 for trial in found.trials)


def test_what_is_assumed_weighs_three():
    both = {"s": 10, "a": 4, "b": 3, "ab": 10}
    assert best(FixedTable(10, both, assumed="s").found()) == ["a", "b"]
    assert best(FixedTable(10, both).found()) == ["s"]
    assert best(FixedTable(10, {"s": 10, "a": 4}, assumed="s").found()) == ["s"]


def test_a_cause_that_others_make_idle_is_dropped():
    """The way led over a, without which the other two do as well."""
    written = {"a": 6, "d": 5, "e": 5, "b": 1, "c": 1, "ab": 9, "ac": 8, "bc": 14, "abc": 14}
    assert best(FixedTable(14, written).found()) == ["b", "c"]


def test_what_the_tables_cannot_tell_apart():
    found = FixedTable(10, {"a": 10, "b": 10, "c": 4}).found()
    assert best(found) == ["a"]
    assert [cause.value for trial in found.ties for cause in trial.causes] == ["b"]


def test_what_contradicts_the_data_is_passed_over():
    found = FixedTable(10, {"a": None, "b": 6}).found()
    assert best(found) == ["b"]
    assert all("a" not in {cause.value for cause in trial.causes} for trial in found.trials)


def test_what_fails_without_any_cause_is_the_callers_to_hear():
    with pytest.raises(DataError, match="contradict"):
        FixedTable(10, {"": None, "a": 3}).found()


def test_nothing_is_made_twice():
    written = FixedTable(20, {"a": 4, "b": 3, "c": 2, "ab": 9, "bc": 8, "abc": 20})
    written.found()
    # Once more only those beside which other causes are looked for.
    assert max(map(written.asked.count, written.asked)) == 2
    assert len(written.asked) - len(set(written.asked)) <= 6


def test_what_does_not_help_is_tried_alone_only():
    written = FixedTable(10, {"": 3, "a": 3, "b": 3, "c": 2})
    written.found()
    assert written.asked == ["", "a", "b", "c"]


def test_the_time_is_kept():
    found = FixedTable(10, {"a": 4, "b": 10}).found(seconds=-1)
    assert not found.complete
    assert found.best == found.unchanged


def test_progress():
    seen = []
    FixedTable(10, {"a": 4, "b": 3, "ab": 10}).found(progress=lambda done, of: seen.append((done, of)))
    assert [done for done, _ in seen] == [*range(1, len(seen)), len(seen) - 1]
    assert seen[-1][0] == seen[-1][1]
    assert all(done <= of for done, of in seen)


def test_what_adds_nothing_is_not_listed():
    a, b = (Cause(name, name, name) for name in "ab")
    before = Trial((), 3, 10)
    found = SearchResult(
        [Trial((a,), 8, 10), Trial((a, b), 8, 10), Trial((b,), 5, 10), before, Trial((b, a), 2, 10)], before, True
    )
    why = Explanation(found, (), ())
    assert why.block.rows == (("a", "8", "10"), ("b", "5", "10"))
