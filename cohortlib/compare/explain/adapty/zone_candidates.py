"""Propose time zones by the number of installs that each segment has."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import polars as pl

from cohortlib.compare.explain.adapty.comparison import AdaptyComparison
from cohortlib.compare.explain.adapty.edits import local_days
from cohortlib.compare.explain.causes import Cause, choice
from cohortlib.compare.explain.zones import Clock, clocks
from cohortlib.read.arrays import Ints

_CLOCKS = 300  # of the world, about
_MAX_INSTALL_ZONES = 4  # tried for the installs alone
_MAX_ZONES = 16  # tried if installs do not single out a zone


class ZoneCandidates:
    """Proposes time zones. The distances by installs are cached, because most causes do not change them."""

    def __init__(self) -> None:
        self._distances: dict[object, Ints | None] = {}

    def candidates(self, comparison: AdaptyComparison) -> Iterator[Cause]:
        """List time zones that assign rows to days differently, those with matching installs first."""
        if comparison.excess is None:  # the segments differ, and no zone changes that
            return
        found = self._clocks(comparison)
        for clock in found:
            words, setting = f"time zone {clock.name}", (("timezone", clock.name),)
            yield Cause("timezone", clock.name, words, setting, note=clock.note, bits=choice(_CLOCKS))
        frame = comparison.installs.frame
        if frame is not None and isinstance(frame["install_date"].dtype, pl.Datetime):
            for clock in found[:_MAX_INSTALL_ZONES]:
                words = f"install dates in time zone {clock.name}, and events in {comparison.recipe.timezone}"
                yield Cause("installs moved", clock.name, words, note=clock.note, bits=choice(_CLOCKS))

    def _clocks(self, comparison: AdaptyComparison) -> list[Clock]:
        columns = [column.drop_nulls() for column in _instants(comparison) if isinstance(column.dtype, pl.Datetime)]
        seconds = [column.dt.epoch("s").to_numpy() for column in columns if len(column)]
        if not seconds:
            return []
        candidates = list(clocks(min(int(column.min()) for column in seconds), max(int(c.max()) for c in seconds)))
        distances = self._install_distances(comparison, candidates)
        if distances is not None:
            typical, best = float(np.median(distances)), int(distances.min())
            order = np.argsort(distances, kind="stable")
            if best < typical / 4:
                order = order[distances[order] <= best + max(2.0, typical / 10)]
            else:
                # No clock stands out, so another cause is more likely: try only the closest.
                order = order[:_MAX_ZONES]
            candidates = [candidates[at] for at in order]
        return _distinct(comparison, candidates)

    def _install_distances(self, comparison: AdaptyComparison, candidates: list[Clock]) -> Ints | None:
        recipe = comparison.recipe
        # Only what changes the installs is part of the key.
        edits = tuple(
            cause for cause in recipe.edits if recipe.from_events or cause.kind in ("right edge", "rows missing")
        )
        users = recipe.conventions.user_unit, recipe.conventions.week_start, recipe.from_events, recipe.included, edits
        key = (recipe.request, recipe.labels, *users, len(candidates), candidates[0].starts[0])
        if key not in self._distances:
            self._distances[key] = _install_distances(comparison, candidates)
        return self._distances[key]


def _instants(comparison: AdaptyComparison) -> list[pl.Series]:
    """Return the columns of instants that are cut to days."""
    frame = comparison.events.frame.filter(pl.Series(comparison.counts))
    names = ("event_datetime", "install_date", "subscription_expires_at")
    columns = [frame[name] for name in names if name in frame.columns]
    installs = comparison.installs.frame
    return [*columns, *([installs["install_date"]] if installs is not None else [])]


def _install_distances(comparison: AdaptyComparison, candidates: list[Clock]) -> Ints | None:
    """Count the installs by which segments differ under each clock; None if installs have no times."""
    segments, bounds = comparison.segments, comparison.plan.segments
    installs = _first_installs(comparison)
    if segments is None or installs is None:
        return None
    seconds = installs["install_date"].dt.epoch("s").to_numpy()
    counts = installs["installs"].to_numpy() if "installs" in installs.columns else np.ones(len(seconds))
    remote = segments["total_installs_remote"].fill_null(0).to_numpy()
    distances = []
    for clock in candidates:
        ends = np.append(np.searchsorted(seconds, clock.starts[1:]), seconds.size)
        days = (seconds + np.repeat(clock.shifts, np.diff(ends, prepend=0))) // 86_400
        inside = (days >= bounds.first) & (days <= bounds.last)
        local = np.bincount(bounds.of_day[days[inside] - bounds.first], weights=counts[inside], minlength=len(bounds))
        distances.append(int(np.abs(local - remote).sum()))
    return np.array(distances)


def _first_installs(comparison: AdaptyComparison) -> pl.DataFrame | None:
    """Return the first install of each user, or the counts of installs, by time; None if there are no times."""
    frame = comparison.passing_installs()
    if frame is None:
        events = comparison.events.frame
        if "install_date" not in events.columns:
            return None
        frame = events.filter(pl.Series(comparison.counts)).select("user", "install_date").drop_nulls()
    if not isinstance(frame["install_date"].dtype, pl.Datetime):
        return None
    if "user" in frame.columns:
        frame = frame.group_by("user").agg(pl.col("install_date").min())
    return frame.sort("install_date")


def _distinct(comparison: AdaptyComparison, candidates: list[Clock]) -> list[Clock]:
    """Group clocks under which all rows have the same days, and drop those that agree with the current zone."""
    current = comparison.recipe.timezone
    columns = [column for column in _instants(comparison) if isinstance(column.dtype, pl.Datetime)]

    def days_hash(zone: str) -> int:
        return hash(tuple(local_days(column, zone).tobytes() for column in columns))

    current_days = days_hash(current)
    groups: dict[int, Clock] = {}
    for clock in candidates:
        if clock.name == current or current in clock.others:
            continue
        key = days_hash(clock.name)
        if key == current_days:
            continue
        group = groups.get(key)
        groups[key] = clock if group is None else replace(group, others=(*group.others, clock.name, *clock.others))
    return list(groups.values())
