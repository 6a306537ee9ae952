"""Years of transactions in many Parquet files, generated file by file, so that memory does not grow with the rows."""

import os
import sys
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    import polars as pl

START = np.datetime64("2023-01-01", "us")
DAY = 86_400_000_000
DAYS = 1096  # three years, one of them a leap year
REFUNDS = 0.04
FIRST_MONTH = 0.2  # the share of users who join within 30 days
BLOCK = 100  # users per block; in each block a few users have most of the rows
COUNTRIES = ("DE", "US", "FR", "BR", "JP", "IN", "GB", "NL")
IDS = ("int", "text")
WORTH_PROCESSES = 1_000_000  # rows


class Years(NamedTuple):
    """The parameters of the data. Rows and users are those of three years; the files have the first `days` of them."""

    rows: int
    users: int
    files: int
    ids: str = "int"
    seed: int = 0
    days: int = DAYS

    def joined(self, day: float) -> int:
        """Return the number of users who have joined by a time in days since the start."""
        return int(np.interp(day, *self._growth()))

    def others(self, first: float, last: float) -> int:
        """Return the number of rows between two days without first rows, in proportion to the users who have joined."""
        joined_users = np.interp(np.arange(DAYS + 1), *self._growth())
        by_then = np.concatenate([[0], np.cumsum(joined_users[1:] + joined_users[:-1])])
        begun, ended = np.interp([first, last], np.arange(DAYS + 1), by_then / by_then[-1] * (self.rows - self.users))
        return round(ended) - round(begun)

    def day_of(self, user: np.ndarray) -> np.ndarray:
        """Return when users join, in days since the start; users are numbered in the order of joining."""
        days, users = self._growth()
        return np.interp(user, users, days)

    def _growth(self) -> tuple[list[float], list[float]]:
        return [0, 30, DAYS], [0, self.users * FIRST_MONTH, self.users]


def write(years: Years, folder: Path) -> None:
    """
    Write the files to a folder, unless it already has the same data.

    Every user has a row when joining. The other rows belong to users who joined before, more to late users than to
    early ones, and most of them to a few users. 4 % of the rows are refunds.
    """
    whole = folder / "whole.txt"
    if whole.exists():
        if whole.read_text() != str(years):
            raise SystemExit(f"{folder} holds {whole.read_text()}, not {years}")
        return
    folder.mkdir(parents=True, exist_ok=True)
    print(f"generating {years} in {folder}", file=sys.stderr)
    write_one = partial(_write_one, years, folder)
    if years.rows < WORTH_PROCESSES:
        for at in range(years.files):
            write_one(at)
    else:
        with ProcessPoolExecutor(os.cpu_count(), mp_context=get_context("spawn"), initializer=_alone) as pool:
            list(pool.map(write_one, range(years.files)))
    whole.write_text(str(years))


def files(folder: Path) -> str:
    """Return the files of a folder, as a glob."""
    return str(folder / "part-*.parquet")


def part(years: Years, first: float, last: float, seed: int) -> "pl.DataFrame":
    """
    Generate the rows between two days, counted from the start.

    Returns
    -------
    pl.DataFrame
        Columns user_id (Int64, or String such as "user-000012345"), timestamp (Datetime, microseconds, in order),
        amount (Float64, whole cents), country (String, the same for all rows of a user).
    """
    import polars as pl

    rng = np.random.default_rng((years.seed, seed))
    start, end = years.joined(first), years.joined(last)
    joining, rows = np.arange(start, end), years.others(first, last)
    day = first + (last - first) * rng.random(rows)
    joined_users = np.maximum(np.interp(day, *years._growth()).astype(np.int64), 1)
    user = (joined_users * (1 - rng.random(rows) ** 2)).astype(np.int64)
    user += (BLOCK * rng.random(rows) ** 3).astype(np.int64) - user % BLOCK
    user = np.concatenate([joining, np.minimum(user, joined_users - 1)])
    instant = (np.concatenate([np.maximum(years.day_of(joining), first), day]) * DAY).astype(np.int64)
    del day, joined_users, joining
    order = np.argsort(instant, kind="stable")
    user, instant = user[order], instant[order]
    cents = np.ceil(np.exp(rng.normal(7.0, 1.0, len(user))))
    cents[rng.random(len(user)) < REFUNDS] *= -1
    number = pl.Series(1000 + 2 * user)
    frame = pl.DataFrame(
        {
            "user_id": number,
            "timestamp": START + instant.astype("timedelta64[us]"),
            "amount": cents / 100,
            "country": pl.Series(COUNTRIES)[(user * 2_654_435_761 >> 16) % len(COUNTRIES)],
        }
    )
    if years.ids == "text":
        frame = frame.with_columns(user_id=pl.lit("user-") + pl.col("user_id").cast(pl.String).str.zfill(9))
    return frame


def _alone() -> None:
    os.environ["POLARS_MAX_THREADS"] = "1"


def _write_one(years: Years, folder: Path, at: int) -> None:
    first, last = (years.days * edge / years.files for edge in (at, at + 1))
    part(years, first, last, at).write_parquet(folder / f"part-{at:04d}.parquet")
