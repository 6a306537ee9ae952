"""The pictures of a report: charts of :mod:`cohortlib.plotting`, drawn into the page itself.

A picture is SVG in the page's own colours as long as that is small, and else two PNG images, for light and for dark.
"""

import base64
import re
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cohortlib.errors import CohortlibError
from cohortlib.reporting.findings import Findings

if TYPE_CHECKING:
    import altair as alt

LARGEST_SVG = 150_000  # characters; an image of 200 cohorts takes less than half of that
_SCALE = 2.0  # pixels of an image for each of the page

# Text, and the lines of axes.
_LIGHT, _DARK = ("#1b1b1f", "#c3c7ce"), ("#e4e6ea", "#4a505c")
_OWN = ("currentColor", "currentColor")


@dataclass(frozen=True)
class Picture:
    """A picture under a heading: its section, title, caption, what it shows in words, and its SVG or its images."""

    key: str
    title: str
    caption: str
    told: str
    svg: str = ""
    light: str = ""
    dark: str = ""
    width: int = 0
    height: int = 0


def pictures(findings: Findings) -> Iterator[Picture]:
    """Draw all pictures; there must be a cohort."""
    for key, title, caption, chart in _charts(findings):
        told = f"{title}, {_told(key, findings)} {caption}"
        yield drawn(key, title, caption, told, chart())


def drawn(key: str, title: str, caption: str, told: str, chart: "alt.LayerChart") -> Picture:
    """Draw a chart for both light and dark."""
    specification = chart.to_dict()
    svg = _inline(_svg(_coloured(specification, *_OWN)), key)
    width, height = _size(svg)
    if len(svg) <= LARGEST_SVG:
        return Picture(key, title, caption, told, svg, width=width, height=height)
    light, dark = (_png(_coloured(specification, *colours)) for colours in (_LIGHT, _DARK))
    return Picture(key, title, caption, told, "", light, dark, width, height)


def _charts(findings: Findings) -> Iterator[tuple[str, str, str, "Callable[[], alt.LayerChart]"]]:
    """Name the pictures, in their order on the page."""
    from cohortlib import plotting as plot

    table, unit = findings.table, findings.unit
    asked: dict[str, Any] = {"unfinished": findings.last_day, "freq": findings.settings.freq}
    yield (
        "logo", "Logo retention by cohort", "Share of each cohort's users who are active at each age.",
        lambda: plot.heatmap(table, "logo_retention", **asked),
    )  # fmt: skip
    yield (
        "amount", "Amount retention by cohort", "Amount at each age as a share of the cohort's amount at age 0.",
        lambda: plot.heatmap(table, "amount_retention", **asked),
    )  # fmt: skip
    yield (
        "curves", "Logo retention by age", "A line for each cohort, and the mean weighted by cohort size.",
        lambda: plot.retention_curves(table, "logo_retention", **asked),
    )  # fmt: skip
    yield (
        "ltv", "LTV by age", "Amount per user of the cohort up to each age: a line for each cohort, and their mean.",
        lambda: plot.ltv_curves(table, **asked),
    )  # fmt: skip
    yield (
        "sizes", "Cohort sizes", "Users who became active for the first time.",
        lambda: plot.cohort_sizes(table, freq=findings.settings.freq),
    )  # fmt: skip
    yield (
        "layers", f"Amount by {unit}", "One layer for each cohort: what it brought in each calendar period.",
        lambda: plot.layers(table, **asked),
    )  # fmt: skip


def _told(key: str, findings: Findings) -> str:
    """Say in words what a picture is of."""
    kind = {"logo": "heat map", "amount": "heat map", "curves": "lines", "ltv": "lines", "sizes": "bars"}
    cohorts = findings.cells.cohorts
    if len(cohorts) == 1:
        return f"{kind.get(key, 'stacked areas')} of cohort {cohorts[0]}."
    return f"{kind.get(key, 'stacked areas')} of {len(cohorts):,} cohorts from {cohorts[0]} to {cohorts[-1]}."


# ----------------------------------------------------------------------------------------------------------- drawing


def _coloured(specification: dict[str, Any], text: str, lines: str) -> dict[str, Any]:
    """Leave out the title, which the page has, and the background; set the colours of all that is no data."""
    own = deepcopy(specification)
    own.pop("title", None)
    own["background"] = None
    own["padding"] = 2
    config = own.setdefault("config", {})
    config["aria"] = False  # the page tells the whole picture; a label on each of a thousand cells tells nobody anything
    labels = {"labelColor": text, "titleColor": text}
    config["axis"] = config.get("axis", {}) | labels | {"domainColor": lines, "tickColor": lines, "gridColor": lines}
    config["legend"] = config.get("legend", {}) | labels
    config["view"] = config.get("view", {}) | {"stroke": None}
    return own


def _svg(specification: dict[str, Any]) -> str:
    svg: str = _converter().vegalite_to_svg(specification, vl_version=_version())
    return svg


def _png(specification: dict[str, Any]) -> str:
    image = _converter().vegalite_to_png(specification, vl_version=_version(), scale=_SCALE)
    return f"data:image/png;base64,{base64.b64encode(image).decode()}"


def _converter() -> Any:  # noqa: ANN401 - a module that comes with an extra
    try:
        import vl_convert
    except ModuleNotFoundError as error:
        raise CohortlibError("a report needs vl-convert. Hint: pip install 'cohortlib[report]'") from error
    return vl_convert


def _version() -> str:
    """Name the version of Vega-Lite that Altair writes, as the converter does: 5.20 or 6.1."""
    import altair

    return ".".join(altair.SCHEMA_VERSION.removeprefix("v").split(".")[:2])


def _inline(svg: str, key: str) -> str:
    """Make an SVG fit to stand in a page beside others: its ids are its own, and it says nothing by itself."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"(\bid=\"|url\(#|href=\"#)", rf"\g<1>{key}-", svg)
    svg = re.sub(r" (xmlns(:xlink)?|version)=\"[^\"]*\"", "", svg)
    svg = re.sub(r"(\d\.\d\d)\d+", r"\1", svg)
    return svg.replace("<svg ", '<svg aria-hidden="true" focusable="false" ', 1)


def _size(svg: str) -> tuple[int, int]:
    found = re.search(r"viewBox=\"0 0 ([\d.]+) ([\d.]+)\"", svg)
    return (round(float(found[1])), round(float(found[2]))) if found else (0, 0)
