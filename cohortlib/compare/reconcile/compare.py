"""Compare a computed table with the vendor's, cell by cell."""

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import polars as pl

from cohortlib.compare.reconcile import describe
from cohortlib.compare.reconcile.join import flattened
from cohortlib.compare.reconcile.matching import in_one_form
from cohortlib.compare.reconcile.page import Preface, render
from cohortlib.compare.reconcile.pairing import ComparedTable, compare
from cohortlib.compare.reconcile.rounding import describe as rounding_words
from cohortlib.compare.reconcile.sides import Side, tables
from cohortlib.compare.reconcile.tolerances import Tolerances, unknown_field
from cohortlib.engine.files import atomic_write
from cohortlib.errors import SchemaError
from cohortlib.forks import check_fork


def reconcile(local: Side, remote: Side, *, tolerances: Tolerances | None = None) -> "Report":
    """Compare two tables of the same kind, cell by cell.

    A cell is one field of one row that either side has. Rows are joined on their keys; their order does not matter.
    Numbers agree if they are at most ``max(absolute tolerance, relative tolerance * |remote|)`` apart; counts and text
    agree if they are equal. Two nulls agree.

    Tables may be written in different forms: labels such as Jan-26 or month ends, percentages, rounded values, rows of
    zeros left out, one column per period. What is certain is brought to one form and listed in `forms` of the report.

    Parameters
    ----------
    local, remote
        The sides: frames with the fields of Termina or Adapty (polars, pandas, pyarrow, DuckDB), the
        :class:`~cohortlib.adapty.Answer` of Adapty's cohort API, the :class:`~cohortlib.termina.Concentration` of
        Termina's, or the path of a Parquet, CSV or JSON file of these. The keys depend on the columns: cohort and
        period (and user_id), segment_start_date and type (and period), date, user_id of top users, or method and
        cdf_users of a distribution.
    tolerances
        Tolerances by field, instead of the defaults: an absolute one, or an absolute and a relative one. The defaults
        are 0.005 for money, 1e-6 for ratios, 1e-4 for Adapty's percentages, and 0 for integers.

    Returns
    -------
    Report

    Raises
    ------
    SchemaError
        If the sides are not of the same kind, have no field in common, or have types that cannot be compared.
    DataError
        If a key is null or repeated, a value is NaN or infinite, a count is negative, labels are written in several
        forms or are ambiguous dates, or only some values of a field are numbers.
    SettingError
        If a tolerance is for a field that is not compared, or is not a number >= 0.

    Examples
    --------
    >>> import cohortlib as cl
    >>> import polars as pl
    >>> local = pl.DataFrame({"cohort": ["2026-01", "2026-01"], "period": [0, 1], "amount": [150.0, 80.0]})
    >>> remote = pl.DataFrame({"cohort": ["2026-01", "2026-01"], "period": [0, 1], "amount": [150.004, 80.01]})
    >>> report = cl.reconcile(local, remote)
    >>> report
    Report(1 of 2 cells agree)
    >>> report.differences.select("cohort", "period", "field", "local", "remote", "outcome").rows()
    [('2026-01', 1, 'amount', 80.0, 80.01, 'differ')]
    """
    check_fork()
    sides = _sides(local, remote)
    written: dict[str, None] = {}
    for name in sides[0]:
        sides[0][name], sides[1][name], words = in_one_form(sides[0][name], sides[1][name])
        written |= dict.fromkeys(words)
    return Report(_compared(*sides, tolerances), tuple(written))


def reconcile_as_written(local: Side, remote: Side, *, tolerances: Tolerances | None = None) -> "Report":
    """Compare two tables as `reconcile` does, without changing their form; only rounding is recognized."""
    return Report(_compared(*_sides(local, remote), tolerances))


def _sides(local: Side, remote: Side) -> tuple[dict[str, pl.DataFrame], dict[str, pl.DataFrame]]:
    """Read the tables of both sides by name."""
    sides = tables(local, "local"), tables(remote, "remote")
    if set(sides[0]) != set(sides[1]):
        contents = [" and ".join(names) if "" not in names else "one table" for names in sides]
        raise SchemaError(
            f"local holds {contents[0]}, remote holds {contents[1]}",
            expected="tables of the same kind",
            hint="compare one frame of an Answer or a Concentration, such as .values",
        )
    return sides


