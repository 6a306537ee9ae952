"""Transactions generated from a seed. The same seed gives the same frame."""

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import polars as pl
import pyarrow as pa

if TYPE_CHECKING:
    from benchmarks.engines import Table

START = np.datetime64("2023-01-01", "us")
END = np.datetime64("2026-01-01", "us")
REFUNDS = 0.04
IDS = ("int", "random", "text", "uuid")


class Transactions(NamedTuple):
    """The input of a question. `packable` means that ids are integers from 0 to 2**47, which an analyst would know."""

    rows: "Table"
    packable: bool


def transactions(
    rows: int, ids: str = "int", *, seed: int = 0, shuffled: bool = False, rows_per_user: float = 10
) -> pl.DataFrame:
    """
    Generate `rows` transactions of about `rows / rows_per_user` users over the three years 2023 to 2025.

    A few users have most of the rows: the share of the user at rank r is proportional to r to the power of −2/3.
    30 % of the users join on the first day, the others at any time, and all users buy most right after joining. 4 % of
    the rows are refunds.

    Parameters
    ----------
    rows
        Number of rows.
    ids
        "int": serial numbers in the order of joining, with gaps; "random": any integers of 46 bits; "text": text of 18
        characters such as "usr_00000000012345"; "uuid": text of 36 characters.
    seed
        Seed of the random generator.
    shuffled
        Return the rows in random order instead of the order of time.
    rows_per_user
        Average number of rows per user with at least one row; above 1.

    Returns
    -------
    pl.DataFrame
        Columns user_id (Int64 or String), timestamp (Datetime, microseconds, no zone), amount (Float64,
        whole cents).
    """
    rng = np.random.default_rng(seed)
    span = int((END - START).astype(np.int64))

    user, users = _numbered((_ranks(rows, rows_per_user) * rng.random(rows) ** 3).astype(np.int64))
    joined = np.where(rng.random(users) < 0.3, 0.0, rng.random(users)) * span
    instant = joined[user]
    instant = (instant + (span - instant) * rng.random(rows) ** 2).astype(np.int64)
    order = rng.permutation(rows) if shuffled else np.argsort(instant, kind="stable")
    instant, user = instant[order], user[order]
    del order
    cents = np.ceil(np.exp(rng.normal(7.0, 1.0, rows)))
    cents[rng.random(rows) < REFUNDS] *= -1
    return pl.DataFrame(
        {
            "user_id": own_bytes(_ids(joined, ids, rng).gather(user)),
            "timestamp": START + instant.astype("timedelta64[us]"),
            "amount": cents / 100,
        }
    )


def _ranks(rows: int, rows_per_user: float) -> int:
    """Return how many users to sample from, so that sampled users have `rows_per_user` rows on average."""
    rank = (np.arange(100_000) + 0.5) / 100_000
    density = rank ** (-2 / 3) / 3
    low, high = 1e-3, 2 * rows_per_user  # rows per user of the population
    for _ in range(50):
        middle = (low * high) ** 0.5
        drawn = np.mean(1 - np.exp(-middle * density)) / middle
        low, high = (low, middle) if drawn < 1 / rows_per_user else (middle, high)
    return max(int(rows / low), 1)


def _numbered(rank: np.ndarray) -> tuple[np.ndarray, int]:
    """Assign numbers to the sampled users, by rank. Returns the numbers and their count."""
    drawn = np.zeros(rank.max(initial=0) + 1, np.bool_)
    drawn[rank] = True
    number = np.cumsum(drawn) - 1
    return number[rank], int(number[-1]) + 1


def _ids(joined: np.ndarray, kind: str, rng: np.random.Generator) -> pl.Series:
    """Generate one id per user."""
    users = len(joined)
    if kind in ("int", "text"):
        serial = np.empty(users, np.int64)
        serial[np.argsort(joined, kind="stable")] = 1000 + np.cumsum(rng.integers(1, 4, users))
        return pl.Series(serial) if kind == "int" else "usr_" + pl.Series(serial).cast(pl.String).str.zfill(14)
    if kind == "random":
        return pl.Series(rng.integers(0, 1 << 46, users))
    if kind == "uuid":
        return texts(uuids(rng.integers(0, 256, (users, 16), dtype=np.uint8)))
    raise ValueError(f"ids {kind!r} is unknown. Expected one of {', '.join(map(repr, IDS))}")


def uuids(octets: np.ndarray) -> np.ndarray:
    """Format 16 random octets per row as the 36 characters of a version 4 UUID."""
    octets[:, 6] = octets[:, 6] & 0x0F | 0x40
    octets[:, 8] = octets[:, 8] & 0x3F | 0x80
    digits = np.frombuffer(octets.tobytes().hex().encode(), np.uint8).reshape(-1, 32)
    characters = np.full((len(octets), 36), ord("-"), np.uint8)
    for at, first, last in ((0, 0, 8), (9, 8, 12), (14, 12, 16), (19, 16, 20), (24, 20, 32)):
        characters[:, at : at + last - first] = digits[:, first:last]
    return characters


def texts(characters: np.ndarray) -> pl.Series:
    """Turn each row of a matrix of ASCII characters into one string. The matrix becomes the buffer of the column."""
    rows, width = characters.shape
    offsets = np.arange(rows + 1, dtype=np.int64) * width
    own = np.ascontiguousarray(characters)
    return pl.Series(pa.LargeStringArray.from_buffers(rows, pa.py_buffer(offsets), pa.py_buffer(own)))


def own_bytes(column: pl.Series) -> pl.Series:
    """
    Copy the string of every row of a text column, as in a frame read from a file.

    After a gather equal strings share memory, which would make every engine look faster.
    """
    if column.dtype != pl.String:
        return column
    return pl.Series(column.to_arrow(compat_level=pl.CompatLevel.oldest()))
