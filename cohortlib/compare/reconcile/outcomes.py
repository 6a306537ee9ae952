"""A field that both sides have, and the outcome of each of its cells."""

import sys
from dataclasses import dataclass
from typing import Literal, TypeAlias

import polars as pl

from cohortlib.compare.reconcile.tolerances import EXACT, Tolerance

OUTCOMES = ("match", "differ", "only_local", "only_remote", "null_local", "null_remote")
OUTCOME = pl.Enum(OUTCOMES)

ValueType: TypeAlias = Literal["float", "integer", "boolean", "text"]

_LARGEST = sys.float_info.max


@dataclass(frozen=True)
class Rounding:
    """The decimal places to which the values of one side are rounded or truncated."""

    places: int
    side: Literal["local", "remote"]
    mode: Literal["rounded", "truncated"]
    halves: str = ""  # where halves go, in words, if known

    @property
    def unit(self) -> float:
        """The distance between two rounded values."""
        return 10.0**-self.places


@dataclass(frozen=True)
class PairedField:
    """A field of both sides: the type of its values, and how far apart they may be."""

    name: str
    value_type: ValueType
    tolerance: Tolerance = EXACT
    rounding: Rounding | None = None

    @property
    def local(self) -> pl.Expr:
        """The local value in a frame of pairs."""
        return pl.col(f"local {self.name}")

    @property
    def remote(self) -> pl.Expr:
        """The remote value in a frame of pairs."""
        return pl.col(f"remote {self.name}")

    @property
    def numeric(self) -> bool:
        """Whether the size of a difference has a meaning."""
        return self.value_type in ("float", "integer")

    def agree(self, nulls: bool = True) -> pl.Expr:
        """Return whether the values of a pair agree; two nulls do."""
        if self.tolerance.exact:
            return self.local.eq_missing(self.remote) if nulls else self.local == self.remote
        apart = self.difference().abs()
        sizes = self.local.cast(pl.Float64).abs(), self.remote.cast(pl.Float64).abs()
        limit = pl.lit(self.tolerance.absolute)
        if self.tolerance.relative:
            limit = pl.max_horizontal(limit, sizes[1] * self.tolerance.relative)
        # Most decimal amounts are not exact as floats: each side may be off by half a unit in the last place.
        slack = sizes[0] * 2.0**-52 + sizes[1] * 2.0**-52
        near = apart <= limit + slack
        if self.rounding is not None:
            near |= self._agree_rounded(self.rounding, slack)
        return near.fill_null(False) | (self.local.is_null() & self.remote.is_null()) if nulls else near

    def _agree_rounded(self, rounding: Rounding, slack: pl.Expr) -> pl.Expr:
        """Return whether the rounded value is the other one, rounded; where halves go does not matter."""
        slack = slack + rounding.unit * 1e-6  # the exact value may be a half but for its last bits
        if rounding.mode == "rounded":
            return self.difference().abs() <= rounding.unit / 2 + slack
        exact, rounded = (self.local, self.remote) if rounding.side == "remote" else (self.remote, self.local)
        cut = (exact - rounded) * exact.sign()
        return (cut >= -slack) & (cut < rounding.unit - slack)

    def difference(self) -> pl.Expr:
        """Return local - remote; null if a side has no number."""
        if self.value_type == "integer":
            return (self.local.cast(pl.Int128) - self.remote.cast(pl.Int128)).cast(pl.Float64)
        if self.value_type == "float":
            return (self.local - self.remote).clip(-_LARGEST, _LARGEST)
        return pl.lit(None, pl.Float64)

    def outcome(self) -> pl.Expr:
        """Return the outcome of each pair."""
        return (
            pl.when(self.agree())
            .then(pl.lit("match"))
            .when(self.local.is_null())
            .then(pl.lit("null_local"))
            .when(self.remote.is_null())
            .then(pl.lit("null_remote"))
            .otherwise(pl.lit("differ"))
            .cast(OUTCOME)
        )
