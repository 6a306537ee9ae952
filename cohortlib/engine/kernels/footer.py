"""Read the number of rows of each row group from the footer of a Parquet file.

A footer is a struct in Thrift's compact protocol. Only the structure is followed; other fields are skipped.
"""

from cohortlib.engine.jit import njit

# Types of the compact protocol; others are varints.
_TRUE, _FALSE, _BYTE, _DOUBLE, _BINARY, _LIST, _SET, _MAP, _STRUCT = 1, 2, 3, 7, 8, 9, 10, 11, 12
_ROW_GROUPS, _NUM_ROWS = 4, 3  # the fields of FileMetaData and of RowGroup
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
def row_group_sizes(data, left, kinds, fields, sizes):
    """Write the rows of each row group to `sizes`, and return how many there are; −1 for a footer that is not valid.

    `left`, `kinds` and `fields` are buffers of `DEPTH` entries, one for each open list or struct: the elements that are
    left of a list, or −1 for a struct; their kind; and the number of the last field of a struct.
    """
    depth, count, at = 0, 0, 0
    left[0], fields[0] = -1, 0
    while 0 <= at < data.size:
        if left[depth] < 0:  # in a struct
            head = int(data[at])
            at += 1
            if head == 0:
                depth -= 1
                if depth < 0:
                    return count
                continue
            kind = head & 15
            if head >> 4:
                fields[depth] += head >> 4
            else:
                number, at = _varint(data, at)
                fields[depth] = (number >> 1) ^ -(number & 1)
            if kind in (_TRUE, _FALSE):
                continue
            if depth == 2 and kind < _DOUBLE and fields[0] == _ROW_GROUPS and fields[2] == _NUM_ROWS:
                number, at = _varint(data, at)
                if count == sizes.size:
                    return -1
                sizes[count] = number >> 1
                count += 1
                continue
        elif left[depth] == 0:
            depth -= 1
            continue
        else:
            left[depth] -= 1
            kind = _BYTE if kinds[depth] in (_TRUE, _FALSE) else kinds[depth]
        if kind < _LIST:
            at = _skip_value(data, at, kind)
            continue
        depth += 1
        if depth == left.size or kind > _STRUCT or kind == _MAP:  # Parquet has no maps
            return -1
        left[depth], fields[depth] = -1, 0
        if kind != _STRUCT:
            left[depth], kinds[depth], at = _list_header(data, at)
    return -1
