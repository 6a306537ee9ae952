"""Prepare the users of a part for the kernel: rows, ranks of segments, joined days."""

from dataclasses import replace

import numpy as np
import polars as pl
from numpy.typing import NDArray

from cohortlib.read.arrays import read_only
from cohortlib.transactions.general.rows import JOINED, TableRows, UserTable, column_names, part_rows
from cohortlib.transactions.general.values import Codes
from cohortlib.transactions.kernels import general as kernel
from cohortlib.transactions.store.parts import DAY, KEY, KEY2, SIZE, UNITS, USER, Part

_SPLIT = "\0split"


def part_count(rows: TableRows) -> int:
    """Return the number of parts, with a last one for joined users whose keys are in the range of no part."""
    return rows.store.count + (rows.joined is not None)


def part_of(rows: TableRows, index: int) -> tuple[Part, kernel.UserRows, kernel.Columns]:
    """Load a part, and return its users and the arrays of its rows."""
    keys, columns = [KEY, KEY2] if rows.store.text else [KEY], column_names(rows)
    if index < rows.store.count:
        part = rows.load(index, [*keys, USER] if rows.keep_ids else keys)
    else:
        no_users = [pl.Series(key, [], dtype=pl.UInt64) for key in keys] + [pl.Series(SIZE, [], dtype=pl.UInt32)]
        no_users += [rows.joined.users[USER].clear()] if rows.joined is not None else []
        no_rows = [pl.Series(DAY, [], dtype=pl.Int32), *(pl.Series(n, [], dtype=pl.Int64) for n in (UNITS, *columns))]
        part = Part.of(pl.DataFrame(no_users), pl.DataFrame(no_rows))
    part = part.contiguous()
    instants, codes, amounts = part_rows(rows, part)
    if rows.question.split:
        part, order = _split(part, codes)
        instants = instants[order] if instants.size else instants
        codes, amounts = codes[:0], np.ascontiguousarray(amounts[:, order])
    joined = np.empty(0, np.int32)
    if rows.joined is not None:
        part = _with_joined(rows, part, index)
        joined = part.users[JOINED].fill_null(int(kernel.NOT_JOINED)).to_numpy()
    ends = part.ranges.cumulative_rows()
    days, units = (part.rows[name].to_numpy() for name in (DAY, UNITS))
    user_rows = kernel.UserRows(
        read_only(ends), read_only(days), read_only(units), read_only(np.arange(days.size, dtype=np.uint32))
    )
    row_columns = kernel.Columns(
        read_only(instants), read_only(codes), read_only(amounts), read_only(joined),
        read_only(_user_codes(rows, part)),
    )  # fmt: skip
    return part, user_rows, row_columns


def _split(part: Part, codes: Codes) -> tuple[Part, NDArray[np.intp]]:
    """Make each value that a user has rows of a user of its own; return also the order of rows."""
    owners = np.repeat(np.arange(part.users.height), part.users[SIZE].to_numpy())
    order = np.lexsort((*codes[::-1], owners))
    codes, owners = codes[:, order], owners[order]
    starts = np.append(True, owners[1:] != owners[:-1])[: owners.size]
    if owners.size:
        starts[1:] |= (codes[:, 1:] != codes[:, :-1]).any(axis=0)
    begins = np.flatnonzero(starts)
    sizes = np.diff(np.append(begins, owners.size)).astype(np.uint32)
    users = part.users[owners[begins]].with_columns(
        pl.Series(SIZE, sizes), *(pl.Series(f"{_SPLIT}{at}", each[begins]) for at, each in enumerate(codes))
    )
    return Part.of(users, part.rows[order]), order


def _with_joined(rows: TableRows, part: Part, index: int) -> Part:
    """Add the joined days of users, and the joined users without rows; with `split`, those without rows of a value."""
    keys = [KEY, KEY2] if rows.store.text else [KEY]
    joined = _in_range(rows, rows.joined, index)
    users = part.users.join(joined.drop(USER), on=keys, how="left", maintain_order="left")
    names = [f"{_SPLIT}{at}" for at in range(len(rows.question.split))]
    if names:
        values = [pl.Series(name, rows.ranks(column)[codes]) for name, column, codes in
                  zip(names, rows.question.split, rows.split_codes, strict=True)]  # fmt: skip
        joined = joined.join(pl.DataFrame(values), how="cross")
    without = joined.join(part.users.select(*keys, *names), on=[*keys, *names], how="anti")
    together = pl.concat([users, without.with_columns(pl.lit(0, pl.UInt32).alias(SIZE)).select(users.columns)])
    ends = np.append(part.ranges.ends, np.full(without.height, part.ranges.sizes.size, np.int64))
    return Part(together, part.rows, replace(part.ranges, ends=ends))


def _in_range(rows: TableRows, table: UserTable | None, index: int) -> pl.DataFrame:
    """Return the users of a table in the key range of a part; for the last part, those in no range."""
    users = pl.DataFrame() if table is None else table.users
    store = rows.store
    if index < store.count:
        return users.filter(pl.col(KEY).is_between(*store.key_ranges[index]))
    if not store.count:
        return users
    lows, highs = (np.array(ends, np.uint64) for ends in zip(*store.key_ranges, strict=True))
    key = users[KEY].to_numpy()
    before = np.searchsorted(lows, key, side="right").astype(np.int64) - 1
    return users.filter((before < 0) | (key > highs[np.maximum(before, 0)]))


def _user_codes(rows: TableRows, part: Part) -> Codes:
    """Return the ranks of the segments' columns that are known by user: of the table `users`, and those of `split`."""
    if rows.question.split:
        return np.array([part.users[f"{_SPLIT}{at}"].to_numpy() for at in range(len(rows.question.split))])
    if rows.attributes is None:
        return np.empty((0, part.users.height), np.uint32)
    keys = [KEY, KEY2] if rows.store.text else [KEY]
    names = [name for name in rows.question.by if name not in rows.row_columns]
    found = part.users.select(keys).join(
        rows.attributes.users.select(*keys, *names), on=keys, how="left", maintain_order="left"
    )
    codes = np.empty((len(names), part.users.height), np.uint32)
    for at, name in enumerate(names):
        codes[at] = rows.ranks(name)[found[name].fill_null(0).to_numpy()]
    return codes
