"""Read events from any of three formats into one set of columns.

The formats are Adapty's export (columns by their export or webhook names), the webhook's JSON lines, and RevenueCat's
transactions (see :mod:`cohortlib.adapty.read.revenuecat`). No row is removed: each has a kind, which is −1 for rows
that do not count, and the report counts these.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial, reduce
from operator import or_

import polars as pl

from cohortlib.adapty.findings import Findings
from cohortlib.adapty.kernels.records import REFUND
from cohortlib.adapty.read import revenuecat
from cohortlib.adapty.read.column_types import concatenated
from cohortlib.adapty.read.counted import (
    REASONS,
    CountedRows,
    check_money,
    check_nulls,
    checked_money,
    count_rows,
    equals_ignoring_case,
    granted_rows,
    without_stray_lines,
    zero_payments,
)
from cohortlib.adapty.read.event_types import EventTypes, kinds_of
from cohortlib.adapty.read.readers import ReadColumn, read_each
from cohortlib.adapty.read.settings import Reading
from cohortlib.adapty.read.specs import (
    BY,
    EVENT_COLUMNS,
    INSTALL_COLUMNS,
    MONEY,
    USER_COLUMNS,
    ColumnSpec,
    accepted_names,
    by_column,
    check_required,
)
from cohortlib.adapty.read.states import StateCounts, has_states, latest_states
from cohortlib.adapty.read.tables import BatchedTable, RawTable, read_tables
from cohortlib.engine.threads import on_threads, workers_for
from cohortlib.errors import SchemaError
from cohortlib.read.ids import Doubts
from cohortlib.read.nulls import Dropped
from cohortlib.read.sources import check_sheet
from cohortlib.read.tables import Source


@dataclass(frozen=True)
class Events:
    """Every row of the source in canonical columns, the kind of each, and how many do not count, and why."""

    frame: pl.DataFrame
    kind: pl.Series
    """Int8: the kind of the event, as in :mod:`cohortlib.adapty.kernels.records`; −1 if the row does not count."""
    report: dict[str, int]
    dropped: Dropped = field(default_factory=Dropped)
    """The rows dropped for nulls, and the nulls of each column."""
    findings: Findings = field(default_factory=Findings)
    """What to warn of, with counts."""
    state_ids: pl.Series = field(default_factory=lambda: pl.Series(dtype=pl.String))
    """The transactions of RevenueCat's rows, whose latest states were selected among these rows only."""

    def with_strays(self, strays: Mapping[str, int]) -> "Events":
        """Add the counts of lines that were removed before these events were read."""
        count = sum(strays.values())
        report = self.report | {name: self.report[name] + lines for name, lines in strays.items()}
        dropped = replace(self.dropped, rows=self.dropped.rows + count)
        return replace(self, report=report | {"rows": report["rows"] + count}, dropped=dropped)

    def with_states(self, states: StateCounts) -> "Events":
        """Add the counts of RevenueCat's states that were removed before these events were read."""
        if states == StateCounts():
            return self
        count = states.superseded
        report = self.report | {"rows": self.report["rows"] + count, "superseded": self.report["superseded"] + count}
        dropped = replace(self.dropped, rows=self.dropped.rows + count)
        findings = self.findings + Findings({("unordered",): states.unordered})
        return replace(self, report=report, dropped=dropped, findings=findings)


