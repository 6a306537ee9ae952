"""Text is read as the slow parser in naive_text.py reads it, whatever the views, batches, files and roads."""

import datetime as dt
import gzip
import random
import re
import warnings
from zoneinfo import ZoneInfo

import naive_text
import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

import cohortlib as cl
from cohortlib.engine import memory
from cohortlib.errors import CohortlibError, CohortlibWarning, DataError, SchemaError, SettingError
from cohortlib.read import ids as id_module
from cohortlib.read import tables as tables_module
from cohortlib.read import text as text_module
from cohortlib.read.formats import compile_format
from cohortlib.read.ids import fold
from cohortlib.read.instants import assume_zone
from cohortlib.read.money import CODES
from cohortlib.read.text import parse_instants, parse_units
from cohortlib.transactions.store import spill

pytestmark = pytest.mark.unit

KINDS = ("null", "date", "naive", "zoned", "bad")
CODES_DRAWN = ("USD", "EUR", "CHF")
FORMATS = (
    "%d/%m/%Y", "%m/%d/%Y", "%d.%m.%Y %H:%M:%S", "%m/%d/%y %I:%M %p", "%d %b %Y", "%a, %d %b %Y %H:%M:%S %z",
    "%Y/%m/%d %H:%M:%S.%f", "%Y-%d-%m",
)  # fmt: skip


# --- values --------------------------------------------------------------------------------------------------------


def of(*choices):
    return st.sampled_from(choices)


def two(low, high):
    return st.integers(low, high).map("{:02}".format)


DATES = st.builds("{:04}{}{}{}{}".format, of(1970, 2024, 2025, 1900, 2100, 1, 9999), of("-", "-", "", "/"), two(0, 13),
                  of("-", "-", "", "/"), two(0, 32))  # fmt: skip
CLOCKS = st.builds(
    lambda hour, mark, minute, mark2, second, tail: hour + mark + minute + mark2 + second + tail,
    two(0, 24), of(":", ":", ""), two(0, 60), of(":", ":", ""), two(0, 60),
    of("", "", ".5", ".123456789", ",25", ".", ".0000001"),
)  # fmt: skip
ZONES = of(
    "",
    "",
    "GMT",
    " GMT",
    "Z",
    "z",
    " Z",
    "UTC",
    " UTC",
    "+02",
    "-0330",
    " +05:45",
    "+24:00",
    "-00:60",
    "  Z",
    "utc",
    "+1",
    " ",
)
INSTANTS = st.one_of(
    st.builds("{}{}{}".format, DATES, of("T", " ", "t", "  ", "_", ""), st.builds("{}{}".format, CLOCKS, ZONES)),
    DATES,
    st.builds("{}T{}{}".format, DATES, two(0, 24), ZONES),
    st.builds("{}T{}{}{}".format, DATES, two(0, 24), two(0, 60), ZONES),
    st.dates().map(str),
    st.datetimes(dt.datetime(1900, 1, 1), dt.datetime(2200, 1, 1)).map(str),
    st.text("0123456789-:TZ +.", max_size=30),
    of("", " ", "\t", "null", "2025-02-29", "20260105T093000Z", "2026-01-05T24:00:00", "2025-02-29T00:00:00"),
)
FORMATTED = st.one_of(
    st.builds("{}{}{}{}{}".format, of("1", "01", "12", "31", "0", "2026"), of("/", ".", " ", "-"),
              of("1", "05", "12", "13", "Jan", "february", "MAR", "Janu"), of("/", ".", " ", "-"),
              of("2026", "26", "69", "02", "31")),
    st.builds("{}, {} {} {} {} {}".format, of("Mon", "tuesday", "Xyz"), of("5", "30"), of("Jan", "Feb"), of("2026"),
              CLOCKS, ZONES),
    st.builds("{}/{}/{} {}:{} {}".format, two(1, 12), two(1, 31), two(0, 99), of("1", "12", "13", "00"), two(0, 60),
              of("AM", "pm", "xm", "")),
    INSTANTS,
)  # fmt: skip
DIGITS = st.one_of(
    st.integers(0, 10**12).map(str), st.integers(0, 10**25).map(str), st.integers(0, 10**9).map("{:,}".format),
    of("", "0", "00", "007", "1.029", "9223372036854", "1'000", "1 000", "1\xa0000", "12,34,567", "0,123"),
)  # fmt: skip
NUMBERS = st.builds(
    "{}{}{}{}".format, DIGITS, of("", "", ".", ","), of("", "", "5", "50", "000001", "0000005", "00000050000001", "x"),
    of("", "", "", "e-3", "E+2", "e", "e400", "e-400"),
)  # fmt: skip
AMOUNTS = st.one_of(
    NUMBERS,
    st.builds("{}{}".format, of("-", "+", "--", "- "), NUMBERS),
    st.builds("{}{}{}{}".format, of("", "-", "("), of("$", "€", "USD ", "EUR", "XYZ", "$ -", "$("), NUMBERS,
              of("", ")", " €", " CHF")),
    st.builds("({})".format, NUMBERS),
    st.builds("{}{}".format, NUMBERS, of(" €", "USD", " ", "\t", "\xa0€")),
    st.floats(allow_nan=True).map(repr),
    of("", "  ", "\xa0", "NaN", "null", ".", "-", "$", "()"),
)  # fmt: skip


