"""Compare the order of customers with Python's, and their ids with those that were read."""

from datetime import date

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from polars.testing import assert_frame_equal, assert_series_equal

import cohortlib as cl
from cohortlib.read.users import NarrowIds, Users
from cohortlib.transactions import load
from cohortlib.transactions.ordering import descending, texts_of, user_order

pytestmark = pytest.mark.unit

NAMES = st.text(max_size=40) | st.text("ab\0ÿ", max_size=40) | st.sampled_from(["", "a" * 12, "a" * 13, "a" * 36 + "b"])


def check(cohort, sizes, names, chosen=None):
    """Order customers, some of them cut out of a longer column, in several chunks."""
    chosen = np.ones(len(names), np.bool_) if chosen is None else np.array(chosen, np.bool_)
    column = pl.concat([pl.Series(["x" * 20, *names[:3]], dtype=pl.String), pl.Series(names[3:], dtype=pl.String)])[1:]
    order = user_order(
        np.array(cohort, np.int32), chosen, descending(np.array(sizes, np.int64), lambda: np.array(sizes) / 100),
        texts_of(column), 2,
    )  # fmt: skip
    expected = sorted(np.flatnonzero(chosen), key=lambda i: (cohort[i], -sizes[i] / 100, names[i].encode()))
    assert order.tolist() == expected


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2), NAMES, st.booleans()), unique_by=lambda row: row[2]))
def test_order_by_cohort_size_and_bytes(rows):
    check(*([row[k] for row in rows] for k in range(4)))


@given(st.lists(NAMES, unique=True, max_size=60), st.text(max_size=20))
def test_a_common_prefix(names, prefix):
    check([0] * len(names), [0] * len(names), [prefix + name for name in names])


@given(st.lists(st.integers(0, 2**62), max_size=30))
def test_amounts_that_are_equal_as_floats_tie(sizes):
    sizes = [size + more for size in sizes for more in (0, 1)]
    check([0] * len(sizes), sizes, [str(i) for i in range(len(sizes))])


def test_many_customers():
    """Digits of keys beyond the first, and slices for threads."""
    random = np.random.default_rng(1)
    ids = random.permutation(2**17)
    check(random.integers(0, 3, ids.size), random.integers(0, 70_000, ids.size), ids.astype(str).tolist())


@given(
    st.lists(st.integers(-(2**63), 2**63 - 1), max_size=5), st.integers(1, 64), st.sampled_from([pl.Int64, pl.UInt64])
)
def test_ids_are_found_from_narrow_keys(ids, bits, kind):
    """Also of unsigned ids beyond 2**63, which are read as negative ones."""
    base = min(ids, default=0)
    ids = [number for number in ids if number - base < 2**bits]
    column = pl.Series([number % 2**64 if kind == pl.UInt64 else number for number in ids], dtype=kind)
    keys = Users.of(column).narrow_keys(0, len(ids), base, bits)
    assert_series_equal(NarrowIds(column.dtype, base, bits).of(keys >> np.uint64(64 - bits)), column)


@pytest.mark.parametrize(
    ("ids", "narrow"),
    [
        ([7, 12, 100], True),
        ([-5, 3, 2**20], True),
        ([1, 5, 2**62], False),  # too far apart for packed records
        (["7", "12", "100"], False),
    ],
)
@pytest.mark.parametrize("kind", [None, pl.Int32, pl.UInt64])
def test_integer_ids_are_found_from_packed_records(monkeypatch, ids, narrow, kind):
    """Without reading the table whole; with the same table as for ids in text."""
    if kind is not None:
        try:
            ids = pl.Series(ids, dtype=kind)
        except (OverflowError, TypeError):
            pytest.skip("ids of another type")
    days = [date(2026, 1, 5), date(2026, 2, 1), date(2026, 3, 1)]
    rows = pl.DataFrame({"user_id": ids, "timestamp": days, "amount": [5, 5, 5]})
    expected = cl.termina.customer_cohorts(rows.with_columns(pl.col("user_id").cast(pl.String)))
    whole = []
    load_table = load._load_table
    monkeypatch.setattr(load, "_load_table", lambda *args, **kwargs: whole.append(1) or load_table(*args, **kwargs))
    assert_frame_equal(cl.termina.customer_cohorts(rows), expected, check_exact=True)
    assert whole == ([] if narrow else [1])
