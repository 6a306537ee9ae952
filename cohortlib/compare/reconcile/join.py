"""Join two tables on their keys."""

import polars as pl

from cohortlib.compare.reconcile.fields import Field, Nature
from cohortlib.compare.reconcile.sides import written
from cohortlib.errors import DataError, SchemaError, listed


def as_the_other(frame: pl.DataFrame, other: pl.DataFrame) -> pl.DataFrame:
    """Read a table without a column, such as an empty list in JSON, as one without a row."""
    return frame if frame.width else other.clear()


def flattened(frame: pl.DataFrame, other: pl.DataFrame) -> pl.DataFrame:
    """Take a prediction apart into its fields."""
    kinds = [kind for kind in (frame.schema.get("predict"), other.schema.get("predict")) if isinstance(kind, pl.Struct)]
    if not kinds or "predict" not in frame.columns:
        return frame
    predicted = frame["predict"]
    if not isinstance(predicted.dtype, pl.Struct):
        if predicted.null_count() < len(predicted):
            return frame
        predicted = pl.Series("predict", [None] * len(predicted), kinds[0])
    return frame.drop("predict").hstack(predicted.struct.unnest().rename(lambda part: f"predict_{part}"))


def others_of(frame: pl.DataFrame, keys: tuple[str, ...]) -> str:
    """List the columns beside the keys."""
    return listed(name for name in frame.columns if name not in keys) or "none"


def alike_types(local: pl.Series, remote: pl.Series) -> tuple[pl.Series, pl.Series, Nature]:
    """Bring the values of a field to one type, without a loss where they are to be equal."""
    local = _plain(local, remote.dtype)
    remote = _plain(remote, local.dtype)
    types = local.dtype, remote.dtype
    if all(dtype.is_integer() for dtype in types):
        if types[0] != types[1]:
            local, remote = local.cast(pl.Int128), remote.cast(pl.Int128)
        return local, remote, "integer"
    if all(dtype.is_numeric() for dtype in types):
        if any(dtype.is_integer() for dtype in types) and (whole := _whole(local, remote)):
            return *whole, "integer"
        return local.cast(pl.Float64), remote.cast(pl.Float64), "number"
    if types[0] == types[1]:
        if types[0] == pl.Boolean:
            return local, remote, "truth"
        if types[0] == pl.String or types[0].is_temporal():
            return local.cast(pl.String), remote.cast(pl.String), "text"
        raise SchemaError(f"field {local.name!r} has type {types[0]}, which cannot be compared; expected numbers")
    raise SchemaError(
        f"field {local.name!r} has type {types[0]} in local and {types[1]} in remote, which cannot be compared"
    )


def _plain(values: pl.Series, other: pl.DataType) -> pl.Series:
    """Give values that are text, numbers or truths; what is null in every row may be of any type."""
    if values.dtype != other and values.null_count() == len(values):
        return values.cast(other, strict=False) if other != pl.Null else values
    if values.dtype == pl.Null:
        return values.cast(pl.Float64)
    if values.dtype in (pl.Categorical, pl.Enum):
        return values.cast(pl.String)
    if isinstance(values.dtype, pl.Decimal):
        return values.cast(pl.Float64 if values.dtype.scale else pl.Int128)
    return values


def _whole(local: pl.Series, remote: pl.Series) -> tuple[pl.Series, pl.Series] | None:
    """Read floats beside integers as integers, where all of them are."""
    sides = []
    for side in (local, remote):
        if side.dtype.is_float() and not (side.is_finite() & (side.abs() < 2.0**63) & (side == side.round())).all():
            return None
        sides.append(side.cast(pl.Int128))
    return sides[0], sides[1]


def has_nulls(pairs: pl.DataFrame, field: Field) -> bool:
    """Check whether a field is null anywhere, on either side."""
    return any(pairs[f"{side} {field.name}"].null_count() for side in ("local", "remote"))


def refuse_non_numbers(frame: pl.DataFrame, keys: tuple[str, ...], fields: tuple[Field, ...], side: str) -> None:
    """Raise if a number is NaN or infinite."""
    names = [field.name for field in fields if field.nature == "number"]
    for name, good in zip(names, frame.select(pl.col(names).is_finite().all()).row(0) if names else (), strict=True):
        if not good:
            row = frame.filter(~pl.col(name).is_finite()).row(0, named=True)
            where = written({key: row[key] for key in keys})
            raise DataError(f"field {name!r} of {side} is {row[name]} at {where}; expected a number or null")


def in_step(local: pl.DataFrame, remote: pl.DataFrame, keys: tuple[str, ...]) -> bool:
    """Tell whether the rows of both sides have the same keys in the same order: then there is nothing to join."""
    return local.height == remote.height and all(local[key].equals(remote[key]) for key in keys[::-1])


def joined_rows(
    local: pl.DataFrame, remote: pl.DataFrame, keys: tuple[str, ...], numbers: pl.Series, others: pl.Series
) -> tuple[pl.Series, pl.Series]:
    """Find the rows that both sides have, in the order of the local ones."""
    # One number is joined several times as fast as three keys, one of them a text. That equal numbers are of equal
    # keys is seen afterwards.
    found = _rows(pl.LazyFrame({"number": numbers}), pl.LazyFrame({"number": others}))
    left, right = local.select(keys)[found["local"]], remote.select(keys)[found["remote"]]
    if not all(left[key].equals(right[key]) for key in keys):
        found = _rows(local.lazy().select(keys), remote.lazy().select(keys))
    return found["local"], found["remote"]


def _rows(local: pl.LazyFrame, remote: pl.LazyFrame) -> pl.DataFrame:
    """Join two tables on all that they hold; give the places of the rows."""
    keys = local.collect_schema().names()
    found = local.with_row_index("local").join(remote.with_row_index("remote"), on=keys, how="inner")
    return found.select("local", "remote").sort("local").collect()
