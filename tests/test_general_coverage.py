"""How often intervals of the general table hold the truth, in simulations with a fixed seed."""

import numpy as np
import polars as pl
import pytest

import cohortlib as cl

pytestmark = pytest.mark.search

MONTHS = [np.datetime64("2026-01-10"), np.datetime64("2026-02-10")]


def repeated(first, second):
    """Compute the cells at age 1 of many cohorts; each line of the arrays has the amounts of the users of one."""
    repeats, users = first.shape
    ids = np.arange(first.size)
    rows = pl.DataFrame({
        "user_id": np.append(ids, ids), "timestamp": np.repeat(MONTHS, first.size),
        "amount": np.append(first, second), "repeat": np.tile(np.repeat(np.arange(repeats), users), 2),
    })  # fmt: skip
    return cl.cohorts(rows, by="repeat", confidence=0.95).filter(period=1)


def coverage(table, name, truth):
    """Return the share of intervals that hold the truth."""
    return table.select(((pl.col(f"{name}_low") <= truth) & (pl.col(f"{name}_high") >= truth)).mean()).item()


@pytest.mark.parametrize("users", [30, 200])
def test_logo_retention(users):
    random = np.random.default_rng(users)
    shares = []
    for p in (0.05, 0.2, 0.35, 0.5, 0.65, 0.8, 0.95):
        active = random.random((300, users)) < p
        shares.append(coverage(repeated(np.ones(active.shape), active.astype(float)), "logo", p))
    assert 0.93 <= np.mean(shares) <= 0.97, shares


def test_means_of_skewed_amounts():
    random = np.random.default_rng(7)
    first, second = random.exponential(size=(2, 300, 1000))  # skewness 2
    table = repeated(first, 0.5 * second)
    assert 0.92 <= coverage(table, "ltv", 1.5) <= 0.975
    assert 0.92 <= coverage(table, "amount_retention", 0.5) <= 0.975
