"""Check that buffers are reused only once nothing refers to them, and that the pool keeps to its limit."""

import gc
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

import cohortlib as cl
from cohortlib.engine import buffers
from cohortlib.engine.buffers import LEAST, POOL, Pool, empty, zeros

pytestmark = pytest.mark.unit


def address(array):
    return array.__array_interface__["data"][0]


def test_a_buffer_is_reused_only_after_its_last_view():
    pool = Pool(1 << 30)
    first = empty(LEAST, np.int64, pool)
    at, view = address(first), first[100:200].view(np.uint64)
    view[:] = 7
    del first
    second = empty(LEAST, np.int64, pool)
    second[:] = 0
    assert address(second) != at
    assert (view == 7).all()
    del view
    third = empty(LEAST, np.int64, pool)
    assert address(third) == at
    assert third.flags.writeable
    assert third.flags.c_contiguous
    assert third.flags.aligned


@given(st.lists(st.integers(LEAST, 8 * LEAST), max_size=20), st.integers(0, 20 * LEAST))
def test_the_pool_keeps_to_its_limit(sizes, limit):
    pool = Pool(limit)
    arrays = [empty(size, np.uint8, pool) for size in sizes]
    assert pool.size == 0
    addresses = {address(array) for array in arrays}
    assert len(addresses) == len(sizes)
    while arrays:
        arrays.pop()
        assert pool.size <= limit
    for size in sizes:
        array = empty(size, np.uint8, pool)
        assert array.size == size
        assert array.base is not None


def test_zeros_in_a_used_buffer():
    pool = Pool(1 << 30)
    used = empty(LEAST, np.int64, pool)
    used.fill(7)
    at = address(used)
    del used
    again = zeros(LEAST, np.int64, pool)
    assert address(again) == at
    assert not again.any()
    assert zeros(3, np.int64, pool).tolist() == [0, 0, 0]


def test_small_buffers_are_not_kept():
    pool = Pool(1 << 30)
    array = empty(LEAST - 1, np.uint8, pool)
    del array
    assert pool.size == 0


def test_a_much_larger_buffer_is_not_taken():
    pool = Pool(1 << 30)
    large = empty(100 * LEAST, np.uint8, pool)
    del large
    small = empty(LEAST, np.uint8, pool)
    assert pool.size == 100 * LEAST
    assert small.size == LEAST


def test_threads_never_share_a_buffer():
    pool = Pool(1 << 30)

    def work(number):
        for _ in range(200):
            array = empty(LEAST, np.int64, pool)
            array[:] = number
            if not (array == number).all():
                return False
        return True

    with ThreadPoolExecutor(4) as threads:
        assert all(threads.map(work, range(4)))


@pytest.fixture
def poisoned(monkeypatch):
    """Overwrite each buffer as soon as it is given back."""
    give = Pool.give

    def spoil(pool, buffer):
        buffer[:] = 0xA5
        give(pool, buffer)

    monkeypatch.setattr(Pool, "give", spoil)
    monkeypatch.setattr(buffers, "LEAST", 1)


@pytest.mark.parametrize("user", ["int", "text"])
def test_no_result_refers_to_a_pooled_buffer(poisoned, user, tmp_path):
    rows = 2000
    ids = pl.int_range(rows) * 31 % 400
    frame = pl.select(
        user_id=ids if user == "int" else pl.format("the user {} of all", ids),
        timestamp=pl.date(2024, 1, 1) + pl.duration(days=pl.int_range(rows) * 37 % 700),
        amount=pl.int_range(rows) % 90 - 5.5,
    )
    sums = cl.termina.sums(frame)
    customers = cl.termina.customer_cohorts(frame)
    table = cl.termina.cohorts(frame, freq="D")
    saved = [str(each.rows()) for each in (sums.table, customers, table)]
    gc.collect()
    assert [str(each.rows()) for each in (sums.table, customers, table)] == saved
    assert cl.termina.customer_cohorts(frame).equals(customers)
    assert cl.termina.cohorts(frame, freq="D").equals(table)
    assert sums.cohorts().equals(cl.termina.cohorts(frame))


def test_memory_is_freed_on_request_and_bounded_by_max_memory():
    rows = 300_000
    frame = pl.select(user_id=pl.int_range(rows), timestamp=pl.date(2024, 1, 1), amount=1.0)
    cl.termina.cohorts(frame)
    gc.collect()
    assert POOL.size > 0
    cl.termina.cohorts(frame, max_memory="64MiB")
    gc.collect()
    assert POOL.size <= 8 << 20
    cl.free_memory()
    assert POOL.size == 0
    cl.termina.cohorts(frame)
    assert POOL.limit > 8 << 20
