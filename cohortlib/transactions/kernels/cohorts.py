"""Write the columns of a cohort table."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cohortlib.engine.jit import njit
from cohortlib.engine.kernels.money import rounded_quotient
from cohortlib.engine.kernels.words import U1, U2, U


class CohortColumns(NamedTuple):
    """The columns of a cohort table, with the cohort as its period."""

    cohort: NDArray[np.uint32]
    period: NDArray[np.int64]
    cohort_size: NDArray[np.int64]
    cohort_size_amount: NDArray[np.float64]
    active_users: NDArray[np.int64]
    logo_retention: NDArray[np.float64]
    amount: NDArray[np.float64]
    amount_retention: NDArray[np.float64]
    ltv: NDArray[np.float64]


@njit(nogil=True, cache=True)
def write_cohorts(begin, end, shown, places, span, sums, scale, columns):
    """Write cohorts ``shown[begin]`` to before ``shown[end]``, of `SumArrays`, which begin in row ``places[k]``.

    Each quotient is rounded once; it is NaN where the divisor is 0.
    """
    offsets, sizes, cells, firsts = sums
    cohort, period, size, size_amount, users, logo, amount, retention, ltv = columns
    for k in range(begin, end):
        c = shown[k]
        total = np.int64(0)
        count, first = sizes[c], firsts[c]
        start = rounded_quotient(first, 1, scale)
        for age in range(span - c):
            row, cell = U(places[k] + age), U2 * U(offsets[c] + age)
            active, units = cells[cell], cells[cell + U1]
            total += units
            cohort[row], period[row], size[row], users[row] = c, age, count, active
            size_amount[row] = start
            logo[row] = rounded_quotient(active, 1, count)
            amount[row] = rounded_quotient(units, 1, scale)
            retention[row] = rounded_quotient(units, 1, first)
            ltv[row] = rounded_quotient(total, 1, count * scale)
