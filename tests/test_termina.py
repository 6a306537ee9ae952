"""Termina's two cohort tables: the worked example, the judge's opinion of drawn rows, rules one by one."""

import inspect
import warnings
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import naive
import numpy as np
import polars as pl
import pytest
from hypothesis import assume, event, given
from hypothesis import strategies as st
from polars.testing import assert_frame_equal
from strategies import cases, customer_settings, exactly, instants, quietly

import cohortlib as cl
from cohortlib.periods import Calendar
from cohortlib.transactions import customers

pytestmark = pytest.mark.unit

EPOCH = date(1970, 1, 1).toordinal()

COHORTS = {
    "cohort": pl.String,
    "period": pl.Int64,
    "cohort_size": pl.Int64,
    "cohort_size_amount": pl.Float64,
    "active_users": pl.Int64,
    "logo_retention": pl.Float64,
    "amount": pl.Float64,
    "amount_retention": pl.Float64,
    "ltv": pl.Float64,
}
CUSTOMERS = {
    "cohort": pl.String,
    "user_id": pl.String,
    "period": pl.Int64,
    "cohort_size_amount": pl.Float64,
    "logo_retention": pl.Float64,
    "amount": pl.Float64,
    "amount_retention": pl.Float64,
    "ltv": pl.Float64,
}
SCHEMAS = {"cohorts": COHORTS, "customer_cohorts": CUSTOMERS}


def frame(rows, **schema):
    """Make a frame of (user, instant, amount) tuples."""
    names = ("user_id", "timestamp", "amount")
    return pl.DataFrame(rows, schema={name: schema.get(name) for name in names}, orient="row")


def assert_same(table, expected, schema):
    """Compare every cell, the order of rows and columns, and the types."""
    assert dict(table.schema) == schema
    assert list(table.schema) == list(schema)
    got = [[exactly(cell) for cell in row] for row in table.rows()]
    want = [[exactly(row[name]) for name in schema] for row in expected]
    assert got == want


# --- the worked example of the semantics page --------------------------------------------------------------