def chunked(texts, seed):
    """Return a column of text in several chunks, some of them slices, with nulls and texts of all lengths between."""
    chance = random.Random(seed)  # noqa: S311
    pieces, place = [], 0
    while place < len(texts):
        size = chance.randint(1, 4)
        piece = pl.Series(["before", "a text of more than twelve bytes", *texts[place : place + size], "after"])
        pieces.append(piece.slice(2, len(texts[place : place + size])))
        place += size
    return pl.concat(pieces, rechunk=False) if pieces else pl.Series([], dtype=pl.String)


def as_pairs(instants):
    return [
        (KINDS[kind],) if kind in (0, 4) else (KINDS[kind], int(tick))
        for tick, kind in zip(instants.ticks, instants.kinds, strict=True)
    ]


@given(st.lists(st.one_of(st.none(), INSTANTS), max_size=12), st.integers(0, 99))
@example(["2026-01-05", "2026-01-05T09:30:00.123456789+05:45", None, "20260105", "x" * 20], 1)
def test_instants_equal_the_slow_parser(texts, seed):
    column = chunked(texts, seed)
    assert as_pairs(parse_instants(column, compile_format(None), 1 + seed % 2)) == [*map(naive_text.instant, texts)]


def test_every_day_is_read():
    days = pl.date_range(dt.date(1600, 1, 1), dt.date(2400, 12, 31), eager=True)
    for form in ("%Y-%m-%d", "%Y%m%d"):
        ticks = parse_instants(days.dt.strftime(form), compile_format(None)).ticks
        assert (ticks == days.cast(pl.Datetime("us")).to_physical().to_numpy()).all()


@pytest.mark.parametrize("form", FORMATS)
@given(st.lists(st.one_of(st.none(), FORMATTED), max_size=12), st.integers(0, 99))
def test_formats_equal_the_slow_parser(form, texts, seed):
    got = as_pairs(parse_instants(chunked(texts, seed), compile_format(form)))
    assert got == [naive_text.formatted(text, form) for text in texts]


@given(st.lists(st.one_of(st.none(), AMOUNTS), max_size=12), of(".", ","), of(0, 2, 6, 9), st.integers(0, 99))
@example(["0,123", "01,234", "1,234", "1,234,567.5", "12,34", "1'234", "1,234'567"], ".", 2, 0)
@example(["0.0000005", "0.0000015", "9223372036854.775807", "9223372036854.775808", "1e-7"], ".", 6, 0)
def test_amounts_equal_the_slow_parser(texts, mark, decimals, seed):
    amounts = parse_units(chunked(texts, seed), mark, decimals, 1 + seed % 2)
    expected = [naive_text.amount(text, mark, decimals, CODES_DRAWN) for text in texts]
    got = []
    for text, valid, units in zip(texts, amounts.valid, amounts.units, strict=True):
        kind = "bad" if text in amounts.bad else "large" if text in amounts.too_large else "null"
        got.append(("units", int(units)) if valid else (kind,))
    assert got == [each[:2] for each in expected]
    currencies = [each[2] for each in expected if each[0] == "units" and each[2]]
    assert amounts.currencies == {name: currencies.count(name) for name in currencies}


