"""Concentration: the worked example, the judge's opinion of drawn rows, and all roads."""

import json
from datetime import date
from pathlib import Path

import naive
import naive_accounting
import numpy as np
import polars as pl
import pytest
from hypothesis import assume, event, given
from hypothesis import strategies as st
from polars.testing import assert_frame_equal
from strategies import cases, quietly
from test_accounting import EXAMPLE, ask, assert_judged, settings_of

import cohortlib as cl
from cohortlib.errors import DataError, SchemaError, SettingError
from cohortlib.fields import CONCENTRATION, schema

pytestmark = pytest.mark.unit


def same(left, right):
    """Compare the three frames to the last bit."""
    for name in CONCENTRATION:
        assert_frame_equal(getattr(left, name), getattr(right, name), check_exact=True)


def assert_concentration(found, expected):
    """Compare the three frames with the judge's."""
    for name, fields in CONCENTRATION.items():
        rows = [dict.fromkeys(fields) | row for row in expected[name]]
        assert_judged(getattr(found, name), rows, fields)


def test_worked_example():
    found = cl.termina.concentration(EXAMPLE)
    assert found.time_series_metrics["gini_coefficient"].to_list() == [1 / 6, 0.0, 1 / 26]
    assert found.time_series_metrics.select("date", "mean", "p25", "median", "p90").row(2) == (
        "2026-03",
        65,
        62.5,
        65,
        69,
    )
    assert found.endpoint_top_users.rows() == [("b", 70.0, 7 / 13), ("c", 60.0, 6 / 13)]
    assert found.endpoint_cdf.rows() == [
        (method, amount, users, share)
        for amount, users, share in ((60.0, 0.5, 6 / 13), (70.0, 1.0, 1.0))
        for method in ("distribution_quantile", "top_user")
    ]
    assert repr(found) == "Concentration(3 periods, 2 top users, 4 points)"
    assert_concentration(found, naive_accounting.concentration(EXAMPLE.rows()))


@given(case=cases(joined=("none",)))
def test_frames_are_the_judges(case):
    try:
        expected = naive_accounting.concentration(case.rows, **settings_of(case))
    except naive.Refused as refusal:
        event(f"refused: {refusal}")
        with pytest.raises(DataError):
            ask(case, "concentration")
        return
    event("a table" if expected["time_series_metrics"] else "empty")
    assert_concentration(ask(case, "concentration"), expected)


def many(users, amounts, months=1):
    """Make rows of many users: amounts by turns, ids whose order as text is not that of the rows."""
    ids = np.random.default_rng(3).permutation(users)
    frames = [
        pl.DataFrame(
            {"user_id": ids, "amount": [amounts[(k + month) % len(amounts)] for k in range(users)]}
        ).with_columns(timestamp=date(2026, 1 + month, 1))
        for month in range(months)
    ]
    return pl.concat(frames).select("user_id", "timestamp", "amount")


@pytest.mark.parametrize(
    ("users", "amounts"),
    [(250, (1, 2, 3)), (101, (7,)), (99, (5, 1, 1, 9)), (1000, tuple(range(1, 400))), (100, (1, 2))],
)
def test_more_users_than_are_ranked(users, amounts):
    rows = many(users, amounts, months=2)
    found = cl.termina.concentration(rows)
    assert_concentration(found, naive_accounting.concentration(rows.rows()))
    assert found.endpoint_top_users.height == min(users, 100)


def test_large_amounts_do_not_wrap():
    rows = pl.DataFrame({"user_id": range(4), "timestamp": date(2026, 1, 1), "amount": [2**61, 2**61 - 1, 2**60, 3]})
    found = cl.termina.concentration(rows, decimals=0)
    assert_concentration(found, naive_accounting.concentration(rows.rows(), decimals=0))


def test_a_last_period_without_active_users_has_no_endpoint():
    found = cl.termina.concentration(EXAMPLE, end="2026-04")
    assert found.time_series_metrics["mean"].to_list() == [75.0, 80.0, 65.0, None]
    assert found.endpoint_top_users.is_empty()
    assert found.endpoint_cdf.is_empty()
    shown = cl.termina.concentration(EXAMPLE, start="2026-03")
    assert shown.time_series_metrics["date"].to_list() == ["2026-03"]
    same(cl.termina.concentration(EXAMPLE.clear()), cl.termina.concentration(EXAMPLE.with_columns(amount=0)))
    for name, fields in CONCENTRATION.items():
        assert getattr(cl.termina.concentration(EXAMPLE.clear()), name).schema == pl.Schema(schema(fields))


def test_bad_input():
    with pytest.raises(TypeError, match=r"concentration\(\) got an unexpected keyword argument 'joined'"):
        cl.termina.concentration(EXAMPLE, joined="since")
    with pytest.raises(SettingError, match=r"freq='X' is unknown\. Expected one of"):
        cl.termina.concentration(EXAMPLE, freq="X")


