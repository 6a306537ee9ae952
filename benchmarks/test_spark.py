"""Cohorts on a local Spark: the contenders agree and are timed."""

import os
import shutil
import warnings

import pytest

from benchmarks.spark import CONTENDERS, Job, compare, ours, session, write

pytestmark = [
    # Warnings from pyspark itself.
    pytest.mark.filterwarnings("ignore:PySpark does not yet fully support pandas:FutureWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture(scope="module")
def job(rows, threads, tmp_path_factory):
    pytest.importorskip("pyspark")
    if not (shutil.which("java") or os.environ.get("JAVA_HOME")):
        pytest.skip("Spark needs Java, which is not installed (Debian: default-jre-headless)")
    folder = tmp_path_factory.mktemp("rows")
    write(rows, folder)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        spark = session(threads)
        yield Job(folder, spark, threads, partitions=4)
        spark.stop()


@pytest.fixture(scope="module")
def agreed(job):
    return ours(job)


@pytest.mark.parametrize("name", CONTENDERS)
def test_spark(benchmark, job, agreed, name):
    compare(agreed, benchmark.pedantic(CONTENDERS[name], (job,), rounds=1, warmup_rounds=1))