def test_codes_are_of_iso_4217():
    assert {"USD", "EUR", "JPY", "CHF", "BRL"} <= CODES
    assert not {"NAN", "QTY", "ABC"} & CODES


@given(
    st.lists(st.datetimes(dt.datetime(1900, 1, 2), dt.datetime(2099, 12, 30)), max_size=20),
    of("America/New_York", "Europe/Berlin", "Australia/Lord_Howe", "Asia/Tokyo", "UTC"),
)
@example([dt.datetime(2025, 3, 9, 2, 30), dt.datetime(2025, 11, 2, 1, 30)], "America/New_York")
def test_assumed_zones_equal_those_of_python(times, zone):
    ticks = np.array([(time - naive_text.EPOCH) // dt.timedelta(microseconds=1) for time in times], np.int64)
    utc = assume_zone(ticks, np.ones(len(times), np.bool_), zone)
    epoch = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
    aware = [
        (time.replace(tzinfo=ZoneInfo(zone)).astimezone(dt.UTC) - epoch) // dt.timedelta(microseconds=1)
        for time in times
    ]
    assert utc.tolist() == aware


@pytest.mark.parametrize(
    ("form", "text", "expected"),
    [
        ("epoch_s", "1738281600", "2025-01-31 00:00:00"),
        ("epoch_s", "1738281600.25", "2025-01-31 00:00:00.250"),
        ("epoch_s", "1.7382816e9", "2025-01-31 00:00:00"),
        ("epoch_s", "2025-01-31T01:00+01", "2025-01-31 00:00:00"),
        ("epoch_ms", "-1", "1969-12-31 23:59:59.999"),
        ("epoch_us", "20260105", "1970-01-01 00:00:20.260105"),
        ("excel", "45688", "2025-01-31 00:00:00"),
        ("excel", "45688.3958333333", "2025-01-31 09:30:00"),
        ("excel", "61", "1900-03-01 00:00:00"),
    ],
)
def test_numbers_since_an_epoch(form, text, expected):
    instants = parse_instants(pl.Series([text]), compile_format(form))
    assert KINDS[instants.kinds[0]] in (("date", "naive") if form == "excel" else ("zoned",))
    assert instants.ticks[0] == pl.Series([expected]).str.to_datetime(time_unit="us").to_physical()[0]


@pytest.mark.parametrize("form", ["epoch_s", "excel"])
@pytest.mark.parametrize("text", ["20260105T00", "x", "1,5", "$5", "60" * 20, "--1"])
def test_what_is_no_number_since_an_epoch(form, text):
    assert KINDS[parse_instants(pl.Series([text]), compile_format(form)).kinds[0]] == "bad"
    assert KINDS[parse_instants(pl.Series(["60"]), compile_format("excel")).kinds[0]] == "bad"


@pytest.mark.parametrize(
    ("form", "problem"),
    [
        ("%d/%m", "needs one year"), ("%Y-%m", "needs a day"), ("%Q", "has the unknown directive '%Q'"),
        ("%d%d%m%Y", "has the same part twice"), ("%I %d/%m/%Y", "needs %I and %p together"), ("", "needs one year"),
        ("%d/%m/%Y %", "has the unknown directive '%'"),
    ],
)  # fmt: skip
def test_formats_that_describe_no_date(form, problem):
    with pytest.raises(SettingError, match=problem):
        cl.termina.cohorts(TABLE, timestamp_format=form)


@pytest.mark.parametrize(
    "setting", [{"decimal": ";"}, {"normalize": "lower"}, {"assume_zone": "Mars"}, {"timestamp_format": 5}]
)
def test_settings_are_checked(setting):
    with pytest.raises(SettingError, match=f"^{next(iter(setting))}="):
        cl.termina.cohorts(TABLE, **setting)


@pytest.fixture
def tiny_memory(monkeypatch):
    """Let a budget of one byte pass, so that a few rows are spilled in several runs."""
    monkeypatch.setattr(memory, "MINIMUM", 1)
    monkeypatch.setattr(spill, "_MIN_ROWS", 3)


# --- tables --------------------------------------------------------------------------------------------------------

TABLE = pl.DataFrame(
    {
        "user_id": ["a", "a", "b", "a user with a long name", "b"],
        "timestamp": ["2026-01-05", "2026-02-10T09:30:00", "20260120", "2026-01-31 23:59:59.9999999", "2026-03-01"],
        "amount": ["100", "$1,080.25", "(5)", "1e-3", "7."],
    }
)


def outcome(call):
    """Return the table or the message, without where a row is."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CohortlibWarning)
        try:
            return call().rows()
        except CohortlibError as error:
            return type(error), re.sub(r"^\S*(row|part\S* row|part\S* line) [\d,]+: ", "", str(error))


ROW = st.tuples(
    of("a", "b", "Bo", "a user with a long name", ""),
    of("2026-01-05", "2026-02-10T09:30:00", "20260320", "2026-01-31T23:30:00Z", "", "31/01/2026", "9999-12-31"),
    of("5", "-2.5", "$1,080.25", "7 €", "1e-3", "", "x"),
)


@given(st.lists(ROW, min_size=1, max_size=8), st.data(), of({}, {"nulls": "drop"}, {"nulls": "drop", "end": "2026-12"}))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_every_road_reads_the_same(tmp_path_factory, tiny_memory, rows, data, options):
    folder = tmp_path_factory.mktemp("roads")
    frame = pl.DataFrame(rows, schema=["user_id", "timestamp", "amount"], orient="row")
    expected = outcome(lambda: cl.termina.cohorts(frame, **options))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(rows)), max_size=2)))
    for place, (first, last) in enumerate(zip([0, *cuts], [*cuts, len(rows)], strict=True)):
        part = frame[first:last]
        part.write_csv(folder / f"part{place}.csv", quote_style=data.draw(of("necessary", "always")))
        part.write_parquet(folder / f"part{place}.parquet")
        (folder / f"part{place}.csv.gz").write_bytes(gzip.compress(part.write_csv().encode()))
    for kind in ("csv", "parquet", "csv.gz"):
        assert outcome(lambda: cl.termina.cohorts(f"{folder}/*.{kind}", **options)) == expected, kind  # noqa: B023
    assert outcome(lambda: cl.termina.cohorts(f"{folder}/*.csv", max_memory=1, **options)) == expected
    if "end" not in options:
        assert outcome(lambda: cl.termina.cohorts(cl.prepare(f"{folder}/*.csv", folder / "p", **options))) == expected
    customers = outcome(lambda: cl.termina.customer_cohorts(frame, **options))
    assert outcome(lambda: cl.termina.customer_cohorts(f"{folder}/*.csv", **options)) == customers


def test_text_and_typed_tables_are_equal():
    typed = pl.DataFrame(
        {
            "user_id": TABLE["user_id"],
            "timestamp": [dt.date(2026, *day) for day in ((1, 5), (2, 10), (1, 20), (1, 31), (3, 1))],
            "amount": [100, 1080.25, -5, 0.001, 7],
        },
        strict=False,
    )  # fmt: skip
    assert cl.termina.cohorts(TABLE).equals(cl.termina.cohorts(typed))
    categories = TABLE.with_columns(pl.all().cast(pl.Categorical))
    assert cl.termina.cohorts(categories).equals(cl.termina.cohorts(typed))
    assert cl.termina.cohorts(TABLE.to_pandas()).equals(cl.termina.cohorts(typed))


def test_ids_fold():
    assert [fold(text) for text in (" Ann\t", "17850.00", "1.5", "straße", "\xa0A")] == [
        "ann",
        "17850",
        "1.5",
        "strasse",
        "a",
    ]


def table(users, **columns):
    count = len(users)
    rows = {"user_id": users, "timestamp": ["2026-01-05"] * count, "amount": ["1"] * count} | columns
    return pl.DataFrame(rows)


@pytest.mark.parametrize(
    ("users", "message"),
    [
        (
            ["NULL", "a", "NULL", r"\N"],
            r"column 'user_id' has 3 rows whose user is .* value: 'NULL' 2, '\\\\N' 1\. They",
        ),
        (["17850", "17850.0", "3", "4.00"], "has 2 users that are the same number .*'17850' and '17850.0'"),
        (["Ann", "ann", "ANN ", "bo"], "has 3 users whose ids differ only in case.*Hint: normalize='casefold'"),
        (["ann", "ann ", "bo"], "has 2 users whose ids differ only in case.*Hint: normalize='strip' makes them one"),
        (["Ärzte ohne Grenzen", "ärzte ohne grenzen"], "has 2 users whose ids differ only in case"),
    ],
)
def test_doubtful_ids_are_reported(users, message, tmp_path, tiny_memory):
    with pytest.warns(CohortlibWarning, match=message) as caught:
        cl.termina.cohorts(table(users))
    assert len(caught) == 1
    table(users).write_csv(tmp_path / "rows.csv")
    for budget in (None, 1):
        with pytest.warns(CohortlibWarning, match=message):
            cl.termina.cohorts(tmp_path / "rows.csv", max_memory=budget)


@pytest.mark.parametrize("users", [["Ann", "bob", "4.0", "5", "naan", "nulls", "x" * 40], ["cus_9sXk", "cus_9sXy"]])
def test_ids_without_doubt_are_not_reported(users):
    assert cl.termina.cohorts(table(users))["cohort_size"][0] == len(users)


@pytest.mark.parametrize("blank", ["", " ", "\t", "\xa0", " " * 20, "\u3000"])
def test_blank_users_are_null(blank):
    rows = table([blank, "a", "a"])
    with pytest.raises(DataError, match=r"has nulls: 1 in column 'user_id', of 3 rows"):
        cl.termina.cohorts(rows)
    with pytest.raises(DataError, match=r"has nulls: 1 in column 'user_id', of 3 rows"):
        cl.termina.cohorts(rows.with_columns(pl.col("user_id").cast(pl.Categorical)))


def test_normalize_makes_ids_one(tmp_path):
    rows = table(["Ann", " ann", "ANN\t", "strasse", "straße"])
    sizes = {None: 5, "strip": 5, "casefold": 2}
    for normalize, size in sizes.items():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", CohortlibWarning)
            result = cl.termina.customer_cohorts(rows, normalize=normalize)
            assert result["user_id"].n_unique() == size
            joined = pl.DataFrame({"user_id": ["aNN"], "joined": ["2025-12-01"]})
            found = cl.termina.cohorts(rows, joined=joined, normalize=normalize)
        assert found.filter(pl.col("cohort") == "2025-12")["active_users"].sum() == (
            1 if normalize == "casefold" else 0
        )
    prepared = cl.prepare(rows, tmp_path / "p", normalize="casefold")
    assert cl.termina.cohorts(prepared)["cohort_size"][0] == 2
    with pytest.raises(SettingError, match="prepared with normalize='casefold', not with normalize='strip'"):
        cl.termina.cohorts(prepared, normalize="strip")


def test_a_state_reads_later_rows_as_the_first(tmp_path):
    state = cl.termina.State.build(
        table(["A"], timestamp=["31/01/2026"], amount=["1,5"]), tmp_path / "s",
        timestamp_format="%d/%m/%Y", decimal=",", normalize="casefold",
    )  # fmt: skip
    state.update(table(["a"], timestamp=["01/02/2026"], amount=["2,5"]))
    assert state.cohorts()["ltv"].to_list() == [1.5, 4.0]
    with pytest.raises(DataError, match="has instants with an offset from UTC; earlier rows are without"):
        state.update(table(["a"], timestamp=["2026-02-01T00:00:00Z"]))
    assert state.cohorts()["ltv"].to_list() == [1.5, 4.0]


def test_two_currencies_are_counted():
    rows = table(["a"] * 4, amount=["$5", "5 €", "EUR 6", "7"])
    with pytest.raises(DataError, match=r"column 'amount' has amounts in 2 currencies: 2 in 'EUR', 1 in '\$'"):
        cl.termina.cohorts(rows)
    assert cl.termina.cohorts(rows[1:])["amount"].sum() == 18


def test_an_amount_beyond_64_bits():
    with pytest.raises(DataError, match=r"is beyond 9\.22e"):
        cl.termina.cohorts(table(["a"], amount=["9223372036854775808"]))


@pytest.mark.parametrize("dtype", [pl.Date, pl.Datetime("ms"), pl.Datetime("us", "UTC")])
def test_years_of_typed_columns(dtype):
    rows = pl.DataFrame({"user_id": "a", "timestamp": [dt.date(2026, 1, 1), dt.date(9999, 12, 31)], "amount": 1})
    rows = rows.with_columns(pl.col("timestamp").cast(dtype))
    with pytest.raises(DataError, match=r"row 1: timestamp '9999-12-31.*' is before 1900 or after 2200 \(1 instant\)"):
        cl.termina.cohorts(rows)
    assert cl.termina.cohorts(rows, end="2026-02", timezone="Asia/Tokyo")["active_users"].to_list() == [1, 0]
    early = rows.with_columns(timestamp=pl.lit(dt.date(1899, 12, 31)).cast(dtype))
    with pytest.raises(DataError, match="before 1900"):
        cl.termina.cohorts(early, end="2026-02")


def test_numeric_timestamps():
    rows = table(["a", "a"], timestamp=[1738281600, 1740700800])
    assert cl.termina.cohorts(rows, timestamp_format="epoch_s")["cohort"].to_list() == ["2025-01", "2025-01"]
    floats = rows.with_columns(timestamp=pl.Series([45688.5, 45716.0]))
    assert cl.termina.cohorts(floats, timestamp_format="excel")["period"].to_list() == [0, 1]
    with pytest.raises(DataError, match="1 numbers that are not instants"):
        cl.termina.cohorts(rows.with_columns(timestamp=pl.Series([1.0, float("nan")])), timestamp_format="epoch_s")


def test_blanks_beyond_the_sample_are_null_and_twins_there_are_not_compared(monkeypatch):
    monkeypatch.setattr(id_module, "SAMPLE", 4)
    monkeypatch.setattr(text_module, "_BLOCK", 2)
    texts = ["a", "b", "A", "c", " ", "", "\u3000", "\u00e9", "NULL", "a long id, a blank at its end ", "B", " " * 20]
    doubts = id_module.Doubts()
    clean = id_module.clean_ids(pl.Series("user", texts), None, doubts)
    assert clean.to_list() == [None if not text.strip() else text for text in texts]
    assert doubts.null_words == {"NULL": 1}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        doubts.warn("user", None)
    assert "'NULL' 1" in str(caught[0].message)
    assert "in its first 4 rows, 2 users" in str(caught[1].message)
    assert "'A' and 'a'" in str(caught[1].message)


def test_years_are_those_of_utc():
    rows = table(["a", "a"], timestamp=["1900-01-01", "2026-01-01"])
    assert cl.termina.cohorts(rows)["cohort"][0] == "1900-01"
    for other in (rows, rows.with_columns(pl.col("timestamp").str.to_date())):
        with pytest.raises(
            DataError, match=r"row 0: timestamp '1900-01-01' is before 1900 or after 2200 \(1 instant\)"
        ):
            cl.termina.cohorts(other, assume_zone="Asia/Tokyo")


def test_columns_of_nulls():
    rows = table(["a", "b"]).with_columns(timestamp=pl.lit(None))
    with pytest.raises(DataError, match="nulls: 2 in column 'timestamp', of 2 rows"):
        cl.termina.cohorts(rows)
    with pytest.warns(CohortlibWarning, match="2 of 2 rows"):
        assert cl.termina.cohorts(rows.select("timestamp", user_id=None, amount=None), nulls="drop").is_empty()
    with pytest.warns(CohortlibWarning, match="2 of 2 rows"):
        assert cl.termina.cohorts(rows, nulls="drop").is_empty()


def test_categories_are_compared_over_batches(monkeypatch):
    monkeypatch.setattr(tables_module, "_BATCH", 1)
    rows = table(["a", "b", "A"]).with_columns(pl.col("user_id").cast(pl.Categorical))
    with pytest.warns(CohortlibWarning, match="'A' and 'a'"):
        cl.termina.cohorts(rows)


@pytest.mark.parametrize(
    ("column", "text", "hint"),
    [
        ("timestamp", "Mon, 05 Jan 2026 10:30:00 GMT", "'%a, %d %b %Y %H:%M:%S %z' (day first) reads 1 of these 1"),
        ("timestamp", "05-JAN-26 10.30.00.000000 AM", "'%d-%b-%y %I.%M.%S.%f %p' (day first) reads 1 of these 1"),
        ("timestamp", "2026-01-05-10.30.00.000000", "'%Y-%m-%d-%H.%M.%S.%f' (year first) reads 1 of these 1"),
        ("timestamp", "2026年1月5日", "'%Y年%m月%d日' (year first) reads 1 of these 1"),
        ("timestamp", r"\N", r"'\\N' is read as text: make the field empty, and nulls='drop' skips these rows"),
        ("timestamp", "0000-00-00", "'0000-00-00' is read as text: make the field empty"),
        ("amount", "NULL", "'NULL' is read as text: make the field empty"),
        ("amount", "-", "write 0, or make the field empty"),
        ("amount", "5.00-", "write a minus as '-' in front of the digits"),
        ("amount", "\u22125", "write a minus as '-' in front of the digits"),
        ("amount", "5¢", "correct the rows"),
    ],
)
def test_hints_for_text_of_other_systems(column, text, hint):
    with pytest.raises(DataError) as error:
        cl.termina.cohorts(table(["a"], **{column: [text]}))
    assert hint in str(error.value)


def test_dates_written_as_numbers():
    rows = table(["a"], timestamp=[20260105])
    with pytest.raises(
        SchemaError, match=r"Hint: pl.col\('timestamp'\).cast\(pl.String\), for dates written as numbers"
    ):
        cl.termina.cohorts(rows)
    assert cl.termina.cohorts(rows.with_columns(pl.col("timestamp").cast(pl.String)))["cohort"][0] == "2026-01"


@pytest.mark.parametrize(
    ("amounts", "mark", "warned"),
    [
        (["1.029", "500", "12.000 €"], ".", 2),
        (["1,029", "500"], ",", 1),
        (["1.029", "500", "2.5"], ".", 0),
        (["1.029", "2.500"], ".", 0),  # of a currency or a meter with three places
        (["0.125", "500"], ".", 0),
        (["1.029", " "], ".", 0),
        (["1,029", "500"], ".", 0),
    ],
)
def test_amounts_that_may_be_thousands(amounts, mark, warned, tmp_path, tiny_memory):
    rows = table(["a"] * len(amounts), amount=amounts)
    rows.write_csv(tmp_path / "rows.csv")
    for source, budget in ((rows, None), (tmp_path / "rows.csv", None), (tmp_path / "rows.csv", 1)):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            cl.termina.cohorts(source, decimal=mark, max_memory=budget, nulls="drop")
        caught = [each for each in caught if "dropped for nulls" not in str(each.message)]
        other = "," if mark == "." else "."
        expected = [f"{warned} amounts with three decimal places.*pass decimal='{other}'"] if warned else []
        assert len(caught) == len(expected)
        assert all(re.search(text, str(each.message)) for text, each in zip(expected, caught, strict=True))
