"""
Cohorts of Parquet files on a local Spark: ours beside the same question in Spark SQL, and the local run.

`python -m benchmarks.spark --rows 2e7 --threads 2` prints the seconds of each, the median of some rounds in turn, once
all three have given the same numbers. The query is exact, too: it sums whole cents. It gives the sums alone, of which
ours makes the table of nine columns.
"""

import argparse
import os
import sys
import tempfile
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import polars as pl

FILES = 8
QUERY = """
WITH nets AS (
    SELECT user_id, year(timestamp) * 12 + month(timestamp) - 1 AS month,
           sum(cast(round(amount * 100) AS bigint)) AS net
    FROM parquet.`{}` GROUP BY 1, 2
), active AS (
    SELECT * FROM nets WHERE net > 0
), firsts AS (
    SELECT user_id, min(month) AS cohort FROM active GROUP BY 1
)
SELECT cohort, month - cohort AS age, count(*) AS active, sum(net) AS cents
FROM active JOIN firsts USING (user_id) GROUP BY 1, 2
"""


class Asked(NamedTuple):
    """Where the rows are, and what runs over them."""

    folder: Path
    session: Any
    threads: int
    partitions: int


def session(threads: int) -> Any:
    """Start a local Spark."""
    from pyspark.sql import SparkSession

    os.environ.update(PYSPARK_PYTHON=sys.executable, SPARK_LOCAL_IP="127.0.0.1")
    builder = SparkSession.builder.master(f"local[{threads}]").appName("cohortlib benchmarks")
    for name, value in {
        "spark.ui.enabled": False,
        "spark.driver.host": "127.0.0.1",
        "spark.driver.memory": "4g",
        "spark.log.level": "ERROR",
        "spark.ui.showConsoleProgress": False,
    }.items():
        builder = builder.config(name, value)
    return builder.getOrCreate()


def write(rows: int, folder: Path, ids: str = "int") -> None:
    """Write transactions to some files, in order of time."""
    from benchmarks.data import transactions

    frame = transactions(rows, ids)
    height = -(-frame.height // FILES)
    for number, part in enumerate(frame.iter_slices(height)):
        part.write_parquet(folder / f"{number:02}.parquet")


def ours(asked: Asked) -> "pl.DataFrame":
    """Ask cohortlib on Spark."""
    import cohortlib as cl

    frame = asked.session.read.parquet(str(asked.folder))
    return cl.spark.cohorts(frame, partitions=asked.partitions)


def spark_sql(asked: Asked) -> "pl.DataFrame":
    """Ask Spark SQL for the sums."""
    import polars as pl

    asked.session.conf.set("spark.sql.shuffle.partitions", asked.partitions)
    return pl.DataFrame(asked.session.sql(QUERY.format(asked.folder)).toArrow())


def alone(asked: Asked) -> "pl.DataFrame":
    """Ask cohortlib without Spark."""
    import cohortlib as cl

    return cl.termina.cohorts(f"{asked.folder}/*.parquet", threads=asked.threads)


CONTENDERS = {"cohortlib on Spark": ours, "Spark SQL": spark_sql, "cohortlib, local": alone}


def compare(agreed: "pl.DataFrame", answer: "pl.DataFrame") -> None:
    """Raise AssertionError unless two answers hold the same: tables to the bit, sums number by number."""
    import polars as pl
    from polars.testing import assert_frame_equal

    if answer.columns == agreed.columns:
        assert_frame_equal(answer, agreed, check_exact=True)
        return
    year, month = (pl.col("cohort").str.split("-").list.get(at).cast(pl.Int64) for at in (0, 1))
    sums = agreed.filter(pl.col("active_users") > 0).select(
        cohort=year * 12 + month - 1,
        age="period",
        active="active_users",
        cents=(pl.col("amount") * 100).round().cast(pl.Int64),
    )
    assert_frame_equal(answer.cast(sums.schema).sort("cohort", "age"), sums, check_exact=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=float, default=1e6)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--partitions", type=int, default=8)
    parser.add_argument("--ids", choices=("int", "uuid"), nargs="+", default=["int", "uuid"])
    parser.add_argument("--repeat", type=int, default=3)
    options = parser.parse_args()
    os.environ["POLARS_MAX_THREADS"] = str(options.threads)
    spark = session(options.threads)
    names = list(CONTENDERS)
    print(f"| rows | ids | {' | '.join(names)} |\n|---:|---|{'---:|' * len(names)}")
    for ids in options.ids:
        with tempfile.TemporaryDirectory() as folder:
            write(int(options.rows), Path(folder), ids)
            asked = Asked(Path(folder), spark, options.threads, options.partitions)
            agreed = ours(asked)
            for name in names[1:]:
                compare(agreed, CONTENDERS[name](asked))
            times: dict[str, list[float]] = {name: [] for name in names}
            for turn in range(options.repeat):
                for name in names[turn % len(names) :] + names[: turn % len(names)]:
                    begun = perf_counter()
                    CONTENDERS[name](asked)
                    times[name].append(perf_counter() - begun)
            cells = " | ".join(f"{median(times[name]):.2f} s" for name in names)
            print(f"| {int(options.rows):,} | {ids} | {cells} |", flush=True)
    spark.stop()


if __name__ == "__main__":
    main()
