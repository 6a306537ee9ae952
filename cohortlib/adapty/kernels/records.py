"""The records that events are packed into, and the constants that the kernels of this folder share."""

from typing import NamedTuple

import numpy as np
from numba import njit

NONE = np.int32(-(2**31))  # an unknown day

# Kinds of events. Payments are STARTED to ONE_TIME; a one-time purchase belongs to no subscription.
TRIAL, STARTED, CONVERTED, RENEWED, ONE_TIME, REFUND, ONE_TIME_REFUND = range(7)

# The bits of `marks`: the kind of the event, whether it passes the filters, which ids it has, whether it proves that
# its user installed, and whether it lacks proceeds or net revenue.
KIND = 7
PASSES, HAS_TRANSACTION, HAS_CHAIN, SEEN, HAS_EVENT, LACKS_MONEY = 8, 16, 32, 64, 128, 256


def _record(fields: list[tuple[str, type]], *, align: bool = False) -> "np.dtype[np.record]":
    """Return the dtype of a record whose fields can be read as attributes, compiled or not."""
    return np.dtype((np.record, np.dtype(fields, align=align)))


ROW = _record([
    ("transaction", np.uint64), ("chain", np.uint64), ("instant", np.int64),
    ("revenue", np.int64), ("proceeds", np.int64), ("net", np.int64),
    ("day", np.int32), ("first_seen", np.int32), ("expiry", np.int32), ("marks", np.int32),
])  # fmt: skip
"""An event: keys of its ids, money in whole units, days or NONE."""
EXTRA = _record([("event", np.uint64), ("product", np.int32), ("number", np.int32), ("duration", np.int32)], align=True)
"""Fields of an event that few requests need: the key of its own id, codes of product and duration, its number."""
_USER = _record(
    [
        ("key", np.uint64),
        ("key2", np.uint64),
        ("end", np.int64),  # end of the user's range of positions
        ("latest", np.int64),  # instant of the last row seen
        ("install", np.int32),  # day, or NONE
        ("segment", np.int32),  # −1 outside of the date range
        ("counted", np.bool_),  # whether the user counts as an install
        ("listed", np.bool_),  # whether the user is in the table of installs
        ("mixed", np.bool_),  # whether the rows are not sorted by time
    ],
    align=True,
)
_PLACE = _record(
    [
        ("ordinal", np.int32),
        ("chain", np.int32),  # 0, 1, 2 … within the user
        ("target", np.int32),  # of a refund: the position of its payment, or −1
        ("previous", np.int32),  # of a payment: the one before it in the chain, or −1; −2 if it is refunded
        ("left", np.int32),  # of a payment: the column of its refund
        ("use", np.bool_),  # whether the row counts: not a duplicate, and passes the filters
        ("fresh", np.bool_),  # whether this is the first payment of the chain with this ordinal
        ("running", np.bool_),  # whether the subscription is still running after this row
    ],
    align=True,
)
_ENTRY = _record([("key", np.uint64), ("value", np.int32)], align=True)

# The planes of `cells`, and those of `heads`.
REVENUE, PROCEEDS, NET, SUBSCRIBERS, SUBSCRIPTIONS, PAYERS, ACTIVATED, RUNNING = range(8)
INSTALLS, PAID, CHAINS = range(3)
# Counters for the report.
(
    DUPLICATES, REFUNDS_WITHOUT_PAYMENT, WITHOUT_INSTALL, NOT_IN_INSTALLS, BEFORE_INSTALL, COUNTED, LACKING,
    LACKING_UNITS,
) = range(8)  # fmt: skip

U = np.uint64
U0, U1, U2, U4, U8, U12, U32, U56 = (U(i) for i in (0, 1, 2, 4, 8, 12, 32, 56))
LOW, BYTE = U(0xFFFFFFFF), U(255)
M1 = U(0xBF58476D1CE4E5B9)
KIND_SALT, EVENT_SALT, CHAIN_SALT = U(0x9E3779B97F4A7C15), U(0xD1342543DE82EF95), U(0xE7037ED1A0B428DB)
NUMBERING_SALT, ORDINAL_SALT = U(0x8EBC6AF09C88C6E3), U(0xA0761D6478BD642F)
LONGEST_TRIAL = 92  # days; a longer trial is assumed to be a wrong date
FAR = np.int64(1) << np.int64(40)
NEVER = np.int64(-(2**63))


class Scratch(NamedTuple):
    """Working arrays of the kernels, which also pass results from one to the next; each thread needs its own."""

    slots: np.ndarray
    codes: np.ndarray
    mixed: np.ndarray
    users: np.ndarray
    position: np.ndarray  # the row at each position
    spare: np.ndarray
    places: np.ndarray  # by position
    entries: np.ndarray
    head: np.ndarray  # by chain: its latest payment that is not refunded
    last: np.ndarray
    last_at: np.ndarray
    seen_chains: np.ndarray
    stamps: np.ndarray  # by chain: the user that wrote it last; the last entry is the latest stamp

    @classmethod
    def of(cls, rows: int, listed: int) -> "Scratch":
        """Allocate arrays for partitions of up to `rows` events and `listed` installs."""
        total = rows + listed
        return cls(
            slots=np.empty(slots_for(total), np.int32),
            codes=np.empty(total, np.uint32),
            mixed=np.empty(total, np.uint32),
            users=np.empty(total, _USER),
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
    """Return the size of a hash table that `rows` users fill at most halfway."""
    return 1 << (2 * max(rows, 1) - 1).bit_length()


@njit(nogil=True, cache=True)
def pack(order, transaction, chain, flags, chosen, instant, money, day, first_seen, expiry, rows):
    """Write the chosen rows of a block as records, in the given order.

    `transaction`, `chain` and `flags` have one value per chosen row; the other columns have one per row of the block,
    and `chosen` holds indices into them. `first_seen` and `expiry` may be empty.
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