EXAMPLE = [
    ("a", date(2026, 1, 5), 100.0),
    ("a", date(2026, 2, 10), 80.0),
    ("a", date(2026, 3, 3), -10.0),
    ("b", date(2026, 1, 20), 50.0),
    ("b", date(2026, 3, 1), 70.0),
    ("c", date(2026, 2, 2), 30.0),
    ("c", date(2026, 2, 20), -40.0),
    ("c", date(2026, 3, 15), 60.0),
]
NET = [
    ("2026-01", 0, 2, 150.0, 2, 1.0, 150.0, 1.0, 75.0),
    ("2026-01", 1, 2, 150.0, 1, 0.5, 80.0, 80 / 150, 115.0),
    ("2026-01", 2, 2, 150.0, 1, 0.5, 70.0, 70 / 150, 150.0),
    ("2026-03", 0, 1, 60.0, 1, 1.0, 60.0, 1.0, 60.0),
]
SIGNED = [
    ("2026-01", 0, 2, 150.0, 2, 1.0, 150.0, 1.0, 75.0),
    ("2026-01", 1, 2, 150.0, 1, 0.5, 80.0, 80 / 150, 115.0),
    ("2026-01", 2, 2, 150.0, 1, 0.5, 60.0, 60 / 150, 145.0),
    ("2026-03", 0, 1, 60.0, 1, 1.0, 60.0, 1.0, 60.0),
]
# Without its refund of February c is active then with 30.
DROP = [
    *NET[:3],
    ("2026-02", 0, 1, 30.0, 1, 1.0, 30.0, 1.0, 30.0),
    ("2026-02", 1, 1, 30.0, 1, 1.0, 60.0, 2.0, 90.0),
]
NET_CUSTOMERS = [
    ("2026-01", "a", 0, 100.0, 1.0, 100.0, 1.0, 100.0),
    ("2026-01", "a", 1, 100.0, 1.0, 80.0, 0.8, 180.0),
    ("2026-01", "a", 2, 100.0, 0.0, 0.0, 0.0, 180.0),
    ("2026-01", "b", 0, 50.0, 1.0, 50.0, 1.0, 50.0),
    ("2026-01", "b", 1, 50.0, 0.0, 0.0, 0.0, 50.0),
    ("2026-01", "b", 2, 50.0, 1.0, 70.0, 1.4, 120.0),
    ("2026-03", "c", 0, 60.0, 1.0, 60.0, 1.0, 60.0),
]
SIGNED_CUSTOMERS = [
    *NET_CUSTOMERS[:2],
    ("2026-01", "a", 2, 100.0, 0.0, -10.0, -0.1, 170.0),
    *NET_CUSTOMERS[3:],
]
WORKED = pytest.mark.parametrize(
    ("table", "settings", "expected"),
    [
        ("cohorts", {}, NET),
        ("cohorts", {"refunds": "net"}, NET),
        ("cohorts", {"refunds": "signed"}, SIGNED),
        ("cohorts", {"refunds": "drop"}, DROP),
        ("customer_cohorts", {}, NET_CUSTOMERS),
        ("customer_cohorts", {"refunds": "signed"}, SIGNED_CUSTOMERS),
        ("customer_cohorts", {"rows": "active"}, [row for row in NET_CUSTOMERS if row[4]]),
        ("customer_cohorts", {"top_n": 1}, NET_CUSTOMERS[:3]),
        (
            "customer_cohorts",
            {"basis": "cohort_total"},
            [
                ("2026-01", "a", 0, 150.0, 1.0, 100.0, 100 / 150, 75.0),
                ("2026-01", "a", 1, 150.0, 1.0, 80.0, 80 / 150, 115.0),
                ("2026-01", "a", 2, 150.0, 0.0, 0.0, 0.0, 150.0),
                ("2026-01", "b", 0, 150.0, 1.0, 50.0, 50 / 150, 75.0),
                ("2026-01", "b", 1, 150.0, 0.0, 0.0, 0.0, 115.0),
                ("2026-01", "b", 2, 150.0, 1.0, 70.0, 70 / 150, 150.0),
                ("2026-03", "c", 0, 60.0, 1.0, 60.0, 1.0, 60.0),
            ],
        ),
        (
            "customer_cohorts",
            {"basis": "cohort_mean", "rows": "active"},
            [
                ("2026-01", "a", 0, 150.0, 1.0, 100.0, 100 / 75, 75.0),
                ("2026-01", "a", 1, 150.0, 1.0, 80.0, 80 / 75, 115.0),
                ("2026-01", "b", 0, 150.0, 1.0, 50.0, 50 / 75, 75.0),
                ("2026-01", "b", 2, 150.0, 1.0, 70.0, 70 / 75, 150.0),
                ("2026-03", "c", 0, 60.0, 1.0, 60.0, 1.0, 60.0),
            ],
        ),
        # d joined and never bought; b had bought before; c joined in February, where its net is negative.
        (
            "cohorts",
            {
                "before_joined": "clip",
                "joined": [("b", date(2026, 2, 14)), ("c", date(2026, 2, 1)), ("d", date(2026, 3, 9))],
            },
            [
                ("2026-01", 0, 1, 100.0, 1, 1.0, 100.0, 1.0, 100.0),
                ("2026-01", 1, 1, 100.0, 1, 1.0, 80.0, 0.8, 180.0),
                ("2026-01", 2, 1, 100.0, 0, 0.0, 0.0, 0.0, 180.0),
                ("2026-02", 0, 2, 50.0, 1, 0.5, 50.0, 1.0, 25.0),
                ("2026-02", 1, 2, 50.0, 2, 1.0, 130.0, 2.6, 90.0),
                ("2026-03", 0, 1, 0.0, 0, 0.0, 0.0, None, 0.0),
            ],
        ),
    ],
)


@WORKED
def test_worked_example_by_the_judge(table, settings, expected):
    rows = getattr(naive, table)(EXAMPLE, **settings)
    assert [tuple(row.values()) for row in rows] == expected
    assert list(rows[0]) == list(SCHEMAS[table])


@WORKED
def test_worked_example(table, settings, expected):
    if "joined" in settings:
        joined = pl.DataFrame(settings["joined"], schema=["user_id", "joined"], orient="row")
        settings = settings | {"joined": joined}
    got = quietly(getattr(cl.termina, table), frame(EXAMPLE), **settings)
    assert_same(got, [dict(zip(SCHEMAS[table], row, strict=True)) for row in expected], SCHEMAS[table])


def test_worked_example_says_nothing():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        cl.termina.cohorts(frame(EXAMPLE))
        cl.termina.customer_cohorts(frame(EXAMPLE))


# --- engine and judge --------------------------------------------------------------------------------------


def same_opinion(case, table, **more):
    """Check that the engine finds the judge's very table, or refuses where the judge does."""
    try:
        expected = case.judge(table, **more)
    except naive.Refused as refusal:
        event(f"refused: {refusal}")
        with pytest.raises(cl.errors.DataError):
            case.ask(table, **more)
        return
    event("empty" if not expected else "a table")
    assert_same(case.ask(table, **more), expected, SCHEMAS[table])


@given(cases())
def test_cohorts_are_the_judges(case):
    same_opinion(case, "cohorts")


@given(cases(), customer_settings())
def test_customers_are_the_judges(case, more):
    same_opinion(case, "customer_cohorts", **more)


RANKS = ("cohort", "user_id", "cohort_size_amount", "ltv", "acv", "active_periods")


