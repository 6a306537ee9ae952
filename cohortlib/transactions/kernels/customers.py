"""Kernels of the customer table: sums, layout and text."""

import numpy as np

from cohortlib.engine.jit import njit
from cohortlib.engine.kernels.money import rounded_quotient
from cohortlib.engine.kernels.words import IN_BUFFER, LOW, U1, U2, U4, U8, U9, U12, U30, U32, U255, U


@njit(nogil=True, cache=True)
def customer_sums(cohort, start, period, active, amount, since, first, total, recent, periods):
    """Sum up each user: active amount at age 0, amount in all and from period `since` on, number of active periods."""
    for u in range(cohort.size):
        first[u] = 0
        total[u] = 0
        recent[u] = 0
        periods[u] = 0
        for k in range(start[u], start[u + 1]):
            total[u] += amount[k]
            if period[k] >= since:
                recent[u] += amount[k]
            if active[k]:
                periods[u] += 1
                if period[k] == cohort[u]:
                    first[u] += amount[k]


@njit(nogil=True, cache=True)
def gather_text(rows, first, words, memory, bases, places, views, store, at):
    """Copy strings: view ``places[j]`` becomes that of row ``rows[j] - first``, with its own copy of long text.

    `words`, `memory` and `bases` are as for `fingerprint_strings`. Long text is written to `store` from `at` on, and
    buffer b begins at byte ``b << 30`` of the store. Returns the end of what was written.
    """
    at = U(at)
    for j in range(rows.size):
        i = U2 * (U(rows[j]) - U(first))
        head, tail = words[i], words[i + U1]
        length = head & LOW
        if length > U12:
            source = bases[np.int64(tail & LOW)] + (tail >> U32)
            for k in range(length):
                store[at + U(k)] = memory[source + U(k)]
            tail = (at >> U30) | ((at & IN_BUFFER) << U32)
            at += length
        views[U2 * U(places[j])], views[U2 * U(places[j]) + U1] = head, tail
    return at


@njit(nogil=True, cache=True)
def append_letters(which, views, store, begin, count, keys):
    """Shift `count` letters of some strings, from letter `begin` on, into the low bits of their keys.

    A letter takes nine bits: its byte + 1, or 0 after the end of the text. So keys sort as the strings do.
    """
    for j in range(which.size):
        i = U2 * U(which[j])
        head, tail = views[i], views[i + U1]
        length = head & LOW
        key = keys[j]
        for k in range(U(begin), U(begin) + U(count)):
            key <<= U9
            if k < length:
                if k < U4:
                    byte = head >> (U32 + U8 * k)
                elif length <= U12:
                    byte = tail >> (U8 * (k - U4))
                else:
                    byte = U(store[((tail & LOW) << U30) + (tail >> U32) + k])
                key |= (byte & U255) + U1
        keys[j] = key


@njit(nogil=True, cache=True)
def write_customers(
    users, places, counts, cohort, start, period, active, amount, dense, scale,
    factor, divisor, offsets, means, labels, names,
    cohorts, ids, ages, size, logo, money, retention, ltv,
):  # fmt: skip
    """Write the rows of some users to the columns of the customer table, in the order of `users`.

    User ``users[i]`` fills ``counts[i]`` rows from ``places[i]`` on: ages from 0 on if `dense`, else the active ages.
    The columns are the views of the cohort's label and of the user's name, the age, ``divisor[u]`` / scale, 1.0 if the
    user is active, amount / scale, amount · factor[u] / divisor[u], and the ltv: the user's own cumulative amount /
    scale, or ``means[offsets[cohort] + age]`` if there are `means`.
    """
    # The users are scattered in memory: touching them first, without other work, loads many cache lines at a time.
    touched = np.int64(0)
    for i in range(users.size):
        u = U(users[i])
        k = U(start[u])
        touched += cohort[u] + factor[u] + divisor[u] + np.int64(names[U2 * u])
        if k < U(start[u + U1]):
            touched += period[k] + amount[k] + np.int64(active[k])

    own = means.size == 0
    for i in range(users.size):
        u = U(users[i])
        at = U(places[i])
        end = at + U(counts[i])
        c = np.int64(cohort[u])
        label, label2 = labels[2 * c], labels[2 * c + 1]
        name, name2 = names[U2 * u], names[U2 * u + U1]
        above, below = factor[u], divisor[u]
        own_size = rounded_quotient(below, np.int64(1), scale)
        for row in range(at, end):
            cohorts[U2 * row], cohorts[U2 * row + U1] = label, label2
        for row in range(at, end):
            ids[U2 * row], ids[U2 * row + U1] = name, name2
        for row in range(at, end):
            size[row] = own_size
        if dense:
            # Fill all ages as inactive first.
            nothing = rounded_quotient(np.int64(0), above, below)
            for row in range(at, end):
                ages[row] = row - at
            for row in range(at, end):
                logo[row] = 0.0
            for row in range(at, end):
                money[row] = 0.0
            for row in range(at, end):
                retention[row] = nothing
            if not own:
                for row in range(at, end):
                    ltv[row] = means[U(offsets[c]) + (row - at)]
        k = U(start[u])
        stop = U(start[u + U1])
        cumulative = np.int64(0)
        running = 0.0
        row = at
        done = at
        while k < stop:
            age = period[k] - c
            value = amount[k]
            here = active[k]
            k += U1
            if k < stop and period[k] == age + c:  # a period may have two cells; the second is inactive
                value += amount[k]
                k += U1
            cumulative += value
            if dense:
                row = at + U(age)
            elif not here:
                continue
            ages[row] = age
            logo[row] = 1.0 if here else 0.0
            money[row] = rounded_quotient(value, np.int64(1), scale)
            retention[row] = rounded_quotient(value, above, below)
            if own:
                for before in range(done, row):
                    ltv[before] = running
                running = rounded_quotient(cumulative, np.int64(1), scale)
                ltv[row] = running
            else:
                ltv[row] = means[offsets[c] + age]
            row += U1
            done = row
        if own:
            for row in range(done, end):
                ltv[row] = running
    return touched
