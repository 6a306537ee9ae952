"""The general table beside its judge, and its laws."""

import math
from contextlib import contextmanager
from dataclasses import replace
from datetime import date
from importlib.resources import files
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory

import naive_general
import polars as pl
import pytest
from click.testing import CliRunner
from hypothesis import assume, given
from hypothesis import strategies as st
from strategies import exactly, quietly
from strategies_general import cases

import cohortlib as cl
from cohortlib.cli.main import cli
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
    listed_at = {0, len(judged) // 2, len(judged) - 1}
    for at, row in enumerate(judged[:60]):
        segment = {name: row[name] for name in names}
        cell = {"cohort": row["cohort"], "period": row["period"], "segment": segment}
        counts = {active: ask(case, cl.users, active=active, **cell).height for active in (True, False)}
        assert counts == {True: row["active_users"], False: row["observed"] - row["active_users"]}
        if at not in listed_at:
            continue
        ours = ask(case, cl.users, active=None, **cell)
        assert ours.height == row["observed"]
        if "split" not in case.settings:
            check(
                case, ours, case.judge(naive_general.users, row["cohort"], row["period"], active=None, segment=segment)
            )


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
        if case.settings.get("amount", 0) is None and case.frame["amount"].null_count():
            return  # a prepared form reads amounts: it drops or refuses the nulls
        prepared = quietly(cl.prepare, rows, Path(folder) / "prepared", keep=kept, **options)
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


@pytest.mark.parametrize("more", [{}, {"confidence": 0.9}])
def test_zero_has_no_sign(more):
    rows = pl.DataFrame({"user_id": [1, 2, 3], "timestamp": date(2026, 1, 1), "amount": 1, "x": [-0.0, 0.0, None]})
    for each in (rows, rows.reverse(), rows.head(1)):
        assert str(cl.cohorts(each, by="x", **more)["x"][0]) == "0.0"


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


@pytest.mark.parametrize("freq", ["W", "M", "Q"])
def test_unbounded_retention_from_customers(freq):
    rows = str(files("cohortlib") / "samples" / "cdnow_sample.parquet")
    active = cl.termina.customer_cohorts(rows, freq=freq, rows="active")
    last = active.group_by("cohort", "user_id").agg(last=pl.col("period").max())
    table = cl.cohorts(rows, freq=freq, retention="unbounded")
    counted = (
        table.join(last, on="cohort").group_by("cohort", "period").agg(still=(pl.col("last") >= pl.col("period")).sum())
    )
    both = table.join(counted, on=["cohort", "period"], how="left")
    assert both.height == table.height > 5
    assert (both["active_users"] == both["still"]).all()


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


# ---- averages and bad input

ROWS = pl.DataFrame(
    {
        "user_id": ["a", "a", "a", "b", "b", "c", "c", "c"],
        "timestamp": [
            date(2026, 1, 5), date(2026, 2, 10), date(2026, 3, 3), date(2026, 1, 20), date(2026, 3, 1),
            date(2026, 2, 2), date(2026, 2, 20), date(2026, 3, 15),
        ],
        "amount": [100, 80, -10, 50, 70, 30, -40, 60],
        "country": ["DE", "FR", "DE", "FR", "DE", None, None, None],
    }
)  # fmt: skip


def test_summary_of_the_worked_example():
    means = cl.summary(cl.termina.cohorts(ROWS), last_day="2026-03-31")
    assert means.select("period", "cohorts", "ltv").rows() == [(0, 2, 70.0), (1, 1, 110.0), (2, 1, 145.0)]
    assert means["ltv_max"].to_list() == [75.0, 115.0, 150.0]


def test_summary_without_a_last_day_warns():
    with pytest.warns(cl.errors.CohortlibWarning, match="all cells count"):
        assert cl.summary(cl.termina.cohorts(ROWS)).height == 3


@given(cases())
def test_summary_agrees_with_the_judge(case):
    table = ask(case, cl.cohorts)
    assume(table is not None and "brackets" not in case.settings)
    segments = [*case.settings.get("by", ()), *case.settings.get("split", ())]
    judged = naive_general.summary(table.to_dicts(), segments)
    means = cl.summary(table)
    assert means.height == len(judged)
    for ours, theirs in zip(means.to_dicts(), judged, strict=True):
        assert {name: exactly(value) for name, value in ours.items()} == {
            name: exactly(value) for name, value in theirs.items()
        }


def test_triangles_of_segments():
    triangles = cl.triangle(cl.cohorts(ROWS, by="country"), "ltv")
    assert list(triangles) == ["DE", "FR", None]
    assert triangles["FR"].rows() == [("2026-01", 50.0, 50.0, 120.0)]
    many = pl.concat([ROWS] * 3).with_columns(country=pl.int_range(pl.len()))
    with pytest.raises(cl.errors.DataError, match="segments"):
        cl.triangle(cl.cohorts(many, split="country"), "ltv")


def test_the_last_row_of_a_triangle_is_the_mean():
    triangle = cl.triangle(cl.termina.cohorts(ROWS), "ltv", mean=True, last_day="2026-03-31")
    assert triangle.rows()[-1] == ("mean", 70.0, 110.0, 145.0)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"by": "nix"}, "by='nix' is not a column"),
        ({"by": "country", "split": "country"}, "exclude each other"),
        ({"by": "ltv"}, "named like a column of the result"),
        ({"age": "0d"}, "clock of 0 days"),
        ({"age": "week"}, "not a unit of ages"),
        ({"brackets": [0, 2, 1]}, "are not brackets"),
        ({"brackets": []}, "are not brackets"),
        ({"brackets": [0, 1], "retention": "unbounded"}, "exclude each other"),
        ({"amount": None, "refunds": "signed"}, "exclude each other"),
        ({"fiscal_start": 4}, "exclude each other"),
        ({"fiscal_start": 13, "freq": "Q"}, "is unknown"),
        ({"confidence": 95}, "is not a level"),
        ({"users": ROWS}, "no effect"),
        ({"users": ROWS, "by": "country"}, "users have rows in users that differ"),
        ({"users": ROWS.select("user_id"), "by": "country"}, "users= has the columns"),
        ({"calendar": ROWS}, "has the columns"),
        (
            {"calendar": pl.DataFrame({"day": [date(2026, 1, 1), date(2026, 2, 1)], "label": ["P1", None]})},
            "outside of",
        ),
        ({"amounts": ["amount"]}, "named like a column of the result"),
    ],
)
def test_bad_settings(settings, message):
    with pytest.raises(cl.errors.CohortlibError, match=message):
        cl.cohorts(ROWS, **settings)


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        ({"cohort": "January", "period": 0}, "not the label of a cohort"),
        ({"cohort": "2026Q1", "period": 0}, "not the label of a cohort"),
        ({"cohort": "2026-01", "period": -1}, "not an age"),
        ({"cohort": "2026-01", "period": 0, "segment": {"country": "DE"}}, "not in by="),
        ({"cohort": "2026-01", "period": 0, "active": "yes"}, "active='yes' is unknown"),
    ],
)
def test_bad_cells(cell, message):
    with pytest.raises(cl.errors.SettingError, match=message):
        cl.users(ROWS, **cell)


