"""The sums behind a cohort table, as a value that adds."""

import json
from dataclasses import asdict, dataclass, fields
from datetime import date, datetime
from pathlib import Path
from typing import Any, Literal

import numpy as np
import polars as pl

from cohortlib.engine import ratios
from cohortlib.engine.files import atomic_write
from cohortlib.engine.progress import Progress
from cohortlib.errors import DataError, SettingError, SourceError, warn
from cohortlib.fields import COHORTS, schema
from cohortlib.periods import Freq
from cohortlib.read.nulls import Nulls
from cohortlib.read.tables import Source, first_line
from cohortlib.transactions.activity import Histogram
from cohortlib.transactions.grid import Grid
from cohortlib.transactions.load import load
from cohortlib.transactions.loaded import LoadedRows
from cohortlib.transactions.settings import BeforeJoined, Refunds, Settings

VERSION = 1
TABLE = dict.fromkeys(("cohort", "age", "size", "first_amount", "active", "amount"), pl.Int64)
_KEYS = ["cohort", "age"]
_MARK = "cohortlib.sums"


@dataclass(frozen=True)
class Conventions:
    """What sums were asked for: those of other conventions do not add.

    The fields are the arguments of :func:`cohortlib.termina.cohorts`, under their names; `joined` only says whether
    cohorts were given from outside, and by what rule.
    """

    freq: Freq
    timezone: str
    week_start: str
    refunds: Refunds
    decimals: int
    joined: Literal["no", "error", "clip", "drop"]

    @classmethod
    def of(cls, settings: Settings) -> "Conventions":
        """Take from settings what changes sums."""
        return cls(
            settings.freq, settings.timezone, settings.week_start, settings.refunds, settings.decimals,
            "no" if settings.joined is None else settings.before_joined,
        )  # fmt: skip

    def settings(
        self, start: str | date | datetime | None, end: str | date | datetime | None, *, complete_only: bool
    ) -> Settings:
        """Complete the settings of a table."""
        return Settings(
            freq=self.freq, timezone=self.timezone, week_start=self.week_start, refunds=self.refunds,
            decimals=self.decimals, start=start, end=end, complete_only=complete_only,
        )  # fmt: skip


