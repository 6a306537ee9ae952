"""Adapty's door: every shape of events and installs gives the same canonical rows, every bad one a plain error."""

import datetime as dt
import gzip
import json
import math
from decimal import Decimal
from pathlib import Path
from zoneinfo import ZoneInfo

import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from polars.testing import assert_frame_equal

from cohortlib.adapty.read import readers, revenuecat
from cohortlib.adapty.read.counted import GRANTED
from cohortlib.adapty.read.events import read_events
from cohortlib.adapty.read.installs import read_installs
from cohortlib.adapty.read.settings import Reading
from cohortlib.adapty.read.specs import EVENT_COLUMNS
from cohortlib.errors import CohortlibWarning, DataError, SchemaError, SourceError

pytestmark = pytest.mark.unit

SAMPLES = Path(__file__).parent / "samples" / "adapty"
REASONS = [
    "blank_lines", "header_lines", "superseded", "sandbox", "other_events", "unknown_events", "family_shared",
    "granted", "upgraded", "void", "zero_payments", "nulls",
]  # fmt: skip
MONEY = ["revenue_usd", "proceeds_usd", "net_revenue_usd"]
REQUIRED = [
    "profile_id", "event_type", "event_datetime", "transaction_id", "original_transaction_id", "environment",
    "product_id", *MONEY,
]  # fmt: skip
OPTIONAL = [
    "consecutive_payments", "store", "base_plan_id", "store_country", "profile_country", "duration", "offer_category",
    "offer_type", "offer_id", "attribution_source", "attribution_status", "attribution_channel",
    "attribution_campaign", "attribution_ad_group", "attribution_ad_set", "attribution_creative",
]  # fmt: skip
NOON = dt.datetime(2026, 2, 10, 12, tzinfo=dt.UTC)


def read(source, **changed):
    asked = {"user_unit": "profile_id", "refund_upgraded": "zero", "nulls": "error"} | changed
    found = read_events(source, **asked)
    found.dropped.warn("the events")
    return found


def installs(source, **changed):
    found, dropped = read_installs(source, **({"user_unit": "profile_id", "nulls": "error"} | changed))
    dropped.warn("the installs")
    return found


def frame(rows=2, drop=(), **given):
    """Make an export of some plain payments; a keyword replaces or adds a column."""
    columns_ = {
        "profile_id": [f"u{i}" for i in range(rows)],
        "event_type": ["subscription_renewed"] * rows,
        "event_datetime": [NOON.replace(tzinfo=None)] * rows,
        "transaction_id": [f"t{i}" for i in range(rows)],
        "original_transaction_id": ["c"] * rows,
        "environment": ["Production"] * rows,
        "product_id": ["monthly"] * rows,
        "revenue_usd": [10.0] * rows,
        "proceeds_usd": [7.0] * rows,
        "net_revenue_usd": [6.5] * rows,
    } | given
    return pl.DataFrame({name: values for name, values in columns_.items() if name not in drop})


def fails(error, call, *args, **kwargs):
    with pytest.raises(error) as caught:
        call(*args, **kwargs)
    return str(caught.value)


def reasons(**counted):
    return dict.fromkeys(REASONS, 0) | counted


def written(path, text):
    path.write_text(text, encoding="utf-8")
    return str(path)


# --- frames ------------------------------------------------------------------------------------------------


def test_plain_frame():
    given = frame()
    events = read(given)
    assert events.frame.schema == {
        "user": pl.String,
        "event_datetime": pl.Datetime("us", "UTC"),
        "transaction_id": pl.String,
        "original_transaction_id": pl.String,
        "product_id": pl.String,
        **dict.fromkeys(MONEY, pl.Float64),
    }
    assert events.frame.rows()[1] == ("u1", NOON, "t1", "c", "monthly", 10.0, 7.0, 6.5)
    assert events.kind.to_list() == [3, 3]
    assert events.kind.dtype == pl.Int8
    assert events.report == {"rows": 2} | reasons()
    assert list(events.report) == ["rows", *REASONS]


def test_nothing_is_copied_that_needs_no_change():
    given = frame(1000, profile_id=list(range(1000)))
    got = read(given).frame
    for name, original in {"user": "profile_id", **{name: name for name in ["event_datetime", *MONEY]}}.items():
        ours, theirs = (column.to_physical().to_numpy() for column in (got[name], given[original]))
        assert ours.__array_interface__["data"][0] == theirs.__array_interface__["data"][0], name
    assert given.equals(frame(1000, profile_id=list(range(1000))))


KIND_CASES = [
    ("trial_started", 0),
    ("subscription_started", 1),
    ("subscription_initial_purchase", 1),
    ("trial_converted", 2),
    ("subscription_renewed", 3),
    ("non_subscription_purchase", 4),
    ("subscription_refunded", 5),
    ("non_subscription_purchase_refunded", 6),
    ("subscription_expired", -1),
    ("access_level_updated", -1),
    ("who_knows", -1),
    (None, -1),
]


@pytest.mark.parametrize("kind", [pl.String, pl.Categorical, "enum"])
def test_kinds(kind):
    names = [name for name, _ in KIND_CASES]
    kind = pl.Enum([name for name in names if name]) if kind == "enum" else kind
    events = read(frame(len(names), event_type=pl.Series(names, dtype=pl.String).cast(kind)))
    assert events.kind.to_list() == [number for _, number in KIND_CASES]
    assert events.report == {"rows": len(names)} | reasons(other_events=2, unknown_events=2)
    paid = [number > 0 for _, number in KIND_CASES]
    assert events.frame["revenue_usd"].to_list() == [10.0 if one else 0.0 for one in paid]
    assert events.frame["net_revenue_usd"].to_list() == [6.5 if one else 0.0 for one in paid]


@pytest.mark.parametrize("kind", [pl.String, pl.Categorical])
def test_environment_in_any_case(kind):
    said = pl.Series(["Production", "production", "PRODUCTION", "Sandbox", "sandbox", None, "", "Xcode"]).cast(kind)
    events = read(frame(8, environment=said))
    assert events.kind.to_list() == [3, 3, 3, *[-1] * 5]
    assert events.report == {"rows": 8} | reasons(sandbox=5)


def test_rows_left_out_for_one_reason_may_be_spared():
    rows = frame(
        5,
        environment=["Sandbox", "Production", "Production", "Sandbox", "Production"],
        ownership_type=[None, "FAMILY_SHARED", None, "FAMILY_SHARED", None],
        product_id=["monthly", "monthly", "adapty_promotion", "monthly", "monthly"],
    )
    assert read(rows).kind.to_list() == [-1, -1, -1, -1, 3]
    assert read(rows, keep=["sandbox"]).kind.to_list() == [3, -1, -1, -1, 3]
    assert read(rows, keep=["family_shared"]).kind.to_list() == [-1, 3, -1, -1, 3]
    assert read(rows, keep=["sandbox", "family_shared"]).kind.to_list() == [3, 3, -1, 3, 3]
    assert read(rows, keep=["granted"]).report == {"rows": 5} | reasons(sandbox=2, family_shared=1)


@pytest.mark.parametrize("name", ["ownership_type", "in_app_ownership_type"])
def test_family_shared(name):
    events = read(frame(4, **{name: ["FAMILY_SHARED", "PURCHASED", None, "family_shared"]}))
    assert events.kind.to_list() == [-1, 3, 3, -1]
    assert events.report == {"rows": 4} | reasons(family_shared=2)


def test_granted_products():
    events = read(frame(5, product_id=[*GRANTED, None, "adapty_promotion_2"]))
    assert events.kind.to_list() == [-1, -1, -1, 3, 3]
    assert events.report == {"rows": 5} | reasons(granted=3)


