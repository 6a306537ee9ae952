"""The recomputed Termina table compared with the remote one."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import polars as pl

from cohortlib.compare.explain.termina.faults import View

CENT = 0.01  # amounts may be rounded to cents


def edges(table: pl.DataFrame, view: View) -> tuple[int, int] | None:
    """Return the first cohort and the last period of a table, as ordinals; None for an empty table."""
    if table.is_empty():
        return None
    cohort = view.ordinals(table["cohort"])
    return int(cohort.min()), int((cohort + table["period"]).max())  # type: ignore[arg-type]


@dataclass(frozen=True)
class TerminaComparison:
    """The rows, the local table computed from them, and the remote table in the same presentation."""

    rows: pl.DataFrame
    view: View
    local: pl.DataFrame
    remote: pl.DataFrame
    # Returns cohort, user_id, period and amount of the local customers in each active period.
    activity: Callable[[], pl.DataFrame]

    @property
    def has_customers(self) -> bool:
        """Whether the tables have a row per customer."""
        return "user_id" in self.local.columns

    @property
    def has_amounts(self) -> bool:
        """Whether the remote table has amounts; they reveal most faults."""
        return "amount" in self.remote.columns

    @property
    def keys(self) -> list[str]:
        """The key columns of the tables."""
        return [name for name in ("cohort", "user_id", "period") if name in self.local.columns]

    @cached_property
    def joined(self) -> pl.DataFrame:
        """The amounts, cohort sizes and active users that both tables have; remote columns end in `_remote`."""
        common = set(self.local.columns) & set(self.remote.columns)
        fields = [name for name in ("amount", "cohort_size", "active_users") if name in common]
        remote = self.remote.select(*self.keys, *(pl.col(name).alias(f"{name}_remote") for name in fields))
        local = self.local.select(*self.keys, *fields)
        return local.join(remote, on=self.keys, how="full", coalesce=True)

    @cached_property
    def cells(self) -> pl.DataFrame:
        """The joined tables up to the last period that both have, with 0 for missing values.

        Adds `_cohort` and `_ordinal` (the calendar period), both ordinals, and `_excess`: remote minus local amount.
        """
        local, remote = edges(self.local, self.view), edges(self.remote, self.view)
        if local is None or remote is None:
            return pl.DataFrame()
        cells = self.joined.with_columns(self.view.ordinals(self.joined["cohort"]).alias("_cohort"))
        cells = cells.with_columns((pl.col("_cohort") + pl.col("period")).alias("_ordinal"))
        cells = cells.filter(pl.col("_ordinal") <= min(local[1], remote[1])).fill_null(0)
        return cells.with_columns((pl.col("amount_remote") - pl.col("amount")).alias("_excess"))

    @cached_property
    def differing_cohorts(self) -> pl.DataFrame:
        """The cells of the cohorts that differ; no cell if many cohorts differ."""
        cells = self.cells
        if cells.is_empty():
            return cells
        differs = pl.col("_excess").abs() > CENT
        if "cohort_size" in cells.columns:
            differs |= pl.col("cohort_size") != pl.col("cohort_size_remote")
        cohorts = cells.filter(differs)["cohort"].unique()
        few = max(6, cells["cohort"].n_unique() // 3)
        return cells.filter(pl.col("cohort").is_in(cohorts.implode())) if len(cohorts) <= few else cells.clear()
