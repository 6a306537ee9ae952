"""Pair the rows of two tables, count the cells that agree, and return cells with their outcomes."""

from collections.abc import Container
from dataclasses import dataclass
from functools import cached_property

import polars as pl

from cohortlib.compare.reconcile import join
from cohortlib.compare.reconcile.outcomes import OUTCOME, OUTCOMES, PairedField
from cohortlib.compare.reconcile.rounding import with_rounding
from cohortlib.compare.reconcile.sides import hashes, join_ready, key_text, keys_of, refuse_repeats
from cohortlib.compare.reconcile.tolerances import EXACT, Tolerance, Tolerances, checked
from cohortlib.errors import SchemaError
from cohortlib.fields import tolerance_of


@dataclass(frozen=True, eq=False, repr=False)
class ComparedTable:
    """Two tables of the same kind, compared."""

    name: str  # "segments" or "values" for an Answer, else ""
    keys: tuple[str, ...]  # rows are joined on them
    fields: tuple[PairedField, ...]
    local: pl.DataFrame  # keys and fields, with the same types as in `remote`
    remote: pl.DataFrame
    # The row numbers of the pairs; None if both sides have the same keys in the same order.
    local_rows: pl.Series | None
    remote_rows: pl.Series | None
    matches: tuple[int, ...]  # by field, the number of cells that match
    only_local_fields: tuple[str, ...]
    only_remote_fields: tuple[str, ...]

    @property
    def paired(self) -> int:
        """The number of rows that both sides have."""
        return self.local.height if self.local_rows is None else len(self.local_rows)

    @property
    def rows(self) -> int:
        """The number of rows that either side has."""
        return self.local.height + self.remote.height - self.paired

    @property
    def total(self) -> int:
        """The number of cells."""
        return self.rows * len(self.fields)

    @property
    def agreeing(self) -> int:
        """The number of cells that match."""
        return sum(self.matches)

    @property
    def group(self) -> tuple[str, ...]:
        """The keys of a cohort, a segment or a date: what a reader looks at first."""
        return self.keys[:2] if self.keys[0] == "segment_start_date" else self.keys[:1]

    @cached_property
    def pairs(self) -> pl.DataFrame:
        """The keys of the rows that both sides have, and the values of both."""
        return side_by_side(self.local, self.remote, self.keys, self.fields, self.local_rows, self.remote_rows)

    @cached_property
    def unpaired(self) -> tuple[pl.DataFrame, pl.DataFrame]:
        """The rows that only the local side has, and those that only the remote side has."""
        if self.local_rows is None or self.remote_rows is None:
            return self.local.clear(), self.remote.clear()
        return without(self.local, self.local_rows), without(self.remote, self.remote_rows)

    @cached_property
    def scales(self) -> dict[str, float]:
        """The mean size of each field's values, to compare differences of several fields."""
        scales = {}
        for field in self.fields:
            scales[field.name] = 1.0
            if field.numeric:
                sides = [frame[field.name].cast(pl.Float64).abs() for frame in (self.local, self.remote)]
                count = sum(len(side) - side.null_count() for side in sides)
                # Divide before summing, to avoid an overflow.
                scales[field.name] = float(sum((side / max(count, 1)).sum() for side in sides)) or 1.0
        return scales

    def within(self, chosen: pl.DataFrame) -> "ComparedTable":
        """Compare only the rows with the chosen values of keys."""
        names = chosen.columns
        local, remote = (frame.join(chosen, on=names, how="semi") for frame in (self.local, self.remote))
        return paired(self.name, self.keys, self.fields, local, remote)

    def sizes(self) -> pl.DataFrame:
        """Count the cells of each cohort, segment or date."""
        rows = pl.concat([self.local.select(self.group), self.unpaired[1].select(self.group)])
        return rows.group_by(self.group).agg(pl.len().cast(pl.Int64).alias("cells") * len(self.fields))

    def summary(self) -> pl.DataFrame:
        """Return the number of each outcome per field, and its largest difference."""
        rows: list[dict[str, object]] = []
        for field in self.fields:
            outcomes = self.pairs.select(field.outcome().alias("outcome")).group_by("outcome").len()
            one_sided = {"only_local": self.unpaired[0].height, "only_remote": self.unpaired[1].height}
            counts = dict.fromkeys(OUTCOMES, 0) | dict(outcomes.iter_rows()) | one_sided
            largest, where = self._largest(field)
            name = {"table": self.name, "field": field.name, "cells": self.rows}
            rows.append({**name, **counts, "largest": largest, "where": where})
        types: dict[str, type[pl.DataType]] = {"table": pl.String, "field": pl.String, "cells": pl.Int64}
        types |= dict.fromkeys(OUTCOMES, pl.Int64) | {"largest": pl.Float64, "where": pl.String}
        return pl.DataFrame(rows, schema=types)

    def _largest(self, field: PairedField) -> tuple[float | None, str | None]:
        """Return the largest difference of a field, and the first row that has it."""
        apart = self.pairs.select(*self.keys, field.difference().alias("difference"))
        size = pl.col("difference").abs()
        top = apart.filter((size == size.max()) & (size > 0)).sort(self.keys).head(1)
        if top.is_empty():
            return (0.0 if apart["difference"].count() else None), None
        row = top.row(0, named=True)
        return row.pop("difference"), key_text(row)

    def cells(self, differing: bool = False) -> pl.DataFrame:
        """Return one row per cell, or per cell that does not match, with its `weight`, field by field."""
        return pl.concat(self.cells_of(field, differing) for field in self.fields)

    def cells_of(self, field: PairedField, differing: bool = False) -> pl.DataFrame:
        """Return the cells of one field."""
        pairs = self.pairs.filter(~field.agree()) if differing else self.pairs
        value, missing = pl.col(field.name), pl.lit(None, self.local.schema[field.name])
        nothing = pl.lit(None, pl.Float64)
        only_local, only_remote = (pl.lit(side).cast(OUTCOME) for side in ("only_local", "only_remote"))
        return pl.concat([
            self._long(field, pairs, field.local, field.remote, field.difference(), field.outcome()),
            self._long(field, self.unpaired[0], value, missing, nothing, only_local),
            self._long(field, self.unpaired[1], missing, value, nothing, only_remote),
        ])  # fmt: skip

    def _long(
        self,
        field: PairedField,
        rows: pl.DataFrame,
        local: pl.Expr,
        remote: pl.Expr,
        difference: pl.Expr,
        outcome: pl.Expr,
    ) -> pl.DataFrame:
        def number(value: pl.Expr) -> pl.Expr:
            return pl.lit(None, pl.Float64) if field.value_type == "text" else value.cast(pl.Float64)

        def text(value: pl.Expr) -> pl.Expr:
            return value.cast(pl.String) if field.value_type == "text" else pl.lit(None, pl.String)

        texts = {}
        if any(each.value_type == "text" for each in self.fields):
            texts = {"local_text": text(local), "remote_text": text(remote)}
        weight = pl.lit(1.0)
        if field.numeric:
            # A value that the other side lacks counts in full.
            gap = pl.coalesce(difference, number(local), number(remote), pl.lit(0.0)).abs()
            weight = (gap / self.scales[field.name]).round_sig_figs(6)
        return rows.select(
            pl.lit(self.name or None, pl.String).alias("table"),
            *self.keys,
            pl.lit(field.name).cast(pl.Enum([each.name for each in self.fields])).alias("field"),
            local=number(local),
            remote=number(remote),
            **texts,
            difference=difference,
            outcome=outcome,
            weight=weight,
        )


