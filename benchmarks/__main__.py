"""
Print the tables of docs/benchmarks.md: `python -m benchmarks --rows 1e6 1e7 5e7 --threads 2 > tables.md`.

Run it from the root of the repository, with nothing else running. Options select what to measure.
"""

import argparse
import gc
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from benchmarks.inputs import Shape
    from benchmarks.measure import Timed

NAMES = ("cohorts", "cohorts-daily", "customer-cohorts", "adapty-renewals", "adapty-days")
PARTS = ("identity", "speed", "shapes", "memory", "cold-start")
TINY = 1000
MODERATE = 10_000_000  # rows: the limit for parts that run at one size, and for slow engines
SIZE_OF_IDENTITY = 300_000


def main() -> None:
    options = _options()
    # polars reads this once, on import, so everything that imports polars is imported later.
    os.environ["POLARS_MAX_THREADS"] = str(options.threads)
    with tempfile.TemporaryDirectory() as folder:
        suite = Suite(options, Path(folder))
        for part in options.parts:
            getattr(suite, part.replace("-", "_"))()

    from benchmarks import tables

    print(f"\n{tables.conditions(options.threads)}")


class Suite:
    """One run. Each part prints its tables; generated data is kept in a folder."""

    def __init__(self, options: argparse.Namespace, folder: Path) -> None:
        self.options = options
        self.folder = folder
        self.one_size = min(max(options.rows), MODERATE)

    def identity(self) -> None:
        """Check that cohortlib's results are identical to the bit."""
        from benchmarks import identity, tables

        rows = min(SIZE_OF_IDENTITY, self.one_size)
        tables.heading(f"Identical to the bit, {rows:,} rows", "question", "ids", "identical for", texts=3)
        for question in self.options.questions:
            for ids in self.options.ids:
                variants = identity.check(question, self._input(question, _shape(rows, ids), "memory"))
                threads = ", ".join(map(str, identity.THREADS))
                print(tables.line(question, ids, f"{'; '.join(variants)}; each on {threads} threads"), flush=True)

    def speed(self) -> None:
        """Time every question for every size, id type and source, then print the growth."""
        from benchmarks import plan, tables
        from benchmarks.measure import OURS
        from benchmarks.questions import QUESTIONS

        growth = []
        for question in self.options.questions:
            columns = ("ids", "source", "rows", *QUESTIONS[question].contenders, "speedup", "rounds")
            tables.heading(question, *columns, texts=2)
            reasons = []
            for ids, source in self._inputs():
                before, grown, names = None, [], list(QUESTIONS[question].contenders)
                for rows in self.options.rows:
                    shape = _shape(rows, ids)
                    if rows > MODERATE and before:
                        names = plan.still_running(before)
                    left_out = {name: plan.too_large(question, name, shape, source) for name in names}
                    reasons += [reason for reason in left_out.values() if reason]
                    names = [name for name in names if not left_out[name]]
                    if names in ([], [OURS]):
                        continue
                    before = self._timed(question, shape, source, names)
                    grown.append(before.seconds[OURS] / rows * 1e6)
                    print(tables.line(ids, source, f"{rows:,}", *tables.seconds(before, columns[3:-2])), flush=True)
                grown += [None] * (len(self.options.rows) - len(grown))
                growth.append((question, ids, source, *("—" if each is None else f"{each:.3f} s" for each in grown)))
            print("".join(f"\nLeft out: {reason}" for reason in reasons))
        if len(self.options.rows) > 1:
            sizes = [f"of {rows:,}" for rows in self.options.rows]
            tables.heading(
                "Growth: seconds per million rows in cohortlib", "question", "ids", "source", *sizes, texts=3
            )
            for cells in growth:
                print(tables.line(*cells), flush=True)

    def shapes(self) -> None:
        """Time the cohorts table for shuffled rows, and for more and fewer rows per user."""
        from benchmarks import tables
        from benchmarks.inputs import Shape
        from benchmarks.questions import QUESTIONS

        question, ids, source = "cohorts", self.options.ids[0], self.options.sources[0]
        names = QUESTIONS[question].contenders
        title = f"Shapes: {question}, {self.one_size:,} rows, {ids}, {source}"
        tables.heading(title, "rows per user", "order", *names, "speedup", "rounds", texts=2)
        for rows_per_user, shuffled in ((10, True), (20, False), (1.2, False)):
            shape = Shape(self.one_size, ids, rows_per_user, shuffled)
            timed = self._timed(question, shape, source, names)
            order = "shuffled" if shuffled else "time"
            print(tables.line(rows_per_user, order, *tables.seconds(timed, names)), flush=True)

    def memory(self) -> None:
        """Print the peak memory of each contender beyond its input."""
        from benchmarks import memory, tables
        from benchmarks.questions import QUESTIONS

        for question in self.options.questions:
            names = QUESTIONS[question].contenders
            title = f"Peak memory beyond the input: {question}, {self.one_size:,} rows"
            tables.heading(title, "ids", "source", *names, texts=2)
            for ids, source in self._inputs():
                folder, tiny = (self._generated(question, _shape(rows, ids)) for rows in (self.one_size, TINY))
                peaks = [
                    memory.beyond_input(question, name, ids, source, self.options.threads, folder, tiny)
                    for name in names
                ]
                print(tables.line(ids, source, *map(tables.megabytes, peaks)), flush=True)

    def cold_start(self) -> None:
        """Print the seconds to the first result."""
        from benchmarks import cold_start, tables

        title = f"Cold start: seconds to the first result of {TINY:,} rows, beyond `import polars`"
        tables.heading(title, "question", "ids", "first ever", "in a later process", texts=2)
        for question in self.options.questions:
            for ids in self.options.ids:
                first = cold_start.measure(question, self._generated(question, _shape(TINY, ids)), self.options.repeat)
                print(tables.line(question, ids, f"{first.ever:.2f} s", f"{first.later:.2f} s"), flush=True)

    def _inputs(self) -> Iterator[tuple[str, str]]:
        for ids in self.options.ids:
            for source in self.options.sources:
                yield ids, source

    def _timed(self, question: str, shape: "Shape", source: str, names: "list[str]") -> "Timed":
        from benchmarks.measure import measure
        from benchmarks.questions import QUESTIONS

        options = self.options
        tiny = self._input(question, shape._replace(rows=TINY), source)
        data = self._input(question, shape, source)
        timed = measure(QUESTIONS[question], names, data, tiny, options.threads, options.repeat, options.seconds)
        del data
        gc.collect()
        return timed

    def _input(self, question: str, shape: "Shape", source: str) -> object:
        from benchmarks.inputs import load
        from benchmarks.questions import kind

        return load(kind(question), shape.ids, self._generated(question, shape), source)

    def _generated(self, question: str, shape: "Shape") -> Path:
        """Return the folder of a generated table, and generate it if it does not exist."""
        from benchmarks.inputs import write
        from benchmarks.questions import kind

        folder = self.folder / "_".join(map(str, (kind(question), *shape)))
        if not folder.exists():
            folder.mkdir()
            print(f"generating {folder.name}", file=sys.stderr)
            write(kind(question), shape, folder)
        return folder


def _shape(rows: int, ids: str) -> "Shape":
    from benchmarks.inputs import Shape

    return Shape(rows, ids)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    many = {"nargs": "+", "metavar": "NAME"}
    parser.add_argument("--parts", default=PARTS, choices=PARTS, help=", ".join(PARTS), **many)
    parser.add_argument("--questions", default=NAMES, choices=NAMES, help=", ".join(NAMES), **many)
    parser.add_argument("--ids", default=("int", "uuid"), choices=("int", "uuid"), help="int, uuid", **many)
    sources = ("memory", "parquet")
    parser.add_argument("--sources", default=sources, choices=sources, help="memory, parquet", **many)
    parser.add_argument("--rows", nargs="+", type=_count, default=[1_000_000], help="such as 1e6 1e7, smallest first")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="the same for all, except pandas")
    parser.add_argument("--repeat", type=int, default=3, help="number of rounds, and of cold starts")
    parser.add_argument("--seconds", type=float, default=30, help="start no new round of a case after this time")
    return parser.parse_args()


def _count(text: str) -> int:
    return int(float(text))


if __name__ == "__main__":
    main()
