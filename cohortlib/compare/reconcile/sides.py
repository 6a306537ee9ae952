"""Read the tables of a side, and check their keys."""

from pathlib import Path
from typing import TypeAlias

import polars as pl

from cohortlib import fields
from cohortlib.adapty.answer import Answer
from cohortlib.compare.reconcile.files import SEGMENTS, VALUES, read
from cohortlib.errors import DataError, SchemaError, SourceError, listed
from cohortlib.read.tables import ArrowStream, first_line
from cohortlib.termina.frames import Concentration

Side: TypeAlias = pl.DataFrame | pl.LazyFrame | Answer | Concentration | ArrowStream | str | Path

# The keys of each kind of table. The kind of a table is the first whose keys it has.
KINDS: dict[str, tuple[str, ...]] = {
    "customer cohorts": fields.keys(fields.CUSTOMER_COHORTS),
    "cohorts": fields.keys(fields.COHORTS),
    "values of segments": fields.keys(fields.VALUES),
    "segments": fields.keys(fields.SEGMENTS),
    "accounting": fields.keys(fields.USER_ACCOUNTING),
    "top users": fields.keys(fields.ENDPOINT_TOP_USERS),
    "distribution": ("method", "cdf_users"),
}
# A table of users alone, such as transactions, is no table of top users.
_NEEDED = {"top users": fields.required(fields.ENDPOINT_TOP_USERS)}
_ODD = (0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9)


def tables(side: Side, name: str) -> dict[str, pl.DataFrame]:
    """Return the tables of a side by name: one under "", the two of an Answer, or the three of a Concentration."""
    if isinstance(side, Answer):
        return {SEGMENTS: side.segments, VALUES: side.values}
    if isinstance(side, Concentration):
        return {name: getattr(side, name) for name in fields.CONCENTRATION}
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
        kind = type(side).__qualname__
        raise SourceError(f"{name} of type {kind} cannot be read: {first_line(error)}", value=side) from error
    raise SchemaError(
        f"{name} has type {type(side).__qualname__}",
        value=side,
        expected="a polars frame, an Answer, a Concentration, the path of a file, or an object with "
        "__arrow_c_stream__ (pandas, pyarrow, DuckDB)",
    )


def keys_of(local: pl.DataFrame, remote: pl.DataFrame) -> tuple[str, ...]:
    """Return the keys of two tables, which must be of the same kind."""
    kinds = {name: _kind(frame) for name, frame in (("local", local), ("remote", remote)) if frame.width}
    for name, frame in (("local", local), ("remote", remote)):
        if name in kinds and kinds[name] is None:
            raise SchemaError(
                f"{name} has no known keys: its columns are {listed(frame.columns)}",
                value=frame.columns,
                expected=", or ".join(" and ".join(keys) for keys in KINDS.values()),
            )
    if not kinds:
        raise SchemaError("neither side has a column")
    first, *others = dict.fromkeys(map(str, kinds.values()))
    if others:
        contents = " and ".join(f"{name} holds {kind} ({', '.join(KINDS[str(kind)])})" for name, kind in kinds.items())
        raise SchemaError(contents, expected="tables of the same kind")
    return KINDS[first]


def _kind(frame: pl.DataFrame) -> str | None:
    return next((kind for kind, keys in KINDS.items() if set(_NEEDED.get(kind, keys)) <= set(frame.columns)), None)


def join_ready(local: pl.DataFrame, remote: pl.DataFrame, keys: tuple[str, ...]) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Cast the keys of both sides to the same types, and check that none is null."""
    if "cdf_users" in keys:
        local, remote = _with_points(local), _with_points(remote)
    local, remote = _with_key_types(local, remote, keys), _with_key_types(remote, local, keys)
    casts: dict[str, type[pl.DataType]] = {}
    for key in keys:
        types = local.schema[key], remote.schema[key]
        for side, frame, dtype in (("local", local, types[0]), ("remote", remote, types[1])):
            if nulls := frame[key].null_count():
                rows = "row" if nulls == 1 else "rows"
                raise DataError(f"column {key!r} of {side} is null in {nulls:,} {rows}", expected="a key in every row")
            if not (dtype.is_integer() if key == "period" else _is_label(dtype)):
                raise SchemaError(
                    f"column {key!r} of {side} has type {dtype}",
                    value=dtype,
                    expected="integers" if key == "period" else "text",
                    hint=f"cast {key!r} to Int64" if key == "period" else "",
                )
        if types[0] != types[1] or types[0] in (pl.Categorical, pl.Enum):
            casts[key] = pl.Int64 if key == "period" else pl.String
    return (local.cast(casts), remote.cast(casts)) if casts else (local, remote)  # type: ignore[arg-type]


def _with_points(frame: pl.DataFrame) -> pl.DataFrame:
    """Write the shares of users, at which a distribution has points, as text: rows are not joined on floats."""
    shares = frame["cdf_users"]
    if not shares.dtype.is_numeric():
        return frame
    points = [None if share is None else f"{share:.12g}" for share in shares.to_list()]
    return frame.with_columns(pl.Series("cdf_users", points, pl.String))


def _with_key_types(frame: pl.DataFrame, other: pl.DataFrame, keys: tuple[str, ...]) -> pl.DataFrame:
    """Cast the keys of a table without rows to the other side's types, as a file may not record them."""
    if frame.height:
        return frame
    defaults = {key: pl.Int64() if key == "period" else pl.String() for key in keys}
    types = {key: other.schema[key] for key in keys} if other.height else defaults
    return frame.with_columns(pl.lit(None, dtype).alias(key) for key, dtype in types.items())


def _is_label(dtype: pl.DataType) -> bool:
    """Check whether values of a type have only one text form."""
    return dtype.is_integer() or dtype in (pl.String, pl.Categorical, pl.Enum, pl.Date)


def hashes(frame: pl.DataFrame, keys: tuple[str, ...]) -> pl.Series:
    """Return a hash of the keys of each row."""
    mixed = [pl.col(key).hash(seed) * pl.lit(_ODD[seed], pl.UInt64) for seed, key in enumerate(keys)]
    return frame.select(pl.sum_horizontal(mixed)).to_series()


def refuse_repeats(frame: pl.DataFrame, keys: tuple[str, ...], side: str, key_hashes: pl.Series) -> None:
    """Raise if a table has two rows with the same keys, given the hashes of its keys."""
    if key_hashes.n_unique() == frame.height:
        return
    repeated = frame.lazy().select(keys).group_by(keys).len("rows").filter(pl.col("rows") > 1).sort(keys).collect()
    if repeated.height:
        key = repeated.row(0, named=True)
        rows = key.pop("rows")
        more = f", and {repeated.height - 1:,} more keys are repeated" if repeated.height > 1 else ""
        raise DataError(
            f"{side} has {rows:,} rows of {key_text(key)}{more}", value=key, expected="one row for each key"
        )


def key_text(key: dict[str, object]) -> str:
    """Format a key for a message.

    >>> key_text({"cohort": "2026-01", "period": 3})
    "cohort '2026-01', period 3"
    """
    return ", ".join(f"{name} {value!r}" for name, value in key.items())
