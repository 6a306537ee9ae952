"""Read the parsed JSON of Adapty's API into the frames of an answer."""

from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate, chain
from typing import Any

import polars as pl

from cohortlib.errors import ReplyError, listed
from cohortlib.fields import SEGMENT, SEGMENTS, VALUES, schema
from cohortlib.network.json_rows import as_list, frame, labels, number_or_none, preview


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
        If the payload has another structure, a field is missing, or a value has the wrong type.

    Notes
    -----
    Unknown fields are ignored. Numbers may be text, and integers may be written as 3.0. Numbers may be null; a
    segment's date, type and title, and a period, may not. The fields of `predict` are not published; numbers under the
    names used here are read.
    """
    if not isinstance(payload, dict):
        raise ReplyError(f"the reply is {preview(payload)}", expected="an object with 'data'")
    if "data" not in payload:
        raise ReplyError(f"the reply has no field 'data'; its fields are {listed(payload)}")
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
    _check_unique(segments, SEGMENT, "segments")
    _check_unique(values, (*SEGMENT, "period"), "values")
    return segments, values


def _check_unique(table: pl.DataFrame, keys: Sequence[str], name: str) -> None:
    repeated = table.select(keys).filter(table.select(keys).is_duplicated())
    if repeated.height:
        key = ", ".join(f"{field} {value!r}" for field, value in repeated.row(0, named=True).items())
        raise ReplyError(f"the {name} of the reply have {key} more than once", expected="each once")


def _cells(index: int, segment: dict[str, Any]) -> list[Any]:
    if "values" not in segment:
        raise ReplyError(f"segment {index} has no field 'values'; its fields are {listed(segment)}")
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