@dataclass(frozen=True, eq=False)
class Sums:
    """The sums over (cohort, age) of some users: a small table of whole numbers, of which a cohort table is made.

    Sums of disjoint users add: ``a + b`` are those of both, to the bit. So each partition of users can be worked on by
    itself: on another day, on another machine, by another engine. :func:`sums` makes them.

    Attributes
    ----------
    conventions
        What was asked for. Sums add only where it is the same.
    table
        One row for each cohort and age with anything in it, in this order, all Int64: ``cohort``, the ordinal of its
        period (months since the year 0, say); ``age``; ``size``, the users of the cohort, and ``first_amount``, Σ
        active amount at age 0, both at age 0 and 0 elsewhere; ``active`` users; Σ ``amount``, in units of
        ``10 ** -decimals``.
    last_day
        Local day of the last row of all, in days since 1970-01-01; None without rows. It sets the right edge.
    magnitude
        Σ of all amounts without their signs, which bounds every sum.
    """

    conventions: Conventions
    table: pl.DataFrame
    last_day: int | None
    magnitude: int

    def __add__(self, other: "Sums") -> "Sums":
        """Add the sums of other users.

        Raises
        ------
        SettingError
            Where the conventions differ.
        DataError
            Where all amounts together leave the range of 64-bit integers.
        """
        if not isinstance(other, Sums):
            return NotImplemented
        for field in fields(Conventions):
            mine, its = (getattr(sums.conventions, field.name) for sums in (self, other))
            if mine != its:
                raise SettingError(
                    f"sums with {field.name}={mine!r} and with {field.name}={its!r} do not add; expected the same "
                    "settings in both. Hint: compute one of them anew"
                )
        magnitude = self.magnitude + other.magnitude
        if magnitude >= 2**63:
            raise DataError(
                f"the amounts of both sums are beyond {2**63 / 10**self.conventions.decimals:.3g}, the range of 64-bit "
                f"integers with decimals={self.conventions.decimals}. Hint: compute both with a smaller decimals="
            )
        table = something(pl.concat([self.table, other.table]).group_by(_KEYS).sum()).sort(_KEYS)
        days = [day for day in (self.last_day, other.last_day) if day is not None]
        return Sums(self.conventions, table.select(*TABLE), max(days, default=None), magnitude)

    def __radd__(self, other: object) -> "Sums":
        """Begin ``sum(parts)``."""
        return self if other == 0 else NotImplemented

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sums) and self._told() == other._told() and self.table.equals(other.table)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        asked = ", ".join(f"{name}={value!r}" for name, value in asdict(self.conventions).items())
        cohorts = self.table["cohort"].n_unique()
        return f"Sums({asked}; {self.table['size'].sum():,} users in {cohorts:,} cohorts)"

    def _told(self) -> dict[str, Any]:
        return {"conventions": asdict(self.conventions), "last_day": self.last_day, "magnitude": str(self.magnitude)}

    def cohorts(
        self,
        *,
        start: str | date | datetime | None = None,
        end: str | date | datetime | None = None,
        complete_only: bool = False,
    ) -> pl.DataFrame:
        """Make the cohort table, as :func:`cohortlib.termina.cohorts` does.

        Parameters
        ----------
        start, end, complete_only
            As for :func:`cohortlib.termina.cohorts`.

        Returns
        -------
        polars.DataFrame
            As of :func:`cohortlib.termina.cohorts`.
        """
        settings = self.conventions.settings(start, end, complete_only=complete_only)
        first, last = settings.bounds(self.last_day)
        if last is None:
            return pl.DataFrame(schema=schema(COHORTS))
        shown = self.table.filter(pl.col("cohort") + pl.col("age") <= last)
        late = self.table.filter(pl.col("cohort") > last)["size"].sum()
        if late and self.conventions.joined != "no" and end is None:
            warn(f"{late:,} users in joined have a date after the last period: they were left out")
        if shown.is_empty():
            return pl.DataFrame(schema=schema(COHORTS))
        origin = int(shown["cohort"].to_numpy().min())
        grid = Grid(origin, last - origin + 1, 0 if first is None else max(0, first - origin))
        return tabulated(self.placed(grid), grid, settings)

    def placed(self, grid: Grid) -> Histogram:
        """Lay the sums out on a grid, without what lies beyond it."""
        cohort = pl.col("cohort") - grid.origin
        inside = self.table.filter((cohort >= grid.first) & (cohort + pl.col("age") < grid.span))
        cohorts, age, size, first_amount, active, amount = (inside[name].to_numpy() for name in TABLE)
        places = cohorts - grid.origin
        kept = np.zeros(grid.span, np.bool_)
        kept[places] = True
        dense = Histogram.zeros(grid.span, kept)
        cells = dense.offsets[places] + age
        dense.active[cells], dense.amount[cells] = active, amount
        began = age == 0
        dense.size[places[began]] = size[began]
        dense.first_amount[places[began]] = first_amount[began]
        return dense

    def save(self, path: str | Path) -> None:
        """Write the sums, with their conventions inside, to a Parquet file that is put in its place at once."""
        with atomic_write(Path(path)) as stream:
            self.table.write_parquet(stream, metadata={_MARK: json.dumps({"version": VERSION} | self._told())})

    @classmethod
    def load(cls, path: str | Path) -> "Sums":
        """Read sums that were saved.

        Raises
        ------
        SourceError
            Where the file is missing, cannot be read, or holds no sums of this version.
        """
        try:
            metadata = pl.read_parquet_metadata(path)
            table = pl.read_parquet(path, glob=False, hive_partitioning=False)
        except (pl.exceptions.PolarsError, OSError) as error:
            raise SourceError(f"{str(path)!r} cannot be read: {first_line(error)}") from error
        if _MARK not in metadata:
            raise SourceError(f"{str(path)!r} holds no sums; expected a file that Sums.save wrote")
        told = json.loads(metadata[_MARK])
        if told.get("version") != VERSION or table.schema != TABLE:
            raise SourceError(
                f"{str(path)!r} has sums of version {told.get('version')!r}; expected {VERSION}. Hint: compute "
                "them anew"
            )
        return cls(Conventions(**told["conventions"]), table, told["last_day"], int(told["magnitude"]))


