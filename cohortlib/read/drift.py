"""Find one type for a column whose type differs between the files of a source."""

from collections.abc import Collection, Iterable

import polars as pl

_COARSEST = {"ms": 0, "us": 1, "ns": 2}
_TICKS = {"ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}
_EXACT = 2**53  # integers up to this are exact as floats


def common_type(dtypes: Iterable[pl.DataType]) -> pl.DataType | None:
    """Return the type that columns of one meaning have in common, whatever their order; None if meanings differ.

    Dates and instants with and without a zone have text in common: ISO 8601, which is read by one rule.
    """
    distinct: list[pl.DataType] = []
    for dtype in dtypes:
        if dtype not in distinct and dtype != pl.Null:
            distinct.append(dtype)
    if len(distinct) < 2:
        return distinct[0] if distinct else pl.Null()
    if all(_is_text(dtype) for dtype in distinct):
        return pl.String()
    if all(dtype.is_integer() for dtype in distinct):
        return _common_integer(distinct)
    if all(dtype.is_integer() or dtype.is_float() for dtype in distinct):
        return pl.Float64()
    if all(dtype.is_integer() or dtype.is_decimal() for dtype in distinct):
        return pl.Decimal(38, max(dtype.scale for dtype in distinct if isinstance(dtype, pl.Decimal)))
    if all(dtype == pl.Date or isinstance(dtype, pl.Datetime) for dtype in distinct):
        return _common_instant(distinct)
    return None


def _is_text(dtype: pl.DataType) -> bool:
    return dtype == pl.String or isinstance(dtype, pl.Categorical | pl.Enum)


def _common_integer(dtypes: Collection[pl.DataType]) -> pl.DataType:
    if pl.Int128() in dtypes or pl.UInt128() in dtypes:
        return pl.Int128()
    if pl.UInt64() not in dtypes:
        return pl.Int64()
    return pl.UInt64() if all(dtype.is_unsigned_integer() for dtype in dtypes) else pl.Int128()


def _common_instant(dtypes: Collection[pl.DataType]) -> pl.DataType:
    instants = [dtype for dtype in dtypes if isinstance(dtype, pl.Datetime)]
    zones = {dtype.time_zone if isinstance(dtype, pl.Datetime) else None for dtype in dtypes}
    if None in zones and len(zones) > 1:
        return pl.String()
    unit = min((dtype.time_unit for dtype in instants), key=_COARSEST.__getitem__)
    return pl.Datetime(unit, None if zones == {None} else "UTC")


def converted(name: str, dtype: pl.DataType, common: pl.DataType) -> pl.Expr:
    """Convert a column to the common type; instants become those of a coarser unit by rounding down."""
    column = pl.col(name)
    if dtype == common:
        return column
    if isinstance(dtype, pl.Datetime) and common == pl.String:
        return _iso(column, dtype).alias(name)
    if isinstance(dtype, pl.Datetime) and isinstance(common, pl.Datetime):
        factor = _TICKS[dtype.time_unit] // _TICKS[common.time_unit]
        return column.to_physical().floordiv(factor).cast(common).alias(name)
    return column.cast(common)


def _iso(column: pl.Expr, dtype: pl.Datetime) -> pl.Expr:
    naive = column if dtype.time_zone is None else column.dt.convert_time_zone("UTC").dt.replace_time_zone(None)
    text = naive.dt.to_string("%Y-%m-%dT%H:%M:%S%.f")
    return text if dtype.time_zone is None else text + "Z"


def inexact(name: str, dtype: pl.DataType, common: pl.DataType) -> pl.Expr | None:
    """Return an expression that counts the values which would change as the common type; None if none can."""
    if common != pl.Float64 or dtype not in (pl.Int64, pl.UInt64, pl.Int128, pl.UInt128):
        return None
    column = pl.col(name)
    return ((column > _EXACT) | (column < -_EXACT) if dtype.is_signed_integer() else column > _EXACT).sum()
