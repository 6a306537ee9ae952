"""
More rows than memory: Termina's cohorts by month, from Parquet files, in a process limited to 4 GB.

`python -m benchmarks.large --folder FOLDER` generates 200 million rows of 20 million users in the folder, unless they
exist, and runs cohortlib and DuckDB in separate processes. `--ids text --rows 5e7 --users 5e6` does the same with text
ids. All nine fields must be equal to the bit; DuckDB sums whole cents.
"""

import argparse
import os
import tempfile
from collections.abc import Iterable
from pathlib import Path
from statistics import median
from string import Template
from typing import TYPE_CHECKING, NamedTuple

from benchmarks import limited, tables, years
from benchmarks.limited import Result
from benchmarks.years import Years

if TYPE_CHECKING:
    import polars as pl


class Contender(NamedTuple):
    """A contender, and whether the limit is enforced. Otherwise only its memory setting follows the limit.

    DuckDB's allocator reserves more address space than it uses: with a memory_limit of 2 GB its resident memory was
    2.4 GB, yet a limit of 4 GB on its data segment (ulimit -d) killed it.
    """

    where: str
    held: bool


CONTENDERS = {
    "cohortlib": Contender("benchmarks.large:ours", held=True),
    "DuckDB": Contender("benchmarks.large:duck", held=False),
}
FREQS = ("M", "D")
TINY = Years(10_000, 1_000, 2)
HEADROOM = 2 / 3  # DuckDB's memory_limit as a share of the limit; the rest of the process needs memory too

# The query that is fastest in memory, with whole cents instead of doubles; benchmarks/cohorts.py lists the others.
# Rough times for 200 million rows in 3 GB, with other load: this query 220 s; eight queries in sequence, each for an
# eighth of the users and so in memory, 350 s; lists per user, unnested again, not finished after 300 s.
DUCKDB = """
with net as (
    select user_id, $period as slot, sum((amount * 100)::bigint) as cents from $rows group by all
),
active as (select * from net where cents > 0),
first as (select user_id, min(slot) as cohort from active group by user_id),
cells as (
    select cohort, slot - cohort as period, count(*) as active_users, sum(cents) as cents
    from active join first using (user_id) group by all
),
grid as (
    select cohort, active_users as cohort_size, cents as cents_at_first,
        unnest(range((select max($period) from $rows) - cohort + 1)) as period
    from cells where period = 0
)
select
    $label as cohort,
    period,
    cohort_size,
    cents_at_first::double / 100 as cohort_size_amount,
    coalesce(active_users, 0) as active_users,
    coalesce(active_users, 0) / cohort_size as logo_retention,
    coalesce(cents, 0)::double / 100 as amount,
    coalesce(cents, 0)::double / cents_at_first::double as amount_retention,
    (sum(coalesce(cents, 0)) over (partition by cohort order by period))::double / (cohort_size * 100) as ltv
from grid left join cells using (cohort, period)
order by grid.cohort, period
"""


def ours(files: str, freq: str, threads: int, memory: int, max_memory: str | None, folder: str) -> "pl.DataFrame":
    import cohortlib as cl

    del memory, folder
    return cl.termina.cohorts(files, freq=freq, threads=threads, max_memory=max_memory)


def duck(files: str, freq: str, threads: int, memory: int, max_memory: str | None, folder: str) -> "pl.DataFrame":
    """Answer with DuckDB, which spills to the folder."""
    import duckdb

    del max_memory
    with duckdb.connect() as connection:
        connection.execute(f"set threads = {threads}")
        connection.execute(f"set memory_limit = '{int(memory * HEADROOM)}B'")
        connection.execute(f"set temp_directory = '{folder}/duckdb'")
        connection.execute("set preserve_insertion_order = false")
        return connection.sql(cohorts_in_cents(files, freq)).pl()


def cohorts_in_cents(files: str, freq: str, country: str | None = None) -> str:
    """Return DuckDB's query; `files` is a glob."""
    from benchmarks.cohorts import DUCKDB_CALENDARS

    rows = f"read_parquet('{files}')" + (f" where country = '{country}'" if country else "")
    return Template(DUCKDB).substitute(rows=rows, **DUCKDB_CALENDARS[freq]._asdict())