def test_refunds_for_an_upgrade():
    types = ["subscription_refunded", "non_subscription_purchase_refunded", "non_subscription_purchase"] * 2
    said = ["upgraded", "Upgraded", "upgraded", "refund", None, "upgraded"]
    given = frame(6, event_type=types, cancellation_reason=said)
    events = read(given)
    assert events.kind.to_list() == [-1, -1, 4, 5, 6, 4]
    assert events.report == {"rows": 6} | reasons(upgraded=2)
    events = read(given, refund_upgraded="negative")
    assert events.kind.to_list() == [5, 6, 4, 5, 6, 4]
    assert events.report == {"rows": 6} | reasons()


def test_the_first_reason_counts():
    given = frame(
        8,
        environment=["Sandbox", *["Production"] * 7],
        event_type=["x", "subscription_expired", "y", *["subscription_refunded"] * 5],
        ownership_type=["FAMILY_SHARED"] * 4 + ["PURCHASED"] * 4,
        product_id=["adapty_promotion"] * 5 + ["monthly"] * 3,
        cancellation_reason=["upgraded"] * 6 + [None] * 2,
        revenue_usd=[None] * 7 + [1.0],
    )
    with pytest.warns(CohortlibWarning, match="1 of 8 rows of the events dropped for nulls: 1 in column 'revenue_usd'"):
        events = read(given, nulls="drop")
    one_each = ("sandbox", "other_events", "unknown_events", "family_shared", "granted", "upgraded", "nulls")
    assert events.report == {"rows": 8} | reasons(**dict.fromkeys(one_each, 1))
    assert events.kind.to_list() == [*[-1] * 7, 5]
    assert events.frame.height == 8


@pytest.mark.parametrize("name", ["profile_id", "event_datetime", "revenue_usd"])
def test_nulls(name):
    given = frame(
        4, event_type=["subscription_renewed", "trial_started", "subscription_expired", "subscription_renewed"]
    )
    given = given.with_columns(pl.when(pl.int_range(4) < 3).then(None).otherwise(name).alias(name))
    count = 1 if name in MONEY else 2
    told = fails(DataError, read, given)
    assert f"{count} in column {name!r}" in told
    assert "nulls='drop'" in told
    with pytest.warns(CohortlibWarning, match=f"{count} of 4 rows .* {count} in column '{name}'"):
        events = read(given, nulls="drop")
    assert events.kind.to_list() == [-1, 0 if name in MONEY else -1, -1, 3]
    assert events.report == {"rows": 4} | reasons(other_events=1, nulls=count)
    assert events.frame["revenue_usd"].to_list() == [0.0, 0.0, 0.0, 10.0]


def test_one_row_with_two_nulls_is_one_row():
    given = frame(2, profile_id=[None, "u"], revenue_usd=[None, 1.0])
    told = fails(DataError, read, given)
    assert "1 in column 'profile_id', 1 in column 'revenue_usd'" in told
    with pytest.warns(CohortlibWarning, match="1 of 2 rows"):
        assert read(given, nulls="drop").report["nulls"] == 1


def test_nulls_in_other_columns_are_no_matter():
    none = pl.Series([None, None], dtype=pl.String)
    events = read(frame(transaction_id=none, original_transaction_id=none, product_id=none, profile_event_id=none))
    assert events.kind.to_list() == [3, 3]
    assert events.frame["transaction_id"].null_count() == 2


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("name", MONEY)
def test_wild_money(name, value):
    given = frame(3, event_type=["subscription_expired", "trial_started", "subscription_started"])
    free = given.with_columns(pl.Series(name, [value, value, 1.0]))
    assert read(free).frame[name].to_list() == [0.0, 0.0, 1.0]
    told = fails(DataError, read, given.with_columns(pl.Series(name, [1.0, 1.0, value])))
    assert f"column {name!r} is NaN or infinite in 1 rows" in told
    assert "row 2" in told


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (["10", " nothing"], pl.Decimal(38, 6)),
        (pl.Series([10, 5], dtype=pl.Int32), pl.Int32),
        (pl.Series([10, 5], dtype=pl.UInt64), pl.UInt64),
        (pl.Series([Decimal("10.00"), Decimal("1.25")]), pl.Decimal(38, 2)),
        (pl.Series([10.0, 5.0], dtype=pl.Float32), pl.Float64),
        (pl.Series(["10", "5"], dtype=pl.Categorical), pl.Decimal(38, 6)),
    ],
)
def test_money_of_every_type(values, kind):
    given = frame(2, revenue_usd=values, event_type=["subscription_started", "subscription_expired"])
    money = read(given).frame["revenue_usd"]
    assert money.to_list() == [10, 0]
    assert money.dtype == kind


def test_text_that_is_no_number():
    given = frame(4, revenue_usd=["1", "9,99", "abc", "x"], event_type=["subscription_started"] * 3 + ["trial_started"])
    told = fails(DataError, read, given)
    assert told == (
        "row 1: revenue_usd '9,99' is not a number (in 2 rows that count). Expected numbers such as 12.5. "
        "Hint: decimal=',' reads 1 of these 2"
    )
    assert read(given.with_columns(environment=pl.Series(["Production", *["Sandbox"] * 3]))).kind.to_list() == [
        3 - 2,
        -1,
        -1,
        -1,
    ]


# --- instants ----------------------------------------------------------------------------------------------

FORMS = {
    "2026-02-10T12:00:00.000000+0000": NOON,
    "2026-02-10T12:00:00.123456+0000": NOON.replace(microsecond=123456),
    "2026-02-10 12:00:00.123+00:00": NOON.replace(microsecond=123000),
    "2026-02-10T12:00:00.5Z": NOON.replace(microsecond=500000),
    "2026-02-10T12:00:00.123456789Z": NOON.replace(microsecond=123456),
    "2026-02-10T12:00:00Z": NOON,
    "2026-02-10 12:00:00Z": NOON,
    "2026-02-10T12:00:00": NOON,
    "2026-02-10 12:00:00": NOON,
    "2026-02-10 12:00:00.25": NOON.replace(microsecond=250000),
    "2026-02-10 12:00:00 UTC": NOON,
    "2026-02-10T14:00:00+02:00": NOON,
    "2026-02-10T06:30:00-0530": NOON,
    "2026-02-10T14:00:00+02": NOON,
    "2026-02-10T12:00": NOON,
    "2026-02-10 12:00Z": NOON,
}


@pytest.mark.parametrize("form", FORMS)
def test_text_instants_one_form(form):
    got = read(frame(event_datetime=[form, form])).frame["event_datetime"]
    assert got.dtype == pl.Datetime("us", "UTC")
    assert got.to_list() == [FORMS[form]] * 2


@pytest.mark.parametrize("first", FORMS)
def test_text_instants_mixed_forms(first):
    texts = [first, *FORMS]
    got = read(frame(len(texts), event_datetime=texts)).frame["event_datetime"]
    assert got.to_list() == [FORMS[text] for text in texts]


NO_INSTANTS = [
    "2026-02-30T00:00:00", "2026-02-10T24:00:00", "2026-13-01 00:00:00", "10/02/2026 12:00:00", "1770724800", "soon",
    "2026-02-10T12:00:00Zulu", "12:00:00",
]  # fmt: skip


@pytest.mark.parametrize("bad", NO_INSTANTS)
def test_text_that_is_no_instant(bad):
    good = "2026-02-10T12:00:00.000000+0000"
    given = frame(3, event_datetime=[good, bad, good])
    told = fails(DataError, read, given)
    assert f"row 1: event_datetime {bad!r} is not a date (in 1 row that counts). Expected ISO 8601" in told
    kind = read(given.with_columns(event_type=pl.Series(["trial_started", "x", "trial_started"]))).kind
    assert kind.to_list() == [0, -1, 0]


