"""Look up users of a prepared form by key: their latest columns, and all of their rows. Updates of a state do both."""

from collections.abc import Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl

from cohortlib.transactions.store.manifest import PartFile, damaged
from cohortlib.transactions.store.part_files import parts_in_range, scan_part
from cohortlib.transactions.store.parts import (
    DAY,
    KEY,
    KEY2,
    SIZE,
    UNITS,
    Part,
    RowRanges,
    key_slice,
    keys_of,
    match_keys,
)
from cohortlib.transactions.store.prepared import Prepared

FEW = 8  # users of a part whose rows are read one range at a time


class UserSlice(NamedTuple):
    """Some users of a part; its file has `rows_before` rows before theirs."""

    part: PartFile
    users: pl.DataFrame
    rows_before: int


def users_in_ranges(
    store: Prepared, key_ranges: Sequence[tuple[int, int]], columns: Sequence[str]
) -> list[list[UserSlice]]:
    """Read columns of the users in each key range, from every run, the latest first."""
    columns = [KEY, *[KEY2] * store.text, *columns, SIZE]
    slices: list[list[UserSlice]] = [[] for _ in key_ranges]
    whole_parts: list[tuple[list[UserSlice], int]] = []
    for run in reversed(store.manifest.runs):
        for (low, high), in_range in zip(key_ranges, slices, strict=True):
            for part in parts_in_range(run, low, high):
                if low <= part.low and part.high <= high:
                    whole_parts.append((in_range, len(in_range)))
                    in_range.append(UserSlice(part, pl.DataFrame(), 0))
                else:
                    file = store.folder / f"{part.name}.users.parquet"
                    users = store.read_once((part.name, *columns), partial(store.read_columns, file, columns))
                    begin, end = key_slice(users, low, high)
                    in_range.append(UserSlice(part, users[begin:end], int(users[SIZE][:begin].sum())))
    files = [store.folder / f"{in_range[at].part.name}.users.parquet" for in_range, at in whole_parts]
    frames = _collect(store, [scan_part(file).select(*columns) for file in files], files)
    for (in_range, at), users in zip(whole_parts, frames, strict=True):
        in_range[at] = in_range[at]._replace(users=users)
    return slices


def read_history(store: Prepared, users: pl.DataFrame, slices: Sequence[UserSlice]) -> Part:
    """Read all rows of some users: one range per user if a part has few of them, else its whole file."""
    key, key2 = keys_of(users)
    matched_users: list[pl.DataFrame] = []
    ranges: list[RowRanges] = []
    scans: list[list[pl.LazyFrame]] = []
    files: list[Path] = []
    for part, part_users, rows_before in slices:
        _, places = match_keys(key, key2, *keys_of(part_users))
        if not places.size:
            continue
        sizes = part_users[SIZE].to_numpy()
        begins = (rows_before + np.cumsum(sizes, dtype=np.int64) - sizes)[places]
        file = store.folder / f"{part.name}.rows.parquet"
        scan = scan_part(file).select(DAY, UNITS)
        matched_users.append(part_users[places].select(*users.columns))
        ranges.append(RowRanges(np.arange(1, places.size + 1), begins, sizes[places]))
        few = places.size <= FEW
        scans.append([scan.slice(*one) for one in zip(begins, sizes[places], strict=True)] if few else [scan])
        files += [file] * len(scans[-1])
    frames = iter(_collect(store, [scan for of_part in scans for scan in of_part], files))
    parts = []
    for of_users, of_rows, of_part in zip(matched_users, ranges, scans, strict=True):
        pieces = list(islice(frames, len(of_part)))
        if of_users.height <= FEW:
            part_rows = Part.of(of_users, pl.concat(pieces, rechunk=True))
        elif pieces[0].height >= (of_rows.starts + of_rows.sizes).max():
            part_rows = Part(of_users, pieces[0], of_rows).contiguous()
        else:
            raise damaged(store.folder)
        if part_rows.rows.height != of_rows.sizes.sum(dtype=np.int64) or not store.has_valid_rows(part_rows.rows):
            raise damaged(store.folder)
        parts.append(part_rows)
    return Part.merge(parts).contiguous()


def _collect(store: Prepared, scans: list[pl.LazyFrame], files: list[Path]) -> list[pl.DataFrame]:
    """Read many files at once, because opening a file takes longer than reading it."""
    try:
        return pl.collect_all(scans)
    except (pl.exceptions.PolarsError, OSError):
        for scan, file in zip(scans, files, strict=True):
            try:
                scan.collect()
            except (pl.exceptions.PolarsError, OSError) as error:
                raise store.read_error(file, error) from error
        raise
