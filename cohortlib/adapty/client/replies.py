"""Read what Adapty's API sends, already parsed from JSON, into the frames of an answer."""

from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate, chain
from typing import Any

import polars as pl

from cohortlib.errors import ReplyError, listed
from cohortlib.fields import SEGMENT, SEGMENTS, VALUES, schema
from cohortlib.network.json_rows import as_list, frame, labels, number, shown

__all__ = ["read"]


def read(payload: object) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Read a reply into the segments and the values of an answer.

    Parameters
    ----------
    payload
        What JSON gave: ``{"data": [segment, …]}``.

    Returns
    -------
    segments, values
        The frames of :class:`~cohortlib.adapty.Answer`, with exactly their columns and types.

    Raises
    ------
    ReplyError
        Where the payload has another shape, a field is missing, or a value is not of its type.

    Notes
    -----
    Unknown fields are passed over. Numbers may come as text, and whole numbers as 3.0. A number may be null, but not
    a segment's date, type and title, nor a period. The fields of `predict` are not published: of those that have our
    names the numbers are taken.
    """
    if not isinstance(payload, dict):
        raise ReplyError(f"the reply is {shown(payload)}; expected an object with 'data'")
    if "data" not in payload:
        raise ReplyError(f"the reply has no field 'data'; its fields are {listed(payload)}")
    data = as_list(payload["data"], "'data'")
    plain = schema(SEGMENTS)
    predict = plain.pop("predict")
    required = ("segment_start_date", "type", "title")
    segments = frame(data, plain, required=required, at="segment {}".format, what="'data'")
    segments = segments.with_columns(
        labels(segments["segment_start_date"], "D"),
        pl.Series("predict", [_predict(i, segment.get("predict")) for i, segment in enumerate(data)], dtype=predict),
    )
    cells = [_cells(index, segment) for index, segment in enumerate(data)]
    ends = list(accumulate(map(len, cells)))

    def place(row: int) -> str:
        segment = bisect_right(ends, row)
        return f"segment {segment}, values[{row - (ends[segment - 1] if segment else 0)}]"

    own = {name: kind for name, kind in schema(VALUES).items() if name not in SEGMENT}
    values = frame(list(chain.from_iterable(cells)), own, required=("period",), at=place)
    whose = pl.Series(range(len(cells)), dtype=pl.UInt32).repeat_by(pl.Series(map(len, cells), dtype=pl.UInt32))
    whose = whose.explode(empty_as_null=False)
    keys = segments.select(pl.col(SEGMENT).gather(whose))
    values = keys.hstack(values)
    _once(segments, SEGMENT, "segments")
    _once(values, (*SEGMENT, "period"), "values")
    return segments, values


def _once(table: pl.DataFrame, keys: Sequence[str], what: str) -> None:
    twice = table.select(keys).filter(table.select(keys).is_duplicated())
    if twice.height:
        named = ", ".join(f"{name} {value!r}" for name, value in twice.row(0, named=True).items())
        raise ReplyError(f"the {what} of the reply have {named} more than once; expected each once")


def _cells(index: int, segment: dict[str, Any]) -> list[Any]:
    if "values" not in segment:
        raise ReplyError(f"segment {index} has no field 'values'; its fields are {listed(segment)}")
    return as_list(segment["values"], f"'values' of segment {index}")


def _predict(index: int, value: object) -> dict[str, float | int | None] | None:
    """Take of a prediction what has our names."""
    if value is None:
        return None
    if not isinstance(value, dict):
        raise ReplyError(f"segment {index}, field 'predict' is {shown(value)}; expected an object or null")
    found: dict[str, float | int | None] = {name: number(value.get(name)) for name in ("revenue_usd", "ltv_usd")}
    months = number(value.get("months"))
    found["months"] = int(months) if months is not None and months.is_integer() and abs(months) < 2**53 else None
    return None if all(one is None for one in found.values()) else found
