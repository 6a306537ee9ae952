"""The loops of the Adapty table: one partition of users, from its rows to the cells of its segments.

``name_users`` finds the users, ``arrange`` brings the rows of each together, and ``sort`` puts those in order that did
not come so; ``link`` finds repeats, chains and the payment of each refund, ``number`` the ordinal of each payment; then
``add_renewals`` or ``add_days`` adds the users to the sums. A row is one record, as wide as a cache line; what is
worked out of the rows lies in `Scratch`, by position k in the order of users: the row of position k is
``position[k]``, and the positions of user u end before ``users[u].end``. One kernel for all would take four times as
long to compile, and so would an array for each field: a record is one argument.
"""

from typing import NamedTuple

import numpy as np
from numba import njit

from cohortlib.kernels import _mix, _word

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

_U = np.uint64
_U0, _U1, _U2, _U4, _U8, _U12, _U32, _U56 = (_U(i) for i in (0, 1, 2, 4, 8, 12, 32, 56))
_LOW, _BYTE = _U(0xFFFFFFFF), _U(255)
_M1 = _U(0xBF58476D1CE4E5B9)
_KIND_SALT, _EVENT_SALT, _CHAIN_SALT = _U(0x9E3779B97F4A7C15), _U(0xD1342543DE82EF95), _U(0xE7037ED1A0B428DB)
_NUMBERING_SALT, _ORDINAL_SALT = _U(0x8EBC6AF09C88C6E3), _U(0xA0761D6478BD642F)
LONGEST_TRIAL = 92  # days; what is longer is taken for a wrong date
_FAR = np.int64(1) << np.int64(40)
_NEVER = np.int64(-(2**63))


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