@given(cases(joined=("none",), poison=False), st.integers(1, 3), st.sampled_from(RANKS))
def test_rank_by_a_column_is_the_judges(case, top_n, rank_by):
    same_opinion(case, "customer_cohorts", top_n=top_n, rank_by=rank_by)


@pytest.mark.parametrize("freq", ["M", "W", "Q", "A"])
@pytest.mark.parametrize("settings", [{}, {"complete_only": True, "week_start": "wednesday", "decimals": 2}])
def test_cdnow_is_the_judges(shared, freq, settings):
    data = pl.read_parquet(shared / "cdnow_sample.parquet").select("user_id", "timestamp", "amount")
    expected = naive.cohorts(data.rows(), freq=freq, **settings)
    assert_same(cl.termina.cohorts(data, freq=freq, **settings), expected, COHORTS)


@pytest.mark.parametrize("settings", [{}, {"refunds": "signed", "freq": "W"}, {"refunds": "drop"}])
def test_online_retail_is_the_judges(shared, settings):
    data = pl.read_parquet(shared / "online_retail.parquet").select("user_id", "timestamp", "amount").head(60_000)
    settings = settings | {"nulls": "drop"}
    assert_same(quietly(cl.termina.cohorts, data, **settings), naive.cohorts(data.rows(), **settings), COHORTS)


# --- straight to Parquet -----------------------------------------------------------------------------------


def sunk(folder, transactions, **settings):
    """Write the customer table to a file, and read it."""
    path = folder / "customers.parquet"
    quietly(cl.termina.sink_customer_cohorts, transactions, path, **settings)
    assert [file.name for file in folder.iterdir()] == [path.name]
    return pl.read_parquet(path)


SUNK = pytest.mark.parametrize(
    "settings",
    [
        {},
        {"rows": "active", "refunds": "signed", "basis": "cohort_mean", "freq": "W"},
        {"top_n": 3},
        {"start": "2026-01", "end": "2026-01"},
        {"start": "2027"},
        {"joined": pl.DataFrame({"user_id": [7, 99], "joined": [date(2025, 12, 1), date(2026, 2, 1)]})},
    ],
)


@SUNK
@pytest.mark.parametrize("piece", [1, 40, 1 << 19])
def test_the_file_has_the_rows_of_the_table(tmp_path, monkeypatch, settings, piece):
    rows = pl.DataFrame(
        [(i % 101, date(2026, 1, 1) + timedelta(days=i % 150), (i * i) % 97 - 10.0) for i in range(1000)],
        schema=["user_id", "timestamp", "amount"],
        orient="row",
    )
    monkeypatch.setattr(customers, "_BATCH_ROWS", piece)
    settings = {"before_joined": "drop"} | settings
    for ids in (pl.Int64, pl.String):
        one = rows.with_columns(pl.col("user_id").cast(ids))
        more = {name: value.cast({"user_id": ids}) if name == "joined" else value for name, value in settings.items()}
        assert_frame_equal(
            sunk(tmp_path, one, **more), quietly(cl.termina.customer_cohorts, one, **more), check_exact=True
        )


def test_a_file_of_nobody(tmp_path):
    empty = frame([], user_id=pl.Int64, timestamp=pl.Date, amount=pl.Float64)
    for rows in (empty, frame([("a", date(2026, 1, 1), 0.0)])):
        assert_same(sunk(tmp_path, rows), [], CUSTOMERS)


def test_both_customer_calls_take_the_same_settings():
    one, other = (
        inspect.signature(call).parameters for call in (cl.termina.customer_cohorts, cl.termina.sink_customer_cohorts)
    )
    # The table in memory is as large as it is; parts of it in a folder need not be in memory at once.
    mine = [parameter for name, parameter in other.items() if name not in ("path", "max_memory")]
    assert mine == list(one.values())


@pytest.mark.parametrize("error", [ZeroDivisionError("by zero"), MemoryError(), KeyboardInterrupt()])
def test_an_interrupted_file_leaves_the_old_one(tmp_path, monkeypatch, error):
    written = []

    def fail(self, *args, **settings):
        written.append(1)
        if len(written) == 3:
            raise error
        return write(self, *args, **settings)

    write = customers.Customers._write
    monkeypatch.setattr(customers.Customers, "_write", fail)
    monkeypatch.setattr(customers, "_BATCH_ROWS", 1)
    rows = frame([(user, date(2026, 1, 1), 1.0) for user in range(9)])
    path = tmp_path / "customers.parquet"
    path.write_text("old")
    with pytest.raises(type(error)):
        cl.termina.sink_customer_cohorts(rows, path)
    assert len(written) == 3
    assert [file.name for file in tmp_path.iterdir()] == [path.name]
    assert path.read_text() == "old"


