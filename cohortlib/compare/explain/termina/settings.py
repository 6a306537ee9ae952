"""Propose other settings: their other values, the edges and the ranking of the remote table, and other columns."""

from collections.abc import Iterable, Iterator

import numpy as np
import polars as pl

from cohortlib.compare.explain.causes import Cause, choice
from cohortlib.compare.explain.termina.context import Context
from cohortlib.compare.explain.termina.edits import AmountColumn, DateColumn, JoinedDates, Moved, UserColumn
from cohortlib.literals import WEEKDAYS
from cohortlib.transactions.keywords import SETTINGS

_MODES = ("clip", "drop")  # of activity before the joined date
_RANKINGS = {
    None: "amount of the last 12 months plus lifetime value",
    "ltv": "lifetime value (ltv)",
    "acv": "amount of the last 12 months (acv)",
    "cohort_size_amount": "amount of the first period",
    "active_periods": "number of active periods",
}
_DAYS = (1, -1, 2, -2, 3, -3, 7, -7)
_MONTHS = ("January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November",
           "December")  # fmt: skip
_ALIKE = 3.0  # another column of ids has at most so many times the users, and at least that part of them


def setting_candidates(context: Context) -> Iterator[Cause]:
    """List the settings to try, likely ones first."""
    settings = context.story.settings
    yield from _other_values(context, "refunds", SETTINGS["refunds"].values, "refunds={!r}")
    if context.story.users:
        yield from _other_values(context, "basis", SETTINGS["basis"].values, "basis={!r}")
        yield from _other_values(context, "rows", SETTINGS["rows"].values, "rows={!r}")
        yield from _rankings(context)
    yield from _edges(context)
    yield from _joined(context)
    if settings["freq"] == "W":
        for day in WEEKDAYS:
            if day != settings["week_start"]:
                setting = (("week_start", day),)
                yield Cause("week_start", day, f"weeks that start on {day.title()}", setting, bits=choice(6))
    yield from _moved(context)
    yield from _columns(context)


def _other_values(context: Context, name: str, values: Iterable[object], words: str) -> Iterator[Cause]:
    """List the values of a setting other than its current one."""
    for value in values:
        if value != context.story.settings[name]:
            yield Cause(name, value, words.format(value), ((name, value),), bits=choice(2))


def _rankings(context: Context) -> Iterator[Cause]:
    """List rankings whose first customers are those of the remote table."""
    count = int((context.remote.cohort >= 0).sum())
    here = int((context.story.table.present.any(axis=1)).sum())
    if not count or count >= here:
        return
    for by, words in _RANKINGS.items():
        setting = (("top_n", count), ("rank_by", by))
        text = f"only the {count} top customers by {words}"
        yield Cause("top_n", by or "", text, setting, bits=choice(len(_RANKINGS)))


def _edges(context: Context) -> Iterator[Cause]:
    """List the other value of complete_only, and the edges of the remote table."""
    complete, grid, story = context.story.settings["complete_only"], context.grid, context.story
    words = "all periods, including the last one" if complete else "complete periods only"
    setting = (("complete_only", not complete),)
    yield Cause("right edge", "complete_only", words, setting, bits=choice(1))
    first, last = context.screen.seen
    if last < 0:
        return
    if last != story.last:
        label = grid.label(last)
        edge = (("end", label), ("complete_only", False))
        yield Cause("right edge", label, f"{label} as the last period", edge, bits=choice(grid.periods))
    cohorts = np.flatnonzero(story.sums[2])
    if cohorts.size and first > cohorts[0] and first > story.first:
        label = grid.label(first)
        yield Cause("left edge", label, f"{label} as the first cohort", (("start", label),), bits=choice(grid.periods))


def _joined(context: Context) -> Iterator[Cause]:
    """List the dates that may define the cohorts."""
    settings = context.story.settings
    if settings["joined"] is not None:
        yield Cause("joined", None, "cohorts by first active period", (("joined", None),), bits=choice(2))
        for mode in _MODES:
            if mode != settings["before_joined"]:
                how = ("before_joined", mode)
                yield Cause("joined", how, f"before_joined={mode!r}", (how,), bits=choice(2))
        return
    columns = context.rows.dates()
    for name in columns:
        for mode in _MODES:
            words = f"cohorts by column {name!r} (before_joined={mode!r})"
            dates = (("joined", name), ("before_joined", mode))
            yield Cause("joined", (name, mode), words, dates, bits=choice(len(columns), 2))
    words = "cohorts by the date of each user's first row, including refunds"
    first_rows = JoinedDates()
    setting = (("joined", first_rows.frame(context.ledger, context.rows, as_read=True)), ("before_joined", "clip"))
    yield Cause("joined", first_rows, words, setting, bits=choice(1))


def _moved(context: Context) -> Iterator[Cause]:
    """List moves of all dates: by days, and by months, which makes fiscal quarters and years."""
    for days in _DAYS:
        number = "one day" if abs(days) == 1 else f"{abs(days)} days"
        words = f"all dates {number} {'later' if days > 0 else 'earlier'}"
        yield Cause("dates moved", Moved(hours=24 * days), words, bits=choice(len(_DAYS)))
    freq = context.story.settings["freq"]
    if freq not in ("Q", "A"):
        return
    unit = "quarters" if freq == "Q" else "years"
    for start in range(1, 12):
        if freq == "Q" and start > 2:
            break
        for months in (12 - start, -start):
            named = "ends" if months > 0 else "begins"
            words = f"fiscal years that begin in {_MONTHS[start]} ({unit} have the number of the year it {named} in)"
            yield Cause("dates moved", Moved(months=months), words, bits=choice(22))


def _columns(context: Context) -> Iterator[Cause]:
    """List other columns for the user, the instant and the amount."""
    rows = context.rows
    dates = rows.dates()
    for name in dates:
        yield Cause("timestamp", DateColumn(name), f"the dates of column {name!r}", bits=choice(len(dates)))
    for name, dtype in rows.frame.schema.items():
        if name in (rows.user, rows.timestamp, rows.amount) or rows.frame[name].null_count():
            continue
        if dtype.is_float() or dtype.is_decimal():
            yield Cause("amount", AmountColumn(name), f"the amounts of column {name!r}", bits=choice(rows.frame.width))
        elif (dtype == pl.String or dtype.is_integer()) and _may_hold_users(context, name):
            yield Cause("ids", UserColumn(name), f"the users of column {name!r}", bits=choice(rows.frame.width))


def _may_hold_users(context: Context, column: str) -> bool:
    """Check whether a column has about as many values as there are users."""
    users, values = context.ledger.users, context.rows.frame[column].n_unique()
    return users / _ALIKE <= values <= _ALIKE * users and column not in context.rows.dimensions