@pytest.mark.parametrize("name", ["install_date", "subscription_expires_at"])
def test_optional_instants(name):
    given = frame(4, **{name: ["2026-02-10T12:00:00Z", None, "", "2026-02-10 12:00:00"]})
    assert read(given).frame[name].to_list() == [NOON, None, None, NOON]
    told = fails(DataError, read, frame(2, **{name: ["2026-02-10T12:00:00Z", "never"]}))
    assert name in told
    assert "'never'" in told


def test_dates_stay_dates():
    day = dt.date(2026, 2, 10)
    for values in ([day, day], ["2026-02-10", "2026-02-10"]):
        got = read(frame(event_datetime=values, install_date=[None, "2026-02-10"])).frame
        assert got["event_datetime"].dtype == pl.Date
        assert got["event_datetime"].to_list() == [day, day]
        assert got["install_date"].to_list() == [None, day]
    assert "'2026-02-31'" in fails(DataError, read, frame(event_datetime=["2026-02-10", "2026-02-31"]))


def test_dates_among_instants_are_days_of_the_zone():
    for zone, offset in (("UTC", 0), ("America/New_York", 5), ("Asia/Kolkata", -5.5)):
        values = ["2026-02-10", "2026-02-11T12:00:00Z", "2026-02-10T12:00:00", "2026-02-10T12:00:00+02:00", None]
        got = read(frame(5, event_datetime=values, event_type="x"), reading=Reading(zone=zone)).frame["event_datetime"]
        midnight = dt.datetime(2026, 2, 10, tzinfo=dt.UTC) + dt.timedelta(hours=offset)
        later = NOON + dt.timedelta(days=1)
        assert got.to_list() == [midnight, later, NOON, NOON - dt.timedelta(hours=2), None]


def test_years_that_cannot_be_right():
    for name in ("event_datetime", "install_date"):
        for value in ("1899-12-31T23:59:59Z", dt.date(1899, 12, 31)):
            told = fails(DataError, read, frame(1, **{name: [value]}))
            assert f"{name} '1899-12-31" in told
            assert "before 1900 or after 2200" in told
        late = frame(1, **{name: ["9999-12-31"]})
        assert "after 2200" in fails(DataError, read, late)
        assert read(late, reading=Reading(last_day=20_000)).kind.to_list() == [3]
    assert read(frame(1, subscription_expires_at=["9999-12-31"])).kind.to_list() == [3]


@pytest.mark.parametrize("unit", ["ms", "us", "ns"])
def test_datetimes_of_any_unit_and_zone(unit):
    naive = pl.Series([NOON.replace(tzinfo=None)] * 2, dtype=pl.Datetime(unit))
    berlin = pl.Series([NOON.astimezone(ZoneInfo("Europe/Berlin"))] * 2, dtype=pl.Datetime(unit, "Europe/Berlin"))
    for given in (naive, naive.dt.replace_time_zone("UTC"), berlin):
        got = read(frame(event_datetime=given)).frame["event_datetime"]
        assert got.dtype == pl.Datetime(unit, "UTC")
        assert got.to_list() == [NOON, NOON]


# --- ids and text ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "kind", "got"),
    [
        (pl.Series([7, 8], dtype=pl.Int64), pl.Int64, [7, 8]),
        (pl.Series([7, 8], dtype=pl.UInt64), pl.UInt64, [7, 8]),
        (pl.Series([7, 8], dtype=pl.Int16), pl.Int64, [7, 8]),
        (pl.Series([Decimal(7), Decimal(8)]), pl.Int64, [7, 8]),
        (pl.Series([Decimal(7), Decimal(10**30)]), pl.String, ["7", str(10**30)]),
        (pl.Series(["007", "8"], dtype=pl.Categorical), pl.String, ["007", "8"]),
        (pl.Series(["007", "8"], dtype=pl.Enum(["8", "007"])), pl.String, ["007", "8"]),
    ],
)
def test_users(values, kind, got):
    user = read(frame(profile_id=values)).frame["user"]
    assert user.dtype == kind
    assert user.to_list() == got


def test_user_units():
    given = frame(customer_user_id=["ann", None])
    assert "1 in column 'customer_user_id'" in fails(DataError, read, given, user_unit="customer_user_id")
    with pytest.warns(CohortlibWarning):
        assert read(given, user_unit="customer_user_id", nulls="drop").frame["user"].to_list() == ["ann", None]
    assert "'customer_user_id' missing" in fails(SchemaError, read, frame(), user_unit="customer_user_id")
    assert "'device_id' missing" in fails(SchemaError, read, frame(), user_unit="device_id")


def test_device_ids():
    zero = "00000000-0000-0000-0000-000000000000"
    given = frame(
        6,
        drop=["profile_id"],
        idfv=["v", "", None, None, None, zero],
        android_app_set_id=["s", "s", "", None, None, None],
        android_id=["a", "a", "a", None, None, None],
        idfa=["i", "i", "i", zero, "i", "i"],
        advertising_id=["g"] * 6,
    )
    assert read(given, user_unit="device_id").frame["user"].to_list() == ["v", "s", "a", "g", "i", "i"]
    assert read(given.select(pl.exclude("idfv")), user_unit="device_id").frame["user"].to_list()[0] == "s"
    own = given.with_columns(device_id=pl.Series(["d1", "d2", "d3", "d4", "d5", None]))
    assert "1 in column 'device_id'" in fails(DataError, read, own, user_unit="device_id")


def test_device_ids_that_are_numbers():
    assert read(frame(device_id=[7, 8]), user_unit="device_id").frame["user"].to_list() == [7, 8]


def test_empty_strings_are_nulls():
    names = ["transaction_id", "original_transaction_id", "product_id", "profile_event_id", *OPTIONAL[1:]]
    given = frame(2, **{name: ["", "x"] for name in names})
    got = read(given, optional=OPTIONAL).frame
    assert got.select(names).rows() == [(None,) * len(names), ("x",) * len(names)]
    for name in ("profile_id", "event_datetime", "revenue_usd"):
        kept = "u" if name == "profile_id" else "2026-02-10T12:00:00Z" if name == "event_datetime" else "1"
        assert f"1 in column {name!r}" in fails(DataError, read, frame(**{name: ["", kept]}))
    events = read(frame(event_type=["", "trial_started"], environment=["Production"] * 2))
    assert events.report == {"rows": 2} | reasons(unknown_events=1)


def test_ids_may_be_integers():
    given = frame(transaction_id=[1, 2], original_transaction_id=[1, None], product_id=[5, 5])
    got = read(given).frame
    assert got["transaction_id"].to_list() == ["1", "2"]
    assert got["original_transaction_id"].to_list() == ["1", None]


def test_optional_columns_only_where_wanted():
    given = frame(**{name: ["1", "2"] for name in OPTIONAL}, install_date=[NOON] * 2, paywall_name=["a", "b"])
    assert not set(read(given).frame.columns) & set(OPTIONAL)
    got = read(given, optional={"store", "consecutive_payments", "duration"}).frame
    assert set(got.columns) & set(OPTIONAL) == {"store", "consecutive_payments", "duration"}
    assert got["consecutive_payments"].to_list() == [1, 2]
    assert set(read(given, optional=OPTIONAL).frame.columns) >= set(OPTIONAL)
    assert set(read(frame(), optional=OPTIONAL).frame.columns) & set(OPTIONAL) == set()


@pytest.mark.parametrize("values", [[1, None], ["1", ""], [1.0, None], pl.Series([1, None], dtype=pl.UInt8)])
def test_consecutive_payments(values):
    got = read(frame(consecutive_payments=values), optional={"consecutive_payments"}).frame["consecutive_payments"]
    assert got.dtype == pl.Int64
    assert got.to_list() == [1, None]


