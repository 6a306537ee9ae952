"""Warn about tables whose first or last dates may be mistakes."""

from typing import NamedTuple

import numpy as np

from cohortlib.errors import Arg, warn
from cohortlib.read.arrays import Ints
from cohortlib.transactions.activity import Histogram
from cohortlib.transactions.grid import Grid
from cohortlib.transactions.settings import Settings

_LEAST = 100  # active users by period; smaller tables say too little
_MOST_APART = 0.01  # of these, apart from all others, are doubtful


class _Years(NamedTuple):
    """Consecutive years with activity."""

    first: int
    last: int
    active: int

    def __str__(self) -> str:
        return _range(self.first, self.last)


def warn_of_years(active: Ints, grid: Grid, settings: Settings) -> None:
    """Warn about few active users in years that empty years separate from most, and about rows long after all others.

    `active` has the active users of each period of the grid. Activity counts, not rows, so that the warning is the
    same on every road to the table.
    """
    total = int(active.sum())
    if total < _LEAST:
        return
    ordinals = grid.origin + np.arange(grid.span, dtype=np.int64)
    last_days = settings.calendar.first_days(ordinals + 1) - 1
    years = last_days.astype("datetime64[D]").astype("datetime64[Y]").astype(np.int64) + 1970
    groups = _groups(years[active > 0], active[active > 0])
    at = max(range(len(groups)), key=lambda index: groups[index].active)
    most = groups[at]
    end = settings.calendar.label(int(ordinals[(years <= most.last) & (active > 0)][-1]))
    cut: tuple[str | Arg, ...] = (". Hint: ", Arg("end", end), " leaves later rows out")
    for index, group in enumerate(groups):
        if index == at or group.active > total * _MOST_APART:
            continue
        near = groups[index + 1] if index < at else groups[index - 1]
        empty = _range(group.last + 1, near.first - 1) if index < at else _range(near.last + 1, group.first - 1)
        users = "1 active user" if group.active == 1 else f"{group.active:,} active users"
        warn((f"the table has {users} in {group} and none in {empty}: dates of {group} may be mistakes",
              *(cut if index > at else (". Hint: correct these rows",))))  # fmt: skip
    final = int(years[-1])
    if settings.end is None and final - groups[-1].last > 1:
        warn((f"the last row is of {final} and no user is active in {_range(groups[-1].last + 1, final)}: "
              f"dates of {final} may be mistakes", *cut))  # fmt: skip


def active_by_period(histogram: Histogram) -> Ints:
    """Count the active users of each period of the grid, over all cohorts."""
    active = np.zeros(histogram.span, np.int64)
    for cohort in np.flatnonzero(histogram.offsets >= 0).tolist():
        begin = int(histogram.offsets[cohort])
        active[cohort:] += histogram.active[begin : begin + histogram.span - cohort]
    return active


def _groups(years: Ints, active: Ints) -> list[_Years]:
    """Join consecutive years; `years` are sorted."""
    groups: list[_Years] = []
    for year, count in zip(years.tolist(), active.tolist(), strict=True):
        if groups and year - groups[-1].last <= 1:
            groups[-1] = _Years(groups[-1].first, year, groups[-1].active + count)
        else:
            groups.append(_Years(year, year, count))
    return groups


def _range(first: int, last: int) -> str:
    return str(first) if first == last else f"{first} to {last}"
