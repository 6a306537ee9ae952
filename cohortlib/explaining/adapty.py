"""Adapty's cohort table under other settings, and with what may be wrong with the data."""

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, replace
from datetime import date, timedelta
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from cohortlib.adapty import composing, filters, forecast, kernels, sums
from cohortlib.adapty.answer import Answer
from cohortlib.adapty.compute import events_for, installs_for
from cohortlib.adapty.events import Events, known_columns
from cohortlib.adapty.fields import AVERAGES, MONEY
from cohortlib.adapty.question import Question
from cohortlib.adapty.request import CHOICES, Conventions, Request
from cohortlib.adapty.rows import Days, Installs
from cohortlib.adapty.sums import Sums
from cohortlib.errors import CohortlibError
from cohortlib.explaining.amounts import NEAR, Amounts
from cohortlib.explaining.causes import Cause
from cohortlib.explaining.zones import Clock, clocks
from cohortlib.periods import WEEKDAYS
from cohortlib.schema import Ints, Nulls
from cohortlib.sources import Source, read

_EPOCH = date(1970, 1, 1)
_PLANES = [kernels.REVENUE, kernels.PROCEEDS, kernels.NET]
_CONVENTIONS = {one.name for one in fields(Conventions)}
_KEPT = 48  # tables of sums
_FEW = 8  # segments in which single customers are looked for
_MOST = 24  # customers of whom each is tried
_AGAIN = "\N{NUMBER SIGN}again"


@dataclass(frozen=True)
class _Plan:
    """How a table is made: the settings, what is done to the rows before, and to the answer after."""

    request: Request
    conventions: Conventions
    timezone: str
    from_events: bool
    spared: frozenset[str] = frozenset()
    rows: tuple[Cause, ...] = ()
    money: tuple[int, ...] = (0, 1, 2)
    factors: tuple[float, ...] = (1.0, 1.0, 1.0)
    columns: int = 0
    ages: int = 0
    labels: int | str = 0

    @property
    def summed(self) -> "_Plan":
        """What of the plan decides about the sums."""
        days = self.request.period_type == "days"
        conventions = replace(self.conventions, averages="cumulative")
        return replace(
            self,
            conventions=replace(conventions, as_of=None) if days else conventions,
            money=(0, 1, 2),
            factors=(1.0, 1.0, 1.0),
            columns=0,
            labels=0,
        )


