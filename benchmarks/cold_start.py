"""Time to the first result after an installation and in a later process, beyond `import polars`."""

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

# The programs read Parquet, as a user's would, and import no module of the benchmarks. A tiny history causes a warning,
# as it should.
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
    """Seconds to the first result, minus those of a process that only imports polars."""

    ever: float
    later: float


def measure(question: str, folder: Path, repeat: int) -> First:
    """Return the medians for processes with an empty numba cache, and for the processes that follow them."""
    code = program(question, folder)
    ever, later, polars = [], [], []
    for _ in range(repeat):
        with tempfile.TemporaryDirectory() as cache:
            polars.append(_process(ONLY_POLARS, cache))
            ever.append(_process(code, cache))
            later.append(_process(code, cache))
    return First(median(ever) - median(polars), median(later) - median(polars))


def program(question: str, folder: Path) -> str:
    """Return a program that answers a question about the tables in a folder."""
    if question.startswith("adapty"):
        return ADAPTY.format(folder=str(folder), period_type=question.removeprefix("adapty-"))
    call = "customer_cohorts" if question == "customer-cohorts" else "cohorts"
    settings = ", freq='D'" if question == "cohorts-daily" else ""
    return TERMINA.format(call=call, path=str(folder / "transactions.parquet"), settings=settings)


def _process(code: str, cache: str) -> float:
    """Return the seconds from the start of a process to the end of its code, by the system-wide clock."""
    start = perf_counter()
    done = subprocess.run(  # noqa: S603  the program is ours
        [sys.executable, "-c", code + "\nimport time; print(time.perf_counter())"],
        cwd=ROOT, env={**environ, "NUMBA_CACHE_DIR": cache}, check=True, capture_output=True, text=True,
    )  # fmt: skip
    return float(done.stdout) - start
