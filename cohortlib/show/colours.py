"""The colour scale from small to large values, and the text colour that is readable on each colour.

Lightness falls steadily from a pale green to a dark blue, so the order is visible to colour-blind readers and in black
and white. Neither end is white or black, so that cells stand out from blanks on light and dark pages.
"""

from collections.abc import Sequence

import polars as pl

from cohortlib.fields import CUMULATIVE

STOPS = ("#e9f3c8", "#c3e2b8", "#93cfb3", "#5db8b5", "#359cb3", "#2a7da6", "#2c5d94", "#2d3f7c", "#2a235a")
WHITE, BLACK = "#ffffff", "#000000"


def colour(share: float) -> str:
    """Return the colour of a value between 0 (smallest) and 1 (largest); values beyond are clipped.

    >>> colour(0.0), colour(1.0)
    ('#e9f3c8', '#2a235a')
    """
    return between(STOPS, share)


def between(stops: Sequence[str], share: float) -> str:
    """Return the colour at a share of the way from the first stop to the last."""
    position = min(max(share, 0.0), 1.0) * (len(stops) - 1)
    stop = min(int(position), len(stops) - 2)
    pairs = zip(_rgb(stops[stop]), _rgb(stops[stop + 1]), strict=True)
    return "#" + "".join(f"{round(low + (high - low) * (position - stop)):02x}" for low, high in pairs)


def limits(table: pl.DataFrame, field: str, age: str = "period") -> tuple[float, float]:
    """Return the values of the lightest and the darkest colour. Age 0 often exceeds the rest, so it is left out."""
    later = table.filter((pl.col(age) > 0) | (field in CUMULATIVE))[field].drop_nulls()
    values = later if later.len() else table[field].drop_nulls()
    return (float(values.min()), float(values.max())) if values.len() else (0.0, 0.0)  # type: ignore[arg-type]


def ink(background: str) -> str:
    """Return black or white, whichever has more contrast with a colour: at least 4.5 to 1."""
    return max(WHITE, BLACK, key=lambda text: contrast(text, background))


def contrast(first: str, second: str) -> float:
    """Return the contrast ratio of two colours as WCAG defines it: from 1 to 21."""
    low, high = sorted((luminance(first), luminance(second)))
    return (high + 0.05) / (low + 0.05)


def luminance(colour: str) -> float:
    """Return the relative luminance of a colour as WCAG defines it: from 0 to 1."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in (p / 255 for p in _rgb(colour))]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def _rgb(colour: str) -> tuple[int, ...]:
    return tuple(int(colour[at : at + 2], 16) for at in (1, 3, 5))
