"""Pack rows of the most common types in one pass: integer or text ids, instants of one offset from UTC, and floats."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cohortlib.engine.jit import njit
from cohortlib.engine.kernels.keys import narrow_key, narrow_mix
from cohortlib.engine.kernels.partition import most_units
from cohortlib.engine.kernels.words import LOW, U0, U1, U2, U3, U32, U63, U

_CHUNK = 1 << 10  # rows whose records and partitions are in the first-level cache when they are counted


class PlainRows(NamedTuple):
    """The rows of a block: ids, or the first words of keys of two words, ticks and amounts."""

    ids: NDArray[np.int64]
    ticks: NDArray[np.int64]
    amounts: NDArray[np.float64]


class DayCut(NamedTuple):
    """How ticks are cut to days, as `local_days` does; days count from that of the tick `origin`, plus `first`."""

    origin: int
    halvings: int
    odd: float
    first: int


class PackedRows(NamedTuple):
    """The rows of a block as packed records, or their last words if keys have two words, and their partitions."""

    words: NDArray[np.uint64]
    parts: NDArray[np.uint16]


@njit(nogil=True, cache=True)
def pack_rows(rows, form, base, secret, cut, scale, packed, counts):
    """Pack the rows of a block, and count them by partition.

    Parameters
    ----------
    rows
        `PlainRows`.
    form
        The `Form` of packed records.
    base, secret
        As for `mix_narrow`; not used for keys of two words.
    cut
        `DayCut`. Days fit the form.
    scale
        As for `round_to_units`.
    packed, counts
        Output: `PackedRows`, and the number of rows of each partition.

    Returns
    -------
    fits, high, low
        Whether each row fits one record, and its amount is rounded without looking closer; else the output is not
        valid. Σ |units|, as the sums of the high and of the low 32 bits of parts.
    """
    ids, ticks, amounts = rows
    words, parts = packed
    mix = narrow_mix(form.key_bits + form.partition_bits, secret)
    counts[:] = 0
    fits, high, low = True, U0, U0
    for at in range(0, ids.size, _CHUNK):
        to = at + _CHUNK
        chunk, total = _pack_chunk(
            ids[at:to], ticks[at:to], amounts[at:to], form, base, mix, cut, scale, words[at:to], parts[at:to]
        )
        fits &= chunk
        high += total >> U32
        low += total & LOW
        for part in parts[at:to]:
            counts[U(part)] += 1
    return fits, high, low


@njit(nogil=True, cache=True, error_model="numpy")
def _pack_chunk(ids, ticks, amounts, form, base, mix, cut, scale, words, parts):
    """Pack some rows, with vector instructions; return whether all fit, and Σ |units|."""
    key_bits, day_bits, key_mask = U(form.key_bits), U(form.day_bits), (U1 << U(form.key_bits)) - U1
    origin, halvings, odd, first = cut
    most = np.float64(most_units(form))
    wide, shift = form.wide, U63 - U(form.partition_bits)
    outside, strange, total = U0, False, U0
    for i in range(ids.size):
        x = U(ids[i])
        if wide:
            parts[i] = np.uint16((x >> U1) >> shift)
            key = U0
        else:
            x -= U(base)
            outside |= x & ~mix[0]
            key = narrow_key(x, mix)
            parts[i] = np.uint16(key >> key_bits)
        day = U(np.int64(np.float64((ticks[i] - origin) >> halvings) / odd) + first)
        product = amounts[i] * scale
        nearest = np.rint(product)
        good = (abs(product - nearest) < 0.5) & (abs(nearest) <= most)
        strange |= not good
        units = np.int64(nearest if good else 0.0)
        total += U(abs(units))
        words[i] = (U(units) << (key_bits + day_bits)) | (day << key_bits) | (key & key_mask)
    return outside == U0 and not strange, total


@njit(nogil=True, cache=True)
def scatter_packed(packed, begins, words):
    """Write packed rows to `words`: the next one of partition p to ``begins[p]``, which advances."""
    rows, parts = packed
    for i in range(rows.size):
        p = U(parts[i])
        at = begins[p]
        begins[p] = at + 1
        words[U(at)] = rows[i]


@njit(nogil=True, cache=True)
def detail_rows(ticks, days, form, day, codes, details):
    """Write the details of rows: the code of a segment, and the ticks since the day before the local day.

    `days` are packed records of one word, of which only the days matter, and `day` is the number of ticks in one.
    """
    day_mask = (U1 << U(form.day_bits)) - U1
    origin = (np.int64(form.first_day) - 1) * np.int64(day)
    for i in range(ticks.size):
        since = np.int64((days[i] >> U(form.key_bits)) & day_mask) * np.int64(day) + origin
        details[i] = (U(ticks[i] - since) << U(form.code_bits)) | U(codes[i])


@njit(nogil=True, cache=True)
def scatter_detailed(packed, details, begins, words):
    """Write packed rows with their details; otherwise as `scatter_packed`."""
    rows, parts = packed
    for i in range(rows.size):
        p = U(parts[i])
        at = U(begins[p])
        begins[p] = at + U1
        words[at + at] = rows[i]
        words[at + at + U1] = details[i]


@njit(nogil=True, cache=True)
def scatter_wide(packed, keys, keys2, begins, words):
    """Write packed rows after the two words of their keys; otherwise as `scatter_packed`."""
    rows, parts = packed
    for i in range(rows.size):
        p = U(parts[i])
        at = U3 * U(begins[p])
        begins[p] += 1
        words[at] = keys[i]
        words[at + U1] = keys2[i]
        words[at + U2] = rows[i]
