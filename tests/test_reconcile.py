"""Comparing two tables: every cell against a slow judge, what is refused, and what a report says."""

import gzip
import json
import math
import re
from datetime import date
from decimal import Decimal
from fractions import Fraction
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import strategies
import strategies_adapty
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

import cohortlib as cl
from cohortlib.compare.reconcile import page, pairing
from cohortlib.compare.reconcile.compare import Report
from cohortlib.errors import DataError, SchemaError, SettingError, SourceError
from cohortlib.fields import COHORTS, SEGMENTS, schema, tolerance_of
from cohortlib.show.text import number, short

pytestmark = pytest.mark.unit

RECORDED = Path(__file__).parent / "recorded"
OUTCOMES = ("match", "differ", "only_local", "only_remote", "null_local", "null_remote")
few = settings(max_examples=settings().max_examples // 2)


def table(*rows, fields=("amount",), keys=("cohort", "period")):
    return pl.DataFrame(rows, schema=[*keys, *fields], orient="row")


def cohorts(*amounts):
    """A cohort of some amounts."""
    return table(*(("2026-01", age, amount) for age, amount in enumerate(amounts)))


def outcome(local, remote, field="amount", **options):
    """The outcome of the only cell of a field."""
    cells = cl.reconcile(
        *(pl.DataFrame({"cohort": ["a"], "period": [0], field: [side]}) for side in (local, remote)), **options
    ).cells
    return cells["outcome"].item()


# --- the judge ----------------------------------------------------------------------------------------------

FIELDS = {"active_users": Fraction(0), "amount": Fraction(5, 1000), "logo_retention": Fraction(1, 10**6)}


def judge(local, remote, tolerances=FIELDS):
    """Return the outcome of every cell of two tables, each {key: {field: value}}."""
    outcomes = {}
    for key in {**local, **remote}:
        for field, tolerance in tolerances.items():
            if key not in remote or key not in local:
                outcomes[key, field] = "only_local" if key in local else "only_remote"
                continue
            a, b = local[key][field], remote[key][field]
            if a is None or b is None:
                outcomes[key, field] = "match" if a is b else "null_local" if a is None else "null_remote"
                continue
            # what a float cannot write is allowed for, generously to neither side: no drawn value is nearer to the edge
            slack = (abs(Fraction(a)) + abs(Fraction(b))) / 2**52 if tolerance else 0
            outcomes[key, field] = "match" if abs(Fraction(a) - Fraction(b)) <= tolerance + slack else "differ"
    return outcomes


COUNTS = st.sampled_from((0, 1, 2, 3, 2**53, 2**53 + 1, 2**63 - 1, None))
AMOUNTS = st.sampled_from((0.0, 100.0, 0.125, 12.34, -5.0, 1e9, 1e300, -1e300, None))
APART = st.sampled_from((0.0, 0.0, 0.0, 0.004, -0.004, 0.005, 0.006, 0.01, -0.01, 1.0, 1e-7, 2e-6, -2e-6, 5e-7))
RATIOS = st.sampled_from((0.0, 1.0, 1 / 3, 0.5, None))
KEYS = st.tuples(st.sampled_from(("2026-01", "2026-02", "")), st.sampled_from(("a", "b", "")), st.integers(0, 3))


@st.composite
def sides(draw):
    """Draw two tables that share most of their rows, and most of their values."""
    pool = draw(st.lists(KEYS, unique=True, max_size=8))
    sides = ({}, {})
    for key in pool:
        values = {"active_users": draw(COUNTS), "amount": draw(AMOUNTS), "logo_retention": draw(RATIOS)}
        others = dict(values)
        for field in ("amount", "logo_retention"):
            if others[field] is not None:
                others[field] += draw(APART)
        if draw(st.booleans()):
            others[draw(st.sampled_from(tuple(values)))] = None
        if draw(strategies.seldom(3)):
            others["active_users"] = draw(COUNTS)
        which = draw(st.sampled_from(("both", "both", "both", "local", "remote")))
        if which != "remote":
            sides[0][key] = values
        if which != "local":
            sides[1][key] = others
    return sides


TYPES = {
    "cohort": pl.String,
    "user_id": pl.String,
    "period": pl.Int64,
    "active_users": pl.Int64,
    "amount": pl.Float64,
    "logo_retention": pl.Float64,
}


def framed(side, order=None):
    rows = [(*key, *values.values()) for key, values in side.items()]
    return pl.DataFrame([rows[i] for i in order] if order else rows, schema=TYPES, orient="row")


def found_in(report):
    """Return the cells of a report in the form of the reference."""
    keys = report.tables[0].keys
    return {
        (tuple(row[key] for key in keys), row["field"]): row["outcome"] for row in report.cells.iter_rows(named=True)
    }


def compared(local, remote):
    """Compare two tables that have one form: forms have tests of their own."""
    report = cl.reconcile(local, remote)
    assume(not report.forms)
    return report


@given(sides(), st.randoms(use_true_random=False))
def test_cells_match_the_reference(both, chance):
    local, remote = both
    orders = [chance.sample(range(len(side)), len(side)) for side in both]
    report = compared(framed(local, orders[0]), framed(remote, orders[1]))
    expected = judge(local, remote)
    assert found_in(report) == expected
    assert report.total == len(expected)
    assert report.agreeing == sum(one == "match" for one in expected.values())
    assert report.ok == (report.agreeing == report.total)
    for row in report.summary.iter_rows(named=True):
        own = [one for (_, field), one in expected.items() if field == row["field"]]
        assert {name: row[name] for name in OUTCOMES} == {name: own.count(name) for name in OUTCOMES}
        assert row["cells"] == len(own)
    for cohort, cells, agreeing, *_ in report.cohorts.rows():
        own = [one for (key, _), one in expected.items() if key[0] == cohort]
        assert (cells, agreeing) == (len(own), own.count("match"))
    assert report.differences.height == report.total - report.agreeing
    assert "match" not in set(report.differences["outcome"])
    assert json.loads(report.to_json(None))["agreeing"] == report.agreeing
    assert str(report)


@few
@given(sides())
def test_every_comparison_has_a_page(both):
    assert cl.reconcile(*map(framed, both)).to_html()


@given(sides())
def test_differences_and_the_largest_of_them(both):
    report = compared(*map(framed, both))
    for row in report.cells.iter_rows(named=True):
        key = tuple(row[name] for name in ("cohort", "user_id", "period"))
        values = [side[key][row["field"]] if key in side else None for side in both]
        assert [row["local"], row["remote"]] == [None if value is None else float(value) for value in values]
        if None in values:
            assert row["difference"] is None
        else:
            exact = float(Fraction(values[0]) - Fraction(values[1]))
            assert row["difference"] == pytest.approx(exact, rel=1e-15, abs=0)
    for field, largest, where in report.summary.select("field", "largest", "where").rows():
        apart = report.cells.filter(pl.col("field") == field)["difference"].drop_nulls()
        top = apart.abs().max()
        assert (None if largest is None else abs(largest)) == top
        assert (where is None) == (not top)


@given(sides())
def test_swapping_the_sides(both):
    forth, back = compared(*map(framed, both)), cl.reconcile(*map(framed, both[::-1]))
    other = {name: name for name in OUTCOMES} | {
        "only_local": "only_remote", "only_remote": "only_local",
        "null_local": "null_remote", "null_remote": "null_local",
    }  # fmt: skip
    assert {key: other[one] for key, one in found_in(forth).items()} == found_in(back)
    assert forth.agreeing == back.agreeing


@given(sides(), st.randoms(use_true_random=False))
def test_the_order_of_rows_does_not_matter(both, chance):
    report = cl.reconcile(*map(framed, both))
    again = cl.reconcile(*(framed(side, chance.sample(range(len(side)), len(side))) for side in both))
    assert_frame_equal(report.differences, again.differences)
    assert_frame_equal(report.summary, again.summary)
    assert_frame_equal(report.cohorts, again.cohorts)
    assert str(report) == str(again)


@few
@given(strategies.cases(joined=("none", "table"), poison=False))
def test_computed_cohorts_agree_with_themselves(case):
    try:
        table = case.ask("cohorts")
    except DataError:
        assume(False)
    report = cl.reconcile(table, table.reverse())
    assert report.ok
    assert report.total == table.height * 7


@few
@given(strategies.cases(poison=False), st.sampled_from(("single_customer", "cohort_total", "cohort_mean")))
def test_computed_customers_agree_with_themselves(case, basis):
    try:
        customers = case.ask("customer_cohorts", basis=basis)
    except DataError:
        assume(False)
    report = cl.reconcile(customers, customers.reverse())
    assert report.ok
    assert report.total == customers.height * 5


@settings(max_examples=settings().max_examples // 5)
@given(strategies_adapty.cases(poison=False))
def test_computed_answers_agree_with_themselves(case):
    answer = case.ask()
    report = cl.reconcile(answer, answer)
    assert report.ok
    assert set(report.cells["outcome"]) <= {"match"}
    assert [table.name for table in report.tables] == ["segments", "values"]


# --- tolerances ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("field", ["amount", "cohort_size_amount", "ltv", "revenue_usd", "total_arpu_usd", "period_1"])
def test_money_may_be_half_a_cent_apart(field):
    assert outcome(100.0, 100.005, field) == outcome(0.125, 0.13, field) == "match"
    assert outcome(100.0, 100.0051, field) == outcome(100.0, 100.01, field) == "differ"


@pytest.mark.parametrize("field", ["logo_retention", "amount_retention", "quick_ratio", "gini_coefficient", "unknown"])
def test_ratios_may_be_a_millionth_apart(field):
    assert outcome(0.5, 0.500001, field) == "match"
    assert outcome(0.5, 0.5000011, field) == "differ"


def test_percentages_may_be_a_tenthousandth_apart():
    assert outcome(50.0, 50.0001, "revenue_relative") == "match"
    assert outcome(50.0, 50.00011, "revenue_relative") == "differ"


@pytest.mark.parametrize("field", ["active_users", "cohort_size", "subscribers", "total_installs", "amount", "unknown"])
def test_integers_are_equal(field):
    assert outcome(2**53, 2**53, field) == "match"
    assert outcome(2**53, 2**53 + 1, field) == "differ"


@pytest.mark.parametrize(
    ("local", "remote", "expected"),
    [
        (120, 120.0, "match"),
        (120.0, 120, "match"),
        (120, 120.004, "differ"),
        (2**53 + 1, float(2**53), "differ"),
        (7, Decimal(7), "match"),
        (2**53 + 1, Decimal(2**53), "differ"),
        (7, None, "null_remote"),
        (None, 7.0, "null_local"),
        (None, None, "match"),
    ],
)
def test_counts_in_other_types(local, remote, expected):
    assert outcome(local, remote, "active_users") == expected


def test_amounts_in_other_types():
    assert outcome(12, 12.004) == outcome(12.004, Decimal("12.0")) == "match"
    assert outcome(12, 12.01) == outcome(Decimal("12.01"), Decimal("12.00")) == "differ"
    wide = [pl.DataFrame({"cohort": ["a"], "period": [0], "n": [2**64 - 1]}, schema_overrides={"n": pl.UInt64})]
    wide.append(pl.DataFrame({"cohort": ["a"], "period": [0], "n": [-1]}))
    assert cl.reconcile(*wide).cells["difference"].item() == float(2**64)


def test_tolerances_of_a_caller():
    assert outcome(100.0, 100.01, tolerances={"amount": 0.01}) == "match"
    assert outcome(100.0, 100.01, tolerances={"amount": (0, 1e-4)}) == "match"
    assert outcome(100.0, 100.02, tolerances={"amount": (0.001, 1e-4)}) == "differ"
    assert outcome(100.0, 100.000001, tolerances={"amount": 0}) == "differ"
    assert outcome(100, 103, "active_users", tolerances={"active_users": 3}) == "match"
    assert outcome(100, 104, "active_users", tolerances={"active_users": 3}) == "differ"
    assert outcome(97, 100, "active_users", tolerances={"active_users": (0, 0.03)}) == "match"
    assert outcome(96, 100, "active_users", tolerances={"active_users": (0, 0.03)}) == "differ"


@pytest.mark.parametrize("wrong", [-1, math.nan, math.inf, "0.1", None, True, (1,), (1, 2, 3), (0, -1)])
def test_invalid_tolerances(wrong):
    with pytest.raises(SettingError, match=r"tolerances= has .* for 'amount'. Expected a number >= 0 such as 0.01"):
        cl.reconcile(cohorts(1.0), cohorts(1.0), tolerances={"amount": wrong})


def test_tolerances_of_unknown_fields():
    with pytest.raises(SettingError, match=r"'amont', which is not a compared field. Expected fields among 'amount'"):
        cl.reconcile(cohorts(1.0), cohorts(1.0), tolerances={"amont": 1})
    with pytest.raises(SettingError, match="has 'title', whose values are not numbers"):
        outcome("a", "b", "title", tolerances={"title": 1})


def test_tolerances_of_an_answer(answer):
    assert cl.reconcile(answer, answer, tolerances={"revenue_usd": 1, "total_revenue_usd": 1}).ok
    with pytest.raises(SettingError, match="'revenue', which is not a compared field"):
        cl.reconcile(answer, answer, tolerances={"revenue": 1})


def test_default_tolerances_of_the_vendors_fields():
    counts = [name for name, field in COHORTS.items() if field.dtype == "Int64"]
    assert all(tolerance_of(name) == 0 for name in counts)
    assert tolerance_of("cmgr3") == tolerance_of("net_churn") == 1e-6
    assert tolerance_of("expansion") == tolerance_of("p90") == tolerance_of("total_anrppu_usd") == 0.005
    assert tolerance_of("period_3") == tolerance_of("day_7") == tolerance_of("predict_ltv_usd") == 0.005
    assert tolerance_of("subscribers_relative") == 1e-4
    assert tolerance_of("currently_active_period") == tolerance_of("predict_months") == 0


# --- sides --------------------------------------------------------------------------------------------------


@pytest.fixture
def answer():
    events = pl.DataFrame(
        {
            "profile_id": ["u1", "u2", "u2"],
            "event_type": ["subscription_started", "subscription_started", "subscription_renewed"],
            "event_datetime": ["2026-02-03", "2026-03-04", "2026-04-04"],
            "transaction_id": ["1", "2", "3"],
            "original_transaction_id": ["1", "2", "2"],
            "environment": ["Production"] * 3,
            "revenue_usd": [10.0, 20.0, 20.0],
            "proceeds_usd": [7.0, 14.0, 14.0],
            "net_revenue_usd": [7.0, 14.0, 14.0],
            "store": ["app_store"] * 3,
            "product_id": ["monthly"] * 3,
        }
    )
    installs = pl.DataFrame({"profile_id": ["u1", "u2"], "install_date": ["2026-02-03", "2026-03-04"]})
    return cl.adapty.cohort(events, {"filters": {"date": ["2026-02-01", "2026-04-30"]}}, installs=installs)


def test_user_ids_of_other_types():
    local = table(("a", 7, 0, 1.0), ("a", 70, 0, 1.0), keys=("cohort", "user_id", "period"))
    report = cl.reconcile(local, local.with_columns(pl.col("user_id").cast(pl.String)))
    assert report.ok
    assert report.cells["user_id"].to_list() == ["7", "70"]
    assert cl.reconcile(local, local.with_columns(pl.col("user_id").cast(pl.Int8))).ok
    assert cl.reconcile(local, local.with_columns(pl.col("cohort").cast(pl.Categorical))).ok
    assert not cl.reconcile(local, local.with_columns(pl.format("0{}", "user_id").alias("user_id"))).ok


@pytest.mark.parametrize("dtype", [pl.Int8, pl.UInt64, pl.Int32])
def test_periods_of_any_width(dtype):
    local = cohorts(1.0, 2.0)
    assert cl.reconcile(local, local.with_columns(pl.col("period").cast(dtype))).ok


def test_dates_and_their_text():
    local = table((date(2026, 1, 1), 3.0), keys=("date",))
    assert cl.reconcile(local, local.with_columns(pl.col("date").cast(pl.String))).ok


def test_frames_of_other_libraries():
    local = cohorts(1.0, 2.0)
    for other in (local.lazy(), local.to_arrow(), local.to_pandas()):
        assert cl.reconcile(local, other).ok
        assert cl.reconcile(other, local).ok


@pytest.mark.parametrize("remote", [None, [1], {"cohort": []}, 3])
def test_other_objects_are_refused(remote):
    with pytest.raises(
        SchemaError, match=f"remote has type {type(remote).__name__}. Expected a polars frame".replace(".", r"\.")
    ):
        cl.reconcile(cohorts(1.0), remote)


def test_sides_of_other_kinds(answer):
    with pytest.raises(SchemaError, match=r"local holds cohorts .*remote holds customer cohorts \(cohort, user_id"):
        cl.reconcile(cohorts(1.0), table(("a", "u", 0, 1.0), keys=("cohort", "user_id", "period")))
    with pytest.raises(SchemaError, match=r"remote has no known keys: its columns are 'cohort', 'age'"):
        cl.reconcile(cohorts(1.0), cohorts(1.0).rename({"period": "age"}))
    with pytest.raises(SchemaError, match=r"local holds segments and values, remote holds one table.*\.values"):
        cl.reconcile(answer, answer.values)
    with pytest.raises(SchemaError, match="no field in common: local has 'amount', remote has 'ltv'"):
        cl.reconcile(cohorts(1.0), cohorts(1.0).rename({"amount": "ltv"}))
    with pytest.raises(SchemaError, match="neither side has a column"):
        cl.reconcile(pl.DataFrame(), pl.DataFrame())


def test_keys_of_wrong_types():
    local = cohorts(1.0)
    with pytest.raises(SchemaError, match=r"column 'period' of remote has type Float64\. Expected integers\. Hint"):
        cl.reconcile(local, local.with_columns(pl.col("period").cast(pl.Float64)))
    with pytest.raises(SchemaError, match=r"column 'cohort' of local has type List\(String\)\. Expected text"):
        cl.reconcile(local.with_columns(pl.concat_list("cohort")), local)


@pytest.mark.parametrize(("key", "count"), [("cohort", 1), ("period", 2)])
def test_null_keys(key, count):
    holed = cohorts(1.0, 2.0).with_columns(pl.when(pl.int_range(2) >= count).then(key).alias(key))
    with pytest.raises(DataError, match=rf"column '{key}' of remote is null in {count} rows?\. Expected a key"):
        cl.reconcile(cohorts(1.0, 2.0), holed)


def test_repeated_keys():
    twice = table(("a", 0, 1.0), ("b", 0, 1.0), ("b", 0, 2.0), ("b", 1, 0.0), ("c", 0, 2.0), ("c", 0, 2.0))
    with pytest.raises(DataError, match=r"remote has 2 rows of cohort 'b', period 0, and 1 more keys are repeated"):
        cl.reconcile(twice.unique(["cohort", "period"]), twice)
    with pytest.raises(DataError, match="local has 2 rows of cohort 'b', period 0"):
        cl.reconcile(twice, twice)


def test_hash_collisions(monkeypatch):
    monkeypatch.setattr(pairing, "hashes", lambda frame, keys: pl.Series([1] * frame.height, dtype=pl.UInt64))
    local, remote = cohorts(1.0, 2.0, 3.0), cohorts(5.0, 2.0)[::-1]
    assert cl.reconcile(local, remote).cells["outcome"].to_list() == ["differ", "match", "only_local"]


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_nan_and_infinity_are_refused(value):
    with pytest.raises(
        DataError, match=rf"field 'amount' of remote is {value} at cohort '2026-01', period 1\. Expected"
    ):
        cl.reconcile(cohorts(1.0, 2.0), cohorts(1.0, value))
    with pytest.raises(DataError, match="field 'amount' of local"):
        cl.reconcile(cohorts(1.0, value), cohorts(1.0))


def test_fields_that_cannot_be_compared():
    with pytest.raises(SchemaError, match="field 'amount' has type Float64 in local and String in remote"):
        cl.reconcile(cohorts(1.0), cohorts("one"))
    with pytest.raises(SchemaError, match=r"field 'amount' has type List\(Float64\)\. Expected numbers"):
        cl.reconcile(cohorts([1.0]), cohorts([1.0]))


def test_fields_of_one_side_are_listed():
    report = cl.reconcile(cohorts(1.0).with_columns(mine=1), cohorts(1.0).with_columns(yours=1, theirs=2))
    assert (report.only_local_fields, report.only_remote_fields) == (("mine",), ("theirs", "yours"))
    assert report.ok
    assert report.total == 1
    for text in (str(report), report.to_html()):
        assert "Not compared (only in local): mine" in text
        assert "Not compared (only in remote): theirs, yours" in text


def test_text_and_booleans():
    assert outcome("a", "a", "title") == outcome(True, True, "currently_active_period") == "match"
    assert outcome("a", "b", "title") == outcome(True, False, "currently_active_period") == "differ"
    assert outcome(None, "b", "title") == "null_local"
    report = cl.reconcile(cohorts("x"), cohorts("y"))
    row = report.differences.row(0, named=True)
    assert (row["local"], row["local_text"], row["remote_text"], row["difference"]) == (None, "x", "y", None)
    assert "x" in str(report)


def test_predictions_are_compared_by_their_parts():
    both = [
        pl.DataFrame(
            {"segment_start_date": ["2026-01-01"], "type": ["total"], "predict": [predict]},
            schema={"segment_start_date": pl.String, "type": pl.String, "predict": schema(SEGMENTS)["predict"]},
        )
        for predict in ({"revenue_usd": 10.0, "ltv_usd": ltv, "months": 3} for ltv in (5.0, 6.0))
    ]
    cells = cl.reconcile(*both).cells
    assert cells.select("field", "outcome").rows() == [
        ("predict_revenue_usd", "match"), ("predict_ltv_usd", "differ"), ("predict_months", "match"),
    ]  # fmt: skip
    nothing = both[0].with_columns(predict=None)
    assert set(cl.reconcile(both[0], nothing).cells["outcome"]) == {"null_remote"}
    assert cl.reconcile(nothing, nothing).ok


def test_answers(answer):
    changed = answer.values.with_columns(revenue_usd=pl.col("revenue_usd") + (pl.col("period") == 2))
    other = type(answer)(answer.segments, changed, answer.request)
    report = cl.reconcile(answer, other)
    assert report.total == answer.segments.height * 19 + answer.values.height * 21
    assert set(report.differences["field"]) == {"revenue_usd"}
    assert set(report.differences["table"]) == {"values"}
    assert report.differences.height == answer.values.filter(pl.col("period") == 2).height
    assert report.cells.filter(pl.col("table") == "segments")["period"].null_count() == answer.segments.height * 19
    assert report.cohorts.columns[:3] == ["segment_start_date", "type", "cells"]
    assert report.cohorts["cells"].sum() == report.total
    assert "at period 2 of field revenue_usd" in report.sentence
    assert cl.reconcile(answer.segments, answer.segments).ok
    assert cl.reconcile(answer.values, answer.values).ok


# --- files --------------------------------------------------------------------------------------------------


def saved(frame, path):
    kind = path.suffix[1:]
    if path.name.endswith(".csv.gz"):
        path.write_bytes(gzip.compress(frame.write_csv().encode()))
    else:
        getattr(frame, f"write_{kind}")(path)
    return path


@pytest.mark.parametrize("name", ["a.parquet", "a.csv", "a.json", "a.csv.gz", "A.JSON"])
@pytest.mark.parametrize("freq", ["A", "M", "D"])
def test_files(tmp_path, name, freq):
    orders = pl.DataFrame(
        {"user_id": [7, 7, 8, 9], "timestamp": [date(2025, 1, 2), date(2026, 1, 2), date(2026, 1, 2), date(2026, 1, 5)],
         "amount": [10.0, 10.0, 5.5, 0.1]}
    )  # fmt: skip
    for computed in (cl.termina.cohorts(orders, freq=freq), cl.termina.customer_cohorts(orders, freq=freq)):
        if name == "A.JSON":
            (tmp_path / name).write_text(json.dumps({"data": computed.to_dicts()}))
        else:
            saved(computed, tmp_path / name)
        for report in (cl.reconcile(computed, tmp_path / name), cl.reconcile(str(tmp_path / name), computed)):
            assert report.ok
            assert report.total == computed.height * (computed.width - (3 if "user_id" in computed.columns else 2))
            assert not report.only_local_fields + report.only_remote_fields


def test_files_of_an_answer(tmp_path, answer):
    (tmp_path / "answer.json").write_text(answer.to_json())
    (tmp_path / "answer.csv").write_text(answer.to_csv())
    assert cl.reconcile(answer, tmp_path / "answer.json").ok
    lines = cl.reconcile(tmp_path / "answer.csv", tmp_path / "answer.csv")
    assert lines.ok
    assert lines.total == answer.segments.height * 18
    saved(answer.values, tmp_path / "values.json")
    assert cl.reconcile(answer.values, tmp_path / "values.json").ok


def test_dates_of_a_reply_are_read_as_labels(tmp_path):
    local = table(("2026-01", 0, 1.0), ("2026-02", 0, 2.0))
    for ending in ("-01", "-01T00:00:00"):
        saved(local.with_columns(pl.col("cohort") + ending), tmp_path / "reply.json")
        assert cl.reconcile(local, tmp_path / "reply.json").ok
        assert cl.reconcile(tmp_path / "reply.json", local).ok


def test_recorded_replies(tmp_path):
    for name in ("termina_cohorts", "termina_customer_cohorts", "termina_user_accounting", "termina_growth_accounting"):
        path = RECORDED / f"{name}.json"
        assert cl.reconcile(path, path).ok
    for name in ("adapty_days", "adapty_renewals"):
        report = cl.reconcile(RECORDED / f"{name}.json", str(RECORDED / f"{name}.json"))
        assert report.ok
        assert len(report.tables) == 2
    concentration = RECORDED / "termina_concentration.json"
    assert cl.reconcile(concentration, concentration).ok
    with pytest.raises(SchemaError, match="endpoint_cdf, remote holds one table"):
        cl.reconcile(concentration, cohorts(1.0))


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("a.json", "{", "is not JSON"),
        ("a.json", "[1]", "has no table that can be compared"),
        ("a.json", '{"a": 1}', "has no table that can be compared"),
        ("a.json", '[{"cohort": "2026-01"}]', "matches none of Termina's endpoints"),
        ("a.json", "[" * 100_000, "is not JSON"),
        ("a.json", '[{"cohort": "2026-01", "cohort": "2026-02"}]', "an object with the field 'cohort' 2 times"),
        ("a.csv", "", "cannot be read"),
        ("a.parquet", "x", "cannot be read"),
        ("a.txt", "x", r"has an unknown ending\. Expected \.parquet"),
    ],
)
def test_files_that_are_refused(tmp_path, name, text, expected):
    (tmp_path / name).write_text(text)
    with pytest.raises(SourceError, match=expected):
        cl.reconcile(cohorts(1.0), tmp_path / name)


