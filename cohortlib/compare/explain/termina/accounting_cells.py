"""The cells of accountings and of concentration: rows by date, by top user, or by point of a distribution."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product

import numpy as np
import polars as pl

from cohortlib.compare.explain.evidence import Places, Standing, difference_bits
from cohortlib.compare.explain.termina.tables import Floats
from cohortlib.compare.reconcile.numbers import decimal_places
from cohortlib.compare.reconcile.tolerances import Tolerance, Tolerances, checked
from cohortlib.fields import ENDPOINT_TOP_USERS, keys, kind_of, tolerance_of

_CENT = 0.01
_EXACT_PLACES = {"count": 0, "money": 2, "share": 6, "ratio": 6}  # values with fewer decimal places are rounded
_COMPONENTS = ("retained", "new", "resurrected", "expansion", "contraction")
_SPREAD = ("mean", "median", "gini_coefficient")


@dataclass(frozen=True, eq=False)
class Layout:
    """Values of a frame by row and field, NaN for null; the rows that it has, and how many rows are not laid out."""

    values: Floats
    present: np.ndarray
    extra: int


@dataclass(frozen=True, eq=False)
class FrameCells:
    """The cells of one frame: the keys of either side at the start, and the fields that both have."""

    keys: tuple[str, ...]
    rows: tuple[tuple[object, ...], ...]  # the keys of the remote rows, then those that only the local frame has
    fields: tuple[str, ...]
    kinds: Mapping[str, str]  # a field's kind; "count" if the local values are integers
    tolerances: Mapping[str, Tolerance]
    remote: Layout
    start: Layout

    @classmethod
    def of(cls, local: pl.DataFrame, remote: pl.DataFrame, tolerances: Tolerances) -> "FrameCells":
        """Arrange both sides as arrays."""
        names = keys_of(remote)
        fields = tuple(name for name in local.columns if name in remote.columns and name not in names)
        rows = tuple(dict.fromkeys((*remote.select(names).rows(), *local.select(names).rows())))
        kinds = {name: "count" if local.schema[name].is_integer() else kind_of(name) or "ratio" for name in fields}
        limits = _limits(local, remote, kinds) | checked(
            {name: limit for name, limit in tolerances.items() if name in fields}, list(fields), []
        )
        empty = Layout(np.empty((0, len(fields))), np.empty(0, np.bool_), 0)
        bare = cls(names, rows, fields, kinds, limits, empty, empty)
        return cls(names, rows, fields, kinds, limits, bare.lay_out(remote), bare.lay_out(local))

    def lay_out(self, frame: pl.DataFrame) -> Layout:
        """Arrange a frame as arrays."""
        places = {row: at for at, row in enumerate(self.rows)}
        at = np.array([places.get(row, -1) for row in frame.select(self.keys).rows()], np.int64)
        values = np.full((len(self.rows), len(self.fields)), np.nan)
        present = np.zeros(len(self.rows), np.bool_)
        values[at[at >= 0]] = frame.select(pl.col(self.fields).cast(pl.Float64)).to_numpy()[at >= 0]
        present[at[at >= 0]] = True
        return Layout(values, present, int((at < 0).sum()))

    def compare(self, frame: pl.DataFrame) -> tuple[np.ndarray, Floats, int]:
        """Return whether each cell agrees, its bits if not, and how many cells are of rows not laid out."""
        table, remote = self.lay_out(frame), self.remote
        limits = np.array([[self.tolerances[name].absolute, self.tolerances[name].relative] for name in self.fields])
        limit = np.maximum(limits[:, 0], limits[:, 1] * np.abs(remote.values))
        with np.errstate(invalid="ignore"):
            near = np.abs(table.values - remote.values) <= limit * (1 + 1e-9) + 1e-9
        same = near | (np.isnan(table.values) & np.isnan(remote.values))
        here, there = table.present[:, None], remote.present[:, None]
        agrees = np.where(there, here & same, ~here)
        stated = difference_bits(
            (np.nan_to_num(table.values) - np.nan_to_num(remote.values))[..., None],
            self._units,
            self._widest,
            self._usual,
        )[..., 0]
        bits = np.where(agrees, 0.0, np.where(there, stated * self._counts, 1.0))
        return agrees, bits, table.extra * len(self.fields)

    @cached_property
    def _counts(self) -> Floats:
        """Whether the cells of a field carry evidence: 0 for those that follow from others."""
        evident = _independent(self.keys, self.fields)
        return np.array([name in evident for name in self.fields], float)

    @cached_property
    def _units(self) -> Floats:
        units = {"count": 1.0, "money": _CENT, "share": 1e-4, "ratio": 1e-4}
        return np.array([[max(units[self.kinds[name]], 2 * self.tolerances[name].absolute)] for name in self.fields])

    @cached_property
    def _widest(self) -> Floats:
        """The spread of the remote values of each field."""
        sizes = [np.abs(column[~np.isnan(column)]) for column in self.remote.values[self.remote.present].T]
        return np.array([[np.quantile(size, 0.9) if size.size else 1.0] for size in sizes])

    @cached_property
    def _usual(self) -> Floats:
        """The median of the differences of each field of money at the start; 0 for others."""
        usual = []
        for at, name in enumerate(self.fields):
            gap = np.abs(self.start.values[:, at] - self.remote.values[:, at])
            gap = gap[gap > self.tolerances[name].absolute]
            usual.append([float(np.median(gap)) if gap.size and self.kinds[name] == "money" else 0.0])
        return np.array(usual)


@dataclass(frozen=True, eq=False)
class AccountingCells:
    """The cells of all frames of a table."""

    frames: Mapping[str, FrameCells]

    def compare(self, tables: Mapping[str, pl.DataFrame]) -> Standing:
        """Compare the cells with those of tables."""
        parts = [cells.compare(tables[name]) for name, cells in self.frames.items()]
        own = [np.repeat(~cells.remote.present, len(cells.fields)) for cells in self.frames.values()]
        return Standing(
            np.concatenate([agrees.ravel() for agrees, _, _ in parts]),
            np.concatenate([bits.ravel() for _, bits, _ in parts]),
            sum(extra for _, _, extra in parts),
            np.concatenate(own),
        )

    @cached_property
    def dates(self) -> Sequence[str]:
        """The dates of the cells."""
        found = {row[0]: None for cells in self.frames.values() if cells.keys == ("date",) for row in cells.rows}
        return sorted(map(str, found)) or [""]

    @property
    def places(self) -> Places:
        """The date of each cell; top users and distribution are of the last one."""
        numbers = {date: at for at, date in enumerate(self.dates)}
        last = len(self.dates) - 1
        return {
            "dates": np.array(
                [
                    numbers[str(row[0])] if cells.keys == ("date",) else last
                    for cells in self.frames.values()
                    for row, _ in product(cells.rows, cells.fields)
                ],
                np.int64,
            )
        }


def keys_of(frame: pl.DataFrame) -> tuple[str, ...]:
    """Return the keys of a frame."""
    if "date" in frame.columns:
        return ("date",)
    return keys(ENDPOINT_TOP_USERS) if "user_id" in frame.columns else ("method", "cdf_users")


def rounded_fields(cells: Mapping[str, FrameCells]) -> dict[str, float]:
    """Return the tolerances of the fields that the remote side rounds."""
    limits = [(name, limit.absolute) for each in cells.values() for name, limit in each.tolerances.items()]
    return {name: limit for name, limit in limits if limit > tolerance_of(name)}


def _independent(keys: tuple[str, ...], fields: Sequence[str]) -> Sequence[str]:
    """Return the fields whose cells carry evidence: other fields, and a distribution, follow from these."""
    if keys != ("date",):
        return ("amount",) if keys == ("user_id",) else ()
    for chosen in (_COMPONENTS, ("active_users", "amount"), _SPREAD):
        if found := [name for name in fields if name in chosen]:
            return found
    return fields


def _limits(local: pl.DataFrame, remote: pl.DataFrame, kinds: Mapping[str, str]) -> dict[str, Tolerance]:
    """Return the tolerance of each field: the default, or half a unit of values that the remote side rounds.

    Values count as rounded if those of all fields of a kind are, and the local ones are not.
    """
    limits: dict[str, Tolerance] = {}
    for kind, full in _EXACT_PLACES.items():
        names = [name for name, each in kinds.items() if each == kind]
        known = [name for name in names if kind != "count" and remote[name].null_count() < remote.height]
        most = max((_places(remote[name]) for name in known), default=99)
        rounded = most < full and any(_places(local[name]) > most for name in known)
        default = {name: 0.0 if kind == "count" else tolerance_of(name) for name in names}
        limits |= {name: Tolerance(0.5 * 10.0**-most if rounded else default[name]) for name in names}
    return limits


def _places(values: pl.Series) -> int:
    places = decimal_places(values.cast(pl.Float64))
    return 99 if places is None else places
