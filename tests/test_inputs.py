"""Every kind of input gives the same table, and every bad input a clear error."""

import datetime as dt
import gzip
import math
import re
import subprocess
import sys
from decimal import Decimal
from fractions import Fraction
from zoneinfo import ZoneInfo

import duckdb
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet
import pytest
from polars.testing import assert_frame_equal

import cohortlib as cl
from cohortlib.errors import CohortlibError, CohortlibWarning, DataError, SchemaError, SettingError, SourceError

pytestmark = pytest.mark.unit

BOTH = [cl.termina.cohorts, cl.termina.customer_cohorts]
ROWS = [
    ("a", dt.date(2026, 1, 5), 100),
    ("a", dt.date(2026, 2, 10), 80),
    ("a", dt.date(2026, 3, 3), -10),
    ("b", dt.date(2026, 1, 20), 50),
    ("b", dt.date(2026, 3, 1), 70),
    ("c", dt.date(2026, 2, 2), 30),
    ("c", dt.date(2026, 2, 20), -40),
    ("c", dt.date(2026, 3, 15), 60),
]


def frame(rows=ROWS, **columns):
    """Build a transaction frame; a keyword replaces a column."""
    base = pl.DataFrame(rows, schema=["user_id", "timestamp", "amount"], orient="row")
    return base.with_columns(**{name: pl.Series(name, values) for name, values in columns.items()})


@pytest.fixture(scope="module")
def cohorts():
    table = cl.termina.cohorts(frame())
    assert table.rows() == [
        ("2026-01", 0, 2, 150.0, 2, 1.0, 150.0, 1.0, 75.0),
        ("2026-01", 1, 2, 150.0, 1, 0.5, 80.0, 80 / 150, 115.0),
        ("2026-01", 2, 2, 150.0, 1, 0.5, 70.0, 70 / 150, 150.0),
        ("2026-03", 0, 1, 60.0, 1, 1.0, 60.0, 1.0, 60.0),
    ]
    return table


@pytest.fixture(scope="module")
def customers():
    return cl.termina.customer_cohorts(frame())


def same(result, expected):
    assert_frame_equal(result, expected, check_exact=True)


def message(error, call, *args, **kwargs):
    """Return the text of the error that a call must raise."""
    with pytest.raises(error) as caught:
        call(*args, **kwargs)
    return str(caught.value)


def mentions(text, *parts):
    """Check that a message holds all of these, ignoring case and the kind of quotes."""
    lower = text.lower().replace('"', "'")
    missing = [part for part in parts if part.lower() not in lower]
    assert not missing, f"{missing} not in: {text}"


# --- kinds of tables ---------------------------------------------------------------------------------------


class OnlyArrow:
    """A table with only the Arrow export."""

    def __init__(self, table):
        self.table = table

    def __arrow_c_stream__(self, requested_schema=None):
        return self.table.__arrow_c_stream__(requested_schema)


KINDS = {
    "polars frame": lambda rows: rows,
    "polars lazy frame": lambda rows: rows.lazy(),
    "pandas": lambda rows: rows.to_pandas(),
    "pandas, Arrow types": lambda rows: rows.to_pandas(use_pyarrow_extension_array=True),
    "pandas, datetime64": lambda rows: rows.to_pandas().assign(timestamp=pd.to_datetime(rows["timestamp"].to_list())),
    "pandas, sliced and reindexed": lambda rows: pd.concat([rows.to_pandas()] * 2).iloc[8:],
    "pyarrow table": lambda rows: rows.to_arrow(),
    "pyarrow record batch": lambda rows: rows.to_arrow().combine_chunks().to_batches()[0],
    "pyarrow reader": lambda rows: rows.to_arrow().to_reader(max_chunksize=3),
    "any Arrow object": lambda rows: OnlyArrow(rows.to_arrow()),
    "DuckDB relation": lambda rows: duckdb.from_arrow(rows.to_arrow()),
}


@pytest.mark.parametrize("kind", KINDS)
def test_kinds_of_frames(kind, cohorts, customers):
    same(cl.termina.cohorts(KINDS[kind](frame())), cohorts)
    same(cl.termina.customer_cohorts(KINDS[kind](frame())), customers)


FILES = {
    "rows.parquet": lambda rows, path: rows.write_parquet(path),
    "rows.csv": lambda rows, path: rows.write_csv(path),
    "rows.csv.gz": lambda rows, path: path.write_bytes(gzip.compress(rows.write_csv().encode())),
}


@pytest.mark.parametrize("name", FILES)
def test_kinds_of_files(name, tmp_path, cohorts, customers):
    path = tmp_path / name
    FILES[name](frame(), path)
    for source in (path, str(path)):
        same(cl.termina.cohorts(source), cohorts)
        same(cl.termina.customer_cohorts(source), customers)


@pytest.mark.parametrize("name", FILES)
def test_globs(name, tmp_path, cohorts, customers):
    """A user's rows may be spread over the files."""
    stem, ending = name.split(".", 1)
    for part in range(3):
        FILES[name](frame()[part::3], tmp_path / f"{stem}-{part}.{ending}")
    for source in (tmp_path / f"{stem}-*.{ending}", str(tmp_path / f"*.{ending}")):
        same(cl.termina.cohorts(source), cohorts)
        same(cl.termina.customer_cohorts(source), customers)


def test_a_path_with_brackets_is_a_file(tmp_path, cohorts):
    """A file that exists is read, even if its name is also a glob."""
    path = tmp_path / "rows[1].parquet"
    frame().write_parquet(path)
    same(cl.termina.cohorts(path), cohorts)


def test_lazy_query(cohorts):
    """A lazy frame may be a whole query; only three columns of it are read."""
    lazy = frame().lazy().with_columns(other=pl.lit("x")).rename({"amount": "Amount"})
    same(cl.termina.cohorts(lazy.with_columns(amount=pl.col("Amount") * 1.0)), cohorts)


def test_column_names(cohorts, customers):
    """Columns may have any names, also those of the result."""
    names = {"user_id": "cohort", "timestamp": "period", "amount": "user_id"}
    roles = {"user": "cohort", "timestamp": "period", "amount": "user_id"}
    same(cl.termina.cohorts(frame().rename(names), **roles), cohorts)
    same(cl.termina.customer_cohorts(frame().rename(names), **roles), customers)
    names = {"user_id": "Customer ID", "timestamp": "größe", "amount": "Betrag (€)"}
    roles = {"user": "Customer ID", "timestamp": "größe", "amount": "Betrag (€)"}
    same(cl.termina.cohorts(frame().rename(names), **roles), cohorts)


@pytest.mark.parametrize("name", ["*", "^a.*$", "^.*$"])
def test_column_names_are_not_patterns(name, cohorts, tmp_path):
    """A name that polars would take for "all columns" or a regular expression is an ordinary name."""
    rows = frame().rename({"amount": name}).with_columns(amounts=0, abc=1)
    same(cl.termina.cohorts(rows, amount=name), cohorts)
    same(cl.termina.cohorts(rows.lazy(), amount=name), cohorts)
    rows.write_parquet(tmp_path / "rows.parquet")
    same(cl.termina.cohorts(tmp_path / "rows.parquet", amount=name), cohorts)


