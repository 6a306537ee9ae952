"""Describe in sentences what differs without an explanation."""

from collections.abc import Iterator

import numpy as np
import polars as pl

from cohortlib.compare.explain.adapty.comparison import AdaptyComparison
from cohortlib.compare.explain.adapty.fault_candidates import describe_suspects
from cohortlib.compare.explain.adapty.money import CLOSE
from cohortlib.compare.explain.adapty.standing import Floats

_MAX_SENTENCES = 8
_MAX_SEGMENTS = 3
_MAX_FIELDS = 3
_NARROW = 0.02  # by how much the shares of segments may vary and still be about one share
# The fields that all others are computed from.
_BASE_FIELDS = [
    "installs", "revenue_usd", "proceeds_usd", "net_revenue_usd", "subscribers", "subscriptions", "paid_subscribers",
]  # fmt: skip
_QUESTIONS = {
    "installs": "which installs count (reinstalls, test devices, filters), and in which time zone",
    "share": "whether amounts are before or after tax and commission, and in which currency",
    "lower": "which events are left out (stores, products, sandbox, refunds), and when its data begin and end",
    "higher": "which events count that are not in this export, or count twice",
    "mixed": "in which time zone days are cut, and how payments are assigned to users and periods",
    "counts": "how payments are numbered, and which users a subscriber is",
    "averages": "what its averages divide by, and whether they are cumulative",
}


def describe(comparison: AdaptyComparison, differences: pl.DataFrame) -> list[str]:
    """Describe where cells differ, by how much, what this looks like, and what to ask the vendor first."""
    if differences.is_empty():
        return []
    found = [*_where(differences), *_pattern(comparison), *describe_suspects(comparison)][: _MAX_SENTENCES - 1]
    return [*found, f"The first question to the vendor: {_QUESTIONS[_looks_like(comparison, differences)]}?"]


def _where(differences: pl.DataFrame) -> Iterator[str]:
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


def _shares(comparison: AdaptyComparison) -> tuple[Floats, Floats]:
    """Return by how much the revenue of segments differs, and as a share of the local revenue."""
    excess, segments = comparison.excess, comparison.segments
    if excess is None or segments is None:
        return np.zeros(0), np.zeros(0)
    local = segments["total_revenue_usd"].to_numpy()
    some = (local > 0) & (np.abs(excess[:, 0]) > CLOSE)
    return excess[some, 0], excess[some, 0] / local[some]


def _pattern(comparison: AdaptyComparison) -> Iterator[str]:
    """Describe the direction and the size of the differences of installs and revenue by segment."""
    segments = comparison.segments
    if segments is None:
        yield "More than half of the segments are in one answer only."
        return
    installs = (segments["total_installs_remote"] - segments["total_installs"]).fill_null(0)
    differing = int((installs != 0).sum())
    if differing:
        where = f"{differing:,} of {len(installs):,} segments"
        more = int(installs.sum())
        number = f"{abs(more):,} {'more' if more > 0 else 'fewer'} installs" if more else "as many installs in all"
        yield f"The remote answer has {number}; they differ in {where}."
    excess, shares = _shares(comparison)
    if not excess.size:
        yield f"The revenue of all segments agrees{'' if differing else ', and so do the installs'}."
        return
    lower, count = int((excess < 0).sum()), excess.size
    direction = "lower" if lower == count else "higher" if not lower else f"lower in {lower:,} and higher in the others"
    sizes = f"by {abs(shares).min():.3%} to {abs(shares).max():.3%}"
    yield f"The remote revenue differs in {count:,} of {len(installs):,} segments: {direction}, {sizes}."


def _looks_like(comparison: AdaptyComparison, differences: pl.DataFrame) -> str:
    """Return what the differences look like, as a key of the questions."""
    fields = {name.removeprefix("total_") for name in differences["field"].cast(pl.String).unique()}
    if "installs" in fields:
        return "installs"
    excess, shares = _shares(comparison)
    if excess.size:
        same_sign = (excess < 0).all() or (excess > 0).all()
        if same_sign and shares.size > 2 and abs(shares - np.median(shares)).max() <= _NARROW * abs(np.median(shares)):
            return "share"
        return ("lower" if excess[0] < 0 else "higher") if same_sign else "mixed"
    if fields & {"subscribers", "subscriptions", "revenue_usd"}:
        return "counts"
    return "share" if fields & {"proceeds_usd", "net_revenue_usd"} else "averages"
