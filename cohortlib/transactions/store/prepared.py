"""The prepared form: parts in a folder, the one format of prepared transactions, states and spilled rows.

A folder holds runs; a run holds parts by ascending key, and each of its users once. A part is two Parquet files,
``<run>-<part>.users.parquet`` and ``<run>-<part>.rows.parquet``, with the columns that
:mod:`cohortlib.transactions.store.parts` names. A user may be in several runs: the rows of all of them count.
``<run>-<number>.dropped.parquet`` has kept columns, users and latest days of rows dropped for nulls, because these rows
count for the right edge and for `joined`. The manifest, ``cohortlib.json``, lists all files and the settings that rows
were read with. It is replaced atomically, so a folder is consistent even after a writer was killed. ``docs/scale.md``
describes the format.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from threading import Lock
from typing import Any, TypeVar

import numpy as np
import polars as pl
from numpy.typing import NDArray

from cohortlib.errors import Arg, CohortlibError, SettingError, SourceError, listed
from cohortlib.read.amounts import as_decimal
from cohortlib.read.tables import Source, first_line
from cohortlib.transactions.store.manifest import MANIFEST, Manifest, PartFile, damaged
from cohortlib.transactions.store.part_files import has_valid_types, parts_in_range
from cohortlib.transactions.store.parts import DAY, DROPPED_USER, KEY, KEY2, SIZE, UNITS, USER, Part

_Read = TypeVar("_Read")


@dataclass(frozen=True)
class Prepared:
    """Prepared transactions: a folder of parts, and a filter on its rows.

    :func:`cohortlib.prepare` writes one; every function that takes transactions takes it, or the path of its folder.
    `manifest` lists the contents of the `folder`, and `predicate` is the filter; None for all rows.
    """

    folder: Path
    manifest: Manifest
    predicate: pl.Expr | None = None

    @classmethod
    def open(cls, folder: str | Path) -> "Prepared":
        """Open a prepared folder; raise SourceError if it is missing, incomplete or of another version."""
        return cls(Path(folder), Manifest.read(Path(folder)))

    def __repr__(self) -> str:
        only = "" if self.predicate is None else f", only {self.predicate}"
        return f"Prepared({str(self.folder)!r}: {self.manifest.rows:,} rows, columns {listed(self.columns)}{only})"

    @property
    def columns(self) -> list[str]:
        """The names of the columns, as in the source."""
        manifest = self.manifest
        return [manifest.user, manifest.timestamp, manifest.amount, *manifest.keep]

    def filter(self, predicate: pl.Expr) -> "Prepared":
        """Return the rows that satisfy a condition on the kept columns.

        Parameters
        ----------
        predicate
            A polars expression, such as ``pl.col("country") == "DE"``, with one boolean per row.

        Raises
        ------
        SettingError
            If it uses a column that was not kept.
        """
        if not isinstance(predicate, pl.Expr):
            raise SettingError(
                f"filter({predicate!r}) is not a polars expression", expected="one such as pl.col('country') == 'DE'"
            )
        for name in predicate.meta.root_names():
            if name not in self.manifest.keep:
                what = f"filter: column {name!r} was not kept; kept columns are {listed(self.manifest.keep)}"
                raise SettingError(what, value=name, hint=("prepare the transactions again with ", Arg("keep", [name])))
        return replace(self, predicate=predicate if self.predicate is None else self.predicate & predicate)

    def frame(self) -> pl.DataFrame:
        """Return the filtered rows as a frame with the columns of the source; instants have become local dates."""
        manifest = self.manifest
        day, money = pl.col(DAY).cast(pl.Date), as_decimal(pl.col(UNITS), manifest.decimals)
        columns = (day.alias(manifest.timestamp), money.alias(manifest.amount), *map(pl.col, manifest.keep))
        pieces = list(self._with_users(manifest.keep, *columns))
        return pl.concat(pieces) if pieces else pl.DataFrame(schema=dict.fromkeys(self.columns, pl.Null))

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object:
        """Export the filtered rows to other libraries."""
        return self.frame().__arrow_c_stream__(requested_schema)

    def unique_pairs(self, column: str) -> pl.DataFrame:
        """Return the distinct pairs of user and kept column in the filtered rows.

        Dropped rows count too if some kept column has dates; else their users are not stored.
        """
        user = self.manifest.user
        pieces = [rows.unique(maintain_order=True) for rows in self._with_users([column], pl.col(column))]
        dropped = [
            rows.drop_nulls(DROPPED_USER).select(pl.col(DROPPED_USER).alias(user), column)
            for rows in self.dropped_rows([column, DROPPED_USER])
        ]
        if any(rows.height for rows in dropped):
            return pl.concat([*pieces, *filter(len, dropped)]).unique(maintain_order=True)
        return pl.concat(pieces) if pieces else pl.DataFrame(schema={user: pl.Null, column: pl.Null})

    def _with_users(self, needed: Sequence[str], *columns: pl.Expr) -> Iterator[pl.DataFrame]:
        """Yield the user and some columns of the filtered rows, part by part; `needed` are the columns to read."""
        for index in range(self.count):
            part = self.load(index, users=[USER], rows=[*dict.fromkeys([*needed, *self.filter_columns])]).contiguous()
            owners = part.users[USER].gather(np.repeat(np.arange(part.users.height), part.users[SIZE]))
            rows = part.rows.select(owners.alias(self.manifest.user), *columns)
            mask = self.filter_mask(part.rows)
            yield rows.filter(mask) if mask.size else rows

    # ---------------------------------------------------------------------------------------------------- the parts

    @property
    def text(self) -> bool:
        """Whether user ids are text; their keys have two words."""
        return self.manifest.text

    @property
    def user_columns(self) -> list[str]:
        """The columns of users that are copied when a part is rewritten."""
        return [KEY, *[KEY2] * self.text, USER]

    @cached_property
    def key_ranges(self) -> list[tuple[int, int]]:
        """The key ranges that have users, by the top bits of the key; each is loaded as one part."""
        shift = 64 - self.manifest.bits
        tops: set[int] = set()
        for run in self.manifest.runs:
            for part in run:
                tops.update(range(part.low >> shift, (part.high >> shift) + 1))
        return [(top << shift, (top + 1 << shift) - 1) for top in sorted(tops)]

    @property
    def count(self) -> int:
        """Number of key ranges."""
        return len(self.key_ranges)

    def size(self, index: int) -> int:
        """Return about the number of rows in a key range."""
        low, high = self.key_ranges[index]
        return sum(part.rows for run in self.manifest.runs for part in run if low <= part.low <= high)

    def load(self, index: int, *, users: Sequence[str] = (), rows: Sequence[str] = ()) -> Part:
        """Read the users of a key range, with their rows from all runs.

        `users` and `rows` are columns to read besides those that every part has.
        """
        low, high = self.key_ranges[index]
        several = len(self.manifest.runs) > 1
        parts = []
        for run in self.manifest.runs:
            for part in parts_in_range(run, low, high):
                is_inside = low <= part.low and part.high <= high
                # With a single run there is nothing to merge, so keys are not read.
                columns = [KEY, *[KEY2] * self.text, *users] if several or not is_inside else [*users]
                if is_inside:
                    parts.append(self._read_part(part, columns, rows))
                else:
                    read = partial(self._read_part, part, columns, rows)
                    parts.append(self.read_once((part.name, *columns, "", *rows), read).key_range(low, high))
        return Part.merge(parts)

    @cached_property
    def _cache(self) -> tuple[Lock, dict[tuple[str, ...], Any]]:
        return Lock(), {}

    def read_once(self, key: tuple[str, ...], read: Callable[[], _Read]) -> _Read:
        """Read a part that spans several key ranges once, and cache it under a key."""
        lock, cache = self._cache
        with lock:
            if key not in cache:
                cache[key] = read()
            value: _Read = cache[key]
            return value

    def _read_part(self, part: PartFile, users: Sequence[str], rows: Sequence[str]) -> Part:
        columns = {"users": dict.fromkeys([*users, SIZE]), "rows": dict.fromkeys([DAY, UNITS, *rows])}
        user_frame, row_frame = (
            self.read_columns(self.folder / f"{part.name}.{kind}.parquet", list(names))
            for kind, names in columns.items()
        )
        self._check(part, user_frame, row_frame)
        return Part.of(user_frame, row_frame)

    def read_columns(self, file: Path, columns: Sequence[str]) -> pl.DataFrame:
        """Read columns of a file of this folder."""
        try:
            return pl.read_parquet(file, columns=list(columns), glob=False, hive_partitioning=False).select(*columns)
        except (pl.exceptions.PolarsError, OSError) as error:
            raise self.read_error(file, error) from error

    def read_error(self, file: Path, error: Exception) -> CohortlibError:
        """Return the error for a file that cannot be read."""
        is_rewritten = Manifest.read(self.folder) != self.manifest
        hint = "the folder was rewritten in the meantime; open it again" if is_rewritten else ""
        return SourceError(f"{str(file)!r} cannot be read: {first_line(error)}", hint=hint)

    def _check(self, part: PartFile, users: pl.DataFrame, rows: pl.DataFrame) -> None:
        """Raise SourceError if a file is damaged, so that kernels never read out of bounds."""
        ascending = users[KEY].diff().is_null() | (users[KEY] >= users[KEY].shift(1)) if KEY in users.columns else None
        valid = (
            has_valid_types(users)
            and self.has_valid_rows(rows)
            and users.height == part.users
            and rows.height == part.rows == users[SIZE].cast(pl.Int64).sum()
            and (ascending is None or bool(ascending.all()))
        )
        if not valid:
            raise damaged(self.folder / part.name)

    def has_valid_rows(self, rows: pl.DataFrame) -> bool:
        """Return whether rows have the right types, and days within the bounds of the manifest."""
        if not has_valid_types(rows.select(DAY, UNITS)):  # kept columns may have any name
            return False
        days = rows[DAY].to_numpy()
        return not days.size or bool(self.manifest.first_day <= days.min() and days.max() <= self.manifest.final_day)

    # --------------------------------------------------------------------------------------------------- the filter

    @property
    def filter_columns(self) -> list[str]:
        """The kept columns that the filter needs."""
        return [] if self.predicate is None else list(dict.fromkeys(self.predicate.meta.root_names()))

    def filter_mask(self, rows: pl.DataFrame) -> NDArray[np.bool_]:
        """Evaluate the filter on rows, which must return one boolean per row; without a filter, the mask is empty."""
        if self.predicate is None:
            return np.empty(0, np.bool_)
        expected = "one boolean per row"
        try:
            mask = rows.select(self.predicate).to_series().cast(pl.Boolean, strict=True)
        except pl.exceptions.PolarsError as error:
            raise SettingError(f"filter: {first_line(error)}", expected=expected) from error
        if not self.filter_columns:  # a literal has one value for all rows
            mask = mask.new_from_index(0, rows.height)
        if mask.len() != rows.height:
            what = f"filter: {self.predicate} returned {mask.len():,} values for {rows.height:,} rows"
            raise SettingError(what, expected=expected)
        return mask.fill_null(value=False).to_numpy()

    def days(self) -> tuple[int, int, int | None]:
        """Return the first and the last day of the filtered rows (0 and −1 if there are none), and the right edge.

        The right edge is the last day of these rows and of the dropped rows that pass the filter.
        """
        manifest = self.manifest
        if self.predicate is None:
            return manifest.first_day, manifest.final_day, manifest.last_day
        bounds: list[int] = []
        for index in range(self.count):
            rows = self.load(index, rows=self.filter_columns).rows
            days = rows[DAY].to_numpy()[self.filter_mask(rows)]
            bounds += [int(days.min()), int(days.max())] if days.size else []
        dropped = self.last_dropped_day()
        last_day = max(bounds if dropped is None else [*bounds, dropped], default=None)
        return (min(bounds), max(bounds), last_day) if bounds else (0, -1, last_day)

    def last_dropped_day(self) -> int | None:
        """Return the last day of the dropped rows that pass the filter; None if none do.

        If all rows pass or none do, it is the last day of all rows, or None.
        """
        if not self.filter_columns:
            passes = self.predicate is None or self.filter_mask(pl.DataFrame({DAY: [0]})).all()
            return self.manifest.last_day if passes else None
        files = (rows[DAY].drop_nulls().to_numpy() for rows in self.dropped_rows([]))
        return max((int(days.max()) for days in files if days.size), default=None)

    def dropped_rows(self, columns: Sequence[str]) -> Iterator[pl.DataFrame]:
        """Read columns and latest days of the dropped rows that pass the filter, file by file."""
        last_day = self.manifest.last_day
        for dropped in self.manifest.dropped_files:
            file = self.folder / f"{dropped.name}.dropped.parquet"
            rows = self.read_columns(file, [*dict.fromkeys([*columns, *self.filter_columns]), DAY])
            days = rows[DAY].drop_nulls()
            if (
                rows[DAY].dtype != pl.Int32
                or rows.height != dropped.rows
                or (days.len() and (last_day is None or (days > last_day).any()))
                or (DROPPED_USER in columns and str(rows[DROPPED_USER].dtype) != self.manifest.kind)
            ):
                raise damaged(file)
            mask = self.filter_mask(rows)
            yield (rows.filter(mask) if mask.size else rows).select(*columns, DAY)


def open_if_prepared(source: Source) -> Source:
    """Open the prepared folder at a path; return any other source unchanged."""
    if isinstance(source, list | tuple):
        for path in source:
            if isinstance(path, str | Path) and _is_prepared(path):
                raise SourceError(
                    f"{str(path)!r} is a prepared form, in a list",
                    value=path, expected="a prepared form alone, or files",
                    hint="prepare all files together, or add them to a State",
                )  # fmt: skip
        return source
    if not isinstance(source, str | Path):
        return source
    return Prepared.open(source) if _is_prepared(source) else source


def _is_prepared(path: str | Path) -> bool:
    try:
        return (Path(path) / MANIFEST).is_file()
    except (OSError, ValueError):  # not a valid file name
        return False
