"""Peak memory of a contender beyond its input, in a separate process."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]

# Arguments: the question, the contender, the ids, the source, threads, the folder of the data and that of a tiny table.
# The tiny table runs first, so that the memory of imports, compilation and idle threads is not counted.
CHILD = """
import os, sys
question, name, ids, source, threads, folder, tiny = sys.argv[1:]
os.environ["POLARS_MAX_THREADS"] = threads
import gc
from pathlib import Path
from benchmarks.inputs import load
from benchmarks.memory import peak
from benchmarks.questions import QUESTIONS, kind

contender = QUESTIONS[question].contenders[name]
contender.run(contender.prepare(load(kind(question), ids, Path(tiny), source)), int(threads))
given = contender.prepare(load(kind(question), ids, Path(folder), source))
gc.collect()
before = peak(again=True)
contender.run(given, int(threads))
print(peak() - before)
"""


def beyond_input(question: str, name: str, ids: str, source: str, threads: int, folder: Path, tiny: Path) -> int:
    """Return the maximum growth of resident memory while a contender answers, in bytes."""
    arguments = [question, name, ids, source, threads, folder, tiny]
    done = subprocess.run(  # noqa: S603  the arguments are ours
        [sys.executable, "-c", CHILD, *map(str, arguments)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return int(done.stdout.split()[-1])


def peak(*, again: bool = False) -> int:
    """Return the peak resident memory of the process in bytes; `again` resets the peak first, on Linux."""
    status = Path("/proc/self/status")
    if not status.exists():
        import resource

        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return most if sys.platform == "darwin" else most * 1024
    if again:
        Path("/proc/self/clear_refs").write_text("5")
    most = next(text for text in status.read_text().splitlines() if text.startswith("VmHWM"))
    return int(most.split()[1]) * 1024
