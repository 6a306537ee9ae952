"""Adapty's local answer, recomputed under causes."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import polars as pl

from cohortlib.adapty.answer import Answer
from cohortlib.adapty.conventions import Conventions
from cohortlib.adapty.request import Request
from cohortlib.compare.explain.adapty.comparison import AdaptyComparison
from cohortlib.compare.explain.adapty.describe import describe_differences
from cohortlib.compare.explain.adapty.fault_candidates import describe_suspects, fault_candidates
from cohortlib.compare.explain.adapty.money_candidates import money_candidates
from cohortlib.compare.explain.adapty.recipe import Recipe
from cohortlib.compare.explain.adapty.recompute import Recomputer
from cohortlib.compare.explain.adapty.setting_candidates import (
    as_of_candidates,
    date_candidates,
    presentation_candidates,
    setting_candidates,
)
from cohortlib.compare.explain.adapty.zone_candidates import ZoneCandidates
from cohortlib.compare.explain.causes import Cause
from cohortlib.literals import Nulls
from cohortlib.read.tables import Source

_MAX_SENTENCES = 5


class AdaptyTable:
    """The answer to a request, recomputed from the same events and installs.

    Parameters
    ----------
    events, request, installs, timezone, conventions, nulls, decimals, threads
        As for :func:`cohortlib.adapty.cohort`.
    remote
        The vendor's answer, or its segments and its values.
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
        request = replace(Request.of(request), compare_date=None)
        self.remote = remote if isinstance(remote, Answer) else Answer(*remote, request)
        self._recomputer = Recomputer(events, installs, self.remote, nulls=nulls, decimals=decimals, threads=threads)
        from_events = isinstance(installs, str) and installs == "from_events"
        self._recipe = Recipe(request, conventions or Conventions(), timezone, from_events)
        self._zones = ZoneCandidates()

    def recompute(self, causes: tuple[Cause, ...]) -> Answer:
        """Recompute the answer under causes, at most one of each kind."""
        return self._recomputer.answer(self._recipe_under(causes))

    def _recipe_under(self, causes: tuple[Cause, ...]) -> Recipe:
        recipe = self._recipe
        for cause in sorted(causes, key=lambda cause: cause.kind):
            recipe = recipe.under(cause)
        return recipe

    def candidates(self, causes: tuple[Cause, ...], report: Any) -> Iterator[Cause]:  # noqa: ANN401
        """List settings and faults of further kinds to try, likely ones first."""
        comparison = AdaptyComparison(self._recomputer, self.remote, self._recipe_under(causes))
        kinds = {cause.kind for cause in causes}
        for candidates in (
            presentation_candidates(comparison),
            money_candidates(comparison),
            setting_candidates(comparison),
            self._zones.candidates(comparison),
            fault_candidates(comparison),
            date_candidates(comparison, self._recipe.request.date),
            as_of_candidates(comparison),
        ):
            for cause in candidates:
                if cause.kind not in kinds:
                    yield cause

    def describe_remaining(self, causes: tuple[Cause, ...], report: Any) -> list[str]:  # noqa: ANN401
        """Describe where cells still differ, and which customers or days may be behind it."""
        if report.differences.is_empty():
            return []
        comparison = AdaptyComparison(self._recomputer, self.remote, self._recipe_under(causes))
        return [*describe_differences(report.differences), *describe_suspects(comparison)][:_MAX_SENTENCES]
