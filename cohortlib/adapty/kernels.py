"""The loops of the Adapty table: one partition of users, from its rows to the cells of its segments.

``arrange`` puts the rows of each user in order, ``link`` finds repeats, chains and the payment of each refund,
``number`` the ordinal of each payment; then ``add_renewals`` or ``add_days`` adds the users to the sums. Rows come
from ``Partitions``, as the columns that ``cohortlib.adapty.rows`` names; what is worked out of them lies in
`Scratch`, by position k in the order of users: the row of position k is ``position[k]``, and the positions of user u
end before ``ends[u]``. One kernel for all would take four times as long to compile.
"""

from typing import NamedTuple

import numpy as np
from numba import njit

from cohortlib.kernels import _mix

NONE = np.int32(-(2**31))  # a day that is not known
KIND = 7  # the bits of `flags`: what kind of event …
PASSES, HAS_TRANSACTION, HAS_CHAIN, SEEN, HAS_EVENT = 8, 16, 32, 64, 128  # … and what is known of it

# The planes of the cells, and of the heads.
REVENUE, PROCEEDS, NET, SUBSCRIBERS, SUBSCRIPTIONS, PAYERS, ACTIVATED, RUNNING = range(8)
INSTALLS, PAID, CHAINS = range(3)
# What is counted on the way.
REPEATS, ORPHANS, UNDATED, UNLISTED, EARLY = range(5)

_U = np.uint64
_U0, _U1, _U8 = _U(0), _U(1), _U(8)
_LOW, _U12, _U32, _U63 = _U(0xFFFFFFFF), _U(12), _U(32), _U(63)
_KIND_SALT, _EVENT_SALT, _CHAIN_SALT = _U(0x9E3779B97F4A7C15), _U(0xD1342543DE82EF95), _U(0xE7037ED1A0B428DB)
_NUMBERING_SALT, _ORDINAL_SALT = _U(0x8EBC6AF09C88C6E3), _U(0xA0761D6478BD642F)
LONGEST_TRIAL = 92  # days; what is longer is taken for a wrong date
_FAR = np.int64(1) << np.int64(40)


# Inlined before compilation: a call would count the references of each array, on every row.
@njit(nogil=True, cache=True, inline="always")
def _code(key, key2, wide, mask, slots, users, users2):
    """Look a user up in the open-addressing table: the code, or ``−1 − slot`` of the free place for a new one."""
    at = key & mask
    code = np.int64(slots[at])
    while code >= 0 and not (users[np.uint64(code)] == key and (not wide or users2[np.uint64(code)] == key2)):
        at = (at + np.uint64(1)) & mask
        code = np.int64(slots[at])
    return code if code >= 0 else -1 - np.int64(at)


@njit(nogil=True, cache=True)
def _number_users(p, starts, keys, keys2, wide, count, mask, slots, users, users2, codes):
    """Give the users of a partition the codes 0, 1, 2 … in order of appearance; returns how many there are."""
    key2 = _U0
    j = 0
    for b in range(starts.shape[1]):
        for i in range(starts[p, b], starts[p + 1, b]):
            if wide:
                key2 = keys2[i]
            code = _code(keys[i], key2, wide, mask, slots, users, users2)
            if code < 0:
                slots[-1 - code] = np.int32(count)
                code = np.int64(count)
                users[code] = keys[i]
                if wide:
                    users2[code] = key2
                count += 1
            codes[_U(j)] = np.int32(code)
            j += 1
    return count


# A dictionary of one user: the value of a key, or ``−1 − place`` where the key is new and could be put.
@njit(nogil=True, cache=True, inline="always")
def _look_up(key, mask, values, known):
    at = key & mask
    value = np.int64(values[at])
    while value >= 0 and known[at] != key:
        at = (at + _U1) & mask
        value = np.int64(values[at])
    return value if value >= 0 else -1 - np.int64(at)