class AdaptyMaker:
    """Makes the answer to a request as it would be under some causes.

    Parameters
    ----------
    events, request, installs, timezone, conventions, nulls, decimals, threads
        As :func:`cohortlib.adapty.cohort` takes them.
    remote
        What the vendor gave: an Answer, or its segments and its values.

    Notes
    -----
    Events are read once for each way of naming users and of taking refunds for upgrades, installs once for each way of
    naming users; a table then costs the pass over the rows, and one with other averages, factors or labels not even
    that.
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
        self._events = _held(events)
        self._installs = installs if isinstance(installs, str) else _held(installs)
        self._nulls: Nulls = nulls
        self._decimals, self._threads = decimals, threads
        self.remote = remote if isinstance(remote, Answer) else Answer(*remote, {}, asked, conventions)
        self._predict = "predict" in self.remote.segments.columns and bool(
            self.remote.segments["predict"].null_count() < self.remote.segments.height
        )
        told = isinstance(installs, str) and installs == "from_events"
        self._plan = _Plan(asked, conventions, timezone, told)
        self._read: dict[object, Events] = {}
        self._who: dict[object, Installs] = {}
        self._sums: dict[_Plan, tuple[Sums, dict[str, int]]] = {}
        self._amounts: dict[_Plan, Amounts] = {}

    # ------------------------------------------------------------------------------------------------ the table

    def table(self, causes: tuple[Cause, ...]) -> Answer:
        """Compute the answer under some causes, at most one of each kind."""
        return self._answer(self._planned(causes))

    def _planned(self, causes: tuple[Cause, ...]) -> _Plan:
        plan = self._plan
        for cause in sorted(causes, key=lambda cause: cause.kind):
            plan = _with(plan, cause)
        return plan

    def _question(self, plan: _Plan) -> Question:
        return Question(plan.request, plan.conventions, plan.timezone, self._decimals, self._threads, None)

    def _answer(self, plan: _Plan) -> Answer:
        question = self._question(plan)
        total, report = self._summed(plan)
        if plan.money != (0, 1, 2):
            cells = total.cells.copy()
            cells[_PLANES] = total.cells[[_PLANES[at] for at in plan.money]]
            total = replace(total, cells=cells)
        for cause in plan.rows:
            if cause.kind == "rows missing here":
                total = self._filled(total, plan, cause)
        predictions = None
        if self._predict:
            predictions = forecast.predict(self._edited(plan), self._who_of(plan), question)
        answer = composing.compose(total, question, report, predictions)
        return _relabelled(_scaled(answer, plan.factors), plan, question)

    def _summed(self, plan: _Plan) -> tuple[Sums, dict[str, int]]:
        plan = plan.summed
        if plan not in self._sums:
            if len(self._sums) >= _KEPT:
                del self._sums[next(iter(self._sums))]
            self._sums[plan] = self._added_up(plan)
        return self._sums[plan]

    def _added_up(self, plan: _Plan) -> tuple[Sums, dict[str, int]]:
        question = self._question(plan)
        if not plan.ages:
            return sums.add_up(self._edited(plan), self._who_of(plan), question)
        # Day d there is another day here; what is before the install is nothing.
        days = [day + plan.ages for day in plan.request.renewal_days]
        shown = tuple(day for day in days if day >= 0)
        question = replace(question, request=replace(plan.request, renewal_days=shown))
        total, report = sums.add_up(self._edited(plan), self._who_of(plan), question)
        lost = len(days) - len(shown)
        cells = np.pad(total.cells, ((0, 0), (0, 0), (lost, 0)))
        return replace(total, columns=total.columns + lost, cells=cells), report

    def _events_of(self, plan: _Plan) -> Events:
        question = self._question(plan)
        key = (plan.conventions.user_unit, plan.conventions.refund_upgraded, plan.spared, question.consecutive)
        if key not in self._read:
            with warnings.catch_warnings():
                if self._read:  # told once
                    warnings.simplefilter("ignore")
                self._read[key] = events_for(
                    question, self._events, nulls=self._nulls, predict=self._predict, spared=plan.spared
                )
        return self._read[key]

    def _who_of(self, plan: _Plan) -> Installs:
        if plan.from_events:
            return Installs(None)
        key = plan.conventions.user_unit
        if key not in self._who:
            with warnings.catch_warnings():
                if self._who:
                    warnings.simplefilter("ignore")
                self._who[key] = installs_for(self._question(plan), self._installs, nulls=self._nulls)
        who = self._who[key]
        for cause in plan.rows:
            gone = _gone_from_installs(who, cause, plan.timezone)
            if gone is not None and who.frame is not None:
                who = Installs(who.frame.filter(~gone))
        return who

    def _edited(self, plan: _Plan) -> Events:
        """Give the events as the causes leave them."""
        events = self._events_of(plan)
        for cause in plan.rows:
            events = _EDITS[cause.kind](events, cause, plan.timezone)
        return events

    # ------------------------------------------------------------------------------------------------ what to try

    def causes(self, chosen: tuple[Cause, ...], report: Any) -> Iterator[Cause]:  # noqa: ANN401
        """Name the settings and the faults that are worth a try beside those chosen, the likeliest first."""
        base = _Base(self, chosen)
        seen = {cause.kind for cause in chosen}
        for find in (
            self._labels, self._moneys, self._settings, self._zones, self._faults, self._edges, self._as_of,
        ):  # fmt: skip
            for cause in find(base):
                if cause.kind not in seen:
                    yield cause

    def _settings(self, base: "_Base") -> Iterator[Cause]:
        """Name other settings of the computation."""
        plan, request = base.plan, base.plan.request
        told = base.report
        renewals = request.period_type == "renewals"
        if renewals:
            yield from _others("averages", "averages", plan, {
                "cumulative": "averages of the money up to each column",
                "per_period": "averages of each column's own money",
            })  # fmt: skip
        if plan.conventions.after_to == "payments" or told.get("after_to"):
            yield from _others("after to", "after_to", plan, {
                "drop": f"nothing dated after {request.date[1]} counted",
                "payments": f"payments dated after {request.date[1]} counted too",
            })  # fmt: skip
        if plan.conventions.refund_upgraded == "negative" or told.get("upgraded"):
            yield from _others("refunds of upgrades", "refund_upgraded", plan, {
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
            yield from self._working(base, *_others("period number", "period_number", plan, {
                "ordinal": "payments numbered by their place in the chain",
                "consecutive": "payments numbered by the column consecutive_payments",
            }))  # fmt: skip
        yield from self._working(base, *_others("user", "user_unit", plan, {
            "profile_id": "users told by profile_id",
            "customer_user_id": "users told by customer_user_id",
            "device_id": "users told by device",
        }))  # fmt: skip

    def _working(self, base: "_Base", *causes: Cause) -> Iterator[Cause]:
        """Keep the causes that the data allow."""
        for cause in causes:
            try:
                self._summed(_with(base.plan, cause))
            except CohortlibError:
                continue
            yield cause

    # -- clocks

    def _zones(self, base: "_Base") -> Iterator[Cause]:
        """Name time zones: one of those that cut these data to the same days, first those whose installs fit."""
        for clock in self._clocks(base):
            yield Cause("timezone", clock.name, f"time zone {clock.name}", (("timezone", clock.name),), note=clock.note)

    def _clocks(self, base: "_Base") -> list[Clock]:
        columns = [column for column in base.instants() if isinstance(column.dtype, pl.Datetime) and len(column)]
        seconds = [column.dt.epoch("s") for column in columns]
        spans = [(low, high) for one in seconds if (low := one.min()) is not None and (high := one.max()) is not None]
        if not spans:
            return []
        found = clocks(int(min(low for low, _ in spans)), int(max(high for _, high in spans)))  # type: ignore[type-var]
        far = base.strangeness(found)
        if far is not None:
            typical, best = float(np.median(far)), int(far.min())
            order = np.argsort(far, kind="stable")
            if best < typical / 4:
                order = order[far[order] <= best + max(2.0, typical / 10)]
            found = [found[at] for at in order]
        return base.distinct(found)

    # -- labels and money

    def _labels(self, base: "_Base") -> Iterator[Cause]:
        """Name other ways of counting columns, and of naming segments."""
        ours, theirs = base.answer.values, self.remote.values
        if ours.is_empty() or theirs.is_empty():
            return
        shift = int(theirs["period"].min()) - int(ours["period"].min())  # type: ignore[call-overload]
        unit = "period" if base.plan.request.period_type == "renewals" else "day"
        if shift and abs(shift) <= 2:
            first = int(theirs["period"].min())  # type: ignore[call-overload]
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
                if len(remote & set(_names(base.question, value))) > len(local & remote):
                    yield Cause("labels", value, words)

    def _moneys(self, base: "_Base") -> Iterator[Cause]:
        """Name a factor on money, and moneys that stand for each other."""
        pairs = base.money_pairs()
        if pairs is None:
            return
        theirs, ours = pairs
        # Which of ours each of theirs is nearest to.
        off = [[_apart(theirs[:, there], ours[:, here]) for here in range(3)] for there in range(3)]
        nearest = tuple(int(np.argmin(row)) if min(row) < row[at] / 2 else at for at, row in enumerate(off))
        if nearest != (0, 1, 2):
            said = [f"{MONEY[here]} as {MONEY[there]}" for there, here in enumerate(nearest) if there != here]
            yield Cause("moneys", nearest, f"{' and '.join(said)}")
        factors = tuple(_factor(theirs[:, at], ours[:, at]) for at in range(3))
        if any(factor != 1.0 for factor in factors):
            same = max(factors) - min(factors) <= 1e-6 * max(factors)
            if same:
                yield Cause("factor", factors, f"all money multiplied by {factors[0]:.6g}")
            else:
                told = [f"{name} by {one:.6g}" for name, one in zip(MONEY, factors, strict=True) if one != 1.0]
                yield Cause("factor", factors, f"{', '.join(told)} multiplied" if told else "")

    # -- rows

    def _faults(self, base: "_Base") -> Iterator[Cause]:
        """Name rows that one side lacks or has twice."""
        off = base.off
        if off is None:
            return
        yield from self._alike(base)
        yield from self._gaps(base)
        amounts = base.amounts
        differing = np.flatnonzero((np.abs(off) > NEAR).any(axis=1))
        if not differing.size:
            return
        for kind, sign, words in (("rows missing", -1, "missing from"), ("rows twice", 1, "twice on")):
            for first, last in amounts.runs_of(sign * off[:, 0], 3):
                yield Cause(kind, ("days", first, last), f"the rows of {_days(first, last)} {words} the remote side")
                if kind == "rows missing" and last >= base.last_day and base.fewer_installs:
                    yield Cause("right edge", first - 1, f"nothing after {_day(first - 1)} on the remote side")
            if differing.size <= _FEW:
                yield from self._customers(base, kind, sign, differing, words)

    def _customers(self, base: "_Base", kind: str, sign: int, differing: Ints, words: str) -> Iterator[Cause]:
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
            said = f"the rows of {_people(names)} {words} the remote side"
            yield Cause(kind, ("users", names, False), said)
            if kind == "rows missing" and base.fewer_installs and not base.plan.from_events:
                yield Cause(kind, ("users", names, True), f"{said}, installs too")

    def _likeliest(
        self, base: "_Base", segment: int, groups: list[tuple[object, ...]], sign: int
    ) -> tuple[object, ...]:
        """Choose the users whose own cells are nearest to what the cells of their segment lack or have too much."""
        wanted = base.cells_off(segment)
        if wanted is None:
            return groups[0]

        def missed(group: tuple[object, ...]) -> int:
            own = self._own(base, group)[:, segment, :]
            width = max(own.shape[1], wanted.shape[1])
            return int((np.abs(_wide(own, width) * sign - _wide(wanted, width)) > NEAR).sum())

        return min(groups[:_MOST], key=missed)

    def _own(self, base: "_Base", users: tuple[object, ...]) -> NDArray[np.float64]:
        """Add up the money and the subscribers of some users alone."""
        events = self._edited(base.plan)
        here = events.frame["user"].is_in(list(users)).fill_null(value=False)
        some = Events(events.frame.filter(here), events.kind.filter(here), events.report)
        who = self._who_of(base.plan)
        if who.frame is not None and who.users is not None:
            who = Installs(who.frame.filter(who.users.is_in(list(users))))
        total, _ = sums.add_up(some, who, base.question)
        return _told_cells(total, base.question)

    def _alike(self, base: "_Base") -> Iterator[Cause]:
        """Name rows of ours that are alike in all but their ids."""
        if base.repeated:
            yield Cause("repeats", "once", f"{base.repeated:,} rows of ours that repeat others under new ids left out")

    def _gaps(self, base: "_Base") -> Iterator[Cause]:
        """Name days of which we have hardly a row, where the other side has more money, and about as much as a day's."""
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
                words = f"rows of {_days(first, last)} missing from ours, about {extra:,.2f} of revenue"
                yield Cause("rows missing here", ("days", first, last), words)

    def _filled(self, total: Sums, plan: _Plan, cause: Cause) -> Sums:
        """Put into the cells of segments that begin before the end of a gap what the other side has there."""
        question = self._question(plan)
        return _filled(total, self.remote, question, int(cause.value[2]), self._decimals)  # type: ignore[index]

    # -- dates

    def _edges(self, base: "_Base") -> Iterator[Cause]:
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

    def _as_of(self, base: "_Base") -> Iterator[Cause]:
        """Name the days on which is judged what may still grow, where another than ours fits all cells that tell."""
        span = base.as_of_span()
        if span is None:
            return
        low, high = span
        day = min(max(base.question.as_of, low), high)
        said = _day(day) if low == high else f"{_day(day)} (or any day from {_day(low)} to {_day(high)})"
        value = _EPOCH + timedelta(day)
        yield Cause("as of", value, f"periods over or not as of {said}", (("as_of", value),))

    # ------------------------------------------------------------------------------------------- what is left over

    def suspects(self, chosen: tuple[Cause, ...], report: Any) -> list[str]:  # noqa: ANN401
        """Say where the cells lie that stay unexplained, and which customers or days they may be."""
        differences = report.differences
        if differences.is_empty():
            return []
        base = _Base(self, chosen)
        return [*_where(differences), *self._who_may(base)][:5]

    def _who_may(self, base: "_Base") -> Iterator[str]:
        off = base.off
        if off is None:
            return
        differing = np.flatnonzero((np.abs(off) > NEAR).any(axis=1))
        names = _names(base.question, base.plan.labels)
        for segment in differing[:_FEW].tolist():
            for sign, side in ((-1, "without"), (1, "with twice")):
                some = base.amounts.users_of(segment, sign * off[segment])
                if some:
                    group = self._likeliest(base, segment, some, sign) if len(some) > 1 else some[0]
                    yield f"Segment {names[segment]} agrees in money {side} {base.portrait(group)}."
                    break
        for segment in range(len(off) - 1):
            # What one segment has too much and the next too little may be a customer who came about midnight.
            if (np.abs(off[segment]) > NEAR).any() and (np.abs(off[segment] + off[segment + 1]) <= NEAR).all():
                for here, there, sign in ((segment, segment + 1, -1), (segment + 1, segment, -1)):
                    some = base.amounts.users_of(here, sign * off[here])
                    if some:
                        yield (
                            f"{base.portrait(some[0])} would, counted in segment {names[there]} instead of "
                            f"{names[here]}, make the money of both agree."
                        ).replace("customer", "Customer", 1)
        for first, last, _ in base.gaps():
            yield f"Of {_days(first, last)} we have hardly a row, though the days around it have many."


