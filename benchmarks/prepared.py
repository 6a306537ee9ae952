"""
The second question: Termina's cohorts from the prepared form, beside the same from the raw files and DuckDB.

`python -m benchmarks.prepared --rows 2e7`: the raw files are made, prepared, and then each question is asked of both.
The answers must be the same to the bit, DuckDB's too, which sums whole cents. Seconds are medians of rounds in turns.
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


class Second(NamedTuple):
    """A question that is asked again: its settings, and of which country, all where None."""

    settings: dict[str, str]
    country: str | None = None

    def __str__(self) -> str:
        settings = [f"{name}={value!r}" for name, value in self.settings.items()]
        return ", ".join(settings + ([f"only {self.country}"] if self.country else []))


SECONDS = (
    Second({"freq": "M"}),
    Second({"freq": "Q"}),
    Second({"freq": "D"}),
    Second({"freq": "M", "refunds": "signed"}),
    Second({"freq": "M", "refunds": "drop"}),
    Second({"freq": "M"}, "DE"),
)


class Given(NamedTuple):
    """The same rows twice: the glob of the raw files, and the folder of the prepared form."""

    raw: str
    prepared: Path


def prepare(raw: str, folder: Path, threads: int) -> None:
    import cohortlib as cl

    cl.prepare(raw, folder, keep=KEPT, threads=threads)


def from_prepared(given: Given, threads: int, *, asked: Second) -> "pl.DataFrame":
    import polars as pl

    import cohortlib as cl

    source: Any = given.prepared
    if asked.country:
        source = cl.Prepared.open(given.prepared).filter(pl.col("country") == asked.country)
    return cl.termina.cohorts(source, threads=threads, **asked.settings)


def from_raw(given: Given, threads: int, *, asked: Second) -> "pl.DataFrame":
    import polars as pl

    import cohortlib as cl

    source: Any = given.raw
    if asked.country:
        source = pl.scan_parquet(given.raw).filter(pl.col("country") == asked.country)
    return cl.termina.cohorts(source, threads=threads, **asked.settings)


def duck(given: Given, threads: int, *, asked: Second) -> "pl.DataFrame":
    """Answer with DuckDB, whole cents summed; it has no query for refunds that are not netted."""
    import duckdb

    with duckdb.connect() as connection:
        connection.execute(f"set threads = {threads}")
        return connection.sql(large.cohorts_in_cents(given.raw, asked.settings["freq"], asked.country)).pl()


def question(asked: Second) -> Question:
    """Put a second question to the prepared form, which is ours, to the raw files and to DuckDB."""
    contenders = {
        OURS: Contender(partial(from_prepared, asked=asked)),
        RAW: Contender(partial(from_raw, asked=asked)),
    }
    if asked.settings.get("refunds", "net") == "net" and asked.settings["freq"] in large.FREQS:
        contenders[DUCK] = Contender(partial(duck, asked=asked))
    return Question(contenders, large.same)


def ask(given: Given, tiny: Given, threads: int, repeat: int, seconds: float) -> Iterator[tuple[Second, Timed]]:
    """Time every second question, the answers compared."""
    for asked in SECONDS:
        put = question(asked)
        yield asked, measure(put, put.contenders, given, tiny, threads, repeat, seconds)


def made(asked: Years, folder: Path, threads: int) -> tuple[Given, float]:
    """Make the raw files and prepare them, which is timed."""
    raw, prepared = folder / f"raw-{asked.ids}-{asked.rows}", folder / f"prepared-{asked.ids}-{asked.rows}"
    years.write(asked, raw)
    start = perf_counter()
    if not prepared.exists():
        prepare(years.files(raw), prepared, threads)
    return Given(years.files(raw), prepared), perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.prepared", description=__doc__)
    parser.add_argument("--folder", type=Path, help="keeps the files; else a temporary one")
    parser.add_argument("--rows", type=large.count, default=20_000_000, help="like 2e7")
    parser.add_argument("--ids", choices=years.IDS, default="int", help=" or ".join(years.IDS))
    parser.add_argument("--files", type=int, default=36)
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="the same for all")
    parser.add_argument("--repeat", type=int, default=3, help="rounds")
    parser.add_argument("--seconds", type=float, default=60, help="no further round of a question begins after so long")
    options = parser.parse_args()
    os.environ["POLARS_MAX_THREADS"] = str(options.threads)  # read once, on import
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        tiny, _ = made(TINY._replace(ids=options.ids), folder, options.threads)
        asked = Years(options.rows, options.rows // 10, options.files, options.ids)
        given, seconds = made(asked, folder, options.threads)
        title = (
            f"Second questions: {asked.rows:,} rows of {asked.users:,} users ({asked.ids}), prepared in {seconds:.1f} s"
        )
        tables.heading(title, "cohorts", "prepared", RAW, DUCK, "beside raw", "beside DuckDB", texts=1)
        for second, timed in ask(given, tiny, options.threads, options.repeat, options.seconds):
            ours, *others = (timed.seconds.get(name) for name in (OURS, RAW, DUCK))
            cells = ["—" if time is None else f"{time:.2f} s" for time in (ours, *others)]
            ratios = ["—" if time is None else f"{time / ours:.1f}×" for time in others]
            print(tables.line(f"`{second}`", *cells, *ratios), flush=True)
    print(f"\nThe answers are the same to the bit.\n\n{tables.conditions(options.threads)}")


if __name__ == "__main__":
    main()
