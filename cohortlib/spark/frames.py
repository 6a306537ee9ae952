"""Spark frames: their columns, batches of a partition, and notes that workers send to the driver.

Workers neither raise nor warn. They write errors and counts to a :class:`Note`, a row next to the sums. The driver adds
the notes of all partitions and raises or warns, with the messages of a local run and without Java tracebacks.
"""

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field, replace
from itertools import zip_longest
from secrets import token_hex
from typing import TYPE_CHECKING, Any, TypeAlias

import polars as pl

from cohortlib import errors
from cohortlib.errors import Arg, CohortlibError, SchemaError, SettingError, listed
from cohortlib.read.nulls import Dropped
from cohortlib.read.tables import closest
from cohortlib.transactions.joined import JoinedFit

if TYPE_CHECKING:
    import pyarrow as pa
    from pyspark.sql import DataFrame as SparkFrame


Batches: TypeAlias = "Iterator[pa.RecordBatch]"

_DTYPES: dict[str, pl.DataType] = {
    "tinyint": pl.Int8(), "smallint": pl.Int16(), "int": pl.Int32(), "bigint": pl.Int64(),
    "float": pl.Float32(), "double": pl.Float64(), "boolean": pl.Boolean(), "binary": pl.Binary(), "void": pl.Null(),
    "date": pl.Date(), "timestamp": pl.Datetime("us", "UTC"), "timestamp_ntz": pl.Datetime("us"),
}  # fmt: skip
_DECIMAL = re.compile(r"decimal\((\d+),(\d+)\)")
_TEXT = re.compile(r"(string|varchar|char)\b")


def check_frame(frame: object, name: str = "the transactions") -> None:
    """Raise SchemaError unless a value is a Spark frame."""
    if not (hasattr(frame, "mapInArrow") and hasattr(frame, "selectExpr")):
        raise SchemaError(
            f"{name}: {type(frame).__qualname__} is not a Spark frame",
            expected="a pyspark.sql.DataFrame, classic or of Spark Connect",
            hint="cohortlib.termina and cohortlib.adapty take files and frames in memory",
        )


def check_partitions(partitions: int | None) -> None:
    """Raise SettingError unless a value is a number of partitions."""
    if partitions is not None and (type(partitions) is not int or partitions < 1):
        what = (Arg("partitions", partitions), " is not a number of partitions")
        raise SettingError(what, value=partitions, expected="1 or more, or None")


def check_columns(frame: "SparkFrame", names: dict[str, str]) -> None:
    """Raise SchemaError unless a frame has all columns; `names` are by setting."""
    columns = frame.columns
    for setting, name in names.items():
        if name not in columns:
            close = closest(name, columns)
            every = [part for each in names for part in (Arg(each), ", ")][:-1]
            raise SchemaError(
                f"column {name!r} is not in the table; its columns are {listed(columns)}",
                value=name,
                hint=Arg(setting, close) if close else ("set the columns with ", *every),
            )


def kinds(frame: "SparkFrame") -> dict[str, str]:
    """Return the type of each column in Spark SQL."""
    return {field.name: field.dataType.simpleString() for field in frame.schema.fields}


def empty(kinds: dict[str, str], *, strict: bool = True) -> pl.DataFrame:
    """Return a frame without rows with the dtypes that a worker sees.

    With `strict`, types that no column can have raise SchemaError; otherwise they become Null.
    """
    return pl.DataFrame(schema={name: _dtype(name, kind, strict=strict) for name, kind in kinds.items()})


def _dtype(name: str, kind: str, *, strict: bool) -> pl.DataType:
    decimal = _DECIMAL.fullmatch(kind)
    if decimal:
        return pl.Decimal(int(decimal[1]), int(decimal[2]))
    if _TEXT.match(kind):
        return pl.String()
    if kind not in _DTYPES and not strict:
        return pl.Null()
    if kind not in _DTYPES:
        raise SchemaError(f"column {name!r} is {kind}", expected="text, numbers, dates or instants", hint="cast it")
    return _DTYPES[kind]


def quoted(name: str) -> str:
    """Quote a column name for Spark SQL."""
    return f"`{name.replace('`', '``')}`"


