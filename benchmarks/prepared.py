"""
Repeated queries: Termina's cohorts from the prepared form, from the raw files, and in DuckDB.

`python -m benchmarks.prepared --rows 2e7` generates raw files, prepares them, and runs each query on both. The answers
must be equal to the bit, including DuckDB's, which sums whole cents. Seconds are medians of rounds in turns.
"""

import argparse
import os
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any, NamedTuple

from benchmarks import large, tables, years
from benchmarks.measure import OURS, Contender, Question, Timed, measure
from benchmarks.years import Years

if TYPE_CHECKING:
    import polars as pl

RAW, DUCK = "cohortlib, raw files", "DuckDB, raw files"
KEPT = ("country",)
TINY = Years(2_000, 200, 2)


class Query(NamedTuple):
    """A query on prepared data: its settings, and the country to filter by (None: all)."""

    settings: dict[str, str]
    country: str | None = None

    def __str__(self) -> str:
        settings = [f"{name}={value!r}" for name, value in self.settings.items()]
        return ", ".join(settings + ([f"only {self.country}"] if self.country else []))


QUERIES = (
    Query({"freq": "M"}),
    Query({"freq": "Q"}),
    Query({"freq": "D"}),
    Query({"freq": "M", "refunds": "signed"}),
    Query({"freq": "M", "refunds": "drop"}),
    Query({"freq": "M"}, "DE"),
)


class Given(NamedTuple):
    """The same rows as the glob of raw files and as the folder of the prepared form."""

    raw: str
    prepared: Path


def prepare(raw: str, folder: Path, threads: int) -> None:
    import cohortlib as cl

    cl.prepare(raw, folder, keep=KEPT, threads=threads)


def from_prepared(given: Given, threads: int, *, query: Query) -> "pl.DataFrame":
    import polars as pl

    import cohortlib as cl

    source: Any = given.prepared
    if query.country:
        source = cl.Prepared.open(given.prepared).filter(pl.col("country") == query.country)
    return cl.termina.cohorts(source, threads=threads, **query.settings)


def from_raw(given: Given, threads: int, *, query: Query) -> "pl.DataFrame":
    import polars as pl

    import cohortlib as cl

    source: Any = given.raw
    if query.country:
        source = pl.scan_parquet(given.raw).filter(pl.col("country") == query.country)
    return cl.termina.cohorts(source, threads=threads, **query.settings)


def duck(given: Given, threads: int, *, query: Query) -> "pl.DataFrame":
    """Answer with DuckDB, which sums whole cents. It has no query for refunds other than "net"."""
    import duckdb

    with duckdb.connect() as connection:
        connection.execute(f"set threads = {threads}")
        return connection.sql(large.cohorts_in_cents(given.raw, query.settings["freq"], query.country)).pl()


def question(query: Query) -> Question:
    """Return the question for one query, with the prepared form as cohortlib, the raw files and DuckDB."""
    contenders = {
        OURS: Contender(partial(from_prepared, query=query)),
        RAW: Contender(partial(from_raw, query=query)),
    }
    if query.settings.get("refunds", "net") == "net" and query.settings["freq"] in large.FREQS:
        contenders[DUCK] = Contender(partial(duck, query=query))
    return Question(contenders, large.same)


def ask(given: Given, tiny: Given, threads: int, repeat: int, seconds: float) -> Iterator[tuple[Query, Timed]]:
    """Compare the answers to every query and time them."""
    for query in QUERIES:
        case = question(query)
        yield query, measure(case, case.contenders, given, tiny, threads, repeat, seconds)


def made(data: Years, folder: Path, threads: int) -> tuple[Given, float]:
    """Generate the raw files and prepare them. Returns both and the seconds of preparing."""
    raw, prepared = folder / f"raw-{data.ids}-{data.rows}", folder / f"prepared-{data.ids}-{data.rows}"
    years.write(data, raw)
    start = perf_counter()
    if not prepared.exists():
        prepare(years.files(raw), prepared, threads)
    return Given(years.files(raw), prepared), perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.prepared", description=__doc__)
    parser.add_argument("--folder", type=Path, help="where to keep the files; by default a temporary folder")
    parser.add_argument("--rows", type=large.count, default=20_000_000, help="for example 2e7")
    parser.add_argument("--ids", choices=years.IDS, default="int", help=" or ".join(years.IDS))
    parser.add_argument("--files", type=int, default=36)
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="the same for all contenders")
    parser.add_argument("--repeat", type=int, default=3, help="number of rounds")
    parser.add_argument("--seconds", type=float, default=60, help="start no new round of a query after this time")
    options = parser.parse_args()
    os.environ["POLARS_MAX_THREADS"] = str(options.threads)  # polars reads this once, on import
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        tiny, _ = made(TINY._replace(ids=options.ids), folder, options.threads)
        data = Years(options.rows, options.rows // 10, options.files, options.ids)
        given, seconds = made(data, folder, options.threads)
        title = (
            f"Repeated queries: {data.rows:,} rows of {data.users:,} users ({data.ids}), prepared in {seconds:.1f} s"
        )
        tables.heading(title, "cohorts", "prepared", RAW, DUCK, "against raw", "against DuckDB", texts=1)
        for query, timed in ask(given, tiny, options.threads, options.repeat, options.seconds):
            ours, *others = (timed.seconds.get(name) for name in (OURS, RAW, DUCK))
            cells = ["—" if time is None else f"{time:.2f} s" for time in (ours, *others)]
            ratios = ["—" if time is None else f"{time / ours:.1f}×" for time in others]
            print(tables.line(f"`{query}`", *cells, *ratios), flush=True)
    print(f"\nThe answers are identical to the bit.\n\n{tables.conditions(options.threads)}")


if __name__ == "__main__":
    main()
