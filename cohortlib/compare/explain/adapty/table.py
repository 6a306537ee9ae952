"""Adapty's local answer, recomputed under causes."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import polars as pl

from cohortlib.adapty.answer import Answer
from cohortlib.adapty.conventions import Conventions
from cohortlib.adapty.request import Request
from cohortlib.compare.explain.adapty.comparison import AdaptyComparison
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
_MAX_SEGMENTS = 3
_MAX_FIELDS = 3
# The fields that all others are computed from.
_BASE_FIELDS = [
    "installs", "revenue_usd", "proceeds_usd", "net_revenue_usd", "subscribers", "subscriptions", "paid_subscribers",
]  # fmt: skip


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
        nulls: Nulls = "error",
        decimals: int = 6,
        threads: int | None = None,
    ) -> None:
        request = replace(Request.of(request), compare_date=None)
        self.remote = remote if isinstance(remote, Answer) else Answer(*remote, request)
        self._recomputer = Recomputer(events, installs, self.remote, nulls, decimals, threads)
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
        return [*_describe(report.differences), *describe_suspects(comparison)][:_MAX_SENTENCES]


def _describe(differences: pl.DataFrame) -> Iterator[str]:
    """Describe in which segments and fields cells differ, and by how much."""
    count = differences.height
    segments = differences.filter(pl.col("type") == "single")["segment_start_date"].value_counts(sort=True)
    if segments.is_empty():
        yield f"{count:,} cells still differ, all in the total."
    elif segments.height == 1:
        yield f"{count:,} cells still differ, all in segment {segments[0, 0]} and the total."
    else:
        most = ", ".join(f"{name} ({cells:,})" for name, cells in segments.head(_MAX_SEGMENTS).iter_rows())
        yield f"{count:,} cells still differ, in {segments.height:,} segments, most of them in {most}."
    fields = (
        differences.group_by(pl.col("field").cast(pl.String))
        .agg(pl.len(), pl.col("difference").abs().max())
        .with_columns(base=pl.col("field").str.strip_prefix("total_").is_in(_BASE_FIELDS))
        .sort("base", "len", "field", descending=[True, True, False])
        .head(_MAX_FIELDS)
    )
    listed = ", ".join(
        f"{name} ({cells:,}{f', by {largest:,.6g} at most' if largest is not None else ''})"
        for name, cells, largest, _ in fields.iter_rows()
    )
    more = differences["field"].n_unique() - fields.height
    yield f"The fields are {listed}{f' and {more:,} more' if more else ''}."
