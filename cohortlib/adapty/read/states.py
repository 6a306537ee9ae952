"""Select the latest state of each of RevenueCat's transactions.

RevenueCat's incremental deliveries have a row for each change of a transaction (store_transaction_id and
renewal_number). Only the row with the greatest updated_at counts, whichever file has it. Of rows with the same
updated_at, the one with the greatest content counts: its fields as text, in the order of the columns' names.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from cohortlib.adapty.read import readers, revenuecat
from cohortlib.adapty.read.settings import Reading
from cohortlib.adapty.read.tables import RawTable

_NEVER = -(2**63)


@dataclass(frozen=True)
class StateCounts:
    """Rows that a later state replaces, and transactions whose different rows updated_at does not order."""

    superseded: int = 0
    unordered: int = 0


def has_states(columns: Sequence[str]) -> bool:
    """Return whether a table has RevenueCat's transactions."""
    return revenuecat.MARK in columns


def state_keys(table: RawTable, reading: Reading) -> pl.DataFrame:
    """Return the transaction of each row, `id` and `renewal`, and its `updated` instant; nulls are the earliest."""
    frame = table.frame
    renewal = readers.whole(frame[revenuecat.RENEWAL]).series
    updated = pl.repeat(_NEVER, frame.height, dtype=pl.Int64, eager=True)
    if revenuecat.UPDATED in frame.columns:
        column = readers.end(frame[revenuecat.UPDATED], reading)
        column.check(pl.repeat(value=True, n=frame.height, eager=True), table.where)
        updated = readers.utc(column.series, reading.zone).to_physical().fill_null(_NEVER)
    ids = readers.text(frame[revenuecat.TRANSACTION]).series
    return pl.DataFrame({"id": ids, "renewal": renewal.cast(pl.Int64), "updated": updated})


def latest_states(tables: Sequence[RawTable], reading: Reading) -> tuple[list[RawTable], StateCounts]:
    """Remove the rows of all tables of RevenueCat's transactions that a later state replaces.

    Without the column updated_at no row is removed, and only transactions with different rows are counted.
    """
    at = [number for number, table in enumerate(tables) if has_states(table.frame.columns)]
    if not at:
        return [*tables], StateCounts()
    keys = [state_keys(tables[number], reading) for number in at]
    rows = pl.concat(keys).with_row_index("row").filter(pl.col("id").is_not_null())
    rows = rows.filter(pl.len().over("id", "renewal") > 1)
    if not rows.height:
        return [*tables], StateCounts()
    ordered = any(revenuecat.UPDATED in tables[number].frame.columns for number in at)
    latest = rows.filter(pl.col("updated") == pl.col("updated").max().over("id", "renewal"))
    tied = latest.filter(pl.len().over("id", "renewal") > 1)
    content, names = _content([tables[number] for number in at], tied)
    unordered = content.group_by("id", "renewal").agg(pl.struct(names).n_unique().alias("n")).filter(pl.col("n") > 1)
    if not ordered:
        return [*tables], StateCounts(0, unordered.height)
    winners = pl.concat([
        latest.filter(pl.len().over("id", "renewal") == 1)["row"],
        content.sort(*names, "row", nulls_last=False).group_by("id", "renewal").agg(pl.col("row").last())["row"],
    ])  # fmt: skip
    keep = np.ones(sum(frame.height for frame in keys), np.bool_)
    keep[rows["row"].to_numpy()] = False
    keep[winners.to_numpy()] = True
    kept, first = [*tables], 0
    for number, frame in zip(at, keys, strict=True):
        part = pl.Series(keep[first : first + frame.height])
        kept[number] = tables[number].filter(part)
        first += frame.height
    return kept, StateCounts(int(np.count_nonzero(~keep)), unordered.height)


def _content(tables: Sequence[RawTable], rows: pl.DataFrame) -> tuple[pl.DataFrame, list[str]]:
    """Add all fields to some rows, as text, and return their names in order."""
    names = sorted({name for table in tables for name in table.frame.columns})
    parts, first = [], 0
    for table in tables:
        inside = rows.filter(pl.col("row").is_between(first, first + table.frame.height - 1))["row"] - first
        part = table.frame[inside.cast(pl.UInt32)]
        fields = [
            readers.as_text(part[name]).alias(f"={name}")
            if name in part.columns
            else pl.Series(f"={name}", [None] * part.height, pl.String)
            for name in names
        ]
        parts.append(pl.DataFrame(fields))
        first += table.frame.height
    return pl.concat([rows, pl.concat(parts)], how="horizontal"), [f"={name}" for name in names]
