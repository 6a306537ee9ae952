"""Termina's local table, recomputed under causes."""

import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from inspect import signature
from typing import Any

import numpy as np
import polars as pl
from polars.selectors import temporal

from cohortlib.compare.explain.causes import Cause
from cohortlib.compare.explain.evidence import Places, Standing
from cohortlib.compare.explain.termina.amounts import amount_candidates
from cohortlib.compare.explain.termina.clocks import clock_candidates
from cohortlib.compare.explain.termina.context import Context
from cohortlib.compare.explain.termina.customers import customer_candidates
from cohortlib.compare.explain.termina.days import day_candidates
from cohortlib.compare.explain.termina.describe import describe
from cohortlib.compare.explain.termina.forms import form_candidates
from cohortlib.compare.explain.termina.ledger import DAY, Rows
from cohortlib.compare.explain.termina.settings import setting_candidates
from cohortlib.compare.explain.termina.story import Story
from cohortlib.compare.explain.termina.table_edits import TableEdit
from cohortlib.compare.explain.termina.tables import Cells, Grid, Table, ordinals
from cohortlib.compare.explain.termina.values import value_candidates
from cohortlib.compare.reconcile.compare import Report
from cohortlib.compare.reconcile.form import Form, detect
from cohortlib.compare.reconcile.tolerances import Tolerance, Tolerances, checked
from cohortlib.errors import Arg, CohortlibWarning, DataError, SchemaError, SettingError, listed
from cohortlib.fields import COHORTS, CUSTOMER_COHORTS, schema, tolerance_of
from cohortlib.periods import Calendar, span
from cohortlib.read import sources
from cohortlib.read.tables import Source
from cohortlib.termina.compute import cohorts, customer_cohorts
from cohortlib.transactions.joined import joined_table
from cohortlib.transactions.keywords import Files, Parsing, Reading, types
from cohortlib.transactions.reading import typed_frame
from cohortlib.transactions.settings import Settings
from cohortlib.transactions.store.prepared import open_if_prepared

FAMILIES: tuple[Callable[[Context], Iterator[Cause]], ...] = (
    form_candidates,
    setting_candidates,
    clock_candidates,
    amount_candidates,
    day_candidates,
    value_candidates,
    customer_candidates,
)
"""Each lists candidates of some kinds for a context, with what their choice costs."""

_FIELDS = {**CUSTOMER_COHORTS, **COHORTS}
_MARGIN = 2  # periods around those of both tables


