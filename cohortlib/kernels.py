"""The loops: arrays in, arrays out, nothing known of frames, files or threads.

Every kernel releases the GIL and is compiled once, for one signature, and cached on disk. Integer types are
spelled out, because numba turns a mix of signed and unsigned into float64 without a word. Indices are not
checked here: the caller's docstring says what must hold.

The way of the rows: ``cut``, ``fixed``, ``mix_integers`` or ``fingerprint_strings`` give each row of a block a
period, a whole number of money units and a user key; ``order`` and ``gather`` put the block in order of partitions;
``activity`` nets one partition to the active amounts of each user; ``histogram`` adds them up.
"""

import math

import numpy as np
from numba import njit

_U = np.uint64
_M1, _M2 = _U(0xBF58476D1CE4E5B9), _U(0x94D049BB133111EB)
_U0, _U1, _U2, _U3, _U4, _U5, _U6, _U7, _U8 = (_U(i) for i in range(9))
_U12, _U16, _U24, _U27, _U30, _U31, _U32, _U40 = _U(12), _U(16), _U(24), _U(27), _U(30), _U(31), _U(32), _U(40)
_U48, _U54, _U56, _U58, _U63, _U64, _LOW = _U(48), _U(54), _U(56), _U(58), _U(63), _U(64), _U(0xFFFFFFFF)

_DE_BRUIJN = _U(0x03F79D71B4CB0A89)
_BIT = np.zeros(64, np.int64)
for _i in range(64):
    _BIT[((int(_DE_BRUIJN) << _i) & 0xFFFFFFFFFFFFFFFF) >> 58] = _i
_EXACT = np.int64(1) << np.int64(53)  # integers up to here are floats too


@njit(nogil=True, cache=True)
def _mix(x):
    """Spread a number over 64 bits, one to one (the finaliser of SplitMix64)."""
    x = (x ^ (x >> _U30)) * _M1
    x = (x ^ (x >> _U27)) * _M2
    return x ^ (x >> _U31)


@njit(nogil=True, cache=True)
def mix_integers(ids, secret, keys):
    """Spread integer ids over 64 bits, one to one."""
    veil = secret[0] | (secret[1] << _U32)
    for i in range(ids.size):
        keys[i] = _mix(_U(ids[i]) ^ veil)


@njit(nogil=True, cache=True)
def _word(memory, at, count):
    """Read `count` (1 to 8) bytes as a little-endian number."""
    if count == _U8:
        return (
            _U(memory[at])
            | (_U(memory[at + _U1]) << _U8)
            | (_U(memory[at + _U2]) << _U16)
            | (_U(memory[at + _U3]) << _U24)
            | (_U(memory[at + _U4]) << _U32)
            | (_U(memory[at + _U5]) << _U40)
            | (_U(memory[at + _U6]) << _U48)
            | (_U(memory[at + _U7]) << _U56)
        )
    word = _U0
    for i in range(count):
        word |= _U(memory[at + _U(i)]) << (_U8 * _U(i))
    return word


@njit(nogil=True, cache=True)
def _absorb(sums, word, secret, at):
    """Add a word to four sums, each with a secret of its own (NH, as in UMAC, its keys shifted by two a sum)."""
    low = word & _LOW
    high = word >> _U32
    a, b, c, d = sums
    a += ((low + secret[at]) & _LOW) * ((high + secret[at + _U1]) & _LOW)
    b += ((low + secret[at + _U2]) & _LOW) * ((high + secret[at + _U3]) & _LOW)
    c += ((low + secret[at + _U4]) & _LOW) * ((high + secret[at + _U5]) & _LOW)
    d += ((low + secret[at + _U6]) & _LOW) * ((high + secret[at + _U7]) & _LOW)
    return a, b, c, d