@njit(nogil=True, cache=True)
def _text_order(views, memory, bases, a, b):
    """Compare the texts of two rows byte by byte: −1, 0 or 1."""
    head_a, tail_a = views[2 * a], views[2 * a + 1]
    head_b, tail_b = views[2 * b], views[2 * b + 1]
    length_a, length_b = head_a & _LOW, head_b & _LOW
    base_a = _U0 if length_a <= _U12 else bases[np.int64(tail_a & _LOW)] + (tail_a >> _U32)
    base_b = _U0 if length_b <= _U12 else bases[np.int64(tail_b & _LOW)] + (tail_b >> _U32)
    for i in range(min(length_a, length_b)):
        k = _U(i)
        if length_a > _U12:
            byte_a = _U(memory[base_a + k])
        else:
            byte_a = ((head_a >> (_U32 + _U8 * k)) if i < 4 else (tail_a >> (_U8 * (k - _U(4))))) & _U(255)
        if length_b > _U12:
            byte_b = _U(memory[base_b + k])
        else:
            byte_b = ((head_b >> (_U32 + _U8 * k)) if i < 4 else (tail_b >> (_U8 * (k - _U(4))))) & _U(255)
        if byte_a != byte_b:
            return -1 if byte_a < byte_b else 1
    if length_a == length_b:
        return 0
    return -1 if length_a < length_b else 1


@njit(nogil=True, cache=True)
def _precedes(i, j, compared):
    """Tell whether row i stands before row j of the same instant, by what else the outcome may depend on.

    That is kind, transaction, money, product, filters, number, expiry, duration and chain, in this order; so the
    order in which the rows came does not matter. `compared` holds the columns; `texts` in it are those of transactions
    and then of chains, as ``fingerprint_strings`` takes them.
    """
    transactions, chains, revenue, proceeds, net, flags, rows, products, numbers, expiries, durations, texts = compared
    kind_i, kind_j = flags[i] & KIND, flags[j] & KIND
    if kind_i != kind_j:
        return kind_i < kind_j
    named_i, named_j = flags[i] & HAS_TRANSACTION, flags[j] & HAS_TRANSACTION
    if named_i != named_j:
        return named_i < named_j
    if named_i and transactions[i] != transactions[j]:
        order = _text_order(texts[0], texts[1], texts[2], np.int64(rows[i]), np.int64(rows[j]))
        if order != 0:
            return order < 0
    if revenue[i] != revenue[j]:
        return revenue[i] < revenue[j]
    if proceeds[i] != proceeds[j]:
        return proceeds[i] < proceeds[j]
    if net[i] != net[j]:
        return net[i] < net[j]
    if products.size and products[i] != products[j]:
        return products[i] < products[j]
    if flags[i] & PASSES != flags[j] & PASSES:
        return (flags[i] & PASSES) != 0
    if numbers.size and numbers[i] != numbers[j]:
        return numbers[i] < numbers[j]
    if expiries.size and expiries[i] != expiries[j]:
        return expiries[i] < expiries[j]
    if durations.size and durations[i] != durations[j]:
        return durations[i] < durations[j]
    if chains[i] != chains[j]:
        return _text_order(texts[3], texts[4], texts[5], np.int64(rows[i]), np.int64(rows[j])) < 0
    return False


@njit(nogil=True, cache=True)
def _sort(begin, end, position, spare, instants, compared):
    """Sort the rows of one user, stable: runs of sixteen by insertion, then merged."""
    for low in range(begin, end, 16):
        for k in range(low + 1, min(low + 16, end)):
            i = position[k]
            t = instants[i]
            at = k
            while at > low:
                j = position[at - 1]
                if instants[j] < t or (instants[j] == t and not _precedes(i, j, compared)):
                    break
                position[at] = j
                at -= 1
            position[at] = i
    width = 16
    while width < end - begin:
        for low in range(begin, end, 2 * width):
            middle = min(low + width, end)
            top = min(low + 2 * width, end)
            a = low
            b = middle
            for k in range(low, top):
                second = a >= middle
                if a < middle and b < top:
                    i, j = position[b], position[a]
                    second = instants[i] < instants[j] or (instants[i] == instants[j] and _precedes(i, j, compared))
                if second:
                    spare[k] = position[b]
                    b += 1
                else:
                    spare[k] = position[a]
                    a += 1
        for k in range(begin, end):
            position[k] = spare[k]
        width *= 2


