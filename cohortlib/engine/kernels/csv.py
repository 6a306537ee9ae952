"""Split the bytes of CSV files into fields, and check their shape.

Texts are UTF-8 in arrays of bytes with at least 8 more bytes behind the end of the text. A field that begins with a
quote runs to the closing quote, and two quotes in it are one. A quote elsewhere stands for itself.
"""

import numpy as np

from cohortlib.engine.jit import njit
from cohortlib.engine.kernels.words import U0, U1, U63, U, byte_mask, load_word, lowest_bit

QUOTE, NEWLINE, RETURN = np.uint8(34), np.uint8(10), np.uint8(13)

# What is wrong with a record.
OKAY, RAGGED, AFTER_QUOTE, OPEN_QUOTE, LONE_RETURN = range(5)

_ONES, _HIGH = U(0x0101010101010101), U(0x8080808080808080)
_NEWLINES = U(0x0A0A0A0A0A0A0A0A)


@njit(nogil=True, cache=True)
def last_line_end(text, start, stop):
    """Return the place after the last line end outside of quotes, or `start`."""
    end = start
    inside = False
    for i in range(start, stop):
        if text[i] == QUOTE:
            inside = not inside
        elif text[i] == NEWLINE and not inside:
            end = i + 1
    return end


@njit(nogil=True, cache=True)
def first_invalid(text, start, stop):
    """Return the place of the first byte that is not UTF-8, or -1."""
    at = start
    while at < stop:
        if not load_word(text, U(at)) & _HIGH:
            at += 8
            continue
        byte = text[at]
        if byte < 0x80:
            at += 1
            continue
        more = 1 if 0xC2 <= byte <= 0xDF else 2 if byte & 0xF0 == 0xE0 else 3 if 0xF0 <= byte <= 0xF4 else 0
        if not more or at + more >= stop:
            return at
        low = 0xA0 if byte == 0xE0 else 0x90 if byte == 0xF0 else 0x80
        high = 0x9F if byte == 0xED else 0x8F if byte == 0xF4 else 0xBF
        if not low <= text[at + 1] <= high:
            return at
        for i in range(2, more + 1):
            if text[at + i] & 0xC0 != 0x80:
                return at
        at += more + 1
    return -1


@njit(nogil=True, cache=True, inline="always")
def _store_word(memory, at, word):
    """Write a number as eight bytes, the lowest first; compiles to one store."""
    memory[at] = word
    memory[at + 1] = word >> U(8)
    memory[at + 2] = word >> U(16)
    memory[at + 3] = word >> U(24)
    memory[at + 4] = word >> U(32)
    memory[at + 5] = word >> U(40)
    memory[at + 6] = word >> U(48)
    memory[at + 7] = word >> U(56)


@njit(nogil=True, cache=True, inline="always")
def _field_end(text, at, stop, separators, values, copy):
    """Return the place of the next separator or line end, or `stop`; copy the words before it to `copy`, if not -1.

    Up to 8 bytes more are copied; the next field overwrites them.
    """
    while at < stop:
        word = load_word(text, U(at))
        if copy >= 0:
            _store_word(values, U(copy), word)
            copy += 8
        a, b = word ^ separators, word ^ _NEWLINES
        marks = (((a - _ONES) & ~a) | ((b - _ONES) & ~b)) & _HIGH
        if marks:
            return min(stop, at + (lowest_bit(marks) >> 3))
        at += 8
    return stop


@njit(nogil=True, cache=True)
def _quoted_end(text, at, stop):
    """Return the place of the quote that closes the field which opens at `at`, or `stop`."""
    at += 1
    while at < stop:
        if text[at] == QUOTE:
            if at + 1 < stop and text[at + 1] == QUOTE:
                at += 1
            else:
                return at
        at += 1
    return stop


