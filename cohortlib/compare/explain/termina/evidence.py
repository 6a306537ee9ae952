"""What points at a fault of the data behind a Termina table.

A fault is found by what it cannot help but do. Rows that are missing, or there twice, change the sums of calendar
periods by the sums of days; a customer who is missing changes a cohort by just that customer's amounts; a factor is the
one ratio that most amounts share. What is found so is a candidate: recomputing says whether it holds.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import polars as pl

from cohortlib.compare.explain.causes import Cause
from cohortlib.compare.explain.termina.faults import (
    Ages,
    Customers,
    Days,
    Factor,
    Gap,
    Labels,
    Moved,
    Repeats,
    Taken,
    Unknown,
    View,
)
from cohortlib.compare.explain.termina.runs import CENT, NAMED, RunCalendar, places_of, simplest, some_of
from cohortlib.periods import date_of, epoch_day

_USUAL = 10  # rows a day, for a day without any to be odd


def edges(table: pl.DataFrame, view: View) -> tuple[int, int] | None:
    """Give the first cohort and the last period of a table, as ordinals."""
    if table.is_empty():
        return None
    cohort = view.ordinals(table["cohort"])
    return int(cohort.min()), int((cohort + table["period"]).max())  # type: ignore[arg-type]


@dataclass(frozen=True)
class Evidence:
    """Two tables, the rows behind one of them, and what their differences point at.

    `activity` gives the local customers one by one: cohort, user_id, period and amount where they are active. Where
    days are told `apart` from periods, by UTC, words say so.
    """

    rows: pl.DataFrame
    view: View
    local: pl.DataFrame
    remote: pl.DataFrame
    activity: Callable[[], pl.DataFrame]
    apart: bool = False

    def causes(self) -> Iterator[Cause]:
        """Name the faults to try."""
        yield from self._shifts()
        yield from self._repeats()
        if "amount" not in self.remote.columns:  # all else is found by it
            return
        yield from self._factor()
        # Days may be missing by the clock of whoever stores them, too.
        clocks = [self]
        if self.view.zone != "UTC":
            clocks.append(replace(self, view=replace(self.view, zone="UTC"), apart=True))
        for clock in clocks:
            yield from clock._days()
        yield from self._some_customers()
        if set(self.local.columns) <= set(self.remote.columns):  # rows of the other table are to stand for ours
            yield from self._unknown()
            for clock in clocks:
                yield from clock._gaps()

    @property
    def _keys(self) -> list[str]:
        return [name for name in ("cohort", "user_id", "period") if name in self.local.columns]

    @cached_property
    def _both(self) -> pl.DataFrame:
        """The amounts of both sides, and the sizes and active users where they are told: `_there` is the other's."""
        there = set(self.local.columns) & set(self.remote.columns)
        fields = [name for name in ("amount", "cohort_size", "active_users") if name in there]
        theirs = self.remote.select(*self._keys, *(pl.col(name).alias(f"{name}_there") for name in fields))
        mine = self.local.select(*self._keys, *fields)
        return mine.join(theirs, on=self._keys, how="full", coalesce=True)

    @cached_property
    def _cells(self) -> pl.DataFrame:
        """The same with 0 for what a side lacks, the ordinal of the calendar period, and how much the other has more.

        Only periods that both tables reach.
        """
        mine, theirs = edges(self.local, self.view), edges(self.remote, self.view)
        if mine is None or theirs is None:
            return pl.DataFrame()
        cells = self._both.with_columns(self.view.ordinals(self._both["cohort"]).alias("_cohort"))
        cells = cells.with_columns((pl.col("_cohort") + pl.col("period")).alias("_at"))
        cells = cells.filter(pl.col("_at") <= min(mine[1], theirs[1])).fill_null(0)
        return cells.with_columns((pl.col("amount_there") - pl.col("amount")).alias("_more"))

    # --- a factor

    def _factor(self) -> Iterator[Cause]:
        """Find the ratio that most amounts share."""
        pairs = self._both.select("amount", "amount_there").drop_nulls()
        pairs = pairs.filter((pl.col("amount") != 0) & (pl.col("amount_there") != 0))
        pairs = pairs.sort(pl.col("amount").abs(), descending=True).head(5_000)
        mine, theirs = (pairs[name].to_numpy() for name in ("amount", "amount_there"))
        if mine.size < 3:
            return
        best, most = None, max(2, mine.size // 5)
        for ratio in theirs[:50] / mine[:50]:
            alike = np.abs(theirs - ratio * mine) <= CENT + 1e-7 * np.abs(theirs)
            if alike.sum() > most:
                best, most = alike, int(alike.sum())
        if best is None:
            return
        slack = (CENT / 2) / np.abs(mine[best])
        ratios = theirs[best] / mine[best]
        factor = simplest(float((ratios - slack).max()), float((ratios + slack).min()), float(ratios[0]))
        if factor != 1.0:
            words = {100.0: " (cents)", 0.01: " (units in place of cents)", 2.0: " (every row twice?)"}.get(factor, "")
            yield Cause("factor", Factor(factor), f"all amounts times {factor:.10g}{words}")

    def _shifts(self) -> Iterator[Cause]:
        for by in (1, -1):
            yield Cause("ages", Ages(by), f"ages that count from {by}")
        for by in (1, -1):
            words = f"cohorts under the label of the period {'after' if by > 0 else 'before'} their own"
            yield Cause("labels", Labels(by), words)

    def _repeats(self) -> Iterator[Cause]:
        count = len(self.rows) - len(Repeats().rows(self.rows, self.view))
        if count:
            yield Cause(
                "repeats", Repeats(), f"{count:,} rows that repeat another (user, time and amount) counted once"
            )

    # --- days

    def _days(self) -> Iterator[Cause]:
        """Find the runs of days whose rows are what calendar periods differ by."""
        cells = self._cells
        if cells.is_empty() or self.rows.is_empty() or not (cells["_more"].abs() > CENT).any():
            return
        daily = self._daily
        days = RunCalendar(
            epoch_day(daily["day"][0]) + np.arange((daily["day"][-1] - daily["day"][0]).days + 1, dtype=np.int64),
            self.view.calendar,
        )
        for twice, kind in ((False, "days missing"), (True, "days twice")):
            for first, last in self._runs(days, "twice" if twice else "missing"):
                run = date_of(int(days.days[first])), date_of(int(days.days[last]))
                number = daily.filter(pl.col("day").is_between(*run))["rows"].sum()
                if number:
                    told = f"{run[0]}" if first == last else f"{run[0]} to {run[1]}"
                    told += " UTC" if self.apart else ""
                    words = f"the {number:,} rows of {told} {'counted twice' if twice else 'left out'}"
                    yield Cause(kind, Days(*run, twice, self.view.zone), words)

    def _runs(self, days: "RunCalendar", fault: str) -> list[tuple[int, int]]:
        """Find the runs of days that would make the differences: by period at first, then by cohort too."""
        names = self._cells["_cohort"].unique().sort()
        effects = self._effects.filter(pl.col("_cohort").is_in(names.implode()))
        made = np.zeros((days.days.size, len(names)))
        places = days.places(effects["day"]), places_of(names, effects["_cohort"])
        np.add.at(made, places, effects[fault].to_numpy())
        sums = self._cells.group_by("_at", "_cohort").agg(pl.col("_more").sum()).sort("_at", "_cohort")
        periods = sums["_at"].unique().sort()
        differ = np.zeros((len(periods), len(names)))
        differ[places_of(periods, sums["_at"]), places_of(names, sums["_cohort"])] = sums["_more"].to_numpy()
        found = days.runs(made.sum(axis=1), periods.to_numpy(), differ.sum(axis=1))
        # Many runs have about the sum that is looked for; few have it cohort by cohort.
        running = np.concatenate([np.zeros((1, len(names))), made.cumsum(axis=0)])
        rows = {int(at): row for at, row in zip(periods.to_numpy(), differ, strict=True)}

        def rest(run: tuple[int, int]) -> float:
            """Tell what a run leaves of the differences, less what they were."""
            left = 0.0
            mine = days.periods[run[0] : run[1] + 1]
            for at in np.unique(mine):
                inside = np.flatnonzero(mine == at) + run[0]
                theirs = running[inside[-1] + 1] - running[inside[0]]
                wanted = rows.get(int(at), np.zeros(len(names)))
                left += float(np.abs(wanted - theirs).sum() - np.abs(wanted).sum())
            return left

        return sorted(found, key=lambda run: (round(rest(run), 2), run[1] - run[0], run))[:2]

    @cached_property
    def _daily(self) -> pl.DataFrame:
        """The number of rows of each local day."""
        days = self.view.days(self.rows).alias("day").drop_nulls()
        return days.to_frame().group_by("day").agg(pl.len().alias("rows")).sort("day")

    @cached_property
    def _effects(self) -> pl.DataFrame:
        """What each day's rows do to the active amounts of each cohort, were they missing or there twice."""
        cohorts = self.activity().select("user_id", "cohort").unique()
        cohorts = cohorts.select("user_id", self.view.ordinals(cohorts["cohort"]).alias("_cohort"))
        days = self.view.days(self.rows)
        rows = pl.DataFrame(
            {"user_id": self.rows[self.view.user], "day": days, "_sum": self.rows[self.view.amount].cast(pl.Float64)}
        ).drop_nulls()
        known = rows["day"].unique()
        periods = self.view.calendar.ordinals(known.cast(pl.Int32).to_numpy().astype(np.int64))
        if self.view.refunds == "drop":
            rows = rows.filter(pl.col("_sum") > 0)
        net, theirs = pl.col("_sum").sum().over("user_id", "_at"), pl.col("_sum")

        def active(amount: pl.Expr) -> pl.Expr:
            return amount if self.view.refunds == "signed" else amount.clip(0)

        return (
            rows.group_by("user_id", "day")
            .agg(theirs.sum())
            .join(pl.DataFrame({"day": known, "_at": periods}), on="day")
            .with_columns(
                (active(net - theirs) - active(net)).alias("missing"),
                (active(net + theirs) - active(net)).alias("twice"),
            )
            .with_columns(pl.col("user_id").cast(pl.String))
            .join(cohorts, on="user_id")
            .group_by("_cohort", "day")
            .agg(pl.col("missing", "twice").sum())
        )

    # --- customers

    def _some_customers(self) -> Iterator[Cause]:
        found = self._by_name() if "user_id" in self.local.columns else self._by_amounts()
        for twice, names in found.items():
            if not names:
                continue
            some = some_of(names)
            who = f"customer {some}" if len(names) == 1 else f"the {len(names):,} customers {some}"
            kind, done = ("customers twice", "counted twice") if twice else ("customers missing", "left out")
            note = self._first_payment(names)
            yield Cause(kind, Customers(tuple(names), twice), f"{who} {done}", note=note)
            if len(names) == 1 and not twice:
                for by in (1, -1):
                    words = f"the first payment of {some} a period {'later' if by > 0 else 'earlier'}"
                    yield Cause("customers missing", Moved(names[0], by), words, note=note)

    def _first_payment(self, names: list[str]) -> str:
        """Tell when a single customer first paid."""
        if len(names) != 1:
            return ""
        rows = self.rows.filter(self.view.users(self.rows) == names[0])
        instants = self.view.local(rows.filter(rows[self.view.amount] > 0)).drop_nulls()
        if not len(instants):
            return ""
        form = "%Y-%m-%d" if instants.dtype == pl.Date else "%Y-%m-%d at %H:%M"
        return f"first payment on {instants.sort().dt.strftime(form)[0]}"

    def _by_name(self) -> dict[bool, list[str]]:
        """Compare customers with themselves."""
        mine, theirs = self.local["user_id"].unique(), self.remote["user_id"].unique()
        missing = mine.filter(~mine.is_in(theirs.implode())).sort().to_list()
        if len(missing) > len(mine) // 2:
            missing = []
        per = self._cells.group_by("user_id").agg(
            pl.col("_more").abs().sum().alias("more"),
            (pl.col("_more") - pl.col("amount")).abs().sum().alias("rest"),
            pl.col("amount").abs().sum(),
        )
        twice = per.filter((pl.col("more") > CENT) & (pl.col("rest") <= CENT) & (pl.col("amount") > 0))
        names = twice["user_id"].sort().to_list()
        return {False: missing, True: names if len(names) <= len(per) // 2 else []}

    @cached_property
    def _differing(self) -> pl.DataFrame:
        """The cells of the cohorts that differ, where these are few; else none."""
        cells = self._cells
        if cells.is_empty():
            return cells
        differ = pl.col("_more").abs() > CENT
        if "cohort_size" in cells.columns:
            differ |= pl.col("cohort_size") != pl.col("cohort_size_there")
        cohorts = cells.filter(differ)["cohort"].unique()
        few = max(6, cells["cohort"].n_unique() // 3)
        return cells.filter(pl.col("cohort").is_in(cohorts.implode())) if len(cohorts) <= few else cells.clear()

    def _by_amounts(self) -> dict[bool, list[str]]:
        """Find in each cohort that differs the customer whose amounts are the difference."""
        if self._differing.is_empty():
            return {}
        found: dict[bool, list[str]] = {}
        for twice in (False, True):
            rest = self._left_by_customers(twice)
            good = rest.filter((pl.col("all") > CENT) & (pl.col("rest") <= CENT + 1e-6 * pl.col("all")))
            best = good.sort("cohort", "rest", "user_id").unique("cohort", keep="first", maintain_order=True)
            found[twice] = best["user_id"].to_list()
        return found

    def _left_by_customers(self, twice: bool) -> pl.DataFrame:
        """Tell for each customer of a cohort that differs what would be left of `all`, were the customer the cause."""
        cells = self._differing
        theirs = self.activity().join(cells.select("cohort", "period", "_more"), on=["cohort", "period"])
        amount = -pl.col("amount") if not twice else pl.col("amount")
        rest = ((pl.col("_more") - amount).abs() - pl.col("_more").abs()).sum().alias("rest")
        whole = cells.group_by("cohort").agg(pl.col("_more").abs().sum().alias("all"))
        per = theirs.group_by("cohort", "user_id").agg(rest).join(whole, on="cohort")
        return per.with_columns(pl.col("rest") + pl.col("all"))

    def near(self) -> list[str]:
        """Name the customers whose amounts come close to what a cohort differs by, at most a few."""
        if "user_id" in self.local.columns or "amount" not in self.remote.columns or self._differing.is_empty():
            return []
        told = []
        for twice in (False, True):
            rest = self._left_by_customers(twice)
            close = rest.filter((pl.col("all") > CENT) & (pl.col("rest") < pl.col("all") / 4))
            best = close.sort("cohort", "rest", "user_id").unique("cohort", keep="first", maintain_order=True)
            for cohort, name in best.select("cohort", "user_id").head(3).rows():
                more = "less" if not twice else "more"
                note = self._first_payment([name])
                told.append(f"Cohort {cohort} has there about as much {more} as customer {name} paid ({note}).")
        return told

    # --- what is missing here, the last resort

    def _unknown(self) -> Iterator[Cause]:
        """Suppose the customers that the other table has more."""
        if "user_id" in self.local.columns:
            new = self.remote.join(self.local, on="user_id", how="anti", maintain_order="left")
            names = new["user_id"].unique(maintain_order=True).to_list()
            if names and len(names) <= self.remote["user_id"].n_unique() // 2:
                some = some_of(names)
                words = f"customers of whom no row is here: {some}"
                yield Cause("customers missing here", Taken(new), words, assumed=True)
            return
        cells = self._differing
        if cells.is_empty():
            return
        one_more = (
            (pl.col("cohort_size_there") - pl.col("cohort_size") == 1).all()
            & (pl.col("active_users_there") - pl.col("active_users") == (pl.col("_more") > CENT)).all()
            & (pl.col("_more") > -CENT).all()
        )
        good = cells.group_by("cohort").agg(one_more.alias("good")).filter(pl.col("good"))["cohort"]
        if len(good):
            mine = cells.filter(pl.col("cohort").is_in(good.implode())).sort("cohort", "period")
            fault = Unknown(tuple(mine.select("cohort", "period", "_more").rows()))
            amounts = f"{mine['_more'].sum():,.2f}"
            where = ", ".join(sorted(good)[:NAMED]) + (" ..." if len(good) > NAMED else "")
            words = f"one customer more of whom no row is here, with {amounts} in all, in each of the cohorts {where}"
            if len(good) == 1:
                words = f"one customer more in cohort {good[0]}, of whom no row is here, with {amounts} in all"
            yield Cause("customers missing here", fault, words, assumed=True)

    def _gaps(self) -> Iterator[Cause]:
        """Suppose the rows of days without any, where the other table has more in their period and hardly elsewhere."""
        cells = self._cells
        if cells.is_empty() or self.rows.is_empty():
            return
        daily = self._daily
        every = pl.DataFrame({"day": pl.date_range(daily["day"][0], daily["day"][-1], eager=True)})
        every = every.join(daily, on="day", how="left", maintain_order="left").fill_null(0)
        around = pl.col("rows").rolling_median(15, center=True, min_samples=1)
        empty = every.with_columns(usual=around).filter((pl.col("rows") == 0) & (pl.col("usual") >= _USUAL))
        if empty.is_empty():
            return
        days = empty["day"].cast(pl.Int32).to_numpy().astype(np.int64)
        sums = dict(cells.group_by("_at").agg(pl.col("_more").sum()).rows())
        for ordinal in np.unique(self.view.calendar.ordinals(days)).tolist():
            elsewhere = sum(abs(more) for at, more in sums.items() if at != ordinal)
            if sums.get(ordinal, 0.0) <= max(CENT, 4 * elsewhere):
                continue
            usual = float(empty["usual"][0])
            mine = [date_of(int(day)) for day in days[self.view.calendar.ordinals(days) == ordinal]]
            label = self.view.calendar.label(ordinal)
            # What such rows can change: their period, and all of the cohorts from it on.
            touched = cells.filter((pl.col("_at") == ordinal) | (pl.col("_cohort") >= ordinal)).select(self._keys)
            taken = self.remote.join(touched, on=self._keys, how="semi", maintain_order="left")
            before = cells.filter((pl.col("_at") == ordinal) & (pl.col("_cohort") < ordinal))
            later = before.select(*self._keys[:-1], "_more")
            told = ", ".join(map(str, mine[:NAMED])) + (" ..." if len(mine) > NAMED else "")
            told += " UTC" if self.apart else ""
            words = (
                f"rows of {told}, of which there are none here ({usual:,.0f} on other days): the other table has "
                f"{sums[ordinal]:,.2f} more in {label}"
            )
            yield Cause("days missing here", Gap(taken, later, ordinal), words, assumed=True)