# ------------------------------------------------------------------------------------------------------ one choice


class _Base:
    """The table under what is chosen so far, beside the remote one."""

    def __init__(self, maker: AdaptyMaker, chosen: tuple[Cause, ...]) -> None:
        self._maker = maker
        self.plan = maker._planned(chosen)
        self.question = maker._question(self.plan)
        self.answer = maker._answer(self.plan)
        self.events = maker._edited(self.plan)
        self.report = self.answer.report
        self._known: dict[str, Any] = {}

    def _once(self, name: str, make: Callable[[], Any]) -> Any:  # noqa: ANN401
        if name not in self._known:
            self._known[name] = make()
        return self._known[name]

    @property
    def last_day(self) -> int:
        """The last day of the data that counts."""
        return self._once("last", lambda: min(self.question.segments.last, int(self.days[self.live].max(initial=0))))  # type: ignore[no-any-return]

    @property
    def live(self) -> NDArray[np.bool_]:
        """Which rows count."""
        return self._once("live", lambda: self.events.kind.to_numpy() >= 0)  # type: ignore[no-any-return]

    @property
    def days(self) -> NDArray[np.int32]:
        """The local day of each event."""
        return self._once("days", lambda: _local_days(self.events.frame["event_datetime"], self.plan.timezone))  # type: ignore[no-any-return]

    @property
    def products_change(self) -> bool:
        """Whether a chain has payments for more than one product."""

        def look() -> bool:
            kind = self.events.kind
            paid = self.events.frame.filter((kind >= 1) & (kind <= 3))
            pair = paid.select("original_transaction_id", "product_id").drop_nulls().unique()
            return bool(pair["original_transaction_id"].n_unique() < pair.height)

        return bool(self._once("products", look))

    # -- the other side

    @property
    def off(self) -> NDArray[np.float64] | None:
        """How much more of each money the remote side has, by segment; None where the segments are others."""
        return self._once("off", self._off)  # type: ignore[no-any-return]

    def _off(self) -> NDArray[np.float64] | None:
        both = self._segments()
        if both is None:
            return None
        columns = [[f"total_{name}_usd{side}" for name in MONEY] for side in ("", "_remote")]
        ours, theirs = (both.select(names).to_numpy() for names in columns)
        return (theirs - ours) / np.array(self.plan.factors)

    def _segments(self) -> pl.DataFrame | None:
        theirs = self._maker.remote.segments
        single = pl.col("type") == "single"
        ours = self.answer.segments.filter(single)
        both = ours.join(
            theirs.filter(single), on="segment_start_date", how="left", suffix="_remote", maintain_order="left"
        )
        missing = both["type_remote"].null_count()
        return (
            None
            if missing * 2 > ours.height or ours.is_empty()
            else both.with_columns(
                pl.coalesce(f"total_{name}_usd_remote", f"total_{name}_usd").alias(f"total_{name}_usd_remote")
                for name in MONEY
            )
        )

    @property
    def fewer_installs(self) -> bool:
        """Whether the remote side has fewer installs somewhere."""
        both = self._segments()
        return both is not None and bool((both["total_installs_remote"] < both["total_installs"]).any())

    def money_pairs(self) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
        """Give the money of all cells that both sides have, theirs and ours, where one of them is not 0."""
        names = [f"{name}_usd" for name in MONEY]
        keys = ["segment_start_date", "type", "period"]
        both = self.answer.values.select(*keys, *names).join(
            self._maker.remote.values.select(*keys, *names), on=keys, suffix="_remote"
        )
        theirs, ours = (both.select(f"{name}{side}" for name in names).to_numpy() for side in ("_remote", ""))
        some = ((theirs != 0) & (ours != 0)).all(axis=1)
        return (theirs[some], ours[some]) if some.any() else None

    def cells_off(self, segment: int) -> NDArray[np.float64] | None:
        """How much more the remote side has in each cell of a segment: moneys, subscribers and subscriptions."""
        names = _names(self.question, self.plan.labels)
        theirs = _told(self._maker.remote.values, names[segment])
        ours = _told(self.answer.values, names[segment])
        if theirs.shape[1] == 0:
            return None
        width = max(theirs.shape[1], ours.shape[1])
        off = _wide(theirs, width) - _wide(ours, width)
        off[:3] /= np.array(self.plan.factors)[:, None]
        return off

    # -- money

    @property
    def amounts(self) -> Amounts:
        """The money of each user and day."""
        return self._once("amounts", self._amounts)  # type: ignore[no-any-return]

    def _amounts(self) -> Amounts:
        maker, plan, segments = self._maker, self.plan, self.question.segments
        frame, kind = self.events.frame, self.events.kind.to_numpy()
        kept = (kind > 0) & ((self.days <= segments.last) | ((plan.conventions.after_to == "payments") & (kind < 5)))
        passing = filters.transactions(frame, plan.request.filters)
        if passing is not None:
            kept &= passing.to_numpy()
        signs = np.where(kind >= 5, -1.0, 1.0)
        rows = pl.DataFrame([
            frame["user"], pl.Series("transaction", frame["transaction_id"]), pl.Series("kind", kind),
            pl.Series("day", self.days),
            *(pl.Series(name, _refunded(frame[f"{name}_usd"], signs)) for name in MONEY),
        ]).filter(pl.Series(kept))  # fmt: skip
        rows = pl.concat([
            rows.filter(pl.col("transaction").is_not_null()).unique(["user", "transaction", "kind"], keep="first"),
            rows.filter(pl.col("transaction").is_null()),
        ])  # fmt: skip
        came = self._came(maker._who_of(plan))
        rows = rows.join(came, on="user", how="left")
        installed = rows["came"].fill_null(rows.select(pl.col("day").min().over("user")).to_series()).to_numpy()
        inside = (installed >= segments.first) & (installed <= segments.last)
        rows = rows.filter(pl.Series(inside)).with_columns(
            pl.Series("segment", segments.of_day[installed[inside] - segments.first])
        )
        moneys = [pl.col(MONEY[at]).alias(name) for name, at in zip(MONEY, plan.money, strict=True)]
        return Amounts(rows.select("user", "day", "segment", *moneys), len(segments))

    def _came(self, who: Installs) -> pl.DataFrame:
        """Give the day on which each user came, as far as it is told."""
        zone = self.plan.timezone
        frames = []
        if who.frame is not None and who.users is not None:
            days = _local_days(who.frame["install_date"], zone)
            frames.append(
                pl.DataFrame(
                    [
                        who.users.alias("user"),
                        pl.Series("came", days),
                        pl.Series("rank", [0]).new_from_index(0, len(days)),
                    ]
                )
            )
        if "install_date" in self.events.frame.columns:
            days = _local_days(self.events.frame["install_date"], zone)
            told = self.live & (days != kernels.NONE)
            frames.append(pl.DataFrame([
                self.events.frame["user"], pl.Series("came", days), pl.Series("rank", [1]).new_from_index(0, len(days)),
            ]).filter(pl.Series(told)))  # fmt: skip
        if not frames:
            return pl.DataFrame(schema={"user": self.events.frame["user"].dtype, "came": pl.Int32})
        frames = [
            frame.with_columns(pl.col("user").cast(self.events.frame["user"].dtype, strict=False)) for frame in frames
        ]
        return (
            pl.concat(frames).group_by("user").agg(pl.col("came").filter(pl.col("rank") == pl.col("rank").min()).min())
        )

    # -- clocks

    def instants(self) -> list[pl.Series]:
        """Give the columns of instants that are cut to days."""
        frame = self.events.frame.filter(pl.Series(self.live))
        names = ("event_datetime", "install_date", "subscription_expires_at")
        found = [frame[name] for name in names if name in frame.columns]
        who = self._maker._who_of(self.plan)
        return [*found, *([who.frame["install_date"]] if who.frame is not None else [])]

    def strangeness(self, found: list[Clock]) -> Ints | None:
        """Tell for each clock by how many installs its segments differ from the remote ones; None if that says nothing."""
        both = self._segments()
        who = self._maker._who_of(self.plan)
        if both is None:
            return None
        if who.frame is None:
            if "install_date" not in self.events.frame.columns:
                return None
            frame = self.events.frame.filter(pl.Series(self.live)).select("user", "install_date").drop_nulls()
        else:
            passing = filters.installs(who.frame, self.plan.request.filters)
            frame = who.frame if passing is None else who.frame.filter(passing)
        if not isinstance(frame["install_date"].dtype, pl.Datetime):
            return None
        if "user" in frame.columns:
            frame = frame.group_by("user").agg(pl.col("install_date").min())
        seconds = frame["install_date"].dt.epoch("s").to_numpy()
        counts = frame["installs"].to_numpy() if "installs" in frame.columns else np.ones(len(seconds))
        theirs = both["total_installs_remote"].fill_null(0).to_numpy()
        segments = self.question.segments
        far = []
        for clock in found:
            shifts = clock.shifts[np.searchsorted(clock.starts, seconds, side="right") - 1]
            days = (seconds + shifts) // 86_400
            inside = (days >= segments.first) & (days <= segments.last)
            ours = np.bincount(
                segments.of_day[days[inside] - segments.first], weights=counts[inside], minlength=len(segments)
            )
            far.append(int(np.abs(ours - theirs).sum()))
        return np.array(far)

    def distinct(self, found: list[Clock]) -> list[Clock]:
        """Let one clock stand for all that cut the data to the same days, and leave out those that cut as ours does."""
        columns = [column for column in self.instants() if isinstance(column.dtype, pl.Datetime)]
        first = [_local_days(column, self.plan.timezone).tobytes() for column in columns]
        alike: dict[int, Clock] = {hash(tuple(first)): Clock("", (), np.empty(0, np.int64), np.empty(0, np.int64))}
        for clock in found:
            if clock.name == self.plan.timezone or self.plan.timezone in clock.others:
                continue
            key = hash(tuple(_local_days(column, clock.name).tobytes() for column in columns))
            held = alike.get(key)
            alike[key] = clock if held is None else replace(held, others=(*held.others, clock.name, *clock.others))
        return [clock for clock in alike.values() if clock.name]

    # -- rows

    @property
    def repeated(self) -> int:
        """How many rows are alike with an earlier one in all but the ids."""
        return int(self._once("repeated", lambda: int(_alike(self.events).sum())))

    def gaps(self) -> list[tuple[int, int, float]]:
        """Find runs of days with hardly a row amid days with many: first day, last day, usual revenue of as many."""
        days = self.days[self.live & (self.days <= self.question.segments.last)]
        if not days.size:
            return []
        first = int(days.min())
        counts = np.bincount(days - first).astype(float)
        width = 10
        padded = np.pad(counts, width, mode="reflect") if counts.size > width else counts
        if counts.size <= width:
            return []
        usual = np.median(np.lib.stride_tricks.sliding_window_view(padded, 2 * width + 1), axis=1)
        empty = (usual >= 8) & (counts <= usual / 5)
        edges = np.flatnonzero(np.diff(np.concatenate([[0], empty.astype(int), [0]])))
        kind = self.events.kind.to_numpy()
        money = self.events.frame["revenue_usd"].cast(pl.Float64).fill_null(0.0).to_numpy()
        daily = float(money[(kind >= 1) & (kind <= 4)].sum()) / max(float(counts.sum()), 1.0)
        return [
            (first + int(a), first + int(b) - 1, float(usual[a:b].sum()) * daily)
            for a, b in zip(edges[::2], edges[1::2], strict=True)
        ][:3]

    def as_of_span(self) -> tuple[int, int] | None:
        """Find the days as of which the cells tell what may still grow as the remote side does; None if ours is one."""
        theirs = self._maker.remote.values
        if "currently_active_period" not in theirs.columns:
            return None
        keys = ["segment_start_date", "type", "period"]

        def flags(answer: Answer) -> pl.DataFrame:
            return answer.values.select(*keys, "currently_active_period").join(
                theirs.select(*keys, pl.col("currently_active_period").alias("theirs")), on=keys
            )

        told = flags(self.answer)
        if told.is_empty() or (told["currently_active_period"] == told["theirs"]).all():
            return None
        count = int(told["theirs"].sum())
        # The later the day, the fewer cells may still grow: another day only adds cells, or only takes some away.
        apart = told.filter(pl.col("currently_active_period") != pl.col("theirs"))
        if 0.05 < apart["theirs"].mean() < 0.95:  # type: ignore[operator]
            return None

        def ours(day: int) -> int:
            plan = replace(self.plan, conventions=replace(self.plan.conventions, as_of=_EPOCH + timedelta(day)))
            return int(flags(self._maker._answer(plan))["currently_active_period"].sum())

        low, high = self.question.segments.first - 800, self.question.segments.last + 1600
        begin = _bisect(lambda day: ours(day) <= count, low, high)
        if ours(begin) != count:
            return begin, begin
        end = _bisect(lambda day: ours(day) < count, begin, high) - 1
        return begin, max(begin, end)

    # -- words

    def portrait(self, users: tuple[object, ...]) -> str:
        """Say who customers are: the id, and when the first of their payments was, by the local clock."""
        told = []
        for user in users:
            here = (self.events.frame["user"] == user).fill_null(value=False) & (self.events.kind > 0)
            at = self.events.frame["event_datetime"].filter(here).min()
            when = ""
            if at is not None:
                clock = (
                    pl.Series([at]).dt.convert_time_zone(self.plan.timezone) if hasattr(at, "hour") else pl.Series([at])
                )
                when = f", whose first payment is at {clock.dt.strftime('%Y-%m-%d %H:%M' if hasattr(at, 'hour') else '%Y-%m-%d')[0]}"
            told.append(f"customer {user}{when}")
        return " and ".join(told)