def test_missing_file():
    with pytest.raises(SourceError, match=r"there is no file 'nowhere.csv'. Expected .* Parquet, CSV or JSON files"):
        cl.reconcile("nowhere.csv", cohorts(1.0))


def test_tables_without_rows(tmp_path):
    local = cl.termina.cohorts(pl.DataFrame({"user_id": ["a"], "timestamp": [date(2026, 1, 1)], "amount": [5.0]}))
    saved(local.clear(), tmp_path / "none.csv")
    (tmp_path / "none.json").write_text("[]")
    for empty in (local.clear(), tmp_path / "none.csv", tmp_path / "none.json"):
        assert set(cl.reconcile(local, empty).cells["outcome"]) == {"only_local"}
        assert set(cl.reconcile(empty, local).cells["outcome"]) == {"only_remote"}
        report = cl.reconcile(empty, local.clear())
        assert (report.ok, report.total, report.sentence) == (True, 0, "Neither side has rows.")
        assert report.to_html()


# --- sentence and text -------------------------------------------------------------------------------------------


def test_the_sentence():
    local = cohorts(1.0, 2.0, 3.0)
    assert cl.reconcile(local, local).sentence == "All 3 cells agree."
    assert cl.reconcile(local[:1], local[:1]).sentence == "The only cell agrees."
    sentence = cl.reconcile(local, cohorts(1.0, 2.5, 3.0)).sentence
    assert sentence == "2 of 3 cells agree; 1 differs, in cohort 2026-01 at period 1 of field amount."
    sentence = cl.reconcile(local, cohorts(None, 2.5)).sentence
    assert sentence == (
        "0 of 3 cells agree; 1 differs, 1 is null in remote only, 1 is in rows of local only, "
        "all in cohort 2026-01 of field amount."
    )
    assert repr(cl.reconcile(local, cohorts(1.0, 2.5, 3.0))) == "Report(2 of 3 cells agree)"


