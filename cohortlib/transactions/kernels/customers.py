"""Kernels of the customer table: the sums of each customer, and the rows."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cohortlib.engine.jit import njit
from cohortlib.engine.kernels.money import rounded_quotient
from cohortlib.engine.kernels.words import U1, U

_ONE = np.int64(1)


class CustomerSums(NamedTuple):
    """Sums of each customer.

    `first` is the active amount at age 0, `total` the amount in all, `recent` that of the trailing 12 months, and
    `active` the number of active periods.
    """

    first: NDArray[np.int64]
    total: NDArray[np.int64]
    recent: NDArray[np.int64]
    active: NDArray[np.int64]


class Comparison(NamedTuple):
    """What each customer is compared with.

    Its amount_retention is amount · `factor` / `divisor`. The ltv of cohort c at age a is ``means[offsets[c] + a]``; if
    there are no means, it is the customer's own.
    """

    factor: NDArray[np.int64]
    divisor: NDArray[np.int64]
    offsets: NDArray[np.int64]
    means: NDArray[np.float64]


class CustomerRows(NamedTuple):
    """Columns of the customer table. `customer` is the place of the row's customer in the order of the table."""

    customer: NDArray[np.uint32]
    age: NDArray[np.int64]
    size: NDArray[np.float64]
    logo: NDArray[np.float64]
    amount: NDArray[np.float64]
    retention: NDArray[np.float64]
    ltv: NDArray[np.float64]


# Kernels take the arrays out of their tuples before a loop: numba counts a reference each time that it is done inside.


@njit(nogil=True, cache=True)
def customer_sums(begin, end, users, since, sums):
    """Sum up the users from `begin` to before `end`; recent periods are those from `since` on."""
    cohort, start, period, active, amount = users
    firsts, totals, recents, actives = sums
    for u in range(U(begin), U(end)):
        first, total, recent, count = np.int64(0), np.int64(0), np.int64(0), np.int64(0)
        for k in range(U(start[u]), U(start[u + U1])):
            total += amount[k]
            if period[k] >= since:
                recent += amount[k]
            if active[k]:
                count += 1
                if period[k] == cohort[u]:
                    first += amount[k]
        firsts[u], totals[u], recents[u], actives[u] = first, total, recent, count


@njit(nogil=True, cache=True)
def _touch(customers, users, comparison):
    """Read what the rows of some customers need, without other work, which loads many cache lines at a time."""
    cohort, start, period, active, amount = users
    factor, divisor = comparison.factor, comparison.divisor
    touched = np.int64(0)
    for i in range(customers.size):
        u = U(customers[i])
        k = U(start[u])
        touched += cohort[u] + factor[u] + divisor[u]
        last = U(start[u + U1])
        if k < last:
            touched += period[k] + amount[k] + np.int64(active[k]) + period[last - U1] + amount[last - U1]
    return touched


@njit(nogil=True, cache=True, error_model="numpy")
def write_customers(begin, end, chosen, places, users, comparison, dense, scale, rows):
    """Write the rows of the customers from `begin` to before `end`: ages from 0 on if `dense`, else the active ages.

    Customer i of the table is user ``chosen[i]``, and has the rows ``places[i]`` to ``places[i + 1]``.
    """
    touched = _touch(chosen[begin:end], users, comparison)
    cohort, start, period, active, amount = users
    factor, divisor, offsets, means = comparison
    customer, ages, sizes, logos, amounts, retentions, ltvs = rows
    own = means.size == 0
    for i in range(U(begin), U(end)):
        u = U(chosen[i])
        at, stop = U(places[i]), U(places[i + U1])
        c, above, below = np.int64(cohort[u]), factor[u], divisor[u]
        size = rounded_quotient(below, _ONE, scale)
        for row in range(at, stop):
            customer[row] = np.uint32(i)
            sizes[row] = size
        if dense:
            # Write all ages as inactive first. NaN stands for the ltv of the age before.
            nothing = rounded_quotient(np.int64(0), above, below)
            for row in range(at, stop):
                ages[row], logos[row], amounts[row], retentions[row] = np.int64(row - at), 0.0, 0.0, nothing
                ltvs[row] = np.nan if own else means[U(offsets[c]) + (row - at)]
        k, last = U(start[u]), U(start[u + U1])
        cumulative = np.int64(0)
        row = at
        while k < last:
            age, here, value = period[k] - c, active[k], amount[k]
            k += U1
            if k < last and period[k] == age + c:  # a period may have two cells; the second is inactive
                value += amount[k]
                k += U1
            cumulative += value
            if dense:
                row = at + U(age)
            elif not here:
                continue
            ages[row] = age
            logos[row] = 1.0 if here else 0.0
            amounts[row] = rounded_quotient(value, _ONE, scale)
            retentions[row] = rounded_quotient(value, above, below)
            ltvs[row] = rounded_quotient(cumulative, _ONE, scale) if own else means[U(offsets[c] + age)]
            row += U1
        if dense and own:
            running = 0.0
            for row in range(at, stop):
                running = running if np.isnan(ltvs[row]) else ltvs[row]
                ltvs[row] = running
    return touched