def same(answer: "pl.DataFrame", other: "pl.DataFrame") -> None:
    """Raise AssertionError unless two answers are equal, floats to the last bit."""
    from benchmarks.cohorts import FIELDS
    from benchmarks.measure import same_table

    same_table(answer, other, FIELDS, (), rel=0)


def measure(options: argparse.Namespace, folder: Path, names: Iterable[str] = CONTENDERS) -> dict[str, list[Result]]:
    """Run the contenders in turns and compare their answers."""
    data = Years(options.rows, options.users, options.files, options.ids)
    tiny, spill = folder / "tiny", folder / "spill"
    years.write(data, folder)
    years.write(TINY._replace(ids=options.ids), tiny)
    spill.mkdir(exist_ok=True)
    for file in sorted(folder.glob("*.parquet")):
        file.read_bytes()  # so that the page cache is equally warm for all
    results: dict[str, list[Result]] = {name: [] for name in names}
    memory = int(options.memory * limited.GB)
    call = {
        "files": years.files(folder),
        "tiny": years.files(tiny),
        "freq": options.freq,
        "threads": options.threads,
        "memory": memory,
        "max_memory": options.max_memory,
        "folder": str(spill),
    }
    agreed = None
    for _ in range(options.repeat):
        for name in names:
            where, held = CONTENDERS[name]
            limit = options.limit if held or options.limit == "scope" else "none"
            one = limited.run(where, call, limit=limit, memory=memory, threads=options.threads, folder=spill)
            agreed = one.answer if agreed is None else agreed
            try:
                same(agreed, one.answer)
            except AssertionError as error:
                raise AssertionError(f"the answer of {name} differs: {error}") from error
            assert one.peak < memory or not held, f"{name} used {one.peak:,} bytes; the limit is {memory:,}"
            results[name].append(one)
    return results


def options(arguments: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.large", description=__doc__)
    parser.add_argument("--folder", type=Path, help="keep the files here, about 10 bytes per row")
    parser.add_argument("--rows", type=count, default=200_000_000, help="for example 2e8")
    parser.add_argument("--users", type=count, default=20_000_000, help="for example 2e7")
    parser.add_argument("--files", type=int, default=100)
    parser.add_argument("--ids", choices=years.IDS, default="int", help=" or ".join(years.IDS))
    parser.add_argument("--freq", choices=FREQS, default="M", help=" or ".join(FREQS))
    parser.add_argument("--memory", type=float, default=4, help="limit per process, in GiB")
    parser.add_argument("--max-memory", help="of cohortlib, such as 1GB; by default a share of the free memory")
    parser.add_argument("--limit", choices=limited.LIMITS, default=limited.strictest(), help="see limited.py")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="the same for all contenders")
    parser.add_argument("--repeat", type=int, default=1, help="number of rounds")
    parser.add_argument("--only", nargs="+", choices=CONTENDERS, default=list(CONTENDERS), metavar="NAME")
    return parser.parse_args(arguments)


def count(text: str) -> int:
    """Parse a count such as 2e8."""
    return int(float(text))


def main() -> None:
    arguments = options()
    with tempfile.TemporaryDirectory() as temporary:
        results = measure(arguments, arguments.folder or Path(temporary), arguments.only)
    title = (
        f"{arguments.rows:,} rows of {arguments.users:,} users ({arguments.ids}) in {arguments.files} files, "
        f"freq={arguments.freq}, limit {arguments.memory:g} GiB ({arguments.limit})"
    )
    tables.heading(title, "contender", "seconds", "peak of resident memory", "rounds", texts=1)
    for name, rounds in results.items():
        seconds, peak = median(one.seconds for one in rounds), max(one.peak for one in rounds)
        print(tables.line(name, f"{seconds:.1f} s", tables.megabytes(peak), len(rounds)))
    print(f"\nThe answers are identical to the bit.\n\n{tables.conditions(arguments.threads)}")


if __name__ == "__main__":
    main()
