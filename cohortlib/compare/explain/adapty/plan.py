"""A plan: the settings and edits under which a table is recomputed."""

from dataclasses import dataclass, fields, replace
from typing import Any

from cohortlib.adapty.conventions import Conventions
from cohortlib.adapty.request import Request
from cohortlib.compare.explain.adapty.edits import EDITS
from cohortlib.compare.explain.causes import Cause

SPARED = ("sandbox", "family_shared", "granted")
_CONVENTIONS = {one.name for one in fields(Conventions)}


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
    if cause.kind in EDITS:
        return replace(plan, rows=(*plan.rows, cause))
    named = {"moneys": "money", "factor": "factors", "columns": "columns", "ages": "ages", "labels": "labels"}
    return replace(plan, **{named[cause.kind]: value})
