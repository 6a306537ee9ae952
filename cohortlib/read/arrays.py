"""Read columns as numpy arrays, without a copy where possible."""

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import polars as pl
from numpy.typing import NDArray

from cohortlib.engine.kernels.days import least_and_greatest
from cohortlib.engine.threads import on_threads

Ints: TypeAlias = NDArray[np.int64]
Keys: TypeAlias = NDArray[np.uint64]
INT64_LIMIT = 2**63
_PIECE = 1 << 20  # rows whose bounds a thread finds at a time
_FAR = 253_402_300_799  # the last second of the year 9999


class ColumnReader:
    """Read a numeric column slice by slice; without a copy if it has one chunk. Values of nulls are undefined."""

    def __init__(self, column: pl.Series) -> None:
        self._column = column
        self._array = _values(column) if column.n_chunks() == 1 else None

    def __call__(self, first: int, count: int) -> NDArray[Any]:
        """Return `count` rows, starting at row `first`, as a read-only array."""
        if self._array is None:
            return _values(self._column.slice(first, count).rechunk())
        return read_only(self._array[first : first + count])


def _values(column: pl.Series) -> NDArray[Any]:
    """Return the values of a column of one chunk; to_numpy would convert one with nulls to floats."""
    if not column.null_count():
        return read_only(column.to_numpy())
    import nanoarrow

    chunk = next(iter(nanoarrow.c_array_stream(column.alias(""))))
    _, address = chunk.buffers
    dtype = column.head(0).to_numpy().dtype
    return _array_at(address + dtype.itemsize * chunk.offset, len(chunk), dtype.str, chunk)


@dataclass(frozen=True)
class _Memory:
    """A region of memory in numpy's array interface; keeps its owner alive."""

    __array_interface__: dict[str, object]
    owner: object


def _array_at(address: int, size: int, dtype: str, owner: object) -> NDArray[Any]:
    if not size:
        return read_only(np.empty(0, dtype))
    interface = {"data": (address, True), "shape": (size,), "typestr": dtype, "version": 3}
    return np.asarray(_Memory(interface, owner))


def string_views(column: pl.Series, *, nulls: bool = True) -> list[tuple[Keys, NDArray[np.uint8], Keys]]:
    """Return the Arrow views, the memory and the buffer offsets of each chunk of a string column, without a copy.

    The data buffers can be anywhere in memory. One array of bytes spans them all, from the lowest to the highest
    address; only bytes within a buffer are ever read.

    Parameters
    ----------
    nulls
        Replace nulls with empty text. This copies the views, as Arrow leaves those of nulls undefined. Without it,
        the caller must not read the views of nulls.
    """
    import nanoarrow

    pieces = []
    is_null = column.alias("").is_null().to_numpy() if nulls and column.null_count() else None
    row = 0
    for chunk in nanoarrow.c_array_stream(column.alias("")):  # a NUL in a name would abort the process
        _, views, *addresses, sizes = chunk.buffers
        lengths = _array_at(sizes, len(addresses), "<i8", chunk).tolist()
        buffers = list(zip(addresses, lengths, strict=True))
        low = min((address for address, size in buffers if size), default=0)
        high = max((address + size for address, size in buffers if size), default=0)
        bases = np.array([address - low if size else 0 for address, size in buffers], np.uint64)
        words = _array_at(views + 16 * chunk.offset, 2 * len(chunk), "<u8", chunk)
        if is_null is not None:
            words = words.copy()
            words.reshape(-1, 2)[is_null[row : row + len(chunk)]] = 0
            words = read_only(words)
        row += len(chunk)
        pieces.append((words, _array_at(low, high - low, "|u1", chunk), bases))
    return pieces


def min_max(column: pl.Series, workers: int = 1) -> tuple[Any, Any]:
    """Return the minimum and the maximum, or None twice if there are no values."""
    pieces = [column.slice(first, _PIECE) for first in range(0, max(len(column), 1), _PIECE)]
    bounds = [pair for pair in on_threads(workers, _min_max, pieces) if pair[0] is not None]
    return (min(low for low, _ in bounds), max(high for _, high in bounds)) if bounds else (None, None)


def _min_max(column: pl.Series) -> tuple[Any, Any]:
    if column.dtype == pl.Int64 and column.n_chunks() == 1 and len(column) and not column.null_count():
        low, high = least_and_greatest(read_only(column.to_numpy()))
        return int(low), int(high)  # in plain Python they are of numpy
    return column.min(), column.max()


def physical(column: pl.Series) -> pl.Series:
    """Return the integers behind a column, without its name, which polars could take for a pattern."""
    return column.alias("").to_physical()


def example(column: pl.Series) -> str:
    """Show the first value in brackets, for a message; empty if there is none."""
    return f" ({column.alias('').drop_nulls()[0]!r})" if column.null_count() < len(column) else ""


def value_text(column: pl.Series, at: int) -> str:
    """Return a value as text; far instants, for which polars has no text and panics, as a number."""
    value = column.alias("").slice(at, 1)
    if value.dtype.is_temporal():
        unit = value.dtype.time_unit if isinstance(value.dtype, pl.Datetime) else "days"
        number = value.to_physical()[0]
        seconds = number * 86_400 if unit == "days" else number // {"ms": 10**3, "us": 10**6, "ns": 10**9}[unit]
        if abs(seconds) > _FAR:
            return f"{number:,} {unit} since 1970"
    return str(value.cast(pl.String)[0])


def range_text(column: pl.Series) -> str:
    """Describe the range of a column, for a message."""
    values = column.alias("")
    if values.dtype.is_temporal():
        low, high = (value_text(values, at or 0) for at in (values.arg_min(), values.arg_max()))
    else:
        low, high = min_max(values)
    return f"column {column.name!r} runs from {low} to {high}"


def read_only(array: NDArray[Any]) -> NDArray[Any]:
    """Return a read-only view.

    Arrays from polars are read-only, and numba compiles a kernel once more for writable arguments.
    """
    array = array.view()
    array.flags.writeable = False
    return array