def test_the_text():
    local = table(*[(f"20{year}", age, 10.0 * age, 0.5) for year in range(10, 30) for age in range(5)],
                  fields=("amount", "logo_retention"))  # fmt: skip
    remote = local.filter(pl.col("cohort") != "2012").with_columns(
        amount=pl.col("amount") + pl.when(cohort="2015", period=3).then(1.5).otherwise(0)
    )
    assert str(cl.reconcile(local, remote)) == (
        "189 of 200 cells agree; 1 differs, 10 are in rows of local only.\n"
        "\n"
        "Fields\n"
        "  field           cells  match  differ  only local  largest                     at\n"
        "  amount            100     94       1           5     -1.5  cohort 2015, period 3\n"
        "  logo_retention    100     95       0           5        0\n"
        "\n"
        "Worst cohorts\n"
        "  cohort  cells  agree  worst field  difference\n"
        "  2015       10      9       amount        -1.5\n"
        "  2012       10      0       amount           -\n"
        "\n"
        "Worst cells\n"
        "  cohort  period  field   local  remote  difference  outcome\n"
        "  2015    3       amount     30    31.5        -1.5   differ\n"
        "\n"
        "Rows that only one side has\n"
        "  side   cohort  period\n"
        "  local  2012    0\n"
        "  local  2012    1\n"
        "  local  2012    2\n"
        "  local  2012    3\n"
        "  local  2012    4"
    )


