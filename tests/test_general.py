"""The general table beside its judge, and its laws."""

import math
from contextlib import contextmanager
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory

import naive_general
import polars as pl
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from strategies import exactly, quietly
from strategies_general import cases

import cohortlib as cl
from cohortlib.engine import memory
from cohortlib.read import tables
from cohortlib.transactions.store import spill

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


# ---- laws


def tables_equal(left, right):
    """Check that two tables are the same to the bit; columns of segments may be in another type."""
    assert left.columns == right.columns
    assert [[exactly(cell) for cell in row] for row in left.rows()] == [
        [exactly(cell) for cell in row] for row in right.rows()
    ]


def without(case, *names):
    """Return a case without some settings."""
    left = {name: value for name, value in case.settings.items() if name not in names}
    return replace(case, settings=left, users=None if "by" in names else case.users)


@contextmanager
def tiny_memory():
    """Limit batches and runs to a few rows."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(memory, "MINIMUM", 1)
        patch.setattr(spill, "_MIN_ROWS", 3)
        patch.setattr(tables, "_BATCH", 3)
        yield


@given(cases())
def test_all_roads_and_threads_agree(case):
    table = ask(case, cl.cohorts, threads=1)
    assume(table is not None)
    tables_equal(ask(case, cl.cohorts, threads=3), table)
    with tiny_memory(), TemporaryDirectory() as folder:
        tables_equal(ask(case, cl.cohorts, max_memory=1), table)
        case.frame.write_parquet(Path(folder) / "rows.parquet")
        tables_equal(ask(case, cl.cohorts, source=str(Path(folder) / "rows.parquet"), max_memory=1), table)
        if case.frame["timestamp"].null_count() == case.frame.height:
            return
        kept = [name for name in ("segment", "plan", "margin") if name == "margin" or case.frame.height]
        options = {name: case.settings[name] for name in ("timezone", "nulls") if name in case.settings}
        rows = case.frame if not case.settings.get("amounts") else case.frame.filter(pl.col("margin").is_not_null())
        if rows.height < case.frame.height:
            return
        prepared = quietly(cl.prepare, rows, Path(folder) / "prepared", keep=kept, **options)
        if case.settings.get("amount", 0) is None and case.frame["amount"].null_count():
            return
        tables_equal(ask(case, cl.cohorts, source=prepared), table)


@given(cases())
def test_segments_add_up_to_the_table(case):
    assume("by" in case.settings and case.settings.get("joined") is None)
    parts, whole = (ask(each, cl.cohorts) for each in (case, without(case, "by")))
    assume(parts is not None)
    counts = ("cohort_size", "observed", "active_users")
    # A segment of a cohort has no row at ages that only other segments have observed.
    summed = parts.group_by("cohort", "period").agg(pl.col("observed", "active_users").sum())
    both = whole.join(summed, on=["cohort", "period"], how="left", maintain_order="left")
    assert both.height == whole.height
    for name in counts[1:]:
        assert both[name].to_list() == both[f"{name}_right"].to_list()


@given(cases())
def test_one_value_is_no_segment(case):
    assume("split" not in case.settings)
    case = without(case, "by")
    plain = ask(case, cl.cohorts)
    assume(plain is not None)
    case = replace(case, frame=case.frame.with_columns(one=pl.lit("x")))
    for setting in ("by", "split"):
        table = ask(case, cl.cohorts, **{setting: "one"})
        if case.joined is None:
            tables_equal(table.drop("one"), plain)


@given(cases())
def test_ages_are_in_the_unit_of_the_cohorts(case):
    assume(case.calendar is None)
    case = without(case, "age")
    table = ask(case, cl.cohorts, age=None)
    assume(table is not None)
    tables_equal(ask(case, cl.cohorts, age=case.settings["freq"]), table)


@given(cases())
def test_brackets_of_one_age_are_no_brackets(case):
    case = without(case, "brackets", "retention")
    table = ask(case, cl.cohorts)
    assume(table is not None and table.height and table["period"].max() < 50)
    wide = ask(case, cl.cohorts, brackets=range(table["period"].max() + 2))
    tables_equal(wide.drop("period_end"), table)


@given(cases())
def test_readings_of_retention_are_ordered(case):
    case = without(case, "brackets", "retention")
    tables = [ask(case, cl.cohorts, retention=name) for name in ("unbounded", "exact", "consecutive")]
    assume(tables[0] is not None)
    for more, fewer in pairwise(tables):
        assert (more["active_users"] >= fewer["active_users"]).all()
        tables_equal(more.drop("active_users", "logo_retention", "^logo_.*$"),
                     fewer.drop("active_users", "logo_retention", "^logo_.*$"))  # fmt: skip


@given(cases(), st.integers(-400, 400))
def test_days_may_shift(case, days):
    assume(case.calendar is None and case.joined is None and case.settings.get("age") in (None, "D", "7d", "30d"))
    case = without(case, "start", "end", "timezone", "fiscal_start")
    case = replace(case, settings=case.settings | {"freq": "D"})
    later = replace(case, frame=case.frame.with_columns(pl.col("timestamp") + pl.duration(days=days)))
    table, shifted = ask(case, cl.cohorts), ask(later, cl.cohorts)
    assume(table is not None)
    tables_equal(shifted.drop("cohort"), table.drop("cohort"))


@given(cases())
def test_the_common_fields_are_terminas(case):
    plain = ("freq", "timezone", "week_start", "refunds", "complete_only", "before_joined", "start", "end", "nulls")
    case = replace(case, settings={name: case.settings[name] for name in plain if name in case.settings}, users=None,
                   calendar=None)  # fmt: skip
    table = ask(case, cl.cohorts)
    assume(table is not None)
    termina = ask(case, cl.termina.cohorts)
    tables_equal(table.select(termina.columns), termina)
    judged = case.judge()
    check(case, table, judged)