@njit(nogil=True, cache=True)
def fingerprint_strings(views, memory, bases, secret, keys, keys2):
    """Reduce strings to 128 bits under a secret of 72 random numbers below 2**32.

    `views` holds the Arrow string views, two words each; `memory` spans every data buffer, and buffer k starts at
    ``memory[bases[k]]``. For whoever does not know the secret, two different strings of up to 256 bytes meet with a
    chance of about 2**-128, whatever the strings; longer ones are taken in pieces of 256 bytes.
    """
    for i in range(keys.size):
        head, tail = views[2 * i], views[2 * i + 1]
        length = head & _LOW
        sums = (length * _M1, length * _M2, length, ~length)
        if length <= _U12:
            sums = _absorb(sums, (head >> _U32) | (tail << _U32), secret, _U0)
            sums = _absorb(sums, tail >> _U32, secret, _U2)
        else:
            at = bases[np.int64(tail & _LOW)] + (tail >> _U32)
            left = length
            place = _U0
            while left > _U0:
                count = min(left, _U8)
                sums = _absorb(sums, _word(memory, at, count), secret, place)
                at += count
                left -= count
                place += _U2
                if place == _U64:
                    place = _U0
                    sums = (_mix(sums[0]), _mix(sums[1]), _mix(sums[2]), _mix(sums[3]))
        keys[i] = _mix(sums[0] + _mix(sums[1]))
        keys2[i] = _mix(sums[2] + _mix(sums[3] + _M1))


@njit(nogil=True, cache=True)
def fixed(values, scale, units):
    """Read each float as the nearest whole number of 1/scale, ties to even, by its exact binary value.

    `scale` is a power of ten up to 1e9. Returns the number of values that are NaN or infinite, and the number
    whose result leaves the range of int64; their units are 0.
    """
    wild = 0
    far = 0
    for i in range(values.size):
        x = values[i]
        product = x * scale
        nearest = np.rint(product)
        if abs(product) < 4503599627370496.0 and abs(product - nearest) != 0.5:
            units[i] = np.int64(nearest)
        elif not np.isfinite(x):
            wild += 1
            units[i] = 0
        elif abs(product) > 9223372036854775808.0:
            far += 1
            units[i] = 0
        else:
            # Veltkamp's split and Dekker's product give what the multiplication rounded away.
            c = 134217729.0 * x
            xh = c - (c - x)
            xl = x - xh
            c = 134217729.0 * scale
            sh = c - (c - scale)
            sl = scale - sh
            error = ((xh * sh - product) + xh * sl + xl * sh) + xl * sl
            if abs(product) == 9223372036854775808.0:
                # The float nearest to the value is out of range; the value itself may not be.
                if abs(error) <= 0.5 or (error > 0.0) == (product > 0.0):
                    far += 1
                    units[i] = 0
                    continue
                step = 2048.0 if product > 0.0 else -2048.0
                product -= step
                error += step
            whole = np.int64(np.floor(product))
            if abs(product) < 4503599627370496.0:
                # A half was seen; the error tells on which side of it the value really lies.
                up = error > 0.0 or (error == 0.0 and (whole & 1) == 1)
            else:
                whole += np.int64(np.floor(error))
                rest = error - np.floor(error)
                up = rest > 0.5 or (rest == 0.5 and (whole & 1) == 1)
            units[i] = whole + 1 if up else whole
    return wild, far


@njit(nogil=True, cache=True)
def magnitude(units):
    """Sum |units| exactly: returns the sums of the high and the low 32 bits of each."""
    high = _U0
    low = _U0
    for i in range(units.size):
        x = units[i]
        m = _U(x) if x >= 0 else _U0 - _U(x)
        high += m >> _U32
        low += m & _LOW
    return high, low


