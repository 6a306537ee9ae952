"""The scale of colours from small to large, and the ink that is read on each of them.

The stops are those of viridis from its light end to its dark one: lightness falls all the way, so the order is seen by
colour-blind people too, on paper without colour, and on a light or a dark page.
"""

from collections.abc import Sequence

STOPS = ("#f1e51d", "#b5de2b", "#6ece58", "#35b779", "#1f9e89", "#26828e", "#31688e", "#3e4989", "#482878")
WHITE, BLACK = "#ffffff", "#111111"


def colour(share: float) -> str:
    """Give the colour of a value from 0 (smallest) to 1 (largest); beyond them it is that of the nearer end.

    >>> colour(0.0), colour(1.0)
    ('#f1e51d', '#482878')
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
