"""Run a contender in a process with limited memory, by the means that the system offers."""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import polars as pl

ROOT = Path(__file__).parents[1]
GB = 1 << 30
LIMITS = ("scope", "cgroup", "address", "data", "none")
CGROUPS = ((Path("/sys/fs/cgroup/memory"), "memory.limit_in_bytes"), (Path("/sys/fs/cgroup"), "memory.max"))


class Result(NamedTuple):
    """The answer of a contender, its seconds, and its peak resident memory in bytes."""

    answer: "pl.DataFrame"
    seconds: float
    peak: int


class DidNotEndError(RuntimeError):
    """A contender failed; the message has its error."""


def run(contender: str, given: dict[str, Any], *, limit: str, memory: int, threads: int, folder: Path) -> Result:
    """
    Run a contender in a separate process.

    Parameters
    ----------
    contender
        The function, such as "benchmarks.large:ours". It is called with `given` and returns a frame. Before that it is
        called with `given["tiny"]` as `files`, so that imports and compilation are not timed.
    given
        Its arguments, which must be valid in JSON.
    limit
        "scope": a control group of systemd, which counts resident memory and the page cache; "cgroup": the same, made
        by this process, as in a container; needs root; "address": ulimit -v,
        which counts all address space, including mapped files and untouched memory; "data": ulimit -d, which counts
        private writable memory; "none".
    memory
        The limit in bytes.
    threads
        Number of threads of polars, which reads it on import.
    folder
        Where to write the answer.
    """
    with tempfile.TemporaryDirectory(dir=folder) as place, _limited(limit, memory) as prefix:
        call = json.dumps({"contender": contender, "given": given, "limit": limit, "memory": memory, "place": place})
        done = subprocess.run(  # noqa: S603  the program is ours
            [*prefix, sys.executable, "-m", "benchmarks.limited", call],
            cwd=ROOT,
            env={**os.environ, "POLARS_MAX_THREADS": str(threads)},
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
        result = Path(place, "result.json")
        if done.returncode or not result.exists():
            errors = [line for line in done.stderr.splitlines() if "Error" in line] or ["no message"]
            raise DidNotEndError(f"{contender} exited with {done.returncode}: {errors[-1][:200]}")
        import polars as pl

        answer = pl.read_parquet(Path(place, "answer.parquet"), memory_map=False)
        return Result(answer, **json.loads(result.read_text()))


def strictest() -> str:
    """Return the control group if systemd runs the machine, else the limit on address space."""
    return "scope" if Path("/run/systemd/system").exists() and shutil.which("systemd-run") else "address"


@contextmanager
def _limited(limit: str, memory: int) -> Iterator[list[str]]:
    """Yield the command to put before another one, so that the control group holds it."""
    if limit == "scope":
        user = [] if os.geteuid() == 0 else ["--user"]
        yield ["systemd-run", *user, "--scope", "--quiet", "-p", f"MemoryMax={memory}", "-p", "MemorySwapMax=0"]
    elif limit == "cgroup":
        group, setting = next((Path(tempfile.mkdtemp(dir=root)), file) for root, file in CGROUPS if root.is_dir())
        try:
            (group / setting).write_text(str(memory))
            yield ["sh", "-c", 'echo $$ > "$0/cgroup.procs" && exec "$@"', str(group)]
        finally:
            group.rmdir()
    else:
        yield []


def main() -> None:
    """Run the contender inside the limit, which is set before anything large is imported."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("call", type=json.loads)
    call = parser.parse_args().call
    import resource

    if call["limit"] in ("address", "data"):
        which = resource.RLIMIT_AS if call["limit"] == "address" else resource.RLIMIT_DATA
        resource.setrlimit(which, (call["memory"], call["memory"]))

    from time import perf_counter

    from benchmarks.memory import peak

    module, name = call["contender"].split(":")
    contender = getattr(import_module(module), name)
    given = call["given"]
    if "tiny" in given:
        tiny = given.pop("tiny")
        contender(**given | {"files": tiny})
    start = perf_counter()
    answer = contender(**given)
    seconds = perf_counter() - start
    peak_bytes = peak()
    place = Path(call["place"])
    answer.write_parquet(place / "answer.parquet")
    (place / "result.json").write_text(json.dumps({"seconds": seconds, "peak": peak_bytes}))


if __name__ == "__main__":
    main()
