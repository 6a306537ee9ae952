"""Comparing answers detects differences."""

import polars as pl
import pytest

from benchmarks.measure import same_table

TABLE = pl.DataFrame({"cohort": ["2026-01", "2026-02"], "users": [3, 4], "amount": [10.0, None]})


def compare(other):
    same_table(TABLE, other, ["cohort", "users"], ["amount"], rel=1e-9)


def test_the_same_table_of_any_engine():
    compare(TABLE.with_columns(pl.col("amount") * (1 + 1e-12)))
    compare(TABLE.to_arrow())
    compare(TABLE.to_pandas())


@pytest.mark.parametrize(
    "other",
    [
        TABLE.head(1),
        TABLE.reverse(),
        TABLE.with_columns(users=pl.Series([3, 5])),
        TABLE.with_columns(users=pl.Series([3, None])),
        TABLE.with_columns(pl.col("amount") * (1 + 1e-8)),
        TABLE.with_columns(pl.col("amount").fill_null(0.0)),
    ],
)
def test_another_table(other):
    with pytest.raises(AssertionError):
        compare(other)