def _compared(
    local: dict[str, pl.DataFrame], remote: dict[str, pl.DataFrame], tolerances: Tolerances | None
) -> tuple[ComparedTable, ...]:
    """Compare the tables of both sides."""
    if len(local) == 1:
        return tuple(compare(table, remote[name], name, tolerances) for name, table in local.items())
    return _compare_each(local, remote, tolerances or {})


def _compare_each(
    local: dict[str, pl.DataFrame], remote: dict[str, pl.DataFrame], tolerances: Tolerances
) -> tuple[ComparedTable, ...]:
    """Compare the tables of Answers or Concentrations. A tolerance applies to the tables that have its field."""
    fields = {
        name: {*flattened(local[name], remote[name]).columns, *flattened(remote[name], local[name]).columns}
        for name in local
    }
    for field in tolerances:
        if not any(field in names for names in fields.values()):
            raise unknown_field(field, sorted(set().union(*fields.values())))
    return tuple(
        compare(
            local[name],
            remote[name],
            name,
            {field: value for field, value in tolerances.items() if field in fields[name]},
        )
        for name in local
    )


_ORDER = {"match": 0, "differ": 0, "null_local": 1, "null_remote": 1, "only_local": 2, "only_remote": 2}


@dataclass(frozen=True, eq=False, repr=False)
class Report:
    """Which cells of two tables agree and which differ.

    Attributes
    ----------
    tables
        The compared tables: one, the segments and the values of an Answer, or the three of a Concentration.
    """

    tables: tuple[ComparedTable, ...]
    written: tuple[str, ...] = ()  # `forms` but for rounding

    @cached_property
    def forms(self) -> tuple[str, ...]:
        """How the tables are written, where that differs: labels, percentages, decimal places, rows left out.

        None of this counts as a difference.
        """
        rounded = (rounding_words(field, table.paired) for table in self.tables for field in table.fields)
        return (*self.written, *filter(None, rounded))

    def __str__(self) -> str:
        blocks = (
            describe.summary_block(self.summary),
            describe.cohorts_block(self.cohorts),
            describe.cells_block(self.differences),
            describe.rows_block(self.tables),
        )
        forms = ["\n".join(describe.form_lines(self.forms))] if self.forms else []
        return "\n\n".join(
            [self.sentence, *forms, *(str(block) for block in blocks if block), *describe.left_out(self.tables)]
        )

    def __repr__(self) -> str:
        return f"Report({self.agreeing:,} of {self.total:,} cells agree)"

    @property
    def total(self) -> int:
        """The number of cells."""
        return sum(table.total for table in self.tables)

    @property
    def agreeing(self) -> int:
        """The number of cells that match."""
        return sum(table.agreeing for table in self.tables)

    @property
    def ok(self) -> bool:
        """Whether all cells match."""
        return self.agreeing == self.total

    @cached_property
    def sentence(self) -> str:
        """One sentence: how many cells agree, the outcomes of the others, and what they have in common."""
        return describe.sentence(self.tables, self.differences)

    @property
    def only_local_fields(self) -> tuple[str, ...]:
        """The fields that only the local side has; they are not counted."""
        return tuple(field for table in self.tables for field in table.only_local_fields)

    @property
    def only_remote_fields(self) -> tuple[str, ...]:
        """The fields that only the remote side has; they are not counted."""
        return tuple(field for table in self.tables for field in table.only_remote_fields)

    @cached_property
    def cells(self) -> pl.DataFrame:
        """One row per cell: table (of an Answer), keys, field, local, remote, difference, outcome.

        Values are Float64 (booleans are 0 or 1); text values are in local_text and remote_text. The difference is
        local − remote, or null if a side has no number. Cells are ordered by field, rows of both sides first.
        """
        return self._joined([table.cells() for table in self.tables]).drop("weight")

    @cached_property
    def differences(self) -> pl.DataFrame:
        """The cells that do not match, worst first, with the columns of `cells`.

        Differences are ranked relative to the mean size of their field's values, so that money, counts and ratios are
        comparable; a text counts as 1. Then come cells that are null on one side, and last the cells of rows that only
        one side has, ranked by their values.
        """
        return self._ranked.drop("weight")

    @cached_property
    def _ranked(self) -> pl.DataFrame:
        cells = self._joined([table.cells(differing=True) for table in self.tables])
        keys = [name for name in cells.columns[: cells.columns.index("field") + 1] if name != "table"]
        first = ["table"] if "table" in cells.columns else []
        rank = pl.col("outcome").replace_strict(_ORDER, return_dtype=pl.UInt8)
        return cells.sort(rank, "weight", *first, *keys, descending=[False, True, *[False] * len([*first, *keys])])

    def _joined(self, parts: list[pl.DataFrame]) -> pl.DataFrame:
        if len(parts) == 1:
            return parts[0] if self.tables[0].name else parts[0].drop("table")
        names = pl.Enum(list(dict.fromkeys(field.name for table in self.tables for field in table.fields)))
        keys = dict.fromkeys(key for table in self.tables for key in table.keys)
        texts = [name for name in ("local_text", "remote_text") if any(name in part.columns for part in parts)]
        order = ["table", *keys, "field", "local", "remote", *texts, "difference", "outcome", "weight"]
        parts = [part.with_columns(pl.col("field").cast(pl.String).cast(names)) for part in parts]
        return pl.concat(parts, how="diagonal").select(order)

    @cached_property
    def summary(self) -> pl.DataFrame:
        """One row per field: table (of an Answer), field, cells, the number of each outcome, largest, where.

        `largest` is the largest difference, whether within the tolerance or not, and `where` the first row that has it.
        """
        parts = [table.summary() for table in self.tables]
        return pl.concat(parts) if self.tables[0].name else parts[0].drop("table")

    @cached_property
    def cohorts(self) -> pl.DataFrame:
        """One row per cohort (segment, date): cells, agreeing, worst_field and worst_difference.

        Cohorts with the worst cells come first, as in `differences`; then those where all cells agree. A difference
        between two numbers takes precedence over other outcomes.
        """

        def first_with_difference(column: str) -> pl.Expr:
            return pl.col(column).filter(pl.col("difference").is_not_null()).first()

        group = self.tables[0].group
        # Those of concentration have other groups: its top users and distribution are of one period.
        tables = [table for table in self.tables if table.group == group]
        sizes = pl.concat(table.sizes() for table in tables).group_by(group).agg(pl.col("cells").sum())
        worst = (
            self._ranked.lazy()
            .filter(pl.all_horizontal(pl.col(group).is_not_null()))
            .with_columns(pl.col("field").cast(pl.String))
            .with_row_index("rank")
            .group_by(group, maintain_order=True)
            .agg(
                rank=pl.col("rank").first(),
                differing=pl.len(),
                worst_field=pl.coalesce(first_with_difference("field"), pl.col("field").first()),
                worst_difference=first_with_difference("difference"),
            )
        )
        return (
            sizes.lazy()
            .join(worst, on=group, how="left")
            .with_columns(pl.col("differing").fill_null(0))
            .sort("rank", *group, nulls_last=True)
            .select(
                *group,
                "cells",
                (pl.col("cells") - pl.col("differing")).alias("agreeing"),
                "worst_field",
                "worst_difference",
            )
            .collect()
        )

    def to_dict(self, limit: int | None = 1000) -> dict[str, Any]:
        """Return everything but the agreeing cells as Python values; the `limit` worst differences, or None for all."""
        differences = self.differences if limit is None else self.differences.head(limit)
        return {
            "ok": self.ok,
            "agreeing": self.agreeing,
            "total": self.total,
            "sentence": self.sentence,
            "forms": list(self.forms),
            "only_local_fields": list(self.only_local_fields),
            "only_remote_fields": list(self.only_remote_fields),
            "summary": self.summary.to_dicts(),
            "cohorts": _json_rows(self.cohorts),
            "differences": _json_rows(differences),
        }

    def to_json(self, limit: int | None = 1000) -> str:
        """Return :meth:`to_dict` as JSON."""
        return json.dumps(self.to_dict(limit), ensure_ascii=False, allow_nan=False)

    def to_html(self, preface: Preface | None = None) -> str:
        """Return a self-contained HTML page with both tables and their difference. Needs Jinja2."""
        return render(
            self.tables,
            self.sentence,
            self.forms,
            self.summary,
            self.cohorts,
            self.differences,
            preface or Preface(),
        )

    def save_html(self, path: str | Path) -> None:
        """Write the page of :meth:`to_html` to a file."""
        page = self.to_html()
        with atomic_write(Path(path)) as stream:
            stream.write(page.encode())


def _json_rows(frame: pl.DataFrame) -> list[dict[str, Any]]:
    """Return rows of JSON types."""
    return frame.with_columns(pl.selectors.temporal().cast(pl.String)).to_dicts()
