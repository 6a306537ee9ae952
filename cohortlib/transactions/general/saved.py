"""Read saved sums of the general table and check them: a file can be damaged, or edited with any values."""

from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars as pl

from cohortlib.errors import CohortlibError
from cohortlib.periods import FIRST_DAY, LAST_DAY, TableCalendar, epoch_day
from cohortlib.read.arrays import Ints
from cohortlib.read.tables import PANIC
from cohortlib.transactions.general.additive import (
    LIMBS,
    MORE,
    SEGMENT,
    SQUARES,
    has_next,
    keys_of,
    limbs_of,
    segments_of,
    values_of,
)
from cohortlib.transactions.general.question import Question
from cohortlib.transactions.saved_sums import (
    check_amounts,
    check_last_day,
    check_magnitude,
    damaged_sums,
    read_sealed,
    refuse_rows,
)

MARK, VERSION = "cohortlib.table_sums", 1
_FACTS = {"version", "library", "digest", "rows", "conventions", "last_day", "magnitudes"}


class SavedTable(NamedTuple):
    """The contents of a file of sums: settings as they are in JSON."""

    settings: dict[str, Any]
    table: pl.DataFrame
    last_day: int | None
    magnitudes: tuple[int, ...]


def holds_table(path: Path) -> bool:
    """Return whether a file says that it holds sums of the general table."""
    try:
        return MARK in pl.read_parquet_metadata(path)
    except (pl.exceptions.PolarsError, OSError, PANIC):
        return False


def read_table(path: Path) -> SavedTable:
    """Read a file of sums; raise SourceError unless it has the digest, version and facts that it must have."""
    facts, table = read_sealed(
        path, MARK, "sums of the general table", "a file that the method save of cl.sums wrote", VERSION
    )
    if set(facts) != _FACTS or not isinstance(facts["conventions"], dict):
        raise damaged_sums(path, f"has the metadata {sorted(facts)}", str(sorted(_FACTS)))
    check_last_day(path, facts["last_day"])
    magnitudes = facts["magnitudes"]
    if not isinstance(magnitudes, list) or not magnitudes:
        raise damaged_sums(path, f"has magnitudes = {magnitudes!r}", "a list")
    for each in magnitudes:
        check_magnitude(path, each)
    if table.height != facts["rows"]:
        raise damaged_sums(path, f"has {table.height:,} rows", f"{facts['rows']:,}")
    return SavedTable(facts["conventions"], table, facts["last_day"], tuple(map(int, magnitudes)))


def check_table(path: Path, saved: SavedTable, question: Question) -> None:
    """Raise SourceError unless the columns and the sums are possible."""
    table, keys = saved.table, keys_of(question)
    if table.columns != [*keys, *values_of(question)] or len(saved.magnitudes) != 1 + len(question.amounts):
        raise damaged_sums(path, f"has columns {table.columns}", str([*keys, *values_of(question)]))
    for name in segments_of(question):
        kind = table.schema[name]
        if kind.is_nested() or isinstance(kind, pl.Object | pl.Unknown | pl.Binary | pl.Categorical | pl.Enum):
            raise damaged_sums(path, f"has the segments {name.removeprefix(SEGMENT)!r} of type {kind}", "plain values")
    for column in table.drop(segments_of(question)):
        if column.dtype != pl.Int64 or column.null_count():
            raise damaged_sums(path, f"column {column.name!r} is {column.dtype}, with {column.null_count():,} nulls",
                               "integers without nulls")  # fmt: skip
    ordered = table.select(keys).unique().sort(keys, nulls_last=True)
    if not ordered.equals(table.select(keys)):
        raise damaged_sums(path, "does not have its rows in order", f"each {', '.join(keys)} once, in ascending order")
    if table.height:
        _check_days(path, saved, question)
        _check_counts(path, saved, question)


def _check_days(path: Path, saved: SavedTable, question: Question) -> None:
    """Check first days and ages."""
    table, joined = saved.table, saved.settings["joined"] != "no"
    if saved.last_day is None and not joined:
        raise damaged_sums(path, f"has {table.height:,} rows, but no last day", "a last day")
    first_day, age = (table[name].to_numpy() for name in ("first_day", "age"))
    earliest, latest = FIRST_DAY, LAST_DAY if joined or saved.last_day is None else saved.last_day
    if isinstance(question.calendar, TableCalendar):
        days = [epoch_day(day) for day in question.calendar.firsts]
        earliest, latest = max(earliest, days[0]), min(latest, days[-1] - 1)
    refuse_rows(path, table, (first_day < earliest) | (first_day > latest), f"first days from {earliest} to {latest}")
    last = np.maximum(LAST_DAY if saved.last_day is None else saved.last_day, first_day)
    if question.width:
        deepest = (last - first_day) // question.width
    else:
        begins = question.ages.first_days(question.ages.ordinals(first_day))
        cohorts = question.calendar.first_days(question.calendar.ordinals(first_day))
        refuse_rows(path, table, np.maximum(begins, cohorts) != first_day, "first days that begin a period")
        deepest = question.ages.ordinals(last) - question.ages.ordinals(first_day)
    refuse_rows(path, table, (age < 0) | (age > deepest), "ages from 0 to the last one of the data")
    if has_next(question):
        following = table["next_age"].to_numpy()
        wrong = (following != -1) & ((following <= age) | (following > deepest))
        refuse_rows(path, table, wrong, "−1 or later ages in next_age")


