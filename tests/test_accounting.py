"""The accountings: the worked example, the judge's opinion of drawn rows, laws across the tables, and all roads."""

import warnings
from datetime import date, timedelta
from pathlib import Path

import naive
import naive_accounting
import polars as pl
import pytest
from hypothesis import assume, event, given
from hypothesis import strategies as st
from polars.testing import assert_frame_equal
from strategies import cases, exactly, quietly, shaped

import cohortlib as cl
from cohortlib.errors import DataError, SettingError, SourceError
from cohortlib.fields import GROWTH_ACCOUNTING, USER_ACCOUNTING, schema
from cohortlib.transactions.accounting import AccountingSums
from cohortlib.transactions.additive import SumsSettings
from cohortlib.transactions.settings import Settings

pytestmark = pytest.mark.unit

TABLES = {"user_accounting": USER_ACCOUNTING, "growth_accounting": GROWTH_ACCOUNTING}
EACH = pytest.mark.parametrize("name", TABLES)
EDGES = ("start", "end", "complete_only")
EXAMPLE = pl.DataFrame(
    [
        ("a", date(2026, 1, 5), 100),
        ("a", date(2026, 2, 10), 80),
        ("a", date(2026, 3, 3), -10),
        ("b", date(2026, 1, 20), 50),
        ("b", date(2026, 3, 1), 70),
        ("c", date(2026, 2, 2), 30),
        ("c", date(2026, 2, 20), -40),
        ("c", date(2026, 3, 15), 60),
    ],
    schema=["user_id", "timestamp", "amount"],
    orient="row",
)


def settings_of(case):
    """Return the settings that accountings take: all but those of join dates."""
    return {name: value for name, value in case.settings.items() if name != "before_joined"}


def ask(case, call, source=None, **more):
    """Ask the engine for a table of a case, or of another source with its settings."""
    function = call if callable(call) else getattr(cl.termina, call)
    options = {**case.names, **settings_of(case), "threads": case.threads, **more}
    return quietly(function, shaped(case.frame, case.form) if source is None else source, **options)


def same(left, right):
    """Compare two tables to the last bit."""
    assert_frame_equal(left, right, check_exact=True)


def assert_judged(table, expected, fields):
    """Compare a table with the judge's: every cell, type and name, in order."""
    assert table.schema == pl.Schema(schema(fields))
    got = [[exactly(cell) for cell in row] for row in table.rows()]
    assert got == [[exactly(row[name]) for name in fields] for row in expected]


# --- the worked example and the judge ----------------------------------------------------------------------


def test_worked_example():
    users = cl.termina.user_accounting(EXAMPLE)
    assert users.select("date", "active_users", "retained", "new", "resurrected", "churned").rows() == [
        ("2026-01", 2, 0, 2, 0, 0),
        ("2026-02", 1, 1, 0, 0, -1),
        ("2026-03", 2, 0, 1, 1, -1),
    ]
    assert users["logo_retention"].to_list() == [None, 0.5, 0.0]
    assert users["quick_ratio"].to_list() == [None, 0.0, 2.0]
    growth = cl.termina.growth_accounting(EXAMPLE)
    assert growth.select(*list(GROWTH_ACCOUNTING)[:8]).rows() == [
        ("2026-01", 150.0, 0.0, 150.0, 0.0, 0.0, 0.0, 0.0),
        ("2026-02", 80.0, 80.0, 0.0, 0.0, 0.0, -20.0, -50.0),
        ("2026-03", 130.0, 0.0, 60.0, 70.0, 0.0, 0.0, -80.0),
    ]
    assert growth["net_churn"].to_list() == [None, 70 / 150, 10 / 80]
    assert growth["lifetime_quick_ratio"].to_list() == [None, 0.0, 130 / 150]
    signed = cl.termina.growth_accounting(EXAMPLE, refunds="signed")
    assert signed["amount"].to_list() == [150.0, 80.0, 120.0]  # c's -40 of February is before its first period
    same(signed.drop("amount"), growth.drop("amount"))


@EACH
def test_worked_example_says_nothing(name):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        getattr(cl.termina, name)(EXAMPLE)


@EACH
@given(case=cases(joined=("none",)))
def test_tables_are_the_judges(name, case):
    judge = getattr(naive_accounting, name)
    try:
        expected = judge(case.rows, **settings_of(case))
    except naive.Refused as refusal:
        event(f"refused: {refusal}")
        with pytest.raises(DataError):
            ask(case, name)
        return
    event("a table" if expected else "empty")
    assert_judged(ask(case, name), expected, TABLES[name])


