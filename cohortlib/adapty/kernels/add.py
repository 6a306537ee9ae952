"""Add the records of one user to the sums of renewals, days and the forecast."""

import numpy as np
from numba import njit

from cohortlib.adapty.kernels.records import (
    ACTIVATED,
    CHAINS,
    FAR,
    INSTALLS,
    KIND,
    LONGEST_TRIAL,
    NET,
    NONE,
    PAID,
    PAYERS,
    PROCEEDS,
    REVENUE,
    RUNNING,
    SUBSCRIBERS,
    SUBSCRIPTIONS,
    U0,
    U,
)


@njit(nogil=True, cache=True)
def add_renewals(count, rows, stamps, cells, heads, scratch):
    """Add the users of a settled partition to the sums over (segment, ordinal − 1).

    `cells` has a column more than the farthest ordinal. `stamps` is int64, by column, 0 at first, and goes with
    `scratch`. Subscribers, subscriptions and money are those at the ordinal; payers enter at their first and leave at
    the first ordinal refunded; activated users enter at 0; running chains stand at their last ordinal.
    """
    users, position, places, chain_stamps = scratch.users, scratch.position, scratch.places, scratch.stamps
    stamp = chain_stamps[-1]
    end = np.int64(0)
    for u in range(count):
        user = users[U(u)]
        begin = end
        end = user.end
        s = np.int64(user.segment)
        if s < 0:
            continue
        if user.counted:
            heads[INSTALLS, U(s)] += 1
        stamp += 1
        paid = FAR
        refunded = FAR
        activated = False
        for k in range(begin, end):
            place = places[U(k)]
            if not place.use:
                continue
            row = rows[U(position[U(k)])]
            kind = row.marks & KIND
            if place.running:
                cells[RUNNING, U(s), U(place.ordinal)] += 1
            if kind == 0:
                activated = True
                continue
            column = np.int64(place.ordinal) - 1
            _add_money(cells, s, column, row, kind)
            if kind > 4:
                refunded = min(refunded, column)
                continue
            paid = min(paid, column)
            if stamps[U(column)] != stamp:
                stamps[U(column)] = stamp
                cells[SUBSCRIBERS, U(s), U(column)] += 1
            if kind == 4:
                cells[SUBSCRIPTIONS, U(s), U(column)] += 1
                heads[CHAINS, U(s)] += 1
                continue
            activated = True
            if chain_stamps[U(place.chain)] != stamp:
                chain_stamps[U(place.chain)] = stamp
                heads[CHAINS, U(s)] += 1
            if place.fresh:
                cells[SUBSCRIPTIONS, U(s), U(column)] += 1
        if activated:
            cells[ACTIVATED, U(s), U0] += 1
        if paid < FAR:
            heads[PAID, U(s)] += 1
        if paid < refunded:
            cells[PAYERS, U(s), U(paid)] += 1
            if refunded < FAR:
                cells[PAYERS, U(s), U(refunded)] -= 1
    chain_stamps[-1] = stamp


@njit(nogil=True, cache=True)
def _add_money(cells, s, column, row, kind):
    """Add the money of a payment, or take that of a refund away."""
    revenue, proceeds, net = row.revenue, row.proceeds, row.net
    if kind > 4:
        revenue, proceeds, net = -abs(revenue), -abs(proceeds), -abs(net)
    cells[REVENUE, U(s), U(column)] += revenue
    cells[PROCEEDS, U(s), U(column)] += proceeds
    cells[NET, U(s), U(column)] += net


# The column of an age in days, which is never below 0; the last where it is beyond all that have one.
@njit(nogil=True, cache=True, inline="always")
def _column(day, install, column_of_age, width):
    age = max(np.int64(day) - np.int64(install), np.int64(0))
    return np.int64(column_of_age[U(age)]) if age < column_of_age.size else np.int64(width - 1)