@pytest.mark.parametrize("bad", ["one", "1.5"])
def test_consecutive_payments_that_are_no_numbers(bad):
    given = frame(consecutive_payments=["1", bad])
    told = fails(DataError, read, given, optional={"consecutive_payments"})
    assert f"row 1: consecutive_payments {bad!r} is not a whole number" in told
    for free in ("trial_started", "non_subscription_purchase", "subscription_refunded"):
        changed = given.with_columns(event_type=pl.Series(["subscription_started", free]))
        assert read(changed, optional={"consecutive_payments"}).frame["consecutive_payments"].to_list() == [1, None]


# --- names -------------------------------------------------------------------------------------------------


ALIASES = {name: spec.aliases for name, spec in EVENT_COLUMNS.items() if spec.reader is not None}


@pytest.mark.parametrize(("name", "alias"), [(name, alias) for name, names in ALIASES.items() for alias in names])
def test_aliases(name, alias):
    instants = ("event_datetime", "install_date")
    values = [NOON] * 2 if name in instants else [3.0, 4.0] if name in MONEY else ["x", "y"]
    given = frame(drop=[name], **{alias: values})
    assert read(given, optional={name}).frame[name].to_list() == values
    both = given.with_columns(pl.Series(name, [None, values[1]], dtype=given[alias].dtype))
    if name in ("event_datetime", *MONEY):
        assert f"1 in column {name!r}" in fails(DataError, read, both)
    else:
        assert read(both, optional={name}).frame[name].to_list() == [None, values[1]]


def test_every_alias_of_the_contract_is_known():
    known = {
        "profile_install_datetime", "vendor_product_id", "price_usd", "purchase_date", "profile_county",
        "store_offer_category", "store_offer_discount_type", "promotional_offer_id",
    }  # fmt: skip
    assert known <= {alias for names in ALIASES.values() for alias in names}


def test_the_source_s_own_name_is_told():
    told = fails(DataError, read, frame(drop=["revenue_usd"], price_usd=[None, 1.0]))
    assert "1 in column 'price_usd'" in told


@pytest.mark.parametrize("name", REQUIRED)
def test_a_missing_column(name):
    told = fails(SchemaError, read, frame(drop=[name]))
    assert told.startswith(f"column {name!r} missing from the table")
    there = next(other for other in REQUIRED if other != name)
    assert f"'{there}'" in told
    assert "Hint" in told
    told = fails(SchemaError, read, frame().rename({name: name.upper().replace("_", "")}))
    assert f"rename {name.upper().replace('_', '')!r} to {name!r}" in told


def test_all_missing_columns_are_named():
    told = fails(SchemaError, read, frame(drop=["event_type", *MONEY]))
    assert "columns 'event_type', 'revenue_usd', 'proceeds_usd', 'net_revenue_usd' missing" in told
    told = fails(SchemaError, read, pl.DataFrame({"a": [1]}))
    assert all(repr(name) in told for name in REQUIRED)


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("profile_id", [1.5, 2.0]),
        ("profile_id", [True, False]),
        ("profile_id", [["a"], ["b"]]),
        ("event_type", [1, 2]),
        ("environment", [True, False]),
        ("event_datetime", [1770724800, 1770724800]),
        ("event_datetime", [1.5, 1.5]),
        ("event_datetime", [dt.time(1), dt.time(2)]),
        ("transaction_id", [1e15, None]),
        ("original_transaction_id", [True, False]),
        ("product_id", [NOON, NOON]),
        ("revenue_usd", [True, False]),
        ("proceeds_usd", [NOON, NOON]),
        ("net_revenue_usd", [[1.0], [2.0]]),
        ("install_date", [20260210, 20260210]),
        ("subscription_expires_at", [True, True]),
        ("profile_event_id", [1.5, 2.5]),
        ("cancellation_reason", [1, 2]),
        ("ownership_type", [1, 2]),
        ("store", [True, False]),
        ("consecutive_payments", [True, False]),
    ],
)
def test_wrong_types(name, values):
    given = frame(**{name: values})
    told = fails(SchemaError, read, given, optional={"store", "consecutive_payments"})
    assert f"column {name!r} is {given[name].dtype}" in told
    assert "Expected" in told


def test_no_table():
    assert "list is not a table" in fails(SchemaError, read, [1, 2])


# --- empty and null ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["typed", "null"])
def test_empty(kind):
    given = frame(1, install_date=[NOON], profile_event_id=["e"], store=["s"], consecutive_payments=[1]).head(0)
    if kind == "null":
        given = pl.DataFrame(schema=dict.fromkeys(given.columns, pl.Null))
    events = read(given, optional={"store", "consecutive_payments"})
    assert events.report == {"rows": 0} | reasons()
    assert events.kind.dtype == pl.Int8
    assert len(events.kind) == 0
    assert events.frame.schema == {
        "user": pl.String,
        "event_datetime": pl.Datetime("us", "UTC"),
        **dict.fromkeys(["transaction_id", "original_transaction_id", "product_id"], pl.String),
        **dict.fromkeys(MONEY, pl.Float64),
        "install_date": pl.Datetime("us", "UTC"),
        "profile_event_id": pl.String,
        "consecutive_payments": pl.Int64,
        "store": pl.String,
    }


def test_columns_of_nulls():
    none = pl.Series([None, None], dtype=pl.Null)
    events = read(frame(event_type=none))
    assert events.report == {"rows": 2} | reasons(unknown_events=2)
    assert read(frame(environment=none)).report == {"rows": 2} | reasons(sandbox=2)
    assert "2 in column 'revenue_usd'" in fails(DataError, read, frame(revenue_usd=none))
    assert "2 in column 'event_datetime'" in fails(DataError, read, frame(event_datetime=none))
    trial = frame(event_type=["trial_started"] * 2, **dict.fromkeys(MONEY, none), cancellation_reason=none, store=none)
    events = read(trial, optional={"store"})
    assert events.kind.to_list() == [0, 0]
    assert events.frame.select(MONEY).rows() == [(0.0, 0.0, 0.0)] * 2


# --- other kinds of frames ---------------------------------------------------------------------------------

EVERYTHING = frame(
    3,
    install_date=[NOON, None, NOON],
    cancellation_reason=[None, "upgraded", "refund"],
    event_type=["subscription_started", "subscription_refunded", "trial_started"],
    store=["app_store", None, "play_store"],
    revenue_usd=[10.0, 5.0, None],
)
FRAMES = {
    "lazy": lambda rows: rows.lazy(),
    "pandas": lambda rows: rows.to_pandas(),
    "pandas, Arrow types": lambda rows: rows.to_pandas(use_pyarrow_extension_array=True),
    "pandas, categories": lambda rows: rows.to_pandas().astype({"event_type": "category", "environment": "category"}),
    "pyarrow": lambda rows: rows.to_arrow(),
    "pyarrow, dictionaries": lambda rows: pa.table(
        {name: rows[name].to_arrow().cast(pa.large_string()).dictionary_encode() if name in ("event_type", "store",
         "environment", "product_id") else rows[name].to_arrow() for name in rows.columns}
    ),
    "pyarrow reader": lambda rows: rows.to_arrow().to_reader(max_chunksize=1),
    "categoricals": lambda rows: rows.with_columns(pl.col(pl.String).cast(pl.Categorical)),
    "chunks": lambda rows: pl.concat([rows[:1], rows[1:]], rechunk=False),
}  # fmt: skip


@pytest.mark.parametrize("kind", FRAMES)
def test_kinds_of_frames(kind):
    expected = read(EVERYTHING, optional={"store"})
    assert expected.kind.to_list() == [1, -1, 0]
    events = read(FRAMES[kind](EVERYTHING), optional={"store"})
    assert_frame_equal(events.frame, expected.frame)
    assert events.kind.to_list() == expected.kind.to_list()
    assert events.report == expected.report


