"""Order users by cohort, by an amount and by their ids as text."""

from collections.abc import Callable
from itertools import pairwise

import numpy as np
import polars as pl
from numpy.typing import NDArray

from cohortlib.engine.buffers import empty
from cohortlib.engine.threads import on_threads
from cohortlib.read.arrays import Ints, Keys, read_only, string_views
from cohortlib.transactions.kernels.order import (
    Entries,
    Texts,
    append_letters,
    common_prefix,
    deal,
    sort_entries,
    text_keys,
)

_SLICE = 1 << 16  # users whose ids a thread compares at a time
_EXACT = 1 << 52  # amounts in units below it are different floats if they are different


def texts_of(column: pl.Series) -> Texts:
    """Return the text of a column for kernels, without a copy if it has one chunk. There must be no nulls."""
    pieces = string_views(column.rechunk())
    if pieces:
        return Texts(*pieces[0])
    return Texts(read_only(np.empty(0, np.uint64)), read_only(np.empty(0, np.uint8)), np.empty(0, np.uint64))


def descending(units: Ints, amounts: Callable[[], NDArray[np.float64]]) -> Keys:
    """Return keys that sort amounts from the largest on; those that are equal as floats have the same key.

    Parameters
    ----------
    units
        The amounts in units of money, none negative.
    amounts
        Returns the same amounts as floats.
    """
    if units.max(initial=0) < _EXACT:
        return (np.int64(_EXACT) - units).view(np.uint64)
    return ~amounts().view(np.uint64)


def user_order(cohort: NDArray[np.int32], chosen: NDArray[np.bool_], sizes: Keys, texts: Texts, workers: int) -> Ints:
    """Return the chosen users by cohort, then by `sizes`, then by their ids as text; ids must differ."""
    slices = [(first, min(first + _SLICE, cohort.size)) for first in range(0, cohort.size, _SLICE)]
    skip = min(on_threads(workers, lambda part: int(common_prefix(*part, texts)), slices), default=0)
    keys = empty(cohort.size, np.uint64)
    on_threads(workers, lambda part: text_keys(*part, texts, skip, keys), slices)
    counts = np.bincount(cohort[chosen], minlength=1)
    ends = np.cumsum(counts)
    count = int(ends[-1])
    entries = Entries(np.empty(count, np.int64), empty(count, np.uint64), empty(count, np.uint64))
    deal(cohort, chosen, sizes, keys, ends - counts, entries)
    first = np.empty(count, np.bool_)

    def sort(part: tuple[int, int]) -> None:
        if sort_entries(*part, entries, first):
            _sort_ties(texts, entries.customer[slice(*part)], first[slice(*part)], skip)

    on_threads(workers, sort, [(begin, end) for begin, end in pairwise([0, *ends.tolist()]) if begin < end])
    return entries.customer


def _sort_ties(texts: Texts, indices: Ints, first: NDArray[np.bool_], begin: int) -> None:
    """Sort texts in place within their groups, by their bytes from `begin` on; the texts of a group must differ.

    `indices` are the texts, group by group, and `first` marks the first of each group.
    """
    places = np.arange(indices.size)
    while True:
        tied = ~(first & np.append(first[1:], True))
        if not tied.any():
            return
        places, groups = places[tied], np.cumsum(first[tied]).astype(np.uint64)
        count = (64 - int(groups[-1]).bit_length()) // 9
        strings = indices[places]
        append_letters(strings, texts, begin, count, groups)
        order = np.argsort(groups)
        indices[places] = strings[order]
        groups = groups[order]
        first = np.append(True, groups[1:] != groups[:-1])
        begin += count
