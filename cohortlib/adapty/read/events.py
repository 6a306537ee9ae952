"""The door of Adapty's table: events and installs, from wherever they come, in one set of columns.

Three shapes are read: Adapty's own export (columns by name, or by their webhook names), the webhook's JSON lines,
and RevenueCat's transactions (see :mod:`cohortlib.adapty.read.revenuecat`). No row is
removed: each has a kind, and those
that do not count have the kind −1 and are told in the report.
"""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property, partial, reduce
from operator import or_
from typing import Generic, TypeVar

import polars as pl

from cohortlib.adapty.read import columns, revenuecat
from cohortlib.adapty.read.columns import Column
from cohortlib.adapty.read.counted import (
    REASONS,
    CountedPart,
    codes_of,
    granted_rows,
    is_kind,
    judged_rows,
    refuse_nulls,
    settled_rows,
)
from cohortlib.adapty.read.names import (
    ALIASES,
    ALWAYS,
    FAMILY,
    INSTANTS,
    MONEY,
    NO_DEVICE,
    READERS,
    REQUIRED,
    Reader,
    accepted_names,
    refuse_missing,
)
from cohortlib.adapty.read.tables import Choose, Raw, Stream, streams, tables
from cohortlib.adapty.read.types import stacked_rows
from cohortlib.engine.threads import on_threads, workers_for
from cohortlib.read.nulls import Dropped
from cohortlib.read.tables import Source

_Batch = TypeVar("_Batch")
"""The kinds of rows in which a column matters, where not in all."""


@dataclass(frozen=True)
class Events:
    """Every row of the source in canonical columns, the kind of each, and how many do not count, and why."""

    frame: pl.DataFrame
    kind: pl.Series
    """Int8: 0 a trial, 1 to 4 payments, 5 and 6 refunds, −1 the row does not count."""
    report: dict[str, int]
    dropped: Dropped = field(default_factory=Dropped)
    """The rows left out for nulls, and the columns in which these are."""


@dataclass(frozen=True)
class _Ask:
    """What is to be read."""

    user_unit: str
    refund_upgraded: str
    wanted: frozenset[str]
    spared: frozenset[str]
    workers: int

    def columns(self) -> dict[str, tuple[str, ...]]:
        """Give the canonical columns to read, and the names that each may have in the source."""
        names = ["user", *REQUIRED, *ALWAYS, *(name for name in READERS if name in self.wanted)]
        return {name: accepted_names(self.user_unit if name == "user" else name) for name in dict.fromkeys(names)}

    def required(self) -> dict[str, tuple[str, ...]]:
        """Give the columns that must be there, and what may stand for each."""
        return {name: accepted_names(name) for name in (self.user_unit, "event_type", "environment", *REQUIRED)}

    def extras(self) -> tuple[str, ...]:
        """Name the other columns that decide whether a row counts."""
        return ("event_type", "environment", *FAMILY, *(("cancellation_reason",) * (self.refund_upgraded == "zero")))

    def names(self, *, foreign: bool) -> list[str]:
        """Name all columns that are read, of RevenueCat's transactions or of Adapty's events."""
        if foreign:
            return list(dict.fromkeys(revenuecat.names(self.user_unit)))
        return list(dict.fromkeys([*self.extras(), *(name for names in self.columns().values() for name in names)]))

    def fields(self) -> list[str]:
        """Name everything that may be read, of either vendor."""
        return list(dict.fromkeys([*self.names(foreign=False), *self.names(foreign=True)]))

    def choose(self, there: list[str], where: str) -> list[str]:
        """Choose what to read of the columns of a table, or say which is missing."""
        foreign = revenuecat.MARK in there
        refuse_missing(revenuecat.required(self.user_unit) if foreign else self.required(), there, where)
        return [name for name in self.names(foreign=foreign) if name in there]


