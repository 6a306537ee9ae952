"""Two tables joined on their keys: how many cells agree, and each cell with its outcome where it is asked for."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import polars as pl

from cohortlib.compare.reconcile import tolerances as allowed
from cohortlib.compare.reconcile.fields import OUTCOME, OUTCOMES, Field, Nature
from cohortlib.compare.reconcile.join import (
    alike_types,
    as_the_other,
    flattened,
    has_nulls,
    in_step,
    joined_rows,
    others_of,
    refuse_non_numbers,
)
from cohortlib.compare.reconcile.sides import hashes, join_ready, keys_of, refuse_repeats, written
from cohortlib.compare.reconcile.tolerances import Tolerance, Tolerances
from cohortlib.errors import SchemaError
from cohortlib.fields import tolerance_of


@dataclass(frozen=True, eq=False, repr=False)
class Compared:
    """Two tables of one kind, compared.

    Attributes
    ----------
    name
        ``"segments"`` or ``"values"`` of an Answer, else nothing.
    keys, fields
        What rows are joined on, and what is compared.
    local, remote
        Keys and fields of both sides, of the same types.
    local_rows, remote_rows
        The rows that make the pairs; None where each row stands beside its own.
    matches
        For each field the number of cells that match.
    only_local_fields, only_remote_fields
        What only one side has.
    """

    name: str
    keys: tuple[str, ...]
    fields: tuple[Field, ...]
    local: pl.DataFrame
    remote: pl.DataFrame
    local_rows: pl.Series | None
    remote_rows: pl.Series | None
    matches: tuple[int, ...]
    only_local_fields: tuple[str, ...]
    only_remote_fields: tuple[str, ...]

    @property
    def paired(self) -> int:
        """The number of rows that both sides have."""
        return self.local.height if self.local_rows is None else len(self.local_rows)

    @property
    def only_local(self) -> int:
        """The number of rows that only the local side has."""
        return self.local.height - self.paired

    @property
    def only_remote(self) -> int:
        """The number of rows that only the remote side has."""
        return self.remote.height - self.paired

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
        """The keys of what a person looks at first: a cohort, a segment, a date."""
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
        """The usual size of each field's values, by which differences of several fields are set against each other."""
        scales = {}
        for field in self.fields:
            scales[field.name] = 1.0
            if field.measured:
                sides = [frame[field.name].cast(pl.Float64).abs() for frame in (self.local, self.remote)]
                count = sum(len(side) - side.null_count() for side in sides)
                # the mean of a share of each, for a sum of what is near the largest float is none
                scales[field.name] = float(sum((side / max(count, 1)).sum() for side in sides)) or 1.0
        return scales

    def within(self, chosen: pl.DataFrame) -> "Compared":
        """Compare again only the rows that have some values of keys."""
        names = chosen.columns
        local, remote = (frame.join(chosen, on=names, how="semi") for frame in (self.local, self.remote))
        return paired(self.name, self.keys, self.fields, local, remote)

    def sizes(self) -> pl.DataFrame:
        """Count the cells of each cohort, segment or date."""
        rows = pl.concat([self.local.select(self.group), self.unpaired[1].select(self.group)])
        return rows.group_by(self.group).agg(pl.len().cast(pl.Int64).alias("cells") * len(self.fields))

    def summary(self) -> pl.DataFrame:
        """Count the outcomes of each field, and find its largest difference."""
        rows = []
        for field in self.fields:
            found = dict(self.pairs.select(field.outcome().alias("outcome")).group_by("outcome").len().iter_rows())
            found |= {"only_local": self.only_local, "only_remote": self.only_remote}
            counts = {outcome: found.get(outcome, 0) for outcome in OUTCOMES}
            largest, where = self._largest(field)
            name = {"table": self.name, "field": field.name}
            rows.append(name | {"cells": self.rows} | counts | {"largest": largest, "where": where})
        types: dict[str, type[pl.DataType]] = {"table": pl.String, "field": pl.String, "cells": pl.Int64}
        types |= dict.fromkeys(OUTCOMES, pl.Int64) | {"largest": pl.Float64, "where": pl.String}
        return pl.DataFrame(rows, schema=types)

    def _largest(self, field: Field) -> tuple[float | None, str | None]:
        """Find the largest difference of a field, and the first row that has it."""
        apart = self.pairs.select(*self.keys, field.difference().alias("difference"))
        size = pl.col("difference").abs()
        top = apart.filter((size == size.max()) & (size > 0)).sort(self.keys).head(1)
        if top.is_empty():
            return (0.0 if apart["difference"].count() else None), None
        row = top.row(0, named=True)
        return row.pop("difference"), written(row)

    def cells(self, differing: bool = False) -> pl.DataFrame:
        """Give a row for each cell, or for each that does not match, with its `weight`, by field."""
        return pl.concat(self.cells_of(field, differing) for field in self.fields)

    def cells_of(self, field: Field, differing: bool = False) -> pl.DataFrame:
        """Give the cells of one field."""
        return pl.concat(self._parts_of(field, differing))

    def _parts_of(self, field: Field, differing: bool) -> Iterator[pl.DataFrame]:
        pairs = self.pairs.filter(~field.agree()) if differing else self.pairs
        yield self._long(field, pairs, field.local, field.remote, field.difference(), field.outcome())
        missing = pl.lit(None, self.local.schema[field.name])
        nothing = pl.lit(None, pl.Float64)
        for side, rows in zip(("only_local", "only_remote"), self.unpaired, strict=True):
            value = pl.col(field.name)
            both = (value, missing) if side == "only_local" else (missing, value)
            yield self._long(field, rows, *both, nothing, pl.lit(side).cast(OUTCOME))

    def _long(
        self, field: Field, rows: pl.DataFrame, local: pl.Expr, remote: pl.Expr, difference: pl.Expr, outcome: pl.Expr
    ) -> pl.DataFrame:
        def number(value: pl.Expr) -> pl.Expr:
            return pl.lit(None, pl.Float64) if field.nature == "text" else value.cast(pl.Float64)

        def text(value: pl.Expr) -> pl.Expr:
            return value.cast(pl.String) if field.nature == "text" else pl.lit(None, pl.String)

        texts = {}
        if any(each.nature == "text" for each in self.fields):
            texts = {"local_text": text(local), "remote_text": text(remote)}
        weight = pl.lit(1.0)
        if field.measured:
            # a value that is nowhere on the other side weighs what it is
            gap = pl.coalesce(difference, number(local), number(remote), pl.lit(0.0)).abs()
            weight = (gap / self.scales[field.name]).round_sig_figs(6)
        return rows.select(
            pl.lit(self.name or None, pl.String).alias("table"),
            *self.keys,
            pl.lit(field.name).cast(self._names).alias("field"),
            local=number(local),
            remote=number(remote),
            **texts,
            difference=difference,
            outcome=outcome,
            weight=weight,
        )

    @cached_property
    def _names(self) -> pl.Enum:
        return pl.Enum([field.name for field in self.fields])