def read(batches: Batches) -> pl.DataFrame | None:
    """Concatenate the batches of a partition; return None without rows.

    Instants arrive in the session's time zone. Their integers do not depend on it, so the zone is replaced by UTC.
    """
    import pyarrow as pa

    filled = [batch for batch in batches if batch.num_rows]
    if not filled:
        return None
    table = pa.Table.from_batches(filled)
    for at, (name, kind) in enumerate(zip(table.schema.names, table.schema.types, strict=True)):
        if pa.types.is_timestamp(kind) and kind.tz is not None:
            utc = pa.timestamp(kind.unit, "UTC")
            table = table.set_column(at, pa.field(name, utc), table.column(at).cast(utc))
    frame = pl.from_arrow(table)
    return frame if isinstance(frame, pl.DataFrame) else None


def batches(frame: pl.DataFrame, schema: dict[str, Any]) -> Batches:
    """Split a frame into batches of types that Spark supports: strings have 32-bit offsets."""
    import pyarrow as pa

    types = {pl.Int64: pa.int64(), pl.Float64: pa.float64(), pl.String: pa.string()}
    fields = pa.schema([(name, types[kind]) for name, kind in schema.items()])
    yield from frame.select(*schema).to_arrow().cast(fields).to_batches(max_chunksize=1 << 16)


def ddl(schema: dict[str, Any]) -> str:
    """Return a schema in Spark SQL."""
    types = {pl.Int64: "bigint", pl.Float64: "double", pl.String: "string"}
    return ", ".join(f"{quoted(name)} {types[kind]}" for name, kind in schema.items())


def in_order(dropped: Dropped, names: Iterable[str]) -> Dropped:
    """Sort the columns with nulls by `names`, because partitions report them in any order."""
    nulls = Counter({name: dropped.nulls[name] for name in names if dropped.nulls[name]})
    return replace(dropped, nulls=nulls | dropped.nulls)


@dataclass(frozen=True)
class Note:
    """What a partition reports apart from its sums; notes of disjoint users add."""

    last_day: int | None = None
    magnitude: int = 0
    dropped: Dropped = field(default_factory=Dropped)
    dropped_joined: Dropped = field(default_factory=Dropped)
    fit: JoinedFit = field(default_factory=JoinedFit)
    null_words: Counter[str] = field(default_factory=Counter)  # users that are text for a missing value
    magnitudes: tuple[int, ...] = ()  # of the amounts of the general table
    error: tuple[str, str, str, str] | None = None  # the class of an error, and its `what`, `expected` and `hint`

    @classmethod
    def of(cls, error: CohortlibError) -> "Note":
        """Return the note of an error."""
        what, expected, hint = (CohortlibError(text).text() for text in (error.what, error.expected, error.hint))
        return cls(error=(type(error).__name__, what, expected, hint))

    def __add__(self, other: "Note") -> "Note":
        days = [note.last_day for note in (self, other) if note.last_day is not None]
        error = min((note.error for note in (self, other) if note.error), default=None)
        return Note(
            max(days, default=None), self.magnitude + other.magnitude, self.dropped + other.dropped,
            self.dropped_joined + other.dropped_joined, self.fit + other.fit, self.null_words + other.null_words,
            tuple(map(sum, zip_longest(self.magnitudes, other.magnitudes, fillvalue=0))), error,
        )  # fmt: skip

    def to_json(self) -> str:
        """Serialize the note. A random key makes every text unique, so that grouping keeps all notes."""
        drops = {name: vars(getattr(self, name)) for name in ("dropped", "dropped_joined")}
        return json.dumps(vars(self) | drops | {"fit": asdict(self.fit), "key": token_hex(8)})

    @classmethod
    def from_json(cls, text: str) -> "Note":
        """Parse a note."""
        values = json.loads(text)
        for name in ("dropped", "dropped_joined"):
            values[name] = Dropped(values[name]["rows"], values[name]["count"], Counter(values[name]["nulls"]))
        error = values["error"] and tuple(values["error"])
        return cls(values["last_day"], values["magnitude"], values["dropped"], values["dropped_joined"],
                   JoinedFit(**values["fit"]), Counter(values["null_words"]),
                   tuple(values["magnitudes"]), error)  # fmt: skip

    @classmethod
    def all(cls, texts: Iterable[str]) -> "Note":
        """Add the notes of all partitions, and raise the error of any."""
        note = sum(map(cls.from_json, texts), cls())
        if note.error is not None:
            name, what, expected, hint = note.error
            raise getattr(errors, name, CohortlibError)(what, expected=expected, hint=hint)
        return note
