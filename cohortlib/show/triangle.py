"""Pivot a cohort table into a triangle: a row per cohort, a column per age."""

import math
from collections.abc import Callable, Sequence
from datetime import date, datetime
from html import escape
from typing import Any

import polars as pl

from cohortlib.errors import Arg, DataError, SchemaError, listed
from cohortlib.fields import CUMULATIVE, kind_of
from cohortlib.show.averages import mean_values, split_segments
from cohortlib.show.colours import STOPS, ink

MOST_ROWS, MOST_AGES = 200, 200  # shown in a notebook
MOST_SEGMENTS = 12
MEAN = "mean"
"""The label of the row of averages."""

_KEYS = ("cohort", "user_id")


class Triangle(pl.DataFrame):
    """A polars frame that notebooks show as a coloured table: darker is more, ages not yet observed are blank.

    In every other way it is a plain frame; operations on it, such as a selection, return plain frames.
    """

    _field = ""

    def _repr_html_(self, *, _from_series: bool = False) -> str:
        ages = [name for name in self.columns if name.isdecimal()]
        keys = [name for name in self.columns if name in _KEYS]
        if not ages or keys + ages != self.columns:
            return super()._repr_html_(_from_series=_from_series)
        return _html(self.head(MOST_ROWS), self._field, keys, ages[:MOST_AGES], (self.height, len(ages)))


def triangle(
    table: pl.DataFrame, value: str, *, mean: bool = False, last_day: str | date | datetime | None = None
) -> "Triangle | dict[Any, Triangle]":
    """Pivot one field of a cohort table: one row per cohort, one column per age.

    Parameters
    ----------
    table
        The table of :func:`cohortlib.termina.cohorts` or :func:`cohortlib.termina.customer_cohorts`, or any frame with
        ``cohort`` (and ``user_id``), ``period`` and the field.
    value
        The field, such as ``"ltv"``.
    mean
        Add a last row with the averages over complete cohorts, as :func:`cohortlib.summary` computes them.
    last_day
        The last day of the data, as for :func:`cohortlib.summary`.

    Returns
    -------
    Triangle
        A polars frame, which notebooks show as a coloured table. One row per cohort (or customer) in the order of the
        table; the columns are ``cohort`` (and ``user_id``), then one per age, named ``"0"``, ``"1"`` and so on, with
        the field's type. An age that is not yet observed is null, never 0. For a table with segments, a dict with the
        triangle of each segment, at most 12; the key is the value of its column, or a tuple if there are several.

    Raises
    ------
    SchemaError
        If a column is missing.
    DataError
        If a cohort (or customer) has the same age twice.

    Examples
    --------
    >>> import cohortlib as cl
    >>> import polars as pl
    >>> table = pl.DataFrame({"cohort": ["2026-01", "2026-01", "2026-02"], "period": [0, 1, 0], "ltv": [5.0, 7.5, 4.0]})
    >>> cl.triangle(table, "ltv").rows()
    [('2026-01', 5.0, 7.5), ('2026-02', 4.0, None)]
    """
    if not isinstance(table, pl.DataFrame):
        raise SchemaError(
            (Arg("table"), f" is of type {type(table).__qualname__}"), value=table, expected="a polars DataFrame"
        )
    if "cohort" in table.columns and (segments := split_segments(table, MOST_SEGMENTS)) is not None:
        return {key: pivot(part, value, mean=mean, last_day=last_day) for key, part in segments.items()}
    return pivot(table, value, mean=mean, last_day=last_day)


def pivot(
    table: pl.DataFrame, value: str, *, mean: bool = False, last_day: str | date | datetime | None = None
) -> Triangle:
    """Return the triangle of a table without segments."""
    keys = [name for name in _KEYS if name in table.columns]
    for name in ("cohort", "period", value):
        if name not in table.columns:
            raise SchemaError(f"column {name!r} is not in the table", expected=f"one of {listed(table.columns)}")
    if not table.height:
        return _triangle(table.select(keys), value)
    if table.select(pl.struct(*keys, "period").is_duplicated().any()).item():
        raise DataError(
            f"the table has several rows with the same {', '.join(keys)} and period", expected="one row for each"
        )
    top = int(table["period"].max())  # type: ignore[arg-type]
    ages = [str(age) for age in range(top + 1)]
    wide = table.select(*keys, "period", value).pivot("period", index=keys, values=value, maintain_order=True)
    missing = [pl.lit(None, table[value].dtype).alias(age) for age in ages if age not in wide.columns]
    frame = wide.with_columns(missing).select(*keys, *ages)
    if mean:
        means = mean_values(table, value, last_day)
        row = {"cohort": MEAN} | {age: means.get(int(age)) for age in ages}
        frame = pl.concat([frame.cast({"cohort": pl.String}), pl.DataFrame([row])], how="vertical_relaxed")
    return _triangle(frame, value)