@njit(nogil=True, cache=True)
def _copy_quoted(text, first, last, values, at):
    """Copy the inside of a quoted field, two quotes as one; return the place behind the copy."""
    i = first
    while i < last:
        values[at] = text[i]
        at += 1
        i += 2 if text[i] == QUOTE else 1
    return at


@njit(nogil=True, cache=True)
def count_byte(text, stop, byte):
    """Count a byte before `stop`; there must be 64 more bytes behind."""
    count = 0
    for base in range(0, stop, 64):
        found = byte_mask(text, base, byte)
        if stop - base < 64:
            found &= (U1 << U(stop - base)) - U1
        while found:
            count += 1
            found &= found - U1
    return count


@njit(nogil=True, cache=True)
def count_blank_lines(text, stop, separator):
    """Count the blank lines before `stop`, outside of quotes."""
    count, begin, at = 0, 0, 0
    opens = True  # whether a field begins at this place
    while at < stop:
        byte = text[at]
        if byte == QUOTE and opens:
            at = _quoted_end(text, at, stop)
        elif byte == NEWLINE:
            count += at == begin or (at == begin + 1 and text[begin] == RETURN)
            begin = at + 1
        opens = byte in (separator, NEWLINE)
        at += 1
    return count


@njit(nogil=True, cache=True, inline="always")
def _copy_field(text, start, end, values, to, unescape):
    """Copy a field without its quotes; return the place behind the copy. Up to 8 bytes more are overwritten."""
    if end > start and text[start] == QUOTE:
        start += 1
        end -= 1
        if unescape:
            return _copy_quoted(text, start, end, values, to)
    at = to
    while start < end:
        _store_word(values, U(at), load_word(text, U(start)))
        start += 8
        at += 8
    return at - (start - end)


@njit(nogil=True, cache=True)
def split_regular(text, stop, separator, slots, offsets, values):
    """Do what `split_records` does for text where nothing is wrong, many times faster; return the number of records.

    Returns −1 if there is anything that `split_records` should look at: a fault, a quote inside of a field that does
    not begin with one, a carriage return by itself. Text ends with a line end at `stop`; 64 more bytes are behind.

    Compares 64 bytes at a time, and turns the quotes among them into the places within quotes: a bit is set if the
    number of quotes up to it is odd.
    """
    columns = slots.size
    width = text.size + 16
    used = np.arange(offsets.shape[0]) * width
    rows, field, begin = 0, 0, 0
    within, after_mark, after_close = U0, U1, U0  # carried from 64 bytes to the next: all bits or none, one bit each
    doubled = False
    for base in range(0, stop, 64):
        newlines, quotes = byte_mask(text, base, NEWLINE), byte_mask(text, base, QUOTE)
        returns, marks = byte_mask(text, base, RETURN), newlines | byte_mask(text, base, separator)
        if stop - base < 64:
            rest = (U1 << U(stop - base)) - U1
            newlines, quotes, returns, marks = newlines & rest, quotes & rest, returns & rest, marks & rest
        closes = U0
        if quotes | within | after_close:
            inside = quotes ^ (quotes << U1)
            inside ^= inside << U(2)
            inside ^= inside << U(4)
            inside ^= inside << U(8)
            inside ^= inside << U(16)
            inside ^= inside << U(32)
            inside ^= within
            opens, closes = quotes & inside, quotes & ~inside
            marks &= ~inside
            returns &= ~inside
            behind = (closes << U1) | after_close
            if opens & ~(behind | (marks << U1) | after_mark) or behind & ~(marks | returns | quotes):
                return -1
            doubled |= (behind & opens) != U0
            within = U0 - (inside >> U63)
        if returns & ~((newlines >> U1) | (U(text[base + 64] == NEWLINE) << U63)):
            return -1
        after_mark, after_close = marks >> U63, closes >> U63
        while marks:
            at = base + lowest_bit(marks)
            marks &= marks - U1
            if field == columns:
                return -1
            end = at
            if text[at] == NEWLINE:
                end -= at > begin and text[at - 1] == RETURN
                if field == 0 and end == begin:
                    begin = at + 1
                    continue
            slot = slots[field]
            if slot >= 0:
                used[slot] = _copy_field(text, begin, end, values, used[slot], doubled)
            begin = at + 1
            field += 1
            if text[at] == NEWLINE:
                if field != columns:
                    return -1
                field = 0
                rows += 1
                for slot in range(offsets.shape[0]):
                    offsets[slot, rows] = used[slot] - slot * width
    return -1 if within else rows


