"""What a run leaves out, and why: what does not fit into memory, and who is out of the race."""

import os

from benchmarks.inputs import Shape
from benchmarks.measure import OURS, Timed
from benchmarks.questions import kind

OUT_OF_THE_RACE = 3  # times the fastest peer's seconds

# Bytes a row, rough, as measured at 1,000,000 rows: of the table in memory, and at most beyond it while it is made or
# asked about (the answer included).
TABLES = {
    ("transactions", "int"): 24,
    ("transactions", "uuid"): 52,
    ("subscriptions", "int"): 216,
    ("subscriptions", "uuid"): 257,
}
MAKING = {"transactions": 200, "subscriptions": 850}
ASKING = {"cohorts": 200, "cohorts-daily": 250, "customer-cohorts": 1200, "adapty-renewals": 700, "adapty-days": 700}


def too_large(question: str, shape: Shape, source: str) -> str | None:
    """Say why a question is not put to anybody, where it is not."""
    table = TABLES[kind(question), shape.ids]
    needs = max(MAKING[kind(question)], ASKING[question] + table * (source == "memory")) * shape.rows
    there = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if needs < there * 0.9:
        return None
    return (
        f"{question}, {shape.rows:,} rows, {shape.ids}, {source}: needs about {needs / 1e9:.0f} GB of {there / 1e9:.0f}"
    )


def still_running(before: Timed) -> list[str]:
    """Name those who are asked at the next size: ours, and peers less than three times as slow as the fastest."""
    most = OUT_OF_THE_RACE * before.fastest_peer()
    return [name for name, seconds in before.seconds.items() if name == OURS or seconds < most]
