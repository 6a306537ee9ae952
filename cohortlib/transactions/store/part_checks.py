"""Check what the files of a part hold, before a kernel reads it.

Kernels check no bounds. These checks hold also for a folder that was edited and given new digests.
"""

from pathlib import Path

import numpy as np
import polars as pl

from cohortlib.read.amounts import magnitude
from cohortlib.read.arrays import Keys, min_max, read_only
from cohortlib.read.users import UserEncoding
from cohortlib.transactions.store.manifest import DroppedFile, Manifest, PartFile
from cohortlib.transactions.store.manifest_checks import damaged
from cohortlib.transactions.store.parts import BATCH, DAY, DROPPED_USER, INSTANT, KEY, KEY2, SIZE, UNITS, USER

_TYPES = {KEY: pl.UInt64, KEY2: pl.UInt64, SIZE: pl.UInt32, DAY: pl.Int32, UNITS: pl.Int64, INSTANT: pl.Int64}
COHORT, LAST, NET = "cohort", "last_period", "last_net"
STANDING = {COHORT: pl.Int32, LAST: pl.Int32, NET: pl.Int64}
"""The columns of a state's users: the periods of the cohort and of the last activity, and the net of that period."""
NEVER = -(2**31)
"""The period of users without a cohort or activity."""


def check_users(file: Path, users: pl.DataFrame, part: PartFile, manifest: Manifest) -> None:
    """Raise SourceError unless columns of users can be those of a part; keys and sizes must be among them."""
    if users.height != part.users:
        raise damaged(file, f"has {users.height:,} users", f"{part.users:,}")
    for column in users:
        kind = {**_TYPES, **STANDING}.get(column.name) or getattr(pl, manifest.kind)
        _check_column(file, column, kind)
    key = users[KEY].to_numpy()
    key2 = users[KEY2].to_numpy() if manifest.text else np.empty(0, np.uint64)
    if (key[0], key[-1]) != (part.low, part.high):
        raise damaged(file, f"has keys from {key[0]} to {key[-1]}", f"{part.low} to {part.high}")
    if not _ascending(key, key2):
        raise damaged(file, f"column {KEY!r} is not ascending", "each key once")
    sizes = users[SIZE].to_numpy()
    total = int(sizes.sum(dtype=np.int64))
    if not sizes.all() or total != part.rows:
        what = f"column {SIZE!r} has values from {sizes.min()}, with the sum {total:,}"
        raise damaged(file, what, f"values from 1, with the sum {part.rows:,}")
    if USER in users.columns and manifest.secret:
        ids = UserEncoding(manifest.kind, manifest.key_secret, manifest.whole).users(users[USER])
        for name, found, hashed in zip((KEY, KEY2), (key, key2), ids.keys(0, len(ids)), strict=True):
            if not np.array_equal(found, hashed):
                raise damaged(file, f"column {USER!r} does not have the users of column {name!r}")
    if COHORT in users.columns:
        _check_standing(file, users, manifest)


def _ascending(key: Keys, key2: Keys) -> bool:
    """Return whether keys ascend, each once."""
    if not key2.size:
        return bool((key[1:] > key[:-1]).all())
    return bool(((key[1:] > key[:-1]) | ((key[1:] == key[:-1]) & (key2[1:] > key2[:-1]))).all())


def check_rows(file: Path, rows: pl.DataFrame, part: PartFile, manifest: Manifest) -> None:
    """Raise SourceError unless columns of rows can be all rows of a part; days and amounts must be among them."""
    if rows.height != part.rows:
        raise damaged(file, f"has {rows.height:,} rows", f"{part.rows:,}")
    for column in rows.select(name for name in (DAY, UNITS, INSTANT) if name in rows.columns):
        _check_column(file, column, _TYPES[column.name])
    first, last = min_max(rows[DAY])
    if (first, last) != (part.first_day, part.final_day):
        raise damaged(file, f"column {DAY!r} has days from {first} to {last}", f"{part.first_day} to {part.final_day}")
    total = magnitude(read_only(rows[UNITS].to_numpy()))
    if total != part.magnitude:
        raise damaged(file, f"column {UNITS!r} has the absolute sum {total}", str(part.magnitude))
    if manifest.state and BATCH in rows.columns:
        _check_column(file, rows[BATCH], pl.UInt32)
        codes = {batch["code"] for batch in manifest.state["batches"]}
        unknown = set(rows[BATCH].unique().to_list()) - codes
        if unknown:
            raise damaged(file, f"column {BATCH!r} has the unknown batch {min(unknown)}", "those of the manifest")
    check_kept(file, rows, manifest)


def check_kept(file: Path, rows: pl.DataFrame, manifest: Manifest) -> None:
    """Raise SourceError unless kept columns have the types with which they were written."""
    for name, kind in zip(manifest.keep, manifest.kept_types, strict=False):
        if name in rows.columns and str(rows.schema[name]) != kind:
            raise damaged(file, f"column {name!r} is {rows.schema[name]}", kind)


def check_dropped(file: Path, rows: pl.DataFrame, dropped: DroppedFile, manifest: Manifest) -> None:
    """Raise SourceError unless columns can be those of a file of dropped rows."""
    if rows.height != dropped.rows:
        raise damaged(file, f"has {rows.height:,} rows", f"{dropped.rows:,}")
    if rows.schema[DAY] != pl.Int32:
        raise damaged(file, f"column {DAY!r} is {rows.schema[DAY]}", "Int32")
    last = min_max(rows[DAY])[1]
    if last is not None and (manifest.last_dropped is None or last > manifest.last_dropped):
        raise damaged(file, f"column {DAY!r} has days up to {last}", f"up to {manifest.last_dropped}")
    if DROPPED_USER in rows.columns and str(rows.schema[DROPPED_USER]) != manifest.kind:
        raise damaged(file, f"column {DROPPED_USER!r} is {rows.schema[DROPPED_USER]}", manifest.kind)
    check_kept(file, rows, manifest)


def _check_column(file: Path, column: pl.Series, kind: type[pl.DataType]) -> None:
    if column.dtype != kind:
        raise damaged(file, f"column {column.name!r} is {column.dtype}", str(kind()))
    if column.null_count():
        raise damaged(file, f"column {column.name!r} has {column.null_count():,} nulls", "no nulls")


def _check_standing(file: Path, users: pl.DataFrame, manifest: Manifest) -> None:
    """Check the standing of users: periods within those of all rows, and a cohort before the last period."""
    first, final = manifest.periods
    cohort, last = (users[name].to_numpy() for name in (COHORT, LAST))
    valid = ((first <= last) & (last <= final) | (last == NEVER)) & (
        (cohort == NEVER) | ((first <= cohort) & (cohort <= last))
    )
    if not valid.all():
        at = int(np.flatnonzero(~valid)[0])
        what = f"columns {COHORT!r} and {LAST!r} have {cohort[at]} and {last[at]}"
        raise damaged(file, what, f"periods from {first} to {final}, in this order")
    low, high = min_max(users[NET])
    if max(abs(low), abs(high)) > manifest.magnitude:
        raise damaged(file, f"column {NET!r} has values from {low} to {high}", f"at most {manifest.magnitude} in size")