class Scratch(NamedTuple):
    """The arrays that the kernels work in, and hand on to each other; each thread needs its own."""

    slots: np.ndarray
    users: np.ndarray
    users2: np.ndarray
    codes: np.ndarray
    given: np.ndarray
    counted: np.ndarray  # by user: whether an install
    ends: np.ndarray  # by user: where the positions end
    segment: np.ndarray  # by user: −1 for whom the frame does not hold
    install: np.ndarray  # by user: day, or NONE
    position: np.ndarray  # by position, as all that follow: the row
    spare: np.ndarray
    use: np.ndarray  # whether the row counts: no repeat, and passes the filters
    ordinal: np.ndarray
    chain: np.ndarray  # 0, 1, 2 … within the user
    target: np.ndarray  # the position of a refund's payment, or −1
    fresh: np.ndarray  # whether the chain has the ordinal for the first time
    running: np.ndarray  # whether the chain runs on from this row
    values: np.ndarray
    known: np.ndarray
    head: np.ndarray
    previous: np.ndarray  # −2 for a payment that is refunded
    last: np.ndarray
    last_at: np.ndarray
    seen_chains: np.ndarray
    stamps: np.ndarray  # by chain, and in the end the last stamp given

    @classmethod
    def of(cls, rows: int, listed: int) -> "Scratch":
        """Make arrays for partitions of up to so many rows of events and of installs."""
        everybody = rows + listed
        dictionary = 1 << (8 * rows - 1).bit_length()
        return cls(
            slots=np.empty(1 << (2 * everybody - 1).bit_length(), np.int32),
            users=np.empty(everybody, np.uint64),
            users2=np.empty(everybody, np.uint64),
            codes=np.empty(everybody, np.int32),
            given=np.empty(everybody, np.int32),
            counted=np.empty(everybody, np.bool_),
            ends=np.empty(everybody, np.int64),
            segment=np.empty(everybody, np.int32),
            install=np.empty(everybody, np.int32),
            position=np.empty(rows, np.int64),
            spare=np.empty(rows, np.int64),
            use=np.empty(rows, np.bool_),
            ordinal=np.empty(rows, np.int32),
            chain=np.empty(rows, np.int32),
            target=np.empty(rows, np.int32),
            fresh=np.empty(rows, np.bool_),
            running=np.empty(rows, np.bool_),
            values=np.empty(dictionary, np.int32),
            known=np.empty(dictionary, np.uint64),
            head=np.empty(rows, np.int32),
            previous=np.empty(rows, np.int32),
            last=np.empty(2 * rows, np.int32),
            last_at=np.empty(2 * rows, np.int32),
            seen_chains=np.empty(rows, np.uint64),
            stamps=np.zeros(rows + 1, np.int64),
        )