def test_a_prepared_form_without_the_column_is_refused(tmp_path):
    prepared = cl.prepare(ROWS, tmp_path / "prepared")
    with pytest.raises(cl.errors.SettingError, match=r"was not kept .* keep=\['country'\]"):
        cl.cohorts(prepared, by="country")


def test_online_retail_by_country_adds_up(shared):
    rows = pl.read_parquet(shared / "online_retail.parquet").filter(pl.col("user_id").is_not_null())
    parts, whole = cl.cohorts(rows, by="country"), cl.cohorts(rows)
    counts = parts.group_by("cohort", "period").agg(pl.col("active_users", "amount").sum())
    both = whole.join(counts, on=["cohort", "period"])
    assert both.height == whole.height
    assert both["active_users"].to_list() == both["active_users_right"].to_list()
    assert (both["amount"] - both["amount_right"]).abs().max() < 1e-6
    assert rows.group_by("user_id").agg(pl.col("country").n_unique())["country"].max() > 1


@pytest.mark.parametrize("chunk", [1, 2])
def test_command_line(tmp_path, chunk):
    file, output = tmp_path / "orders.csv", tmp_path / "out.parquet"
    ROWS.write_csv(file)
    arguments = (
        ["cohorts", str(file), "--by", "country"],
        ["users", str(file), "--cohort", "2026-01", "--period", "1"],
    )
    command = [*arguments[chunk - 1], "-o", str(output)]
    assert CliRunner().invoke(cli, command).exit_code == 0
    rows = ROWS.with_columns(pl.col("amount").cast(pl.Float64))
    expected = cl.cohorts(rows, by="country") if chunk == 1 else cl.users(rows, cohort="2026-01", period=1)
    assert pl.read_parquet(output).rows() == expected.rows()
