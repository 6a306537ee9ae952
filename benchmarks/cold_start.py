"""
Print how long the first result takes in a new process: `python -m benchmarks.cold_start`.

Twice: with an empty numba cache, as right after installing, and in a later process that finds it filled.
"""

import argparse
import subprocess
import sys
import tempfile
from os import environ
from pathlib import Path
from statistics import median
from time import time
from typing import NamedTuple

ROOT = Path(__file__).parents[1]

# Handed over: the moment the process was started, the rows, the kind of ids.
CHILD = """
import sys
from time import perf_counter, time
from benchmarks.data import transactions

frame = transactions(int(sys.argv[2]), sys.argv[3])
start = perf_counter()
import cohortlib as cl

imported = perf_counter()
cl.termina.cohorts(frame)
print(time() - float(sys.argv[1]), imported - start, perf_counter() - imported)
"""


class First(NamedTuple):
    """Seconds up to the first result: from the start of the process, and what two parts of it took."""

    process: float
    importing: float
    call: float


def first_result(rows: int, ids: str, cache: str) -> First:
    """Start a process whose numba cache is the folder `cache`, and wait for its first cohorts table."""
    arguments = [sys.executable, "-c", CHILD, str(time()), str(rows), ids]
    done = subprocess.run(  # noqa: S603  the arguments are ours
        arguments,
        cwd=ROOT,
        env={**environ, "NUMBA_CACHE_DIR": cache},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return First(*map(float, done.stdout.split()))


def measure(rows: int, ids: str, repeat: int) -> tuple[First, First]:
    """Return the medians of the first process with an empty cache, and of the process that follows it."""
    ever, later = [], []
    for _ in range(repeat):
        with tempfile.TemporaryDirectory() as cache:
            ever.append(first_result(rows, ids, cache))
            later.append(first_result(rows, ids, cache))
    return _medians(ever), _medians(later)


def _medians(runs: list[First]) -> First:
    return First(*map(median, zip(*runs, strict=True)))


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cold_start", description=__doc__)
    parser.add_argument("--rows", type=lambda text: int(float(text)), default=1000)
    parser.add_argument("--ids", nargs="+", default=["int", "uuid"], choices=["int", "sparse", "uuid"])
    parser.add_argument("--repeat", type=int, default=3)
    options = parser.parse_args()

    print("| ids | cache | process start to first result | import cohortlib | first call |")
    print("| --- | --- | ---: | ---: | ---: |")
    for ids in options.ids:
        for cache, first in zip(("empty", "filled"), measure(options.rows, ids, options.repeat), strict=True):
            print(
                f"| {ids} | {cache} | " + " | ".join(f"{seconds:.2f} s" for seconds in first) + " |",
                flush=True,
            )


if __name__ == "__main__":
    main()