@njit(nogil=True, cache=True)
def arrange(p, starts, columns, texts, listed_starts, listed, is_list, first_day, segments, tally, scratch):
    """Bring the rows of each user together and in order, and find the segment of each.

    Parameters
    ----------
    p
        The partition. Its rows stand at ``starts[p, b]`` to ``starts[p + 1, b]`` for each block b.
    columns
        The columns of events.
    texts
        Views, memory and bases of all transaction ids and then of all chains, as ``fingerprint_strings`` takes them.
    listed_starts, listed
        The same of the table of installs: keys, days, and whether the row passes the filters.
    is_list
        Whether installs are counted from that table, and not from the events.
    first_day, segments
        First day of the frame, and the segment of each of its days.
    tally
        int64[5], added to.
    scratch
        `Scratch` for the rows of the partition and its installs.

    Returns
    -------
    users
        How many there are.
    """
    keys, keys2, instants, days, flags, first_seen = (
        columns.keys, columns.keys2, columns.instants, columns.days, columns.flags, columns.first_seen,
    )  # fmt: skip
    slots, users, users2, codes, given, counted, ends, position = (
        scratch.slots, scratch.users, scratch.users2, scratch.codes, scratch.given, scratch.counted, scratch.ends,
        scratch.position,
    )  # fmt: skip
    listed_days, listed_passes = listed.days, listed.passes
    wide = keys2.size > 0 or listed.keys2.size > 0
    m = np.int64(0)
    for b in range(starts.shape[1]):
        m += starts[p + 1, b] - starts[p, b]
    most = m
    for b in range(listed_starts.shape[1]):
        most += listed_starts[p + 1, b] - listed_starts[p, b]
    mask = _U1
    while mask < _U(2 * most):
        mask <<= _U1
    for at in range(mask):
        slots[at] = -1
    mask -= _U1

    on_list = _number_users(p, listed_starts, listed.keys, listed.keys2, wide, 0, mask, slots, users, users2, codes)
    for u in range(on_list):
        given[u] = NONE
        counted[u] = False
    j = 0
    for b in range(listed_starts.shape[1]):
        for i in range(listed_starts[p, b], listed_starts[p + 1, b]):
            at_user = _U(codes[_U(j)])
            j += 1
            if given[at_user] == NONE or listed_days[i] < given[at_user]:
                given[at_user] = listed_days[i]
            if listed_passes[i] != 0:
                counted[at_user] = True

    count = _number_users(p, starts, keys, keys2, wide, on_list, mask, slots, users, users2, codes)
    for u in range(count):
        ends[u] = 0
    for j in range(m):
        ends[_U(codes[_U(j)])] += 1
    place = np.int64(0)
    for u in range(count):
        ends[u], place = place, place + ends[u]
    j = 0
    for b in range(starts.shape[1]):
        for i in range(starts[p, b], starts[p + 1, b]):
            at_user = _U(codes[_U(j)])
            j += 1
            position[_U(ends[at_user])] = i
            ends[at_user] += 1

    compared = (
        columns.transactions, columns.chains, columns.revenue, columns.proceeds, columns.net, flags, columns.rows,
        columns.products, columns.numbers, columns.expiries, columns.durations, texts,
    )  # fmt: skip
    end = np.int64(0)
    for u in range(count):
        begin = end
        end = ends[u]
        in_order = True
        for k in range(begin + 1, end):
            i, j = position[_U(k - 1)], position[_U(k)]
            if instants[i] > instants[j] or (instants[i] == instants[j] and _precedes(j, i, compared)):
                in_order = False
                break
        if not in_order:
            _sort(begin, end, position, scratch.spare, instants, compared)

        day = NONE
        first_money = NONE
        seen = False
        for k in range(begin, end):
            i = position[_U(k)]
            if first_money == NONE and (flags[i] & KIND) > 0:
                first_money = days[i]
            if first_seen.size and first_seen[i] != NONE and (day == NONE or first_seen[i] < day):
                day = first_seen[i]
            if flags[i] & SEEN:
                seen = True
        if day == NONE:
            day = first_money
        if u < on_list:
            day = given[u]
        else:
            counted[u] = seen and not is_list
            if is_list:
                tally[UNLISTED] += 1
        scratch.install[u] = day
        scratch.segment[u] = -1
        if day == NONE:
            tally[UNDATED] += 1
        elif day >= first_day and day - first_day < segments.size:
            scratch.segment[u] = segments[day - first_day]
    return count


