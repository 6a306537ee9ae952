"""Read the parsed JSON of Adapty's API into the frames of an answer."""

from bisect import bisect_right
from itertools import accumulate, chain
from typing import Any

import polars as pl

from cohortlib.errors import ReplyError, warn
from cohortlib.fields import SEGMENT, SEGMENTS, VALUES, schema
from cohortlib.network.json_rows import as_list, check_unique, frame, labels, listed_fields, number_or_none, preview

TYPES = ("total", "single")


def read(payload: object) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Read a reply into the segments and the values of an answer.

    Parameters
    ----------
    payload
        Parsed JSON: ``{"data": [segment, …]}``.

    Returns
    -------
    segments, values
        The frames of :class:`~cohortlib.adapty.Answer`, with exactly their columns and types.

    Raises
    ------
    ReplyError
        If the payload has another structure, a field is missing, a value has the wrong type, a count is negative, or
        a segment or a period is repeated.

    Notes
    -----
    Unknown fields have no columns. Numbers may be text, and integers may be written as 3.0. Numbers may be null; a
    segment's date, type and title, and a period, may not. The fields of `predict` are not published; numbers under the
    names used here are read. A type other than total and single, and a start that is not a date, raise a warning.
    """
    if not isinstance(payload, dict):
        raise ReplyError(f"the reply is {preview(payload)}", expected="an object with 'data'")
    if "data" not in payload:
        raise ReplyError(f"the reply has no field 'data'; its fields are {listed_fields(payload)}")
    data = as_list(payload["data"], "'data'")
    plain = schema(SEGMENTS)
    predict = plain.pop("predict")
    required = ("segment_start_date", "type", "title")
    segments = frame(data, plain, required=required, name_row="segment {}".format, name="'data'")
    segments = segments.with_columns(
        labels(segments["segment_start_date"], "D"),
        pl.Series("predict", [_predict(i, segment.get("predict")) for i, segment in enumerate(data)], dtype=predict),
    )
    cells = [_cells(index, segment) for index, segment in enumerate(data)]
    ends = list(accumulate(map(len, cells)))

    def name_cell(row: int) -> str:
        segment = bisect_right(ends, row)
        return f"segment {segment}, values[{row - (ends[segment - 1] if segment else 0)}]"

    own = {name: dtype for name, dtype in schema(VALUES).items() if name not in SEGMENT}
    values = frame(list(chain.from_iterable(cells)), own, required=("period",), name_row=name_cell)
    counts = pl.Series(map(len, cells), dtype=pl.UInt32)
    segment_of_row = pl.Series(range(len(cells)), dtype=pl.UInt32).repeat_by(counts).explode(empty_as_null=False)
    values = segments.select(pl.col(SEGMENT).gather(segment_of_row)).hstack(values)
    check_unique(segments, SEGMENT, "the segments")
    check_unique(values, (*SEGMENT, "period"), "the values")
    odd = segments["type"].filter(~segments["type"].is_in(TYPES))
    if odd.len():
        what = f"field 'type' has {preview(odd[0])}, which is neither 'total' nor 'single'"
        warn(f"{what} (in {odd.len():,} of {segments.height:,} segments); it stays as it is")
    return segments, values


def _cells(index: int, segment: dict[str, Any]) -> list[Any]:
    if "values" not in segment:
        raise ReplyError(f"segment {index} has no field 'values'; its fields are {listed_fields(segment)}")
    return as_list(segment["values"], f"'values' of segment {index}")


def _predict(index: int, value: object) -> dict[str, float | int | None] | None:
    """Read the known fields of a prediction."""
    if value is None:
        return None
    if not isinstance(value, dict):
        raise ReplyError(f"segment {index}, field 'predict' is {preview(value)}", expected="an object or null")
    fields: dict[str, float | int | None] = {
        name: number_or_none(value.get(name)) for name in ("revenue_usd", "ltv_usd")
    }
    months = number_or_none(value.get("months"))
    fields["months"] = int(months) if months is not None and months.is_integer() and abs(months) < 2**53 else None
    return None if all(field is None for field in fields.values()) else fields
