"""Look up users of a prepared form by key: their latest columns, and all of their rows. Updates of a state do both."""

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
import polars as pl

from cohortlib.transactions.store.manifest import PartFile
from cohortlib.transactions.store.part_files import parts_in_range
from cohortlib.transactions.store.parts import SIZE, Part, RowRanges, key_slice, keys_of, match_keys
from cohortlib.transactions.store.prepared import Prepared


class UserSlice(NamedTuple):
    """Some users of a part; its file has `rows_before` rows before theirs."""

    part: PartFile
    users: pl.DataFrame
    rows_before: int


def users_in_ranges(
    store: Prepared, key_ranges: Sequence[tuple[int, int]], columns: Sequence[str]
) -> list[list[UserSlice]]:
    """Read columns of the users in each key range, from every run, the latest first."""
    slices: list[list[UserSlice]] = [[] for _ in key_ranges]
    for run in reversed(store.manifest.runs):
        for (low, high), in_range in zip(key_ranges, slices, strict=True):
            for part in parts_in_range(run, low, high):
                read = partial(store.read_users, part, columns)
                if low <= part.low and part.high <= high:
                    in_range.append(UserSlice(part, read(), 0))
                else:
                    users = store.read_once((part.name, *columns), read)
                    begin, end = key_slice(users, low, high)
                    in_range.append(UserSlice(part, users[begin:end], int(users[SIZE][:begin].sum())))
    return slices


def read_history(store: Prepared, users: pl.DataFrame, slices: Sequence[UserSlice]) -> Part:
    """Read all rows of some users."""
    key, key2 = keys_of(users)
    parts = []
    for part, part_users, rows_before in slices:
        _, places = match_keys(key, key2, *keys_of(part_users))
        if places.size:
            sizes = part_users[SIZE].to_numpy()
            begins = (rows_before + np.cumsum(sizes, dtype=np.int64) - sizes)[places]
            ranges = RowRanges(np.arange(1, places.size + 1), begins, sizes[places])
            rows = store.read_rows(part, [])
            parts.append(Part(part_users[places].select(*users.columns), rows, ranges).contiguous())
    return Part.merge(parts).contiguous()
