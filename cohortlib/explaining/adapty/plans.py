"""How Adapty's table is made under some causes: what a plan says, and the tables that plans make.

What the tables share is done once: events are read once for each way of naming users and of taking refunds for
upgrades, installs once for each way of naming users, and sums are kept for what only writes them in another way.
"""

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from cohortlib.adapty import composing, forecast, kernels
from cohortlib.adapty.answer import Answer
from cohortlib.adapty.compute import events_for, installs_for
from cohortlib.adapty.events import Events, known_columns
from cohortlib.adapty.fields import AVERAGES, MONEY
from cohortlib.adapty.parts import Part
from cohortlib.adapty.question import Question
from cohortlib.adapty.request import Conventions, Request
from cohortlib.adapty.rows import Days, Installs
from cohortlib.adapty.sums import Sums
from cohortlib.explaining.causes import Cause
from cohortlib.periods import day_of
from cohortlib.schema import Ints, Nulls
from cohortlib.sources import Source, read

Floats = NDArray[np.float64]

PLANES = [kernels.REVENUE, kernels.PROCEEDS, kernels.NET]
SPARED = ("sandbox", "family_shared", "granted")
_CONVENTIONS = {one.name for one in fields(Conventions)}
_KEPT = 48  # tables of sums
_AGAIN = "#again"


@dataclass(frozen=True)
class Plan:
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
    def summed(self) -> "Plan":
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


def follow(plan: Plan, cause: Cause) -> Plan:
    """Let a plan follow a cause."""
    value: Any = cause.value
    if cause.settings:
        for name, setting in cause.settings:
            if name in _CONVENTIONS:
                plan = replace(plan, conventions=replace(plan.conventions, **{name: setting}))
            elif name == "timezone":
                plan = replace(plan, timezone=setting)
            elif name == "installs":
                plan = replace(plan, from_events=True)
            else:
                plan = replace(plan, request=replace(plan.request, date=setting))
        return plan
    if cause.kind in SPARED:
        return replace(plan, spared=plan.spared | {cause.kind})
    if cause.kind in _EDITS:
        return replace(plan, rows=(*plan.rows, cause))
    named = {"moneys": "money", "factor": "factors", "columns": "columns", "ages": "ages", "labels": "labels"}
    return replace(plan, **{named[cause.kind]: value})


class Tables:
    """The tables that plans make of some events and installs, beside a remote one.

    Parameters
    ----------
    events, installs, nulls, decimals, threads
        As :func:`cohortlib.adapty.cohort` takes them.
    remote
        The other table.
    """

    def __init__(
        self,
        events: Source,
        installs: Source,
        remote: Answer,
        *,
        nulls: Nulls = "error",
        decimals: int = 6,
        threads: int | None = None,
    ) -> None:
        self._events = _held(events)
        self._installs = installs if isinstance(installs, str) else _held(installs)
        self._nulls: Nulls = nulls
        self._decimals, self._threads = decimals, threads
        self._remote = remote
        predicted = remote.segments.get_column("predict", default=None)
        self._predict = predicted is not None and predicted.null_count() < len(predicted)
        self._read: dict[object, Events] = {}
        self._who: dict[object, Installs] = {}
        self._sums: dict[Plan, tuple[Sums, dict[str, int]]] = {}

    def question(self, plan: Plan) -> Question:
        """Say what a plan asks of the rows."""
        return Question(plan.request, plan.conventions, plan.timezone, self._decimals, self._threads, None)

    def answer(self, plan: Plan) -> Answer:
        """Compute the answer by a plan."""
        question = self.question(plan)
        total, report = self.summed(plan)
        if plan.money != (0, 1, 2):
            cells = total.cells.copy()
            cells[PLANES] = total.cells[[PLANES[at] for at in plan.money]]
            total = replace(total, cells=cells)
        for cause in plan.rows:
            if cause.kind == "rows missing here":
                total = _filled(total, self._remote, question)
        predictions = None
        if self._predict:
            predictions = forecast.predict(self.events(plan), self.installs(plan), question)
        answer = composing.compose(total, question, report, predictions)
        return _relabelled(_scaled(answer, plan.factors), plan, question)

    def summed(self, plan: Plan) -> tuple[Sums, dict[str, int]]:
        """Add up the rows by a plan; give also what was left out, by count."""
        plan = plan.summed
        if plan not in self._sums:
            if len(self._sums) >= _KEPT:
                del self._sums[next(iter(self._sums))]
            self._sums[plan] = self._added_up(plan)
        return self._sums[plan]

    def _added_up(self, plan: Plan) -> tuple[Sums, dict[str, int]]:
        question = self.question(plan)
        if not plan.ages:
            whole = Part.of(self.events(plan), self.installs(plan), question)
            return whole.sums, whole.report
        # Day d there is another day here; what is before the install is nothing.
        days = [day + plan.ages for day in plan.request.renewal_days]
        shown = tuple(day for day in days if day >= 0)
        question = replace(question, request=replace(plan.request, renewal_days=shown))
        whole = Part.of(self.events(plan), self.installs(plan), question)
        lost = len(days) - len(shown)
        cells = np.pad(whole.sums.cells, ((0, 0), (0, 0), (lost, 0)))
        return replace(whole.sums, columns=whole.sums.columns + lost, cells=cells), whole.report

    def _events_of(self, plan: Plan) -> Events:
        question = self.question(plan)
        key = (plan.conventions.user_unit, plan.conventions.refund_upgraded, plan.spared, question.consecutive)
        if key not in self._read:
            events = events_for(question, self._events, nulls=self._nulls, predict=self._predict, spared=plan.spared)
            if not self._read:  # told once
                events.dropped.tell("the events")
            self._read[key] = events
        return self._read[key]

    def installs(self, plan: Plan) -> Installs:
        """Give the installs as a plan leaves them."""
        if plan.from_events:
            return Installs(None)
        key = plan.conventions.user_unit
        if key not in self._who:
            who = installs_for(self.question(plan), self._installs, nulls=self._nulls)
            if not self._who:
                who.dropped.tell("the installs")
            self._who[key] = who
        who = self._who[key]
        for cause in plan.rows:
            gone = _gone_from_installs(who, cause, plan.timezone)
            if gone is not None and who.frame is not None:
                who = Installs(who.frame.filter(~gone))
        return who

    def events(self, plan: Plan) -> Events:
        """Give the events as a plan leaves them."""
        events = self._events_of(plan)
        for cause in plan.rows:
            events = _EDITS[cause.kind](events, cause, plan.timezone)
        return events


