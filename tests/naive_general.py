"""The judge of the general table: section 5 of the semantics page, word for word, slow and plain.

Rows are dicts; money is a Python integer of units, a period an integer, an average a fraction.
"""

import math
from collections import defaultdict
from datetime import date, timedelta
from fractions import Fraction
from itertools import product
from statistics import NormalDist, median
from typing import Any, NamedTuple

from naive import LIMIT, WEEKDAYS, Refused, days_of, local_day, ratio, to_units
from naive import first_day as plain_first_day
from naive import label as plain_label
from naive import period_of as plain_period_of

UNITS = ("D", "W", "M", "Q", "A")


class Person(NamedTuple):
    """A user of a cohort: activity and amounts by age, and the last age at which the user is observed."""

    user: Any
    segment: tuple[Any, ...]
    cohort: int
    day_zero: date
    last_age: int
    over_age: int  # the last age that is over by the last day of the data
    active: set[int]
    amount: dict[int, int]
    at_zero: int
    more: dict[str, dict[int, int]]


class Table(NamedTuple):
    """What a call settles before it counts: people, their calendar, and the setting of ages."""

    people: list[Person]
    settings: dict[str, Any]


# --- calendars ---------------------------------------------------------------------------------------------


def period_of(day, unit, week_start="monday", fiscal_start=1, calendar=None):
    """Return the number of the period that holds a day."""
    if unit == "calendar":
        firsts = [first for first, _ in calendar]
        if not firsts[0] <= day < firsts[-1]:
            raise Refused("outside of the calendar")
        return max(n for n, first in enumerate(firsts) if first <= day)
    if unit in ("Q", "A") and fiscal_start != 1:
        year = day.year + (day.month >= fiscal_start)
        return year if unit == "A" else year * 4 + (day.month - fiscal_start) % 12 // 3
    return plain_period_of(day, unit, week_start)


