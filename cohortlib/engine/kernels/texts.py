"""Parse plain decimal numbers from text, and look through text for user ids that may be mistakes.

Text comes as Arrow string views, as in :mod:`cohortlib.engine.kernels.instants`.
"""

import numpy as np

from cohortlib.engine.jit import njit
from cohortlib.engine.kernels.instants import is_blank
from cohortlib.engine.kernels.words import LOW, U0, U1, U2, U4, U8, U12, U16, U32, U64, U255, U, load_word, lowest_bit

# What a row holds as an amount: nothing, a plain number, or something for the slower parser.
NOTHING, PLAIN, OTHER = range(3)
_MOST_DIGITS = 18  # that fit into int64
_POWERS = 10 ** np.arange(10, dtype=np.int64)
_ONES, _ZEROS, _SEVENTY_SIX = U(0x0101010101010101), U(0x3030303030303030), U(0x7676767676767676)

# What a row holds as a user id; bits that add.
BLANK_ID, DOUBTFUL_ID, NULL_WORD = 1, 2, 4
_HIGH_BITS = U(0x8080808080808080)
_FROM_A, _BEYOND_Z, _CASE = U(0x3F3F3F3F3F3F3F3F), U(0x2525252525252525), U(0x2020202020202020)


@njit(nogil=True, cache=True)
def parse_amounts(views, short, memory, bases, first, last, mark, decimals, units, kinds):
    """Parse rows `first` to `last` as whole numbers of 10^-decimals; `mark` is the byte before decimal places."""
    for i in range(first, last):
        head = views[U2 * U(i)]
        size = head & LOW
        kind = OTHER
        if size <= U8:
            kind, value = _short_amount((head >> U32) | (views[U2 * U(i) + U1] << U32), size, mark, decimals)
        if kind == PLAIN:
            pass
        elif size <= U12:
            kind, value = _amount(short, U16 * U(i) + U4, size, mark, decimals)
        else:
            tail = views[U2 * U(i) + U1]
            kind, value = _amount(memory, bases[tail & LOW] + (tail >> U32), size, mark, decimals)
        units[i] = value
        kinds[i] = kind


@njit(nogil=True, cache=True, inline="always")
def _short_amount(word, size, mark, decimals):
    """Parse up to 8 bytes of digits, with an optional minus and decimal mark, all at once; else `OTHER`."""
    negative = word & U255 == U(45)
    if negative:
        word >>= U8
        size -= U1
    digits = word ^ (_ONES * U(mark))
    marks = (digits - _ONES) & ~digits & _HIGH_BITS
    places = np.int64(0)
    if marks:
        at = U(lowest_bit(marks)) & ~U(7)  # in bits
        places = np.int64(size) - 1 - np.int64(at >> U(3))
        low = (U1 << at) - U1
        word = (word & low) | ((word >> U8) & ~low)
        size -= U1
    if size == U0 or places > decimals:
        return OTHER, np.int64(0)
    # The digits move to the end of the word, after zeros; then neighbours are added, twice, four and eight at a time.
    empty = U64 - U8 * size
    digits = (word ^ _ZEROS) << empty
    if ((digits + _SEVENTY_SIX) | digits) & _HIGH_BITS:
        return OTHER, np.int64(0)
    digits = ((digits * U(10)) + (digits >> U8)) & U(0x00FF00FF00FF00FF)
    digits = ((digits * U(100)) + (digits >> U16)) & U(0x0000FFFF0000FFFF)
    value = np.int64((digits * U(10_000) + (digits >> U32)) & LOW) * _POWERS[decimals - places]
    return PLAIN, -value if negative else value


