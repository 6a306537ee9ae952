"""The scale of colours from small to large, and the ink that is read on each of them.

Lightness falls all the way from a pale green to a dark blue, so the order is seen by colour-blind people too, and on
paper without colour. No end is white or black, so that a cell is seen beside a blank on a light or a dark page.
"""

from collections.abc import Sequence

STOPS = ("#e9f3c8", "#c3e2b8", "#93cfb3", "#5db8b5", "#359cb3", "#2a7da6", "#2c5d94", "#2d3f7c", "#2a235a")
WHITE, BLACK = "#ffffff", "#000000"


def colour(share: float) -> str:
    """Give the colour of a value from 0 (smallest) to 1 (largest); beyond them it is that of the nearer end.

    >>> colour(0.0), colour(1.0)
    ('#e9f3c8', '#2a235a')
    """
    return between(STOPS, share)


def between(stops: Sequence[str], share: float) -> str:
    """Give the colour at a share of the way from the first of some colours to the last."""
    place = min(max(share, 0.0), 1.0) * (len(stops) - 1)
    at = min(int(place), len(stops) - 2)
    pairs = zip(_parts(stops[at]), _parts(stops[at + 1]), strict=True)
    return "#" + "".join(f"{round(low + (high - low) * (place - at)):02x}" for low, high in pairs)


def ink(background: str) -> str:
    """Give black or white, whichever is read better on a colour: the contrast is at least 4.5 to 1."""
    return max(WHITE, BLACK, key=lambda text: contrast(text, background))


def contrast(one: str, other: str) -> float:
    """Give the contrast of two colours as WCAG defines it: from 1 to 21."""
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def luminance(colour: str) -> float:
    """Give the relative luminance of a colour as WCAG defines it: from 0 to 1."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in (p / 255 for p in _parts(colour))]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def _parts(colour: str) -> tuple[int, ...]:
    return tuple(int(colour[at : at + 2], 16) for at in (1, 3, 5))
