"""The records that events are packed into, and the constants that the kernels of this folder share."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cohortlib.engine.jit import njit
from cohortlib.engine.kernels.partition import partition_of

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
    mixed: np.ndarray  # users whose rows are not sorted by time; later those with refunds
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


class EventArrays(NamedTuple):
    """Columns with an entry for each row of the input; an empty one has the same value in all rows.

    Attributes
    ----------
    kind
        The kind of each event; −1 if the row does not count.
    no_transaction, no_chain, no_event
        Where an id is null; empty if none is.
    passes, seen, lacks_money
        Masks for `PASSES` (empty: all pass), `SEEN` and `LACKS_MONEY` (empty: none).
    products, numbers, durations
        See `EXTRA`; 0 if empty.
    """

    kind: NDArray[np.int8]
    no_transaction: NDArray[np.bool_]
    no_chain: NDArray[np.bool_]
    no_event: NDArray[np.bool_]
    passes: NDArray[np.bool_]
    seen: NDArray[np.bool_]
    lacks_money: NDArray[np.bool_]
    products: NDArray[np.int32]
    numbers: NDArray[np.int32]
    durations: NDArray[np.int32]


class EventBlock(NamedTuple):
    """A block of rows, from row `first` of the input on.

    `lines` are the rows that are stored; `keys` and `keys2` (empty for keys of one word) are those of their users, then
    come those of transactions, chains, and of the events themselves (which may be empty). The other columns have an
    entry for each row of the block; `first_seen` and `expiries` may be empty.
    """

    first: int
    lines: NDArray[np.uint32]
    keys: NDArray[np.uint64]
    keys2: NDArray[np.uint64]
    transactions: NDArray[np.uint64]
    chains: NDArray[np.uint64]
    events: NDArray[np.uint64]
    ticks: NDArray[np.int64]
    days: NDArray[np.int32]
    first_seen: NDArray[np.int32]
    expiries: NDArray[np.int32]
    money: tuple[NDArray[np.int64], ...]


class EventColumns(NamedTuple):
    """The columns of stored events; `keys2` and `extras` may be empty, `lines` is the row in the input."""

    keys: NDArray[np.uint64]
    keys2: NDArray[np.uint64]
    rows: NDArray[np.void]
    extras: NDArray[np.void]
    lines: NDArray[np.uint32]


class InstallColumns(NamedTuple):
    """The columns of installs; `keys2` may be empty."""

    keys: NDArray[np.uint64]
    keys2: NDArray[np.uint64]
    days: NDArray[np.int32]
    passes: NDArray[np.bool_]


@njit(nogil=True, cache=True)
def choose_rows(kind, days, first, last_day, least_kind, lines):
    """Choose the rows of a block that count, without those after `last_day` of at least some kind.

    Writes their numbers, counted from `first`, to `lines`. Returns how many there are, and how many are too late.
    """
    count, late = 0, 0
    for i in range(kind.size):
        if kind[i] >= 0:
            if days[i] > last_day and kind[i] >= least_kind:
                late += 1
            else:
                lines[U(count)] = np.uint32(first + i)
                count += 1
    return count, late


@njit(nogil=True, cache=True)
def write_events(block, arrays, bits, begins, columns):
    """Write the rows of a block as records, each to its partition.

    The next row of partition p is written at ``begins[p]``, which advances.
    """
    # Tuples are unpacked before the loop: in it, each access to one of their arrays would count a reference.
    first, lines, keys, keys2, transactions, chains, _, ticks, days, first_seen, expiries, money = block
    revenue, proceeds, net = money
    kind, no_transaction, no_chain, _, passes, seen, lacks_money, _, _, _ = arrays
    to_keys, to_keys2, rows, _, to_lines = columns
    for j in range(U(lines.size)):
        line = U(lines[j])
        i = line - U(first)
        part = partition_of(keys[j], bits)
        at = U(begins[part])
        begins[part] += 1
        to_keys[at] = keys[j]
        if keys2.size:
            to_keys2[at] = keys2[j]
        to_lines[at] = lines[j]
        marks = np.int32(kind[line])
        if not no_transaction.size or not no_transaction[line]:
            marks |= HAS_TRANSACTION
        if not no_chain.size or not no_chain[line]:
            marks |= HAS_CHAIN
        if not passes.size or passes[line]:
            marks |= PASSES
        if seen.size and seen[line]:
            marks |= SEEN
        if lacks_money.size and lacks_money[line]:
            marks |= LACKS_MONEY
        row = rows[at]
        row.transaction = transactions[j]
        row.chain = chains[j]
        row.marks = marks
        row.instant = ticks[i]
        row.revenue = revenue[i]
        row.proceeds = proceeds[i]
        row.net = net[i]
        row.day = days[i]
        row.first_seen = first_seen[i] if first_seen.size else NONE
        row.expiry = expiries[i] if expiries.size else NONE


@njit(nogil=True, cache=True)
def write_extras(block, arrays, bits, begins, columns):
    """Write the extra fields of the rows of a block, as ``write_events``, and mark which events have an id."""
    lines, keys, events = block.lines, block.keys, block.events
    no_event, products, numbers, durations = arrays.no_event, arrays.products, arrays.numbers, arrays.durations
    rows, extras = columns.rows, columns.extras
    for j in range(U(lines.size)):
        line = U(lines[j])
        part = partition_of(keys[j], bits)
        at = U(begins[part])
        begins[part] += 1
        extra = extras[at]
        extra.event = events[j] if events.size else U0
        if events.size and (not no_event.size or not no_event[line]):
            rows[at].marks |= HAS_EVENT
        extra.product = products[line] if products.size else 0
        extra.number = numbers[line] if numbers.size else 0
        extra.duration = durations[line] if durations.size else 0


@njit(nogil=True, cache=True)
def write_installs(block, bits, begins, columns):
    """Write the installs of a block, as `InstallColumns`, each to its partition; as ``write_events``."""
    keys, keys2, days, passes = block
    to_keys, to_keys2, to_days, to_passes = columns
    for i in range(U(keys.size)):
        part = partition_of(keys[i], bits)
        at = U(begins[part])
        begins[part] += 1
        to_keys[at] = keys[i]
        if keys2.size:
            to_keys2[at] = keys2[i]
        to_days[at] = days[i]
        to_passes[at] = not passes.size or passes[i]
