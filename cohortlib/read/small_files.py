"""Join small Parquet files of one schema in memory, so that they are decoded as the row groups of one file.

A file has a cost of its own in every reader: its schema, its tasks. For files of 1,000 rows that is most of the time.
"""

import math
import os
from collections.abc import Iterable, Sequence
from typing import TypeAlias

import numpy as np

from cohortlib.engine.kernels.footer import ROWS, SCHEMA
from cohortlib.read.footers import GROUPS, MARK, NUM_ROWS, READ, TRAILER, Footer, FooterParser

Block: TypeAlias = range
"""The numbers of files that are joined."""

ROWS_OF_BLOCK = 1 << 17
_BYTES_OF_BLOCK = 1 << 24
_LARGEST = 1 << 20  # rows of a file that is decoded at once
_LONG_LIST = b"\xfc"  # the head of a list of structs, before its size
_SPACE = 64  # bytes that moved row groups may take beyond twice the size of the footer


def blocks_of(footers: Sequence[Footer], alike: Iterable[range], max_rows: float = math.inf) -> list[Block] | None:
    """Divide files into blocks, each within one of the ranges `alike`; None if there is nothing to join."""
    if max(footer.rows for footer in footers) > _LARGEST:
        return None
    most = min(ROWS_OF_BLOCK, max_rows)
    blocks = []
    for run in alike:
        begin, rows, size = run.start, 0, 0
        for number in run:
            footer = footers[number]
            if number > begin and (rows + footer.rows > most or size + footer.size > _BYTES_OF_BLOCK):
                blocks.append(range(begin, number))
                begin, rows, size = number, 0, 0
            rows, size = rows + footer.rows, size + footer.size
        blocks.append(range(begin, run.stop))
    return blocks if len(blocks) < len(footers) else None


def join(paths: Sequence[str], footers: Sequence[Footer]) -> bytes | None:
    """Join files of one schema; None if one has changed since its footer was read."""
    parser = FooterParser()
    moved = np.empty(sum(2 * footer.length + _SPACE for footer in footers), np.uint8)
    files: list[bytes] = []
    place = size = 0
    head = tail = b""
    for path, footer in zip(paths, footers, strict=True):
        data = _read(path, footer.size)
        pages_end = footer.size - TRAILER - footer.length
        written = data[pages_end:-TRAILER]
        taken = None
        if len(data) == footer.size and hash(written) == footer.digest:
            taken = parser.parse(written, pages_end, place, moved[size:])
        if taken is None:
            return None
        if not files:
            head, tail = written[: parser.marks[SCHEMA]], written[parser.marks[ROWS + 1] :]
        files.append(data)
        place, size = place + footer.size, size + taken
    rows, groups = sum(footer.rows for footer in footers), sum(len(footer.groups) for footer in footers)
    numbers = (NUM_ROWS, _varint(2 * rows), GROUPS, _LONG_LIST, _varint(groups))
    joined = b"".join((head, *numbers, moved[:size].tobytes(), tail))
    return b"".join((*files, joined, len(joined).to_bytes(4, "little"), MARK))


def _read(path: str, size: int) -> bytes:
    """Read a file of `size` bytes, and one byte more if it has grown."""
    descriptor = os.open(path, READ)
    try:
        return os.read(descriptor, size + 1)
    finally:
        os.close(descriptor)


def _varint(value: int) -> bytes:
    """Return a number as Thrift's compact protocol writes it."""
    written = bytearray()
    while value > 127:
        written.append(value & 127 | 128)
        value >>= 7
    return bytes([*written, value])
