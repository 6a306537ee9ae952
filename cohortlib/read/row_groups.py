"""Divide Parquet files into slices of whole row groups, which are decoded apart from each other.

A reader that streams a whole file reads far ahead: it takes more CPU time, and three times the memory.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

SLICE = 1 << 20
"""Rows of a slice. Row groups of more rows are slices of their own, up to `LARGEST`."""
LARGEST = 1 << 22
"""Rows of the largest row group that is decoded at once."""
_LEAST = 1 << 16  # rows of a slice, unless there are no more
_TRAILER = 8  # bytes: the size of the footer, and a mark
_MARK = b"PAR1"
_MOST_GROUPS = 1 << 15


class FileSlice(NamedTuple):
    """Rows of a file: the number of the file, the first row, the number of rows, and about the bytes of their groups.

    A reader holds all bytes of a row group, also if it decodes only some of its rows.
    """

    file: int
    first: int
    rows: int
    stored: int


def file_slices(paths: Sequence[str], max_rows: float = math.inf) -> list[FileSlice] | None:
    """Divide files into slices; None if a file is not local, its footer is not plain, or it is better streamed.

    Streaming a row group of more than `LARGEST` rows takes a quarter less CPU time than decoding it in slices, and
    three times the memory; so it is divided only if it has more than `max_rows`.
    """
    slices: list[FileSlice] = []
    for number, path in enumerate(paths):
        piece = int(min(max(max_rows, _LEAST), LARGEST))
        sizes = _group_sizes(path)
        if sizes is None or LARGEST < sizes.max(initial=0) <= max_rows:
            return None
        most = min(SLICE, piece)
        if sizes.max(initial=0) > LARGEST:  # its bytes take memory, too
            piece = max(piece // 2, _LEAST)
        row_bytes = Path(path).stat().st_size / max(int(sizes.sum()), 1)
        slices += [
            FileSlice(number, begin, min(piece, first + rows - begin), int(rows * row_bytes))
            for first, rows in _joined(sizes.tolist(), most)
            for begin in range(first, first + rows, piece)
        ]
    return slices


def _joined(sizes: Iterable[int], most: int) -> Iterator[tuple[int, int]]:
    """Join row groups as long as they have at most `most` rows; yield the first row and the number of rows."""
    first, rows = 0, 0
    for size in sizes:
        if rows and rows + size > most:
            yield first, rows
            first, rows = first + rows, 0
        rows += size
    if rows:
        yield first, rows


def _group_sizes(path: str) -> NDArray[np.int64] | None:
    """Read the number of rows of each row group from the footer of a file."""
    from cohortlib.engine.kernels.footer import DEPTH, row_group_sizes

    with suppress(OSError, ValueError), Path(path).open("rb") as file:
        end = file.seek(0, 2)
        file.seek(max(0, end - _TRAILER))
        trailer = file.read(_TRAILER)
        size = int.from_bytes(trailer[:4], "little")
        if trailer[4:] == _MARK and 0 < size <= end - _TRAILER:
            file.seek(end - _TRAILER - size)
            footer = np.frombuffer(file.read(size), np.uint8)
            sizes = np.empty(_MOST_GROUPS, np.int64)
            count = row_group_sizes(footer, *(np.zeros(DEPTH, np.int64) for _ in range(3)), sizes)
            return sizes[:count] if count >= 0 else None
    return None
