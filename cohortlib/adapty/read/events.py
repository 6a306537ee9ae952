"""Read events from any of three formats into one set of columns.

The formats are Adapty's export (columns by their export or webhook names), the webhook's JSON lines, and RevenueCat's
transactions (see :mod:`cohortlib.adapty.read.revenuecat`). No row is removed: each has a kind, which is −1 for rows
that do not count, and the report counts these.
"""

from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field, replace
from functools import reduce
from operator import or_

import polars as pl

from cohortlib.adapty.kernels.records import REFUND
from cohortlib.adapty.read import revenuecat
from cohortlib.adapty.read.column_types import concatenated
from cohortlib.adapty.read.counted import (
    REASONS,
    CountedRows,
    check_nulls,
    checked_money,
    count_rows,
    equals_ignoring_case,
    granted_rows,
)
from cohortlib.adapty.read.event_types import kinds_of
from cohortlib.adapty.read.readers import ReadColumn
from cohortlib.adapty.read.specs import (
    EVENT_COLUMNS,
    INSTALL_COLUMNS,
    MONEY,
    USER_COLUMNS,
    ColumnSpec,
    accepted_names,
    check_required,
)
from cohortlib.adapty.read.tables import BatchedTable, RawTable, read_tables
from cohortlib.engine.threads import on_threads, workers_for
from cohortlib.read.nulls import Dropped
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


@dataclass(frozen=True)
class _EventReader:
    """Selects the columns that a request needs, and reads a table of events."""

    user_unit: str
    refund_upgraded: str
    optional: frozenset[str]
    keep: frozenset[str]
    workers: int

    @property
    def _specs(self) -> dict[str, ColumnSpec]:
        """The columns to read, by their names in the frame of events."""
        optional = self.optional | ({"cancellation_reason"} if self.refund_upgraded == "zero" else frozenset())
        chosen = {name: spec for name, spec in EVENT_COLUMNS.items() if not spec.optional or name in optional}
        return {"user": USER_COLUMNS[self.user_unit], **chosen}

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
        else:
            required = {spec.name: spec.accepted for spec in self._specs.values() if spec.required}
        check_required(required, columns, where)
        return [name for name in self.names(from_revenuecat=revenuecat.MARK in columns) if name in columns]

    def read(self, table: RawTable) -> CountedRows:
        """Read a table in the format that its columns show."""
        return (self._from_revenuecat if revenuecat.MARK in table.frame.columns else self._from_adapty)(table)

    def _from_adapty(self, table: RawTable) -> CountedRows:
        def pick(item: tuple[str, ColumnSpec]) -> ReadColumn | None:
            return pick_column(table, item[1])

        specs = {name: spec for name, spec in self._specs.items() if spec.reader is not None}
        picked = zip(specs, on_threads(self.workers, pick, list(specs.items())), strict=True)
        columns = {name: column for name, column in picked if column is not None}
        frame = table.frame
        kind = kinds_of(frame["event_type"], self.workers)
        ownership = [name for name in EVENT_COLUMNS["ownership_type"].accepted if name in frame.columns]
        family = [equals_ignoring_case(frame[name], "FAMILY_SHARED") for name in ownership]
        reasons = {"family_shared": reduce(or_, family) if family else None, "granted": granted_rows(columns)}
        if "cancellation_reason" in frame.columns:
            refunds = (kind >= REFUND).arg_true()
            upgraded = equals_ignoring_case(frame["cancellation_reason"].gather(refunds), "upgraded")
            reasons["upgraded"] = pl.repeat(value=False, n=len(kind), eager=True).scatter(
                refunds.filter(upgraded), values=True
            )
        live = equals_ignoring_case(frame["environment"], "Production")
        return count_rows(columns, kind, live, reasons, self.keep)

    def _from_revenuecat(self, table: RawTable) -> CountedRows:
        frame = table.frame
        columns, kind = revenuecat.payments(frame, self.user_unit, table.dates)
        granted = equals_ignoring_case(frame["store"], "promotional") | granted_rows(columns)
        family = None
        if "ownership_type" in frame.columns:
            family = equals_ignoring_case(frame["ownership_type"], "FAMILY_SHARED")
        reasons = {"family_shared": family, "granted": granted}
        payments = count_rows(columns, kind, revenuecat.production(frame), reasons, self.keep)
        refunds, refund_kind = revenuecat.refunds(frame, payments.frame, payments.kind, table.dates)
        null = refunds["revenue_usd"].is_null()
        report, nulls = payments.report, payments.nulls
        if null.any():
            count = int(null.sum())
            refund_kind = refund_kind.set(null, -1)
            report, nulls = report | {"nulls": report["nulls"] + count}, nulls | {"price_in_usd": count}
        return CountedRows(
            concatenated([payments.frame, refunds]), pl.concat([payments.kind, refund_kind]), report, nulls
        )


