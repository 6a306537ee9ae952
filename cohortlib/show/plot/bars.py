"""Bar charts over calendar periods: cohort sizes, and each period's amount by cohort."""

import altair as alt
import numpy as np
import polars as pl

from cohortlib.fields import COHORTS
from cohortlib.literals import Freq
from cohortlib.show.colours import STOPS
from cohortlib.show.plot import drawing
from cohortlib.show.plot.cells import Cells, Day, Table, read

_DARK = STOPS[::-1]
MOST_DATES = 12  # on the axis
GAPS_UP_TO = 60  # bars; more have no gaps between them


def cohort_sizes(
    table: Table, *, unfinished: Day | None = None, title: str | None = None, freq: Freq | None = None
) -> alt.Chart:
    """Draw how many users each cohort has.

    Parameters
    ----------
    table, freq
        As for :func:`heatmap`.
    unfinished
        The last day of the data. A cohort whose first period is not over by the end of this day is faded, because it
        can still grow.
    title
        The chart's title; "Cohort sizes" by default.

    Returns
    -------
    altair.Chart
        Its data are rows of ``cohort``, ``cohort_size`` and ``unfinished``.

    Raises
    ------
    SchemaError, DataError, SettingError
        As for :func:`heatmap`.

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
    unit = drawing.PERIODS[cells.calendar.freq]
    name, subtitle = "Cohort sizes", f"Users of each cohort, by the {unit} in which it starts"
    first = Cells(sizes, cells.calendar, cells.last_day)
    chart: alt.Chart = (
        alt.Chart(drawing.data(sizes.drop("start")))
        .mark_bar(aria=False)
        .encode(
            x=_calendar_axis("cohort", f"Cohort ({unit})", sizes["start"], cells),
            y=alt.Y("cohort_size:Q", title=COHORTS["cohort_size"].title, axis=drawing.number_axis("cohort_size")),
            color=alt.value(STOPS[5]),
            opacity=alt.condition("datum.unfinished", alt.value(0.4), alt.value(1)),
            tooltip=[
                alt.Tooltip("cohort:N", title="Cohort"),
                alt.Tooltip("cohort_size:Q", title="Users", format=","),
                *drawing.unfinished_tooltip(cells),
            ],
        )
        .properties(**drawing.properties(first, title, name, subtitle, (_width(sizes["start"]), drawing.HEIGHT - 120)))
    )
    return chart


def layers(
    table: Table, *, unfinished: Day | None = None, title: str | None = None, freq: Freq | None = None
) -> alt.Chart:
    """Draw the amount of each calendar period as stacked bars, one layer per cohort.

    Parameters
    ----------
    table, freq
        As for :func:`heatmap`.
    unfinished
        The last day of the data. A calendar period that is not over by the end of this day is faded.
    title
        The chart's title; "Amount by cohort" by default.

    Returns
    -------
    altair.Chart
        Its data are rows of ``cohort``, ``age``, ``amount``, ``calendar`` and ``unfinished``.

    Raises
    ------
    SchemaError, DataError, SettingError
        As for :func:`heatmap`.

    Examples
    --------
    >>> import cohortlib as cl
    >>> import polars as pl
    >>> rows = {"cohort": ["2026-01", "2026-01", "2026-02"], "period": [0, 1, 0], "amount": [80.0, 20.0, 50.0]}
    >>> cl.plot.layers(pl.DataFrame(rows)).save("layers.png")  # doctest: +SKIP
    """
    cells = read(table, ("amount",), freq, unfinished)
    frame = cells.frame.filter(pl.col("amount").is_not_null())
    unit = drawing.PERIODS[cells.calendar.freq]
    name, subtitle = "Amount by cohort", f"Amount of each {unit}, by cohort"
    cohorts = cells.cohorts
    with_legend = len(cohorts) <= drawing.MOST_NAMED
    places = {cohort: at for at, cohort in enumerate(cohorts)}
    rows = frame.with_columns(place=pl.col("cohort").replace_strict(places, return_dtype=pl.Int64)).drop("ordinal")
    chart: alt.Chart = (
        alt.Chart(drawing.data(rows))
        .mark_bar(aria=False)
        .encode(
            x=_calendar_axis("calendar", unit.capitalize(), frame["ordinal"], cells),
            y=alt.Y("amount:Q", title=COHORTS["amount"].title, axis=drawing.number_axis("amount")),
            color=alt.Color(
                "cohort:N",
                scale=alt.Scale(domain=cohorts, range=drawing.shades(_DARK, len(cohorts))),
                legend=alt.Legend(title="Cohort") if with_legend else None,
            ),
            order=alt.Order("place:Q"),
            opacity=alt.condition("datum.unfinished", alt.value(0.4), alt.value(1)),
            tooltip=[
                alt.Tooltip("cohort:N", title="Cohort"),
                alt.Tooltip("calendar:N", title=unit.capitalize()),
                alt.Tooltip("age:Q", title=f"Age ({unit}s)"),
                alt.Tooltip("amount:Q", title=COHORTS["amount"].title, format=drawing.number_format("amount")),
                *drawing.unfinished_tooltip(cells),
            ],
        )
        .properties(**drawing.properties(cells, title, name, subtitle, (_width(frame["ordinal"]), drawing.HEIGHT)))
    )
    return chart


def _calendar_axis(name: str, title: str, ordinals: pl.Series, cells: Cells) -> alt.X:
    """Return an axis with every period from the first to the last, also those without rows; some are labelled."""
    low, high = int(ordinals.min()), int(ordinals.max())  # type: ignore[arg-type]
    labels = cells.calendar.labels(np.arange(low, high + 1))
    shown = [labels[at] for at in drawing.thinned(len(labels), cells.calendar.freq, MOST_DATES)]
    axis = alt.Axis(values=shown, labelAngle=0, labelOverlap=True, ticks=True, titlePadding=8)
    padding = 0.1 if len(labels) <= GAPS_UP_TO else 0
    return alt.X(f"{name}:O", title=title, scale=alt.Scale(domain=labels, paddingInner=padding), axis=axis)


def _width(ordinals: pl.Series) -> int:
    """Return the width of a plot. Few bars do not fill it; many have whole pixels so that no seams show."""
    count = int(ordinals.max()) - int(ordinals.min()) + 1  # type: ignore[arg-type]
    few, many = max(240, min(drawing.WIDTH, 64 * count)), count * max(1, round(drawing.WIDTH / count))
    return few if count <= GAPS_UP_TO else many
