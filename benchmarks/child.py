"""One case of the suite, in this process: `python -m benchmarks.child CALL ANSWER`, started by suite.py."""

import json
import os
import platform
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from statistics import median
from time import thread_time
from typing import Any

from benchmarks.inputs import Data, load, write
from benchmarks.suite import CASES, CONTAINER, Case

TINY = 1000
ENGINES = ("cohortlib", "polars", "duckdb", "chdb", "pyarrow", "numpy", "numba")


def main() -> None:
    call, answer = json.loads(sys.argv[1]), Path(sys.argv[2])
    answer.write_text(json.dumps(_answer(call)))


def _answer(call: dict[str, Any]) -> Any:
    if "conditions" in call:
        return conditions()
    root = Path(call["root"])
    if "write" in call:
        return write(Data(*call["write"]), root)
    case = next(case for case in CASES if case.name == call["case"]).scaled(call["scale"], call["rounds"])
    return KINDS[case.kind](case, root, call["threads"], call.get("only"))


def conditions() -> dict[str, Any]:
    """Describe the machine and the versions of the libraries."""
    from importlib.metadata import version

    models = [line.split(":")[1].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "processor": (models or [platform.processor()])[0],
        "cores": os.cpu_count(),
        "memory": memory,
        "python": platform.python_version(),
        "versions": {name: version(name) for name in ENGINES},
    }


def _lines(path: str) -> list[str]:
    return Path(path).read_text().splitlines() if Path(path).exists() else []


def inputs(case: Case, root: Path) -> tuple[Any, Any]:
    """Return the input of a case and a tiny one of the same kind."""
    if case.question.startswith("reconcile"):
        from benchmarks.reconcile import sides

        order = case.question.removeprefix("reconcile-")
        return sides(case.data.rows, order), sides(TINY, order)
    tiny = case.data._replace(rows=TINY)
    if not tiny.layout.startswith("csv"):
        tiny = tiny._replace(layout="pyarrow")
    write(tiny, root)
    return load(case.data, root, memory=case.memory), load(tiny, root, memory=case.memory)


def timed(case: Case, root: Path, threads: int, only: str | None = None) -> dict[str, Any]:
    """Time all contenders in turns."""
    from benchmarks.measure import measure
    from benchmarks.questions import QUESTIONS

    del only
    given, tiny = inputs(case, root)
    question = QUESTIONS[case.question]
    return measure(question, case.contenders, given, tiny, threads, case.rounds, spread=case.spread)._asdict()


def peaked(case: Case, root: Path, threads: int, only: str | None = None) -> dict[str, float]:
    """Return the growth of the resident memory to its peak during one call, which follows one on a tiny input."""
    from time import perf_counter

    from benchmarks.memory import peak
    from benchmarks.questions import QUESTIONS

    contender = QUESTIONS[case.question].contenders[str(only)]
    given, tiny = inputs(case, root)
    contender.run(contender.prepare(tiny, threads), threads)
    given = contender.prepare(given, threads)
    before, start = peak(again=True), perf_counter()
    contender.run(given, threads)
    return {"peak": peak() - before, "seconds": perf_counter() - start}


def kernels(case: Case, root: Path, threads: int, only: str | None = None) -> dict[str, Any]:
    """Return the CPU seconds of the whole call and of each compiled kernel, on one thread; medians of some calls."""
    from benchmarks.questions import QUESTIONS

    del threads, only
    given, tiny = inputs(case, root)
    contender = QUESTIONS[case.question].contenders[case.contenders[0]]
    for one in (tiny, given):  # compile before kernels are wrapped
        contender.run(one, 1)
    spent, calls = _wrapped(), []
    for _ in range(case.rounds):
        spent.clear()
        start = thread_time()
        contender.run(given, 1)
        calls.append({"all": thread_time() - start, **spent})
    names = dict.fromkeys(name for one in calls for name in one)
    return {"kernels": {name: median(one.get(name, 0.0) for one in calls) for name in names}}


def _wrapped() -> Counter[str]:
    """Wrap every kernel that a module of cohortlib calls; kernels called by kernels count for their caller."""
    from cohortlib.engine.jit import Kernel

    spent: Counter[str] = Counter()

    def wrap(kernel: Any) -> Callable[..., Any]:
        line = (kernel.py_func.__doc__ or "").strip().split("\n")[0].split("; ")[0]
        name = f"`{kernel.py_func.__name__}`: {line}"

        def run(*arguments: Any) -> Any:
            start = thread_time()
            try:
                return kernel(*arguments)
            finally:
                spent[name] += thread_time() - start

        return run

    for module in [module for name, module in sys.modules.items() if name.startswith("cohortlib.")]:
        for name, value in list(vars(module).items()):
            if isinstance(value, Kernel):
                setattr(module, name, wrap(value))
    return spent


def contained(case: Case, root: Path, threads: int, only: str | None = None) -> dict[str, Any]:
    """Run cohortlib by default settings, and DuckDB, in a control group with little memory."""
    from benchmarks import limited
    from benchmarks.cohorts import compare

    del only
    tiny = case.data._replace(rows=TINY)
    write(tiny, root)
    seconds: dict[str, list[float]] = {name: [] for name in case.contenders}
    errors, agreed = {}, None
    with tempfile.TemporaryDirectory() as place:
        given = {"files": str(case.data.path(root)), "tiny": str(tiny.path(root)), "freq": "M", "threads": threads}
        given |= {"memory": CONTAINER, "max_memory": None, "folder": place}
        for _ in range(case.rounds):
            for name, where in zip(case.contenders, ("benchmarks.large:ours", "benchmarks.large:duck"), strict=True):
                try:
                    one = limited.run(
                        where, given, limit="cgroup", memory=CONTAINER, threads=threads, folder=Path(place)
                    )
                except (limited.DidNotEndError, OSError, StopIteration) as error:
                    errors[name] = f"{type(error).__name__}: {error}"
                    continue
                seconds[name].append(one.seconds)
                agreed = one.answer if agreed is None else agreed
                compare(agreed, one.answer)
    return {"container": seconds, "errors": errors, "memory": CONTAINER}


KINDS = {"time": timed, "peak": peaked, "limit": peaked, "kernels": kernels, "container": contained}

if __name__ == "__main__":
    main()