@njit(nogil=True, cache=True)
def link(count, columns, tally, scratch):
    """Find the repeats and the chains of each user, and the payment that each refund names.

    Returns the number of chains that have a name; their keys are in `seen_chains`.
    """
    transactions, chains, flags, events = columns.transactions, columns.chains, columns.flags, columns.events
    ends, position, use, chain, target, previous = (
        scratch.ends, scratch.position, scratch.use, scratch.chain, scratch.target, scratch.previous,
    )  # fmt: skip
    values, known, head, seen_chains = scratch.values, scratch.known, scratch.head, scratch.seen_chains
    seen = 0
    end = np.int64(0)
    for u in range(count):
        begin = end
        end = ends[u]
        if begin == end:
            continue
        # One dictionary holds what the user has had, each kind of key under a salt of its own.
        mask = _U1
        while mask < _U(4 * (end - begin)):
            mask <<= _U1
        for at in range(mask):
            values[at] = -1
        mask -= _U1
        chain_count = 0
        for k in range(begin, end):
            i = position[_U(k)]
            kind = flags[i] & KIND
            target[k] = -1
            previous[k] = -1
            repeated = False
            for name in range(2):
                key = transactions[i] + _KIND_SALT * _U(kind + 1)
                there = (flags[i] & HAS_TRANSACTION) != 0
                if name == 1:
                    there = events.size > 0 and (flags[i] & HAS_EVENT) != 0
                    if there:
                        key = events[i] + _EVENT_SALT
                if there:
                    key = _mix(key)
                    found = _look_up(key, mask, values, known)
                    if found < 0:
                        values[-1 - found], known[-1 - found] = np.int32(k - begin), key
                    else:
                        repeated = True
            use[k] = not repeated
            if repeated:
                tally[REPEATS] += 1
                continue
            found = np.int64(chain_count)
            if flags[i] & HAS_CHAIN:
                key = _mix(chains[i] + _CHAIN_SALT)
                found = _look_up(key, mask, values, known)
                if found < 0:
                    values[-1 - found], known[-1 - found] = np.int32(chain_count), key
                    seen_chains[seen] = chains[i]
                    seen += 1
                    found = np.int64(chain_count)
            if found == chain_count:
                head[chain_count] = -1
                chain_count += 1
            chain[k] = np.int32(found)

        # Refunds of a payment by its transaction, of whatever kind: the first of them.
        refunds = False
        for k in range(begin, end):
            i = position[_U(k)]
            if use[k] and (flags[i] & KIND) >= 5:
                refunds = True
                if flags[i] & HAS_TRANSACTION:
                    first = end
                    for kind in range(1, 5):
                        found = _look_up(_mix(transactions[i] + _KIND_SALT * _U(kind + 1)), mask, values, known)
                        if found >= 0 and use[begin + found]:
                            first = min(first, begin + found)
                    if first < end:
                        target[k] = np.int32(first)
                        previous[first] = -2
        if refunds:
            # All others: the latest payment before them in the chain that has none yet.
            for k in range(begin, end):
                if not use[k]:
                    continue
                kind = flags[position[_U(k)]] & KIND
                if 1 <= kind <= 4:
                    if previous[k] != -2:
                        previous[k] = head[chain[k]]
                        head[chain[k]] = np.int32(k)
                elif kind >= 5 and target[k] < 0:
                    t = np.int64(head[chain[k]])
                    if t >= 0:
                        target[k] = np.int32(t)
                        head[chain[k]] = previous[t]
                        previous[t] = -2
                    else:
                        tally[ORPHANS] += 1
    return seen


