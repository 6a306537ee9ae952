"""Frames of Spark: their columns, their partitions of users, and what comes back from these.

A worker never raises what a user should read, and never warns: it writes that down in a note, a row beside its sums,
and the notes of all partitions are read here. So the words are those of the local run, without a trace of Java.
"""

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field, replace
from difflib import get_close_matches
from secrets import token_hex
from typing import TYPE_CHECKING, Any, TypeAlias

import polars as pl

from cohortlib import errors
from cohortlib.errors import CohortlibError, SchemaError, SettingError, listed
from cohortlib.read.nulls import Dropped
from cohortlib.transactions.joined import JoinedFit

if TYPE_CHECKING:
    import pyarrow as pa
    from pyspark.sql import DataFrame as SparkFrame


Batches: TypeAlias = "Iterator[pa.RecordBatch]"

_KINDS: dict[str, pl.DataType] = {
    "tinyint": pl.Int8(),
    "smallint": pl.Int16(),
    "int": pl.Int32(),
    "bigint": pl.Int64(),
    "float": pl.Float32(),
    "double": pl.Float64(),
    "boolean": pl.Boolean(),
    "date": pl.Date(),
    "timestamp": pl.Datetime("us", "UTC"),
    "timestamp_ntz": pl.Datetime("us"),
    "binary": pl.Binary(),
    "void": pl.Null(),
}
_DECIMAL = re.compile(r"decimal\((\d+),(\d+)\)")
_TEXT = re.compile(r"(string|varchar|char)\b")


# ---------------------------------------------------------------------------------------------------------- columns


def check_frame(frame: object, what: str = "the transactions") -> None:
    """Refuse what is no frame of Spark."""
    if not (hasattr(frame, "mapInArrow") and hasattr(frame, "selectExpr")):
        raise SchemaError(
            f"{what}: a {type(frame).__qualname__} is no frame of Spark; expected a pyspark.sql.DataFrame, classic or "
            "of Spark Connect. Hint: cohortlib.termina and cohortlib.adapty take files and frames in memory"
        )


def check_partitions(partitions: int | None) -> None:
    """Refuse what is no number of partitions."""
    if partitions is not None and (type(partitions) is not int or partitions < 1):
        raise SettingError(f"partitions={partitions!r} is not a number of partitions; expected 1 or more, or None")


def check_columns(frame: "SparkFrame", names: dict[str, str]) -> None:
    """Refuse names of columns, by role, that a frame lacks."""
    there = frame.columns
    for role, name in names.items():
        if name not in there:
            near = get_close_matches(name, there, 1)
            hint = f"{role}={near[0]!r}" if near else f"name the columns with {'=, '.join(names)}="
            raise SchemaError(f"column {name!r} is not in the table; columns are {listed(there)}. Hint: {hint}")


def kinds(frame: "SparkFrame") -> dict[str, str]:
    """Give the type of each column as Spark's SQL writes it."""
    return {field.name: field.dataType.simpleString() for field in frame.schema.fields}


def empty(kinds: dict[str, str], *, strict: bool = True) -> pl.DataFrame:
    """Make the frame without rows that a worker would see; `strict` refuses types that no column may have."""
    return pl.DataFrame(schema={name: _kind(name, kind, strict=strict) for name, kind in kinds.items()})


def _kind(name: str, kind: str, *, strict: bool) -> pl.DataType:
    decimal = _DECIMAL.fullmatch(kind)
    if decimal:
        return pl.Decimal(int(decimal[1]), int(decimal[2]))
    if _TEXT.match(kind):
        return pl.String()
    if kind not in _KINDS and not strict:
        return pl.Null()
    if kind not in _KINDS:
        raise SchemaError(f"column {name!r} is {kind}; expected text, numbers, dates or instants. Hint: cast it")
    return _KINDS[kind]


def quoted(name: str) -> str:
    """Write a column's name as Spark's SQL takes it, whatever is in it."""
    return f"`{name.replace('`', '``')}`"


# ----------------------------------------------------------------------------------------------------- in a worker


