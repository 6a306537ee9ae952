"""Parse instants from text: ISO 8601, or a format compiled to instructions.

Text comes as Arrow string views: two words for each row, as :func:`cohortlib.read.arrays.string_views` returns them.
Text of up to 12 bytes is in the views themselves; `short` is the array of their bytes.
"""

import numpy as np

from cohortlib.engine.jit import njit
from cohortlib.engine.kernels.words import LOW, U1, U2, U8, U16, U32, U40, U255, U, load_word

# What a row holds. Numbers order as: nothing, the three kinds of instants, anything else.
NULL, DATE, NAIVE, ZONED, BAD = range(5)

# Instructions of a format; smaller numbers are bytes that must stand there.
(
    YEAR, YEAR2, MONTH, DAY, HOUR, HOUR12, MINUTE, SECOND, FRACTION, OFFSET, HALF, MONTH_NAME, WEEKDAY, BLANK,
) = range(256, 270)  # fmt: skip
_MONTHS = np.frombuffer(
    b"january february march april may june july august september october november december ", np.uint8
)
_WEEKDAYS = np.frombuffer(b"monday tuesday wednesday thursday friday saturday sunday ", np.uint8)

_LENGTHS = np.array([0, 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31], np.int64)
_STARTS = np.cumsum(_LENGTHS) - _LENGTHS  # days of a year before each month

DAY_TICKS = 86_400_000_000  # microseconds
_EACH, _SEVENTY_SIX = U(0x8080808080808080), U(0x7676767676767676)
_EXTENDED, _BASIC, _CLOCK = (U(int.from_bytes(text, "little")) for text in (b"0000-00-", b"00000000", b"00:00:00"))
_FRACTION = U(0x303030303030)
_DATE_MARKS, _CLOCK_MARKS = U(0xFF0000FF00000000), U(0x0000FF0000FF0000)


@njit(nogil=True, cache=True)
def parse_instants(views, short, memory, bases, first, last, ticks, kinds):
    """Parse rows `first` to `last`, of ISO 8601, as microseconds since 1970-01-01, and say what each row holds."""
    for i in range(first, last):
        head = views[U2 * U(i)]
        size = np.int64(head & LOW)
        if size <= 12:
            begin, end = _trimmed(short, U16 * U(i) + U(4), size)
            kind, tick = _parse_iso(short, begin, end)
        else:
            tail = views[U2 * U(i) + U1]
            at = bases[tail & LOW] + (tail >> U32)
            kind, tick = BAD, np.int64(0)
            if size >= 19:
                kind, tick = _regular_iso(memory, at, size)
            if kind == BAD:
                begin, end = _trimmed(memory, at, size)
                kind, tick = _parse_iso(memory, begin, end)
        ticks[i] = tick
        kinds[i] = kind


@njit(nogil=True, cache=True)
def parse_formatted(views, short, memory, bases, first, last, ops, or_iso, ticks, kinds):
    """Parse rows as `parse_instants` does, by the instructions `ops` of a format.

    With `or_iso`, rows that do not fit it can also be ISO 8601. Apart, because it takes long to compile.
    """
    for i in range(first, last):
        head = views[U2 * U(i)]
        size = np.int64(head & LOW)
        if size <= 12:
            kinds[i], ticks[i] = _parse(short, U16 * U(i) + U(4), size, ops, or_iso)
        else:
            tail = views[U2 * U(i) + U1]
            kinds[i], ticks[i] = _parse(memory, bases[tail & LOW] + (tail >> U32), size, ops, or_iso)


@njit(nogil=True, cache=True, inline="always")
def is_blank(byte):
    """Return whether a byte is an ASCII blank."""
    return byte == 32 or (byte >= 9 and byte <= 13)


@njit(nogil=True, cache=True)
def _trimmed(text, at, size):
    """Return the begin and the end of a text without blanks around it."""
    end = at + U(size)
    while at < end and is_blank(text[at]):
        at += U1
    while at < end and is_blank(text[end - U1]):
        end -= U1
    return at, end


@njit(nogil=True, cache=True)
def _parse(text, at, size, ops, or_iso):
    at, end = _trimmed(text, at, size)
    if at == end:
        return NULL, np.int64(0)
    kind, tick = _parse_format(text, at, end, ops)
    if kind == BAD and or_iso and end - at >= U(10) and text[at + U(4)] == 45:
        return _parse_iso(text, at, end)
    return kind, tick


