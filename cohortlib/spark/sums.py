"""Sums of partitions: computed on the workers, added by Spark, returned to the driver with a note on the rows."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

import polars as pl

from cohortlib.errors import CohortlibError
from cohortlib.read.amounts import beyond_range
from cohortlib.read.ids import Doubts
from cohortlib.spark import frames
from cohortlib.spark.frames import Batches, Note
from cohortlib.spark.transactions import TABLES, PartitionedRows, PartitionReader, last_day_of
from cohortlib.transactions.additive import AdditiveTable, SumsSettings
from cohortlib.transactions.loaded import LoadedRows
from cohortlib.transactions.settings import Settings

_Sums = TypeVar("_Sums", bound=AdditiveTable)

_HALVES = ("_high", "_low")  # of each integer; their sums over partitions cannot overflow 64 bits


def add_partitions(rows: PartitionedRows, kind: type[_Sums], compute: Callable[[LoadedRows], _Sums]) -> _Sums:
    """Compute the sums of each partition, and add them; raise the errors and warnings of all.

    `kind` is the type of the sums, `compute` a function of a module, which Spark can send to its workers.
    """
    settings = rows.settings
    if settings.joined is not None:
        # Whether a join date is after the last period must be known in every partition.
        notes = rows.frame.selectExpr("instant").mapInArrow(_LastDay(rows.reader), "note string").toArrow()
        _, last = settings.bounds(Note.all(pl.DataFrame(notes)["note"]).last_day)
        rows = rows.ending(last)
    partial = rows.by_user().mapInArrow(_PartitionSums(rows.reader, kind, compute), frames.ddl(_partial(kind)))
    keys, values = (*kind.keys, "note"), [name for name in _partial(kind) if name.endswith(_HALVES)]
    table = pl.DataFrame(partial.groupBy(*keys).sum(*values).toDF(*keys, *values).toArrow())
    note = Note.all(table["note"].drop_nulls())
    check_note(note, settings, rows.reader.names)
    if note.magnitude >= 2**63:
        raise beyond_range(f"column {settings.amount!r}", settings.decimals)
    cells = table.filter(pl.col("note").is_null()).with_columns(**whole(_values(kind))).select(*kind.columns)
    return kind(SumsSettings.of(settings), cells.sort(kind.keys), note.last_day, note.magnitude)


def check_note(note: Note, settings: Settings, names: Iterable[str]) -> None:
    """Raise or warn about what the notes of all partitions report; `names` are the columns with nulls, in order."""
    for what, nulls in zip(TABLES, (note.dropped, note.dropped_joined), strict=True):
        dropped = frames.in_order(nulls, names)
        if dropped.count and settings.nulls == "error":
            raise dropped.error(what)
        dropped.warn(what)
    Doubts(note.null_words).warn(settings.user, settings.normalize)
    if settings.joined is not None:
        note.fit.check(settings.before_joined)


def halves(names: Iterable[str]) -> dict[str, pl.Expr]:
    """Return the halves of columns of integers, under the names that Spark adds up."""
    high = {f"{name}_high": pl.col(name) // 2**32 for name in names}
    return high | {f"{name}_low": pl.col(name) & (2**32 - 1) for name in names}


def whole(names: Iterable[str]) -> dict[str, pl.Expr]:
    """Return columns of integers from the sums of their halves."""
    return {name: pl.col(f"{name}_high") * 2**32 + pl.col(f"{name}_low") for name in names}


def _values(kind: type[AdditiveTable]) -> list[str]:
    return [name for name in kind.columns if name not in kind.keys]


def _partial(kind: type[AdditiveTable]) -> dict[str, Any]:
    """Return the columns that a worker returns: sums, or in other rows a note."""
    names = [f"{name}{half}" for name in _values(kind) for half in _HALVES]
    return dict.fromkeys((*kind.keys, *names), pl.Int64) | {"note": pl.String}


@dataclass(frozen=True)
class _PartitionSums(Generic[_Sums]):
    """Sum the users of a partition."""

    reader: PartitionReader
    kind: type[_Sums]
    compute: Callable[[LoadedRows], _Sums]

    def __call__(self, batches: Batches) -> Batches:
        sums = None
        try:
            loaded, note = self.reader.load(batches)
            if loaded is not None:
                sums = self.compute(loaded).table
                if loaded.netting is not None and loaded.settings.joined is not None:
                    note = replace(note, fit=loaded.netting.fit())
        except CohortlibError as error:
            note, sums = Note.of(error), None
        if sums is not None:
            sums = sums.with_columns(**halves(_values(self.kind)), note=pl.lit(None, pl.String))
            yield from frames.batches(sums, _partial(self.kind))
        if note != Note():
            yield from frames.batches(
                pl.DataFrame([{"note": note.to_json()}], schema=_partial(self.kind)), _partial(self.kind)
            )


@dataclass(frozen=True)
class _LastDay:
    """Find the last day of a partition."""

    reader: PartitionReader

    def __call__(self, batches: Batches) -> Batches:
        frame = frames.read(batches)
        if frame is not None:
            try:
                instants = self.reader.parsed.instants(frame.to_series(0))
                note = Note(last_day_of(instants, self.reader.settings))
            except CohortlibError as error:
                note = Note.of(error)
            yield from frames.batches(pl.DataFrame({"note": [note.to_json()]}), {"note": pl.String})
