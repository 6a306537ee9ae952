"""Add the users of each period up by what they did in the period before."""

import numpy as np

from cohortlib.engine.jit import njit
from cohortlib.engine.kernels.words import U

# The entries of a period: users, then amounts.
NEW, RETAINED, RESURRECTED = U(0), U(1), U(2)
NEW_AMOUNT, RETAINED_AMOUNT, RESURRECTED_AMOUNT = U(3), U(4), U(5)
EXPANSION, CONTRACTION, REFUNDED = U(6), U(7), U(8)
ENTRIES = 9


@njit(nogil=True, cache=True)
def account(start, period, active, amount, sums):
    """Add users to the sums of each period.

    User u has the cells ``start[u]`` to ``start[u + 1]``, by period. `sums` has ENTRIES adjacent entries per period.
    Users who leave are not counted: they are those of the period before that were not retained.
    """
    for u in range(start.size - 1):
        seen = False
        last = np.int64(0)
        before = np.int64(0)
        for k in range(U(start[u]), U(start[u + 1])):
            t, value = np.int64(period[k]), amount[k]
            at = U(ENTRIES) * U(t)
            if not active[k]:
                sums[at + REFUNDED] += value
                continue
            if not seen:
                sums[at + NEW] += 1
                sums[at + NEW_AMOUNT] += value
            elif t - last > 1:
                sums[at + RESURRECTED] += 1
                sums[at + RESURRECTED_AMOUNT] += value
            else:
                kept = min(before, value)
                sums[at + RETAINED] += 1
                sums[at + RETAINED_AMOUNT] += kept
                sums[at + EXPANSION] += value - kept
                sums[at + CONTRACTION] += before - kept
            seen = True
            last, before = t, value