def compare(
    local: pl.DataFrame, remote: pl.DataFrame, name: str = "", tolerances: Tolerances | None = None
) -> Compared:
    """Compare two tables of one kind."""
    local, remote = as_the_other(local, remote), as_the_other(remote, local)
    keys = keys_of(local, remote)
    local, remote = join_ready(flattened(local, remote), flattened(remote, local), keys)
    common = [field for field in local.columns if field in remote.columns and field not in keys]
    if not common:
        raise SchemaError(
            f"the sides have no field in common{f' in {name}' if name else ''}: local has {others_of(local, keys)}, "
            f"remote has {others_of(remote, keys)}"
        )
    local_fields, remote_fields, natures = {}, {}, {}
    for field in common:
        local_fields[field], remote_fields[field], natures[field] = alike_types(local[field], remote[field])
    texts = [field for field, nature in natures.items() if nature in ("text", "truth")]
    given = allowed.read(tolerances, common, texts)
    fields = tuple(Field(field, natures[field], given.get(field) or _usual(field, natures[field])) for field in common)
    only = [tuple(sorted(set(a.columns) - set(b.columns))) for a, b in ((local, remote), (remote, local))]
    local = local.select(keys).hstack(list(local_fields.values()))
    remote = remote.select(keys).hstack(list(remote_fields.values()))
    for side, frame in (("local", local), ("remote", remote)):
        refuse_non_numbers(frame, keys, fields, side)
    return paired(name, keys, fields, local, remote, only[0], only[1])


def paired(
    name: str,
    keys: tuple[str, ...],
    fields: tuple[Field, ...],
    local: pl.DataFrame,
    remote: pl.DataFrame,
    only_local_fields: tuple[str, ...] = (),
    only_remote_fields: tuple[str, ...] = (),
) -> Compared:
    """Pair the rows of two tables of the same types, and count what matches."""
    rows: tuple[pl.Series | None, pl.Series | None] = (None, None)
    numbers = hashes(local, keys)
    refuse_repeats(local, keys, "local", numbers)
    if not in_step(local, remote, keys):
        others = hashes(remote, keys)
        refuse_repeats(remote, keys, "remote", others)
        rows = joined_rows(local, remote, keys, numbers, others)
    pairs = side_by_side(local, remote, (), fields, *rows)
    counts = pairs.select(field.agree(has_nulls(pairs, field)).sum().alias(field.name) for field in fields).row(0)
    return Compared(name, keys, fields, local, remote, *rows, counts, only_local_fields, only_remote_fields)


def side_by_side(
    local: pl.DataFrame,
    remote: pl.DataFrame,
    keys: tuple[str, ...],
    fields: tuple[Field, ...],
    local_rows: pl.Series | None,
    remote_rows: pl.Series | None,
) -> pl.DataFrame:
    """Lay the rows that both sides have side by side."""
    names = [field.name for field in fields]
    left = local.select(*keys, pl.col(names).name.prefix("local "))
    right = remote.select(pl.col(names).name.prefix("remote "))
    if local_rows is not None and remote_rows is not None:
        left, right = left[local_rows], right[remote_rows]
    return pl.concat([left, right], how="horizontal")


def worst_lines(everything: pl.DataFrame, differing: pl.DataFrame, limit: int, most: int) -> pl.DataFrame:
    """Choose the lines that are worst, then the first ones, up to a number of cells and of lines; one at least."""
    order = pl.concat([differing.unique(maintain_order=True), everything.unique(maintain_order=True).sort(pl.all())])
    order = order.unique(maintain_order=True).head(max(most, 1))
    sizes = everything.group_by(pl.all()).len("cells")
    order = order.join(sizes, on=everything.columns, how="left", maintain_order="left")
    fitting = order.filter((pl.col("cells").cum_sum() <= limit) | (pl.int_range(pl.len()) == 0))
    return fitting.drop("cells")


def without(frame: pl.DataFrame, rows: pl.Series) -> pl.DataFrame:
    """Give the rows that are not among some."""
    kept = pl.Series([True]).new_from_index(0, frame.height)
    return frame.filter(kept.scatter(rows, False))


def _usual(field: str, nature: Nature) -> Tolerance:
    return Tolerance(tolerance_of(field)) if nature == "number" else allowed.EXACT