@given(case=cases(joined=("none",), poison=False), budget=st.sampled_from((1, 40, 1_000)), threads=st.integers(1, 3))
def test_prepared_form_and_little_memory(case, budget, threads, tmp_path_factory):
    try:
        expected = ask(case, "concentration")
    except DataError:
        assume(False)
    folder = tmp_path_factory.mktemp("form") / "prepared"
    reading = {name: case.settings[name] for name in ("timezone", "decimals", "nulls") if name in case.settings}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("cohortlib.engine.memory.MINIMUM", 1)
        patch.setattr("cohortlib.transactions.store.spill._MIN_ROWS", 3)
        patch.setattr("cohortlib.read.tables._BATCH", 3)
        patch.setattr("cohortlib.transactions.part_netting.GROUP_ROWS", 4)
        form = quietly(cl.prepare, case.frame, folder, **case.names, **reading, max_memory=budget)
        same(ask(case, "concentration", form, threads=threads), expected)
        same(ask(case, "concentration", threads=threads, max_memory=budget), expected)


def test_filter_of_a_prepared_form_and_state(tmp_path):
    rows = EXAMPLE.with_columns(country=pl.when(pl.col("user_id") == "a").then(pl.lit("DE")).otherwise(pl.lit("FR")))
    form = cl.prepare(rows, tmp_path / "prepared", keep=["country"]).filter(pl.col("country") == "FR")
    same(cl.termina.concentration(form), cl.termina.concentration(EXAMPLE.filter(pl.col("user_id") != "a")))
    state = cl.termina.State.build(EXAMPLE.head(4), tmp_path / "state")
    state.update(EXAMPLE.tail(4))
    same(cl.termina.concentration(state.folder), cl.termina.concentration(EXAMPLE))


@given(case=cases(joined=("none",), poison=False))
def test_means_are_those_of_the_accountings(case):
    """Top 100 of all users are the whole amount, and means are amount / active users."""
    try:
        found, users, growth = (ask(case, name) for name in ("concentration", "user_accounting", "growth_accounting"))
    except DataError:
        assume(False)
    assert found.time_series_metrics["date"].equals(users["date"])
    if case.settings.get("refunds") != "signed":
        means = (growth["amount"] / users["active_users"]).fill_nan(None)
        assert_frame_equal(means.to_frame("mean"), found.time_series_metrics.select("mean"), rel_tol=1e-12)
    if found.endpoint_cdf.height:
        assert found.endpoint_cdf["cdf_amount"][-1] == 1.0


# --- compared with another ---------------------------------------------------------------------------------

RECORDED = Path(__file__).parent / "recorded"


def test_reconcile_compares_the_three_frames(tmp_path):
    ours, other = (
        cl.termina.concentration(EXAMPLE),
        cl.termina.concentration(EXAMPLE.with_columns(pl.col("amount") + 5)),
    )
    report = cl.reconcile(ours, other)
    assert [table.name for table in report.tables] == list(CONCENTRATION)
    assert (report.agreeing, report.total) == (17, 48)
    assert report.cohorts["date"].to_list() == ["2026-01", "2026-02", "2026-03"]
    file = tmp_path / "other.json"
    file.write_text(json.dumps(other.to_dict()))
    assert str(cl.reconcile(ours, file)) == str(report)
    assert "Endpoint top users" in report.to_html()
    assert cl.reconcile(ours, ours).ok
    assert cl.reconcile(ours, other, tolerances={"gini_coefficient": 1.0}).agreeing == 19


@pytest.mark.parametrize("name", CONCENTRATION)
def test_reconcile_compares_one_frame(name):
    ours = getattr(cl.termina.concentration(EXAMPLE), name)
    assert cl.reconcile(ours, ours.reverse()).ok
    report = cl.reconcile(ours, ours.head(1))
    assert report.total - report.agreeing == (ours.height - 1) * len(report.tables[0].fields)
    assert "Rows that only one side has" in str(report)


def test_reconcile_with_a_reply():
    report = cl.reconcile(cl.termina.concentration(EXAMPLE), RECORDED / "termina_concentration.json")
    assert report.forms == ("date: months, written like '2026-01-01' (in remote)",)
    assert report.sentence == (  # the reply has no quantiles
        "44 of 48 cells agree; 4 are in rows of local only, all at points of method distribution_quantile."
    )


def test_reconcile_refuses_other_tables():
    found = cl.termina.concentration(EXAMPLE)
    with pytest.raises(SchemaError, match=r"local holds time_series_metrics and .*, remote holds one table"):
        cl.reconcile(found, found.endpoint_cdf)
    with pytest.raises(DataError, match="remote has 2 rows of user_id 'b'"):
        cl.reconcile(found.endpoint_top_users, pl.concat([found.endpoint_top_users] * 2))
