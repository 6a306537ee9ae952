"""Hash users to keys."""

from numba import njit

from cohortlib.engine.kernels.words import (
    LOW,
    M1,
    M2,
    U0,
    U1,
    U2,
    U3,
    U8,
    U12,
    U16,
    U30,
    U32,
    U64,
    U,
    high_word,
    load_word,
    mix_word,
)


@njit(nogil=True, cache=True)
def mix_integers(ids, secret, keys):
    """Spread integer ids over 64 bits, one to one."""
    veil = secret[0]
    for i in range(ids.size):
        keys[i] = mix_word(U(ids[i]) ^ veil)


@njit(nogil=True, cache=True)
def mix_narrow(ids, base, bits, secret, keys):
    """Spread integer ids over `bits` bits, one to one, and put these on top of the key.

    Returns 0 if all ids lie between `base` and before ``base + 2**bits``.
    """
    left = U64 - U(bits)
    mask = ~U0 >> left
    half = (U(bits) + U1) >> U1
    one, two = secret[0] | U1, secret[1] | U1
    beyond = U0
    for i in range(ids.size):
        x = U(ids[i]) - U(base)
        beyond |= x & ~mask
        x = (x * one) & mask
        x = ((x ^ (x >> half)) * two) & mask
        keys[i] = (x ^ (x >> half)) << left
    return beyond


@njit(nogil=True, cache=True)
def fingerprint_strings(views, memory, bases, rows, secret, keys, keys2):
    """Reduce the texts of some rows to 64 bits under a secret of 34 random words; to 128 unless `keys2` is empty.

    `views` holds the Arrow string views of all rows, two words each; `memory` spans every data buffer, and buffer k
    starts at ``memory[bases[k]]``. Words are taken in pairs and their products added, with a secret for each (NH, as in
    UMAC): for whoever does not know the secret, two different texts of up to 240 bytes meet with a chance of about
    2**-64, or 2**-128, whatever the texts; longer ones are taken in pieces of 240 bytes.
    """
    wide = keys2.size > 0
    for j in range(U(rows.size)):
        i = U2 * U(rows[j])
        head, tail = views[i], views[i + U1]
        length = head & LOW
        at, last = U0, U0
        if length > U12:
            at = bases[tail & LOW] + (tail >> U32)
            # The last word begins where it still fits; what it repeats does no harm, the length being told.
            last = at + length - U8
        a, b, c, d = U0, length, U0, ~length
        place = U0
        while True:
            # Three pairs at a time, the last word standing for those that are not there: lengths differ from row to
            # row, and a branch that nobody can foresee takes longer than some products.
            for _ in range(3):
                if length > U12:
                    one, two = load_word(memory, min(at, last)), load_word(memory, min(at + U8, last))
                else:
                    one, two = (head >> U32) | (tail << U32), tail >> U32
                x, y = one + secret[place], two + secret[place + U1]
                low = x * y
                b += low
                a += high_word(x, y) + U(b < low)
                if wide:
                    x, y = one + secret[place + U2], two + secret[place + U3]
                    low = x * y
                    d += low
                    c += high_word(x, y) + U(d < low)
                at += U16
                place += U2
            if at >= last + U8:
                break
            if place == U30:
                place = U0
                a, b, c, d = mix_word(a), mix_word(b), mix_word(c), mix_word(d)
        keys[j] = mix_word(a * M1 + b)
        if wide:
            keys2[j] = c * M2 + d
