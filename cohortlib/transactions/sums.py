"""Sums over (cohort, age): the additive value behind a cohort table."""

import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal, Unpack

import numpy as np
import polars as pl

from cohortlib.engine import ratios
from cohortlib.engine.files import atomic_write
from cohortlib.errors import Arg, DataError, SettingError, SourceError, warn
from cohortlib.fields import COHORTS, schema
from cohortlib.literals import Freq
from cohortlib.read.tables import Source, first_line
from cohortlib.transactions.activity import Histogram
from cohortlib.transactions.doubts import warn_of_years
from cohortlib.transactions.grid import Grid
from cohortlib.transactions.keywords import Edges, Refunds, SumsKeywords, with_settings
from cohortlib.transactions.load import load
from cohortlib.transactions.loaded import LoadedRows
from cohortlib.transactions.settings import Settings

VERSION = 1
TABLE = dict.fromkeys(("cohort", "age", "size", "first_amount", "active", "amount"), pl.Int64)
_KEYS = ["cohort", "age"]
_MARK = "cohortlib.sums"


@dataclass(frozen=True)
class SumsSettings:
    """The settings that change sums. Only sums with equal settings add.

    Each is a setting of :func:`cohortlib.termina.cohorts`. `joined` is `before_joined`, or ``"no"`` without join
    dates.
    """

    freq: Freq
    timezone: str
    week_start: str
    refunds: Refunds
    decimals: int
    joined: Literal["no", "error", "clip", "drop"]

    @classmethod
    def of(cls, settings: Settings) -> "SumsSettings":
        """Select the settings that change sums."""
        return cls(
            settings.freq, settings.timezone, settings.week_start, settings.refunds, settings.decimals,
            "no" if settings.joined is None else settings.before_joined,
        )  # fmt: skip

    def with_edges(self, **edges: Unpack[Edges]) -> Settings:
        """Return the settings of a table with these edges."""
        values: dict[str, Any] = asdict(self)
        del values["joined"]
        values.update(edges)
        return Settings.of(**values)


@dataclass(frozen=True, eq=False)
class Sums:
    """Sums over (cohort, age) for a set of users: a small table of integers, from which a cohort table is made.

    Sums of disjoint users add: ``a + b`` is exactly the sums over both. So partitions of users can be computed
    separately: on another day, machine or engine. :func:`sums` computes them.

    Attributes
    ----------
    settings
        The settings that change sums. Only sums with equal settings add.
    table
        One row for each cohort and age with a value other than 0, sorted by both. All columns are Int64: ``cohort``,
        the ordinal of its period (for months, the months since the year 0); ``age``; ``size``, the users of the
        cohort, and ``first_amount``, Σ active amount at age 0, both stored at age 0 and 0 elsewhere; ``active``
        users; Σ ``amount``, in units of ``10 ** -decimals``.
    last_day
        Local day of the last row, in days since 1970-01-01; None without rows. It sets the last period.
    magnitude
        Sum of all absolute amounts, which bounds every sum.
    """

    settings: SumsSettings
    table: pl.DataFrame
    last_day: int | None
    magnitude: int

    def __add__(self, other: "Sums") -> "Sums":
        """Add the sums of other users.

        Raises
        ------
        SettingError
            The settings differ.
        DataError
            Together the amounts exceed 64-bit integers.
        """
        if not isinstance(other, Sums):
            return NotImplemented
        for field in fields(SumsSettings):
            left, right = (getattr(sums.settings, field.name) for sums in (self, other))
            if left != right:
                raise SettingError(
                    ("sums with ", Arg(field.name, left), " and ", Arg(field.name, right), " do not add"),
                    expected="equal settings in both", hint="compute one of them again",
                )  # fmt: skip
        magnitude = self.magnitude + other.magnitude
        if magnitude >= 2**63:
            limit = f"{2**63 / 10**self.settings.decimals:.3g}"
            raise DataError(
                (f"the amounts of both sums exceed {limit}, the range of 64-bit integers with ",
                 Arg("decimals", self.settings.decimals)),
                hint=("compute both with a smaller ", Arg("decimals")),
            )  # fmt: skip
        table = without_zero_rows(pl.concat([self.table, other.table]).group_by(_KEYS).sum()).sort(_KEYS)
        days = [day for day in (self.last_day, other.last_day) if day is not None]
        return Sums(self.settings, table.select(*TABLE), max(days, default=None), magnitude)

    def __radd__(self, other: object) -> "Sums":
        """Start ``sum(parts)``, which begins with 0."""
        return self if other == 0 else NotImplemented

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sums) and self._metadata() == other._metadata() and self.table.equals(other.table)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        settings = ", ".join(f"{name}={value!r}" for name, value in asdict(self.settings).items())
        cohorts = self.table["cohort"].n_unique()
        return f"Sums({settings}; {self.table['size'].sum():,} users in {cohorts:,} cohorts)"

    def _metadata(self) -> dict[str, Any]:
        return {"conventions": asdict(self.settings), "last_day": self.last_day, "magnitude": str(self.magnitude)}

    @with_settings
    def cohorts(self, **edges: Unpack[Edges]) -> pl.DataFrame:
        """Return the cohort table, with the arguments and columns of :func:`cohortlib.termina.cohorts`."""
        settings = self.settings.with_edges(**edges)
        first, last = settings.bounds(self.last_day)
        if last is None:
            return pl.DataFrame(schema=schema(COHORTS))
        shown = self.table.filter(pl.col("cohort") + pl.col("age") <= last)
        late = self.table.filter(pl.col("cohort") > last)["size"].sum()
        if late and self.settings.joined != "no" and settings.end is None:
            warn(f"{late:,} users in joined have a date after the last period: they were left out")
        if shown.is_empty():
            return pl.DataFrame(schema=schema(COHORTS))
        origin = int(shown["cohort"].to_numpy().min())
        grid = Grid(origin, last - origin + 1, 0 if first is None else max(0, first - origin))
        histogram = self.on_grid(grid)
        warn_of_years(histogram, grid, settings)
        return cohort_frame(histogram, grid, settings)

    def on_grid(self, grid: Grid) -> Histogram:
        """Return the sums as a dense histogram, without cells outside of the grid."""
        cohort = pl.col("cohort") - grid.origin
        inside = self.table.filter((cohort >= grid.first) & (cohort + pl.col("age") < grid.span))
        cohorts, age, size, first_amount, active, amount = (inside[name].to_numpy() for name in TABLE)
        positions = cohorts - grid.origin
        kept = np.zeros(grid.span, np.bool_)
        kept[positions] = True
        dense = Histogram.zeros(grid.span, kept)
        cells = dense.offsets[positions] + age
        dense.active[cells], dense.amount[cells] = active, amount
        start = age == 0
        dense.size[positions[start]] = size[start]
        dense.first_amount[positions[start]] = first_amount[start]
        return dense

    def save(self, path: str | Path) -> None:
        """Write the sums and their settings to a Parquet file, which replaces `path` once it is complete."""
        with atomic_write(Path(path)) as stream:
            self.table.write_parquet(stream, metadata={_MARK: json.dumps({"version": VERSION} | self._metadata())})

    @classmethod
    def load(cls, path: str | Path) -> "Sums":
        """Read saved sums.

        Raises
        ------
        SourceError
            The file is missing or unreadable, or does not hold sums of this version.
        """
        try:
            file_metadata = pl.read_parquet_metadata(path)
            table = pl.read_parquet(path, glob=False, hive_partitioning=False)
        except (pl.exceptions.PolarsError, OSError) as error:
            raise SourceError(f"{str(path)!r} cannot be read: {first_line(error)}") from error
        if _MARK not in file_metadata:
            raise SourceError(f"{str(path)!r} does not hold sums", expected="a file that Sums.save wrote")
        metadata = json.loads(file_metadata[_MARK])
        version = metadata.get("version")
        if version != VERSION or table.schema != TABLE:
            what = f"{str(path)!r} has sums of version {version!r}"
            raise SourceError(what, value=version, expected=str(VERSION), hint="compute them again")
        settings = SumsSettings(**metadata["conventions"])
        return cls(settings, table, metadata["last_day"], int(metadata["magnitude"]))


