"""The recipe of an answer: its settings, the edits of its rows, and the rewrites of the result."""

from dataclasses import dataclass, fields, replace
from typing import Any

from cohortlib.adapty.conventions import Conventions
from cohortlib.adapty.request import Request
from cohortlib.compare.explain.adapty.edits import edit_of
from cohortlib.compare.explain.causes import Cause

EXCLUSIONS = ("sandbox", "family_shared", "granted")
"""Kinds of purchases that do not count, unless a cause includes them."""
_CONVENTIONS = {field.name for field in fields(Conventions)}
_REWRITES = {"moneys": "money", "factor": "factors", "columns": "columns", "ages": "ages", "labels": "labels"}


@dataclass(frozen=True)
class Recipe:
    """How to compute an answer under causes."""

    request: Request
    conventions: Conventions
    timezone: str
    from_events: bool  # installs="from_events"
    included: frozenset[str] = frozenset()  # kinds of EXCLUSIONS that count here
    event_types: tuple[tuple[str, str], ...] = ()  # renamed types and Adapty's names of them
    edits: tuple[Cause, ...] = ()  # applied to events and installs in this order
    # For each of revenue, proceeds and net revenue, the index of the one that replaces it.
    money: tuple[int, ...] = (0, 1, 2)
    factors: tuple[float, ...] = (1.0, 1.0, 1.0)  # of the same three
    columns: int = 0  # added to the numbers of columns
    ages: int = 0  # added to ages before the answer is computed
    # How segments are labelled: by the start of their period (0), of the next (1) or previous one (-1), or by their
    # "last day".
    labels: int | str = 0

    @property
    def of_sums(self) -> "Recipe":
        """The recipe reduced to what the sums depend on, as their cache key."""
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

    def under(self, cause: Cause) -> "Recipe":
        """Return the recipe with a cause applied."""
        value: Any = cause.value
        if cause.settings:
            recipe = self
            for name, setting in cause.settings:
                recipe = recipe._with_setting(name, setting)
            return recipe
        if cause.kind in EXCLUSIONS:
            return replace(self, included=self.included | {cause.kind})
        if edit_of(cause.kind) is not None:
            return replace(self, edits=(*self.edits, cause))
        if cause.kind == "moneys and factors":
            return replace(self, money=value[0], factors=value[1])
        return replace(self, **{_REWRITES[cause.kind]: value})

    def _with_setting(self, name: str, value: Any) -> "Recipe":  # noqa: ANN401
        if name in _CONVENTIONS:
            return replace(self, conventions=replace(self.conventions, **{name: value}))
        if name == "timezone":
            return replace(self, timezone=value)
        if name == "installs":
            return replace(self, from_events=True)
        if name == "event_types":
            return replace(self, event_types=tuple(sorted((*self.event_types, *value.items()))))
        return replace(self, request=replace(self.request, date=value))