def test_growth_rates_look_back_over_calendar_periods_shown_or_not():
    months = [date(2026, month, 1) for month in range(1, 13)]
    rows = pl.DataFrame({"user_id": "a", "timestamp": months, "amount": [2.0**month for month in range(12)]})
    table = cl.termina.growth_accounting(rows.filter(pl.col("timestamp") != date(2026, 6, 1)), start="2026-07")
    assert table["date"].to_list() == [f"2026-{month:02}" for month in range(7, 13)]
    assert table["cmgr3"].round(12).to_list() == [1.0, 1.0, None, 1.0, 1.0, 1.0]
    assert table["cqgr1"].null_count() == table.height
    quarters = cl.termina.growth_accounting(rows, freq="Q")
    assert quarters["cqgr1"].round(12).to_list() == [None, 7.0, 7.0, 7.0]
    assert quarters["cmgr3"].null_count() == 4
    assert cl.termina.growth_accounting(rows, freq="A")["cqgr1"].to_list() == [None]


def test_periods_from_the_first_active_one_to_the_right_edge():
    rows = pl.DataFrame(
        {
            "user_id": ["z", "a", "a", "z"],
            "timestamp": [date(2025, 11, 1), date(2026, 1, 1), date(2026, 3, 1), date(2026, 5, 9)],
            "amount": [-1, 5, 6, 0],
        }
    )
    table = cl.termina.user_accounting(rows)
    assert table["date"].to_list() == ["2026-01", "2026-02", "2026-03", "2026-04", "2026-05"]
    assert table["active_users"].to_list() == [1, 0, 1, 0, 0]
    assert cl.termina.user_accounting(rows, complete_only=True)["date"][-1] == "2026-04"
    assert cl.termina.user_accounting(rows, end="2026-07")["date"][-1] == "2026-07"
    assert cl.termina.user_accounting(rows, end="2025-12").is_empty()
    assert cl.termina.user_accounting(rows, start="2026-06").is_empty()


@EACH
def test_no_table(name):
    empty = getattr(cl.termina, name)(EXAMPLE.clear())
    assert empty.is_empty()
    assert empty.schema == pl.Schema(schema(TABLES[name]))
    same(getattr(cl.termina, name)(EXAMPLE.with_columns(amount=-1)), empty)


@EACH
def test_join_dates_are_not_taken(name):
    with pytest.raises(TypeError, match=rf"{name}\(\) got an unexpected keyword argument 'joined'"):
        getattr(cl.termina, name)(EXAMPLE, joined="since")


@EACH
def test_bad_input(name):
    call = getattr(cl.termina, name)
    with pytest.raises(SettingError, match=r"freq='X' is unknown. Expected one of 'D', 'W', 'M', 'Q', 'A'"):
        call(EXAMPLE, freq="X")
    with pytest.raises(SettingError, match="start='2026-03' is after end='2026-01'"):
        call(EXAMPLE, start="2026-03", end="2026-01")
    with pytest.raises(DataError, match="null"):
        call(EXAMPLE.with_columns(user_id=pl.lit(None, pl.String)))
    with pytest.raises(SourceError, match=r"none\.csv"):
        call("none.csv")


# --- laws --------------------------------------------------------------------------------------------------


def units(table, name):
    """Read money in cents back as integers."""
    return (table[name] * 100).round().cast(pl.Int64)


CENTS = cases(joined=("none",), poison=False, kinds=("cents",), decimals=2)


@given(case=CENTS)
def test_identities(case):
    users, growth = (quietly_or_pass(case, name) for name in TABLES)
    before = users["active_users"].shift(1, fill_value=0)
    start = slice(0, None) if "start" not in case.settings else slice(1, None)  # the period before is not shown
    assert (users["active_users"] == users["retained"] + users["new"] + users["resurrected"]).all()
    assert (before == users["retained"] - users["churned"])[start].all()
    parts = {name: units(growth, name) for name in list(GROWTH_ACCOUNTING)[1:8]}
    active = parts["retained"] + parts["new"] + parts["resurrected"] + parts["expansion"]
    if case.settings.get("refunds") != "signed":
        assert (parts["amount"] == active).all()
    kept = parts["retained"] - parts["churned"] - parts["contraction"]
    assert (active.shift(1, fill_value=0) == kept)[start].all()


