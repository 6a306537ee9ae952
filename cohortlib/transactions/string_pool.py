"""Strings with Arrow string views, from which columns are built and passed to polars without a copy."""

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from cohortlib.read.arrays import Ints, Keys, string_views
from cohortlib.transactions.kernels.customers import append_letters, gather_text

_PAGE = 1 << 30  # bytes from the start of one buffer to the next; an offset in a view has 31 bits


@dataclass(frozen=True)
class StringPool:
    """Strings in a buffer, each with its Arrow view of two words.

    A column repeats strings by repeating their views.
    """

    views: Keys
    store: NDArray[np.uint8]

    @classmethod
    def of(cls, column: pl.Series, rows: NDArray[np.uint32]) -> "StringPool":
        """Copy some rows of a column, as text."""
        # Read front to back, chunk by chunk.
        places = np.argsort(rows)
        rows = rows[places]
        if column.dtype != pl.String:
            column, rows = column.gather(rows).cast(pl.String), np.arange(rows.size, dtype=np.uint32)
        chunks = string_views(column)
        edges = np.cumsum([0] + [words.size // 2 for words, _, _ in chunks])
        cuts = np.searchsorted(rows, edges)
        spans = [(slice(*cuts[i : i + 2]), int(edges[i]), *chunk) for i, chunk in enumerate(chunks)]
        size = 0
        for piece, first, words, _, _ in spans:
            lengths = words[::2][rows[piece] - np.uint32(first)] & np.uint64(0xFFFFFFFF)
            size += int(lengths[lengths > 12].sum())
        views, store, end = np.empty(2 * rows.size, np.uint64), np.empty(size, np.uint8), 0
        for piece, first, words, memory, bases in spans:
            end = gather_text(rows[piece], first, words, memory, bases, places[piece], views, store, end)
        return cls(views, store)

    def column(self, name: str, views: Keys) -> pl.Series:
        """Return a column of views into this pool; it keeps both alive."""
        import nanoarrow
        from nanoarrow.c_array_stream import CArrayStream

        pages = [self.store[begin:] for begin in range(0, self.store.size, _PAGE)]
        sizes = np.array([page.size for page in pages], np.int64)
        dtype = nanoarrow.string_view()
        array = nanoarrow.c_array_from_buffers(dtype, views.size // 2, [None, views, *pages, sizes], null_count=0)
        # Moved, not shared: nanoarrow miscounts the buffers of a shared string view array.
        return pl.Series(name, CArrayStream.from_c_arrays([array], nanoarrow.c_schema(dtype), move=True))

    def sort(self, indices: Ints, first: NDArray[np.bool_]) -> None:
        """Sort strings in place within their groups, by their bytes; the strings of a group must differ.

        `indices` are the strings, group by group, and `first` marks the first of each group.
        """
        places = np.arange(indices.size)
        begin = 0
        while True:
            tied = ~(first & np.append(first[1:], True))
            if not tied.any():
                return
            places, groups = places[tied], np.cumsum(first[tied]).astype(np.uint64)
            # The first four letters are in the view itself.
            count = min((64 - int(groups[-1]).bit_length()) // 9, 64 if begin else 4)
            strings = indices[places]
            append_letters(strings, self.views, self.store, begin, count, groups)
            order = np.argsort(groups)
            indices[places] = strings[order]
            groups = groups[order]
            first = np.append(True, groups[1:] != groups[:-1])
            begin += count