def test_lines_are_narrow_and_without_control_characters():
    user = "\x1b[31m\u202e" + "x" * 300
    local = table(("2026-01", user, 0, 1.0), keys=("cohort", "user_id", "period"), fields=("cohort_size_amount",))
    report = cl.reconcile(local, local.with_columns(pl.col("cohort_size_amount") + 1e6))
    text = str(report)
    assert "\x1b" not in text
    assert "\u202e" not in text
    assert max(map(len, text.splitlines()[1:])) <= 100


def test_the_worst_come_first():
    local = table(*[("a", age, 1e6, 100, 0.5) for age in range(6)], fields=("amount", "active_users", "logo_retention"))
    remote = local.with_columns(
        amount=pl.when(period=0).then(1e6 + 1000).when(period=4).then(None).otherwise(pl.col("amount")),
        active_users=pl.when(period=1).then(50).otherwise(pl.col("active_users")),
        logo_retention=pl.when(period=2).then(0.49).otherwise(pl.col("logo_retention")),
    ).filter(pl.col("period") != 5)
    rows = cl.reconcile(local, remote).differences.select("period", "field", "outcome").rows()
    assert rows[:4] == [
        (1, "active_users", "differ"),  # half of what is usual
        (2, "logo_retention", "differ"),  # a fiftieth
        (0, "amount", "differ"),  # a thousandth
        (4, "amount", "null_remote"),
    ]
    assert {outcome for *_, outcome in rows[4:]} == {"only_local"}


