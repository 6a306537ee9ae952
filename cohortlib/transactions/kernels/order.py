"""Kernels that order customers by cohort, amount and id."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cohortlib.engine.jit import njit
from cohortlib.engine.kernels.words import LOW, U0, U1, U2, U8, U9, U12, U32, U64, U255, U

_DIGITS = 256  # a digit of eight bits


class Texts(NamedTuple):
    """Text as Arrow string views, two words each. Buffer k of long text begins at ``memory[bases[k]]``."""

    views: NDArray[np.uint64]
    memory: NDArray[np.uint8]
    bases: NDArray[np.uint64]


class Entries(NamedTuple):
    """Customers to sort: their numbers, and what they are sorted by: `size` first, then `text`."""

    customer: NDArray[np.int64]
    size: NDArray[np.uint64]
    text: NDArray[np.uint64]


@njit(nogil=True, cache=True, inline="always")
def _letter(texts, i, k):
    """Return byte `k` of text `i`; the text must be longer."""
    head, tail = texts.views[U2 * i], texts.views[U2 * i + U1]
    if head & LOW > U12:
        return U(texts.memory[texts.bases[tail & LOW] + (tail >> U32) + k])
    if k < 4:
        return (head >> (U32 + U8 * k)) & U255
    return (tail >> (U8 * (k - U(4)))) & U255


@njit(nogil=True, cache=True)
def common_prefix(begin, end, texts):
    """Count the first bytes that the texts from `begin` to before `end` have in common with text 0."""
    shared = texts.views[0] & LOW
    for i in range(U(begin), U(end)):
        shared = min(shared, texts.views[U2 * i] & LOW)
        k = U0
        while k < shared and _letter(texts, i, k) == _letter(texts, U0, k):
            k += U1
        shared = k
    return np.int64(shared)


@njit(nogil=True, cache=True)
def text_keys(begin, end, texts, skip, keys):
    """Compute the keys of the texts from `begin` to before `end`: eight bytes from byte `skip` on, zeros after the end.

    If the key of one text is less than that of another, so is the text. The first `skip` bytes of all texts are equal.
    """
    skip = U(skip)
    for i in range(U(begin), U(end)):
        length = texts.views[U2 * i] & LOW
        key = U0
        if length > skip:
            for k in range(skip, min(length, skip + U8)):
                key = (key << U8) | _letter(texts, i, k)
            key <<= U8 * (U8 - min(length - skip, U8))
        keys[i] = key


@njit(nogil=True, cache=True)
def deal(cohort, chosen, sizes, texts, places, entries):
    """Write the chosen customers to the entries, by cohort: those of cohort c from ``places[c]`` on, which advances."""
    for i in range(cohort.size):
        if chosen[i]:
            c = cohort[i]
            at = U(places[c])
            places[c] += 1
            entries.customer[at], entries.size[at], entries.text[at] = i, sizes[i], texts[i]


@njit(nogil=True, cache=True)
def _radix_sort(keys, order):
    """Sort keys, and reorder `order` in the same way. The sort is stable."""
    count = U(keys.size)
    varying = U0
    for j in range(count):
        varying |= keys[j] ^ keys[0]
    source, source_order = keys, order
    target, target_order = np.empty_like(keys), np.empty_like(order)
    places = np.empty(_DIGITS, np.uint32)
    for shift in range(U0, U64, U8):
        if (varying >> shift) & U255 == U0:
            continue
        places[:] = 0
        for j in range(count):
            places[(source[j] >> shift) & U255] += np.uint32(1)
        place = np.uint32(0)
        for digit in range(_DIGITS):
            place, places[digit] = place + places[digit], place
        for j in range(count):
            digit = (source[j] >> shift) & U255
            at = places[digit]
            places[digit] = at + np.uint32(1)
            target[at], target_order[at] = source[j], source_order[j]
        source, target = target, source
        source_order, target_order = target_order, source_order
    keys[:] = source
    order[:] = source_order


@njit(nogil=True, cache=True)
def sort_entries(begin, end, entries, first):
    """Sort the entries from `begin` to before `end`; ``first[j]`` becomes False where j sorts equal to the one before.

    Returns whether there are such entries.
    """
    customer, size, text = entries.customer[begin:end], entries.size[begin:end], entries.text[begin:end]
    order = np.arange(end - begin).astype(np.uint32)
    keys = text.copy()
    _radix_sort(keys, order)
    text[:] = keys
    for j in range(order.size):
        keys[j] = size[order[j]]
    by_text = order.copy()
    places = np.arange(order.size).astype(np.uint32)
    _radix_sort(keys, places)
    size[:] = keys
    keys[:] = text
    numbers = customer.copy()
    ties = False
    for j in range(order.size):
        place = places[j]
        customer[j] = numbers[by_text[place]]
        text[j] = keys[place]
        equal = j > 0 and size[j] == size[j - 1] and text[j] == text[j - 1]
        first[begin + j] = not equal
        ties |= equal
    return ties


@njit(nogil=True, cache=True)
def append_letters(which, texts, begin, count, keys):
    """Shift `count` letters of some texts, from letter `begin` on, into the low bits of their keys.

    A letter takes nine bits: its byte + 1, or 0 after the end of the text. So keys sort as the texts do.
    """
    for j in range(which.size):
        i = U(which[j])
        length = texts.views[U2 * i] & LOW
        key = keys[j]
        for k in range(U(begin), U(begin) + U(count)):
            key <<= U9
            if k < length:
                key |= _letter(texts, i, k) + U1
        keys[j] = key
