"""Net the rows of users again under a cause, and measure how far the sums are from the remote ones."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cohortlib.engine.jit import njit

NET, SIGNED, DROP = 0, 1, 2  # refunds
CLIP, SKIP = 0, 1  # activity before the joined period


class Plan(NamedTuple):
    """What decides the periods and cohorts of rows that are sorted by user and instant."""

    starts: NDArray[np.int64]  # the rows of user u are starts[u] to starts[u + 1]
    at: NDArray[np.int64]  # instants
    units: NDArray[np.int64]  # amounts
    weight: NDArray[np.int8]  # how often a row counts
    edges: NDArray[np.int64]  # period p begins at edges[p] and ends before edges[p + 1]; other rows are ignored
    refunds: int
    joined: NDArray[np.int64]  # the period that each user joined in, -1 without one; empty if no user has one
    early: int  # CLIP or SKIP


class Target(NamedTuple):
    """The remote sums by cohort and age: users who are active, and their amounts. NaN where unknown."""

    count: NDArray[np.float64]
    money: NDArray[np.float64]
    unit: float  # of money
    slack: float  # two amounts that are so far apart are equal


@njit(nogil=True, cache=True)
def net_user(u, plan, period, amount, active):
    """Net one user's rows. Returns the cohort (-1 without one) and the number of cells written."""
    at, units, weight, edges = plan.at, plan.units, plan.weight, plan.edges
    i, end = plan.starts[u], plan.starts[u + 1]
    cohort = np.int64(-1)
    if plan.joined.size:
        cohort = plan.joined[u]
    known = cohort >= 0
    cells = 0
    early = 0
    p = np.int64(-1)
    last = edges.size - 1
    if i < end:
        p = np.searchsorted(edges, at[i], side="right") - 1
    while i < end:
        while p < last and at[i] >= edges[p + 1]:
            p += 1
        if p >= last:
            break
        net = np.int64(0)
        while i < end and at[i] < edges[p + 1]:
            if weight[i] != 0 and (plan.refunds != 2 or units[i] > 0):
                net += units[i] * weight[i]
            i += 1
        if p < 0:
            continue
        if cohort < 0 and net > 0:
            cohort = p
        if cohort < 0 or (net <= 0 and (plan.refunds != 1 or net == 0)):
            continue
        if known and p < cohort:
            if plan.early == 0 and net > 0:
                early += net
            continue
        if early > 0:
            period[cells], amount[cells], active[cells] = cohort, early, True
            if p == cohort:
                amount[cells] += net
            cells += 1
            early = np.int64(0)
            if p == cohort:
                continue
        period[cells], amount[cells], active[cells] = p, net, net > 0
        cells += 1
    if early > 0:
        period[cells], amount[cells], active[cells] = cohort, early, True
        cells += 1
    return cohort, cells


@njit(nogil=True, cache=True)
def net_all(plan, cohort, ends, period, amount, active):
    """Net all users: their cohorts, and their cells up to ends[u]. Returns the number of cells."""
    k = 0
    for u in range(plan.starts.size - 1):
        cohort[u], cells = net_user(u, plan, period[k:], amount[k:], active[k:])
        k += cells
        ends[u] = k
    return k


@njit(nogil=True, cache=True)
def add_cells(cohort, ends, period, amount, active, count, money, size):
    """Add users to the sums by cohort and age."""
    k = 0
    for u in range(cohort.size):
        c = cohort[u]
        if c >= 0 and c < size.size:
            size[c] += 1
        while k < ends[u]:
            if c >= 0 and c < size.size:
                count[c, period[k] - c] += active[k]
                money[c, period[k] - c] += amount[k]
            k += 1


@njit(nogil=True, cache=True)
def cell_bits(target, c, a, count, money):
    """Return the bits that state a remote cell to someone who knows the local one."""
    bits = 0.0
    if not np.isnan(target.count[c, a]):
        bits += np.log2(1.0 + 2.0 * abs(target.count[c, a] - count))
    if not np.isnan(target.money[c, a]):
        gap = abs(target.money[c, a] - money)
        if gap > target.slack:
            bits += np.log2(1.0 + 2.0 * gap / target.unit)
    return bits


