"""The judge of the accountings and of concentration: definitions word for word, user after user, in fractions."""

from fractions import Fraction

import naive

ROOTS = {"M": {"cmgr3": 3, "cmgr6": 6, "cmgr12": 12}, "Q": {"cqgr1": 1, "cqgr2": 2, "cqgr4": 4}}


def activity(transactions, **settings):
    """Return the users' active amounts and all amounts, by user's text and period, and the periods of the table."""
    customers, edge = naive.settle(transactions, **settings | {"start": None})
    active = {c.text: {c.cohort + age: units for age, units in c.active.items()} for c in customers}
    amount = {c.text: {c.cohort + age: units for age, units in c.amount.items()} for c in customers}
    first = min((period for periods in active.values() for period in periods), default=None)
    return active, amount, [] if first is None else list(range(first, edge + 1))


def as_rows(table, periods, start=None, freq="M", week_start="monday", **_):
    """Return the rows to show: those of periods from `start` on."""
    since = None if start is None else naive.period_of(naive.days_of(start)[0], freq, week_start)
    labels = [naive.label(period, freq, week_start) for period in periods]
    return [
        {"date": label, **row}
        for label, period, row in zip(labels, periods, table, strict=True)
        if since is None or period >= since
    ]


def quotient(above, below):
    """Return the float nearest to a quotient, None where nothing is divided by."""
    return None if below == 0 else float(Fraction(above) / Fraction(below))


def rates(values, at, freq):
    """Return the six growth rates of a value in a period; `values` is by position, `at` the position."""
    found = dict.fromkeys([name for names in ROOTS.values() for name in names])
    for name, back in ROOTS.get(freq, {}).items():
        if at >= back and values[at] > 0 and values[at - back] > 0:
            found[name] = (values[at] / values[at - back]) ** (1 / back) - 1
    return found


def user_accounting(transactions, **settings):
    """Return one row per period."""
    active, _, periods = activity(transactions, **settings)
    freq = settings.get("freq", "M")
    counts = [sum(period in spans for spans in active.values()) for period in periods]
    table = []
    for at, period in enumerate(periods):
        now = {user for user, spans in active.items() if period in spans}
        before = {user for user, spans in active.items() if period - 1 in spans}
        ever = {user for user, spans in active.items() if min(spans) < period}
        row = {
            "active_users": len(now),
            "retained": len(now & before),
            "new": len(now - ever),
            "resurrected": len((now & ever) - before),
            "churned": -len(before - now),
            **rates(counts, at, freq),
        }
        row["logo_retention"] = quotient(row["retained"], len(before))
        row["quick_ratio"] = quotient(row["new"] + row["resurrected"], -row["churned"])
        table.append(row)
    return as_rows(table, periods, **settings)


def growth_accounting(transactions, **settings):
    """Return one row per period."""
    active, amount, periods = activity(transactions, **settings)
    one, freq = 10 ** settings.get("decimals", 6), settings.get("freq", "M")
    totals = [sum(spans.get(period, 0) for spans in active.values()) for period in periods]
    table = []
    so_far = {"gained": 0, "lost": 0, "kept": 0, "net_lost": 0, "before": 0}
    for at, period in enumerate(periods):
        units = dict.fromkeys(("retained", "new", "resurrected", "expansion", "contraction", "churned"), 0)
        for spans in active.values():
            before, now = spans.get(period - 1, 0), spans.get(period, 0)
            if before and now:
                units["retained"] += min(before, now)
                units["expansion"] += max(now - before, 0)
                units["contraction"] -= max(before - now, 0)
            elif before:
                units["churned"] -= before
            elif now:
                units["new" if period == min(spans) else "resurrected"] += now
        lost = -units["churned"] - units["contraction"]
        terms = {
            "gained": units["new"] + units["resurrected"] + units["expansion"],
            "lost": lost,
            "kept": units["retained"],
            "net_lost": lost - units["resurrected"] - units["expansion"],
            "before": totals[at - 1] if at else 0,
        }
        if at:
            so_far = {name: so_far[name] + terms[name] for name in terms}
        row = {"amount": quotient(sum(spans.get(period, 0) for spans in amount.values()), one)}
        row |= {name: quotient(value, one) for name, value in units.items()}
        row |= rates(totals, at, freq)
        for prefix, of in (("", terms), ("lifetime_", so_far)):
            row[f"{prefix}quick_ratio"] = quotient(of["gained"], of["lost"])
            row[f"{prefix}gross_retention"] = quotient(of["kept"], of["before"])
            row[f"{prefix}net_churn"] = quotient(of["net_lost"], of["before"])
        table.append(row)
    return as_rows(table, periods, **settings)


# --- concentration -----------------------------------------------------------------------------------------


def percentile(amounts, percent):
    """Return a percentile of sorted amounts, with linear interpolation, as a fraction."""
    place = Fraction((len(amounts) - 1) * percent, 100)
    below = int(place)
    above = min(below + 1, len(amounts) - 1)
    return amounts[below] + (place - below) * (amounts[above] - amounts[below])


def spread(amounts, one):
    """Return the metrics of a period's active amounts."""
    amounts = sorted(amounts)
    users, total = len(amounts), sum(amounts)
    row = {}
    for count in (5, 10, 20):
        row[f"top_{count}_count"] = quotient(sum(amounts[-count:]), total)
    for percent in (10, 20):
        count = -(-percent * users // 100)
        row[f"top_{percent}_percent"] = quotient(sum(amounts[-count:]), total)
    row["mean"] = quotient(total, users * one)
    for name, percent in (("p25", 25), ("median", 50), ("p75", 75), ("p90", 90)):
        row[name] = quotient(percentile(amounts, percent), one)
    row["average_to_median"] = quotient(Fraction(total, users), percentile(amounts, 50))
    differences = sum(abs(left - right) for left in amounts for right in amounts)
    row["gini_coefficient"] = quotient(differences, 2 * users * total)  # another formula of the population's Gini
    return row


def concentration(transactions, **settings):
    """Return the three lists of rows by name."""
    active, _, periods = activity(transactions, **settings)
    one = 10 ** settings.get("decimals", 6)
    table, last = [], []
    for period in periods:
        last = [(spans[period], user) for user, spans in active.items() if period in spans]
        table.append(spread([units for units, _ in last], one) if last else {})
    total = sum(units for units, _ in last)
    ranking = sorted(last, key=lambda pair: (-pair[0], pair[1]))
    top = [
        {"user_id": user, "amount": quotient(units, one), "amount_percent": quotient(units, total)}
        for units, user in ranking[:100]
    ]
    upwards = [units for units, _ in reversed(ranking)]
    points = {(-(-percent * len(last) // 100), "distribution_quantile") for percent in range(1, 101) if last}
    points |= {(len(last) - place, "top_user") for place in range(len(top))}
    cdf = [
        {
            "method": method,
            "amount": quotient(upwards[index - 1], one),
            "cdf_users": quotient(index, len(last)),
            "cdf_amount": quotient(sum(upwards[:index]), total),
        }
        for index, method in sorted(points)
    ]
    series = as_rows(table, periods, **settings)
    return {"time_series_metrics": series, "endpoint_top_users": top, "endpoint_cdf": cdf}
