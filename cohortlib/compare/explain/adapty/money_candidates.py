"""Propose money fields that are multiplied by a factor, or that replace each other."""

from collections.abc import Iterator

import numpy as np

from cohortlib.compare.explain.adapty.comparison import AdaptyComparison
from cohortlib.compare.explain.adapty.money import Floats
from cohortlib.compare.explain.causes import Cause, choice
from cohortlib.fields import MONEY

_EQUAL = 0.01  # share of the cells that may be equal by chance
_FACTORS = 1e6  # alternatives of a factor of six digits


def money_candidates(comparison: AdaptyComparison) -> Iterator[Cause]:
    """List exchanged money fields, and the factors that the cells share."""
    pairs = comparison.money_pairs()
    if pairs is None:
        return
    remote, local = pairs
    sources = (0, 1, 2)  # for each remote field the local one closest to it
    for scaled in (False, True):
        distances = [
            [_distance(remote[:, field], local[:, source], scaled=scaled) for source in range(3)] for field in range(3)
        ]
        if sources == (0, 1, 2):
            sources = _closest(distances)
    if sources != (0, 1, 2):
        exchanged = [f"{MONEY[source]} as {MONEY[field]}" for field, source in enumerate(sources) if field != source]
        yield Cause("moneys", sources, " and ".join(exchanged), bits=choice(27))
        scaled_from = tuple(_factor(remote[:, at], local[:, source]) for at, source in enumerate(sources))
        if any(factor != 1.0 for factor in scaled_from):
            named = [
                f"{MONEY[field]} as {_times(factor)}{MONEY[source]}"
                for field, (source, factor) in enumerate(zip(sources, scaled_from, strict=True))
                if field != source or factor != 1.0
            ]
            cost = choice(27, *_alternatives(scaled_from))
            yield Cause("moneys and factors", (sources, scaled_from), " and ".join(named), bits=cost)
    factors = tuple(_factor(remote[:, at], local[:, at]) for at in range(3))
    if any(factor != 1.0 for factor in factors):
        if max(factors) - min(factors) <= 1e-6 * max(factors):
            words = f"all money times {factors[0]:.6g}"
        else:
            pairs_of = zip(MONEY, factors, strict=True)
            words = ", ".join(f"{name} times {factor:.6g}" for name, factor in pairs_of if factor != 1.0)
        yield Cause("factor", factors, words, bits=choice(*_alternatives(factors)))


def _alternatives(factors: tuple[float, ...]) -> list[float]:
    """Return the alternatives of each distinct factor, of up to six digits."""
    return [_FACTORS] * len({round(factor, 9) for factor in factors} - {1.0})


def _times(factor: float) -> str:
    return "" if factor == 1.0 else f"{factor:.6g} times "


def _closest(distances: list[list[float]]) -> tuple[int, int, int]:
    """Return the closest local field of each remote one; its own, unless another is at less than half the distance."""
    first, second, third = (
        int(np.argmin(row)) if min(row) < row[field] / 2 else field for field, row in enumerate(distances)
    )
    return first, second, third


def _distance(remote: Floats, local: Floats, *, scaled: bool) -> float:
    """Return the median relative difference; if `scaled`, relative to the median ratio instead of 1."""
    ratios = remote / local
    return float(np.median(np.abs(ratios / (np.median(ratios) if scaled else 1.0) - 1)))


def _factor(remote: Floats, local: Floats) -> float:
    """Return the ratio that most cells share; 1.0 if there is none."""
    ratios = remote / local
    # Cells that are equal as they are contradict a factor.
    if (np.abs(remote - local) <= 1e-9 * np.abs(local)).sum() > max(2, _EQUAL * ratios.size):
        return 1.0
    rounded = np.round(ratios, 5 - int(np.floor(np.log10(max(abs(float(np.median(ratios))), 1e-9)))))
    values, counts = np.unique(rounded, return_counts=True)
    best = int(np.argmax(counts))
    same = np.abs(ratios / values[best] - 1) < 1e-4 if values[best] else np.zeros(ratios.size, bool)
    if counts[best] < max(3, 0.15 * ratios.size) or abs(values[best] - 1) < 1e-6 or values[best] <= 0:
        return 1.0
    # Unrounded cells share all digits of the ratio. If cells are rounded, the larger ones are more precise.
    sharing, sizes = ratios[np.flatnonzero(same)], np.abs(local[np.flatnonzero(same)])
    digits, counts = np.unique(np.round(sharing / values[best], 9), return_counts=True)
    if counts.max() >= max(3, 0.1 * sharing.size):
        exact = float(digits[int(np.argmax(counts))] * values[best])
    else:
        exact = float(np.median(sharing[sizes >= np.median(sizes)]))
    short = float(f"{exact:.6g}")
    return short if abs(short / exact - 1) < 1e-8 else exact