@njit(nogil=True, cache=True)
def add_days(count, rows, column_of_age, cells, heads, scratch):
    """Add the users of a settled partition to the sums over (segment, age).

    ``column_of_age[a]`` is the first column that counts what happened at age a; older than that is the last column.
    Everything stands at the column from which on it counts: what is refunded leaves there again.
    """
    users, position, places, chain_paid, chain_left = (
        scratch.users, scratch.position, scratch.places, scratch.last, scratch.last_at,
    )  # fmt: skip
    width = cells.shape[2]
    end = np.int64(0)
    for u in range(count):
        user = users[U(u)]
        begin = end
        end = user.end
        s = np.int64(user.segment)
        if s < 0:
            continue
        if user.counted:
            heads[INSTALLS, U(s)] += 1
        for k in range(begin, end):
            chain_paid[U(k - begin)] = width
            chain_left[U(k - begin)] = width
            places[U(k)].left = width
        paid = width
        refunded = width
        activated = width
        chains = np.int64(0)
        for k in range(begin, end):
            place = places[U(k)]
            if not place.use:
                continue
            row = rows[U(position[U(k)])]
            kind = row.marks & KIND
            column = _column(row.day, user.install, column_of_age, width)
            c = np.int64(place.chain)
            if kind <= 3:
                activated = min(activated, column)
            if kind == 0:
                continue
            _add_money(cells, s, column, row, kind)
            if kind <= 4:
                paid = min(paid, column)
                if kind < 4:
                    chain_paid[U(c)] = min(np.int64(chain_paid[U(c)]), column)
                    chains = max(chains, c + 1)
                continue
            refunded = min(refunded, column)
            if place.target >= 0:
                payment = places[U(place.target)]
                if rows[U(position[U(place.target)])].marks & KIND == 4:
                    payment.left = min(np.int64(payment.left), column)
                    continue
                c = np.int64(payment.chain)
            chain_left[U(c)] = min(np.int64(chain_left[U(c)]), column)
            chains = max(chains, c + 1)
        for k in range(begin, end):
            place = places[U(k)]
            row = rows[U(position[U(k)])]
            if place.use and row.marks & KIND == 4:
                _add_stay(cells, s, _column(row.day, user.install, column_of_age, width), np.int64(place.left))
        for c in range(chains):
            _add_stay(cells, s, np.int64(chain_paid[U(c)]), np.int64(chain_left[U(c)]))
        if paid < refunded:
            cells[SUBSCRIBERS, U(s), U(paid)] += 1
            if refunded < width:
                cells[SUBSCRIBERS, U(s), U(refunded)] -= 1
        if activated < width:
            cells[ACTIVATED, U(s), U(activated)] += 1


@njit(nogil=True, cache=True)
def _add_stay(cells, s, paid, left):
    """Add a subscription from the column in which it was paid to that in which it is left, if it lasts."""
    if paid < left:
        cells[SUBSCRIPTIONS, U(s), U(paid)] += 1
        if left < cells.shape[2]:
            cells[SUBSCRIPTIONS, U(s), U(left)] -= 1


@njit(nogil=True, cache=True)
def add_ladder(count, rows, extras, column_of_age, money, payers, paid, trial, scratch):
    """Add the users of a settled partition to the sums over (duration, segment, age) that a forecast grows from.

    Ages are as in `add_days`. `money` takes revenue, refunds at their own age under the duration of their payment;
    `payers` takes users at their first payment of the duration, refunded or not; `paid`, by segment and age, at their
    first of all; ``trial[0]`` becomes the longest trial of a member, in days. Without durations all are 0.
    """
    users, position, places = scratch.users, scratch.position, scratch.places
    width = money.shape[2]
    first = np.empty(money.shape[0], np.int64)
    end = np.int64(0)
    for u in range(count):
        user = users[U(u)]
        begin = end
        end = user.end
        s = np.int64(user.segment)
        if s < 0:
            continue
        for d in range(first.size):
            first[d] = width
        for k in range(begin, end):
            place = places[U(k)]
            if not place.use:
                continue
            i = U(position[U(k)])
            row = rows[i]
            kind = row.marks & KIND
            if kind == 0:
                if row.expiry != NONE:
                    length = np.int64(row.expiry) - np.int64(row.day)
                    if length <= LONGEST_TRIAL:
                        trial[0] = max(trial[0], length)
                continue
            own = i if place.target < 0 else U(position[U(place.target)])
            d = np.int64(extras[own].duration) if extras.size else np.int64(0)
            column = _column(row.day, user.install, column_of_age, width)
            if kind > 4:
                money[d, s, column] -= abs(row.revenue)
            else:
                money[d, s, column] += row.revenue
                first[d] = min(first[d], column)
        soonest = width
        for d in range(first.size):
            if first[d] < width:
                payers[d, s, first[d]] += 1
                soonest = min(soonest, first[d])
        if soonest < width:
            paid[s, soonest] += 1
