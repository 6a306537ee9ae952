"""Agree on one type per column over frames that are read separately: files, batches, parts of a table."""

import polars as pl

from cohortlib.adapty.read.readers import UTC, beginnings
from cohortlib.adapty.read.specs import MONEY
from cohortlib.errors import SchemaError


def concatenated(frames: list[pl.DataFrame], zone: str) -> pl.DataFrame:
    """Concatenate frames in common types; missing columns become null, and dates among instants begin in `zone`."""
    if len(frames) == 1:
        return frames[0]
    types = ColumnTypes()
    for frame in frames:
        types.add(frame)
    common = types.common()
    return pl.concat(cast_to(frame, common, zone) for frame in frames)


class ColumnTypes:
    """The types of each column over some frames; a column of nulls only does not affect the common type."""

    def __init__(self) -> None:
        self._first: dict[str, pl.DataType] = {}
        self._seen: dict[str, dict[pl.DataType, None]] = {}

    def add(self, frame: pl.DataFrame) -> None:
        """Add the types of a frame."""
        for column in frame.iter_columns():
            self._first.setdefault(column.name, column.dtype)
            if column.null_count() < len(column):
                self._seen.setdefault(column.name, {})[column.dtype] = None

    def common(self) -> dict[str, pl.DataType]:
        """Return, for each column, the type that holds its values in all frames."""
        return {name: _common(name, list(self._seen.get(name, [kind]))) for name, kind in self._first.items()}


def cast_to(frame: pl.DataFrame, types: dict[str, pl.DataType], zone: str) -> pl.DataFrame:
    """Cast a frame to some columns and types; missing columns become null, and dates among instants begin in `zone`."""
    dates = [name for name, kind in types.items() if kind != pl.Date and frame.schema.get(name) == pl.Date]
    frame = frame.with_columns(beginnings(frame[name], zone) for name in dates)
    return frame.select(
        (pl.col(name) if name in frame.columns else pl.lit(None)).cast(kind).alias(name) for name, kind in types.items()
    )


def _common(name: str, kinds: list[pl.DataType]) -> pl.DataType:
    if len(kinds) == 1:
        return kinds[0]
    if all(kind == pl.Date or isinstance(kind, pl.Datetime) for kind in kinds):
        return UTC
    if name in MONEY:
        if all(kind.is_integer() for kind in kinds):
            return pl.Int64()
        scales = [kind.scale for kind in kinds if isinstance(kind, pl.Decimal)]
        return pl.Float64() if any(kind.is_float() for kind in kinds) else pl.Decimal(38, max(scales))
    raise SchemaError(
        f"column {name!r} is {kinds[0]} in one file and {kinds[1]} in another",
        expected="one type",
        hint="read the files yourself and cast it",
    )