def test_the_input_is_not_changed():
    rows = frame()
    copy = rows.clone()
    cl.termina.cohorts(rows)
    cl.termina.customer_cohorts(rows, top_n=1)
    same(rows, copy)


@pytest.mark.parametrize("split", [[1] * 8, [3, 5], [0, 4, 0, 4, 0]])
def test_chunks(split, cohorts, customers):
    parts, start = [], 0
    for rows in split:
        parts.append(frame()[start : start + rows])
        start += rows
    chunked = pl.concat(parts, rechunk=False)
    same(cl.termina.cohorts(chunked), cohorts)
    same(cl.termina.customer_cohorts(chunked), customers)
    arrow = pa.concat_tables([part.to_arrow() for part in parts])
    same(cl.termina.customer_cohorts(arrow), customers)


def test_columns_chunked_differently(cohorts):
    halves = pl.concat([frame()[:3], frame()[3:]], rechunk=False)
    rows = halves.with_columns(frame()["amount"])
    assert rows["amount"].n_chunks() != rows["user_id"].n_chunks()
    same(cl.termina.cohorts(rows), cohorts)


def test_slices(cohorts, customers):
    """A slice keeps its buffers and starts inside them, also with a validity bitmap before it."""
    padding = frame()[:3]
    whole = pl.concat([padding, padding.clear(2), frame(), padding], rechunk=True)
    assert whole["user_id"].null_count() == 2
    same(cl.termina.cohorts(whole[5:13]), cohorts)
    same(cl.termina.customer_cohorts(whole[5:13]), customers)
    same(cl.termina.customer_cohorts(whole.to_arrow().slice(5, 8)), customers)
    text = whole.with_columns(pl.col("user_id").cast(pl.Categorical))
    same(cl.termina.customer_cohorts(text[5:13]), customers)


# --- users -------------------------------------------------------------------------------------------------


def names_of(table):
    return table.filter(pl.col("period") == 0)["user_id"].to_list()


def relabel(users, dtype):
    """Replace the users a, b and c."""
    renamed = dict(zip("abc", users, strict=True))
    return frame(user_id=pl.Series([renamed[row[0]] for row in ROWS], dtype=dtype))


SIGNED = [pl.Int8, pl.Int16, pl.Int32, pl.Int64, pl.Int128]
UNSIGNED = [pl.UInt8, pl.UInt16, pl.UInt32, pl.UInt64, pl.UInt128]


@pytest.mark.parametrize("dtype", SIGNED + UNSIGNED)
def test_integer_users(dtype, cohorts, customers):
    """Whole numbers of every width, to the ends of the range, written as text."""
    bits = int(str(dtype).removeprefix("UInt").removeprefix("Int"))
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if dtype in SIGNED else (0, 2**bits - 1)
    for users in ([low, 7, high], [high, low, high - 1]):
        rows = relabel(users, dtype)
        same(cl.termina.cohorts(rows), cohorts)
        result = cl.termina.customer_cohorts(rows)
        same(result.drop("user_id"), customers.drop("user_id"))
        assert names_of(result) == [str(user) for user in users]


TEXTS = {
    "short": ["a", "b", "c"],
    "twelve bytes and thirteen": ["twelve bytes", "twelve bytes!", "twelve byte"],
    "long, alike but for the end": ["x" * 100 + "1", "x" * 100 + "2", "x" * 100],
    "long, alike but for the middle": ["p" * 20 + "1" + "s" * 20, "p" * 20 + "2" + "s" * 20, "p" * 41],
    "marks": [".", "..", "-"],
    "unicode": ["é", "e\u0301", "日本語の利用者番号" * 3],
    "letter case and digits": ["A", "a", "0"],
    "zero bytes": ["a\0", "a", "a\0\0"],
    "leading zeros": ["007", "07", "7"],
}


@pytest.mark.filterwarnings("ignore:.*differ only in case")
@pytest.mark.parametrize("case", TEXTS)
@pytest.mark.parametrize("dtype", [pl.String, pl.Categorical, pl.Enum])
def test_text_users(case, dtype, cohorts, customers):
    users = TEXTS[case]
    rows = relabel(users, pl.Enum(sorted(users, reverse=True)) if dtype is pl.Enum else dtype)
    same(cl.termina.cohorts(rows), cohorts)
    result = cl.termina.customer_cohorts(rows)
    same(result.drop("user_id"), customers.drop("user_id"))
    assert names_of(result) == users


@pytest.mark.parametrize("kind", ["string", "large_string", "string_view", "dictionary"])
@pytest.mark.parametrize("source", ["table", "pandas"])
def test_arrow_strings(kind, source, customers):
    arrow = frame().to_arrow()
    text = pa.array([row[0] for row in ROWS])
    column = text.dictionary_encode() if kind == "dictionary" else text.cast(getattr(pa, kind)())
    table = arrow.set_column(arrow.schema.get_field_index("user_id"), "user_id", column)
    same(cl.termina.customer_cohorts(table if source == "table" else table.to_pandas()), customers)


@pytest.mark.parametrize("dtype", [pl.String, pl.Categorical, "enum"])
def test_users_are_ordered_as_text(dtype):
    """Ties in the amount are ordered by code points, for every type of user id."""
    users = ["10", "9", "Z", "a", "é", "\uffff", "😀", "!", "aa"]
    kind = pl.Enum(sorted(users, reverse=True)) if dtype == "enum" else dtype
    rows = pl.DataFrame({"user_id": pl.Series(users[::-1], dtype=kind), "timestamp": dt.date(2026, 1, 1)})
    result = cl.termina.customer_cohorts(rows.with_columns(amount=1))
    assert names_of(result) == sorted(users)


def test_integer_users_are_ordered_as_text():
    rows = pl.DataFrame({"user_id": [9, 10, 100, -1], "timestamp": dt.date(2026, 1, 1), "amount": 1})
    assert names_of(cl.termina.customer_cohorts(rows)) == ["-1", "10", "100", "9"]


def test_many_users(cohorts):
    """Many users per partition, as text and as numbers."""
    many = pl.concat(
        frame().with_columns(user_id=pl.col("user_id") + pl.lit(f"-a-long-name-{copy:05}")) for copy in range(3000)
    )
    text = cl.termina.cohorts(many)
    assert text["cohort_size"].to_list() == [6000, 6000, 6000, 3000]
    same(
        text.select("logo_retention", "amount_retention", "ltv"),
        cohorts.select("logo_retention", "amount_retention", "ltv"),
    )
    codes = many.with_columns(pl.col("user_id").rank("dense").cast(pl.UInt64) * 2**40)
    same(cl.termina.cohorts(codes), text)


