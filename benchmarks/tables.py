"""Markdown tables as in docs/benchmarks.md."""

import os
import sys
from collections.abc import Iterable, Iterator
from importlib.metadata import version

from benchmarks.measure import OURS, Timed

ENGINES = ("polars", "duckdb", "chdb", "pandas", "numpy", "numba")
MB = 1_000_000


def heading(title: str, *columns: str, texts: int = 0) -> None:
    """Print a title and a table header whose first `texts` columns are text."""
    print(f"\n### {title}\n")
    print(line(*columns))
    print(line(*["---"] * texts, *["---:"] * (len(columns) - texts)), flush=True)


def line(*texts: object) -> str:
    """Format a row of a markdown table."""
    return f"| {' | '.join(map(str, texts))} |"


def seconds(timed: Timed, names: Iterable[str]) -> Iterator[str]:
    """Yield each median with its ratio to the fastest other engine, then the speedup and the number of rounds."""
    fastest = timed.fastest_peer()
    for name in names:
        time = timed.seconds.get(name)
        yield "—" if time is None else f"{_time(time)} ({time / fastest:.2f})"
    yield f"{fastest / timed.seconds[OURS]:.1f}×"
    yield str(timed.rounds)


def _time(time: float) -> str:
    return f"{time * 1000:,.0f} ms" if time < 1 else f"{time:,.2f} s"


def megabytes(size: int | None) -> str:
    """Format a size in megabytes."""
    return "—" if size is None else f"{size / MB:,.0f} MB"


def conditions(threads: int) -> str:
    """Describe the machine and the versions of the libraries."""
    engines = ", ".join(f"{name} {version(name)}" for name in ("cohortlib", *ENGINES))
    return f"{os.cpu_count()} cores, {threads} threads; Python {sys.version.split()[0]}, {engines}."