class Vocabulary(NamedTuple):
    """Some words, fewer than 128, as ``recognise`` looks them up.

    A row of `words` holds what a word is told by: its length and first four bytes; its last eight bytes, or those
    behind the first four where there are twelve at most; and eight at a time, the last eight standing for those that
    are not there. `slots` is a table from the first two to the row.
    """

    words: np.ndarray
    slots: np.ndarray

    @classmethod
    def of(cls, texts: list[str]) -> "Vocabulary":
        """Prepare some words, whose lengths, first four and last eight bytes differ."""
        width = -(-max(map(len, texts)) // 8)
        words = np.zeros((len(texts), 2 + width), np.uint64)
        slots = np.full(256, len(texts), np.int8)
        for code, text in enumerate(texts):
            raw = text.encode()
            places = (min(8 * k, len(raw) - 8) for k in range(width))
            pieces = [raw[-8:], *(raw[at : at + 8] for at in places)] if len(raw) > 12 else [raw[4:]]
            told = [len(raw) | int.from_bytes(raw[:4], "little") << 32, *(int.from_bytes(p, "little") for p in pieces)]
            words[code, : len(told)] = told
            at = ((told[0] ^ told[1]) * int(_M1) & 0xFFFFFFFFFFFFFFFF) >> 56
            while slots[at] < len(texts):
                at = (at + 1) % 256
            slots[at] = code
        return cls(words, slots)


@njit(nogil=True, cache=True)
def recognise(views, memory, bases, words, slots, codes):
    """Give each text its number among the `words` of a `Vocabulary`, or the number of words where it is none of them.

    Texts are views, memory and bases as in ``fingerprint_strings``.
    """
    count = np.int64(words.shape[0])
    for i in range(_U(codes.size)):
        head, tail = views[_U2 * i], views[_U2 * i + _U1]
        first, last = _U0, _U0
        if head & _LOW > _U12:
            first = bases[tail & _LOW] + (tail >> _U32)
            last = first + (head & _LOW) - _U8
            tail = _word(memory, last)
        at = ((head ^ tail) * _M1) >> _U56
        code = np.int64(slots[at])
        while code < count and not (words[_U(code), _U0] == head and words[_U(code), _U1] == tail):
            at = (at + _U1) & _BYTE
            code = np.int64(slots[at])
        if code < count and last > _U0:
            for k in range(_U(words.shape[1]) - _U2):
                if words[_U(code), k + _U2] != _word(memory, min(first + _U8 * k, last)):
                    code = count
                    break
        codes[i] = np.int8(code)


@njit(nogil=True, cache=True)
def pack(order, transaction, chain, flags, chosen, instant, money, day, first_seen, expiry, rows):
    """Write the rows of a block as records, in an order.

    `transaction`, `chain` and `flags` are those of the chosen rows; `chosen` tells where these stand in the other
    columns, of which `first_seen` and `expiry` may be empty.
    """
    revenue, proceeds, net = money
    for j in range(_U(order.size)):
        k = _U(order[j])
        i = _U(chosen[k])
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


@njit(nogil=True, cache=True)
def name_users(p, starts, keys, keys2, days, passes, count, slots, users, codes):
    """Give the users of a partition the codes 0, 1, 2 … in order of appearance, and write the code of each row.

    Parameters
    ----------
    p
        The partition. Its rows stand at ``starts[p, b]`` to ``starts[p + 1, b]`` for each block b.
    keys, keys2
        The keys of users; `keys2` is empty where a key takes one word.
    days, passes
        Days of installs, of which the first counts, and whether the row passes the filters; empty for events.
    count
        How many users there are already.
    slots
        Twice as many as rows at least, a power of two; −1 at first.

    Returns
    -------
    count
        How many there are now.
    """
    mask = _U(slots.size - 1)
    j = _U0
    key2 = _U0
    for b in range(starts.shape[1]):
        for i in range(_U(starts[p, b]), _U(starts[p + 1, b])):
            key = keys[i]
            if keys2.size:
                key2 = keys2[i]
            at = key & mask
            code = np.int64(slots[at])
            while code >= 0 and not (users[_U(code)].key == key and users[_U(code)].key2 == key2):
                at = (at + _U1) & mask
                code = np.int64(slots[at])
            if code < 0:
                code = count
                slots[at] = np.int32(code)
                count += 1
                user = users[_U(code)]
                user.key = key
                user.key2 = key2
                user.end = 0
                user.latest = _NEVER
                user.install = NONE
                user.counted = False
                user.listed = days.size > 0
                user.mixed = False
            user = users[_U(code)]
            if days.size:
                if user.install == NONE or days[i] < user.install:
                    user.install = days[i]
                if passes[i] != 0:
                    user.counted = True
            else:
                user.end += 1
            codes[j] = np.uint32(code)
            j += _U1
    return count


@njit(nogil=True, cache=True)
def arrange(p, starts, rows, codes, count, users, position, mixed):
    """Bring the rows of each user together; returns how many users have rows out of order, whose codes are `mixed`."""
    place = np.int64(0)
    for u in range(count):
        user = users[_U(u)]
        place += user.end
        user.end = place - user.end
    found = 0
    j = _U0
    for b in range(starts.shape[1]):
        for i in range(_U(starts[p, b]), _U(starts[p + 1, b])):
            user = users[_U(codes[j])]
            position[_U(user.end)] = np.uint32(i)
            user.end += 1
            instant = rows[i].instant
            if instant <= user.latest and not user.mixed:
                user.mixed = True
                mixed[_U(found)] = codes[j]
                found += 1
            user.latest = instant
            j += _U1
    return found


@njit(nogil=True, cache=True)
def _byte(view, memory, bases, k):
    """Give one byte of a text by its view."""
    head, tail = view
    if head & _LOW > _U12:
        return _U(memory[bases[tail & _LOW] + (tail >> _U32) + k])
    return ((head >> (_U32 + _U8 * k)) if k < _U4 else (tail >> (_U8 * (k - _U4)))) & _BYTE


@njit(nogil=True, cache=True)
def _text_order(texts, a, b):
    """Compare the texts of two rows byte by byte: −1, 0 or 1."""
    views, memory, bases = texts
    one, other = (views[_U2 * a], views[_U2 * a + _U1]), (views[_U2 * b], views[_U2 * b + _U1])
    lengths = one[0] & _LOW, other[0] & _LOW
    for k in range(min(lengths)):
        bytes_ = _byte(one, memory, bases, k), _byte(other, memory, bases, k)
        if bytes_[0] != bytes_[1]:
            return -1 if bytes_[0] < bytes_[1] else 1
    return np.int64(lengths[0] > lengths[1]) - np.int64(lengths[0] < lengths[1])


@njit(nogil=True, cache=True)
def _precedes(i, j, rows, extras, lines, transactions, chains):
    """Tell whether row i stands before row j of the same instant, by what else the outcome may depend on.

    That is kind, transaction, money, product, filters, number, expiry, duration and chain, in this order; so the
    order in which the rows came does not matter. `lines` tells which texts of `transactions` and `chains`, as
    ``fingerprint`` takes them, are those of a row.
    """
    one, other = rows[i], rows[j]
    if one.marks & KIND != other.marks & KIND:
        return one.marks & KIND < other.marks & KIND
    if one.marks & HAS_TRANSACTION != other.marks & HAS_TRANSACTION:
        return one.marks & HAS_TRANSACTION < other.marks & HAS_TRANSACTION
    if one.transaction != other.transaction:
        order = _text_order(transactions, _U(lines[i]), _U(lines[j]))
        if order != 0:
            return order < 0
    if one.revenue != other.revenue:
        return one.revenue < other.revenue
    if one.proceeds != other.proceeds:
        return one.proceeds < other.proceeds
    if one.net != other.net:
        return one.net < other.net
    if extras.size and extras[i].product != extras[j].product:
        return extras[i].product < extras[j].product
    if one.marks & PASSES != other.marks & PASSES:
        return (one.marks & PASSES) != 0
    if extras.size and extras[i].number != extras[j].number:
        return extras[i].number < extras[j].number
    if one.expiry != other.expiry:
        return one.expiry < other.expiry
    if extras.size and extras[i].duration != extras[j].duration:
        return extras[i].duration < extras[j].duration
    if one.marks & HAS_CHAIN != other.marks & HAS_CHAIN:
        return one.marks & HAS_CHAIN < other.marks & HAS_CHAIN
    return one.chain != other.chain and _text_order(chains, _U(lines[i]), _U(lines[j])) < 0


@njit(nogil=True, cache=True)
def sort(mixed, rows, extras, lines, transactions, chains, users, position, spare):
    """Sort the rows of some users, stable; what is told of rows and texts is as in ``_precedes``."""
    for u in mixed:
        begin = users[u - np.uint32(1)].end if u > 0 else np.int64(0)
        end = users[u].end
        width = np.int64(1)
        while width < end - begin:
            for low in range(begin, end - width, 2 * width):
                a, b = low, low + width
                middle, top = b, min(b + width, end)
                if rows[position[_U(middle - 1)]].instant < rows[position[_U(middle)]].instant:
                    continue
                for k in range(low, top):
                    second = a == middle
                    if a < middle and b < top:
                        i, j = _U(position[_U(b)]), _U(position[_U(a)])
                        second = rows[i].instant < rows[j].instant
                        if rows[i].instant == rows[j].instant:
                            second = _precedes(i, j, rows, extras, lines, transactions, chains)
                    if second:
                        spare[_U(k)] = position[_U(b)]
                        b += 1
                    else:
                        spare[_U(k)] = position[_U(a)]
                        a += 1
                for k in range(low, top):
                    position[_U(k)] = spare[_U(k)]
            width *= 2


# A dictionary of one user: the value of a key, or ``−1 − place`` where the key is new and could be put.
@njit(nogil=True, cache=True)
def _look_up(key, mask, entries):
    at = key & mask
    while entries[at].value >= 0 and entries[at].key != key:
        at = (at + _U1) & mask
    value = np.int64(entries[at].value)
    return value if value >= 0 else -1 - np.int64(at)


@njit(nogil=True, cache=True)
def _put(entries, found, key, value):
    entry = entries[_U(-1 - found)]
    entry.key = key
    entry.value = np.int32(value)


@njit(nogil=True, cache=True)
def _cleared(entries, rows):
    """Empty a dictionary for so many rows, of up to three keys each; returns the mask of its places."""
    size = _U1
    while size < _U4 * _U(rows):
        size <<= _U1
    for at in range(size):
        entries[at].value = np.int32(-1)
    return size - _U1


@njit(nogil=True, cache=True)
def link(count, rows, extras, is_list, first_day, segments, tally, scratch):
    """Find the segment of each user, repeats and chains, and the payment that each refund names.

    Parameters
    ----------
    count
        Number of users.
    rows, extras
        All rows, and what else is known of them; `extras` may be empty.
    is_list
        Whether installs are counted from a table, and not from the events.
    first_day, segments
        First day of the frame, and the segment of each of its days.
    tally
        int64[5], added to.

    Returns
    -------
    seen
        The number of chains that have a name; their keys are in `seen_chains`.
    """
    users, position, places, entries, head, seen_chains = (
        scratch.users, scratch.position, scratch.places, scratch.entries, scratch.head, scratch.seen_chains,
    )  # fmt: skip
    seen = _U0
    end = np.int64(0)
    for u in range(count):
        user = users[_U(u)]
        begin = end
        end = user.end
        chain_count = 0
        refunds = False
        first_seen = NONE
        first_money = NONE
        mask = _cleared(entries, end - begin)
        for k in range(begin, end):
            row = rows[_U(position[_U(k)])]
            place = places[_U(k)]
            kind = row.marks & KIND
            if first_money == NONE and kind > 0:
                first_money = row.day
            if row.first_seen != NONE and (first_seen == NONE or row.first_seen < first_seen):
                first_seen = row.first_seen
            if row.marks & SEEN and not user.listed:
                user.counted = not is_list

            # One dictionary holds what the user has had, each kind of key under a salt of its own.
            place.target = -1
            place.previous = -1
            repeated = False
            if row.marks & HAS_TRANSACTION:
                key = row.transaction + _KIND_SALT * _U(kind + 1)
                found = _look_up(key, mask, entries)
                repeated = found >= 0
                if not repeated:
                    _put(entries, found, key, k - begin)
            if row.marks & HAS_EVENT:
                key = extras[_U(position[_U(k)])].event + _EVENT_SALT
                found = _look_up(key, mask, entries)
                repeated |= found >= 0
                if found < 0:
                    _put(entries, found, key, k - begin)
            place.use = not repeated
            if repeated:
                tally[REPEATS] += 1
                continue
            refunds |= kind >= 5
            found = np.int64(chain_count)
            if row.marks & HAS_CHAIN:
                key = row.chain + _CHAIN_SALT
                found = _look_up(key, mask, entries)
                if found < 0:
                    _put(entries, found, key, chain_count)
                    seen_chains[seen] = row.chain
                    seen += _U1
                    found = np.int64(chain_count)
            if found == chain_count:
                head[_U(chain_count)] = -1
                chain_count += 1
            place.chain = np.int32(found)

        if not user.listed:
            user.install = first_money if first_seen == NONE else first_seen
            if is_list:
                tally[UNLISTED] += 1
        user.segment = -1
        if user.install == NONE:
            tally[UNDATED] += 1
        elif user.install >= first_day and user.install - first_day < segments.size:
            user.segment = segments[user.install - first_day]
        if not refunds:
            continue

        # Refunds of a payment by its transaction, of whatever kind: the first of them.
        for k in range(begin, end):
            row = rows[_U(position[_U(k)])]
            if places[_U(k)].use and row.marks & KIND >= 5 and row.marks & HAS_TRANSACTION:
                first = end
                for kind in range(1, 5):
                    found = _look_up(row.transaction + _KIND_SALT * _U(kind + 1), mask, entries)
                    if found >= 0 and places[_U(begin + found)].use:
                        first = min(first, begin + found)
                if first < end:
                    places[_U(k)].target = np.int32(first)
                    places[_U(first)].previous = -2
        # All others: the latest payment before them in the chain that has none yet.
        for k in range(begin, end):
            place = places[_U(k)]
            kind = rows[_U(position[_U(k)])].marks & KIND
            if not place.use or kind == 0:
                continue
            latest = np.int64(head[_U(place.chain)])
            if kind <= 4:
                if place.previous != -2:
                    place.previous = np.int32(latest)
                    head[_U(place.chain)] = np.int32(k)
            elif place.target < 0:
                if latest >= 0:
                    place.target = np.int32(latest)
                    head[_U(place.chain)] = places[_U(latest)].previous
                    places[_U(latest)].previous = -2
                else:
                    tally[ORPHANS] += 1
    return np.int64(seen)


@njit(nogil=True, cache=True)
def number(count, rows, extras, restarts, consecutive, as_of, tally, scratch):
    """Find the ordinal of each payment, what is running on the day `as_of`, and what passes the filters.

    If `restarts`, each product of a chain is counted by itself; if `consecutive`, the numbers of `extras` are taken.

    Returns the largest ordinal of a member's payment or refund that passes, and the same with what is running.
    """
    users, position, places, entries, last, last_at = (
        scratch.users, scratch.position, scratch.places, scratch.entries, scratch.last, scratch.last_at,
    )  # fmt: skip
    widest = np.int64(0)
    farthest = np.int64(0)
    mask = _U0
    end = np.int64(0)
    for u in range(count):
        user = users[_U(u)]
        begin = end
        end = user.end
        if restarts or consecutive:
            mask = _cleared(entries, end - begin)
        numberings = end - begin
        for c in range(numberings):
            last[_U(c)] = 0
            last_at[_U(c)] = -1
        for k in range(begin, end):
            i = _U(position[_U(k)])
            place = places[_U(k)]
            kind = rows[i].marks & KIND
            place.running = False
            place.fresh = True
            place.ordinal = 1
            if not place.use or kind > 3:
                continue
            c = np.int64(place.chain)
            at = c
            if restarts:
                key = _mix((_U(c) << _U32) + _U(extras[i].product) + _NUMBERING_SALT)
                at = _look_up(key, mask, entries)
                if at < 0:
                    _put(entries, at, key, numberings)
                    at = numberings
                    last[_U(at)] = 0
                    numberings += 1
            if kind > 0:
                last[_U(at)] = extras[i].number if consecutive else last[_U(at)] + 1
            ordinal = last[_U(at)]
            place.ordinal = ordinal
            last_at[_U(at)] = np.int32(k)
            if (restarts or consecutive) and rows[i].marks & PASSES and kind > 0:
                key = _mix((_U(c) << _U32) + _U(ordinal) + _ORDINAL_SALT)
                found = _look_up(key, mask, entries)
                if found < 0:
                    _put(entries, found, key, 0)
                place.fresh = found < 0
        for c in range(numberings):
            k = np.int64(last_at[_U(c)])
            if k >= 0 and places[_U(k)].previous != -2:
                row = rows[_U(position[_U(k)])]
                places[_U(k)].running = row.marks & PASSES != 0 and row.expiry != NONE and row.expiry >= as_of

        for k in range(begin, end):
            place = places[_U(k)]
            if not place.use:
                continue
            row = rows[_U(position[_U(k)])]
            place.use = row.marks & PASSES != 0
            if place.target >= 0:
                place.ordinal = places[_U(place.target)].ordinal
                place.use = rows[_U(position[_U(place.target)])].marks & PASSES != 0
            if user.segment >= 0:
                if row.marks & KIND > 0 and row.day < user.install:
                    tally[EARLY] += 1
                if place.use:
                    if row.marks & KIND > 0:
                        widest = max(widest, np.int64(place.ordinal))
                    if place.running:
                        farthest = max(farthest, np.int64(place.ordinal))
    return widest, max(widest, farthest)


@njit(nogil=True, cache=True)
def add_renewals(count, rows, stamps, cells, heads, scratch):
    """Add the users of a settled partition to the sums over (segment, ordinal − 1).

    `cells` has a column more than the farthest ordinal. `stamps` is int64, by column, 0 at first, and goes with
    `scratch`. Subscribers, subscriptions and money are those at the ordinal; payers enter at their first and leave at
    the first ordinal refunded; activated users enter at 0; running chains stand at their last ordinal.
    """
    users, position, places, chain_stamps = scratch.users, scratch.position, scratch.places, scratch.stamps
    stamp = chain_stamps[-1]
    end = np.int64(0)
    for u in range(count):
        user = users[_U(u)]
        begin = end
        end = user.end
        s = np.int64(user.segment)
        if s < 0:
            continue
        if user.counted:
            heads[INSTALLS, _U(s)] += 1
        stamp += 1
        paid = _FAR
        refunded = _FAR
        activated = False
        for k in range(begin, end):
            place = places[_U(k)]
            if not place.use:
                continue
            row = rows[_U(position[_U(k)])]
            kind = row.marks & KIND
            if place.running:
                cells[RUNNING, _U(s), _U(place.ordinal)] += 1
            if kind == 0:
                activated = True
                continue
            column = np.int64(place.ordinal) - 1
            _add_money(cells, s, column, row, kind)
            if kind > 4:
                refunded = min(refunded, column)
                continue
            paid = min(paid, column)
            if stamps[_U(column)] != stamp:
                stamps[_U(column)] = stamp
                cells[SUBSCRIBERS, _U(s), _U(column)] += 1
            if kind == 4:
                cells[SUBSCRIPTIONS, _U(s), _U(column)] += 1
                heads[CHAINS, _U(s)] += 1
                continue
            activated = True
            if chain_stamps[_U(place.chain)] != stamp:
                chain_stamps[_U(place.chain)] = stamp
                heads[CHAINS, _U(s)] += 1
            if place.fresh:
                cells[SUBSCRIPTIONS, _U(s), _U(column)] += 1
        if activated:
            cells[ACTIVATED, _U(s), _U0] += 1
        if paid < _FAR:
            heads[PAID, _U(s)] += 1
        if paid < refunded:
            cells[PAYERS, _U(s), _U(paid)] += 1
            if refunded < _FAR:
                cells[PAYERS, _U(s), _U(refunded)] -= 1
    chain_stamps[-1] = stamp


@njit(nogil=True, cache=True)
def _add_money(cells, s, column, row, kind):
    """Add the money of a payment, or take that of a refund away."""
    revenue, proceeds, net = row.revenue, row.proceeds, row.net
    if kind > 4:
        revenue, proceeds, net = -abs(revenue), -abs(proceeds), -abs(net)
    cells[REVENUE, _U(s), _U(column)] += revenue
    cells[PROCEEDS, _U(s), _U(column)] += proceeds
    cells[NET, _U(s), _U(column)] += net


# The column of an age in days, which is never below 0; the last where it is beyond all that have one.
@njit(nogil=True, cache=True, inline="always")
def _column(day, install, column_of_age, width):
    age = max(np.int64(day) - np.int64(install), np.int64(0))
    return np.int64(column_of_age[_U(age)]) if age < column_of_age.size else np.int64(width - 1)


@njit(nogil=True, cache=True)
def add_days(count, rows, column_of_age, cells, heads, scratch):
    """Add the users of a settled partition to the sums over (segment, age).

    ``column_of_age[a]`` is the first column that counts what happened at age a; older than that is the last column.
    Everything stands at the column from which on it counts: what is refunded leaves there again.
    """
    users, position, places, chain_paid, chain_left = (
        scratch.users, scratch.position, scratch.places, scratch.last, scratch.last_at,
    )  # fmt: skip
    width = cells.shape[2]
    end = np.int64(0)
    for u in range(count):
        user = users[_U(u)]
        begin = end
        end = user.end
        s = np.int64(user.segment)
        if s < 0:
            continue
        if user.counted:
            heads[INSTALLS, _U(s)] += 1
        for k in range(begin, end):
            chain_paid[_U(k - begin)] = width
            chain_left[_U(k - begin)] = width
            places[_U(k)].left = width
        paid = width
        refunded = width
        activated = width
        chains = np.int64(0)
        for k in range(begin, end):
            place = places[_U(k)]
            if not place.use:
                continue
            row = rows[_U(position[_U(k)])]
            kind = row.marks & KIND
            column = _column(row.day, user.install, column_of_age, width)
            c = np.int64(place.chain)
            if kind <= 3:
                activated = min(activated, column)
            if kind == 0:
                continue
            _add_money(cells, s, column, row, kind)
            if kind <= 4:
                paid = min(paid, column)
                if kind < 4:
                    chain_paid[_U(c)] = min(np.int64(chain_paid[_U(c)]), column)
                    chains = max(chains, c + 1)
                continue
            refunded = min(refunded, column)
            if place.target >= 0:
                payment = places[_U(place.target)]
                if rows[_U(position[_U(place.target)])].marks & KIND == 4:
                    payment.left = min(np.int64(payment.left), column)
                    continue
                c = np.int64(payment.chain)
            chain_left[_U(c)] = min(np.int64(chain_left[_U(c)]), column)
            chains = max(chains, c + 1)
        for k in range(begin, end):
            place = places[_U(k)]
            row = rows[_U(position[_U(k)])]
            if place.use and row.marks & KIND == 4:
                _add_stay(cells, s, _column(row.day, user.install, column_of_age, width), np.int64(place.left))
        for c in range(chains):
            _add_stay(cells, s, np.int64(chain_paid[_U(c)]), np.int64(chain_left[_U(c)]))
        if paid < refunded:
            cells[SUBSCRIBERS, _U(s), _U(paid)] += 1
            if refunded < width:
                cells[SUBSCRIBERS, _U(s), _U(refunded)] -= 1
        if activated < width:
            cells[ACTIVATED, _U(s), _U(activated)] += 1


@njit(nogil=True, cache=True)
def _add_stay(cells, s, paid, left):
    """Add a subscription from the column in which it was paid to that in which it is left, if it lasts."""
    if paid < left:
        cells[SUBSCRIPTIONS, _U(s), _U(paid)] += 1
        if left < cells.shape[2]:
            cells[SUBSCRIPTIONS, _U(s), _U(left)] -= 1


@njit(nogil=True, cache=True)
def add_ladder(count, rows, extras, column_of_age, money, payers, paid, trial, scratch):
    """Add the users of a settled partition to the sums over (duration, segment, age) that a forecast grows from.

    Ages are as in `add_days`. `money` takes revenue, refunds at their own age under the duration of their payment;
    `payers` takes users at their first payment of the duration, refunded or not; `paid`, by segment and age, at their
    first of all; ``trial[0]`` becomes the longest trial of a member, in days. Without durations all are 0.
    """
    users, position, places = scratch.users, scratch.position, scratch.places
    width = money.shape[2]
    first = np.empty(money.shape[0], np.int64)
    end = np.int64(0)
    for u in range(count):
        user = users[_U(u)]
        begin = end
        end = user.end
        s = np.int64(user.segment)
        if s < 0:
            continue
        for d in range(first.size):
            first[d] = width
        for k in range(begin, end):
            place = places[_U(k)]
            if not place.use:
                continue
            i = _U(position[_U(k)])
            row = rows[i]
            kind = row.marks & KIND
            if kind == 0:
                if row.expiry != NONE:
                    length = np.int64(row.expiry) - np.int64(row.day)
                    if length <= LONGEST_TRIAL:
                        trial[0] = max(trial[0], length)
                continue
            own = i if place.target < 0 else _U(position[_U(place.target)])
            d = np.int64(extras[own].duration) if extras.size else np.int64(0)
            column = _column(row.day, user.install, column_of_age, width)
            if kind > 4:
                money[d, s, column] -= abs(row.revenue)
            else:
                money[d, s, column] += row.revenue
                first[d] = min(first[d], column)
        soonest = width
        for d in range(first.size):
            if first[d] < width:
                payers[d, s, first[d]] += 1
                soonest = min(soonest, first[d])
        if soonest < width:
            paid[s, soonest] += 1