def test_ids_with_colliding_murmur_hashes():
    """Two ids with the same MurmurHash3 (x64, 128 bits, with any suffix) stay two users."""
    pair = ["customer12345678bcjZLOIJ_h-NMYul", "customer87654321_CuCP8jtW_eXEHx6"]
    rows = pl.DataFrame({"user_id": pair, "timestamp": dt.date(2026, 1, 1), "amount": [1, 2]})
    assert cl.termina.cohorts(rows)["cohort_size"].to_list() == [2]
    assert sorted(names_of(cl.termina.customer_cohorts(rows))) == pair


@pytest.mark.filterwarnings("ignore:.*the same number")
def test_csv_users_stay_text(tmp_path):
    """Leading zeros, signs and long numbers in user ids are kept as in the file."""
    users = ["007", "7", "+7", "1e3", "123456789012345678901234567890", "a,b", "true", "2026-01-01", "7.0"]
    quoted = [f'"{user}"' if "," in user else user for user in users]
    lines = [f"{user},2026-01-05,{100 - place}" for place, user in enumerate(quoted)]
    path = tmp_path / "rows.csv"
    path.write_text("\n".join(["user_id,timestamp,amount", *lines, ""]), encoding="utf-8")
    assert names_of(cl.termina.customer_cohorts(path)) == users


def test_csv_types_do_not_depend_on_the_first_rows(tmp_path):
    """Types are not guessed from the first rows: a later fraction or letter is not an error."""
    lines = [f"{place},2026-01-05,1" for place in range(5000)]
    path = tmp_path / "rows.csv"
    path.write_text("\n".join(["user_id,timestamp,amount", *lines, "x1,2026-01-05,0.25"]), encoding="utf-8")
    table = cl.termina.cohorts(path)
    assert (table["cohort_size"][0], table["amount"][0]) == (5001, 5000.25)


@pytest.mark.parametrize(
    "instants",
    [
        ["2026-01-31 23:30:00", "2026-02-01 00:00:00"],
        ["2026-01-31T23:30:00", "2026-02-01T00:00:00"],
        ["2026-01-31T23:30:00.123456", "2026-02-01T00:00:00.000001"],
        ["2026-01-31T23:30:00Z", "2026-02-01T00:00:00Z"],
    ],
)
def test_csv_instants(instants, tmp_path):
    path = tmp_path / "rows.csv"
    lines = [f"u{place},{instant},1" for place, instant in enumerate(instants)]
    path.write_text("\n".join(["user_id,timestamp,amount", *lines, ""]), encoding="utf-8")
    result = cl.termina.customer_cohorts(path, rows="active")
    assert result.select("cohort", "user_id").rows() == [("2026-01", "u0"), ("2026-02", "u1")]


# --- time --------------------------------------------------------------------------------------------------

UNITS = ["ms", "us", "ns"]


@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize("zone", [None, "UTC", "Europe/Berlin", "America/New_York"])
def test_types_of_instants(unit, zone, cohorts, customers):
    """Naive instants stay, zoned ones are converted to `timezone`; noon is on the same day in all of these."""
    noon = pl.col("timestamp").cast(pl.Datetime(unit)) + pl.duration(hours=12)
    rows = frame().with_columns(noon.dt.cast_time_unit(unit).dt.replace_time_zone(zone))
    assert rows.schema["timestamp"] == pl.Datetime(unit, zone)
    same(cl.termina.cohorts(rows), cohorts)
    same(cl.termina.customer_cohorts(rows), customers)


@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize("freq", ["D", "W", "M", "Q", "A"])
def test_before_1970(unit, freq):
    """Times before the epoch are rounded down too."""
    late = [dt.datetime(1969, 12, 31, 23, 59, 59, 999000), dt.datetime(1968, 2, 29, 0, 0)]
    first = {
        "D": ["1969-12-31", "1968-02-29"],
        "W": ["1969-12-29", "1968-02-26"],
        "M": ["1969-12", "1968-02"],
        "Q": ["1969Q4", "1968Q1"],
        "A": ["1969", "1968"],
    }
    rows = pl.DataFrame({"user_id": [0, 1], "timestamp": pl.Series(late, dtype=pl.Datetime(unit)), "amount": 1})
    result = cl.termina.customer_cohorts(rows, freq=freq, rows="active").sort("user_id")
    assert result["cohort"].to_list() == first[freq]


CHANGES = [
    ("America/New_York", dt.datetime(2026, 3, 8, 7)),  # forward at 02:00
    ("America/New_York", dt.datetime(2026, 11, 1, 6)),  # back at 02:00
    ("America/St_Johns", dt.datetime(2010, 3, 14, 3, 31)),  # forward at 00:01
    ("America/St_Johns", dt.datetime(2010, 11, 7, 2, 31)),  # back at 00:01, so 23:01 comes twice, a day apart
    ("America/St_Johns", dt.datetime(1988, 4, 3, 3, 31)),  # forward by two hours
    ("America/Sao_Paulo", dt.datetime(2018, 11, 4, 3)),  # forward at midnight: the day starts at 01:00
    ("America/Sao_Paulo", dt.datetime(2019, 2, 17, 2)),  # back at midnight
    ("Pacific/Apia", dt.datetime(2011, 12, 30, 10)),  # 2011-12-30 does not exist
    ("Australia/Lord_Howe", dt.datetime(2026, 4, 4, 15)),  # back by half an hour
    ("Asia/Kathmandu", dt.datetime(1985, 12, 31, 18, 30)),  # 5:30 becomes 5:45 at midnight
]


@pytest.mark.parametrize(("zone", "change"), CHANGES, ids=[f"{zone} {when:%Y-%m-%d}" for zone, when in CHANGES])
@pytest.mark.parametrize("unit", UNITS)
def test_local_days_around_clock_changes(zone, change, unit):
    """Every seventh minute of four days, and the seconds around the change, on the local day of zoneinfo."""
    steps = [dt.timedelta(minutes=7 * step) for step in range(-412, 412)]
    steps += [dt.timedelta(seconds=second) for second in range(-120, 121, 20)]
    instants = [(change + step).replace(tzinfo=dt.UTC) for step in steps]
    days = [instant.astimezone(ZoneInfo(zone)).date().isoformat() for instant in instants]
    rows = pl.DataFrame(
        {
            "user_id": range(len(steps)),
            "timestamp": pl.Series(instants, dtype=pl.Datetime(unit, "UTC")),
            "amount": 1,
        }
    )
    result = cl.termina.customer_cohorts(rows, freq="D", timezone=zone, rows="active")
    found = dict(result.select("user_id", "cohort").iter_rows())
    assert found == {str(user): day for user, day in enumerate(days)}
    elsewhere = rows.with_columns(pl.col("timestamp").dt.convert_time_zone("Asia/Tokyo"))
    same(cl.termina.customer_cohorts(elsewhere, freq="D", timezone=zone, rows="active"), result)


def test_the_skipped_day_is_an_age():
    """Apia had no 2011-12-30: no row is on this day, but the days before and after are two apart."""
    instants = [dt.datetime(2011, 12, 30, 9, 59), dt.datetime(2011, 12, 30, 10, 0)]
    rows = pl.DataFrame({"user_id": "a", "timestamp": instants, "amount": 1})
    rows = rows.with_columns(pl.col("timestamp").dt.replace_time_zone("UTC"))
    table = cl.termina.cohorts(rows, freq="D", timezone="Pacific/Apia")
    assert table.select("cohort", "period", "active_users").rows() == [
        ("2011-12-29", 0, 1),
        ("2011-12-29", 1, 0),
        ("2011-12-29", 2, 1),
    ]


