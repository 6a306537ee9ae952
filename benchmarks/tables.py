"""Markdown tables as in docs/benchmarks.md."""

import os
import sys
from importlib.metadata import version

ENGINES = ("polars", "duckdb", "chdb", "pyarrow", "numpy", "numba")
MB = 1_000_000


def heading(title: str, *columns: str, texts: int = 0) -> None:
    """Print a title and a table header whose first `texts` columns are text."""
    print(f"\n### {title}\n")
    print(line(*columns))
    print(line(*["---"] * texts, *["---:"] * (len(columns) - texts)), flush=True)


def line(*texts: object) -> str:
    """Format a row of a markdown table."""
    return f"| {' | '.join(map(str, texts))} |"


def duration(time: float) -> str:
    """Format seconds; below one as milliseconds."""
    return f"{time * 1000:,.0f} ms" if time < 1 else f"{time:,.2f} s"


def megabytes(size: int | None) -> str:
    """Format a size in megabytes."""
    return "—" if size is None else f"{size / MB:,.0f} MB"


def conditions(threads: int) -> str:
    """Describe the machine and the versions of the libraries."""
    engines = ", ".join(f"{name} {version(name)}" for name in ("cohortlib", *ENGINES))
    return f"{os.cpu_count()} cores, {threads} threads; Python {sys.version.split()[0]}, {engines}."