def read(batches: Batches) -> pl.DataFrame | None:
    """Put the batches of a partition together; None where there is no row.

    Instants come in the time zone of the session. The integers behind them do not depend on it, and UTC is put in its
    place at once, without a look at any calendar.
    """
    import pyarrow as pa

    kept = [batch for batch in batches if batch.num_rows]
    if not kept:
        return None
    table = pa.Table.from_batches(kept)
    for at, (name, kind) in enumerate(zip(table.schema.names, table.schema.types, strict=True)):
        if pa.types.is_timestamp(kind) and kind.tz is not None:
            utc = pa.timestamp(kind.unit, "UTC")
            table = table.set_column(at, pa.field(name, utc), table.column(at).cast(utc))
    frame = pl.from_arrow(table)
    return frame if isinstance(frame, pl.DataFrame) else None


def batches(frame: pl.DataFrame, schema: dict[str, Any]) -> Batches:
    """Give a frame as batches of the types that Spark knows: text in offsets of 32 bits."""
    import pyarrow as pa

    types = {pl.Int64: pa.int64(), pl.Float64: pa.float64(), pl.String: pa.string()}
    fields = pa.schema([(name, types[kind]) for name, kind in schema.items()])
    yield from frame.select(*schema).to_arrow().cast(fields).to_batches(max_chunksize=1 << 16)


def ddl(schema: dict[str, Any]) -> str:
    """Write the types of a frame as Spark's SQL does."""
    types = {pl.Int64: "bigint", pl.Float64: "double", pl.String: "string"}
    return ", ".join(f"{quoted(name)} {types[kind]}" for name, kind in schema.items())


# ------------------------------------------------------------------------------------------------------------ notes


def in_order(dropped: Dropped, names: Iterable[str]) -> Dropped:
    """Put the columns with nulls in an order, whichever partition told of them first."""
    told = Counter({name: dropped.nulls[name] for name in names if dropped.nulls[name]})
    return replace(dropped, nulls=told | dropped.nulls)


@dataclass(frozen=True)
class Note:
    """What a partition has to say beside its sums; the notes of disjoint users add.

    `error` is the name and the message of one.
    """

    last_day: int | None = None
    magnitude: int = 0
    dropped: Dropped = field(default_factory=Dropped)
    dropped_joined: Dropped = field(default_factory=Dropped)
    fit: JoinedFit = field(default_factory=JoinedFit)
    error: tuple[str, str] | None = None

    @classmethod
    def of(cls, error: CohortlibError) -> "Note":
        """Write an error down."""
        return cls(error=(type(error).__name__, str(error)))

    def __add__(self, other: "Note") -> "Note":
        days = [note.last_day for note in (self, other) if note.last_day is not None]
        return Note(
            max(days, default=None),
            self.magnitude + other.magnitude,
            self.dropped + other.dropped,
            self.dropped_joined + other.dropped_joined,
            self.fit + other.fit,
            min((note.error for note in (self, other) if note.error), default=None),
        )

    def written(self) -> str:
        """Write the note as text, no two the same, so that no engine takes them for one."""
        drops = {name: vars(getattr(self, name)) for name in ("dropped", "dropped_joined")}
        return json.dumps(vars(self) | drops | {"fit": asdict(self.fit), "key": token_hex(8)})

    @classmethod
    def read(cls, text: str) -> "Note":
        """Read what :meth:`written` wrote."""
        told = json.loads(text)
        for name in ("dropped", "dropped_joined"):
            told[name] = Dropped(told[name]["rows"], told[name]["count"], Counter(told[name]["nulls"]))
        error = told["error"] and tuple(told["error"])
        return cls(told["last_day"], told["magnitude"], told["dropped"], told["dropped_joined"],
                   JoinedFit(**told["fit"]), error)  # fmt: skip

    @classmethod
    def all(cls, texts: Iterable[str]) -> "Note":
        """Add up the notes of all partitions, and raise the error that one of them tells."""
        note = sum(map(cls.read, texts), cls())
        if note.error is not None:
            name, message = note.error
            raise getattr(errors, name, CohortlibError)(message)
        return note