def test_to_dict_keeps_the_worst():
    report = cl.reconcile(cohorts(*map(float, range(50))), cohorts(*(0.0,) * 50))
    assert len(report.to_dict(5)["differences"]) == 5
    assert len(report.to_dict(None)["differences"]) == 49
    assert report.to_dict(5)["differences"][0]["local"] == 49.0
    days = table((date(2026, 1, 1), 3.0), keys=("date",))
    assert json.loads(cl.reconcile(days, days[:0]).to_json())["differences"][0]["date"] == "2026-01-01"


def test_numbers_of_any_size():
    report = cl.reconcile(cohorts(1.7e308, 5e-324), cohorts(-1.7e308, 0.0), tolerances={"amount": 0})
    assert math.isfinite(report.summary["largest"].item())
    assert json.loads(report.to_json())["agreeing"] == 0
    assert str(report)
    assert report.to_html()
    assert number(2.0**60) == "1.15292e+18"


def test_a_cent_among_a_million_cells(tmp_path):
    rng = np.random.default_rng(5)
    rows = 200_000
    local = pl.DataFrame(
        {
            "cohort": np.repeat([f"2026-{month:02}" for month in range(1, 11)], rows // 10),
            "user_id": pl.Series(np.arange(rows) // 20).cast(pl.String),
            "period": np.tile(np.arange(20), rows // 20),
            **{name: rng.integers(0, 10**8, rows) / 100 for name in ("amount", "ltv", "cohort_size_amount")},
            "logo_retention": np.ones(rows),
            "amount_retention": rng.random(rows),
        }
    )
    assert cl.reconcile(local, local).ok
    remote = local.with_columns(
        amount=pl.col("amount") + pl.when(pl.int_range(rows) == 123_456).then(0.01).otherwise(0)
    )
    for other in (remote, remote.sample(fraction=1, shuffle=True, seed=1)):
        report = cl.reconcile(local, other)
        assert (report.total, report.agreeing) == (1_000_000, 999_999)
        assert report.differences.select("user_id", "period", "field").rows() == [("6172", 16, "amount")]
        assert "in cohort 2026-07 of customer 6172 at period 16 of field amount" in report.sentence


def test_a_report_is_cheap():
    rows = [(f"{month:04}", age, 1.0) for month in range(36) for age in range(36 - month)]
    report = cl.reconcile(table(*rows), table(*rows))
    assert isinstance(report, Report)
    assert not {"cells", "differences", "summary", "cohorts"} & set(vars(report))


# --- the page -----------------------------------------------------------------------------------------------


class Outline(HTMLParser):
    """The tags of a page with their attributes, and its text."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.texts = [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.texts.append(data.strip())


HOSTILE = "</title><script>alert('\"&1')</script>"


def test_the_page_escapes_data():
    local = pl.DataFrame(
        {
            "cohort": [HOSTILE, "2026-01"], "user_id": ["<img src=x onerror=alert(1)>", "'\" onmouseover=x"],
            "period": [0, 0], "amount": [1.0, 2.0], HOSTILE: [1.0, 2.0], "title": [HOSTILE, '" onclick="x'],
            "<b>": [1, 1],
        }
    )  # fmt: skip
    text = cl.reconcile(local, local.select(pl.exclude("<b>")).with_columns(
        pl.col("amount") + 1, pl.lit("<i>other</i>").alias("title")
    )).to_html()  # fmt: skip
    seen = Outline(text)
    assert {tag for tag, _ in seen.tags} <= {
        "html", "head", "meta", "title", "style", "body", "h1", "h2", "p", "div", "table", "caption", "thead", "tbody",
        "tr", "th", "td", "details", "summary", "span",
    }  # fmt: skip
    named = {name for _, attrs in seen.tags for name in attrs}
    assert named <= {"lang", "charset", "http-equiv", "content", "name", "class", "scope", "title", "open"}
    shown = " ".join(seen.texts)
    assert short(HOSTILE) in shown
    assert "<img src=x onerror=alert(1)>"[:16] in shown


def test_the_page_is_self_contained(answer):
    text = cl.reconcile(answer, answer).to_html()
    policy = next(attrs["content"] for _, attrs in Outline(text).tags if attrs.get("http-equiv"))
    assert policy == "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
    assert not re.search(r"https?:|url\(|@import|<script|<link|<img|src=", text)
    assert "prefers-color-scheme: dark" in text


def test_the_page_shows_three_triangles_for_each_field():
    local, remote = cohorts(10.0, 20.0, None), cohorts(10.0, 21.5)
    seen = Outline(cl.reconcile(local, remote).to_html())
    assert [text for text in seen.texts if text.startswith("amount,")] == [
        "amount, local", "amount, remote", "amount, local - remote",
    ]  # fmt: skip
    assert "amount: 1 of 3 cells agree" in seen.texts
    cells = [attrs for tag, attrs in seen.tags if tag == "td"][-9:]
    assert [attrs.get("class") for attrs in cells] == ["v1", "v6", None, "v1", "v6", "none", "same", "l6", "odd"]
    assert cells[7]["title"] == "local 20, remote 21.5"
    assert {"10.00", "20.00", "21.50", "=", "-1.5", "only local", "-"} <= set(seen.texts)
    assert all(attrs.get("scope") in ("col", "row") for tag, attrs in seen.tags if tag == "th")
    tables = sum(tag == "table" for tag, _ in seen.tags)
    assert sum(tag == "caption" for tag, _ in seen.tags) == tables


def test_the_page_of_answers_puts_the_total_first(answer):
    seen = Outline(cl.reconcile(answer, answer).to_html())
    starts = [i for i, text in enumerate(seen.texts) if text == "total"]
    assert starts
    assert "Segments: local, remote, and their difference" in seen.texts
    assert "yes" in seen.texts or "no" in seen.texts


@pytest.mark.parametrize("kind", ["cohorts", "customers"])
def test_a_large_page_shows_the_worst(monkeypatch, kind):
    monkeypatch.setattr(page, "MOST_CELLS", 30)
    monkeypatch.setattr(page, "MOST_CUSTOMERS", 3)
    keys = ("cohort", "user_id", "period")
    local = table(*[(f"{n:04}", f"u{n}", age, 1.0) for n in range(40) for age in range(2)], keys=keys)
    remote = local.with_columns(
        pl.col("amount") + pl.when(cohort="0033").then(5).when(cohort="0021").then(1).otherwise(0)
    )
    if kind == "cohorts":
        local, remote = local.drop("user_id"), remote.drop("user_id")
    seen = Outline(cl.reconcile(local, remote).to_html())
    shown = 3 if kind == "customers" else 5
    assert any(f"{shown} of 40 {kind} are shown, those with the worst" in text for text in seen.texts)
    triangle = seen.texts[seen.texts.index("amount, local") :]
    first = [text for text in triangle if re.fullmatch(r"\d{4}", text)][:shown]
    assert first == ["0000", "0001", "0002", "0021", "0033"][-shown:] if kind == "cohorts" else ["0000", "0021", "0033"]


def test_save_html(tmp_path):
    report = cl.reconcile(cohorts(1.0), cohorts(2.0))
    report.save_html(tmp_path / "page.html")
    assert (tmp_path / "page.html").read_text(encoding="utf-8") == report.to_html()
    assert [path.name for path in tmp_path.iterdir()] == ["page.html"]
