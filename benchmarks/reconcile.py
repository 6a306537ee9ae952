"""
Compare two customer tables with cohortlib and with a DuckDB full outer join.

`python -m benchmarks.reconcile --rows 2e6 --threads 2` prints the seconds and the peak memory beyond the two tables,
for rows in the same order and for shuffled rows. cohortlib also checks for duplicate keys, nulls and NaN; the query
only counts.
"""

import argparse
import gc
import os
import sys
from statistics import median
from time import perf_counter
from typing import TYPE_CHECKING

from benchmarks.measure import OURS, Contender, Question

if TYPE_CHECKING:
    import polars as pl

FIELDS = ("cohort_size_amount", "logo_retention", "amount", "amount_retention", "ltv")
AGES = 20
ORDERS = ("in step", "shuffled")
TOLERANCES = {"logo_retention": 1e-6, "amount_retention": 1e-6}


def sides(rows: int, order: str = "in step", seed: int = 0) -> "tuple[pl.DataFrame, pl.DataFrame]":
    """Generate a customer table with text ids, and a copy with one cell in the middle a cent higher."""
    import numpy as np
    import polars as pl

    rng = np.random.default_rng(seed)
    users = max(rows // AGES, 1)
    count = users * AGES
    months = pl.Series(np.repeat(rng.integers(1, 13, users), AGES))
    names = pl.Series(np.repeat(rng.permutation(users), AGES))
    local = pl.DataFrame(
        {
            "cohort": pl.select(pl.format("2026-{}", months.cast(pl.String).str.zfill(2))).to_series(),
            "user_id": pl.select(pl.format("customer-{}", names)).to_series(),
            "period": np.tile(np.arange(AGES), users),
            **{field: rng.integers(0, 10**8, count) / 100 for field in FIELDS},
        }
    )
    middle = pl.int_range(count) == count // 2
    remote = local.with_columns(ltv=pl.col("ltv") + pl.when(middle).then(0.01).otherwise(0))
    if order == "shuffled":
        remote = remote.sample(fraction=1, shuffle=True, seed=seed)
    return local, remote


def ours(local: "pl.DataFrame", remote: "pl.DataFrame", threads: int) -> tuple[int, ...]:
    """Count the rows and the matches per field with cohortlib; polars' threads are set on import."""
    from cohortlib import reconcile

    table = reconcile(local, remote).tables[0]
    return (table.rows, *table.matches)


def duckdb(local: "pl.DataFrame", remote: "pl.DataFrame", threads: int) -> tuple[int, ...]:
    """Count them in DuckDB."""
    import duckdb as engine

    matches = ", ".join(
        f"count(*) FILTER (abs(l.{field} - r.{field}) <= {TOLERANCES.get(field, 0.005)})" for field in FIELDS
    )
    with engine.connect() as connection:
        connection.execute(f"SET threads = {threads}")
        connection.register("l", local.to_arrow())
        connection.register("r", remote.to_arrow())
        query = f"SELECT count(*), {matches} FROM l FULL OUTER JOIN r USING (cohort, user_id, period)"
        return connection.execute(query).fetchall()[0]


CONTENDERS = {"cohortlib": ours, "duckdb": duckdb}


def question() -> Question:
    """Return the question for the suite. The input is both tables."""
    return Question(
        {
            OURS: Contender(lambda given, threads: ours(*given, threads)),
            "DuckDB": Contender(lambda given, threads: duckdb(*given, threads)),
        },
        _same,
    )


def _same(answer: tuple[int, ...], other: tuple[int, ...]) -> None:
    assert answer == other, f"{answer} against {other}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=float, default=2e6)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--repeat", type=int, default=3)
    options = parser.parse_args()
    os.environ["POLARS_MAX_THREADS"] = str(options.threads)
    from benchmarks.memory import peak

    rows = int(options.rows)
    print("| rows | order | contender | seconds | peak MB beyond the tables |")
    print("|---:|---|---|---:|---:|")
    for order in ORDERS:
        local, remote = sides(rows, order)
        for name, run in CONTENDERS.items():
            run(*sides(1000, order), options.threads)
            gc.collect()
            before, times = peak(again=True), []
            for _ in range(options.repeat):
                begun = perf_counter()
                answer = run(local, remote, options.threads)
                times.append(perf_counter() - begun)
            assert answer[:-1] == (local.height,) * 5, f"{name}: {answer}"
            assert answer[-1] == local.height - 1, f"{name}: {answer}"
            beyond = (peak() - before) / 1e6
            print(f"| {local.height:,} | {order} | {name} | {median(times):.2f} | {beyond:,.0f} |")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
