"""Codes of the values of a column, batch by batch; their ranks order segments."""

from threading import Lock

import numpy as np
import polars as pl
from numpy.typing import NDArray

from cohortlib.engine.buffers import empty
from cohortlib.errors import Arg, SchemaError
from cohortlib.read.arrays import Ints, physical, string_views
from cohortlib.transactions.kernels.codes import (
    CodeTable,
    TextTable,
    add_codes,
    add_text_codes,
    find_codes,
    find_text_codes,
)

Codes = NDArray[np.uint32]
_LOCK = Lock()  # while values are added
_NO_NULLS = np.empty(0, np.bool_)
_SHORT = 12  # bytes of a text that is all in its view
_DENSE = 1 << 12  # a table by value has at least room for so many


class Values:
    """The distinct values of a column, with codes from 1 in the order in which they were met; null is 0.

    Several threads can encode at the same time.
    """

    def __init__(self, name: str, setting: str = "by") -> None:
        self.name, self.setting = name, setting
        self._dtype: pl.DataType = pl.Null()
        self._text = pl.Categorical(pl.Categories.random(""))
        self._held = pl.Series("", [], dtype=self._text)  # polars forgets the codes of a type that no column has
        self._values = pl.Series(name, [], dtype=pl.Null)  # by code, from 1
        # These are replaced, not changed, while threads read them: the codes of polars' numbers, of short texts, and of
        # integers.
        self._numbers = np.empty(0, np.uint32)
        self._texts = TextTable(np.zeros(1, np.uint64), np.zeros(1, np.uint64), np.zeros(1, np.uint32))
        self._table = CodeTable(0, np.empty(0, np.int64), np.zeros(1, np.uint32))

    def encode(self, column: pl.Series) -> Codes:
        """Return the code of each value of a batch."""
        dtype = column.dtype
        if dtype.is_nested() or dtype in (pl.Object, pl.Unknown, pl.Binary):
            raise SchemaError((Arg(self.setting, self.name), f" is a column of {dtype}"), value=dtype,
                              expected="text, numbers, dates or booleans")  # fmt: skip
        column = column.alias(self.name)
        if dtype == pl.Null:
            return np.zeros(column.len(), np.uint32)
        with _LOCK:
            if self._dtype == pl.Null:
                self._dtype = dtype
        if isinstance(dtype, pl.Categorical | pl.Enum | pl.String):
            return self._encode_text(column.cast(pl.String))
        if _is_integer(dtype) and self._values.dtype in (pl.Null, dtype):
            return self._encode_integers(column)
        with _LOCK:
            return self._encode_values(column)

    @property
    def dtype(self) -> pl.DataType:
        """The type of the column."""
        return self._dtype

    @property
    def count(self) -> int:
        """The number of ranks: of values, and one for null, which is the last."""
        return self._values.len() + 1

    def ranks(self) -> Codes:
        """Return the rank of each code: numbers by value, text by code point, null last."""
        order = self._values.arg_sort().to_numpy()
        ranks = np.empty(order.size + 1, np.uint32)
        ranks[0] = order.size
        ranks[1 + order] = np.arange(order.size, dtype=np.uint32)
        return ranks

    def column(self, ranks: Ints) -> pl.Series:
        """Return the values of ranks, in the type of the column."""
        ordered = self._values.sort().extend_constant(None, 1)
        return ordered.gather(ranks).cast(self._dtype).alias(self.name)

    def rank_of(self, value: object) -> int | None:
        """Return the rank of one value; None if there is no such value."""
        if value is None:
            return self._values.len()
        ordered = self._values.sort().cast(self._dtype).to_list()
        if isinstance(value, str) and self._values.dtype != pl.String:  # as the command line has it
            ordered = [str(each) for each in ordered]
        return ordered.index(value) if value in ordered else None

    def _encode_text(self, column: pl.Series) -> Codes:
        """Encode text: short ones by a hash table of their views, others by the numbers that polars assigns."""
        nulls = column.alias("").is_null().to_numpy() if column.null_count() else _NO_NULLS
        codes, at, complete = empty(column.len(), np.uint32), 0, True
        for views, _, _ in string_views(column):
            complete &= find_text_codes(self._texts, views, codes[at : at + views.size // 2])
            at += views.size // 2
        if not complete:
            rest = codes == 0
            rest[nulls if nulls.size else slice(0)] = False
            numbers = column.filter(pl.Series(rest)).cast(self._text).to_physical().to_numpy()
            with _LOCK:
                self._add_texts(numbers)
            codes[rest] = self._numbers[numbers]
        codes[nulls if nulls.size else slice(0)] = 0
        return codes

    def _add_texts(self, numbers: Codes) -> None:
        """Add the texts that are new, by the numbers of polars."""
        if not numbers.size:
            return
        known = np.zeros(max(self._numbers.size, int(numbers.max()) + 1), np.uint32)
        known[: self._numbers.size] = self._numbers
        seen = np.zeros(known.size, np.bool_)
        seen[numbers] = True
        new = np.flatnonzero(seen & (known == 0)).astype(np.uint32)
        if not new.size:
            return
        first = self._values.len() + 1
        known[new] = np.arange(first, first + new.size, dtype=np.uint32)
        old = self._values.cast(pl.String)
        self._values = pl.concat([old, pl.Series(self.name, new).cat.to(self._text).cast(pl.String)]).rechunk()
        self._numbers = known
        short = self._values.str.len_bytes() <= _SHORT
        codes = np.arange(1, self._values.len() + 1, dtype=np.uint32)[short.to_numpy()]
        size = 1 << (2 * codes.size + 1).bit_length()
        table = TextTable(np.zeros(size, np.uint64), np.zeros(size, np.uint64), np.zeros(size, np.uint32))
        views = [piece[0] for piece in string_views(self._values.filter(short))]
        add_text_codes(table, np.concatenate([np.empty(0, np.uint64), *views]), codes)
        self._texts = table

    def _encode_integers(self, column: pl.Series) -> Codes:
        """Encode whole numbers, and other types that are stored as such."""
        some = column.drop_nulls() if column.null_count() else column
        values = _integers(some)
        codes = empty(values.size, np.uint32)
        if not find_codes(self._table, values, codes):
            with _LOCK:
                self._add_integers(np.unique(values), column.dtype)
            find_codes(self._table, values, codes)
        if values.size == column.len():
            return codes
        spread = np.zeros(column.len(), np.uint32)
        spread[column.alias("").is_not_null().to_numpy()] = codes
        return spread

    def _add_integers(self, values: Ints, dtype: pl.DataType) -> None:
        """Add the values that are new to a new table, as other threads may read the old one."""
        old = np.empty(0, np.int64) if self._values.dtype == pl.Null else _integers(self._values)
        together = np.concatenate([old, values[~np.isin(values, old)]])
        low, high = int(together.min()), int(together.max())
        if high - low < max(_DENSE, 4 * together.size):
            table = CodeTable(low, np.empty(0, np.int64), np.zeros(high - low + 1, np.uint32))
            table.codes[together - low] = np.arange(1, together.size + 1, dtype=np.uint32)
        else:
            size = 1 << (2 * together.size).bit_length()
            table = CodeTable(0, np.zeros(size, np.int64), np.zeros(size, np.uint32))
            add_codes(table, together, 1)
        self._values = _from_integers(together, dtype).alias(self.name)
        self._table = table

    def _encode_values(self, column: pl.Series) -> Codes:
        if column.dtype.is_float():
            column = column.set(column == 0, 0.0)  # or 0 and −0, which are equal, show as the one that came first
        if self._values.dtype == pl.Null:
            self._values = column.clear()
        elif column.dtype != self._values.dtype:
            frames = [self._values.to_frame(), column.clear().to_frame()]
            self._values = pl.concat(frames, how="vertical_relaxed").to_series()
            column = column.cast(self._values.dtype)
            self._dtype = column.dtype
        new = column.unique().drop_nulls()
        new = new.filter(~new.is_in(self._values.implode()))
        self._values = pl.concat([self._values, new])
        codes = pl.Series(np.arange(1, self._values.len() + 1, dtype=np.uint32))
        if not self._values.len():
            return np.zeros(column.len(), np.uint32)
        numbers = column.replace_strict(self._values, codes, default=0, return_dtype=pl.UInt32)
        return numbers.to_numpy()


def _is_integer(dtype: pl.DataType) -> bool:
    """Return whether values are stored as whole numbers of at most 64 bits."""
    return dtype in (pl.Boolean, pl.Date, pl.Time) or isinstance(dtype, pl.Datetime | pl.Duration) or (
        dtype.is_integer() and dtype not in (pl.Int128, pl.UInt128)
    )  # fmt: skip


def _integers(column: pl.Series) -> Ints:
    numbers = physical(column)
    signed = numbers.reinterpret(signed=True) if numbers.dtype == pl.UInt64 else numbers.cast(pl.Int64)
    array: Ints = signed.to_numpy()
    return array


def _from_integers(values: Ints, dtype: pl.DataType) -> pl.Series:
    numbers = pl.Series(values)
    stored = pl.Series([], dtype=dtype).to_physical().dtype
    return (numbers.reinterpret(signed=False) if stored == pl.UInt64 else numbers.cast(stored)).cast(dtype)