@with_settings
def sums(transactions: Source, **settings: Unpack[SumsKeywords]) -> Sums:
    """Compute the sums behind the cohort table of some users, to add to the sums of others.

    All rows of a user must be in one table.

    Parameters
    ----------
    transactions, user, timestamp, amount, freq, timezone, week_start, refunds, joined, before_joined, nulls, \
    decimals, threads, progress, max_memory
        As for :func:`cohortlib.termina.cohorts`. Its `start`, `end` and `complete_only` are arguments of
        :meth:`Sums.cohorts`.

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
    checked = Settings.of(**settings)
    with load(transactions, checked, keep_users=False, full_grid=checked.joined is not None) as loaded:
        return sums_of(loaded)


def sums_of(loaded: LoadedRows) -> Sums:
    """Return the sums over all users of loaded rows."""
    settings = SumsSettings.of(loaded.settings)
    if not loaded.span:
        return Sums(settings, pl.DataFrame(schema=TABLE), loaded.last_day, loaded.magnitude)
    table = histogram_table(loaded.sums(), loaded.grid.origin)
    return Sums(settings, table, loaded.final_day, loaded.magnitude)


def histogram_table(histogram: Histogram, origin: int) -> pl.DataFrame:
    """Return the cells of a histogram that are not 0; its first cohort is period `origin`."""
    cohort, age, at = histogram.cells_of(histogram.offsets >= 0)
    start = age == 0
    table = pl.DataFrame(
        {
            "cohort": cohort + origin,
            "age": age,
            "size": np.where(start, histogram.size[cohort], 0),
            "first_amount": np.where(start, histogram.first_amount[cohort], 0),
            "active": histogram.active[at],
            "amount": histogram.amount[at],
        },
        schema=TABLE,
    )
    return without_zero_rows(table)


def without_zero_rows(table: pl.DataFrame) -> pl.DataFrame:
    """Remove rows whose sums are all 0."""
    return table.filter(pl.any_horizontal(pl.col(name) != 0 for name in TABLE if name not in _KEYS))


def cohort_frame(histogram: Histogram, grid: Grid, settings: Settings) -> pl.DataFrame:
    """Return the cohort table of a histogram."""
    cohort, age, at = histogram.shown_cells(grid.first)
    active, money = histogram.active[at], histogram.amount[at]
    size, first = histogram.size[cohort], histogram.first_amount[cohort]
    cumulative = histogram.cumulative()[at]
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
