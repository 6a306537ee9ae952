"""Termina's local table, recomputed under causes."""

import re
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from functools import cache, cached_property, partial
from inspect import signature
from typing import Any

import polars as pl
from polars.selectors import by_name, temporal

from cohortlib.compare.explain.causes import Cause
from cohortlib.compare.explain.termina import faults
from cohortlib.compare.explain.termina.comparison import TerminaComparison
from cohortlib.compare.explain.termina.customer_candidates import close_customers
from cohortlib.compare.explain.termina.fault_candidates import fault_candidates
from cohortlib.compare.explain.termina.setting_candidates import SettingCandidates
from cohortlib.compare.reconcile.compare import Report
from cohortlib.errors import Arg, CohortlibWarning, DataError, SchemaError, SettingError, listed
from cohortlib.fields import COHORTS, CUSTOMER_COHORTS, schema
from cohortlib.literals import WEEKDAYS
from cohortlib.periods import LABELS, Calendar
from cohortlib.read import sources
from cohortlib.read.tables import Source
from cohortlib.termina.compute import cohorts, customer_cohorts
from cohortlib.transactions.keywords import Files, Parsing, Reading, types
from cohortlib.transactions.reading import typed_frame
from cohortlib.transactions.settings import Settings
from cohortlib.transactions.store.prepared import open_if_prepared


@dataclass(frozen=True, eq=False)
class TerminaTable:
    """A Termina table that is recomputed from rows in memory."""

    rows: pl.DataFrame  # users, instants, amounts, and all other date columns
    remote: pl.DataFrame
    settings: dict[str, Any]  # of the call that computes the local table, defaults included

    @classmethod
    def read(cls, transactions: Source, remote: pl.DataFrame, settings: Mapping[str, Any]) -> "TerminaTable":
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
        complete = {**defaults, **_unit_of(remote["cohort"]), **settings}
        fields = {name: dtype for name, dtype in schema(COHORTS | CUSTOMER_COHORTS).items() if name in remote.columns}
        remote = remote.select(pl.col(name).cast(dtype, strict=False) for name, dtype in fields.items())
        return cls(_read(transactions, complete), remote, complete)

    @property
    def has_customers(self) -> bool:
        """Whether the table has a row per customer."""
        return "user_id" in self.remote.columns

    # ---------------------------------------------------------------------------------------------------- recompute

    def recompute(self, causes: tuple[Cause, ...]) -> pl.DataFrame:
        """Recompute the table under causes."""
        table, view = self._numbers(causes)
        for fault in _faults(causes):
            if isinstance(fault, faults.Presentation):
                table = fault.edit_table(table, view)
        return table

    def _numbers(self, causes: tuple[Cause, ...]) -> tuple[pl.DataFrame, faults.View]:
        """Recompute the table under all causes but those of presentation. Returns also how its rows are read."""
        settings, rows, view = self._inputs(causes)
        if not causes:
            return self._unchanged, view
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", CohortlibWarning)  # emitted by the unchanged table
            table = self._compute(rows, **settings)
        for fault in _faults(causes):
            if not isinstance(fault, faults.Presentation):
                table = fault.edit_table(table, view)
        return table, view

    @property
    def _compute(self) -> Callable[..., pl.DataFrame]:
        return customer_cohorts if self.has_customers else cohorts

    @cached_property
    def _unchanged(self) -> pl.DataFrame:
        """The table without any cause; computing it emits the warnings."""
        return self._compute(self.rows, **self.settings)

    def _inputs(self, causes: tuple[Cause, ...]) -> tuple[dict[str, Any], pl.DataFrame, faults.View]:
        """Return the settings and rows under causes, and how the rows are read."""
        settings = dict(self.settings)
        for cause in causes:
            settings.update(cause.settings)
        rows = self._rows_with_zone if "timezone" in {cause.kind for cause in causes} else self.rows
        view = faults.View(
            settings["user"], settings["timestamp"], settings["amount"], settings["timezone"],
            Calendar(settings["freq"], settings["week_start"]), settings["refunds"],
        )  # fmt: skip
        for fault in _faults(causes):
            rows = fault.edit_rows(rows, view)
        return settings, rows, view

    @cached_property
    def _rows_with_zone(self) -> pl.DataFrame:
        """The rows with instants that have a zone: those without one are taken as UTC."""
        name = self.settings["timestamp"]
        dtype = self.rows.schema[name]
        if isinstance(dtype, pl.Datetime) and dtype.time_zone is None:
            return self.rows.with_columns(self.rows[name].dt.replace_time_zone("UTC"))
        return self.rows

    # --------------------------------------------------------------------------------------------------- candidates

    def candidates(self, causes: tuple[Cause, ...], report: Report) -> Iterable[Cause]:
        """List other settings, and the faults that the differences point to."""
        yield from self._setting_candidates
        yield from fault_candidates(self._comparison(causes))

    @cached_property
    def _setting_candidates(self) -> list[Cause]:
        view = self._inputs(())[2]
        candidates = SettingCandidates(
            self.settings, self.rows, self._rows_with_zone, view, self._unchanged, self.remote
        )
        return list(candidates.causes())

    def _comparison(self, causes: tuple[Cause, ...]) -> TerminaComparison:
        """Compare the table under causes with the remote one, both in the presentation of the local table."""
        (local, view), remote = self._numbers(causes), self.remote
        for fault in _faults(causes):
            if isinstance(fault, faults.Presentation):
                remote = fault.inverse.edit_table(remote, view)
        activity = cache(partial(self._activity, causes))
        return TerminaComparison(self._inputs(causes)[1], view, local, remote, activity)

    def _activity(self, causes: tuple[Cause, ...]) -> pl.DataFrame:
        """Compute the amounts of each customer in each active period."""
        settings, rows, _ = self._inputs(causes)
        settings = {name: value for name, value in settings.items() if name in signature(customer_cohorts).parameters}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", CohortlibWarning)
            table = customer_cohorts(rows, **settings | {"rows": "active"})
        return table.select("cohort", "user_id", "period", "amount")

    def describe_remaining(self, causes: tuple[Cause, ...], report: Report) -> list[str]:
        """Describe where cells still differ, the largest difference, and the customers whose amounts come close."""
        differences = report.differences
        if differences.is_empty():
            return []
        return [*_describe(differences), *close_customers(self._comparison(causes))]


