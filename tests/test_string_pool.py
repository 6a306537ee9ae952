"""Compare columns of string views with polars columns."""

import gc

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cohortlib.transactions import string_pool as pools
from cohortlib.transactions.string_pool import StringPool

pytestmark = pytest.mark.unit

NAMES = st.text(max_size=40) | st.text("ab\0ÿ", max_size=40) | st.sampled_from(["", "a" * 12, "a" * 13, "a" * 36 + "b"])


def column_of(made):
    return made.column("name", made.views)


@given(st.data(), st.lists(st.lists(NAMES, max_size=5), min_size=1, max_size=4))
def test_strings_of_rows(data, chunks):
    column = pl.concat([pl.Series("id", names, dtype=pl.String) for names in chunks], rechunk=False)
    rows = data.draw(st.lists(st.integers(0, max(len(column) - 1, 0)), max_size=10 if len(column) else 0))
    made = StringPool.of(column, np.array(rows, np.uint32))
    expected = [column[row] for row in rows]
    del column  # and its memory, at once
    series = column_of(made)
    assert series.dtype == pl.String
    assert series.to_list() == expected


@pytest.mark.parametrize("kind", [pl.Int64, pl.UInt64, pl.Categorical, pl.Decimal(20, 0)])
def test_strings_of_other_columns(kind):
    column = pl.Series("id", ["30", "4", "123456789012345"]).cast(kind)
    made = StringPool.of(column, np.array([2, 0, 0, 1], np.uint32))
    assert column_of(made).to_list() == ["123456789012345", "30", "30", "4"]


def test_a_column_keeps_its_memory_alive():
    names = [f"{i:036d}" for i in range(1000)]
    column = column_of(StringPool.of(pl.Series(names), np.arange(1000, dtype=np.uint32)))
    gc.collect()
    _ = [np.full(36_000, 120, np.uint8) for _ in range(100)]  # would overwrite freed memory
    assert column.to_list() == names
    assert column.n_chunks() == 1


def test_text_in_several_buffers(monkeypatch):
    """Small pages, since pages of 2**30 bytes need as much memory."""
    names = ["a" * 13, "b" * 20, "c" * 36]
    made = StringPool.of(pl.Series(names), np.arange(3, dtype=np.uint32))
    monkeypatch.setattr(pools, "_PAGE", 16)
    views = made.views.copy()
    for i, begin in enumerate((0, 13, 33)):
        views[2 * i + 1] = begin // 16 | (begin % 16) << 32
    assert made.column("name", views).to_list() == names


@given(st.lists(st.tuples(st.integers(0, 2), NAMES), unique=True, max_size=60))
def test_sort_is_by_bytes(pairs):
    groups = [group for group, _ in sorted(pairs, key=lambda pair: pair[0])]
    names = [name for _, name in sorted(pairs, key=lambda pair: pair[0])]
    made = StringPool.of(pl.Series(names, dtype=pl.String), np.arange(len(names), dtype=np.uint32))
    which = np.arange(len(names))
    first = np.array([i == 0 or groups[i] != groups[i - 1] for i in range(len(groups))], np.bool_)
    made.sort(which, first)
    expected = sorted(zip(groups, names, strict=True), key=lambda pair: (pair[0], pair[1].encode()))
    assert [names[i] for i in which] == [name for _, name in expected]