@dataclass(frozen=True)
class _EventReader:
    """Selects the columns that a request needs, and reads a table of events."""

    user_unit: str
    refund_upgraded: str
    optional: frozenset[str]
    keep: frozenset[str]
    reading: Reading
    workers: int
    missing_money: str = "zero"
    zero_payments: str = "count"
    event_types: EventTypes = ()
    by: str | None = None
    """A column to be read as `BY`."""

    @property
    def _specs(self) -> dict[str, ColumnSpec]:
        """The columns to read, by their names in the frame of events."""
        optional = self.optional | ({"cancellation_reason"} if self.refund_upgraded == "zero" else frozenset())
        chosen = {name: spec for name, spec in EVENT_COLUMNS.items() if not spec.optional or name in optional}
        own = {} if self.by is None else {BY: by_column(self.by)}
        return {"user": USER_COLUMNS[self.user_unit], **chosen, **own}

    def names(self, *, from_revenuecat: bool) -> list[str]:
        """List all accepted names of the columns to read."""
        if from_revenuecat:
            return list(dict.fromkeys(revenuecat.names(self.user_unit)))
        return accepted_names(self._specs.values())

    def fields(self) -> list[str]:
        """List all accepted names, of Adapty's and of RevenueCat's columns."""
        return list(dict.fromkeys([*self.names(from_revenuecat=False), *self.names(from_revenuecat=True)]))

    def choose(self, columns: list[str], where: str) -> list[str]:
        """Select the columns to read from those of a table; raise if one is missing."""
        if revenuecat.MARK in columns:
            required = revenuecat.required(self.user_unit)
            if self.by is not None:
                raise SchemaError(
                    f"column {self.by!r} of RevenueCat's transactions is not read",
                    value=self.by,
                    expected="a filter, such as by='country'",
                )
        else:
            required = {spec.name: spec.accepted for spec in self._specs.values() if spec.required}
        check_required(required, columns, where)
        return [name for name in self.names(from_revenuecat=revenuecat.MARK in columns) if name in columns]

    def read(self, table: RawTable) -> CountedRows:
        """Read a table in the format that its columns show."""
        table, strays = without_stray_lines(table)
        return self.read_lines(table).with_strays(strays)

    def read_lines(self, table: RawTable) -> CountedRows:
        """Read a table without stray lines."""
        return (self._from_revenuecat if revenuecat.MARK in table.frame.columns else self._from_adapty)(table)

    def _from_adapty(self, table: RawTable) -> CountedRows:
        frame = table.frame
        specs = {name: spec for name, spec in self._specs.items() if spec.reader is not None}

        def pick(name: str) -> ReadColumn | None:
            if name == "environment":
                return ReadColumn(equals_ignoring_case(frame[name], "Production"))
            return pick_column(table, specs[name], self.reading)

        names = [*specs, "environment"]
        picked = zip(names, on_threads(self.workers, pick, names), strict=True)
        columns = {name: column for name, column in picked if column is not None}
        live = columns.pop("environment").series
        columns |= extra_networks(table)
        kind = kinds_of(frame["event_type"], self.workers, self.event_types)
        ownership = [name for name in EVENT_COLUMNS["ownership_type"].accepted if name in frame.columns]
        family = [equals_ignoring_case(frame[name], "FAMILY_SHARED") for name in ownership]
        granted = granted_rows(columns, self.workers)
        reasons = {"family_shared": reduce(or_, family) if family else None, "granted": granted}
        if "cancellation_reason" in frame.columns:
            refunds = (kind >= REFUND).arg_true()
            upgraded = equals_ignoring_case(frame["cancellation_reason"].gather(refunds), "upgraded")
            reasons["upgraded"] = pl.repeat(value=False, n=len(kind), eager=True).scatter(
                refunds.filter(upgraded), values=True
            )
        if self.zero_payments == "skip":
            reasons["zero_payments"] = zero_payments(columns, kind)
        return count_rows(columns, kind, live, reasons, self.keep, frame["event_type"], where=table.where)

    def _from_revenuecat(self, table: RawTable) -> CountedRows:
        frame = table.frame
        columns, kind = revenuecat.payments(frame, self.user_unit, self.reading)
        granted = equals_ignoring_case(frame["store"], "promotional") | granted_rows(columns)
        family = None
        if "ownership_type" in frame.columns:
            family = equals_ignoring_case(frame["ownership_type"], "FAMILY_SHARED")
        reasons = {"family_shared": family, "granted": granted, "void": revenuecat.void(frame, self.reading)}
        if self.zero_payments == "skip":
            reasons["zero_payments"] = zero_payments(columns, kind)
        live = revenuecat.production(frame, table.where)
        payments = count_rows(columns, kind, live, reasons, self.keep, where=table.where)
        refunds, refund_kind = revenuecat.refunds(table, payments.frame, payments.kind, self.reading)
        null = refunds["revenue_usd"].is_null()
        report, nulls = payments.report, payments.nulls
        if null.any():
            count = int(null.sum())
            refund_kind = refund_kind.set(null, -1)
            report, nulls = report | {"nulls": report["nulls"] + count}, nulls | {"price_in_usd": count}
        return CountedRows(
            concatenated([payments.frame, refunds], self.reading.zone), pl.concat([payments.kind, refund_kind]),
            report, nulls, payments.findings,
        )  # fmt: skip