def test_naive_time_is_not_converted():
    """`timezone` moves instants that have a zone, never a Date or a naive instant."""
    naive = frame().with_columns(pl.col("timestamp").cast(pl.Datetime("us")))
    expected = cl.termina.cohorts(frame(), freq="D")
    for rows in (frame(), naive):
        for zone in ("UTC", "Pacific/Apia", "America/Los_Angeles"):
            same(cl.termina.cohorts(rows, freq="D", timezone=zone), expected)


def test_zoned_time_is_converted_to_utc_by_default():
    instant = dt.datetime(2026, 1, 31, 23, 30, tzinfo=ZoneInfo("America/New_York"))
    rows = pl.DataFrame({"user_id": ["a"], "timestamp": [instant], "amount": [1]})
    rows = rows.with_columns(pl.col("timestamp").dt.convert_time_zone("America/New_York"))
    assert cl.termina.cohorts(rows)["cohort"].to_list() == ["2026-02"]
    assert cl.termina.cohorts(rows, timezone="America/New_York")["cohort"].to_list() == ["2026-01"]


def test_fixed_offset():
    """pandas makes such a column of '2026-02-01T00:00+05:30': the right table, or a CohortlibError."""
    rows = pd.DataFrame({"user_id": ["a"], "timestamp": pd.to_datetime(["2026-02-01T00:00+05:30"]), "amount": [1]})
    try:
        table = cl.termina.cohorts(rows)
    except CohortlibError as error:
        mentions(str(error), "+05:30", "hint: convert the instants to UTC")
    else:
        assert table["cohort"].to_list() == ["2026-01"]


# --- money -------------------------------------------------------------------------------------------------

NUMBERS = [pl.Int8, pl.Int16, pl.Int32, pl.Int64, pl.Int128, pl.Float32, pl.Float64]
DECIMALS = [pl.Decimal(4, 0), pl.Decimal(10, 2), pl.Decimal(18, 6), pl.Decimal(38, 2)]


@pytest.mark.parametrize("dtype", NUMBERS + DECIMALS, ids=str)
def test_types_of_amounts(dtype, cohorts, customers):
    rows = frame(amount=pl.Series([row[2] for row in ROWS]).cast(dtype))
    same(cl.termina.cohorts(rows), cohorts)
    same(cl.termina.customer_cohorts(rows), customers)


@pytest.mark.parametrize("dtype", UNSIGNED, ids=str)
def test_unsigned_amounts(dtype):
    rows = frame(ROWS[:2]).with_columns(pl.col("amount").cast(dtype))
    assert cl.termina.cohorts(rows)["ltv"].to_list() == [100.0, 180.0]


def test_cents_cancel():
    """0.1 + 0.2 − 0.3 is 0, so no user is active because of a rounding error."""
    rows = pl.DataFrame({"user_id": "a", "timestamp": dt.date(2026, 1, 1), "amount": [0.1, 0.2, -0.3]})
    assert cl.termina.cohorts(rows).height == 0
    assert cl.termina.cohorts(rows.with_columns(pl.col("amount").cast(pl.Float32))).height == 0


# The exact value of a float is rounded, ties to even; `round(x * 10**d)` gets the last ones wrong.
HALVES = {
    0: [0.5, 1.5, 2.5, 3.49999999999999, 1e15 + 0.5, 7.0],
    2: [44.035, 186.525, 83.595, 154.755, 9.295, 1.005, 0.125, 0.375, 2.675],
    6: [0.0078125, 0.0234375, 0.0141815, 7.05e-05, 0.0087285, 1.5e-06, 123456789.0000005, 1e-6 + 1e-22],
    9: [1e-9, 2.0000000005, 0.1, 1 / 3, 8.999999999],
}


@pytest.mark.parametrize("decimals", HALVES)
def test_floats_are_read_as_the_nearest_unit(decimals):
    values = [
        value for half in HALVES[decimals] for value in (half, math.nextafter(half, 0), math.nextafter(half, math.inf))
    ]
    units = [round(Fraction(value) * 10**decimals) for value in values]
    rows = pl.DataFrame({"user_id": range(len(values)), "timestamp": dt.date(2026, 1, 1), "amount": values})
    result = cl.termina.customer_cohorts(rows, decimals=decimals)
    assert dict(result.select("user_id", "amount").iter_rows()) == {
        str(user): unit / 10**decimals for user, unit in enumerate(units) if unit > 0
    }
    # The same as refunds of a larger purchase.
    whole = 200_000_000 if decimals else 2 * 10**15
    bought, refunded = rows.with_columns(amount=pl.lit(float(whole))), rows.with_columns(-pl.col("amount"))
    left = cl.termina.customer_cohorts(pl.concat([refunded, bought]), decimals=decimals)
    assert dict(left.select("user_id", "amount").iter_rows()) == {
        str(user): (whole * 10**decimals - unit) / 10**decimals for user, unit in enumerate(units)
    }


def test_published_floats_are_rounded_once():
    """Units past 2**53: the quotient of the two whole numbers, not of their floats."""
    units = [51457485807682078, 2**53 + 1, 1_672_051_046_613_353_356]
    amounts = [Decimal(unit).scaleb(-6) for unit in units]
    for users in (["a", "b", "c"], ["a", "a", "a"]):
        rows = pl.DataFrame({"user_id": users, "timestamp": dt.date(2026, 1, 1)})
        rows = rows.with_columns(amount=pl.Series(amounts, dtype=pl.Decimal(38, 6)))
        table = cl.termina.cohorts(rows)
        assert table["amount"].to_list() == [sum(units) / 10**6]
        assert table["ltv"].to_list() == [sum(units) / (len(set(users)) * 10**6)]
    each = cl.termina.customer_cohorts(rows.with_columns(user_id=pl.Series(["a", "b", "c"])))
    assert dict(each.select("user_id", "amount").iter_rows()) == {
        name: unit / 10**6 for name, unit in zip("abc", units, strict=True)
    }


def test_decimals_of_nine_places():
    rows = frame(amount=pl.Series([Decimal(row[2]) / 10**9 for row in ROWS], dtype=pl.Decimal(20, 9)))
    table = cl.termina.cohorts(rows, decimals=9)
    assert table["amount"].to_list() == [value / 10**9 for value in (150, 80, 70, 60)]


def test_decimal_with_too_many_places():
    rows = frame(amount=pl.Series([Decimal("1.234")] * 8, dtype=pl.Decimal(10, 3)))
    text = message((DataError, SchemaError), cl.termina.cohorts, rows, decimals=2)
    mentions(text, "'amount'", "decimals=3", "hint")
    assert cl.termina.cohorts(rows, decimals=3).height > 0
    nine = frame(amount=pl.Series([Decimal("1")] * 8, dtype=pl.Decimal(38, 12)))
    mentions(message((DataError, SchemaError), cl.termina.cohorts, nine), "'amount'", "12", "hint")


