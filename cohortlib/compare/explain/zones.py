"""The clocks of the world: zones of the IANA database, those that show the same time as one."""

import zoneinfo
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import polars as pl
from numpy.typing import NDArray

from cohortlib.read.arrays import Ints

COMMON = (
    "UTC", "Europe/Berlin", "Europe/London", "America/New_York", "America/Los_Angeles", "America/Chicago",
    "America/Sao_Paulo", "Asia/Tokyo", "Asia/Shanghai", "Asia/Kolkata", "Australia/Sydney", "America/Denver",
    "America/Toronto", "America/Mexico_City", "America/Argentina/Buenos_Aires", "America/Bogota", "America/Santiago",
    "America/Phoenix", "America/Halifax", "America/Anchorage", "Europe/Moscow", "Europe/Istanbul", "Europe/Kyiv",
    "Europe/Paris", "Europe/Madrid", "Europe/Lisbon", "Asia/Dubai", "Asia/Karachi", "Asia/Dhaka", "Asia/Jakarta",
    "Asia/Singapore", "Asia/Hong_Kong", "Asia/Seoul", "Asia/Manila", "Asia/Jerusalem", "Asia/Riyadh", "Asia/Tehran",
    "Asia/Tashkent", "Africa/Cairo", "Africa/Lagos", "Africa/Johannesburg", "Africa/Nairobi", "Australia/Perth",
    "Australia/Brisbane", "Australia/Adelaide", "Pacific/Auckland", "Pacific/Honolulu",
)  # fmt: skip
"""The zones that most people live and work by; all there are where the machine has no time zone database."""

_REGIONS = ("Africa/", "America/", "Antarctica/", "Arctic/", "Asia/", "Atlantic/", "Australia/", "Europe/", "Indian/",
            "Pacific/")  # fmt: skip
_DAY = 86_400


@dataclass(frozen=True, eq=False)
class Clock:
    """What one zone, and all that show the same time between two instants, add to UTC.

    `starts` are sorted instants in seconds since 1970-01-01 UTC, the first that from which on the clock was asked for,
    and `shifts` the seconds to add from each on; both int64. `others` are the other zones of the same clock.
    """

    name: str
    others: tuple[str, ...]
    starts: Ints
    shifts: Ints

    @property
    def note(self) -> str:
        """Say one or two of the other zones, or how many they are."""
        if len(self.others) <= 2:
            return f"or {' or '.join(self.others)}" if self.others else ""
        return f"or {self.others[0]} and {len(self.others) - 1:,} more of the same clock"


@lru_cache(maxsize=8)
def clocks(low: int, high: int) -> tuple[Clock, ...]:
    """List every clock that some zone shows between two instants, the common ones first, then from west to east.

    Parameters
    ----------
    low, high
        Instants in whole seconds since 1970-01-01 UTC, both ends within.

    Returns
    -------
    tuple of Clock
        Each zone is in one of them: two zones are in the same where they agree at every second from `low` to `high`.

    Examples
    --------
    >>> found = clocks(1_767_225_600, 1_769_904_000)  # January 2026
    >>> found[0].name, found[1].name, "Europe/Paris" in found[1].others, found[1].shifts.tolist()
    ('UTC', 'Europe/Berlin', True, [3600])
    """
    samples = np.append(np.arange(low, high, _DAY, dtype=np.int64), np.int64(high))
    alike: defaultdict[bytes, list[str]] = defaultdict(list)
    daily = _shifts(_zones(), samples)
    for zone, shifts in daily.items():
        alike[shifts.tobytes()].append(zone)
    found = []
    for zones in alike.values():
        found += _refined(zones, samples, daily[zones[0]])
    rank = {zone: at for at, zone in enumerate(COMMON)}
    order = sorted(
        found, key=lambda clock: (rank.get(clock.name, len(rank)), int(clock.shifts[0]), int(clock.shifts[-1]))
    )
    return tuple(order)


def _refined(zones: list[str], samples: Ints, shifts: Ints) -> list[Clock]:
    """Tell zones that agree once a day by the seconds at which their clocks are changed."""
    turns = np.flatnonzero(np.diff(shifts))
    if not turns.size:
        return [_clock(zones, samples[:1], shifts[:1])]
    # Of the day between two samples, every fifth minute; of these minutes every second.
    alike = {b"": (zones, samples[turns], samples[turns + 1])}
    for step, width in ((300, _DAY), (1, 300)):
        finer = {}
        for known, (some, after, before) in alike.items():
            instants = np.minimum(after[:, None] + np.arange(0, width + step, step), before[:, None])
            told = _shifts(some, instants.ravel())
            parts: defaultdict[bytes, list[str]] = defaultdict(list)
            places = {}
            for zone, values in told.items():
                # The first instant at which the clock is no longer what it was.
                place = np.argmax(values.reshape(instants.shape) != shifts[turns][:, None], axis=1)
                parts[place.tobytes()].append(zone)
                places[place.tobytes()] = place
            for key, members in parts.items():
                at = np.arange(turns.size), places[key]
                finer[known + key] = (members, instants[at[0], at[1] - 1], instants[at])
        alike = finer
    return [
        _clock(some, np.append(samples[:1], starts), np.append(shifts[:1], shifts[turns + 1]))
        for some, _, starts in alike.values()
    ]


def _clock(zones: list[str], starts: Ints, shifts: Ints) -> Clock:
    return Clock(zones[0], tuple(zones[1:]), starts, shifts)


def _zones() -> list[str]:
    """Name every zone that is known here: common ones first, names of old last."""
    there = zoneinfo.available_timezones() or set(COMMON)
    common = [zone for zone in COMMON if zone in there]
    rest = sorted(there.difference(common), key=lambda zone: (not zone.startswith(_REGIONS), zone))
    return [*common, *(zone for zone in rest if zone[:1].isupper() and not zone.startswith(("SystemV", "Factory")))]


def _shifts(zones: Iterable[str], seconds: Ints) -> dict[str, NDArray[np.int64]]:
    """Give the offset of each zone from UTC, in seconds, at each instant; zones that polars does not know are left."""
    frame = pl.DataFrame({"": pl.Series(seconds * 1000).cast(pl.Datetime("ms", "UTC"))})
    zones = list(zones)

    def local(zone: str) -> pl.Expr:
        return pl.col("").dt.convert_time_zone(zone).dt.replace_time_zone(None).cast(pl.Int64).alias(zone)

    try:
        told = frame.select(map(local, zones))
    except pl.exceptions.PolarsError:
        if len(zones) == 1:
            return {}
        middle = len(zones) // 2
        return _shifts(zones[:middle], seconds) | _shifts(zones[middle:], seconds)
    return {zone: told[zone].to_numpy() // 1000 - seconds for zone in zones}