@njit(nogil=True, cache=True, inline="always")
def _regular_iso(text, at, size):
    """Parse the most frequent forms, a date and a time in seconds or microseconds; `BAD` for any other."""
    date, clock = load_word(text, at) ^ _EXTENDED, load_word(text, at + U(11)) ^ _CLOCK
    day = (U(text[at + U8]) | (U(text[at + U(9)]) << U8)) ^ U(0x3030)
    # Digits are 0 to 9 now; the marks between them are 0.
    wrong = (date & _DATE_MARKS) | (clock & _CLOCK_MARKS)
    wrong |= ((date + _SEVENTY_SIX) | date | (clock + _SEVENTY_SIX) | clock | (day + U(0x7676)) | day) & _EACH
    mark = text[at + U(10)]
    date, clock = date * U(10) + (date >> U8), clock * U(10) + (clock >> U8)  # pairs of digits as numbers
    year = np.int64(date & U255) * 100 + np.int64((date >> U16) & U255)
    month, day = np.int64((date >> U40) & U255), np.int64((day * U(10) + (day >> U8)) & U255)
    hour, minute, second = clock & U255, (clock >> U(24)) & U255, (clock >> U(48)) & U255
    if wrong or (mark != 84 and mark != 32) or hour > U(23) or minute > U(59) or second > U(59):
        return BAD, np.int64(0)
    if not _is_date(year, month, day):
        return BAD, np.int64(0)
    seconds = np.int64((hour * U(60) + minute) * U(60) + second)
    tick = days_from_date(year, month, day) * DAY_TICKS + seconds * 1_000_000
    end = at + U(size)
    at += U(19)
    if end - at >= U8 and text[at] == 46:
        # Six digits, which move to the end of a word, after zeros; then neighbours are added.
        digits = ((load_word(text, at) >> U8) ^ _FRACTION) << U16
        if ((digits + _SEVENTY_SIX) | digits) & _EACH or _is_digit(text[at + U(7)]):
            return BAD, np.int64(0)
        digits = ((digits * U(10)) + (digits >> U8)) & U(0x00FF00FF00FF00FF)
        digits = ((digits * U(100)) + (digits >> U16)) & U(0x0000FFFF0000FFFF)
        tick += np.int64((digits * U(10_000) + (digits >> U32)) & LOW)
        at += U(7)
    return _with_offset(text, at, end, tick)


@njit(nogil=True, cache=True)
def _parse_iso(text, at, end):
    """Parse ISO 8601: a date, or a date and a time with or without an offset; text that is empty is null."""
    size = end - at
    bad = BAD, np.int64(0)
    if at == end:
        return NULL, np.int64(0)
    if size < U(8):
        return bad
    word = load_word(text, at)
    if text[at + U(4)] == 45:
        digits = word ^ _EXTENDED
        if size < U(10) or digits & _DATE_MARKS or ((digits + _SEVENTY_SIX) | digits) & _EACH:
            return bad
        month = np.int64((digits >> U(40)) & U(255)) * 10 + np.int64((digits >> U(48)) & U(255))
        day = _two_digits(text, at + U(8), end)
        at += U(10)
    else:
        digits = word ^ _BASIC
        if ((digits + _SEVENTY_SIX) | digits) & _EACH:
            return bad
        month = np.int64((digits >> U(32)) & U(255)) * 10 + np.int64((digits >> U(40)) & U(255))
        day = np.int64((digits >> U(48)) & U(255)) * 10 + np.int64(digits >> U(56))
        at += U(8)
    year = np.int64(digits & U(255)) * 1000 + np.int64((digits >> U(8)) & U(255)) * 100
    year += np.int64((digits >> U16) & U(255)) * 10 + np.int64((digits >> U(24)) & U(255))
    if not _is_date(year, month, day):
        return bad
    days = days_from_date(year, month, day)
    if at == end:
        return DATE, days * DAY_TICKS
    if text[at] != 84 and text[at] != 116 and text[at] != 32:  # T, t, blank
        return bad
    at, clock = _clock(text, at + U1, end)
    if clock < 0:
        return bad
    return _with_offset(text, at, end, days * DAY_TICKS + clock)


