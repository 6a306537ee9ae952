"""Parts on disk: the one format of the prepared form, of a state, and of what is spilled.

A folder holds runs; a run holds parts, by ascending key, and no user stands twice in it. A part is two Parquet files,
``<run>-<part>.users.parquet`` and ``<run>-<part>.rows.parquet``, with the columns that
:mod:`cohortlib.transactions.store.parts` names. A
user may stand in several runs: the rows of all of them count. ``<run>-<number>.dropped.parquet`` has kept columns and
latest days of rows dropped for nulls, because these rows hold the right edge. The manifest, ``cohortlib.json``, names
all files and tells what was asked for; it is replaced at once, so a folder is always whole, whatever happened to who
wrote it. ``docs/scale.md`` describes the format.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from functools import cached_property, partial
from itertools import islice
from pathlib import Path
from threading import Lock
from typing import Any, TypeVar

import numpy as np
import polars as pl
from numpy.typing import NDArray

from cohortlib.errors import CohortlibError, SettingError, SourceError, listed
from cohortlib.read.tables import Source, first_line
from cohortlib.transactions.store.history import FEW, Seen
from cohortlib.transactions.store.manifest import MANIFEST, Filed, Manifest, unsound
from cohortlib.transactions.store.part_files import reaching_keys, scan_part, typed_columns
from cohortlib.transactions.store.parts import (
    DAY,
    KEY,
    KEY2,
    SIZE,
    UNITS,
    USER,
    Part,
    Stretches,
    between,
    keys,
    matched,
)

_Read = TypeVar("_Read")
"""Rows of a row group: as many are read where a few are wanted."""


@dataclass(frozen=True)
class Prepared:
    """Transactions in the prepared form: a folder of parts, and which of its rows count.

    :func:`cohortlib.prepare` writes one; every function takes it, or the path of its folder, in place of raw rows.

    Attributes
    ----------
    folder
        Where its files are.
    manifest
        What they hold.
    only
        Which rows count; None for all.
    """

    folder: Path
    manifest: Manifest
    only: pl.Expr | None = None

    @classmethod
    def open(cls, folder: str | Path) -> "Prepared":
        """Open a folder that has been prepared.

        Raises
        ------
        SourceError
            Where there is none, or it was not written to its end, or by another version.
        """
        return cls(Path(folder), Manifest.read(Path(folder)))

    def __repr__(self) -> str:
        told = self.manifest
        only = "" if self.only is None else f", only {self.only}"
        return f"Prepared({str(self.folder)!r}: {told.rows:,} rows, columns {listed(self.columns)}{only})"

    @property
    def names(self) -> list[str]:
        """The columns of users that a part needs to be written again."""
        return [KEY, *[KEY2] * self.text, USER]

    @property
    def columns(self) -> list[str]:
        """The names of the columns, as in the source."""
        told = self.manifest
        return [told.user, told.timestamp, told.amount, *told.keep]

    def filter(self, only: pl.Expr) -> "Prepared":
        """Leave rows out, by the columns that were kept.

        Parameters
        ----------
        only
            A polars expression that is true for the rows to take, such as ``pl.col("country") == "DE"``.

        Raises
        ------
        SettingError
            Where it asks for a column that was not kept.
        """
        if not isinstance(only, pl.Expr):
            raise SettingError(f"filter({only!r}) is no polars expression; expected such as pl.col('country') == 'DE'")
        for name in only.meta.root_names():
            if name not in self.manifest.keep:
                raise SettingError(
                    f"filter: column {name!r} was not kept; kept are {listed(self.manifest.keep)}. Hint: prepare the "
                    f"transactions anew with keep=[{name!r}]"
                )
        return replace(self, only=only if self.only is None else self.only & only)

    def dates(self, column: str) -> pl.DataFrame:
        """Give the user and a kept column of each row that counts, each pair once."""
        found = [rows.unique(maintain_order=True) for rows in self._with_users([column], pl.col(column))]
        return pl.concat(found) if found else pl.DataFrame(schema={self.manifest.user: pl.Null, column: pl.Null})

    def frame(self) -> pl.DataFrame:
        """Give all rows that count as a frame with the columns of the source; instants have become local dates."""
        told = self.manifest
        day, money = pl.col(DAY).cast(pl.Date), in_decimals(pl.col(UNITS), told.decimals)
        columns = (day.alias(told.timestamp), money.alias(told.amount), *map(pl.col, told.keep))
        pieces = list(self._with_users(told.keep, *columns))
        return pl.concat(pieces) if pieces else pl.DataFrame(schema=dict.fromkeys(self.columns, pl.Null))

    def _with_users(self, wanted: Sequence[str], *columns: pl.Expr) -> Iterator[pl.DataFrame]:
        """Give the user and some columns of each row that counts, part by part."""
        for cut in range(self.count):
            part = self.load(cut, users=[USER], rows=[*dict.fromkeys([*wanted, *self.asked])]).laid_together()
            owners = part.users[USER].gather(np.repeat(np.arange(part.users.height), part.users[SIZE]))
            rows = part.rows.select(owners.alias(self.manifest.user), *columns)
            kept = self.kept(part.rows)
            yield rows.filter(kept) if kept.size else rows

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object:
        """Export all rows that count, for what knows nothing of the prepared form."""
        return self.frame().__arrow_c_stream__(requested_schema)

    @cached_property
    def cuts(self) -> list[tuple[int, int]]:
        """The stretches of keys that are worked on one by one, by the top bits of the key."""
        shift = 64 - self.manifest.bits
        there: set[int] = set()
        for run in self.manifest.runs:
            for part in run:
                there.update(range(part.low >> shift, (part.high >> shift) + 1))
        return [(cut << shift, (cut + 1 << shift) - 1) for cut in sorted(there)]

    @cached_property
    def _shelf(self) -> tuple[Lock, dict[tuple[str, ...], Any]]:
        """Parts that reach over several cuts, which are read once."""
        return Lock(), {}

    @property
    def text(self) -> bool:
        """Whether keys have two words."""
        return self.manifest.text

    @property
    def count(self) -> int:
        """Number of cuts."""
        return len(self.cuts)

    def size(self, cut: int) -> int:
        """Give about the number of rows of a cut."""
        low, high = self.cuts[cut]
        return sum(part.rows for run in self.manifest.runs for part in run if low <= part.low <= high)

    def load(self, cut: int, *, users: Sequence[str] = (), rows: Sequence[str] = ()) -> Part:
        """Read the users of a cut, and those rows of them that stand in any run.

        Parameters
        ----------
        cut
            Its number.
        users, rows
            Columns wanted beside those that every part has.
        """
        low, high = self.cuts[cut]
        found = []
        several = len(self.manifest.runs) > 1
        for run in self.manifest.runs:
            for part in reaching_keys(run, low, high):
                within = low <= part.low and part.high <= high
                # Without other runs nobody asks who is who.
                wanted = tuple([KEY] + [KEY2] * self.manifest.text) if several or not within else ()
                if within:
                    found.append(self._read(part, (*wanted, *users), rows))
                else:
                    read = partial(self._read, part, (*wanted, *users), rows)
                    found.append(self._once((part.name, *wanted, *users, "", *rows), read).between(low, high))
        return Part.merged(found)

    def latest(self, cuts: Sequence[tuple[int, int]], columns: Sequence[str]) -> list[list["Seen"]]:
        """Read some columns of the users with keys in each of some cuts, run by run, the latest first."""
        wanted = [KEY, *[KEY2] * self.text, *columns, SIZE]
        found: list[list[Seen]] = [[] for _ in cuts]
        alone: list[tuple[list[Seen], int]] = []
        for run in reversed(self.manifest.runs):
            for (low, high), seen in zip(cuts, found, strict=True):
                for part in reaching_keys(run, low, high):
                    if low <= part.low and part.high <= high:
                        alone.append((seen, len(seen)))
                        seen.append(Seen(part, pl.DataFrame(), 0))
                    else:
                        users = self._once((part.name, *wanted), partial(self._users, part, wanted))
                        begin, end = between(users, low, high)
                        seen.append(Seen(part, users[begin:end], int(users[SIZE][:begin].sum())))
        files = [self.folder / f"{seen[place].part.name}.users.parquet" for seen, place in alone]
        frames = self._collected([scan_part(file).select(*wanted) for file in files], files)
        for (seen, place), users in zip(alone, frames, strict=True):
            seen[place] = seen[place]._replace(users=users)
        return found

    def history(self, users: pl.DataFrame, seen: Sequence["Seen"]) -> Part:
        """Read all rows of a few users: a few stretches by themselves, else all rows of a part, to pick theirs."""
        key, key2 = keys(users)
        people: list[pl.DataFrame] = []
        stretches: list[Stretches] = []
        scans: list[list[pl.LazyFrame]] = []
        files: list[Path] = []
        for part, there, before in seen:
            _, places = matched(key, key2, *keys(there))
            if not places.size:
                continue
            sizes = there[SIZE].to_numpy()
            begins = (before + np.cumsum(sizes, dtype=np.int64) - sizes)[places]
            file = self.folder / f"{part.name}.rows.parquet"
            scan = scan_part(file).select(DAY, UNITS)
            few = places.size <= FEW
            people.append(there[places].select(*users.columns))
            stretches.append(Stretches(np.arange(1, places.size + 1), begins, sizes[places]))
            scans.append([scan.slice(*one) for one in zip(begins, sizes[places], strict=True)] if few else [scan])
            files += [file] * len(scans[-1])
        found = iter(self._collected([scan for some in scans for scan in some], files))
        parts = []
        for theirs, mine, some in zip(people, stretches, scans, strict=True):
            pieces = list(islice(found, len(some)))
            if theirs.height <= FEW:
                part_of = Part.of(theirs, pl.concat(pieces, rechunk=True))
            elif pieces[0].height >= (mine.starts + mine.sizes).max():
                part_of = Part(theirs, pieces[0], mine).laid_together()
            else:
                raise unsound(self.folder)
            if part_of.rows.height != mine.sizes.sum(dtype=np.int64) or not self._sound(part_of.rows):
                raise unsound(self.folder)
            parts.append(part_of)
        return Part.merged(parts).laid_together()

    def _collected(self, scans: list[pl.LazyFrame], files: list[Path]) -> list[pl.DataFrame]:
        """Read many files at a time: to open one takes longer than to read it."""
        try:
            return pl.collect_all(scans)
        except (pl.exceptions.PolarsError, OSError):
            for scan, file in zip(scans, files, strict=True):
                try:
                    scan.collect()
                except (pl.exceptions.PolarsError, OSError) as error:
                    raise self._changed(file, error) from error
            raise

    def _users(self, part: Filed, columns: Sequence[str]) -> pl.DataFrame:
        return self._columns(self.folder / f"{part.name}.users.parquet", columns)

    def _columns(self, file: Path, columns: Sequence[str]) -> pl.DataFrame:
        try:
            return pl.read_parquet(file, columns=list(columns), glob=False, hive_partitioning=False).select(*columns)
        except (pl.exceptions.PolarsError, OSError) as error:
            raise self._changed(file, error) from error

    def _once(self, place: tuple[str, ...], read: Callable[[], _Read]) -> _Read:
        """Read what reaches over several cuts once."""
        lock, shelf = self._shelf
        with lock:
            if place not in shelf:
                shelf[place] = read()
            found: _Read = shelf[place]
            return found

    def _read(self, part: Filed, users: Sequence[str], rows: Sequence[str]) -> Part:
        wanted = {"users": dict.fromkeys([*users, SIZE]), "rows": dict.fromkeys([DAY, UNITS, *rows])}
        frames = []
        for kind, columns in wanted.items():
            frames.append(self._columns(self.folder / f"{part.name}.{kind}.parquet", list(columns)))
        people, moved = frames
        self._check(part, people, moved)
        return Part.of(people, moved)

    def _changed(self, file: Path, error: Exception) -> CohortlibError:
        with_now = Manifest.read(self.folder)
        hint = ". Hint: it was rewritten meanwhile; open it again" if with_now != self.manifest else ""
        return SourceError(f"{str(file)!r} cannot be read: {first_line(error)}{hint}")

    def _check(self, part: Filed, users: pl.DataFrame, rows: pl.DataFrame) -> None:
        """Refuse what the kernels could not work on without looking beyond their arrays."""
        ascending = users[KEY].diff().is_null() | (users[KEY] >= users[KEY].shift(1)) if KEY in users.columns else None
        sound = (
            typed_columns(users)
            and self._sound(rows)
            and users.height == part.users
            and rows.height == part.rows == users[SIZE].cast(pl.Int64).sum()
            and (ascending is None or bool(ascending.all()))
        )
        if not sound:
            raise unsound(self.folder / part.name)

    def _sound(self, rows: pl.DataFrame) -> bool:
        """Tell whether rows have their types, and all days are those that the manifest tells of."""
        if not typed_columns(rows):
            return False
        days = rows[DAY].to_numpy()
        return not days.size or bool(self.manifest.first_day <= days.min() and days.max() <= self.manifest.final_day)

    def kept(self, rows: pl.DataFrame) -> NDArray[np.bool_]:
        """Tell which rows count, one by one; empty where all do.

        Raises
        ------
        SettingError
            Where the filter does not say that of each row.
        """
        if self.only is None:
            return np.empty(0, np.bool_)
        try:
            kept = rows.select(self.only).to_series().cast(pl.Boolean, strict=True)
        except pl.exceptions.PolarsError as error:
            raise SettingError(f"filter: {first_line(error)}; expected true or false for each row") from error
        if not self.asked:  # what is the same for all rows is said once
            kept = kept.new_from_index(0, rows.height)
        if kept.len() != rows.height:
            raise SettingError(
                f"filter: {self.only} says {kept.len():,} times whether a row counts, of {rows.height:,} rows; "
                "expected true or false for each row"
            )
        return kept.fill_null(value=False).to_numpy()

    @property
    def asked(self) -> list[str]:
        """The kept columns that are needed to tell which rows count."""
        return [] if self.only is None else list(dict.fromkeys(self.only.meta.root_names()))

    def days(self) -> tuple[int, int, int | None]:
        """Return the first and the last day of the rows that count (0 and -1 if none do), and the right edge.

        The right edge is the last day of these rows and of the dropped rows that pass the filter.
        """
        told = self.manifest
        if self.only is None:
            return told.first_day, told.final_day, told.last_day
        seen: list[int] = []
        for cut in range(self.count):
            rows = self.load(cut, rows=self.asked).rows
            days = rows[DAY].to_numpy()[self.kept(rows)]
            seen += [int(days.min()), int(days.max())] if days.size else []
        dropped = self.last_dropped_day()
        last_day = max(seen if dropped is None else [*seen, dropped], default=None)
        return (min(seen), max(seen), last_day) if seen else (0, -1, last_day)

    def last_dropped_day(self) -> int | None:
        """Return the last day of the dropped rows that pass the filter; None if none do.

        If all rows pass or none do, it is the last day of all rows, or None.
        """
        if not self.asked:
            passes = self.only is None or self.kept(pl.DataFrame({DAY: [0]})).all()
            return self.manifest.last_day if passes else None
        days = [rows[DAY].to_numpy().max() for rows in self.dropped_rows(self.asked) if rows.height]
        return int(max(days)) if days else None

    def dropped_rows(self, columns: Sequence[str]) -> Iterator[pl.DataFrame]:
        """Read kept columns and latest days of the dropped rows that pass the filter, file by file."""
        for filed in self.manifest.dropped_files:
            file = self.folder / f"{filed.name}.dropped.parquet"
            rows = self._columns(file, [*dict.fromkeys([*columns, *self.asked]), DAY])
            last_day = self.manifest.last_day
            if not typed_columns(rows) or rows.height != filed.rows or last_day is None or (rows[DAY] > last_day).any():
                raise unsound(file)
            kept = self.kept(rows)
            yield (rows.filter(kept) if kept.size else rows).select(*columns, DAY)


def in_decimals(units: pl.Expr, decimals: int) -> pl.Expr:
    """Write money units as numbers, exactly."""
    whole = units.cast(pl.Decimal(38, decimals))
    return (whole * pl.lit(Decimal(1).scaleb(-decimals), pl.Decimal(38, decimals))).cast(pl.Decimal(38, decimals))


def opened(source: Source) -> Source:
    """Open the folder that a path names, if it has a manifest; else give the source as it is."""
    if not isinstance(source, str | Path):
        return source
    try:
        prepared = (Path(source) / MANIFEST).is_file()
    except OSError:  # no name that a folder could have
        return source
    return Prepared.open(source) if prepared else source
