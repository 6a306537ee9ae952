"""The general table beside its judge, and its laws."""

import math

import naive_general
import pytest
from hypothesis import given
from strategies import exactly
from strategies_general import cases

import cohortlib as cl

pytestmark = pytest.mark.search

INTERVALS = ("_low", "_high")


def same(ours, judged):
    """Check that two cells agree: to the bit, but for the ends of intervals, whose roots may round otherwise."""
    return exactly(ours) == exactly(judged)


def check(case, table, judged):
    """Compare a table with the judge's."""
    rows = table.to_dicts()
    assert len(rows) == len(judged), (rows, judged)
    for ours, theirs in zip(rows, judged, strict=True):
        assert set(ours) == set(theirs)
        for name, value in theirs.items():
            if name.endswith(INTERVALS) and value is not None:
                assert math.isclose(ours[name], value, rel_tol=1e-9, abs_tol=1e-9), (name, ours, theirs)
            else:
                assert same(ours[name], value), (name, ours, theirs)


def ask(case, function, *arguments, **more):
    """Ask the engine; None where it refuses the data."""
    try:
        return case.ask(function, *arguments, **more)
    except cl.errors.DataError:
        return None


@given(cases())
def test_agrees_with_the_judge(case):
    judged = case.judge()
    table = ask(case, cl.cohorts)
    assert (table is None) == (judged is None)
    if judged is not None:
        check(case, table, judged)


@given(cases())
def test_users_are_those_of_the_cells(case):
    judged = case.judge()
    if not judged:
        return
    assert ask(case, cl.users, cohort=judged[0]["cohort"], period=judged[0]["period"]) is not None
    names = [*case.settings.get("by", ()), *case.settings.get("split", ())]
    for row in judged[:: max(1, len(judged) // 2)]:
        segment = {name: row[name] for name in names}
        cell = {"cohort": row["cohort"], "period": row["period"], "segment": segment}
        counts = {
            active: ask(case, cl.users, active=active, **cell).height for active in (True, False, None)
        }  # fmt: skip
        assert counts == {
            True: row["active_users"], False: row["observed"] - row["active_users"], None: row["observed"]
        }  # fmt: skip
        if "split" in case.settings:
            continue
        listed = case.judge(naive_general.users, row["cohort"], row["period"], active=None, segment=segment)
        ours = ask(case, cl.users, active=None, **cell)
        check(case, ours, listed)
