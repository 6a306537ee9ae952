"""Additive values: small tables of integers about disjoint users, which add with ``+`` and are saved to files."""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self, Unpack

import polars as pl

from cohortlib import __version__
from cohortlib.engine.digests import BLANK, sealed
from cohortlib.engine.files import atomic_write
from cohortlib.errors import Arg, DataError, SettingError
from cohortlib.literals import Freq
from cohortlib.transactions.keywords import Edges, Refunds
from cohortlib.transactions.saved_sums import VERSION, SavedSums, check_keys, read_saved
from cohortlib.transactions.settings import Settings

if TYPE_CHECKING:
    from _typeshed import DataclassInstance


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


def check_addable(
    left: "DataclassInstance",
    right: "DataclassInstance",
    magnitude: int,
    decimals: int,
    shown: Callable[[str, object], Arg] = Arg,
) -> None:
    """Raise SettingError for sums with different settings, and DataError if `magnitude` is out of range.

    `shown` returns a setting as callers pass it.
    """  # fmt: skip
    for field in fields(left):
        one, other = (getattr(settings, field.name) for settings in (left, right))
        if one != other:
            raise SettingError(
                ("sums with ", shown(field.name, one), " and ", shown(field.name, other), " do not add"),
                expected="equal settings in both", hint="compute one of them again",
            )  # fmt: skip
    if magnitude >= 2**63:
        limit = f"{2**63 / 10**decimals:.3g}"
        raise DataError(
            (f"the amounts of both sums exceed {limit}, the range of 64-bit integers with ",
             Arg("decimals", decimals)),
            hint=("compute both with a smaller ", Arg("decimals")),
        )  # fmt: skip


def write_sums(path: str | Path, table: pl.DataFrame, mark: str, facts: dict[str, Any]) -> None:
    """Write a table of sums to a Parquet file, with facts about it under the key `mark` of its metadata."""
    facts = facts | {"library": __version__, "digest": BLANK, "rows": table.height}
    buffer = BytesIO()
    table.write_parquet(buffer, metadata={mark: json.dumps(facts)})
    with atomic_write(Path(path)) as stream:
        stream.write(sealed(buffer.getvalue()))


@dataclass(frozen=True, eq=False)
class AdditiveTable:
    """Integers about disjoint users, by the keys of a table; rows with equal keys add.

    Subclasses have the columns of the table and their types, its keys, and the mark of their files.
    """

    settings: SumsSettings
    table: pl.DataFrame
    last_day: int | None
    magnitude: int

    columns: ClassVar[dict[str, Any]]
    keys: ClassVar[tuple[str, ...]]
    mark: ClassVar[str]
    noun: ClassVar[str]  # what its files hold

    def __add__(self, other: Self) -> Self:
        """Add the sums of other users.

        Raises
        ------
        SettingError
            The settings differ.
        DataError
            Together the amounts exceed 64-bit integers.
        """
        if not isinstance(other, type(self)):
            return NotImplemented
        magnitude = self.magnitude + other.magnitude
        check_addable(self.settings, other.settings, magnitude, self.settings.decimals)
        rows = pl.concat([self.table, other.table]).group_by(self.keys).sum()
        table = self.without_zero_rows(rows).sort(self.keys).select(*self.columns)
        days = [day for day in (self.last_day, other.last_day) if day is not None]
        return type(self)(self.settings, table, max(days, default=None), magnitude)

    def __radd__(self, other: object) -> Self:
        """Start ``sum(parts)``, which begins with 0."""
        return self if other == 0 else NotImplemented

    def __eq__(self, other: object) -> bool:
        return isinstance(other, type(self)) and (
            self._metadata() == other._metadata() and self.table.equals(other.table)
        )

    __hash__ = None  # type: ignore[assignment]

    def _metadata(self) -> dict[str, Any]:
        return {"conventions": asdict(self.settings), "last_day": self.last_day, "magnitude": str(self.magnitude)}

    @classmethod
    def without_zero_rows(cls, table: pl.DataFrame) -> pl.DataFrame:
        """Remove rows whose sums are all 0."""
        return table.filter(pl.any_horizontal(pl.col(name) != 0 for name in cls.columns if name not in cls.keys))

    def save(self, path: str | Path) -> None:
        """Write the sums and their settings to a Parquet file, which replaces `path` once it is complete.

        The file holds its own digest, and the version of cohortlib.
        """
        write_sums(path, self.table, self.mark, {"version": VERSION} | self._metadata())

    @staticmethod
    def check(path: Path, saved: SavedSums) -> None:
        """Raise SourceError unless the contents of a file can be the sums of rows."""

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read saved sums, and check that they are possible.

        Raises
        ------
        SourceError
            The file is missing, unreadable or damaged, or does not hold sums of this version.
        """
        saved = read_saved(Path(path), cls.mark, cls.noun, f"a file that {cls.__name__}.save wrote", cls.columns)
        check_keys(Path(path), saved, cls.keys)
        cls.check(Path(path), saved)
        return cls(SumsSettings(**saved.settings), saved.table, saved.last_day, saved.magnitude)
