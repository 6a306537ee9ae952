"""Propose days whose rows are missing or duplicated."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from functools import cached_property

import numpy as np
import polars as pl
from numpy.typing import NDArray

from cohortlib.compare.explain.causes import Cause
from cohortlib.compare.explain.termina.comparison import CENT, TerminaComparison
from cohortlib.compare.explain.termina.faults import DayAdded, DayFault, View
from cohortlib.compare.explain.wording import date_range, fault_phrase, listed
from cohortlib.periods import Calendar, date_of, epoch_day
from cohortlib.read.arrays import Ints

Floats = NDArray[np.float64]

_BUSY = 10  # rows of a usual day: only then is an empty day suspicious
_MAX_RUNS = 2
_LONGEST_RUN = 31  # days
_MAX_SUMS = 20_000_000  # sums of windows of days by period; longer runs are not tried beyond it
_BEST_PER_LENGTH = 8  # runs


@dataclass(frozen=True)
class DayCandidates:
    """Finds the days of one clock whose rows are behind the differences."""

    comparison: TerminaComparison
    view: View  # how rows are read; its zone is the clock
    suffix: str = ""  # after a day, such as " UTC"

    # ------------------------------------------------------------------------------ missing or duplicated remotely

    def missing_or_duplicated(self) -> Iterator[Cause]:
        """Find runs of days whose rows are missing or duplicated in the remote table."""
        cells = self.comparison.cells
        if cells.is_empty() or self.comparison.rows.is_empty() or not (cells["_excess"].abs() > CENT).any():
            return
        counts = self._row_counts
        first, last = counts["day"][0], counts["day"][-1]
        days = epoch_day(first) + np.arange((last - first).days + 1, dtype=np.int64)
        for fault in ("missing", "duplicated"):
            for begin, end in self._runs(days, fault):
                run = date_of(int(days[begin])), date_of(int(days[end]))
                number = int(counts.filter(pl.col("day").is_between(*run))["rows"].sum())
                if number:
                    yield self._run_cause(run, number, duplicated=fault == "duplicated")

    def _run_cause(self, run: tuple[date, date], number: int, *, duplicated: bool) -> Cause:
        words = fault_phrase(f"the {number:,} rows of {date_range(*run)}{self.suffix}", duplicated=duplicated)
        return Cause(f"days {'twice' if duplicated else 'missing'}", DayFault(*run, duplicated, self.view.zone), words)

    def _runs(self, days: Ints, fault: str) -> list[tuple[int, int]]:
        """Find the runs of days that would cause the differences: first by period, then by period and cohort."""
        cells = self.comparison.cells
        cohorts = cells["_cohort"].unique().sort()
        effects = self._effects.filter(pl.col("_cohort").is_in(cohorts.implode()))
        by_day = np.zeros((days.size, len(cohorts)))
        np.add.at(
            by_day,
            (effects["day"].cast(pl.Int32).to_numpy() - days[0], _indices_in(cohorts, effects["_cohort"])),
            effects[fault].to_numpy(),
        )
        sums = cells.group_by("_ordinal", "_cohort").agg(pl.col("_excess").sum()).sort("_ordinal", "_cohort")
        periods = sums["_ordinal"].unique().sort()
        excess = np.zeros((len(periods), len(cohorts)))
        excess[_indices_in(periods, sums["_ordinal"]), _indices_in(cohorts, sums["_cohort"])] = sums[
            "_excess"
        ].to_numpy()
        runs = _runs_with(days, by_day.sum(axis=1), self.view.calendar, periods.to_numpy(), excess.sum(axis=1))
        period_of_day = self.view.calendar.ordinals(days)
        # Many runs have about the right sum by period, but few have it cohort by cohort.
        cumulative = np.concatenate([np.zeros((1, len(cohorts))), by_day.cumsum(axis=0)])
        by_period = {int(ordinal): row for ordinal, row in zip(periods.to_numpy(), excess, strict=True)}

        def change(run: tuple[int, int]) -> float:
            """Compute by how much the differences grow if the run's effect is subtracted; negative is better."""
            total = 0.0
            ordinals = period_of_day[run[0] : run[1] + 1]
            for ordinal in np.unique(ordinals):
                inside = np.flatnonzero(ordinals == ordinal) + run[0]
                effect = cumulative[inside[-1] + 1] - cumulative[inside[0]]
                difference = by_period.get(int(ordinal), np.zeros(len(cohorts)))
                total += float(np.abs(difference - effect).sum() - np.abs(difference).sum())
            return total

        return sorted(runs, key=lambda run: (round(change(run), 2), run[1] - run[0], run))[:_MAX_RUNS]

    @cached_property
    def _row_counts(self) -> pl.DataFrame:
        days = self.view.days(self.comparison.rows).alias("day").drop_nulls()
        return days.to_frame().group_by("day").agg(pl.len().alias("rows")).sort("day")

    @cached_property
    def _effects(self) -> pl.DataFrame:
        """By how much each cohort's amount changes if the rows of a day are missing, or duplicated."""
        cohorts = self.comparison.activity().select("user_id", "cohort").unique()
        cohorts = cohorts.select("user_id", self.view.ordinals(cohorts["cohort"]).alias("_cohort"))
        rows, view = self.comparison.rows, self.view
        rows = pl.DataFrame(
            {"user_id": rows[view.user], "day": view.days(rows), "_sum": rows[view.amount].cast(pl.Float64)}
        ).drop_nulls()
        days = rows["day"].unique()
        ordinals = view.calendar.ordinals(days.cast(pl.Int32).to_numpy().astype(np.int64))
        if view.refunds == "drop":
            rows = rows.filter(pl.col("_sum") > 0)
        net, day_sum = pl.col("_sum").sum().over("user_id", "_ordinal"), pl.col("_sum")

        def active(amount: pl.Expr) -> pl.Expr:
            return amount if view.refunds == "signed" else amount.clip(0)

        return (
            rows.group_by("user_id", "day")
            .agg(day_sum.sum())
            .join(pl.DataFrame({"day": days, "_ordinal": ordinals}), on="day")
            .with_columns(
                (active(net - day_sum) - active(net)).alias("missing"),
                (active(net + day_sum) - active(net)).alias("duplicated"),
            )
            .with_columns(pl.col("user_id").cast(pl.String))
            .join(cohorts, on="user_id")
            .group_by("_cohort", "day")
            .agg(pl.col("missing", "duplicated").sum())
        )

    # ----------------------------------------------------------------------------------------------- missing locally

    def missing_locally(self) -> Iterator[Cause]:
        """Find days without a local row, if the remote table has more in their period and hardly differs elsewhere."""
        cells = self.comparison.cells
        if cells.is_empty() or self.comparison.rows.is_empty():
            return
        empty = self._empty_days()
        if empty.is_empty():
            return
        days = empty["day"].cast(pl.Int32).to_numpy().astype(np.int64)
        ordinals = self.view.calendar.ordinals(days)
        usual_rows = float(empty["usual"][0])
        excess = dict(cells.group_by("_ordinal").agg(pl.col("_excess").sum()).rows())
        for ordinal in np.unique(ordinals).tolist():
            elsewhere = sum(abs(amount) for other, amount in excess.items() if other != ordinal)
            if excess.get(ordinal, 0.0) > max(CENT, 4 * elsewhere):
                yield self._gap_cause(ordinal, days[ordinals == ordinal], usual_rows, excess[ordinal])

    def _empty_days(self) -> pl.DataFrame:
        """Return the days without a row among busy days, with the usual number of rows around them."""
        counts = self._row_counts
        every = pl.DataFrame({"day": pl.date_range(counts["day"][0], counts["day"][-1], eager=True)})
        every = every.join(counts, on="day", how="left", maintain_order="left").fill_null(0)
        usual = pl.col("rows").rolling_median(15, center=True, min_samples=1)
        return every.with_columns(usual=usual).filter((pl.col("rows") == 0) & (pl.col("usual") >= _BUSY))

    def _gap_cause(self, ordinal: int, days: Ints, usual_rows: float, excess: float) -> Cause:
        cells, keys = self.comparison.cells, self.comparison.keys
        # Rows of a day can change the cells of their period, and all cells of cohorts that start in it or later.
        touched = cells.filter((pl.col("_ordinal") == ordinal) | (pl.col("_cohort") >= ordinal)).select(keys)
        copied = self.comparison.remote.join(touched, on=keys, how="semi", maintain_order="left")
        before = cells.filter((pl.col("_ordinal") == ordinal) & (pl.col("_cohort") < ordinal))
        later = before.select(*keys[:-1], "_excess")
        dates = listed([date_of(int(day)) for day in days])
        words = (
            f"rows of {dates}{self.suffix} that are missing locally (other days have {usual_rows:,.0f}; the "
            f"remote table has {excess:,.2f} more in {self.view.calendar.label(ordinal)})"
        )
        return Cause("days missing locally", DayAdded(copied, later, ordinal), words, assumed=True)


