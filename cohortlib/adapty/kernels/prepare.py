"""Prepare a partition for adding: find its users, link and number their events."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cohortlib.adapty.kernels.link import link, link_refunds, number, segment_of, select
from cohortlib.adapty.kernels.records import EventColumns, InstallColumns, U
from cohortlib.adapty.kernels.users import find_installs, find_users, group_rows, sort_rows
from cohortlib.engine.jit import njit


class EventTable(NamedTuple):
    """Events by partition: where the partitions start, the columns, and the texts of transactions and chains."""

    starts: NDArray[np.int64]
    columns: EventColumns
    transactions: tuple[NDArray[Any], ...]
    chains: tuple[NDArray[Any], ...]


class InstallTable(NamedTuple):
    """Installs by partition; `exists` is whether there is such a table."""

    starts: NDArray[np.int64]
    columns: InstallColumns
    exists: bool


class Rules(NamedTuple):
    """What a request means for the kernels.

    Attributes
    ----------
    first_day, segments
        First day of the date range, and the segment of each of its days.
    restarts, consecutive, as_of
        As for ``number``.
    """

    first_day: int
    segments: NDArray[np.int32]
    restarts: bool
    consecutive: bool
    as_of: int


@njit(nogil=True, cache=True)
def _add_installs(first, last, users, first_day, segments, counters, installed):
    """Find the segments of users, and count those who count as installs."""
    for u in range(first, last):
        user = users[U(u)]
        segment = segment_of(user.install, first_day, segments, counters)
        user.segment = segment
        if segment >= 0 and user.counted:
            installed[U(segment)] += 1


@njit(nogil=True, cache=True)
def prepare(p, size, events, installs, rules, counters, installed, scratch):
    """Group the events of a partition by user, sort them by time, link and number them.

    Parameters
    ----------
    p, size
        The partition, and the size of its hash table of users.
    counters
        int64[8], the counters for the report; updated.
    installed
        int64 by segment: to this the number of users is added who count as installs and have no events.

    Returns
    -------
    users, total
        The number of users with events, and with those after them who only have an install.
    widest, farthest
        What ``select`` returns.
    chains
        The number of chains that have an id; their keys are in `seen_chains`.
    """
    columns, users, codes = events.columns, scratch.users, scratch.codes
    slots = scratch.slots[:size]
    slots[:] = np.int32(-1)
    count = find_users(p, events.starts, columns, slots, users, codes)
    total = find_installs(p, installs.starts, installs.columns, count, slots, users)
    _add_installs(count, total, users, rules.first_day, rules.segments, counters, installed)
    rows, extras = columns.rows, columns.extras
    mixed = group_rows(p, events.starts, rows, codes, count, users, scratch.position, scratch.mixed)
    if mixed:
        sort_rows(
            scratch.mixed[:mixed], rows, extras, columns.lines, events.transactions, events.chains, users,
            scratch.position, scratch.spare,
        )  # fmt: skip
    chains, with_refunds = link(
        count, rows, extras, installs.exists, rules.first_day, rules.segments, counters, scratch
    )
    link_refunds(with_refunds, rows, counters, scratch)
    number(count, rows, extras, rules.restarts, rules.consecutive, rules.as_of, scratch)
    widest, farthest = select(count, rows, counters, scratch)
    return count, total, widest, farthest, chains