@njit(nogil=True, cache=True)
def cut(instants, starts, shifts, origin, halvings, odd, table, periods):
    """Cut instants to periods: shift to local time, to the day, then look the day up.

    `starts` are the instants from which each of `shifts` holds, the first at or below all instants. A day has
    ``odd * 2**halvings`` ticks, ``table[k]`` is the period of the k-th day after the tick `origin` of a
    midnight, and covers every local day.
    """
    k = 0
    last = starts.size - 1
    for i in range(instants.size):
        t = instants[i]
        if t < starts[k] or (k < last and t >= starts[k + 1]):
            k = 0
            above = last + 1
            while above - k > 1:
                middle = (k + above) >> 1
                if starts[middle] <= t:
                    k = middle
                else:
                    above = middle
        # Without its factors of two a tick count is below 2**53, so the division of floats cannot round up.
        ticks = (t + shifts[k] - origin) >> halvings
        periods[i] = table[np.int64(np.float64(ticks) / odd)]


@njit(nogil=True, cache=True)
def leave_out(units, periods, last, above):
    """Mark as −1 the periods of rows later than `last`, and of rows whose amount is not greater than `above`."""
    for i in range(units.size):
        if periods[i] > last or units[i] <= above:
            periods[i] = -1


@njit(nogil=True, cache=True)
def order(first, keys, marks, bits, starts, from_row):
    """Order the rows of one block by the top `bits` of their key, stable; rows with a mark below 0 are left out.

    Row ``from_row[j]`` of the block comes to position ``first + j``, and partition p of the block to positions
    ``starts[p]`` to ``starts[p + 1]``. Returns the number of rows kept. `from_row` has room for every row.
    """
    shift = _U63 - _U(bits)
    cursor = np.zeros(starts.size, np.int64)
    for i in range(keys.size):
        if marks[i] >= 0:
            cursor[(keys[i] >> _U1) >> shift] += 1
    kept = np.int64(0)
    for p in range(starts.size):
        starts[p] = first + kept
        cursor[p], kept = kept, kept + cursor[p]
    for i in range(keys.size):
        if marks[i] >= 0:
            p = (keys[i] >> _U1) >> shift
            from_row[_U(cursor[p])] = np.uint32(i)
            cursor[p] += 1
    return kept


@njit(nogil=True, cache=True)
def gather(values, from_row, out):
    """Write ``values[from_row]`` front to back: to scatter straight into fresh memory is to wait for each line."""
    for j in range(from_row.size):
        out[j] = values[_U(from_row[j])]


# Inlined before compilation: a call would count the references of each array, on every row.
@njit(nogil=True, cache=True, inline="always")
def _code(key, key2, wide, mask, slots, users, users2):
    """Look a user up in the open-addressing table: the code, or ``−1 − slot`` of the free place for a new one."""
    at = key & mask
    code = np.int64(slots[at])
    while code >= 0 and not (users[_U(code)] == key and (not wide or users2[_U(code)] == key2)):
        at = (at + _U1) & mask
        code = np.int64(slots[at])
    return code if code >= 0 else -1 - np.int64(at)


