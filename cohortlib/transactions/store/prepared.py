"""The prepared form: parts in a folder, the one format of prepared transactions and states.

A folder holds runs; a run holds parts by ascending key, and each of its users once. A part is two Parquet files,
``<run>-<part>.users.parquet`` and ``<run>-<part>.rows.parquet``, with the columns that
:mod:`cohortlib.transactions.store.parts` names. A user may be in several runs: the rows of all of them count.
``<run>-<number>.dropped.parquet`` has kept columns, users and latest days of rows dropped for nulls, because these rows
count for the right edge and for `joined`. The manifest, ``cohortlib.json``, lists all files and the settings that rows
were read with. It is replaced atomically, so a folder is consistent even after a writer was killed. ``docs/scale.md``
describes the format.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from threading import Lock
from typing import Any, TypeVar

import numpy as np
import polars as pl
from numpy.typing import NDArray

from cohortlib.engine import files
from cohortlib.errors import Arg, SettingError, SourceError, listed
from cohortlib.read.amounts import as_decimal
from cohortlib.read.tables import Source, first_line
from cohortlib.transactions.store.manifest import MANIFEST, DroppedFile, Manifest, PartFile, is_part
from cohortlib.transactions.store.manifest_checks import damaged
from cohortlib.transactions.store.part_checks import check_dropped, check_rows, check_users
from cohortlib.transactions.store.part_files import dropped_file, parts_in_range, read_file, rows_file, users_file
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
        with files.shared(self.folder):
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
        parts = []
        for run in self.manifest.runs:
            for part in parts_in_range(run, low, high):
                if low <= part.low and part.high <= high:
                    parts.append(self._read_part(part, users, rows))
                else:
                    read = partial(self._read_part, part, users, rows)
                    parts.append(self.read_once((part.name, *users, "", *rows), read).key_range(low, high))
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
        return Part.of(self.read_users(part, users), self.read_rows(part, rows))

    def read_users(self, part: PartFile, columns: Sequence[str]) -> pl.DataFrame:
        """Read the keys, the sizes and other columns of a part's users, checked."""
        file = users_file(self.folder, part.name)
        users = self._read(file, part.users_digest, [KEY, *[KEY2] * self.text, *columns, SIZE])
        check_users(file, users, part, self.manifest)
        return users

    def read_rows(self, part: PartFile, columns: Sequence[str]) -> pl.DataFrame:
        """Read the days, the amounts and other columns of a part's rows, checked."""
        file = rows_file(self.folder, part.name)
        rows = self._read(file, part.rows_digest, [DAY, UNITS, *columns])
        check_rows(file, rows, part, self.manifest)
        return rows

    def read_dropped(self, dropped: DroppedFile, columns: Sequence[str]) -> pl.DataFrame:
        """Read the days and other columns of a file of dropped rows, checked."""
        file = dropped_file(self.folder, dropped.name)
        rows = self._read(file, dropped.rows_digest, [*columns, DAY])
        check_dropped(file, rows, dropped, self.manifest)
        return rows

    def _read(self, file: Path, expected: str, columns: Sequence[str]) -> pl.DataFrame:
        """Read columns of a file of this folder, which must have the expected digest."""
        with self.read_errors(file):
            return read_file(file, expected, list(dict.fromkeys(columns)))

    @contextmanager
    def read_errors(self, file: Path) -> Iterator[None]:
        """Raise a SourceError for a file that cannot be read or is damaged, unless the folder was rewritten."""
        try:
            yield
        except OSError as error:
            if _is_prepared(self.folder) and file.name.split(".")[0] not in Manifest.read(self.folder).names:
                what = f"{str(self.folder)!r} was rewritten in the meantime"
                raise SourceError(what, expected="the folder as it was opened", hint="open it again") from error
            if isinstance(error, SourceError):
                raise
            raise damaged(file, f"cannot be read: {error.strerror or first_line(error)}") from error

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
        """Return the last day of the dropped rows that pass the filter; None if none do."""
        if not self.filter_columns:
            passes = self.predicate is None or self.filter_mask(pl.DataFrame({DAY: [0]})).all()
            return self.manifest.last_dropped if passes else None
        files = (rows[DAY].drop_nulls().to_numpy() for rows in self.dropped_rows([]))
        return max((int(days.max()) for days in files if days.size), default=None)

    def dropped_rows(self, columns: Sequence[str]) -> Iterator[pl.DataFrame]:
        """Read columns and latest days of the dropped rows that pass the filter, file by file."""
        for dropped in self.manifest.dropped_files:
            rows = self.read_dropped(dropped, [*columns, *self.filter_columns])
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


@contextmanager
def opened(source: Source) -> Iterator[Source]:
    """Open a prepared folder as :func:`open_if_prepared`, and keep its files until the end of the block."""
    folder = source.folder if isinstance(source, Prepared) else None
    if isinstance(source, str | Path) and _is_prepared(source):
        folder = Path(source)
    with nullcontext() if folder is None else files.shared(folder):
        yield open_if_prepared(source)


def _is_prepared(path: str | Path) -> bool:
    """Return whether a path is a prepared form, or the files of one whose manifest is lost."""
    try:
        folder = Path(path)
        if not folder.is_dir():
            return False
        return (folder / MANIFEST).is_file() or any(is_part(file.name) for file in folder.iterdir())
    except (OSError, ValueError):  # not a valid file name
        return False