@dataclass(frozen=True, eq=False)
class TerminaTable:
    """A Termina table that is recomputed from rows in memory."""

    rows: Rows
    frame: pl.DataFrame  # the rows as read, with those that nulls="drop" leaves out
    remote: pl.DataFrame
    settings: dict[str, Any]  # of the call that computes the local table, defaults included
    form: Form  # how the remote table was written
    tolerances: Tolerances = field(default_factory=dict)

    @classmethod
    def read(
        cls,
        transactions: Source,
        remote: pl.DataFrame,
        settings: Mapping[str, Any],
        tolerances: Tolerances | None = None,
    ) -> "TerminaTable":
        """Read the transactions, and the period unit from the labels of the remote table."""
        call = customer_cohorts if "user_id" in remote.columns else cohorts
        defaults = {name: parameter.default for name, parameter in signature(call).parameters.items()}
        del defaults["transactions"], defaults["progress"]
        for name, value in settings.items():
            if name not in defaults:
                raise SettingError(
                    (Arg(name), f" is not a setting of {call.__name__}"),
                    value=value,
                    expected=f"one of {listed(defaults, 30)}",
                )
        form = _form(remote, settings)
        complete = {**defaults, **form.settings, **settings}
        fields = {name: dtype for name, dtype in schema(COHORTS | CUSTOMER_COHORTS).items() if name in remote.columns}
        remote = form.table.select(pl.col(name).cast(dtype, strict=False) for name, dtype in fields.items())
        frame = read_all(transactions, complete)
        read_with = checked_settings(complete)
        joined = None
        if complete["joined"] is not None and not read_with.joined_is_one_of(frame.columns):
            joined = joined_table(read_with, frame.columns, frame.clear)
        return cls(Rows.of(frame, complete, joined), frame, remote, complete, form, tolerances or {})

    @property
    def has_customers(self) -> bool:
        """Whether the table has a row per customer."""
        return "user_id" in self.remote.columns

    # ------------------------------------------------------------------------------------------------- public tables

    def recompute(self, causes: tuple[Cause, ...]) -> pl.DataFrame:
        """Recompute the table under causes by the public call."""
        if not causes:
            return self._unchanged
        story = self._story(causes)
        rows, settings = story.arguments(frozenset(self.settings))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", CohortlibWarning)  # emitted by the unchanged table
            table = self._compute(rows, **settings)
        for edit in story.table_edits:
            table = edit.edit_frame(table, self._shifted)
        return self.form.presented(table)

    @property
    def _compute(self) -> Callable[..., pl.DataFrame]:
        return customer_cohorts if self.has_customers else cohorts

    @cached_property
    def _unchanged(self) -> pl.DataFrame:
        """The table without any cause; computing it emits the warnings."""
        return self.form.presented(self._compute(self.frame, **self.settings))

    def _shifted(self, label: str, by: int) -> str:
        return self._calendar.label(self._calendar.ordinal(span("cohort", label)[0]) + by)

    # --------------------------------------------------------------------------------------------------------- cells

    def standing(self, causes: tuple[Cause, ...]) -> Standing:
        """Compare the cells under causes."""
        return self._cells.compare(self._story(causes).table)

    @property
    def places(self) -> Places:
        """The cohorts, dates and customers of the cells."""
        return self._cells.places

    def _story(self, causes: tuple[Cause, ...]) -> Story:
        return Story.of(self.rows, self._grid, self.settings, causes, self._users)

    @cached_property
    def _calendar(self) -> Calendar:
        """The calendar of the remote labels."""
        unit = self.form.unit
        return Calendar(self.settings["freq"], self.settings["week_start"] if unit is None else unit.week_start)

    @cached_property
    def _ordinals(self) -> np.ndarray:
        """The ordinal of the cohort of each remote row."""
        labels = self.remote["cohort"].cast(pl.String)
        known = ordinals(self._calendar, tuple(sorted(labels.unique())))
        return np.array([known[label] for label in labels], np.int64)

    @cached_property
    def _grid(self) -> Grid:
        calendar, at = self._calendar, self.rows.ledger.at
        found = [self._ordinals, self._ordinals + self.remote["period"].to_numpy()]
        if at.size:
            found.append(calendar.ordinals(np.array([at.min() // DAY - 1, at.max() // DAY + 1], np.int64)))
        every = np.concatenate(found)
        low, high = (int(every.min()), int(every.max())) if every.size else (0, 0)
        return Grid(calendar, low - _MARGIN, high - low + 1 + 2 * _MARGIN)

    @cached_property
    def _users(self) -> dict[str, int]:
        if not self.has_customers:
            return {}
        names = pl.concat([self.rows.ledger.names, self.remote["user_id"].cast(pl.String).unique().sort()])
        return {name: at for at, name in enumerate(names.unique(maintain_order=True))}

    @cached_property
    def _cells(self) -> Cells:
        remote = Table.of_frame(self._grid, self.remote, self._ordinals, self._users)
        start = self._story(()).table
        fields = tuple(name for name in start.values if name in remote.values)
        return Cells(remote, start, fields, self._limits(fields), self.form.sparse)

    @property
    def forms(self) -> tuple[str, ...]:
        """How the remote table is written: labels, numbers, rows left out.

        Periods in labels of cohortlib are listed if they are found out, and no months. Other weeks than those of the
        settings are a difference.
        """
        statements, differs = self.form.statements, self.form.settings.items() - self.settings.items()
        own = self.form.unit is not None and ", written like" not in statements[0]
        if own and (differs or self.settings["freq"] == "M"):
            statements = statements[1:]
        return (*statements, *(("rows of zeros left out",) if self.form.sparse else ()))

    @property
    def rounding(self) -> dict[str, float]:
        """The tolerances of fields whose remote values are rounded."""
        limits = self._cells.tolerances
        return {name: limit.absolute for name, limit in limits.items() if limit.absolute > tolerance_of(name)}

    def _limits(self, fields: tuple[str, ...]) -> dict[str, Tolerance]:
        """Return the tolerance of each field: the caller's, else the default or half a unit of rounded values.

        Values count as rounded if all fields of their kind are, and the local ones are not.
        """
        limits: dict[str, Tolerance] = {}
        for kind, full in (("count", 0), ("money", 2), ("share", 6)):
            names = [name for name in fields if _FIELDS[name].kind == kind]
            places = max((self.form.places.get(name, 99) for name in names), default=99)
            rounded = places < full and any(_has_more_places(self._unchanged[name], places) for name in names)
            limit = 0.5 * 10.0**-places if rounded else tolerance_of(names[0]) if names and full else 0.0
            limits |= dict.fromkeys(names, Tolerance(limit))
        return limits | checked(self.tolerances, list(fields), [])

    # --------------------------------------------------------------------------------------------------- candidates

    def candidates(self, causes: tuple[Cause, ...], in_time: Callable[[], bool]) -> Iterator[Cause]:
        """List other settings, and the faults that the differences point to."""
        context = self._scene(causes, in_time)
        for family in FAMILIES:
            if not in_time():
                return
            yield from family(context)

    def _scene(self, causes: tuple[Cause, ...], in_time: Callable[[], bool] = lambda: True) -> Context:
        story, remote = self._story(causes), self._cells.remote
        for cause in reversed(causes):
            if isinstance(cause.value, TableEdit):
                remote = cause.value.undo(remote)
        return Context(story, remote, frozenset(cause.kind for cause in causes), in_time)

    def describe_remaining(self, causes: tuple[Cause, ...], report: Report) -> list[str]:
        """Describe where cells still differ, and what the differences have in common."""
        return describe(self._scene(causes), report) if not report.ok else []


# ------------------------------------------------------------------------------------------------------------ read


def _form(remote: pl.DataFrame, settings: Mapping[str, Any]) -> Form:
    """Find out how the remote table is written."""
    form = detect(remote, freq=settings.get("freq"), week_start=settings.get("week_start"))
    if form.unit is None and not remote.is_empty():
        labels = sorted(set(remote["cohort"].drop_nulls().cast(pl.String)))
        raise DataError(
            f"the remote table has the cohorts {listed(labels, 3)}",
            value=labels,
            expected="labels such as '2026-01', '2026Q1', '2026' or '2026-01-31'",
        )
    return form


def _has_more_places(values: pl.Series, places: int) -> bool:
    units = values.drop_nulls() * 10.0**places
    return bool(((units - units.round(0)).abs() > 1e-6).any())


def checked_settings(settings: Mapping[str, Any]) -> Settings:
    """Check the settings that say how rows and dates are read."""
    groups = (*types(Reading), *types(Parsing), *types(Files), "joined", "before_joined")
    return Settings.of(**{name: settings[name] for name in groups if name in settings})


def read_all(transactions: Source, settings: Mapping[str, Any]) -> pl.DataFrame:
    """Read all columns: those other than user, instant and amount may be behind a difference."""
    transactions = open_if_prepared(transactions)
    required = [settings["user"], settings["timestamp"], settings["amount"]]
    known = [*required, settings["joined"]] if isinstance(settings["joined"], str) else required

    def columns(names: list[str]) -> list[str]:
        # joined= may be a file instead of a column
        return [name for name in known if name in names or name in required]

    rules = checked_settings(settings)
    options = rules.file_options
    try:
        stream = sources.stream(transactions, lambda names: [*required, *names], options=options)
    except SchemaError:
        # A column of a type that cannot be read is left out, unless it is needed.
        return typed_frame(sources.read(transactions, columns, options=options), rules, "row {:,}".format)
    empty = pl.DataFrame(schema=stream.schema)
    kinds = pl.selectors.string() | temporal() | pl.selectors.numeric() | pl.selectors.boolean()
    plain = empty.select(kinds | pl.selectors.categorical() | pl.selectors.enum()).columns
    every = sources.read(stream.source, lambda names: [*columns(names), *plain], options=options)
    return typed_frame(every, rules, stream.locate)
