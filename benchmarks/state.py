"""
One more day after three years: Termina's cohorts from an updated state, and recomputed from all rows.

`python -m benchmarks.state --rows 5e7` generates the history, builds its state, and then adds one day after another,
some with late rows. After each day the answers must be equal to the bit.
"""

import argparse
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from benchmarks import large, tables, years
from benchmarks.years import DAYS, Years

if TYPE_CHECKING:
    import polars as pl

LATE = (0.0, 0.01, 0.0, 0.01)  # the share of late rows of each added day
FARTHEST = 90  # the maximum delay of a late row, in days
TINY = Years(5_000, 500, 2)


class Day(NamedTuple):
    """The rows of one day, and the seconds that they took."""

    rows: int
    late: float
    users: int
    update: float
    answer: float
    recompute: float


def new_rows(data: Years, day: int, late: float) -> "pl.DataFrame":
    """Generate the rows of a day, a share of them dated up to 90 days earlier."""
    import polars as pl

    rows = years.part(data, day, day + 1, seed=day)
    rng = np.random.default_rng(day)
    by = np.where(rng.random(rows.height) < late, rng.integers(1, FARTHEST + 1, rows.height), 0)
    return rows.with_columns(pl.col("timestamp") - pl.Series(by * years.DAY).cast(pl.Duration("us")))


def build(raw: str, folder: Path, threads: int) -> float:
    """Build the state of the history. Returns the seconds."""
    import cohortlib as cl

    start = perf_counter()
    cl.termina.State.build(raw, folder, threads=threads)
    return perf_counter() - start


def add_days(data: Years, folder: Path, state: Path, threads: int) -> Iterator[Day]:
    """Add one day after another to the state, and recompute from all files each time."""
    import cohortlib as cl

    for day, late in enumerate(LATE, data.days):
        rows = new_rows(data, day, late)
        file = folder / f"part-{day:06d}-new.parquet"
        rows.write_parquet(file)
        start = perf_counter()
        cl.termina.State.open(state).update(str(file))
        updated = perf_counter()
        answer = cl.termina.State.open(state).cohorts()
        answered = perf_counter()
        again = cl.termina.cohorts(years.files(folder), threads=threads)
        recomputed = perf_counter()
        large.same(answer, again)
        users = rows["user_id"].n_unique()
        yield Day(rows.height, late, users, updated - start, answered - updated, recomputed - answered)


def measure(data: Years, folder: Path, threads: int) -> tuple[float, Iterator[Day]]:
    """Generate the history in a folder, build its state, and add the days to links of the files."""
    history = folder / f"history-{data.ids}-{data.rows}"
    years.write(data, history)
    all_rows, state = folder / "all", folder / "state"
    for place in (all_rows, state):
        shutil.rmtree(place, ignore_errors=True)
    all_rows.mkdir()
    for file in history.glob("part-*.parquet"):
        (all_rows / file.name).hardlink_to(file)
    return build(years.files(history), state, threads), add_days(data, all_rows, state, threads)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.state", description=__doc__)
    parser.add_argument("--folder", type=Path, help="where to keep the history; by default a temporary folder")
    parser.add_argument("--rows", type=large.count, default=50_000_000, help="for example 5e7")
    parser.add_argument("--ids", choices=years.IDS, default="int", help=" or ".join(years.IDS))
    parser.add_argument("--files", type=int, default=36)
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="the same for all contenders")
    options = parser.parse_args()
    os.environ["POLARS_MAX_THREADS"] = str(options.threads)  # polars reads this once, on import
    with tempfile.TemporaryDirectory() as temporary:
        # A tiny history runs first, so that imports and compilation are not timed.
        warm, days = measure(TINY._replace(ids=options.ids, days=DAYS - len(LATE)), Path(temporary), options.threads)
        del warm
        list(days)
        folder = options.folder or Path(temporary)
        data = Years(options.rows, options.rows // 10, options.files, options.ids, days=DAYS - len(LATE))
        seconds, days = measure(data, folder, options.threads)
        title = f"Daily updates: three years of {data.rows:,} rows ({data.ids}), state built in {seconds:.1f} s"
        tables.heading(title, "new rows", "late", "users", "update", "cohorts()", "recompute", "speedup")
        for day in days:
            speedup = day.recompute / (day.update + day.answer)
            cells = (f"{day.update:.3f} s", f"{day.answer:.3f} s", f"{day.recompute:.2f} s", f"{speedup:.1f}×")
            print(tables.line(f"{day.rows:,}", f"{day.late:.0%}", f"{day.users:,}", *cells), flush=True)
    print(f"\nThe answers are identical to the bit.\n\n{tables.conditions(options.threads)}")


if __name__ == "__main__":
    main()
