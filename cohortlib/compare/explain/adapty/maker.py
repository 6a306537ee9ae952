"""Why Adapty's cohort table may differ: settings, and faults of the data, each named where the differences allow it."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import numpy as np
import polars as pl

from cohortlib.adapty.additive import Sums
from cohortlib.adapty.answer import Answer
from cohortlib.adapty.conventions import Conventions
from cohortlib.adapty.installs import Installs
from cohortlib.adapty.read.events import Events
from cohortlib.adapty.request import Request
from cohortlib.compare.explain.adapty.amounts import NEAR, Floats
from cohortlib.compare.explain.adapty.evidence import Beside, apart, factor, told_cells, wide
from cohortlib.compare.explain.adapty.plan import Plan, follow
from cohortlib.compare.explain.adapty.plans import Tables
from cohortlib.compare.explain.adapty.rewrites import day_named, names
from cohortlib.compare.explain.adapty.words import (
    capitalised,
    days_text,
    nearest_name,
    neighbours_of,
    others_text,
    users_text,
    where_text,
)
from cohortlib.compare.explain.causes import Cause
from cohortlib.compare.explain.zones import Clock, clocks
from cohortlib.errors import CohortlibError
from cohortlib.fields import MONEY
from cohortlib.periods import WEEKDAYS, date_of
from cohortlib.read.arrays import Ints
from cohortlib.read.nulls import Nulls
from cohortlib.read.tables import Source

_FEW = 8  # segments in which single customers are looked for
_MOST = 24  # customers of whom each is tried
_ZONES = 16  # that are tried where installs do not tell which fits


class AdaptyMaker:
    """Makes the answer to a request as it would be under some causes.

    Parameters
    ----------
    events, request, installs, timezone, conventions, nulls, decimals, threads
        As :func:`cohortlib.adapty.cohort` takes them.
    remote
        What the vendor gave: an Answer, or its segments and its values.
    """

    def __init__(
        self,
        events: Source,
        remote: Answer | tuple[pl.DataFrame, pl.DataFrame],
        request: Request | dict[str, Any],
        *,
        installs: Source,
        timezone: str = "UTC",
        conventions: Conventions | None = None,
        nulls: Nulls = "error",
        decimals: int = 6,
        threads: int | None = None,
    ) -> None:
        asked = replace(Request.of(request), compare_date=None)
        conventions = conventions or Conventions()
        self.remote = remote if isinstance(remote, Answer) else Answer(*remote, asked)
        self._tables = Tables(events, installs, self.remote, nulls=nulls, decimals=decimals, threads=threads)
        from_events = isinstance(installs, str) and installs == "from_events"
        self._plan = Plan(asked, conventions, timezone, from_events)
        self._far: dict[object, Ints | None] = {}

    def table(self, causes: tuple[Cause, ...]) -> Answer:
        """Compute the answer under some causes, at most one of each kind."""
        return self._tables.answer(self._planned(causes))

    def _planned(self, causes: tuple[Cause, ...]) -> Plan:
        plan = self._plan
        for cause in sorted(causes, key=lambda cause: cause.kind):
            plan = follow(plan, cause)
        return plan

    def _beside(self, chosen: tuple[Cause, ...]) -> Beside:
        return Beside(self._tables, self.remote, self._planned(chosen))

    # ------------------------------------------------------------------------------------------------ what to try

    def causes(self, chosen: tuple[Cause, ...], report: Any) -> Iterator[Cause]:  # noqa: ANN401
        """Name the settings and the faults that are worth a try beside those chosen, the likeliest first."""
        base = self._beside(chosen)
        seen = {cause.kind for cause in chosen}
        for find in (
            self._labels, self._moneys, self._settings, self._zones, self._faults, self._edges, self._as_of,
        ):  # fmt: skip
            for cause in find(base):
                if cause.kind not in seen:
                    yield cause

    def _settings(self, base: Beside) -> Iterator[Cause]:
        """Name other settings of the computation."""
        plan, request = base.plan, base.plan.request
        told = base.report
        renewals = request.period_type == "renewals"
        if renewals:
            yield from others_text("averages", "averages", plan, {
                "cumulative": "averages of the money up to each column",
                "per_period": "averages of each column's own money",
            })  # fmt: skip
        if plan.conventions.after_to == "payments" or told.get("after_to"):
            yield from others_text("after to", "after_to", plan, {
                "drop": f"nothing dated after {request.date[1]} counted",
                "payments": f"payments dated after {request.date[1]} counted too",
            })  # fmt: skip
        if plan.conventions.refund_upgraded == "negative" or told.get("upgraded"):
            yield from others_text("refunds of upgrades", "refund_upgraded", plan, {
                "zero": "refunds for upgrades left out",
                "negative": "refunds for upgrades taken off",
            })  # fmt: skip
        if not plan.from_events:
            yield Cause("installs", "from_events", "only the users seen in the events counted as installs",
                        (("installs", "from_events"),))  # fmt: skip
        if request.period_unit == "week":
            days = [day for day in ("sunday", "saturday", "monday", *WEEKDAYS) if day != plan.conventions.week_start]
            for day in dict.fromkeys(days):
                yield Cause("week start", day, f"weeks that start on {day.title()}", (("week_start", day),))
        if renewals and not base.question.consecutive:
            for value in (True, False):
                if value != base.question.restarts and base.products_change:
                    words = "each product of a chain" if value else "the payments of a chain, whatever the product,"
                    yield Cause("numbering of products", value, f"{words} counted from 1",
                                (("restart_per_product", value),))  # fmt: skip
        refunds = int((base.events.kind >= 5).sum())
        if refunds:
            yield Cause("refunds", "ignored", "refunds left out altogether")
        for reason, words in (
            ("sandbox", "purchases of the sandbox counted"),
            ("family_shared", "family-shared purchases counted"),
            ("granted", "granted products counted"),
        ):
            if told.get(reason):
                yield from self._working(base, Cause(reason, "counted", words))
        if renewals:
            yield from self._working(base, *others_text("period number", "period_number", plan, {
                "ordinal": "payments numbered by their place in the chain",
                "consecutive": "payments numbered by the column consecutive_payments",
            }))  # fmt: skip
        yield from self._working(base, *others_text("user", "user_unit", plan, {
            "profile_id": "users told by profile_id",
            "customer_user_id": "users told by customer_user_id",
            "device_id": "users told by device",
        }))  # fmt: skip

    def _working(self, base: Beside, *causes: Cause) -> Iterator[Cause]:
        """Keep the causes that the data allow."""
        for cause in causes:
            try:
                self._tables.summed(follow(base.plan, cause))
            except CohortlibError:
                continue
            yield cause

    # -- clocks

    def _zones(self, base: Beside) -> Iterator[Cause]:
        """Name time zones: one of those that cut these data to the same days, first those whose installs fit."""
        if base.off is None:  # beside other segments no zone helps
            return
        for clock in self._clocks(base):
            yield Cause("timezone", clock.name, f"time zone {clock.name}", (("timezone", clock.name),), note=clock.note)

    def _clocks(self, base: Beside) -> list[Clock]:
        columns = [column.drop_nulls() for column in base.instants() if isinstance(column.dtype, pl.Datetime)]
        seconds = [column.dt.epoch("s").to_numpy() for column in columns if len(column)]
        if not seconds:
            return []
        found = list(clocks(min(int(one.min()) for one in seconds), max(int(one.max()) for one in seconds)))
        far = self._strange(base, found)
        if far is not None:
            typical, best = float(np.median(far)), int(far.min())
            order = np.argsort(far, kind="stable")
            # Where no clock stands out, something else is the matter first; the nearest are enough for now.
            stands_out = best < typical / 4
            order = order[far[order] <= best + max(2.0, typical / 10)] if stands_out else order[:_ZONES]
            found = [found[at] for at in order]
        return base.distinct(found)

    def _strange(self, base: Beside, found: list[Clock]) -> Ints | None:
        """Tell by how many installs the segments of each clock differ, once for all that count installs alike."""
        plan = base.plan
        gone = tuple(cause for cause in plan.rows if plan.from_events or cause.kind in ("right edge", "rows missing"))
        who = plan.conventions.user_unit, plan.conventions.week_start, plan.from_events, plan.spared, gone
        key = (plan.request, plan.labels, *who, len(found), found[0].starts[0])
        if key not in self._far:
            self._far[key] = base.strangeness(found)
        return self._far[key]

    # -- labels and money

    def _labels(self, base: Beside) -> Iterator[Cause]:
        """Name other ways of counting columns, and of naming segments."""
        ours, theirs = base.answer.values, self.remote.values
        if ours.is_empty() or theirs.is_empty():
            return
        first = int(theirs["period"].to_numpy().min())
        shift = first - int(ours["period"].to_numpy().min())
        unit = "period" if base.plan.request.period_type == "renewals" else "day"
        if shift and abs(shift) <= 2:
            yield Cause("columns", shift, f"{unit}s counted from {first}")
        if unit == "day" and base.plan.request.renewal_days[-1] > 0:
            yield Cause("ages", -1, "the day of the install counted as day 1")
            yield Cause("ages", 1, "the day after the install counted as day 0")
        local, remote = (
            set(frame.filter(pl.col("type") == "single")["segment_start_date"]) for frame in (ours, theirs)
        )
        if local != remote:
            for value, words in (
                (1, "segments labelled by the start of the next"),
                (-1, "segments labelled by the start of the one before"),
                ("last day", "segments labelled by their last day"),
            ):
                if len(remote & set(names(base.question, value))) > len(local & remote):
                    yield Cause("labels", value, words)

    def _moneys(self, base: Beside) -> Iterator[Cause]:
        """Name a factor on money, and moneys that stand for each other."""
        pairs = base.money_pairs()
        if pairs is None:
            return
        theirs, ours = pairs
        # Which of ours each of theirs is nearest to.
        nearest = (0, 1, 2)
        for scaled in (False, True):
            off = [[apart(theirs[:, there], ours[:, here], scaled) for here in range(3)] for there in range(3)]
            if nearest == (0, 1, 2):
                nearest = nearest_name(off)
        if nearest != (0, 1, 2):
            said = [f"{MONEY[here]} as {MONEY[there]}" for there, here in enumerate(nearest) if there != here]
            yield Cause("moneys", nearest, f"{' and '.join(said)}")
        factors = tuple(factor(theirs[:, at], ours[:, at]) for at in range(3))
        if any(factor != 1.0 for factor in factors):
            same = max(factors) - min(factors) <= 1e-6 * max(factors)
            if same:
                yield Cause("factor", factors, f"all money multiplied by {factors[0]:.6g}")
            else:
                told = [f"{name} by {one:.6g}" for name, one in zip(MONEY, factors, strict=True) if one != 1.0]
                yield Cause("factor", factors, f"{', '.join(told)} multiplied" if told else "")

    # -- rows

    def _faults(self, base: Beside) -> Iterator[Cause]:
        """Name rows that one side lacks or has twice."""
        off = base.off
        if off is None:
            return
        yield from self._alike(base)
        yield from self._gaps(base)
        end = base.end_by_installs()
        if end is not None:
            yield Cause("right edge", end, f"nothing after {day_named(end)} on the remote side")
        amounts = base.amounts
        differing = np.flatnonzero((np.abs(off) > NEAR).any(axis=1))
        if not differing.size:
            return
        zones = ("days", "days of UTC") if base.moved else ("days",)
        for kind, sign, words in (("rows missing", -1, "missing from"), ("rows twice", 1, "twice on")):
            for zone in zones:
                for first, last in amounts.runs_of(sign * off[:, 0], 3, zone.replace("days", "day")):
                    said = f"{days_text(first, last)}{' by the days of UTC' if zone != 'days' else ''}"
                    yield Cause(kind, (zone, first, last), f"the rows of {said} {words} the remote side")
                    if zone == "days" and kind == "rows missing" and last >= base.last_day and base.fewer_installs:
                        yield Cause("right edge", first - 1, f"nothing after {day_named(first - 1)} on the remote side")
            if differing.size <= _FEW:
                yield from self._customers(base, kind, sign, differing, words)

    def _customers(self, base: Beside, kind: str, sign: int, differing: Ints, words: str) -> Iterator[Cause]:
        """Name the customers whose money the difference is, segment by segment."""
        off = base.off
        if off is None:
            return
        found: list[tuple[object, ...]] = []
        for segment in differing.tolist():
            some = base.amounts.users_of(segment, sign * off[segment])
            if some:
                found.append(self._likeliest(base, segment, some, sign) if len(some) > 1 else some[0])
        if found:
            names = tuple(name for group in found for name in group)
            said = f"the rows of {users_text(names)} {words} the remote side"
            yield Cause(kind, ("users", names, False), said)
            if kind == "rows missing" and base.fewer_installs and not base.plan.from_events:
                yield Cause(kind, ("users", names, True), f"{said}, installs too")

    def _likeliest(self, base: Beside, segment: int, groups: list[tuple[object, ...]], sign: int) -> tuple[object, ...]:
        """Choose the users whose own cells are nearest to what the cells of their segment lack or have too much."""
        wanted = base.cells_off(segment)
        if wanted is None:
            return groups[0]

        def missed(group: tuple[object, ...]) -> int:
            own = self._own(base, group)[:, segment, :]
            width = max(own.shape[1], wanted.shape[1])
            return int((np.abs(wide(own, width) * sign - wide(wanted, width)) > NEAR).sum())

        return min(groups[:_MOST], key=missed)

    def _own(self, base: Beside, users: tuple[object, ...]) -> Floats:
        """Add up the money and the subscribers of some users alone."""
        events = base.events
        here = events.frame["user"].is_in(list(users)).fill_null(value=False)
        some = Events(events.frame.filter(here), events.kind.filter(here), events.report)
        who = self._tables.installs(base.plan)
        if who.frame is not None and who.users is not None:
            who = Installs(who.frame.filter(who.users.is_in(list(users))))
        return told_cells(Sums.of(some, who, base.question).by_segment, base.question)

    def _alike(self, base: Beside) -> Iterator[Cause]:
        """Name rows of ours that are alike in all but their ids."""
        if base.repeated:
            yield Cause("repeats", "once", f"{base.repeated:,} rows of ours that repeat others under new ids left out")

    def _gaps(self, base: Beside) -> Iterator[Cause]:
        """Name days of which we have hardly a row, where the other side has about as much money more as they had."""
        off = base.off
        if off is None:
            return
        for first, last, usual in base.gaps():
            starts = base.question.segments.starts
            before = starts <= last
            more, less = (off[:, 0] > NEAR), (off[:, 0] < -NEAR)
            extra = float(off[:, 0].sum())
            # A payment before its user's install is all that a later segment may have there.
            late = float(off[more & ~before, 0].sum())
            if more.any() and late <= 0.1 * extra and less.sum() <= max(1, 0.2 * more.sum()) and extra <= 4 * usual:
                words = f"rows of {days_text(first, last)} missing from ours, about {extra:,.2f} of revenue"
                yield Cause("rows missing here", ("days", first, last), words, assumed=True)

    # -- dates

    def _edges(self, base: Beside) -> Iterator[Cause]:
        """Name dates of the request that are a day off."""
        first, last = base.plan.request.date
        if base.plan.request.date != self._plan.request.date:
            return
        for name, dates in (
            (f"the request up to {last - timedelta(1)}", (first, last - timedelta(1))),
            (f"the request up to {last + timedelta(1)}", (first, last + timedelta(1))),
            (f"the request from {first + timedelta(1)} on", (first + timedelta(1), last)),
            (f"the request from {first - timedelta(1)} on", (first - timedelta(1), last)),
        ):
            if dates[0] <= dates[1]:
                yield Cause("dates", dates, name, (("date", dates),))

    def _as_of(self, base: Beside) -> Iterator[Cause]:
        """Name the days on which is judged what may still grow, where another than ours fits all cells that tell."""
        span = base.as_of_span()
        if span is None:
            return
        low, high = span
        day = min(max(base.question.as_of, low), high)
        said = (
            day_named(day)
            if low == high
            else f"{day_named(day)} (or any day from {day_named(low)} to {day_named(high)})"
        )
        value = date_of(day)
        yield Cause("as of", value, f"periods over or not as of {said}", (("as_of", value),))

    # ------------------------------------------------------------------------------------------- what is left over

    def suspects(self, chosen: tuple[Cause, ...], report: Any) -> list[str]:  # noqa: ANN401
        """Say where the cells lie that stay unexplained, and which customers or days they may be."""
        differences = report.differences
        if differences.is_empty():
            return []
        base = self._beside(chosen)
        return [*where_text(differences), *self._who_may(base)][:5]

    def _who_may(self, base: Beside) -> Iterator[str]:
        """Name customers whose money is what segments lack or have too much, and days that look empty."""
        off = base.off
        if off is None:
            return
        named = names(base.question, base.plan.labels)
        differing = np.asarray((np.abs(off) > NEAR).any(axis=1))
        for one, other in neighbours_of(off):
            # What one segment has too much and the next too little may be a customer who came about midnight.
            for here, there in ((one, other), (other, one)):
                if some := base.amounts.users_of(here, -off[here]):
                    differing[[one, other]] = False
                    who = capitalised(base.portrait(some[0]))
                    who += "," if "," in who else ""
                    yield f"{who} is in segment {named[here]}; in {named[there]} the money of both would agree."
                    break
        for segment in np.flatnonzero(differing)[:_FEW].tolist():
            for sign, side in ((-1, "without"), (1, "with the rows twice of")):
                if some := base.amounts.users_of(segment, sign * off[segment]):
                    group = self._likeliest(base, segment, some, sign) if len(some) > 1 else some[0]
                    yield f"The money of segment {named[segment]} agrees {side} {base.portrait(group)}."
                    break
        for first, last, _ in base.gaps():
            yield f"We have hardly a row of {days_text(first, last)}, though the days around have many."
