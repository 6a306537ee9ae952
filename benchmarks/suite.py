"""
The cases of the suite as values, and the loop that runs each of them in processes of its own.

Results are added to a JSON file after each case, so that a failed or interrupted one does not lose the others.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks import cold
from benchmarks.inputs import CUSTOMERS, EVENTS, Data
from benchmarks.measure import OURS

ROOT = Path(__file__).parents[1]
MOST = 900  # seconds for a case

PLAIN = f"{OURS}, termina.cohorts"
POLARS, IN_MEMORY = "polars, streaming", "polars, in memory"
DUCK, OWN_DUCK = "DuckDB", "DuckDB, own table"
HOUSE, OWN_HOUSE = "ClickHouse", "ClickHouse, own table"
DECODING = ("decoding alone, polars", "decoding alone, pyarrow")
FRAMES = (OURS, POLARS, IN_MEMORY, OWN_DUCK, DUCK, OWN_HOUSE, HOUSE)
FILES = (OURS, POLARS, DUCK, HOUSE)
BEST = (OURS, POLARS, OWN_DUCK, OWN_HOUSE)  # for long cases: the best form of each engine
ADAPTY = (OURS, POLARS, "DuckDB, own tables", "DuckDB, own tables, hashed keys")

M = 1_000_000


class Case(NamedTuple):
    """
    A case of the suite.

    Kinds: "time" (in turns, in one process), "peak" (memory; one process for each contender), "limit" (the same, beside
    the limit), "kernels" (CPU time of each compiled kernel), "cold" (whole processes), "container" (a control group).
    `memory` means that the input is a frame in memory, not files; `spread` whether "each" engine or only the "fastest"
    is also called in a row and after idle seconds.
    """

    name: str
    question: str
    data: Data
    contenders: tuple[str, ...]
    memory: bool = True
    rounds: int = 7
    spread: str = ""
    kind: str = "time"

    def scaled(self, scale: float, rounds: int) -> "Case":
        """Return a smaller case."""
        data = self.data._replace(rows=max(int(self.data.rows * scale), 1000))
        return self._replace(data=data, rounds=min(self.rounds, rounds))


def _limits(data: Data, *limits: str) -> tuple[Case, ...]:
    return tuple(
        Case(
            f"limit-{data.ids}-{data.rows // M}-{data.layout}-{limit}",
            "cohorts", data, (f"{OURS}, max_memory={limit}",), memory=False, kind="limit",
        )
        for limit in limits
    )  # fmt: skip


INT, TEXT, LONG = Data("int", 10 * M), Data("text", 10 * M), Data("int", 50 * M)
LAKE = Data("int", 3 * M, "small")
HISTORY = Data(EVENTS, 4 * M)
CASES = (
    Case("memory-int", "cohorts", INT, FRAMES, rounds=9, spread="each"),
    Case("memory-text", "cohorts", TEXT, FRAMES),
    Case("memory-days", "cohorts-daily", INT, BEST),
    Case("memory-threads", "cohorts", INT, (f"{OURS}, 1 thread", f"{OURS}, 2 threads"), rounds=9),
    Case("memory-small", "cohorts", Data("int", M), BEST, rounds=9),
    Case("files-int", "cohorts", INT, (*FILES, *DECODING), memory=False, rounds=9, spread="each"),
    Case("files-text", "cohorts", TEXT, (*FILES, *DECODING), memory=False),
    *(
        Case(f"files-{layout}", "cohorts", INT._replace(layout=layout), (OURS, POLARS, DUCK), memory=False, rounds=5)
        for layout in ("polars", "DuckDB", "Spark")
    ),
    Case("files-small", "cohorts", LAKE, FILES, memory=False),
    Case("memory-long", "cohorts", LONG, BEST, rounds=5, spread="fastest"),
    Case("files-long", "cohorts", LONG, FILES, memory=False, rounds=5),
    *(Case(name, name, INT, (OURS, PLAIN, POLARS, OWN_DUCK, OWN_HOUSE)) for name in ("segments", "own-clock")),
    Case("customers-active", "customers-active", INT, (OURS, POLARS, IN_MEMORY, OWN_DUCK, OWN_HOUSE)),
    Case("customers-dense", "customers-dense", INT, (OURS, POLARS, OWN_HOUSE)),
    Case("adapty-renewals", "adapty-renewals", HISTORY, ADAPTY),
    Case("adapty-days", "adapty-days", HISTORY, ADAPTY),
    *(
        Case(
            f"adapty-csv-{period}", f"adapty-{period}", Data(EVENTS, M, "csv.gz"),
            (OURS, "reading the columns, polars"), memory=False,
        )
        for period in ("renewals", "days")
    ),
    Case("peak-int", "cohorts", INT, BEST, kind="peak"),
    Case("peak-files-int", "cohorts", INT, FILES, memory=False, kind="peak"),
    Case("peak-files-text", "cohorts", TEXT, FILES, memory=False, kind="peak"),
    *_limits(LONG, "300MB", "1GB"),
    *_limits(TEXT, "200MB"),
    *_limits(INT._replace(layout="csv"), "200MB"),
    Case("container", "cohorts", LONG, (OURS, DUCK), memory=False, rounds=3, kind="container"),
    Case("cold", "", Data("int", 1000), (), rounds=3, kind="cold"),
    Case("kernels-int", "cohorts", INT, (OURS,), rounds=5, kind="kernels"),
    Case("kernels-text", "cohorts", TEXT, (OURS,), rounds=5, kind="kernels"),
    Case("kernels-days", "cohorts-daily", INT, (OURS,), rounds=5, kind="kernels"),
    Case("memory-random", "cohorts", Data("random", 10 * M), BEST, rounds=5),
    Case("memory-shuffled", "cohorts", Data("int", 10 * M, shuffled=True), BEST, rounds=5),
    Case("memory-sparse", "cohorts", Data("int", 10 * M, rows_per_user=1.2), BEST, rounds=5),
    *(
        Case(f"csv-{ids}-{columns}-{form}", "cohorts", Data(ids, 3 * M, form, columns=columns), FILES, memory=False,
             rounds=5)
        for ids, columns, form in (("int", 4, "csv"), ("uuid", 4, "csv"), ("int", 20, "csv"), ("uuid", 20, "csv.gz"))
    ),
    *(
        Case(f"reconcile-{order}", f"reconcile-{order}", Data(CUSTOMERS, 2 * M), (OURS, DUCK), rounds=3)
        for order in ("in step", "shuffled")
    ),
)  # fmt: skip
CONTAINER = 900 * M  # bytes


class Options(NamedTuple):
    """How to run: where data and results are, the number of threads, and the share of the rows and the rounds."""

    folder: Path
    results: Path
    threads: int
    scale: float = 1
    rounds: int = 99


def run(options: Options, names: Iterable[str] = ()) -> None:
    """Generate the data of the cases, then run them and save each result."""
    chosen = [case.scaled(options.scale, options.rounds) for case in CASES if not names or case.name in names]
    for data in dict.fromkeys(case.data for case in chosen):
        if not data.folder(options.folder).exists():
            _process({"write": data, "root": str(options.folder)}, options.threads)
    results = json.loads(options.results.read_text()) if names and options.results.exists() else {"cases": {}}
    results.update(_process({"conditions": True}, options.threads), threads=options.threads, scale=options.scale)
    for case in chosen:
        print(f"{time.strftime('%H:%M:%S')} {case.name}", file=sys.stderr, flush=True)
        begun = time.perf_counter()
        try:
            result = _run(case, options)
        except (subprocess.SubprocessError, RuntimeError) as error:
            result = {"error": str(error)}
            print(error, file=sys.stderr)
        results["cases"][case.name] = {
            "rows": case.data.rows, "took": round(time.perf_counter() - begun, 1), **result
        }  # fmt: skip
        options.results.write_text(json.dumps(results, indent=1) + "\n")


def _run(case: Case, options: Options) -> dict[str, Any]:
    call: dict[str, Any] = {"case": case.name, "scale": options.scale, "rounds": options.rounds}
    call |= {"root": str(options.folder), "threads": options.threads}
    if case.kind in ("peak", "limit"):
        return {"peaks": {name: _process(call | {"only": name}, options.threads) for name in case.contenders}}
    if case.kind == "cold":
        paths = {"rows": str(case.data.path(options.folder))}
        events = Data(EVENTS, 1000)
        _process({"write": events, "root": str(options.folder)}, options.threads)
        paths |= {name: str(events.path(options.folder, name)) for name in ("events", "installs")}
        return {"processes": cold.measure(paths, case.rounds)}
    return _process(call, options.threads)


def _process(call: dict[str, Any], threads: int) -> Any:
    """Run benchmarks.child. polars reads its number of threads once, on import."""
    with tempfile.NamedTemporaryFile("r", suffix=".json") as answer:
        done = subprocess.run(  # noqa: S603  the program is ours
            [sys.executable, "-m", "benchmarks.child", json.dumps(call), answer.name],
            cwd=ROOT, env={**os.environ, "POLARS_MAX_THREADS": str(threads)},
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, timeout=MOST, check=False,
        )  # fmt: skip
        if done.returncode:
            last = (done.stderr.strip() or "no message").splitlines()[-1][:300]
            raise RuntimeError(f"exit {done.returncode}: {last}")
        return json.load(answer)
