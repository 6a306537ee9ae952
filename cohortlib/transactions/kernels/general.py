"""Add users to the cells of the general table: (segment, cohort, age)."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cohortlib.engine.jit import njit
from cohortlib.engine.kernels.words import U0, U1, U6, U63, U, high_word, mix_word, next_period
from cohortlib.transactions.kernels.counters import EARLY, EARLY_ROW, LATE, LISTED, UNLISTED

NOT_JOINED = np.int32(-(2**31))
"""In place of the joined day of a user without one."""

# The entries of a cell, all integers. The last four are of the users whose last observed column it is.
ACTIVE, AMOUNT, LAST, OVER, LAST_FIRST, LAST_TOTAL, MORE = 0, 1, 2, 3, 4, 5, 6
"""Active users and their amount. Users; users of whose ages it is the last that is over; their amounts at age 0; their
cumulative amounts. From `MORE` on, for each further amount: its sum, and the cumulative amounts as in `LAST_TOTAL`."""
# The entries of a cell's squares, two words each.
SQUARES, PRODUCTS, TOTALS, LAST_FIRSTS, LAST_TOTALS, WORDS = 0, 2, 4, 6, 8, 10
"""Σ amount², Σ amount · amount at age 0, the growth of Σ cumulative amount², and as in `LAST_FIRST` and `LAST_TOTAL`
the squares of amounts at age 0 and of cumulative amounts."""

EXACT, UNBOUNDED, CONSECUTIVE = 0, 1, 2


class UserRows(NamedTuple):
    """Rows grouped by user: those of user u end before ``ends[u]``; `index` is where their columns are."""

    ends: NDArray[np.int64]
    days: NDArray[np.int32]
    units: NDArray[np.int64]
    index: NDArray[np.uint32]


class Columns(NamedTuple):
    """Columns of rows and of users. Codes of values are their ranks; instants and joined days may be empty."""

    instants: NDArray[np.int64]
    row_codes: NDArray[np.uint32]
    amounts: NDArray[np.int64]
    joined: NDArray[np.int32]
    user_codes: NDArray[np.uint32]


class Rules(NamedTuple):
    """The settings of a table.

    Days count from 1970-01-01, and `ages` and `cohorts` are periods of the days from `first_day` on. `width` is that of
    own clocks in days, or 0. ``column_of[age]`` is the column of an age, and ``seen_of[age]`` the last column in which
    a user is observed whose last age that is, or −1. `edge` and `over` are the last period of ages, and the last that
    is over.
    """

    width: int
    first_day: int
    cut: int
    last_day: int
    edge: int
    over: int
    first_cohort: int
    last_cohort: int
    cohort_count: int
    above: int
    signed: bool
    clip: bool
    same_unit: bool
    has_joined: bool
    needs_first: bool
    retention: int
    ages: NDArray[np.int32]
    cohorts: NDArray[np.int32]
    column_of: NDArray[np.int32]
    seen_of: NDArray[np.int32]
    row_strides: NDArray[np.int64]
    row_nulls: NDArray[np.int64]
    user_strides: NDArray[np.int64]


class Groups(NamedTuple):
    """The groups met so far, each a segment and cohort, in a hash table; a group has ``widths[cohort]`` cells.

    `counts` are the numbers of groups and of cells.
    """

    slots: NDArray[np.int32]
    keys: NDArray[np.int64]
    offsets: NDArray[np.int64]
    widths: NDArray[np.int64]
    counts: NDArray[np.int64]
    sizes: NDArray[np.int64]
    firsts: NDArray[np.int64]
    cells: NDArray[np.int64]
    squares: NDArray[np.uint64]


class Scratch(NamedTuple):
    """Zeros: one sum per period, a bitmap of periods, one sum per further amount and period; and buffers."""

    sums: NDArray[np.int64]
    words: NDArray[np.uint64]
    more: NDArray[np.int64]
    early: NDArray[np.int64]
    here: NDArray[np.int64]
    totals: NDArray[np.int64]


class Members(NamedTuple):
    """Users in the column `target`, one entry each; empty if only sums are needed."""

    keys: NDArray[np.int64]
    days: NDArray[np.int32]
    seen: NDArray[np.int32]
    active: NDArray[np.bool_]
    amounts: NDArray[np.int64]
    totals: NDArray[np.int64]
    more: NDArray[np.int64]
    more_totals: NDArray[np.int64]


@njit(nogil=True, cache=True)
def add_product(words, at, a, b, sign):
    """Add or subtract a · b to 128 bits, the lower word first."""
    negative = (a < 0) != (b < 0)
    x, y = U(abs(a)), U(abs(b))
    low, high = x * y, high_word(x, y)
    if negative != (sign < 0):
        low, high = U0 - low, ~high + (U1 if low == U0 else U0)
    words[at] += low
    words[at + 1] += high + (U1 if words[at] < low else U0)


@njit(nogil=True, cache=True)
def _slot_of(slots, keys, key):
    """Find the slot of a group's key, or the empty one where it belongs."""
    mask = U(slots.size - 1)
    slot = mix_word(U(key)) & mask
    while slots[slot] >= 0 and keys[slots[slot]] != key:
        slot = (slot + U1) & mask
    return slot