def _faults(causes: tuple[Cause, ...]) -> list[faults.Fault]:
    return [cause.value for cause in causes if isinstance(cause.value, faults.Fault)]


def _describe(differences: pl.DataFrame) -> list[str]:
    """Describe where cells differ, and the largest difference."""
    cohorts = differences.group_by("cohort").len().sort("len", "cohort", descending=[True, False])
    label, count = cohorts.row(0)
    fields = differences["field"].cast(pl.String).unique(maintain_order=True).to_list()
    if len(differences) == 1:
        lines = [f"The only cell that still differs is {fields[0]} in cohort {label}."]
    else:
        place = f"all in cohort {label}"
        if len(cohorts) > 1:
            place = f"in {len(cohorts):,} cohorts, most of them in {label} ({count:,})"
        lines = [f"The {len(differences):,} cells that still differ are {place}; fields: {', '.join(fields)}."]
    with_values = differences.filter(pl.col("local").is_not_null() & pl.col("remote").is_not_null()).head(1)
    for row in with_values.rows(named=True):
        customer = f" of customer {row['user_id']}" if "user_id" in row else ""
        lines.append(
            f"The largest difference is {row['field']}{customer} in cohort {row['cohort']} at age {row['period']}: "
            f"{row['local']:,.6g} local, {row['remote']:,.6g} remote."
        )
    return lines


# ------------------------------------------------------------------------------------------------------------ read


def _unit_of(labels: pl.Series) -> dict[str, Any]:
    """Return the settings of the period unit that labels have."""
    distinct = sorted(set(labels.drop_nulls().cast(pl.String)))
    for freq, form in LABELS:
        if distinct and all(re.fullmatch(form, label) for label in distinct):
            return {"freq": freq}
    try:
        weekdays = {date.fromisoformat(label).weekday() for label in distinct}
    except ValueError:
        raise DataError(
            f"the remote table has the cohorts {listed(distinct, 3)}",
            value=distinct,
            expected="labels such as '2026-01', '2026Q1', '2026' or '2026-01-31'",
        ) from None
    if len(distinct) > 1 and len(weekdays) == 1:
        return {"freq": "W", "week_start": WEEKDAYS[weekdays.pop()]}
    return {"freq": "D" if distinct else "M"}


def _read(transactions: Source, settings: Mapping[str, Any]) -> pl.DataFrame:
    """Read the columns of users, instants and amounts, and all date columns: one of them may define the cohorts."""
    transactions = open_if_prepared(transactions)
    required = [settings["user"], settings["timestamp"], settings["amount"]]
    known = [*required, settings["joined"]] if isinstance(settings["joined"], str) else required

    def columns(names: list[str]) -> list[str]:
        # joined= may be a file instead of a column
        return [name for name in known if name in names or name in required]

    groups = (*types(Reading), *types(Parsing), *types(Files))
    rules = Settings.of(**{name: settings[name] for name in groups if name in settings})
    options = rules.file_options
    try:
        stream = sources.stream(transactions, lambda names: [*required, *names], options=options)
    except SchemaError:
        # A column of a type that cannot be read is left out, unless it is needed.
        return typed_frame(sources.read(transactions, columns, options=options), rules, "row {:,}".format)
    dates = pl.DataFrame(schema=stream.schema).select(temporal()).columns
    texts = pl.DataFrame(schema=stream.schema).select(pl.col(pl.String)).columns
    every = sources.read(stream.source, lambda names: [*columns(names), *dates, *texts], options=options)
    frame = typed_frame(every, rules, stream.locate)
    return frame.select(by_name(*dict.fromkeys([*columns(frame.columns), *frame.select(temporal()).columns])))
