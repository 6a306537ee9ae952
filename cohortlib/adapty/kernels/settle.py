"""Link refunds to payments and number the payments of each chain."""

import numpy as np
from numba import njit

from cohortlib.adapty.kernels.records import (
    CHAIN_SALT,
    EARLY,
    EVENT_SALT,
    HAS_CHAIN,
    HAS_EVENT,
    HAS_TRANSACTION,
    KIND,
    KIND_SALT,
    NONE,
    NUMBERING_SALT,
    ORDINAL_SALT,
    ORPHANS,
    PASSES,
    REPEATS,
    SEEN,
    U0,
    U1,
    U4,
    U32,
    UNDATED,
    UNLISTED,
    U,
)
from cohortlib.engine.kernels.words import mix_word


# A dictionary of one user: the value of a key, or ``−1 − place`` where the key is new and could be put.
@njit(nogil=True, cache=True)
def _look_up(key, mask, entries):
    at = key & mask
    while entries[at].value >= 0 and entries[at].key != key:
        at = (at + U1) & mask
    value = np.int64(entries[at].value)
    return value if value >= 0 else -1 - np.int64(at)


@njit(nogil=True, cache=True)
def _put(entries, found, key, value):
    entry = entries[U(-1 - found)]
    entry.key = key
    entry.value = np.int32(value)


@njit(nogil=True, cache=True)
def _cleared(entries, rows):
    """Empty a dictionary for so many rows, of up to three keys each; returns the mask of its places."""
    size = U1
    while size < U4 * U(rows):
        size <<= U1
    for at in range(size):
        entries[at].value = np.int32(-1)
    return size - U1


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
    seen = U0
    end = np.int64(0)
    for u in range(count):
        user = users[U(u)]
        begin = end
        end = user.end
        chain_count = 0
        refunds = False
        first_seen = NONE
        first_money = NONE
        mask = _cleared(entries, end - begin)
        for k in range(begin, end):
            row = rows[U(position[U(k)])]
            place = places[U(k)]
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
                key = row.transaction + KIND_SALT * U(kind + 1)
                found = _look_up(key, mask, entries)
                repeated = found >= 0
                if not repeated:
                    _put(entries, found, key, k - begin)
            if row.marks & HAS_EVENT:
                key = extras[U(position[U(k)])].event + EVENT_SALT
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
                key = row.chain + CHAIN_SALT
                found = _look_up(key, mask, entries)
                if found < 0:
                    _put(entries, found, key, chain_count)
                    seen_chains[seen] = row.chain
                    seen += U1
                    found = np.int64(chain_count)
            if found == chain_count:
                head[U(chain_count)] = -1
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
            row = rows[U(position[U(k)])]
            if places[U(k)].use and row.marks & KIND >= 5 and row.marks & HAS_TRANSACTION:
                first = end
                for kind in range(1, 5):
                    found = _look_up(row.transaction + KIND_SALT * U(kind + 1), mask, entries)
                    if found >= 0 and places[U(begin + found)].use:
                        first = min(first, begin + found)
                if first < end:
                    places[U(k)].target = np.int32(first)
                    places[U(first)].previous = -2
        # All others: the latest payment before them in the chain that has none yet.
        for k in range(begin, end):
            place = places[U(k)]
            kind = rows[U(position[U(k)])].marks & KIND
            if not place.use or kind == 0:
                continue
            latest = np.int64(head[U(place.chain)])
            if kind <= 4:
                if place.previous != -2:
                    place.previous = np.int32(latest)
                    head[U(place.chain)] = np.int32(k)
            elif place.target < 0:
                if latest >= 0:
                    place.target = np.int32(latest)
                    head[U(place.chain)] = places[U(latest)].previous
                    places[U(latest)].previous = -2
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
    mask = U0
    end = np.int64(0)
    for u in range(count):
        user = users[U(u)]
        begin = end
        end = user.end
        if restarts or consecutive:
            mask = _cleared(entries, end - begin)
        numberings = end - begin
        for c in range(numberings):
            last[U(c)] = 0
            last_at[U(c)] = -1
        for k in range(begin, end):
            i = U(position[U(k)])
            place = places[U(k)]
            kind = rows[i].marks & KIND
            place.running = False
            place.fresh = True
            place.ordinal = 1
            if not place.use or kind > 3:
                continue
            c = np.int64(place.chain)
            at = c
            if restarts:
                key = mix_word((U(c) << U32) + U(extras[i].product) + NUMBERING_SALT)
                at = _look_up(key, mask, entries)
                if at < 0:
                    _put(entries, at, key, numberings)
                    at = numberings
                    last[U(at)] = 0
                    numberings += 1
            if kind > 0:
                last[U(at)] = extras[i].number if consecutive else last[U(at)] + 1
            ordinal = last[U(at)]
            place.ordinal = ordinal
            last_at[U(at)] = np.int32(k)
            if (restarts or consecutive) and rows[i].marks & PASSES and kind > 0:
                key = mix_word((U(c) << U32) + U(ordinal) + ORDINAL_SALT)
                found = _look_up(key, mask, entries)
                if found < 0:
                    _put(entries, found, key, 0)
                place.fresh = found < 0
        for c in range(numberings):
            k = np.int64(last_at[U(c)])
            if k >= 0 and places[U(k)].previous != -2:
                row = rows[U(position[U(k)])]
                places[U(k)].running = row.marks & PASSES != 0 and row.expiry != NONE and row.expiry >= as_of

        for k in range(begin, end):
            place = places[U(k)]
            if not place.use:
                continue
            row = rows[U(position[U(k)])]
            place.use = row.marks & PASSES != 0
            if place.target >= 0:
                place.ordinal = places[U(place.target)].ordinal
                place.use = rows[U(position[U(place.target)])].marks & PASSES != 0
            if user.segment >= 0:
                if row.marks & KIND > 0 and row.day < user.install:
                    tally[EARLY] += 1
                if place.use:
                    if row.marks & KIND > 0:
                        widest = max(widest, np.int64(place.ordinal))
                    if place.running:
                        farthest = max(farthest, np.int64(place.ordinal))
    return widest, max(widest, farthest)
