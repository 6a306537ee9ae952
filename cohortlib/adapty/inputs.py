"""The events and installs that a request is answered from: in memory, or in batches where they need more."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TypedDict

import polars as pl

from cohortlib.adapty import filters, spill
from cohortlib.adapty.by import WORK, By
from cohortlib.adapty.installs import Installs
from cohortlib.adapty.plan import RequestPlan
from cohortlib.adapty.read.event_types import EventTypes
from cohortlib.adapty.read.events import Events, batched_events, read_events
from cohortlib.adapty.read.installs import batched_installs, read_installs
from cohortlib.adapty.read.settings import Reading
from cohortlib.adapty.read.tables import BatchedTable, estimate_memory
from cohortlib.engine.memory import budget
from cohortlib.literals import Nulls
from cohortlib.read.nulls import Dropped
from cohortlib.read.tables import Source


@dataclass(frozen=True)
class Batched:
    """Events and installs that need more memory than `room`; None for installs that the events define."""

    events: BatchedTable[Events]
    installs: BatchedTable[tuple[pl.DataFrame, Dropped]] | None
    room: int

    def warn(self, plan: RequestPlan) -> None:
        """Warn of doubtful user ids, once all rows have been read."""
        for table in (self.events, self.installs):
            if table is not None:
                table.reading.doubts.warn(plan.conventions.user_unit, plan.rules.normalize)


@dataclass(frozen=True)
class Inputs:
    """The events and installs of a call, as they were passed, and its settings."""

    events: Source
    installs: Source
    plan: RequestPlan
    nulls: Nulls
    max_memory: int | str | None
    predict: bool = False
    by: By | None = None

    def read(self) -> tuple[Events, Installs] | Batched:
        """Read all rows if they fit in memory, else open them to be read in batches."""
        plan, by, events, installs = self.plan, self.by, self.events, self.installs
        room, work = budget(self.max_memory), 0 if by is None else WORK
        own = None if by is None else by.own_column
        batches = batched_events(events, **_read_settings(plan, self.nulls, predict=self.predict, by=by))
        events, need = estimate_memory(events, batches.choose, plan.files, room, spill.EVENT_WORK + work)
        install_batches = None
        if not _is_from_events(installs):
            install_batches = batched_installs(
                installs, user_unit=plan.conventions.user_unit, nulls=self.nulls, reading=plan.reading(installs=True),
                by=own,
            )  # fmt: skip
            installs, more = estimate_memory(
                installs, install_batches.choose, plan.files, room - need, spill.INSTALL_WORK + work
            )
            need += more
        if need <= room:
            read = events_for(plan, events, nulls=self.nulls, predict=self.predict, by=by)
            return read, installs_for(plan, installs, nulls=self.nulls, by=own, every=by is not None)
        if install_batches is not None:
            install_batches = replace(install_batches, source=installs, room=room)
        batches = replace(batches, source=events, room=room)
        return Batched(batches, install_batches, batches.rest)


def events_for(
    plan: RequestPlan,
    events: Source,
    *,
    nulls: Nulls,
    predict: bool = False,
    keep: Iterable[str] = (),
    states: bool = True,
    by: By | None = None,
) -> Events:
    """Read the columns of events that a plan needs; `keep` and `states` as in :func:`read_events`."""
    return read_events(events, **_read_settings(plan, nulls, predict=predict, by=by), keep=keep, states=states)


class _ReadSettings(TypedDict):
    """Arguments of :func:`read_events`."""

    user_unit: str
    refund_upgraded: str
    nulls: str
    optional: set[str]
    threads: int | None
    missing_money: str
    zero_payments: str
    event_types: EventTypes
    reading: Reading
    by: str | None


def _read_settings(plan: RequestPlan, nulls: Nulls, *, predict: bool, by: By | None) -> _ReadSettings:
    columns = set() if by is None else by.columns
    return {
        "user_unit": plan.conventions.user_unit,
        "refund_upgraded": plan.conventions.refund_upgraded,
        "nulls": nulls,
        "optional": plan.optional_columns() | columns | ({"duration"} if predict else set()),
        "threads": plan.threads,
        "missing_money": plan.conventions.missing_money,
        "zero_payments": plan.conventions.zero_payments,
        "event_types": plan.event_types,
        "reading": plan.reading(),
        "by": None if by is None else by.own_column,
    }


def _is_from_events(installs: Source) -> bool:
    return isinstance(installs, str) and installs == "from_events"


def installs_for(
    plan: RequestPlan, installs: Source, *, nulls: Nulls, by: str | None = None, every: bool = True
) -> Installs:
    """Read the installs that a plan needs, and `every` other column; ``"from_events"`` has no table to read."""
    if _is_from_events(installs):
        return Installs(None)
    read = read_installs(
        installs,
        user_unit=plan.conventions.user_unit,
        nulls=nulls,
        reading=plan.reading(installs=True),
        by=by,
        optional=None if every else filters.install_columns(plan.request.filters),
    )
    return Installs(*read)
