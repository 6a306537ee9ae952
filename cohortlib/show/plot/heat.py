"""Heat maps: a row per cohort, a column per age."""

from collections.abc import Callable
from typing import Literal

import altair as alt
import polars as pl

from cohortlib.errors import one_of
from cohortlib.fields import SHOWN, kind_of
from cohortlib.literals import Freq
from cohortlib.show.colours import BLACK, STOPS, WHITE, colour, ink, limits
from cohortlib.show.plot import drawing
from cohortlib.show.plot.cells import Cells, Day, Table, read

MOST_LABELS = 400
_WIDE, _HIGH = 900, 640  # pixels of a plot with many cells
_LABEL_WIDTH, _LABEL_HEIGHT = 44, 22
_HATCHED_FROM = 6  # pixels; smaller cells are faded instead
_GAPS_FROM = 14  # pixels; smaller cells have no gaps between them


def heatmap(
    table: Table,
    value: str = SHOWN[0],
    *,
    unfinished: Day | None = None,
    labels: bool | None = None,
    title: str | None = None,
    freq: Freq | None = None,
) -> alt.LayerChart:
    """Draw one field of a cohort table as a heat map.

    Ages that a cohort has not reached, and cells without a value, are blank. Darker is more. The scale runs from the
    smallest to the largest value after age 0 (for ``ltv``, over all ages), since age 0 would make all others pale;
    values beyond it have the colour of the nearer end.

    Parameters
    ----------
    table
        The table of :func:`cohortlib.termina.cohorts`: a polars frame, or any object with ``__arrow_c_stream__``.
    value
        A field that varies by age: a retention, ``"active_users"``, ``"amount"`` or ``"ltv"``. The default is logo
        retention.
    unfinished
        The last day of the data, such as ``"2026-03-14"``. Cells of a calendar period that is not over by the end of
        this day are hatched, or faded if they are small.
    labels
        Whether the cells show their values; by default if there are at most 400 of them.
    title
        The chart's title; the field's by default.
    freq
        Unit of the periods. Inferred from the labels, unless there is only one cohort and it can be a day or a week.

    Returns
    -------
    altair.LayerChart
        Its data are rows of ``cohort``, ``age``, the field, ``calendar`` and ``unfinished``.

    Raises
    ------
    SchemaError, DataError, SettingError
        If the table is not a cohort table, or an argument has a value it cannot take.

    Examples
    --------
    >>> import cohortlib as cl
    >>> import polars as pl
    >>> rows = {"cohort": ["2026-01", "2026-01", "2026-02"], "period": [0, 1, 0], "cohort_size": [8, 8, 5]}
    >>> table = pl.DataFrame({**rows, "amount_retention": [1.0, 0.25, 1.0]})
    >>> cl.plot.heatmap(table, "amount_retention").save("heat.png")  # doctest: +SKIP
    """
    one_of("value", value, drawing.FIELDS)
    name = drawing.FIELDS[value].title
    cells = read(table, ("cohort_size", value), freq, unfinished)
    frame = cells.frame.filter(pl.col(value).is_not_null()).drop("ordinal")
    low, high = limits(frame, value, "age")
    most = max(abs(low), abs(high))
    high = high if high > low else low + (most or 1)
    shown = frame.height <= MOST_LABELS if labels is None else labels
    wide, tall = _cell_size(cells, labelled=shown)
    hatched = min(wide, tall) >= _HATCHED_FROM
    if shown or hatched:
        dark = [ink(colour((number - low) / (high - low))) == WHITE for number in frame[value]]
        frame = frame.with_columns(dark=pl.Series(dark, dtype=pl.Boolean))
    ink_colour = alt.condition("datum.dark", alt.value(WHITE), alt.value(BLACK))
    base = _grid(cells, value, gaps=min(wide, tall) >= _GAPS_FROM)
    rects = base.mark_rect(aria=frame.height <= MOST_LABELS).encode(
        color=_colour(value, low, high, tall * len(cells.cohorts))
    )
    if not hatched:
        rects = rects.encode(opacity=alt.condition("datum.unfinished", alt.value(0.45), alt.value(1)))
    marks = [rects]
    if hatched and frame["unfinished"].any():
        # At size 4 the unit of a symbol's path is one pixel.
        lines = base.transform_filter("datum.unfinished").mark_point(
            shape=_hatch(wide, tall), size=4, strokeWidth=1, opacity=0.3, filled=False, aria=False
        )
        marks.append(lines.encode(stroke=ink_colour))
    if shown:
        write = _writer(value, most)
        frame = frame.with_columns(label=pl.Series([write(number) for number in frame[value]], dtype=pl.String))
        marks.append(base.mark_text(fontSize=11, aria=False).encode(text="label:N", color=ink_colour))
    size = wide * cells.ages, tall * len(cells.cohorts)
    return alt.LayerChart(
        data=drawing.data(frame),  # set once here: with every layer, Altair would copy it many times
        layer=marks,
        **drawing.properties(cells, title, name, drawing.meaning(value), size, "Hatched" if hatched else "Faded"),
    )


