"""Pack events into fixed-width records, and the constants all kernels of this folder share."""

from typing import NamedTuple

import numpy as np
from numba import njit

NONE = np.int32(-(2**31))  # a day that is not known
KIND = 7  # the bits of `marks`: what kind of event …
PASSES, HAS_TRANSACTION, HAS_CHAIN, SEEN, HAS_EVENT = 8, 16, 32, 64, 128  # … and what is known of it


def _record(fields: list[tuple[str, type]], *, align: bool = False) -> "np.dtype[np.record]":
    """Make the type of a record whose fields are attributes, compiled or not."""
    return np.dtype((np.record, np.dtype(fields, align=align)))


ROW = _record([
    ("transaction", np.uint64), ("chain", np.uint64), ("instant", np.int64),
    ("revenue", np.int64), ("proceeds", np.int64), ("net", np.int64),
    ("day", np.int32), ("first_seen", np.int32), ("expiry", np.int32), ("marks", np.int32),
])  # fmt: skip
"""A row of events: keys of ids, money in whole units, days or NONE."""
EXTRA = _record([("event", np.uint64), ("product", np.int32), ("number", np.int32), ("duration", np.int32)], align=True)
"""What few questions need of a row: the key of its own id, codes of product and duration, the number it is given."""
_USER = _record(
    [
        ("key", np.uint64),
        ("key2", np.uint64),
        ("end", np.int64),  # of the positions
        ("latest", np.int64),  # instant of the row that came last
        ("install", np.int32),  # day, or NONE
        ("segment", np.int32),  # −1 for whom the frame does not hold
        ("counted", np.bool_),  # whether an install
        ("listed", np.bool_),  # whether installs tell of the user
        ("mixed", np.bool_),  # whether the rows have to be sorted
    ],
    align=True,
)
_PLACE = _record(
    [
        ("ordinal", np.int32),
        ("chain", np.int32),  # 0, 1, 2 … within the user
        ("target", np.int32),  # the position of a refund's payment, or −1
        ("previous", np.int32),  # the payment before it in the chain; −2 for a payment that is refunded
        ("left", np.int32),  # the column at which a payment is refunded
        ("use", np.bool_),  # whether the row counts: no repeat, and passes the filters
        ("fresh", np.bool_),  # whether the chain has the ordinal for the first time
        ("running", np.bool_),  # whether the chain runs on from this row
    ],
    align=True,
)
_ENTRY = _record([("key", np.uint64), ("value", np.int32)], align=True)

# The planes of the cells, and of the heads.
REVENUE, PROCEEDS, NET, SUBSCRIBERS, SUBSCRIPTIONS, PAYERS, ACTIVATED, RUNNING = range(8)
INSTALLS, PAID, CHAINS = range(3)
# What is counted on the way.
REPEATS, ORPHANS, UNDATED, UNLISTED, EARLY = range(5)

U = np.uint64
U0, U1, U2, U4, U8, U12, U32, U56 = (U(i) for i in (0, 1, 2, 4, 8, 12, 32, 56))
LOW, BYTE = U(0xFFFFFFFF), U(255)
M1 = U(0xBF58476D1CE4E5B9)
KIND_SALT, EVENT_SALT, CHAIN_SALT = U(0x9E3779B97F4A7C15), U(0xD1342543DE82EF95), U(0xE7037ED1A0B428DB)
NUMBERING_SALT, ORDINAL_SALT = U(0x8EBC6AF09C88C6E3), U(0xA0761D6478BD642F)
LONGEST_TRIAL = 92  # days; what is longer is taken for a wrong date
FAR = np.int64(1) << np.int64(40)
NEVER = np.int64(-(2**63))


class Scratch(NamedTuple):
    """The arrays that the kernels work in, and hand on to each other; each thread needs its own."""

    slots: np.ndarray
    codes: np.ndarray
    mixed: np.ndarray
    users: np.ndarray
    position: np.ndarray  # by position: the row
    spare: np.ndarray
    places: np.ndarray  # by position
    entries: np.ndarray
    head: np.ndarray  # by chain: the latest payment
    last: np.ndarray
    last_at: np.ndarray
    seen_chains: np.ndarray
    stamps: np.ndarray  # by chain, and in the end the last stamp given

    @classmethod
    def of(cls, rows: int, listed: int) -> "Scratch":
        """Make arrays for partitions of up to so many rows of events and of installs."""
        everybody = rows + listed
        return cls(
            slots=np.empty(slots_for(everybody), np.int32),
            codes=np.empty(everybody, np.uint32),
            mixed=np.empty(everybody, np.uint32),
            users=np.empty(everybody, _USER),
            position=np.empty(rows, np.uint32),
            spare=np.empty(rows, np.uint32),
            places=np.empty(rows, _PLACE),
            entries=np.empty(1 << (8 * rows - 1).bit_length(), _ENTRY),
            head=np.empty(rows, np.int32),
            last=np.empty(2 * rows, np.int32),
            last_at=np.empty(2 * rows, np.int32),
            seen_chains=np.empty(rows, np.uint64),
            stamps=np.zeros(rows + 1, np.int64),
        )


def slots_for(rows: int) -> int:
    """Give the size of a table of users that is at most half full."""
    return 1 << (2 * max(rows, 1) - 1).bit_length()


@njit(nogil=True, cache=True)
def pack(order, transaction, chain, flags, chosen, instant, money, day, first_seen, expiry, rows):
    """Write the rows of a block as records, in an order.

    `transaction`, `chain` and `flags` are those of the chosen rows; `chosen` tells where these stand in the other
    columns, of which `first_seen` and `expiry` may be empty.
    """
    revenue, proceeds, net = money
    for j in range(U(order.size)):
        k = U(order[j])
        i = U(chosen[k])
        row = rows[j]
        row.transaction = transaction[k]
        row.chain = chain[k]
        row.marks = flags[k]
        row.instant = instant[i]
        row.revenue = revenue[i]
        row.proceeds = proceeds[i]
        row.net = net[i]
        row.day = day[i]
        row.first_seen = first_seen[i] if first_seen.size else NONE
        row.expiry = expiry[i] if expiry.size else NONE