def last_day(period, unit, week_start="monday", fiscal_start=1, calendar=None):
    """Return the last day of a period."""
    if unit == "calendar":
        return calendar[period + 1][0] - timedelta(days=1)
    if unit in ("Q", "A") and fiscal_start != 1:
        after = (period + 1) * (3 if unit == "Q" else 12) + fiscal_start - 1 - 12  # months since the year 0
        return date(after // 12, after % 12 + 1, 1) - timedelta(days=1)
    return plain_first_day(period + 1, unit, week_start) - timedelta(days=1)


def label(period, unit, week_start="monday", fiscal_start=1, calendar=None):
    """Return the label of a period."""
    if unit == "calendar":
        return calendar[period][1]
    if unit in ("Q", "A") and fiscal_start != 1:
        return f"{period:04}" if unit == "A" else f"{period // 4:04}Q{period % 4 + 1}"
    return plain_label(period, unit, week_start)


# --- from rows to people -----------------------------------------------------------------------------------


def value_key(value):
    """Order values: numbers by value, text by code point, null last."""
    return (value is None, 0 if value is None else value)


def clean(rows, columns, nulls):
    """Leave out the rows with a null in a column that counts, or refuse them."""
    whole = [row for row in rows if all(row[name] is not None for name in columns)]
    if nulls == "error" and len(whole) < len(rows):
        raise Refused("null")
    return whole


def edges(rows, unit_of_cohort, unit_of_age, how, timezone, end, complete_only):
    """Return the last day that counts, the last day of the data, the last cohort, and the last period of ages."""
    days = [local_day(row["timestamp"], timezone) for row in rows if row["timestamp"] is not None]
    last = max(days, default=None)
    cut, final = last, last
    if end is not None:
        named = days_of(end)[1]
        cut = last_day(period_of(named, unit_of_cohort, **how), unit_of_cohort, **how)
        final = None if last is None else min(last, named)
    if cut is None:
        return None
    cohort = period_of(cut, unit_of_cohort, **how)
    age = None if unit_of_age is None else period_of(cut, unit_of_age, **how)
    if complete_only and final is not None:
        cohort = min(cohort, last_over(final, unit_of_cohort, how))
        age = None if unit_of_age is None else min(age, last_over(final, unit_of_age, how))
    return cut, final, cohort, age


def last_over(day, unit, how):
    """Return the last period that is over by a day."""
    period = period_of(day, unit, **how)
    return period if last_day(period, unit, **how) == day else period - 1


def people_of(
    rows, *, by=(), users=None, age=None, amount="amount", amounts=(), freq="M", timezone="UTC", week_start="monday",
    fiscal_start=1, calendar=None, refunds="net", joined=None, before_joined="error", start=None, end=None,
    complete_only=False, nulls="error", decimals=6, right_edge=None,
):  # fmt: skip
    """Return the people of all cohorts that are shown; `right_edge` are the rows that set the edges, if not `rows`."""
    how = {"week_start": week_start, "fiscal_start": fiscal_start, "calendar": calendar}
    unit = "calendar" if calendar else freq
    width = None if age in (None, *UNITS) else int(age[:-1])
    unit_of_age = None if width else age or unit
    settled = edges(right_edge or rows, unit, unit_of_age, how, timezone, end, complete_only)
    columns = ["user_id", "timestamp", *([amount] if amount else []), *amounts]
    rows = clean(rows, columns, nulls)
    entries = [dict(zip(("user_id", "at"), entry, strict=True)) for entry in joined or []]
    entries = clean(entries, ["user_id", "at"], nulls)
    for name in (*([amount] if amount else []), *amounts):
        if sum(abs(to_units(row[name], decimals)) for row in rows) >= LIMIT:
            raise Refused("out of range")
    if settled is None:
        return []
    cut, final, last_cohort, last_age_period = settled
    if calendar:
        for row in rows:
            period_of(local_day(row["timestamp"], timezone), unit, **how)

    days_joined = {}
    for entry in entries:
        day = local_day(entry["at"], timezone)
        other = days_joined.setdefault(entry["user_id"], day)
        units = [unit] + ([unit_of_age] if unit_of_age else [])
        if any(period_of(other, each, **how) != period_of(day, each, **how) for each in units):
            raise Refused("joined in two periods")
        if width and other != day:
            raise Refused("joined on two days")
        days_joined[entry["user_id"]] = min(day, other)

    rows_of = defaultdict(list)
    for row in rows:
        day = local_day(row["timestamp"], timezone)
        if day <= cut:
            units = to_units(row[amount], decimals) if amount else 1
            more = {name: to_units(row[name], decimals) for name in amounts}
            rows_of[row["user_id"]].append((row["timestamp"], day, units, more, row))

    attributes = {}
    for entry in users or []:
        if attributes.setdefault(entry["user_id"], entry) != entry:
            raise Refused("two rows of a user differ")

    people = []
    for user in set(rows_of) | set(days_joined):
        joined_day = days_joined.get(user)
        mine = rows_of[user]
        counting = [row for row in mine if not (refunds == "drop" and row[2] <= 0)]
        # --- the age period of each row
        if width:
            positive = [row for row in counting if row[2] > 0]
            if joined_day is None:
                if not positive:
                    continue
                day_zero = min(positive, key=lambda row: row[0])[1]
            else:
                day_zero = joined_day
            zero = 0

            def place(day, day_zero=day_zero):
                return (day - day_zero).days // width

            if joined_day is None:
                mine = [row for row in mine if row[1] >= day_zero]
                counting = [row for row in counting if row[1] >= day_zero]
        else:

            def place(day):
                return period_of(day, unit_of_age, **how)

            mine = [row for row in mine if place(row[1]) <= last_age_period]
            counting = [row for row in counting if place(row[1]) <= last_age_period]
        nets = defaultdict(int)
        for _, day, units, _, _ in counting:
            nets[place(day)] += units
        active = {period: net for period, net in nets.items() if net > 0}
        if not width:
            if joined_day is not None:
                zero = place(joined_day)
            elif active:
                zero = min(active)
            else:
                continue
        early = {period: net for period, net in active.items() if period < zero}
        if early and before_joined == "error":
            raise Refused("active before joined")
        # --- the first counting row
        counted = {period: net for period, net in active.items() if period >= zero or before_joined == "clip"}
        first_rows = []
        if width and joined_day is None:
            first_rows = [row for row in counting if row[2] > 0 and row[1] == day_zero]
        elif counted:
            first_rows = [row for row in counting if row[2] > 0 and place(row[1]) == min(counted)]
        if first_rows:
            first_instant = min(row[0] for row in first_rows)
            first_rows = [row for row in first_rows if row[0] == first_instant]
        if joined_day is not None:
            day_zero = joined_day
        elif not width:
            day_zero = first_rows[0][1]
        segment = []
        for name in by:
            if users is not None and (name in users[0] if users else name not in mine[0][4] if mine else True):
                segment.append(attributes.get(user, {}).get(name))
            else:
                values = [row[4][name] for row in first_rows]
                segment.append(min(values, key=value_key, default=None))
        # --- cohort and ages
        cohort = period_of(day_zero, unit, **how)
        if cohort > last_cohort or (start is not None and cohort < period_of(days_of(start)[0], unit, **how)):
            continue
        if width:
            last_age = -1 if final is None else ((final - day_zero).days + 1) // width - 1
            over_age = last_age
        else:
            last_age = last_age_period - zero
            over_age = -1 if final is None else last_over(final, unit_of_age, how) - zero
        amounts_by_age = {period - zero: net for period, net in active.items() if period >= zero}
        at_zero = amounts_by_age.get(0, 0)
        ages_active = set(amounts_by_age)
        if refunds == "signed":
            amounts_by_age = {period - zero: net for period, net in nets.items() if period >= zero}
        if early and before_joined == "clip":
            ages_active.add(0)
            at_zero += sum(early.values())
            amounts_by_age[0] = amounts_by_age.get(0, 0) + sum(early.values())
        more = {name: defaultdict(int) for name in amounts}
        for _, day, _, values, _ in mine:
            where = place(day) - zero
            if where < 0 and before_joined == "clip" and place(day) in early:
                where = 0
            for name, value in values.items():
                more[name][where] += value
        people.append(
            Person(
                user, tuple(segment), cohort, day_zero, last_age, over_age, ages_active, amounts_by_age, at_zero, more
            )
        )
    return people


# --- the table ---------------------------------------------------------------------------------------------


def columns_of(brackets, deepest):
    """Return the columns of ages: first and last age of each; the last of an open bracket is None."""
    if brackets is None:
        return [(age, age) for age in range(deepest + 1)]
    return [*zip(brackets[:-1], [after - 1 for after in brackets[1:]], strict=True), (brackets[-1], None)]


def is_active(person, first, last, retention):
    """Check whether a person counts at an age or in a bracket."""
    if retention == "unbounded":
        return any(first <= age <= person.last_age for age in person.active)
    if retention == "consecutive":
        return all(age in person.active for age in range(first + 1))
    return any(first <= age <= (person.last_age if last is None else last) for age in person.active)


def within(amounts, first, last):
    """Return the sum over the ages from `first` to `last`."""
    return sum(units for age, units in amounts.items() if first <= age <= last)


def interval_of_share(active, users, z):
    """Return Wilson's score interval."""
    p = Fraction(active, users)
    square = Fraction(z) ** 2
    middle = (p + square / (2 * users)) / (1 + square / users)
    inside = p * (1 - p) / users + square / (4 * users * users)
    half = Fraction(z) / (1 + square / users) * Fraction(math.sqrt(inside))
    return float(middle - half), float(middle + half)


def interval_of_mean(values, scale, z):
    """Return mean ± z·s/√n."""
    n = len(values)
    mean = Fraction(sum(values), n)
    variance = sum((value - mean) ** 2 for value in values) / (n - 1)
    half = z * math.sqrt(variance / n)
    return (float(mean) - half) / scale, (float(mean) + half) / scale


def interval_of_ratio(pairs, z):
    """Return the ratio of means with the paired variance."""
    n = len(pairs)
    x, y = (Fraction(sum(each), n) for each in zip(*pairs, strict=True))
    if x == 0:
        return None, None
    r = y / x
    xx = sum((a - x) ** 2 for a, _ in pairs) / (n - 1)
    yy = sum((b - y) ** 2 for _, b in pairs) / (n - 1)
    xy = sum((a - x) * (b - y) for a, b in pairs) / (n - 1)
    half = z * math.sqrt((yy - 2 * r * xy + r * r * xx) / (n * x * x))
    return float(r) - half, float(r) + half


def cohorts(rows, *, split=(), by=(), retention="exact", brackets=None, confidence=None, **settings):
    """Return one row per segment, cohort and age."""
    if split:
        table = []
        values = [sorted({row[name] for row in rows}, key=value_key) for name in split]
        for chosen in product(*values):
            mine = [row for row in rows if all(row[n] == v for n, v in zip(split, chosen, strict=True))]
            if not mine:
                continue
            columns = dict(zip(split, chosen, strict=True))
            part = cohorts(
                mine, retention=retention, brackets=brackets, confidence=confidence, right_edge=rows, **settings
            )
            table += [columns | row for row in part]
        return table
    people = people_of(rows, by=by, **settings)
    groups = defaultdict(list)
    for person in people:
        groups[tuple(value_key(value) for value in person.segment), person.cohort].append(person)
    table = []
    for (_, cohort), members in sorted(groups.items(), key=lambda group: group[0]):
        deepest = max(person.last_age for person in members)
        for first, last in columns_of(brackets, deepest):
            row = row_of(members, cohort, first, last, retention, confidence, settings, bracketed=brackets is not None)
            if row is not None:
                table.append(dict(zip(by, members[0].segment, strict=True)) | row)
    return table


def observed_in(members, first, last):
    """Return those who are observed at an age, or at the last age of a bracket (at the first of the open one)."""
    return [person for person in members if person.last_age >= (first if last is None else last)]


def row_of(members, cohort, first, last, retention, confidence, settings, *, bracketed):
    """Return the row of a cohort at an age or in a bracket; None where nobody is observed."""
    unit = "calendar" if settings.get("calendar") else settings.get("freq", "M")
    how = {
        "week_start": settings.get("week_start", "monday"), "fiscal_start": settings.get("fiscal_start", 1),
        "calendar": settings.get("calendar"),
    }  # fmt: skip
    one = 10 ** settings.get("decimals", 6)
    money = settings.get("amount", "amount") is not None
    seen = observed_in(members, first, last)
    if not seen:
        return None
    until = [person.last_age if last is None else last for person in seen]
    active = sum(is_active(person, first, last, retention) for person in seen)
    row = {"cohort": label(cohort, unit, **how), "period": first}
    if bracketed:
        row["period_end"] = last
    row["cohort_size"] = len(members)
    if money:
        row["cohort_size_amount"] = ratio(sum(person.at_zero for person in members), one)
    row["observed"] = len(seen)
    row["active_users"] = active
    row["logo_retention"] = ratio(active, len(seen))
    z = NormalDist().inv_cdf((1 + confidence) / 2) if confidence else None
    enough = len(seen) > 1
    if confidence:
        row["logo_low"], row["logo_high"] = interval_of_share(active, len(seen), z) if enough else (None, None)
    if money:
        amounts = [within(person.amount, first, end) for person, end in zip(seen, until, strict=True)]
        totals = [within(person.amount, 0, end) for person, end in zip(seen, until, strict=True)]
        starts = [person.at_zero for person in seen]
        row["amount"] = ratio(sum(amounts), one)
        row["amount_retention"] = ratio(sum(amounts), sum(starts))
        if confidence:
            both = interval_of_ratio(list(zip(starts, amounts, strict=True)), z) if enough else (None, None)
            row["amount_retention_low"], row["amount_retention_high"] = both
        row["ltv"] = ratio(sum(totals), len(seen) * one)
        if confidence:
            row["ltv_low"], row["ltv_high"] = interval_of_mean(totals, one, z) if enough else (None, None)
    for name in settings.get("amounts", ()):
        amounts = [within(person.more[name], first, end) for person, end in zip(seen, until, strict=True)]
        totals = [within(person.more[name], 0, end) for person, end in zip(seen, until, strict=True)]
        row[name] = ratio(sum(amounts), one)
        row[f"{name}_ltv"] = ratio(sum(totals), len(seen) * one)
    row["complete"] = all(person.over_age >= (first if last is None else last) for person in members)
    return row


def users(
    rows, cohort, period, *, active=True, segment=None, by=(), retention="exact", brackets=None, confidence=None,
    **settings,
):  # fmt: skip
    """Return the users of a cell, largest amount first."""
    unit = "calendar" if settings.get("calendar") else settings.get("freq", "M")
    how = {
        "week_start": settings.get("week_start", "monday"), "fiscal_start": settings.get("fiscal_start", 1),
        "calendar": settings.get("calendar"),
    }  # fmt: skip
    one = 10 ** settings.get("decimals", 6)
    last = period if brackets is None else dict(columns_of(brackets, 0))[period]
    listed = []
    for person in observed_in(people_of(rows, by=by, **settings), period, last):
        here = dict(zip(by, person.segment, strict=True))
        if label(person.cohort, unit, **how) != cohort or any(here[k] != v for k, v in (segment or {}).items()):
            continue
        if active is not None and is_active(person, period, last, retention) != active:
            continue
        end = person.last_age if last is None else last
        row = {"user_id": person.user} | here | {"first_day": person.day_zero}
        units = within(person.amount, period, end)
        if settings.get("amount", "amount") is not None:
            row |= {"amount": ratio(units, one), "ltv": ratio(within(person.amount, 0, end), one)}
        else:
            units = 0
        for name in settings.get("amounts", ()):
            row[name] = ratio(within(person.more[name], period, end), one)
            row[f"{name}_ltv"] = ratio(within(person.more[name], 0, end), one)
        listed.append((-units, person.user, row))
    return [row for _, _, row in sorted(listed, key=lambda entry: entry[:2])]


# --- averages over cohorts ---------------------------------------------------------------------------------


def summary(table, by=()):
    """Return one row per segment and age, over the cohorts that are complete there (by the column `complete`)."""
    rows = []
    for segment in sorted({tuple(value_key(row[name]) for name in by) for row in table}):
        mine = [row for row in table if tuple(value_key(row[name]) for name in by) == segment]
        so_far = []
        for age in sorted({row["period"] for row in mine}):
            cells = [row for row in mine if row["period"] == age and row["complete"]]
            if not cells:
                continue
            size = sum(row["cohort_size"] for row in cells)
            row = {name: cells[0][name] for name in by} | {"period": age, "cohorts": len(cells), "users": size}
            averages = {"logo_retention": ratio(sum(cell["active_users"] for cell in cells), size)}
            if "amount" in cells[0]:
                amount = math.fsum(cell["amount"] for cell in cells)
                first = math.fsum(cell["cohort_size_amount"] for cell in cells)
                so_far.append(ratio(amount, size))
                averages["amount_retention"] = ratio(amount, first)
                averages["ltv"] = math.fsum(so_far)
            for name, value in averages.items():
                values = [cell[name] for cell in cells if cell[name] is not None]
                row[name] = value
                row[f"{name}_min"] = min(values, default=None)
                row[f"{name}_median"] = median(values) if values else None
                row[f"{name}_max"] = max(values, default=None)
            rows.append(row)
    return rows


assert WEEKDAYS[0] == "monday"
