"""Transactions made from a seed: the same seed gives the same frame."""

import numpy as np
import polars as pl
import pyarrow as pa

START = np.datetime64("2023-01-01", "us")
END = np.datetime64("2026-01-01", "us")
ROWS_PER_USER = 10
REFUNDS = 0.04
IDS = ("int", "sparse", "uuid")


def transactions(rows: int, ids: str = "int", *, seed: int = 0, shuffled: bool = False) -> pl.DataFrame:
    """
    Make `rows` transactions of about `rows / 10` users over the three years 2023 to 2025.

    A few users make most of the rows (the share of the user at rank r falls like r to the power of −2/3),
    three in ten are there from the first day and the others join at any time, and everybody buys most
    right after joining. Four rows in a hundred are refunds.

    Parameters
    ----------
    rows
        How many rows.
    ids
        "int": a serial number in the order of joining, with gaps; "sparse": any 63-bit number;
        "uuid": text of 36 characters.
    seed
        The seed of the generator.
    shuffled
        Put the rows in random order instead of the order of time.

    Returns
    -------
    pl.DataFrame
        Columns user_id (Int64 or String), timestamp (Datetime, microseconds, no zone), amount (Float64,
        whole cents).
    """
    rng = np.random.default_rng(seed)
    users = max(rows // ROWS_PER_USER, 1)
    span = int((END - START).astype(np.int64))

    rank = (users * rng.random(rows) ** 3).astype(np.int64)
    joined = np.where(rng.random(users) < 0.3, 0.0, rng.random(users)) * span
    since = joined[rank]
    instant = (since + (span - since) * rng.random(rows) ** 2).astype(np.int64)
    cents = np.ceil(np.exp(rng.normal(7.0, 1.0, rows)))
    cents = np.where(rng.random(rows) < REFUNDS, -cents, cents)

    order = rng.permutation(rows) if shuffled else np.argsort(instant, kind="stable")
    return pl.DataFrame(
        {
            "user_id": own_bytes(_ids(joined, ids, rng).gather(rank[order])),
            "timestamp": START + instant[order].astype("timedelta64[us]"),
            "amount": cents[order] / 100,
        }
    )


def _ids(joined: np.ndarray, kind: str, rng: np.random.Generator) -> pl.Series:
    """Name every user once."""
    users = len(joined)
    if kind == "int":
        serial = np.empty(users, np.int64)
        serial[np.argsort(joined, kind="stable")] = 1000 + np.cumsum(rng.integers(1, 4, users))
        return pl.Series(serial)
    if kind == "sparse":
        return pl.Series(rng.integers(0, 2**63 - 1, users, dtype=np.int64))
    if kind == "uuid":
        return texts(uuids(rng.integers(0, 256, (users, 16), dtype=np.uint8)))
    raise ValueError(f"ids {kind!r} is none of {', '.join(map(repr, IDS))}")


def uuids(octets: np.ndarray) -> np.ndarray:
    """Write 16 random octets a row as the 36 characters of a version 4 UUID."""
    octets[:, 6] = octets[:, 6] & 0x0F | 0x40
    octets[:, 8] = octets[:, 8] & 0x3F | 0x80
    digits = np.frombuffer(octets.tobytes().hex().encode(), np.uint8).reshape(-1, 32)
    characters = np.full((len(octets), 36), ord("-"), np.uint8)
    for at, first, last in ((0, 0, 8), (9, 8, 12), (14, 12, 16), (19, 16, 20), (24, 20, 32)):
        characters[:, at : at + last - first] = digits[:, first:last]
    return characters


def texts(characters: np.ndarray) -> pl.Series:
    """Read each row of a matrix of ASCII characters as one text; the matrix becomes the column's own bytes."""
    rows, width = characters.shape
    offsets = np.arange(rows + 1, dtype=np.int64) * width
    own = np.ascontiguousarray(characters)
    return pl.Series(pa.LargeStringArray.from_buffers(rows, pa.py_buffer(offsets), pa.py_buffer(own)))


def own_bytes(column: pl.Series) -> pl.Series:
    """
    Give every row of a text column its own bytes, as in a frame read from a file.

    A gather leaves equal texts in one place of memory, which would flatter every engine.
    """
    if column.dtype != pl.String:
        return column
    return pl.Series(column.to_arrow(compat_level=pl.CompatLevel.oldest()))
