"""Data faults of tables that are recomputed by the public calls: rows left out, kept, repeated, scaled or moved."""

from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypeAlias, runtime_checkable

import polars as pl

from cohortlib.errors import DataError

Mode: TypeAlias = Literal["drop", "only", "twice"]


@runtime_checkable
class FrameEdit(Protocol):
    """A fault of the remote rows, simulated on the local ones."""

    def apply(self, frame: pl.DataFrame, settings: dict[str, Any]) -> pl.DataFrame:
        """Return the rows with the fault."""


@dataclass(frozen=True)
class RowsOfValue:
    """Rows with a value in a column: left out, kept alone, or counted twice."""

    mode: Mode
    column: str
    value: Any

    def apply(self, frame: pl.DataFrame, settings: dict[str, Any]) -> pl.DataFrame:
        """Return the rows with the fault."""
        chosen = (frame[self.column] == self.value).fill_null(value=False)
        if self.mode == "twice":
            return pl.concat([frame, frame.filter(chosen)])
        return frame.filter(~chosen if self.mode == "drop" else chosen)


@dataclass(frozen=True)
class ScaledAmounts:
    """All amounts multiplied by a factor."""

    factor: float

    def apply(self, frame: pl.DataFrame, settings: dict[str, Any]) -> pl.DataFrame:
        """Return the rows with the fault."""
        return frame.with_columns(pl.col(settings["amount"]).cast(pl.Float64) * self.factor)


@dataclass(frozen=True)
class MovedDates:
    """All dates moved by days."""

    days: int

    def apply(self, frame: pl.DataFrame, settings: dict[str, Any]) -> pl.DataFrame:
        """Return the rows with the fault."""
        if not frame.schema[settings["timestamp"]].is_temporal():
            raise DataError("the dates are numbers", expected="dates")
        return frame.with_columns(pl.col(settings["timestamp"]).dt.offset_by(f"{self.days}d"))
