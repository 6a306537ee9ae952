"""Read the column of user ids, and hash the ids to keys."""

import os
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import polars as pl
from numpy.typing import NDArray

from cohortlib.engine import buffers
from cohortlib.engine.kernels.keys import fingerprint_strings, mix_integers, mix_narrow, unmix_narrow
from cohortlib.errors import SchemaError
from cohortlib.read.arrays import INT64_LIMIT, ColumnReader, Ints, Keys, min_max, physical, read_only, string_views

# Random in each process, so that nobody can choose ids whose hashes collide or crowd into one partition.
SECRET = np.frombuffer(os.urandom(8 * 34), np.uint64)
_NO_NULLS = read_only(np.empty(0, np.bool_))
_ALL_ROWS = np.empty(0, np.uint32)


@dataclass(frozen=True)
class Users:
    """A column of user ids without nulls: integers or text."""

    series: pl.Series
    integers: bool = False
    """Whether the ids came as integers, of any width."""
    secret: Keys = field(default_factory=lambda: SECRET, repr=False, compare=False)
    """The secret of the hash: 34 random words."""

    @classmethod
    def of(cls, column: pl.Series) -> "Users":
        """Check the type of a column of user ids."""
        dtype = column.dtype
        if isinstance(dtype, pl.Categorical | pl.Enum | pl.String):
            return cls(column)
        if dtype in (pl.Int64, pl.UInt64):
            return cls(column, integers=True)
        if dtype == pl.Binary:
            return cls(uuid_text(column))
        if dtype.is_integer() or (isinstance(dtype, pl.Decimal) and dtype.scale == 0):
            low, high = min_max(column)
            fits = low is None or (int(low) >= -INT64_LIMIT and int(high) < INT64_LIMIT)
            return cls(column.cast(pl.Int64 if fits else pl.String), integers=True)
        if dtype == pl.Null and not len(column):
            return cls(column.cast(pl.Int64), integers=True)
        target = "pl.Int64" if dtype.is_float() else "pl.String"  # pandas turns integers with nulls into floats
        raise SchemaError(
            f"column {column.name!r} is {dtype}",
            value=dtype,
            expected="user ids as integers, strings or categoricals",
            hint=f"pl.col({column.name!r}).cast({target})",
        )

    @classmethod
    def align(
        cls, left: "Users", right: "Users", tables: tuple[str, str] = ("the transactions", "joined")
    ) -> tuple["Users", "Users"]:
        """Convert two columns to the same type, so that a user has the same key in both."""
        dtypes = left.series.dtype, right.series.dtype
        if dtypes[0] == dtypes[1] and dtypes[0] in (pl.Int64, pl.UInt64, pl.String):
            return left, right
        if left.integers != right.integers and len(left.series) and len(right.series):
            raise SchemaError(
                f"the users are {dtypes[0]} in {tables[0]} ({left.series[0]!r}) and {dtypes[1]} in {tables[1]} "
                f"({right.series[0]!r})",
                expected="the same type in both",
                hint="cast one of them",
            )
        return cls(left.series.cast(pl.String)), cls(right.series.cast(pl.String))

    def __len__(self) -> int:
        return len(self.series)

    @staticmethod
    def has_one_type(dtype: pl.DataType) -> bool:
        """Whether each batch of such a column is read as the same type, so that keys agree between batches."""
        return dtype == pl.String or (dtype.is_integer() and dtype not in (pl.Int128, pl.UInt128))

    @property
    def wide(self) -> bool:
        """Whether a key takes two words."""
        return self.series.dtype == pl.String

    def text(self, rows: NDArray[np.uint32]) -> pl.Series:
        """Return the ids of some rows as text."""
        return self.series.gather(rows).cast(pl.String)

    def keys(self, first: int, count: int) -> tuple[Keys, Keys]:
        """Hash `count` rows, starting at row `first`.

        Returns the first word of each key, and the second for text; for integers the second array is empty.
        """
        keys = buffers.empty(count, np.uint64)
        if not self.wide:
            mix_integers(self.ids(first, count), self.secret, keys)
            return keys, np.empty(0, np.uint64)
        keys2 = buffers.empty(count, np.uint64)
        offset = -first  # where the chunk starts in the result
        for views, memory, bases in self._views:
            begin, end = max(offset, 0), min(offset + views.size // 2, count)
            if begin < end:
                rows = views[2 * (begin - offset) : 2 * (end - offset)]
                out = keys[begin:end], keys2[begin:end]
                fingerprint_strings(rows, memory, bases, _NO_NULLS, _ALL_ROWS, self.secret, *out)
            offset += views.size // 2
        return keys, keys2

    def bounds(self) -> tuple[int, int]:
        """Return the least and the greatest integer id, as signed 64-bit integers; there must be at least one."""
        low, high = min_max(pl.Series(self.ids(0, len(self.series))))
        return int(low), int(high)

    def ids(self, first: int, count: int) -> Ints:
        """Read `count` integer ids, starting at row `first`, as signed 64-bit integers."""
        return self._ids(first, count).view(np.int64)

    def narrow_keys(self, first: int, count: int, base: int, bits: int) -> Keys | None:
        """Hash integer ids to the top `bits` of a word; None if an id is not in ``base`` to ``base + 2**bits - 1``."""
        keys = buffers.empty(count, np.uint64)
        ids = self.ids(first, count)
        return None if mix_narrow(ids, np.int64(base), bits, self.secret, keys) else keys

    @cached_property
    def _ids(self) -> ColumnReader:
        ids = physical(self.series)
        return ColumnReader(ids if ids.dtype == pl.UInt64 else ids.cast(pl.Int64))

    @cached_property
    def _views(self) -> list[tuple[Keys, NDArray[np.uint8], Keys]]:
        return string_views(self.series)


@dataclass(frozen=True)
class NarrowIds:
    """Integer ids that are known by their narrow keys: as for `Users.narrow_keys`, shifted down to `bits` bits.

    `dtype` is the type of the ids, Int64 or UInt64.
    """

    dtype: pl.DataType
    base: int
    bits: int
    secret: Keys = field(default_factory=lambda: SECRET, repr=False, compare=False)

    def of(self, keys: Keys) -> pl.Series:
        """Return the ids of keys."""
        inverses = (np.uint64(pow(int(word) | 1, -1, 1 << 64)) for word in self.secret[:2])
        ids = np.empty(keys.size, np.int64)
        unmix_narrow(keys, np.int64(self.base), self.bits, *inverses, ids)
        return pl.Series(ids.view(np.uint64) if self.dtype == pl.UInt64 else ids)


def uuid_text(column: pl.Series) -> pl.Series:
    """Write binary ids of 16 bytes as UUIDs; raise SchemaError for other lengths."""
    values = column.alias("")
    if (values.bin.size() != 16).any():
        raise SchemaError(
            f"column {column.name!r} is Binary, of other lengths than 16 bytes",
            value=column.dtype,
            expected="user ids as integers, strings, categoricals or UUIDs",
            hint=f"pl.col({column.name!r}).bin.encode('hex')",
        )
    digits = values.bin.encode("hex")
    parts = [digits.str.slice(first, size) for first, size in ((0, 8), (8, 4), (12, 4), (16, 4), (20, 12))]
    return pl.select(pl.concat_str([pl.lit(part) for part in parts], separator="-")).to_series().alias(column.name)


_DTYPES: dict[str, type[pl.DataType]] = {"Int64": pl.Int64, "UInt64": pl.UInt64, "String": pl.String}


@dataclass(frozen=True)
class UserEncoding:
    """How user ids are stored and hashed, the same in all batches of a table.

    Attributes
    ----------
    dtype
        The stored type: ``"Int64"``, ``"UInt64"`` or ``"String"``.
    secret
        The secret of the hash.
    integers
        Whether the ids came as integers, of any width.
    """

    dtype: str
    secret: Keys
    integers: bool

    @classmethod
    def of(cls, dtype: pl.DataType, name: str, secret: Keys = SECRET) -> "UserEncoding":
        """Choose the encoding for the type of a column; one that batches could read differently is stored as text."""
        users = Users.of(pl.Series(name, [], dtype=dtype))
        text = users.series.dtype not in (pl.Int64, pl.UInt64) or not (Users.has_one_type(dtype) or dtype == pl.Null)
        return cls("String" if text else str(users.series.dtype), secret, users.integers)

    @property
    def wide(self) -> bool:
        """Whether a key takes two words."""
        return self.dtype == "String"

    def users(self, column: pl.Series) -> Users:
        """Encode a column of user ids."""
        return Users(column.cast(_DTYPES[self.dtype]), self.integers, self.secret)
