"""Curves over the age: a line for each cohort, and their weighted mean."""

from typing import TYPE_CHECKING, Any

import polars as pl

from cohortlib.errors import one_of
from cohortlib.periods import Freq
from cohortlib.plotting.cells import Cells, Day, Table, read
from cohortlib.plotting.drawing import (
    FIELDS,
    HEIGHT,
    MEAN,
    PERIODS,
    WIDTH,
    age_title,
    altair,
    data,
    heading,
    thinned,
)
from cohortlib.shading import STOPS, between

if TYPE_CHECKING:
    import altair as alt

MOST_NAMED = 12  # cohorts in a legend
MEAN_NAME = "Weighted mean"
_DARK = STOPS[:1:-1]  # from dark to light, without the lightest, which no line is seen in


def retention_curves(
    table: Table,
    value: str = "logo_retention",
    *,
    unfinished: Day | None = None,
    title: str | None = None,
    freq: Freq | None = None,
) -> "alt.LayerChart":
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
    >>> table = pl.DataFrame(rows).with_columns(active_users=pl.Series([8, 2, 5]), logo_retention=pl.Series([1, 0.25, 1]))
    >>> cl.plot.retention_curves(table).save("curves.svg")  # doctest: +SKIP
    """
    one_of("value", value, ("logo_retention", "amount_retention"))
    parts = ("active_users", "cohort_size") if value == "logo_retention" else ("amount", "cohort_size_amount")
    cells = read(table, tuple(dict.fromkeys((value, "cohort_size", *parts))), freq, unfinished)
    return _curves(cells, value, (pl.col(parts[0]), pl.col(parts[1])), title)


def ltv_curves(
    table: Table, *, unfinished: Day | None = None, title: str | None = None, freq: Freq | None = None
) -> "alt.LayerChart":
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
    >>> table = pl.DataFrame(rows).with_columns(ltv=pl.Series([5.0, 7.5, 9.0]))
    >>> cl.plot.ltv_curves(table).save("curves.svg")  # doctest: +SKIP
    """
    cells = read(table, ("ltv", "cohort_size"), freq, unfinished)
    return _curves(cells, "ltv", (pl.col("ltv") * pl.col("cohort_size"), pl.col("cohort_size")), title)


def _curves(cells: Cells, value: str, ratio: tuple[pl.Expr, pl.Expr], title: str | None) -> "alt.LayerChart":
    alt = altair()
    field, freq = FIELDS[value], cells.calendar.freq
    frame = cells.frame.filter(pl.col(value).is_not_null())
    mean = mean_by_age(frame, ratio)
    rows = frame.select(
        "cohort", "age", value, "cohort_size", "calendar", "unfinished",
        # the dashed part begins at the last age that is over
        open=pl.col("unfinished") | pl.col("unfinished").shift(-1, fill_value=False).over("cohort"),
    )  # fmt: skip
    many = len(cells.cohorts) > MOST_NAMED
    x = alt.X(
        "age:Q",
        title=age_title(freq),
        scale=alt.Scale(domain=[0, max(cells.ages - 1, 1)], nice=False),
        axis=alt.Axis(values=list(thinned(cells.ages, freq)), grid=False, format="d"),
    )
    y = alt.Y(
        f"{value}:Q",
        title=field.axis,
        scale=alt.Scale(zero=True, nice=True),
        axis=alt.Axis(format="%" if value.endswith("_retention") else "~s", tickCount=6, gridOpacity=0.5),
    )
    tooltip = [
        alt.Tooltip("cohort:N", title="Cohort"),
        alt.Tooltip("cohort_size:Q", title="Users", format=","),
        alt.Tooltip("age:Q", title=f"Age ({PERIODS[freq]}s)"),
        alt.Tooltip("calendar:N", title=PERIODS[freq].capitalize()),
        alt.Tooltip(f"{value}:Q", title=field.title, format=field.form),
        alt.Tooltip("unfinished:N", title="Not over"),
    ]
    named = data(rows)
    lines = alt.Chart(named).encode(x=x, y=y, detail="cohort:N", color=_colours(alt, cells, many))
    thin = 1 if many else 1.8
    marks: list[Any] = [
        lines.transform_filter("!datum.unfinished").mark_line(
            strokeWidth=thin, opacity=0.5 if many else 0.9, aria=False
        ),
        lines.transform_filter("datum.open").mark_line(strokeWidth=thin, strokeDash=[3, 3], opacity=0.4, aria=False),
        lines.mark_point(filled=True, size=22, aria=False).encode(
            opacity=alt.condition("datum.unfinished", alt.value(0.4), alt.value(0 if many else 0.9)), tooltip=tooltip
        ),
    ]
    means = alt.Chart(data(mean)).encode(x=x, y=alt.Y("mean:Q"), color=alt.value(MEAN))
    marks.append(means.mark_line(strokeWidth=3.5, aria=False))
    marks.append(
        means.mark_point(filled=True, size=40, aria=False, opacity=1 if cells.ages <= 60 else 0).encode(
            tooltip=[
                alt.Tooltip("age:Q", title=f"Age ({PERIODS[freq]}s)"),
                alt.Tooltip("mean:Q", title=MEAN_NAME, format=field.form),
                alt.Tooltip("cohorts:Q", title="Cohorts", format=","),
                alt.Tooltip("users:Q", title="Users", format=","),
            ]
        )
    )
    label = alt.Chart(data(mean.tail(1))).encode(x=x, y=alt.Y("mean:Q"))
    marks.append(
        label.mark_text(text=MEAN_NAME, color=MEAN, align="right", dy=-12, fontWeight="bold", fontSize=12, aria=False)
    )
    return alt.layer(*marks).properties(
        title=heading(title, field, cells, "Dashed"), width=WIDTH, height=HEIGHT, view=alt.ViewBackground(stroke=None)
    )


def mean_by_age(frame: pl.DataFrame, ratio: tuple[pl.Expr, pl.Expr]) -> pl.DataFrame:
    """Give the mean at each age, over the cells that are finished: a sum over a sum."""
    above, below = (part.sum() for part in ratio)
    means = frame.filter(~pl.col("unfinished")).group_by("age").agg(
        mean=above / below, cohorts=pl.len(), users=pl.col("cohort_size").sum()
    )  # fmt: skip
    return means.filter(pl.col("mean").is_finite()).sort("age")


def _colours(alt: Any, cells: Cells, many: bool) -> Any:
    """Colour the cohorts from the oldest, dark, to the youngest; name them where they are few."""
    count = max(len(cells.cohorts) - 1, 1)
    shades = [between(_DARK, at / count) for at in range(len(cells.cohorts))]
    legend = None if many else alt.Legend(title="Cohort", symbolType="stroke", symbolStrokeWidth=3)
    return alt.Color("cohort:N", scale=alt.Scale(domain=cells.cohorts, range=shades), legend=legend)
