"""Aggregate more events than fit in memory: spill the rows that count by user, then aggregate some users at a time.

How many users are aggregated at a time is chosen after all rows have been read, so that they fit in memory.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial, reduce
from operator import add
from pathlib import Path
from tempfile import gettempdir
from typing import TypeAlias

import polars as pl

from cohortlib.adapty import forecast
from cohortlib.adapty.additive import Sums
from cohortlib.adapty.answer import Answer
from cohortlib.adapty.by import By, ByValue, add_up
from cohortlib.adapty.findings import Findings
from cohortlib.adapty.forecast import Ladders, Prediction
from cohortlib.adapty.installs import Installs
from cohortlib.adapty.plan import RequestPlan
from cohortlib.adapty.read.column_types import concatenated
from cohortlib.adapty.read.counted import check_nulls, without_stray_lines
from cohortlib.adapty.read.events import Events
from cohortlib.adapty.read.installs import check_one_kind
from cohortlib.adapty.read.readers import is_whole, is_wide, read_each
from cohortlib.adapty.read.states import StateCounts, has_states
from cohortlib.adapty.read.tables import BatchedTable, RawTable
from cohortlib.adapty.spill_files import ChainKeys, FrameSpill, StateFiles
from cohortlib.engine import files
from cohortlib.engine.progress import Progress
from cohortlib.engine.spill import RANGE_SHARE, ranges_within
from cohortlib.errors import SchemaError
from cohortlib.read.nulls import Dropped

EVENT_WORK = 160
"""Bytes that aggregation needs per event, beside the row itself."""
INSTALL_WORK = 60
"""The same per row of installs."""

_KIND = "kind"


def aggregate(
    plan: RequestPlan,
    events: BatchedTable[Events],
    installs: BatchedTable[tuple[pl.DataFrame, Dropped]] | None,
    *,
    room: int,
    predict: bool,
) -> tuple[Sums, list[Prediction] | None]:
    """Aggregate all users in about `room` bytes, and predict if requested. Without `installs` events define them."""
    with files.temporary_folder(Path(gettempdir())) as folder:
        spilled = SpilledRows(plan, events, installs, folder, room, predict=predict)
        chains = ChainKeys(folder, room)

        def partials() -> Iterator[_Partial]:
            for part_events, part_installs, part_plan in spilled.partitions():
                sums = Sums.of(part_events, part_installs, part_plan)
                ladders = forecast.ladders(part_events, part_installs, plan, spilled.since) if predict else None
                chains.sink(sums.chains)
                yield sums.without_chains(), ladders

        total, ladders = reduce(_add_partials, partials())
        predictions = forecast.predictions(ladders, plan) if predict else None
        return total.without_chains(chains.repeated()), predictions


_Partial: TypeAlias = tuple[Sums, Ladders | None]


def _add_partials(one: _Partial, other: _Partial) -> _Partial:
    (sums, ladders), (more_sums, more_ladders) = one, other
    return sums + more_sums, forecast.add_ladders(ladders, more_ladders)


def aggregate_by(
    plan: RequestPlan,
    by: By,
    events: BatchedTable[Events],
    installs: BatchedTable[tuple[pl.DataFrame, Dropped]] | None,
    *,
    room: int,
    predict: bool,
) -> tuple[ByValue, dict[str | None, Answer]]:
    """Aggregate all users for each value of a column, as :func:`aggregate`. Returns also the answers."""
    with files.temporary_folder(Path(gettempdir())) as folder:
        # The rows of a value's users are copied, so that half of them are aggregated at a time.
        spilled = SpilledRows(plan, events, installs, folder, room, predict=predict, share=RANGE_SHARE / 2)
        chains = ChainKeys(folder, room)

        def partials() -> Iterator[ByValue]:
            for part_events, part_installs, part_plan in spilled.partitions():
                part = add_up(part_events, part_installs, part_plan, by, spilled.since if predict else None)
                chains.sink(part.nothing.chains)
                yield replace(part, nothing=part.nothing.without_chains())

        total = reduce(add, partials())
        return total, total.answers(plan, by, chains.repeated(), chains.occurrences, predict=predict)


@contextmanager
def spilled_rows(
    plan: RequestPlan,
    events: BatchedTable[Events],
    installs: BatchedTable[tuple[pl.DataFrame, Dropped]] | None,
    *,
    room: int,
) -> "Iterator[SpilledRows]":
    """Spill events and installs to temporary files, which are deleted at the end."""
    with files.temporary_folder(Path(gettempdir())) as folder:
        yield SpilledRows(plan, events, installs, folder, room, predict=False, share=RANGE_SHARE / 2)


def _reads(events: BatchedTable[Events], states: StateFiles, *, as_text: bool) -> Iterator[Callable[[], Events | None]]:
    """Return functions that read batches of events; RevenueCat's rows are read once the latest states are known."""
    strays: Counter[str] = Counter()
    for table in events.raw_batches(as_text=as_text):
        if not has_states(table.frame.columns):
            yield partial(events.read, table)
            continue
        if not table.frame.height:
            yield partial(events.read, replace(table, blank_lines=0))  # for its types
        clean, counts = without_stray_lines(table)
        strays.update(counts)
        yield partial(states.append, clean)
    for tables, counted in states.latest():
        for number, table in enumerate(tables):
            counts, strays = (strays, Counter()) if not number else (Counter(), strays)
            yield partial(_read_states, events, table, None if number else counted, counts)


