"""Propose other settings for a Termina table: other values, and the edges and customers of the remote table."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import time
from typing import Any

import polars as pl
from polars.selectors import by_name

from cohortlib.compare.explain.causes import Cause
from cohortlib.compare.explain.termina.comparison import edges
from cohortlib.compare.explain.termina.faults import View
from cohortlib.compare.explain.zones import clocks
from cohortlib.literals import WEEKDAYS
from cohortlib.transactions.keywords import SETTINGS

_TICKS_PER_SECOND = {"ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}
_MODES = ("clip", "drop")  # of activity before the joined date


@dataclass(frozen=True)
class SettingCandidates:
    """Lists other settings of the local table."""

    settings: dict[str, Any]  # the current ones, defaults included
    rows: pl.DataFrame
    rows_with_zone: pl.DataFrame  # the same rows; instants without a zone are taken as UTC
    view: View
    local: pl.DataFrame
    remote: pl.DataFrame

    def causes(self) -> Iterator[Cause]:
        """List the settings to try, likely ones first."""
        yield from self._other_values("refunds", SETTINGS["refunds"].values, "refunds={!r}")
        has_customers = "user_id" in self.remote.columns
        if has_customers:
            yield from self._other_values("basis", SETTINGS["basis"].values, "basis={!r}")
        yield from self._edges()
        yield from self._cohort_dates()
        if has_customers:
            count = self.remote["user_id"].n_unique()
            if count:
                yield from self._other_values("top_n", (count,), "only the {} top customers")
            yield from self._other_values("rows", SETTINGS["rows"].values, "rows={!r}")
        if self.settings["freq"] == "W":
            for day in WEEKDAYS:
                if day != self.settings["week_start"]:
                    yield Cause("week_start", day, f"weeks that start on {day.title()}", (("week_start", day),))
        yield from self._zones()

    def _other_values(self, name: str, values: Iterable[object], words: str) -> Iterator[Cause]:
        """List the values of a setting other than its current one."""
        for value in values:
            if value != self.settings[name]:
                yield Cause(name, value, words.format(value), ((name, value),))

    def _edges(self) -> Iterator[Cause]:
        """List the other value of complete_only, and the edges of the remote table."""
        complete = self.settings["complete_only"]
        words = "all periods, including the last one" if complete else "complete periods only"
        yield Cause("right edge", "complete_only", words, (("complete_only", not complete),))
        view = self.view
        local, remote = edges(self.local, view), edges(self.remote, view)
        if local is None or remote is None:
            return
        if remote[1] != local[1]:
            label = view.calendar.label(remote[1])
            yield Cause("right edge", label, f"{label} as the last period", (("end", label), ("complete_only", False)))
        if remote[0] > local[0]:
            label = view.calendar.label(remote[0])
            yield Cause("left edge", label, f"{label} as the first cohort", (("start", label),))

    def _cohort_dates(self) -> Iterator[Cause]:
        """List the dates that may define the cohorts."""
        settings = self.settings
        if settings["joined"] is not None:
            yield Cause("joined", None, "cohorts by first active period", (("joined", None),))
            for mode in _MODES:
                if mode != settings["before_joined"]:
                    setting = ("before_joined", mode)
                    yield Cause("joined", setting, f"before_joined={mode!r}", (setting,))
            return
        required = {settings["user"], settings["timestamp"], settings["amount"]}
        for name in [name for name in self.rows.columns if name not in required]:
            for mode in _MODES:
                words = f"cohorts by column {name!r} (before_joined={mode!r})"
                yield Cause("joined", (name, mode), words, (("joined", name), ("before_joined", mode)))
        words = "cohorts by the date of each user's first row, including refunds"
        yield Cause("joined", "first row", words, (("joined", self._first_rows()), ("before_joined", "clip")))

    def _first_rows(self) -> pl.DataFrame:
        """Return the instant of each user's first row, of any amount."""
        user, timestamp = self.settings["user"], self.settings["timestamp"]
        rows = self.rows.select(by_name(user, timestamp)).drop_nulls()
        return rows.group_by(by_name(user)).agg(by_name(timestamp).min().name.map(lambda _: "joined"))

    def _zones(self) -> Iterator[Cause]:
        """List the other clocks of the world. Times without a zone are tried as UTC, unless all are midnight."""
        naive = self.rows_with_zone is not self.rows
        instants = self.rows_with_zone[self.settings["timestamp"]].drop_nulls()
        dtype = instants.dtype
        if not isinstance(dtype, pl.Datetime) or not len(instants):
            return
        if naive and (instants.dt.time() == time()).all():
            return
        ticks = instants.to_physical()
        low, high = (int(tick) // _TICKS_PER_SECOND[dtype.time_unit] for tick in (ticks.min(), ticks.max()))
        current = self.settings["timezone"]
        suffix = ", local times taken as UTC" if naive else ""
        for clock in clocks(low, high):
            if current != clock.name and current not in clock.others:
                words = f"time zone {clock.name}{suffix}"
                yield Cause("timezone", clock.name, words, (("timezone", clock.name),), note=clock.note)
