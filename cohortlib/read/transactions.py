"""The door: from a frame to three checked columns, and from columns to arrays.

Columns are named here and nowhere further in. Inside there are users, instants and amounts.
"""

from dataclasses import dataclass

import polars as pl
from polars.selectors import by_name

from cohortlib.periods import Calendar
from cohortlib.read.amounts import Amounts
from cohortlib.read.instants import Cut, Instants
from cohortlib.read.nulls import Dropped, Nulls, without_nulls
from cohortlib.read.users import Users


@dataclass(frozen=True)
class Transactions:
    """The three columns, checked, without nulls; and the last day of any row, kept or not."""

    users: Users
    amounts: Amounts
    cut: Cut | None
    last_day: int | None
    """Local day of the last row of all."""
    dropped: Dropped


def transactions(
    frame: pl.DataFrame, user: str, timestamp: str, amount: str, *,
    nulls: Nulls, decimals: int, zone: str, calendar: Calendar,
) -> Transactions:  # fmt: skip
    """Check the three columns of a frame and prepare them."""
    # Types first: an error of type is the more telling one.
    Users.of(frame[user].head(0))
    Instants.of(frame[timestamp])
    Amounts.of(frame[amount].head(0), decimals)
    everything = Cut.of(Instants.of(frame[timestamp].alias("").drop_nulls().alias(timestamp)), zone, calendar)
    kept, dropped = without_nulls(frame.select(by_name(user, timestamp, amount)), nulls, "the table")
    cut = everything
    if everything is not None and len(kept) < len(frame):
        cut = Cut.of(Instants.of(kept[timestamp]), zone, calendar)
    return Transactions(
        Users.of(kept[user]),
        Amounts.of(kept[amount], decimals),
        cut,
        everything.days[1] if everything is not None else None,
        dropped,
    )