@njit(nogil=True, cache=True)
def number(count, columns, as_of, tally, scratch):
    """Find the ordinal of each payment, what is running on the day `as_of`, and what passes the filters.

    Where `columns` has products each product of a chain is counted by itself; where it has numbers, they are taken.

    Returns the largest ordinal of a member's payment or refund that passes, and the same with what is running.
    """
    days, flags, products, numbers, expiries = (
        columns.days, columns.flags, columns.products, columns.numbers, columns.expiries,
    )  # fmt: skip
    ends, position, use, ordinal, chain, target = (
        scratch.ends, scratch.position, scratch.use, scratch.ordinal, scratch.chain, scratch.target,
    )  # fmt: skip
    fresh, running, values, known, last, last_at, previous = (
        scratch.fresh, scratch.running, scratch.values, scratch.known, scratch.last, scratch.last_at, scratch.previous,
    )  # fmt: skip
    repeating = products.size > 0 or numbers.size > 0
    widest = np.int64(0)
    farthest = np.int64(0)
    end = np.int64(0)
    for u in range(count):
        begin = end
        end = ends[u]
        member = scratch.segment[u] >= 0
        mask = _U1
        if repeating:
            while mask < _U(4 * (end - begin)):
                mask <<= _U1
            for at in range(mask):
                values[at] = -1
        mask -= _U1
        for c in range(end - begin):
            last[c] = 0
            last_at[c] = -1
        numberings = end - begin
        for k in range(begin, end):
            i = position[_U(k)]
            kind = flags[i] & KIND
            running[k] = False
            fresh[k] = True
            ordinal[k] = 1
            if not use[k] or kind > 3:
                continue
            c = np.int64(chain[k])
            at = c
            if products.size:
                key = _mix((_U(c) << _U32) + _U(products[i]) + _NUMBERING_SALT)
                at = _look_up(key, mask, values, known)
                if at < 0:
                    values[-1 - at], known[-1 - at] = np.int32(numberings), key
                    at = numberings
                    last[at] = 0
                    numberings += 1
            if kind > 0:
                last[at] = numbers[i] if numbers.size else last[at] + 1
            ordinal[k] = last[at]
            last_at[at] = np.int32(k)
            if repeating and flags[i] & PASSES and kind > 0:
                key = _mix((_U(c) << _U32) + _U(last[at]) + _ORDINAL_SALT)
                found = _look_up(key, mask, values, known)
                if found < 0:
                    values[-1 - found], known[-1 - found] = 0, key
                fresh[k] = found < 0
        if expiries.size:
            for c in range(numberings):
                k = np.int64(last_at[c])
                if k >= 0 and previous[k] != -2:
                    i = position[_U(k)]
                    running[k] = (flags[i] & PASSES) != 0 and expiries[i] != NONE and expiries[i] >= as_of

        for k in range(begin, end):
            if use[k]:
                i = position[_U(k)]
                own = i
                if target[k] >= 0:
                    ordinal[k] = ordinal[target[k]]
                    own = position[_U(target[k])]
                use[k] = (flags[own] & PASSES) != 0
                if member and (flags[i] & KIND) > 0 and days[i] < scratch.install[u]:
                    tally[EARLY] += 1
                if member and use[k]:
                    if (flags[i] & KIND) > 0:
                        widest = max(widest, np.int64(ordinal[k]))
                    if running[k]:
                        farthest = max(farthest, np.int64(ordinal[k]))
    return widest, max(widest, farthest)


