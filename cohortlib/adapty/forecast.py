"""Predict a cohort's revenue and payers by a chain ladder: from how older cohorts grew.

Between two fixed ages, revenue and payers of each product duration are assumed to grow as those of the older cohorts
did: the coefficient is the sum over those cohorts at the later age divided by their sum at the earlier one. A cohort's
own figures at the last fixed age it has reached are multiplied by the coefficients up to the horizon, then summed over
durations.
"""

from dataclasses import dataclass, replace
from datetime import date, timedelta
from functools import reduce
from math import fsum
from operator import add
from typing import TypeAlias

import numpy as np
import polars as pl
from numpy.typing import NDArray

from cohortlib.adapty.aggregate import Aggregation, Linked, column_of_age
from cohortlib.adapty.durations import with_durations
from cohortlib.adapty.installs import Installs
from cohortlib.adapty.kernels.add import add_ladder
from cohortlib.adapty.kernels.records import EventColumns, Scratch
from cohortlib.adapty.plan import RequestPlan
from cohortlib.adapty.read.events import Events
from cohortlib.adapty.rows import durations
from cohortlib.engine.partitions import check_size
from cohortlib.read.arrays import Ints

# Days since the first day of the cohort's period (or since the install), up to which revenue and payers are
# cumulated; and the horizon of each prediction_months.
AGES = (7, 14, 28, 61, 90, 183, 274, 365, 548, 730)
HORIZONS = {3: 90, 6: 183, 9: 274, 12: 365, 18: 548, 24: 730}
UNITS = ("week", "month")
LENGTHS = {"week": 7, "month": 31}  # days, of the longest
MIN_PAYERS = 30
MIN_COHORTS = 2


@dataclass(frozen=True)
class Prediction:
    """Revenue and payers of a segment at the horizon, or the reason why there is no prediction."""

    revenue: float = 0.0
    payers: float = 0.0
    reason: str | None = None


@dataclass(frozen=True)
class Ladder:
    """Revenue and payers by (duration, segment, age), and payers of any duration by (segment, age), cumulative.

    The last column is open-ended. `durations` names the durations; the first is "", for rows without one. `trial` is
    the longest trial in days. `origins` is the day of each segment from which its ages count: the first day of its
    period, or the last day of its installs. Ladders of disjoint users add.
    """

    durations: tuple[str, ...]
    revenue: Ints
    payers: Ints
    paid: Ints
    trial: int
    origins: Ints

    @classmethod
    def of(cls, events: Events, installs: Installs, plan: RequestPlan) -> "Ladder":
        """Aggregate the users of all segments, from events dated up to the end of the request's date range."""
        plan = replace(plan, conventions=replace(plan.conventions, after_to="drop"))
        events = with_durations(events, plan)
        aggregation = Aggregation.of(events, installs, plan, durations=True)
        names = durations(events.frame)
        adders, _ = aggregation.run(lambda plan: _LadderAdder(plan, 1 + len(names)))
        money, payers, paid = reduce(lambda one, other: [*map(add, one, other)], (adder.sums for adder in adders))
        return cls(
            ("", *names),
            np.cumsum(money, axis=2),
            np.cumsum(payers, axis=2),
            np.cumsum(paid, axis=1),
            max(int(adder.trial[0]) for adder in adders),
            plan.segments.starts if plan.conventions.ladder_age == "cohort" else plan.segments.ends,
        )

    def __add__(self, other: "Ladder") -> "Ladder":
        first, *rest = self.durations
        names = (first, *sorted({*rest, *other.durations[1:]}))

        def added(left: Ints, right: Ints) -> Ints:
            total = np.zeros((len(names), *left.shape[1:]), np.int64)
            for own, cells in ((self.durations, left), (other.durations, right)):
                total[[names.index(name) for name in own]] += cells
            return total

        return Ladder(
            names,
            added(self.revenue, other.revenue),
            added(self.payers, other.payers),
            self.paid + other.paid,
            max(self.trial, other.trial),
            self.origins,
        )


Ladders: TypeAlias = tuple[Ladder, Ladder]
"""The ladder of a request's segments, and that of all cohorts."""


def add_ladders(one: Ladders | None, other: Ladders | None) -> Ladders | None:
    """Add the ladders of disjoint users; None for period units that are not predicted."""
    return None if one is None or other is None else (one[0] + other[0], one[1] + other[1])


class _LadderAdder:
    """Add up revenue and payers by duration, segment and age."""

    def __init__(self, plan: RequestPlan, durations: int) -> None:
        shape = (durations, len(plan.segments), len(AGES) + 1)
        check_size(int(np.prod(shape)), "a shorter date")
        self.sums = [np.zeros(shape, np.int64), np.zeros(shape, np.int64), np.zeros(shape[1:], np.int64)]
        self.trial, self.installed = np.zeros(1, np.int64), np.zeros(len(plan.segments), np.int64)
        self._column_of_age = column_of_age(AGES)
        by_cohort = plan.conventions.ladder_age == "cohort"
        self._starts = plan.segments.starts.astype(np.int64) if by_cohort else np.empty(0, np.int64)

    def add(self, columns: EventColumns, linked: Linked, scratch: Scratch) -> None:
        add_ladder(
            linked.users, columns.rows, columns.extras, self._column_of_age, self._starts, *self.sums, self.trial,
            scratch,
        )  # fmt: skip


