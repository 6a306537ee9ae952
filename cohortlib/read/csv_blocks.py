"""Blocks of text of CSV files: some records each, or groups of blocks that are parsed at once."""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cohortlib.engine.kernels import csv as kernel
from cohortlib.read import bytes as text_bytes

NO_TEXT = np.empty(0, np.uint8)
_PADDING = 80  # bytes behind a text: kernels read 64 at a time


class Block(NamedTuple):
    """Some records of a file: the first `size` bytes of an array.

    `offset` and `line` are where it begins in the text, and `last` is whether it is the last of its file. `split` is
    False if no record end was found.
    """

    file: int
    text: NDArray[np.uint8]
    size: int
    offset: int
    line: int
    last: bool
    split: bool = True

    @classmethod
    def empty(cls, file: int, offset: int, line: int, *, split: bool = True) -> "Block":
        """Return a block without text."""
        return cls(file, joined(NO_TEXT, b""), 0, offset, line, last=False, split=split)

    def lines(self, at: int) -> int:
        """Count the line ends before a place."""
        return int(kernel.count_byte(self.text, at, kernel.NEWLINE))


def joined(carry: NDArray[np.uint8], text: bytes) -> NDArray[np.uint8]:
    """Return two texts as one array, with padding."""
    size = carry.size + len(text)
    text_array = np.empty(size + _PADDING, np.uint8)
    text_array[: carry.size] = carry
    text_array[carry.size : size] = np.frombuffer(text, np.uint8)
    text_array[size:] = 0
    return text_array


def grouped(blocks: Iterable[Block]) -> Iterator[list[Block]]:
    """Group blocks until they have half the size of a full one: those of many small files make one batch."""
    group: list[Block] = []
    size = 0
    for block in blocks:
        group.append(block)
        size += block.size
        if size >= text_bytes.BLOCK // 2:
            yield group
            group, size = [], 0
    if group:
        yield group
