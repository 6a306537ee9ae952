"""
From CSV to Termina's cohorts by month: `python -m benchmarks.csv --rows 5e6 2e7 --threads 2`.

Files have 4 or 20 columns, integer or UUID ids, plain or gzip. Every contender runs in fresh processes, in turns, and
answers once for a tiny file first. Before anything is timed its table is compared with cohortlib's.

cohortlib reads ids as text and instants of any ISO form, and checks every row's number of fields. The others get the
types of the columns: DuckDB reads TIMESTAMP, which is a quarter faster than TIMESTAMPTZ, and other columns as text,
which it skips; preserve_insertion_order made no difference. polars parses the instants by their exact format.
"""

import argparse
import gzip
import os
import shutil
import tempfile
from functools import partial
from itertools import product
from pathlib import Path
from statistics import median
from string import Template
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from benchmarks import limited, tables
from benchmarks.limited import Result

if TYPE_CHECKING:
    import polars as pl

WIDTHS, IDS, FORMS = (4, 20), ("int", "uuid"), ("csv", "csv.gz")
TINY = 1_000
OURS, DUCKDB, POLARS = "cohortlib", "DuckDB", "polars, streaming"
NEEDED = ("user_id", "timestamp", "amount")


class Case(NamedTuple):
    """A generated file."""

    rows: int
    ids: str
    width: int
    form: str

    def path(self, folder: Path) -> Path:
        """Return where the file is."""
        return folder / f"{self.ids}_{self.width}_{self.rows}.{self.form}"


def write(case: Case, folder: Path) -> Path:
    """Generate a file unless it exists."""
    path = case.path(folder)
    if path.exists():
        return path
    if case.form.endswith(".gz"):
        plain = write(case._replace(form="csv"), folder)
        with plain.open("rb") as source, gzip.open(path, "wb", compresslevel=6) as target:
            shutil.copyfileobj(source, target, 1 << 20)
        return path
    orders(case).write_csv(path)
    return path


def orders(case: Case) -> "pl.DataFrame":
    """Generate orders as a shop exports them; every third note is in quotes."""
    import polars as pl

    from benchmarks.data import transactions

    rng = np.random.default_rng(1)

    def one_of(*texts: str | None) -> pl.Series:
        return pl.Series(texts, dtype=pl.String).gather(rng.integers(0, len(texts), case.rows))

    def number(limit: int) -> pl.Series:
        return pl.Series(rng.integers(0, limit, case.rows))

    rows = transactions(case.rows, case.ids).with_columns(
        pl.col("timestamp").dt.strftime("%Y-%m-%dT%H:%M:%SZ"),
        country=one_of("Germany", "France", "United States", "Brazil", "Japan", "Italy", "Spain", "Poland"),
    )
    if case.width == min(WIDTHS):
        return rows
    return rows.select(
        *(number(10**6).alias(name) for name in ("order_id", "session")),
        "user_id",
        one_of("USD").alias("currency"),
        "timestamp",
        (number(3_000) / 100).alias("discount"),
        one_of(*(f"SKU-{each:05}" for each in range(1_000))).alias("sku"),
        "amount",
        "country",
        one_of("web", "ios", "android").alias("channel"),
        number(9).alias("quantity"),
        (number(3_000) / 100).alias("tax"),
        one_of(*(f"City {each}" for each in range(500))).alias("city"),
        number(10**5).alias("postcode"),
        one_of("paid", "refunded", "pending").alias("status"),
        one_of(None, "gift", "see, above").alias("note"),
        one_of(*(f"user{each}@example.com" for each in range(5_000))).alias("email"),
        *(number(100).alias(name) for name in ("visits", "items", "score")),
    )


def ours(files: str, ids: str, threads: int) -> "pl.DataFrame":
    import cohortlib as cl

    del ids
    return cl.termina.cohorts(files, threads=threads)


def duck(files: str, ids: str, threads: int) -> "pl.DataFrame":
    import duckdb

    from benchmarks import cohorts

    types = {"user_id": "BIGINT" if ids == "int" else "VARCHAR", "timestamp": "TIMESTAMP", "amount": "DOUBLE"}
    columns = {name: types.get(name, "VARCHAR") for name in _header(files)}
    with duckdb.connect() as connection:
        connection.execute(f"set threads = {threads}")
        connection.execute("set enable_progress_bar = false")
        connection.execute(
            f"create temp view transactions as from read_csv('{files}', header = true, delim = ',', quote = '\"', "
            f"auto_detect = false, columns = {columns})"
        )
        return connection.sql(Template(cohorts.DUCKDB).substitute(cohorts.DUCKDB_CALENDARS["M"]._asdict())).pl()