@njit(nogil=True, cache=True)
def _clock(text, at, end):
    """Parse a time of day; return where it ends, and its microseconds or −1."""
    fail = at, np.int64(-1)
    if end - at >= U(8) and text[at + U2] == 58 and text[at + U(5)] == 58:
        digits = load_word(text, at) ^ _CLOCK
        if digits & _CLOCK_MARKS or ((digits + _SEVENTY_SIX) | digits) & _EACH:
            return fail
        hour = np.int64(digits & U(255)) * 10 + np.int64((digits >> U(8)) & U(255))
        minute = np.int64((digits >> U(24)) & U(255)) * 10 + np.int64((digits >> U32) & U(255))
        second = np.int64((digits >> U(48)) & U(255)) * 10 + np.int64(digits >> U(56))
        at += U(8)
        has_seconds = True
    else:
        hour, minute, second = _two_digits(text, at, end), np.int64(0), np.int64(0)
        has_seconds = False
        if hour < 0:
            return fail
        at += U2
        colon = at < end and text[at] == 58
        if colon or (at < end and _is_digit(text[at])):
            minute = _two_digits(text, at + U(colon), end)
            at += U2 + U(colon)
            if minute >= 0 and not colon and at < end and _is_digit(text[at]):
                second = _two_digits(text, at, end)
                at += U2
                has_seconds = True
    if hour < 0 or hour > 23 or minute < 0 or minute > 59 or second < 0 or second > 59:
        return fail
    clock = ((hour * 60 + minute) * 60 + second) * 1_000_000
    if has_seconds and at < end and (text[at] == 46 or text[at] == 44):
        at, fraction = _fraction(text, at + U1, end)
        if fraction < 0:
            return fail
        clock += fraction
    return at, clock


@njit(nogil=True, cache=True)
def _fraction(text, at, end):
    """Parse the digits of a fraction; return where they end, and its microseconds (rounded down) or −1."""
    micros, unit = np.int64(0), np.int64(100_000)
    first = at
    while at < end and _is_digit(text[at]):
        micros += unit * (np.int64(text[at]) - 48)
        unit //= 10
        at += U1
    return at, micros if at > first else np.int64(-1)


@njit(nogil=True, cache=True)
def _with_offset(text, at, end, tick):
    """Parse what follows the time: nothing, or an offset from UTC."""
    if at == end:
        return NAIVE, tick
    if text[at] == 32:
        at += U1
    at, minutes = _offset(text, at, end)
    if minutes == _NO_OFFSET or at != end:
        return BAD, np.int64(0)
    return ZONED, tick - minutes * 60_000_000


_NO_OFFSET = np.int64(10_000)


@njit(nogil=True, cache=True)
def _offset(text, at, end):
    """Parse an offset from UTC; return where it ends, and its minutes or `_NO_OFFSET`."""
    fail = at, _NO_OFFSET
    if at == end:
        return fail
    sign = text[at]
    if sign == 90 or sign == 122:  # Z, z
        return at + U1, np.int64(0)
    if end - at >= U(3) and sign == 85 and text[at + U1] == 84 and text[at + U2] == 67:  # UTC
        return at + U(3), np.int64(0)
    if sign != 43 and sign != 45:
        return fail
    hours, minutes = _two_digits(text, at + U1, end), np.int64(0)
    at += U(3)
    if at < end and (text[at] == 58 or _is_digit(text[at])):
        colon = U(text[at] == 58)
        minutes = _two_digits(text, at + colon, end)
        at += U2 + colon
    if hours < 0 or hours > 23 or minutes < 0 or minutes > 59:
        return fail
    minutes += hours * 60
    return at, -minutes if sign == 45 else minutes


@njit(nogil=True, cache=True, inline="always")
def _is_digit(byte):
    return byte >= 48 and byte <= 57


@njit(nogil=True, cache=True, inline="always")
def _two_digits(text, at, end):
    """Parse two digits, or return −1."""
    if at + U2 > end or not _is_digit(text[at]) or not _is_digit(text[at + U1]):
        return np.int64(-1)
    return np.int64(text[at]) * 10 + np.int64(text[at + U1]) - 528


@njit(nogil=True, cache=True, inline="always")
def _is_date(year, month, day):
    """Return whether the calendar has this day."""
    if year < 1 or month < 1 or month > 12 or day < 1 or day > 31:
        return False
    return day <= 28 or day <= _LENGTHS[month] + np.int64(month == 2 and _is_leap(U(year)))


@njit(nogil=True, cache=True, inline="always")
def _is_leap(year):
    return year % U(4) == U(0) and (year % U(100) != U(0) or year % U(400) == U(0))


