"""The chain ladder: what a cohort's revenue and payers will have grown to, from how older cohorts grew.

Between two fixed ages, revenue and payers of each product duration grow as those of the older cohorts did: the
coefficient is the sum over those cohorts at the later age divided by their sum at the earlier. A cohort's own figures
at the last fixed age that it has reached are multiplied by the coefficients up to the horizon, and summed over
durations.
"""

from dataclasses import dataclass, replace
from datetime import date, timedelta
from functools import reduce
from math import fsum
from operator import add

import numpy as np
import polars as pl
from numpy.typing import NDArray

from cohortlib.adapty.installs import Installs
from cohortlib.adapty.kernels.add import add_ladder
from cohortlib.adapty.kernels.records import Scratch
from cohortlib.adapty.question import Question
from cohortlib.adapty.read.events import Events
from cohortlib.adapty.rows import Columns, durations
from cohortlib.adapty.sums import Ledger, Settled, column_of_age
from cohortlib.engine.partitions import check_size
from cohortlib.read.arrays import Ints

AGES = (7, 14, 28, 61, 90, 183, 274, 365, 548, 730)
HORIZONS = {3: 90, 6: 183, 9: 274, 12: 365, 18: 548, 24: 730}
UNITS = ("week", "month")
PAYERS = 30
COHORTS = 2


@dataclass(frozen=True)
class Prediction:
    """Revenue and payers of a segment at the horizon; or the reason why they are not known."""

    revenue: float = 0.0
    payers: float = 0.0
    reason: str | None = None


@dataclass(frozen=True)
class Ladder:
    """Revenue and payers by (duration, segment, age), and payers of any duration by (segment, age), cumulative.

    The last column has no end. `durations` are those of the rows, of which the first is none; `last_days` are the last
    days on which the segments may have had installs. Ladders of disjoint users add.
    """

    durations: tuple[str, ...]
    revenue: Ints
    payers: Ints
    paid: Ints
    trial: int
    last_days: Ints

    @classmethod
    def of(cls, events: Events, installs: Installs, question: Question) -> "Ladder":
        """Add up the users of all segments of a frame, from what is dated up to its end."""
        question = replace(question, conventions=replace(question.conventions, after_to="drop"))
        ledger = Ledger.of(events, installs, question, durations=True)
        names = durations(events.frame)
        rungs, _ = ledger.settle(lambda question: _Rungs(question, 1 + len(names)))
        money, payers, paid = reduce(lambda one, other: [*map(add, one, other)], (rung.sums for rung in rungs))
        return cls(
            ("", *names),
            np.cumsum(money, axis=2),
            np.cumsum(payers, axis=2),
            np.cumsum(paid, axis=1),
            max(int(rung.trial[0]) for rung in rungs),
            question.segments.ends,
        )

    def __add__(self, other: "Ladder") -> "Ladder":
        first, *rest = self.durations
        names = (first, *sorted({*rest, *other.durations[1:]}))

        def both(one: Ints, two: Ints) -> Ints:
            total = np.zeros((len(names), *one.shape[1:]), np.int64)
            for told, cells in ((self.durations, one), (other.durations, two)):
                total[[names.index(name) for name in told]] += cells
            return total

        return Ladder(
            names,
            both(self.revenue, other.revenue),
            both(self.payers, other.payers),
            self.paid + other.paid,
            max(self.trial, other.trial),
            self.last_days,
        )


class _Rungs:
    """What a worker adds up."""

    def __init__(self, question: Question, kinds: int) -> None:
        shape = (kinds, len(question.segments), len(AGES) + 1)
        check_size(int(np.prod(shape)), "a shorter date")
        self.sums = [np.zeros(shape, np.int64), np.zeros(shape, np.int64), np.zeros(shape[1:], np.int64)]
        self.trial = np.zeros(1, np.int64)
        self._column_of_age = column_of_age(AGES)

    def add(self, columns: Columns, settled: Settled, scratch: Scratch) -> None:
        add_ladder(settled.users, columns.rows, columns.extras, self._column_of_age, *self.sums, self.trial, scratch)


