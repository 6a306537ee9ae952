"""How long a first result takes: ever, after an install, and in a later process; beyond `import polars`."""

import subprocess
import sys
import tempfile
from os import environ
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
ONLY_POLARS = "import polars"

# Parquet, which any user's process would read, so that no module of the benchmarks is imported. A tiny history brings
# up a warning, as it should.
TERMINA = "import polars, cohortlib; cohortlib.termina.{call}(polars.read_parquet({path!r}){settings})"
ADAPTY = """
import warnings, polars, cohortlib
warnings.simplefilter("ignore")
events, installs = (polars.read_parquet({folder!r} + name) for name in ("/events.parquet", "/installs.parquet"))
request = {{
    "filters": {{"date": ["2023-01-01", "2025-12-31"]}}, "period_unit": "month", "period_type": {period_type!r}
}}
cohortlib.adapty.cohort(events, request, installs=installs)
"""


class First(NamedTuple):
    """Seconds to the first result beyond those of a process that only imports polars."""

    ever: float
    later: float


def measure(question: str, folder: Path, repeat: int) -> First:
    """Return the medians of the first process with an empty numba cache, and of the process that follows it."""
    code = program(question, folder)
    ever, later, polars = [], [], []
    for _ in range(repeat):
        with tempfile.TemporaryDirectory() as cache:
            polars.append(_process(ONLY_POLARS, cache))
            ever.append(_process(code, cache))
            later.append(_process(code, cache))
    return First(median(ever) - median(polars), median(later) - median(polars))


def program(question: str, folder: Path) -> str:
    """Write the program that asks a question about the tables in a folder."""
    if question.startswith("adapty"):
        return ADAPTY.format(folder=str(folder), period_type=question.removeprefix("adapty-"))
    call = "customer_cohorts" if question == "customer-cohorts" else "cohorts"
    settings = ", freq='D'" if question == "cohorts-daily" else ""
    return TERMINA.format(call=call, path=str(folder / "transactions.parquet"), settings=settings)


def _process(code: str, cache: str) -> float:
    """Return the seconds from the start of a process to the end of its code; the clock is the machine's."""
    start = perf_counter()
    done = subprocess.run(  # noqa: S603  the program is ours
        [sys.executable, "-c", code + "\nimport time; print(time.perf_counter())"],
        cwd=ROOT, env={**environ, "NUMBA_CACHE_DIR": cache}, check=True, capture_output=True, text=True,
    )  # fmt: skip
    return float(done.stdout) - start