def test_a_file_that_cannot_be_written(tmp_path):
    rows = frame(EXAMPLE)
    for path in (tmp_path / "nowhere" / "x.parquet", f"{tmp_path}/nowhere/parts/"):
        with pytest.raises(FileNotFoundError):
            cl.termina.sink_customer_cohorts(rows, path)
    with pytest.raises(cl.errors.SchemaError):
        cl.termina.sink_customer_cohorts(rows.drop("amount"), str(tmp_path / "x.parquet"))
    assert not list(tmp_path.iterdir())


# --- the judge's own calendar, by hand ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("day", "freq", "week_start", "label", "first", "last"),
    [
        (date(2026, 1, 31), "D", "monday", "2026-01-31", date(2026, 1, 31), date(2026, 1, 31)),
        (date(2026, 1, 1), "W", "monday", "2025-12-29", date(2025, 12, 29), date(2026, 1, 4)),  # a Thursday
        (date(2026, 1, 4), "W", "sunday", "2026-01-04", date(2026, 1, 4), date(2026, 1, 10)),
        (date(2026, 1, 3), "W", "sunday", "2025-12-28", date(2025, 12, 28), date(2026, 1, 3)),
        (date(2026, 1, 2), "W", "friday", "2026-01-02", date(2026, 1, 2), date(2026, 1, 8)),
        (date(1969, 12, 31), "W", "monday", "1969-12-29", date(1969, 12, 29), date(1970, 1, 4)),
        (date(2024, 2, 29), "M", "monday", "2024-02", date(2024, 2, 1), date(2024, 2, 29)),
        (date(2025, 12, 31), "M", "monday", "2025-12", date(2025, 12, 1), date(2025, 12, 31)),
        (date(2025, 12, 31), "Q", "monday", "2025Q4", date(2025, 10, 1), date(2025, 12, 31)),
        (date(2025, 4, 1), "Q", "monday", "2025Q2", date(2025, 4, 1), date(2025, 6, 30)),
        (date(2025, 4, 1), "A", "monday", "2025", date(2025, 1, 1), date(2025, 12, 31)),
    ],
)
def test_the_judge_knows_the_calendar(day, freq, week_start, label, first, last):
    period = naive.period_of(day, freq, week_start)
    assert naive.label(period, freq, week_start) == label
    assert naive.first_day(period, freq, week_start) == first
    assert naive.last_day(period, freq, week_start) == last
    assert naive.period_of(last, freq, week_start) == period
    assert naive.period_of(naive.first_day(period + 1, freq, week_start), freq, week_start) == period + 1


def test_the_judge_reads_money_ties_to_even():
    assert naive.to_units(0.0078125, 6) == 7812  # 7812.5
    assert naive.to_units(0.0234375, 6) == 23438  # 23437.5
    assert naive.to_units(2.5, 0) == 2
    assert naive.to_units(0.1, 6) + naive.to_units(0.2, 6) + naive.to_units(-0.3, 6) == 0
    assert naive.to_units(2.675, 2) == 267  # the float lies below
    assert naive.to_units(Decimal("1.25"), 2) == 125
    with pytest.raises(naive.Refused):
        naive.to_units(Decimal("1.255"), 2)


# --- rules one by one, where a failure should say its own name ---------------------------------------------


def test_days_are_local_ones_at_changes_of_dst():
    """Cut at the local midnight, also where clocks change at 00:01 or a day is left out."""
    spells = [
        ("America/St_Johns", datetime(2010, 11, 7, 2, 29, 59, tzinfo=UTC), "2010-11-06"),
        ("America/St_Johns", datetime(2010, 11, 7, 2, 30, tzinfo=UTC), "2010-11-07"),  # 00:00 −02:30
        ("America/St_Johns", datetime(2010, 11, 7, 2, 31, tzinfo=UTC), "2010-11-06"),  # clocks back to 23:01
        ("America/St_Johns", datetime(2010, 11, 7, 3, 30, tzinfo=UTC), "2010-11-07"),  # and midnight again
        ("Pacific/Apia", datetime(2011, 12, 30, 9, 59, 59, tzinfo=UTC), "2011-12-29"),
        ("Pacific/Apia", datetime(2011, 12, 30, 10, 0, tzinfo=UTC), "2011-12-31"),
        ("America/New_York", datetime(2026, 3, 8, 4, 59, 59, tzinfo=UTC), "2026-03-07"),
        ("America/New_York", datetime(2026, 3, 9, 3, 59, 59, tzinfo=UTC), "2026-03-08"),
        ("Asia/Kolkata", datetime(2026, 1, 1, 18, 30, tzinfo=UTC), "2026-01-02"),
        ("America/Sao_Paulo", datetime(2018, 11, 4, 2, 59, 59, tzinfo=UTC), "2018-11-03"),
        (
            "America/Sao_Paulo",
            datetime(2018, 11, 4, 3, 0, tzinfo=UTC),
            "2018-11-04",
        ),  # 01:00, midnight is skipped
    ]
    for zone, instant, label in spells:
        rows = [("a", instant, 1.0)]
        assert [row["cohort"] for row in naive.cohorts(rows, freq="D", timezone=zone)] == [label]
        table = cl.termina.cohorts(frame(rows), freq="D", timezone=zone)
        assert table["cohort"].to_list() == [label], (zone, instant)


