"""Parse text columns of a Spark frame by the rule for files, so that partitions cannot differ in what they read.

A first pass counts what is wrong over all rows, and whether instants have an offset. A second one parses, before the
rows are repartitioned, since ids that :func:`cohortlib.read.ids.clean_ids` makes equal must meet in one partition.
"""

import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import polars as pl

from cohortlib.engine.kernels.instants import ZONED
from cohortlib.read.amounts import as_decimal
from cohortlib.read.faults import Faults
from cohortlib.read.ids import clean_ids
from cohortlib.read.text import is_text
from cohortlib.read.transactions import Columns, TransactionReader
from cohortlib.spark import frames
from cohortlib.spark.frames import Batches, quoted
from cohortlib.transactions.settings import Settings

if TYPE_CHECKING:
    import pyarrow as pa
    from pyspark.sql import DataFrame as SparkFrame


@dataclass(frozen=True)
class Parsed:
    """How parsed columns came: instants as microseconds, with or without an offset, and amounts as units.

    None or False stand for columns that were not parsed.
    """

    zoned: bool | None = None
    in_units: bool = False

    def instants(self, column: pl.Series) -> pl.Series:
        """Return the column of instants with its type."""
        return column if self.zoned is None else column.cast(pl.Datetime("us", "UTC" if self.zoned else None))

    def typed(self, frame: pl.DataFrame, decimals: int) -> pl.DataFrame:
        """Return a frame of user, instant, amount and other columns with their types."""
        frame = frame.with_columns(self.instants(frame.to_series(1)))
        return frame.with_columns(as_decimal(pl.nth(2), decimals)) if self.in_units else frame


NOT_PARSED = Parsed()


def needs_parsing(frame: "SparkFrame", settings: Settings) -> bool:
    """Return whether some columns (user, instant, amount) are text, or numbers since an epoch, or take a zone."""
    user, instant, amount = _dtypes(frame)
    rules = settings.columns.rules
    return (
        is_text(instant) or is_text(amount)
        or instant.is_numeric() or rules.assume_zone is not None
        or (rules.normalize is not None and is_text(user))
    )  # fmt: skip


def parse(frame: "SparkFrame", settings: Settings, *, tagged: bool) -> tuple["SparkFrame", Parsed]:
    """Parse the first three columns of a frame; raise DataError with counts over all rows.

    With `tagged`, a last column is true for transactions; the other rows have neither instant nor amount.
    """
    columns = replace(settings.columns, user="user_key", timestamp="instant", amount="amount", nulls="drop", workers=1)
    transactions = frame.where("is_transaction") if tagged else frame
    selected = transactions.selectExpr("user_key", "instant", "amount")
    faults = Faults(replace(columns, user=settings.user, timestamp=settings.timestamp, amount=settings.amount))
    for text in pl.DataFrame(selected.mapInArrow(_Survey(columns), "faults string").toArrow())["faults"]:
        faults.add_counts(json.loads(text))
    error = faults.error(lambda _: "the Spark frame")
    if error is not None:
        raise error
    zoned = columns.rules.assume_zone is not None or bool(faults.kinds[ZONED])
    in_units = is_text(_dtypes(frame)[2])
    types = frames.kinds(frame) | {"instant": "bigint"} | ({"amount": "bigint"} if in_units else {})
    schema = ", ".join(f"{quoted(name)} {kind}" for name, kind in types.items())
    return frame.mapInArrow(_Parse(columns, in_units), schema), Parsed(zoned, in_units)


def _dtypes(frame: "SparkFrame") -> list[pl.DataType]:
    kinds = frames.kinds(frame)
    return frames.empty({name: kinds[name] for name in ("user_key", "instant", "amount")}).dtypes


@dataclass(frozen=True)
class _Survey:
    """Count what is wrong in a partition."""

    columns: Columns

    def __call__(self, batches: Batches) -> Batches:
        frame = frames.read(batches)
        if frame is not None:
            faults = Faults(self.columns)
            faults.add(frame)
            text = json.dumps(faults.to_dict())
            yield from frames.batches(pl.DataFrame({"faults": [text]}), {"faults": pl.String})


@dataclass(frozen=True)
class _Parse:
    """Parse the rows of a partition: instants to microseconds, amounts in text to units, ids to clean ids."""

    columns: Columns
    in_units: bool

    def __call__(self, batches: Batches) -> Batches:
        for batch in batches:
            if batch.num_rows:
                yield self._parsed(batch)

    def _parsed(self, batch: "pa.RecordBatch") -> "pa.RecordBatch":
        import pyarrow as pa

        frame = frames.read(iter([batch.select(["user_key", "instant", "amount"])]))
        if frame is None:
            return batch
        reader = TransactionReader(self.columns)
        user, instant, amount = frame.get_columns()
        columns = {"instant": reader.instants(instant).cast(pl.Datetime("us")).to_physical()}
        if is_text(user.dtype):
            columns["user_key"] = clean_ids(user, self.columns.rules.normalize, None)
        if self.in_units:
            columns["amount"] = reader.amounts(amount)
        arrays = []
        for name in batch.schema.names:
            if name in columns:
                kind = pa.string() if columns[name].dtype == pl.String else pa.int64()
                arrays.append(columns[name].to_arrow().cast(kind))
            else:
                arrays.append(batch.column(name))
        return pa.RecordBatch.from_arrays(arrays, names=batch.schema.names)
