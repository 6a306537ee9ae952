"""Check that records hold every row once, in its partition, and that Parquet read in batches gives the same tables."""

import math
from collections import Counter
from datetime import date, timedelta

import numpy as np
import polars as pl
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

import cohortlib as cl
from cohortlib.engine.kernels.partition import JOINED, Block, Form, count_records, write_narrow, write_records
from cohortlib.engine.partitions import FullError
from cohortlib.errors import CohortlibWarning, DataError, SchemaError
from cohortlib.periods import Calendar
from cohortlib.read import sources
from cohortlib.read.amounts import Amounts
from cohortlib.read.instants import Cut, Instants
from cohortlib.read.users import Users
from cohortlib.transactions import records
from cohortlib.transactions.records import Batch, Layout, PackingError, RecordsBuilder

pytestmark = pytest.mark.unit

ROW = st.tuples(st.integers(0, 40), st.integers(-300_000, 1_000_000), st.integers(-(2**52), 2**52))
DAY_MASK = (1 << 24) - 1


def partition(records, p):
    """List the records of a partition."""
    edges, words = records.arrays
    words = words[: words.size // records.form.width * records.form.width].reshape(-1, records.form.width)
    return [word for b in range(edges.shape[1]) for word in words[edges[p, b] : edges[p + 1, b]].tolist()]


def batch(rows, *, text, joined=False):
    users, days, units = zip(*rows, strict=True)
    ids = [f"a user of the name {user:020}" for user in users] if text else list(users)
    instants = Instants.of(pl.Series(days, dtype=pl.Int32).cast(pl.Date))
    cut = Cut.of(instants, "UTC", Calendar("D"))
    return Batch(Users.of(pl.Series(ids)), cut, None if joined else Amounts.of(pl.Series(units, dtype=pl.Int64), 0))


@given(
    st.lists(st.lists(ROW, min_size=1, max_size=200), min_size=1, max_size=4),
    st.lists(ROW, max_size=60),
    st.integers(0, 4),
    st.booleans(),
    st.integers(1, 3),
)
def test_every_row_is_written_once(tables, joined, bits, text, workers):
    builder = RecordsBuilder(sum(map(len, tables)) + len(joined), bits, workers, wide=text)
    others = [batch(joined, text=text, joined=True)] if joined else []
    batches = [batch(rows, text=text) for rows in tables]
    builder.add(others)
    builder.add(batches)
    result = builder.build()

    found = Counter()
    for p in range(1 << bits):
        here = partition(result, p)
        assert len(here) == result.sizes[p]
        flags = [bool(word[2] & int(JOINED)) for word in here]
        assert flags == sorted(flags, reverse=True)
        for word in here:
            assert int(word[0]) >> (64 - bits) == p
            found[tuple(word)] += 1

    expected = Counter()
    row = 0
    for part, flag in [(part, JOINED) for part in others] + [(part, 0) for part in batches]:
        keys, keys2 = part.users.keys(0, len(part.users))
        units = [0] * len(keys) if part.amounts is None else part.amounts.series.to_list()
        for i, day in enumerate(part.cut.instants.series.to_physical()):
            tag = (day & DAY_MASK) | int(flag) | (row + i << 32)
            expected[(int(keys[i]), units[i] % 2**64, tag, *([int(keys2[i])] if text else []))] += 1
            assert result.first <= day <= result.last
        row += len(keys)
    assert found == expected
    assert builder.total == sum(abs(units) for rows in tables for _, _, units in rows)


@pytest.mark.parametrize("workers", [1, 2])
def test_joined_users_come_first(workers, monkeypatch):
    monkeypatch.setattr(records, "_BLOCK", 50)
    rows = [(user, 0, 1) for user in range(300)]
    builder = RecordsBuilder(600, 1, workers, wide=False)
    builder.add([batch(rows, text=False, joined=True)])
    builder.add([batch(rows, text=False)])
    result = builder.build()
    for p in range(2):
        flags = [bool(word[2] & int(JOINED)) for word in partition(result, p)]
        assert flags == sorted(flags, reverse=True)
        assert 2 * sum(flags) == len(flags)


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_joined_dates_that_are_the_first_active_periods(threads):
    frame = table().with_columns(amount=pl.col("amount").abs() + 1)
    joined = frame.group_by("user_id").agg(pl.col("timestamp").min().alias("joined"))
    for call in (cl.termina.cohorts, cl.termina.customer_cohorts):
        assert_frame_equal(call(frame, joined=joined, threads=threads), call(frame), check_exact=True)


def test_several_blocks(monkeypatch):
    monkeypatch.setattr(records, "_BLOCK", 100)
    rows = [(user, user % 7, user) for user in range(5000)]
    builder = RecordsBuilder(len(rows), 3, 2, wide=False)
    builder.add([batch(rows[:1234], text=False), batch(rows[1234:], text=False)])
    result = builder.build()
    found = [word[2] >> 32 for p in range(1 << 3) for word in partition(result, p)]
    assert sorted(found) == list(range(5000))


@given(st.lists(ROW, min_size=1, max_size=100), st.integers(0, 4), st.booleans(), st.integers(5, 40))
def test_packed_records(rows, bits, text, money_bits):
    part = batch(rows, text=text)
    layout = Layout(0 if text else 64 - 14 - money_bits, 14, -5, part.cut.days[0] - 100)
    below = layout.key_bits + layout.day_bits
    builder = RecordsBuilder(len(rows), bits, 1, wide=text, layout=layout)
    if part.cut.days[1] - layout.first_day >= 1 << 14:
        with pytest.raises(PackingError):
            builder.add([part])
        return
    try:
        builder.add([part])
    except FullError:
        # Only amounts that need more records than there is room for.
        most = (1 << 63 - below) - 1
        assert sum(max(1, -(-abs(units) // most)) for _, _, units in rows) > len(rows) + len(rows) // 8 + len(rows)
        return
    result = builder.build()
    found = Counter()
    for p in range(1 << bits):
        for word in partition(result, p):
            day = (word[-1] >> layout.key_bits) % (1 << layout.day_bits) + layout.first_day
            key = tuple(word[:-1]) if text else (p, word[-1] % (1 << layout.key_bits))
            units = (word[-1] >> below) - (1 << 64 - below) * (word[-1] >> 63)
            assert abs(units) < 1 << 63 - below
            found[key, day] += units

    if text:
        keys = list(zip(*[column.tolist() for column in part.users.keys(0, len(rows))], strict=True))
    else:
        narrow = part.users.narrow_keys(0, len(rows), layout.first_id, layout.key_bits + bits).tolist()
        left = 64 - bits - layout.key_bits
        keys = [(key >> 64 - bits, key >> left & (1 << layout.key_bits) - 1) for key in narrow]
    expected = Counter()
    for key, (_, day, units) in zip(keys, rows, strict=True):
        expected[key, day] += units
    assert {cell: units for cell, units in found.items() if units} == {
        cell: units for cell, units in expected.items() if units
    }
    assert builder.total == sum(abs(units) for _, _, units in rows)


@given(st.integers(1, 64), st.integers(-(2**63), 2**63 - 1), st.data())
def test_narrow_keys_are_one_to_one(bits, base, data):
    room = min(1 << bits, 2**63 - base)
    ids = data.draw(st.lists(st.integers(base, base + room - 1), unique=True, min_size=1))
    users = Users.of(pl.Series(ids, dtype=pl.Int64))
    keys = users.narrow_keys(0, len(ids), base, bits)
    assert len(set(keys.tolist())) == len(ids)
    assert all(key % (1 << 64 - bits) == 0 for key in keys.tolist())
    if base + (1 << bits) < 2**63:
        beyond = Users.of(pl.Series([*ids, base + (1 << bits)], dtype=pl.Int64))
        assert beyond.narrow_keys(0, len(ids) + 1, base, bits) is None


@pytest.mark.parametrize("size", [1, 7, 100, 10_000])
def test_groups_hold_every_partition_once(size):
    sizes = np.array([0, 5, 90, 0, 0, 3, 200, 1, 1, 1, 0])
    result = records.Records(None, None, sizes, 0, 0)
    groups = result.groups(size)
    assert [p for part, end in groups for p in range(part, end)] == list(range(11))
    assert all(end - part == 1 or sizes[part : end - 1].sum() < size for part, end in groups)


@pytest.mark.parametrize("days", [62, 63, 64, 65, 128])
def test_periods_on_either_side_of_a_word(days):
    first = date(2024, 1, 1)
    rows = [(1, first, 5), (1, first + timedelta(days), 7), (2, first + timedelta(days), 1)]
    found = cl.termina.cohorts(pl.DataFrame(rows, ["user_id", "timestamp", "amount"], orient="row"), freq="D")
    assert found.filter(pl.col("active_users") > 0).select("period", "active_users", "amount").rows() == [
        (0, 1, 5.0),
        (days, 1, 7.0),
        (0, 1, 1.0),
    ]


@given(st.lists(st.tuples(st.integers(-3, 3), st.integers(-1, 1)), max_size=20), st.integers(2, 55))
@example([(0, 0)], 55)
@example([(2, 0), (-2, 0)], 40)
def test_records_are_counted_before_they_are_written(numbers, money_bits):
    form = Form(2, True, False, 5, 59 - money_bits, -3)
    most = (1 << money_bits - 1) - 1
    units = [times * most + more for times, more in numbers]
    keys = np.arange(len(units), dtype=np.uint64) * np.uint64(2**57)
    block = Block(keys, np.empty(0, np.uint64), np.array(units, np.int64), np.zeros(len(units), np.int32))
    counts = np.empty(4, np.int64)
    total = count_records(block, form, counts)
    begins = np.cumsum(counts) - counts
    ends = begins + counts
    written = begins.copy()
    words = np.zeros(total, np.uint64)
    write_records(block, form, 0, np.uint64(0), written, words)
    assert written.tolist() == ends.tolist()
    assert total == counts.sum()
    if total == len(units):
        for write in (write_narrow, write_narrow.py_func):  # small tables run it as plain Python
            narrow, written = np.zeros(total, np.uint64), begins.copy()
            with np.errstate(over="ignore"):
                write(block, form, written, narrow)
            assert narrow.tolist() == words.tolist()
            assert written.tolist() == ends.tolist()


def test_no_rows():
    builder = RecordsBuilder(0, 0, 1, wide=False)
    builder.add([])
    assert builder.build() is None


# ------------------------------------------------------------------------------------------ Parquet, batch by batch


def table(rows=3000):
    days = [date(2024, 1, 1) + timedelta(days=i * 37 % 700) for i in range(rows)]
    return pl.DataFrame(
        {
            "user_id": [f"{i * 31 % 400:036}" for i in range(rows)],
            "timestamp": days,
            "amount": [i % 90 - 5.5 for i in range(rows)],
        }
    )


@pytest.fixture
def streamed(tmp_path, monkeypatch):
    """Write a frame with many row groups and return its path; reading it whole fails."""

    def write(frame, *, whole=False):
        path = tmp_path / "rows.parquet"
        frame.write_parquet(path, row_group_size=100)
        if not whole:
            monkeypatch.setattr(sources, "read", None)
        return path

    return write


@pytest.mark.parametrize("freq", ["D", "M"])
@pytest.mark.parametrize(
    "change",
    [
        {},
        {"user_id": pl.col("user_id").cast(pl.Int32)},
        {"user_id": pl.col("user_id").cast(pl.UInt64) + 2**63},
        {"amount": pl.col("amount").cast(pl.Int16)},
        {"timestamp": pl.col("timestamp").cast(pl.Datetime("ms", "UTC")) - pl.duration(minutes=10)},
    ],
    ids=["plain", "Int32", "UInt64", "Int16", "Datetime"],
)
def test_a_file_and_a_frame_give_the_same_table(change, freq, streamed):
    frame = table().with_columns(**change)
    settings = {"freq": freq, "timezone": "Europe/Berlin"}
    expected = cl.termina.cohorts(frame, **settings)
    assert_frame_equal(cl.termina.cohorts(streamed(frame), **settings), expected, check_exact=True)


def test_nulls_are_counted_over_all_batches(streamed):
    frame = table().with_columns(
        user_id=pl.when(pl.int_range(pl.len()) % 500 == 3).then(None).otherwise("user_id"),
        amount=pl.when(pl.int_range(pl.len()) % 700 == 3).then(None).otherwise("amount"),
    )
    with pytest.warns(
        CohortlibWarning, match="10 of 3,000 rows of the table dropped for nulls: 6 in column 'user_id', 5 in"
    ):
        expected = cl.termina.cohorts(frame, nulls="drop")
    path = streamed(frame)
    with pytest.warns(
        CohortlibWarning, match="10 of 3,000 rows of the table dropped for nulls: 6 in column 'user_id', 5 in"
    ):
        assert_frame_equal(cl.termina.cohorts(path, nulls="drop"), expected, check_exact=True)


@pytest.mark.parametrize(
    "change",
    [
        {"amount": pl.when(pl.int_range(pl.len()) > 2900).then(math.nan).otherwise("amount")},
        {"user_id": pl.when(pl.int_range(pl.len()) > 2900).then(None).otherwise("user_id")},
        {"amount": pl.col("amount") * 1e9},
        {
            "timestamp": pl.when(pl.int_range(pl.len()) > 2900)
            .then(pl.date(1, 1, 1).dt.offset_by("-1d"))
            .otherwise("timestamp")
        },
        {"timestamp": pl.when(pl.int_range(pl.len()) < 200).then(None).otherwise(pl.col("timestamp").cast(pl.String))},
    ],
    ids=["NaN", "null", "sum", "year 0", "text"],
)
def test_errors_count_over_the_whole_table(change, streamed, tmp_path):
    frame = table().with_columns(**change)
    with pytest.raises((DataError, SchemaError)) as whole:
        cl.termina.cohorts(frame)
    with pytest.raises(type(whole.value)) as parts:
        cl.termina.cohorts(streamed(frame, whole=True))
    assert str(parts.value).removeprefix(f"{tmp_path / 'rows.parquet'}, ") == str(whole.value)


@pytest.mark.parametrize(
    "late",
    [
        {"user_id": pl.lit(2**62)},
        {"user_id": pl.lit(-5)},
        {"timestamp": pl.date(1950, 1, 1)},
        {"timestamp": pl.date(2090, 1, 1)},
        {"amount": pl.lit(1e7)},
        {"amount": pl.lit(-8e12)},
    ],
    ids=["large user", "negative user", "early", "late", "large amount", "largest refund"],
)
@pytest.mark.filterwarnings("ignore:the table has 1 active user in")
def test_later_batches_that_do_not_fit_the_layout_of_the_first(late, streamed):
    frame = table().with_columns(pl.col("user_id").cast(pl.Int64))
    odd = pl.int_range(pl.len()) == 2990
    frame = frame.with_columns(**{name: pl.when(odd).then(value).otherwise(name) for name, value in late.items()})
    settings = {"freq": "A"}
    whole = cl.termina.customer_cohorts(frame, **settings).group_by("cohort", "period").agg(pl.col("amount").sum())
    shuffled = cl.termina.cohorts(frame.sample(fraction=1, shuffle=True, seed=1), **settings)
    found = cl.termina.cohorts(streamed(frame), **settings)
    assert_frame_equal(found, shuffled, check_exact=True)
    joined = found.join(whole, on=["cohort", "period"], how="left", suffix="_summed")
    assert joined["amount"].to_list() == pytest.approx(joined["amount_summed"].to_list())


def test_ids_of_128_bits_are_read_whole(streamed):
    big = (
        pl.when(pl.int_range(pl.len()) > 2900)
        .then(pl.lit(2**70, dtype=pl.Int128))
        .otherwise(pl.lit(5, dtype=pl.Int128))
    )
    frame = table().with_columns(user_id=big, amount=1.0)
    assert cl.termina.cohorts(streamed(frame, whole=True))["cohort_size"].unique().to_list() == [2]
    assert cl.termina.cohorts(streamed(frame, whole=True)).equals(cl.termina.cohorts(frame))


# ------------------------------------------------------------------------------------------- rows of plain types


AMOUNT = st.integers(-(10**6), 10**6).map(lambda cents: cents / 100)


def plain(ids, ticks, amounts, decimals=6, zone=None, text=False):
    instants = Instants.of(pl.Series(ticks, dtype=pl.Int64).cast(pl.Datetime("us", zone)))
    cut = Cut.of(instants, zone or "UTC", Calendar("D"))
    users = Users.of(pl.Series(ids, dtype=pl.Int64).cast(pl.String if text else pl.Int64))
    return Batch(users, cut, Amounts.of(pl.Series(amounts), decimals))


def written(part, layout, bits, workers=1):
    builder = RecordsBuilder(len(part.users), bits, workers, wide=part.users.wide, layout=layout)
    builder.add([part])
    edges, words = builder.build().arrays
    return edges.tolist(), words[: edges.max() * (3 if part.users.wide else 1)].tolist(), builder.total


# Asia/Kolkata has kept one offset since October 1945; a block with two is written column by column.
SAME_OFFSET = -(7 * 10**14)


@given(
    st.lists(st.tuples(st.integers(-50, 50), st.integers(SAME_OFFSET, 10**15), AMOUNT), min_size=1, max_size=50),
    st.integers(0, 4),
    st.sampled_from([None, "Asia/Kolkata"]),
    st.booleans(),
)
def test_rows_packed_in_one_pass_and_column_by_column(rows, bits, zone, text):
    part = plain(*zip(*rows, strict=True), zone=zone, text=text)
    layout = Layout.of(part, bits, (-50, 50))._replace(day_bits=16, first_day=part.cut.days[0] - 5)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(records, "magnitude", None)
        found = written(part, layout, bits)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(RecordsBuilder, "_write_plain", lambda *_: None)
        assert written(part, layout, bits) == found


def test_many_rows_packed_in_one_pass(monkeypatch):
    monkeypatch.setattr(records, "_BLOCK", 3000)
    rows = [(i * 7 % 900, i * 10**9, (i % 11 - 3) * 1e4) for i in range(10_000)]
    part = plain(*zip(*rows, strict=True))
    found = written(part, Layout.of(part, 3, (0, 899)), 3, workers=2)
    assert found[2] == sum(abs(int(amount)) for _, _, amount in rows) * 10**6
    monkeypatch.setattr(RecordsBuilder, "_write_plain", lambda *_: None)
    edges, words, total = written(part, Layout.of(part, 3, (0, 899)), 3)
    assert (sorted(words), total) == (sorted(found[1]), found[2])
    assert np.diff(edges, axis=0).tolist() == np.diff(found[0], axis=0).tolist()


@pytest.mark.parametrize(
    "odd", [0.5e-6, -2.5e-6, 1.5e-6, 1e3, -1e3, 1e9, 1e13, 1e308, math.nan, math.inf, "id", "low id"]
)
def test_rows_that_need_a_closer_look_are_not_packed_in_one_pass(odd):
    ids, amounts = [1, 2, 3], [1.0, 2.0, 3.0]
    layout = Layout.of(plain(ids, [0, 1, 2], amounts), 1, (0, 3))._replace(key_bits=20)
    if isinstance(odd, str):
        ids[1] = -1 if odd == "low id" else 1 << 21
    else:
        amounts[1] = odd
    builder = RecordsBuilder(3, 1, 1, wide=False, layout=layout)
    part = plain(ids, [0, 1, 2], amounts)
    assert builder._write_plain(part, 0, 3, 0) is None
    if isinstance(odd, float) and abs(odd) < 1e5:
        builder.add([part])
        assert builder.total == sum(abs(units) for units in part.amounts.units(0, 3).tolist())
    else:
        with pytest.raises((FullError, DataError)):
            builder.add([part])


def test_amounts_and_clocks_that_are_not_packed_in_one_pass():
    part = plain([1, 2], [0, 1], [1.0, 2.0])
    layout = Layout.of(part, 0, (0, 3))
    builder = RecordsBuilder(9, 0, 1, wide=False, layout=layout)
    whole = part._replace(amounts=Amounts.of(pl.Series([1, 2]), 6))
    clock = part._replace(cut=plain([1, 2], [0, 10**16], [1.0, 2.0], zone="Europe/Berlin").cut)
    assert builder._write_plain(whole, 0, 2, 0) is None
    assert builder._write_plain(clock, 0, 2, 0) is None
    assert builder._write_plain(part, 0, 2, 0) == 3 * 10**6
    full = RecordsBuilder(9, 0, 1, wide=False)
    assert full._write_plain(part, 0, 2, 0) is None


def test_a_small_table_of_early_days_and_whole_amounts():
    rows = pl.DataFrame({"user_id": [1, 2], "timestamp": [date(1975, 1, 5)] * 2, "amount": [3, 4]})
    assert cl.termina.cohorts(rows)["amount"].to_list() == [7.0]
