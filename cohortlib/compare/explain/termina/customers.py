"""Propose customers who are missing or counted twice, whose first payment counts elsewhere, or whose ids are joined."""

from collections.abc import Iterator

import numpy as np
import polars as pl

from cohortlib.compare.explain.causes import Cause, choice, subset
from cohortlib.compare.explain.termina.context import Context
from cohortlib.compare.explain.termina.edits import CLEANERS, Cleaned, Customers, FirstPaymentMoved
from cohortlib.compare.explain.termina.screen import Floats, Groups
from cohortlib.compare.explain.wording import customers, first_payment
from cohortlib.read.arrays import Ints

_ROUNDS = 4
_MOST = 40  # customers named
_LEFT = 0.7  # of the bits may be left by them: a few customers here and there explain nothing
_PAID = 0.9  # of their amounts has to be missing in the totals
_CLEANED = {
    "blanks": "ids that differ only in blanks joined",
    "case": "ids that differ only in upper and lower case joined",
    "blanks and case": "ids that differ only in blanks and case joined",
    "digits": "ids with the same number joined",
    "alias": "e-mail addresses that differ only in a +suffix joined",
    "suffix": "ids that differ only after # | / or ~ joined",
}


def customer_candidates(context: Context) -> Iterator[Cause]:
    """List the customers, and the ways to join ids."""
    yield from _cleaned(context)
    if not context.ledger.users or not context.in_time():
        return
    for twice in (False, True):
        kind = "customers twice" if twice else "customers missing"
        if kind not in context.kinds:
            yield from _customers(context, kind, twice=twice)


def _cleaned(context: Context) -> Iterator[Cause]:
    names = context.ledger.names
    known = names.n_unique()
    seen: set[int] = set()
    for how, words in _CLEANED.items():
        cleaned = CLEANERS[how](names)
        mark = int(cleaned.hash().sum())
        if cleaned.n_unique() < known and mark not in seen:
            seen.add(mark)
            yield Cause("ids", Cleaned(how), words, bits=choice(len(_CLEANED)))


def _customers(context: Context, kind: str, *, twice: bool) -> Iterator[Cause]:
    """Choose the customers whose rows explain their cohorts or their own lines, each by more than the choice of it."""
    ledger, weight = context.ledger, 2 if twice else 0
    groups = Groups(ledger.starts[1:], np.arange(ledger.at.size, dtype=np.int64))
    one = float(np.log2(max(2, ledger.users)))
    chosen: list[str] = []
    current = context
    for _ in range(_ROUNDS):
        if not context.in_time():
            return
        gains = current.screen.bits - current.screen.change(groups, weight)
        gains[ledger.names.is_in(chosen).to_numpy()] = 0.0
        found = _independent(context, gains, one)
        if not found.size:
            break
        chosen += ledger.names.gather(found).to_list()
        if len(chosen) > _MOST:
            return
        current = context.with_edit(Customers("twice" if twice else "drop", tuple(sorted(chosen))))
        if context.story.users:
            break
    if not chosen or current.screen.bits > _LEFT * context.screen.bits or not _totals_agree(context, current):
        return
    names = tuple(sorted(chosen))
    edit = Customers("twice" if twice else "drop", names)
    label, note = customers(names), _note(context, names)
    words = f"{label} counted twice" if twice else f"without {label}"
    cost = choice(2) + subset(len(names), ledger.users)
    yield Cause(kind, edit, words, note=note, bits=cost, partial=False)
    if len(names) == 1 and not twice:
        yield from _moved(context, names[0], label, note)


def _totals_agree(context: Context, without: Context) -> bool:
    """Check that the totals of the calendar periods are lower, or higher, by what the customers paid.

    If they are not, the customers are not missing, but in other cohorts.
    """
    before, after = context.screen.by_period, without.screen.by_period
    if context.story.users or before is None or after is None:
        return True
    paid = np.abs(after[0] - before[0]).sum()
    nearer = np.abs(before[1] - before[0]).sum() - np.abs(after[1] - after[0]).sum()
    return bool(nearer >= _PAID * paid)


def _independent(context: Context, gains: Floats, least: float) -> Ints:
    """Return the users that gain more than `least` bits: the best of each cohort, or all of a table of customers."""
    able = np.flatnonzero(gains > least)
    if context.story.users or not able.size:
        return able
    cohorts = context.story.replay.cohort[able]
    order = np.lexsort((-gains[able], cohorts))
    firsts = np.unique(cohorts[order], return_index=True)[1]
    return np.sort(able[order[firsts]])


def _moved(context: Context, name: str, label: str, note: str) -> Iterator[Cause]:
    """List the moves of a customer's first payment to an adjacent period."""
    ledger = context.ledger
    index = ledger.names.index_of(name)
    if index is None:
        return
    own = slice(int(ledger.starts[index]), int(ledger.starts[index + 1]))
    paid = np.flatnonzero(ledger.units[own] > 0)
    if not paid.size:
        return
    day = int(context.days[own][paid[0]])
    period = int(context.grid.calendar.ordinals(np.array([day], np.int64))[0])
    first, after = context.grid.calendar.first_days(np.array([period, period + 1], np.int64)).tolist()
    for days in (after - day, first - 1 - day):
        words = f"the first payment of {label} one period {'later' if days > 0 else 'earlier'}"
        cost = choice(2, ledger.users)
        yield Cause("customers missing", FirstPaymentMoved(name, days), words, note=note, bits=cost, partial=False)


def _note(context: Context, names: tuple[str, ...]) -> str:
    """Describe the first payment of a customer; empty for several."""
    ledger = context.ledger
    index = ledger.names.index_of(names[0])
    if len(names) > 1 or index is None:
        return ""
    own = slice(int(ledger.starts[index]), int(ledger.starts[index + 1]))
    times = pl.Series(ledger.at[own][ledger.units[own] > 0]).cast(pl.Datetime("us"))
    if context.story.zone is not None:
        times = times.dt.replace_time_zone("UTC").dt.convert_time_zone(context.story.zone)
    return first_payment(times if context.rows.has_times else times.dt.date())