def read_events(
    source: Source,
    *,
    user_unit: str,
    refund_upgraded: str,
    nulls: str,
    optional: Iterable[str] = (),
    keep: Iterable[str] = (),
    reading: Reading | None = None,
    states: bool = True,
    threads: int | None = None,
    missing_money: str = "zero",
    zero_payments: str = "count",
    event_types: EventTypes = (),
    by: str | None = None,
) -> Events:
    """Read events and decide which rows count.

    Parameters
    ----------
    source
        Any source that :func:`cohortlib.read.sources.stream` reads, and JSON arrays.
    user_unit, refund_upgraded, missing_money, zero_payments
        As in :class:`~cohortlib.adapty.Conventions`.
    nulls
        ``"error"``, or ``"drop"`` to drop rows without a user, an instant or their money.
    optional
        The optional columns to read.
    keep
        Reasons for which rows are not left out: ``"sandbox"``, ``"family_shared"``, ``"granted"``.
    reading
        How columns are read.
    states
        Whether rows of RevenueCat's transactions can be replaced by later states.
    threads
        Number of threads, by default all.
    event_types
        Renamed event types, as :func:`~cohortlib.adapty.read.event_types.check_event_types` returns them.
    by
        A column that is read as `BY`, in addition.
    """
    reading = fresh(reading, threads)
    check_sheet(source, reading.files)
    reader = _EventReader(
        user_unit, refund_upgraded, frozenset(optional), frozenset(keep), reading, workers_for(threads), missing_money,
        zero_payments, event_types, by,
    )  # fmt: skip
    clean = [
        without_stray_lines(table) for table in read_tables(source, reader.choose, reader.fields(), reading, MONEY)
    ]
    tables, counted = [table for table, _ in clean], StateCounts()
    if states:
        tables, counted = latest_states(tables, reading)
    read = read_each(partial(reader.read_lines, table) for table in tables)
    parts = [part.with_strays(strays) for part, (_, strays) in zip(read, clean, strict=True)]
    report = {key: sum(part.report[key] for part in parts) for key in ("rows", *REASONS)}
    dropped = Dropped(report["rows"], report["nulls"], sum((Counter(part.nulls) for part in parts), Counter()))
    check_nulls("the events", dropped, nulls)
    frame = concatenated([part.frame for part in parts], reading.zone)
    kind = pl.concat([part.kind for part in parts], rechunk=True).alias("kind")
    if missing_money == "error":
        check_money(frame, kind)
    findings = sum((part.findings for part in parts), Findings())
    findings[("dates",)] = reading.counts["dates"] + _dates_of_files(parts, frame)
    reading.doubts.warn(user_unit, reading.rules.normalize)
    ids = [
        part.frame["transaction_id"]
        for part, table in zip(parts, tables, strict=True)
        if has_states(table.frame.columns)
    ]
    state_ids = pl.concat(ids) if ids and states else pl.Series(dtype=pl.String)
    money = checked_money(frame, kind, workers_for(threads))
    return Events(money, kind, report, dropped, findings, state_ids).with_states(counted)