@njit(nogil=True, cache=True)
def split_records(text, start, stop, separator, slots, complete, returns, most, offsets, values):
    """Copy chosen fields of records to `values`, and write their offsets as in Arrow.

    Each column has a part of `values` for itself, of 16 bytes more than the text.

    Parameters
    ----------
    text, start, stop
        The records are the bytes from `start` to `stop`. Blank lines are skipped.
    separator
        The byte between fields.
    slots
        For each field of the header the part of `values`, or -1.
    complete
        Whether the last record ends at `stop`, with or without a line end.
    returns
        Whether to look for carriage returns inside of fields, which is slower.
    most
        The number of records to stop after.

    Returns
    -------
    tuple
        The number of records, the place behind the last of them, how many are ragged, what is wrong first, its
        place, and how many fields it has. A record that is cut off at `stop`, and is not `complete`, does not count.
    """
    separators = U(separator) * _ONES
    columns = slots.size
    rows, at, ragged = 0, start, 0
    fault, place, size = OKAY, -1, 0
    width = text.size + 16
    used = np.arange(offsets.shape[0]) * width
    while at < stop and rows < most:
        if text[at] == NEWLINE:
            at += 1
            continue
        if text[at] == RETURN and at + 1 < stop and text[at + 1] == NEWLINE:
            at += 2
            continue
        begin, field = at, 0
        ended = False
        while True:
            slot = slots[field] if field < columns else -1
            if at < stop and text[at] == QUOTE:
                close = _quoted_end(text, at, stop)
                if close == stop:
                    if complete and fault == OKAY:
                        fault, place = OPEN_QUOTE, begin
                    return rows, begin, ragged, fault, place, size
                if slot >= 0:
                    used[slot] = _copy_quoted(text, at + 1, close, values, used[slot])
                at = close + 1
                if at + 1 < stop and text[at] == RETURN and text[at + 1] == NEWLINE:
                    at += 1
                elif complete and at + 1 == stop and text[at] == RETURN:
                    at = stop
                if at < stop and text[at] != separator and text[at] != NEWLINE:
                    if at + 1 == stop and text[at] == RETURN and not complete:
                        return rows, begin, ragged, fault, place, size
                    if fault == OKAY:
                        fault, place = AFTER_QUOTE, begin
                    return rows, begin, ragged, fault, place, size
            else:
                end = _field_end(text, at, stop, separators, values, used[slot] if slot >= 0 else -1)
                trimmed = end
                if end > at and text[end - 1] == RETURN and (end == stop or text[end] == NEWLINE):
                    trimmed -= 1
                if returns:
                    for i in range(at, trimmed):
                        if text[i] == RETURN:
                            if fault == OKAY:
                                fault, place = LONE_RETURN, begin
                            return rows, begin, ragged, fault, place, size
                if slot >= 0:
                    used[slot] += trimmed - at
                at = end
            field += 1
            if at >= stop:
                ended = complete
                break
            at += 1
            if text[at - 1] == NEWLINE:
                ended = True
                break
        if not ended:
            return rows, begin, ragged, fault, place, size
        if field != columns:
            ragged += 1
            if fault == OKAY:
                fault, place, size = RAGGED, begin, field
        rows += 1
        for slot in range(offsets.shape[0]):
            offsets[slot, rows] = used[slot] - slot * width
    return rows, at, ragged, fault, place, size