def _read_states(
    events: BatchedTable[Events], table: RawTable, counted: StateCounts | None, strays: Counter[str]
) -> Events:
    read = events.read(table)
    return read if counted is None else read.with_states(counted).with_strays(strays)


class SpilledRows:
    """Events and installs on disk, and the counts over all of them."""

    def __init__(
        self,
        plan: RequestPlan,
        events: BatchedTable[Events],
        installs: BatchedTable[tuple[pl.DataFrame, Dropped]] | None,
        folder: Path,
        room: int,
        *,
        predict: bool,
        share: float = RANGE_SHARE,
    ) -> None:
        self._plan, self._room, self._share = plan, room, share
        self._from_events = installs is None
        self.since = plan.request.date[0]
        self._predict = predict
        types = events.user_types, [] if installs is None else installs.user_types
        as_text = any(map(is_wide, types[0] + types[1]))
        self._install_files = FrameSpill(folder, "installs", room, plan.timezone)
        self._install_counts: list[pl.DataFrame] = []
        self._dropped_installs = Dropped()
        if installs is not None:
            self._spill_installs(installs, as_text=as_text)
        self._event_files = FrameSpill(folder, "events", room, plan.timezone)
        self._report: dict[str, int] = {}
        self._dropped_events = Dropped()
        self._findings = Findings()
        self._spill_events(events, StateFiles(folder, room, events.reading), as_text=as_text)
        whole = [{is_whole(kind) for kind in kinds} for kinds in types]
        if whole[0] != whole[1] and self._event_files.rows.any() and self._install_files.rows.any():
            raise SchemaError(
                f"the users are {types[0][0]} in the events and {types[1][0]} in installs",
                expected="the same type in both",
                hint="cast one of them",
            )

    def _spill_installs(self, installs: BatchedTable[tuple[pl.DataFrame, Dropped]], *, as_text: bool) -> None:
        is_counts = []
        for frame, dropped in installs.batches(as_text=as_text):
            is_counts.append("installs" in frame.columns)
            check_one_kind(is_counts[-2:])
            self._dropped_installs += dropped
            if is_counts[-1]:
                self._install_counts.append(frame)
            else:
                self._install_files.add_types(frame)
                self._install_files.sink(frame)
                self._update_since(Events(pl.DataFrame(), pl.Series(dtype=pl.Int8), {}), Installs(frame))
        self._install_files.finalize()
        check_nulls("the installs", self._dropped_installs, installs.nulls)

    def _spill_events(self, events: BatchedTable[Events], states: StateFiles, *, as_text: bool) -> None:
        for batch in filter(None, read_each(_reads(events, states, as_text=as_text))):
            self._findings += batch.findings
            self._report = {name: self._report.get(name, 0) + count for name, count in batch.report.items()}
            self._dropped_events += batch.dropped
            frame = batch.frame.with_columns(batch.kind.alias(_KIND))
            self._event_files.add_types(frame)
            self._event_files.sink(frame.filter(batch.kind >= 0))
            self._update_since(batch, Installs(None))
            if self._plan.progress is not None:
                self._plan.progress(0, self._report["rows"])
        self._event_files.finalize()
        check_nulls("the events", self._dropped_events, events.nulls)

    def _update_since(self, events: Events, installs: Installs) -> None:
        if self._predict:
            self.since = forecast.earliest(events, installs, self.since)

    def partitions(self) -> Iterator[tuple[Events, Installs, RequestPlan]]:
        """Yield the rows of disjoint users, as many as fit. The first ones have the report of all reading."""
        done = 0
        report, dropped, findings = self._report, self._dropped_events, self._findings
        dropped_installs, counts = self._dropped_installs, self._counts()
        for partitions in self._ranges():
            frame = self._event_files.scan(partitions)
            events = Events(frame.drop(_KIND), frame[_KIND], report, dropped, findings)
            listed = self._install_files.scan(partitions) if counts is None else counts
            installs = Installs(None) if self._from_events else Installs(listed, dropped_installs)
            yield events, installs, replace(self._plan, progress=self._progress(done))
            done += frame.height
            report, dropped, findings = dict.fromkeys(report, 0), Dropped(), Findings()
            dropped_installs, counts = Dropped(), None if counts is None else counts.head(0)
        if self._plan.progress is not None:
            self._plan.progress(self._report["rows"], self._report["rows"])

    def _progress(self, before: int) -> Progress | None:
        """Return a progress function for a partition, which adds the rows before it."""
        progress, rows = self._plan.progress, self._report["rows"]
        return None if progress is None else lambda done, _: progress(min(before + done, rows), rows)

    def _counts(self) -> pl.DataFrame | None:
        """Return ready counts of installs, which cover all users; None if installs are rows."""
        if not self._install_counts:
            return None
        return concatenated(self._install_counts, self._plan.timezone)

    def _ranges(self) -> list[range]:
        """Split the partitions into ranges that fit in memory; one range if there are no rows."""
        events, installs = self._event_files, self._install_files
        need = events.rows * (2 * events.row_bytes + EVENT_WORK)
        need += installs.rows * (2 * installs.row_bytes + INSTALL_WORK)
        return ranges_within(need, self._room * self._share) or [range(need.size)]