def _dates_of_files(parts: Sequence[CountedRows], frame: pl.DataFrame) -> int:
    """Count the rows of tables with a column of dates, where others have instants there."""
    dates = [name for name, kind in frame.schema.items() if isinstance(kind, pl.Datetime)]
    return sum(part.frame.height for part in parts if any(part.frame.schema.get(name) == pl.Date for name in dates))


def batched_events(
    source: Source,
    *,
    user_unit: str,
    refund_upgraded: str,
    nulls: str,
    optional: Iterable[str] = (),
    reading: Reading | None = None,
    threads: int | None = None,
    missing_money: str = "zero",
    zero_payments: str = "count",
    event_types: EventTypes = (),
    by: str | None = None,
) -> BatchedTable[Events]:
    """Open events to be read in batches; the parameters are those of :func:`read_events`."""
    reading = fresh(reading, threads)
    check_sheet(source, reading.files)
    reader = _EventReader(
        user_unit, refund_upgraded, frozenset(optional), frozenset(), reading, workers_for(threads), missing_money,
        zero_payments, event_types, by,
    )  # fmt: skip

    def read(table: RawTable) -> Events:
        part = reader.read(table)
        dropped = Dropped(part.report["rows"], part.report["nulls"], Counter(part.nulls))
        if missing_money == "error":
            check_money(part.frame, part.kind)
        return Events(checked_money(part.frame, part.kind), part.kind, part.report, dropped, part.findings)

    users = [*USER_COLUMNS[user_unit].accepted, *revenuecat.USERS.values()]
    return BatchedTable(source, reader.choose, reader.fields(), users, reading, nulls, read, MONEY)


def event_columns(columns: list[str], *, user_unit: str, refund_upgraded: str, optional: Iterable[str]) -> list[str]:
    """Select the columns of a table of events that are read; the settings are those of :func:`read_events`."""
    reader = _EventReader(user_unit, refund_upgraded, frozenset(optional), frozenset(), Reading(), 1)
    return [name for name in reader.names(from_revenuecat=revenuecat.MARK in columns) if name in columns]


def user_columns(columns: list[str], user_unit: str) -> list[str]:
    """Select the columns of a table of events or installs that identify the user; the first with a value does."""
    if revenuecat.MARK in columns:
        return [revenuecat.USERS.get(user_unit, user_unit)]
    accepted = (*USER_COLUMNS[user_unit].accepted, *revenuecat.USERS.values())
    names = [name for name in accepted if name in columns]
    return names[:1] if user_unit in names else names


def known_columns() -> set[str]:
    """List all names of columns of events and installs that can be read, in any of the three formats."""
    specs = (*USER_COLUMNS.values(), *EVENT_COLUMNS.values(), *INSTALL_COLUMNS.values())
    return {*accepted_names(specs), *(name for unit in USER_COLUMNS for name in revenuecat.names(unit))}


def extra_networks(table: RawTable) -> dict[str, ReadColumn]:
    """Return the attribution columns of further networks, which only JSON lines have: ``attribution_source@1`` …."""
    names = [name for name in table.frame.columns if name.startswith("attribution_") and "@" in name]
    return {name: ReadColumn(table.frame[name]) for name in names} if table.mixed else {}


def pick_column(table: RawTable, spec: ColumnSpec, reading: Reading) -> ReadColumn | None:
    """Read a column by its own name if present, else by its aliases, which fill each other's nulls.

    Rows of JSON lines may use different names, so there all names fill each other's nulls.
    """
    names = [name for name in spec.accepted if name in table.frame.columns]
    if spec.name in names and not table.mixed:
        names = names[:1]
    columns = [spec.read(table.frame[name], reading) for name in names]
    return reduce(lambda one, other: one.merged(other, reading.zone), columns) if columns else None


def fresh(reading: Reading | None, threads: int | None) -> Reading:
    """Return how a source is read, with nothing counted yet."""
    reading = reading or Reading()
    files = replace(reading.files, workers=workers_for(threads))
    return replace(reading, files=files, doubts=Doubts(), counts=Counter())
