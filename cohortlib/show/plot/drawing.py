"""What all charts share: titles, number formats, axes, tooltips and sizes."""

import math
import re
from collections.abc import Sequence
from typing import Any

import altair as alt
import polars as pl

from cohortlib.errors import Arg, SettingError
from cohortlib.fields import COHORTS, by_age, kind_of
from cohortlib.literals import Freq
from cohortlib.show.colours import between
from cohortlib.show.plot.cells import Cells

FIELDS = by_age(COHORTS)  # the fields that can be drawn
PERIODS = {"D": "day", "W": "week", "M": "month", "Q": "quarter", "A": "year"}
SIZE = WIDTH, HEIGHT = 760, 420  # of the plot in pixels, without its axes
MOST_TICKS = 24
MOST_NAMED = 12  # cohorts in a legend
MEAN = "#d55e00"  # from Okabe and Ito's palette: far from every colour of the scale, on light and dark pages
_STEPS: dict[Freq, tuple[int, ...]] = {
    "D": (1, 7, 14, 28, 56, 91, 182, 364),
    "W": (1, 2, 4, 8, 13, 26, 52, 104),
    "M": (1, 2, 3, 6, 12, 24, 36, 60, 120),
    "Q": (1, 2, 4, 8, 12, 20, 40),
    "A": (1, 2, 5, 10, 20, 50),
}
_FORMATS = {"share": ".1%", "count": ",d", "money": ",.2f"}


def number_format(field: str) -> str:
    """Return d3's format of a field's values."""
    return _FORMATS[kind_of(field) or "money"]


def meaning(field: str) -> str:
    """Return what a field is, as a subtitle.

    >>> meaning("amount_retention")
    'Share of the amount at age 0'
    """
    text = FIELDS[field].meaning
    return text[0].upper() + text[1:]


def data(frame: pl.DataFrame) -> alt.InlineData:
    """Return rows as inline data of a chart, without Altair's row limit and conversions."""
    inline = alt.InlineData(values=[])
    inline["values"] = frame.to_dicts()  # assigned like this they are not validated row by row, which takes a minute
    return inline


def properties(
    cells: Cells,
    title: str | None,
    default: str,
    subtitle: str,
    size: tuple[int, int],
    mark: str = "Faded",
    *remarks: str,
) -> dict[str, Any]:
    """Return the title, size and text alternative of a chart, and a plot background without a frame.

    The lines below the title are the subtitle, unless the caller has set a title, and remarks.
    """
    if not isinstance(title, str | None):
        raise SettingError((Arg("title", title), f" has type {type(title).__name__}"), value=title, expected="a string")
    lines = [subtitle] if title is None else []
    if cells.frame["unfinished"].any():
        period = PERIODS[cells.calendar.freq]
        lines.append(f"{mark}: the {period} is not over, as the rows end on {cells.last_day}")
    lines += filter(None, remarks)
    heading = alt.TitleParams(
        default if title is None else safe(title),
        subtitle=lines if lines else alt.Undefined,
        anchor="start",
        frame="group",
        fontSize=16,
        subtitleFontSize=12,
        subtitleColor="#666666",
        subtitlePadding=4,
        offset=12,
    )
    return {
        "title": heading,
        "width": size[0],
        "height": size[1],
        "view": alt.ViewBackground(stroke=None),
        "description": safe(f"{title or default}: {subtitle}"),
    }


def unfinished_tooltip(cells: Cells) -> list[alt.Tooltip]:
    """Return the line of a tooltip that says whether the period is over, if the last day is known."""
    return [alt.Tooltip("unfinished:N", title="Not over")] if cells.last_day else []


def cell_tooltip(cells: Cells, field: str) -> list[alt.Tooltip]:
    """Return the lines of a cell's tooltip."""
    unit = PERIODS[cells.calendar.freq]
    return [
        alt.Tooltip("cohort:N", title="Cohort"),
        alt.Tooltip("cohort_size:Q", title="Users", format=","),
        alt.Tooltip("age:Q", title=f"Age ({unit}s)"),
        alt.Tooltip("calendar:N", title=unit.capitalize()),
        alt.Tooltip(f"{field}:Q", title=FIELDS[field].title, format=number_format(field)),
        *unfinished_tooltip(cells),
    ]


def shades(stops: Sequence[str], count: int) -> list[str]:
    """Return `count` colours, evenly spaced from the first stop to the last."""
    return [between(stops, at / max(count - 1, 1)) for at in range(count)]


def safe(text: str) -> str:
    """Keep a text from closing the script element of Altair's HTML page; Altair does not escape it.

    A word joiner, which is invisible, is put between ``<`` and the character that would start a tag or comment.
    """
    return re.sub(r"<(?=[/!])", "<\u2060", text)


def age_title(freq: Freq) -> str:
    """Return the title of the axis of ages."""
    period = PERIODS[freq]
    return f"{period.capitalize()}s since the cohort's first {period}"


def number_labels(field: str) -> str:
    """Return a Vega expression that formats the numbers of an axis or a legend.

    d3's own ``~s`` formats 0.5 as 500m and a billion as 1G.
    """
    if kind_of(field) == "share":
        return "format(datum.value, ',.3~%')"
    return "abs(datum.value) < 1000 ? format(datum.value, ',.2~f') : replace(format(datum.value, '.4~s'), 'G', 'bn')"


def number_axis(field: str) -> alt.Axis:
    """Return the axis of a field's values."""
    return alt.Axis(labelExpr=number_labels(field), tickCount=6, gridOpacity=0.5)


def ticks(low: float, high: float) -> list[float]:
    """Return the round numbers between two, three to ten of them.

    >>> ticks(0.13, 0.77)
    [0.2, 0.3, 0.4, 0.5, 0.6, 0.7]
    """
    power = 10.0 ** math.floor(math.log10(high - low))
    step = next(step for step in (power, power / 2, power / 5) if (high - low) / step >= 3)
    first = math.ceil(low / step)
    return [float(f"{at * step:.12g}") for at in range(first, math.floor(high / step) + 1)]


def thinned(count: int, freq: Freq, most: int = MOST_TICKS) -> range:
    """Return which of `count` positions get a label: all, or every n-th with an n that fits the calendar.

    >>> thinned(200, "W", 20)
    range(0, 200, 13)
    """
    steps = _STEPS[freq]
    return range(0, count, next((step for step in steps if count <= step * most), -(-count // most)))