def read_events(
    source: Source,
    *,
    user_unit: str,
    refund_upgraded: str,
    nulls: str,
    wanted: Iterable[str] = (),
    spared: Iterable[str] = (),
    dates: Collection[str] | None = None,
    threads: int | None = None,
) -> Events:
    """Read events and tell which rows count.

    Parameters
    ----------
    source
        A frame, an Arrow stream, or the path or glob of CSV, Parquet or JSON lines files.
    user_unit, refund_upgraded
        As in the conventions: whose id is the user, and whether a refund for an upgrade is one.
    nulls
        ``"error"``, or ``"drop"`` to leave out rows without a user, an instant or their money.
    wanted
        The optional columns that somebody needs.
    spared
        Of ``"sandbox"``, ``"family_shared"`` and ``"granted"``, reasons for which no row is to be left out.
    dates
        The columns of text that hold dates, where the source is part of a table; else the values tell.
    threads
        Number of threads, by default all.
    """
    ask = _Ask(user_unit, refund_upgraded, frozenset(wanted), frozenset(spared), workers_for(threads))
    raws = tables(source, ask.choose, ask.fields(), loose=MONEY)
    parts = [_read(raw if dates is None else replace(raw, dates=dates), ask) for raw in raws]
    report = {key: sum(part.report[key] for part in parts) for key in ("rows", *REASONS)}
    dropped = Dropped(report["rows"], report["nulls"], sum((Counter(part.nulls) for part in parts), Counter()))
    refuse_nulls("the events", dropped, nulls)
    frame = stacked_rows([part.frame for part in parts])
    kind = pl.concat([part.kind for part in parts], rechunk=True).alias("kind")
    return Events(settled_rows(frame, kind), kind, report, dropped)


def _read(raw: Raw, ask: _Ask) -> CountedPart:
    return (_from_revenuecat if revenuecat.MARK in raw.frame.columns else _from_adapty)(raw, ask)


def columns_of_events(there: list[str], *, user_unit: str, refund_upgraded: str, wanted: Iterable[str]) -> list[str]:
    """Name those of the columns that are there which are read; the settings are those of :func:`read_events`."""
    ask = _Ask(user_unit, refund_upgraded, frozenset(wanted), frozenset(), 1)
    return [name for name in ask.names(foreign=revenuecat.MARK in there) if name in there]


def columns_of_users(there: list[str], user_unit: str) -> list[str]:
    """Name the columns of which the first with a value is the user, in a table of events or of installs."""
    if revenuecat.MARK in there:
        return [revenuecat.USERS.get(user_unit, user_unit)]
    names = [name for name in (*accepted_names(user_unit), *revenuecat.USERS.values()) if name in there]
    return names[:1] if user_unit in names else names


def columns_of_instants() -> set[str]:
    """Name every column that is read as instants."""
    return {one for name in INSTANTS for one in accepted_names(name)} | set(revenuecat.INSTANTS)


@dataclass(frozen=True)
class Arriving(Generic[_Batch]):
    """A table that comes batch by batch, and what reads a batch of it.

    What the door tells from a whole column is told before the first batch, so that the batches are read as the whole
    would be; only integers of more than 64 bits are read as text here.
    """

    source: Source
    choose: Choose
    fields: Collection[str]
    dated: Collection[str]
    users: Collection[str]
    read: Callable[[Raw], _Batch]
    loose: Collection[str] = ()

    @cached_property
    def streams(self) -> list[Stream]:
        """The tables, opened."""
        return streams(self.source, self.choose, self.fields, self.loose)

    @property
    def ids(self) -> list[pl.DataType]:
        """The types of the columns of ids, table by table."""
        return [kind for stream in self.streams for kind in stream.kinds(self.users)]

    def batches(self, *, texts: bool) -> Iterator[_Batch]:
        """Read all batches; first of each table one without a row. If `texts`, ids are read as text."""
        for stream in self.streams:
            for raw in stream.raws(self.dated, self.users if texts else ()):
                yield self.read(raw)


def arriving_events(
    source: Source,
    *,
    user_unit: str,
    refund_upgraded: str,
    nulls: str,
    wanted: Iterable[str] = (),
    threads: int | None = None,
) -> Arriving[Events]:
    """Open events to be read batch by batch; see :func:`read_events`."""
    ask = _Ask(user_unit, refund_upgraded, frozenset(wanted), frozenset(), workers_for(threads))

    def read(raw: Raw) -> Events:
        part = _read(raw, ask)
        dropped = Dropped(part.report["rows"], part.report["nulls"], Counter(part.nulls))
        refuse_nulls("the events", dropped, nulls)
        return Events(settled_rows(part.frame, part.kind), part.kind, part.report, dropped)

    users = [*accepted_names(user_unit), *revenuecat.USERS.values()]
    return Arriving(source, ask.choose, ask.fields(), columns_of_instants(), users, read, MONEY)


