"""Curves over the age: a line for each cohort, and their weighted mean."""

import altair as alt
import polars as pl

from cohortlib.errors import one_of
from cohortlib.periods import Freq
from cohortlib.show.colours import STOPS
from cohortlib.show.plot.cells import Cells, Day, Table, read
from cohortlib.show.plot.drawing import (
    FIELDS,
    HEIGHT,
    MEAN,
    MOST_NAMED,
    PERIODS,
    WIDTH,
    age_title,
    cell_tooltip,
    data,
    described,
    heading,
    no_frame,
    number_axis,
    shades,
    thinned,
)

MEAN_NAME = "Weighted mean"
MOST_POINTS = 5_000  # which carry the tooltips; more of them are slow, and nobody finds one
MOST_DOTS = 60  # on the line of the mean
_RUN = pl.col("age") - pl.int_range(pl.len())  # the same while no age is missing: a line breaks where one is
_FROM_ONE = "Age 0 is left out, so that what follows is seen"
_DARK = STOPS[:2:-1]  # from dark to light, without the lightest, in which no line is seen


def retention_curves(
    table: Table,
    value: str = "logo_retention",
    *,
    unfinished: Day | None = None,
    title: str | None = None,
    freq: Freq | None = None,
) -> alt.LayerChart:
    """Draw retention over the age: a line for each cohort, and the mean of all.

    At each age the mean is of the cohorts that have reached it: Σ ``active_users`` / Σ ``cohort_size``, or Σ ``amount``
    / Σ ``cohort_size_amount``. Unfinished cells are no part of it, nor are those without a value.

    Parameters
    ----------
    table
        What :func:`cohortlib.termina.cohorts` gave: a polars frame, or any object with ``__arrow_c_stream__``.
    value
        ``"logo_retention"`` or ``"amount_retention"``.
    unfinished
        The last day that the rows reach, such as ``"2026-03-14"``: what leads to a cell of a calendar period that is
        not over by the end of this day is dashed.
    title
        The line above, instead of the field's name.
    freq
        What the periods are. Told from the labels but where a single cohort can be a day or a week.

    Returns
    -------
    altair.LayerChart
        Its data are rows of ``cohort``, ``age``, the field, ``cohort_size``, ``calendar`` and ``unfinished``, and those
        of the mean: ``age``, ``mean``, ``cohorts`` and ``users``, which tell how many are in it.

    Raises
    ------
    SchemaError, DataError, SettingError
        Where the table is not one of cohorts, or an argument is none of its values.

    Examples
    --------
    >>> import cohortlib as cl
    >>> import polars as pl
    >>> rows = {"cohort": ["2026-01", "2026-01", "2026-02"], "period": [0, 1, 0], "cohort_size": [8, 8, 5]}
    >>> table = pl.DataFrame({**rows, "active_users": [8, 2, 5], "logo_retention": [1.0, 0.25, 1.0]})
    >>> cl.plot.retention_curves(table).save("curves.svg")  # doctest: +SKIP
    """
    one_of("value", value, ("logo_retention", "amount_retention"))
    parts = ("active_users", "cohort_size") if value == "logo_retention" else ("amount", "cohort_size_amount")
    cells = read(table, tuple(dict.fromkeys((value, "cohort_size", *parts))), freq, unfinished)
    return _curves(cells, value, (pl.col(parts[0]), pl.col(parts[1])), title)


def ltv_curves(
    table: Table, *, unfinished: Day | None = None, title: str | None = None, freq: Freq | None = None
) -> alt.LayerChart:
    """Draw the lifetime value over the age: a line for each cohort, and the mean of all.

    At each age the mean is Σ ``ltv`` × ``cohort_size`` / Σ ``cohort_size`` over the cohorts that have reached it, the
    unfinished cells left out: the amount per user. It may fall where a good cohort is too young to count.

    Parameters
    ----------
    table
        What :func:`cohortlib.termina.cohorts` gave: a polars frame, or any object with ``__arrow_c_stream__``.
    unfinished
        The last day that the rows reach, such as ``"2026-03-14"``: what leads to a cell of a calendar period that is
        not over by the end of this day is dashed.
    title
        The line above, instead of the field's name.
    freq
        What the periods are. Told from the labels but where a single cohort can be a day or a week.

    Returns
    -------
    altair.LayerChart
        Its data are as those of :func:`retention_curves`.

    Raises
    ------
    SchemaError, DataError, SettingError
        Where the table is not one of cohorts, or an argument is none of its values.

    Examples
    --------
    >>> import cohortlib as cl
    >>> import polars as pl
    >>> rows = {"cohort": ["2026-01", "2026-01", "2026-02"], "period": [0, 1, 0], "cohort_size": [6, 6, 2]}
    >>> table = pl.DataFrame({**rows, "ltv": [5.0, 7.5, 9.0]})
    >>> cl.plot.ltv_curves(table).save("curves.svg")  # doctest: +SKIP
    """
    cells = read(table, ("ltv", "cohort_size"), freq, unfinished)
    return _curves(cells, "ltv", (pl.col("ltv") * pl.col("cohort_size"), pl.col("cohort_size")), title)