def test_pandas_dates_and_numbers():
    table = pd.DataFrame(frame().to_dict(as_series=False))
    table["profile_id"] = [1, 2]
    table["event_datetime"] = pd.to_datetime(["2026-02-10 13:00", "2026-02-10 13:00"]).tz_localize("Europe/Berlin")
    got = read(table).frame
    assert got["user"].dtype == pl.Int64
    assert got["event_datetime"].to_list() == [NOON, NOON]


def test_a_failing_lazy_frame():
    lazy = frame().lazy().with_columns(revenue_usd=pl.col("product_id").cast(pl.Int64))
    assert "cannot be read" in fails(SourceError, read, lazy)


# --- files -------------------------------------------------------------------------------------------------

DAILY = str(SAMPLES / "events_*.csv")


def test_daily_files_with_other_headers():
    events = read(DAILY, optional=OPTIONAL)
    got = events.frame
    assert events.kind.to_list() == [0, 2, 1, -1, 3, -1, -1, -1]
    assert got["net_revenue_usd"][2] is None
    assert events.report == {"rows": 8} | reasons(sandbox=1, other_events=1, unknown_events=1, upgraded=1)
    assert got["user"].to_list() == ["007", "007", "8", "9", *["007"] * 4]
    assert got["event_datetime"][2] == dt.datetime(2026, 2, 10, 23, 30, 0, 125000, tzinfo=dt.UTC)
    assert got["event_datetime"].to_list()[4:] == [
        *(dt.datetime(2026, 2, 11, h, tzinfo=dt.UTC) for h in range(3)),
        None,
    ]
    assert [*map(float, got["revenue_usd"])] == [0.0, 10.0, 9.99, 0.0, 10.0, 0.0, 0.0, 0.0]
    assert got["profile_country"].to_list() == ["US", "US", "DE", *[None] * 5]
    assert got["store_country"].to_list() == ["us", "us", "de", *[None] * 5]
    assert got["offer_category"].to_list() == [*[None] * 4, "promotional", *[None] * 3]
    assert got["consecutive_payments"].to_list() == [*[None] * 4, 2, *[None] * 3]
    assert got["install_date"].to_list()[:2] == [dt.datetime(2026, 2, 3, 8, 55, tzinfo=dt.UTC)] * 2
    assert got["attribution_campaign"].to_list()[:3] == ["Brand", "Brand", None]
    assert got["product_id"].to_list() == [*["com.example.monthly"] * 7, None]
    assert "1 in column 'net_revenue_usd'" in fails(DataError, read, DAILY, missing_money="error")


@pytest.mark.parametrize("kind", [".csv.gz", ".csv.zst", ".parquet", ".CSV"])
def test_kinds_of_files(tmp_path, kind):
    first = SAMPLES / "events_2026-02-11.csv"
    path = tmp_path / f"events{kind}"
    if kind == ".csv.gz":
        path.write_bytes(gzip.compress(first.read_bytes()))
    elif kind == ".csv.zst":
        pl.read_csv(first, infer_schema=False).write_csv(path, compression="zstd")
    elif kind == ".parquet":
        pl.read_csv(first, infer_schema=False).write_parquet(path)
    else:
        path.write_bytes(first.read_bytes())
    expected, events = read(first), read(path)
    assert_frame_equal(events.frame, expected.frame)
    assert events.report == expected.report


def test_parquet_files_of_other_types(tmp_path):
    one = frame(event_datetime=pl.Series([NOON] * 2, dtype=pl.Datetime("ns", "UTC")), revenue_usd=[1, 2])
    two = frame(event_datetime=["2026-02-10T12:00:00Z"] * 2, revenue_usd=["1.5", "2"], install_date=[NOON] * 2)
    three = frame(event_type=["x"] * 2, event_datetime=pl.Series([None] * 2, dtype=pl.Null))
    for name, table in {"a": one, "b": two, "c": three}.items():
        table.write_parquet(tmp_path / f"{name}.parquet")
    got = read(str(tmp_path / "*.parquet")).frame
    assert got["event_datetime"].to_list() == [NOON] * 4 + [None] * 2
    assert got["revenue_usd"].to_list() == [1.0, 2.0, 1.5, 2.0, 0.0, 0.0]
    assert got["install_date"].to_list() == [None, None, NOON, NOON, None, None]
    one.with_columns(revenue_usd=pl.Series([5, 6], dtype=pl.Int8)).write_parquet(tmp_path / "b.parquet")
    assert read(str(tmp_path / "[ab].parquet")).frame["revenue_usd"].to_list() == [1, 2, 5, 6]
    frame(event_datetime=[dt.date(2026, 2, 10)] * 2).write_parquet(tmp_path / "d.parquet")
    got = read(str(tmp_path / "*.parquet"), reading=Reading(zone="America/New_York")).frame["event_datetime"]
    assert got.to_list()[-2:] == [dt.datetime(2026, 2, 10, 5, tzinfo=dt.UTC)] * 2
    (tmp_path / "d.parquet").unlink()
    frame(profile_id=[1, 2]).write_parquet(tmp_path / "d.parquet")
    assert "'user'" in fails(SchemaError, read, str(tmp_path / "*.parquet"))


def test_files_of_other_resolutions(tmp_path):
    fine = NOON.replace(microsecond=1)
    for name, unit, at in (("a", "ms", NOON), ("b", "us", fine), ("c", "ns", fine)):
        table = frame(event_datetime=pl.Series([at] * 2, dtype=pl.Datetime(unit, "UTC")))
        table.write_parquet(tmp_path / f"{name}.parquet")
    got = read(str(tmp_path / "*.parquet")).frame["event_datetime"]
    assert got.to_list() == [NOON] * 2 + [fine] * 4


def test_a_file_without_a_value_has_no_say(tmp_path):
    day = dt.date(2026, 2, 10)
    frame(install_date=["", ""]).write_csv(tmp_path / "1.csv")
    frame(install_date=[day, day]).write_csv(tmp_path / "2.csv")
    got = read(str(tmp_path / "*.csv")).frame["install_date"]
    assert got.to_list() == [None, None, day, day]


def test_a_file_without_a_column_is_named(tmp_path):
    frame().write_csv(tmp_path / "1.csv")
    frame(drop=["environment"]).write_csv(tmp_path / "2.csv")
    told = fails(SchemaError, read, str(tmp_path / "*.csv"))
    assert "'environment' missing from" in told
    assert "2.csv" in told


def test_a_header_alone(tmp_path):
    path = written(tmp_path / "e.csv", ",".join(REQUIRED) + "\n")
    events = read(path)
    assert events.report == {"rows": 0} | reasons()
    assert events.frame["event_datetime"].dtype == pl.Datetime("us", "UTC")
    frame().write_csv(tmp_path / "f.csv")
    assert read(str(tmp_path / "*.csv")).kind.to_list() == [3, 3]


def test_files_that_cannot_be_read(tmp_path):
    assert "no file matches" in fails(SourceError, read, str(tmp_path / "*.csv"))
    assert "there is no file" in fails(SourceError, read, tmp_path / "events.csv")
    assert "is empty" in fails(SourceError, read, written(tmp_path / "empty.csv", ""))
    said = fails(SourceError, read, written(tmp_path / "events.xlsx", "x"))
    assert "cannot be read" in said or "needs the package python-calamine" in said  # without the extra excel
    assert "by its name" in fails(SourceError, read, written(tmp_path / "events.txt", "[]"))
    assert "cannot be read" in fails(SourceError, read, written(tmp_path / "no.parquet", "text"))
    ragged = written(tmp_path / "ragged.csv", ",".join(REQUIRED) + "\n" + "1," * 20 + "\n")
    assert "ragged.csv, line 2 has 21 fields, the header 10" in fails(SourceError, read, ragged)
    (tmp_path / "folder.csv").mkdir()
    assert "folder.csv" in fails(SourceError, read, tmp_path / "folder.csv")


# --- JSON lines --------------------------------------------------------------------------------------------