def compare(
    local: pl.DataFrame, remote: pl.DataFrame, name: str = "", tolerances: Tolerances | None = None
) -> ComparedTable:
    """Compare two tables of the same kind."""
    local, remote = join.with_columns_of(local, remote), join.with_columns_of(remote, local)
    keys = keys_of(local, remote)
    local, remote = join_ready(join.flattened(local, remote), join.flattened(remote, local), keys)
    common = [field for field in local.columns if field in remote.columns and field not in keys]
    if not common:
        raise SchemaError(
            f"the sides have no field in common{f' in {name}' if name else ''}: local has "
            f"{join.listed_fields(local, keys)}, remote has {join.listed_fields(remote, keys)}"
        )
    local_fields, remote_fields, types = {}, {}, {}
    for field in common:
        local_fields[field], remote_fields[field], types[field] = join.with_same_type(local[field], remote[field])
    texts = [field for field, value_type in types.items() if value_type in ("text", "boolean")]
    custom = checked(tolerances, common, texts)
    fields = tuple(
        PairedField(field, kind, custom.get(field) or (Tolerance(tolerance_of(field)) if kind == "float" else EXACT))
        for field, kind in types.items()
    )
    only = [tuple(sorted(set(a.columns) - set(b.columns))) for a, b in ((local, remote), (remote, local))]
    local = local.select(keys).hstack(list(local_fields.values()))
    remote = remote.select(keys).hstack(list(remote_fields.values()))
    for side, frame in (("local", local), ("remote", remote)):
        join.refuse_non_numbers(frame, keys, fields, side)
    return paired(name, keys, fields, local, remote, only[0], only[1], [name for name in common if name not in custom])


