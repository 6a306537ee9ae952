"""Compare the order of customers with Python's."""

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

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
