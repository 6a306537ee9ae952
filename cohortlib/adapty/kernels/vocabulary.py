"""Replace the texts of a column with few distinct values by codes."""

from typing import NamedTuple

import numpy as np

from cohortlib.adapty.kernels.records import BYTE, LOW, M1, U0, U1, U2, U8, U12, U32, U56, U
from cohortlib.engine.jit import njit
from cohortlib.engine.kernels.words import load_word


class Vocabulary(NamedTuple):
    """A hash table of fewer than 128 words, for ``recognise``.

    A row of `words` identifies one word by 8-byte integers: its length and first four bytes; its last eight bytes (of
    a word of up to twelve bytes, all after the first four); then, for longer words, all bytes eight at a time, where
    the last load is shifted back to stay within the word. `slots` maps the first two integers to the row.
    """

    words: np.ndarray
    slots: np.ndarray

    @classmethod
    def of(cls, texts: list[str]) -> "Vocabulary":
        """Build the table. Words must differ in length, first four or last eight bytes."""
        width = -(-max(map(len, texts)) // 8)
        words = np.zeros((len(texts), 2 + width), np.uint64)
        slots = np.full(256, len(texts), np.int8)
        for code, text in enumerate(texts):
            raw = text.encode()
            places = (min(8 * k, len(raw) - 8) for k in range(width))
            pieces = [raw[-8:], *(raw[at : at + 8] for at in places)] if len(raw) > 12 else [raw[4:]]
            integers = [
                len(raw) | int.from_bytes(raw[:4], "little") << 32,
                *(int.from_bytes(p, "little") for p in pieces),
            ]
            words[code, : len(integers)] = integers
            at = ((integers[0] ^ integers[1]) * int(M1) & 0xFFFFFFFFFFFFFFFF) >> 56
            while slots[at] < len(texts):
                at = (at + 1) % 256
            slots[at] = code
        return cls(words, slots)


@njit(nogil=True, cache=True)
def recognise(views, memory, bases, words, slots, codes):
    """Write the code of each text: its row in the `words` of a `Vocabulary`, or the number of words if it has none.

    Texts are passed as views, memory and bases, as in ``fingerprint_strings``.
    """
    count = np.int64(words.shape[0])
    for i in range(U(codes.size)):
        head, tail = views[U2 * i], views[U2 * i + U1]
        first, last = U0, U0
        if head & LOW > U12:
            first = bases[tail & LOW] + (tail >> U32)
            last = first + (head & LOW) - U8
            tail = load_word(memory, last)
        at = ((head ^ tail) * M1) >> U56
        code = np.int64(slots[at])
        while code < count and not (words[U(code), U0] == head and words[U(code), U1] == tail):
            at = (at + U1) & BYTE
            code = np.int64(slots[at])
        if code < count and last > U0:
            for k in range(U(words.shape[1]) - U2):
                if words[U(code), k + U2] != load_word(memory, min(first + U8 * k, last)):
                    code = count
                    break
        codes[i] = np.int8(code)
