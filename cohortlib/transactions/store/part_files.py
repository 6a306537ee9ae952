"""Write and read the Parquet files of a part, with their digests."""

from bisect import bisect_left
from collections.abc import Sequence
from io import BytesIO
from itertools import takewhile
from pathlib import Path

import polars as pl

from cohortlib.engine import files
from cohortlib.engine.digests import digest
from cohortlib.read.amounts import magnitude
from cohortlib.read.arrays import read_only
from cohortlib.read.tables import PANIC, first_line
from cohortlib.transactions.store.manifest import MANIFEST, DroppedFile, PartFile
from cohortlib.transactions.store.manifest_checks import damaged
from cohortlib.transactions.store.parts import DAY, KEY, UNITS, Part

_ROW_GROUP = 1 << 15  # rows; as many are read where a few are needed


def write_part(folder: Path, name: str, part: Part, *, durable: bool = False) -> PartFile:
    """Write a part, whose rows are in the order of its users; if `durable`, wait until it is on disk."""
    users_digest = _write(users_file(folder, name), part.users, durable=durable)
    rows_digest = _write(rows_file(folder, name), part.rows, durable=durable, row_group=_ROW_GROUP)
    key, days = part.users[KEY].to_numpy(), part.rows[DAY].to_numpy()
    return PartFile(
        name, key.size, part.rows.height, int(key[0]), int(key[-1]), int(days.min()), int(days.max()),
        magnitude(read_only(part.rows[UNITS].to_numpy())), users_digest, rows_digest,
    )  # fmt: skip


def write_dropped(folder: Path, name: str, rows: pl.DataFrame) -> DroppedFile:
    """Write the kept columns, the users and the days of dropped rows."""
    return DroppedFile(name, rows.height, _write(dropped_file(folder, name), rows, durable=False))


def users_file(folder: Path, name: str) -> Path:
    """Return the file of a part's users."""
    return folder / f"{name}.users.parquet"


def rows_file(folder: Path, name: str) -> Path:
    """Return the file of a part's rows."""
    return folder / f"{name}.rows.parquet"


def dropped_file(folder: Path, name: str) -> Path:
    """Return a file of dropped rows."""
    return folder / f"{name}.dropped.parquet"


def _write(file: Path, frame: pl.DataFrame, *, durable: bool, row_group: int | None = None) -> str:
    """Write a frame; return the digest of the file."""
    with files.file_errors(file):
        # Uncompressed: dictionary encoding already removes most repetition, and decompressing takes longer than
        # reading.
        buffer = BytesIO()
        frame.write_parquet(buffer, compression="uncompressed", statistics=False, row_group_size=row_group)
        data = buffer.getbuffer()
        with file.open("wb") as stream:
            stream.write(data)
        if durable:
            files.fsync(file)
    return digest(data)


def read_file(file: Path, expected: str, columns: Sequence[str]) -> pl.DataFrame:
    """Read columns of a file that has the expected digest; raise SourceError if it has another, or OSError."""
    data = file.read_bytes()
    if digest(data) != expected:
        raise damaged(file, f"does not have the digest in {MANIFEST}")
    try:
        return pl.read_parquet(data, columns=list(columns)).select(*columns).rechunk()  # kernels need arrays
    except (pl.exceptions.PolarsError, PANIC, OSError) as error:
        raise damaged(file, f"cannot be read: {first_line(error)}") from error


def parts_in_range(run: Sequence[PartFile], low: int, high: int) -> list[PartFile]:
    """Return the parts of a run that have keys from `low` to `high`, both inclusive."""
    begin = bisect_left(run, low, key=lambda part: part.high)
    return list(takewhile(lambda part: part.low <= high, run[begin:]))