@njit(nogil=True, cache=True)
def _group(groups, key, cohort):
    """Find the group of a key, or add it."""
    slot = _slot_of(groups.slots, groups.keys, key)
    if groups.slots[slot] >= 0:
        return np.int64(groups.slots[slot])
    group = groups.counts[0]
    groups.slots[slot] = np.int32(group)
    groups.keys[group] = key
    groups.offsets[group] = groups.counts[1]
    groups.counts[0] += 1
    groups.counts[1] += groups.widths[cohort]
    return group


@njit(nogil=True, cache=True)
def index_groups(keys, slots):
    """Fill the hash table of groups; `slots` are −1 on entry, and no key is there twice."""
    for group in range(keys.size):
        slots[_slot_of(slots, keys, keys[group])] = np.int32(group)


@njit(nogil=True, cache=True)
def _first_row(rows, columns, rules, begin, end, period):
    """Find the first row with a positive amount, of one period or (−1) of any; return row, instant and local day.

    Of rows at one instant, any. Rows on days after the cut do not count.
    """
    best, earliest, day = np.int64(-1), np.int64(0), np.int64(0)
    for i in range(begin, end):
        d = np.int64(rows.days[i])
        if rows.units[i] <= 0 or d > rules.cut:
            continue
        if period >= 0 and rules.ages[d - rules.first_day] != period:
            continue
        instant = columns.instants[rows.index[i]] if columns.instants.size > 0 else d
        if best < 0 or instant < earliest:
            best, earliest, day = i, instant, d
    return best, earliest, day


@njit(nogil=True, cache=True)
def _segment(rows, columns, rules, user, begin, end, first, earliest, origin, low, high):
    """Return the number of a user's segment, from the values at the first row's instant; −1 as `first` for none.

    The rows that count are those of positive amount whose age is from `low` to `high`, counted as in `add_users`.
    """
    segment = np.int64(0)
    for c in range(rules.user_strides.size):
        segment += np.int64(columns.user_codes[c, user]) * rules.user_strides[c]
    for c in range(rules.row_strides.size):
        code = rules.row_nulls[c]
        if first >= 0:
            code = np.int64(columns.row_codes[c, rows.index[first]])
            for i in range(begin, end):
                d = np.int64(rows.days[i])
                if rows.units[i] <= 0 or d > rules.cut:
                    continue
                at = rows.index[i]
                if (columns.instants[at] if columns.instants.size > 0 else d) != earliest:
                    continue
                period = (d - origin) // rules.width if rules.width > 0 else np.int64(rules.ages[d - rules.first_day])
                if low <= period <= high:
                    code = min(code, np.int64(columns.row_codes[c, at]))
        segment += code * rules.row_strides[c]
    return segment


