"""
The promise of `max_memory` by road: the peak of resident memory beyond the start, in a separate process for each road.

`python -m benchmarks.promise --rows 2e7 --max-memory 300MB` generates the tables in a temporary folder, or in
`--folder` unless they exist, and prints one line for each road. A peak is held to the promise plus `SLACK` bytes.
"""

import argparse
import gzip
import shutil
import subprocess
import sys
import tempfile
from os import environ
from pathlib import Path
from typing import NamedTuple

import polars as pl

ROOT = Path(__file__).parents[1]
SLACK = 150_000_000
"""Bytes beyond the promise: what numba, polars and idle threads need for any table."""
EVENTS_SHARE = 4  # a row of Adapty's events takes several times the memory of a transaction
LINES_SHARE = 10  # JSON lines are read 20 times slower than CSV
TINY = 1000

# Arguments: the road's code, the folder of a tiny table, that of the large one, `max_memory`. The tiny table runs
# first, so that the memory of imports and compilation is not counted.
CHILD = """
import sys, gc, time, tempfile, warnings
from pathlib import Path
from benchmarks.memory import peak
import cohortlib as cl
from cohortlib.engine import jit
warnings.simplefilter("ignore")
jit.INTERPRETER.patience = 0  # the tiny table compiles kernels, too
code, tiny, large, max_memory, threads = sys.argv[1:]
def run(folder):
    with tempfile.TemporaryDirectory() as out:
        running = {"max_memory": max_memory, "threads": int(threads)}
        exec(code, {"cl": cl, "folder": folder, "out": out, "running": running})
run(tiny)
gc.collect()
before = peak(again=True)
start = time.perf_counter()
run(large)
print(time.perf_counter() - start, peak() - before)
"""

COHORTS = 'cl.termina.cohorts(folder + "/{file}", freq={freq!r}, **running)'
FRAME = 'import polars as pl; cl.termina.cohorts(pl.scan_parquet(folder + "/{file}"), **running)'
PREPARE = 'cl.prepare(folder + "/{file}", out + "/prepared", **running)'
BUILD = 'cl.termina.State.build(folder + "/{file}", out + "/state", **running)'
SINK = 'cl.termina.sink_customer_cohorts(folder + "/{file}", out + "/customers/", rows="active", **running)'
ROWS = 'cl.termina.sink_customer_cohorts(folder + "/{file}", out + "/customers.parquet", rows="active", **running)'
UPDATE = """
state = cl.termina.State.build(folder + "/day.parquet", out + "/state", **running)
state.update(folder + "/int.parquet", **running)
"""
GENERAL = 'cl.cohorts(folder + "/{file}", by="country", freq="M", **running)'
ACCOUNTING = 'cl.termina.{name}(folder + "/{file}", **running)'
ADAPTY = """
request = {{"filters": {{"date": ["2023-01-01", "2025-12-31"]}}, "period_unit": "month", "period_type": "{period}"}}
cl.adapty.cohort(folder + "/events.{kind}", request, installs=folder + "/installs.{kind}", **running)
"""
REVENUECAT = """
request = {"filters": {"date": ["2023-01-01", "2025-12-31"]}, "period_unit": "month"}
cl.adapty.cohort(folder + "/revenuecat.csv", request, installs="from_events", **running)
"""

ROADS = {
    "cohorts, int, groups of 1 million": COHORTS.format(file="int.parquet", freq="M"),
    "cohorts, int, days": COHORTS.format(file="int.parquet", freq="D"),
    "cohorts, int, one group": COHORTS.format(file="int-group.parquet", freq="M"),
    "cohorts, text, groups of 1 million": COHORTS.format(file="uuid.parquet", freq="M"),
    "cohorts, text, one group": COHORTS.format(file="uuid-group.parquet", freq="M"),
    "cohorts, int, lazy frame": FRAME.format(file="int.parquet"),
    "cohorts, int, CSV": COHORTS.format(file="int.csv", freq="M"),
    "cohorts, text, CSV": COHORTS.format(file="uuid.csv", freq="M"),
    "prepare, int": PREPARE.format(file="int.parquet"),
    "prepare, text": PREPARE.format(file="uuid.parquet"),
    "prepare, text, CSV": PREPARE.format(file="uuid.csv"),
    "State.build, int": BUILD.format(file="int.parquet"),
    "State.build, text, one group": BUILD.format(file="uuid-group.parquet"),
    "sink of customers, int": SINK.format(file="int.parquet"),
    "sink of customers, text": SINK.format(file="uuid.parquet"),
    "sink of customers, text, CSV": SINK.format(file="uuid.csv"),
    "sink of customers, int, one file": ROWS.format(file="int.parquet"),
    "cohorts, int, CSV.gz": COHORTS.format(file="int.csv.gz", freq="M"),
    "cohorts, int, JSON lines": COHORTS.format(file="part.jsonl", freq="M"),
    "State.update, int": UPDATE,
    "general table by country, int": GENERAL.format(file="country.parquet"),
    "user accounting, int": ACCOUNTING.format(name="user_accounting", file="int.parquet"),
    "growth accounting, text": ACCOUNTING.format(name="growth_accounting", file="uuid.parquet"),
    "concentration, int": ACCOUNTING.format(name="concentration", file="int.parquet"),
    "Adapty, renewals, Parquet": ADAPTY.format(kind="parquet", period="renewals"),
    "Adapty, days, Parquet": ADAPTY.format(kind="parquet", period="days"),
    "Adapty, renewals, CSV": ADAPTY.format(kind="csv", period="renewals"),
    "Adapty, renewals, CSV.gz": ADAPTY.format(kind="csv.gz", period="renewals"),
    "RevenueCat, renewals, CSV": REVENUECAT,
}


