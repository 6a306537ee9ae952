"""Bars over the calendar: how large the cohorts are, and whose amount each period is."""

import altair as alt
import numpy as np
import polars as pl

from cohortlib.periods import Freq
from cohortlib.show.colours import STOPS
from cohortlib.show.plot.cells import Cells, Day, Table, read
from cohortlib.show.plot.drawing import (
    HEIGHT,
    MOST_NAMED,
    PERIODS,
    WIDTH,
    Field,
    data,
    described,
    heading,
    no_frame,
    number_axis,
    open_tooltip,
    shades,
    thinned,
)

_DARK = STOPS[::-1]
MOST_DATES = 12  # on the axis
PARTED = 60  # bars at most that do not touch


def cohort_sizes(
    table: Table, *, unfinished: Day | None = None, title: str | None = None, freq: Freq | None = None
) -> alt.Chart:
    """Draw how many users each cohort has.

    Parameters
    ----------
    table
        What :func:`cohortlib.termina.cohorts` gave: a polars frame, or any object with ``__arrow_c_stream__``.
    unfinished
        The last day that the rows reach, such as ``"2026-03-14"``: a cohort whose first period is not over by the end
        of this day is faded, for it still grows.
    title
        The line above, instead of "Cohort sizes".
    freq
        What the periods are. Told from the labels but where a single cohort can be a day or a week.

    Returns
    -------
    altair.Chart
        Its data are rows of ``cohort``, ``cohort_size`` and ``unfinished``.

    Raises
    ------
    SchemaError, DataError, SettingError
        Where the table is not one of cohorts, or an argument is none of its values.

    Examples
    --------
    >>> import cohortlib as cl
    >>> import polars as pl
    >>> table = pl.DataFrame({"cohort": ["2026-01", "2026-02"], "period": [0, 0], "cohort_size": [8, 5]})
    >>> cl.plot.cohort_sizes(table).save("sizes.png")  # doctest: +SKIP
    """
    cells = read(table, ("cohort_size",), freq, unfinished)
    start = pl.col("ordinal") - pl.col("age")
    sizes = cells.frame.group_by("cohort", start=start, maintain_order=True).agg(
        pl.col("cohort_size").first(), (pl.col("unfinished") & (pl.col("age") == 0)).any()
    )
    unit = PERIODS[cells.calendar.freq]
    field = Field("Cohort sizes", f"Users of each cohort, by the {unit} it began", "Users", ",d")
    first = Cells(sizes, cells.calendar, cells.last_day)
    chart: alt.Chart = (
        alt.Chart(data(sizes.drop("start")))
        .mark_bar(aria=False)
        .encode(
            x=_calendar_axis("cohort", f"Cohort ({unit})", sizes["start"], cells),
            y=alt.Y("cohort_size:Q", title=field.axis, axis=number_axis("cohort_size")),
            color=alt.value(STOPS[5]),
            opacity=alt.condition("datum.unfinished", alt.value(0.4), alt.value(1)),
            tooltip=[
                alt.Tooltip("cohort:N", title="Cohort"),
                alt.Tooltip("cohort_size:Q", title="Users", format=","),
                *open_tooltip(cells),
            ],
        )
        .properties(
            title=heading(title, field, first),
            width=_width(sizes["start"]),
            height=HEIGHT - 120,
            view=no_frame(),
            description=described(title, field),
        )
    )
    return chart


def layers(
    table: Table, *, unfinished: Day | None = None, title: str | None = None, freq: Freq | None = None
) -> alt.Chart:
    """Draw the amount of each calendar period, one layer for each cohort: who it comes from.

    Parameters
    ----------
    table
        What :func:`cohortlib.termina.cohorts` gave: a polars frame, or any object with ``__arrow_c_stream__``.
    unfinished
        The last day that the rows reach, such as ``"2026-03-14"``: a calendar period that is not over by the end of
        this day is faded.
    title
        The line above, instead of "Amount by cohort".
    freq
        What the periods are. Told from the labels but where a single cohort can be a day or a week.

    Returns
    -------
    altair.Chart
        Its data are rows of ``cohort``, ``age``, ``amount``, ``calendar`` and ``unfinished``.

    Raises
    ------
    SchemaError, DataError, SettingError
        Where the table is not one of cohorts, or an argument is none of its values.

    Examples
    --------
    >>> import cohortlib as cl
    >>> import polars as pl
    >>> rows = {"cohort": ["2026-01", "2026-01", "2026-02"], "period": [0, 1, 0], "amount": [80.0, 20.0, 50.0]}
    >>> cl.plot.layers(pl.DataFrame(rows)).save("layers.png")  # doctest: +SKIP
    """
    cells = read(table, ("amount",), freq, unfinished)
    frame = cells.frame.filter(pl.col("amount").is_not_null())
    unit = PERIODS[cells.calendar.freq]
    field = Field("Amount by cohort", f"Amount of each {unit}, by the cohort it comes from", "Amount", ",.2f")
    cohorts = cells.cohorts
    named = len(cohorts) <= MOST_NAMED
    places = {cohort: at for at, cohort in enumerate(cohorts)}
    rows = frame.with_columns(place=pl.col("cohort").replace_strict(places, return_dtype=pl.Int64)).drop("ordinal")
    chart: alt.Chart = (
        alt.Chart(data(rows))
        .mark_bar(aria=False)
        .encode(
            x=_calendar_axis("calendar", unit.capitalize(), frame["ordinal"], cells),
            y=alt.Y("amount:Q", title=field.axis, axis=number_axis("amount")),
            color=alt.Color(
                "cohort:N",
                scale=alt.Scale(domain=cohorts, range=shades(_DARK, len(cohorts))),
                legend=alt.Legend(title="Cohort") if named else None,
            ),
            order=alt.Order("place:Q"),
            opacity=alt.condition("datum.unfinished", alt.value(0.4), alt.value(1)),
            tooltip=[
                alt.Tooltip("cohort:N", title="Cohort"),
                alt.Tooltip("calendar:N", title=unit.capitalize()),
                alt.Tooltip("age:Q", title=f"Age ({unit}s)"),
                alt.Tooltip("amount:Q", title="Amount", format=",.2f"),
                *open_tooltip(cells),
            ],
        )
        .properties(
            title=heading(title, field, cells),
            width=_width(frame["ordinal"]),
            height=HEIGHT,
            view=no_frame(),
            description=described(title, field),
        )
    )
    return chart


def _calendar_axis(name: str, title: str, ordinals: pl.Series, cells: Cells) -> alt.X:
    """Lay out every period from the first to the last, also those without a row, and name some of them."""
    low, high = int(ordinals.min()), int(ordinals.max())  # type: ignore[arg-type]
    labels = cells.calendar.labels(np.arange(low, high + 1))
    named = [labels[at] for at in thinned(len(labels), cells.calendar.freq, MOST_DATES)]
    axis = alt.Axis(values=named, labelAngle=0, labelOverlap=True, ticks=True, titlePadding=8)
    padding = 0.1 if len(labels) <= PARTED else 0
    return alt.X(f"{name}:O", title=title, scale=alt.Scale(domain=labels, paddingInner=padding), axis=axis)


def _width(ordinals: pl.Series) -> int:
    """Choose the width of a plot: few bars need not fill it, and many have whole pixels so that no seams show."""
    count = int(ordinals.max()) - int(ordinals.min()) + 1  # type: ignore[arg-type]
    return max(240, min(WIDTH, 64 * count)) if count <= PARTED else count * max(1, round(WIDTH / count))