@given(case=CENTS)
def test_cohorts_and_accountings_agree(case):
    """Over all cohorts, active users and amounts of a calendar period are those of the accountings."""
    case.settings.pop("start", None)
    users, growth = (quietly_or_pass(case, name) for name in TABLES)
    cohorts = ask(case, "cohorts")
    assume(cohorts.height)
    labels = users["date"].to_list()
    at = {label: place for place, label in enumerate(labels)}
    by_cell = cohorts.with_columns(
        at=pl.col("cohort").replace_strict(at, return_dtype=pl.Int64) + pl.col("period"),
        units=(pl.col("amount") * 100).round().cast(pl.Int64),
    )
    sums = by_cell.group_by("at").agg(pl.col("active_users", "units").sum()).sort("at")
    assert sums["at"].to_list() == list(range(len(labels)))
    assert sums["active_users"].to_list() == users["active_users"].to_list()
    assert sums["units"].to_list() == units(growth, "amount").to_list()
    born = by_cell.filter(period=0)
    sizes, amounts = [0] * len(labels), [0] * len(labels)
    for place, size, amount in zip(born["at"], born["cohort_size"], units(born, "cohort_size_amount"), strict=True):
        sizes[place], amounts[place] = size, amount
    assert users["new"].to_list() == sizes
    assert units(growth, "new").to_list() == amounts


def quietly_or_pass(case, name, **more):
    """Ask for a table; pass over what is refused."""
    try:
        return ask(case, name, **more)
    except DataError:
        assume(False)


# --- all roads ---------------------------------------------------------------------------------------------


@given(case=cases(joined=("none",), poison=False), cut=st.integers(0, 5), threads=st.integers(1, 3))
def test_sums_of_disjoint_users_add(case, cut, threads):
    expected = [quietly_or_pass(case, name) for name in TABLES]
    user = case.names.get("user", "user_id")
    chosen = case.frame[user].unique(maintain_order=True).head(cut)
    inside = case.frame[user].is_in(chosen.implode())
    edges = {name: case.settings[name] for name in EDGES if name in case.settings}
    rest = {name: value for name, value in settings_of(case).items() if name not in EDGES}
    parts = [
        quietly(cl.termina.accounting_sums, case.frame.filter(mask), **case.names, **rest, threads=threads)
        for mask in (inside, ~inside)
    ]
    both = sum(parts)
    for name, table in zip(TABLES, expected, strict=True):
        same(quietly(getattr(both, name), **edges), table)


@given(case=cases(joined=("none",), poison=False), budget=st.sampled_from((1, 1_000)))
def test_prepared_form_and_little_memory(case, budget, tmp_path_factory):
    expected = [quietly_or_pass(case, name) for name in TABLES]
    folder = tmp_path_factory.mktemp("form") / "prepared"
    reading = {name: case.settings[name] for name in ("timezone", "decimals", "nulls") if name in case.settings}
    form = quietly(cl.prepare, case.frame, folder, **case.names, **reading)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("cohortlib.engine.memory.MINIMUM", 1)
        patch.setattr("cohortlib.transactions.store.spill._MIN_ROWS", 3)
        patch.setattr("cohortlib.read.tables._BATCH", 3)
        patch.setattr("cohortlib.transactions.part_netting.GROUP_ROWS", 4)
        for name, table in zip(TABLES, expected, strict=True):
            same(ask(case, name, form), table)
            same(ask(case, name, str(folder)), table)
            same(ask(case, name, max_memory=budget), table)


@EACH
def test_filter_of_a_prepared_form(name, tmp_path):
    rows = EXAMPLE.with_columns(country=pl.when(pl.col("user_id") == "a").then(pl.lit("DE")).otherwise(pl.lit("FR")))
    form = cl.prepare(rows, tmp_path / "prepared", keep=["country"]).filter(pl.col("country") == "DE")
    same(getattr(cl.termina, name)(form), getattr(cl.termina, name)(EXAMPLE.filter(user_id="a")))


def test_state(tmp_path):
    state = cl.termina.State.build(EXAMPLE.head(4), tmp_path / "state", freq="Q", refunds="signed")
    state.update(EXAMPLE.tail(4).with_columns(pl.col("timestamp") + timedelta(days=80)))
    rows = pl.concat([EXAMPLE.head(4), EXAMPLE.tail(4).with_columns(pl.col("timestamp") + timedelta(days=80))])
    expected = cl.termina.accounting_sums(rows, freq="Q", refunds="signed")
    assert state.accounting_sums() == expected
    same(
        cl.termina.growth_accounting(state.folder, freq="Q", refunds="signed", start="2026Q2"),
        expected.growth_accounting(start="2026Q2"),
    )