def _check_counts(path: Path, saved: SavedTable, question: Question) -> None:
    """Check counts, amounts and squares."""
    table = saved.table
    size, first, active, age = (table[name].to_numpy() for name in ("size", "first_amount", "active", "age"))
    refuse_rows(path, table, (size < 0) | (active < 0) | ((size | first) != 0) & (age > 0),
                "counts from 0, sizes at age 0")  # fmt: skip
    group = [*segments_of(question), "first_day"]
    sizes = table.select(pl.col("size").sum().over(group)).to_series().to_numpy()
    counted = table.select(pl.col("active").sum().over(*group, "age")).to_series().to_numpy()
    refuse_rows(path, table, counted > sizes, "at most as many active users as there are")
    check_amounts(path, {name: table[name].to_numpy() for name in ("amount", "first_amount")}, saved.magnitudes[0])
    for name, limit in zip(question.amounts, saved.magnitudes[1:], strict=True):
        check_amounts(path, {f"{MORE}{name}": table[f"{MORE}{name}"].to_numpy()}, limit)
    if limbs_of(question):
        _check_squares(path, table, group, sizes)


def _check_squares(path: Path, table: pl.DataFrame, group: list[str], sizes: Ints) -> None:
    """Check that no variance is negative: n · Σ x² ≥ (Σ x)² for the amounts at age 0 and up to each age."""
    for name in SQUARES:
        limbs = [table[f"{name}.{limb}"].to_numpy() for limb in range(LIMBS)]
        inside = [(limb >= 0) & (limb < 2**32) for limb in limbs[:-1]] + [abs(limbs[-1]) < 2**31]
        refuse_rows(path, table, ~np.logical_and.reduce(inside), f"limbs of 32 bits in {name}")
    numbers = {name: wide_numbers(table, name) for name in ("growth", "first_squares")}
    owners, ages = table.select(pl.struct(group).rle_id()).to_series().to_list(), table["age"].to_list()
    columns = (owners, sizes.tolist(), *(table[name].to_list() for name in ("amount", "first_amount")))
    before, total, total_squares, first, first_squares = -1, 0, 0, 0, 0
    for at, (owner, size, amount, more_first) in enumerate(zip(*columns, strict=True)):
        if owner != before:
            before, total, total_squares, first, first_squares = owner, 0, 0, 0, 0
        total, total_squares = total + amount, total_squares + numbers["growth"][at]
        first, first_squares = first + more_first, first_squares + numbers["first_squares"][at]
        last = at + 1 == len(owners) or ages[at + 1] != ages[at] or owners[at + 1] != owner
        if last and (size * total_squares < total**2 or size * first_squares < first**2):
            raise damaged_sums(path, f"has squares that cannot be in {table.row(at, named=True)}", "no lower variance")


def wide_numbers(table: pl.DataFrame, name: str) -> list[int]:
    """Return the numbers of a column of squares."""
    columns = (table[f"{name}.{limb}"].to_list() for limb in range(LIMBS))
    return [sum(limb << 32 * at for at, limb in enumerate(limbs)) for limbs in zip(*columns, strict=True)]


def settings_from(path: Path, settings: Mapping[str, Any], kind: type[Any]) -> Any:  # noqa: ANN401
    """Return the settings of a file; raise SourceError for unknown ones, and for values that cannot be."""
    names = set(kind.__annotations__)
    if set(settings) != names:
        raise damaged_sums(path, f"has the settings {sorted(settings)}", str(sorted(names)))
    values = {name: tuple(value) if isinstance(value, list) else value for name, value in settings.items()}
    try:
        if values["calendar"] is not None:
            values["calendar"] = tuple((day, label) for day, label in values["calendar"])
            [date.fromisoformat(day) for day, _ in values["calendar"]]
        made = kind(**values)
        known = made.question()
        whole = type(made.money) is bool and made.joined in ("no", "error", "clip", "drop")
        whole &= set(made.users) <= set(made.by) and not (made.split and made.joined != "no")
        hash(made)
    except (CohortlibError, ValueError, TypeError, KeyError) as error:
        raise damaged_sums(path, f"has a setting that cannot be: {error}") from error
    if not whole or (known.by, known.split, known.amounts, known.brackets) != (
        made.by, made.split, made.amounts, made.brackets
    ):  # fmt: skip
        raise damaged_sums(path, f"has the settings {dict(settings)!r}, which cannot be")
    return made