def line(**changed):
    fields = frame(1, event_datetime=["2026-02-10T12:00:00Z"]).row(0, named=True) | changed
    return {name: value for name, value in fields.items() if value is not ...}


def lines(path, *rows):
    return written(path, "".join(json.dumps(row) + "\n" for row in rows))


def test_webhook_lines_nested_and_flat():
    events = read(SAMPLES / "webhook.jsonl", optional=OPTIONAL)
    assert events.kind.to_list() == [1, 4, -1]
    assert events.report == {"rows": 3} | reasons(other_events=1)
    got = events.frame.select(name for name in events.frame.columns if "@" not in name).row(0, named=True)
    assert got == {
        "user": "p-1",
        "event_datetime": dt.datetime(2026, 2, 10, 10, 45, 36, 181000, tzinfo=dt.UTC),
        "transaction_id": "1000000123456789",
        "original_transaction_id": "1000000123456789",
        "product_id": "onemonth",
        "revenue_usd": Decimal("4.99"),
        "proceeds_usd": Decimal("4.2415"),
        "net_revenue_usd": Decimal("4.0"),
        "install_date": dt.datetime(2026, 2, 3, 8, 55, tzinfo=dt.UTC),
        "subscription_expires_at": dt.datetime(2026, 3, 10, 10, 45, 36, 181000, tzinfo=dt.UTC),
        "profile_event_id": "ev-1",
        "consecutive_payments": 1,
        "store": "play_store",
        "base_plan_id": "b1",
        "store_country": "AR",
        "profile_country": "BR",
        "offer_category": "introductory",
        "offer_type": "pay_up_front",
        "offer_id": "spring",
        "attribution_source": "appsflyer",
        "attribution_status": "non_organic",
        "attribution_channel": "Search",
        "attribution_campaign": 'Brand "A"',
        "attribution_ad_set": "set 1",
    }
    second = events.frame.row(1, named=True)
    assert (second["user"], second["product_id"], second["revenue_usd"]) == ("p-2", "coins", 2.5)
    assert second["attribution_source"] is None
    with pytest.warns(CohortlibWarning):
        other = read(SAMPLES / "webhook.jsonl", user_unit="customer_user_id", nulls="drop")
    assert other.frame["user"].to_list() == ["ann", None, None]
    with pytest.warns(CohortlibWarning):
        other = read(SAMPLES / "webhook.jsonl", user_unit="device_id", nulls="drop")
    assert other.frame["user"].to_list() == ["IDFV-1", None, None]


@pytest.mark.parametrize("kind", ["ndjson", "jsonl.gz", "ndjson.gz"])
def test_kinds_of_lines(tmp_path, kind):
    text = (SAMPLES / "webhook.jsonl").read_bytes()
    path = tmp_path / f"webhook.{kind}"
    path.write_bytes(gzip.compress(text) if kind.endswith("gz") else text)
    assert_frame_equal(read(path).frame, read(SAMPLES / "webhook.jsonl").frame)


def test_several_files_of_lines(tmp_path):
    lines(tmp_path / "a.jsonl", line(profile_id=7), line(price_usd="3", revenue_usd=...))
    lines(tmp_path / "b.jsonl", {"event_properties": line(profile_id="007")})
    written(tmp_path / "c.jsonl", "\n\n")
    got = read(str(tmp_path / "*.jsonl")).frame
    assert got["user"].to_list() == ["7", "u0", "007"]
    assert got["revenue_usd"].to_list() == [10.0, 3.0, 10.0]


def test_the_line_wins_over_what_is_nested(tmp_path):
    nested = {"profile_id": "in", "product_id": "inside", "transaction_id": "t-in"}
    path = lines(tmp_path / "a.jsonl", line(product_id=None, event_properties=nested))
    got = read(path).frame.row(0, named=True)
    assert (got["user"], got["product_id"], got["transaction_id"]) == ("u0", "inside", "t0")


def test_lines_without_money(tmp_path):
    trial = line(event_type="trial_started", **dict.fromkeys(MONEY, ...))
    assert read(lines(tmp_path / "a.jsonl", trial)).frame.select(MONEY).row(0) == (0.0, 0.0, 0.0)
    paid = line(revenue_usd=...)
    assert "1 in column 'revenue_usd'" in fails(DataError, read, lines(tmp_path / "b.jsonl", paid))


def test_lines_without_a_field(tmp_path):
    told = fails(SchemaError, read, lines(tmp_path / "a.jsonl", line(environment=...), line(environment=None)))
    assert "'environment' missing from" in told
    assert read(written(tmp_path / "b.jsonl", "")).report == {"rows": 0} | reasons()


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        ('{"profile_id": ', "is broken"),
        ("hello", "is broken"),
        ("[1, 2]", "is a list"),
        ("5", "is a int"),
        ('{"profile_id": "a"} trailing', "is broken"),
        ('{"event_properties": 5}', "has event_properties that are a int"),
        ('{"event_properties": "text"}', "has event_properties that are a str"),
    ],
)
@pytest.mark.parametrize("packed", [False, True])
def test_a_broken_line_is_named(tmp_path, bad, said, packed):
    text = "\n".join([json.dumps(line()), "", bad, json.dumps(line())])
    path = tmp_path / ("a.jsonl.gz" if packed else "a.jsonl")
    path.write_bytes(gzip.compress(text.encode()) if packed else text.encode())
    assert f"{path}, line 3 {said}" in fails(SourceError, read, path)


def test_lines_that_cannot_be_unpacked(tmp_path):
    path = tmp_path / "a.jsonl.zst"
    path.write_bytes(b"\x28\xb5\x2f\xfd no archive")
    assert "a.jsonl.zst' cannot be read" in fails(SourceError, read, path)


def test_a_broken_archive(tmp_path):
    path = tmp_path / "a.jsonl.gz"
    path.write_bytes(gzip.compress((json.dumps(line()) + "\n").encode() * 1000)[:60])
    assert "a.jsonl.gz" in fails(SourceError, read, path)


def test_attributions_in_other_shapes(tmp_path):
    optional = {"attribution_source", "attribution_status"}
    shapes = [None, {}, {"a": {}}, {"b": {"status": "organic"}, "a": {"status": "x"}}, {"a": {"status": "y", "new": 1}}]
    path = lines(tmp_path / "a.jsonl", *(line(attributions=shape) for shape in shapes))
    got = read(path, optional=optional).frame
    assert got["attribution_source"].to_list() == [None, None, "a", "b", "a"]
    assert got["attribution_status"].to_list() == [None, None, None, "organic", "y"]
    top = line(attribution_source="own", attributions={"a": {"status": "y"}})
    got = read(lines(tmp_path / "b.jsonl", top), optional=optional).frame
    assert got.select("attribution_source", "attribution_status").row(0) == ("own", "y")
    odd = line(attributions={"a": {"status": "y"}}), line(attributions={"b": {"status": "z"}, "a": "text"})
    assert set(read(lines(tmp_path / "c.jsonl", *odd), optional=optional).frame.columns) & optional in (set(), optional)


# --- RevenueCat --------------------------------------------------------------------------------------------

RC = SAMPLES / "revenuecat.csv"


def utc(day, hour=0, month=2):
    return dt.datetime(2026, month, day, hour, tzinfo=dt.UTC)


def rc(**changed):
    """Read the sample with some columns changed, as text."""
    return pl.read_csv(RC, infer_schema=False).with_columns(**changed)


