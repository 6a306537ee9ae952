"""Divide Parquet files into slices of whole row groups, which are decoded apart from each other.

A reader that streams a whole file reads far ahead: it takes more CPU time, and three times the memory.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from cohortlib.read.footers import Footer

SLICE = 1 << 20
"""Rows of a slice. Row groups of more rows are slices of their own, up to `LARGEST`."""
LARGEST = 1 << 22
"""Rows of the largest row group that is decoded at once."""
_LEAST = 1 << 16  # rows of a slice, unless there are no more


class FileSlice(NamedTuple):
    """Rows of a file: the number of the file, the first row, the number of rows, and about the bytes of their groups.

    A reader holds all bytes of a row group, also if it decodes only some of its rows.
    """

    file: int
    first: int
    rows: int
    stored: int


def file_slices(footers: Sequence[Footer], max_rows: float = math.inf) -> list[FileSlice] | None:
    """Divide files into slices; None if a file is better streamed.

    Streaming a row group of more than `LARGEST` rows takes a quarter less CPU time than decoding it in slices, and
    three times the memory; so it is divided only if it has more than `max_rows`.
    """
    slices: list[FileSlice] = []
    for number, footer in enumerate(footers):
        piece = int(min(max(max_rows, _LEAST), LARGEST))
        largest = max(footer.groups, default=0)
        if LARGEST < largest <= max_rows:
            return None
        most = min(SLICE, piece)
        if largest > LARGEST:  # its bytes take memory, too
            piece = max(piece // 2, _LEAST)
        row_bytes = footer.size / max(footer.rows, 1)
        slices += [
            FileSlice(number, begin, min(piece, first + rows - begin), int(rows * row_bytes))
            for first, rows in _joined(footer.groups, most)
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
