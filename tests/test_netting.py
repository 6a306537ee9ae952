"""Check that packed records, whose users are added partition by partition, give the sums of users that are written."""

from itertools import accumulate

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cohortlib.engine.progress import Meter
from cohortlib.periods import Calendar
from cohortlib.read.amounts import Amounts
from cohortlib.read.instants import Cut, Instants
from cohortlib.read.users import Users
from cohortlib.transactions import netting as module
from cohortlib.transactions.grid import Grid
from cohortlib.transactions.netting import Netting, RecordsNetting, partition_users
from cohortlib.transactions.records import Batch, Layout, RecordsBuilder
from cohortlib.transactions.settings import Settings

pytestmark = pytest.mark.unit

# Many rows of few users, and few rows of many; days in and out of order.
ROWS = st.lists(
    st.tuples(st.integers(0, 3) | st.integers(0, 60), st.integers(0, 40) | st.integers(0, 900), st.integers(-9, 9)),
    min_size=1,
    max_size=300,
)


def netting_of(rows, *, kind, bits, freq, refunds, span=None, days_after=0):
    users, days, units = zip(*rows, strict=True)
    ids = pl.Series([f"user {user:020}" for user in users] if kind == "text" else [user - 30 for user in users])
    cut = Cut.of(Instants.of(pl.Series(days, dtype=pl.Int32).cast(pl.Date)), "UTC", Calendar(freq))
    batch = Batch(Users.of(ids), cut, Amounts.of(pl.Series(units, dtype=pl.Int64), 0))
    known = (ids.min(), ids.max()) if kind == "dense" else None
    builder = RecordsBuilder(2 * len(rows) + 9, bits, 1, wide=kind == "text", layout=Layout.of(batch, bits, known))
    builder.add([batch])
    records = builder.build()
    settings = Settings.of(freq=freq, refunds=refunds)
    first, last = (settings.ordinal(day) for day in (records.first, records.last))
    grid = Grid(first, span or last - first + 1 + days_after, 0)
    return RecordsNetting(settings, grid, Meter(None, 0), records, [])


def both_sums(netting, kept=None):
    """Return the sums by partition, and those of users that are written in between."""
    kept = np.ones(netting.grid.span, np.bool_) if kept is None else kept
    return netting.sum_up(kept, 1), Netting.sum_up(netting, kept, 1)


def assert_same(found, expected):
    for name in ("size", "first_amount", "cells"):
        assert getattr(found, name).tolist() == getattr(expected, name).tolist(), name


@pytest.mark.parametrize("kind", ["dense", "sparse", "text"])
@pytest.mark.parametrize("refunds", ["net", "drop", "signed"])
@given(ROWS, st.integers(0, 3), st.sampled_from("DM"), st.data())
def test_packed_records_are_added_as_users_are(kind, refunds, rows, bits, freq, data):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_SPARSE", 10**9 if kind == "dense" else 0)
        by_key = data.draw(st.booleans())
        patch.setattr(module, "_INDEXED_SUMS", 10**9 if by_key else 0)
        netting = netting_of(rows, kind=kind, bits=bits, freq=freq, refunds=refunds)
        users = partition_users(netting._records, netting.grid.span)
        assert users.direct == (kind == "dense")
        assert users.indexed == (kind == "dense" and by_key and netting.grid.span <= 64)
        assert_same(*both_sums(netting))
        # Rows after the grid, and cohorts without cells.
        span = data.draw(st.integers(1, netting.grid.span))
        cut = netting_of(rows, kind=kind, bits=bits, freq=freq, refunds=refunds, span=span)
        first = data.draw(st.integers(0, span))
        assert_same(*both_sums(cut, np.arange(span) >= first))


@pytest.mark.parametrize("kind", ["dense", "text"])
def test_several_partitions_in_a_group_and_again(kind):
    rows = [(user, (day * user) % 800, 5 - day % 7) for user in range(60) for day in range(user)]
    for span in (None, 30):
        netting = netting_of(rows, kind=kind, bits=3, freq="D", refunds="signed", span=span)
        found, expected = both_sums(netting)
        assert_same(found, expected)
        assert expected.size.sum() > 20


@pytest.mark.parametrize("order", ["up", "down", "mixed"])
@pytest.mark.parametrize("count", [31, 32, 33, 200])
def test_rows_of_a_user_in_any_order(order, count):
    days = [7 * i % 300 for i in range(count)]
    days = sorted(days, reverse=order == "down") if order != "mixed" else days
    rows = [(user, day, i % 5 - 1) for i, day in enumerate(days) for user in (1, 2)]
    found, expected = both_sums(netting_of(rows, kind="dense", bits=0, freq="D", refunds="net"))
    assert_same(found, expected)


def test_more_cells_than_are_prefetched_at_a_time():
    rows = [(user, day, 1) for user in range(40) for day in range(0, 90, 1 + user % 3)]
    found, expected = both_sums(netting_of(rows, kind="sparse", bits=1, freq="D", refunds="net"))
    assert_same(found, expected)
    assert found.active.sum() == len(rows)


def test_an_index_by_key_is_not_much_larger_than_the_rows(monkeypatch):
    rows = [(user, 0, 1) for user in range(0, 64, 4)]
    netting = netting_of(rows, kind="dense", bits=1, freq="M", refunds="net")
    assert partition_users(netting._records, 1).direct
    monkeypatch.setattr(module, "_SPARSE", 3)
    assert not partition_users(netting._records, 1).direct
    assert_same(*both_sums(netting))


def test_blocks_stay_in_the_order_of_their_rows(monkeypatch):
    monkeypatch.setattr("cohortlib.transactions.records._BLOCK", 50)
    rows = [(user % 7, user // 10, 1) for user in range(1000)]
    netting = netting_of(rows, kind="dense", bits=0, freq="D", refunds="net")
    edges, words = netting._records.arrays
    days = words[: edges.max()] >> np.uint64(netting._records.form.key_bits)
    assert (np.diff((days & np.uint64((1 << 14) - 1)).astype(int)) >= 0).all()
    assert list(accumulate(edges[0].tolist(), max)) == edges[0].tolist()


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_threads_add_to_sums_of_their_own(workers, monkeypatch):
    monkeypatch.setattr(module, "GROUP_ROWS", 10)
    rows = [(user, day % 90, 5 - day % 7) for user in range(50) for day in range(user)]
    netting = netting_of(rows, kind="dense", bits=4, freq="D", refunds="signed")
    kept = np.ones(netting.grid.span, np.bool_)
    assert netting.count > 3
    assert_same(netting.sum_up(kept, workers), both_sums(netting)[1])


def test_refunds_that_are_dropped_and_cohorts_without_cells():
    rows = [
        (user, 31 * (day + user % 3), units)
        for user in range(20)
        for day in range(20)
        for units in (5 - day % 9, 4, -2)
    ]
    for freq in "DM":
        netting = netting_of(rows, kind="dense", bits=2, freq=freq, refunds="drop")
        found, expected = both_sums(netting, np.arange(netting.grid.span) >= 2)
        assert_same(found, expected)
