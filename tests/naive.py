"""The judge: the cohort tables as the semantics page tells them, slow and plain.

Nothing here is clever and nothing is shared with the library: rows are tuples (user, instant, amount), tables
are lists of dicts, money is a Python integer of units (one unit is 10 ** -decimals), a period is an integer.
"""

import calendar
import math
from collections import defaultdict
from datetime import date, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import NamedTuple
from zoneinfo import ZoneInfo

WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
LIMIT = 2**63  # what a 64-bit count of units cannot hold


class Refused(Exception):
    """The data break a rule, so there is no table."""


class Customer(NamedTuple):
    """A user who belongs to a cohort; both dicts go from age to units, an age that is not there is 0."""

    text: str
    cohort: int
    active: dict[int, int]
    amount: dict[int, int]


# --- the calendar ------------------------------------------------------------------------------------------


def period_of(day, freq, week_start="monday"):
    """Return the number of the period that holds a day; the next period's number is greater by one."""
    if freq == "D":
        return day.toordinal()
    if freq == "W":
        first = day - timedelta(days=(day.weekday() - WEEKDAYS.index(week_start)) % 7)
        return first.toordinal() // 7
    if freq == "M":
        return day.year * 12 + day.month - 1
    if freq == "Q":
        return day.year * 4 + (day.month - 1) // 3
    if freq == "A":
        return day.year
    raise ValueError(freq)


