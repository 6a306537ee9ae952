"""The general table from packed records beside that from sorted parts: to the bit, with many rows at one instant."""

from datetime import datetime, timedelta
from random import Random

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

import cohortlib as cl
from cohortlib.engine import jit
from cohortlib.transactions.general import load

pytestmark = pytest.mark.search

SEGMENTS = (None, -3, 0, 1, 7, 12)
TYPES = {
    "text": lambda column: column.cast(pl.String),
    "category": lambda column: column.cast(pl.String).cast(pl.Categorical),
    "unsigned": lambda column: (column + 2**62).cast(pl.UInt64) * 2,
    "boolean": lambda column: column > 0,
    "date": lambda column: column.cast(pl.Date),
    "float": lambda column: column.cast(pl.Float64) / 2,
}


def table(seed):
    """Return a table of many users with few instants, and settings: drawn values would be few, and all alike."""
    random = Random(seed)  # noqa: S311
    count, users, days = random.choice([5, 60, 600]), random.choice([2, 10, 100]), random.choice([3, 40, 400])
    start = datetime(2024, random.randint(1, 12), 20)
    instants = [
        start + timedelta(days=random.randint(0, days), hours=random.choice([0, 0, 5, 23])) for _ in range(count)
    ]
    unit, zone = random.choice(["date", "ms", "us", "ns"]), random.choice([None, "Europe/Berlin", "Pacific/Auckland"])
    dated = pl.Series(instants).cast(pl.Date if unit == "date" else pl.Datetime(unit))
    zoned = unit != "date" and zone is not None
    ids = [random.randrange(users) for _ in range(count)]
    units = [random.choice([1000, 500, 1, -100, -500, -1000, 0, random.choice([333, 2**20])]) for _ in range(count)]
    column = pl.Series([random.choice(SEGMENTS) for _ in range(count)], dtype=pl.Int64)
    frame = pl.DataFrame({
        "user_id": random.choice([ids, [f"user {each}" for each in ids], [each * 10**15 for each in ids]]),
        "timestamp": dated.dt.replace_time_zone("UTC") if zoned else dated,
        "amount": random.choice([units, [each / 100 for each in units]]),
        "country": random.choice(list(TYPES.values()))(column),
    })  # fmt: skip
    settings = {
        "freq": random.choice("DWMQ"),
        "threads": random.choice([1, 2]),
        "by": random.choice(["country", "country", None]),
    }
    settings["retention"] = random.choice(["exact", "exact", "unbounded", "consecutive"])
    settings["refunds"] = random.choice(["net", "signed", "drop"])
    settings["age"] = random.choice([None, None, "D", "W", "1d", "7d", "7d", "30d"])
    if zoned:
        settings["timezone"] = zone
    edges = {"end": instants[0].date(), "start": instants[-1].date(), "complete_only": True}
    return frame, settings | {name: value for name, value in edges.items() if random.random() < 0.25}


@pytest.fixture(scope="module", autouse=True)
def _compiled():
    """Compile kernels from the start: the tables are small, but many."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jit.INTERPRETER, "patience", 0)
        yield


@given(st.integers(0, 2**32))
def test_packed_records_agree_with_sorted_parts(seed):
    frame, settings = table(seed)

    def compute():
        try:
            return cl.cohorts(frame, **settings)
        except cl.errors.SettingError as error:  # `start` after `end`
            return str(error)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(load, "pack_rows", lambda *_: None)
        parts = compute()
    packed = compute()
    assert packed == parts if isinstance(parts, str) else packed.schema == parts.schema and packed.equals(parts)


def test_tables_of_one_column_of_segments_are_packed(monkeypatch):
    packed = []
    pack = load.pack_rows
    monkeypatch.setattr(load, "pack_rows", lambda *given: packed.append(pack(*given)) or packed[-1])
    frame = pl.DataFrame(
        {"user_id": [1, 2], "timestamp": [datetime(2026, 1, 1)] * 2, "amount": [1.0, 2.0], "x": [1, 2]}
    )
    for settings, expected in (
        ({"by": "x"}, True), ({"age": "30d"}, True), ({"by": "x", "age": "7d", "retention": "unbounded"}, True),
        ({"by": "x", "confidence": 0.9}, False), ({"split": "x"}, False), ({"age": "30d", "brackets": [0, 2]}, False),
    ):  # fmt: skip
        cl.cohorts(frame, **settings)
        assert (packed[-1] is not None) == expected