def test_sums_are_a_value(tmp_path):
    sums = cl.termina.accounting_sums(EXAMPLE, refunds="signed")
    assert repr(sums) == (
        "AccountingSums(freq='M', timezone='UTC', week_start='monday', refunds='signed', decimals=6; "
        "3 users in 3 periods)"
    )
    sums.save(tmp_path / "sums.parquet")
    assert AccountingSums.load(tmp_path / "sums.parquet") == sums
    with pytest.raises(SourceError, match=r"does not hold sums\. Expected a file that Sums.save wrote"):
        cl.termina.Sums.load(tmp_path / "sums.parquet")
    with pytest.raises(SettingError, match="sums with refunds='signed' and refunds='net' do not add"):
        _ = sums + cl.termina.accounting_sums(EXAMPLE)
    with pytest.raises(TypeError):
        _ = sums + cl.termina.sums(EXAMPLE, refunds="signed")
    large = cl.termina.accounting_sums(EXAMPLE.with_columns(amount=2**59), decimals=0)
    with pytest.raises(DataError, match=r"the amounts of both sums exceed 9\.22e\+18"):
        _ = large + large


@EACH
def test_fields_are_documented(name):
    listed = [
        line.split("(")[0] for line in getattr(cl.termina, name).__doc__.splitlines() if line.strip()[:4] == "- ``"
    ]
    assert [part.strip(" -,`") for line in listed for part in line.split("``,")] == list(TABLES[name])


# --- published ---------------------------------------------------------------------------------------------

PUBLISHED = Path(__file__).parents[2] / "shared" / "data" / "published"
USERS = {"new": "new_users", "retained": "retained_users", "resurrected": "resurrected_users"}
MONEY = {
    "new_amount": "new_rev", "retained_amount": "retained_rev", "resurrected_amount": "resurrected_rev",
    "expansion": "expansion_rev", "contraction": "contraction_rev",
}  # fmt: skip


def of_components(file, names):
    """Read a published accounting, and make sums of its components."""
    path = PUBLISHED / file
    if not path.exists():
        pytest.skip(f"{file} is not in ../shared/data/published; it is not part of the repository")
    table = pl.read_csv(path, null_values=["NA", "Inf"], infer_schema_length=None)
    cents = {name: (table[of].abs() * 100).round().cast(pl.Int64) for name, of in names.items()}
    first = naive.period_of(date(2017, 3, 1), "M")
    rows = {**dict.fromkeys(AccountingSums.columns, 0), **cents, "period": range(first, first + table.height)}
    last_day = date(2018, 6, 30).toordinal() - date(1970, 1, 1).toordinal()
    sums = pl.DataFrame(rows, schema=AccountingSums.columns)
    return table, AccountingSums(SumsSettings.of(Settings.of(decimals=2)), sums, last_day, 0)


def test_ratios_of_published_users():
    table, sums = of_components("sampleco_mau_growth_accounting_tvc.csv", USERS)
    ours = sums.user_accounting()
    assert (ours["date"][0], ours["date"][-1], ours.height) == ("2017-03", "2018-06", table.height)
    assert (ours["active_users"] == table["mau"] * 100).all()
    assert (ours["churned"] == table["churned_users"] * 100).all()
    for name, published in (("quick_ratio", "mau_quick_ratio"), ("logo_retention", "mau_retention_rate")):
        assert ours[name][0] is None
        assert ours[name][1:].to_list() == pytest.approx(table[published][1:].to_list(), rel=1e-13)


def test_ratios_of_published_revenue():
    table, sums = of_components("sampleco_mrr_growth_accounting_tvc.csv", MONEY)
    ours = sums.growth_accounting()
    names = {"amount": "rev", **{name: f"{name}_rev" for name in list(GROWTH_ACCOUNTING)[2:8]}}
    for name, published in names.items():
        assert ours[name].to_list() == pytest.approx(table[published].to_list(), abs=0.02), name  # they are rounded
    for name, published in (("quick_ratio", "mrr_quick_ratio"), ("gross_retention", "mrr_retention_rate")):
        assert ours[name][0] is None
        assert ours[name][1:].to_list() == pytest.approx(table[published][1:].to_list(), rel=1e-7)
