"""Find the users of a partition, group its rows by user and sort them by time."""

import numpy as np

from cohortlib.adapty.kernels.records import (
    BYTE,
    HAS_CHAIN,
    HAS_TRANSACTION,
    KIND,
    LOW,
    NEVER,
    NONE,
    PASSES,
    U0,
    U1,
    U2,
    U4,
    U8,
    U12,
    U32,
    U,
)
from cohortlib.engine.jit import njit


@njit(nogil=True, cache=True, inline="always")
def _look_up(key, key2, slots, users):
    """Return the code of a user, or ``−1 − slot`` with the free slot for a new one."""
    mask = U(slots.size - 1)
    at = key & mask
    code = np.int64(slots[at])
    while code >= 0 and not (users[U(code)].key == key and users[U(code)].key2 == key2):
        at = (at + U1) & mask
        code = np.int64(slots[at])
    return code if code >= 0 else -1 - np.int64(at)


@njit(nogil=True, cache=True, inline="always")
def _insert(missing, key, key2, code, slots, users):
    """Insert a user that ``_look_up`` did not find; `missing` is what it returned."""
    slots[U(-1 - missing)] = np.int32(code)
    user = users[U(code)]
    user.key = key
    user.key2 = key2
    user.end = 0
    user.latest = NEVER
    user.install = NONE
    user.counted = False
    user.listed = False
    user.mixed = False


@njit(nogil=True, cache=True)
def find_users(p, starts, columns, slots, users, codes):
    """Assign codes 0, 1, 2 … to the users of a partition in order of appearance, and write the code of each row.

    Parameters
    ----------
    p
        The partition. Its rows are ``starts[p, b]`` to ``starts[p + 1, b]`` of each block b.
    columns
        The columns of events.
    slots
        The hash table: −1 or the code of a user. Its size is a power of two and at least twice the rows.

    Returns
    -------
    count
        Number of users.
    """
    keys, keys2 = columns.keys, columns.keys2
    count = np.int64(0)
    j = U0
    key2 = U0
    for b in range(starts.shape[1]):
        for i in range(U(starts[p, b]), U(starts[p + 1, b])):
            if keys2.size:
                key2 = keys2[i]
            code = _look_up(keys[i], key2, slots, users)
            if code < 0:
                _insert(code, keys[i], key2, count, slots, users)
                code = count
                count += 1
            users[U(code)].end += 1
            codes[j] = np.uint32(code)
            j += U1
    return count


@njit(nogil=True, cache=True)
def find_installs(p, starts, installs, count, slots, users):
    """Find the installs of the `count` users of a partition, and append users without events.

    The earliest day counts. Returns the number of users now; the other parameters are as for ``find_users``.
    """
    keys, keys2, days, passes = installs
    key2 = U0
    for b in range(starts.shape[1]):
        for i in range(U(starts[p, b]), U(starts[p + 1, b])):
            if keys2.size:
                key2 = keys2[i]
            code = _look_up(keys[i], key2, slots, users)
            if code < 0:
                _insert(code, keys[i], key2, count, slots, users)
                code = count
                count += 1
            user = users[U(code)]
            user.listed = True
            if user.install == NONE or days[i] < user.install:
                user.install = days[i]
            if passes[i]:
                user.counted = True
    return count


@njit(nogil=True, cache=True)
def group_rows(p, starts, rows, codes, count, users, position, mixed):
    """Group rows by user, in input order. Returns the number of users whose rows are not sorted by time.

    `mixed` receives the codes of these users.
    """
    place = np.int64(0)
    for u in range(count):
        user = users[U(u)]
        place += user.end
        user.end = place - user.end
    mixed_count = 0
    j = U0
    for b in range(starts.shape[1]):
        for i in range(U(starts[p, b]), U(starts[p + 1, b])):
            user = users[U(codes[j])]
            position[U(user.end)] = np.uint32(i)
            user.end += 1
            instant = rows[i].instant
            if instant <= user.latest and not user.mixed:
                user.mixed = True
                mixed[U(mixed_count)] = codes[j]
                mixed_count += 1
            user.latest = instant
            j += U1
    return mixed_count


@njit(nogil=True, cache=True)
def _byte(view, memory, bases, k):
    """Return byte k of a text, given its view."""
    head, tail = view
    if head & LOW > U12:
        return U(memory[bases[tail & LOW] + (tail >> U32) + k])
    return ((head >> (U32 + U8 * k)) if k < U4 else (tail >> (U8 * (k - U4)))) & BYTE


@njit(nogil=True, cache=True)
def _text_order(texts, a, b):
    """Compare the texts of two rows byte by byte. Returns −1, 0 or 1."""
    views, memory, bases = texts
    one, other = (views[U2 * a], views[U2 * a + U1]), (views[U2 * b], views[U2 * b + U1])
    lengths = one[0] & LOW, other[0] & LOW
    for k in range(min(lengths)):
        bytes_ = _byte(one, memory, bases, k), _byte(other, memory, bases, k)
        if bytes_[0] != bytes_[1]:
            return -1 if bytes_[0] < bytes_[1] else 1
    return np.int64(lengths[0] > lengths[1]) - np.int64(lengths[0] < lengths[1])


@njit(nogil=True, cache=True)
def _precedes(i, j, rows, extras, lines, transactions, chains):
    """Return whether row i sorts before row j of the same instant.

    Ties are broken by every other field that results depend on: kind, transaction, money, product, filters, number,
    expiry, duration and chain, in this order. So the input order of rows does not matter. `lines` holds the index of
    each row's texts in `transactions` and `chains`.
    """
    one, other = rows[i], rows[j]
    if one.marks & KIND != other.marks & KIND:
        return one.marks & KIND < other.marks & KIND
    if one.marks & HAS_TRANSACTION != other.marks & HAS_TRANSACTION:
        return one.marks & HAS_TRANSACTION < other.marks & HAS_TRANSACTION
    if one.transaction != other.transaction:
        order = _text_order(transactions, U(lines[i]), U(lines[j]))
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
    return one.chain != other.chain and _text_order(chains, U(lines[i]), U(lines[j])) < 0


@njit(nogil=True, cache=True)
def sort_rows(mixed, rows, extras, lines, transactions, chains, users, position, spare):
    """Sort the rows of some users by time, by a stable bottom-up merge sort; see ``_precedes`` for ties."""
    for u in mixed:
        begin = users[u - np.uint32(1)].end if u > 0 else np.int64(0)
        end = users[u].end
        width = np.int64(1)
        while width < end - begin:
            for low in range(begin, end - width, 2 * width):
                a, b = low, low + width
                middle, top = b, min(b + width, end)
                if rows[position[U(middle - 1)]].instant < rows[position[U(middle)]].instant:
                    continue
                for k in range(low, top):
                    second = a == middle
                    if a < middle and b < top:
                        i, j = U(position[U(b)]), U(position[U(a)])
                        second = rows[i].instant < rows[j].instant
                        if rows[i].instant == rows[j].instant:
                            second = _precedes(i, j, rows, extras, lines, transactions, chains)
                    if second:
                        spare[U(k)] = position[U(b)]
                        b += 1
                    else:
                        spare[U(k)] = position[U(a)]
                        a += 1
                for k in range(low, top):
                    position[U(k)] = spare[U(k)]
            width *= 2
