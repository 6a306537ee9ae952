"""List the distinct time zones: IANA zones that show the same local time are grouped into one clock."""

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
"""The zones of most companies. They come first, and are the only ones if the machine has no time zone database."""

_REGIONS = ("Africa/", "America/", "Antarctica/", "Arctic/", "Asia/", "Atlantic/", "Australia/", "Europe/", "Indian/",
            "Pacific/")  # fmt: skip
_DAY = 86_400


@dataclass(frozen=True, eq=False)
class Clock:
    """The UTC offsets shared by one or more zones between two instants."""

    name: str  # of the zone that represents the clock
    others: tuple[str, ...]  # zones with the same offsets
    starts: Ints  # sorted seconds since 1970-01-01 UTC from which each offset holds; the first is that of the range
    shifts: Ints  # the offsets in seconds

    @property
    def note(self) -> str:
        """The other zones as text: their names, or the first and a count."""
        if len(self.others) <= 2:
            return f"or {' or '.join(self.others)}" if self.others else ""
        return f"or {self.others[0]} and {len(self.others) - 1:,} more of the same clock"


@lru_cache(maxsize=8)
def clocks(low: int, high: int) -> tuple[Clock, ...]:
    """List the distinct clocks between two instants, common zones first, then from west to east.

    Zones share a clock if they agree at every second from `low` to `high`, in seconds since 1970-01-01 UTC.

    >>> utc, berlin, *_ = clocks(1_767_225_600, 1_769_904_000)  # January 2026
    >>> utc.name, berlin.name, "Europe/Paris" in berlin.others, berlin.shifts.tolist()
    ('UTC', 'Europe/Berlin', True, [3600])
    """
    samples = np.append(np.arange(low, high, _DAY, dtype=np.int64), np.int64(high))
    groups: defaultdict[bytes, list[str]] = defaultdict(list)
    daily = _offsets(_zones(), samples)
    for zone, offsets in daily.items():
        groups[offsets.tobytes()].append(zone)
    unsorted = []
    for zones in groups.values():
        unsorted += _split(zones, samples, daily[zones[0]])
    rank = {zone: at for at, zone in enumerate(COMMON)}
    return tuple(
        sorted(
            unsorted, key=lambda clock: (rank.get(clock.name, len(rank)), int(clock.shifts[0]), int(clock.shifts[-1]))
        )
    )


def _split(zones: list[str], samples: Ints, shifts: Ints) -> list[Clock]:
    """Split zones with equal daily offsets `shifts` by the second at which their offsets change."""
    changes = np.flatnonzero(np.diff(shifts))
    if not changes.size:
        return [Clock(zones[0], tuple(zones[1:]), samples[:1], shifts[:1])]
    # Narrow down each change: within the day between two samples to five minutes, within these to one second.
    groups = {b"": (zones, samples[changes], samples[changes + 1])}
    for step, width in ((300, _DAY), (1, 300)):
        finer = {}
        for key, (members, before, after) in groups.items():
            instants = np.minimum(before[:, None] + np.arange(0, width + step, step), after[:, None])
            parts: defaultdict[bytes, list[str]] = defaultdict(list)
            indices = {}
            for zone, offsets in _offsets(members, instants.ravel()).items():
                # Index of the first instant with the new offset.
                index = np.argmax(offsets.reshape(instants.shape) != shifts[changes][:, None], axis=1)
                parts[index.tobytes()].append(zone)
                indices[index.tobytes()] = index
            for part, names in parts.items():
                at = np.arange(changes.size), indices[part]
                finer[key + part] = (names, instants[at[0], at[1] - 1], instants[at])
        groups = finer
    return [
        Clock(first, tuple(others), np.append(samples[:1], starts), np.append(shifts[:1], shifts[changes + 1]))
        for (first, *others), _, starts in groups.values()
    ]


def _zones() -> list[str]:
    """List the zones of this machine: common ones first, deprecated names last."""
    available = zoneinfo.available_timezones() or set(COMMON)
    common = [zone for zone in COMMON if zone in available]
    rest = sorted(available.difference(common), key=lambda zone: (not zone.startswith(_REGIONS), zone))
    return [*common, *(zone for zone in rest if zone[:1].isupper() and not zone.startswith(("SystemV", "Factory")))]


def _offsets(zones: Iterable[str], seconds: Ints) -> dict[str, NDArray[np.int64]]:
    """Return the UTC offset of each zone at each instant, in seconds. Zones unknown to polars are left out."""
    frame = pl.DataFrame({"": pl.Series(seconds * 1000).cast(pl.Datetime("ms", "UTC"))})
    zones = list(zones)

    def local(zone: str) -> pl.Expr:
        return pl.col("").dt.convert_time_zone(zone).dt.replace_time_zone(None).cast(pl.Int64).alias(zone)

    try:
        local_times = frame.select(map(local, zones))
    except pl.exceptions.PolarsError:
        # polars does not say which zone it does not know: bisect.
        if len(zones) == 1:
            return {}
        middle = len(zones) // 2
        return _offsets(zones[:middle], seconds) | _offsets(zones[middle:], seconds)
    return {zone: local_times[zone].to_numpy() // 1000 - seconds for zone in zones}
