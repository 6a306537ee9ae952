"""
Print Adapty's cohort table side by side: `python -m benchmarks.adapty --events 1e6 1e7 --ids uuid --threads 2`.

Run it from the root of the repository, with nothing else running. `--memory` adds the peak memory of each contender,
in a process of its own.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.measure import cells, conditions, count, line, measure

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.adapty_contenders import Given

ROOT = Path(__file__).parents[1]
MB = 1_000_000

# Handed over: the folder of the data, the kind of table, the contender, threads, the first and the last day. A small
# question first, so that the memory of imports and of compiling is not counted.
CHILD = """
import sys
from pathlib import Path
from benchmarks.adapty import peak_memory, read
from benchmarks.adapty_contenders import COHORT, given

folder, period_type, name, threads, first, last = sys.argv[1:]
run = COHORT[period_type][name].run
run(given(1000, "uuid"), int(threads))
asked = read(Path(folder), int(first), int(last))
before = peak_memory(again=True)
run(asked, int(threads))
print(peak_memory() - before)
"""


def main() -> None:
    options = _options()
    # polars reads it once, on import, so everything that imports polars waits until here.
    os.environ["POLARS_MAX_THREADS"] = str(options.threads)

    from benchmarks.adapty_contenders import COHORT, compare, given

    names = list(next(iter(COHORT.values())))
    print(line("events", "ids", "period_type", *names, "ours is faster by"))
    print(line("---:", "---", "---", *["---:"] * len(names), "---:"))
    peaks = []
    for events in options.events:
        for ids in options.ids:
            asked = given(events, ids)
            for period_type in options.period_type:
                seconds = measure(asked, COHORT[period_type], compare, options.threads, options.repeat)
                print(line(f"{events:,}", ids, period_type, *cells(seconds)), flush=True)
            if options.memory:
                peaks += [line(f"{events:,}", ids, *texts) for texts in memory(asked, options)]
    print()
    print(conditions(options, "in order of time", ("polars", "duckdb")))
    if peaks:
        print("\nPeak memory beyond the input, each contender in a process of its own:\n")
        print(line("events", "ids", "period_type", *names))
        print(line("---:", "---", "---", *["---:"] * len(names)), *peaks, sep="\n")


def memory(asked: "Given", options: argparse.Namespace) -> "Iterator[list[str]]":
    """Let each contender answer in a process of its own, and write its peak memory beyond the input."""
    from benchmarks.adapty_contenders import COHORT

    with tempfile.TemporaryDirectory() as folder:
        asked.events.write_ipc(Path(folder) / "events.arrow")
        asked.installs.write_ipc(Path(folder) / "installs.arrow")
        for period_type in options.period_type:
            texts = [period_type]
            for name in COHORT[period_type]:
                arguments = [folder, period_type, name, options.threads, asked.first, asked.last]
                done = subprocess.run(  # noqa: S603  the arguments are ours
                    [sys.executable, "-c", CHILD, *map(str, arguments)],
                    cwd=ROOT,
                    stdout=subprocess.PIPE,
                    text=True,
                    check=True,
                )
                texts.append(f"{int(done.stdout.split()[-1]) / MB:,.0f} MB")
            yield texts


def read(folder: Path, first: int, last: int) -> "Given":
    """Read what `memory` wrote, all of it into memory."""
    import polars as pl

    from benchmarks.adapty_contenders import Given

    frames = [pl.read_ipc((folder / f"{name}.arrow").read_bytes()) for name in ("events", "installs")]
    return Given(*frames, first, last)


def peak_memory(*, again: bool = False) -> int:
    """Return the peak of the process's resident memory in bytes; `again` begins a new peak first, on Linux."""
    status = Path("/proc/self/status")
    if not status.exists():
        import resource

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024
    if again:
        Path("/proc/self/clear_refs").write_text("5")
    peak = next(text for text in status.read_text().splitlines() if text.startswith("VmHWM"))
    return int(peak.split()[1]) * 1024


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.adapty", description=__doc__)
    parser.add_argument("--events", nargs="+", type=count, default=[1_000_000], help="like 1e6 1e7")
    parser.add_argument("--ids", nargs="+", default=["int", "uuid"], choices=["int", "uuid"])
    parser.add_argument("--period-type", nargs="+", default=["renewals", "days"], choices=["renewals", "days"])
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="the same for all")
    parser.add_argument("--repeat", type=int, default=5, help="rounds")
    parser.add_argument("--memory", action="store_true", help="print the peak memory of each contender too")
    return parser.parse_args()


if __name__ == "__main__":
    main()