# --------------------------------------------------------------------------------------------------- small parts


def _held(source: Source) -> Source:
    """Hold in memory what may be readable once only."""
    if isinstance(source, pl.DataFrame) or (
        not hasattr(source, "__arrow_c_stream__") and not isinstance(source, pl.LazyFrame)
    ):
        return source
    known = known_columns()
    return read(source, lambda there: [name for name in there if name in known], text="")


def _others(kind: str, name: str, plan: _Plan, words: dict[str, str]) -> list[Cause]:
    """Name the other values of a convention."""
    now = getattr(plan.conventions, name)
    return [Cause(kind, value, words[str(value)], ((name, value),)) for value in CHOICES[name] if value != now]


_SPARED = ("sandbox", "family_shared", "granted")


def _with(plan: _Plan, cause: Cause) -> _Plan:
    """Let a plan follow a cause."""
    if cause.settings:
        for name, value in cause.settings:
            if name in _CONVENTIONS:
                plan = replace(plan, conventions=replace(plan.conventions, **{name: value}))
            elif name == "timezone":
                plan = replace(plan, timezone=value)
            elif name == "installs":
                plan = replace(plan, from_events=True)
            else:
                plan = replace(plan, request=replace(plan.request, date=value))
        return plan
    value: Any = cause.value
    if cause.kind in _SPARED:
        return replace(plan, spared=plan.spared | {cause.kind})
    if cause.kind in _EDITS:
        return replace(plan, rows=(*plan.rows, cause))
    named = {"moneys": "money", "factor": "factors", "columns": "columns", "ages": "ages", "labels": "labels"}
    return replace(plan, **{named[cause.kind]: value})