def polars(files: str, ids: str, threads: int) -> "pl.DataFrame":
    import polars as pl

    from benchmarks import cohorts
    from benchmarks.data import Transactions

    types = {"user_id": pl.Int64 if ids == "int" else pl.String, "amount": pl.Float64}
    schema = {name: types.get(name, pl.String) for name in _header(files)}
    rows = pl.scan_csv(files, schema=schema).with_columns(pl.col("timestamp").str.to_datetime("%Y-%m-%dT%H:%M:%SZ"))
    return cohorts.polars(Transactions(rows, packable=ids == "int"), threads, freq="M", engine="streaming")


CONTENDERS = {OURS: "ours", DUCKDB: "duck", POLARS: "polars"}


def _header(path: str) -> list[str]:
    with gzip.open(path, "rt") if path.endswith(".gz") else Path(path).open() as lines:
        return next(lines).strip().split(",")


def measure(case: Case, folder: Path, threads: int, repeat: int) -> dict[str, list[Result]]:
    """Compare the answers for a file, then time the contenders in turns, each time in a fresh process."""
    from benchmarks.cohorts import compare

    path, tiny = write(case, folder), write(case._replace(rows=TINY), folder)
    call = {"files": str(path), "tiny": str(tiny), "ids": case.ids, "threads": threads}
    path.read_bytes()  # so that the page cache is equally warm for all
    results: dict[str, list[Result]] = {name: [] for name in CONTENDERS}
    run = partial(limited.run, given=call, limit="none", memory=0, threads=threads, folder=folder)
    for turn in range(repeat):
        for name in [*CONTENDERS][turn % 3 :] + [*CONTENDERS][: turn % 3]:
            one = run(f"benchmarks.csv:{CONTENDERS[name]}")
            results[name].append(one)
            compare(next(each for each in results.values() if each)[0].answer, one.answer)
    return results


def baseline(case: Case, folder: Path, threads: int) -> dict[str, int]:
    """Return the peak of each contender for the tiny file: imports, compiled code, idle threads."""
    return {name: results[0].peak for name, results in measure(case._replace(rows=TINY), folder, threads, 1).items()}


def options(arguments: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.csv", description=__doc__)
    parser.add_argument("--folder", type=Path, help="keep the files here")
    parser.add_argument(
        "--rows", nargs="+", type=lambda text: int(float(text)), default=[5_000_000], help="such as 5e6"
    )
    parser.add_argument("--columns", nargs="+", type=int, choices=WIDTHS, default=WIDTHS)
    parser.add_argument("--ids", nargs="+", choices=IDS, default=IDS)
    parser.add_argument("--forms", nargs="+", choices=FORMS, default=FORMS)
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="the same for all contenders")
    parser.add_argument("--repeat", type=int, default=5, help="number of rounds")
    return parser.parse_args(arguments)


def main() -> None:
    arguments = options()
    columns = ["ids", "columns", "form", *CONTENDERS, "speedup", "of minima", *(f"{name}, peak" for name in CONTENDERS)]
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.folder or Path(temporary)
        for rows in arguments.rows:
            tables.heading(f"From CSV to the cohorts table: {rows:,} rows", *columns, texts=3)
            for ids, width, form in product(arguments.ids, arguments.columns, arguments.forms):
                case = Case(rows, ids, width, form)
                before = baseline(case, folder, arguments.threads)
                results = measure(case, folder, arguments.threads, arguments.repeat)
                print(tables.line(ids, width, form, *cells(results, before)), flush=True)
    print(f"\n{tables.conditions(arguments.threads)} Seconds: the median (the minimum) of {arguments.repeat} rounds.")


def cells(results: dict[str, list[Result]], before: dict[str, int]) -> list[str]:
    """Format the seconds, the ratios to the fastest other engine, and the memory beyond that for the tiny file."""
    seconds = {name: [one.seconds for one in each] for name, each in results.items()}
    ratios = [
        min(of(taken) for name, taken in seconds.items() if name != OURS) / of(seconds[OURS]) for of in (median, min)
    ]
    return [
        *(f"{median(taken):.2f} ({min(taken):.2f})" for taken in seconds.values()),
        *(f"{ratio:.1f}×" for ratio in ratios),
        *(tables.megabytes(max(one.peak for one in each) - before[name]) for name, each in results.items()),
    ]


if __name__ == "__main__":
    main()