def first_day(period, freq, week_start="monday"):
    """Return the first day of a period."""
    if freq == "D":
        return date.fromordinal(period)
    if freq == "W":
        # Day 1 of Python's count, 0001-01-01, is a Monday.
        return date.fromordinal(period * 7 + (1 + WEEKDAYS.index(week_start)) % 7)
    if freq == "M":
        return date(period // 12, period % 12 + 1, 1)
    if freq == "Q":
        return date(period // 4, period % 4 * 3 + 1, 1)
    return date(period, 1, 1)


def last_day(period, freq, week_start="monday"):
    """Return the last day of a period."""
    return first_day(period + 1, freq, week_start) - timedelta(days=1)


def label(period, freq, week_start="monday"):
    """Return the text that stands for a period in a table."""
    day = first_day(period, freq, week_start)
    return {
        "D": day.isoformat(),
        "W": day.isoformat(),
        "M": f"{day.year:04}-{day.month:02}",
        "Q": f"{day.year:04}Q{(day.month - 1) // 3 + 1}",
        "A": f"{day.year:04}",
    }[freq]


def local_day(instant, timezone):
    """Cut an instant to its day: in the zone if it has one, as it stands if it has none."""
    if isinstance(instant, datetime):
        if instant.tzinfo is not None:
            instant = instant.astimezone(ZoneInfo(timezone))
        return instant.date()
    return instant


def days_of(bound):
    """Return the first and the last day that `start=` or `end=` speaks of."""
    if isinstance(bound, datetime):
        return bound.date(), bound.date()
    if isinstance(bound, date):
        return bound, bound
    if len(bound) == 10:  # 2026-01-31
        return date.fromisoformat(bound), date.fromisoformat(bound)
    if len(bound) == 7:  # 2026-01
        year, month = int(bound[:4]), int(bound[5:])
        return date(year, month, 1), date(year, month, calendar.monthrange(year, month)[1])
    if len(bound) == 6:  # 2026Q1
        year, month = int(bound[:4]), int(bound[5]) * 3
        return date(year, month - 2, 1), date(year, month, calendar.monthrange(year, month)[1])
    return date(int(bound), 1, 1), date(int(bound), 12, 31)  # 2026


def a_year_before(day):
    """Return the same day of the year before; the 28th for a 29th of February."""
    if (day.month, day.day) == (2, 29):
        return date(day.year - 1, 2, 28)
    return day.replace(year=day.year - 1)


# --- money -------------------------------------------------------------------------------------------------


def to_units(amount, decimals):
    """Read an amount as a whole number of units: a float as the nearest (ties to even), the rest exactly."""
    if isinstance(amount, float):
        if not math.isfinite(amount):
            raise Refused("NaN or infinity")
        return round(Fraction(amount) * 10**decimals)
    exact = Fraction(amount) * 10**decimals
    if isinstance(amount, Decimal) and exact.denominator != 1:
        raise Refused("more decimal places than units")
    return int(exact)


def ratio(over, under):
    """Divide two integers, once (Python rounds int / int correctly); nothing over zero."""
    return None if under == 0 else over / under


# --- from rows to customers --------------------------------------------------------------------------------


def without_nulls(tuples, nulls):
    """Leave out the tuples with a null, or refuse them."""
    whole = [cells for cells in tuples if None not in cells]
    if nulls == "error" and len(whole) < len(tuples):
        raise Refused("null")
    return whole


def joined_periods(entries, freq, timezone, week_start):
    """Return user -> period of the cohorts given from outside."""
    periods = {}
    for user, instant in entries:
        period = period_of(local_day(instant, timezone), freq, week_start)
        if periods.setdefault(user, period) != period:
            raise Refused("joined in two periods")
    return periods


def right_edge(days, freq, week_start, end, complete_only):
    """Return the last period of the table, None where there is none; `days` are those of all rows."""
    if end is not None:
        edge = period_of(days_of(end)[1], freq, week_start)
    elif days:
        edge = period_of(max(days), freq, week_start)
    else:
        return None
    if complete_only and days:
        last = max(days) if end is None else min(max(days), days_of(end)[1])
        while last_day(edge, freq, week_start) > last:
            edge -= 1
    return edge


def settle(
    transactions,
    *,
    freq="M",
    timezone="UTC",
    week_start="monday",
    refunds="net",
    joined=None,
    before_joined="error",
    start=None,
    end=None,
    complete_only=False,
    nulls="error",
    decimals=6,
):
    """Return the customers of all cohorts that are kept, and the right edge (None: there is no table)."""
    days = [local_day(instant, timezone) for _, instant, _ in transactions if instant is not None]
    edge = right_edge(days, freq, week_start, end, complete_only)

    entries = joined.items() if isinstance(joined, dict) else joined or []
    entries = without_nulls(entries, nulls)
    rows = [
        (user, period_of(local_day(instant, timezone), freq, week_start), to_units(amount, decimals))
        for user, instant, amount in without_nulls(transactions, nulls)
    ]
    if sum(abs(units) for _, _, units in rows) >= LIMIT:
        raise Refused("out of range")
    if edge is None:
        return [], None
    given = joined_periods(entries, freq, timezone, week_start)

    nets = defaultdict(lambda: defaultdict(int))  # user -> period -> units
    for user, period, units in rows:
        if period <= edge and not (refunds == "drop" and units <= 0):
            nets[user][period] += units

    customers = []
    for user in set(nets) | set(given):
        active = {period: net for period, net in nets[user].items() if net > 0}
        if user in given:
            cohort = given[user]
        elif active:
            cohort = min(active)
        else:
            continue  # never active: in no cohort

        early = sum(net for period, net in active.items() if period < cohort)
        if early and before_joined == "error":
            raise Refused("active before joined")
        if cohort > edge or (start is not None and cohort < period_of(days_of(start)[0], freq, week_start)):
            continue

        active = {period - cohort: net for period, net in active.items() if period >= cohort}
        amount = dict(active)
        if refunds == "signed":
            amount = {period - cohort: net for period, net in nets[user].items() if period >= cohort}
        if early and before_joined == "clip":
            active[0] = active.get(0, 0) + early
            amount[0] = amount.get(0, 0) + early
        customers.append(Customer(str(user), cohort, active, amount))
    return customers, edge


# --- the two tables ----------------------------------------------------------------------------------------


def cohorts(transactions, **settings):
    """Return one row per cohort and age."""
    customers, edge = settle(transactions, **settings)
    one = 10 ** settings.get("decimals", 6)
    table = []
    for cohort in sorted({customer.cohort for customer in customers}):
        members = [customer for customer in customers if customer.cohort == cohort]
        size = len(members)
        at_zero = sum(member.active.get(0, 0) for member in members)
        so_far = 0
        for age in range(edge - cohort + 1):
            active = sum(age in member.active for member in members)
            amount = sum(member.amount.get(age, 0) for member in members)
            so_far += amount
            row = {
                "cohort": label(cohort, settings.get("freq", "M"), settings.get("week_start", "monday")),
                "period": age,
                "cohort_size": size,
                "cohort_size_amount": ratio(at_zero, one),
                "active_users": active,
                "logo_retention": ratio(active, size),
                "amount": ratio(amount, one),
                "amount_retention": ratio(amount, at_zero),
                "ltv": ratio(so_far, size * one),
            }
            table.append(row)
    return table


def summary(customer, edge, freq, week_start, one):
    """Return the row by which a customer is ranked, with the default score in exact units."""
    year_ago = a_year_before(first_day(edge, freq, week_start))
    ltv = sum(customer.amount.values())
    acv = sum(
        units for age, units in customer.amount.items() if first_day(customer.cohort + age, freq, week_start) > year_ago
    )
    return {
        "score": acv + ltv,
        "cohort": label(customer.cohort, freq, week_start),
        "user_id": customer.text,
        "cohort_size_amount": ratio(customer.active.get(0, 0), one),
        "ltv": ratio(ltv, one),
        "acv": ratio(acv, one),
        "active_periods": len(customer.active),
    }


def customer_cohorts(transactions, *, basis="single_customer", rows="dense", top_n=None, rank_by=None, **settings):
    """Return one row per customer and age; `rank_by` is a column of the customer's summary."""
    customers, edge = settle(transactions, **settings)
    freq, week_start = settings.get("freq", "M"), settings.get("week_start", "monday")
    one = 10 ** settings.get("decimals", 6)

    chosen = sorted(customers, key=lambda customer: customer.text)
    if top_n is not None:  # both sorts are stable: equals stay in the order of their text

        def rank(customer):
            return summary(customer, edge, freq, week_start, one)[rank_by or "score"]

        chosen = sorted(chosen, key=rank, reverse=True)[:top_n]

    table = []
    for customer in chosen:
        own = customer.active.get(0, 0)
        members = [other for other in customers if other.cohort == customer.cohort]
        size = len(members)
        total = sum(member.active.get(0, 0) for member in members)
        so_far = so_far_of_all = 0
        for age in range(edge - customer.cohort + 1):
            amount = customer.amount.get(age, 0)
            so_far += amount
            so_far_of_all += sum(member.amount.get(age, 0) for member in members)
            if rows == "active" and age not in customer.active:
                continue
            retention = {
                "single_customer": ratio(amount, own),
                "cohort_total": ratio(amount, total),
                "cohort_mean": ratio(amount * size, total),
            }[basis]
            row = {
                "cohort": label(customer.cohort, freq, week_start),
                "user_id": customer.text,
                "period": age,
                "cohort_size_amount": ratio(own if basis == "single_customer" else total, one),
                "logo_retention": 1.0 if age in customer.active else 0.0,
                "amount": ratio(amount, one),
                "amount_retention": retention,
                "ltv": ratio(so_far, one) if basis == "single_customer" else ratio(so_far_of_all, size * one),
            }
            table.append((customer.cohort, -row["cohort_size_amount"], customer.text, age, row))
    return [row for *_, row in sorted(table, key=lambda entry: entry[:4])]
