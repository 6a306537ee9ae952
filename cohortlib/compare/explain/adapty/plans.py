"""How Adapty's table is made under some causes: what a plan says, and the tables that plans make.

What the tables share is done once: events are read once for each way of naming users and of taking refunds for
upgrades, installs once for each way of naming users, and sums are kept for what only writes them in another way.
"""

from dataclasses import replace

import numpy as np
import polars as pl

from cohortlib.adapty import compose, forecast
from cohortlib.adapty.additive import Sums
from cohortlib.adapty.aggregate import SegmentSums
from cohortlib.adapty.answer import Answer
from cohortlib.adapty.compute import events_for, installs_for
from cohortlib.adapty.installs import Installs
from cohortlib.adapty.plan import RequestPlan
from cohortlib.adapty.read.events import Events, known_columns
from cohortlib.compare.explain.adapty.edits import EDITS, gone_from_installs
from cohortlib.compare.explain.adapty.plan import Plan
from cohortlib.compare.explain.adapty.rewrites import PLANES, filled_values, relabelled, scaled_values
from cohortlib.read.nulls import Nulls
from cohortlib.read.sources import read
from cohortlib.read.tables import Source

_KEPT = 48  # tables of sums


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
        self._sums: dict[Plan, tuple[SegmentSums, dict[str, int]]] = {}

    def question(self, plan: Plan) -> RequestPlan:
        """Say what a plan asks of the rows."""
        return RequestPlan(plan.request, plan.conventions, plan.timezone, self._decimals, self._threads, None)

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
                total = filled_values(total, self._remote, question)
        predictions = None
        if self._predict:
            predictions = forecast.predict(self.events(plan), self.installs(plan), question)
        answer = compose.compose(total, question, report, predictions)
        return relabelled(scaled_values(answer, plan.factors), plan, question)

    def summed(self, plan: Plan) -> tuple[SegmentSums, dict[str, int]]:
        """Add up the rows by a plan; give also what was left out, by count."""
        plan = plan.summed
        if plan not in self._sums:
            if len(self._sums) >= _KEPT:
                del self._sums[next(iter(self._sums))]
            self._sums[plan] = self._added_up(plan)
        return self._sums[plan]

    def _added_up(self, plan: Plan) -> tuple[SegmentSums, dict[str, int]]:
        question = self.question(plan)
        if not plan.ages:
            whole = Sums.of(self.events(plan), self.installs(plan), question)
            return whole.by_segment, whole.report
        # Day d there is another day here; what is before the install is nothing.
        days = [day + plan.ages for day in plan.request.renewal_days]
        shown = tuple(day for day in days if day >= 0)
        question = replace(question, request=replace(plan.request, renewal_days=shown))
        whole = Sums.of(self.events(plan), self.installs(plan), question)
        lost = len(days) - len(shown)
        cells = np.pad(whole.by_segment.cells, ((0, 0), (0, 0), (lost, 0)))
        return replace(whole.by_segment, columns=whole.by_segment.columns + lost, cells=cells), whole.report

    def _events_of(self, plan: Plan) -> Events:
        question = self.question(plan)
        key = (plan.conventions.user_unit, plan.conventions.refund_upgraded, plan.spared, question.consecutive)
        if key not in self._read:
            events = events_for(question, self._events, nulls=self._nulls, predict=self._predict, keep=plan.spared)
            if not self._read:  # told once
                events.dropped.warn("the events")
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
                who.dropped.warn("the installs")
            self._who[key] = who
        who = self._who[key]
        for cause in plan.rows:
            gone = gone_from_installs(who, cause, plan.timezone)
            if gone is not None and who.frame is not None:
                who = Installs(who.frame.filter(~gone))
        return who

    def events(self, plan: Plan) -> Events:
        """Give the events as a plan leaves them."""
        events = self._events_of(plan)
        for cause in plan.rows:
            events = EDITS[cause.kind](events, cause, plan.timezone)
        return events


def _held(source: Source) -> Source:
    """Hold in memory what may be readable once only."""
    if isinstance(source, pl.DataFrame) or (
        not hasattr(source, "__arrow_c_stream__") and not isinstance(source, pl.LazyFrame)
    ):
        return source
    known = known_columns()
    return read(source, lambda there: [name for name in there if name in known])
