"""The loops: arrays in, arrays out, nothing known of frames, files or threads.

Every kernel releases the GIL and is compiled once, for one signature, and cached on disk. Integer types are
spelled out, because numba turns a mix of signed and unsigned into float64 without a word. Indices are not
checked here: the caller's docstring says what must hold.

The way of the rows: ``local_days``, ``fixed``, ``mix_integers`` or ``fingerprint_strings`` give each row of a block a
day, a whole number of money units and a user key; ``deal`` makes records of them, in pages of one partition each;
``bring_together`` brings the records of each user together; ``net`` nets them to the active amount of each period, and
adds those up. Each call works on so many rows that handing the GIL over is nothing beside it.
"""

import math
from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import lower_builtin, type_callable
from numba.np.arrayobj import make_array

_U = np.uint64
_M1, _M2 = _U(0xBF58476D1CE4E5B9), _U(0x94D049BB133111EB)
_U0, _U1, _U2, _U3, _U4, _U5, _U6, _U7, _U8 = (_U(i) for i in range(9))
_U9, _U12, _U16, _U24, _U27, _U30, _U31, _U32, _U40 = (_U(i) for i in (9, 12, 16, 24, 27, 30, 31, 32, 40))
_U255, _IN_BUFFER = _U(255), _U((1 << 30) - 1)
_U48, _U54, _U56, _U58, _U63, _U64, _LOW = _U(48), _U(54), _U(56), _U(58), _U(63), _U(64), _U(0xFFFFFFFF)

# A full record is three words, or four where the key of a user takes two: the key, the units, the tag, the second key.
# The tag has the lower 24 bits of the local day, then this flag, and the number of the row in its upper half. A packed
# record has key, day and units in one word, from below; where a key takes two words, they stand before it.
JOINED = _U(1 << 24)
_DAY = _U((1 << 24) - 1)
PAGE = 32  # records
_PAGE = _U(PAGE)
_AHEAD = 32  # cells that are on their way from memory at a time
_FAR = _U(512)  # periods, whose cells take two megabytes

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
    veil = secret[0]
    for i in range(ids.size):
        keys[i] = _mix(_U(ids[i]) ^ veil)


@njit(nogil=True, cache=True)
def mix_narrow(ids, base, bits, secret, keys):
    """Spread integer ids over `bits` bits, one to one, and put these on top of the key.

    Returns 0 if all ids lie between `base` and before ``base + 2**bits``.
    """
    left = _U64 - _U(bits)
    mask = ~_U0 >> left
    half = (_U(bits) + _U1) >> _U1
    one, two = secret[0] | _U1, secret[1] | _U1
    beyond = _U0
    for i in range(ids.size):
        x = _U(ids[i]) - _U(base)
        beyond |= x & ~mask
        x = (x * one) & mask
        x = ((x ^ (x >> half)) * two) & mask
        keys[i] = (x ^ (x >> half)) << left
    return beyond


def _high(a: Any, b: Any) -> np.uint64:
    """Give the upper half of a product of two 64-bit numbers, for which the machine has an instruction."""
    return _U((int(a) * int(b)) >> 64)


@type_callable(_high)
def _high_type(context: Any) -> Any:
    return lambda a, b: types.uint64


@lower_builtin(_high, types.uint64, types.uint64)
def _high_code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
    wide = ir.IntType(128)
    a, b = (builder.zext(argument, wide) for argument in arguments)
    return builder.trunc(builder.lshr(builder.mul(a, b), ir.Constant(wide, 64)), ir.IntType(64))


def _prefetch(array: Any, at: Any) -> None:
    """Ask for the line of an array's entry, which need not be there, and do not wait for it."""


@type_callable(_prefetch)
def _prefetch_type(context: Any) -> Any:
    return lambda array, at: types.void


@lower_builtin(_prefetch, types.Array, types.uint64)
def _prefetch_code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
    data = make_array(signature.args[0])(context, builder, arguments[0]).data
    number = ir.IntType(32)
    place = builder.bitcast(builder.gep(data, [arguments[1]]), cgutils.voidptr_t)
    kind = ir.FunctionType(ir.VoidType(), [cgutils.voidptr_t, number, number, number])
    prefetch = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
    # To read, into the first-level cache, data.
    builder.call(prefetch, [place, number(0), number(3), number(1)])
    return context.get_dummy_value()