def predict(events: Events, installs: Installs, plan: RequestPlan) -> list[Prediction]:
    """Predict each segment; the total comes first."""
    since = earliest(events, installs, plan.request.date[0])
    return predictions(ladders(events, installs, plan, since), plan)


def ladders(events: Events, installs: Installs, plan: RequestPlan, since: date) -> Ladders | None:
    """Compute the ladder of the request's segments and that of all cohorts since a day.

    None for period units that are not predicted. Ladders of disjoint users add.
    """
    if plan.request.period_unit not in UNITS:
        return None
    plan = replace(plan, progress=None)
    first, to = plan.request.date
    whole = replace(plan.request, date=(min(first, since), to))
    own = Ladder.of(events, installs, plan)
    return own, Ladder.of(events, installs, replace(plan, request=whole))


def predictions(pair: Ladders | None, plan: RequestPlan) -> list[Prediction]:
    """Predict each segment from the ladders of all users; the total comes first."""
    count = len(plan.segments)
    if pair is None:
        return [Prediction(reason="only cohorts of weeks and months are predicted")] * (count + 1)
    singles = [_predicted(*pair, segment, plan) for segment in range(count)]
    return [Prediction(reason="the total is no cohort of a week or a month"), *singles]


def earliest(events: Events, installs: Installs, first: date) -> date:
    """Return a day, at most `first`, before which no user can have installed."""
    columns = [events.frame[name] for name in ("event_datetime", "install_date") if name in events.frame.columns]
    if installs.users is not None and installs.frame is not None:
        columns.append(installs.frame["install_date"])
    days = [least for column in columns if (least := column.cast(pl.Date).min()) is not None]
    # Minus one day, since the local day may be the day before in UTC.
    return min([first, *(day - timedelta(1) for day in days if isinstance(day, date) and day > date.min)])


def _predicted(own: Ladder, history: Ladder, segment: int, plan: RequestPlan) -> Prediction:
    """Predict one segment, or explain why not."""
    horizon = HORIZONS[plan.request.prediction_months]
    edge = min(plan.as_of, plan.segments.last)
    age = edge - int(own.origins[segment])
    by_cohort = plan.conventions.ladder_age == "cohort"
    since = "the cohort's first day" if by_cohort else "the last install"
    # By the first age used, all users of a cohort have installed and their trials are over.
    wait = max(own.trial, history.trial) + (LENGTHS[plan.request.period_unit] if by_cohort else 0)
    wait = max(wait, AGES[0])
    reached = sum(day <= age for day in AGES) - 1
    if reached < 0 or AGES[reached] < wait:
        wait = next(day for day in AGES if day >= wait)
        return Prediction(reason=f"{age:,} days since {since}; a prediction needs {wait}, after all trials")
    if age >= horizon:
        return Prediction(reason=f"{age:,} days since {since}: the horizon of {horizon} days is reached")
    payers = int(own.paid[segment, reached])
    if payers < MIN_PAYERS:
        return Prediction(reason=f"{payers:,} payers by day {AGES[reached]}; a prediction needs {MIN_PAYERS}")
    ages = edge - history.origins
    rungs = np.searchsorted(AGES, ages, side="right") - 1
    large = (rungs >= 0) & (history.paid[np.arange(ages.size), rungs] >= MIN_PAYERS)
    revenue = own.revenue[:, segment, reached].astype(float)
    users = own.payers[:, segment, reached].astype(float)
    for column in range(reached, AGES.index(horizon)):
        # Cohorts that have reached the next age are older than the segment, which has not.
        older = large & (rungs > column)
        if older.sum() < MIN_COHORTS:
            return Prediction(
                reason=f"{older.sum()} older cohorts with {MIN_PAYERS} payers have reached day {AGES[column + 1]}; "
                f"a prediction needs {MIN_COHORTS}"
            )
        revenue *= _growth(history.revenue[:, older, column : column + 2].sum(axis=1))
        users *= _growth(history.payers[:, older, column : column + 2].sum(axis=1))
    # fsum rounds once, so durations without payers do not change the result.
    return Prediction(fsum(revenue) / 10**plan.decimals, fsum(users))


def _growth(sums: Ints) -> NDArray[np.float64]:
    """Divide the later by the earlier sum of each duration; if the earlier is not positive, by pooled sums."""
    total = sums.sum(axis=0)
    pooled = total[1] / total[0] if total[0] > 0 else 1.0
    earlier = sums[:, 0].astype(float)
    return np.where(earlier > 0, sums[:, 1] / np.where(earlier > 0, earlier, 1.0), pooled)