@njit(nogil=True, cache=True)
def _amount(text, at, size, mark, decimals):
    """Parse digits with an optional sign and decimal places, rounded half to even."""
    end = at + size
    while at < end and is_blank(text[at]):
        at += U1
    while at < end and is_blank(text[end - U1]):
        end -= U1
    if at == end:
        return NOTHING, np.int64(0)
    negative = text[at] == 45
    if negative or text[at] == 43:
        at += U1
    value, any_digit, digits, places = np.int64(0), False, 0, -1  # places is −1 before the decimal mark
    following, rest = 0, 0  # the first digit after the last place, and all later ones
    while at < end:
        digit = np.int64(text[at]) - 48
        if digit < 0 or digit > 9:
            if text[at] != mark or places >= 0:
                return OTHER, np.int64(0)
            places = 0
        else:
            any_digit = True
            if places < decimals:
                value = value * 10 + digit
                digits += digits > 0 or digit > 0  # not by the value, which may wrap with its 19th digit
                if digits > _MOST_DIGITS:
                    return OTHER, np.int64(0)
            elif places == decimals:
                following = digit
            else:
                rest |= digit
            places += places >= 0
        at += U1
    missing = decimals - max(places, 0)
    if not any_digit or digits + missing > _MOST_DIGITS:
        return OTHER, np.int64(0)
    for _ in range(missing):
        value *= 10
    if following > 5 or (following == 5 and (rest > 0 or value & 1)):
        value += 1
    return PLAIN, -value if negative else value


@njit(nogil=True, cache=True)
def inspect_ids(views, short, memory, bases, first, last, whole, words, flags):
    """Flag rows `first` to `last` that may be mistakes; returns all flags that occur.

    `BLANK_ID`: empty, or only ASCII blanks. `DOUBTFUL_ID`: other letters' case, other blanks or another form of a
    number would make it another id: it has a capital letter or a byte beyond ASCII, begins or ends with a blank, or
    ends with a decimal place of 0. `NULL_WORD`: it is one of `words` (rows of length and two 8-byte words in lower
    case), which often stand for a missing value.

    Unless `whole`, only ids that begin like a blank can be doubtful; all other ids are judged by their views alone.
    """
    union = 0
    for i in range(first, last):
        head, tail = views[U2 * U(i)], views[U2 * U(i) + U1]
        size = head & LOW
        if not whole and size > U0 and not _begins_like_blank((head >> U32) & U255):
            flag = 0
            if size > U1 and size < U12 and _is_word(size, (head >> U32) | (tail << U32), tail >> U32, words):
                flag = NULL_WORD
            flags[i] = flag
            union |= flag
            continue
        if size <= U12:
            left, right = (head >> U32) | (tail << U32), tail >> U32
            at = U16 * U(i) + U4
            doubt = left | right | ((left + _FROM_A) & ~(left + _BEYOND_Z)) | ((right + _FROM_A) & ~(right + _BEYOND_Z))
            flag = _edges(short, at, size)
            if size > U1 and size < U12 and _is_word(size, left, right, words):
                flag |= NULL_WORD
        else:
            at = bases[tail & LOW] + (tail >> U32)
            stop = at + size - U8
            doubt, place = U0, at
            while True:
                word = load_word(memory, min(place, stop))
                doubt |= word | ((word + _FROM_A) & ~(word + _BEYOND_Z))
                if place >= stop:
                    break
                place += U8
            flag = _edges(memory, at, size)
        if doubt & _HIGH_BITS and flag & BLANK_ID == 0:
            flag |= DOUBTFUL_ID
        flags[i] = flag
        union |= flag
    return union


@njit(nogil=True, cache=True)
def _is_word(size, left, right, words):
    """Return whether text, as two 8-byte words, is one of `words` in any case."""
    first = (left & U255) | U32
    # n, u, #, (, < and the backslash, with the bit of letters' case set.
    if first != 110 and first != 117 and first != 35 and first != 40 and first != 60 and first != 124:
        return False
    for k in range(words.shape[0]):
        if words[k, 0] == size and words[k, 1] == left | words[k, 3] and words[k, 2] == right | words[k, 4]:
            return True
    return False


@njit(nogil=True, cache=True, inline="always")
def _begins_like_blank(byte):
    """Return whether text that begins with a byte may begin with white space, ASCII or other."""
    return is_blank(byte) or byte == 0xC2 or (byte >= 0xE1 and byte <= 0xE3)


@njit(nogil=True, cache=True, inline="always")
def _edges(text, at, size):
    """Flag an id that is blank, begins or ends with a blank, or ends with a decimal place of 0."""
    if size == U0:
        return BLANK_ID
    begin, end = text[at], text[at + size - U1]
    if is_blank(begin) or is_blank(end):
        for k in range(size):
            if not is_blank(text[at + U(k)]):
                return DOUBTFUL_ID
        return BLANK_ID
    if end == 48 and size > U2:
        k = at + size - U1
        while k > at and text[k] == 48:
            k -= U1
        if text[k] == 46 and k > at:
            return DOUBTFUL_ID
    return 0