@njit(nogil=True, cache=True)
def activity(
    p, starts, keys, keys2, periods, units, rows,
    joined_starts, joined_keys, joined_keys2, joined_periods, joined_rows,
    span, signed, clip, tally, scratch,
):  # fmt: skip
    """Net one partition: for every user the active amount of every period, in order.

    Parameters
    ----------
    p
        The partition. Its rows stand at ``starts[p, b]`` to ``starts[p + 1, b]`` for each block b.
    keys, keys2, periods, units, rows
        Columns of `Partitions`, periods in 0 .. span−1; `keys2` and `rows` may be empty.
    joined_starts, joined_keys, joined_keys2, joined_periods, joined_rows
        The same for the users whose cohort is given from outside, in periods from 0 without an upper end.
    span
        Number of periods.
    signed
        Keep nets that are not positive, after the start of the cohort, as inactive cells.
    clip
        Add active amounts before a given cohort to its first period; else they are left out.
    tally
        int64[7], added to: users active before their given cohort, users whose given cohort is at or after
        `span`, rows that give a user another cohort, active users whose cohort is not given, users given one. The
        last two are one more than the least row of a user of the first kind, and of the third, or 0.
    scratch
        What `make_scratch` made for at least as many rows as the partition has, joined ones included.

    Returns
    -------
    cohort, row, start, period, active, amount
        A cohort's period and a row number for each user that has one; the cells of user u stand at ``start[u]``
        to ``start[u + 1]``, sorted by period: at most one active one a period, and (only if `signed`) at most one
        that is not. They lie in `scratch`, and last until its next use.
    """
    (slots, users, users2, first_row, given, codes, ends, own_period, own_units, net, words,
     cohort, row, start, period, active, amount) = scratch  # fmt: skip
    wide = keys2.size > 0 or joined_keys2.size > 0
    numbered = rows.size > 0 or joined_rows.size > 0

    most = np.int64(0)
    for b in range(joined_starts.shape[1]):
        most += joined_starts[p + 1, b] - joined_starts[p, b]
    for b in range(starts.shape[1]):
        most += starts[p + 1, b] - starts[p, b]

    # Users become codes 0, 1, 2 … in order of appearance; those given a cohort come first.
    mask = _U1
    while mask < _U(2 * most):
        mask <<= _U1
    for at in range(mask):
        slots[at] = -1
    mask -= _U1
    count = 0
    key2 = _U0
    for b in range(joined_starts.shape[1]):
        for i in range(joined_starts[p, b], joined_starts[p + 1, b]):
            if wide:
                key2 = joined_keys2[i]
            code = _code(joined_keys[i], key2, wide, mask, slots, users, users2)
            if code < 0:
                slots[-1 - code] = np.int32(count)
                users[count] = joined_keys[i]
                if wide:
                    users2[count] = key2
                if numbered:
                    first_row[count] = joined_rows[i]
                given[count] = joined_periods[i]
                ends[count] = 0
                count += 1
            elif given[code] != joined_periods[i]:
                tally[2] += 1
                if numbered and (tally[6] == 0 or first_row[code] < tally[6]):
                    tally[6] = np.int64(first_row[code]) + 1
    known = count
    tally[4] += known

    # Where the periods fit one word and all users by all periods fit `net`, a row is added there at once. Else
    # the rows of a user are first brought together (a counting sort, within the partition and so in the cache).
    short = span <= 64 and most * span <= net.size
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
                if numbered:
                    first_row[code] = rows[i]
                ends[code] = 0
                count += 1
            if short:
                t = np.int64(periods[i])
                net[_U(code * span + t)] += units[i]
                words[_U(code)] |= _U1 << _U(t)
            else:
                codes[_U(j)] = np.int32(code)
                ends[_U(code)] += 1
                j += 1
    if not short:
        place = np.int64(0)
        for u in range(count):
            ends[u], place = place, place + ends[u]
        j = 0
        for b in range(starts.shape[1]):
            for i in range(starts[p, b], starts[p + 1, b]):
                u = _U(codes[_U(j)])
                j += 1
                at = _U(ends[u])
                ends[u] += 1
                own_period[at] = periods[i]
                own_units[at] = units[i]

    # A user of n rows has at most n cells: clipping joins cells and never makes one.
    kept = 0
    k = np.int64(0)
    begin = np.int64(0)
    for u in range(count):
        base = np.int64(0)
        shelf = np.int64(0)
        low = np.int64(0)
        high = np.int64(0)
        if short:
            base = u * span
            shelf = np.int64(u)
        else:
            low = np.int64(span)
            high = np.int64(-1)
            for at in range(begin, ends[u]):
                t = np.int64(own_period[_U(at)])
                net[_U(t)] += own_units[_U(at)]
                words[_U(t >> 6)] |= _U1 << _U(t & 63)
                low = min(low, t)
                high = max(high, t)
            begin = ends[u]
            low >>= 6
            high >>= 6
        origin = np.int64(given[u]) if u < known else np.int64(-1)
        own = origin < 0
        opened = k
        pending = np.int64(0)
        early = False
        for w in range(low, high + 1):
            bits = words[_U(shelf + w)]
            words[_U(shelf + w)] = _U0
            while bits != _U0:
                lowest = bits & (_U0 - bits)
                bits ^= lowest
                t = (w << 6) + _BIT[(lowest * _DE_BRUIJN) >> _U58]
                value = net[_U(base + t)]
                net[_U(base + t)] = 0
                if own and value > 0:
                    own = False
                    origin = t
                    tally[3] += 1
                if origin < 0:
                    continue
                if t < origin:
                    if value > 0:
                        early = True
                        pending += value
                    continue
                if pending > 0 and clip:
                    period[k], active[k], amount[k] = origin, True, pending
                    k += 1
                    pending = 0
                    if t == origin and value > 0:
                        amount[k - 1] += value
                        continue
                if value > 0 or (signed and value < 0):
                    period[_U(k)] = np.int32(t)
                    active[_U(k)] = value > 0
                    amount[_U(k)] = value
                    k += 1
        if early:
            tally[0] += 1
            if numbered and (tally[5] == 0 or first_row[u] < tally[5]):
                tally[5] = np.int64(first_row[u]) + 1
        if origin >= span:
            tally[1] += 1
            k = opened
        elif origin >= 0:
            if pending > 0 and clip:
                period[k], active[k], amount[k] = origin, True, pending
                k += 1
            cohort[kept] = np.int32(origin)
            start[kept] = opened
            if numbered:
                row[kept] = first_row[u]
            kept += 1
    start[kept] = k
    return cohort[:kept], row[: kept if numbered else 0], start[: kept + 1], period[:k], active[:k], amount[:k]


