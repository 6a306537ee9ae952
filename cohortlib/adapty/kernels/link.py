"""Link refunds to payments and number the payments of each chain."""

import numpy as np

from cohortlib.adapty.kernels.records import (
    BEFORE_INSTALL,
    CHAIN_SALT,
    COUNTED,
    DUPLICATES,
    EVENT_SALT,
    HAS_CHAIN,
    HAS_EVENT,
    HAS_TRANSACTION,
    KIND,
    KIND_SALT,
    LACKING,
    LACKING_UNITS,
    LACKS_MONEY,
    NONE,
    NOT_IN_INSTALLS,
    NUMBERING_SALT,
    ONE_TIME,
    ORDINAL_SALT,
    PASSES,
    REFUND,
    REFUNDS_WITHOUT_PAYMENT,
    SEEN,
    STARTED,
    TRIAL,
    U0,
    U1,
    U4,
    U32,
    WITHOUT_INSTALL,
    U,
)
from cohortlib.engine.jit import njit
from cohortlib.engine.kernels.words import mix_word


@njit(nogil=True, cache=True)
def _look_up(key, mask, entries):
    """Return the value of a key in the hash table of a user, or ``−1 − slot`` with the free slot for a new key."""
    at = key & mask
    while entries[at].value >= 0 and entries[at].key != key:
        at = (at + U1) & mask
    value = np.int64(entries[at].value)
    return value if value >= 0 else -1 - np.int64(at)


@njit(nogil=True, cache=True)
def _insert(entries, missing, key, value):
    """Insert a key that ``_look_up`` did not find; `missing` is what it returned."""
    entry = entries[U(-1 - missing)]
    entry.key = key
    entry.value = np.int32(value)


@njit(nogil=True, cache=True)
def _cleared(entries, rows):
    """Clear the hash table for a user with `rows` rows, of up to three keys each. Returns the mask of its slots."""
    size = U1
    while size < U4 * U(rows):
        size <<= U1
    for at in range(size):
        entries[at].value = np.int32(-1)
    return size - U1


@njit(nogil=True, cache=True, inline="always")
def segment_of(install, first_day, segments, counters):
    """Return the segment of the day of an install; −1 outside of the date range, and counts unknown days."""
    if install == NONE:
        counters[WITHOUT_INSTALL] += 1
    elif install >= first_day and install - first_day < segments.size:
        return segments[install - first_day]
    return np.int32(-1)


@njit(nogil=True, cache=True)
def link(count, rows, extras, has_installs, first_day, segments, counters, scratch):
    """Find the segment of each user, duplicates and chains.

    Parameters
    ----------
    count
        Number of users.
    rows, extras
        All events and their extra fields; `extras` may be empty.
    has_installs
        Whether there is a table of installs; otherwise events define the installs.
    first_day, segments
        First day of the date range, and the segment of each of its days.
    counters
        int64[8], the counters for the report; updated.

    Returns
    -------
    seen
        The number of chains that have an id; their keys are in `seen_chains`.
    with_refunds
        The number of users with refunds; their numbers are in `mixed`.
    """
    users, position, places, entries, seen_chains, mixed = (
        scratch.users, scratch.position, scratch.places, scratch.entries, scratch.seen_chains, scratch.mixed,
    )  # fmt: skip
    seen = U0
    with_refunds = np.int64(0)
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
            if first_money == NONE and kind > TRIAL:
                first_money = row.day
            if row.first_seen != NONE and (first_seen == NONE or row.first_seen < first_seen):
                first_seen = row.first_seen
            if row.marks & SEEN and not user.listed:
                user.counted = not has_installs

            # One hash table holds all keys of the user; a salt for each kind of key keeps them apart.
            place.target = -1
            place.previous = -1
            duplicate = False
            if row.marks & HAS_TRANSACTION:
                key = row.transaction + KIND_SALT * U(kind + 1)
                hit = _look_up(key, mask, entries)
                duplicate = hit >= 0
                if not duplicate:
                    _insert(entries, hit, key, k - begin)
            if row.marks & HAS_EVENT:
                key = extras[U(position[U(k)])].event + EVENT_SALT
                hit = _look_up(key, mask, entries)
                duplicate |= hit >= 0
                if hit < 0:
                    _insert(entries, hit, key, k - begin)
            place.use = not duplicate
            if duplicate:
                counters[DUPLICATES] += 1
                continue
            refunds |= kind >= REFUND
            chain = np.int64(chain_count)
            if row.marks & HAS_CHAIN:
                key = row.chain + CHAIN_SALT
                chain = _look_up(key, mask, entries)
                if chain < 0:
                    _insert(entries, chain, key, chain_count)
                    seen_chains[seen] = row.chain
                    seen += U1
                    chain = np.int64(chain_count)
            chain_count += chain == chain_count
            place.chain = np.int32(chain)

        if not user.listed:
            user.install = first_money if first_seen == NONE else first_seen
            if has_installs:
                counters[NOT_IN_INSTALLS] += 1
        user.segment = segment_of(user.install, first_day, segments, counters)
        if refunds:
            mixed[U(with_refunds)] = np.uint32(u)
            with_refunds += 1
    return np.int64(seen), with_refunds


