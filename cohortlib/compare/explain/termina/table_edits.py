"""What causes do to a computed table: the numbers are right but written in another way."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

if TYPE_CHECKING:
    from cohortlib.compare.explain.termina.tables import Table


@dataclass(frozen=True)
class TableEdit:
    """A change of the table: the numbers are right but written in another way."""

    def apply(self, table: "Table") -> "Table":
        """Return the changed table."""
        raise NotImplementedError

    def undo(self, table: "Table") -> "Table":
        """Return the table before the change."""
        raise NotImplementedError

    def edit_frame(self, frame: pl.DataFrame, label: Callable[[Any, int], Any]) -> pl.DataFrame:
        """Return the changed frame; `label` shifts labels of cohorts."""
        raise NotImplementedError


@dataclass(frozen=True)
class Multiplied(TableEdit):
    """The values of some fields are multiplied."""

    fields: tuple[str, ...]
    factor: float

    def apply(self, table: "Table") -> "Table":
        """Multiply."""
        return table.with_values(**{
            name: table.values[name] * self.factor for name in self.fields if name in table.values
        })  # fmt: skip

    def undo(self, table: "Table") -> "Table":
        """Divide."""
        return Multiplied(self.fields, 1 / self.factor).apply(table)

    def edit_frame(self, frame: pl.DataFrame, label: Callable[[Any, int], Any]) -> pl.DataFrame:
        """Multiply."""
        return frame.with_columns(pl.col(name) * self.factor for name in self.fields if name in frame.columns)


@dataclass(frozen=True)
class AgesShifted(TableEdit):
    """Ages begin at another number."""

    by: int

    def apply(self, table: "Table") -> "Table":
        """Move the columns."""
        values = {name: np.roll(each, self.by, axis=1) for name, each in table.values.items()}
        return replace(table, present=np.roll(table.present, self.by, axis=1), values=values)

    def undo(self, table: "Table") -> "Table":
        """Move them back."""
        return AgesShifted(-self.by).apply(table)

    def edit_frame(self, frame: pl.DataFrame, label: Callable[[Any, int], Any]) -> pl.DataFrame:
        """Add to the ages."""
        return frame.with_columns(pl.col("period") + self.by)


@dataclass(frozen=True)
class LabelsShifted(TableEdit):
    """Cohorts have the label of another period."""

    by: int

    def apply(self, table: "Table") -> "Table":
        """Move the lines of cohorts, or the cohorts of customers."""
        if "cohort_size" not in table.values or table.cohort.size != table.grid.periods:
            return replace(table, cohort=np.where(table.cohort >= 0, table.cohort + self.by, -1))
        values = {name: np.roll(each, self.by, axis=0) for name, each in table.values.items()}
        return replace(table, present=np.roll(table.present, self.by, axis=0), values=values)

    def undo(self, table: "Table") -> "Table":
        """Move them back."""
        return LabelsShifted(-self.by).apply(table)

    def edit_frame(self, frame: pl.DataFrame, label: Callable[[Any, int], Any]) -> pl.DataFrame:
        """Change the labels."""
        labels = frame["cohort"].unique().to_list()
        shifted = [label(each, self.by) for each in labels]
        return frame.with_columns(frame["cohort"].replace_strict(labels, shifted, return_dtype=pl.String))