def _local_days(column: pl.Series, zone: str) -> NDArray[np.int32]:
    if not len(column) or column.null_count() == len(column):
        return np.full(len(column), kernels.NONE, np.int32)
    return Days.of(column, zone)(0, len(column))


def _refunded(money: pl.Series, signs: NDArray[np.float64]) -> NDArray[np.float64]:
    values = money.cast(pl.Float64).fill_null(0.0).to_numpy()
    return np.where(signs < 0, -np.abs(values), values)


# -- rows


def _chosen(events: Events, cause: Cause, timezone: str) -> pl.Series:
    """Tell the rows that a cause is of: those of some users, or of some days."""
    value: Any = cause.value
    if value[0] == "users":
        return events.frame["user"].is_in(list(value[1])).fill_null(value=False)
    days = _local_days(events.frame["event_datetime"], timezone)
    return pl.Series((days >= value[1]) & (days <= value[2]))


def _without(events: Events, gone: pl.Series) -> Events:
    return replace(events, kind=events.kind.set(gone, -1))


def _missing(events: Events, cause: Cause, timezone: str) -> Events:
    return _without(events, _chosen(events, cause, timezone))


def _twice(events: Events, cause: Cause, timezone: str) -> Events:
    """Repeat some rows under ids of their own, in the same chains."""
    some = _chosen(events, cause, timezone) & (events.kind >= 0)
    ids = [name for name in ("transaction_id", "profile_event_id") if name in events.frame.columns]
    more = events.frame.filter(some).with_columns(pl.col(name) + _AGAIN for name in ids)
    return Events(
        pl.concat([events.frame, more]), pl.concat([events.kind, events.kind.filter(some)], rechunk=True), events.report
    )


