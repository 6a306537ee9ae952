"""The cells of an answer as arrays, compared with the remote ones and weighed by what they carry."""

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import polars as pl
from numpy.typing import NDArray

from cohortlib.adapty.answer import Answer
from cohortlib.compare.explain.evidence import Places, Standing, difference_bits
from cohortlib.compare.reconcile.numbers import decimal_places
from cohortlib.compare.reconcile.tolerances import Tolerance, Tolerances
from cohortlib.fields import MONEY, tolerance_of

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

CENT, ONE = 0.01, 1.0
# Proceeds and net revenue mostly follow revenue, and subscriptions follow subscribers: they carry half as much.
_BASE = {
    "revenue_usd": (CENT, 1.0), "proceeds_usd": (CENT, 0.5), "net_revenue_usd": (CENT, 0.5),
    "subscribers": (ONE, 1.0), "subscriptions": (ONE, 0.5),
}  # fmt: skip
# Averages carry the number of users that they divide by. By days that of ARPPU is the number of subscribers.
_DIVIDED = {"renewals": ("arpu_usd", "arppu_usd", "arpas_usd"), "days": ("arpas_usd",)}
_FLAG = "currently_active_period"
_INSTALLS = "total_installs"
_TOTALS = [f"total_{name}_usd" for name in MONEY]
_KEYS = {"segment_start_date", "type", "period", "title", "predict", "predict_reason"}


@dataclass(frozen=True, eq=False)
class Grid:
    """The numbers of an answer on a grid: values[field, segment, period] and heads[field, segment], NaN where absent.

    The total is the first segment.
    """

    values: Floats
    heads: Floats
    beyond: int  # cells of keys that are not on the grid

    @property
    def rows(self) -> Bools:
        """Which pairs of segment and period there are."""
        rows: Bools = ~np.isnan(self.values[0])
        return rows

    @property
    def segments(self) -> Bools:
        """Which segments there are."""
        segments: Bools = ~np.isnan(self.heads[0])
        return segments


@dataclass(frozen=True, eq=False)
class Cells:
    """The cells that either answer has at the start, and the remote numbers in them."""

    period_type: str
    labels: dict[tuple[str, str], int]  # type and start of each segment, and its number
    periods: dict[int, int]
    value_fields: list[str]
    head_fields: list[str]
    tolerances: Tolerances = field(default_factory=dict)

    @classmethod
    def of(cls, local: Answer, remote: Answer, period_type: str, tolerances: Tolerances | None = None) -> "Cells":
        """Collect the keys and the common fields of two answers."""
        keys = pl.concat([one.segments.select("type", "segment_start_date") for one in (local, remote)]).unique()
        keys = keys.sort(pl.col("type") != "total", "segment_start_date")
        periods = sorted({*local.values["period"].to_list(), *remote.values["period"].to_list()})

        def common(one: pl.DataFrame, other: pl.DataFrame) -> list[str]:
            return [
                name
                for name, dtype in one.schema.items()
                if name not in _KEYS and name in other.columns and (dtype.is_numeric() or dtype == pl.Boolean)
            ]

        return cls(
            period_type,
            {key: at for at, key in enumerate(keys.rows())},
            {period: at for at, period in enumerate(periods)},
            common(local.values, remote.values),
            common(local.segments, remote.segments),
            tolerances or {},
        )

    def grid(self, answer: Answer) -> Grid:
        """Put an answer on the grid."""
        values, beyond = self._scattered(answer.values, self.value_fields, by_period=True)
        heads, more = self._scattered(answer.segments, self.head_fields, by_period=False)
        return Grid(values, heads[:, :, 0], beyond + more)

    def _scattered(self, frame: pl.DataFrame, fields: list[str], *, by_period: bool) -> tuple[Floats, int]:
        keys = zip(frame["type"].to_list(), frame["segment_start_date"].to_list(), strict=True)
        rows = np.array([self.labels.get(key, -1) for key in keys], np.int64)
        width = len(self.periods) if by_period else 1
        columns = np.zeros(frame.height, np.int64)
        if by_period:
            columns = np.array([self.periods.get(period, -1) for period in frame["period"].to_list()], np.int64)
        on_grid = (rows >= 0) & (columns >= 0)
        shown = np.full((len(fields), len(self.labels), width), np.nan)
        numbers = frame.select(pl.col(fields).cast(pl.Float64)).to_numpy()
        # A null is not an absent row.
        numbers = np.where(np.isnan(numbers), np.inf, numbers)
        shown[:, rows[on_grid], columns[on_grid]] = numbers[on_grid].T
        return shown, int((~on_grid).sum()) * len(fields)

    def tolerance(self, name: str) -> Tolerance:
        """Return how far two numbers of a field may be apart."""
        chosen = self.tolerances.get(name)
        if chosen is None:
            return Tolerance(tolerance_of(name))
        return Tolerance(*chosen) if isinstance(chosen, tuple) else Tolerance(chosen)

    @cached_property
    def _limits(self) -> tuple[Floats, Floats]:
        """Return the absolute and relative tolerances of the fields of values, then of segments."""
        limits = [self.tolerance(name) for name in (*self.value_fields, *self.head_fields)]
        return np.array([one.absolute for one in limits]), np.array([one.relative for one in limits])

    def compared(self, local: Grid, remote: Grid) -> tuple[Bools, Bools]:
        """Return which cells of the values and of the segments agree. A row that neither answer has agrees."""
        absolute, relative = self._limits
        count = len(self.value_fields)
        values = _agree(local.values, remote.values, absolute[:count, None, None], relative[:count, None, None])
        return values, _agree(local.heads, remote.heads, absolute[count:, None], relative[count:, None])


