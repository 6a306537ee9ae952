"""What a run leaves out, and why: what does not fit into memory, and who is out of the race."""

import os

from benchmarks.inputs import Shape
from benchmarks.measure import OURS, Timed
from benchmarks.questions import kind

OUT_OF_THE_RACE = 3  # times the fastest peer's seconds

# Bytes a row, rough, as measured at 1,000,000 rows: at most while a table is made; of the table in memory; of our
# answer, which stays there to be compared; and of each who is asked, at most, beyond the input.
MAKING = {"transactions": 200, "subscriptions": 850}
TABLES = {
    ("transactions", "int"): 24,
    ("transactions", "uuid"): 52,
    ("subscriptions", "int"): 220,
    ("subscriptions", "uuid"): 260,
}
ANSWERS = {"customer-cohorts": 250}
ASKING = {
    "cohorts": {"polars, streaming": 140, "polars, in memory": 290, "DuckDB": 90, "ClickHouse": 240, "pandas": 240},
    "customer-cohorts": {
        "polars, streaming": 400,
        "polars, in memory": 390,
        "DuckDB": 770,
        "ClickHouse": 720,
        "pandas": 500,
    },
}
ADAPTY = 400  # by days and by renewals, everybody


def too_large(question: str, name: str, shape: Shape, source: str) -> str | None:
    """Say why a contender is not asked, where it is not."""
    asking = ASKING.get(question.removesuffix("-daily"), {}).get(name, ADAPTY if "adapty" in question else 0)
    table = TABLES[kind(question), shape.ids] if source == "memory" else 0
    needs = max(MAKING[kind(question)], table + ANSWERS.get(question, 0) + asking) * shape.rows
    there = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if needs < there * 0.9:
        return None
    return (
        f"{question}, {shape.rows:,} rows, {shape.ids}, {source}, {name}: "
        f"needs about {needs / 1e9:.0f} GB of the {there / 1e9:.0f} GB there are"
    )


def still_running(before: Timed) -> list[str]:
    """Name those who are asked at the next size: ours, and peers less than three times as slow as the fastest."""
    most = OUT_OF_THE_RACE * before.fastest_peer()
    return [name for name, seconds in before.seconds.items() if name == OURS or seconds < most]