def test_revenuecat():
    events = read(RC, optional=OPTIONAL)
    got = events.frame
    assert events.report == {"rows": 11} | reasons(sandbox=1, family_shared=1, granted=1)
    assert events.kind.to_list() == [0, 2, 3, 1, 4, -1, -1, -1, 1, 3, 1, 5, 5, 6]
    ids = ["t1", "t2", "t3", "o1", "o2", "f1", "s1", "p1", "sub_1", "sub_1", "u1", "t3", "o1", "o2"]
    numbers = [*rc()["renewal_number"], rc()["renewal_number"][2], *rc()["renewal_number"][3:5]]
    assert got["transaction_id"].to_list() == [f"{one}:{number}" for one, number in zip(ids, numbers, strict=True)]
    chains = ["t1", "t1", "t1", "o1", "o2", "f1", "s1", "p1", "sub_1", "sub_1", None, "t1", "o1", "o2"]
    assert got["original_transaction_id"].to_list() == [*chains[:10], "u1", *chains[11:]]
    assert got["user"].to_list() == [f"$RCAnonymousID:{i}" for i in (1, 1, 1, 2, 2, 3, 4, 5, 6, 6, 7, 1, 2, 2)]
    assert got["revenue_usd"].to_list() == [0, 10, 10, 60, 5, 0, 0, 0, 3, 3, 10, 4, 60, 5]
    assert got["proceeds_usd"].round(9).to_list() == [0, 7, 7, 60, 4.25, 0, 0, 0, 2.85, 2.85, 7, 2.8, 60, 4.25]
    assert got["net_revenue_usd"].round(9).to_list() == [0, 6, 6, 60, 3.25, 0, 0, 0, 2.85, 2.85, 7, 2.4, 60, 3.25]
    assert got["event_datetime"].to_list()[:3] == [utc(3, 8), utc(10, 8), utc(10, 8, 3)]
    assert got["event_datetime"].to_list()[11:] == [utc(20, 12, 3), utc(6), utc(8)]
    assert got["install_date"].to_list()[:4] == [utc(1, 3)] * 3 + [utc(5)]
    assert got["subscription_expires_at"].to_list()[:3] == [utc(10, 8), utc(12, 8, 3), utc(10, 8, 4)]
    assert got["duration"].to_list()[:5] == ["Monthly", "Monthly", "Monthly", "Annual", "Uncategorized"]
    assert got["store_country"].to_list()[:4] == ["US", "US", "US", "DE"]
    assert got["offer_id"].to_list()[3] == "black_friday"
    assert got["store"].to_list()[7:9] == ["promotional", "stripe"]
    assert got["product_id"].to_list()[:1] == ["monthly"]
    assert read(RC, user_unit="customer_user_id").frame["user"].to_list()[:4] == ["ann", "ann", "ann", "bob"]
    assert "'device_id' missing" in fails(SchemaError, read, RC, user_unit="device_id")


def test_revenuecat_in_types(tmp_path):
    typed = pl.read_csv(RC, try_parse_dates=True, infer_schema_length=None)
    assert typed["is_sandbox"].dtype == pl.Boolean
    assert typed["refunded_at"].dtype == pl.Datetime("us")
    expected = read(RC)
    typed.write_parquet(tmp_path / "rc.parquet")
    for source in (typed, typed.lazy(), tmp_path / "rc.parquet"):
        events = read(source)
        assert_frame_equal(events.frame, expected.frame, check_dtypes=False)
        assert events.kind.to_list() == expected.kind.to_list()
    old = rc(is_sandbox=pl.col("is_sandbox").str.slice(0, 1), is_trial_period=pl.col("is_trial_period").str.slice(0, 1))
    assert read(old).kind.to_list() == expected.kind.to_list()


@pytest.mark.parametrize(
    ("iso", "duration"),
    [
        ("P7D", "Weekly"), ("P1W", "Weekly"), ("P1M", "Monthly"), ("P2M", "2 months"), ("P3M", "3 months"),
        ("P6M", "6 months"), ("P1Y", "Annual"), ("P12M", "Annual"), ("P3D", "Uncategorized"), ("", "Uncategorized"),
    ],
)  # fmt: skip
def test_revenuecat_durations(iso, duration):
    events = read(rc(product_duration=pl.lit(iso)))
    assert events.frame["duration"].unique().to_list() == [duration]
    assert events.kind.to_list() == read(rc()).kind.to_list()


def test_revenuecat_without_a_price():
    unknown = pl.when(pl.col("store_transaction_id") == "t2").then(None).otherwise
    told = fails(DataError, read, rc(purchase_price_in_usd=unknown("purchase_price_in_usd")))
    assert "1 in column 'purchase_price_in_usd'" in told
    left = pl.when(pl.col("store_transaction_id") == "o1").then(None).otherwise("price_in_usd")
    told = fails(DataError, read, rc(price_in_usd=left))
    assert "1 in column 'price_in_usd'" in told
    with pytest.warns(CohortlibWarning, match="1 in column 'price_in_usd'"):
        events = read(rc(price_in_usd=left), nulls="drop")
    assert events.kind.to_list()[-3:] == [5, -1, 6]
    assert events.report["nulls"] == 1
    assert events.frame["revenue_usd"].to_list()[-2] == 0


def test_revenuecat_without_its_optional_columns():
    names = ["first_seen_time", "effective_end_time", "end_time", "ownership_type", "country", "offer"]
    got = read(rc().drop(names), optional=OPTIONAL)
    assert got.report["family_shared"] == 0
    assert got.kind.to_list()[5] == 1
    missing = {"install_date", "subscription_expires_at", "store_country", "offer_id"}
    assert not set(got.frame.columns) & missing
    got = read(rc().drop("effective_end_time")).frame
    assert got["subscription_expires_at"].to_list()[1] == utc(10, 8, 3)


def test_revenuecat_nothing_given_back():
    events = read(rc(price_in_usd=pl.col("purchase_price_in_usd")))
    assert events.kind.to_list() == [0, 2, 3, 1, 4, -1, -1, -1, 1, 3, 1]


@pytest.mark.parametrize("name", [name for name in revenuecat.required("profile_id") if name != revenuecat.MARK])
def test_revenuecat_missing_columns(name):
    terms = revenuecat.required("profile_id")["end_time"]
    told = fails(SchemaError, read, rc().drop(terms if name in terms else name, strict=False))
    assert f"column {name!r} missing" in told


@pytest.mark.parametrize(
    "name",
    [
        "start_time", "refunded_at", "first_seen_time", "is_trial_period", "is_trial_conversion", "renewal_number",
        "price_in_usd", "purchase_price_in_usd", "commission_percentage", "tax_percentage", "is_sandbox",
    ],
)  # fmt: skip
def test_revenuecat_bad_values(name):
    bad = pl.when(pl.col("store_transaction_id") == "t3").then(pl.lit("bad")).otherwise(name)
    assert f": {name} 'bad' " in fails(DataError, read, rc(**{name: bad}))
    if name in ("commission_percentage", "tax_percentage"):
        first, trial = (
            pl.when(pl.col("store_transaction_id") == i).then(pl.lit("bad")).otherwise(name) for i in ("o1", "t1")
        )
        assert "'bad'" in fails(DataError, read, rc(**{name: first}))
        assert read(rc(**{name: trial})).kind[0] == 0
    family = pl.when(pl.col("store_transaction_id") == "f1").then(pl.lit("bad")).otherwise(name)
    if name not in ("is_sandbox",):
        assert read(rc(**{name: family})).report["family_shared"] == 1


@pytest.mark.parametrize("reason", ["sandbox", "family_shared"])
def test_revenuecat_reasons_may_be_spared(reason):
    report, plain = read(rc(), keep=[reason]).report, read(rc()).report
    assert plain[reason] == 1
    assert report == plain | {reason: 0}


def test_revenuecat_unknown_environment_is_a_sandbox():
    events = read(rc(is_sandbox=pl.lit("")))
    assert events.report == {"rows": 11} | reasons(sandbox=11)
    assert len(events.kind) == 11