TOO_MUCH = {
    "one float": [1e13],
    "one huge float": [1e300],
    "one negative float": [-1e13],
    "one integer": [10**13],
    "one unsigned integer": pl.Series([2**63], dtype=pl.UInt64),
    "one wide integer": pl.Series([10**30], dtype=pl.Int128),
    "one decimal": pl.Series([Decimal(10**13)], dtype=pl.Decimal(30, 2)),
    "one wide decimal": pl.Series([Decimal(10) ** 32], dtype=pl.Decimal(38, 2)),
    "the sum": [4e12, 4e12, 4e12],
    "the sum of decimals": pl.Series([Decimal(4 * 10**12)] * 3, dtype=pl.Decimal(30, 2)),
    "the sum without signs": [5e12, -5e12],
    "the sum wraps twice": [4e12] * 5,
}


@pytest.mark.parametrize("case", TOO_MUCH)
@pytest.mark.parametrize("call", BOTH)
def test_amounts_out_of_range(case, call):
    """Sums do not overflow: the error names the setting that helps."""
    amounts = pl.Series("amount", TOO_MUCH[case])
    rows = pl.DataFrame({"user_id": range(len(amounts)), "timestamp": dt.date(2026, 1, 1)}).with_columns(amounts)
    mentions(message(DataError, call, rows), "'amount'", "decimals=", "hint")


def test_the_ends_of_the_range():
    """The sum of |units| may be at most 2**63 − 1; with fewer decimals, larger amounts fit."""
    rows = pl.DataFrame({"user_id": ["a"], "timestamp": dt.date(2026, 1, 1), "amount": [2**63 - 1]})
    assert cl.termina.cohorts(rows, decimals=0)["ltv"].to_list() == [float(2**63 - 1)]
    lowest = rows.with_columns(amount=pl.lit(-(2**63)))
    mentions(message(DataError, cl.termina.cohorts, lowest, decimals=0), "'amount'")
    assert cl.termina.cohorts(rows.with_columns(amount=pl.lit(-(2**63) + 1)), decimals=0).height == 0
    one_more = pl.concat([rows, rows.with_columns(amount=pl.lit(1, dtype=pl.Int64))])
    mentions(message(DataError, cl.termina.cohorts, one_more, decimals=0), "'amount'")
    large = rows.with_columns(amount=pl.lit(1e13))
    assert cl.termina.cohorts(large, decimals=2)["ltv"].to_list() == [1e13]
    float_end = rows.with_columns(amount=pl.lit(2.0**63))
    mentions(message(DataError, cl.termina.cohorts, float_end, decimals=0), "'amount'")
    below = math.nextafter(2.0**63, 0)
    assert cl.termina.cohorts(rows.with_columns(amount=pl.lit(below)), decimals=0)["ltv"].to_list() == [below]


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("dtype", [pl.Float32, pl.Float64])
def test_not_a_number(value, dtype):
    amounts = [float(row[2]) for row in ROWS]
    amounts[3] = amounts[5] = value
    text = message(DataError, cl.termina.cohorts, frame(amount=pl.Series(amounts, dtype=dtype)))
    mentions(text, "'amount'", "2", "hint")
    assert "nan" in text.lower() or "inf" in text.lower()


# --- nulls -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("column", ["user_id", "timestamp", "amount"])
@pytest.mark.parametrize("call", BOTH)
def test_nulls(column, call):
    """By default an error counts them; with nulls="drop" a warning does."""
    holes = pl.concat([frame(), frame()[:3].with_columns(pl.lit(None).alias(column))], how="vertical_relaxed")
    mentions(message(DataError, call, holes), f"'{column}'", "3", "nulls='drop'", "hint")
    with pytest.warns(CohortlibWarning) as caught:
        result = call(holes, nulls="drop")
    mentions(str(caught[0].message), column, "3")
    assert len(caught) == 1
    same(result, call(frame()))


@pytest.mark.parametrize("dtype", [pl.Int64, pl.Categorical, pl.Enum(["1", "2", "3"]), pl.Int128])
def test_nulls_of_every_kind_of_user(dtype):
    users = pl.Series("user_id", ["1", "1", "1", "2", "2", "3", "3", "3"]).cast(dtype)
    rows = frame().with_columns(users)
    holes = rows.with_columns(pl.when(pl.int_range(pl.len()) != 4).then("user_id").alias("user_id"))
    mentions(message(DataError, cl.termina.cohorts, holes), "'user_id'", "1")
    with pytest.warns(CohortlibWarning, match="user_id"):
        result = cl.termina.cohorts(holes, nulls="drop")
    same(result, cl.termina.cohorts(rows.filter(pl.int_range(pl.len()) != 4)))


def test_nulls_in_several_columns():
    """One warning has the count of each column."""
    holes = frame(user_id=[None, None, None, "b", "b", "c", "c", "c"], amount=[None, 80, -10, 50, None, 30, -40, 60])
    with pytest.warns(CohortlibWarning) as caught:
        table = cl.termina.cohorts(holes, nulls="drop")
    mentions(str(caught[0].message), "user_id", "3", "amount", "2")
    # The dropped rows of March still make it the right edge.
    assert table.select("cohort", "period", "amount").rows() == [
        ("2026-01", 0, 50.0),
        ("2026-01", 1, 0.0),
        ("2026-01", 2, 0.0),
        ("2026-03", 0, 60.0),
    ]


def test_a_dropped_row_still_sets_the_right_edge():
    last = pl.DataFrame({"user_id": [None], "timestamp": [dt.date(2026, 6, 1)], "amount": [1]})
    with pytest.warns(CohortlibWarning):
        table = cl.termina.cohorts(pl.concat([frame(), last], how="vertical_relaxed"), nulls="drop")
    assert table.group_by("cohort", maintain_order=True).len().rows() == [("2026-01", 6), ("2026-03", 4)]


def test_nulls_elsewhere_do_not_matter(cohorts):
    same(cl.termina.cohorts(frame().with_columns(country=pl.lit(None, dtype=pl.String))), cohorts)


def test_nothing_but_nulls():
    with pytest.warns(CohortlibWarning, match="8"):
        table = cl.termina.cohorts(frame().with_columns(user_id=pl.lit(None, dtype=pl.String)), nulls="drop")
    assert table.height == 0
    text = message(CohortlibError, cl.termina.cohorts, frame().with_columns(user_id=pl.lit(None)))
    mentions(text, "'user_id'", "hint")


def test_nan_in_a_dropped_row():
    """The values of dropped rows are not checked."""
    extra = pl.DataFrame({"user_id": [None], "timestamp": [dt.date(2026, 3, 1)], "amount": [math.nan]})
    rows = pl.concat([frame().cast({"amount": pl.Float64}), extra], how="vertical_relaxed")
    with pytest.warns(CohortlibWarning, match="user_id"):
        same(cl.termina.cohorts(rows, nulls="drop"), cl.termina.cohorts(frame()))


