"""Line charts over the age: a line per cohort, and their weighted mean."""

import altair as alt
import polars as pl

from cohortlib.errors import one_of
from cohortlib.fields import COHORTS, SHOWN, kind_of, quotients
from cohortlib.literals import Freq
from cohortlib.show.averages import averages
from cohortlib.show.colours import STOPS
from cohortlib.show.plot import drawing
from cohortlib.show.plot.cells import Cells, Day, Table, read

MEAN_NAME = "Weighted mean"
MOST_POINTS = 5_000  # with tooltips; more are slow and too dense to point at
MOST_DOTS = 60  # on the line of the mean
RETENTIONS = quotients(COHORTS)
# Constant over consecutive ages, so a line breaks where an age is missing.
_RUN = pl.col("age") - pl.int_range(pl.len())
_FROM_ONE = "Age 0 is left out, so that the later ages can be read"
_ALL_CELLS = "The mean counts all cells: it is not known which may still grow"
_DARK = STOPS[:2:-1]  # from dark to light; the lightest colours are too pale for lines


def retention_curves(
    table: Table,
    value: str = SHOWN[0],
    *,
    unfinished: Day | None = None,
    title: str | None = None,
    freq: Freq | None = None,
) -> alt.LayerChart:
    """Draw retention by age: a line per cohort, and the weighted mean.

    The mean is that of :func:`cohortlib.summary`: at each age Σ ``active_users`` / Σ ``cohort_size``, or Σ ``amount`` /
    Σ ``cohort_size_amount``, over the cohorts that are complete at it: by the column ``complete`` of
    :func:`cohortlib.cohorts`, else by `unfinished`; without either all cells count, and the chart says so.

    Parameters
    ----------
    table, title, freq
        As for :func:`heatmap`.
    value
        Logo retention, the default, or ``"amount_retention"``.
    unfinished
        The last day of the data. Lines to cells of a calendar period that is not over by the end of it are dashed.

    Returns
    -------
    altair.LayerChart
        Its data are rows of ``cohort``, ``age``, the field, ``cohort_size``, ``calendar`` and ``unfinished``, and those
        of the mean: ``age``, ``mean``, and the numbers of ``cohorts`` and ``users`` in it.

    Raises
    ------
    SchemaError, DataError, SettingError
        As for :func:`heatmap`.

    Examples
    --------
    >>> import cohortlib as cl
    >>> import polars as pl
    >>> rows = {"cohort": ["2026-01", "2026-01", "2026-02"], "period": [0, 1, 0], "cohort_size": [8, 8, 5]}
    >>> amounts = {"amount": [80.0, 20.0, 50.0], "cohort_size_amount": [80.0, 80.0, 50.0]}
    >>> table = pl.DataFrame({**rows, **amounts, "amount_retention": [1.0, 0.25, 1.0]})
    >>> cl.plot.retention_curves(table, "amount_retention").save("curves.svg")  # doctest: +SKIP
    """
    one_of("value", value, RETENTIONS)
    above, below = RETENTIONS[value]
    cells = read(table, tuple(dict.fromkeys((value, "cohort_size", above, below))), freq, unfinished)
    return _curves(cells, value, title)


def ltv_curves(
    table: Table, *, unfinished: Day | None = None, title: str | None = None, freq: Freq | None = None
) -> alt.LayerChart:
    """Draw lifetime value by age: a line per cohort, and the weighted mean.

    The mean is that of :func:`cohortlib.summary`, over complete cells as in :func:`retention_curves`. It adds up, over
    the ages, what the users of the cohorts that are complete at each age paid at it: Σ amount / Σ ``cohort_size``. So
    it does not fall where a good cohort is still too young to be included.

    Parameters
    ----------
    table, unfinished, title, freq
        As for :func:`retention_curves`.

    Returns
    -------
    altair.LayerChart
        Its data are like those of :func:`retention_curves`.

    Raises
    ------
    SchemaError, DataError, SettingError
        As for :func:`heatmap`.

    Examples
    --------
    >>> import cohortlib as cl
    >>> import polars as pl
    >>> rows = {"cohort": ["2026-01", "2026-01", "2026-02"], "period": [0, 1, 0], "cohort_size": [6, 6, 2]}
    >>> table = pl.DataFrame({**rows, "ltv": [5.0, 7.5, 9.0]})
    >>> cl.plot.ltv_curves(table).save("curves.svg")  # doctest: +SKIP
    """
    return _curves(read(table, ("ltv", "cohort_size"), freq, unfinished, ("amount",)), "ltv", title)


def _curves(cells: Cells, value: str, title: str | None) -> alt.LayerChart:
    name = drawing.FIELDS[value].title
    frame = cells.frame.filter(pl.col(value).is_not_null())
    rows = frame.select(
        "cohort", "age", value, "cohort_size", "calendar", "unfinished",
        # The dashed part starts at the last finished age.
        open=pl.col("unfinished") | pl.col("unfinished").shift(-1, fill_value=False).over("cohort"),
        run=_RUN.over("cohort"),
    )  # fmt: skip
    top = _top(frame, value)
    x, y = _axes(cells, value, top)
    remarks = ["" if top is None else _FROM_ONE, "" if cells.knows_complete else _ALL_CELLS]
    return alt.LayerChart(
        data=drawing.data(rows),  # set once here: with every layer, Altair would copy it many times
        layer=[
            *_cohort_marks(cells, value, x, y, top, points=rows.height <= MOST_POINTS),
            *_mean_marks(cells, value, x, average_by_age(cells, value), top),
        ],
        **drawing.properties(cells, title, name, drawing.meaning(value), drawing.SIZE, "Dashed", *remarks),
    )


