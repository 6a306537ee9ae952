"""Read installs: one row per user and install date, or ready counts per date."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import partial, reduce
from operator import or_

import polars as pl

from cohortlib.adapty.read import revenuecat
from cohortlib.adapty.read.column_types import concatenated
from cohortlib.adapty.read.counted import check_nulls, without_stray_lines
from cohortlib.adapty.read.events import extra_networks, fresh, pick_column
from cohortlib.adapty.read.readers import UnreadError, read_each
from cohortlib.adapty.read.settings import Reading
from cohortlib.adapty.read.specs import (
    BY,
    INSTALL_COLUMNS,
    USER_COLUMNS,
    ColumnSpec,
    accepted_names,
    by_column,
    check_required,
)
from cohortlib.adapty.read.tables import BatchedTable, RawTable, read_tables
from cohortlib.errors import DataError, SchemaError
from cohortlib.read.folders import is_paths
from cohortlib.read.nulls import Dropped
from cohortlib.read.tables import Source

_NOT_NULL = ("user", "install_date", "installs")


@dataclass(frozen=True)
class _InstallReader:
    """Selects the columns of installs, and reads a table of them."""

    user_unit: str
    reading: Reading
    by: str | None = None
    """A column to be read as `BY`, if there is one."""
    optional: frozenset[str] | None = None
    """The columns to read beside users, dates and counts; None for all."""

    @property
    def specs(self) -> dict[str, ColumnSpec]:
        """The columns to read, by their names in the frame of installs."""
        user = USER_COLUMNS[self.user_unit]
        if self.user_unit in revenuecat.USERS:
            user = replace(user, aliases=(*user.aliases, revenuecat.USERS[self.user_unit]))
        own = {} if self.by is None else {BY: by_column(self.by)}
        chosen = {
            name: spec
            for name, spec in INSTALL_COLUMNS.items()
            if self.optional is None or name in _NOT_NULL or name in self.optional
        }
        return {"user": user, **chosen, **own}

    def fields(self) -> list[str]:
        """List all accepted names."""
        return accepted_names(self.specs.values())

    def choose(self, columns: list[str], where: str) -> list[str]:
        """Select the columns to read from those of a table; raise if one is missing."""
        user, counts = self.specs["user"], self.specs["installs"]
        is_counts = counts.name in columns and not any(name in columns for name in user.accepted)
        needed, unused = (counts, user) if is_counts else (user, counts)
        required = {spec.name: spec.accepted for spec in (needed, self.specs["install_date"])}
        check_required(required, columns, where)
        return [name for name in self.fields() if name in columns and name not in unused.accepted]

    def read(self, table: RawTable) -> pl.DataFrame:
        """Read a table of installs, without stray lines."""
        table, _ = without_stray_lines(table)
        picked = {name: pick_column(table, spec, self.reading) for name, spec in self.specs.items()}
        columns = {name: column for name, column in picked.items() if column is not None} | extra_networks(table)
        every = pl.repeat(value=True, n=table.frame.height, eager=True)
        columns_in_order = enumerate(columns.values())
        if faults := [fault for at, column in columns_in_order for fault in column.faults(every, table.where, at)]:
            raise UnreadError(faults)
        return pl.DataFrame([column.series.alias(name) for name, column in columns.items()])


def read_installs(
    source: Source,
    *,
    user_unit: str,
    nulls: str,
    reading: Reading | None = None,
    by: str | None = None,
    optional: Iterable[str] | None = None,
) -> tuple[pl.DataFrame, Dropped]:
    """Read installs: a row per user and install, or ready counts per date (columns ``install_date``, ``installs``).

    Parameters
    ----------
    source, user_unit, nulls, reading, by
        As for :func:`~cohortlib.adapty.read.events.read_events`.
    optional
        The columns to read beside users, dates and counts, by default all.

    Returns
    -------
    frame
        The columns ``user`` and ``install_date``, or ``install_date`` and ``installs``; with ``store``, ``country``
        and ``attribution_*`` where the source has them.
    dropped
        The rows dropped for nulls.
    """
    reading = fresh(reading, None)
    can_reread = is_paths(source) or isinstance(source, pl.DataFrame)
    chosen = None if optional is None or not can_reread else frozenset(optional)
    reader = _InstallReader(user_unit, reading, by, chosen)
    tables = read_tables(source, reader.choose, reader.fields(), reading)
    if chosen is not None and any(without_stray_lines(table)[1].get("blank_lines") for table in tables):
        # A row that is blank in these columns may have values in the others.
        reader = replace(reader, optional=None)
        tables = read_tables(source, reader.choose, reader.fields(), reading)
    frames = [*read_each(partial(reader.read, table) for table in tables)]
    check_one_kind("installs" in frame.columns for frame in frames)
    reading.doubts.warn(user_unit, reading.rules.normalize)
    return _checked(concatenated(frames, reading.zone), nulls)


def batched_installs(
    source: Source, *, user_unit: str, nulls: str, reading: Reading | None = None, by: str | None = None
) -> BatchedTable[tuple[pl.DataFrame, Dropped]]:
    """Open installs to be read in batches; the parameters are those of :func:`read_installs`."""
    reading = fresh(reading, None)
    reader = _InstallReader(user_unit, reading, by)
    return BatchedTable(
        source,
        reader.choose,
        reader.fields(),
        reader.specs["user"].accepted,
        reading,
        nulls,
        lambda table: _checked(reader.read(table), "drop"),
    )


def check_one_kind(is_counts: Iterable[bool]) -> None:
    """Raise if some tables of installs hold ready counts and others users."""
    if len(set(is_counts)) > 1:
        raise SchemaError(
            "some files of installs hold users and others ready counts", expected="the same kind in all of them"
        )


def _checked(frame: pl.DataFrame, nulls: str) -> tuple[pl.DataFrame, Dropped]:
    """Raise on nulls or drop their rows, and raise on negative counts."""
    needed = [name for name in _NOT_NULL if name in frame.columns]
    null = reduce(or_, (frame[name].is_null() for name in needed))
    counts = Counter({name: frame[name].null_count() for name in needed if frame[name].null_count()})
    dropped = Dropped(len(frame), int(null.sum()), counts)
    check_nulls("the installs", dropped, nulls)
    frame = frame.filter(~null) if counts else frame
    if "installs" in needed and (frame["installs"] < 0).any():
        least = frame["installs"].min()
        raise DataError(f"column 'installs' contains {least!r}", value=least, expected="counts of 0 or more")
    return frame, dropped