def _indices_in(sorted_values: pl.Series, values: pl.Series) -> Ints:
    return np.searchsorted(sorted_values.to_numpy(), values.to_numpy())


def _runs_with(
    days: Ints, amounts: Floats, calendar: Calendar, ordinals: Ints, differences: Floats
) -> list[tuple[int, int]]:
    """Find runs of days, as first and last index, that reduce the differences of periods by their amounts.

    Returns the best few runs of each length.
    """
    count = days.size
    starts = np.clip(calendar.first_days(ordinals) - days[0], 0, count)
    ends = np.clip(calendar.first_days(ordinals + 1) - days[0], 0, count)
    cumulative = np.concatenate([[0.0], np.cumsum(amounts)])
    longest = max(1, min(_LONGEST_RUN, count, _MAX_SUMS // max(1, count * ordinals.size)))
    runs: list[tuple[int, int]] = []
    begin = np.arange(count)
    for length in range(1, longest + 1):
        end = begin + length
        sums = cumulative[np.clip(end[:, None], starts, ends)] - cumulative[np.clip(begin[:, None], starts, ends)]
        change = (np.abs(differences - sums) - np.abs(differences)).sum(axis=1)[: count - length + 1]
        best = np.argsort(change, kind="stable")[:_BEST_PER_LENGTH]
        runs += [(int(index), int(index) + length - 1) for index in best if change[index] < 0]
    return runs
