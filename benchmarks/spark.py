"""
Cohorts of Parquet files: cohortlib on a local Spark, Spark SQL, and cohortlib without Spark.

`python -m benchmarks.spark --rows 2e7 --threads 2` compares the answers of all three and prints their median seconds.
The query is exact too, because it sums whole cents. It returns only the sums; cohortlib also computes the table of nine
columns.
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


class Job(NamedTuple):
    """The rows, and the Spark session and settings to use."""

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
    """Write transactions to several files, in order of time."""
    from benchmarks.data import transactions

    frame = transactions(rows, ids)
    height = -(-frame.height // FILES)
    for number, part in enumerate(frame.iter_slices(height)):
        part.write_parquet(folder / f"{number:02}.parquet")


def ours(job: Job) -> "pl.DataFrame":
    """Answer with cohortlib on Spark."""
    import cohortlib as cl

    frame = job.session.read.parquet(str(job.folder))
    return cl.spark.cohorts(frame, partitions=job.partitions)


def spark_sql(job: Job) -> "pl.DataFrame":
    """Compute the sums in Spark SQL."""
    import polars as pl

    job.session.conf.set("spark.sql.shuffle.partitions", job.partitions)
    return pl.DataFrame(job.session.sql(QUERY.format(job.folder)).toArrow())


def alone(job: Job) -> "pl.DataFrame":
    """Answer with cohortlib without Spark."""
    import cohortlib as cl

    return cl.termina.cohorts(f"{job.folder}/*.parquet", threads=job.threads)


CONTENDERS = {"cohortlib on Spark": ours, "Spark SQL": spark_sql, "cohortlib, local": alone}


def compare(agreed: "pl.DataFrame", answer: "pl.DataFrame") -> None:
    """Raise AssertionError unless two answers are equal: tables to the bit, or the table and its sums."""
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
            job = Job(Path(folder), spark, options.threads, options.partitions)
            agreed = ours(job)
            for name in names[1:]:
                compare(agreed, CONTENDERS[name](job))
            times: dict[str, list[float]] = {name: [] for name in names}
            for turn in range(options.repeat):
                for name in names[turn % len(names) :] + names[: turn % len(names)]:
                    begun = perf_counter()
                    CONTENDERS[name](job)
                    times[name].append(perf_counter() - begun)
            cells = " | ".join(f"{median(times[name]):.2f} s" for name in names)
            print(f"| {int(options.rows):,} | {ids} | {cells} |", flush=True)
    spark.stop()


if __name__ == "__main__":
    main()