def test_zoned_instants_are_converted_also_to_the_default_utc():
    column = instants("timestamp", [1767225600_000_000 - 1], pl.Datetime("us", "Asia/Kolkata"))
    rows = pl.DataFrame({"user_id": [1], "timestamp": column, "amount": [1.0]})
    assert cl.termina.cohorts(rows, freq="D")["cohort"].to_list() == ["2025-12-31"]
    assert cl.termina.cohorts(rows, freq="D", timezone="Asia/Kolkata")["cohort"].to_list() == ["2026-01-01"]


def test_a_third_of_a_cent_nets_to_nothing():
    rows = [("a", date(2026, 1, 1), 0.1), ("a", date(2026, 1, 2), 0.2), ("a", date(2026, 1, 3), -0.3)]
    assert cl.termina.cohorts(frame(rows)).height == 0


def test_units_beyond_the_range_are_refused_by_name():
    at = date(2026, 1, 1)
    for rows in ([("a", at, 9.3e12)], [("a", at, 5e12), ("b", at, -5e12)]):
        with pytest.raises(cl.errors.DataError, match="decimals"):
            cl.termina.cohorts(frame(rows))
        assert cl.termina.customer_cohorts(frame(rows), decimals=2).height == 1
    wide = frame([("a", at, 2**63)], amount=pl.UInt64)
    with pytest.raises(cl.errors.DataError, match="decimals"):
        cl.termina.cohorts(wide, decimals=0)


def test_a_decimal_column_with_more_places_is_refused():
    rows = pl.DataFrame({"user_id": [1], "timestamp": [date(2026, 1, 1)], "amount": [Decimal("1.255")]})
    with pytest.raises(cl.errors.CohortlibError, match="decimals"):
        cl.termina.cohorts(rows, decimals=2)
    assert cl.termina.cohorts(rows, decimals=3)["amount"].to_list() == [1.255]


def test_a_quotient_of_large_numbers_rounds_once():
    """Find own × size / total right where the product leaves 64 bits."""
    at = date(2026, 1, 1)
    units = [3_074_457_345_618_258_601, 3_000_000_000_000_000_001, 2_000_000_000_000_000_003]
    rows = [(user, at, Decimal(count).scaleb(-6)) for user, count in enumerate(units)]
    table = cl.termina.customer_cohorts(frame(rows, amount=pl.Decimal(38, 6)), basis="cohort_mean")
    expected = naive.customer_cohorts(rows, basis="cohort_mean")
    assert_same(table, expected, CUSTOMERS)
    assert expected[0]["amount_retention"] == units[0] * 3 / sum(units)


def test_nulls_are_counted_by_column():
    at = date(2026, 1, 1)
    rows = [
        (None, at, 1.0),
        ("a", None, 1.0),
        ("a", None, 1.0),
        ("a", at, 1.0),
        ("a", date(2026, 5, 1), None),
    ]
    with pytest.raises(cl.errors.DataError, match="timestamp"):
        cl.termina.cohorts(frame(rows))
    with pytest.warns(cl.errors.CohortlibWarning, match="2"):
        table = cl.termina.cohorts(frame(rows), nulls="drop")
    assert table.height == 5  # the dropped row of May still sets the right edge
    assert_same(table, naive.cohorts(rows, nulls="drop"), COHORTS)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_what_is_no_number_is_refused(value):
    rows = [("a", date(2026, 1, 1), 1.0), ("a", date(2026, 1, 2), value)]
    for nulls in ("error", "drop"):
        with pytest.raises(cl.errors.DataError, match="amount"):
            cl.termina.cohorts(frame(rows), nulls=nulls)


@pytest.mark.parametrize("settings", [{"end": "2025"}, {"complete_only": True}])
@pytest.mark.parametrize("amount", [float("nan"), 5e12, 1e16])
def test_bad_values_are_refused_also_where_no_row_is_kept(settings, amount):
    rows = [("a", date(2026, 1, 1), amount), ("b", date(2026, 1, 1), amount)]
    with pytest.raises(naive.Refused):
        naive.cohorts(rows, **settings)
    with pytest.raises(cl.errors.DataError):
        cl.termina.cohorts(frame(rows), **settings)


