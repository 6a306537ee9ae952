"""Add the events of users to the sums of renewals, of days, and of predictions."""

import numpy as np

from cohortlib.adapty.kernels.records import (
    ACTIVATED,
    CHAINS,
    FAR,
    INSTALLS,
    KIND,
    LONGEST_TRIAL,
    NET,
    NONE,
    ONE_TIME,
    PAID,
    PAYERS,
    PROCEEDS,
    REFUND,
    REVENUE,
    RUNNING,
    SUBSCRIBERS,
    SUBSCRIPTIONS,
    TRIAL,
    U0,
    U,
)
from cohortlib.engine.jit import njit


@njit(nogil=True, cache=True)
def add_renewals(count, rows, stamps, cells, heads, scratch):
    """Add the users of a linked and numbered partition to the sums over (segment, ordinal − 1).

    Subscribers, subscriptions and money count at their ordinal. Payers are +1 at their first ordinal and −1 at the
    first ordinal refunded; activated users are +1 at 0; running chains count at their last ordinal.

    `cells` has one column more than the largest ordinal. `stamps` (int64, by column, initially 0) marks the columns
    that the current user has counted in; it must be used with the same `scratch` throughout.
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
            if kind == TRIAL:
                activated = True
                continue
            column = np.int64(place.ordinal) - 1
            _add_money(cells, s, column, row, kind)
            if kind >= REFUND:
                refunded = min(refunded, column)
                continue
            paid = min(paid, column)
            if stamps[U(column)] != stamp:
                stamps[U(column)] = stamp
                cells[SUBSCRIBERS, U(s), U(column)] += 1
            if kind == ONE_TIME:
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
    """Add the money of a payment, or subtract that of a refund."""
    revenue, proceeds, net = row.revenue, row.proceeds, row.net
    if kind >= REFUND:
        revenue, proceeds, net = -abs(revenue), -abs(proceeds), -abs(net)
    cells[REVENUE, U(s), U(column)] += revenue
    cells[PROCEEDS, U(s), U(column)] += proceeds
    cells[NET, U(s), U(column)] += net


@njit(nogil=True, cache=True, inline="always")
def _column(day, install, column_of_age, width):
    """Return the column of a day: days before the install count as age 0, ages beyond the table in the last column."""
    age = max(np.int64(day) - np.int64(install), np.int64(0))
    return np.int64(column_of_age[U(age)]) if age < column_of_age.size else np.int64(width - 1)


@njit(nogil=True, cache=True)
def add_days(count, rows, column_of_age, cells, heads, scratch):
    """Add the users of a linked and numbered partition to the sums over (segment, age).

    ``column_of_age[a]`` is the first column that includes events at age a; ages beyond it belong to the last column.
    Cells hold changes, to be cumulated over columns: +1 where something begins to count, −1 where a refund ends it.
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
            if kind < ONE_TIME:
                activated = min(activated, column)
            if kind == TRIAL:
                continue
            _add_money(cells, s, column, row, kind)
            if kind < REFUND:
                paid = min(paid, column)
                if kind < ONE_TIME:
                    chain_paid[U(c)] = min(np.int64(chain_paid[U(c)]), column)
                    chains = max(chains, c + 1)
                continue
            refunded = min(refunded, column)
            if place.target >= 0:
                payment = places[U(place.target)]
                if rows[U(position[U(place.target)])].marks & KIND == ONE_TIME:
                    payment.left = min(np.int64(payment.left), column)
                    continue
                c = np.int64(payment.chain)
            chain_left[U(c)] = min(np.int64(chain_left[U(c)]), column)
            chains = max(chains, c + 1)
        for k in range(begin, end):
            place = places[U(k)]
            row = rows[U(position[U(k)])]
            if place.use and row.marks & KIND == ONE_TIME:
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
    """Count a subscription from the column of its first payment up to that of its refund."""
    if paid < left:
        cells[SUBSCRIPTIONS, U(s), U(paid)] += 1
        if left < cells.shape[2]:
            cells[SUBSCRIPTIONS, U(s), U(left)] -= 1


@njit(nogil=True, cache=True)
def add_ladder(count, rows, extras, column_of_age, starts, money, payers, paid, trial, scratch):
    """Add the users of a linked and numbered partition to the sums over (duration, segment, age) of predictions.

    Ages are as in `add_days`; with `starts`, the first day of each segment's period, they count from it instead of from
    the install. `money` is revenue; a refund counts at its own age, under the duration of its payment.
    `payers` counts users at their first payment of the duration, refunded or not; `paid`, by segment and age, at their
    first payment of all. ``trial[0]`` becomes the longest trial of a user in a segment, in days. Without durations the
    code of every duration is 0.
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
        origin = starts[U(s)] if starts.size else np.int64(user.install)
        for d in range(first.size):
            first[d] = width
        for k in range(begin, end):
            place = places[U(k)]
            if not place.use:
                continue
            i = U(position[U(k)])
            row = rows[i]
            kind = row.marks & KIND
            if kind == TRIAL:
                if row.expiry != NONE:
                    length = np.int64(row.expiry) - np.int64(row.day)
                    if length <= LONGEST_TRIAL:
                        trial[0] = max(trial[0], length)
                continue
            own = i if place.target < 0 else U(position[U(place.target)])
            d = np.int64(extras[own].duration) if extras.size else np.int64(0)
            column = _column(row.day, origin, column_of_age, width)
            if kind >= REFUND:
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