@njit(nogil=True, cache=True)
def _end_column(
    groups, scratch, members, user, base, column, target, exact, amount, active, at_zero, total, latest, run
):
    """Add what a user has in one column, in which the user is observed, to the cell and to `members`.

    Returns the user's cumulative amount, the latest active column, and the number of active columns from the first on
    without a gap.
    """
    at = base + column
    if exact and active:
        groups.cells[at, ACTIVE] += 1
    groups.cells[at, AMOUNT] += amount
    for m in range(scratch.here.size):
        groups.cells[at, MORE + 2 * m] += scratch.here[m]
        scratch.totals[m] += scratch.here[m]
    if groups.squares.shape[0] > 0:
        words = groups.squares[at]
        add_product(words, SQUARES, amount, amount, 1)
        add_product(words, PRODUCTS, amount, at_zero, 1)
        add_product(words, TOTALS, total + amount, total + amount, 1)
        add_product(words, TOTALS, total, total, -1)
    total += amount
    if active:
        latest = column
        run += column == run
    if column == target:
        members.active[user], members.amounts[user] = active, amount
        members.more[:, user] = scratch.here
    if column <= target:
        members.totals[user] = total
        members.more_totals[:, user] = scratch.totals
    return total, latest, run


@njit(nogil=True, cache=True)
def add_users(begin, until, rows, columns, rules, groups, scratch, tally, target, members):
    """Add the users from `begin` to before `until`; return the next user, an earlier one where the groups are full.

    `tally` has the counters of a joined table. With a `target`, each user of a cohort is written to `members` too.
    """
    exact = rules.retention == EXACT
    more = scratch.here.size
    widest = groups.widths.max()
    for u in range(begin, until):
        if (
            2 * (groups.counts[0] + 1) > groups.slots.size
            or groups.counts[0] >= groups.keys.size
            or groups.counts[1] + widest > groups.cells.shape[0]
        ):
            return np.int64(u)
        row, end = np.int64(0) if u == 0 else rows.ends[u - 1], rows.ends[u]
        joined = rules.has_joined and columns.joined[u] != NOT_JOINED
        day = np.int64(columns.joined[u]) if joined else np.int64(0)
        first, earliest = np.int64(-1), np.int64(0)
        # ---- net by period
        origin = np.int64(0)  # the day at which period 0 of the own clock begins
        zero = np.int64(-1)
        if rules.width > 0:
            if not joined:
                first, earliest, day = _first_row(rows, columns, rules, row, end, np.int64(-1))
                if first < 0:
                    continue
            shift = (day - rules.first_day + rules.width - 1) // rules.width if joined else np.int64(0)
            origin, zero = day - shift * rules.width, shift
        elif joined:
            zero = np.int64(rules.ages[day - rules.first_day])
        low, high = scratch.sums.size, np.int64(-1)
        for i in range(row, end):
            d = np.int64(rows.days[i])
            if d > rules.cut or (d < origin and rules.width > 0):
                continue
            t = (d - origin) // rules.width if rules.width > 0 else np.int64(rules.ages[d - rules.first_day])
            if rules.width == 0 and t > rules.edge:
                continue
            if rows.units[i] > rules.above:
                scratch.sums[t] += rows.units[i]
            for m in range(more):
                scratch.more[m, t] += columns.amounts[m, rows.index[i]]
            scratch.words[U(t) >> U6] |= U1 << (U(t) & U63)
            low, high = min(low, t), max(high, t)
        # ---- the first active period, and activity before the joined day
        early, first_active = np.int64(0), np.int64(-1)
        if more > 0:
            scratch.early[:] = 0
        for w in range(low >> 6, (high >> 6) + 1):
            bits = scratch.words[w]
            while bits != U0:
                bit, bits = next_period(bits)
                t = w * 64 + bit
                if scratch.sums[t] <= 0:
                    continue
                if t < zero:
                    early += scratch.sums[t]
                    for m in range(more):
                        scratch.early[m] += scratch.more[m, t]
                if first_active < 0 and (t >= zero or rules.clip):
                    first_active = t
                if zero < 0:
                    zero = t
        if joined:
            tally[LISTED] += 1
            if early > 0:
                tally[EARLY] += 1
                if tally[EARLY_ROW] == 0 or u < tally[EARLY_ROW] - 1:
                    tally[EARLY_ROW] = u + 1
        elif first_active >= 0:
            tally[UNLISTED] += 1
        # ---- day 0, cohort and segment
        if zero >= 0 and rules.needs_first:
            if rules.width == 0 and first_active >= 0:
                first, earliest, first_day = _first_row(rows, columns, rules, row, end, first_active)
                if not joined:
                    day = first_day
            elif joined and first_active >= 0:  # the first row of an age of the own clock
                for i in range(row, end):
                    d = np.int64(rows.days[i])
                    if rows.units[i] > 0 and d <= rules.cut and (d - origin) // rules.width == first_active:
                        instant = columns.instants[rows.index[i]] if columns.instants.size > 0 else d
                        if first < 0 or instant < earliest:
                            first, earliest = i, instant
        cohort = np.int64(-1)
        if zero >= 0:
            cohort = zero if rules.same_unit else np.int64(rules.cohorts[day - rules.first_day])
            if joined and cohort > rules.last_cohort:
                tally[LATE] += 1
        shown = rules.first_cohort <= cohort <= rules.last_cohort
        group = base = np.int64(0)
        seen = np.int64(-1)
        if shown:
            only = first_active
            if rules.width > 0 and not joined:  # the rows of day 0
                only = np.int64(0)
            key = _segment(rows, columns, rules, u, row, end, first, earliest, origin, only, only)
            key = key * rules.cohort_count + cohort
            group = _group(groups, key, cohort)
            base = groups.offsets[group]
            last = (rules.last_day - day + 1) // rules.width - 1 if rules.width > 0 else rules.edge - zero
            over = last if rules.width > 0 else rules.over - zero
            if last >= 0:
                seen = np.int64(rules.seen_of[min(last, rules.seen_of.size - 1)])
            if over >= 0 and rules.seen_of[min(over, rules.seen_of.size - 1)] >= 0:
                groups.cells[base + rules.seen_of[min(over, rules.seen_of.size - 1)], OVER] += 1
        else:
            last = np.int64(-1)
        # ---- the ages
        clipped = early if rules.clip else np.int64(0)
        column = np.int64(rules.column_of[0])
        amount, is_active = clipped, clipped > 0
        at_zero, total = clipped, np.int64(0)
        latest, run = np.int64(-1), np.int64(0)
        for m in range(more):
            scratch.here[m] = scratch.early[m] if rules.clip else 0
            scratch.totals[m] = 0
        for w in range(low >> 6, (high >> 6) + 1):
            bits = scratch.words[w]
            scratch.words[w] = U0
            while bits != U0:
                bit, bits = next_period(bits)
                t = w * 64 + bit
                value = scratch.sums[t]
                scratch.sums[t] = 0
                if shown and t == zero:
                    at_zero += max(value, np.int64(0))
                if shown and zero <= t <= zero + last:
                    next_column = np.int64(rules.column_of[t - zero])
                    if next_column != column:
                        if seen >= 0:
                            total, latest, run = _end_column(
                                groups, scratch, members, u, base, column, target, exact,
                                amount, is_active, at_zero, total, latest, run,
                            )  # fmt: skip
                        column, amount, is_active = next_column, np.int64(0), False
                        for m in range(more):
                            scratch.here[m] = 0
                    if value > 0 or rules.signed:
                        amount += value
                        is_active |= value > 0
                    for m in range(more):
                        scratch.here[m] += scratch.more[m, t]
                for m in range(more):
                    scratch.more[m, t] = 0
        if not shown:
            continue
        groups.sizes[group] += 1
        groups.firsts[group] += at_zero
        if target >= 0:
            members.keys[u], members.days[u], members.seen[u] = groups.keys[group], np.int32(day), np.int32(seen)
        if seen < 0:
            continue
        if column <= seen:
            total, latest, run = _end_column(
                groups, scratch, members, u, base, column, target, exact,
                amount, is_active, at_zero, total, latest, run,
            )  # fmt: skip
        if rules.retention == UNBOUNDED and latest >= 0:
            groups.cells[base + latest, ACTIVE] += 1
        elif rules.retention == CONSECUTIVE and run > 0:
            groups.cells[base + run - 1, ACTIVE] += 1
        if target >= 0 and not exact:
            members.active[u] = (latest if rules.retention == UNBOUNDED else run - 1) >= target
        at = base + seen
        groups.cells[at, LAST] += 1
        groups.cells[at, LAST_FIRST] += at_zero
        groups.cells[at, LAST_TOTAL] += total
        for m in range(more):
            groups.cells[at, MORE + 2 * m + 1] += scratch.totals[m]
        if groups.squares.shape[0] > 0:
            add_product(groups.squares[at], LAST_FIRSTS, at_zero, at_zero, 1)
            add_product(groups.squares[at], LAST_TOTALS, total, total, 1)
    return np.int64(until)
