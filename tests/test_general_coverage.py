"""How often intervals of the general table hold the truth, in simulations with a fixed seed.

``python tests/test_general_coverage.py`` prints the table of docs/general_table.md (a quarter of an hour).
"""

import numpy as np
import polars as pl
import pytest

import cohortlib as cl

pytestmark = pytest.mark.search

MONTHS = [np.datetime64("2026-01-10"), np.datetime64("2026-02-10")]
SHARES = (0.05, 0.2, 0.35, 0.5, 0.65, 0.8, 0.95)
MOST_ROWS = 4_000_000


def exponential(random, shape):
    return random.exponential(size=shape)


def lognormal(sigma):
    """Return a function that draws amounts of mean 1; the skewness is (e^σ² + 2)·√(e^σ² − 1)."""
    return lambda random, shape: random.lognormal(-(sigma**2) / 2, sigma, shape)


def repeated(first, second):
    """Compute the cells at age 1 of many cohorts; each line of the arrays has the amounts of the users of one."""
    repeats, users = first.shape
    ids = np.arange(first.size)
    rows = pl.DataFrame({
        "user_id": np.append(ids, ids), "timestamp": np.repeat(MONTHS, first.size),
        "amount": np.append(first, second), "repeat": np.tile(np.repeat(np.arange(repeats), users), 2),
    })  # fmt: skip
    return cl.cohorts(rows, by="repeat", confidence=0.95).filter(period=1)


def batches(users, cohorts):
    """Split simulated cohorts into calls of a few million rows."""
    step = max(1, min(2_000, MOST_ROWS // (2 * users)))
    return [min(step, cohorts - at) for at in range(0, cohorts, step)]


def held(table, name, truth):
    """Count the intervals that hold the truth."""
    return table.select(((pl.col(f"{name}_low") <= truth) & (pl.col(f"{name}_high") >= truth)).sum()).item()


def logo_coverage(users, cohorts):
    """Return the coverage of logo_retention, averaged over shares."""
    random, count = np.random.default_rng(users), 0
    for p in SHARES:
        for lines in batches(users, cohorts):
            active = random.random((lines, users)) < p
            count += held(repeated(np.ones(active.shape), active.astype(float)), "logo", p)
    return count / (cohorts * len(SHARES))


def money_coverage(draw, users, cohorts):
    """Return the coverage of ltv and of amount_retention; the amounts of the second month are half of other draws."""
    random, counts = np.random.default_rng(users), np.zeros(2)
    for lines in batches(users, cohorts):
        table = repeated(draw(random, (lines, users)), 0.5 * draw(random, (lines, users)))
        counts += held(table, "ltv", 1.5), held(table, "amount_retention", 0.5)
    return counts / cohorts


@pytest.mark.parametrize("users", [30, 200])
def test_logo_retention(users):
    assert 0.93 <= logo_coverage(users, 300) <= 0.97


# With 2,000 cohorts the standard error of a coverage is half a point: 600 would have one of 0.9.
@pytest.mark.parametrize("draw", [exponential, lognormal(0.5513)], ids=["exponential", "lognormal"])  # of skewness 2
def test_means_of_skewed_amounts(draw):
    ltv, retention = money_coverage(draw, 1_000, 2_000)
    assert 0.93 <= ltv <= 0.97
    assert 0.93 <= retention <= 0.97


def main():
    """Print the coverage in percent."""
    kinds = {"exponential": exponential, "lognormal 1": lognormal(1.0), "lognormal 1.5": lognormal(1.5)}
    for users, cohorts in ((10, 20_000), (30, 20_000), (100, 20_000), (300, 10_000), (1_000, 10_000)):
        shares = [
            [logo_coverage(users, cohorts // 7)],
            *(money_coverage(draw, users, cohorts) for draw in kinds.values()),
        ]
        cells = (", ".join(f"{100 * share:.1f}" for share in each) for each in shares)
        print(f"| {users:,} |", " | ".join(cells), "|", flush=True)


if __name__ == "__main__":
    main()
