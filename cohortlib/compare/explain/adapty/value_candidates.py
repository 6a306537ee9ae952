"""Propose rows to leave out, or to multiply, by the values of a column or from a date on.

The total of a segment is the sum of its rows, so the change of leaving out a value, or of multiplying it, is known
without computing the answer again. What is left of the differences of the segments' totals decides which values are
tried.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from cohortlib.compare.explain.adapty.comparison import AdaptyComparison
from cohortlib.compare.explain.adapty.dimensions import MARK, names
from cohortlib.compare.explain.adapty.edits import FACTOR_OF, VALUES
from cohortlib.compare.explain.adapty.money import Floats
from cohortlib.compare.explain.causes import Cause, choice, subset
from cohortlib.compare.explain.wording import listed
from cohortlib.fields import MONEY
from cohortlib.periods import date_of

_WEIGHTS = np.array([1.0, 0.5, 0.5])  # proceeds and net revenue mostly follow revenue
_CENT = 0.01
_FACTORS = 1e6  # alternatives of a factor of six digits
_MOST_VALUES = 6  # left out at once
_TRIED = 6  # columns, or columns with a factor
_CLOSEST = 3  # segments that share a ratio, at least
_WORTH = 0.03  # share of the bits that a candidate has to explain, at least


def stated(differences: Floats, slack: float) -> Floats:
    """Return the bits of differences of totals; the last axes are segments and moneys."""
    beyond = np.maximum(np.abs(differences) - slack, 0)
    bits: Floats = (np.log2(1 + 2 * beyond / _CENT) * _WEIGHTS).sum((-1, -2))
    return bits


@dataclass(frozen=True)
class Column:
    """The money of each value of a column, by segment."""

    name: str
    values: list[str]
    own: Floats  # [value, segment, money]


@dataclass(frozen=True)
class ValueCandidates:
    """Finds the values of columns that the differences of totals point to."""

    comparison: AdaptyComparison
    excess: Floats  # [segment, money]

    def causes(self) -> Iterator[Cause]:
        """List values left out or kept alone, then factors of values and from a date on."""
        self_bits = float(self._stated(self.excess))
        if self_bits <= 0:
            return
        found: list[tuple[float, Cause]] = []
        for column in self.columns:
            found += self._left_out(column)
            found += self._alone(column)
            found += self._multiplied(column)
        found += self._from_date()
        enough = (1 - _WORTH) * self_bits
        found = sorted((one for one in found if one[0] < enough), key=lambda one: one[0] + one[1].bits)
        for _, cause in found[:_TRIED]:
            yield cause
            if cause.kind.startswith(VALUES) and self._reaches_installs(cause):
                value: Any = cause.value
                name, values, _, alone = value
                words = f"{cause.words}, and their installs"
                yield Cause(cause.kind, (name, values, True, alone), words, bits=cause.bits + 1)

    def _stated(self, differences: Floats) -> Floats:
        return stated(differences, self._slack)

    @cached_property
    def _slack(self) -> float:
        """By how much totals may be off: half a cent if the remote ones are rounded to cents."""
        totals = self.comparison.remote.segments.select(f"total_{name}_usd" for name in MONEY).to_numpy() / _CENT
        return 0.55 * _CENT if (np.abs(totals - np.rint(totals)) < 1e-4).all() else 1e-4 * _CENT

    @cached_property
    def columns(self) -> list[Column]:
        """The columns with few values."""
        frame, rows = self.comparison.events.frame, self.comparison.user_money.rows
        columns = []
        for marked in names(frame):
            texts = frame[marked].gather(rows["row"])
            values = texts.drop_nulls().unique().sort()
            if len(values) >= 1:
                codes = texts.cast(pl.Enum(values)).to_physical().cast(pl.Int64).fill_null(-1).to_numpy()
                columns.append(Column(marked.removeprefix(MARK), values.to_list(), self._sums(codes, len(values))))
        return columns

    def _sums(self, codes: NDArray[np.int64], count: int) -> Floats:
        """Sum the money by code and segment."""
        rows, segments = self.comparison.user_money.rows, len(self.excess)
        place = codes * segments + rows["segment"].to_numpy()
        known = codes >= 0
        sums = [
            np.bincount(place[known], rows[name].to_numpy()[known], count * segments).reshape(count, segments)
            for name in MONEY
        ]
        return np.stack(sums, axis=-1)

    @cached_property
    def _choices(self) -> int:
        """The number of all values of all columns."""
        return sum(len(column.values) for column in self.columns)

    def _reaches_installs(self, cause: Cause) -> bool:
        installs = self.comparison.installs.frame
        return installs is not None and MARK + cause.value[0] in installs.columns  # type: ignore[index]

    # ------------------------------------------------------------------------------------------------------- left out

    def _left_out(self, column: Column) -> Iterator[tuple[float, Cause]]:
        """Add values one by one, as long as leaving them out explains more."""
        chosen: list[int] = []
        rest, best = self.excess, float(self._stated(self.excess))
        while len(chosen) < min(_MOST_VALUES, len(column.values) - 1):
            bits = self._stated(rest + column.own)
            bits[chosen] = np.inf
            at = int(np.argmin(bits))
            if bits[at] > best - 2 * choice(self._choices):
                break
            chosen.append(at)
            rest, best = rest + column.own[at], float(bits[at])
            values = tuple(sorted(column.values[number] for number in chosen))
            words = f"without the events with {column.name} {listed(values)}"
            cost = choice(len(self.columns), 2) + subset(len(values), len(column.values))
            yield best, Cause(VALUES + column.name, (column.name, values, False, False), words, bits=cost)

    def _alone(self, column: Column) -> Iterator[tuple[float, Cause]]:
        if len(column.values) < 2:
            return
        total = self._sums(np.zeros(self.comparison.user_money.rows.height, np.int64), 1)
        bits = self._stated(self.excess + total - column.own)
        at = int(np.argmin(bits))
        value = column.values[at]
        words = f"only the events with {column.name} {value}"
        cost = choice(self._choices, 2)
        yield float(bits[at]), Cause(VALUES + column.name, (column.name, (value,), False, True), words, bits=cost)

    # ----------------------------------------------------------------------------------------------------- multiplied

    def _multiplied(self, column: Column) -> Iterator[tuple[float, Cause]]:
        factors, bits = self._fitted(column.own)
        at = int(np.argmin(bits))
        if (factors[at] == 1).all():
            return
        found = tuple(factors[at].tolist())
        words = f"{self._factor_words(found)} of the events with {column.name} {column.values[at]}"
        cost = choice(self._choices, *[_FACTORS] * len({*found} - {1.0}))
        kind = FACTOR_OF + column.name
        yield float(bits[at]), Cause(kind, (column.values[at], found), words, bits=cost)

    def _from_date(self) -> Iterator[tuple[float, Cause]]:
        days = self.comparison.user_money.rows["day"].to_numpy().astype(np.int64)
        if not days.size:
            return
        first = int(days.min())
        by_day = self._sums(days - first, int(days.max()) - first + 1)
        later = by_day[::-1].cumsum(axis=0)[::-1][1:]  # all rows from the first day on are a plain factor
        if not len(later):
            return
        factors, bits = self._fitted(later)
        at = int(np.argmin(bits))
        if (factors[at] == 1).all():
            return
        day, found = first + 1 + at, tuple(factors[at].tolist())
        words = f"{self._factor_words(found)} of the events from {date_of(day)} on"
        cost = choice(len(later), *[_FACTORS] * len({*found} - {1.0}))
        yield float(bits[at]), Cause(FACTOR_OF + "dates", (day, found), words, bits=cost)

    def _fitted(self, own: Floats) -> tuple[Floats, Floats]:
        """Fit a factor for each group and money. Returns the factors and the bits that are left."""
        power = (own**2).sum(axis=1)
        least = np.divide((own * self.excess).sum(axis=1), power, out=np.zeros_like(power), where=power > 0)
        with np.errstate(divide="ignore", invalid="ignore"):
            ratios = np.where(np.abs(own) > 1, self.excess / own, np.nan)
        typical = _most_common(ratios)
        best, bits = np.ones_like(least), self._stated(np.broadcast_to(self.excess, own.shape))
        for fit in (least, typical):
            for factors in _rounded(1 + fit):
                left = self._stated(self.excess - (factors - 1)[:, None, :] * own)
                better = left < bits - 1
                best[better], bits[better] = factors[better], left[better]
        return best, bits

    @staticmethod
    def _factor_words(factors: Sequence[float]) -> str:
        if len({*factors}) == 1:
            return f"{factors[0]:.6g} times the money"
        named = zip(MONEY, factors, strict=True)
        return " and ".join(
            f"{factor:.6g} times the {name}" if factor else f"no {name}" for name, factor in named if factor != 1
        )


def _most_common(ratios: Floats) -> Floats:
    """Return the middle of the closest quarter of the segments' ratios: others may have another reason as well.

    `ratios` has the axes group, segment and money, and NaN where a ratio is unknown; without any it is 0.
    """
    ordered = np.sort(ratios, axis=1)  # NaN last
    known = (~np.isnan(ordered)).sum(axis=1)
    size = max(min(_CLOSEST, ordered.shape[1]), ordered.shape[1] // 4)
    widths = ordered[:, size - 1 :] - ordered[:, : ordered.shape[1] - size + 1]
    begin = np.argmin(np.where(np.isnan(widths), np.inf, widths), axis=1)
    middle = np.take_along_axis(ordered, (begin + size // 2)[:, None, :], axis=1)[:, 0]
    return np.where((known >= size) & ~np.isnan(middle), middle, 0.0)


def _rounded(factors: Floats) -> Iterator[Floats]:
    """Yield factors as they are likely to have been chosen: of few digits, as taxes taken off, as fitted."""
    factors = np.maximum(factors, 0)
    common = np.broadcast_to(factors[:, :1], factors.shape)  # the same for all three
    with np.errstate(divide="ignore", invalid="ignore"):
        for some in (common, factors):
            for digits in (2, 3, 4):
                yield np.round(some, digits)
                yield np.where(some > 0.05, 1 / np.round(1 / some, digits), some)
            yield np.where(np.abs(some - 1) < 1e-6, 1.0, np.round(some, 9))
