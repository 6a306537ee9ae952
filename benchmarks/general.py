"""Time the general table beside polars on the same frame: 20 segments, and own clocks of 30 days.

Run ``python -m benchmarks.general [ROWS] [REPEATS]``. The queries of polars count active users and amounts alone.
"""

import sys
import time
from collections.abc import Callable

import numpy as np
import polars as pl
from polars import col

import cohortlib as cl

SLOTS = 1 << 16


def rows(count: int) -> pl.DataFrame:
    """Draw rows: integer users, instants of three years, amounts with refunds, a country for each user."""
    random = np.random.default_rng(7)
    users = random.integers(0, max(count // 12, 1), count)
    names = pl.Series([f"country{number:02}" for number in range(20)])
    seconds = random.integers(1_672_531_200, 1_767_225_600, count)
    return pl.DataFrame(
        {
            "user_id": users,
            "timestamp": pl.Series(seconds * 1000).cast(pl.Datetime("ms")),
            "amount": random.integers(-200, 10_000, count) / 100,
            "country": names.gather(users % 20),
        }
    )


def by_country(frame: pl.DataFrame) -> pl.DataFrame:
    """Count by country with polars: the country of the first row with money in the first active month."""
    month = (col.timestamp.dt.year().cast(pl.Int32) * 12 + col.timestamp.dt.month() - 1).cast(pl.Int16)
    nets = frame.lazy().group_by(key=col.user_id * SLOTS + month).agg(col.amount.sum()).filter(col.amount > 0.005)
    active = nets.select("amount", user_id=col.key // SLOTS, slot=(col.key % SLOTS).cast(pl.Int16))
    active = active.with_columns(cohort=col.slot.min().over("user_id"))
    first = active.filter(col.slot == col.cohort).select("user_id", "slot")
    paid = frame.lazy().filter(col.amount > 0).with_columns(slot=month).join(first, on=["user_id", "slot"], how="semi")
    countries = paid.group_by("user_id").agg(col.country.sort_by("timestamp").first())
    cells = active.join(countries, on="user_id").group_by("country", "cohort", period=col.slot - col.cohort)
    return cells.agg(pl.len(), col.amount.sum()).collect(engine="streaming")


def by_clock(frame: pl.DataFrame) -> pl.DataFrame:
    """Count by own clocks of 30 days with polars."""
    days = frame.lazy().with_columns(day=col.timestamp.dt.epoch("d"))
    first = days.filter(col.amount > 0).group_by("user_id").agg(first=col.day.min())
    later = days.join(first, on="user_id").filter(col.day >= col.first)
    nets = later.group_by("first", key=col.user_id * SLOTS + (col.day - col.first) // 30).agg(col.amount.sum())
    cells = nets.filter(col.amount > 0.005).group_by("first", age=col.key % SLOTS)
    return cells.agg(pl.len(), col.amount.sum()).collect(engine="streaming")


def seconds_of(function: Callable[[], object], repeats: int) -> float:
    """Return the least time of some calls, after one that warms up."""
    times = []
    for _ in range(repeats + 1):
        begin = time.perf_counter()
        function()
        times.append(time.perf_counter() - begin)
    return min(times[1:])


def main(count: int = 10_000_000, repeats: int = 3) -> None:
    """Print the times."""
    frame = rows(count)
    contenders: dict[str, Callable[[], object]] = {
        "no segment: cohortlib": lambda: cl.cohorts(frame),
        "20 countries: cohortlib": lambda: cl.cohorts(frame, by="country"),
        "20 countries: polars": lambda: by_country(frame),
        "30 days: cohortlib": lambda: cl.cohorts(frame, age="30d"),
        "30 days: polars": lambda: by_clock(frame),
    }
    for name, function in contenders.items():
        print(f"{name:24} {seconds_of(function, repeats):.2f} s")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