@njit(nogil=True, cache=True)
def table_bits(target, count, money):
    """Return the bits of all cells."""
    bits = 0.0
    for c in range(count.shape[0]):
        for a in range(count.shape[1]):
            bits += cell_bits(target, c, a, count[c, a], money[c, a])
    return bits


@njit(nogil=True, cache=True)
def users_of(starts):
    """Return the user of each row."""
    user = np.empty(starts[-1], np.int64)
    for u in range(starts.size - 1):
        user[starts[u] : starts[u + 1]] = u
    return user


@njit(nogil=True, cache=True)
def _apply(c, a, count, money, new_count, new_money, seen, touched, size):
    if not seen[c, a]:
        seen[c, a] = True
        touched[size, 0], touched[size, 1] = c, a
        size += 1
    new_count[c, a] += count
    new_money[c, a] += money
    return size


@njit(nogil=True, cache=True)
def _cell_buffers(plan):
    """Return room for the cells of any user: periods, amounts, and whether the user is active."""
    longest = np.diff(plan.starts).max() + 2 if plan.starts.size > 1 else 2
    return np.empty(longest, np.int64), np.empty(longest, np.int64), np.empty(longest, np.bool_)


@njit(nogil=True, cache=True)
def _changeable(plan, alone):
    """Return a plan whose weights and amounts can be changed; with `alone` no row counts yet."""
    weight = plan.weight.copy()
    if alone:
        weight[:] = 0
    return Plan(plan.starts, plan.at, plan.units.copy(), weight, plan.edges, plan.refunds, plan.joined, plan.early)


@njit(nogil=True, cache=True)
def _change_rows(plan, changed, rows, weight, factor):
    """Multiply the weights of a group of rows, and their amounts, in `changed`."""
    for r in rows:
        changed.weight[r] = plan.weight[r] * weight
        if factor != 1.0:
            changed.units[r] = np.int64(np.rint(plan.units[r] * factor))


@njit(nogil=True, cache=True)
def _restore_rows(plan, changed, rows, alone):
    """Undo `_change_rows`."""
    for r in rows:
        changed.weight[r] = 0 if alone else plan.weight[r]
        changed.units[r] = plan.units[r]


@njit(nogil=True, cache=True)
def screen_groups(plan, target, before, ends, old_period, old_amount, old_active, group_ends, rows, weights, alone,
                  factors):  # fmt: skip
    """Measure each group of rows: how the bits of the table change if the rows' weights are changed.

    Parameters
    ----------
    before, ends, old_period, old_amount, old_active
        The output of `net_all`: cohorts and cells without the change.
    group_ends, rows
        The groups: the rows of group g, ascending, end at group_ends[g].
    weights
        The new weight of the rows of each group; with `factors` not 1 their amounts are multiplied as well.
    alone
        Only the rows of the group count at all.

    Returns
    -------
    bits
        By group, the bits of the table under the change.
    """
    periods = plan.edges.size - 1
    count, money = np.zeros((periods, periods)), np.zeros((periods, periods))
    size = np.zeros(periods, np.int64)
    if not alone:
        add_cells(before, ends, old_period, old_amount, old_active, count, money, size)
    base = table_bits(target, count, money)
    new_count, new_money = count.copy(), money.copy()
    seen = np.zeros((periods, periods), np.bool_)
    touched = np.empty((periods * periods, 2), np.int64)
    period, amount, active = _cell_buffers(plan)
    changed = _changeable(plan, alone)
    user_of = users_of(plan.starts)
    result = np.empty(group_ends.size)
    k = 0
    for g in range(group_ends.size):
        begin = k
        _change_rows(plan, changed, rows[begin : group_ends[g]], weights[g], factors[g])
        n = 0
        while k < group_ends[g]:
            u = user_of[rows[k]]
            while k < group_ends[g] and user_of[rows[k]] == u:
                k += 1
            if not alone and before[u] >= 0:
                for j in range(ends[u - 1] if u else 0, ends[u]):
                    n = _apply(before[u], old_period[j] - before[u], -1.0 * old_active[j], -1.0 * old_amount[j],
                               new_count, new_money, seen, touched, n)  # fmt: skip
            cohort, cells = net_user(u, changed, period, amount, active)
            for j in range(cells):
                n = _apply(cohort, period[j] - cohort, 1.0 * active[j], 1.0 * amount[j],
                           new_count, new_money, seen, touched, n)  # fmt: skip
        change = 0.0
        for t in range(n):
            c, a = touched[t, 0], touched[t, 1]
            change += cell_bits(target, c, a, new_count[c, a], new_money[c, a])
            change -= cell_bits(target, c, a, count[c, a], money[c, a])
            new_count[c, a], new_money[c, a], seen[c, a] = count[c, a], money[c, a], False
        result[g] = base + change
        _restore_rows(plan, changed, rows[begin : group_ends[g]], alone)
    return result


