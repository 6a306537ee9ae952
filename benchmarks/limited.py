"""A process of its own that may take only so much memory, on whatever the machine has to hold it to that."""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import polars as pl

ROOT = Path(__file__).parents[1]
GB = 1 << 30
LIMITS = ("scope", "address", "data", "none")


class Ran(NamedTuple):
    """What a contender answered, how long it took, and the peak of its resident memory in bytes."""

    answer: "pl.DataFrame"
    seconds: float
    peak: int


class DidNotEndError(RuntimeError):
    """A contender that did not get through, with its error."""


def run(contender: str, given: dict[str, Any], *, limit: str, memory: int, threads: int, folder: Path) -> Ran:
    """
    Let a contender answer in a process of its own.

    Parameters
    ----------
    contender
        Where the function is, like "benchmarks.large:ours"; it is called with `given` and returns a frame. Called first
        with `given["tiny"]` in place of `given["files"]`, so that imports and compiling are not timed.
    given
        Its arguments, as JSON holds them.
    limit
        "scope": systemd's control group, which counts what is resident, the page cache too; "address": ulimit -v,
        which counts all addresses, also those of mapped files and of memory never touched; "data": ulimit -d, which
        counts private memory that can be written to; "none".
    memory
        The bytes that it may take.
    threads
        For polars, which reads them on import.
    folder
        Where the answer may be written.
    """
    with tempfile.TemporaryDirectory(dir=folder) as place:
        asked = json.dumps({"contender": contender, "given": given, "limit": limit, "memory": memory, "place": place})
        done = subprocess.run(  # noqa: S603  the program is ours
            [*_scope(limit, memory), sys.executable, "-m", "benchmarks.limited", asked],
            cwd=ROOT,
            env={**os.environ, "POLARS_MAX_THREADS": str(threads)},
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
        told = Path(place, "told.json")
        if done.returncode or not told.exists():
            said = [line for line in done.stderr.splitlines() if "Error" in line] or ["nothing"]
            raise DidNotEndError(f"{contender} ended with {done.returncode} and said: {said[-1][:200]}")
        import polars as pl

        answer = pl.read_parquet(Path(place, "answer.parquet"), memory_map=False)
        return Ran(answer, **json.loads(told.read_text()))


def strictest() -> str:
    """Choose the control group where systemd runs the machine, else the limit on addresses."""
    return "scope" if Path("/run/systemd/system").exists() and shutil.which("systemd-run") else "address"


def _scope(limit: str, memory: int) -> list[str]:
    if limit != "scope":
        return []
    user = [] if os.geteuid() == 0 else ["--user"]
    return ["systemd-run", *user, "--scope", "--quiet", "-p", f"MemoryMax={memory}", "-p", "MemorySwapMax=0"]


def main() -> None:
    """Answer what the parent asks, inside the limit, which begins before anything large is imported."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("asked", type=json.loads)
    asked = parser.parse_args().asked
    import resource

    if asked["limit"] in ("address", "data"):
        which = resource.RLIMIT_AS if asked["limit"] == "address" else resource.RLIMIT_DATA
        resource.setrlimit(which, (asked["memory"], asked["memory"]))

    from time import perf_counter

    from benchmarks.memory import peak

    module, name = asked["contender"].split(":")
    contender = getattr(import_module(module), name)
    given = asked["given"]
    if "tiny" in given:
        tiny = given.pop("tiny")
        contender(**given | {"files": tiny})
    start = perf_counter()
    answer = contender(**given)
    seconds = perf_counter() - start
    most = peak()
    place = Path(asked["place"])
    answer.write_parquet(place / "answer.parquet")
    (place / "told.json").write_text(json.dumps({"seconds": seconds, "peak": most}))


if __name__ == "__main__":
    main()
