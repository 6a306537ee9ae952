"""Termina's accountings and concentration, recomputed under causes by the public calls.

The causes are settings, the values of columns, a factor and moved dates. Customers and days are not screened one by
one, as those of cohort tables are: a period of an accounting does not show which users are behind a difference.
"""

import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from inspect import signature
from typing import Any

import polars as pl

from cohortlib.compare.explain.causes import Cause
from cohortlib.compare.explain.evidence import Places, Standing
from cohortlib.compare.explain.termina.accounting_candidates import accounting_candidates
from cohortlib.compare.explain.termina.accounting_cells import AccountingCells, FrameCells, rounded_fields
from cohortlib.compare.explain.termina.frame_edits import FrameEdit
from cohortlib.compare.explain.termina.table import read_all
from cohortlib.compare.explain.wording import listed as listed_few
from cohortlib.compare.reconcile.compare import Report
from cohortlib.compare.reconcile.form import detect
from cohortlib.compare.reconcile.tolerances import Tolerances
from cohortlib.errors import Arg, CohortlibWarning, DataError, SchemaError, SettingError, listed
from cohortlib.fields import CONCENTRATION, GROWTH_ACCOUNTING, USER_ACCOUNTING, schema
from cohortlib.read.tables import Source
from cohortlib.termina.accounting import concentration, growth_accounting, user_accounting
from cohortlib.termina.frames import Concentration

_GROWTH_ONLY = tuple(name for name in GROWTH_ACCOUNTING if name not in USER_ACCOUNTING)
_USERS_ONLY = tuple(name for name in USER_ACCOUNTING if name not in GROWTH_ACCOUNTING)


