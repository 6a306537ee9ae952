"""Propose rows that are missing or duplicated on one side."""

from collections.abc import Iterator

import numpy as np
import polars as pl

from cohortlib.compare.explain.adapty.comparison import AdaptyComparison, widened
from cohortlib.compare.explain.adapty.edits import FIRST_REFUND, local_days, repeated
from cohortlib.compare.explain.adapty.money import CLOSE, Floats
from cohortlib.compare.explain.adapty.rewrites import segment_labels
from cohortlib.compare.explain.causes import Cause, choice, subset
from cohortlib.compare.explain.wording import customers, date_range, fault_phrase, first_payment
from cohortlib.periods import date_of
from cohortlib.read.arrays import Ints

_MAX_SEGMENTS = 8  # differing segments in which customers are searched
_MAX_GROUPS = 24  # customers (or pairs) per segment of whom the cells are computed
_MAX_RUNS = 3
_MAX_GAPS = 3
_GAP_WINDOW = 10  # days on each side of a day that define its usual number of rows
_BUSY = 12  # rows of a usual day: only then is an empty day suspicious


def fault_candidates(comparison: AdaptyComparison) -> Iterator[Cause]:
    """List the faults that the differences of the segments point to."""
    excess = comparison.excess
    if excess is None:
        return
    count = int(repeated(comparison.events).sum())
    if count:
        yield Cause("repeats", "once", f"without {count:,} local rows that repeat others under new ids", bits=choice(2))
    end = _end_by_installs(comparison)
    if end is not None:
        yield _right_edge(comparison, end)
    differing = np.flatnonzero((np.abs(excess) > CLOSE).any(axis=1))
    if not differing.size:
        return
    for kind, sign in (("rows missing", -1), ("rows twice", 1)):
        yield from _days(comparison, kind, sign * excess[:, 0])
        if differing.size <= _MAX_SEGMENTS:
            yield from _customers(comparison, kind, sign, excess, differing)


def _dates(first: int, last: int) -> str:
    return date_range(date_of(first), date_of(last))


def _right_edge(comparison: AdaptyComparison, day: int) -> Cause:
    return Cause("right edge", day, f"without anything after {date_of(day)}", bits=choice(_days_among(comparison)))


def _days_among(comparison: AdaptyComparison) -> int:
    """Return the number of days with rows."""
    return comparison.user_money.rows["day"].n_unique()


def _days(comparison: AdaptyComparison, kind: str, target: Floats) -> Iterator[Cause]:
    """List runs of days whose revenue by segment is the target: by local days, and by UTC days if these differ."""
    for clock, column in (("days", "day"), ("UTC days", "utc_day")):
        if clock == "UTC days" and not comparison.utc_days_differ:
            continue
        for begin, last in comparison.user_money.runs_with(target, _MAX_RUNS, column):
            first = begin
            rows = f"the rows of {_dates(first, last)}{' UTC' if clock == 'UTC days' else ''}"
            if begin == comparison.user_money.rows[column].min():
                # Earlier rows have no money, but they activate users.
                rows = f"the rows before {date_of(last + 1)}{' UTC' if clock == 'UTC days' else ''}"
                first = comparison.first_day
            count = _days_among(comparison)
            open_ended = last >= comparison.last_day or first < begin
            cost = choice(2, 2, count, 1 if open_ended else last - first + 1)
            yield Cause(kind, (clock, first, last), fault_phrase(rows, duplicated=kind == "rows twice"), bits=cost)
            ends_data = clock == "days" and kind == "rows missing" and last >= comparison.last_day
            if ends_data and comparison.fewer_installs:
                yield _right_edge(comparison, first - 1)


def _customers(comparison: AdaptyComparison, kind: str, sign: int, excess: Floats, differing: Ints) -> Iterator[Cause]:
    """List the customers whose money equals the difference of each segment."""
    names: list[object] = []
    for segment in differing.tolist():
        group = _closest_group(comparison, segment, sign, excess)
        names += group or ()
    if names:
        listed = customers(tuple(names))
        cost = choice(2) + subset(len(names), comparison.user_money.by_user["user"].n_unique())
        yield Cause(
            kind,
            ("users", tuple(names), False),
            fault_phrase(f"the rows of {listed}", duplicated=kind == "rows twice"),
            bits=cost,
        )
        if kind == "rows missing" and comparison.fewer_installs and not comparison.recipe.from_events:
            words = f"without the rows and installs of {listed}"
            yield Cause(kind, ("users", tuple(names), True), words, bits=cost)


def _closest_group(comparison: AdaptyComparison, segment: int, sign: int, excess: Floats) -> tuple[object, ...] | None:
    """Return the user (or pair) whose money is a segment's difference; of several, the best match by cells."""
    groups = comparison.user_money.users_with(segment, sign * excess[segment])
    if len(groups) < 2:
        return groups[0] if groups else None
    target = comparison.cell_excess(segment)
    if target is None:
        return groups[0]

    def misses(group: tuple[object, ...]) -> int:
        cells = comparison.cells_of_users(group)[:, segment, :]
        width = max(cells.shape[1], target.shape[1])
        return int((np.abs(widened(cells, width) * sign - widened(target, width)) > CLOSE).sum())

    return min(groups[:_MAX_GROUPS], key=misses)


