"""Read the row groups of a Parquet file from its footer, and move them to another place in a file.

A footer is a struct in Thrift's compact protocol. Only the structure is followed; other fields are skipped.
"""

import numpy as np

from cohortlib.engine.jit import njit

# Types of the compact protocol; others are varints.
_TRUE, _FALSE, _BYTE, _DOUBLE, _BINARY, _LIST, _SET, _MAP, _STRUCT = 1, 2, 3, 7, 8, 9, 10, 11, 12
# Fields of FileMetaData, of RowGroup, of ColumnChunk and of ColumnMetaData.
SCHEMA, ROWS, _ROW_GROUPS, METADATA, FIELDS = 2, 3, 4, 5, 8
_COLUMNS, _NUM_ROWS, _GROUP_OFFSET = 1, 3, 5
_FILE_PATH, _COLUMN_METADATA, _ENCRYPTION = 1, 3, 8
_SIZE, _DATA, _INDEX, _DICTIONARY, _BLOOM = 7, 9, 10, 11, 14
DEPTH = 64


@njit(nogil=True, cache=True)
def _varint(data, at):
    """Return the unsigned number that begins at `at`, and the place after it; −1 where it is cut off."""
    value, shift = 0, 0
    while 0 <= at < data.size and shift < 63:
        byte = int(data[at])
        value |= (byte & 127) << shift
        at += 1
        if byte < 128:
            return value, at
        shift += 7
    return 0, -1


@njit(nogil=True, cache=True)
def _skip_value(data, at, kind):
    """Return the place after a value that is no list, set, map or struct; −1 where it is cut off."""
    if kind == _BYTE:
        return at + 1
    if kind == _DOUBLE:
        return at + 8
    size, at = _varint(data, at)
    return at + size if kind == _BINARY and at >= 0 else at


@njit(nogil=True, cache=True)
def _list_header(data, at):
    """Return the number and the kind of a list's elements, and the place of the first; −1 where it is cut off."""
    if not 0 <= at < data.size:
        return 0, 0, -1
    size, kind = int(data[at]) >> 4, int(data[at]) & 15
    at += 1
    if size == 15:
        size, at = _varint(data, at)
    return size, kind, at


@njit(nogil=True, cache=True)
def _field_header(data, at, before):
    """Return the kind and the number of a struct's next field, and the place of its value; kind 0 ends the struct."""
    head = int(data[at])
    at += 1
    number = before + (head >> 4)
    if head and not head >> 4:
        number, at = _varint(data, at)
        number = (number >> 1) ^ -(number & 1)
    return head & 15, number, at


@njit(nogil=True, cache=True)
def _append(moved, size, data, begin, end):
    """Append bytes of `data` to the first `size` of `moved`, and return their number; −1 where there is no room."""
    if not 0 <= begin <= end <= data.size or size < 0 or size + end - begin > moved.size:
        return -1
    for at in range(begin, end):
        moved[size + at - begin] = data[at]
    return size + end - begin


@njit(nogil=True, cache=True)
def _append_place(moved, size, place):
    """Append a place in a file, as a signed number; −1 where there is no room."""
    value = place << 1
    while 0 <= size < moved.size:
        moved[size] = value & 127 | (128 if value > 127 else 0)
        size += 1
        value >>= 7
        if value == 0:
            return size
    return -1


@njit(nogil=True, cache=True)
def _is_place(depth, fields):
    """Return whether a number within a row group is a place in the file."""
    number = fields[depth]
    if depth == 2:
        return number == _GROUP_OFFSET
    if fields[2] != _COLUMNS:
        return False
    if depth == 4:  # the chunk, its offset index and its column index
        return number in (2, 4, 6)
    return depth == 5 and fields[4] == _COLUMN_METADATA and number in (_DATA, _INDEX, _DICTIONARY, _BLOOM)


