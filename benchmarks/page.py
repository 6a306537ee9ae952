"""Make docs/benchmarks.md from the results of a run: the text is in page.md, every figure comes from the results."""

import json
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.measure import FEW, IDLE, IN_A_ROW, OURS, SLOW, Call, engine, middle
from benchmarks.suite import CASES, CONTAINER, MOST, PLAIN, Case
from benchmarks.tables import duration, line, megabytes

HERE = Path(__file__).parent
TEMPLATE, RESULTS, PAGE = HERE / "page.md", HERE / "results.json", HERE.parent / "docs" / "benchmarks.md"
ENGINES = (OURS, "polars", "DuckDB", "ClickHouse")
BY_NAME = {case.name: case for case in CASES}

TITLES = {
    "memory-int": "integer ids, by month",
    "memory-text": "text ids of 18 characters, by month",
    "memory-days": "integer ids, by day",
    "memory-random": "random integers of 46 bits as ids",
    "memory-shuffled": "rows in random order",
    "memory-sparse": "1.2 rows per user instead of 10",
    "memory-small": "1 million rows, or a tenth of the others",
    "memory-long": "five times as many rows",
    "files-int": "integer ids",
    "files-text": "text ids of 18 characters",
    "files-polars": "integer ids, written by polars",
    "files-DuckDB": "integer ids, written by DuckDB",
    "files-Spark": "integer ids, 32 part files written by Spark",
    "files-small": "integer ids, files of 1,000 rows",
    "files-long": "five times as many rows",
    "segments": "by 20 segments",
    "own-clock": "ages of 30 days from each user's first row",
    "customers-active": "active rows",
    "customers-dense": "all ages",
    "adapty-renewals": "by renewals, frames in memory",
    "adapty-days": "by days, frames in memory",
    "adapty-csv-renewals": "by renewals, CSV with gzip",
    "adapty-csv-days": "by days, CSV with gzip",
    "reconcile-in step": "rows in the same order",
    "reconcile-shuffled": "rows shuffled",
}
LISTS = {
    "memory": [name for name in TITLES if name.startswith("memory")],
    "files": [name for name in TITLES if name.startswith("files")],
    "general": ["segments", "own-clock"],
    "customers": ["customers-active", "customers-dense"],
    "adapty": ["adapty-renewals", "adapty-days"],
    "csv": [case.name for case in CASES if case.name.startswith("csv")],
    "reconcile": ["reconcile-in step", "reconcile-shuffled"],
}


class Result:
    """The result of one case."""

    def __init__(self, case: Case, result: dict[str, Any]) -> None:
        self.case, self.result = case, result
        self.title = TITLES.get(case.name, case.name)
        self.calls = self._calls("calls")
        self.in_a_row, self.after_idle = self._calls("in_a_row"), self._calls("after_idle")
        self.medians = {name: middle(calls) for name, calls in self.calls.items()}
        self.partial = [name for name in self.calls if " alone" in name or name.startswith("reading") or name == PLAIN]

    def _calls(self, name: str) -> dict[str, list[Call]]:
        return {each: [Call(*call) for call in calls] for each, calls in self.result.get(name, {}).items()}

    def best(self, name: str) -> tuple[str, float] | None:
        """Return the fastest form of an engine, and its median."""
        times = {each: time for each, time in self.medians.items() if engine(each) == name and each not in self.partial}
        return min(times.items(), key=lambda one: one[1]) if times else None

    def peers(self) -> list[tuple[str, float]]:
        """List the fastest form of each other engine, and its median."""
        return [one for one in map(self.best, ENGINES[1:]) if one]

    def speedup(self) -> float:
        """Return the median of the fastest other engine, divided by cohortlib's."""
        return min(time for _, time in self.peers()) / self.medians[OURS]

    def against_partial(self, of: Callable[[list[Call]], float] = middle) -> float:
        """Return cohortlib's time divided by that of the fastest contender that does a part of the work."""
        return of(self.calls[OURS]) / min(of(self.calls[name]) for name in self.partial)


def cpu(calls: Iterable[Call]) -> float:
    """Return the median CPU time."""
    return median(call.user + call.system for call in calls)