@njit(nogil=True, cache=True)
def link_refunds(count, rows, counters, scratch):
    """Find the payment that each refund belongs to, of `count` users whose numbers are in `mixed`."""
    users, position, places, entries, head = (
        scratch.users, scratch.position, scratch.places, scratch.entries, scratch.head,
    )  # fmt: skip
    for u in scratch.mixed[:count]:
        begin = users[u - np.uint32(1)].end if u > 0 else np.int64(0)
        end = users[u].end
        mask = _cleared(entries, end - begin)
        for k in range(begin, end):
            head[U(k - begin)] = -1
            row = rows[U(position[U(k)])]
            if places[U(k)].use and row.marks & HAS_TRANSACTION:
                key = row.transaction + KIND_SALT * U((row.marks & KIND) + 1)
                _insert(entries, _look_up(key, mask, entries), key, k - begin)
        # A refund with the transaction of a payment belongs to the first payment that has it.
        for k in range(begin, end):
            row = rows[U(position[U(k)])]
            if places[U(k)].use and row.marks & KIND >= REFUND and row.marks & HAS_TRANSACTION:
                first = end
                for kind in range(STARTED, REFUND):
                    hit = _look_up(row.transaction + KIND_SALT * U(kind + 1), mask, entries)
                    if hit >= 0:
                        first = min(first, begin + hit)
                if first < end:
                    places[U(k)].target = np.int32(first)
                    places[U(first)].previous = -2
        # Any other refund belongs to the latest payment before it in the chain that is not refunded yet.
        for k in range(begin, end):
            place = places[U(k)]
            kind = rows[U(position[U(k)])].marks & KIND
            if not place.use or kind == TRIAL:
                continue
            latest = np.int64(head[U(place.chain)])
            if kind < REFUND:
                if place.previous != -2:
                    place.previous = np.int32(latest)
                    head[U(place.chain)] = np.int32(k)
            elif place.target < 0:
                if latest >= 0:
                    place.target = np.int32(latest)
                    head[U(place.chain)] = places[U(latest)].previous
                    places[U(latest)].previous = -2
                else:
                    counters[REFUNDS_WITHOUT_PAYMENT] += 1


@njit(nogil=True, cache=True)
def number(count, rows, extras, restarts, consecutive, as_of, scratch):
    """Assign ordinals to the payments of each chain, and find what runs on day `as_of`.

    With `restarts`, each product of a chain is numbered on its own; with `consecutive`, the numbers are those of
    `extras`.
    """
    users, position, places, entries, last, last_at = (
        scratch.users, scratch.position, scratch.places, scratch.entries, scratch.last, scratch.last_at,
    )  # fmt: skip
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
            if not place.use or kind >= ONE_TIME:
                continue
            c = np.int64(place.chain)
            at = c
            if restarts:
                key = mix_word((U(c) << U32) + U(extras[i].product) + NUMBERING_SALT)
                at = _look_up(key, mask, entries)
                if at < 0:
                    _insert(entries, at, key, numberings)
                    at = numberings
                    last[U(at)] = 0
                    numberings += 1
            if kind > TRIAL:
                last[U(at)] = extras[i].number if consecutive else last[U(at)] + 1
            ordinal = last[U(at)]
            place.ordinal = ordinal
            last_at[U(at)] = np.int32(k)
            if (restarts or consecutive) and rows[i].marks & PASSES and kind > TRIAL:
                key = mix_word((U(c) << U32) + U(ordinal) + ORDINAL_SALT)
                hit = _look_up(key, mask, entries)
                if hit < 0:
                    _insert(entries, hit, key, 0)
                place.fresh = hit < 0
        for c in range(numberings):
            k = np.int64(last_at[U(c)])
            if k >= 0 and places[U(k)].previous != -2:
                row = rows[U(position[U(k)])]
                places[U(k)].running = row.marks & PASSES != 0 and row.expiry != NONE and row.expiry >= as_of


@njit(nogil=True, cache=True)
def select(count, rows, counters, scratch):
    """Find which rows of numbered users count, and take the ordinals of refunds from their payments.

    Returns the largest ordinal of a payment or refund that counts, and the same including running subscriptions.
    """
    users, position, places = scratch.users, scratch.position, scratch.places
    widest = np.int64(0)
    farthest = np.int64(0)
    end = np.int64(0)
    for u in range(count):
        user = users[U(u)]
        begin = end
        end = user.end
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
                if row.marks & KIND > TRIAL and row.day < user.install:
                    counters[BEFORE_INSTALL] += 1
                if place.use:
                    counters[COUNTED] += 1
                    if row.marks & LACKS_MONEY:
                        counters[LACKING] += 1
                        counters[LACKING_UNITS] += abs(row.revenue)
                    if row.marks & KIND > TRIAL:
                        widest = max(widest, np.int64(place.ordinal))
                    if place.running:
                        farthest = max(farthest, np.int64(place.ordinal))
    return widest, max(widest, farthest)