def make_scratch(rows: int, span: int) -> tuple[np.ndarray, ...]:
    """Make the arrays that `activity` works in, for partitions of up to `rows` rows; each thread needs its own."""
    short = min(rows * min(span, 64), 1 << 22)
    return (
        np.empty(1 << (2 * rows - 1).bit_length(), np.int32),
        np.empty(rows, np.uint64),
        np.empty(rows, np.uint64),
        np.empty(rows, np.uint32),
        np.empty(rows, np.int32),
        np.empty(rows, np.int32),
        np.empty(rows + 1, np.int64),
        np.empty(rows, np.int32),
        np.empty(rows, np.int64),
        np.zeros(max(span, short), np.int64),
        np.zeros(max((span + 63) // 64, rows), np.uint64),
        np.empty(rows, np.int32),
        np.empty(rows, np.uint32),
        np.empty(rows + 1, np.int64),
        np.empty(rows, np.int32),
        np.empty(rows, np.bool_),
        np.empty(rows, np.int64),
    )


@njit(nogil=True, cache=True)
def histogram(cohort, start, period, active, amount, offsets, size, actives, amounts, firsts):
    """Add users to the sums over (cohort, age).

    The cell of cohort c and age a stands at ``offsets[c] + a``; where ``offsets[c]`` is negative only the size
    is counted. `firsts` sums the active amounts at age 0.
    """
    for u in range(cohort.size):
        c = np.int64(cohort[u])
        size[c] += 1
        if offsets[c] >= 0:
            base = offsets[c] - c
            for k in range(start[u], start[u + 1]):
                at = base + period[k]
                amounts[at] += amount[k]
                if active[k]:
                    actives[at] += 1
                    if period[k] == c:
                        firsts[c] += amount[k]


@njit(nogil=True, cache=True)
def customer_sums(cohort, start, period, active, amount, since, first, total, recent, periods):
    """Sum up each user: active amount at age 0, amount in all and from period `since` on, active periods."""
    for u in range(cohort.size):
        first[u] = 0
        total[u] = 0
        recent[u] = 0
        periods[u] = 0
        for k in range(start[u], start[u + 1]):
            total[u] += amount[k]
            if period[k] >= since:
                recent[u] += amount[k]
            if active[k]:
                periods[u] += 1
                if period[k] == cohort[u]:
                    first[u] += amount[k]


@njit(nogil=True, cache=True)
def lay_out(
    users, places, cohort, start, period, active, amount, dense, span, scale,
    factor, divisor, offsets, means, ages, logo, money, retention, ltv,
):  # fmt: skip
    """Write the ages of some users, one user after the other in the order of `users`.

    User ``users[i]`` fills the positions from ``places[i]`` on: every age up to the last period, or (not `dense`)
    the active ones. Published are amount / scale, amount · factor[u] / divisor[u], and as ltv the user's own
    cumulative amount / scale; or, unless `means` is empty, the cohort's ``means[offsets[cohort] + age]``.
    """
    own = means.size == 0
    for i in range(users.size):
        u = users[i]
        k = start[u]
        stop = start[u + 1]
        at = places[i]
        cumulative = np.int64(0)
        c = np.int64(cohort[u])
        last = span
        if not dense:
            last = np.int64(period[stop - 1]) + 1 if stop > k else c
        for t in range(c, last):
            value = np.int64(0)
            here = False
            while k < stop and period[k] == t:
                value += amount[k]
                here = here or active[k]
                k += 1
            cumulative += value
            if dense or here:
                ages[at] = t - c
                logo[at] = 1.0 if here else 0.0
                money[at] = _quotient(value, np.int64(1), scale)
                retention[at] = _quotient(value, factor[u], divisor[u])
                ltv[at] = _quotient(cumulative, np.int64(1), scale) if own else means[offsets[c] + t - c]
                at += 1


@njit(nogil=True, cache=True, error_model="numpy")
def _quotient(a, b, divisor):
    """Divide a · b by `divisor` and round once, to the nearest float; NaN where the divisor is 0.

    b and the divisor must not be negative.
    """
    if divisor == 0:
        return np.nan
    product = np.float64(a) * np.float64(b)
    if abs(a) < _EXACT and b < _EXACT and abs(product) < 9007199254740992.0 and divisor < _EXACT:
        return product / np.float64(divisor)
    return _long_quotient(a, b, divisor)


@njit(nogil=True, cache=True)
def _long_quotient(a, b, divisor):
    """Do the same in 128 bits, by long division."""
    x = _U(a) if a >= 0 else _U0 - _U(a)
    y = _U(b)
    d = _U(divisor)
    low = (x & _LOW) * (y & _LOW)
    middle = (x >> _U32) * (y & _LOW) + (low >> _U32)
    cross = (x & _LOW) * (y >> _U32) + (middle & _LOW)
    high = (x >> _U32) * (y >> _U32) + (middle >> _U32) + (cross >> _U32)
    low = (cross << _U32) | (low & _LOW)

    quotient = _U0
    rest = _U0
    exponent = 0
    sticky = _U0
    full = _U1 << _U54
    for step in range(128):
        bit = (high >> _U(63 - step)) & _U1 if step < 64 else (low >> _U(127 - step)) & _U1
        rest = (rest << _U1) | bit
        digit = _U0
        if rest >= d:
            rest -= d
            digit = _U1
        if quotient < full:
            quotient = (quotient << _U1) | digit
        else:
            exponent += 1
            sticky |= digit
    while quotient < full and rest != _U0:
        rest <<= _U1
        quotient <<= _U1
        exponent -= 1
        if rest >= d:
            rest -= d
            quotient |= _U1
    if rest != _U0:
        sticky = _U1
    result = math.ldexp(np.float64(np.int64(quotient | sticky)), exponent)
    return result if a >= 0 else -result


@njit(nogil=True, cache=True)
def divide(numerators, factor, divisors, quotients):
    """Divide numerator · factor by divisor, each rounded once; NaN where the divisor is 0.

    The factor must not be negative; the least number of all must not stand anywhere.
    """
    for i in range(numerators.size):
        if divisors[i] < 0:
            quotients[i] = _quotient(-numerators[i], factor, -divisors[i])
        else:
            quotients[i] = _quotient(numerators[i], factor, divisors[i])