def known_columns() -> set[str]:
    """Name every column that may be read of a table of events or installs, in any of the three shapes."""
    units = ("profile_id", "customer_user_id", "device_id")
    ours = {*READERS, *FAMILY, *units, "event_type", "environment", "cancellation_reason", "country", "installs"}
    ours |= {name for names in ALIASES.values() for name in names}
    return ours | {name for unit in units for name in revenuecat.names(unit)} | {"store", "first_seen_time"}


def pick_columns(raw: Raw, accepted: tuple[str, ...], read: Reader) -> Column | None:
    """Read one column: by its canonical name where it is there, else by its aliases, which fill each other's nulls.

    Of lines with fields of their own, all names fill each other's nulls.
    """
    names = [name for name in accepted if name in raw.frame.columns]
    if accepted[0] in names and not raw.mixed:
        names = names[:1]
    found = [read(raw.frame[name]) for name in names]
    return reduce(Column.merged, found) if found else None


def device_of(column: pl.Series) -> Column:
    """Read an id of a device, of which zeros are none."""
    if not isinstance(column.dtype, pl.String | pl.Categorical | pl.Enum):
        return columns.user(column)
    ids = columns.text(column).series
    zeros = (ids == NO_DEVICE).fill_null(value=False)
    return Column(ids.set(zeros, None) if zeros.any() else ids)


def _from_adapty(raw: Raw, ask: _Ask) -> CountedPart:
    def pick(named: tuple[str, tuple[str, ...]]) -> Column | None:
        name, accepted = named
        if name == "user" and ask.user_unit == "device_id":
            return pick_columns(raw, accepted, device_of)
        if name in INSTANTS:
            return pick_columns(raw, accepted, partial(columns.instant, dates=raw.dates))
        return pick_columns(raw, accepted, READERS[name])

    names = ask.columns()
    picked = zip(names, on_threads(ask.workers, pick, list(names.items())), strict=True)
    read = {name: column for name, column in picked if column is not None}
    frame = raw.frame
    code = codes_of(frame["event_type"], ask.workers)
    family = [is_kind(frame[name], "FAMILY_SHARED") for name in FAMILY if name in frame.columns]
    masks = {"family_shared": reduce(or_, family) if family else None, "granted": granted_rows(read)}
    if "cancellation_reason" in frame.columns:
        refunds = (code >= 5).arg_true()
        upgraded = is_kind(frame["cancellation_reason"].gather(refunds), "upgraded")
        masks["upgraded"] = pl.repeat(value=False, n=len(code), eager=True).scatter(refunds.filter(upgraded), True)
    return judged_rows(read, code, is_kind(frame["environment"], "Production"), masks, ask.spared)


def _from_revenuecat(table: Raw, ask: _Ask) -> CountedPart:
    raw = table.frame
    read, code = revenuecat.payments(raw, ask.user_unit, table.dates)
    granted = is_kind(raw["store"], "promotional") | granted_rows(read)
    family = is_kind(raw["ownership_type"], "FAMILY_SHARED") if "ownership_type" in raw.columns else None
    part = judged_rows(
        read, code, revenuecat.production(raw), {"family_shared": family, "granted": granted}, ask.spared
    )
    frame, kinds = revenuecat.refunds(raw, part.frame, part.kind, table.dates)
    lost = frame["revenue_usd"].is_null()
    if not lost.any():
        return replace(part, frame=stacked_rows([part.frame, frame]), kind=pl.concat([part.kind, kinds]))
    count = int(lost.sum())
    return CountedPart(
        stacked_rows([part.frame, frame]),
        pl.concat([part.kind, kinds.set(lost, -1)]),
        part.report | {"nulls": part.report["nulls"] + count},
        part.nulls | {"price_in_usd": count},
    )
