"""What all pictures share: their words, formats, axes and size."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

import altair as alt
import polars as pl

from cohortlib.errors import SettingError
from cohortlib.periods import Freq
from cohortlib.show.colours import between
from cohortlib.show.plot.cells import Cells

PERIODS = {"D": "day", "W": "week", "M": "month", "Q": "quarter", "A": "year"}
WIDTH, HEIGHT = 760, 420  # of the plot in pixels, without its axes
MOST_TICKS = 24
MOST_NAMED = 12  # cohorts in a legend
_STEPS: dict[Freq, tuple[int, ...]] = {
    "D": (1, 7, 14, 28, 56, 91, 182, 364),
    "W": (1, 2, 4, 8, 13, 26, 52, 104),
    "M": (1, 2, 3, 6, 12, 24, 36, 60, 120),
    "Q": (1, 2, 4, 8, 12, 20, 40),
    "A": (1, 2, 5, 10, 20, 50),
}
MEAN = "#d55e00"  # of Okabe and Ito: far from every colour of the scale, on light and on dark


@dataclass(frozen=True)
class Field:
    """How a field is told: its title, what it is, the name of its axis, and d3's format of a number."""

    title: str
    told: str
    axis: str
    form: str


FIELDS = {
    "logo_retention": Field(
        "Logo retention", "Share of the cohort's users who are active", "Share of users active", ".1%"
    ),
    "amount_retention": Field(
        "Amount retention",
        "Amount as a share of the cohort's amount at age 0",
        "Share of the amount at age 0",
        ".1%",
    ),
    "active_users": Field("Active users", "Users of the cohort who are active", "Active users", ",d"),
    "amount": Field("Amount", "Amount of the cohort at each age", "Amount", ",.2f"),
    "ltv": Field("Lifetime value", "Amount per user of the cohort, up to each age", "Amount per user (LTV)", ",.2f"),
}


def data(frame: pl.DataFrame) -> alt.InlineData:
    """Put rows into a chart as they are: no limit of Altair, no conversion, no file beside it."""
    inline = alt.InlineData(values=[])
    inline["values"] = frame.to_dicts()  # set so, they are not checked row by row: that would take a minute
    return inline


def heading(title: str | None, field: Field, cells: Cells, mark: str = "Faded", more: str = "") -> alt.TitleParams:
    """Write the lines above a picture: what is seen, and what is unfinished."""
    if not isinstance(title, str | None):
        raise SettingError(f"title={title!r} has type {type(title).__name__}; expected a line of text")
    lines = [field.told] if title is None else []
    if cells.frame["unfinished"].any():
        period = PERIODS[cells.calendar.freq]
        lines.append(f"{mark}: the {period} is not over, as the rows end on {cells.last_day}")
    if more:
        lines.append(more)
    text = field.title if title is None else safe(title)
    return alt.TitleParams(
        text,
        subtitle=lines if lines else alt.Undefined,
        anchor="start",
        frame="group",
        fontSize=16,
        subtitleFontSize=12,
        subtitleColor="#666666",
        subtitlePadding=4,
        offset=12,
    )


def described(title: str | None, field: Field) -> str:
    """Tell in a sentence what is drawn, for those who do not see it."""
    return safe(f"{title or field.title}: {field.told}")


def open_tooltip(cells: Cells) -> list[alt.Tooltip]:
    """Tell in a tooltip whether the period is over, where that is known."""
    return [alt.Tooltip("unfinished:N", title="Not over")] if cells.last_day else []


def cell_tooltip(cells: Cells, value: str) -> list[alt.Tooltip]:
    """Tell in a tooltip all that is known of a cell."""
    unit, field = PERIODS[cells.calendar.freq], FIELDS[value]
    return [
        alt.Tooltip("cohort:N", title="Cohort"),
        alt.Tooltip("cohort_size:Q", title="Users", format=","),
        alt.Tooltip("age:Q", title=f"Age ({unit}s)"),
        alt.Tooltip("calendar:N", title=unit.capitalize()),
        alt.Tooltip(f"{value}:Q", title=field.title, format=field.form),
        *open_tooltip(cells),
    ]


def shades(stops: Sequence[str], count: int) -> list[str]:
    """Give as many colours, from the first of some to the last."""
    return [between(stops, at / max(count - 1, 1)) for at in range(count)]


def no_frame() -> alt.ViewBackground:
    """Leave out the frame around a plot."""
    return alt.ViewBackground(stroke=None)


def safe(text: str) -> str:
    """Keep a text from ending the script that Altair's page holds it in: Altair does not.

    A word joiner, which is not seen, comes between ``<`` and the mark that would give it a meaning.
    """
    return re.sub(r"<(?=[/!])", "<\u2060", text)


def age_title(freq: Freq) -> str:
    """Name the axis of ages."""
    period = PERIODS[freq]
    return f"{period.capitalize()}s since the cohort's first {period}"


def numbers(field: str) -> str:
    """Write the numbers of an axis or a legend, as an expression of Vega.

    d3's own ``~s`` writes 0.5 as 500m and a billion as 1G.
    """
    if field.endswith("_retention"):
        return "format(datum.value, ',.3~%')"
    return "abs(datum.value) < 1000 ? format(datum.value, ',.2~f') : replace(format(datum.value, '.4~s'), 'G', 'bn')"


def number_axis(field: str) -> alt.Axis:
    """Make the axis of the values of a field."""
    return alt.Axis(labelExpr=numbers(field), tickCount=6, gridOpacity=0.5)


def ticks(low: float, high: float) -> list[float]:
    """Choose round numbers between two, three to ten of them.

    >>> ticks(0.13, 0.77)
    [0.2, 0.3, 0.4, 0.5, 0.6, 0.7]
    """
    power = 10.0 ** math.floor(math.log10(high - low))
    step = next(step for step in (power, power / 2, power / 5) if (high - low) / step >= 3)
    first = math.ceil(low / step)
    return [float(f"{at * step:.12g}") for at in range(first, math.floor(high / step) + 1)]


def thinned(count: int, freq: Freq, most: int = MOST_TICKS) -> range:
    """Choose which of some places in a row are named: all, or every so many that fit the calendar.

    >>> thinned(200, "W", 20)
    range(0, 200, 13)
    """
    steps = _STEPS[freq]
    return range(0, count, next((step for step in steps if count <= step * most), -(-count // most)))