def test_the_largest_float_that_fits_is_taken():
    """Take 9223372036854.775390625, which is 417 micros short of the limit though float × 1e6 rounds up to it."""
    rows = [("a", date(2026, 1, 1), 9223372036854.775)]
    assert_same(cl.termina.cohorts(frame(rows)), naive.cohorts(rows), COHORTS)


@pytest.mark.parametrize("table", ["cohorts", "customer_cohorts"])
def test_an_empty_frame_gives_an_empty_table(table):
    function = getattr(cl.termina, table)
    typed = frame([], user_id=pl.Int64, timestamp=pl.Date, amount=pl.Float64)
    untyped = pl.DataFrame({"user_id": [], "timestamp": [], "amount": []})
    for empty in (typed, untyped):
        for settings in ({}, {"end": "2026"}, {"start": "2026-01", "complete_only": True}):
            assert_same(function(empty, **settings), [], SCHEMAS[table])


def test_joined_users_without_any_rows():
    empty = frame([], user_id=pl.Int64, timestamp=pl.Date, amount=pl.Float64)
    joined = pl.DataFrame({"user_id": [2, 10], "joined": [date(2026, 1, 1), date(2026, 2, 1)]})
    assert quietly(cl.termina.cohorts, empty, joined=joined).height == 0
    entries = dict(joined.rows())
    for table, schema in SCHEMAS.items():
        expected = getattr(naive, table)([], joined=entries, end="2026Q1")
        assert len(expected) == 5
        got = quietly(getattr(cl.termina, table), empty, joined=joined, end="2026Q1")
        assert_same(got, expected, schema)


def test_joining_after_the_right_edge_is_told():
    joined = pl.DataFrame({"user_id": ["a", "b"], "joined": [date(2026, 1, 1), date(2026, 9, 1)]})
    rows = [("a", date(2026, 1, 1), 1.0)]
    with pytest.warns(cl.errors.CohortlibWarning, match="1"):
        table = cl.termina.cohorts(frame(rows), joined=joined)
    assert_same(table, naive.cohorts(rows, joined=dict(joined.rows())), COHORTS)


def test_buying_before_joining():
    joined = pl.DataFrame({"user_id": ["a"], "joined": [date(2026, 2, 1)]})
    rows = [("a", date(2026, 1, 31), 5.0), ("a", date(2026, 2, 1), -2.0), ("a", date(2026, 3, 1), 1.0)]
    with pytest.raises(cl.errors.DataError, match="before_joined"):
        cl.termina.cohorts(frame(rows), joined=joined)
    for refunds in ("net", "signed", "drop"):
        for choice in ("clip", "drop"):
            settings = {"before_joined": choice, "refunds": refunds}
            table = quietly(cl.termina.cohorts, frame(rows), joined=joined, **settings)
            assert_same(table, naive.cohorts(rows, joined=dict(joined.rows()), **settings), COHORTS)
    with pytest.warns(cl.errors.CohortlibWarning, match="1"):
        cl.termina.cohorts(frame(rows), joined=joined, before_joined="drop")


def test_joining_twice():
    rows = frame([("a", date(2026, 3, 1), 1.0)])
    twice = pl.DataFrame({"user_id": ["a", "a"], "joined": [date(2026, 1, 1), date(2026, 1, 31)]})
    assert cl.termina.cohorts(rows, joined=twice)["cohort"].unique().to_list() == ["2026-01"]
    with pytest.raises(cl.errors.DataError):
        cl.termina.cohorts(rows, joined=twice, freq="D")


@pytest.mark.parametrize(
    ("last", "edge", "settings"),
    [
        (date(2026, 3, 30), 1, {}),  # inside March: February is the edge
        (date(2026, 3, 31), 2, {}),
        (date(2026, 3, 30), 2, {"end": date(2026, 3, 1), "complete_only": False}),
        (date(2026, 3, 30), 1, {"end": "2026-03"}),
        (date(2026, 3, 30), 1, {"end": "2026-02"}),  # the data go past February
        (date(2026, 3, 30), 1, {"end": "2026-04"}),  # March is not over by the last row, and April neither
        (date(2026, 3, 31), 2, {"end": "2026-04"}),
        (date(2026, 3, 31), 1, {"end": date(2026, 3, 20)}),  # the last day of the data is the one that `end` names
    ],
)
def test_complete_only(last, edge, settings):
    rows = [("a", date(2026, 1, 10), 1.0), ("b", last, -1.0)]
    settings = {"complete_only": True} | settings
    table = cl.termina.cohorts(frame(rows), **settings)
    assert table["period"].max() == edge
    assert_same(table, naive.cohorts(rows, **settings), COHORTS)