@njit(nogil=True, cache=True, inline="always")
def days_from_date(year, month, day):
    """Return a date as days since 1970-01-01; unsigned numbers divide fastest."""
    before = U(year - 1)
    days = np.int64(U(365) * before + before // U(4) - before // U(100) + before // U(400))
    return days + _STARTS[month] + np.int64(month > 2 and _is_leap(U(year))) + day - 719_163


@njit(nogil=True, cache=True)
def _parse_format(text, at, end, ops):
    """Follow the instructions of a format."""
    bad = BAD, np.int64(0)
    year = month = day = hour = minute = second = np.int64(0)
    micros, half, offset = np.int64(0), np.int64(-1), _NO_OFFSET
    timed = False
    for k in range(ops.size):
        op = ops[k]
        if op < 256:
            if at == end or text[at] != op:
                return bad
            at += U1
            continue
        if op == BLANK:
            first = at
            while at < end and is_blank(text[at]):
                at += U1
            if at == first:
                return bad
            continue
        if op == YEAR:
            high, low = _two_digits(text, at, end), _two_digits(text, at + U2, end)
            at += U(4)
            year = high * 100 + low if high >= 0 and low >= 0 else np.int64(-1)
        elif op == FRACTION:
            at, micros = _fraction(text, at, end)
            if micros < 0:
                return bad
        elif op == OFFSET:
            if end - at >= U(3) and text[at] == 71 and text[at + U1] == 77 and text[at + U2] == 84:  # GMT
                at, offset = at + U(3), np.int64(0)
            else:
                at, offset = _offset(text, at, end)
            if offset == _NO_OFFSET:
                return bad
        elif op >= HALF and op <= WEEKDAY:
            at, value = _name(text, at, end, op)
            if value < 0:
                return bad
            if op == HALF:
                half = value
            elif op == MONTH_NAME:
                month = value + 1
        else:
            # One digit is enough unless another number follows at once.
            joined = op == YEAR2 or (k + 1 < ops.size and ops[k + 1] >= YEAR and ops[k + 1] <= FRACTION)
            at, value = _number(text, at, end, joined)
            if value < 0:
                return bad
            if op == YEAR2:
                year = value + (2000 if value < 69 else 1900)
            elif op == MONTH:
                month = value
            elif op == DAY:
                day = value
            elif op == HOUR or op == HOUR12:  # noqa: SIM109 - numba compiles no tuples of constants here
                if op == HOUR12 and (value < 1 or value > 12):
                    return bad
                hour = value % 12 if op == HOUR12 else value
            elif op == MINUTE:
                minute = value
            else:
                second = value
        timed |= op >= HOUR and op <= SECOND
    if half == 1:
        hour += 12
    if at != end or not _is_date(year, month, day) or hour > 23 or minute > 59 or second > 59:
        return bad
    tick = days_from_date(year, month, day) * DAY_TICKS + ((hour * 60 + minute) * 60 + second) * 1_000_000 + micros
    if offset != _NO_OFFSET:
        return ZONED, tick - offset * 60_000_000
    return (NAIVE if timed else DATE), tick


@njit(nogil=True, cache=True)
def _number(text, at, end, two):
    """Parse one or two digits, or exactly two; return where they end, and the number or −1."""
    if at == end or not _is_digit(text[at]):
        return at, np.int64(-1)
    value = np.int64(text[at]) - 48
    at += U1
    if at < end and _is_digit(text[at]):
        return at + U1, value * 10 + np.int64(text[at]) - 48
    return at, np.int64(-1) if two else value


@njit(nogil=True, cache=True)
def _name(text, at, end, op):
    """Parse AM or PM, or an English month or weekday, in full or its first three letters; −1 if there is none."""
    first = at
    while at < end and ((text[at] | 32) >= 97 and (text[at] | 32) <= 122):
        at += U1
    size = at - first
    if op == HALF:
        if size != U2 or (text[first + U1] | 32) != 109:
            return at, np.int64(-1)
        letter = text[first] | 32
        return at, np.int64(0) if letter == 97 else (np.int64(1) if letter == 112 else np.int64(-1))
    names = _MONTHS if op == MONTH_NAME else _WEEKDAYS
    if size < U(3):
        return at, np.int64(-1)
    number, place = np.int64(0), U(0)
    while place < U(names.size):
        equal = U(0)
        while equal < size and names[place + equal] == (text[first + equal] | 32):
            equal += U1
        if equal == size and (size == U(3) or names[place + size] == 32):
            return at, number
        while names[place] != 32:
            place += U1
        place += U1
        number += 1
    return at, np.int64(-1)