def _ended(events: Events, cause: Cause, timezone: str) -> Events:
    days = _local_days(events.frame["event_datetime"], timezone)
    return _without(events, pl.Series(days > int(cause.value)))  # type: ignore[call-overload]


def _unrefunded(events: Events, cause: Cause, timezone: str) -> Events:
    return _without(events, events.kind >= 5)


def _alike(events: Events) -> pl.Series:
    """Tell the rows that are alike with an earlier one in user, instant, kind, product and money, under another id."""
    same = ["user", "event_datetime", "product_id", "revenue_usd", "proceeds_usd", "net_revenue_usd"]
    frame = events.frame.select(same).with_columns(kind=events.kind, id=events.frame["transaction_id"])
    order = pl.int_range(pl.len())
    later = order != order.min().over(*same, "kind")
    other = pl.col("id").ne_missing(pl.col("id").first().over(*same, "kind"))
    return frame.select((later & other & (pl.col("kind") >= 0)).alias("again")).to_series()


def _once(events: Events, cause: Cause, timezone: str) -> Events:
    return _without(events, _alike(events))


def _as_they_are(events: Events, cause: Cause, timezone: str) -> Events:
    return events


_EDITS: dict[str, Callable[[Events, Cause, str], Events]] = {
    "rows missing": _missing,
    "rows twice": _twice,
    "right edge": _ended,
    "refunds": _unrefunded,
    "repeats": _once,
    "rows missing here": _as_they_are,
}