def test_revenuecat_and_adapty_in_one_folder(tmp_path):
    rc().write_csv(tmp_path / "1.csv")
    frame(event_datetime=["2026-02-10T12:00:00Z"] * 2, store=["a", "b"]).write_csv(tmp_path / "2.csv")
    events = read(str(tmp_path / "*.csv"), optional={"store"})
    assert events.report["rows"] == 13
    assert events.kind.to_list()[-2:] == [3, 3]
    assert events.frame["store"].to_list()[-2:] == ["a", "b"]


def test_revenuecat_empty():
    for given in (rc().head(0), pl.DataFrame(schema=dict.fromkeys(rc().columns, pl.Null))):
        events = read(given)
        assert events.report == {"rows": 0} | reasons()
        assert events.frame["revenue_usd"].dtype.is_numeric()


# --- installs ----------------------------------------------------------------------------------------------

DAY = dt.date(2026, 2, 3)


def test_installs_by_user():
    got = installs(pl.DataFrame({"profile_id": ["a", "b"], "install_date": ["2026-02-03", "2026-02-03"], "x": [1, 2]}))
    assert got.schema == {"user": pl.String, "install_date": pl.Date}
    assert got.rows() == [("a", DAY), ("b", DAY)]
    full = pl.DataFrame(
        {
            "profile_id": [1, 2],
            "profile_install_datetime": ["2026-02-10T12:00:00.000000+0000"] * 2,
            "store": ["app_store", ""],
            "profile_county": ["us", "de"],
            "attribution_status": ["organic", None],
            "attribution_adset": ["s", None],
            "installs": [1, 1],
        }
    )
    got = installs(full)
    assert got.to_dict(as_series=False) == {
        "user": [1, 2],
        "install_date": [NOON, NOON],
        "store": ["app_store", None],
        "country": ["us", "de"],
        "attribution_status": ["organic", None],
        "attribution_ad_set": ["s", None],
    }
    assert got["user"].dtype == pl.Int64


@pytest.mark.parametrize("name", ["country", "store_country", "profile_country", "profile_county"])
def test_countries_of_installs(name):
    given = pl.DataFrame({"profile_id": ["a"], "install_date": [DAY], name: ["us"]})
    assert installs(given)["country"].to_list() == ["us"]
    both = pl.DataFrame({"profile_id": ["a", "b"], "install_date": [DAY] * 2, "store_country": [None, "fr"],
                         "profile_country": ["us", "us"]})  # fmt: skip
    assert installs(both)["country"].to_list() == ["us", "fr"]


def test_installs_of_other_units(tmp_path):
    given = pl.DataFrame({"customer_user_id": ["ann"], "idfv": ["v"], "install_date": [NOON]})
    assert installs(given, user_unit="customer_user_id")["user"].to_list() == ["ann"]
    assert installs(given, user_unit="device_id")["user"].to_list() == ["v"]
    assert "'profile_id' missing" in fails(SchemaError, installs, given)
    assert installs(RC)["install_date"].to_list()[0] == utc(1, 3)
    given.with_columns(profile_id=pl.lit("007")).write_csv(tmp_path / "i.csv")
    assert installs(tmp_path / "i.csv").row(0) == ("007", NOON)
    (tmp_path / "i.jsonl").write_text('{"profile_id": 7, "install_date": "2026-02-03"}\n')
    assert installs(str(tmp_path / "i.jsonl")).row(0) == ("7", DAY)


def test_ready_counts():
    given = pl.DataFrame({"install_date": ["2026-02-03"] * 2, "installs": ["10", "0"], "store": ["a", "b"]})
    got = installs(given)
    assert got.schema == {"install_date": pl.Date, "installs": pl.Int64, "store": pl.String}
    assert got.rows() == [(DAY, 10, "a"), (DAY, 0, "b")]
    for values in ([-1, 3], ["-1", "3"]):
        told = fails(DataError, installs, given.with_columns(installs=pl.Series(values)))
        assert "-1" in told
    assert "'1.5'" in fails(DataError, installs, given.with_columns(installs=pl.Series([1.5, 2.0])))
    assert "'many'" in fails(DataError, installs, given.with_columns(installs=pl.Series(["many", "2"])))


def test_installs_with_nulls():
    given = pl.DataFrame({"profile_id": ["a", None, ""], "install_date": ["2026-02-03", "2026-02-03", None]})
    told = fails(DataError, installs, given)
    assert "2 in column 'user', 1 in column 'install_date'" in told
    with pytest.warns(CohortlibWarning, match="2 of 3 rows of the installs"):
        assert installs(given, nulls="drop").rows() == [("a", DAY)]
    counts = pl.DataFrame({"install_date": [DAY, DAY], "installs": [None, 2]})
    assert "1 in column 'installs'" in fails(DataError, installs, counts)
    with pytest.warns(CohortlibWarning):
        assert installs(counts, nulls="drop").rows() == [(DAY, 2)]


def test_bad_installs(tmp_path):
    assert "'install_date' missing" in fails(SchemaError, installs, pl.DataFrame({"profile_id": ["a"]}))
    told = fails(DataError, installs, pl.DataFrame({"profile_id": ["a"], "install_date": ["yesterday"]}))
    assert "'yesterday'" in told
    assert "Int64" in fails(SchemaError, installs, pl.DataFrame({"profile_id": ["a"], "install_date": [5]}))
    pl.DataFrame({"profile_id": ["a"], "install_date": [DAY]}).write_parquet(tmp_path / "1.parquet")
    pl.DataFrame({"install_date": [DAY], "installs": [1]}).write_parquet(tmp_path / "2.parquet")
    assert "ready counts" in fails(SchemaError, installs, str(tmp_path / "*.parquet"))


@pytest.mark.parametrize("kind", [pl.String, pl.Null])
def test_empty_installs(kind):
    got = installs(pl.DataFrame(schema=dict.fromkeys(["profile_id", "install_date", "store"], kind)))
    assert got.schema == {"user": pl.String, "install_date": pl.Datetime("us", "UTC"), "store": pl.String}
    got = installs(pl.DataFrame(schema=dict.fromkeys(["installs", "install_date"], kind)))
    assert got.schema == {"install_date": pl.Datetime("us", "UTC"), "installs": pl.Int64}


# --- columns -----------------------------------------------------------------------------------------------


def test_flags():
    got = readers.flag(pl.Series("f", ["true", "T", "1", "False", "f", "0", "", None, "maybe"]))
    assert got.series.to_list() == [True] * 3 + [False] * 3 + [None] * 3
    [unread] = got.unread
    assert (unread.rows.tolist(), unread.texts.to_list()) == ([8], ["maybe"])
    assert readers.flag(pl.Series([1, 0, None])).series.to_list() == [True, False, None]
    with pytest.raises(SchemaError, match="booleans"):
        readers.flag(pl.Series("f", [1.5]))


def test_merging_keeps_what_could_not_be_read():
    one = readers.number(pl.Series("a", ["1", None, "x", "y"]), Reading())
    two = readers.number(pl.Series("b", ["5", "2", "3", "z"]), Reading())
    merged = one.merged(two, "UTC")
    assert merged.series.to_list() == [1.0, 2.0, 3.0, None]
    assert merged.series.name == "a"
    merged.check(pl.Series([True, True, False, False]))
    for row, value in ((2, "x"), (3, "y")):
        with pytest.raises(DataError, match=f"a '{value}' is not a number"):
            merged.check(pl.Series([at == row for at in range(4)]))


@pytest.mark.parametrize("values", [["0.1", "-2.5", None], ["1e-7", "9223372036854.775807", "-0.0000005"]])
def test_amounts_in_text_are_exact(values):
    """Half to even at the sixth place, also where a float would be another number."""
    got = readers.number(pl.Series("a", values), Reading()).series
    places = Decimal("0.000001")
    assert got.to_list() == [value and Decimal(value).quantize(places, "ROUND_HALF_EVEN") for value in values]
    assert readers.floats(got).to_list()[0] == float(got[0])