def _held(source: Source) -> Source:
    """Hold in memory what may be readable once only."""
    if isinstance(source, pl.DataFrame) or (
        not hasattr(source, "__arrow_c_stream__") and not isinstance(source, pl.LazyFrame)
    ):
        return source
    known = known_columns()
    return read(source, lambda there: [name for name in there if name in known], text="")


def local_days(column: pl.Series, zone: str) -> NDArray[np.int32]:
    """Cut instants to local days since 1970-01-01; ``kernels.NONE`` where there is none."""
    if not len(column) or column.null_count() == len(column):
        return np.full(len(column), kernels.NONE, np.int32)
    return Days.of(column, zone)(0, len(column))


def _chosen(events: Events, cause: Cause, timezone: str) -> pl.Series:
    """Tell the rows that a cause is of: those of some users, or of some days."""
    value: Any = cause.value
    if value[0] == "users":
        return events.frame["user"].is_in(list(value[1])).fill_null(value=False)
    days = local_days(events.frame["event_datetime"], "UTC" if value[0] == "days of UTC" else timezone)
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
    days = local_days(events.frame["event_datetime"], timezone)
    return _without(events, pl.Series(days > int(cause.value)))  # type: ignore[call-overload]


def _unrefunded(events: Events, cause: Cause, timezone: str) -> Events:
    return _without(events, events.kind >= 5)


def alike(events: Events) -> pl.Series:
    """Tell the rows that are alike with an earlier one in user, instant, kind, product and money, but not in its id."""
    same = ["user", "event_datetime", "product_id", "revenue_usd", "proceeds_usd", "net_revenue_usd"]
    live = events.kind >= 0
    keys = events.frame.select(
        pl.struct(*same, kind=events.kind).hash().alias("row"),
        "transaction_id",
        day=pl.col("event_datetime").cast(pl.Date),
    )
    keys = keys.filter(live)
    # What has the same id the engine leaves out by itself. Without an id nothing tells whether a row was meant to be
    # there twice, so these are taken on days of which others are.
    other = pl.struct("row", "transaction_id").is_first_distinct() & pl.col("transaction_id").is_not_null()
    nameless = pl.col("transaction_id").is_null() & (other & pl.col("later")).any().over("day")
    again = (
        keys.with_columns(later=~pl.col("row").is_first_distinct())
        .select((pl.col("later") & (other | nameless)).alias("again"))
        .to_series()
    )
    return pl.repeat(value=False, n=len(live), eager=True).scatter(live.arg_true().filter(again), True)