def _gone_from_installs(who: Installs, cause: Cause, timezone: str) -> pl.Series | None:
    """Tell the installs that go with the rows of a cause."""
    if who.frame is None:
        return None
    value: Any = cause.value
    if cause.kind == "right edge":
        return pl.Series(_local_days(who.frame["install_date"], timezone) > value)
    if cause.kind == "rows missing" and value[0] == "users" and value[2] and who.users is not None:
        return who.users.is_in(list(value[1]))
    return None


# -- answers


def _scaled(answer: Answer, factors: tuple[float, ...]) -> Answer:
    """Multiply the moneys of an answer."""
    if all(factor == 1.0 for factor in factors):
        return answer
    of = {name: at for at, name in enumerate(MONEY)}
    of |= {name: at for family in AVERAGES.values() for at, name in enumerate(family)}

    def scaled(frame: pl.DataFrame, before: str) -> pl.DataFrame:
        return frame.with_columns(pl.col(f"{before}{name}_usd") * factors[at] for name, at in of.items())

    return replace(answer, values=scaled(answer.values, ""), segments=scaled(answer.segments, "total_"))


def _names(question: Question, labels: int | str) -> list[str]:
    """Name the segments: by their start, or as they are labelled otherwise."""
    segments = question.segments
    days = segments.starts.copy()
    if labels == "last day":
        days = segments.ends.copy()
    elif labels:
        days = _starts_beside(question, int(labels))
    return [_day(int(day)) for day in days]


def _starts_beside(question: Question, by: int) -> Ints:
    calendar = question.calendar
    return calendar.first_days(calendar.ordinals(question.segments.starts) + by)


def _relabelled(answer: Answer, plan: _Plan, question: Question) -> Answer:
    """Name columns and segments as a plan says."""
    if plan.columns:
        answer = replace(answer, values=answer.values.with_columns(pl.col("period") + plan.columns))
    if plan.labels:
        old, new = _names(question, 0), _names(question, plan.labels)
        single = pl.col("type") == "single"

        def named(frame: pl.DataFrame, *names: str) -> pl.DataFrame:
            return frame.with_columns(
                pl.when(single).then(pl.col(name).replace(old, new)).otherwise(name).alias(name) for name in names
            )

        answer = replace(
            answer,
            values=named(answer.values, "segment_start_date"),
            segments=named(answer.segments, "segment_start_date", "title"),
        )
    return answer


def _apart(theirs: NDArray[np.float64], ours: NDArray[np.float64]) -> float:
    return float(np.median(np.abs(theirs / ours - 1)))


def _factor(theirs: NDArray[np.float64], ours: NDArray[np.float64]) -> float:
    """Find the ratio that most cells share; 1 where it is none."""
    ratios = theirs / ours
    rounded = np.round(ratios, 5 - int(np.floor(np.log10(max(abs(float(np.median(ratios))), 1e-9)))))
    values, counts = np.unique(rounded, return_counts=True)
    best = int(np.argmax(counts))
    same = np.abs(ratios / values[best] - 1) < 1e-4 if values[best] else np.zeros(ratios.size, bool)
    if counts[best] < max(3, 0.15 * ratios.size) or abs(values[best] - 1) < 1e-6 or values[best] <= 0:
        return 1.0
    # Of the cells that share it, the largest tells it best.
    largest = int(np.argmax(np.where(same, np.abs(ours), 0)))
    exact = float(theirs[largest] / ours[largest])
    plain = float(f"{exact:.4g}")
    return plain if abs(plain / exact - 1) < 1e-9 else exact


_TOLD = ["revenue_usd", "proceeds_usd", "net_revenue_usd", "subscribers", "subscriptions"]


def _told(values: pl.DataFrame, name: str) -> NDArray[np.float64]:
    """Give the moneys and counts of a segment, a row for each field."""
    rows = values.filter((pl.col("segment_start_date") == name) & (pl.col("type") == "single")).sort("period")
    return np.ascontiguousarray(rows.select(_TOLD).to_numpy().T).astype(float)


def _told_cells(total: Sums, question: Question) -> NDArray[np.float64]:
    """Give the moneys and counts of sums as they would be told, by field, segment and column."""
    cells = total.cells.cumsum(axis=2) if question.request.period_type == "days" else total.cells
    cells = cells[[*_PLANES, kernels.SUBSCRIBERS, kernels.SUBSCRIPTIONS], :, : total.columns].astype(float)
    cells[:3] /= 10**question.decimals
    return cells