@njit(nogil=True, cache=True)
def add_renewals(count, columns, stamps, cells, heads, scratch):
    """Add the users of a settled partition to the sums over (segment, ordinal − 1).

    `cells` has a column more than the farthest ordinal. `stamps` is int64, by column, 0 at first, and goes with
    `scratch`. Subscribers, subscriptions and money are those at the ordinal; payers enter at their first and leave at
    the first ordinal refunded; activated users enter at 0; running chains stand at their last ordinal.
    """
    revenue, proceeds, net, flags = columns.revenue, columns.proceeds, columns.net, columns.flags
    counted, ends, segment, position, use, ordinal, chain = (
        scratch.counted, scratch.ends, scratch.segment, scratch.position, scratch.use, scratch.ordinal, scratch.chain,
    )  # fmt: skip
    fresh, running, chain_stamps = scratch.fresh, scratch.running, scratch.stamps
    stamp = chain_stamps[-1]
    end = np.int64(0)
    for u in range(count):
        begin = end
        end = ends[u]
        s = np.int64(segment[u])
        if s < 0:
            continue
        if counted[u]:
            heads[INSTALLS, s] += 1
        stamp += 1
        paid = _FAR
        refunded = _FAR
        activated = False
        for k in range(begin, end):
            if not use[k]:
                continue
            i = position[_U(k)]
            kind = flags[i] & KIND
            if running[k]:
                cells[RUNNING, s, np.int64(ordinal[k])] += 1
            if kind == 0:
                activated = True
                continue
            column = np.int64(ordinal[k]) - 1
            if kind > 4:
                cells[REVENUE, s, column] -= abs(revenue[i])
                cells[PROCEEDS, s, column] -= abs(proceeds[i])
                cells[NET, s, column] -= abs(net[i])
                refunded = min(refunded, column)
                continue
            cells[REVENUE, s, column] += revenue[i]
            cells[PROCEEDS, s, column] += proceeds[i]
            cells[NET, s, column] += net[i]
            paid = min(paid, column)
            if stamps[column] != stamp:
                stamps[column] = stamp
                cells[SUBSCRIBERS, s, column] += 1
            if kind == 4:
                cells[SUBSCRIPTIONS, s, column] += 1
                heads[CHAINS, s] += 1
                continue
            activated = True
            c = np.int64(chain[k])
            if chain_stamps[c] != stamp:
                chain_stamps[c] = stamp
                heads[CHAINS, s] += 1
            if fresh[k]:
                cells[SUBSCRIPTIONS, s, column] += 1
        if activated:
            cells[ACTIVATED, s, 0] += 1
        if paid < _FAR:
            heads[PAID, s] += 1
        if paid < refunded:
            cells[PAYERS, s, paid] += 1
            if refunded < _FAR:
                cells[PAYERS, s, refunded] -= 1
    chain_stamps[-1] = stamp


# The column of an age in days, which is never below 0; the last where it is beyond all that have one.
@njit(nogil=True, cache=True, inline="always")
def _column(day, install, column_of_age, width):
    age = max(np.int64(day) - np.int64(install), np.int64(0))
    return np.int64(column_of_age[age]) if age < column_of_age.size else np.int64(width - 1)


