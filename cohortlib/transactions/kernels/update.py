"""Advance a state by new rows."""

import numpy as np
from numba import njit

from cohortlib.engine.kernels.words import BIT_OF, DE_BRUIJN, U0, U1, U2, U6, U58, U63, U


@njit(nogil=True, cache=True)
def advance(
    stretches, starts, sizes, days, money, table, origin, above, signed, sums, words,
    cohort, last, amount, late, offsets, size, cells, firsts,
):  # fmt: skip
    """Bring the standing of users up to date with rows, and add to the sums over (cohort, age) what they change.

    Parameters
    ----------
    stretches, starts, sizes, days, money, table, origin, above
        As for `side_by_side`.
    signed
        As for `net`.
    sums, words
        Zeros for every period, and one for every 64 of them; all zero again at the end.
    cohort, last, amount
        Of each user, before and after: the period of the cohort and of the last row, both −1 where there is none, and
        the net of that last period.
    late
        Written: whether any of the rows came before the last period. These users are left as they are: whoever has all
        of their rows begins anew with them, and is never late.
    offsets, size, cells, firsts
        As for `histogram`; every cohort has cells.
    """
    for u in range(U(stretches.size)):
        first = U(words.size)
        final = U0
        for s in range(U(stretches[u - U1]) if u > U0 else U0, U(stretches[u])):
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
                    # The first payments are taken back, and nothing came later: there is no cohort any more.
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
