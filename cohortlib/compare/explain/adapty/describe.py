"""Describe the differences of Adapty's answers."""

from collections.abc import Iterator

import polars as pl

_MAX_SEGMENTS = 3
_MAX_FIELDS = 3
# The fields that all others are computed from.
_BASE_FIELDS = [
    "installs", "revenue_usd", "proceeds_usd", "net_revenue_usd", "subscribers", "subscriptions", "paid_subscribers",
]  # fmt: skip


def describe_differences(differences: pl.DataFrame) -> Iterator[str]:
    """Describe in which segments and fields cells differ, and by how much."""
    count = differences.height
    segments = differences.filter(pl.col("type") == "single")["segment_start_date"].value_counts(sort=True)
    if segments.is_empty():
        yield f"{count:,} cells still differ, all in the total."
    elif segments.height == 1:
        yield f"{count:,} cells still differ, all in segment {segments[0, 0]} and the total."
    else:
        most = ", ".join(f"{name} ({cells:,})" for name, cells in segments.head(_MAX_SEGMENTS).iter_rows())
        yield f"{count:,} cells still differ, in {segments.height:,} segments, most of them in {most}."
    fields = (
        differences.group_by(pl.col("field").cast(pl.String))
        .agg(pl.len(), pl.col("difference").abs().max())
        .with_columns(base=pl.col("field").str.strip_prefix("total_").is_in(_BASE_FIELDS))
        .sort("base", "len", "field", descending=[True, True, False])
        .head(_MAX_FIELDS)
    )
    listed = ", ".join(
        f"{name} ({cells:,}{f', by {largest:,.6g} at most' if largest is not None else ''})"
        for name, cells, largest, _ in fields.iter_rows()
    )
    more = differences["field"].n_unique() - fields.height
    yield f"The fields are {listed}{f' and {more:,} more' if more else ''}."