def test_null_fields_of_csv(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text("user_id,timestamp,amount\na,2026-01-05,1\n,2026-01-06,2\nb,,3\n", encoding="utf-8")
    mentions(message(DataError, cl.termina.cohorts, path), "'user_id'", "1", "nulls='drop'")
    with pytest.warns(CohortlibWarning):
        assert cl.termina.cohorts(path, nulls="drop")["cohort_size"].to_list() == [1]


# --- columns -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("role", ["user", "timestamp", "amount"])
@pytest.mark.parametrize("call", BOTH)
def test_missing_column(role, call, tmp_path):
    """The message names the column, lists the columns and suggests a setting."""
    path = tmp_path / "rows.parquet"
    frame().write_parquet(path)
    for source in (frame(), frame().lazy(), path, frame().to_arrow()):
        text = message(SchemaError, call, source, **{role: "nonesuch"})
        mentions(text, "'nonesuch'", "'user_id'", "'timestamp'", "'amount'", "hint")


def test_missing_column_by_default_name():
    """The hint says which setting names the column."""
    text = message(SchemaError, cl.termina.cohorts, frame().rename({"user_id": "customer"}))
    mentions(text, "'user_id'", "'customer'", "user=", "hint")


def test_many_columns_are_not_all_listed():
    wide = frame().drop("user_id").with_columns(pl.lit(0).alias(f"column_{place:03}") for place in range(300))
    assert len(message(SchemaError, cl.termina.cohorts, wide)) < 2000


WRONG = {
    "float user": ("user_id", [1.0] * 8, "Float64"),
    "boolean user": ("user_id", [True] * 8, "Boolean"),
    "date user": ("user_id", [dt.date(2026, 1, 1)] * 8, "Date"),
    "list user": ("user_id", [["a"]] * 8, "List"),
    "integer timestamp": ("timestamp", [1_767_571_200] * 8, "Int64"),
    "float timestamp": ("timestamp", [1.5] * 8, "Float64"),
    "time timestamp": ("timestamp", [dt.time(12)] * 8, "Time"),
    "duration timestamp": ("timestamp", [dt.timedelta(1)] * 8, "Duration"),
    "boolean amount": ("amount", [True] * 8, "Boolean"),
    "date amount": ("amount", [dt.date(2026, 1, 1)] * 8, "Date"),
}


@pytest.mark.parametrize("case", WRONG)
@pytest.mark.parametrize("call", BOTH)
def test_wrong_types(case, call):
    column, values, dtype = WRONG[case]
    mentions(message(SchemaError, call, frame(**{column: values})), f"'{column}'", dtype, "hint")
    mentions(message(SchemaError, call, frame(**{column: values}).lazy()), f"'{column}'", dtype, "hint")


@pytest.mark.parametrize(
    "bad",
    [42, None, [1, 2], {"user_id": ["a"]}, ROWS, object(), b"rows.csv"],
    ids=lambda bad: type(bad).__name__,
)
@pytest.mark.parametrize("call", BOTH)
def test_not_a_table(bad, call):
    mentions(message(SchemaError, call, bad), type(bad).__name__, "expected", "polars", "path", "Arrow")


def test_a_series_is_not_a_table():
    message(SchemaError, cl.termina.cohorts, pl.Series("amount", [1, 2]))


def test_columns_of_one_name():
    """Arrow allows it, but it is ambiguous."""
    arrow = frame().to_arrow()
    message(CohortlibError, cl.termina.cohorts, arrow.append_column("amount", arrow["amount"]))


# --- files -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("call", BOTH)
def test_missing_files(call, tmp_path):
    for name in ("none.parquet", "none.csv", "none-*.parquet", "none/*.csv"):
        text = message(SourceError, call, tmp_path / name)
        mentions(text, name)
        assert message(SourceError, call, str(tmp_path / name)) == text


def test_unknown_endings(tmp_path):
    for name in ("rows.xls", "rows.xml", "rows", "rows.parquet.7z"):
        path = tmp_path / name
        path.write_bytes(b"x")
        mentions(message(SourceError, cl.termina.cohorts, path), name, ".parquet", ".csv")
    mentions(message(SourceError, cl.termina.cohorts, tmp_path), tmp_path.name)


def test_unreadable_files(tmp_path):
    contents = {
        "text.parquet": b"this is not Parquet",
        "empty.parquet": b"",
        "cut.csv.gz": gzip.compress(pl.concat([frame()] * 5000).write_csv().encode())[:-100],
        "empty.csv": b"",
    }
    for name, content in contents.items():
        path = tmp_path / name
        path.write_bytes(content)
        mentions(message(SourceError, cl.termina.cohorts, path), name)
    whole = tmp_path / "whole.parquet"
    frame().write_parquet(whole)
    cut = tmp_path / "cut.parquet"
    cut.write_bytes(whole.read_bytes()[:-20])
    mentions(message(SourceError, cl.termina.cohorts, cut), "cut.parquet")


def test_damaged_pages(tmp_path):
    """The footer of the file is intact, so the damage shows only when the rows are read."""
    path = tmp_path / "rows.parquet"
    users = [f"customer {place * 7919 % 1_000_003:07}" for place in range(16_000)]
    pl.concat([frame()] * 2000).with_columns(user_id=pl.Series(users)).write_parquet(path, compression="zstd")
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 4000] = b"\xa5" * 4000
    path.write_bytes(bytes(content))
    mentions(message(SourceError, cl.termina.cohorts, path), "rows.parquet")


