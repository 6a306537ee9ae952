"""Columns as arrays, without a copy where possible."""

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import polars as pl
from numpy.typing import NDArray

Ints: TypeAlias = NDArray[np.int64]
Keys: TypeAlias = NDArray[np.uint64]
LIMIT = 2**63


class Numbers:
    """A column of numbers, read piece by piece; without a copy where it lies in one chunk."""

    def __init__(self, column: pl.Series) -> None:
        self._column = column
        self._whole = column.to_numpy() if column.n_chunks() == 1 else None

    def __call__(self, first: int, count: int) -> NDArray[Any]:
        """Return a slice of the column as a read-only array."""
        if self._whole is None:
            return frozen(self._column.slice(first, count).to_numpy())
        return frozen(self._whole[first : first + count])


@dataclass(frozen=True)
class _Region:
    """A stretch of memory that numpy may look at; it holds what owns it."""

    __array_interface__: dict[str, object]
    owner: object


def _memory(address: int, size: int, dtype: str, owner: object) -> NDArray[Any]:
    if not size:
        return frozen(np.empty(0, dtype))
    face = {"data": (address, True), "shape": (size,), "typestr": dtype, "version": 3}
    return np.asarray(_Region(face, owner))


def string_views(column: pl.Series, *, nulls: bool = True) -> list[tuple[Keys, NDArray[np.uint8], Keys]]:
    """Give the views of a string column, chunk by chunk, and the memory behind them, without a copy.

    A null is empty text; then the views are copied, as nobody knows what stands in that of a null. Without `nulls` it
    is left to the caller not to look there.

    The data buffers lie anywhere; one array of bytes spans them all, from the lowest to the highest address, and
    only places within a buffer are ever read.
    """
    import nanoarrow

    pieces = []
    gone = column.alias("").is_null().to_numpy() if nulls and column.null_count() else None
    at = 0
    for chunk in nanoarrow.c_array_stream(column):
        _, views, *data, sizes = chunk.buffers
        lengths = _memory(sizes, len(data), "<i8", chunk).tolist()
        filled = [(start, size) for start, size in zip(data, lengths, strict=True) if size]
        low = min((start for start, _ in filled), default=0)
        high = max((start + size for start, size in filled), default=0)
        bases = np.array([start - low if size else 0 for start, size in zip(data, lengths, strict=True)], np.uint64)
        words = _memory(views + 16 * chunk.offset, 2 * len(chunk), "<u8", chunk)
        if gone is not None:
            words = words.copy()
            words.reshape(-1, 2)[gone[at : at + len(chunk)]] = 0
            words = frozen(words)
        at += len(chunk)
        pieces.append((words, _memory(low, high - low, "|u1", chunk), bases))
    return pieces


def value_range(column: pl.Series) -> tuple[Any, Any]:
    """Give the least and the greatest value, or twice None."""
    return column.min(), column.max()


def physical_of(column: pl.Series) -> pl.Series:
    """Give the numbers behind a column; without its name, which polars may take for a pattern."""
    return column.alias("").to_physical()


def example_of(column: pl.Series) -> str:
    """Show a value, in brackets, where there is one."""
    return f" ({column.alias('').drop_nulls()[0]!r})" if column.null_count() < len(column) else ""


def spread_of(column: pl.Series) -> str:
    """Name the least and the greatest value of a column."""
    plain = column.alias("")
    if plain.dtype.is_temporal():
        # Python has no dates before the year 1.
        plain = plain.gather([plain.arg_min() or 0, plain.arg_max() or 0]).cast(pl.String)
        low, high = plain
    else:
        low, high = value_range(plain)
    return f"column {column.name!r} runs from {low} to {high}"


def frozen(array: NDArray[Any]) -> NDArray[Any]:
    """Mark an array as read-only: numba compiles a kernel apart for each kind, and polars lends the former."""
    array = array.view()
    array.flags.writeable = False
    return array
