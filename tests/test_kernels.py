"""Compare kernels with Python's integers, fractions and datetimes."""

from datetime import UTC, datetime, timedelta
from fractions import Fraction
from zoneinfo import ZoneInfo

import numba
import numpy as np
import polars as pl
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from cohortlib.engine.kernels.keys import _hash_texts, fingerprint_strings
from cohortlib.engine.kernels.money import magnitude, round_to_units, rounded_quotient
from cohortlib.engine.partitions import FullError, RowStore
from cohortlib.engine.ratios import quotient
from cohortlib.periods import Calendar
from cohortlib.read.arrays import string_views
from cohortlib.read.instants import Cut, Instants
from cohortlib.read.users import SECRET, Users

pytestmark = pytest.mark.unit

hash_any = numba.njit(_hash_texts.py_func)  # Python cannot call an inner kernel

INT64 = st.integers(-(2**63) + 1, 2**63 - 1)
NATURAL = st.integers(0, 2**63 - 1)
# Near a tie between two floats, a second rounding changes the result.
NEAR_TIES = st.builds(lambda odd, shift, nudge: (2 * odd + 1 << shift) + nudge,
                      st.integers(2**52, 2**53 - 1), st.integers(0, 8), st.integers(-1, 1))  # fmt: skip


@given(st.lists(st.tuples(INT64 | NEAR_TIES, NATURAL | st.integers(1, 100)), min_size=1))
def test_quotient_rounds_once(pairs):
    numerators, divisors = (np.array(column, np.int64) for column in zip(*pairs, strict=True))
    expected = [a / b if b else None for a, b in pairs]
    assert quotient(numerators, divisors).to_list() == expected
    assert quotient(numerators * 0, -np.abs(divisors) - 1).cast(str).unique().to_list() == ["0.0"]


@example([(7160946583748144, 66)], 100)
@example([(780, 290245246025062563)], 1)
@given(
    st.lists(st.tuples(st.integers(-(2**53), 2**53) | INT64, st.integers(1, 2**62)), min_size=1, max_size=3),
    st.sampled_from([1, 100]),
)
def test_quotient_of_numbers_around_2_to_the_53(pairs, factor):
    numerators, divisors = (np.array(column, np.int64) for column in zip(*pairs, strict=True))
    assert quotient(numerators, divisors, factor).to_list() == [a * factor / b for a, b in pairs]
    assert quotient(numerators, pairs[0][1], factor).to_list() == [a * factor / pairs[0][1] for a, _ in pairs]


@given(INT64, st.integers(0, 2**40), st.integers(1, 2**63 - 1))
def test_product_quotient_rounds_once(a, b, divisor):
    assert rounded_quotient(np.int64(a), np.int64(b), np.int64(divisor)) == (a * b) / divisor


HALVES = st.builds(lambda n, d: (2 * n + 1) / (2 * 10**d), st.integers(-(10**7), 10**7), st.integers(0, 9))
FLOATS = st.floats(-1e13, 1e13) | HALVES | st.integers(-(10**9), 10**9).map(lambda cents: cents / 100)


@given(st.lists(FLOATS, min_size=1), st.integers(0, 9))
def test_round_to_units_is_the_nearest_ties_to_even(values, decimals):
    expected = [round(Fraction(x) * 10**decimals) for x in values]
    units = np.empty(len(values), np.int64)
    too_large = sum(abs(Fraction(x) * 10**decimals) >= 2**63 for x in values)
    assert round_to_units(np.array(values), 10.0**decimals, units) == (0, too_large)
    assert [x for x in units.tolist() if x] == [x for x in expected if x and abs(x) < 2**63]


def test_round_to_units_counts_invalid_values():
    units = np.empty(5, np.int64)
    values = np.array([np.nan, np.inf, -np.inf, 1e300, 9223372036854.77])
    assert round_to_units(values, 1e6, units) == (3, 1)
    assert units[4] == round(Fraction(9223372036854.77) * 10**6)


@given(st.lists(INT64))
def test_magnitude_is_exact(values):
    high, low = magnitude(np.array(values, np.int64))
    assert (int(high) << 32) + int(low) == sum(map(abs, values))


@given(st.lists(st.text(max_size=40) | st.sampled_from(["", "a", "a" * 12, "a" * 13, "a\0", "a" * 16, "a" * 32])))
def test_fingerprints_of_different_strings_differ(names):
    series = pl.Series(names + names[::-1], dtype=pl.String)
    # Through another buffer, at another offset, and in several chunks.
    other = pl.concat([series.head(1), series.slice(1) + ""], rechunk=False)
    for column in (series, other, pl.concat([series, series], rechunk=False).slice(len(names), len(series))):
        keys, keys2 = Users.of(column).keys(0, len(column))
        pairs = dict(zip(column, zip(keys.tolist(), keys2.tolist(), strict=True), strict=True))
        assert [pairs[name] for name in column] == list(zip(keys.tolist(), keys2.tolist(), strict=True))
        assert len(set(pairs.values())) == len(pairs)


