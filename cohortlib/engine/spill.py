"""Spill rows that do not fit into memory: write them to files by partition, and read back some partitions at a time.

Rows are gathered in a run as large as memory allows, and partitioned. `Spill.sink` combines the blocks of a run, so
that each partition is contiguous, and writes it as a few long files. `Spill.scan` reads the rows that all runs have of
some partitions. A row has columns of fixed width, others in a frame, or both.
"""

from collections.abc import Callable
from pathlib import Path
from threading import Lock
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import polars as pl
from numpy.typing import NDArray

from cohortlib.engine import files, memory
from cohortlib.engine.buffers import empty
from cohortlib.engine.partitions import Chunk, ColumnSpec, Partitions
from cohortlib.engine.threads import on_threads

RUN_SHARE = 0.4
"""The part of the memory that the rows of a run may take."""
RANGE_SHARE = 0.4
"""The part of the memory for processing the partitions that are read back together."""

_CHUNKS = 16  # files of a run: the rows of a file are in memory twice while it is written
_CHUNK_ROWS = 1 << 16  # least rows of a file, unless there are no more
_GROUPS = 64  # row groups of a file: no more than one is decoded in vain

Numbers: TypeAlias = Callable[[tuple[NDArray[Any], ...]], NDArray[np.uint32]]
"""Returns the number of each row in the frame of its run, from the columns of the rows."""


class _Piece(NamedTuple):
    """A file of a run: its rows of partition ``first + p`` are ``edges[p]`` to ``edges[p + 1]``."""

    first: int
    edges: NDArray[np.int64]
    path: Path


class Spill:
    """Rows on disk, by partition.

    Parameters
    ----------
    folder, name
        The folder of the files, and how their names begin.
    bits
        The partition of a row is the top `bits` of its key.
    types
        The columns of fixed width to write: the first ones of each run.
    """

    def __init__(self, folder: Path, name: str, bits: int, types: tuple[ColumnSpec, ...] = ()) -> None:
        self.bits, self.sizes = bits, np.zeros(1 << bits, np.int64)
        self._path, self._types = folder / name, types
        self._pieces: list[_Piece] = []
        self._runs, self._lock = 0, Lock()

    def sink(
        self, run: Partitions, frame: pl.DataFrame | None = None, numbers: Numbers | None = None, workers: int = 1
    ) -> None:
        """Write a run; `numbers` finds the rows of its `frame`, which has the other columns of all rows."""
        prefix = f"{self._path.name}-{self._runs:05}"
        most = max(int(run.sizes.sum()) // _CHUNKS, _CHUNK_ROWS)

        def write(partitions: range) -> _Piece:
            chunk = run.combine(partitions)
            path = self._path.with_name(f"{prefix}-{partitions.start:04}")
            self._write(path, chunk, None if frame is None or numbers is None else frame[numbers(chunk.columns)])
            return _Piece(chunk.first, chunk.edges, path)

        pieces = on_threads(workers, write, ranges_within(run.sizes, most))
        memory.trim()
        self._runs += 1
        self._pieces += pieces
        self.sizes += run.sizes

    def _write(self, path: Path, chunk: Chunk, frame: pl.DataFrame | None) -> None:
        if self._types:
            with files.file_errors(path), path.open("wb") as stream:
                for column, _ in zip(chunk.columns, self._types, strict=False):
                    stream.write(column.data)
        if frame is not None:
            group = max(1024, frame.height // _GROUPS)
            with files.file_errors(_frame_file(path)):
                frame.write_parquet(_frame_file(path), compression="lz4", statistics=False, row_group_size=group)

    def scan(self, partitions: range) -> tuple[Partitions, list[pl.DataFrame]]:
        """Read some partitions: their columns, and a frame of each file, in the order of the rows."""
        rows = int(self.sizes[partitions.start : partitions.stop].sum())
        columns = tuple(empty(rows * width, dtype) for dtype, width in self._types)
        blocks, frames = [np.zeros((len(partitions) + 1, 0), np.int64)], []
        at = 0
        for piece in self._pieces:
            places = np.clip(np.arange(partitions.start, partitions.stop + 1) - piece.first, 0, piece.edges.size - 1)
            edges = piece.edges[places]
            begin, end = int(edges[0]), int(edges[-1])
            if begin == end:
                continue
            self._read(piece, begin, end, at, columns)
            file = _frame_file(piece.path)
            if file.exists():
                frames.append(pl.scan_parquet(file, glob=False).slice(begin, end - begin).collect())
            blocks.append((edges - begin + at)[:, None])
            at += end - begin
        return Partitions.of(np.hstack(blocks), columns, [width for _, width in self._types]), frames

    def _read(self, piece: _Piece, begin: int, end: int, at: int, columns: tuple[NDArray[Any], ...]) -> None:
        """Read rows of a file to the place of row `at` in each column."""
        if not self._types:
            return
        with piece.path.open("rb") as stream:
            before = 0
            for column, (dtype, width) in zip(columns, self._types, strict=True):
                row_bytes = np.dtype(dtype).itemsize * width
                stream.seek(before + begin * row_bytes)
                stream.readinto(column[at * width : (at + end - begin) * width].data.cast("B"))
                before += int(piece.edges[-1]) * row_bytes


def _frame_file(path: Path) -> Path:
    return path.with_name(f"{path.name}.parquet")


def ranges_within(need: NDArray[np.int64], room: float) -> list[range]:
    """Split partitions into ranges that need at most `room` together, or have one partition.

    Partitions that need nothing are left out at the ends.
    """
    ranges, start, size = [], 0, 0
    for partition, more in enumerate(need.tolist()):
        if size and size + more > room:
            ranges.append(range(start, partition))
            size = 0
        if not size:
            start = partition
        size += more
    return [*ranges, range(start, len(need))] if size else ranges