def _grid(cells: Cells, value: str, *, gaps: bool) -> alt.Chart:
    """Return a chart with the position and the tooltip of each cell."""
    freq = cells.calendar.freq
    unit = drawing.PERIODS[freq]
    return alt.Chart().encode(
        x=alt.X(
            "age:O",
            title=drawing.age_title(freq),
            scale=alt.Scale(domain=list(range(cells.ages)), paddingInner=0.04 if gaps else 0, paddingOuter=0),
            axis=_axis(list(drawing.thinned(cells.ages, freq)), "top"),
        ),
        y=alt.Y(
            "cohort:N",
            title=f"Cohort ({unit})",
            scale=alt.Scale(domain=cells.cohorts, paddingInner=0.06 if gaps else 0, paddingOuter=0),
            axis=_axis([cells.cohorts[at] for at in drawing.thinned(len(cells.cohorts), freq, 40)], "left"),
        ),
        tooltip=drawing.cell_tooltip(cells, value),
    )


def _colour(value: str, low: float, high: float, height: int) -> alt.Color:
    """Return the colour scale; the ink of the labels depends on it."""
    last = len(STOPS) - 1
    domain = [low + (high - low) * at / last for at in range(last + 1)]
    return alt.Color(
        f"{value}:Q",
        scale=alt.Scale(domain=domain, range=list(STOPS), clamp=True),
        legend=alt.Legend(
            title=None,
            gradientLength=max(60, min(160, height)),
            values=drawing.ticks(low, high),
            labelExpr=drawing.number_labels(value),
        ),
    )


def _cell_size(cells: Cells, *, labelled: bool) -> tuple[int, int]:
    """Return the width and height of a cell, in whole pixels so that no seams show."""
    wide = min(_LABEL_WIDTH, max(1, round(_WIDE / cells.ages)))
    high = min(_LABEL_HEIGHT, max(1, round(_HIGH / len(cells.cohorts))))
    return (_LABEL_WIDTH, _LABEL_HEIGHT) if labelled else (wide, high)


def _writer(value: str, most: float) -> Callable[[float], str]:
    """Return a function that formats a value in five or six characters, given the largest."""
    kind = kind_of(value)
    if kind == "share":
        places = 0 if most >= 0.1 else 1
        return lambda number: f"{100 * number:.{places}f}%"
    step, unit = next(((step, unit) for step, unit in ((1e9, "bn"), (1e6, "M"), (1e4, "k")) if most >= step), (1.0, ""))
    if unit:
        step = 1e3 if unit == "k" else step
        return lambda number: f"{number / step:,.1f}{unit}"
    places = 0 if kind == "count" or most >= 1000 else 2
    return lambda number: f"{number:,.{places}f}"


def _hatch(wide: int, high: int) -> str:
    """Return the diagonal lines of a cell as a path relative to its centre, in pixels."""
    gap = min(7, wide, high)
    if min(wide, high) >= _GAPS_FROM:
        wide, high = wide - 2, high - 2
    path = ""
    for start in range(gap // 2 - high, wide, gap):
        left, right = max(start, 0), min(start + high, wide)
        if right - left > 2:
            ends = ((x - wide / 2, high / 2 - (x - start)) for x in (left, right))
            path += "".join(f"{mark}{x:g},{y:g}" for mark, (x, y) in zip("ML", ends, strict=True))
    return path


def _axis(values: list[int] | list[str], orient: Literal["top", "left"]) -> alt.Axis:
    return alt.Axis(
        values=values,
        orient=orient,
        labelAngle=0,
        labelOverlap=True,
        labelPadding=5,
        ticks=False,
        domain=False,
        titlePadding=8,
    )
