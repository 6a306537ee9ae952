"""Agree on one type for a column over all batches."""

import polars as pl

from cohortlib.adapty.read import columns
from cohortlib.adapty.read.names import MONEY
from cohortlib.errors import SchemaError


def stacked_rows(frames: list[pl.DataFrame]) -> pl.DataFrame:
    """Put frames one under another; what one of them lacks is null there."""
    if len(frames) == 1:
        return frames[0]
    kinds = Kinds()
    for frame in frames:
        kinds.add(frame)
    types = kinds.common()
    return pl.concat(in_types(frame, types) for frame in frames)


class Kinds:
    """The types that the columns of some frames have; a column without a value has no say."""

    def __init__(self) -> None:
        self._all: dict[str, pl.DataType] = {}
        self._told: dict[str, dict[pl.DataType, None]] = {}

    def add(self, frame: pl.DataFrame) -> None:
        """Take note of a frame."""
        for column in frame.iter_columns():
            self._all.setdefault(column.name, column.dtype)
            if column.null_count() < len(column):
                self._told.setdefault(column.name, {})[column.dtype] = None

    def common(self) -> dict[str, pl.DataType]:
        """Give each column the type in which all frames fit."""
        return {name: _common(name, list(self._told.get(name, [kind]))) for name, kind in self._all.items()}


def in_types(frame: pl.DataFrame, types: dict[str, pl.DataType]) -> pl.DataFrame:
    """Bring a frame to some columns; what it lacks is null."""
    return frame.select(
        (pl.col(name) if name in frame.columns else pl.lit(None)).cast(kind).alias(name) for name, kind in types.items()
    )


def _common(name: str, kinds: list[pl.DataType]) -> pl.DataType:
    """Find the type in which the pieces of one column fit."""
    if len(kinds) == 1:
        return kinds[0]
    if all(isinstance(kind, pl.Datetime) for kind in kinds):
        return columns.UTC
    if name in MONEY and all(kind.is_integer() for kind in kinds):
        return pl.Int64()
    if name in MONEY:
        return pl.Float64()
    raise SchemaError(
        f"column {name!r} is {kinds[0]} in one file and {kinds[1]} in another; expected one type. "
        "Hint: read the files yourself and cast it"
    )
