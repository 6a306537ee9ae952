"""Group the rows of users by user: those of records, and those of parts."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cohortlib.engine.jit import njit
from cohortlib.engine.kernels.partition import (
    DAY_MASK,
    clear_slots,
    decode_record,
    find_slot,
    offsets_of,
    partition_rows,
    prefetch_block,
)
from cohortlib.engine.kernels.words import U0, U1, U
from cohortlib.transactions.kernels.counters import CONFLICT_ROW, CONFLICTS


class Timeline(NamedTuple):
    """The periods of days, and which rows count.

    ``periods[day - origin]`` is the period of a day, counted from 0; the grid has `span` periods, and days may lie
    after it. Rows after the grid, and rows whose units are not greater than `above`, are skipped.
    """

    periods: NDArray[np.int32]
    origin: int
    span: int
    above: int


class Grouped(NamedTuple):
    """Users, and their rows by user.

    Attributes
    ----------
    row, joined
        The least row number of each user (for packed records the number of the user), and the joined cohort or −1.
    short
        Whether the rows of each user are summed by period: for spans up to 64.
    sums, words
        If `short`, the units of each user and period, and a bitmap of each user's periods with rows. Else one sum per
        period, and one word per 64 periods, for one user at a time. All zero before users are grouped, and after they
        have been netted.
    ends, periods, units
        Unless `short`, the end of each user's rows, and the period and the units of each row.
    """

    row: NDArray[np.uint32]
    joined: NDArray[np.int32]
    short: bool
    sums: NDArray[np.int64]
    words: NDArray[np.uint64]
    ends: NDArray[np.int64]
    periods: NDArray[np.int32]
    units: NDArray[np.int64]


class PartitionRows(NamedTuple):
    """Buffers for the rows of one partition: the user, the period and the units of each."""

    codes: NDArray[np.int32]
    periods: NDArray[np.int32]
    units: NDArray[np.int64]


@njit(nogil=True, cache=True)
def group_by_user(part, end, records, form, timeline, users, buffer, grouped, tally):
    """Group the rows of each user, for a range of partitions, and return the number of users.

    Parameters
    ----------
    part, end
        The partitions from `part` to before `end`.
    records, form
        `RecordArrays` and their `Form`. Blocks of joined users come first.
    timeline
        The `Timeline`. The days of packed records and their origin count from the first day of the layout.
    users
        The `UserTable`. Output: the keys of all users, in order of appearance; narrow keys with the bits of the
        partition above them.
    buffer
        `PartitionRows`; unused if the rows are summed.
    grouped
        `Grouped`, with room for all users and rows of the partitions. Output: users and rows.
    tally
        int64[COUNTERS]; CONFLICTS and CONFLICT_ROW are updated.
    """
    (edges, words), (slots, keys, keys2) = records, users
    width, second, third, last = offsets_of(form)
    (periods, _, span, above), origin = timeline, U(np.int64(timeline.origin))
    first_rows, cohorts, short, sums, bitmaps, ends, _, _ = grouped
    codes, row_periods, row_units = buffer
    narrow = form.packed and not form.wide
    count = U0
    filled = np.int64(0)
    for p in range(part, end):
        mask = clear_slots(slots, partition_rows(edges, p))
        begin = count
        kept = U0
        for b in range(edges.shape[1]):
            prefetch_block(edges, words, p, b + 2, width)
            for i in range(U(edges[p, b]), U(edges[p + 1, b])):
                at = i * width
                key, key2, day, x, row, is_joined = decode_record(
                    form, words[at], words[at + second], words[at + third], words[at + last]
                )
                t = periods[(day - origin) & DAY_MASK]
                if not is_joined and (t >= span or x <= above):
                    continue
                if narrow:
                    key |= U(p) << U(form.key_bits)
                # Number users 0, 1, 2 … in order of appearance; joined users come first.
                slot, code = find_slot(slots, keys, keys2, mask, key, key2, form.wide)
                if code < 0:
                    code = np.int32(count)
                    slots[slot], keys[count] = code, key
                    if form.wide:
                        keys2[count] = key2
                    first_rows[count] = np.uint32(count) if form.packed else row
                    cohorts[count], ends[count] = t if is_joined else np.int32(-1), 0
                    count += U1
                elif is_joined and cohorts[U(code)] != t:
                    tally[CONFLICTS] += 1
                    if tally[CONFLICT_ROW] == 0 or first_rows[U(code)] < tally[CONFLICT_ROW]:
                        tally[CONFLICT_ROW] = np.int64(first_rows[U(code)]) + 1
                if is_joined:
                    continue
                if short:
                    sums[U(code) * U(span) + U(t)] += x
                    bitmaps[U(code)] |= U1 << U(t)
                else:
                    codes[kept], row_periods[kept], row_units[kept] = code, t, x
                    ends[U(code)] += 1
                    kept += U1
        if not short:
            filled = _sort_by_user(begin, count, kept, filled, buffer, grouped)
    return np.int64(count)


@njit(nogil=True, cache=True)
def _sort_by_user(begin, count, kept, filled, buffer, grouped):
    """Sort the rows of a partition by user: a counting sort, as a partition fits in the cache."""
    codes, row_periods, row_units = buffer
    ends, periods, units = grouped.ends, grouped.periods, grouped.units
    for u in range(begin, count):
        ends[u], filled = filled, filled + ends[u]
    for j in range(kept):
        u = U(codes[j])
        at = U(ends[u])
        ends[u] += 1
        periods[at], units[at] = row_periods[j], row_units[j]
    return filled


class UserRanges(NamedTuple):
    """The rows of users as ranges: user u has the ranges ``ends[u - 1]`` to ``ends[u]``.

    Range r has ``sizes[r]`` rows from ``starts[r]`` on.
    """

    ends: NDArray[np.int64]
    starts: NDArray[np.int64]
    sizes: NDArray[np.uint32]


class DatedRows(NamedTuple):
    """Rows with a local day and units. `mask` marks those to use; it is empty for all."""

    days: NDArray[np.int32]
    units: NDArray[np.int64]
    mask: NDArray[np.bool_]


@njit(nogil=True, cache=True)
def gather_grouped(user, until, ranges, joined, rows, timeline, grouped):
    """Gather rows that are already grouped by user; return the number of users.

    Parameters
    ----------
    user, until
        The users from `user` to before `until`.
    ranges, rows
        The `UserRanges` and the `DatedRows` that they refer to.
    joined
        The joined cohort of each user, or −1; empty without a joined table.
    timeline
        The `Timeline`; it has the days of all rows in the mask.
    grouped
        `Grouped`, as for `group_by_user`. Output: users and rows; `row` is the number of the user.
    """
    range_ends, starts, sizes = ranges
    (days, money, mask), (periods, origin, span, above) = rows, timeline
    count, filled = U0, U0
    for u in range(U(user), U(until)):
        grouped.row[count] = np.uint32(u)
        grouped.joined[count] = joined[u] if joined.size > 0 else np.int32(-1)
        for r in range(U(range_ends[u - U1]) if u > U0 else U0, U(range_ends[u])):
            first = U(starts[r])
            for i in range(first, first + U(sizes[r])):
                if mask.size > 0 and not mask[i]:  # its day may lie outside of the table
                    continue
                t = periods[U(np.int64(days[i]) - origin)]
                x = money[i]
                if t >= span or x <= above:
                    continue
                if grouped.short:
                    grouped.sums[count * U(span) + U(t)] += x
                    grouped.words[count] |= U1 << U(t)
                else:
                    grouped.periods[filled], grouped.units[filled] = t, x
                    filled += U1
        grouped.ends[count] = np.int64(filled)
        count += U1
    return np.int64(count)