def _once(events: Events, cause: Cause, timezone: str) -> Events:
    return _without(events, alike(events))


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
        return pl.Series(local_days(who.frame["install_date"], timezone) > value)
    if cause.kind == "rows missing" and value[0] == "users" and value[2] and who.users is not None:
        return who.users.is_in(list(value[1]))
    return None


def _scaled(answer: Answer, factors: tuple[float, ...]) -> Answer:
    """Multiply the moneys of an answer."""
    if all(factor == 1.0 for factor in factors):
        return answer
    of = {name: at for at, name in enumerate(MONEY)}
    of |= {name: at for family in AVERAGES.values() for at, name in enumerate(family)}

    def scaled(frame: pl.DataFrame, before: str) -> pl.DataFrame:
        return frame.with_columns(pl.col(f"{before}{name}_usd") * factors[at] for name, at in of.items())

    return replace(answer, values=scaled(answer.values, ""), segments=scaled(answer.segments, "total_"))


def names(question: Question, labels: int | str) -> list[str]:
    """Name the segments: by their start, or as they are labelled otherwise."""
    segments = question.segments
    days = segments.starts.copy()
    if labels == "last day":
        days = segments.ends.copy()
    elif labels:
        days = _starts_beside(question, int(labels))
    return [day_named(int(day)) for day in days]


def _starts_beside(question: Question, by: int) -> Ints:
    calendar = question.calendar
    return calendar.first_days(calendar.ordinals(question.segments.starts) + by)


def _relabelled(answer: Answer, plan: Plan, question: Question) -> Answer:
    """Name columns and segments as a plan says."""
    if plan.columns:
        answer = replace(answer, values=answer.values.with_columns(pl.col("period") + plan.columns))
    if plan.labels:
        old, new = names(question, 0), names(question, plan.labels)
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


def _filled(total: Sums, remote: Answer, question: Question) -> Sums:
    """Take moneys and counts of segments from the other side.

    Payers and activated users are those by which the other side's averages are quotients of its money, as far as they
    come out whole.
    """
    days = question.request.period_type == "days"
    single = remote.values.filter(pl.col("type") == "single").sort("segment_start_date", "period")
    values = single.partition_by("segment_start_date", as_dict=True)
    heads = {row["segment_start_date"]: row for row in remote.segments.filter(type="single").iter_rows(named=True)}
    width = max((frame.height for frame in values.values()), default=0)
    cells, tops = _widest(total.cells, width + 1), total.heads.copy()
    scale = 10**question.decimals
    for at, name in enumerate(names(question, 0)):
        frame, head = values.get((name,)), heads.get(name)
        if frame is None or head is None:
            continue
        running = {
            plane: np.rint(frame[f"{money}_usd"].to_numpy() * scale) for plane, money in zip(PLANES, MONEY, strict=True)
        }
        running |= {
            kernels.SUBSCRIBERS: frame["subscribers"].to_numpy(),
            kernels.SUBSCRIPTIONS: frame["subscriptions"].to_numpy(),
        }
        revenue = frame["revenue_usd"].to_numpy()
        revenue = revenue if days else np.cumsum(revenue)
        whole = {plane: head[f"total_{money}_usd"] * scale for plane, money in zip(PLANES, MONEY, strict=True)}
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
        tops[kernels.PAID, at] = head["total_paid_subscribers"]
        tops[kernels.CHAINS, at] = head["total_subscriptions"]
    return Sums(max(total.columns, width), cells, tops)


def _widest(cells: Ints, width: int) -> Ints:
    return cells.copy() if cells.shape[2] >= width else np.pad(cells, ((0, 0), (0, 0), (0, width - cells.shape[2])))


def _people_by(money: Floats, average: Floats, ours: NDArray[Any]) -> Floats:
    """Find of how many people an average is; ours where that is no whole number."""
    people = np.divide(money, average, out=np.full(money.shape, 0.5), where=average != 0)
    near = np.abs(people - np.rint(people)) < 1e-4
    padded = np.pad(ours.astype(float), (0, money.size - ours.size), mode="edge") if ours.size < money.size else ours
    return np.where(near, np.rint(np.where(near, people, 0)), padded[: money.size])


def day_named(day: int) -> str:
    """Write a day since 1970-01-01 as a date."""
    return day_of(day).isoformat()