@njit(nogil=True, cache=True)
def read_row_groups(data, pages_end, shift, stack, marks, sizes, moved):
    """Write the rows of each row group to `sizes`.

    Return the number of row groups, or −1 for a footer that is not plain; the number of rows that it states; and the
    size of the row groups in `moved`.

    Parameters
    ----------
    data
        The footer.
    pages_end
        The end of the pages in the file; a column chunk outside of them makes a footer invalid.
    shift
        The number of bytes by which the pages move.
    stack
        A buffer of 3 × `DEPTH` entries, one for each open list or struct: the elements that are left of a list, or −1
        for a struct; their kind; and the number of the last field of a struct.
    marks
        Becomes the ends of the first `FIELDS` fields of the footer, 0 for one that is missing.
    moved
        Becomes the row groups with places moved by `shift`; empty if they are not needed.
    """
    left, kinds, fields = stack[0], stack[1], stack[2]
    chunk = np.zeros(3, np.int64)  # the places of its pages and of its dictionary, and its size
    depth, count, rows, at, size, copied = 0, 0, 0, 0, 0, 0
    left[0], fields[0], marks[:] = -1, 0, 0
    while 0 <= at < data.size and size >= 0:
        if left[depth] < 0:  # in a struct
            if depth == 0:
                marks[fields[0]] = at
            kind, fields[depth], at = _field_header(data, at, fields[depth])
            if at < 0:
                break
            number, in_groups = fields[depth], fields[0] == _ROW_GROUPS and depth > 0
            if kind == 0:
                if in_groups and depth == 5 and fields[2] == _COLUMNS and fields[4] == _COLUMN_METADATA:
                    first = chunk[1] if chunk[1] > 0 else chunk[0]
                    if chunk[2] and not (0 < first <= chunk[0] and 0 < chunk[2] <= pages_end - first):
                        return -1, 0, 0
                    chunk[:] = 0
                depth -= 1
                if depth < 0:
                    return count, rows, size
                continue
            if depth == 0 and not 0 < number < FIELDS:  # such as the algorithm of an encryption
                return -1, 0, 0
            if in_groups and depth == 4 and fields[2] == _COLUMNS and (number == _FILE_PATH or number >= _ENCRYPTION):
                return -1, 0, 0
            if kind in (_TRUE, _FALSE):
                continue
            if _BYTE < kind < _DOUBLE:
                begin = at
                value, at = _varint(data, at)
                value = (value >> 1) ^ -(value & 1)
                if depth == 0 and number == ROWS:
                    rows = value
                elif in_groups and depth == 2 and number == _NUM_ROWS:
                    if count == sizes.size or value < 0:
                        return -1, 0, 0
                    sizes[count] = value
                    count += 1
                elif in_groups and depth == 5 and number == _SIZE:
                    chunk[2] = value
                elif in_groups and _is_place(depth, fields):
                    if depth == 5 and number in (_DATA, _DICTIONARY):
                        chunk[0 if number == _DATA else 1] = value
                    if moved.size and value > 0:
                        size = _append_place(moved, _append(moved, size, data, copied, begin), value + shift)
                        copied = at
                continue
        elif left[depth] == 0:
            depth -= 1
            if moved.size and depth == 0 and fields[0] == _ROW_GROUPS:
                size = _append(moved, size, data, copied, at)
            continue
        else:
            left[depth] -= 1
            kind = _BYTE if kinds[depth] in (_TRUE, _FALSE) else kinds[depth]
        if kind < _LIST:
            at = _skip_value(data, at, kind)
            continue
        depth += 1
        if depth == left.size or kind > _STRUCT or kind == _MAP:  # Parquet has no maps
            return -1, 0, 0
        left[depth], fields[depth] = -1, 0
        if kind != _STRUCT:
            left[depth], kinds[depth], at = _list_header(data, at)
            if depth == 1 and fields[0] == _ROW_GROUPS:
                copied = at
    return -1, 0, 0
