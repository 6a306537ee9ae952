"""
Print the side-by-side table: `python -m benchmarks --rows 1e6 1e7 --ids int uuid --threads 2 --repeat 5`.

Run it from the root of the repository, with nothing else running.
"""

import argparse
import gc
import os
import sys
from statistics import median
from time import perf_counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    import polars as pl

    from benchmarks.contenders import Contender


def main() -> None:
    options = _options()
    # polars reads it once, on import, so everything that imports polars waits until here.
    os.environ["POLARS_MAX_THREADS"] = str(options.threads)

    from benchmarks.contenders import COHORTS
    from benchmarks.data import transactions

    print(_line("rows", "ids", *COHORTS, "ours is faster by"))
    print(_line(*["---:", "---", *["---:"] * len(COHORTS), "---:"]))
    for rows in options.rows:
        for ids in options.ids:
            frame = transactions(rows, ids, shuffled=options.shuffled)
            seconds = measure(frame, COHORTS, options.threads, options.repeat)
            print(_line(f"{rows:,}", ids, *_cells(seconds)), flush=True)
    print()
    print(_conditions(options))


def measure(frame: "pl.DataFrame", contenders: "dict[str, Contender]", threads: int, repeat: int) -> dict[str, float]:
    """
    Time every contender on one frame, after its answer was found to be the same as the others'.

    The comparing calls are also the warm-up. The contenders take turns, each round starting with another
    one, so that a noisy minute hits all alike.

    Returns
    -------
    dict
        The median of the seconds of each contender, from its own frame to its result.
    """
    from benchmarks.contenders import compare

    given = {name: contender.prepare(frame) for name, contender in contenders.items()}
    agreed = None
    for name, contender in contenders.items():
        answer = contender.run(given[name], threads)
        agreed = answer if agreed is None else agreed
        compare(agreed, answer)

    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for turn in range(repeat):
        for name in _turns(list(contenders), turn):
            gc.collect()
            start = perf_counter()
            answer = contenders[name].run(given[name], threads)
            seconds[name].append(perf_counter() - start)
            del answer
    return {name: median(times) for name, times in seconds.items()}


def _turns(names: list[str], turn: int) -> "Iterator[str]":
    first = turn % len(names)
    yield from names[first:]
    yield from names[:first]


def _cells(seconds: dict[str, float]) -> "Iterator[str]":
    """Write each median with its ratio to the fastest peer, and last how many times faster ours is."""
    from benchmarks.contenders import OURS

    fastest = min(time for name, time in seconds.items() if name != OURS)
    for time in seconds.values():
        yield f"{time * 1000:,.0f} ms ({time / fastest:.2f})"
    yield f"{fastest / seconds[OURS]:.1f}×"


def _line(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def _conditions(options: argparse.Namespace) -> str:
    """Say what the numbers hold for."""
    from importlib.metadata import version

    names = ("cohortlib", "polars", "duckdb", "pandas", "numpy", "numba")
    order = "in random order" if options.shuffled else "in order of time"
    return (
        f"Medians of {options.repeat} rounds, rows {order}, in brackets the ratio to the fastest peer; "
        f"{os.cpu_count()} cores, {options.threads} threads; Python {sys.version.split()[0]}, "
        + ", ".join(f"{name} {version(name)}" for name in names)
        + "."
    )


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--rows", nargs="+", type=_count, default=[1_000_000], help="like 1e6 1e7")
    parser.add_argument("--ids", nargs="+", default=["int", "uuid"], choices=["int", "sparse", "uuid"])
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="the same for all; pandas has one")
    parser.add_argument("--repeat", type=int, default=5, help="rounds")
    parser.add_argument("--shuffled", action="store_true", help="rows in random order instead of order of time")
    return parser.parse_args()


def _count(text: str) -> int:
    return int(float(text))


if __name__ == "__main__":
    main()