def _wide(cells: NDArray[np.float64], width: int) -> NDArray[np.float64]:
    return cells if cells.shape[-1] == width else np.pad(cells, ((0, 0), (0, width - cells.shape[-1])))


def _bisect(true: Callable[[int], bool], low: int, high: int) -> int:
    """Find the first number for which something is true that stays true; `high` if none is."""
    while low < high:
        middle = (low + high) // 2
        if true(middle):
            high = middle
        else:
            low = middle + 1
    return low


def _filled(total: Sums, remote: Answer, question: Question, last: int, decimals: int) -> Sums:
    """Take moneys and counts of segments that begin up to a day from the other side.

    Payers and activated users are those by which the other side's averages are quotients of its money, as far as they
    come out whole.
    """
    names = _names(question, 0)
    days = question.request.period_type == "days"
    single = remote.values.filter(pl.col("type") == "single").sort("segment_start_date", "period")
    values = single.partition_by("segment_start_date", as_dict=True)
    heads = {row["segment_start_date"]: row for row in remote.segments.filter(type="single").iter_rows(named=True)}
    width = max((frame.height for frame in values.values()), default=0)
    cells, sums_ = _widest(total.cells, width + 1), total.heads.copy()
    scale = 10**decimals
    for at, (name, start) in enumerate(zip(names, question.segments.starts.tolist(), strict=True)):
        frame, head = values.get((name,)), heads.get(name)
        if start > last or frame is None or head is None:
            continue
        running = {
            plane: np.rint(frame[f"{money}_usd"].to_numpy() * scale)
            for plane, money in zip(_PLANES, MONEY, strict=True)
        }
        running |= {
            kernels.SUBSCRIBERS: frame["subscribers"].to_numpy(), kernels.SUBSCRIPTIONS: frame["subscriptions"].to_numpy()
        }  # fmt: skip
        revenue = frame["revenue_usd"].to_numpy()
        revenue = revenue if days else np.cumsum(revenue)
        whole = {plane: head[f"total_{money}_usd"] * scale for plane, money in zip(_PLANES, MONEY, strict=True)}
        whole |= {
            kernels.SUBSCRIBERS: head["total_paid_subscribers"],
            kernels.SUBSCRIPTIONS: head["total_subscriptions"],
        }
        for plane, name_ in ((kernels.PAYERS, "arppu"), (kernels.ACTIVATED, "arpas")):
            before = np.cumsum(cells[plane, at])
            running[plane] = _people_by(revenue, frame[f"{name_}_usd"].to_numpy(), before[: frame.height])
            told = np.array([head["total_revenue_usd"]]), np.array([head[f"total_{name_}_usd"]])
            whole[plane] = _people_by(*told, before[-1:])[0]
        cumulative = {kernels.PAYERS, kernels.ACTIVATED} | (set(running) if days else set())
        for plane, values_ in running.items():
            own = np.diff(values_, prepend=0) if plane in cumulative else values_
            cells[plane, at] = 0
            cells[plane, at, : own.size] = np.rint(own)
            if plane in cumulative:  # the last column has what comes after those shown
                cells[plane, at, -1] += round(float(whole[plane])) - int(cells[plane, at].sum())
        sums_[kernels.PAID, at] = head["total_paid_subscribers"]
        sums_[kernels.CHAINS, at] = head["total_subscriptions"]
    return Sums(max(total.columns, width), cells, sums_)


def _widest(cells: Ints, width: int) -> Ints:
    return cells.copy() if cells.shape[2] >= width else np.pad(cells, ((0, 0), (0, 0), (0, width - cells.shape[2])))


def _people_by(money: NDArray[np.float64], average: NDArray[np.float64], ours: NDArray[Any]) -> NDArray[np.float64]:
    """Find of how many people an average is; ours where that is no whole number."""
    with np.errstate(divide="ignore", invalid="ignore"):
        people = money / average
    near = np.isfinite(people) & (np.abs(people - np.rint(people)) < 1e-4)
    padded = np.pad(ours.astype(float), (0, money.size - ours.size), mode="edge") if ours.size < money.size else ours
    return np.where(near, np.rint(np.where(near, people, 0)), padded[: money.size])


# -- words


def _day(day: int) -> str:
    return (_EPOCH + timedelta(day)).isoformat()


def _days(first: int, last: int) -> str:
    return _day(first) if first == last else f"{_day(first)} to {_day(last)}"


def _people(names: tuple[object, ...]) -> str:
    if len(names) == 1:
        return f"customer {names[0]}"
    listed = ", ".join(str(name) for name in names[:3])
    return f"customers {listed}" + (f" and {len(names) - 3:,} more" if len(names) > 3 else "")


def _where(differences: pl.DataFrame) -> Iterator[str]:
    """Say in which segments and fields cells differ, and by how much."""
    count = differences.height
    places = differences.filter(pl.col("type") == "single")["segment_start_date"].value_counts(sort=True)
    if places.is_empty():
        yield f"{count:,} cells differ, all in the total."
    elif places.height == 1:
        yield f"The {count:,} cells that differ are all in segment {places[0, 0]} and the total."
    else:
        most = ", ".join(f"{name} ({cells:,})" for name, cells in places.head(3).iter_rows())
        yield f"{count:,} cells differ, in {places.height:,} segments, most in {most}."
    fields_ = (
        differences.group_by(pl.col("field").cast(pl.String))
        .agg(pl.len(), pl.col("difference").abs().max())
        .sort("len", "field", descending=[True, False])
        .head(3)
    )
    told = [
        f"{name} ({cells:,}, by {most:,.6g} at most)" if most is not None else f"{name} ({cells:,})"
        for name, cells, most in fields_.iter_rows()
    ]
    yield f"They are of {', '.join(told)}."
