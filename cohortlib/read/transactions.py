"""Turn a frame into three checked columns: users, instants and amounts.

Column names end here; later steps use users, instants and amounts.
"""

from dataclasses import dataclass

import polars as pl
from polars.selectors import by_name

from cohortlib.literals import Nulls
from cohortlib.periods import Calendar
from cohortlib.read.amounts import Amounts
from cohortlib.read.instants import Cut, Instants
from cohortlib.read.nulls import Dropped, without_nulls
from cohortlib.read.users import Users


@dataclass(frozen=True)
class Transactions:
    """The three columns, checked and without nulls."""

    users: Users
    amounts: Amounts
    cut: Cut | None
    last_day: int | None
    """Local day of the last row, dropped rows included."""
    dropped: Dropped


def parse_transactions(
    frame: pl.DataFrame, user: str, timestamp: str, amount: str, *,
    nulls: Nulls, decimals: int, zone: str, calendar: Calendar,
) -> Transactions:  # fmt: skip
    """Check the three columns of a frame, and drop rows with nulls."""
    # Types are checked first: an error about a type says more than one about values.
    Users.of(frame[user].head(0))
    Instants.of(frame[timestamp])
    Amounts.of(frame[amount].head(0), decimals)
    all_rows = Cut.of(Instants.of(frame[timestamp].alias("").drop_nulls().alias(timestamp)), zone, calendar)
    kept, dropped = without_nulls(frame.select(by_name(user, timestamp, amount)), nulls, "the table")
    cut = all_rows
    if all_rows is not None and len(kept) < len(frame):
        cut = Cut.of(Instants.of(kept[timestamp]), zone, calendar)
    return Transactions(
        Users.of(kept[user]),
        Amounts.of(kept[amount], decimals),
        cut,
        all_rows.days[1] if all_rows is not None else None,
        dropped,
    )
