"""The judge of predictions: section 3.8 of the semantics page, told slow and plain, in fractions.

What the events say of each user (which rows count, in which order, whose payment a refund takes back, when the user
came) is told by the judge of the table; the ladder is told here. Nothing is shared with the library.
"""

from collections import defaultdict
from datetime import date
from fractions import Fraction
from functools import cache
from itertools import pairwise

import naive
from naive_adapty import (
    FREQ,
    REPORT,
    counting,
    day_of,
    installed_on,
    match_refunds,
    paid_duration,
    text,
    user_of,
    without_repeats,
)

FIXED = (7, 14, 28, 61, 90, 183, 274, 365, 548, 730)
HORIZON = {3: 90, 6: 183, 9: 274, 12: 365, 18: 548, 24: 730}
ENOUGH = 30  # payers
SEVERAL = 2  # older cohorts

# Why there is no prediction, each with the number that goes with it.
UNIT, FEW, YOUNG, PAST, OLDER, TOTAL = "unit", "few", "young", "past", "older", "total"


def order(row):
    """Return the key of the order in which a user's rows are walked: all that a prediction may depend on."""

    def nulls_first(value):
        return (False,) if value is None else (True, value)

    told = [row.transaction, row.expires, row.duration, row.chain[2] if row.chain[1] == "id" else None]
    transaction, expires, duration, chain = map(nulls_first, told)
    return (row.instant, row.kind, transaction, row.money, not row.passes, expires, duration, chain)


def stories(events, filters, installs, *, timezone, to, decimals):
    """Return, by user, the day the user came and the rows that count and pass, in their order; each has a duration."""
    rows_of = defaultdict(list)
    for at, event in enumerate(events):
        rows = counting(
            [event], dict.fromkeys(REPORT, 0), filters,
            unit="profile_id", refund_upgraded="zero", timezone=timezone, nulls="error", decimals=decimals,
        )  # fmt: skip
        for row in rows:
            row.duration = lowered(text(event, "duration"))
            if "duration" not in event and "subscription_expires_at" in event:
                row.duration = lowered(paid_duration(row))
            if row.chain[1] == "row":
                row.chain = (row.user, "row", at)
            if row.day <= to:
                rows_of[row.user].append(row)
    came_of = defaultdict(list)
    for entry in () if installs == "from_events" else installs:
        came_of[user_of(entry, "profile_id")].append(day_of(entry["install_date"], timezone))
    found = {}
    for user, rows in rows_of.items():
        rows.sort(key=order)
        came = installed_on(rows, came_of[user])
        kept = without_repeats(rows)
        match_refunds(kept)
        if came is not None:
            found[user] = came, [row for row in kept if (row.payment or row).passes]
    return found


def age_of(row, origin):
    return max(0, (row.day - origin).days)


def is_payment(row):
    return 1 <= row.kind <= 4


def grown_to(users, duration, age):
    """Return revenue and payers of one duration up to an age; a refund goes to the duration of what it refunds."""
    revenue, payers = 0, 0
    for came, rows in users:
        upto = [row for row in rows if age_of(row, came) <= age and (row.payment or row).duration == duration]
        revenue += sum(-abs(row.money[0]) if row.kind >= 5 else row.money[0] for row in upto)
        payers += any(is_payment(row) for row in upto)
    return revenue, payers


def lowered(name):
    return None if name is None else name.lower()


def paid_by(users, age):
    """Count the users who have paid up to an age."""
    return sum(any(is_payment(row) and age_of(row, came) <= age for row in rows) for came, rows in users)


def coefficient(sum_of, duration, durations, younger, older):
    """Divide what cohorts had at the older age by what they had at the younger.

    Where a duration had nothing (or less) at the younger age, all durations together tell; where they too had
    nothing, nothing grows.
    """
    for some in ([duration], durations):
        before = sum(sum_of(one, younger) for one in some)
        if before > 0:
            return Fraction(sum(sum_of(one, older) for one in some), before)
    return Fraction(1)


def predictions(
    events, request, *, installs, timezone="UTC", as_of=None, week_start="monday", decimals=6, ladder_age="cohort"
):
    """Return the total's and each segment's prediction: (revenue, payers), or (reason, number)."""
    filters = request["filters"]
    first, to = (date.fromisoformat(day) for day in filters["date"])
    unit = request.get("period_unit", "month")
    freq = FREQ[unit]
    segments = range(naive.period_of(first, freq, week_start), naive.period_of(to, freq, week_start) + 1)
    if unit not in ("week", "month"):
        return [(UNIT, None)] * (len(segments) + 1)
    horizon = HORIZON[request.get("prediction_months", 12)]
    edge = to if as_of is None else min(as_of, to)
    found = stories(events, filters, installs, timezone=timezone, to=to, decimals=decimals)

    # Every cohort of the app, those before the frame too; and of the frame's, the part that is in it. Ages count from
    # the first day of the cohort's period, or from each user's install.
    cohorts, mine = defaultdict(list), defaultdict(list)
    for came, rows in found.values():
        cohort = naive.period_of(came, freq, week_start)
        origin = naive.first_day(cohort, freq, week_start) if ladder_age == "cohort" else came
        if came <= to:
            cohorts[cohort].append((origin, rows))
        if first <= came <= to:
            mine[cohort].append((origin, rows))
    everybody = [user for users in cohorts.values() for user in users]
    durations = {(row.payment or row).duration for _, rows in everybody for row in rows}
    trials = [
        (row.expires - row.day).days
        for _, rows in everybody
        for row in rows
        if row.kind == 0 and row.expires is not None and (row.expires - row.day).days <= 92
    ]

    @cache
    def grown(cohort, duration, age):
        return grown_to(cohorts[cohort], duration, age)

    def over_since(cohort):
        if ladder_age == "cohort":
            return (edge - naive.first_day(cohort, freq, week_start)).days
        return (edge - min(naive.last_day(cohort, freq, week_start), to)).days

    def one(segment):
        users, age = mine[segment], over_since(segment)
        start = max((fixed for fixed in FIXED if fixed <= age), default=-1)
        window = {"week": 7, "month": 31}[unit] if ladder_age == "cohort" else 0
        if start < max(FIXED[0], window + max([0, *trials])):
            return YOUNG, age
        if age >= horizon:
            return PAST, age
        if paid_by(users, start) < ENOUGH:
            return FEW, paid_by(users, start)
        before = [cohort for cohort in cohorts if cohort < segment]
        sums = {duration: [*map(Fraction, grown_to(users, duration, start))] for duration in durations}
        steps = [fixed for fixed in FIXED if start <= fixed <= horizon]
        for younger, older in pairwise(steps):
            those = [
                one
                for one in before
                if over_since(one) >= older
                and paid_by(cohorts[one], max(fixed for fixed in FIXED if fixed <= over_since(one))) >= ENOUGH
            ]
            if len(those) < SEVERAL:
                return OLDER, len(those)
            for which in (0, 1):

                def sum_of(duration, age, which=which, those=those):
                    return sum(grown(cohort, duration, age)[which] for cohort in those)

                for duration in durations:
                    sums[duration][which] *= coefficient(sum_of, duration, durations, younger, older)
        return tuple(sum(column) for column in zip(*sums.values(), strict=True))

    # The total spans many cohorts, so it is none; and its last day is `to`, so its window is never over.
    return [(TOTAL, None), *map(one, segments)]
