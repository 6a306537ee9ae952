"""Time to the first result after an installation and in a later process, beyond `import polars`."""

import subprocess
import sys
import tempfile
from os import environ
from pathlib import Path
from time import perf_counter

ROOT = Path(__file__).parents[1]

# The programs read Parquet, as a user's would, and import no module of the benchmarks. A tiny history causes a warning,
# as it should.
TERMINA = "import polars, cohortlib; cohortlib.termina.cohorts(polars.read_parquet({rows!r}))"
ADAPTY = """
import warnings, polars, cohortlib
warnings.simplefilter("ignore")
request = {{"filters": {{"date": ["2023-01-01", "2025-12-31"]}}, "period_unit": "month"}}
cohortlib.adapty.cohort(polars.read_parquet({events!r}), request, installs=polars.read_parquet({installs!r}))
"""
MISSING = """
import cohortlib
try:
    cohortlib.termina.cohorts("missing.parquet")
except OSError:
    pass
"""
PROGRAMS = {"termina.cohorts": TERMINA, "adapty.cohort": ADAPTY}


def measure(paths: dict[str, str], repeat: int) -> dict[str, dict[str, list[float]]]:
    """Return seconds of whole processes: of `import polars`, of each first and later result, and of an error."""
    taken: dict[str, dict[str, list[float]]] = {}
    with tempfile.TemporaryDirectory() as cache:  # write the bytecode, as an installer does
        for program in PROGRAMS.values():
            _process(program.format(**paths), cache)
    for _ in range(repeat):
        with tempfile.TemporaryDirectory() as cache:
            _add(taken, "import polars", "later", _process("import polars", cache))
            for name, program in PROGRAMS.items():
                for moment in ("ever", "later"):
                    _add(taken, name, moment, _process(program.format(**paths), cache))
            _add(taken, "the error about a missing file", "later", _process(MISSING, cache))
    return taken


def _add(taken: dict[str, dict[str, list[float]]], name: str, moment: str, seconds: float) -> None:
    taken.setdefault(name, {}).setdefault(moment, []).append(seconds)


def _process(code: str, cache: str) -> float:
    """Return the seconds from the start of a process to the end of its code, by the system-wide clock."""
    start = perf_counter()
    done = subprocess.run(  # noqa: S603  the program is ours
        [sys.executable, "-c", code + "\nimport time; print(time.perf_counter())"],
        cwd=ROOT, env={**environ, "NUMBA_CACHE_DIR": cache, "PYTHONDONTWRITEBYTECODE": ""}, check=True,
        capture_output=True, text=True,
    )  # fmt: skip
    return float(done.stdout) - start