@njit(nogil=True, cache=True)
def add_days(count, columns, column_of_age, cells, heads, scratch):
    """Add the users of a settled partition to the sums over (segment, age).

    ``column_of_age[a]`` is the first column that counts what happened at age a; older than that is the last column.
    Everything stands at the column from which on it counts: what is refunded leaves there again.
    """
    revenue, proceeds, net, days, flags = columns.revenue, columns.proceeds, columns.net, columns.days, columns.flags
    counted, ends, segment, install, position, use, chain, target = (
        scratch.counted, scratch.ends, scratch.segment, scratch.install, scratch.position, scratch.use, scratch.chain,
        scratch.target,
    )  # fmt: skip
    left, chain_paid, chain_left = scratch.spare, scratch.last, scratch.last_at
    width = cells.shape[2]
    end = np.int64(0)
    for u in range(count):
        begin = end
        end = ends[u]
        s = np.int64(segment[u])
        if s < 0:
            continue
        if counted[u]:
            heads[INSTALLS, s] += 1
        for k in range(begin, end):
            chain_paid[k - begin] = width
            chain_left[k - begin] = width
            left[k] = width
        paid = width
        refunded = width
        activated = width
        chains = np.int64(0)
        for k in range(begin, end):
            if not use[k]:
                continue
            i = position[_U(k)]
            kind = flags[i] & KIND
            column = _column(days[i], install[u], column_of_age, width)
            c = np.int64(chain[k])
            if kind <= 3:
                activated = min(activated, column)
            if kind > 4:
                cells[REVENUE, s, column] -= abs(revenue[i])
                cells[PROCEEDS, s, column] -= abs(proceeds[i])
                cells[NET, s, column] -= abs(net[i])
                refunded = min(refunded, column)
                t = np.int64(target[k])
                if t >= 0 and (flags[position[_U(t)]] & KIND) == 4:
                    left[t] = min(left[t], column)
                else:
                    c = np.int64(chain[t]) if t >= 0 else c
                    chain_left[c] = min(np.int64(chain_left[c]), column)
                    chains = max(chains, c + 1)
            elif kind > 0:
                cells[REVENUE, s, column] += revenue[i]
                cells[PROCEEDS, s, column] += proceeds[i]
                cells[NET, s, column] += net[i]
                paid = min(paid, column)
                if kind < 4:
                    chain_paid[c] = min(np.int64(chain_paid[c]), column)
                    chains = max(chains, c + 1)
        for k in range(begin, end):
            i = position[_U(k)]
            if use[k] and (flags[i] & KIND) == 4:
                column = _column(days[i], install[u], column_of_age, width)
                if column < left[k]:
                    cells[SUBSCRIPTIONS, s, column] += 1
                    if left[k] < width:
                        cells[SUBSCRIPTIONS, s, left[k]] -= 1
        for c in range(chains):
            if chain_paid[c] < chain_left[c]:
                cells[SUBSCRIPTIONS, s, chain_paid[c]] += 1
                if chain_left[c] < width:
                    cells[SUBSCRIPTIONS, s, chain_left[c]] -= 1
        if paid < refunded:
            cells[SUBSCRIBERS, s, paid] += 1
            if refunded < width:
                cells[SUBSCRIBERS, s, refunded] -= 1
        if activated < width:
            cells[ACTIVATED, s, activated] += 1


@njit(nogil=True, cache=True)
def add_ladder(count, columns, column_of_age, money, payers, paid, trial, scratch):
    """Add the users of a settled partition to the sums over (duration, segment, age) that a forecast grows from.

    Ages are as in `add_days`. `money` takes revenue, refunds at their own age under the duration of their payment;
    `payers` takes users at their first payment of the duration, refunded or not; `paid`, by segment and age, at their
    first of all; ``trial[0]`` becomes the longest trial of a member, in days. Without durations all are 0.
    """
    revenue, days, flags, expiries, durations = (
        columns.revenue, columns.days, columns.flags, columns.expiries, columns.durations,
    )  # fmt: skip
    ends, segment, install, position, use, target = (
        scratch.ends, scratch.segment, scratch.install, scratch.position, scratch.use, scratch.target,
    )  # fmt: skip
    width = money.shape[2]
    first = np.empty(money.shape[0], np.int64)
    end = np.int64(0)
    for u in range(count):
        begin = end
        end = ends[u]
        s = np.int64(segment[u])
        if s < 0:
            continue
        for d in range(first.size):
            first[d] = width
        for k in range(begin, end):
            if not use[k]:
                continue
            i = position[_U(k)]
            kind = flags[i] & KIND
            if kind == 0:
                if expiries.size and expiries[i] != NONE:
                    length = np.int64(expiries[i]) - np.int64(days[i])
                    if length <= LONGEST_TRIAL:
                        trial[0] = max(trial[0], length)
                continue
            own = i if target[k] < 0 else position[_U(target[k])]
            d = np.int64(durations[own]) if durations.size else np.int64(0)
            column = _column(days[i], install[u], column_of_age, width)
            if kind > 4:
                money[d, s, column] -= abs(revenue[i])
            else:
                money[d, s, column] += revenue[i]
                first[d] = min(first[d], column)
        soonest = width
        for d in range(first.size):
            if first[d] < width:
                payers[d, s, first[d]] += 1
                soonest = min(soonest, first[d])
        if soonest < width:
            paid[s, soonest] += 1
