"""The column of users: types, keys and names."""

import os
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import polars as pl
from numpy.typing import NDArray

from cohortlib.engine.kernels.keys import fingerprint_strings, mix_integers, mix_narrow
from cohortlib.errors import SchemaError
from cohortlib.read.arrays import LIMIT, Keys, Numbers, physical_of, string_views, value_range

# The keys of users are drawn anew in each process: nobody can choose ids that meet, or that crowd together.
SECRET = np.frombuffer(os.urandom(8 * 34), np.uint64)


@dataclass(frozen=True)
class Users:
    """A column of user ids without nulls: integers, or text."""

    series: pl.Series
    whole: bool = False
    """Whether the ids were integers, of whatever width."""
    secret: Keys = field(default_factory=lambda: SECRET, repr=False, compare=False)
    """What the keys are drawn by."""

    @classmethod
    def of(cls, column: pl.Series) -> "Users":
        """Check the type of a column of user ids."""
        kind = column.dtype
        if isinstance(kind, pl.Categorical | pl.Enum | pl.String):
            return cls(column)
        if kind in (pl.Int64, pl.UInt64):
            return cls(column, whole=True)
        if kind.is_integer() or (isinstance(kind, pl.Decimal) and kind.scale == 0):
            low, high = value_range(column)
            fits = low is None or (int(low) >= -LIMIT and int(high) < LIMIT)
            return cls(column.cast(pl.Int64 if fits else pl.String), whole=True)
        if kind == pl.Null and not len(column):
            return cls(column.cast(pl.Int64), whole=True)
        as_kept = "pl.Int64" if kind.is_float() else "pl.String"  # pandas makes floats of integers beside a null
        raise SchemaError(
            f"column {column.name!r} is {kind}; expected user ids as integers, strings or categoricals. "
            f"Hint: pl.col({column.name!r}).cast({as_kept})"
        )

    @classmethod
    def both(
        cls, one: "Users", other: "Users", where: tuple[str, str] = ("the transactions", "joined")
    ) -> tuple["Users", "Users"]:
        """Bring two columns of ids to one type, so that the same user has the same key in both."""
        kinds = one.series.dtype, other.series.dtype
        if kinds[0] == kinds[1] and kinds[0] in (pl.Int64, pl.UInt64, pl.String):
            return one, other
        if one.whole != other.whole and len(one.series) and len(other.series):
            raise SchemaError(
                f"the users are {kinds[0]} in {where[0]} ({one.series[0]!r}) and {kinds[1]} in {where[1]} "
                f"({other.series[0]!r}); expected the same type in both. Hint: cast one of them"
            )
        return cls(one.series.cast(pl.String)), cls(other.series.cast(pl.String))

    def __len__(self) -> int:
        return len(self.series)

    @staticmethod
    def alike(kind: pl.DataType) -> bool:
        """Whether any part of such a column has the keys that the whole column has."""
        return kind == pl.String or (kind.is_integer() and kind not in (pl.Int128, pl.UInt128))

    @property
    def wide(self) -> bool:
        """Whether a key takes two words."""
        return self.series.dtype == pl.String

    def text(self, rows: NDArray[np.uint32]) -> pl.Series:
        """Give the users of some rows as text."""
        return self.series.gather(rows).cast(pl.String)

    def keys(self, first: int, count: int) -> tuple[Keys, Keys]:
        """Give `count` rows from `first` on a key of one word, or of two where the ids are text."""
        keys = np.empty(count, np.uint64)
        if not self.wide:
            mix_integers(self._ids(first, count).view(np.int64), self.secret, keys)
            return keys, np.empty(0, np.uint64)
        keys2 = np.empty(count, np.uint64)
        at = -first
        for views, memory, bases in self._views:
            begin, end = max(at, 0), min(at + views.size // 2, count)
            if begin < end:
                rows = np.arange(begin - at, end - at, dtype=np.uint32)
                fingerprint_strings(views, memory, bases, rows, self.secret, keys[begin:end], keys2[begin:end])
            at += views.size // 2
        return keys, keys2

    def bounds(self) -> tuple[int, int]:
        """Give the least and the greatest of integer ids as they lie in 64 bits; there must be one."""
        low, high = value_range(pl.Series(self._ids(0, len(self.series)).view(np.int64)))
        return int(low), int(high)

    def narrow_keys(self, first: int, count: int, base: int, bits: int) -> Keys | None:
        """Give `count` rows of integer ids a key of so many bits, on top of a word; None where ids do not fit."""
        keys = np.empty(count, np.uint64)
        ids = self._ids(first, count).view(np.int64)
        return None if mix_narrow(ids, np.int64(base), bits, self.secret, keys) else keys

    @cached_property
    def _ids(self) -> Numbers:
        ids = physical_of(self.series)
        return Numbers(ids if ids.dtype == pl.UInt64 else ids.cast(pl.Int64))

    @cached_property
    def _views(self) -> list[tuple[Keys, NDArray[np.uint8], Keys]]:
        return string_views(self.series)


@dataclass(frozen=True)
class People:
    """How users are told apart: kept as "Int64", "UInt64" or "String", and given keys by a secret.

    `whole` says that they came as whole numbers, of whatever width.
    """

    kind: str
    secret: Keys
    whole: bool

    @classmethod
    def of(cls, kind: pl.DataType, name: str, secret: Keys = SECRET) -> "People":
        """Choose by the type of a column, of which any part must be kept the same way."""
        users = Users.of(pl.Series(name, [], dtype=kind))
        text = users.series.dtype not in (pl.Int64, pl.UInt64) or not (Users.alike(kind) or kind == pl.Null)
        return cls("String" if text else str(users.series.dtype), secret, users.whole)

    @property
    def text(self) -> bool:
        """Whether keys have two words."""
        return self.kind == "String"

    def users(self, column: pl.Series) -> Users:
        """Take some users."""
        return Users(column.cast(_KINDS[self.kind]), self.whole, self.secret)


_KINDS: dict[str, type[pl.DataType]] = {"Int64": pl.Int64, "UInt64": pl.UInt64, "String": pl.String}