class UserTarget(NamedTuple):
    """The remote cells of each local user, up to ends[u], by period; users that are not `counted` do not matter."""

    counted: NDArray[np.bool_]
    ends: NDArray[np.int64]
    period: NDArray[np.int64]
    amount: NDArray[np.float64]
    last: int  # cells of later periods do not matter
    by_money: bool  # else only whether a user is active
    unit: float
    slack: float


@njit(nogil=True, cache=True)
def user_bits(target, u, period, amount, active, cells):
    """Return the bits that state a user's remote cells to someone who knows the local ones."""
    if not target.counted[u]:
        return 0.0
    j, end = target.ends[u - 1] if u else 0, target.ends[u]
    i = 0
    bits = 0.0
    while i < cells or j < end:
        local, remote = 0.0, 0.0
        p = target.last + 1
        if i < cells:
            p = period[i]
        if j < end:
            p = min(p, target.period[j])
        if i < cells and period[i] == p:
            local = 1.0 * amount[i] if target.by_money else 1.0 * active[i]
            i += 1
        if j < end and target.period[j] == p:
            remote = target.amount[j]
            j += 1
        gap = abs(remote - local)
        if p <= target.last and gap > target.slack:
            bits += np.log2(1.0 + 2.0 * gap / target.unit)
    return bits


@njit(nogil=True, cache=True)
def all_user_bits(target, ends, period, amount, active, bits):
    """Compute the bits of each user."""
    k = 0
    for u in range(ends.size):
        bits[u] = user_bits(target, u, period[k:], amount[k:], active[k:], ends[u] - k)
        k = ends[u]


@njit(nogil=True, cache=True)
def screen_users(plan, target, old_bits, group_ends, rows, weights, alone, factors):
    """Measure each group of rows as `screen_groups` does, against the remote cells of each user."""
    period, amount, active = _cell_buffers(plan)
    old = old_bits
    if alone:
        old = np.empty(old_bits.size)
        for u in range(old.size):
            old[u] = user_bits(target, u, period, amount, active, 0)
    base = old.sum()
    changed = _changeable(plan, alone)
    user_of = users_of(plan.starts)
    result = np.empty(group_ends.size)
    k = 0
    for g in range(group_ends.size):
        begin = k
        _change_rows(plan, changed, rows[begin : group_ends[g]], weights[g], factors[g])
        change = 0.0
        while k < group_ends[g]:
            u = user_of[rows[k]]
            while k < group_ends[g] and user_of[rows[k]] == u:
                k += 1
            _, cells = net_user(u, changed, period, amount, active)
            change += user_bits(target, u, period, amount, active, cells) - old[u]
        result[g] = base + change
        _restore_rows(plan, changed, rows[begin : group_ends[g]], alone)
    return result
