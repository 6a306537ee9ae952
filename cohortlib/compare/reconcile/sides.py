"""From whatever a side is to its tables, with keys that can be joined."""

from pathlib import Path
from typing import TypeAlias

import polars as pl

from cohortlib.adapty.answer import Answer
from cohortlib.compare.reconcile.files import SEGMENTS, VALUES, read
from cohortlib.errors import DataError, SchemaError, SourceError, listed
from cohortlib.read.tables import ArrowStream, first_line

Side: TypeAlias = pl.DataFrame | pl.LazyFrame | Answer | ArrowStream | str | Path

# What each kind of table has one row for; the first whose keys are all there is the kind.
KINDS: dict[str, tuple[str, ...]] = {
    "customer cohorts": ("cohort", "user_id", "period"),
    "cohorts": ("cohort", "period"),
    "values of segments": ("segment_start_date", "type", "period"),
    "segments": ("segment_start_date", "type"),
    "accounting": ("date",),
}
_ODD = (0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9)


def tables(side: Side, name: str) -> dict[str, pl.DataFrame]:
    """Give the tables of a side: one without a name, or the two of an Answer."""
    if isinstance(side, Answer):
        return {SEGMENTS: side.segments, VALUES: side.values}
    if isinstance(side, str | Path):
        return read(str(side))
    if isinstance(side, pl.DataFrame):
        return {"": side}
    try:
        if isinstance(side, pl.LazyFrame):
            return {"": side.collect()}
        if hasattr(side, "__arrow_c_stream__"):
            return {"": pl.DataFrame(side)}
    except Exception as error:
        raise SourceError(f"{name}, a {type(side).__qualname__}, cannot be read: {first_line(error)}") from error
    raise SchemaError(
        f"{name} is a {type(side).__qualname__}, which is no table; expected a polars frame, an Answer, the path of a "
        "file, or an object with __arrow_c_stream__ (pandas, pyarrow, DuckDB)"
    )


def keys_of(local: pl.DataFrame, remote: pl.DataFrame) -> tuple[str, ...]:
    """Find the keys of two tables, which must be of one kind."""
    kinds = {name: _kind(frame) for name, frame in (("local", local), ("remote", remote)) if frame.width}
    for name, frame in (("local", local), ("remote", remote)):
        if name in kinds and kinds[name] is None:
            raise SchemaError(
                f"{name} has no keys that are known: its columns are {listed(frame.columns)}; expected "
                + ", or ".join(" and ".join(keys) for keys in KINDS.values())
            )
    if not kinds:
        raise SchemaError("neither side has a column")
    found = list(dict.fromkeys(kinds.values()))
    if len(found) > 1:
        said = " and ".join(f"{name} holds {kind} ({', '.join(KINDS[str(kind)])})" for name, kind in kinds.items())
        raise SchemaError(f"{said}; expected tables of one kind")
    return KINDS[str(found[0])]


def _kind(frame: pl.DataFrame) -> str | None:
    return next((kind for kind, keys in KINDS.items() if set(keys) <= set(frame.columns)), None)


def join_ready(local: pl.DataFrame, remote: pl.DataFrame, keys: tuple[str, ...]) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Bring the keys of both sides to the same types, and see that none is null."""
    local, remote = _typed_as(local, remote, keys), _typed_as(remote, local, keys)
    casts: dict[str, type[pl.DataType]] = {}
    for key in keys:
        types = local.schema[key], remote.schema[key]
        for side, frame, dtype in (("local", local, types[0]), ("remote", remote, types[1])):
            if nulls := frame[key].null_count():
                rows = "row" if nulls == 1 else "rows"
                raise DataError(f"column {key!r} of {side} is null in {nulls:,} {rows}; expected a key in every row")
            if not (dtype.is_integer() if key == "period" else _is_label(dtype)):
                expected = "integers" if key == "period" else "text"
                hint = f". Hint: cast {key!r} to Int64" if key == "period" else ""
                raise SchemaError(f"column {key!r} of {side} has type {dtype}; expected {expected}{hint}")
        if types[0] != types[1] or types[0] in (pl.Categorical, pl.Enum):
            casts[key] = pl.Int64 if key == "period" else pl.String
    return (local.cast(casts), remote.cast(casts)) if casts else (local, remote)  # type: ignore[arg-type]


def _typed_as(frame: pl.DataFrame, other: pl.DataFrame, keys: tuple[str, ...]) -> pl.DataFrame:
    """Give a table without rows, of which a file does not tell the types, those of the other side."""
    if frame.height:
        return frame
    unknown = {key: pl.Int64() if key == "period" else pl.String() for key in keys}
    types = {key: other.schema[key] for key in keys} if other.height else unknown
    return frame.with_columns(pl.lit(None, kind).alias(key) for key, kind in types.items())


def _is_label(dtype: pl.DataType) -> bool:
    """Tell a type whose values are written in one way only."""
    return dtype.is_integer() or dtype in (pl.String, pl.Categorical, pl.Enum, pl.Date)


def hashes(frame: pl.DataFrame, keys: tuple[str, ...]) -> pl.Series:
    """Give a number for each row that is the same for the same keys, and hardly ever for others."""
    mixed = [pl.col(key).hash(seed) * pl.lit(_ODD[seed], pl.UInt64) for seed, key in enumerate(keys)]
    return frame.select(pl.sum_horizontal(mixed)).to_series()


def refuse_repeats(frame: pl.DataFrame, keys: tuple[str, ...], side: str, numbers: pl.Series) -> None:
    """Refuse a table in which a key stands twice, given the numbers of its rows."""
    if numbers.n_unique() == frame.height:
        return
    again = frame.lazy().select(keys).group_by(keys).len("rows").filter(pl.col("rows") > 1).sort(keys).collect()
    if again.height:
        worst = again.row(0, named=True)
        rows = worst.pop("rows")
        more = f", and {again.height - 1:,} more keys are repeated" if again.height > 1 else ""
        raise DataError(f"{side} has {rows:,} rows of {written(worst)}{more}; expected one row for each key")


def written(key: dict[str, object]) -> str:
    """Write a key for a message.

    >>> written({"cohort": "2026-01", "period": 3})
    "cohort '2026-01', period 3"
    """
    return ", ".join(f"{name} {value!r}" for name, value in key.items())