def _triangle(frame: pl.DataFrame, field: str) -> Triangle:
    result = Triangle(frame)
    result._field = field
    return result


def _html(frame: pl.DataFrame, field: str, keys: list[str], ages: list[str], size: tuple[int, int]) -> str:
    """Return the table as HTML with its colours; the caption says which rows and ages are left out."""
    write, shade = _writer(frame, field, ages), _shader(frame, field, ages)
    heads = "".join(f'<th scope="col">{escape(name)}</th>' for name in (*keys, *ages))
    lines = []
    for row in frame.select(*keys, *ages).iter_rows():
        names = "".join(f'<th scope="row">{escape(str(name))}</th>' for name in row[: len(keys)])
        cells = "".join(
            "<td></td>" if value is None else f"<td{shade(value)}>{escape(write(value))}</td>"
            for value in row[len(keys) :]
        )
        lines.append(f"<tr>{names}{cells}</tr>")
    excerpt = [
        f"the first {shown:,} of {total:,} {what}"
        for shown, total, what in ((frame.height, size[0], "rows"), (len(ages), size[1], "ages"))
        if shown < total
    ]
    caption = escape(field or "triangle") + (f": {' and '.join(excerpt)}" if excerpt else "")
    return (
        f'<div class="cohortlib-triangle"><style>{_STYLE}</style>'
        f"<table><caption>{caption}</caption><thead><tr>{heads}</tr></thead><tbody>{''.join(lines)}</tbody></table></div>"
    )


# Cells have the same colours on a light and on a dark page; all other text has the page's colours.
_STYLE = (
    ".cohortlib-triangle{overflow:auto;max-height:40em}"
    ".cohortlib-triangle table{border-collapse:collapse;font-variant-numeric:tabular-nums}"
    ".cohortlib-triangle caption{caption-side:top;text-align:left;padding:.2em .5em}"
    ".cohortlib-triangle :is(td,th){padding:.2em .5em;text-align:right;white-space:nowrap}"
    ".cohortlib-triangle th[scope=row]{text-align:left}"
) + "".join(f".cohortlib-triangle td.s{step}{{background:{stop};color:{ink(stop)}}}" for step, stop in enumerate(STOPS))


def _numbers(frame: pl.DataFrame, ages: Sequence[str]) -> list[float]:
    return [
        value
        for age in ages
        if frame.schema[age].is_numeric()
        for value in frame[age].cast(pl.Float64).to_list()
        if value is not None and math.isfinite(value)
    ]


def _writer(frame: pl.DataFrame, field: str, ages: list[str]) -> Callable[[object], str]:
    """Return a function that formats a value."""
    if kind_of(field) == "share":
        return lambda value: f"{100 * value:.1f}%" if isinstance(value, int | float) else str(value)
    places = 2 if max(map(abs, _numbers(frame, ages)), default=0) < 10_000 else 0
    return lambda value: (
        f"{value:,.{places}f}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else str(value)
    )


def _shader(frame: pl.DataFrame, field: str, ages: list[str]) -> Callable[[object], str]:
    """Return a function that formats the CSS class of a value."""
    values = _numbers(frame, ages if field in CUMULATIVE else ages[1:]) or _numbers(frame, ages)
    low, high = (min(values), max(values)) if values else (0.0, 0.0)
    last = len(STOPS) - 1

    def shade(value: object) -> str:
        if not isinstance(value, int | float) or not math.isfinite(value):
            return ""
        share = (value - low) / (high - low) if high > low else float(value > low)
        return f' class="s{round(min(max(share, 0.0), 1.0) * last)}"'

    return shade
