"""Compute answers by recipes.

Work is shared between recipes: events are read once for each user unit and rule of upgrade refunds, installs once for
each user unit, and sums are kept for recipes that only rewrite the answer.
"""

from dataclasses import replace

import numpy as np
import polars as pl

from cohortlib.adapty import compose, forecast
from cohortlib.adapty.additive import Sums
from cohortlib.adapty.aggregate import SegmentSums
from cohortlib.adapty.answer import Answer
from cohortlib.adapty.inputs import events_for, installs_for
from cohortlib.adapty.installs import Installs
from cohortlib.adapty.plan import RequestPlan
from cohortlib.adapty.read.events import Events
from cohortlib.compare.explain.adapty.dimensions import extra_columns
from cohortlib.compare.explain.adapty.edits import MOVES, edited, edited_installs
from cohortlib.compare.explain.adapty.recipe import Recipe
from cohortlib.compare.explain.adapty.rewrites import MONEY_PLANES, multiply_money, relabel
from cohortlib.literals import Nulls
from cohortlib.read.sources import read
from cohortlib.read.tables import Source

_MAX_SUMS = 48  # kept in the cache


class Recomputer:
    """Computes answers of the same events and installs by different recipes.

    The arguments are those of :func:`cohortlib.adapty.cohort`, and the remote answer: predictions are computed if it
    has them.
    """

    def __init__(
        self,
        events: Source,
        installs: Source,
        remote: Answer,
        nulls: Nulls,
        decimals: int,
        threads: int | None,
        products: tuple[tuple[str, str], ...] = (),
    ) -> None:
        self._event_source = _rereadable(events)
        self._install_source = installs if isinstance(installs, str) else _rereadable(installs)
        self._nulls: Nulls = nulls
        self._decimals, self._threads, self._products = decimals, threads, products
        predictions = remote.segments.get_column("predict", default=None)
        self._predict = predictions is not None and predictions.null_count() < len(predictions)
        self._events: dict[object, Events] = {}
        self._extras = pl.DataFrame()
        self._installs: dict[object, Installs] = {}
        self._sums: dict[Recipe, tuple[SegmentSums, dict[str, int]]] = {}

    def plan(self, recipe: Recipe) -> RequestPlan:
        """Return the plan of a recipe's request."""
        return RequestPlan(
            recipe.request, recipe.conventions, recipe.timezone, self._decimals, self._threads, None,
            recipe.event_types, self._products,
        )  # fmt: skip

    def answer(self, recipe: Recipe) -> Answer:
        """Compute the answer."""
        plan = self.plan(recipe)
        total, report = self.sums(recipe)
        if recipe.money != (0, 1, 2):
            cells = total.cells.copy()
            cells[MONEY_PLANES] = total.cells[[MONEY_PLANES[index] for index in recipe.money]]
            total = replace(total, cells=cells)
        predictions = None
        if self._predict:
            predictions = forecast.predict(self.events(recipe), self.installs(recipe), plan)
        answer = compose.compose(total, plan, report, predictions)
        return relabel(multiply_money(answer, recipe.factors), recipe, plan)

    def sums(self, recipe: Recipe) -> tuple[SegmentSums, dict[str, int]]:
        """Add up the rows. Returns the sums and the counts of rows left out."""
        recipe = recipe.of_sums
        if recipe not in self._sums:
            if len(self._sums) >= _MAX_SUMS:
                del self._sums[next(iter(self._sums))]
            self._sums[recipe] = self._add_up(recipe)
        return self._sums[recipe]

    def _add_up(self, recipe: Recipe) -> tuple[SegmentSums, dict[str, int]]:
        plan = self.plan(recipe)
        if not recipe.ages:
            total = Sums.of(self.events(recipe), self.installs(recipe), plan)
            return total.by_segment, total.report
        # Shift the requested days; cells before the install are empty.
        days = [day + recipe.ages for day in recipe.request.renewal_days]
        after_install = tuple(day for day in days if day >= 0)
        plan = replace(plan, request=replace(recipe.request, renewal_days=after_install))
        total = Sums.of(self.events(recipe), self.installs(recipe), plan)
        empty = len(days) - len(after_install)
        cells = np.pad(total.by_segment.cells, ((0, 0), (0, 0), (empty, 0)))
        return replace(total.by_segment, columns=total.by_segment.columns + empty, cells=cells), total.report

    def events(self, recipe: Recipe) -> Events:
        """Return the events with the edits of a recipe."""
        events = self._read_events(recipe)
        # Other causes go by the dates as they stand, so these are moved last.
        for cause in sorted(recipe.edits, key=lambda cause: cause.kind in MOVES):
            events = edited(events, cause, recipe.timezone)
        return events

    def _read_events(self, recipe: Recipe) -> Events:
        plan, conventions = self.plan(recipe), recipe.conventions
        key = (
            conventions.user_unit, conventions.refund_upgraded, conventions.zero_payments, recipe.included,
            recipe.event_types, plan.consecutive,
        )  # fmt: skip
        if key not in self._events:
            events = events_for(
                plan, self._event_source, nulls=self._nulls, predict=self._predict, keep=recipe.included
            )
            if not self._events:  # warn once
                events.dropped.warn("the events")
                self._extras = extra_columns(self._event_source, events.frame.height)
            if self._extras.height:
                events = replace(events, frame=events.frame.hstack(self._extras))
            self._events[key] = events
        return self._events[key]

    def installs(self, recipe: Recipe) -> Installs:
        """Return the installs with the edits of a recipe."""
        if recipe.from_events:
            return Installs(None)
        key = recipe.conventions.user_unit
        if key not in self._installs:
            installs = installs_for(self.plan(recipe), self._install_source, nulls=self._nulls)
            if not self._installs:  # warn once
                installs.dropped.warn("the installs")
            if installs.frame is not None:
                extras = extra_columns(self._install_source, installs.frame.height)
                installs = replace(installs, frame=installs.frame.hstack(extras) if extras.height else installs.frame)
            self._installs[key] = installs
        installs = self._installs[key]
        for cause in recipe.edits:
            installs = edited_installs(installs, cause, recipe.timezone)
        return installs


def _rereadable(source: Source) -> Source:
    """Read a stream or LazyFrame into memory: it may not be readable twice."""
    if isinstance(source, pl.DataFrame) or (
        not hasattr(source, "__arrow_c_stream__") and not isinstance(source, pl.LazyFrame)
    ):
        return source
    return read(source, lambda names: names)
