"""What the page must show: each target with the value that a run reached."""

import re
from collections.abc import Callable, Iterator
from statistics import median
from typing import NamedTuple

from benchmarks.measure import OURS, Call, middle
from benchmarks.page import Page, cpu, spread
from benchmarks.tables import megabytes

BEYOND = 150e6  # bytes by which the peak may exceed max_memory


class Target(NamedTuple):
    """A target, and a function that returns the value reached, and how much of the target: 1 or more if all of it."""

    name: str
    limit: str
    reached: Callable[["Page"], tuple[str, float]]


def _faster(name: str, case: str, least: float) -> Target:
    def reached(page: Page) -> tuple[str, float]:
        value = page.results[case].speedup()
        return f"{value:.1f}×", value / least

    return Target(name, f"≥ {least:g}×", reached)


def _at_most(name: str, most: float, value: Callable[[Page], float], form: str = "{:.2f}", limit: str = "") -> Target:
    def reached(page: Page) -> tuple[str, float]:
        return form.format(value(page)), most / max(value(page), 1e-9)

    return Target(name, limit or "≤ " + form.format(most), reached)


def _steady(case: str) -> Iterator[Target]:
    """Yield the targets for the spread of a case: at most 1.2, or no worse than the steadiest other engine."""

    def in_a_row(page: Page) -> dict[str, float]:
        return {name: spread(calls) for name, calls in page.results[case].in_a_row.items()}

    def idle(page: Page) -> dict[str, float]:
        one = page.results[case]
        return {name: middle(calls) / middle(one.in_a_row[name]) for name, calls in one.after_idle.items()}

    for what, values in (("slowest of calls in a row / fastest", in_a_row), ("after an idle second / in a row", idle)):

        def reached(page: Page, values: Callable[[Page], dict[str, float]] = values) -> tuple[str, float]:
            found = values(page)
            ours = found.pop(OURS)
            name, steadiest = min(found.items(), key=lambda one: one[1])
            return f"{ours:.2f}; {name}: {steadiest:.2f}", max(1.2, steadiest) / ours

        yield Target(f"{case}: {what}", "≤ 1.20, or the steadiest other", reached)


def _frugal(name: str, case: str) -> Target:
    def reached(page: Page) -> tuple[str, float]:
        peaks = page.peaks_of(case)
        ours = peaks.pop(OURS)
        least = min(peaks, key=peaks.__getitem__)
        return f"{megabytes(ours)}; {least}: {megabytes(peaks[least])}", peaks[least] / max(ours, 1)

    return Target(name, "below the most frugal other", reached)


def _against_partial(case: str, of: Callable[[list[Call]], float] = middle) -> Callable[["Page"], float]:
    return lambda page: page.results[case].against_partial(of)


def _kept(page: Page) -> float:
    beyond = []
    for one in page.results.values():
        if one.case.kind == "limit":
            for name, result in one.result["peaks"].items():
                number, unit = re.fullmatch(r".*=(\d+)(MB|GB)", name).groups()
                beyond.append(result["peak"] - int(number) * {"MB": 1e6, "GB": 1e9}[unit])
    return max(beyond) / 1e6


def _grows(kind: str) -> Callable[[Page], float]:
    def value(page: Page) -> float:
        small, large = page.results["memory-int"], page.results["memory-long"]
        a, b = (middle(getattr(one, kind)[OURS]) / one.result["rows"] for one in (small, large))
        return b / a

    return value


def _in_container(page: Page) -> float:
    seconds = page.results["container"].result["container"]
    if not seconds[OURS]:
        return float("inf")
    return median(seconds[OURS]) / median(seconds["DuckDB"]) if seconds["DuckDB"] else 0.0


def _cold(name: str, moment: str, *, beyond: bool) -> Callable[[Page], float]:
    def value(page: Page) -> float:
        processes = page.results["cold"].result["processes"]
        polars = median(processes["import polars"]["later"]) if beyond else 0.0
        return median(processes[name][moment]) - polars

    return value


TARGETS = (
    _faster("memory, integer ids", "memory-int", 5),
    _faster("memory, text ids", "memory-text", 5),
    _faster("memory, by day", "memory-days", 5),
    _faster("memory, 50 million rows", "memory-long", 5),
    _faster("Parquet, 50 million rows", "files-long", 3),
    _faster("Parquet, integer ids", "files-int", 3.3),
    _faster("Parquet, text ids", "files-text", 3),
    _at_most("Parquet, integer ids, against decoding alone", 1.6, _against_partial("files-int")),
    _at_most("Parquet, text ids, against decoding alone", 1.6, _against_partial("files-text")),
    _faster("3,000 Parquet files of 1,000 rows", "files-small", 1.5),
    _faster("general table, by 20 segments", "segments", 3),
    _faster("general table, own clock of 30 days", "own-clock", 3),
    _at_most("general table, by 20 segments, against without", 1.5, _against_partial("segments")),
    _faster("customers, active rows", "customers-active", 4),
    _faster("Adapty, renewals", "adapty-renewals", 8),
    _faster("Adapty, days", "adapty-days", 5),
    *(
        _at_most(
            f"Adapty, {period}, CSV with gzip: CPU time of reading alone",
            1.5,
            _against_partial(f"adapty-csv-{period}", cpu),
        )
        for period in ("renewals", "days")
    ),
    *_steady("memory-int"),
    *_steady("files-int"),
    *_steady("memory-long"),
    _frugal("peak memory, Parquet, integer ids", "peak-files-int"),
    _frugal("peak memory, Parquet, text ids", "peak-files-text"),
    _at_most("peak beyond `max_memory`, the worst of all cases", BEYOND / 1e6, _kept, "{:.0f} MB"),
    _at_most("50 million rows of Parquet in a small container, against DuckDB", 1.3, _in_container),
    _at_most("growth: time per row at 50 / at 10 million rows, in a row", 1.15, _grows("in_a_row")),
    _at_most("growth: the same, after an idle second", 1.15, _grows("after_idle")),
    *(
        _at_most(f"{name}: {what}, beyond `import polars`", most, _cold(name, moment, beyond=True), "{:.2f} s")
        for name in ("termina.cohorts", "adapty.cohort")
        for what, moment, most in (("first result ever", "ever", 4), ("first result in a later process", "later", 0.35))
    ),
    _at_most(
        "the error about a missing file, the whole process", 0.25,
        _cold("the error about a missing file", "later", beyond=False), "{:.2f} s",
    ),
)  # fmt: skip