@pytest.mark.parametrize("settings", [{}, {"complete_only": True}])
def test_a_dropped_row_holds_the_right_edge(settings):
    rows = [("a", date(2026, 1, 5), 10.0), ("a", date(2026, 3, 3), 5.0), (None, date(2026, 3, 31), 1.0)]
    table = quietly(cl.termina.cohorts, frame(rows), nulls="drop", **settings)
    assert table["period"].to_list() == [0, 1, 2]


@pytest.mark.parametrize("refunds", ["net", "signed", "drop"])
def test_spans_of_more_than_64_periods(refunds):
    days = {"a": (0, 1, 31, 32, 63, 64, 65, 127, 128, 200), "b": (150, 63, 63, 191), "c": (64, 70), "d": (96,)}
    rows = [
        (user, date(2026, 1, 1) + timedelta(days=day), (-1.5 if day in (63, 70) else 1.0) + day / 100)
        for user, own in days.items()
        for day in own
    ]
    for table in ("cohorts", "customer_cohorts"):
        expected = getattr(naive, table)(rows, freq="D", refunds=refunds)
        assert_same(getattr(cl.termina, table)(frame(rows), freq="D", refunds=refunds), expected, SCHEMAS[table])


@pytest.mark.parametrize("refunds", ["net", "signed", "drop"])
@pytest.mark.parametrize("rows", [8, 600])
def test_so_many_periods_that_their_cells_are_far(rows, refunds):
    """From 512 periods on a cell is added to some time after it was met."""
    rng = np.random.default_rng(rows)
    days = [date(2024, 1, 1) + timedelta(days=int(day)) for day in rng.integers(0, 600, rows)]
    tuples = list(zip(rng.integers(0, 9, rows).tolist(), days, rng.integers(-30, 90, rows).tolist(), strict=True))
    table = cl.termina.cohorts(frame(tuples), freq="D", refunds=refunds)
    assert_same(table, naive.cohorts(tuples, freq="D", refunds=refunds), COHORTS)


def test_rank_by_an_expression_sees_the_users_in_order():
    users = [f"u{i:05}" for i in range(20_000)]
    rows = pl.DataFrame({"user_id": users[::-1], "timestamp": date(2026, 1, 1), "amount": 1})
    table = cl.termina.customer_cohorts(rows, top_n=3, rank_by=pl.col("ltv").rank("ordinal"))
    assert table["user_id"].to_list() == users[-3:]


