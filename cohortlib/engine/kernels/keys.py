"""Hash user ids to keys of 64 or 128 bits, under a secret."""

import numpy as np

from cohortlib.engine.jit import njit
from cohortlib.engine.kernels.words import LOW, M1, M2, U0, U1, U2, U3, U8, U12, U16, U30, U32, U40, U64, U

from cohortlib.engine.kernels.words import load_word, mix_word, multiply_add  # isort: skip

_CHUNK = U(1 << 9)  # rows after which the fast loops are tried again
_SHORT, _IDS = U(48), U(24)  # bytes of a text that is hashed as three pairs of words, and as three words


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

    `views` has the Arrow string views of all rows, two words each; without `rows`, all of them are hashed. `memory`
    spans all data buffers; buffer k starts at ``memory[bases[k]]``. Rows where `nulls` is set have the key 0, since
    their views may hold anything; it is empty if there are none.

    The hash is NH, as in UMAC: words are taken in pairs, a part of the secret is added to each, and the products are
    summed. Texts that collide cannot be chosen without the secret: two texts of up to 240 bytes have the same hash
    with a probability of about 2**-64, or 2**-128. Longer texts are hashed in pieces of 240 bytes.
    """
    for first in range(U0, U(keys.size), _CHUNK):
        last = min(first + _CHUNK, U(keys.size))
        rest = first
        if not nulls.size:
            if keys2.size:
                rest = _hash_ids(views, memory, bases, rows, rest, last, secret, keys, keys2)
            rest = _hash_short(views, memory, bases, rows, rest, last, secret, keys, keys2)
        _hash_texts(views, memory, bases, nulls, rows, rest, last, secret, keys, keys2)


@njit(nogil=True, cache=True)
def _hash_texts(views, memory, bases, nulls, rows, first, last, secret, keys, keys2):
    """Hash texts of any length, some of which may be null."""
    wide = keys2.size > 0
    for j in range(first, last):
        i = U2 * (U(rows[j]) if rows.size else j)
        if nulls.size and nulls[i >> U1]:
            keys[j] = U0
            if wide:
                keys2[j] = U0
            continue
        head, tail = views[i], views[i + U1]
        length = head & LOW
        at, end = U0, U0
        if length > U12:
            at = bases[tail & LOW] + (tail >> U32)
            # The last 8-byte load is shifted back to stay in bounds; hashing the overlap twice is harmless because
            # the length is hashed too.
            end = at + length - U8
        a, b, c, d = U0, length, U0, ~length
        place = U0
        while True:
            # Always three pairs of words; after the end, the last word is read again. Lengths differ from row to row,
            # and a mispredicted branch costs more than a few products.
            for _ in range(3):
                if length > U12:
                    left, right = load_word(memory, min(at, end)), load_word(memory, min(at + U8, end))
                else:
                    left, right = (head >> U32) | (tail << U32), tail >> U32
                a, b = multiply_add(a, b, left + secret[place], right + secret[place + U1])
                if wide:
                    c, d = multiply_add(c, d, left + secret[place + U2], right + secret[place + U3])
                at += U16
                place += U2
            if at >= end + U8:
                break
            if place == U30:
                place = U0
                a, b, c, d = mix_word(a), mix_word(b), mix_word(c), mix_word(d)
        keys[j] = mix_word(a * M1 + b)
        if wide:
            keys2[j] = c * M2 + d


@njit(nogil=True, cache=True)
def _hash_short(views, memory, bases, rows, first, last, secret, keys, keys2):
    """Hash texts as `_hash_texts`, up to the first of more than 48 bytes, whose row is returned; a quarter faster."""
    wide = keys2.size > 0
    s0, s1, s2, s3 = secret[0], secret[1], secret[2], secret[3]
    s4, s5, s6, s7 = secret[4], secret[5], secret[6], secret[7]
    for j in range(first, last):
        i = U2 * (U(rows[j]) if rows.size else j)
        head, tail = views[i], views[i + U1]
        length = head & LOW
        if length > _SHORT:
            return j
        u = w = y = (head >> U32) | (tail << U32)
        v = x = z = tail >> U32
        if length > U12:
            at = bases[tail & LOW] + (tail >> U32)
            end = at + length - U8
            u, v = load_word(memory, at), load_word(memory, min(at + U8, end))
            w, x = load_word(memory, min(at + U16, end)), load_word(memory, min(at + U16 + U8, end))
            y, z = load_word(memory, min(at + U32, end)), load_word(memory, min(at + U40, end))
        a, b = multiply_add(U0, length, u + s0, v + s1)
        a, b = multiply_add(a, b, w + s2, x + s3)
        a, b = multiply_add(a, b, y + s4, z + s5)
        if wide:
            c, d = multiply_add(U0, ~length, u + s2, v + s3)
            c, d = multiply_add(c, d, w + s4, x + s5)
            c, d = multiply_add(c, d, y + s6, z + s7)
            keys2[j] = c * M2 + d
        keys[j] = mix_word(a * M1 + b)
    return last


@njit(nogil=True, cache=True)
def _hash_ids(views, memory, bases, rows, first, last, secret, keys, keys2):
    """Hash texts to 128 bits as `_hash_texts`, up to the first that has not 17 to 24 bytes, whose row is returned.

    Takes 60 % of the time. The third word stands for the second and the third pair, and one product is in both halves.
    """
    s0, s1, s2, s3 = secret[0], secret[1], secret[2], secret[3]
    s4, s5, s6, s7 = secret[4], secret[5], secret[6], secret[7]
    for j in range(first, last):
        i = U2 * (U(rows[j]) if rows.size else j)
        tail = views[i + U1]
        length = views[i] & LOW
        if length <= U16 or length > _IDS:
            return j
        at = bases[tail & LOW] + (tail >> U32)
        u, v, w = load_word(memory, at), load_word(memory, at + U8), load_word(memory, at + length - U8)
        a, b = multiply_add(U0, length, u + s0, v + s1)
        a, b = multiply_add(a, b, w + s2, w + s3)
        a, b = multiply_add(a, b, w + s4, w + s5)
        keys[j] = mix_word(a * M1 + b)
        c, d = multiply_add(U0, ~length, u + s2, v + s3)
        c, d = multiply_add(c, d, w + s4, w + s5)
        c, d = multiply_add(c, d, w + s6, w + s7)
        keys2[j] = c * M2 + d
    return last
