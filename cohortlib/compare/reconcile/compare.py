"""Compare a computed table with the vendor's, cell by cell."""

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import polars as pl

from cohortlib.compare.reconcile.files import labelled
from cohortlib.compare.reconcile.page import Preface, render
from cohortlib.compare.reconcile.pairing import Compared, compare
from cohortlib.compare.reconcile.sides import Side, tables
from cohortlib.compare.reconcile.tolerances import Tolerances
from cohortlib.compare.reconcile.words import cells_block, cohorts_block, left_out, rows_block, sentence, summary_block
from cohortlib.engine.files import atomic_write
from cohortlib.errors import SchemaError, SettingError


def reconcile(local: Side, remote: Side, *, tolerances: Tolerances | None = None) -> "Report":
    """Compare two tables of one kind, cell by cell.

    A cell is a field of a row that either side has; rows are joined on their keys, whatever their order. Numbers agree
    where they are at most the larger of an absolute tolerance and a relative one times the remote value apart; counts
    and text agree where they are equal. Two nulls agree.

    Parameters
    ----------
    local, remote
        The sides: frames with the fields of Termina or Adapty (polars, pandas, pyarrow, DuckDB), the
        :class:`~cohortlib.adapty.Answer` of Adapty's cohort API, or the path of a Parquet, CSV or JSON file of these.
        Their keys are found from their columns: cohort and period (and user_id), segment_start_date and type (and
        period), or date.
    tolerances
        For fields that are to have others than the usual ones: the absolute, or the absolute and the relative.
        Usual are 0.005 for money, 1e-6 for ratios, 1e-4 for Adapty's percentages, and 0 for integers.

    Returns
    -------
    Report

    Raises
    ------
    SchemaError
        Where the sides are not of one kind, have no field in common, or types that cannot be compared.
    DataError
        Where a key is null or stands twice, or a value is NaN or infinite.
    SettingError
        Where a tolerance names no field that both sides have, or is none.

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
    sides = tables(local, "local"), tables(remote, "remote")
    if set(sides[0]) != set(sides[1]):
        holders = [" and ".join(names) if "" not in names else "one table" for names in sides]
        raise SchemaError(
            f"local holds {holders[0]}, remote holds {holders[1]}; expected tables of one kind. Hint: of an Answer, "
            "give .values or .segments"
        )
    if isinstance(remote, str | Path):
        sides = sides[0], {name: labelled(table, sides[0][name]) for name, table in sides[1].items()}
    if isinstance(local, str | Path):
        sides = {name: labelled(table, sides[1][name]) for name, table in sides[0].items()}, sides[1]
    names = list(sides[0])
    if len(names) == 1:
        return Report((compare(sides[0][names[0]], sides[1][names[0]], names[0], tolerances),))
    return Report(_both(*sides, tolerances))


def _both(
    local: dict[str, pl.DataFrame], remote: dict[str, pl.DataFrame], tolerances: Tolerances | None
) -> tuple[Compared, ...]:
    """Compare the two tables of Answers; a tolerance is for the table that has its field."""
    known: dict[str, set[str]] = {
        name: {
            field
            for frame in (local[name], remote[name])
            for column in frame.columns
            for field in ([f"predict_{part}" for part in ("revenue_usd", "ltv_usd", "months")]
                          if column == "predict" else [column])
        }
        for name in local
    }  # fmt: skip
    for field in tolerances or {}:
        if not any(field in names for names in known.values()):
            raise SettingError(f"tolerances: {field!r} is no field that is compared")
    return tuple(
        compare(
            local[name],
            remote[name],
            name,
            {field: value for field, value in (tolerances or {}).items() if field in known[name]},
        )
        for name in local
    )


_ORDER = {"match": 0, "differ": 0, "null_local": 1, "null_remote": 1, "only_local": 2, "only_remote": 2}


@dataclass(frozen=True, eq=False, repr=False)
class Report:
    """What agrees and what differs between two tables.

    Attributes
    ----------
    tables
        The tables that were compared: one, or the segments and the values of an Answer.
    """

    tables: tuple[Compared, ...]

    def __str__(self) -> str:
        blocks = (
            summary_block(self.summary),
            cohorts_block(self.cohorts),
            cells_block(self.differences),
            rows_block(self.tables),
        )
        return "\n\n".join([self.sentence, *(str(block) for block in blocks if block), *left_out(self.tables)])

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
        """Tell whether every cell matches."""
        return self.agreeing == self.total

    @cached_property
    def sentence(self) -> str:
        """Say how many cells agree, how the others are, and what they have in common."""
        return sentence(self.tables, self.differences)

    @property
    def only_local_fields(self) -> tuple[str, ...]:
        """The fields that only the local side has; they count neither way."""
        return tuple(field for table in self.tables for field in table.only_local_fields)

    @property
    def only_remote_fields(self) -> tuple[str, ...]:
        """The fields that only the remote side has; they count neither way."""
        return tuple(field for table in self.tables for field in table.only_remote_fields)

    @cached_property
    def cells(self) -> pl.DataFrame:
        """Every cell: table (of an Answer), keys, field, local, remote, difference, outcome.

        Values are Float64 (a truth is 0 or 1); where texts are compared, they stand in local_text and remote_text.
        A difference is local − remote, and null where there is no number on a side. Cells come field by field, rows of
        both sides first.
        """
        return self._joined([table.cells() for table in self.tables]).drop("weight")

    @cached_property
    def differences(self) -> pl.DataFrame:
        """The cells that do not match, the worst first, in the columns of `cells`.

        Worst is what is furthest off in terms of the mean size of its field's values, so that money, counts and ratios
        can be set against each other; a text is off by 1. Then come the cells that are null on a side, and last those
        of rows that only one side has, by what they hold.
        """
        return self._weighed.drop("weight")

    @cached_property
    def _weighed(self) -> pl.DataFrame:
        cells = self._joined([table.cells(differing=True) for table in self.tables])
        keys = [name for name in cells.columns[: cells.columns.index("field") + 1] if name != "table"]
        first = ["table"] if "table" in cells.columns else []
        kind = pl.col("outcome").replace_strict(_ORDER, return_dtype=pl.UInt8)
        return cells.sort(kind, "weight", *first, *keys, descending=[False, True, *[False] * len([*first, *keys])])

    def _joined(self, parts: list[pl.DataFrame]) -> pl.DataFrame:
        if len(parts) == 1:
            return parts[0] if self.tables[0].name else parts[0].drop("table")
        names = pl.Enum(list(dict.fromkeys(field.name for table in self.tables for field in table.fields)))
        order = [
            "table",
            *dict.fromkeys(key for table in self.tables for key in table.keys),
            "field",
            "local",
            "remote",
            *(name for name in ("local_text", "remote_text") if any(name in part.columns for part in parts)),
            "difference",
            "outcome",
            "weight",
        ]
        parts = [part.with_columns(pl.col("field").cast(pl.String).cast(names)) for part in parts]
        return pl.concat(parts, how="diagonal").select(order)

    @cached_property
    def summary(self) -> pl.DataFrame:
        """A row for each field: table (of an Answer), field, cells, the number of each outcome, largest, where.

        `largest` is the largest difference of two values, those within the tolerance too, and `where` its first row.
        """
        parts = [table.summary() for table in self.tables]
        return pl.concat(parts) if self.tables[0].name else parts[0].drop("table")

    @cached_property
    def cohorts(self) -> pl.DataFrame:
        """A row for each cohort (segment, date): cells, agreeing, worst_field and worst_difference.

        The cohorts that hold the worst cells come first, as in `differences`; then those where all agree. The worst
        difference is one of two numbers where there is one.
        """

        def measured(column: str) -> pl.Expr:
            return pl.col(column).filter(pl.col("difference").is_not_null()).first()

        group = self.tables[0].group
        sizes = pl.concat(table.sizes() for table in self.tables).group_by(group).agg(pl.col("cells").sum())
        worst = (
            self._weighed.lazy()
            .with_columns(pl.col("field").cast(pl.String))
            .with_row_index("place")
            .group_by(group, maintain_order=True)
            .agg(
                place=pl.col("place").first(),
                differing=pl.len(),
                worst_field=pl.coalesce(measured("field"), pl.col("field").first()),
                worst_difference=measured("difference"),
            )
        )
        return (
            sizes.lazy()
            .join(worst, on=group, how="left")
            .with_columns(pl.col("differing").fill_null(0))
            .sort("place", *group, nulls_last=True)
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
        """Give all but the cells that agree as Python values; of the differences the `limit` worst, None for all."""
        differences = self.differences if limit is None else self.differences.head(limit)
        return {
            "ok": self.ok,
            "agreeing": self.agreeing,
            "total": self.total,
            "sentence": self.sentence,
            "only_local_fields": list(self.only_local_fields),
            "only_remote_fields": list(self.only_remote_fields),
            "summary": self.summary.to_dicts(),
            "cohorts": _plain(self.cohorts),
            "differences": _plain(differences),
        }

    def to_json(self, limit: int | None = 1000) -> str:
        """Give what :meth:`to_dict` gives as JSON."""
        return json.dumps(self.to_dict(limit), ensure_ascii=False, allow_nan=False)

    def to_html(self, preface: Preface | None = None) -> str:
        """Make a page that shows both tables and their difference, and needs nothing else; needs Jinja2."""
        return render(self.tables, self.sentence, self.summary, self.cohorts, self.differences, preface or Preface())

    def save_html(self, path: str | Path) -> None:
        """Write the page of :meth:`to_html` to a file."""
        page = self.to_html()
        with atomic_write(Path(path)) as stream:
            stream.write(page.encode())


def _plain(frame: pl.DataFrame) -> list[dict[str, Any]]:
    """Give rows of what JSON knows."""
    return frame.with_columns(pl.selectors.temporal().cast(pl.String)).to_dicts()
