"""Propose other settings for a Termina table: other values, and the edges and customers of the remote table."""

from collections.abc import Iterable, Iterator
from datetime import time
from typing import TYPE_CHECKING

import polars as pl
from polars.selectors import by_name

from cohortlib.compare.explain.causes import Cause
from cohortlib.compare.explain.termina.comparison import edges
from cohortlib.compare.explain.zones import clocks
from cohortlib.periods import WEEKDAYS

if TYPE_CHECKING:
    from cohortlib.compare.explain.termina.table import TerminaTable

_TICKS_PER_SECOND = {"ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}
_MODES = ("clip", "drop")  # of activity before the joined date


def setting_candidates(table: "TerminaTable") -> Iterator[Cause]:
    """List the settings to try, likely ones first."""
    yield from _other_values(table, "refunds", ("net", "signed", "drop"), "refunds={!r}")
    if table.has_customers:
        yield from _other_values(table, "basis", ("single_customer", "cohort_total", "cohort_mean"), "basis={!r}")
    yield from _edges(table)
    yield from _cohort_dates(table)
    if table.has_customers:
        count = table.remote["user_id"].n_unique()
        if count:
            yield from _other_values(table, "top_n", (count,), "only the {} top customers")
        yield from _other_values(table, "rows", ("dense", "active"), "rows={!r}")
    if table.settings["freq"] == "W":
        for day in WEEKDAYS:
            if day != table.settings["week_start"]:
                yield Cause("week_start", day, f"weeks that start on {day.title()}", (("week_start", day),))
    yield from _zones(table)


def _other_values(table: "TerminaTable", name: str, values: Iterable[object], words: str) -> Iterator[Cause]:
    """List the values of a setting other than its current one."""
    for value in values:
        if value != table.settings[name]:
            yield Cause(name, value, words.format(value), ((name, value),))


def _edges(table: "TerminaTable") -> Iterator[Cause]:
    """List the other value of complete_only, and the edges of the remote table."""
    complete = table.settings["complete_only"]
    words = "all periods, including the last one" if complete else "complete periods only"
    yield Cause("right edge", "complete_only", words, (("complete_only", not complete),))
    view = table.view
    local, remote = edges(table.recompute(()), view), edges(table.remote, view)
    if local is None or remote is None:
        return
    if remote[1] != local[1]:
        label = view.calendar.label(remote[1])
        yield Cause("right edge", label, f"{label} as the last period", (("end", label), ("complete_only", False)))
    if remote[0] > local[0]:
        label = view.calendar.label(remote[0])
        yield Cause("left edge", label, f"{label} as the first cohort", (("start", label),))


def _cohort_dates(table: "TerminaTable") -> Iterator[Cause]:
    """List the dates that may define the cohorts."""
    settings = table.settings
    if settings["joined"] is not None:
        yield Cause("joined", None, "cohorts by first active period", (("joined", None),))
        for mode in _MODES:
            if mode != settings["before_joined"]:
                setting = ("before_joined", mode)
                yield Cause("joined", setting, f"before_joined={mode!r}", (setting,))
        return
    required = {settings["user"], settings["timestamp"], settings["amount"]}
    for name in [name for name in table.rows.columns if name not in required]:
        for mode in _MODES:
            words = f"cohorts by column {name!r} (before_joined={mode!r})"
            yield Cause("joined", (name, mode), words, (("joined", name), ("before_joined", mode)))
    words = "cohorts by the date of each user's first row, including refunds"
    yield Cause("joined", "first row", words, (("joined", _first_rows(table)), ("before_joined", "clip")))


def _first_rows(table: "TerminaTable") -> pl.DataFrame:
    """Return the instant of each user's first row, of any amount."""
    user, timestamp = table.settings["user"], table.settings["timestamp"]
    rows = table.rows.select(by_name(user, timestamp)).drop_nulls()
    return rows.group_by(by_name(user)).agg(by_name(timestamp).min().name.map(lambda _: "joined"))


def _zones(table: "TerminaTable") -> Iterator[Cause]:
    """List the other clocks of the world. Times without a zone are tried as UTC, unless all are midnight."""
    naive = table.rows_with_zone is not table.rows
    instants = table.rows_with_zone[table.settings["timestamp"]].drop_nulls()
    dtype = instants.dtype
    if not isinstance(dtype, pl.Datetime) or not len(instants):
        return
    if naive and (instants.dt.time() == time()).all():
        return
    ticks = instants.to_physical()
    low, high = (int(tick) // _TICKS_PER_SECOND[dtype.time_unit] for tick in (ticks.min(), ticks.max()))
    current = table.settings["timezone"]
    suffix = ", local times taken as UTC" if naive else ""
    for clock in clocks(low, high):
        if current != clock.name and current not in clock.others:
            words = f"time zone {clock.name}{suffix}"
            yield Cause("timezone", clock.name, words, (("timezone", clock.name),), note=clock.note)
