"""Update the standing of users, and a state's sums, by new rows."""

import numpy as np
from numba import njit

from cohortlib.engine.kernels.words import BIT_OF, DE_BRUIJN, U0, U1, U2, U6, U58, U63, U


@njit(nogil=True, cache=True)
def advance(
    range_ends, starts, sizes, days, money, table, origin, above, signed, sums, words,
    cohort, last, amount, late, offsets, size, cells, firsts,
):  # fmt: skip
    """Update the standing of users by new rows, and the sums over (cohort, age) by the change.

    Parameters
    ----------
    range_ends, starts, sizes, days, money, table, origin, above
        As for `gather_grouped`.
    signed
        As for `net`.
    sums, words
        Zeros: one sum per period, one word per 64 periods. All zero again on return.
    cohort, last, amount
        The standing of each user, updated: the period of the cohort and of the last row, both −1 if there is none, and
        the net of that last period.
    late
        Output: whether any row of the user came before the last period. The standing of these users is not changed.
        With −1 as last period, as when a user is recomputed from all rows, no row is late.
    offsets, size, cells, firsts
        As for `histogram`; every cohort has cells.
    """
    for u in range(U(range_ends.size)):
        first = U(words.size)
        final = U0
        for s in range(U(range_ends[u - U1]) if u > U0 else U0, U(range_ends[u])):
            begin = U(starts[s])
            for i in range(begin, begin + U(sizes[s])):
                x = money[i]
                if x > above:
                    t = U(table[U(np.int64(days[i]) - origin)])
                    sums[t] += x
                    words[t >> U6] |= U1 << (t & U63)
                    first = min(first, t >> U6)
                    final = max(final, t >> U6)
        late[u] = False
        for w in range(first, final + U1):
            bits = words[w]
            while bits != U0:
                lowest = bits & (U0 - bits)
                bits ^= lowest
                t = np.int32((w << U6) + U(BIT_OF[(lowest * DE_BRUIJN) >> U58]))
                if t < last[u]:
                    late[u] = True
        for w in range(first, final + U1):
            bits = words[w]
            words[w] = U0
            while bits != U0:
                lowest = bits & (U0 - bits)
                bits ^= lowest
                t = np.int32((w << U6) + U(BIT_OF[(lowest * DE_BRUIJN) >> U58]))
                x = sums[U(t)]
                sums[U(t)] = 0
                if late[u]:
                    continue
                before = amount[u] if t == last[u] else np.int64(0)
                after = before + x
                if cohort[u] < 0 and after > 0:
                    cohort[u] = t
                    size[U(t)] += 1
                    before = np.int64(0)
                if cohort[u] == t and after <= 0:
                    # Refunds cancel the first payments and no later row exists: the user leaves the cohort.
                    at = U2 * U(offsets[U(t)])
                    cells[at] -= 1
                    cells[at + U1] -= before
                    firsts[U(t)] -= before
                    size[U(t)] -= 1
                    cohort[u] = np.int32(-1)
                elif cohort[u] >= 0:
                    at = U2 * U(offsets[U(cohort[u])] + np.int64(t - cohort[u]))
                    counted = (after if after > 0 or signed else np.int64(0)) - (
                        before if before > 0 or signed else np.int64(0)
                    )
                    cells[at] += np.int64(after > 0) - np.int64(before > 0)
                    cells[at + U1] += counted
                    if t == cohort[u]:
                        firsts[U(t)] += counted
                last[u] = t
                amount[u] = after