class Page:
    """The results of a run, and every part of the page that has figures."""

    def __init__(self, results: dict[str, Any]) -> None:
        self.all = results
        cases = results["cases"]
        self.errors = {name: case["error"] for name, case in cases.items() if "error" in case}
        self.results = {
            name: Result(BY_NAME[name], case)
            for name, case in cases.items()
            if name in BY_NAME and name not in self.errors
        }

    def text(self, template: str) -> str:
        """Fill in the template."""
        return re.sub(r"\{\{(.+?)\}\}", lambda found: self._part(found[1]), template)

    def _part(self, name: str) -> str:
        if name in LISTS:
            return self.summary(LISTS[name])
        return getattr(self, name)()

    # ---- tables

    def summary(self, names: list[str]) -> str:
        """Tabulate the best form of each engine for some cases."""
        rows = []
        for result in self._of(names):
            peers = [result.best(name) for name in ENGINES]
            cells = [_form(one) if one else "—" for one in peers]
            least = " ({:.1f}×)".format(
                min(min(c.seconds for c in result.calls[name]) for name, _ in result.peers())
                / min(c.seconds for c in result.calls[OURS])
            )
            rows.append((result.title, f"{result.result['rows']:,}", *cells, f"**{result.speedup():.1f}×**{least}"))
        return _table(("case", "rows", *ENGINES, "faster than the fastest other"), rows, texts=1)

    def details(self) -> str:
        """Tabulate all contenders of all timed cases."""
        rows = []
        for result in self.results.values():
            for name, calls in result.calls.items():
                seconds = [call.seconds for call in calls]
                rows.append(
                    (
                        result.case.name,
                        name,
                        *map(duration, (median(seconds), min(seconds), max(seconds))),
                        duration(median(call.user for call in calls)),
                        duration(median(call.system for call in calls)),
                        f"{median(seconds) / result.medians.get(OURS, median(seconds)):.2f}",
                        len(calls),
                    )
                )
        names = ("case", "contender", "median", "minimum", "maximum", "user", "system", "of cohortlib's", "calls")
        return _table(names, rows, texts=2)

    def decoding(self) -> str:
        """Tabulate the time of decoding alone."""
        rows = []
        for result in self._of(["files-int", "files-text"]):
            cells = [duration(result.medians[name]) for name in (OURS, *result.partial)]
            rows.append((result.title, *cells, f"{result.against_partial():.2f}"))
        return _table(("case", OURS, "decoding, polars", "decoding, pyarrow", "ratio"), rows, texts=1)

    def beside(self) -> str:
        """Tabulate the general table against the table without segments or clocks."""
        rows = []
        for result in self._of(LISTS["general"]):
            cells = [duration(result.medians[name]) for name in (OURS, PLAIN)]
            rows.append((result.title, *cells, f"{result.against_partial():.2f}"))
        return _table(("case", "cl.cohorts", "cl.termina.cohorts", "ratio"), rows, texts=1)

    def adapty_csv(self) -> str:
        """Tabulate Adapty's export against reading its columns alone."""
        rows = []
        for result in self._of(["adapty-csv-renewals", "adapty-csv-days"]):
            ours, reading = (f"{duration(middle(c))} ({duration(cpu(c))})" for c in result.calls.values())
            rows.append(
                (result.title, f"{result.result['rows']:,}", ours, reading, f"{result.against_partial(cpu):.2f}")
            )
        return _table(("case", "events", f"{OURS} (CPU)", "polars reading (CPU)", "ratio of CPU"), rows, texts=1)

    def spread(self) -> str:
        """Tabulate calls in a row and after idle seconds."""
        rows = []
        for result in self.results.values():
            for name, calls in result.in_a_row.items():
                idle = middle(result.after_idle[name])
                cells = (duration(middle(calls)), f"{spread(calls):.2f}", duration(idle), f"{idle / middle(calls):.2f}")
                rows.append((result.case.name, name, *cells))
        names = ("case", "contender", "median in a row", "slowest / fastest", "after an idle second", "idle / in a row")
        return _table(names, rows, texts=2)

    def peaks(self) -> str:
        """Tabulate the peak memory of the most frugal form of each engine."""
        rows = []
        for name, title in {
            "peak-int": "integer ids, a frame in memory",
            "peak-files-int": "integer ids, Parquet",
            "peak-files-text": "text ids, Parquet",
        }.items():
            if name in self.results:
                peaks = self.peaks_of(name)
                cells = [
                    min((size for each, size in peaks.items() if engine(each) == one), default=None) for one in ENGINES
                ]
                rows.append((title, *map(megabytes, cells)))
        return _table(("case", *ENGINES), rows, texts=1)

    def limits(self) -> str:
        """Tabulate the peak memory with max_memory."""
        rows = []
        for result in self.results.values():
            if result.case.kind == "limit":
                for name, one in result.result["peaks"].items():
                    data = result.case.data
                    layout = "Parquet" if data.layout == "pyarrow" else data.layout
                    what = f"{result.result['rows']:,} rows, {data.ids} ids, {layout}"
                    rows.append((what, f"`{name.split(', ')[1]}`", megabytes(one["peak"]), duration(one["seconds"])))
        return _table(("input", "setting", "peak beyond the start", "seconds"), rows, texts=2)

    def container(self) -> str:
        """Tabulate the times in a control group."""
        result = self.results.get("container")
        if not result:
            return self._missing("container")
        rows = []
        for name, seconds in result.result["container"].items():
            error = result.result["errors"].get(name)
            rows.append((name, duration(median(seconds)) if seconds else f"did not end: {error}", len(seconds)))
        return _table(("contender", "median", "calls"), rows, texts=1)

    def growth(self) -> str:
        """Tabulate the time per row by the number of rows."""
        rows = []
        for result in self._of(["memory-small", "memory-int", "memory-long", "files-int", "files-long"]):
            count = result.result["rows"] / 1e6
            cells = [result.calls[OURS], result.in_a_row.get(OURS), result.after_idle.get(OURS)]
            rows.append(
                (result.case.name, f"{count:g}", *(f"{middle(c) / count * 1e3:.1f} ms" if c else "—" for c in cells))
            )
        return _table(("case", "million rows", "in turns", "in a row", "after an idle second"), rows, texts=1)

    def threads(self) -> str:
        """Tabulate the times by the number of threads."""
        rows = [
            (name, duration(middle(calls)), duration(min(call.seconds for call in calls)))
            for result in self._of(["memory-threads"])
            for name, calls in result.calls.items()
        ]
        return _table(("contender", "median", "minimum"), rows, texts=1)

    def cold(self) -> str:
        """Tabulate the seconds of whole processes."""
        if "cold" not in self.results:
            return self._missing("cold")
        processes = self.results["cold"].result["processes"]
        rows = [
            (name, *(f"{median(one[each]):.2f} s" if each in one else "—" for each in ("ever", "later")))
            for name, one in processes.items()
        ]
        return _table(("process", "first ever", "later"), rows, texts=1)

    def kernels(self) -> str:
        """Tabulate the CPU time of each kernel."""
        tables = []
        for name in ("kernels-int", "kernels-text", "kernels-days"):
            if name not in self.results:
                tables.append(self._missing(name))
                continue
            spent = dict(self.results[name].result["kernels"])
            whole = spent.pop("all")
            spent["all else"] = whole - sum(spent.values())
            rows = [
                (step.rstrip("."), duration(seconds), f"{seconds / whole:.0%}")
                for step, seconds in sorted(spent.items(), key=lambda one: -one[1])
                if seconds > whole / 200
            ]
            tables.append(_table((f"{name}: {duration(whole)}", "CPU time", "share"), rows, texts=1))
        return "\n\n".join(tables)

    # ---- sentences

    def conditions(self) -> str:
        """Describe the machine and the versions."""
        versions = ", ".join(f"{name} {version}" for name, version in self.all["versions"].items())
        return (
            f"{self.all['processor']}, {self.all['cores']} cores, {self.all['memory'] / 1e9:.0f} GB of memory; "
            f"{self.all['threads']} threads; Python {self.all['python']}, {versions}."
        )

    def scale(self) -> str:
        """Warn of a quick run."""
        if self.all["scale"] == 1:
            return ""
        return f"\n\n**A quick run with {self.all['scale']:g} times the rows: its figures are no results.**"

    def failures(self) -> str:
        """List the cases without results."""
        lines = [f"- {name}: {error}" for name, error in self.errors.items()]
        lines += [f"- {case.name}: not run" for case in CASES if case.name not in self.all["cases"]]
        return "\n\nNot measured:\n\n" + "\n".join(lines) if lines else ""

    def took(self) -> str:
        """Return the minutes of the run."""
        return f"{sum(case['took'] for case in self.all['cases'].values()) / 60:.0f} minutes"

    def rules(self) -> str:
        """Return the constants of measure.py as sentences."""
        return (
            f"Forms of other engines that take more than {SLOW:g} times the median of the fastest one after {FEW} "
            "rounds stop there. Afterwards, where the spread is shown, cohortlib and the best form of each engine, or "
            f"of the fastest one, are called {IN_A_ROW} times in a row, and {IDLE} times each after an idle second. A "
            f"case that takes more than {MOST // 60} minutes fails."
        )

    def limit(self) -> str:
        """Return the memory of the control group."""
        return megabytes(CONTAINER)

    # ---- targets

    def targets(self) -> str:
        """Tabulate the targets, and whether they are reached."""
        from benchmarks.targets import TARGETS

        rows = []
        for target in TARGETS:
            try:
                value, reached = target.reached(self)
            except (KeyError, ValueError):
                rows.append((target.name, target.limit, "not measured", ""))
                continue
            rows.append(
                (target.name, target.limit, value, "reached" if reached >= 1 else f"**missed** by {1 - reached:.0%}")
            )
        return _table(("case", "target", "measured", ""), rows, texts=4)

    def _of(self, names: list[str]) -> Iterator[Result]:
        return (self.results[name] for name in names if name in self.results)

    def _missing(self, name: str) -> str:
        return f"{name}: {self.errors.get(name, 'not run')}."

    def peaks_of(self, name: str) -> dict[str, int]:
        """Return the peak memory of each contender of a case, in bytes."""
        return {each: one["peak"] for each, one in self.results[name].result["peaks"].items()}


def spread(calls: Iterable[Call]) -> float:
    """Return the slowest call divided by the fastest."""
    seconds = [call.seconds for call in calls]
    return max(seconds) / min(seconds)


def _form(one: tuple[str, float]) -> str:
    form = one[0].partition(", ")[2]
    return duration(one[1]) + (f" ({form})" if form else "")


def _table(names: tuple[str, ...], rows: Iterable[tuple[object, ...]], texts: int) -> str:
    ruler = line(*["---"] * texts, *["---:"] * (len(names) - texts))
    return "\n".join([line(*names), ruler, *(line(*row) for row in rows)])


def render(results: Path) -> str:
    """Return the page for the results of a run."""
    return Page(json.loads(results.read_text())).text(TEMPLATE.read_text())