@dataclass(frozen=True, eq=False)
class AccountingTable:
    """An accounting or a concentration that is recomputed from rows in memory."""

    call: Callable[..., Any]
    frame: pl.DataFrame  # the rows as read
    frames: Mapping[str, pl.DataFrame]  # the remote frames by name: one under "", or the three of concentration
    settings: dict[str, Any]  # of the call that computes the local table, defaults included
    forms: tuple[str, ...]
    tolerances: Tolerances = field(default_factory=dict)
    _computed: dict[frozenset[Cause], Any] = field(default_factory=dict)

    @classmethod
    def read(
        cls,
        transactions: Source,
        remote: Mapping[str, pl.DataFrame],
        settings: Mapping[str, Any],
        tolerances: Tolerances | None = None,
    ) -> "AccountingTable":
        """Read the transactions, and the period unit from the dates of the remote table."""
        call = _call_of(remote)
        defaults = {name: parameter.default for name, parameter in signature(call).parameters.items()}
        del defaults["transactions"], defaults["progress"]
        for name, value in settings.items():
            if name not in defaults:
                what = (Arg(name), f" is not a setting of {call.__name__}")
                raise SettingError(what, value=value, expected=f"one of {listed(defaults, 30)}")
        main = next(iter(remote))
        form = detect(remote[main], freq=settings.get("freq"), week_start=settings.get("week_start"))
        if form.unit is None and not form.table.is_empty():
            labels = sorted(set(form.table["date"].drop_nulls().cast(pl.String)))
            expected = "labels such as '2026-01', '2026Q1', '2026' or '2026-01-31'"
            raise DataError(f"the remote table has the dates {listed(labels, 3)}", value=labels, expected=expected)
        complete = {**defaults, **form.settings, **settings}
        frame = read_all(transactions, complete | {"joined": None})
        own = form.unit is not None and ", written like" not in form.statements[0]
        statements = form.statements[1:] if own and complete["freq"] == "M" else form.statements
        frames = {name: _typed(form.table if name == main else table) for name, table in remote.items()}
        return cls(call, frame, frames, complete, statements, tolerances or {})

    @property
    def remote(self) -> pl.DataFrame | Concentration:
        """The remote table, as the local one is returned."""
        return Concentration(**self.frames) if len(self.frames) > 1 else self.frames[""]

    # --------------------------------------------------------------------------------------------------- the table

    def recompute(self, causes: tuple[Cause, ...]) -> pl.DataFrame | Concentration:
        """Recompute the table under causes by the public call; without any, it emits the warnings."""
        key = frozenset(causes)
        if key not in self._computed:
            rows, settings = self._changed(causes)
            with warnings.catch_warnings():
                if causes:
                    warnings.simplefilter("ignore", CohortlibWarning)
                self._computed[key] = self.call(rows, **settings)
        result: pl.DataFrame | Concentration = self._computed[key]
        return result

    def _changed(self, causes: tuple[Cause, ...]) -> tuple[pl.DataFrame, dict[str, Any]]:
        """Return the rows and settings under causes."""
        settings = dict(self.settings)
        for cause in causes:
            settings.update(cause.settings)
        rows = self.frame
        if settings.pop("taken_as_utc", False):
            rows = rows.with_columns(pl.col(settings["timestamp"]).dt.replace_time_zone("UTC"))
        edits = [cause.value for cause in causes if isinstance(cause.value, FrameEdit)]
        for edit in sorted(edits, key=repr):
            rows = edit.apply(rows, settings)
        return rows, settings

    def tables(self, causes: tuple[Cause, ...]) -> dict[str, pl.DataFrame]:
        """Return the frames of the table under causes by name, with keys as text."""
        table = self.recompute(causes)
        if isinstance(table, pl.DataFrame):
            return {"": table}
        return {name: _typed(getattr(table, name)) for name in CONCENTRATION}

    # --------------------------------------------------------------------------------------------------------- cells

    @cached_property
    def cells(self) -> AccountingCells:
        """The cells that are compared under every cause."""
        local = self.tables(())
        return AccountingCells(
            {name: FrameCells.of(local[name], table, self.tolerances) for name, table in self.frames.items()}
        )

    def standing(self, causes: tuple[Cause, ...]) -> Standing:
        """Compare the cells under causes."""
        return self.cells.compare(self.tables(causes))

    @property
    def places(self) -> Places:
        """The dates of the cells."""
        return self.cells.places

    @property
    def rounding(self) -> dict[str, float]:
        """The tolerances of fields whose remote values are rounded."""
        return rounded_fields(self.cells.frames)

    # --------------------------------------------------------------------------------------------------- candidates

    def candidates(self, causes: tuple[Cause, ...], in_time: Callable[[], bool]) -> Iterator[Cause]:
        """List other settings and faults, likely ones first."""
        yield from accounting_candidates(self, causes, in_time)

    def describe_remaining(self, causes: tuple[Cause, ...], report: Report) -> list[str]:
        """List the periods in which cells still differ."""
        if report.ok:
            return []
        worst = report.cohorts.filter(pl.col("agreeing") < pl.col("cells"))
        dates = sorted(map(str, worst.to_series(0)))
        if not dates:
            return ["Only top users or points of the distribution of the last period differ."]
        count = f"{len(dates):,} of {report.cohorts.height:,} periods"
        return [
            f"Cells differ in {count}: {listed_few(dates)}.",
            "Which customers or days are behind that, an accounting does not show: compare a table of cohorts or of "
            "customers of the same rows.",
        ]


def _call_of(remote: Mapping[str, pl.DataFrame]) -> Callable[..., Any]:
    """Return the call that computes a remote table."""
    if set(remote) == set(CONCENTRATION):
        return concentration
    columns = remote[""].columns
    if set(columns) & set(_USERS_ONLY):
        return user_accounting
    if set(columns) & set(_GROWTH_ONLY):
        return growth_accounting
    raise SchemaError(
        f"remote has the columns {listed(columns)}",
        value=columns,
        expected="Termina's cohorts, customer cohorts, accountings or concentration, or Adapty's segments and values",
    )


def _typed(table: pl.DataFrame) -> pl.DataFrame:
    """Return the known fields of a frame with their types; shares that are keys become text."""
    known = {name: dtype for fields in _FRAMES for name, dtype in schema(fields).items()}
    casts = [
        pl.col(name) if table.schema[name].is_integer() else pl.col(name).cast(known[name], strict=False)
        for name in table.columns
        if name in known
    ]
    typed = table.select(casts)
    if "method" not in typed.columns:
        return typed
    points = [f"{share:.12g}" for share in typed["cdf_users"].to_list() if share is not None]
    return typed.drop_nulls("cdf_users").with_columns(pl.Series("cdf_users", points, pl.String))


_FRAMES = (USER_ACCOUNTING, GROWTH_ACCOUNTING, *CONCENTRATION.values())