def _agree(local: Floats, remote: Floats, absolute: Floats, relative: Floats) -> Bools:
    with np.errstate(invalid="ignore"):
        near = np.abs(local - remote) <= np.maximum(absolute, relative * np.abs(remote)) + 2.0**-52 * (
            np.abs(local) + np.abs(remote)
        )
    absent = np.isnan(local) & np.isnan(remote)
    same: Bools = near | absent | (np.isinf(local) & np.isinf(remote))
    return same


@dataclass(frozen=True, eq=False)
class Scales:
    """Compares answers with the remote one, always over the same cells."""

    cells: Cells
    remote: Grid
    start: Grid

    @classmethod
    def of(cls, local: Answer, remote: Answer, period_type: str, tolerances: Tolerances | None = None) -> "Scales":
        """Fix the cells that either answer has."""
        cells = Cells.of(local, remote, period_type, tolerances)
        return cls(cells, cells.grid(remote), cells.grid(local))

    @cached_property
    def _fixed(self) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Return the cells that either answer has at the start, as indices of the flat arrays."""
        rows = self.remote.rows | self.start.rows
        segments = self.remote.segments | self.start.segments
        return (
            np.flatnonzero(np.broadcast_to(rows, self.remote.values.shape)),
            np.flatnonzero(np.broadcast_to(segments, self.remote.heads.shape)),
        )

    @cached_property
    def places(self) -> Places:
        """The segment of each cell."""
        values, heads = self._fixed
        width, count = len(self.cells.periods), len(self.cells.labels)
        cohorts = np.concatenate([values // width % count, heads % count]).astype(np.int64)
        return {"cohorts": cohorts}

    def standing(self, answer: Answer) -> Standing:
        """Compare an answer with the remote one."""
        local = self.cells.grid(answer)
        values, heads = self.cells.compared(local, self.remote)
        value_bits, head_bits = self._bits(local, values, heads)
        rows = local.rows & ~(self.remote.rows | self.start.rows)
        extra = local.beyond + int(rows.sum()) * len(self.cells.value_fields)
        fixed, fixed_heads = self._fixed
        return Standing(
            np.concatenate([values.ravel()[fixed], heads.ravel()[fixed_heads]]),
            np.concatenate([value_bits.ravel()[fixed], head_bits.ravel()[fixed_heads]]),
            extra,
        )

    def _bits(self, local: Grid, values: Bools, heads: Bools) -> tuple[Floats, Floats]:
        """Weigh the cells that differ. Totals and what is computed from other cells carry nothing."""
        cells, remote = self.cells, self.remote
        index = {name: at for at, name in enumerate(cells.value_fields)}
        cumulative = cells.period_type == "days"
        bits, head_bits = np.zeros_like(local.values), np.zeros_like(local.heads)
        ours, theirs = _filled(local.values), _filled(remote.values)
        for name, (exact, weight) in _BASE.items():
            if name in index:
                unit = max(exact, 2 * cells.tolerance(name).absolute)
                apart = theirs[index[name]] - ours[index[name]]
                stated = difference_bits(apart, unit) if cumulative else np.log2(1 + 2 * np.abs(apart) / unit)
                bits[index[name]] = weight * stated
        for name in _DIVIDED[cells.period_type]:
            if name in index and "revenue_usd" in index:
                users = [_divisors(side, index, name, cumulative=cumulative) for side in (ours, theirs)]
                apart = np.where((users[0] > 0) & (users[1] > 0), users[1] - users[0], 0.0)
                bits[index[name]] = difference_bits(np.rint(apart), ONE)
        if _FLAG in index:
            differ = (~values[index[_FLAG]]).sum(axis=-1, keepdims=True)
            bits[index[_FLAG]] = np.log2(1 + 2 * differ) / np.maximum(differ, 1)
        places = {name: at for at, name in enumerate(cells.head_fields)}
        own, other = _filled(local.heads), _filled(remote.heads)
        if _INSTALLS in places:
            head_bits[places[_INSTALLS]] = np.log2(1 + 2 * np.abs(other - own)[places[_INSTALLS]])
        if cumulative and ours.shape[2]:  # what comes after the last day that is shown
            for name in _TOTALS:
                shown = name.removeprefix("total_")
                if name in places and shown in index:
                    later = (other - own)[places[name]] - (theirs - ours)[index[shown], :, -1]
                    head_bits[places[name]] = _BASE[shown][1] * np.log2(1 + 2 * np.abs(later) / CENT)
        bits[values], head_bits[heads] = 0.0, 0.0
        total = [at for (kind, _), at in cells.labels.items() if kind == "total"]
        bits[:, total], head_bits[:, total] = 0.0, 0.0
        return bits, head_bits


def _filled(numbers: Floats) -> Floats:
    """Replace what is absent or null by 0."""
    return np.where(np.isfinite(numbers), numbers, 0.0)


def _divisors(side: Floats, index: dict[str, int], name: str, *, cumulative: bool) -> Floats:
    """Return the number of users that an average divides by; 0 where it cannot be seen."""
    revenue = side[index["revenue_usd"]]
    revenue = revenue if cumulative else revenue.cumsum(axis=-1)
    average = side[index[name]]
    users: Floats = np.divide(revenue, average, out=np.zeros_like(revenue), where=(average > 0) & (revenue > 0))
    return users


def rounding(local: pl.DataFrame, remote: pl.DataFrame, prefix: str) -> dict[str, float]:
    """Return half a unit for each field that the remote side rounds and the local side does not.

    Money counts as rounded if all of it is; so do the relatives.
    """
    limits: dict[str, float] = {}
    for ending, full in (("_usd", 2), ("_relative", 4)):
        names = [name for name in remote.columns if name.startswith(prefix) and name.endswith(ending)]
        names = [name for name in names if name in local.columns and remote.schema[name].is_numeric()]
        counts = [decimal_places(remote[name].cast(pl.Float64)) for name in names]
        places = max((99 if count is None else count for count in counts), default=99)
        if places < full and any(_has_more(local[name].cast(pl.Float64), places) for name in names):
            limits |= dict.fromkeys(names, 0.5 * 10.0**-places * (1 + 1e-9))
    return limits


def _has_more(values: pl.Series, places: int) -> bool:
    units = values.drop_nulls() * 10.0**places
    return bool(((units - units.round(0)).abs() > 1e-6).any())
