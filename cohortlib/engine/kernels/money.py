"""Round amounts to whole units, and divide sums of units with one rounding."""

import math

import numpy as np

from cohortlib.engine.jit import njit
from cohortlib.engine.kernels.words import LOW, U0, U1, U32, U54, U

_EXACT = np.int64(1) << np.int64(53)  # all integers up to here are exact as floats
_EXACT_FLOAT = 9007199254740992.0  # 2**53
_HALVES_EXACT = 4503599627370496.0  # 2**52: floats below it have at least one binary place
_INT64_FLOAT = 9223372036854775808.0  # 2**63
_BELOW_INT64 = 2048.0  # 2**63 - 2048 is exact as a float
_SPLIT = 134217729.0  # 2**27 + 1, of Veltkamp's split


@njit(nogil=True, cache=True)
def round_to_units(values, scale, units):
    """Round each float to the nearest whole number of 1/scale, ties to even, by its exact binary value.

    `scale` is a power of ten up to 1e9. Returns the number of values that are NaN or infinite, and the number of those
    that do not fit into int64; the units of both are 0.
    """
    not_finite = 0
    too_large = 0
    for i in range(values.size):
        x = values[i]
        product = x * scale
        nearest = np.rint(product)
        if abs(product) < _HALVES_EXACT and abs(product - nearest) != 0.5:
            units[i] = np.int64(nearest)
        elif not np.isfinite(x):
            not_finite += 1
            units[i] = 0
        elif abs(product) > _INT64_FLOAT:
            too_large += 1
            units[i] = 0
        else:
            # Veltkamp's split and Dekker's product compute the rounding error of the multiplication.
            c = _SPLIT * x
            xh = c - (c - x)
            xl = x - xh
            c = _SPLIT * scale
            sh = c - (c - scale)
            sl = scale - sh
            error = ((xh * sh - product) + xh * sl + xl * sh) + xl * sl
            if abs(product) == _INT64_FLOAT:
                # The product was rounded up to 2**63; the exact value may still be in range.
                if abs(error) <= 0.5 or (error > 0.0) == (product > 0.0):
                    too_large += 1
                    units[i] = 0
                    continue
                step = _BELOW_INT64 if product > 0.0 else -_BELOW_INT64
                product -= step
                error += step
            whole = np.int64(np.floor(product))
            if abs(product) < _HALVES_EXACT:
                # The rounded product is a half; the error shows on which side of it the exact value is.
                up = error > 0.0 or (error == 0.0 and (whole & 1) == 1)
            else:
                whole += np.int64(np.floor(error))
                rest = error - np.floor(error)
                up = rest > 0.5 or (rest == 0.5 and (whole & 1) == 1)
            units[i] = whole + 1 if up else whole
    return not_finite, too_large


@njit(nogil=True, cache=True)
def magnitude(units):
    """Compute Σ |units| exactly. Returns the sums of the high and of the low 32 bits of each."""
    high = U0
    low = U0
    for i in range(units.size):
        x = units[i]
        m = U(x) if x >= 0 else U0 - U(x)
        high += m >> U32
        low += m & LOW
    return high, low


@njit(nogil=True, cache=True, error_model="numpy", inline="always")
def rounded_quotient(a, b, divisor):
    """Compute a · b / divisor, rounded once to the nearest float; NaN if the divisor is 0.

    b and the divisor must not be negative.
    """
    if divisor == 0:
        return np.nan
    product = np.float64(a) * np.float64(b)
    if abs(a) < _EXACT and b < _EXACT and abs(product) < _EXACT_FLOAT and divisor < _EXACT:
        return product / np.float64(divisor)
    return _quotient_128(a, b, divisor)


@njit(nogil=True, cache=True)
def _quotient_128(a, b, divisor):
    """Compute the same by long division of the 128-bit product."""
    x = U(a) if a >= 0 else U0 - U(a)
    y = U(b)
    d = U(divisor)
    low = (x & LOW) * (y & LOW)
    middle = (x >> U32) * (y & LOW) + (low >> U32)
    cross = (x & LOW) * (y >> U32) + (middle & LOW)
    high = (x >> U32) * (y >> U32) + (middle >> U32) + (cross >> U32)
    low = (cross << U32) | (low & LOW)

    quotient = U0
    rest = U0
    exponent = 0
    sticky = U0
    full = U1 << U54
    for step in range(128):
        bit = (high >> U(63 - step)) & U1 if step < 64 else (low >> U(127 - step)) & U1
        rest = (rest << U1) | bit
        digit = U0
        if rest >= d:
            rest -= d
            digit = U1
        if quotient < full:
            quotient = (quotient << U1) | digit
        else:
            exponent += 1
            sticky |= digit
    while quotient < full and rest != U0:
        rest <<= U1
        quotient <<= U1
        exponent -= 1
        if rest >= d:
            rest -= d
            quotient |= U1
    if rest != U0:
        sticky = U1
    result = math.ldexp(np.float64(np.int64(quotient | sticky)), exponent)
    return result if a >= 0 else -result