def _curves(cells: Cells, value: str, ratio: tuple[pl.Expr, pl.Expr], title: str | None) -> alt.LayerChart:
    field, freq = FIELDS[value], cells.calendar.freq
    frame = cells.frame.filter(pl.col(value).is_not_null())
    mean = mean_by_age(frame, ratio)
    rows = frame.select(
        "cohort", "age", value, "cohort_size", "calendar", "unfinished",
        # the dashed part begins at the last age that is over
        open=pl.col("unfinished") | pl.col("unfinished").shift(-1, fill_value=False).over("cohort"),
        run=_RUN.over("cohort"),
    )  # fmt: skip
    count = len(cells.cohorts)
    top = _top(frame, value)
    first = 0 if top is None else 1
    x = alt.X(
        "age:Q",
        title=age_title(freq),
        scale=alt.Scale(domain=[first, max(cells.ages - 1, first + 1) * 1.01], nice=False),
        axis=alt.Axis(values=[at for at in thinned(cells.ages, freq) if at >= first], grid=False, format="d"),
    )
    y = alt.Y(
        f"{value}:Q",
        title=field.axis,
        scale=alt.Scale(zero=True, nice=True) if top is None else alt.Scale(domain=[0, top], nice=False),
        axis=number_axis(value),
    )
    lines = alt.Chart().encode(
        x=x, y=y, detail=["cohort:N", "run:N"], color=_colours(cells.cohorts), tooltip=alt.Tooltip("cohort:N")
    )
    if first:
        lines = lines.transform_filter("datum.age > 0")
    thin, bright = (1.8, 0.9) if count <= MOST_NAMED else (1, max(0.15, min(0.5, 20 / count)))
    marks = [
        lines.transform_filter("!datum.unfinished").mark_line(strokeWidth=thin, opacity=bright, aria=False),
        lines.transform_filter("datum.open").mark_line(
            strokeWidth=thin, strokeDash=[3, 3], opacity=bright / 2, aria=False
        ),
    ]
    if rows.height <= MOST_POINTS:
        points = lines.mark_point(filled=True, size=22, aria=False).encode(
            opacity=alt.condition(
                "datum.unfinished", alt.value(bright / 2), alt.value(bright if count <= MOST_NAMED else 0)
            ),
            tooltip=cell_tooltip(cells, value),
        )
        marks.append(points)
    means = alt.Chart(data(mean.with_columns(run=_RUN))).encode(x=x, y=alt.Y("mean:Q"), color=alt.datum(MEAN_NAME))
    if first:
        means = means.transform_filter("datum.age > 0")
    told = [
        alt.Tooltip("age:Q", title=f"Age ({PERIODS[freq]}s)"),
        alt.Tooltip("mean:Q", title=MEAN_NAME, format=field.form),
        alt.Tooltip("cohorts:Q", title="Cohorts", format=","),
        alt.Tooltip("users:Q", title="Users", format=","),
    ]
    marks.append(means.mark_line(strokeWidth=3.5, aria=False).encode(detail="run:N"))
    dots = means.mark_point(filled=True, size=40, opacity=1 if cells.ages <= MOST_DOTS else 0, aria=False)
    marks.append(dots.encode(tooltip=told))
    return alt.LayerChart(
        data=data(rows),  # here once, and not with each layer: Altair copies it again and again
        layer=marks,
        title=heading(title, field, cells, "Dashed", _FROM_ONE if top is not None else ""),
        width=WIDTH,
        height=HEIGHT,
        view=no_frame(),
        description=described(title, field),
    )


def _top(frame: pl.DataFrame, value: str) -> float | None:
    """Give the upper end of the axis where age 0 would press all that follows to the ground."""
    if not value.endswith("_retention"):
        return None
    first, later = (frame.filter(part)[value].max() for part in (pl.col("age") == 0, pl.col("age") > 0))
    if not isinstance(first, int | float) or not isinstance(later, int | float) or not 0 < later < first / 2:
        return None
    return float(later) * 1.1


def mean_by_age(frame: pl.DataFrame, ratio: tuple[pl.Expr, pl.Expr]) -> pl.DataFrame:
    """Give the mean at each age, over the cells that are finished: a sum over a sum."""
    above, below = (part.sum() for part in ratio)
    means = frame.filter(~pl.col("unfinished")).group_by("age").agg(
        mean=above / below, cohorts=pl.len(), users=pl.col("cohort_size").sum()
    )  # fmt: skip
    return means.filter(pl.col("mean").is_finite()).sort("age")


def _colours(cohorts: list[str]) -> alt.Color:
    """Colour the cohorts from the oldest, dark, to the youngest; name them where they are few."""
    named = cohorts if len(cohorts) <= MOST_NAMED else [cohorts[0], cohorts[-1]]
    legend = alt.Legend(title="Cohort", values=[*named, MEAN_NAME], symbolType="stroke", symbolOpacity=1)
    scale = alt.Scale(domain=[*cohorts, MEAN_NAME], range=[*shades(_DARK, len(cohorts)), MEAN])
    return alt.Color("cohort:N", scale=scale, legend=legend)