def test_csv_of_the_wrong_type(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text("user_id,timestamp,amount\na,2026-01-05,one\n", encoding="utf-8")
    mentions(message(CohortlibError, cl.termina.cohorts, path), "amount")
    path.write_text("user_id,timestamp,amount\na,someday,1\n", encoding="utf-8")
    mentions(message(CohortlibError, cl.termina.cohorts, path), "timestamp")


def test_files_that_do_not_fit_together(tmp_path):
    frame().write_parquet(tmp_path / "part-1.parquet")
    frame().drop("amount").write_parquet(tmp_path / "part-2.parquet")
    mentions(message(CohortlibError, cl.termina.cohorts, tmp_path / "part-*.parquet"), "part-")


# --- empty frames ------------------------------------------------------------------------------------------

FIELDS = {
    cl.termina.cohorts: {
        "cohort": pl.String,
        "period": pl.Int64,
        "cohort_size": pl.Int64,
        "cohort_size_amount": pl.Float64,
        "active_users": pl.Int64,
        "logo_retention": pl.Float64,
        "amount": pl.Float64,
        "amount_retention": pl.Float64,
        "ltv": pl.Float64,
    },
    cl.termina.customer_cohorts: {
        "cohort": pl.String,
        "user_id": pl.String,
        "period": pl.Int64,
        "cohort_size_amount": pl.Float64,
        "logo_retention": pl.Float64,
        "amount": pl.Float64,
        "amount_retention": pl.Float64,
        "ltv": pl.Float64,
    },
}
EMPTY = {
    "typed": lambda: frame().clear(),
    "typed, lazy": lambda: frame().clear().lazy(),
    "without types": lambda: pl.DataFrame({"user_id": [], "timestamp": [], "amount": []}),
    "integers and instants": lambda: pl.DataFrame(
        schema={"user_id": pl.UInt8, "timestamp": pl.Datetime("ns", "UTC"), "amount": pl.Decimal(9, 2)}
    ),
    "categorical": lambda: frame().clear().cast({"user_id": pl.Categorical}),
    "Arrow": lambda: frame().clear().to_arrow(),
    "Arrow without chunks": lambda: pa.table({n: pa.chunked_array([], t) for n, t in zip(
        ["user_id", "timestamp", "amount"], [pa.string(), pa.date32(), pa.float64()], strict=True)}),
    "pandas": lambda: frame().clear().to_pandas().astype({"user_id": "str", "timestamp": "datetime64[us]"}),
    "rows that net to nothing": lambda: frame().with_columns(amount=0),
    "refunds alone": lambda: frame().with_columns(amount=-1),
}  # fmt: skip


@pytest.mark.parametrize("case", EMPTY)
@pytest.mark.parametrize("call", BOTH)
def test_empty(case, call):
    """Without customers: no rows, but all columns."""
    for settings in (
        {},
        {"freq": "W", "end": "2026", "start": "2025"},
        {"refunds": "signed", "complete_only": True},
    ):
        table = call(EMPTY[case](), **settings)
        assert (table.height, dict(table.schema)) == (0, FIELDS[call])


def test_schema_of_results(cohorts, customers):
    assert dict(cohorts.schema) == FIELDS[cl.termina.cohorts]
    assert dict(customers.schema) == FIELDS[cl.termina.customer_cohorts]


def test_empty_top(customers):
    assert cl.termina.customer_cohorts(frame().clear(), top_n=25).height == 0
    same(cl.termina.customer_cohorts(frame(), top_n=25), customers)


def test_empty_files(tmp_path):
    frame().clear().write_parquet(tmp_path / "rows.parquet")
    frame().clear().write_csv(tmp_path / "rows.csv")
    for name in ("rows.parquet", "rows.csv"):
        assert cl.termina.cohorts(tmp_path / name).height == 0


def test_one_empty_file_among_several(tmp_path, cohorts):
    frame().clear().write_parquet(tmp_path / "part-0.parquet")
    frame().write_parquet(tmp_path / "part-1.parquet")
    same(cl.termina.cohorts(tmp_path / "part-*.parquet"), cohorts)


@pytest.mark.parametrize("call", BOTH)
def test_no_columns(call):
    mentions(message(SchemaError, call, pl.DataFrame()), "'user_id'", "hint")


@pytest.mark.parametrize("call", BOTH)
def test_triangle_of_an_empty_table(call):
    table = call(frame().clear())
    keys = [name for name in ("cohort", "user_id") if name in table.columns]
    assert cl.triangle(table, "amount").columns == keys


# --- settings ----------------------------------------------------------------------------------------------

SETTINGS = {
    "freq": (["m", "Y", "month", "", None, 1], ["'D'", "'W'", "'M'", "'Q'", "'A'"]),
    "week_start": (["Monday", "mon", 0, None], ["'monday'", "'sunday'"]),
    "refunds": (["gross", None, True], ["'net'", "'signed'", "'drop'"]),
    "before_joined": (["keep", None], ["'error'", "'clip'", "'drop'"]),
    "nulls": (["ignore", None, False], ["'error'", "'drop'"]),
    "timezone": (["Mars/Olympus", "", 1, None, "+02:00 "], []),
    "decimals": ([-1, 10, 2.0, "6", None, True], ["0", "9"]),
    "threads": ([0, -1, 1.5, "2", True], []),
    "complete_only": (["yes", None, 2], []),
    "progress": ([42, "bar"], []),
    "user": ([1, None], []),
    "timestamp": ([1, None], []),
    "amount": ([1, None], []),
    "start": (["yesterday", "2026-13", "2026Q5", "2026-02-30", "", 2026, "26-01"], ["2026"]),
    "end": (["yesterday", "2026-13", "2026Q0", "2026-02-30", "", 2026, "2026-1-1x"], ["2026"]),
}
OF_CUSTOMERS = {
    "basis": (["cohort", "single", None], ["'single_customer'", "'cohort_total'", "'cohort_mean'"]),
    "rows": (["all", None, 5], ["'dense'", "'active'"]),
    "top_n": ([0, -1, 2.5, "25", True], []),
}


def wrong_settings():
    for call in BOTH:
        known = SETTINGS | (OF_CUSTOMERS if call is cl.termina.customer_cohorts else {})
        for name, (values, _) in known.items():
            for value in values:
                yield pytest.param(call, name, value, id=f"{call.__name__}-{name}={value!r}")


@pytest.mark.parametrize(("call", "name", "value"), list(wrong_settings()))
def test_wrong_settings(call, name, value):
    """The message names the setting, its value and the allowed values; rows are not read."""
    allowed = (SETTINGS | OF_CUSTOMERS)[name][1]
    text = message(SettingError, call, frame(), **{name: value})
    mentions(text, name, repr(value))
    mentions(text, *allowed)
    with pytest.raises(ValueError, match=name):
        call(frame().clear(), **{name: value})


def test_unknown_setting():
    for call in BOTH:
        with pytest.raises(TypeError, match="frequency"):
            call(frame(), frequency="M")


def test_wrong_rank_by():
    """The message names an unknown column and those of the customer summary; other types are errors."""
    known = ["'cohort'", "'user_id'", "'cohort_size_amount'", "'ltv'", "'acv'", "'active_periods'"]
    for rank_by in ("nonesuch", pl.col("nonesuch")):
        text = message(SettingError, cl.termina.customer_cohorts, frame(), top_n=1, rank_by=rank_by)
        mentions(text, "rank_by", "nonesuch", *known)
    mentions(message(SettingError, cl.termina.customer_cohorts, frame(), top_n=1, rank_by=3), "rank_by", "3")


def test_similar_names_are_suggested():
    """A typo is answered with the similar name."""
    mentions(message(SettingError, cl.termina.cohorts, frame(), timezone="Europe/Berln"), "Europe/Berlin")
    mentions(message(SchemaError, cl.termina.cohorts, frame(), user="userid"), "user='user_id'")


ENDS = ["2026-02", "2026-02-01", "2026-02-28", dt.date(2026, 2, 14), dt.datetime(2026, 2, 28, 23, 59)]


@pytest.mark.parametrize("end", ENDS, ids=str)
def test_ways_to_write_an_end(end):
    table = cl.termina.cohorts(frame(), end=end)
    assert table.select("cohort", "period", "amount").rows() == [("2026-01", 0, 150.0), ("2026-01", 1, 80.0)]
    # As a start, the same words drop the cohort of January.
    assert cl.termina.cohorts(frame(), start=end)["cohort"].to_list() == ["2026-03"]


@pytest.mark.parametrize(("end", "ages"), [("2026", 12), ("2026Q1", 3), ("2026Q4", 12), ("2025", 0), ("2027-01", 13)])
def test_an_end_is_the_last_period_of_its_label(end, ages):
    table = cl.termina.cohorts(frame(), end=end).filter(pl.col("cohort") == "2026-01")
    assert table["period"].to_list() == list(range(ages))


@pytest.mark.parametrize(("start", "kept"), [("2026", 2), ("2026Q1", 2), ("2025", 2), ("2026Q2", 0), ("2027", 0)])
def test_a_start_is_the_first_period_of_its_label(start, kept):
    assert cl.termina.cohorts(frame(), start=start)["cohort"].n_unique() == kept


# --- joined ------------------------------------------------------------------------------------------------

JOINED = pl.DataFrame({"user_id": ["a", "b", "c", "d"], "joined": [dt.date(2026, 1, d) for d in (1, 2, 3, 4)]})


def test_kinds_of_joined(tmp_path):
    """Every kind of table can have the dates; so can a column of the rows."""
    expected = cl.termina.cohorts(frame(), joined=JOINED)
    assert expected.select("cohort", "cohort_size", "active_users").rows() == [
        ("2026-01", 4, 2),
        ("2026-01", 4, 1),
        ("2026-01", 4, 2),
    ]
    JOINED.write_parquet(tmp_path / "joined.parquet")
    JOINED.write_csv(tmp_path / "joined.csv")
    kinds = [JOINED.lazy(), JOINED.to_arrow(), JOINED.to_pandas(), JOINED.rename({"joined": "since"})]
    kinds += [tmp_path / "joined.parquet", str(tmp_path / "joined.parquet"), tmp_path / "joined.csv"]
    kinds += [JOINED.with_columns(pl.col("user_id").cast(pl.Categorical), other=1)]
    kinds += [JOINED.with_columns(pl.col("joined").cast(pl.Datetime("ms", "UTC")))]
    kinds += [pl.concat([JOINED, JOINED])]
    for joined in kinds:
        same(cl.termina.cohorts(frame(), joined=joined), expected)
    within = frame().join(JOINED, on="user_id").rename({"joined": "signed up"})
    same(
        cl.termina.cohorts(within, joined="signed up"),
        cl.termina.cohorts(frame(), joined=JOINED.head(3)),
    )


def test_joined_takes_the_name_of_the_user_column():
    rows, joined = frame().rename({"user_id": "customer"}), JOINED.rename({"user_id": "customer"})
    same(cl.termina.cohorts(rows, user="customer", joined=joined), cl.termina.cohorts(frame(), joined=JOINED))


def test_joined_of_integer_users():
    codes = {"a": 1, "b": 2, "c": 3, "d": 4}
    rows = frame().with_columns(pl.col("user_id").replace_strict(codes, return_dtype=pl.Int32))
    joined = JOINED.with_columns(pl.col("user_id").replace_strict(codes, return_dtype=pl.UInt64))
    same(cl.termina.cohorts(rows, joined=joined), cl.termina.cohorts(frame(), joined=JOINED))


def test_bad_joined(tmp_path):
    call = cl.termina.cohorts
    mentions(message(SchemaError, call, frame(), joined=JOINED.rename({"user_id": "id"})), "'user_id'", "'id'")
    three = JOINED.rename({"joined": "since"}).with_columns(other=1)
    mentions(message(SchemaError, call, frame(), joined=three), "'joined'", "'since'", "expected")
    mentions(message(SchemaError, call, frame(), joined=JOINED.with_columns(joined=True)), "'joined'", "Boolean")
    mentions(message(SchemaError, call, frame(), joined=42), "joined=42")
    mentions(message(SourceError, call, frame(), joined=tmp_path / "none.parquet"), "none.parquet")
    mentions(message(CohortlibError, call, frame(), joined="nonesuch"), "nonesuch", "'user_id'")
    twice = pl.concat([JOINED, JOINED.with_columns(joined=dt.date(2025, 12, 31))])
    mentions(message(DataError, call, frame(), joined=twice), "joined", "4")
    holes = JOINED.with_columns(joined=pl.when(pl.col("user_id") != "a").then("joined"))
    mentions(message(DataError, call, frame(), joined=holes), "joined", "1", "nulls='drop'")
    late = JOINED.with_columns(joined=dt.date(2026, 2, 1))
    mentions(message(DataError, call, frame(), joined=late), "before_joined=", "2", "hint")


# --- importing ---------------------------------------------------------------------------------------------


def modules_after(code):
    """Run code in a fresh interpreter and return the names of all modules it loaded."""
    script = f"import sys\n{code}\nprint('\\n'.join(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_import_is_light():
    """`import cohortlib` loads no frames, no compiler, no Arrow, no terminal, plotting or HTTP library."""
    heavy = {
        "polars",
        "numpy",
        "numba",
        "llvmlite",
        "nanoarrow",
        "pyarrow",
        "pandas",
        "duckdb",
        "click",
        "rich",
        "altair",
    }
    heavy |= {"matplotlib", "httpx", "requests", "urllib3", "http.client"}
    assert heavy.isdisjoint(modules_after("import cohortlib"))


def test_public_names():
    for name in ("CohortlibError", "SettingError", "SchemaError", "DataError", "SourceError"):
        assert issubclass(getattr(cl.errors, name), CohortlibError)
    assert issubclass(SettingError, ValueError)
    assert issubclass(CohortlibWarning, UserWarning)


@pytest.mark.parametrize("name", ["*", "^.*$", "^a.*$"])
@pytest.mark.parametrize("role", ["user", "timestamp", "amount"])
def test_roles_are_not_patterns(role, name, cohorts):
    rows = frame().with_columns(pl.col("amount").cast(pl.Decimal(18, 6)))
    old = {"user": "user_id"}.get(role, role)
    same(cl.termina.cohorts(rows.rename({old: name}), **{role: name}), cohorts)


@pytest.mark.parametrize(
    ("column", "values", "hint"),
    [
        ("timestamp", [1704067200], "timestamp_format='epoch_s'"),
        ("timestamp", [True], "pl.col('timestamp').cast(pl.Date)"),
        ("user_id", [1.0], "pl.col('user_id').cast(pl.Int64)"),
        ("user_id", [dt.date(2024, 1, 1)], "pl.col('user_id').cast(pl.String)"),
    ],
)
def test_the_hint_depends_on_the_type(column, values, hint):
    row = {"user_id": ["a"], "timestamp": [dt.date(2024, 1, 1)], "amount": [1]} | {column: values}
    with pytest.raises(SchemaError, match=re.escape(f"Hint: {hint}")):
        cl.termina.cohorts(pl.DataFrame(row))


def test_a_nul_in_the_name_of_a_text_column_is_harmless(cohorts):
    texts = frame().cast(pl.String).rename({"user_id": "u\0", "timestamp": "t\0", "amount": "a\0"})
    same(cl.termina.cohorts(texts, user="u\0", timestamp="t\0", amount="a\0"), cohorts)
    assert cl.inspect(texts).user == "u\0"