def read_events(
    source: Source,
    *,
    user_unit: str,
    refund_upgraded: str,
    nulls: str,
    optional: Iterable[str] = (),
    keep: Iterable[str] = (),
    dates: Collection[str] | None = None,
    threads: int | None = None,
) -> Events:
    """Read events and decide which rows count.

    Parameters
    ----------
    source
        A frame, an Arrow stream, or the path or glob of CSV, Parquet or JSON lines files.
    user_unit, refund_upgraded
        As in :class:`~cohortlib.adapty.Conventions`.
    nulls
        ``"error"``, or ``"drop"`` to drop rows without a user, an instant or their money.
    optional
        The optional columns to read.
    keep
        Reasons for which rows are not left out: ``"sandbox"``, ``"family_shared"``, ``"granted"``.
    dates
        For a source that is part of a table: the text columns that hold dates. By default the values decide.
    threads
        Number of threads, by default all.
    """
    reader = _EventReader(user_unit, refund_upgraded, frozenset(optional), frozenset(keep), workers_for(threads))
    tables = read_tables(source, reader.choose, reader.fields(), assumed=MONEY)
    parts = [reader.read(table if dates is None else replace(table, dates=dates)) for table in tables]
    report = {key: sum(part.report[key] for part in parts) for key in ("rows", *REASONS)}
    dropped = Dropped(report["rows"], report["nulls"], sum((Counter(part.nulls) for part in parts), Counter()))
    check_nulls("the events", dropped, nulls)
    frame = concatenated([part.frame for part in parts])
    kind = pl.concat([part.kind for part in parts], rechunk=True).alias("kind")
    return Events(checked_money(frame, kind), kind, report, dropped)


def batched_events(
    source: Source,
    *,
    user_unit: str,
    refund_upgraded: str,
    nulls: str,
    optional: Iterable[str] = (),
    threads: int | None = None,
) -> BatchedTable[Events]:
    """Open events to be read in batches; the parameters are those of :func:`read_events`."""
    reader = _EventReader(user_unit, refund_upgraded, frozenset(optional), frozenset(), workers_for(threads))

    def read(table: RawTable) -> Events:
        part = reader.read(table)
        dropped = Dropped(part.report["rows"], part.report["nulls"], Counter(part.nulls))
        check_nulls("the events", dropped, nulls)
        return Events(checked_money(part.frame, part.kind), part.kind, part.report, dropped)

    users = [*USER_COLUMNS[user_unit].accepted, *revenuecat.USERS.values()]
    return BatchedTable(source, reader.choose, reader.fields(), instant_columns(), users, read, MONEY)


def event_columns(columns: list[str], *, user_unit: str, refund_upgraded: str, optional: Iterable[str]) -> list[str]:
    """Select the columns of a table of events that are read; the settings are those of :func:`read_events`."""
    reader = _EventReader(user_unit, refund_upgraded, frozenset(optional), frozenset(), 1)
    return [name for name in reader.names(from_revenuecat=revenuecat.MARK in columns) if name in columns]


def user_columns(columns: list[str], user_unit: str) -> list[str]:
    """Select the columns of a table of events or installs that identify the user; the first with a value does."""
    if revenuecat.MARK in columns:
        return [revenuecat.USERS.get(user_unit, user_unit)]
    accepted = (*USER_COLUMNS[user_unit].accepted, *revenuecat.USERS.values())
    names = [name for name in accepted if name in columns]
    return names[:1] if user_unit in names else names


def instant_columns() -> set[str]:
    """List all names of columns that are read as instants."""
    instants = [spec for spec in EVENT_COLUMNS.values() if spec.is_instant]
    return {*accepted_names(instants), *revenuecat.INSTANTS}


def known_columns() -> set[str]:
    """List all names of columns of events and installs that can be read, in any of the three formats."""
    specs = (*USER_COLUMNS.values(), *EVENT_COLUMNS.values(), *INSTALL_COLUMNS.values())
    return {*accepted_names(specs), *(name for unit in USER_COLUMNS for name in revenuecat.names(unit))}


def pick_column(table: RawTable, spec: ColumnSpec) -> ReadColumn | None:
    """Read a column by its own name if present, else by its aliases, which fill each other's nulls.

    Rows of JSON lines may use different names, so there all names fill each other's nulls.
    """
    names = [name for name in spec.accepted if name in table.frame.columns]
    if spec.name in names and not table.mixed:
        names = names[:1]
    columns = [spec.read(table.frame[name], table.dates) for name in names]
    return reduce(ReadColumn.merged, columns) if columns else None