def _end_by_installs(comparison: AdaptyComparison) -> int | None:
    """Return the last remote day, if the remote answer lacks exactly the installs of all days after it."""
    segments, installs = comparison.segments, comparison.passing_installs()
    if segments is None or installs is None or "user" not in installs.columns:
        return None
    lacking = (segments["total_installs"] - segments["total_installs_remote"].fill_null(0)).to_numpy()
    short = np.flatnonzero(lacking)
    if not short.size or (lacking < 0).any() or short[-1] != len(lacking) - 1 or np.diff(short).max(initial=1) > 1:
        return None
    days = pl.Series("day", local_days(installs["install_date"], comparison.recipe.timezone))
    first_days = pl.DataFrame([installs["user"], days]).group_by("user").agg(pl.col("day").min())["day"]
    bounds = comparison.plan.segments
    sorted_days = first_days.sort().to_numpy()
    sorted_days = sorted_days[(sorted_days >= bounds.first) & (sorted_days <= bounds.last)]
    count = int(lacking.sum())
    # The missing installs must be the last ones, and begin at the start of a day.
    if count < sorted_days.size and sorted_days[-count - 1] < sorted_days[-count]:
        return int(sorted_days[-count]) - 1
    return None


def _gaps(comparison: AdaptyComparison) -> list[tuple[int, int, float]]:
    """Find runs of days with few rows among busy days: first day, last day, usual revenue of as many days."""
    days = comparison.days[comparison.counts & (comparison.days <= comparison.plan.segments.last)]
    if not days.size:
        return []
    first = int(days.min())
    counts = np.bincount(days - first).astype(float)
    if counts.size <= _GAP_WINDOW:
        return []
    padded = np.pad(counts, _GAP_WINDOW, mode="reflect")
    usual = np.median(np.lib.stride_tricks.sliding_window_view(padded, 2 * _GAP_WINDOW + 1), axis=1)
    empty = (usual >= _BUSY) & (counts <= usual / 8)
    edges = np.flatnonzero(np.diff(np.concatenate([[0], empty.astype(int), [0]])))
    kind = comparison.events.kind.to_numpy()
    money = comparison.events.frame["revenue_usd"].cast(pl.Float64).fill_null(0.0).to_numpy()
    per_row = float(money[(kind >= 1) & (kind < FIRST_REFUND)].sum()) / max(float(counts.sum()), 1.0)
    return [
        (first + int(begin), first + int(end) - 1, float(usual[begin:end].sum()) * per_row)
        for begin, end in zip(edges[::2], edges[1::2], strict=True)
    ][:_MAX_GAPS]


# ------------------------------------------------------------------------------------------------- what still differs


def describe_suspects(comparison: AdaptyComparison) -> Iterator[str]:
    """Describe the customers whose money equals the difference of a segment, and days with few rows."""
    excess = comparison.excess
    if excess is None:
        return
    labels = segment_labels(comparison.plan, comparison.recipe.labels)
    differing = np.asarray((np.abs(excess) > CLOSE).any(axis=1))
    for first, second in _opposite_neighbours(excess):
        # One segment has too much and the next too little: a customer may have installed around midnight.
        for own, other in ((first, second), (second, first)):
            if groups := comparison.user_money.users_with(own, -excess[own]):
                differing[[first, second]] = False
                customer = _with_first_payment(comparison, groups[0])
                yield (
                    f"The money of both segments agrees if {customer} is moved from {labels[own]} to {labels[other]}."
                )
                break
    for segment in np.flatnonzero(differing)[:_MAX_SEGMENTS].tolist():
        for sign, change in ((-1, "without"), (1, "with duplicate rows of")):
            if group := _closest_group(comparison, segment, sign, excess):
                customer = _with_first_payment(comparison, group)
                yield f"The money of segment {labels[segment]} agrees {change} {customer}."
                break
    for first, last, _ in _gaps(comparison):
        yield f"The local data have few rows or none of {_dates(first, last)}, unlike the days around."


def _opposite_neighbours(excess: Floats) -> Iterator[tuple[int, int]]:
    """Yield adjacent segments whose differences cancel out."""
    for at in range(len(excess) - 1):
        if (np.abs(excess[at]) > CLOSE).any() and (np.abs(excess[at] + excess[at + 1]) <= CLOSE).all():
            yield at, at + 1


def _with_first_payment(comparison: AdaptyComparison, users: tuple[object, ...]) -> str:
    """Name customers and the local time of their first payment."""
    described = []
    for user in users:
        paid = (comparison.events.frame["user"] == user).fill_null(value=False) & (comparison.events.kind > 0)
        times = comparison.events.frame["event_datetime"].filter(paid)
        if times.dtype != pl.Date:
            times = times.dt.convert_time_zone(comparison.recipe.timezone)
        payment = first_payment(times)
        described.append(f"customer {user} ({payment})" if payment else f"customer {user}")
    return " and ".join(described)
