"""Propose other time zones: the distinct clocks of the world."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from cohortlib.compare.explain.causes import Cause, choice
from cohortlib.compare.explain.termina.context import BEST, Context, Floats
from cohortlib.compare.explain.termina.ledger import MICROSECOND, clock_boundaries
from cohortlib.compare.explain.termina.story import Story
from cohortlib.compare.explain.zones import Clock, clocks

_EXACT = 40  # clocks of which the table is computed
_NAMED = 2


def clock_candidates(context: Context) -> Iterator[Cause]:
    """List the clocks whose periods come closest. Times without a zone are tried as UTC."""
    rows, story = context.rows, context.story
    if not rows.has_times or not context.ledger.at.size or "timezone" in context.kinds:
        return
    low, high = story.bounds
    every = clocks(low // MICROSECOND, high // MICROSECOND)
    current = story.zone
    others = [clock for clock in every if current is None or current not in (clock.name, *clock.others)]
    stories: dict[bytes, tuple[float, list[Clock], Story]] = {}
    for clock in _closest(context, others):
        if not context.in_time():
            return
        changed = _under(story, clock)
        key = b"".join(part.tobytes() for part in (changed.replay.cohort, changed.replay.period, changed.replay.amount))
        if key in stories:
            stories[key][1].append(clock)
        else:
            stories[key] = context.screen.bits_of(changed), [clock], changed
    suffix = "" if rows.zoned else ", local times taken as UTC"
    extra = () if rows.zoned else (("taken_as_utc", True),)
    ranked = sorted(stories.values(), key=lambda each: each[0])
    for bits, (clock, *same), _ in ranked[:BEST]:
        cost = choice(len(every))
        if bits + cost < context.screen.bits:
            yield Cause(
                "timezone", clock.name, f"time zone {clock.name}{suffix}", (("timezone", clock.name), *extra),
                note=_note(clock, same), bits=cost,
            )  # fmt: skip


def _under(story: Story, clock: Clock) -> Story:
    settings = {**story.settings, "timezone": clock.name, "taken_as_utc": True}
    return replace(story, settings=settings)


def _note(clock: Clock, same: list[Clock]) -> str:
    names = [*clock.others, *(name for other in same for name in (other.name, *other.others))]
    if len(names) <= _NAMED:
        return f"or {' or '.join(names)}" if names else ""
    return f"or {names[0]} and {len(names) - 1:,} more with the same table"


def _closest(context: Context, every: list[Clock]) -> list[Clock]:
    """Return the clocks under which the amounts of calendar periods change as the remote ones do."""
    totals = context.screen.by_period
    if totals is None or len(every) <= _EXACT:
        return every
    ledger, grid = context.ledger, context.grid
    order = np.argsort(ledger.at, kind="stable")
    units = ledger.units * ledger.weight
    if context.screen.money is None and not context.story.users:
        units = np.sign(units) * ledger.weight
    sums = np.append(0, np.cumsum(units[order])).astype(float)
    at = ledger.at[order] // MICROSECOND
    ordinals = np.arange(grid.origin, grid.origin + grid.periods + 1, dtype=np.int64)
    days = grid.calendar.first_days(ordinals) * 86_400
    edges = grid.edges(context.story.zone, *context.story.bounds) // MICROSECOND
    base = np.diff(sums[np.searchsorted(at, edges)])
    shown = np.arange(grid.periods) < _last_known(totals[1])
    excess = totals[1] - totals[0]
    scores = []
    for clock in every:
        cut = np.searchsorted(at, clock_boundaries(days, clock.starts, clock.shifts))
        rest = excess - (np.diff(sums[cut]) - base)
        scores.append(float(np.log2(1 + np.abs(rest[shown]) / context.screen.unit).sum()))
    return [every[index] for index in np.argsort(scores, kind="stable")[:_EXACT]]


def _last_known(remote: Floats) -> int:
    return int(np.flatnonzero(remote)[-1]) if remote.any() else 0
