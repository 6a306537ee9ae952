"""Hash user ids to keys of 64 or 128 bits, under a secret."""

import numpy as np

from cohortlib.engine.jit import njit
from cohortlib.engine.kernels.words import LOW, M1, M2, U0, U1, U2, U3, U8, U12, U16, U30, U32, U64, U

from cohortlib.engine.kernels.words import high_word, load_word, mix_word  # isort: skip


@njit(nogil=True, cache=True)
def mix_integers(ids, secret, keys):
    """Hash integer ids to 64 bits, one to one."""
    veil = secret[0]
    for i in range(ids.size):
        keys[i] = mix_word(U(ids[i]) ^ veil)


@njit(nogil=True, cache=True, forceinline=True)
def narrow_mix(bits, secret):
    """Return the constants of `narrow_key`: the mask of `bits` bits, half of them, and two factors."""
    return ~U0 >> (U64 - U(bits)), (U(bits) + U1) >> U1, secret[0] | U1, secret[1] | U1


@njit(nogil=True, cache=True, forceinline=True)
def narrow_key(x, mix):
    """Hash a number of some bits to another one, one to one."""
    mask, half, first, second = mix
    x = (x * first) & mask
    x = ((x ^ (x >> half)) * second) & mask
    return x ^ (x >> half)


@njit(nogil=True, cache=True)
def mix_narrow(ids, base, bits, secret, keys):
    """Hash integer ids to the top `bits` bits of the key, one to one.

    Returns 0 if all ids are in ``base`` to ``base + 2**bits - 1``; otherwise the keys are not valid.
    """
    shift = U64 - U(bits)
    mix = narrow_mix(bits, secret)
    outside = U0
    for i in range(ids.size):
        x = U(ids[i]) - U(base)
        outside |= x & ~mix[0]
        keys[i] = narrow_key(x, mix) << shift
    return outside


@njit(nogil=True, cache=True)
def unmix_narrow(keys, base, bits, inverse, inverse2, ids):
    """Invert `mix_narrow`: find the ids of keys that are numbers of `bits` bits.

    `inverse` and `inverse2` are the inverses of the first two words of the secret, made odd, modulo 2 ** 64.
    """
    mask = ~U0 >> (U64 - U(bits))
    half = (U(bits) + U1) >> U1
    for i in range(keys.size):
        x = keys[i]
        x = ((x ^ (x >> half)) * inverse2) & mask
        x = ((x ^ (x >> half)) * inverse) & mask
        ids[i] = np.int64(x + U(base))


@njit(nogil=True, cache=True)
def fingerprint_strings(views, memory, bases, nulls, rows, secret, keys, keys2):
    """Hash some rows of text to 64 bits, or to 128 unless `keys2` is empty, under a secret of 34 random words.

    `views` has the Arrow string views of all rows, two words each. `memory` spans all data buffers; buffer k starts at
    ``memory[bases[k]]``. Rows where `nulls` is set have the key 0, since their views may hold anything; it is empty if
    there are none.

    The hash is NH, as in UMAC: words are taken in pairs, a part of the secret is added to each, and the products are
    summed. Texts that collide cannot be chosen without the secret: two texts of up to 240 bytes have the same hash
    with a probability of about 2**-64, or 2**-128. Longer texts are hashed in pieces of 240 bytes.
    """
    wide = keys2.size > 0
    for j in range(U(rows.size)):
        i = U2 * U(rows[j])
        if nulls.size and nulls[U(rows[j])]:
            keys[j] = U0
            if wide:
                keys2[j] = U0
            continue
        head, tail = views[i], views[i + U1]
        length = head & LOW
        at, last = U0, U0
        if length > U12:
            at = bases[tail & LOW] + (tail >> U32)
            # The last 8-byte load is shifted back to stay in bounds; hashing the overlap twice is harmless because
            # the length is hashed too.
            last = at + length - U8
        a, b, c, d = U0, length, U0, ~length
        place = U0
        while True:
            # Always three pairs of words; after the end, the last word is read again. Lengths differ from row to row,
            # and a mispredicted branch costs more than a few products.
            for _ in range(3):
                if length > U12:
                    left, right = load_word(memory, min(at, last)), load_word(memory, min(at + U8, last))
                else:
                    left, right = (head >> U32) | (tail << U32), tail >> U32
                x, y = left + secret[place], right + secret[place + U1]
                low = x * y
                b += low
                a += high_word(x, y) + U(b < low)
                if wide:
                    x, y = left + secret[place + U2], right + secret[place + U3]
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
