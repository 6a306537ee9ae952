"""The pictures of a report: charts of :mod:`cohortlib.show.plot`, drawn into the page itself.

A picture is SVG in the page's own colours as long as that is small, and else two PNG images, for light and for dark.
"""

import base64
import re
import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cohortlib.errors import CohortlibError
from cohortlib.show.colours import WHITE, between, contrast
from cohortlib.show.report.findings import Findings

if TYPE_CHECKING:
    import altair as alt


LARGEST_SVG = 500_000  # characters; of heat maps, and of layers, so many are some 110 cohorts
_SCALE = 2.0  # pixels of an image for each of the page

# Text, and the lines of axes; what is drawn into the page takes both from it, the lines by a rule for this very colour.
_LIGHT, _DARK = ("#1b1b1f", "#d5d8de"), ("#e4e6ea", "#3a3f49")
_OWN = ("currentColor", "#d5d8de")
_LINES = ("curves", "ltv")
_DARK_PAGE, _LINE_CONTRAST = "#16181d", 6.0  # lines are half transparent where they are many


@dataclass(frozen=True)
class Picture:
    """A picture under a heading: its section, title, caption, what it shows in words, and its SVG or its images."""

    key: str
    title: str
    caption: str
    told: str
    svg: str = ""
    rules: tuple[tuple[str, str], ...] = ()
    """Colours of lines, and what they are on a dark page."""
    light: str = ""
    dark: str = ""
    width: int = 0
    height: int = 0


def pictures(findings: Findings) -> Iterator[Picture]:
    """Draw all pictures; there must be a cohort."""
    for key, title, chart in _charts(findings):
        yield drawn(key, title, _told(key, findings), chart())


def drawn(key: str, title: str, told: str, chart: "alt.Chart | alt.LayerChart") -> Picture:
    """Draw a chart for both light and dark; its own title goes, and the lines below it become the caption."""
    specification = chart.to_dict()
    below = specification.pop("title", {}).get("subtitle", [])
    caption = " ".join(f"{line}." for line in ([below] if isinstance(below, str) else below))
    told = f"{title}: {told} {caption}"
    svg = _inline(_svg(_coloured(specification, *_OWN)), key)
    width, height = _size(svg)
    if len(svg) <= LARGEST_SVG:
        rules = tuple(_lightened(svg)) if key in _LINES else ()
        return Picture(key, title, caption, told, svg, rules, width=width, height=height)
    light, dark = (_png(_coloured(specification, *colours)) for colours in (_LIGHT, _DARK))
    return Picture(key, title, caption, told, light=light, dark=dark, width=width, height=height)


def _charts(findings: Findings) -> "Iterator[tuple[str, str, Callable[[], alt.Chart | alt.LayerChart]]]":
    """Name the pictures, in their order on the page."""
    from cohortlib.show import plot

    table = findings.table
    asked: dict[str, Any] = {"unfinished": findings.last_day, "freq": findings.settings.freq}
    yield "logo", "Logo retention by cohort", lambda: plot.heatmap(table, "logo_retention", **asked)
    yield "amount", "Amount retention by cohort", lambda: plot.heatmap(table, "amount_retention", **asked)
    yield "curves", "Logo retention by age", lambda: plot.retention_curves(table, "logo_retention", **asked)
    yield "ltv", "LTV by age", lambda: plot.ltv_curves(table, **asked)
    yield "sizes", "Cohort sizes", lambda: plot.cohort_sizes(table, **asked)
    yield "layers", f"Amount by {findings.unit}", lambda: plot.layers(table, **asked)


def _told(key: str, findings: Findings) -> str:
    """Say in words what a picture is of."""
    kind = {"logo": "heat map", "amount": "heat map", "curves": "lines", "ltv": "lines", "sizes": "bars"}
    cohorts = findings.cells.cohorts
    if len(cohorts) == 1:
        return f"{kind.get(key, 'stacked bars')} of cohort {cohorts[0]}."
    return f"{kind.get(key, 'stacked bars')} of {len(cohorts):,} cohorts from {cohorts[0]} to {cohorts[-1]}."


# ----------------------------------------------------------------------------------------------------------- drawing


def _coloured(specification: dict[str, Any], text: str, lines: str) -> dict[str, Any]:
    """Leave out the background, and set the colours of all that is no data."""
    config = dict(specification.get("config", {}))
    config["aria"] = (
        False  # the page tells the whole picture; a label on each of a thousand cells tells nobody anything
    )
    labels = {"labelColor": text, "titleColor": text}
    axes = {"domainColor": lines, "tickColor": lines, "gridColor": lines, "gridOpacity": 1}
    config["axis"] = config.get("axis", {}) | labels | axes
    config["legend"] = config.get("legend", {}) | labels
    config["view"] = config.get("view", {}) | {"stroke": None}
    return specification | {"background": None, "padding": 2, "config": config}


def _lightened(svg: str) -> Iterator[tuple[str, str]]:
    """Give the colours of lines, and of their points, that are too dark for a dark page, and what can be seen there."""
    for line in sorted(set(re.findall(r"\b(?:stroke|fill)=\"(#[0-9a-f]{6})\"", svg)) - {_OWN[1]}):
        shares = (share / 20 for share in range(21))
        seen = next(c for s in shares if contrast(c := between((line, WHITE), s), _DARK_PAGE) >= _LINE_CONTRAST)
        if seen != line:
            yield line, seen


def _svg(specification: dict[str, Any]) -> str:
    svg: str = _converter().vegalite_to_svg(specification, vl_version=_version())
    return svg


def _png(specification: dict[str, Any]) -> str:
    image = _packed(_converter().vegalite_to_png(specification, vl_version=_version(), scale=_SCALE))
    return f"data:image/png;base64,{base64.b64encode(image).decode()}"


def _packed(image: bytes) -> bytes:
    """Pack the pixels of a PNG better, a third of the bytes: the converter packs in haste."""
    pixels, last = b"", b""
    packed, at = image[:8], 8
    while at < len(image):
        (size,) = struct.unpack_from(">I", image, at)
        kind, end = image[at + 4 : at + 8], at + 12 + size
        if kind == b"IDAT":
            pixels += image[at + 8 : end - 4]
        elif kind == b"IEND":
            last = image[at:end]
        elif kind == b"IHDR":
            packed += image[at:end]
        at = end
    pixels = zlib.compress(zlib.decompress(pixels), 9)
    whole = b"IDAT" + pixels
    return packed + struct.pack(">I", len(pixels)) + whole + struct.pack(">I", zlib.crc32(whole)) + last


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
    names: dict[str, str] = {}  # the converter counts on from picture to picture

    def own(found: re.Match[str]) -> str:
        return found[1] + names.setdefault(found[2], f"{key}-{len(names)}")

    svg = re.sub(r"(\bid=\"|url\(#|href=\"#)([^\")]+)", own, svg)
    svg = re.sub(r" (xmlns(:xlink)?|version)=\"[^\"]*\"", "", svg)
    svg = re.sub(r" d=\"[^\"]*\"", lambda path: re.sub(r"(\.\d)\d+", r"\1", path[0]), svg)  # tenths of a pixel
    svg = re.sub(r"<path [^>]*\bopacity=\"0\"[^>]*/>", "", svg)  # only there to be pointed at
    return svg.replace("<svg ", '<svg aria-hidden="true" focusable="false" ', 1)


def _size(svg: str) -> tuple[int, int]:
    found = re.search(r"viewBox=\"0 0 ([\d.]+) ([\d.]+)\"", svg)
    return (round(float(found[1])), round(float(found[2]))) if found else (0, 0)