@njit(nogil=True, cache=True, inline="always")
def _word(memory, at):
    """Read eight bytes as a little-endian number: one load, once compiled."""
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


@njit(nogil=True, cache=True)
def fingerprint_strings(views, memory, bases, rows, secret, keys, keys2):
    """Reduce the texts of some rows to 64 bits under a secret of 34 random words; to 128 unless `keys2` is empty.

    `views` holds the Arrow string views of all rows, two words each; `memory` spans every data buffer, and buffer k
    starts at ``memory[bases[k]]``. Words are taken in pairs and their products added, with a secret for each (NH, as in
    UMAC): for whoever does not know the secret, two different texts of up to 240 bytes meet with a chance of about
    2**-64, or 2**-128, whatever the texts; longer ones are taken in pieces of 240 bytes.
    """
    wide = keys2.size > 0
    for j in range(_U(rows.size)):
        i = _U2 * _U(rows[j])
        head, tail = views[i], views[i + _U1]
        length = head & _LOW
        at, last = _U0, _U0
        if length > _U12:
            at = bases[tail & _LOW] + (tail >> _U32)
            # The last word begins where it still fits; what it repeats does no harm, the length being told.
            last = at + length - _U8
        a, b, c, d = _U0, length, _U0, ~length
        place = _U0
        while True:
            # Three pairs at a time, the last word standing for those that are not there: lengths differ from row to
            # row, and a branch that nobody can foresee takes longer than some products.
            for _ in range(3):
                if length > _U12:
                    one, two = _word(memory, min(at, last)), _word(memory, min(at + _U8, last))
                else:
                    one, two = (head >> _U32) | (tail << _U32), tail >> _U32
                x, y = one + secret[place], two + secret[place + _U1]
                low = x * y
                b += low
                a += _high(x, y) + _U(b < low)
                if wide:
                    x, y = one + secret[place + _U2], two + secret[place + _U3]
                    low = x * y
                    d += low
                    c += _high(x, y) + _U(d < low)
                at += _U16
                place += _U2
            if at >= last + _U8:
                break
            if place == _U30:
                place = _U0
                a, b, c, d = _mix(a), _mix(b), _mix(c), _mix(d)
        keys[j] = _mix(a * _M1 + b)
        if wide:
            keys2[j] = c * _M2 + d


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
def local_days(instants, starts, shifts, origin, halvings, odd, first, days):
    """Cut instants to days: shift to local time, then count days from `first`.

    `starts` are the instants from which each of `shifts` holds, the first at or below all instants. A day has
    ``odd * 2**halvings`` ticks, and the day `first` begins at the tick `origin`, at or below all local times.
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
        days[i] = first + np.int64(np.float64(ticks) / odd)


@njit(nogil=True, cache=True)
def order(first, keys, bits, starts, from_row):
    """Order the rows of one block by the top `bits` of their key, stable.

    Row ``from_row[j]`` of the block comes to position ``first + j``, and partition p of the block to positions
    ``starts[p]`` to ``starts[p + 1]``. `from_row` has room for every row.
    """
    shift = _U63 - _U(bits)
    cursor = np.zeros(starts.size, np.int64)
    for i in range(keys.size):
        cursor[(keys[i] >> _U1) >> shift] += 1
    place = np.int64(0)
    for p in range(starts.size):
        starts[p] = first + place
        cursor[p], place = place, place + cursor[p]
    for i in range(keys.size):
        p = (keys[i] >> _U1) >> shift
        from_row[_U(cursor[p])] = i
        cursor[p] += 1


@njit(nogil=True, cache=True)
def deal(
    row, at, keys, keys2, units, days, flag, bits, packed, key_bits, day_bits, first_day,
    desk, filled, page, end, owners, records,
):  # fmt: skip
    """Make records of rows, and deal them to pages of `PAGE` records, each of one partition.

    The partition is told by the top `bits` of the key. `desk` has an open page for each partition, with ``filled[p]``
    records; a full one is copied to the next page of `records`, from `page` to before `end`, and ``owners[page]`` tells
    its partition. So memory is written front to back, which is the fastest way.

    If `packed`, `key_bits` bits of a key follow those of the partition (0 where it takes two words), and days count
    from `first_day` and have `day_bits` bits; units that do not fit the others become several records. Else each record
    has the `flag`, and a number: that of row 0 of the block is `row`.

    Row `at` of the block is the first that is dealt. Returns where it ended, as there were no rows or no pages left:
    the next row, the next page; and the sums of the high and the low 32 bits of |units|. `units` are used up.
    """
    wide = keys2.size > 0
    width = (_U3 if wide else _U1) if packed else (_U4 if wide else _U3)
    shift = _U63 - _U(bits)
    below = _U(key_bits) + _U(day_bits)
    most = np.int64(~_U0 >> (below + _U1)) if packed else np.int64(~_U0 >> _U1)
    high = _U0
    low = _U0
    at = _U(at)
    page = _U(page)
    while at < _U(keys.size) and page < _U(end):
        key = keys[at]
        p = (key >> _U1) >> shift
        count = _U(filled[p])
        place = (p * _PAGE + count) * width
        left = units[at]
        x = min(max(left, -most), most)
        if packed:
            word = _U(days[at] - first_day)
            if wide:
                desk[place] = key
                desk[place + _U1] = keys2[at]
                place += _U2
            else:
                word = (word << _U(key_bits)) | ((key << _U(bits)) >> (_U64 - _U(key_bits)))
            desk[place] = word | (_U(x) << below)
        else:
            desk[place] = key
            desk[place + _U1] = _U(x)
            desk[place + _U2] = (_U(days[at]) & _DAY) | flag | ((_U(row) + at) << _U32)
            if wide:
                desk[place + _U3] = keys2[at]
        magnitude = _U(x) if x >= 0 else _U0 - _U(x)
        high += magnitude >> _U32
        low += magnitude & _LOW
        count += _U1
        if count == _PAGE:
            count = _U0
            to = page * _PAGE * width
            place = p * _PAGE * width
            for i in range(_PAGE * width):
                records[to + i] = desk[place + i]
            owners[page] = np.int16(p)
            page += _U1
        filled[p] = np.uint8(count)
        if x == left:
            at += _U1
        else:
            units[at] = left - x
    return np.int64(at), np.int64(page), high, low


@njit(nogil=True, cache=True)
def bring_together(
    part, end, edges, pages, counts, records, wide, packed, key_bits, day_bits, table, origin, span, last, above, short,
    slots, codes, row_periods, row_units, users, users2, row, given, ends, periods, units, sums, words, tally,
):  # fmt: skip
    """Bring the rows of each user together, for some partitions.

    Parameters
    ----------
    part, end
        The partitions from `part` to before `end`.
    edges, pages, counts, records, wide, packed, key_bits, day_bits
        Of `Records`: partition p has the pages ``pages[edges[p]]`` to ``pages[edges[p + 1]]``, the first of them those
        of joined users; page k has ``counts[k]`` records, of the form that `deal` gave them.
    table, origin, span
        ``table[day - origin]`` is the period of a day, from 0 on; there are `span` periods, and later ones. The days of
        packed records count from their first day, and so does the origin.
    last, above
        Rows later than the period `last` are left out, and those whose units are not greater than `above`.
    short
        Add each row to the sums of its user at once, for spans up to 64. Else put the rows of each user side by side.
    slots
        Room for a hash table: 2 ** n entries, at least twice as many as a partition has rows.
    codes, row_periods, row_units
        Room for the rows of one partition, unless `short`.
    users, users2, row, given, ends
        Written for each user: the key, the least number of a row, the cohort given from outside (or −1), and where the
        user's rows end.
    periods, units
        Written for each row, user after user, unless `short`; there is room for the rows of all partitions.
    sums, words
        If `short`, zeros: added to, for each user, are the units of every period and the bits of the periods with rows.
    tally
        int64[7], see `net`. Added to: [2], rows that give a user another cohort; [6] is one more than the least row of
        such a user, or 0.

    Returns
    -------
    int
        The number of users.
    """
    width = (_U3 if wide else _U1) if packed else (_U4 if wide else _U3)
    day_mask = (_U1 << _U(day_bits)) - _U1 if packed else _DAY
    key_mask = (_U1 << _U(key_bits)) - _U1
    below = _U(key_bits) + _U(day_bits)
    count = _U0
    filled = np.int64(0)
    key2 = _U0
    for p in range(part, end):
        rows = np.int64(0)
        for j in range(edges[p], edges[p + 1]):
            rows += counts[pages[j]]
        mask = _U1
        while mask < _U(2 * rows):
            mask <<= _U1
        for at in range(mask):
            slots[at] = -1
        mask -= _U1

        # Users become codes 0, 1, 2 … in order of appearance; those given a cohort come first.
        begin = count
        kept = _U0
        for j in range(edges[p], edges[p + 1]):
            page = _U(pages[j])
            # The page after the next is far from here: without asking ahead, its first lines would be waited for.
            ahead = _U(pages[min(j + 2, pages.size - 1)]) * _PAGE * width
            for at in range(_U0, _PAGE * width, _U8):
                _prefetch(records, ahead + at)
            for i in range(page * _PAGE, page * _PAGE + _U(counts[page])):
                at = i * width
                key = records[at]
                own = True
                number = np.uint32(0)
                if packed:
                    word = key
                    if wide:
                        key2 = records[at + _U1]
                        word = records[at + _U2]
                    else:
                        key &= key_mask
                    day = word >> _U(key_bits)
                    money = np.int64(word) >> np.int64(below)
                else:
                    money = np.int64(records[at + _U1])
                    day = records[at + _U2]
                    own = day & JOINED == _U0
                    number = np.uint32(day >> _U32)
                    if wide:
                        key2 = records[at + _U3]
                t = table[((day & day_mask) - _U(origin)) & _DAY]
                if own and (t > last or money <= above):
                    continue
                slot = key & mask
                code = slots[slot]
                while code >= 0 and not (users[_U(code)] == key and (not wide or users2[_U(code)] == key2)):
                    slot = (slot + _U1) & mask
                    code = slots[slot]
                if code < 0:
                    code = np.int32(count)
                    slots[slot] = code
                    users[count] = key
                    if wide:
                        users2[count] = key2
                    row[count] = number
                    given[count] = np.int32(-1) if own else t
                    ends[count] = 0
                    count += _U1
                elif not own and given[_U(code)] != t:
                    tally[2] += 1
                    if tally[6] == 0 or row[_U(code)] < tally[6]:
                        tally[6] = np.int64(row[_U(code)]) + 1
                if own and short:
                    sums[_U(code) * _U(span) + _U(t)] += money
                    words[_U(code)] |= _U1 << _U(t)
                elif own:
                    codes[kept] = code
                    row_periods[kept] = t
                    row_units[kept] = money
                    ends[_U(code)] += 1
                    kept += _U1

        if not short:
            # A counting sort, within the partition and so in the cache.
            for u in range(begin, count):
                ends[u], filled = filled, filled + ends[u]
            for j in range(kept):
                u = _U(codes[j])
                at = _U(ends[u])
                ends[u] += 1
                periods[at] = row_periods[j]
                units[at] = row_units[j]
    return np.int64(count)


@njit(nogil=True, cache=True)
def name_users(part, edges, pages, counts, records, wide, slots, codes, users, users2, sizes, firsts):
    """Give the users of one partition of full records codes 0, 1, 2 … in order of appearance.

    `edges` to `wide` and `slots` are as for `bring_together`. Written are the code of each record, in order, and for
    each user the key, the number of records, and the number of the first row. Returns the number of users.
    """
    width = _U4 if wide else _U3
    rows = np.int64(0)
    for j in range(edges[part], edges[part + 1]):
        rows += counts[pages[j]]
    mask = _U1
    while mask < _U(2 * rows):
        mask <<= _U1
    for at in range(mask):
        slots[at] = -1
    mask -= _U1
    count = _U0
    filled = _U0
    key2 = _U0
    for j in range(edges[part], edges[part + 1]):
        page = _U(pages[j])
        for i in range(page * _PAGE, page * _PAGE + _U(counts[page])):
            at = i * width
            key = records[at]
            if wide:
                key2 = records[at + _U3]
            slot = key & mask
            code = slots[slot]
            while code >= 0 and not (users[_U(code)] == key and (not wide or users2[_U(code)] == key2)):
                slot = (slot + _U1) & mask
                code = slots[slot]
            if code < 0:
                code = np.int32(count)
                slots[slot] = code
                users[count] = key
                if wide:
                    users2[count] = key2
                sizes[count] = np.uint32(0)
                firsts[count] = np.uint32(records[at + _U2] >> _U32)
                count += _U1
            sizes[_U(code)] += np.uint32(1)
            codes[filled] = code
            filled += _U1
    return np.int64(count)


@njit(nogil=True, cache=True)
def put_together(part, edges, pages, counts, records, wide, codes, places, days, units, rows):
    """Write the records of one partition user by user: day, units, and the number of the row.

    `places` has for each user, by code, where its first record goes; it is used up. `days` have 24 bits and a sign.
    """
    width = _U4 if wide else _U3
    j = _U0
    for k in range(edges[part], edges[part + 1]):
        page = _U(pages[k])
        for i in range(page * _PAGE, page * _PAGE + _U(counts[page])):
            at = i * width
            code = _U(codes[j])
            j += _U1
            place = _U(places[code])
            places[code] += 1
            tag = records[at + _U2]
            days[place] = np.int32(np.int64(tag << _U40) >> np.int64(40))
            units[place] = np.int64(records[at + _U1])
            rows[place] = np.uint32(tag >> _U32)


@njit(nogil=True, cache=True)
def lay_together(ends, starts, sizes, order):
    """Order rows by their users, of whom user u has the stretches ``ends[u - 1]`` to ``ends[u]``.

    Stretch s has ``sizes[s]`` rows from ``starts[s]`` on. `order` has room for the numbers of all rows. Returns how
    many there are.
    """
    at = _U0
    for s in range(_U(ends[-1]) if ends.size else _U0):
        first = starts[s]
        for i in range(sizes[s]):
            order[at] = np.uint32(first + i)
            at += _U1
    return np.int64(at)


@njit(nogil=True, cache=True)
def side_by_side(
    user, until, stretches, starts, sizes, of_users, kept, days, money, table, origin, span, last, above, short,
    row, given, ends, periods, units, sums, words,
):  # fmt: skip
    """Put the rows of users whose rows stand together already side by side, as `bring_together` does.

    Parameters
    ----------
    user, until
        The users from `user` to before `until`.
    stretches, starts, sizes
        The rows of user u are the stretches ``stretches[u - 1]`` to ``stretches[u]``; stretch s has ``sizes[s]`` rows
        from ``starts[s]`` on.
    of_users
        The period of the cohort that each user is given from outside, or −1; empty where nobody is given one.
    kept
        Which rows count; empty where all do.
    days, money
        Of each row.
    table, origin, span, last, above, short, row, given, ends, periods, units, sums, words
        As for `bring_together`; ``table[day - origin]`` is there for the days of all rows that count. `row` is the
        number of the user.

    Returns
    -------
    int
        The number of users.
    """
    count = _U0
    filled = _U0
    for u in range(_U(user), _U(until)):
        row[count] = np.uint32(u)
        given[count] = of_users[u] if of_users.size > 0 else np.int32(-1)
        for s in range(_U(stretches[u - _U1]) if u > _U0 else _U0, _U(stretches[u])):
            first = _U(starts[s])
            for i in range(first, first + _U(sizes[s])):
                if kept.size > 0 and not kept[i]:  # nor is its day in the table
                    continue
                t = table[_U(np.int64(days[i]) - origin)]
                x = money[i]
                if t > last or x <= above:
                    continue
                if short:
                    sums[count * _U(span) + _U(t)] += x
                    words[count] |= _U1 << _U(t)
                else:
                    periods[filled] = t
                    units[filled] = x
                    filled += _U1
        ends[count] = np.int64(filled)
        count += _U1
    return np.int64(count)


@njit(nogil=True, cache=True)
def net(
    count, row, given, ends, periods, units, span, short, signed, clip, tally, sums, words,
    offsets, size, cells, firsts, cohort, start, period, active, amount,
):  # fmt: skip
    """Net the rows of each user to the active amount of every period, in order; add that up, or write it down.

    Parameters
    ----------
    count, row, given, ends, periods, units, short
        What `bring_together` gave. `row` is written again, for the users that have a cohort.
    span
        Number of periods; those of the rows are below.
    signed
        Keep nets that are not positive, after the start of the cohort, as inactive cells.
    clip
        Add active amounts before a given cohort to its first period; else they are left out.
    tally
        int64[7], added to: [0] users active before their given cohort, [1] users whose given cohort is at or after
        `span`, [3] active users whose cohort is not given, [4] users given one. [5] is one more than the least row of a
        user of the first kind, or 0.
    sums, words
        If `short`, what `bring_together` gave. Else zeros for every period, and one for every 64 of them. All zero
        again at the end.
    offsets, size, cells, firsts
        What `histogram` adds to: users of whom none is given a cohort are added, and nothing is written. If `offsets`
        is empty they are written instead.
    cohort, start, period, active, amount
        Written: a cohort's period for each user that has one; the cells of user u stand at ``start[u]`` to
        ``start[u + 1]``, sorted by period: at most one active one a period, and (only if `signed`) at most one that is
        not. A user of n rows has at most n cells: clipping joins cells and never makes one.

    Returns
    -------
    users, cells
        The number of either.
    """
    adding = offsets.size > 0
    # The cells of many periods are too many for the cache: each is asked for some time before it is added to.
    far = _U(span) >= _FAR
    places, values = np.zeros(_AHEAD, np.uint64), np.zeros(_AHEAD, np.int64)
    met = _U0
    kept = _U0
    k = _U0
    begin = _U0
    for u in range(_U(count)):
        base = _U0
        first = _U0
        last = _U0
        if short:
            base = u * _U(span)
            first = u
            last = u
        else:
            first = _U(span)
            for at in range(begin, _U(ends[u])):
                t = _U(periods[at])
                sums[t] += units[at]
                words[t >> _U6] |= _U1 << (t & _U63)
                first = min(first, t)
                last = max(last, t)
            begin = _U(ends[u])
            first >>= _U6
            last >>= _U6
        shelf = first if short else _U0
        origin = given[u]
        own = origin < 0
        if not own:
            tally[4] += 1
        opened = k
        pending = np.int64(0)
        early = False
        for w in range(first, last + _U1):
            bits = words[w]
            words[w] = _U0
            while bits != _U0:
                lowest = bits & (_U0 - bits)
                bits ^= lowest
                t = np.int32(((w - shelf) << _U6) + _U(_BIT[(lowest * _DE_BRUIJN) >> _U58]))
                value = sums[base + _U(t)]
                sums[base + _U(t)] = 0
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
                    k += _U1
                    pending = np.int64(0)
                    if t == origin and value > 0:
                        amount[k - _U1] += value
                        continue
                if adding and offsets[_U(origin)] >= 0 and (value > 0 or (signed and value < 0)):
                    at = _U2 * _U(offsets[_U(origin)] + np.int64(t - origin))
                    if t == origin:
                        firsts[_U(origin)] += value
                    if far:
                        _prefetch(cells, at)
                        turn = met % _U(_AHEAD)
                        met += _U1
                        at, places[turn] = places[turn], at
                        value, values[turn] = values[turn], value
                        if met <= _U(_AHEAD):
                            continue
                    cells[at] += np.int64(value > 0)
                    cells[at + _U1] += value
                elif not adding and (value > 0 or (signed and value < 0)):
                    period[k] = t
                    active[k] = value > 0
                    amount[k] = value
                    k += _U1
        if early:
            tally[0] += 1
            if tally[5] == 0 or row[u] < tally[5]:
                tally[5] = np.int64(row[u]) + 1
        if origin >= span:
            tally[1] += 1
            k = opened
        elif origin >= 0 and adding:
            size[_U(origin)] += 1
        elif origin >= 0:
            if pending > 0 and clip:
                period[k], active[k], amount[k] = origin, True, pending
                k += _U1
            cohort[kept] = origin
            start[kept] = np.int64(opened)
            row[kept] = row[u]
            kept += _U1
    for turn in range(min(met, _U(_AHEAD))):
        cells[places[turn]] += np.int64(values[turn] > 0)
        cells[places[turn] + _U1] += values[turn]
    start[kept] = np.int64(k)
    return np.int64(kept), np.int64(k)


@njit(nogil=True, cache=True)
def advance(
    stretches, starts, sizes, days, money, table, origin, above, signed, sums, words,
    cohort, last, amount, late, offsets, size, cells, firsts,
):  # fmt: skip
    """Bring the standing of users up to date with rows, and add to the sums over (cohort, age) what they change.

    Parameters
    ----------
    stretches, starts, sizes, days, money, table, origin, above
        As for `side_by_side`.
    signed
        As for `net`.
    sums, words
        Zeros for every period, and one for every 64 of them; all zero again at the end.
    cohort, last, amount
        Of each user, before and after: the period of the cohort and of the last row, both −1 where there is none, and
        the net of that last period.
    late
        Written: whether any of the rows came before the last period. These users are left as they are: whoever has all
        of their rows begins anew with them, and is never late.
    offsets, size, cells, firsts
        As for `histogram`; every cohort has cells.
    """
    for u in range(_U(stretches.size)):
        first = _U(words.size)
        final = _U0
        for s in range(_U(stretches[u - _U1]) if u > _U0 else _U0, _U(stretches[u])):
            begin = _U(starts[s])
            for i in range(begin, begin + _U(sizes[s])):
                x = money[i]
                if x > above:
                    t = _U(table[_U(np.int64(days[i]) - origin)])
                    sums[t] += x
                    words[t >> _U6] |= _U1 << (t & _U63)
                    first = min(first, t >> _U6)
                    final = max(final, t >> _U6)
        late[u] = False
        for w in range(first, final + _U1):
            bits = words[w]
            while bits != _U0:
                lowest = bits & (_U0 - bits)
                bits ^= lowest
                t = np.int32((w << _U6) + _U(_BIT[(lowest * _DE_BRUIJN) >> _U58]))
                if t < last[u]:
                    late[u] = True
        for w in range(first, final + _U1):
            bits = words[w]
            words[w] = _U0
            while bits != _U0:
                lowest = bits & (_U0 - bits)
                bits ^= lowest
                t = np.int32((w << _U6) + _U(_BIT[(lowest * _DE_BRUIJN) >> _U58]))
                x = sums[_U(t)]
                sums[_U(t)] = 0
                if late[u]:
                    continue
                before = amount[u] if t == last[u] else np.int64(0)
                after = before + x
                if cohort[u] < 0 and after > 0:
                    cohort[u] = t
                    size[_U(t)] += 1
                    before = np.int64(0)
                if cohort[u] == t and after <= 0:
                    # The first payments are taken back, and nothing came later: there is no cohort any more.
                    at = _U2 * _U(offsets[_U(t)])
                    cells[at] -= 1
                    cells[at + _U1] -= before
                    firsts[_U(t)] -= before
                    size[_U(t)] -= 1
                    cohort[u] = np.int32(-1)
                elif cohort[u] >= 0:
                    at = _U2 * _U(offsets[_U(cohort[u])] + np.int64(t - cohort[u]))
                    counted = (after if after > 0 or signed else np.int64(0)) - (
                        before if before > 0 or signed else np.int64(0)
                    )
                    cells[at] += np.int64(after > 0) - np.int64(before > 0)
                    cells[at + _U1] += counted
                    if t == cohort[u]:
                        firsts[_U(t)] += counted
                last[u] = t
                amount[u] = after


@njit(nogil=True, cache=True)
def histogram(cohort, start, period, active, amount, offsets, size, cells, firsts):
    """Add users to the sums over (cohort, age).

    The cell of cohort c and age a is number ``offsets[c] + a``, two entries of `cells`: active users and their amount;
    where ``offsets[c]`` is negative only the size is counted. `firsts` sums the active amounts at age 0.
    """
    for u in range(cohort.size):
        c = np.int64(cohort[u])
        size[c] += 1
        if offsets[c] >= 0:
            base = offsets[c] - c
            for k in range(start[u], start[u + 1]):
                at = 2 * (base + period[k])
                cells[at + 1] += amount[k]
                if active[k]:
                    cells[at] += 1
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
def gather_text(rows, first, words, memory, bases, places, views, store, at):
    """Copy strings: view ``places[j]`` becomes that of row ``rows[j] - first``, with its own copy of long text.

    `words`, `memory` and `bases` are as for `fingerprint_strings`. Long text is written to `store` from `at` on, one
    after the other, and buffer b begins at byte ``b << 30`` of the store. Returns the end of what is written.
    """
    at = _U(at)
    for j in range(rows.size):
        i = _U2 * (_U(rows[j]) - _U(first))
        head, tail = words[i], words[i + _U1]
        length = head & _LOW
        if length > _U12:
            source = bases[np.int64(tail & _LOW)] + (tail >> _U32)
            for k in range(length):
                store[at + _U(k)] = memory[source + _U(k)]
            tail = (at >> _U30) | ((at & _IN_BUFFER) << _U32)
            at += length
        views[_U2 * _U(places[j])], views[_U2 * _U(places[j]) + _U1] = head, tail
    return at


@njit(nogil=True, cache=True)
def letters(which, views, store, begin, count, keys):
    """Put `count` letters of some strings, from letter `begin` on, below what stands in their keys.

    A letter takes nine bits, its byte + 1, or 0 after the end of the text; so keys are in the order of the texts.
    """
    for j in range(which.size):
        i = _U2 * _U(which[j])
        head, tail = views[i], views[i + _U1]
        length = head & _LOW
        key = keys[j]
        for k in range(_U(begin), _U(begin) + _U(count)):
            key <<= _U9
            if k < length:
                if k < _U4:
                    byte = head >> (_U32 + _U8 * k)
                elif length <= _U12:
                    byte = tail >> (_U8 * (k - _U4))
                else:
                    byte = _U(store[((tail & _LOW) << _U30) + (tail >> _U32) + k])
                key |= (byte & _U255) + _U1
        keys[j] = key


@njit(nogil=True, cache=True)
def lay_out(
    users, places, counts, cohort, start, period, active, amount, dense, scale,
    factor, divisor, offsets, means, labels, names,
    cohorts, ids, ages, size, logo, money, retention, ltv,
):  # fmt: skip
    """Write the ages of some users, one user after the other in the order of `users`.

    User ``users[i]`` fills ``counts[i]`` rows from ``places[i]`` on: as many ages from 0 on, or (not `dense`) the
    active ones, as many as there are. Published are the views of the cohort's label and of the user's name, the age,
    ``divisor[u]`` / scale, 1.0 where the user is active, amount / scale, amount · factor[u] / divisor[u], and as ltv
    the user's own cumulative amount / scale (unless `means` is empty: the cohort's ``means[offsets[cohort] + age]``).
    """
    # Users lie anywhere: touched one after the other, with no work between, they come to the cache many at a time.
    touched = np.int64(0)
    for i in range(users.size):
        u = _U(users[i])
        k = _U(start[u])
        touched += cohort[u] + factor[u] + divisor[u] + np.int64(names[_U2 * u])
        if k < _U(start[u + _U1]):
            touched += period[k] + amount[k] + np.int64(active[k])

    own = means.size == 0
    for i in range(users.size):
        u = _U(users[i])
        at = _U(places[i])
        end = at + _U(counts[i])
        c = np.int64(cohort[u])
        label, label2 = labels[2 * c], labels[2 * c + 1]
        name, name2 = names[_U2 * u], names[_U2 * u + _U1]
        above, below = factor[u], divisor[u]
        own_size = _quotient(below, np.int64(1), scale)
        for row in range(at, end):
            cohorts[_U2 * row], cohorts[_U2 * row + _U1] = label, label2
        for row in range(at, end):
            ids[_U2 * row], ids[_U2 * row + _U1] = name, name2
        for row in range(at, end):
            size[row] = own_size
        if dense:
            # First as if there were no cell.
            nothing = _quotient(np.int64(0), above, below)
            for row in range(at, end):
                ages[row] = row - at
            for row in range(at, end):
                logo[row] = 0.0
            for row in range(at, end):
                money[row] = 0.0
            for row in range(at, end):
                retention[row] = nothing
            if not own:
                for row in range(at, end):
                    ltv[row] = means[_U(offsets[c]) + (row - at)]
        k = _U(start[u])
        stop = _U(start[u + _U1])
        cumulative = np.int64(0)
        running = 0.0
        row = at
        done = at
        while k < stop:
            age = period[k] - c
            value = amount[k]
            here = active[k]
            k += _U1
            if k < stop and period[k] == age + c:  # of two cells of a period the second is not active
                value += amount[k]
                k += _U1
            cumulative += value
            if dense:
                row = at + _U(age)
            elif not here:
                continue
            ages[row] = age
            logo[row] = 1.0 if here else 0.0
            money[row] = _quotient(value, np.int64(1), scale)
            retention[row] = _quotient(value, above, below)
            if own:
                for before in range(done, row):
                    ltv[before] = running
                running = _quotient(cumulative, np.int64(1), scale)
                ltv[row] = running
            else:
                ltv[row] = means[offsets[c] + age]
            row += _U1
            done = row
        if own:
            for row in range(done, end):
                ltv[row] = running
    return touched


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