def sums(
    transactions: Source,
    *,
    user: str = "user_id",
    timestamp: str = "timestamp",
    amount: str = "amount",
    freq: Freq = "M",
    timezone: str = "UTC",
    week_start: str = "monday",
    refunds: Refunds = "net",
    joined: Source | None = None,
    before_joined: BeforeJoined = "error",
    nulls: Nulls = "error",
    decimals: int = 6,
    threads: int | None = None,
    progress: Progress | None = None,
    max_memory: int | str | None = None,
) -> Sums:
    """Compute the sums behind the cohort table of some users, to be added to those of others.

    All rows of a user must be in one table.

    Parameters
    ----------
    transactions, user, timestamp, amount, freq, timezone, week_start, refunds, joined, before_joined, nulls, \
    decimals, threads, progress, max_memory
        As for :func:`cohortlib.termina.cohorts`, whose `start`, `end` and `complete_only` are asked of the sum: see
        :meth:`Sums.cohorts`.

    Returns
    -------
    Sums
        A value that adds, and can be saved.

    Raises
    ------
    SettingError, SourceError, SchemaError, DataError
        As for :func:`cohortlib.termina.cohorts`.

    Examples
    --------
    >>> import cohortlib as cl
    >>> import polars as pl
    >>> from datetime import date
    >>> rows = pl.DataFrame({
    ...     "user_id": ["a", "a", "b"],
    ...     "timestamp": [date(2026, 1, 5), date(2026, 2, 10), date(2026, 1, 20)],
    ...     "amount": [100, 80, 50],
    ... })
    >>> one, other = rows.filter(user_id="a"), rows.filter(user_id="b")
    >>> both = cl.termina.sums(one) + cl.termina.sums(other)
    >>> both.cohorts().select("cohort", "period", "active_users", "ltv").rows()
    [('2026-01', 0, 2, 75.0), ('2026-01', 1, 1, 115.0)]
    """
    settings = Settings(
        user=user, timestamp=timestamp, amount=amount, freq=freq, timezone=timezone, week_start=week_start,
        refunds=refunds, joined=joined, before_joined=before_joined, nulls=nulls, decimals=decimals,
        threads=threads, progress=progress, max_memory=max_memory,
    )  # fmt: skip
    with load(transactions, settings, keep_users=False, full_grid=joined is not None) as loaded:
        return added_up(loaded)


def added_up(loaded: LoadedRows) -> Sums:
    """Add up everybody, and keep what is not zero."""
    conventions = Conventions.of(loaded.settings)
    if not loaded.span:
        return Sums(conventions, pl.DataFrame(schema=TABLE), loaded.last_day, loaded.magnitude)
    table = as_table(loaded.sums(), loaded.grid.origin)
    return Sums(conventions, table, loaded.final_day, loaded.magnitude)


def as_table(sums: Histogram, origin: int) -> pl.DataFrame:
    """Keep what is not zero of sums whose cohorts count from a period."""
    cohort, age, at = sums.cells_of(sums.offsets >= 0)
    began = age == 0
    table = pl.DataFrame(
        {
            "cohort": cohort + origin,
            "age": age,
            "size": np.where(began, sums.size[cohort], 0),
            "first_amount": np.where(began, sums.first_amount[cohort], 0),
            "active": sums.active[at],
            "amount": sums.amount[at],
        },
        schema=TABLE,
    )
    return something(table)


def something(table: pl.DataFrame) -> pl.DataFrame:
    """Leave out rows of zeros."""
    return table.filter(pl.any_horizontal(pl.col(name) != 0 for name in TABLE if name not in _KEYS))


def tabulated(sums: Histogram, grid: Grid, settings: Settings) -> pl.DataFrame:
    """Lay out the cohort table."""
    cohort, age, at = sums.shown_cells(grid.first)
    active, money = sums.active[at], sums.amount[at]
    size, first, cumulative = sums.size[cohort], sums.first_amount[cohort], sums.cumulative()[at]
    return pl.DataFrame(
        {
            "cohort": grid.labels(settings.calendar).gather(cohort),
            "period": age,
            "cohort_size": size,
            "cohort_size_amount": ratios.money(first, settings.scale),
            "active_users": active,
            "logo_retention": ratios.quotient(active, size),
            "amount": ratios.money(money, settings.scale),
            "amount_retention": ratios.quotient(money, first),
            "ltv": ratios.ltv(cumulative, size, settings.scale),
        },
        schema=schema(COHORTS),
    )
