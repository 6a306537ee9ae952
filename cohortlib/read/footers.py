"""Read the footers of Parquet files: the rows of each row group, and what says how columns are read."""

import os
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cohortlib.engine.jit import INTERPRETER
from cohortlib.engine.kernels.footer import DEPTH, FIELDS, METADATA, ROWS, SCHEMA, read_row_groups

TRAILER = 8
"""Bytes behind a footer: its size, and a mark."""
MARK = b"PAR1"
NUM_ROWS, GROUPS = b"\x16", b"\x19"
"""The heads of the fields behind the schema: an integer and a list, in Thrift's compact protocol."""
READ = os.O_RDONLY | getattr(os, "O_BINARY", 0)

_AHEAD = 4096  # bytes of a file's end that are read at once: many a footer
_PLAIN = 1 << 15  # bytes of footers that a process parses in plain Python: compiling takes longer
_MOST_GROUPS = 1 << 15
_ARROW = b"\x18\x0cARROW:schema\x18"  # a key in the metadata, and the head of its value


class Footer(NamedTuple):
    """The footer of a file.

    Attributes
    ----------
    size
        The size of the file in bytes.
    length
        The size of the footer in bytes.
    groups
        The number of rows of each row group.
    schema
        The columns, as Parquet describes them; the same object in all files where it is equal.
    arrow
        The columns, as Arrow describes them; polars takes types from both.
    digest
        A hash of the footer, within this process.
    """

    size: int
    length: int
    groups: tuple[int, ...]
    schema: bytes
    arrow: bytes
    digest: int

    @property
    def rows(self) -> int:
        """The number of rows."""
        return sum(self.groups)


class FooterParser:
    """Parse footers, with buffers for one after the other.

    Attributes
    ----------
    marks
        The ends of the first fields of the footer that was parsed last.
    groups
        The number of rows of each of its row groups.
    """

    parsed = 0
    """Bytes of footers that were parsed in this process."""

    def __init__(self) -> None:
        self._stack, self._sizes = np.zeros((3, DEPTH), np.int64), np.empty(_MOST_GROUPS, np.int64)
        self._marks = np.zeros(FIELDS, np.int64)
        self.marks: list[int] = []
        self.groups: tuple[int, ...] = ()

    def parse(self, footer: bytes, pages_end: int, shift: int, moved: NDArray[np.uint8]) -> int | None:
        """Write the row groups with places moved by `shift` to `moved`; return their size, None if it is not plain."""
        data = np.frombuffer(footer, np.uint8)
        arguments = (data, pages_end, shift, self._stack, self._marks, self._sizes, moved)
        FooterParser.parsed += len(footer)
        small = FooterParser.parsed <= _PLAIN
        result = INTERPRETER.run(read_row_groups.py_func, arguments) if small else read_row_groups(*arguments)
        count, rows, size = result
        self.marks, self.groups = self._marks.tolist(), tuple(self._sizes[: max(count, 0)].tolist())
        heads = tuple(footer[self.marks[field] : self.marks[field] + 1] for field in (SCHEMA, ROWS))
        return None if count < 0 or rows != sum(self.groups) or heads != (NUM_ROWS, GROUPS) else size


def read_footers(paths: Iterable[str]) -> list[Footer] | None:
    """Read the footers of files; None if some are not local, or not plain."""
    parser, known = FooterParser(), dict[bytes, bytes]()
    footers = []
    for path in paths:
        footer = _read_footer(path, parser)
        if footer is None:
            return None
        schema, arrow = (known.setdefault(each, each) for each in (footer.schema, footer.arrow))
        footers.append(footer._replace(schema=schema, arrow=arrow))
    return footers


def _read_footer(path: str, parser: FooterParser) -> Footer | None:
    try:
        descriptor = os.open(path, READ)
    except (OSError, ValueError):
        return None
    try:
        size = os.fstat(descriptor).st_size
        tail = _end_of(descriptor, size, min(size, _AHEAD))
        length = int.from_bytes(tail[-TRAILER:-4], "little")
        if tail[-4:] != MARK or not 0 < length <= size - TRAILER:
            return None
        if length + TRAILER > len(tail):
            tail = _end_of(descriptor, size, length + TRAILER)
    except OSError:
        return None
    finally:
        os.close(descriptor)
    footer = tail[-TRAILER - length : -TRAILER]
    if parser.parse(footer, size - TRAILER - length, 0, np.empty(0, np.uint8)) is None:
        return None
    metadata = footer[parser.marks[METADATA - 1] : parser.marks[METADATA]]
    return Footer(size, length, parser.groups, footer[: parser.marks[SCHEMA]], _arrow_schema(metadata), hash(footer))


def _end_of(descriptor: int, size: int, count: int) -> bytes:
    os.lseek(descriptor, size - count, os.SEEK_SET)
    return os.read(descriptor, count)


def _arrow_schema(metadata: bytes) -> bytes:
    begin = metadata.find(_ARROW)
    if begin < 0:
        return b""
    size = shift = 0
    at = begin + len(_ARROW)
    for byte in metadata[at:]:
        size |= (byte & 127) << shift
        shift += 7
        at += 1
        if byte < 128:
            break
    return metadata[at : at + size]
