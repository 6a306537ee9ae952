"""Adapty's local answer, recomputed under causes."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import cached_property
from typing import Any

import polars as pl

from cohortlib.adapty.answer import Answer
from cohortlib.adapty.conventions import Conventions
from cohortlib.adapty.read.event_types import check_event_types
from cohortlib.adapty.read.products import read_products
from cohortlib.adapty.read.settings import Reading
from cohortlib.adapty.request import Request
from cohortlib.compare.explain.adapty.comparison import AdaptyComparison
from cohortlib.compare.explain.adapty.event_candidates import event_candidates
from cohortlib.compare.explain.adapty.fault_candidates import fault_candidates
from cohortlib.compare.explain.adapty.money_candidates import money_candidates
from cohortlib.compare.explain.adapty.recipe import Recipe
from cohortlib.compare.explain.adapty.recompute import Recomputer
from cohortlib.compare.explain.adapty.remaining import describe
from cohortlib.compare.explain.adapty.setting_candidates import (
    as_of_candidates,
    date_candidates,
    presentation_candidates,
    setting_candidates,
)
from cohortlib.compare.explain.adapty.standing import Scales, rounding
from cohortlib.compare.explain.adapty.value_candidates import ValueCandidates
from cohortlib.compare.explain.adapty.zone_candidates import ZoneCandidates
from cohortlib.compare.explain.causes import Cause
from cohortlib.compare.explain.evidence import Places, Standing
from cohortlib.compare.reconcile.matching import in_one_form
from cohortlib.compare.reconcile.tolerances import Tolerances
from cohortlib.literals import Nulls
from cohortlib.read.tables import Source


class AdaptyTable:
    """The answer to a request, recomputed from the same events and installs.

    The arguments are those of :func:`cohortlib.adapty.cohort`, and the vendor's answer or its segments and values.
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
        event_types: Mapping[str, str] | None = None,
        products: Source | None = None,
        nulls: Nulls = "error",
        decimals: int = 6,
        threads: int | None = None,
        tolerances: Tolerances | None = None,
    ) -> None:
        request = replace(Request.of(request), compare_date=None)
        answer = remote if isinstance(remote, Answer) else Answer(*remote, request)
        reading = Reading(zone=timezone, decimals=decimals)
        durations = () if products is None else read_products(products, reading)
        self._recomputer = Recomputer(events, installs, answer, nulls, decimals, threads, durations)
        from_events = isinstance(installs, str) and installs == "from_events"
        renamed = check_event_types(event_types)
        self._recipe = Recipe(request, conventions or Conventions(), timezone, from_events, event_types=renamed)
        self._zones = ZoneCandidates()
        self._tolerances = tolerances or {}
        self.remote, self.forms = self._as_local(answer)

    def _as_local(self, remote: Answer) -> tuple[Answer, tuple[str, ...]]:
        """Write the remote answer as the local one: labels, numbers, percentages. Returns also what was changed."""
        local = self.recompute(())
        _, segments, words = in_one_form(local.segments, remote.segments)
        _, values, more = in_one_form(local.values, remote.values)
        return replace(remote, segments=segments, values=values), tuple(dict.fromkeys((*words, *more)))

    def recompute(self, causes: tuple[Cause, ...]) -> Answer:
        """Recompute the answer under causes, at most one of each kind."""
        return self._recomputer.answer(self._recipe_under(causes))

    def _recipe_under(self, causes: tuple[Cause, ...]) -> Recipe:
        recipe = self._recipe
        for cause in sorted(causes, key=lambda cause: cause.kind):
            recipe = recipe.under(cause)
        return recipe

    @cached_property
    def _scales(self) -> Scales:
        tolerances = {**self.rounding, **self._tolerances}
        return Scales.of(self.recompute(()), self.remote, self._recipe.request.period_type, tolerances)

    @cached_property
    def rounding(self) -> dict[str, float]:
        """The tolerances of fields whose remote values are rounded and whose local ones are not."""
        local = self.recompute(())
        return {
            **rounding(local.segments, self.remote.segments, "total_"),
            **rounding(local.values, self.remote.values, ""),
        }

    @property
    def places(self) -> Places:
        """The segments of the cells that are compared."""
        return self._scales.places

    def standing(self, causes: tuple[Cause, ...]) -> Standing:
        """Compare the cells that either answer has at the start, under causes."""
        return self._scales.standing(self.recompute(causes))

    def candidates(self, causes: tuple[Cause, ...], in_time: Callable[[], bool]) -> Iterator[Cause]:
        """List settings and faults of further kinds to try, likely ones first."""
        comparison = AdaptyComparison(self._recomputer, self.remote, self._recipe_under(causes))
        kinds = {cause.kind for cause in causes}
        for candidates in (
            presentation_candidates(comparison),
            money_candidates(comparison),
            setting_candidates(comparison),
            event_candidates(comparison),
            self._zones.candidates(comparison),
            fault_candidates(comparison),
            _value_candidates(comparison),
            date_candidates(comparison, self._recipe.request.date),
            as_of_candidates(comparison),
        ):
            if not in_time():
                return
            for cause in candidates:
                if cause.kind not in kinds:
                    yield cause

    def describe_remaining(self, causes: tuple[Cause, ...], report: Any) -> list[str]:  # noqa: ANN401
        """Describe where cells still differ, and which customers or days may be behind it."""
        comparison = AdaptyComparison(self._recomputer, self.remote, self._recipe_under(causes))
        return describe(comparison, report.differences)


def _value_candidates(comparison: AdaptyComparison) -> Iterator[Cause]:
    if comparison.excess is not None:
        yield from ValueCandidates(comparison, comparison.excess).causes()
