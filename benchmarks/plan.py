"""Cases that a run skips: inputs that do not fit in memory, and engines that are too slow."""

import os

from benchmarks.inputs import Shape
from benchmarks.measure import OURS, Timed
from benchmarks.questions import kind

TOO_SLOW = 3  # times the seconds of the fastest other engine

# Approximate bytes per row, measured at 1,000,000 rows: the peak while generating a table; the table in memory; our
# answer, which is kept for the comparison; and the peak of each contender beyond its input.
MAKING = {"transactions": 200, "subscriptions": 850}
TABLES = {
    ("transactions", "int"): 24,
    ("transactions", "uuid"): 52,
    ("subscriptions", "int"): 220,
    ("subscriptions", "uuid"): 260,
}
ANSWERS = {"customer-cohorts": 250}
WORKING = {
    "cohorts": {"polars, streaming": 140, "polars, in memory": 290, "DuckDB": 90, "ClickHouse": 240, "pandas": 240},
    "customer-cohorts": {
        "polars, streaming": 400,
        "polars, in memory": 390,
        "DuckDB": 770,
        "ClickHouse": 720,
        "pandas": 500,
    },
}
ADAPTY = 400  # all contenders, by days and by renewals


def too_large(question: str, name: str, shape: Shape, source: str) -> str | None:
    """Return why a contender is skipped, or None if it is not."""
    working = WORKING.get(question.removesuffix("-daily"), {}).get(name, ADAPTY if "adapty" in question else 0)
    table = TABLES[kind(question), shape.ids] if source == "memory" else 0
    needs = max(MAKING[kind(question)], table + ANSWERS.get(question, 0) + working) * shape.rows
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if needs < memory * 0.9:
        return None
    return (
        f"{question}, {shape.rows:,} rows, {shape.ids}, {source}, {name}: "
        f"needs about {needs / 1e9:.0f} GB, and the machine has {memory / 1e9:.0f} GB"
    )


def still_running(before: Timed) -> list[str]:
    """List the contenders for the next size: cohortlib, and engines up to three times as slow as the fastest."""
    most = TOO_SLOW * before.fastest_peer()
    return [name for name, seconds in before.seconds.items() if name == OURS or seconds < most]
