"""Columns of values that carry their types, as JSON and Excel have them: each value is read by itself."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, time
from typing import Any

import polars as pl

from cohortlib.errors import SchemaError, SourceError
from cohortlib.read.tables import first_line

_INT64 = 2**63
_NAMES = {"whole": "number", "float": "number", "text": "text", "bool": "boolean", "date": "date", "time": "date"}
_TYPES = {"whole": pl.Int64(), "float": pl.Float64(), "text": pl.String(), "bool": pl.Boolean(), "date": pl.Date(),
          "time": pl.Datetime("us")}  # fmt: skip


def kind_of(value: object) -> str | None:
    """Return the kind of a value; None for null."""
    if value is None:
        return None
    if isinstance(value, str):
        return "text"
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, int):
        return "whole" if -_INT64 <= value < _INT64 else "float"
    if isinstance(value, float):
        return "float"
    if isinstance(value, datetime):
        return "time" if value.tzinfo is None else "other"
    return "date" if isinstance(value, date) else "other"


def counted(count: int, word: str) -> str:
    """Return a count with its word: ``1 text``, ``2 texts``."""
    return f"{count:,} {word}" if count == 1 else f"{count:,} {word}s"


@dataclass
class Kinds:
    """What the values of a column are: the count of each kind, and where the first of each stands."""

    name: str
    counts: dict[str, int] = field(default_factory=dict)
    firsts: dict[str, tuple[object, str]] = field(default_factory=dict)

    def add(self, values: Iterable[object], place: "Places") -> None:
        """Count values."""
        for index, value in enumerate(values):
            kind = kind_of(value)
            if kind is None:
                continue
            if kind not in self.counts:
                self.firsts[kind] = (value, place(index))
            self.counts[kind] = self.counts.get(kind, 0) + 1

    def dtype(self) -> pl.DataType:
        """Return the type of the column; raise SchemaError if its values have more than one meaning."""
        kinds = set(self.counts)
        if "other" in kinds:
            value, where = self.firsts["other"]
            raise SchemaError(
                f"{where}: column {self.name!r} holds a {type(value).__name__} "
                f"({counted(self.counts['other'], 'value')} that cannot be used)",
                value=value,
                expected="a number, a text, a date or null",
            )
        named = sorted({_NAMES[kind] for kind in kinds})
        if len(named) > 1:
            counts = {name: sum(self.counts[kind] for kind in kinds if _NAMES[kind] == name) for name in named}
            rare = min(kinds, key=lambda kind: (self.counts[kind], kind))
            value, where = self.firsts[rare]
            shown = " and ".join(counted(count, name) for name, count in counts.items())
            raise SchemaError(
                f"column {self.name!r} holds {shown}; {where} has {value!r}",
                value=value,
                expected="values of one kind",
            )
        for widest in ("float", "time"):
            if widest in kinds:
                return _TYPES[widest]
        return _TYPES[kinds.pop()] if kinds else pl.Null()


class Places:
    """Where the rows of a batch stand: a file, and the number of each."""

    def __init__(self, path: str, word: str, numbers: Sequence[int]) -> None:
        self._path, self._word, self._numbers = path, word, numbers

    def __call__(self, row: int) -> str:
        """Describe a row of the batch."""
        return f"{self._path}, {self._word} {self._numbers[row]:,}"


def typed_frame(values: dict[str, list[Any]], schema: pl.Schema) -> pl.DataFrame:
    """Return columns of values in types that hold all of them."""
    columns = []
    for name, dtype in schema.items():
        column = values[name]
        if dtype == pl.Float64:
            column = [None if value is None else _as_float(value) for value in column]
        elif dtype == pl.Datetime:
            column = [datetime.combine(value, time()) if kind_of(value) == "date" else value for value in column]
        elif dtype == pl.String:
            column = [value or None for value in column]
        try:
            columns.append(pl.Series(name, column, dtype=dtype))
        except UnicodeEncodeError as error:
            raise SchemaError(f"column {name!r} holds text that is not Unicode: {first_line(error)}") from error
    return pl.DataFrame(columns)


def _as_float(value: float) -> float:
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def missing_column(path: str, name: str) -> SourceError:
    """Return the error for a file without a column that others have."""
    return SourceError(f"{path!r} has no column {name!r}", expected="the same columns in all files")
