"""Words for the causes behind a difference between Adapty tables."""

from collections.abc import Iterator

import numpy as np
import polars as pl

from cohortlib.adapty.conventions import CHOICES
from cohortlib.compare.explain.adapty.amounts import NEAR, Floats
from cohortlib.compare.explain.adapty.plan import Plan
from cohortlib.compare.explain.adapty.rewrites import day_named
from cohortlib.compare.explain.causes import Cause


def neighbours_of(off: Floats) -> Iterator[tuple[int, int]]:
    """Find segments that differ by as much as the next one, the other way."""
    for at in range(len(off) - 1):
        if (np.abs(off[at]) > NEAR).any() and (np.abs(off[at] + off[at + 1]) <= NEAR).all():
            yield at, at + 1


def capitalised(words: str) -> str:
    """Return words with a capital first letter."""
    return words[:1].upper() + words[1:]


def nearest_name(off: list[list[float]]) -> tuple[int, int, int]:
    """Tell for each money which is nearest to it: another where that is nearer by half."""
    one, other, third = (int(np.argmin(row)) if min(row) < row[at] / 2 else at for at, row in enumerate(off))
    return one, other, third


def others_text(kind: str, name: str, plan: Plan, words: dict[str, str]) -> list[Cause]:
    """Name the other values of a convention."""
    now = getattr(plan.conventions, name)
    return [Cause(kind, value, words[str(value)], ((name, value),)) for value in CHOICES[name] if value != now]


def days_text(first: int, last: int) -> str:
    """Name a range of days."""
    return day_named(first) if first == last else f"{day_named(first)} to {day_named(last)}"


def users_text(names: tuple[object, ...]) -> str:
    """Name customers, at most three of them."""
    if len(names) == 1:
        return f"customer {names[0]}"
    listed = ", ".join(str(name) for name in names[:3])
    return f"customers {listed}" + (f" and {len(names) - 3:,} more" if len(names) > 3 else "")


def where_text(differences: pl.DataFrame) -> Iterator[str]:
    """Say in which segments and fields cells differ, and by how much."""
    count = differences.height
    places = differences.filter(pl.col("type") == "single")["segment_start_date"].value_counts(sort=True)
    if places.is_empty():
        yield f"{count:,} cells differ, all in the total."
    elif places.height == 1:
        yield f"The {count:,} cells that differ are all in segment {places[0, 0]} and the total."
    else:
        most = ", ".join(f"{name} ({cells:,})" for name, cells in places.head(3).iter_rows())
        yield f"{count:,} cells differ, in {places.height:,} segments, most in {most}."
    sizes = (
        differences.group_by(pl.col("field").cast(pl.String))
        .agg(pl.len(), pl.col("difference").abs().max())
        .with_columns(plain=pl.col("field").str.strip_prefix("total_").is_in(_PLAIN))
        .sort("plain", "len", "field", descending=[True, True, False])
        .head(3)
    )
    told = [
        f"{name} ({cells:,}{f', by {most:,.6g} at most' if most is not None else ''})"
        for name, cells, most, _ in sizes.iter_rows()
    ]
    others = differences["field"].n_unique() - sizes.height
    yield f"They are of {', '.join(told)}{f' and {others:,} other fields' if others else ''}."


# What the other fields are worked out of.
_PLAIN = [
    "installs", "revenue_usd", "proceeds_usd", "net_revenue_usd", "subscribers", "subscriptions", "paid_subscribers",
]  # fmt: skip
