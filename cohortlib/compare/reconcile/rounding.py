"""Find out whether one side holds rounded values, and to how many decimal places."""

from dataclasses import dataclass, replace
from math import log2
from typing import Literal, TypeAlias

import numpy as np
import polars as pl
from numpy.typing import NDArray

from cohortlib.compare.reconcile.numbers import decimal_places
from cohortlib.compare.reconcile.outcomes import PairedField, Rounding

_BITS = 20  # of evidence that values are rounded: that many cells equal by chance are out of the question
_Floats: TypeAlias = NDArray[np.float64]
Side: TypeAlias = Literal["local", "remote"]
Mode: TypeAlias = Literal["rounded", "truncated"]


@dataclass(frozen=True)
class _Pairs:
    """The values of a field that are numbers on both sides: rounded ones, and exact ones."""

    rounded: _Floats
    exact: _Floats
    unit: float

    @property
    def needed(self) -> NDArray[np.bool_]:
        """Whether each exact value has further decimal places, so that rounding changes it."""
        units = self.exact / self.unit
        return np.abs(units - np.round(units)) > 1e-6

    def fits(self, mode: Mode) -> NDArray[np.bool_]:
        """Whether each rounded value is the exact one rounded, or cut off."""
        slack = 1e-6 * self.unit + np.abs(self.exact) * 2.0**-51
        if mode == "rounded":
            return np.abs(self.rounded - self.exact) <= self.unit / 2 + slack
        cut = (self.exact - self.rounded) * np.sign(self.exact)
        return (cut >= -slack) & (cut < self.unit - slack)


def with_rounding(field: PairedField, pairs: pl.DataFrame) -> PairedField:
    """Return a field with the rounding of one side, if the pairs prove it.

    One side is rounded if all of its values have few decimal places, those of the other side have more, and so many of
    these agree once rounded that it cannot be chance.
    """
    if field.value_type != "float":
        return field
    sides: tuple[Side, ...] = ("local", "remote")
    columns = {side: pairs[f"{side} {field.name}"] for side in sides}
    first = {decimal_places(column.head(1000)) for column in columns.values()}
    if len(first) == 1 and _covered(first.pop(), field):  # the usual case: money in cents on both sides
        return field
    places = {side: decimal_places(column) for side, column in columns.items()}
    side: Side = min(places, key=lambda side: 99 if (count := places[side]) is None else count)
    count, other = places[side], places["local" if side == "remote" else "remote"]
    if count is None or count == other:
        return field
    unit = 10.0**-count
    if unit / 2 < field.tolerance.absolute * (1 - 1e-9):
        return field
    both = pairs.select(
        pl.col(f"{side} {field.name}").alias("rounded"),
        pl.col(f"{'local' if side == 'remote' else 'remote'} {field.name}").alias("exact"),
    ).drop_nulls()
    values = _Pairs(both["rounded"].to_numpy(), both["exact"].to_numpy(), unit)
    needed = values.needed
    modes: tuple[Mode, ...] = ("rounded", "truncated")
    fitting = {mode: int((values.fits(mode) & needed).sum()) for mode in modes}
    mode = max(modes, key=lambda mode: fitting[mode])
    if not needed.any() or fitting[mode] * 4 < needed.sum() or _bits(values, fitting[mode]) < _BITS:
        return field
    halves = _halves(values) if mode == "rounded" else ""
    return replace(field, rounding=Rounding(count, side, mode, halves))


def _covered(places: int | None, field: PairedField) -> bool:
    """Check whether the tolerance of a field is no smaller than half a unit."""
    return places is None or 10.0**-places / 2 <= field.tolerance.absolute * (1 + 1e-9)


def _bits(values: _Pairs, fitting: int) -> float:
    """Return the evidence in bits: the cells that fit, each worth the spread of its values in units."""
    spread = float(np.ptp(values.rounded)) / values.unit
    return fitting * log2(max(spread, 1.0))


def _halves(values: _Pairs) -> str:
    """Say where halves go: away from zero, or to the even digit; empty if no half decides, or they disagree."""
    units, rounded = np.abs(values.exact / values.unit), np.abs(np.round(values.rounded / values.unit))
    half = np.abs(units - np.floor(units) - 0.5) < 1e-6
    up = np.floor(units[half]) + 1 == rounded[half]
    even = rounded[half] % 2 == 0
    if not half.any() or (up.all() and even.all()):
        return ""
    return "halves up" if up.all() else "halves to even" if even.all() else ""


def describe(field: PairedField, cells: int) -> str:
    """Say how a field is rounded, and how many cells are compared so."""
    rounding = field.rounding
    if rounding is None:
        return ""
    places = f"{rounding.places} decimal place{'s' if rounding.places != 1 else ''}"
    how = f"{rounding.mode} to {places}{f' ({rounding.halves})' if rounding.halves else ''}"
    return f"{field.name}: {how} (in {rounding.side}); {cells:,} cells are compared at {places}"