class Kept(NamedTuple):
    """The seconds of a road, and the peak of its resident memory beyond the start, in bytes."""

    seconds: float
    peak: int


def measure(road: str, folder: Path, max_memory: str, threads: int) -> Kept:
    """Run a road on the tables of a folder in a process of its own."""
    arguments = [ROADS[road], folder / "tiny", folder / "large", max_memory, threads]
    done = subprocess.run(  # noqa: S603  the program is ours
        [sys.executable, "-c", CHILD, *map(str, arguments)],
        cwd=ROOT, env={**environ, "POLARS_MAX_THREADS": str(threads)}, stdout=subprocess.PIPE, text=True, check=True,
    )  # fmt: skip
    seconds, peak = done.stdout.split()
    return Kept(float(seconds), int(peak))


def write(rows: int, folder: Path) -> None:
    """Write the tables of all roads to a folder, except those that are there."""
    from benchmarks.data import transactions
    from benchmarks.subscriptions import history

    def missing(*names: str) -> bool:
        return not all((folder / name).exists() for name in names)

    if missing("int.parquet", "int-group.parquet", "int.csv", "uuid.parquet", "uuid-group.parquet", "uuid.csv"):
        for ids in ("int", "uuid"):
            table = transactions(rows, ids)
            table.write_parquet(folder / f"{ids}.parquet", row_group_size=1_000_000)
            table.write_parquet(folder / f"{ids}-group.parquet", row_group_size=rows)
            table.write_csv(folder / f"{ids}.csv")
            del table
    if missing("country.parquet", "day.parquet", "part.jsonl", "int.csv.gz"):
        table = pl.read_parquet(folder / "int.parquet")
        country = pl.format("C{}", pl.col("user_id") % 20).alias("country")
        table.with_columns(country).write_parquet(folder / "country.parquet", row_group_size=1_000_000)
        table.tail(max(rows // 1000, 1)).write_parquet(folder / "day.parquet")
        table.head(max(rows // LINES_SHARE, 1)).write_ndjson(folder / "part.jsonl")
        del table
        compress(folder / "int.csv")
    if missing("events.parquet", "events.csv", "installs.parquet", "installs.csv"):
        tables = history(max(rows // EVENTS_SHARE, TINY), ids="uuid")
        for name, table in zip(("events", "installs"), tables, strict=True):
            table.write_parquet(folder / f"{name}.parquet")
            table.write_csv(folder / f"{name}.csv")
        del tables, table
    if missing("events.csv.gz", "installs.csv.gz", "revenuecat.csv"):
        compress(folder / "events.csv")
        compress(folder / "installs.csv")
        revenuecat(folder / "events.parquet").sink_csv(folder / "revenuecat.csv")


def compress(file: Path) -> None:
    """Write a file's copy in gzip."""
    with file.open("rb") as source, gzip.open(f"{file}.gz", "wb", compresslevel=1) as target:
        shutil.copyfileobj(source, target)


def revenuecat(events: Path) -> pl.LazyFrame:
    """Return payments as RevenueCat's transactions."""
    no = pl.lit("false")
    columns = {
        "rc_original_app_user_id": "profile_id", "product_identifier": "product_id", "start_time": "event_datetime",
        "end_time": "subscription_expires_at", "store": "store", "price_in_usd": "revenue_usd",
        "purchase_price_in_usd": "revenue_usd", "store_transaction_id": "transaction_id", "is_trial_period": no,
        "original_store_transaction_id": "original_transaction_id", "is_sandbox": no, "is_trial_conversion": no,
        "refunded_at": pl.lit(None, pl.String), "renewal_number": pl.lit(1), "updated_at": "event_datetime",
        "commission_percentage": pl.lit(0.15), "tax_percentage": pl.lit(0.0),
    }  # fmt: skip
    paid = pl.col("revenue_usd") > 0, pl.col("transaction_id").is_not_null()
    return pl.scan_parquet(events).filter(paid).select(**columns)


def main() -> None:
    """Print the table of all roads."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.promise", description=__doc__)
    parser.add_argument("--rows", type=lambda text: int(float(text)), default=20_000_000, help="for example 2e7")
    parser.add_argument("--max-memory", default="300MB", help="the promise")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--folder", type=Path, help="keep the tables here, about 300 bytes per row")
    parser.add_argument("--only", default="", help="roads with this in their name")
    options = parser.parse_args()

    from benchmarks import tables
    from cohortlib.engine.memory import budget

    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        for name, rows in (("large", options.rows), ("tiny", TINY)):
            (folder / name).mkdir(parents=True, exist_ok=True)
            write(rows, folder / name)
        title = f"Peak memory beyond the start, {options.rows:,} rows, max_memory={options.max_memory!r}"
        tables.heading(title, "road", "seconds", "peak", "kept", texts=1)
        for road in ROADS:
            if options.only in road:
                kept = measure(road, folder, options.max_memory, options.threads)
                verdict = "yes" if kept.peak <= budget(options.max_memory) + SLACK else "no"
                cells = (f"{kept.seconds:.2f} s", tables.megabytes(kept.peak), verdict)
                print(tables.line(road, *cells), flush=True)


if __name__ == "__main__":
    main()
