"""Termina's tables under other settings and faults: what may have made the other table."""

import re
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date, time
from functools import cache, cached_property, partial
from inspect import signature
from typing import Any

import polars as pl
from polars.selectors import by_name, temporal

from cohortlib.compare.explain.causes import Cause
from cohortlib.compare.explain.termina import faults
from cohortlib.compare.explain.termina.evidence import Evidence, edges
from cohortlib.compare.explain.zones import clocks
from cohortlib.compare.reconcile.compare import Report
from cohortlib.errors import CohortlibWarning, DataError, SchemaError, SettingError, listed
from cohortlib.fields import COHORTS, CUSTOMER_COHORTS, schema
from cohortlib.periods import LABELS, WEEKDAYS, Calendar
from cohortlib.read import sources
from cohortlib.read.tables import Source
from cohortlib.termina.compute import cohorts, customer_cohorts
from cohortlib.transactions.store.prepared import open_if_prepared

_ROLES = {"user": "user_id", "timestamp": "timestamp", "amount": "amount"}
_SECONDS = {"ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}


@dataclass(frozen=True, eq=False)
class TerminaMaker:
    """Recomputes a Termina table from rows that have been read once.

    Parameters
    ----------
    rows
        The columns of users, instants and amounts, and every other column of dates.
    remote
        The other table, which tells what is looked for: its unit of periods, its edges, its customers.
    settings
        The arguments of the call that makes the table as it is.
    """

    rows: pl.DataFrame
    remote: pl.DataFrame
    settings: dict[str, Any]

    @classmethod
    def of(cls, transactions: Source, remote: pl.DataFrame, settings: Mapping[str, Any]) -> "TerminaMaker":
        """Read the transactions, and the unit of periods off the other table's labels."""
        call = customer_cohorts if "user_id" in remote.columns else cohorts
        known = [name for name in signature(call).parameters if name not in ("transactions", "progress")]
        for name in settings:
            if name not in known:
                raise SettingError(f"{name}= is no setting of {call.__name__}; expected any of {listed(known, 30)}")
        given = {**_unit_of(remote["cohort"]), **_ROLES, **settings}
        known_fields = {
            name: kind for name, kind in schema(COHORTS | CUSTOMER_COHORTS).items() if name in remote.columns
        }
        other = remote.select(pl.col(name).cast(kind, strict=False) for name, kind in known_fields.items())
        return cls(_read(transactions, given), other, given)

    # --- recomputing

    @property
    def customers(self) -> bool:
        """Whether the table is one of customers."""
        return "user_id" in self.remote.columns

    def table(self, causes: tuple[Cause, ...]) -> pl.DataFrame:
        """Recompute the table under some causes."""
        table, view = self._plain(causes)
        for edit in _edits(causes):
            if isinstance(edit, faults.Written):
                table = edit.table(table, view)
        return table

    def _plain(self, causes: tuple[Cause, ...]) -> tuple[pl.DataFrame, faults.View]:
        """Recompute the table, but for the causes that only write it in another way."""
        settings, rows, view = self._under(causes)
        if not causes:
            return self._base, view
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", CohortlibWarning)  # it was told of the table as it is
            table = self._call(rows, **settings)
        for edit in _edits(causes):
            if not isinstance(edit, faults.Written):
                table = edit.table(table, view)
        return table, view

    @property
    def _call(self) -> Callable[..., pl.DataFrame]:
        return customer_cohorts if self.customers else cohorts

    @cached_property
    def _base(self) -> pl.DataFrame:
        """The table as it is; what it leaves out is told."""
        return self._call(self.rows, **self.settings)

    def _under(self, causes: tuple[Cause, ...]) -> tuple[dict[str, Any], pl.DataFrame, faults.View]:
        """Give the settings under some causes, the rows that they are for, and what the columns are."""
        settings = dict(self.settings)
        for cause in causes:
            settings.update(cause.settings)
        rows = self._zoned if "timezone" in {cause.kind for cause in causes} else self.rows
        view = faults.View(
            settings["user"], settings["timestamp"], settings["amount"], settings.get("timezone", "UTC"),
            Calendar(settings["freq"], settings.get("week_start", "monday")), settings.get("refunds", "net"),
        )  # fmt: skip
        for edit in _edits(causes):
            rows = edit.rows(rows, view)
        return settings, rows, view

    @cached_property
    def _zoned(self) -> pl.DataFrame:
        """The rows with instants that a zone can move: those without a zone are taken as UTC."""
        name = self.settings["timestamp"]
        kind = self.rows.schema[name]
        if isinstance(kind, pl.Datetime) and kind.time_zone is None:
            return self.rows.with_columns(self.rows[name].dt.replace_time_zone("UTC"))
        return self.rows

    @cached_property
    def _first_rows(self) -> pl.DataFrame:
        """The instant of each user's first row, whatever its amount."""
        user, instant = self.settings["user"], self.settings["timestamp"]
        rows = self.rows.select(by_name(user, instant)).drop_nulls()
        return rows.group_by(by_name(user)).agg(by_name(instant).min().name.map(lambda _: "joined"))

    # --- what is worth a try

    def causes(self, chosen: tuple[Cause, ...], report: Report) -> Iterable[Cause]:
        """Name the settings that are not as they are, and the faults that the differences point at."""
        yield from self._settings
        yield from self._evidence(chosen).causes()

    @cached_property
    def _settings(self) -> list[Cause]:
        return [
            *self._refunds(), *self._bases(), *self._edges(), *self._cohorts_from(), *self._customers_shown(),
            *self._weeks(), *self._zones(),
        ]  # fmt: skip

    def _other(self, name: str, values: Iterable[object], default: object, words: str) -> Iterator[Cause]:
        """Name the values of a setting that it does not have."""
        now = self.settings.get(name, default)
        for value in values:
            if value != now:
                yield Cause(name, value, words.format(value), ((name, value),))

    def _refunds(self) -> Iterator[Cause]:
        yield from self._other("refunds", ("net", "signed", "drop"), "net", "refunds={!r}")

    def _bases(self) -> Iterator[Cause]:
        if self.customers:
            bases = ("single_customer", "cohort_total", "cohort_mean")
            yield from self._other("basis", bases, "single_customer", "basis={!r}")

    def _edges(self) -> Iterator[Cause]:
        """Name the edges that the other table has."""
        complete = self.settings.get("complete_only", False)
        words = "every period, also the last" if complete else "complete periods alone"
        yield Cause("right edge", "complete_only", words, (("complete_only", not complete),))
        view = self._under(())[2]
        own, other = edges(self.table(()), view), edges(self.remote, view)
        if own is None or other is None:
            return
        if other[1] != own[1]:
            label = view.calendar.label(other[1])
            yield Cause("right edge", label, f"{label} as the last period", (("end", label), ("complete_only", False)))
        if other[0] > own[0]:
            label = view.calendar.label(other[0])
            yield Cause("left edge", label, f"{label} as the first cohort", (("start", label),))

    def _cohorts_from(self) -> Iterator[Cause]:
        """Name the dates that may make the cohort."""
        now = self.settings.get("joined")
        modes = ("clip", "drop")
        if now is not None:
            yield Cause("joined", None, "the first active period as cohort", (("joined", None),))
            early = [mode for mode in modes if mode != self.settings.get("before_joined", "error")]
            for mode in early:
                words = f"before_joined={mode!r}"
                yield Cause("joined", ("before_joined", mode), words, (("before_joined", mode),))
            return
        roles = {self.settings["user"], self.settings["timestamp"], self.settings["amount"]}
        for name in [name for name in self.rows.columns if name not in roles]:
            for mode in modes:
                words = f"the cohort taken from column {name!r} (activity before it: {mode})"
                yield Cause("joined", (name, mode), words, (("joined", name), ("before_joined", mode)))
        words = "the cohort taken from each user's first row, whatever its amount"
        yield Cause("joined", "first row", words, (("joined", self._first_rows), ("before_joined", "clip")))

    def _customers_shown(self) -> Iterator[Cause]:
        if not self.customers:
            return
        count = self.remote["user_id"].n_unique()
        if count:
            yield from self._other("top_n", (count,), None, "the {} best customers alone")
        yield from self._other("rows", ("dense", "active"), "dense", "rows={!r}")

    def _weeks(self) -> Iterator[Cause]:
        if self.settings["freq"] == "W":
            yield from self._other("week_start", WEEKDAYS, "monday", "weeks that begin on {}")

    def _zones(self) -> Iterator[Cause]:
        """Name the clocks of the world; times without a zone may have been taken as UTC, unless they are plain days."""
        naive = self._zoned is not self.rows
        instants = self._zoned[self.settings["timestamp"]].drop_nulls()
        kind = instants.dtype
        if not isinstance(kind, pl.Datetime) or not len(instants):
            return
        if naive and (instants.dt.time() == time()).all():
            return
        ticks = instants.to_physical()
        low, high = (int(at) // _SECONDS[kind.time_unit] for at in (ticks.min(), ticks.max()))
        now = self.settings.get("timezone", "UTC")
        read = ", the times here taken as UTC" if naive else ""
        for clock in clocks(low, high):
            if now != clock.name and now not in clock.others:
                words = f"time zone {clock.name}{read}"
                yield Cause("timezone", clock.name, words, (("timezone", clock.name),), note=clock.note)

    def _evidence(self, chosen: tuple[Cause, ...]) -> Evidence:
        """Lay the table under some causes beside the other, both written as ours is."""
        (local, view), remote = self._plain(chosen), self.remote
        for edit in _edits(chosen):
            if isinstance(edit, faults.Written):
                remote = edit.undone.table(remote, view)
        activity = cache(partial(self._activity, chosen))  # asked for by more than one fault
        return Evidence(self._under(chosen)[1], view, local, remote, activity)

    def _activity(self, chosen: tuple[Cause, ...]) -> pl.DataFrame:
        """Give the customers one by one, in the periods in which they are active."""
        settings, rows, _ = self._under(chosen)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", CohortlibWarning)
            table = customer_cohorts(rows, **settings | {"rows": "active"})
        return table.select("cohort", "user_id", "period", "amount")

    def suspects(self, chosen: tuple[Cause, ...], report: Report) -> list[str]:
        """Say where the cells lie that still differ, which is the worst, and whose amounts come close to it."""
        left = report.differences
        if left.is_empty():
            return []
        return [*where(left), *self._evidence(chosen).near()]


def where(left: pl.DataFrame) -> list[str]:
    """Say where cells lie that differ."""
    cohorts = left.group_by("cohort").len().sort("len", "cohort", descending=[True, False])
    label, count = cohorts.row(0)
    fields = left["field"].cast(pl.String).unique(maintain_order=True).to_list()
    place = f"all in cohort {label}"
    if len(cohorts) > 1:
        place = f"in {len(cohorts):,} cohorts, most of them in {label} ({count:,})"
    told = [f"The {len(left):,} cells that differ are {place}, in {', '.join(fields)}."]
    if len(left) == 1:
        told = [f"The only cell that differs is in cohort {label}, in {fields[0]}."]
    both = left.filter(pl.col("local").is_not_null() & pl.col("remote").is_not_null()).head(1)
    for row in both.rows(named=True):
        who = f" of {row['user_id']}" if "user_id" in row else ""
        told.append(
            f"The worst is {row['field']}{who} in cohort {row['cohort']} at age {row['period']}: {row['local']:,.6g} "
            f"here, {row['remote']:,.6g} there."
        )
    return told


def _edits(causes: tuple[Cause, ...]) -> list[faults.Fault]:
    return [cause.value for cause in causes if isinstance(cause.value, faults.Fault)]


def _unit_of(labels: pl.Series) -> dict[str, Any]:
    """Tell the unit of periods by their labels."""
    known = sorted(set(labels.drop_nulls().cast(pl.String)))
    for freq, form in LABELS:
        if known and all(re.fullmatch(form, label) for label in known):
            return {"freq": freq}
    try:
        days = {date.fromisoformat(label).weekday() for label in known}
    except ValueError:
        raise DataError(
            f"the other table's cohorts are {listed(known, 3)}; expected labels such as '2026-01', '2026Q1', '2026' or "
            "'2026-01-31'"
        ) from None
    if len(known) > 1 and len(days) == 1:
        return {"freq": "W", "week_start": WEEKDAYS[days.pop()]}
    return {"freq": "D" if known else "M"}


def _read(transactions: Source, settings: Mapping[str, Any]) -> pl.DataFrame:
    """Read the three columns, and every other of dates: one of them may make the cohorts."""
    transactions = open_if_prepared(transactions)
    roles = [settings[role] for role in _ROLES]
    if isinstance(settings.get("joined"), str):
        roles.append(settings["joined"])
    text, number = settings["user"], settings["amount"]

    def asked(names: list[str]) -> list[str]:
        return [name for name in roles if name in names or name in roles[:3]]  # joined= may be a file

    try:
        stream = sources.stream(
            transactions, lambda names: [*roles[:3], *names], text_column=text, number_column=number
        )
    except SchemaError:
        # Of a column that nobody asked for, no matter what is wrong.
        return sources.read(transactions, asked, text_column=text, number_column=number)
    dates = pl.DataFrame(schema=stream.schema).select(temporal()).columns
    return sources.read(stream.source, lambda names: [*asked(names), *dates], text_column=text, number_column=number)
