"""Frames of other libraries: only the columns that are needed are looked at."""

import datetime as dt
import decimal
import uuid

import duckdb
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.dataset
import pytest

import cohortlib as cl
from cohortlib.errors import CohortlibError, DataError, SchemaError, SourceError
from cohortlib.read import sources

pytestmark = pytest.mark.unit

COLUMNS = ["user_id", "timestamp", "amount"]
BASE = {
    "user_id": ["a", "b", "a"],
    "timestamp": [dt.datetime(2026, month, 5) for month in (1, 2, 2)],
    "amount": [1.0, 2.0, 4.0],
}
ARROW = pa.table(
    BASE
    | {
        "interval": pa.array([None] * 3, pa.month_day_nano_interval()),
        "wide": pa.array([decimal.Decimal(1), None, None], pa.decimal256(60, 2)),
        "n\0x": [1, 2, 3],
    }
)
PANDAS = pd.DataFrame(
    BASE | {"mixed": [1, "x", None], "ids": [uuid.UUID(int=each) for each in range(3)], "n\0x": [1, 2, 3]}
)
QUERY = """select *, interval 1 day as "interval", uuid() as id, {'a': 1} as nested from base"""


def duck():
    base = pl.DataFrame(BASE).to_arrow()  # noqa: F841
    return duckdb.sql(QUERY)


def narwhals(frame):
    return pytest.importorskip("narwhals").from_native(frame)


KINDS = {
    "pandas": lambda: PANDAS,
    "table": lambda: ARROW,
    "batches": lambda: pa.concat_tables([ARROW[:1], ARROW[1:]]),
    "reader": ARROW.to_reader,
    "record batch": lambda: ARROW.combine_chunks().to_batches()[0],
    "dataset": lambda: pa.dataset.dataset(ARROW),
    "scanner": lambda: pa.dataset.dataset(ARROW).scanner(),
    "duckdb": duck,
    "ibis": lambda: pytest.importorskip("ibis").memtable(pl.DataFrame(BASE)),
    "narwhals on polars": lambda: narwhals(pl.DataFrame(BASE)),
    "narwhals on polars, lazy": lambda: narwhals(pl.DataFrame(BASE).lazy()),
    "narwhals on pandas": lambda: narwhals(PANDAS),
    "narwhals on pyarrow": lambda: narwhals(ARROW),
    "narwhals on duckdb": lambda: narwhals(duck()),
}


@pytest.mark.parametrize("road", [None, 0])
@pytest.mark.parametrize("kind", KINDS)
def test_only_the_needed_columns_are_read(kind, road):
    stream = sources.stream(KINDS[kind](), lambda _: COLUMNS, max_bytes=road)
    frame = stream.frame()
    assert frame.columns == COLUMNS
    assert frame.schema == stream.schema
    assert frame.rows() == pl.DataFrame(BASE).rows()
    assert cl.termina.cohorts(KINDS[kind]()).equals(cl.termina.cohorts(pl.DataFrame(BASE)))


@pytest.mark.parametrize("kind", KINDS)
def test_missing_columns(kind):
    with pytest.raises(SchemaError, match=r"column 'users' is not in the table; columns are 'user_id', 'timestamp'"):
        sources.read(KINDS[kind](), lambda _: ["users"])


@pytest.mark.parametrize(
    ("source", "column", "message"),
    [
        (ARROW, "interval", "column 'interval' is an interval"),
        (ARROW, "wide", "column 'wide' is a decimal of 256 bits"),
        (duck, "interval", "column 'interval' is an interval"),
        (PANDAS, "mixed", r"column 'mixed' of the pandas.* cannot be read: .* types NoneType, int, str"),
        (pd.concat([PANDAS, PANDAS[["amount"]]], axis=1), "amount", "the table has 2 columns 'amount'"),
        (pa.table([[1], [2]], ["a", "a"]), "a", "the table has 2 columns 'a'"),
    ],
)
def test_columns_of_other_types_are_refused(source, column, message, capfd):
    with pytest.raises(SchemaError, match=message):
        sources.read(source() if callable(source) else source, lambda _: [column])
    assert "panicked" not in capfd.readouterr().err


def test_names_with_nul_and_uuids():
    for source in (PANDAS, ARROW):
        assert sources.read(source, lambda _: ["n\0x"]).to_series().to_list() == [1, 2, 3]
    assert sources.read(PANDAS, lambda _: ["ids"]).to_series().to_list()[1] == str(uuid.UUID(int=1))


@pytest.mark.parametrize(
    "column",
    [
        pa.array([2**31 - 1], pa.int32()).cast(pa.date32()),
        pa.array([-(2**31)], pa.int32()).cast(pa.date32()),
        *(
            pa.array([value], pa.int64()).cast(pa.timestamp(unit))
            for unit in ("s", "ms", "us", "ns")
            for value in (2**63 - 1, -(2**63))
        ),
    ],
)
def test_far_instants_are_refused(column):
    table = pa.table({"user_id": ["a"], "timestamp": column, "amount": [1.0]})
    for settings in ({}, {"max_memory": 1 << 27}, {"freq": "D"}):
        with pytest.raises(CohortlibError):
            cl.termina.cohorts(table, **settings)


@pytest.mark.parametrize("road", [None, 0])
def test_a_panic_is_an_error(road, monkeypatch):
    def panic(*args, **kwargs):
        raise pl.exceptions.PanicException("index out of bounds")

    monkeypatch.setattr(pl.LazyFrame, "collect" if road is None else "collect_batches", panic)
    with pytest.raises(SourceError, match=r"^the lazy frame cannot be read: index out of bounds"):
        sources.stream(pl.DataFrame(BASE).lazy(), lambda _: COLUMNS, max_bytes=road).frame()


def test_instants_of_pandas_with_and_without_offsets():
    zoned, naive = pd.Timestamp("2026-02-01", tz="Asia/Tokyo"), dt.datetime(2026, 2, 1)
    for values, kind in (([zoned, naive], "1 instant without an offset"), ([naive.date(), zoned], "1 date")):
        rows = pd.DataFrame({"user_id": ["a", "b"], "timestamp": pd.Series(values, dtype=object), "amount": 1})
        with pytest.raises(DataError, match=f"has {kind} and 1 instant with an offset"):
            cl.termina.cohorts(rows)
        found = cl.termina.customer_cohorts(rows, timezone="Asia/Tokyo", assume_zone="Asia/Tokyo")
        assert found["cohort"].to_list() == ["2026-02", "2026-02"]