@given(st.lists(st.sampled_from([0, 1, 12, 13, 16, 17, 20, 24, 25, 47, 48, 49, 240, 300]), min_size=1), st.data())
def test_short_texts_have_the_hash_of_any_text(sizes, data):
    names = pl.Series([(f"{i}é" * 150).encode()[:size].decode(errors="replace") for i, size in enumerate(sizes)])
    ((views, memory, bases),) = string_views(names)
    rows = np.array(data.draw(st.lists(st.integers(0, len(sizes) - 1))), np.uint32)
    nulls, every = np.empty(0, np.bool_), np.arange(len(sizes), dtype=np.uint32)
    for chosen, wide in ((rows[:0], True), (every, False), (rows, True)):
        count = chosen.size or len(sizes)
        found, expected = (np.zeros((2, count), np.uint64) for _ in range(2))
        texts = views, memory, bases, nulls, chosen
        fingerprint_strings(*texts, SECRET, found[0], found[1][: count * wide])
        hash_any(*texts, np.uint64(0), np.uint64(count), SECRET, expected[0], expected[1][: count * wide])
        assert (found == expected).all()


def test_fingerprints_do_not_depend_on_blocks():
    names = pl.Series([f"{i:036d}" for i in range(1000)])
    keys, keys2 = Users.of(names).keys(0, 1000)
    for first, count in ((0, 1), (1, 7), (500, 500), (999, 1)):
        part, part2 = Users.of(names).keys(first, count)
        assert (part == keys[first : first + count]).all()
        assert (part2 == keys2[first : first + count]).all()


@given(st.lists(INT64, unique=True))
def test_integer_keys_are_one_to_one(ids):
    keys, second_keys = Users.of(pl.Series(ids, dtype=pl.Int64)).keys(0, len(ids))
    assert len(set(keys.tolist())) == len(ids)
    assert second_keys.size == 0


ZONES = ["UTC", "America/New_York", "America/St_Johns", "Asia/Kolkata", "Pacific/Apia", "Africa/Monrovia"]


@given(
    st.sampled_from(["ms", "us", "ns"]),
    st.sampled_from(ZONES),
    st.lists(st.integers(-2_000_000_000, 4_000_000_000), min_size=1, max_size=20),
)
def test_cut_to_local_days(unit, zone, seconds):
    per_second = {"ms": 10**3, "us": 10**6, "ns": 10**9}[unit]
    ticks = [second * per_second - tick for second in seconds for tick in (0, 1)]
    column = pl.Series(ticks).cast(pl.Datetime(unit, "UTC"))
    cut = Cut.of(Instants.of(column), zone, Calendar("D"))
    epoch = datetime(1970, 1, 1, tzinfo=UTC)
    days = [
        (epoch + timedelta(microseconds=tick * 10**6 // per_second)).astimezone(ZoneInfo(zone)).date() for tick in ticks
    ]
    numbers = [(day - epoch.date()).days for day in days]
    assert cut.local_days(0, len(ticks)).tolist() == numbers
    assert cut.days[1] == max(numbers)


@given(st.lists(st.lists(st.integers(0, 2**64 - 1))), st.integers(0, 4))
def test_stores_keep_rows_by_partition(blocks, bits):
    size = sum(map(len, blocks))
    store = RowStore(size, bits, ((np.uint64, 1), (np.int64, 0)))
    for block in blocks:
        keys = np.array(block, np.uint64)
        begins = store.reserve(keys)
        for key in block:
            part = key >> (64 - bits)
            store.columns[0][begins[part]] = key
            begins[part] += 1
    table = store.finalize()
    assert table.columns[1].size == 0
    assert table.count == 1 << bits
    for part in range(table.count):
        expected = [[key for key in block if key >> (64 - bits) == part] for block in blocks]
        spans = zip(table.starts[part], table.starts[part + 1], strict=True)
        assert [table.columns[0][begin:end].tolist() for begin, end in spans] == expected
        assert table.sizes[part] == sum(map(len, expected))


def test_a_full_store_refuses_a_block():
    store = RowStore(3, 1, ((np.uint64, 1),))
    store.reserve(np.array([0, 2**63], np.uint64))
    with pytest.raises(FullError):
        store.reserve(np.array([0, 2**63], np.uint64))
    store.reserve(np.array([2**63], np.uint64))
    assert store.finalize().starts.tolist() == [[0, 2], [1, 2], [2, 3]]