def paired(
    name: str,
    keys: tuple[str, ...],
    fields: tuple[PairedField, ...],
    local: pl.DataFrame,
    remote: pl.DataFrame,
    only_local_fields: tuple[str, ...] = (),
    only_remote_fields: tuple[str, ...] = (),
    roundable: Container[str] = (),
) -> ComparedTable:
    """Pair the rows of two tables with the same types, and count the cells that match.

    The fields in `roundable` are compared at the decimal places to which one side is rounded.
    """
    rows: tuple[pl.Series | None, pl.Series | None] = (None, None)
    local_hashes = hashes(local, keys)
    refuse_repeats(local, keys, "local", local_hashes)
    if not join.have_equal_keys(local, remote, keys):
        remote_hashes = hashes(remote, keys)
        refuse_repeats(remote, keys, "remote", remote_hashes)
        rows = join.joined_rows(local, remote, keys, local_hashes, remote_hashes)
    pairs = side_by_side(local, remote, (), fields, *rows)
    fields = tuple(with_rounding(field, pairs) if field.name in roundable else field for field in fields)
    counts = pairs.select(field.agree(join.has_nulls(pairs, field)).sum().alias(field.name) for field in fields).row(0)
    return ComparedTable(name, keys, fields, local, remote, *rows, counts, only_local_fields, only_remote_fields)


def side_by_side(
    local: pl.DataFrame,
    remote: pl.DataFrame,
    keys: tuple[str, ...],
    fields: tuple[PairedField, ...],
    local_rows: pl.Series | None,
    remote_rows: pl.Series | None,
) -> pl.DataFrame:
    """Return the rows that both sides have, with the values of both as columns."""
    names = [field.name for field in fields]
    left = local.select(*keys, pl.col(names).name.prefix("local "))
    right = remote.select(pl.col(names).name.prefix("remote "))
    if local_rows is not None and remote_rows is not None:
        left, right = left[local_rows], right[remote_rows]
    return pl.concat([left, right], how="horizontal")


def worst_lines(all_lines: pl.DataFrame, differing: pl.DataFrame, max_cells: int, max_lines: int) -> pl.DataFrame:
    """Return the worst lines, then the first ones, up to a number of cells and of lines; at least one."""
    order = pl.concat([differing.unique(maintain_order=True), all_lines.unique(maintain_order=True).sort(pl.all())])
    order = order.unique(maintain_order=True).head(max(max_lines, 1))
    sizes = all_lines.group_by(pl.all()).len("cells")
    order = order.join(sizes, on=all_lines.columns, how="left", maintain_order="left")
    fitting = order.filter((pl.col("cells").cum_sum() <= max_cells) | (pl.int_range(pl.len()) == 0))
    return fitting.drop("cells")


def without(frame: pl.DataFrame, rows: pl.Series) -> pl.DataFrame:
    """Return the frame without some rows, given by number."""
    kept = pl.Series([True]).new_from_index(0, frame.height)
    return frame.filter(kept.scatter(rows, False))
