"""Propose days whose rows are missing or counted twice, or from which on amounts are multiplied."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cohortlib.compare.explain.causes import Cause, choice
from cohortlib.compare.explain.termina.context import Context
from cohortlib.compare.explain.termina.edits import Days, Scaled
from cohortlib.compare.explain.termina.numbers import common_ratio, factor
from cohortlib.compare.explain.wording import date_range, fault_phrase
from cohortlib.periods import date_of
from cohortlib.read.arrays import Ints

Floats = NDArray[np.float64]

_MOST_DAYS = 6_000
_TRIED = 4  # runs of days, and first days, whose table is computed
_LEAST_CELLS = 5  # that a factor is seen in


def day_candidates(context: Context) -> Iterator[Cause]:
    """List runs of days of local days, and of UTC days if rows may be stored by these."""
    totals = context.screen.by_period
    if totals is None or not context.ledger.at.size:
        return
    excess = totals[1] - totals[0]
    for utc in (False, True) if context.story.zone not in (None, "UTC") else (False,):
        finder = _Finder.of(context, excess, utc)
        if finder is not None and context.in_time():
            for twice in (False, True):
                kind = "days twice" if twice else "days missing"
                if kind not in context.kinds:
                    yield from context.best(finder.runs(twice=twice), 2)
            if not utc and "amounts" not in context.kinds:
                yield from context.best(finder.factors(), 2)


@dataclass(frozen=True, eq=False)
class _Finder:
    """The amounts of each day, and by how much the remote amount of each period is higher."""

    context: Context
    excess: Floats
    utc: bool
    first: int  # day
    amounts: Floats  # of each day
    period: Ints  # of each day

    @classmethod
    def of(cls, context: Context, excess: Floats, utc: bool) -> "_Finder | None":
        days = context.utc_days() if utc else context.days
        counted = days[context.ledger.counts]
        if not counted.size or int(counted.max() - counted.min()) >= _MOST_DAYS:
            return None
        first, count = int(counted.min()), int(counted.max() - counted.min()) + 1
        units = (context.ledger.units * context.ledger.weight).astype(float)
        if context.story.settings["refunds"] == "drop":
            units = np.maximum(units, 0.0)
        if context.screen.money is None and not context.story.users:
            units = np.sign(units)
        inside = context.ledger.counts
        amounts = np.bincount(days[inside] - first, units[inside], count).astype(float)
        period = context.grid.calendar.ordinals(np.arange(first, first + count, dtype=np.int64)) - context.grid.origin
        # Days after the last period of the remote table change nothing that is compared.
        amounts[period > context.screen.last] = 0.0
        period = np.minimum(period, context.grid.periods - 1)
        return cls(context, excess, utc, first, amounts, period)

    # ---------------------------------------------------------------------------------------------------------- runs

    def runs(self, *, twice: bool) -> Iterator[tuple[float, Cause]]:
        """Return the runs of days that would cause the differences of the periods, with their bits."""
        mode = "twice" if twice else "drop"
        runs: dict[tuple[int, int], float] = {}
        for run in self._closest(1.0 if twice else -1.0):
            best = self._refined(mode, run, runs)
            yield runs[best], self._cause(self._edit(mode, *best), *best)

    def _refined(self, mode: str, run: tuple[int, int], known: dict[tuple[int, int], float]) -> tuple[int, int]:
        """Move the first and the last day of a run as long as that makes the table of the rows come closer."""
        last = self.amounts.size - 1

        def bits(run: tuple[int, int]) -> float:
            if run not in known:
                known[run] = self.context.screen.bits_of(self.context.with_edit(self._edit(mode, *run)).story)
            return known[run]

        bits(run)
        while self.context.in_time():
            begin, end = run
            near = [(begin + by, end) for by in (-2, -1, 1, 2) if begin > 0 and 0 < begin + by <= end]
            near += [(begin, end + by) for by in (-2, -1, 1, 2) if end < last and begin <= end + by < last]
            best = min(near, key=bits, default=run)
            if bits(best) >= bits(run):
                break
            run = best
        return run

    def _edit(self, mode: str, begin: int, end: int) -> Days:
        open_first, open_last = begin == 0 and mode == "drop", end == self.amounts.size - 1 and mode == "drop"
        first = None if open_first else date_of(self.first + begin)
        last = None if open_last else date_of(self.first + end)
        return Days(mode, first, last, self.utc)  # type: ignore[arg-type]

    def _cause(self, edit: Days, begin: int, end: int) -> Cause:
        chosen = edit.chosen(self.context.ledger, self.context.rows, self.context.story.zone)
        count = int(self.context.ledger.weight[chosen].sum())
        clock = " UTC" if self.utc else ""
        run = date_range(date_of(self.first + begin), date_of(self.first + end))
        days = self.amounts.size
        one_sided = edit.first is None or edit.last is None
        bits = choice(2, 1 + self.utc, days, 1 if one_sided else min(days, 1 + 2 * (end - begin)))
        if edit.first is None:
            start = date_of(self.first + end + 1)
            words = f"without the {count:,} rows before {start}{clock}: history that begins on {start}"
        elif edit.last is None:
            words = f"without the {count:,} rows from {edit.first}{clock} on: history that ends before {edit.first}"
        else:
            words = fault_phrase(f"the {count:,} rows of {run}{clock}", duplicated=edit.mode == "twice")
        kind = f"days {'twice' if edit.mode == 'twice' else 'missing'}"
        bounds = ([] if edit.first is None else [begin]) + ([] if edit.last is None else [end])
        claims = tuple(("dates", int(self.period[day])) for day in bounds)
        return Cause(kind, edit, words, bits=bits, claims=claims)

    def _closest(self, sign: float) -> list[tuple[int, int]]:
        """Return the runs of days whose amounts, times `sign`, come closest to the differences of the periods."""
        days, period = self.amounts.size, self.period
        before = np.concatenate([[0.0], np.cumsum(self.amounts)])
        starts = np.searchsorted(period, np.arange(self.excess.size), side="left")
        ends = np.searchsorted(period, np.arange(self.excess.size), side="right")
        size = np.abs(self.excess)
        whole = np.abs(self.excess - sign * (before[ends] - before[starts])) - size
        whole = np.concatenate([[0.0], np.cumsum(whole)])
        day = np.arange(days)
        # The change by removing the rest of the first day's period, and the beginning of the last day's.
        head = np.abs(self.excess[period] - sign * (before[ends[period]] - before[day])) - size[period]
        tail = np.abs(self.excess[period] - sign * (before[day + 1] - before[starts[period]])) - size[period]
        change = head[:, None] + tail + whole[period] - whole[period + 1][:, None]
        same = period[:, None] == period
        rows, columns = np.nonzero(same)
        part = sign * (before[columns + 1] - before[rows])
        change[rows, columns] = np.abs(self.excess[period[rows]] - part) - size[period[rows]]
        change[day[:, None] > day] = np.inf
        # Histories that begin or end at a day are likely, so the best of each is always tried.
        first, last = int(np.argmin(change[0])), int(np.argmin(change[:, -1]))
        likely = [(0, first), (last, days - 1)]
        best = [(int(i) // days, int(i) % days) for i in self._least(change)]
        return [run for run in dict.fromkeys([*likely, *best]) if change[run] < 0]

    @staticmethod
    def _least(change: Floats) -> Ints:
        part = np.argpartition(change, min(_TRIED, change.size - 1), axis=None)[:_TRIED]
        return part[np.argsort(change.flat[part], kind="stable")]

    # ------------------------------------------------------------------------------------------------------- factors

    def factors(self) -> Iterator[tuple[float, Cause]]:
        """Return factors of all amounts from a day on, or up to one, with their bits."""
        money = self.context.cell_money()
        if money is None:
            return
        excess, cell_of = money
        period = np.searchsorted(self.context.story.plan.edges, self.context.ledger.at, side="right") - 1
        last = int(period.max())
        for share, since in ((0.75, True), (0.5, True), (0.25, False), (0.5, False)):
            cut = int(self.period[0] + share * (last - self.period[0]))
            chosen = (period > cut) if since else (period < cut)
            inside = chosen & (cell_of >= 0)
            units = self.context.ledger.units * self.context.ledger.weight
            sums = np.bincount(cell_of[inside], units[inside], excess.size).astype(float)
            found = common_ratio(sums, sums + excess * (sums != 0), self.context.cents * self.context.rows.scale)
            simple = None if found is None or found[2] < _LEAST_CELLS else factor(*found[:2])
            if simple is None:
                continue
            for start in self._turning_days(simple[0] - 1, since=since):
                if start > 0:  # from the first day on, it is a factor of all amounts
                    yield self._factor_cause(simple, int(start), since=since)

    def _turning_days(self, share: float, *, since: bool) -> Ints:
        """Return the days from which on (or up to which) a share of the amounts comes closest to the differences."""
        days, period = self.amounts.size, self.period
        before = np.concatenate([[0.0], np.cumsum(self.amounts)])
        periods = np.arange(self.excess.size)
        starts, ends = np.searchsorted(period, periods, "left"), np.searchsorted(period, periods, "right")
        scaled = np.abs(self.excess - share * (before[ends] - before[starts]))
        plain = np.abs(self.excess)
        day = np.arange(days)
        rest = before[ends[period]] - before[day]
        part = rest if since else before[day] - before[starts[period]]
        here = np.abs(self.excess[period] - share * part)
        after, earlier = (scaled, plain) if since else (plain, scaled)
        late = np.concatenate([np.cumsum(after[::-1])[::-1], [0.0]])[period + 1]
        early = np.concatenate([[0.0], np.cumsum(earlier)])[period]
        return np.argsort(here + late + early, kind="stable")[:_TRIED]

    def _factor_cause(self, simple: tuple[float, str, float], start: int, *, since: bool) -> tuple[float, Cause]:
        number, text, bits = simple
        at = date_of(self.first + start)
        first, last = (at, None) if since else (None, date_of(self.first + start - 1))
        rows = Days("drop", first, last, self.utc)
        edit = Scaled(number, rows)
        words = f"amounts times {text} {'from' if since else 'before'} {at}{' on' if since else ''}"
        story = self.context.with_edit(edit).story
        cost = choice(2, self.amounts.size) + bits
        return self.context.screen.bits_of(story), Cause(
            "amounts", edit, words, bits=cost, claims=(("dates", int(self.period[start])),)
        )