def test_ranking_refuses_what_is_no_score():
    rows = frame([("a", date(2026, 1, 1), 1.0), ("b", date(2026, 1, 1), 2.0)])
    for wrong in (pl.col("^.*$"), pl.col("nothing"), pl.col("ltv").map_elements(lambda _: 1 // 0, pl.Int64)):
        with pytest.raises(cl.errors.SettingError, match="rank_by="):
            cl.termina.customer_cohorts(rows, top_n=1, rank_by=wrong)
    assert cl.termina.customer_cohorts(rows, top_n=10**30).height == 2


@pytest.mark.parametrize("table", [cl.termina.cohorts, cl.termina.customer_cohorts])
def test_a_wrong_date_far_away_is_refused_before_the_memory_is_full(table):
    days = [date(1901, 1, 1) + timedelta(days=i) for i in range(30_000)]
    rows = frame([(str(day), day, 1.0) for day in [*days, date(2199, 12, 31)]])
    more = {"basis": "cohort_total", "top_n": 2} if table is cl.termina.customer_cohorts else {}
    with pytest.raises(cl.errors.DataError, match="date may be wrong"):
        table(rows, freq="D", **more)


@pytest.mark.parametrize(
    ("instant", "settings"),
    [
        (datetime(9999, 12, 31, 23, tzinfo=UTC), {"timezone": "Asia/Tokyo"}),
        (datetime(1, 1, 1, 1, tzinfo=UTC), {"timezone": "America/New_York"}),
        (date(1, 1, 1), {"freq": "W", "week_start": "sunday"}),
    ],
)
def test_instants_stay_within_the_years(instant, settings):
    with pytest.raises(cl.errors.DataError, match="before 1900 or after 2200"):
        cl.termina.cohorts(frame([("a", instant, 1.0)]), **settings)


def test_wide_and_narrow_integers_are_the_same_users():
    rows = pl.DataFrame({"user_id": pl.Series([1, 2**70], dtype=pl.Int128), "timestamp": date(2026, 2, 1), "amount": 1})
    joined = pl.DataFrame({"user_id": [1], "joined": [date(2026, 1, 1)]})
    table = quietly(cl.termina.cohorts, rows, joined=joined)
    assert table.select("cohort", "cohort_size").unique(maintain_order=True).rows() == [("2026-01", 1), ("2026-02", 1)]


def test_clocks_that_go_back_over_midnight():
    """In St. John's 2006-10-29 began at 02:30 UTC, and ended a minute later, for an hour."""
    utc = [datetime(2006, 10, 29, 2, 30, 30, tzinfo=UTC), datetime(2006, 10, 29, 2, 45, tzinfo=UTC)]
    rows = [("a", utc[0], 1.0), ("b", utc[1], 1.0)]
    table = cl.termina.cohorts(frame(rows), freq="D", timezone="America/St_Johns")
    assert table.select("cohort", "period").rows() == [("2006-10-28", 0), ("2006-10-28", 1), ("2006-10-29", 0)]


@given(st.dates(date(1900, 1, 1), date(2100, 1, 1)), st.sampled_from("DWMQA"), st.sampled_from(naive.WEEKDAYS))
def test_the_trailing_year(day, freq, week_start):
    calendar = Calendar(freq, week_start)
    edge = calendar.ordinal(day)
    first = date.fromordinal(int(calendar.first_days(np.array([edge]))[0]) + EPOCH)
    try:
        back = first.replace(year=first.year - 1)
    except ValueError:
        back = date(first.year - 1, 2, 28)
    starts = [date.fromordinal(int(x) + EPOCH) for x in calendar.first_days(np.arange(edge - 400, edge + 1))]
    assert calendar.trailing_year(edge) == edge - sum(start > back for start in starts) + 1


def test_order_is_that_of_the_published_amounts():
    """Let the users' texts decide where units differ and the published floats do not."""
    units = {"b": 2**61 + 1, "a": 2**61, "c": 2**61 + 2}
    rows = [(user, date(2026, 1, 1), Decimal(count).scaleb(-6)) for user, count in units.items()]
    table = cl.termina.customer_cohorts(frame(rows, amount=pl.Decimal(38, 6)))
    assert table["user_id"].to_list() == ["a", "b", "c"]
    assert_same(table, naive.customer_cohorts(rows), CUSTOMERS)


def test_a_score_beyond_64_bits_does_not_wrap():
    rows = [("a", date(2026, 1, 1), Decimal(2**61).scaleb(-6)), ("b", date(2026, 1, 1), Decimal(2**62).scaleb(-6))]
    table = cl.termina.customer_cohorts(frame(rows, amount=pl.Decimal(38, 6)), top_n=1)
    assert table["user_id"].to_list() == ["b"]


@pytest.mark.parametrize("settings", [{}, {"start": "2026-02"}, {"basis": "cohort_total"}])
def test_top_n_counts_the_last_twelve_months_twice(settings):
    """Rank lately active customers above earlier ones of the same total."""
    rows = [
        ("old", date(2024, 6, 1), 100.0),  # 100 + 0
        ("new", date(2026, 2, 1), 60.0),  # 60 + 60
        ("edge", date(2025, 5, 31), 110.0),  # 110 + 0: May 2025 is a whole year before the edge
        ("in", date(2025, 6, 1), 56.0),  # 56 + 56
        ("tie", date(2026, 3, 1), 56.0),
        ("last", date(2026, 5, 2), 1.0),
    ]
    for top_n in range(1, 7):
        more = settings | {"top_n": top_n}
        table = cl.termina.customer_cohorts(frame(rows), **more)
        assert_same(table, naive.customer_cohorts(rows, **more), CUSTOMERS)
        if not settings and top_n == 2:
            assert set(table["user_id"]) == {"new", "in"}


def test_rank_by_an_expression_puts_nulls_last():
    rows = [(user, date(2026, month, 1), float(10 * user)) for user in (1, 2, 3) for month in range(1, 2 + user)]
    score = pl.when(pl.col("user_id") != "3").then(pl.col("ltv") / pl.col("active_periods"))
    for top_n, chosen in [(1, {"2"}), (2, {"2", "1"}), (3, {"1", "2", "3"})]:
        table = cl.termina.customer_cohorts(frame(rows), top_n=top_n, rank_by=score)
        assert set(table["user_id"]) == chosen


@given(cases(joined=("none",), poison=False))
def test_triangle_lays_the_table_out(case):
    try:
        table = case.ask("cohorts")
    except cl.errors.DataError:
        assume(False)
    if table.height == 0:
        return
    for value in ("active_users", "ltv"):
        laid_out = cl.triangle(table, value)
        ages = [str(age) for age in range(table["period"].max() + 1)]
        assert laid_out.columns == ["cohort", *ages]
        cells = {(row["cohort"], row["period"]): row[value] for row in table.rows(named=True)}
        assert laid_out["cohort"].to_list() == table["cohort"].unique(maintain_order=True).to_list()
        for row in laid_out.rows(named=True):
            assert [row[age] for age in ages] == [cells.get((row["cohort"], int(age))) for age in ages]
