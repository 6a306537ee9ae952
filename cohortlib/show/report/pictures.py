"""The pictures of a report: charts of :mod:`cohortlib.show.plot`, embedded in the page.

A small picture is SVG in the page's own colours; a large one is two PNG images, for light and for dark mode.
"""

import base64
import re
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cohortlib.errors import CohortlibError
from cohortlib.fields import COHORTS, SHOWN, quotients
from cohortlib.show.colours import WHITE, between, contrast
from cohortlib.show.report.findings import Findings

if TYPE_CHECKING:
    import altair as alt


LARGEST_SVG = 500_000  # characters; heat maps and layers reach this with about 110 cohorts
_SCALE = 2.0  # pixels of an image per pixel of the page

# Colours of text and of the axes' lines. SVG takes both from the page; a CSS rule for this very colour sets the lines.
_LIGHT, _DARK = ("#1b1b1f", "#d5d8de"), ("#e4e6ea", "#3a3f49")
_OWN = ("currentColor", "#d5d8de")
_LINES = ("curves", "ltv")
_DARK_PAGE, _LINE_CONTRAST = "#16181d", 6.0  # high, since many lines are drawn half transparent


@dataclass(frozen=True)
class Picture:
    """A picture: its key, title, caption and text alternative, and its SVG or its two images."""

    key: str
    title: str
    caption: str
    description: str
    svg: str = ""
    rules: tuple[tuple[str, str], ...] = ()
    """Colours of lines, each with its replacement on a dark page."""
    light: str = ""
    dark: str = ""
    width: int = 0
    height: int = 0


def pictures(findings: Findings) -> Iterator[Picture]:
    """Draw all pictures of a table with at least one cohort."""
    for key, title, chart in _charts(findings):
        yield drawn(key, title, _description(key, findings), chart)


def drawn(key: str, title: str, description: str, chart: "alt.Chart | alt.LayerChart") -> Picture:
    """Draw a chart for light and dark mode; its title is removed, and its subtitle becomes the caption."""
    specification = chart.to_dict()
    subtitle = specification.pop("title", {}).get("subtitle", [])
    caption = " ".join(f"{line}." for line in ([subtitle] if isinstance(subtitle, str) else subtitle))
    description = f"{title}: {description} {caption}"
    svg = _inline(_svg(_coloured(specification, *_OWN)), key)
    width, height = _size(svg)
    if len(svg) <= LARGEST_SVG:
        rules = tuple(_lightened(svg)) if key in _LINES else ()
        return Picture(key, title, caption, description, svg, rules, width=width, height=height)
    light, dark = (_png(_coloured(specification, *colours)) for colours in (_LIGHT, _DARK))
    return Picture(key, title, caption, description, light=light, dark=dark, width=width, height=height)


def _charts(findings: Findings) -> "Iterator[tuple[str, str, alt.Chart | alt.LayerChart]]":
    """Yield the key, the title and the chart of each picture, in their order on the page."""
    from cohortlib.show import plot

    table = findings.table
    options: dict[str, Any] = {"unfinished": findings.last_day, "freq": findings.settings.freq}
    for field in quotients(COHORTS):
        key, title = field.removesuffix("_retention"), f"{COHORTS[field].title} by cohort"
        yield key, title, plot.heatmap(table, field, **options)
    yield "curves", f"{COHORTS[SHOWN[0]].title} by age", plot.retention_curves(table, SHOWN[0], **options)
    yield "ltv", f"{COHORTS['ltv'].title} by age", plot.ltv_curves(table, **options)
    yield "sizes", "Cohort sizes", plot.cohort_sizes(table, **options)
    yield "layers", f"Amount by {findings.unit}", plot.layers(table, **options)


def _description(key: str, findings: Findings) -> str:
    mark = {"curves": "lines", "ltv": "lines", "sizes": "bars", "layers": "stacked bars"}.get(key, "heat map")
    cohorts = findings.cells.cohorts
    if len(cohorts) == 1:
        return f"{mark} of cohort {cohorts[0]}."
    return f"{mark} of {len(cohorts):,} cohorts from {cohorts[0]} to {cohorts[-1]}."


def _coloured(specification: dict[str, Any], text: str, lines: str) -> dict[str, Any]:
    """Remove the background, and set the colours of text and axes."""
    config = dict(specification.get("config", {}))
    config["aria"] = False  # the page describes the picture as a whole; labels on a thousand cells would not help
    labels = {"labelColor": text, "titleColor": text}
    axes = {"domainColor": lines, "tickColor": lines, "gridColor": lines, "gridOpacity": 1}
    config["axis"] = config.get("axis", {}) | labels | axes
    config["legend"] = config.get("legend", {}) | labels
    config["view"] = config.get("view", {}) | {"stroke": None}
    return specification | {"background": None, "padding": 2, "config": config}


def _lightened(svg: str) -> Iterator[tuple[str, str]]:
    """Yield the colours of lines and points that are too dark on a dark page, each with a lighter one."""
    for line in sorted(set(re.findall(r"\b(?:stroke|fill)=\"(#[0-9a-f]{6})\"", svg)) - {_OWN[1]}):
        tints = (between((line, WHITE), share / 20) for share in range(21))
        visible = next(tint for tint in tints if contrast(tint, _DARK_PAGE) >= _LINE_CONTRAST)
        if visible != line:
            yield line, visible


def _svg(specification: dict[str, Any]) -> str:
    svg: str = _converter().vegalite_to_svg(specification, vl_version=_version())
    return svg


def _png(specification: dict[str, Any]) -> str:
    image = _packed(_converter().vegalite_to_png(specification, vl_version=_version(), scale=_SCALE))
    return f"data:image/png;base64,{base64.b64encode(image).decode()}"


def _packed(image: bytes) -> bytes:
    """Recompress the pixels of a PNG, to a third of its size: the converter uses a low level."""
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


def _converter() -> Any:  # noqa: ANN401 - an optional module
    try:
        import vl_convert
    except ModuleNotFoundError as error:
        raise CohortlibError("a report needs vl-convert", hint="pip install 'cohortlib[report]'") from error
    return vl_convert


def _version() -> str:
    """Return the version of Vega-Lite that Altair writes, in the converter's format: 5.20 or 6.1."""
    import altair

    return ".".join(altair.SCHEMA_VERSION.removeprefix("v").split(".")[:2])


def _inline(svg: str, key: str) -> str:
    """Prepare an SVG for a page with others: make its ids unique, and hide it from screen readers."""
    svg = svg[svg.index("<svg") :]
    ids: dict[str, str] = {}  # renumbered, since the converter continues its numbers from picture to picture

    def unique_id(match: re.Match[str]) -> str:
        return match[1] + ids.setdefault(match[2], f"{key}-{len(ids)}")

    svg = re.sub(r"(\bid=\"|url\(#|href=\"#)([^\")]+)", unique_id, svg)
    svg = re.sub(r" (xmlns(:xlink)?|version)=\"[^\"]*\"", "", svg)
    svg = re.sub(r" d=\"[^\"]*\"", lambda path: re.sub(r"(\.\d)\d+", r"\1", path[0]), svg)  # tenths of a pixel
    svg = re.sub(r"<path [^>]*\bopacity=\"0\"[^>]*/>", "", svg)  # invisible points that only carry tooltips
    return svg.replace("<svg ", '<svg aria-hidden="true" focusable="false" ', 1)


def _size(svg: str) -> tuple[int, int]:
    match = re.search(r"viewBox=\"0 0 ([\d.]+) ([\d.]+)\"", svg)
    return (round(float(match[1])), round(float(match[2]))) if match else (0, 0)
