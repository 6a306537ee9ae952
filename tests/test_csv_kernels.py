"""The fast kernel that splits CSV does what the slow one does, or leaves the text to it."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cohortlib.engine.kernels import csv as kernel

pytestmark = pytest.mark.unit

COLUMNS = 3


def split(text, slots, *, fast):
    """Split text with a kernel; return the fields of the chosen columns, or None if the text is left to the other."""
    data = np.frombuffer(text + bytes(80), np.uint8)
    offsets = np.zeros((max(slots) + 1, text.count(b"\n") + 2), np.int32)
    values = np.zeros(offsets.shape[0] * (data.size + 16), np.uint8)
    where = np.array(slots, np.int64)
    separator = np.uint8(ord(","))
    if fast:
        rows = kernel.split_regular(data, len(text), separator, where, offsets, values)
    else:
        returns = b"\r" in text
        rows, end, _, fault, *_ = kernel.split_records(
            data, 0, len(text), separator, where, True, returns, 1 << 62, offsets, values
        )
        rows = rows if fault == kernel.OKAY and end == len(text) else -1
    if rows < 0:
        return None
    parts = values.reshape(offsets.shape[0], -1)
    return [
        [bytes(part[first:last]) for first, last in pairwise(edges[: rows + 1])]
        for edges, part in zip(offsets, parts, strict=True)
    ]


def quoted(cell):
    return '"' + cell.replace('"', '""') + '"'


CELL = st.text('ab,"\n\ré', max_size=5) | st.text("abcé ", min_size=20, max_size=70)
REGULAR = st.one_of(CELL.map(quoted), st.text("abé ;'", max_size=9))
LINES = st.lists(st.tuples(st.lists(REGULAR, min_size=COLUMNS, max_size=COLUMNS), st.sampled_from(["\n", "\r\n"])))
SLOTS = st.sampled_from([(0, 1, 2), (1, -1, 0), (-1, -1, 0)])


@given(LINES, st.sampled_from(["", "\n", "\r\n"]), SLOTS)
def test_regular_text_is_split_fast(lines, blank, slots):
    text = (blank + blank.join(",".join(cells) + end for cells, end in lines)).encode()
    fast = split(text, slots, fast=True)
    assert fast is not None
    assert fast == split(text, slots, fast=False)


@given(st.lists(st.sampled_from(['"', ",", "\n", "\r\n", "\r", "a", "b" * 61, '"",', "a,b,c\n"]), max_size=40), SLOTS)
def test_any_text_is_split_alike_or_left(parts, slots):
    text = "".join([*parts, "\n"]).encode()
    fast = split(text, slots, fast=True)
    assert fast is None or fast == split(text, slots, fast=False)


@given(st.binary(max_size=200), st.sampled_from(b'a\n"'))
def test_bytes_are_counted(text, byte):
    data = np.frombuffer(text + bytes([byte]) * 80, np.uint8)
    assert kernel.count_byte(data, len(text), np.uint8(byte)) == text.count(byte)