def _axes(cells: Cells, value: str, top: float | None) -> tuple[alt.X, alt.Y]:
    """Return both axes. With an upper end they start at age 1."""
    freq, first = cells.calendar.freq, 0 if top is None else 1
    x = alt.X(
        "age:Q",
        title=drawing.age_title(freq),
        scale=alt.Scale(domain=[first, max(cells.ages - 1, first + 1) * 1.01], nice=False),
        axis=alt.Axis(values=[at for at in drawing.thinned(cells.ages, freq) if at >= first], grid=False, format="d"),
    )
    y = alt.Y(
        f"{value}:Q",
        title=drawing.FIELDS[value].title,
        scale=alt.Scale(zero=True, nice=True) if top is None else alt.Scale(domain=[0, top], nice=False),
        axis=drawing.number_axis(value),
    )
    return x, y


def _cohort_marks(cells: Cells, value: str, x: alt.X, y: alt.Y, top: float | None, *, points: bool) -> list[alt.Chart]:
    """Return the lines of the cohorts, dashed where unfinished, and optionally points with tooltips."""
    count = len(cells.cohorts)
    lines = alt.Chart().encode(
        x=x, y=y, detail=["cohort:N", "run:N"], color=_colours(cells.cohorts), tooltip=alt.Tooltip("cohort:N")
    )
    if top is not None:
        lines = lines.transform_filter("datum.age > 0")
    width, opacity = (1.8, 0.9) if count <= drawing.MOST_NAMED else (1, max(0.15, min(0.5, 20 / count)))
    marks = [
        lines.transform_filter("!datum.unfinished").mark_line(strokeWidth=width, opacity=opacity, aria=False),
        lines.transform_filter("datum.open").mark_line(
            strokeWidth=width, strokeDash=[3, 3], opacity=opacity / 2, aria=False
        ),
    ]
    if points:
        shown = opacity if count <= drawing.MOST_NAMED else 0
        marks.append(
            lines.mark_point(filled=True, size=22, aria=False).encode(
                opacity=alt.condition("datum.unfinished", alt.value(opacity / 2), alt.value(shown)),
                tooltip=drawing.cell_tooltip(cells, value),
            )
        )
    return marks


def _mean_marks(cells: Cells, value: str, x: alt.X, mean: pl.DataFrame, top: float | None) -> list[alt.Chart]:
    """Return the line of the mean and its points with tooltips."""
    means = alt.Chart(drawing.data(mean.with_columns(run=_RUN))).encode(
        x=x, y=alt.Y("mean:Q"), color=alt.datum(MEAN_NAME)
    )
    if top is not None:
        means = means.transform_filter("datum.age > 0")
    tooltip = [
        alt.Tooltip("age:Q", title=f"Age ({drawing.PERIODS[cells.calendar.freq]}s)"),
        alt.Tooltip("mean:Q", title=MEAN_NAME, format=drawing.number_format(value)),
        alt.Tooltip("cohorts:Q", title="Cohorts", format=","),
        alt.Tooltip("users:Q", title="Users", format=","),
    ]
    dots = means.mark_point(filled=True, size=40, opacity=1 if cells.ages <= MOST_DOTS else 0, aria=False)
    return [means.mark_line(strokeWidth=3.5, aria=False).encode(detail="run:N"), dots.encode(tooltip=tooltip)]


def _top(frame: pl.DataFrame, value: str) -> float | None:
    """Return the upper end of the y axis if age 0 would squeeze all later ages to the bottom, else None."""
    if kind_of(value) != "share":
        return None
    first, later = (frame.filter(part)[value].max() for part in (pl.col("age") == 0, pl.col("age") > 0))
    if not isinstance(first, int | float) or not isinstance(later, int | float) or not 0 < later < first / 2:
        return None
    return float(later) * 1.1


def average_by_age(cells: Cells, value: str) -> pl.DataFrame:
    """Return the mean of a field at each age over the complete cells that have a value."""
    frame = cells.frame.filter(pl.col(value).is_not_null()).rename({"age": "period"})
    means = averages(frame, (value,)).drop_nulls(value)
    return means.select(age="period", mean=value, cohorts="cohorts", users="users")


def _colours(cohorts: list[str]) -> alt.Color:
    """Return the cohorts' colours, dark for the oldest to light for the youngest, and a legend of a few."""
    named = cohorts if len(cohorts) <= drawing.MOST_NAMED else [cohorts[0], cohorts[-1]]
    legend = alt.Legend(title="Cohort", values=[*named, MEAN_NAME], symbolType="stroke", symbolOpacity=1)
    scale = alt.Scale(domain=[*cohorts, MEAN_NAME], range=[*drawing.shades(_DARK, len(cohorts)), drawing.MEAN])
    return alt.Color("cohort:N", scale=scale, legend=legend)