def predict(events: Events, installs: Installs, question: Question) -> list[Prediction]:
    """Predict each segment of a frame, the total first."""
    since = earliest(events, installs, question.request.date[0])
    return predictions(ladders(events, installs, question, since), question)


def ladders(events: Events, installs: Installs, question: Question, since: date) -> tuple[Ladder, Ladder] | None:
    """Give the ladder of a frame and that of all cohorts since a day; None where nothing is predicted.

    Those of disjoint users add.
    """
    if question.request.period_unit not in UNITS:
        return None
    question = replace(question, progress=None)
    first, to = question.request.date
    whole = replace(question.request, date=(min(first, since), to))
    own = Ladder.of(events, installs, question)
    return own, Ladder.of(events, installs, replace(question, request=whole))


def predictions(both: tuple[Ladder, Ladder] | None, question: Question) -> list[Prediction]:
    """Predict each segment of a frame, the total first, from the ladders of all users."""
    count = len(question.segments)
    if both is None:
        return [Prediction(reason="only cohorts of weeks and months are predicted")] * (count + 1)
    singles = [_predicted(*both, segment, question) for segment in range(count)]
    return [Prediction(reason="the total is no cohort of a week or a month"), *singles]


def earliest(events: Events, installs: Installs, first: date) -> date:
    """Give a day, `first` or one before it, before which no user can have come."""
    columns = [events.frame[name] for name in ("event_datetime", "install_date") if name in events.frame.columns]
    if installs.users is not None and installs.frame is not None:
        columns.append(installs.frame["install_date"])
    days = [least for column in columns if (least := column.cast(pl.Date).min()) is not None]
    # The local day may be the one before.
    return min([first, *(day - timedelta(1) for day in days if isinstance(day, date) and day > date.min)])


def _predicted(own: Ladder, history: Ladder, segment: int, question: Question) -> Prediction:
    """Predict one segment, or say why not."""
    horizon = HORIZONS[question.request.prediction_months]
    edge = min(question.as_of, question.segments.last)
    age = edge - int(own.last_days[segment])
    wait = max(own.trial, history.trial, AGES[0])
    reached = sum(day <= age for day in AGES) - 1
    if reached < 0 or AGES[reached] < wait:
        wait = next(day for day in AGES if day >= wait)
        return Prediction(reason=f"{age:,} days since the last install; a prediction needs {wait}, trials being over")
    if age >= horizon:
        return Prediction(reason=f"{age:,} days since the last install: the horizon of {horizon} days is reached")
    payers = int(own.paid[segment, reached])
    if payers < PAYERS:
        return Prediction(reason=f"{payers:,} payers by day {AGES[reached]}; a prediction needs {PAYERS}")
    ages = edge - history.last_days
    rungs = np.searchsorted(AGES, ages, side="right") - 1
    large = (rungs >= 0) & (history.paid[np.arange(ages.size), rungs] >= PAYERS)
    revenue = own.revenue[:, segment, reached].astype(float)
    users = own.payers[:, segment, reached].astype(float)
    for column in range(reached, AGES.index(horizon)):
        # What is old enough is older than the segment itself.
        older = large & (rungs > column)
        if older.sum() < COHORTS:
            return Prediction(
                reason=f"{older.sum()} older cohorts with {PAYERS} payers have reached day {AGES[column + 1]}; "
                f"a prediction needs {COHORTS}"
            )
        revenue *= _growth(history.revenue[:, older, column : column + 2].sum(axis=1))
        users *= _growth(history.payers[:, older, column : column + 2].sum(axis=1))
    # Rounded once, so that durations which nobody has do not matter.
    return Prediction(fsum(revenue) / 10**question.decimals, fsum(users))


def _growth(sums: Ints) -> NDArray[np.float64]:
    """Divide the later by the earlier sum of each duration; where the earlier is not above 0, those of all together."""
    together = sums.sum(axis=0)
    pooled = together[1] / together[0] if together[0] > 0 else 1.0
    earlier = sums[:, 0].astype(float)
    return np.where(earlier > 0, sums[:, 1] / np.where(earlier > 0, earlier, 1.0), pooled)
