"""Fields of a comparison, and the outcomes of a cell."""

import sys
from dataclasses import dataclass
from typing import Literal, TypeAlias

import polars as pl

from cohortlib.compare.reconcile import tolerances as allowed
from cohortlib.compare.reconcile.tolerances import Tolerance

OUTCOMES = ("match", "differ", "only_local", "only_remote", "null_local", "null_remote")
OUTCOME = pl.Enum(OUTCOMES)

Nature: TypeAlias = Literal["number", "integer", "truth", "text"]

_LARGEST = sys.float_info.max


@dataclass(frozen=True)
class Field:
    """A field that both sides have: what its values are, and how far they may lie apart."""

    name: str
    nature: Nature
    tolerance: Tolerance = allowed.EXACT

    @property
    def local(self) -> pl.Expr:
        """The local value in a frame of pairs."""
        return pl.col(f"local {self.name}")

    @property
    def remote(self) -> pl.Expr:
        """The remote value in a frame of pairs."""
        return pl.col(f"remote {self.name}")

    @property
    def measured(self) -> bool:
        """Tell whether its values can lie more or less far apart."""
        return self.nature in ("number", "integer")

    def agree(self, nulls: bool = True) -> pl.Expr:
        """Tell the pairs whose values agree; two nulls do."""
        if self.tolerance.exact:
            return self.local.eq_missing(self.remote) if nulls else self.local == self.remote
        apart = self.difference().abs()
        sizes = self.local.cast(pl.Float64).abs(), self.remote.cast(pl.Float64).abs()
        limit = pl.lit(self.tolerance.absolute)
        if self.tolerance.relative:
            limit = pl.max_horizontal(limit, sizes[1] * self.tolerance.relative)
        # No float is half a cent: each side is up to half a unit in the last place off what was meant.
        near = apart <= limit + sizes[0] * 2.0**-52 + sizes[1] * 2.0**-52
        return near.fill_null(False) | (self.local.is_null() & self.remote.is_null()) if nulls else near

    def difference(self) -> pl.Expr:
        """Take the remote value from the local one; null where there is no number on a side."""
        if self.nature == "integer":
            return (self.local.cast(pl.Int128) - self.remote.cast(pl.Int128)).cast(pl.Float64)
        if self.nature == "number":
            return (self.local - self.remote).clip(-_LARGEST, _LARGEST)
        return pl.lit(None, pl.Float64)

    def outcome(self) -> pl.Expr:
        """Give the outcome of each pair."""
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
