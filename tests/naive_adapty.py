"""The judge of Adapty's cohort table: section 3 of the semantics page, told slow and plain.

Nothing is shared with the library. An event is a dict from column name to value, as the export has it; an absent
key is an absent column. Money is a Python integer of units (one unit is 10 ** -decimals), a published number is
one exact fraction, rounded once.
"""

from collections import Counter, defaultdict
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from fractions import Fraction
from typing import Any

import naive
from naive import LIMIT, Refused, to_units

KINDS = {
    "trial_started": 0,
    "subscription_started": 1,
    "subscription_initial_purchase": 1,
    "trial_converted": 2,
    "subscription_renewed": 3,
    "non_subscription_purchase": 4,
    "subscription_refunded": 5,
    "non_subscription_purchase_refunded": 6,
}
SILENT = ("subscription_expired", "subscription_renewal_cancelled", "trial_expired", "billing_issue_detected")
GRANTED = ("adapty_server_side_product", "adapty_dashboard_product", "adapty_promotion")
MONEYS = ("revenue_usd", "proceeds_usd", "net_revenue_usd")
DEVICE = ("idfv", "android_app_set_id", "android_id", "idfa", "advertising_id")
FREQ = {"day": "D", "week": "W", "month": "M", "quarter": "Q", "year": "A"}
RENEWAL_DAYS = (0, 3, 7, 14, 28, 31, 61, 92, 183, 336, 550, 731)
# Whose money an average divides, and by what.
AVERAGES = {
    ("arpu", "appu", "anrpu"): "installs",
    ("arppu", "apppu", "anrppu"): "payers",
    ("arpas", "appas", "anrpas"): "activated",
}
OFFERS = ("offer_category", "offer_type", "offer_id")
COLUMN_OF = {
    "duration": "duration",
    "attribution_source": "attribution_source",
    "attribution_status": "attribution_status",
    "attribution_channel": "attribution_channel",
    "attribution_campaign": "attribution_campaign",
    "attribution_adgroup": "attribution_ad_group",
    "attribution_adset": "attribution_ad_set",
    "attribution_creative": "attribution_creative",
    "offer_category": "offer_category",
    "offer_type": "offer_type",
    "offer_id": "offer_id",
}


@dataclass(eq=False)
class Row:
    """An event that counts. Rows are told apart by identity, not by what they hold."""

    user: Any
    instant: Any
    day: date
    kind: int
    transaction: str | None
    chain: Any  # (user, what names the chain)
    money: tuple[int, int, int]  # as the file has it; a refund's sign is taken later
    product: str | None
    expires: date | None
    installed: date | None
    number: int | None  # the file's consecutive_payments
    event_id: str | None
    lacks: bool  # proceeds or net revenue
    passes: bool  # its own filters; a matched refund takes its payment's word
    audience: bool
    event: dict | None = None
    ordinal: int = 0
    payment: "Row | None" = None  # of a refund
    refunded: bool = False  # of a payment
    duration: str | None = None


# --- reading -----------------------------------------------------------------------------------------------


def day_of(instant, timezone):
    """Cut an instant to its local day; the export's instants without a zone are UTC."""
    if isinstance(instant, datetime) and instant.tzinfo is None:
        instant = instant.replace(tzinfo=UTC)
    return naive.local_day(instant, timezone)


def text(event, column):
    """Read a text; an empty one is nothing, and so is an absent column."""
    return event.get(column) or None


def user_of(event, unit):
    """Name the user of an event or of an installs row."""
    if unit == "device_id" and "device_id" not in event:
        found = [event[column] for column in DEVICE if event.get(column) not in (None, "")]
        return found[0] if found else None
    return None if event[unit] == "" else event[unit]


def kind_of(event, event_types):
    """Return the kind of an event, None where it is not known; letters' case does not matter."""
    name = (event["event_type"] or "").lower()
    name = {theirs.lower(): ours.lower() for theirs, ours in event_types.items()}.get(name, name)
    return -1 if name in SILENT else KINDS.get(name)


def why_not(event, kind, user, refund_upgraded, zero_payments):
    """Name the first reason for which an event does not count, None where it does."""
    if (event["environment"] or "").lower() != "production":
        return "sandbox"
    if kind == -1:
        return "other_events"
    if kind is None:
        return "unknown_events"
    if event.get("ownership_type") == "FAMILY_SHARED":
        return "family_shared"
    if event["product_id"] in GRANTED:
        return "granted"
    if kind >= 5 and event.get("cancellation_reason") == "upgraded" and refund_upgraded == "zero":
        return "upgraded"
    if zero_payments == "skip" and 1 <= kind <= 4 and event["revenue_usd"] == 0:
        return "zero_payments"
    needed = [user, event["event_datetime"]] + [event["revenue_usd"]] * (kind > 0)
    return "nulls" if None in needed else None


def counting(
    events, report, filters, *, unit, refund_upgraded, timezone, nulls, decimals, missing_money="zero",
    zero_payments="count", event_types=None, unknown=None, products=None,
):  # fmt: skip
    """Turn the events that count into rows."""
    rows = []
    for at, event in enumerate(events):
        kind = kind_of(event, event_types or {})
        user = user_of(event, unit)
        reason = why_not(event, kind, user, refund_upgraded, zero_payments)
        if reason == "nulls" and nulls == "error":
            raise Refused("null")
        if reason is not None:
            report[reason] += 1
            if reason == "unknown_events" and unknown is not None:
                unknown[event["event_type"] or ""] += 1
            continue
        lacks = kind > 0 and None in [event[money] for money in MONEYS]
        if lacks and missing_money == "error":
            raise Refused("missing money")
        transaction = text(event, "transaction_id")
        chain = text(event, "original_transaction_id") or transaction
        expires, installed = event.get("subscription_expires_at"), event.get("install_date")
        row = Row(
            user=user,
            instant=event["event_datetime"],
            day=day_of(event["event_datetime"], timezone),
            kind=kind,
            transaction=transaction,
            chain=(user, "row", at) if chain is None else (user, "id", chain),
            money=tuple(to_units(event[money] or 0, decimals) if kind > 0 else 0 for money in MONEYS),
            product=text(event, "product_id"),
            expires=None if expires is None else day_of(expires, timezone),
            installed=None if installed is None else day_of(installed, timezone),
            number=event.get("consecutive_payments"),
            event_id=text(event, "profile_event_id"),
            lacks=lacks,
            passes=passes(event, filters),
            audience=in_audience(event, filters),
            event=event,
        )
        rows.append(row)
    if filters.get("duration"):
        pass_by_duration(rows, events, filters, products or {})
    for column in range(3):
        if sum(abs(row.money[column]) for row in rows) >= LIMIT:
            raise Refused("out of range")
    return rows


PAID_DAYS = {
    "Weekly": (5, 9), "Monthly": (26, 33), "2 months": (55, 63), "3 months": (83, 95), "6 months": (175, 190),
    "Annual": (350, 380),
}  # fmt: skip


def paid_duration(row):
    """Return the duration of what a row pays for by the days up to its end."""
    if row.kind in (4, 6):
        return "Lifetime"
    days = -1 if row.expires is None or row.kind == 5 else (row.expires - row.day).days
    return next((name for name, (least, most) in PAID_DAYS.items() if least <= days <= most), "Uncategorized")


def pass_by_duration(rows, events, filters, products):
    """Say again which rows pass, by the durations of a table or of the paid periods."""
    known = bool(events) and "duration" in events[0]
    for row in rows:
        if row.product in products:
            row.duration = products[row.product]
        else:
            row.duration = text(row.event, "duration") if known else paid_duration(row)
    firsts = {}
    for row in sorted(rows, key=lambda row: (*canonical(row, False, False)[:3], row.money, row.duration or "")):
        if 1 <= row.kind <= 3:
            firsts.setdefault(row.chain, row.duration)
    for row in rows:
        if row.kind == 0 and not known and row.product not in products:
            row.duration = firsts.get(row.chain, "Uncategorized")
        row.passes = passes(row.event | {"duration": row.duration}, filters)


# --- filters -----------------------------------------------------------------------------------------------


def alike(name, value):
    """Write a value so that those which a filter takes for the same are the same."""
    if value is None:
        return None
    if name in ("country", "store"):
        return value.lower()
    if name == "attribution_status":
        return value.lower().replace("-", "_")
    if name == "duration":
        return value.lower()
    if name in ("offer_category", "offer_type"):
        return {"winback": "win_back"}.get(value, value)
    return value


def one_product(event, item):
    """Say whether an event is of one item of store_product_id."""
    product, base_plan = text(event, "product_id"), text(event, "base_plan_id")
    store = alike("store", text(event, "store"))
    item = item if isinstance(item, str) else ":".join(item)  # a list of two says the same as their text
    parts = item.split(":")
    if len(parts) == 1:
        return product == item
    if len(parts) == 2:
        return (store, product) == (parts[0].lower(), parts[1]) or product == item
    return (store, product, base_plan) == (parts[0].lower(), parts[1], parts[2])


def any_of(filters, name, value):
    """Say whether a value is one of a filter's; every value is where there is no filter."""
    wanted = [alike(name, item) for item in filters.get(name) or ()]
    return not wanted or (value is not None and alike(name, value) in wanted)


def passes(event, filters):
    """Say whether an event passes every filter."""
    products = filters.get("store_product_id") or ()
    if products and not any(one_product(event, item) for item in products):
        return False
    offered = any(text(event, name) not in (None, "no_offer") for name in OFFERS)
    own = all(
        any_of(filters, name, text(event, column))
        or (name in OFFERS and "no_offer" in (filters.get(name) or ()) and not offered)
        for name, column in COLUMN_OF.items()
        if not name.startswith("attribution")
    )
    return own and in_audience(event, filters)


def in_audience(event, filters):
    """Say whether an event passes the filters on store, country and attribution."""
    country = text(event, "store_country") or text(event, "profile_country")
    return (
        any_of(filters, "store", text(event, "store"))
        and any_of(filters, "country", country)
        and all(
            any_of(filters, name, text(event, column))
            for name, column in COLUMN_OF.items()
            if name.startswith("attribution")
        )
    )


def install_passes(entry, filters):
    """Say whether an installs row passes the same filters, those whose column it has."""
    columns = {"store": "store", "country": "country"} | COLUMN_OF
    return all(
        any_of(filters, name, text(entry, column))
        for name, column in columns.items()
        if column in entry and not name.startswith(("offer", "duration"))
    )


# --- what a user's rows mean -------------------------------------------------------------------------------


def canonical(row, by_product, consecutive):
    """Return the key of the order in which a user's rows are walked: all that the outcome may depend on."""

    def nulls_first(value):
        return (False,) if value is None else (True, value)

    return (
        row.instant,
        row.kind,
        nulls_first(row.transaction),
        row.money,
        nulls_first(row.product) if by_product else (),
        not row.passes,
        nulls_first(row.number) if consecutive else (),
        nulls_first(row.expires),
        nulls_first(row.chain[2] if row.chain[1] == "id" else None),
    )


def without_repeats(rows):
    """Drop the rows of one user whose transaction and type, or whose event id, has been seen."""
    kept, seen = [], set()
    for row in rows:
        names = []
        if row.transaction is not None:
            names.append(("transaction", row.transaction, row.kind))
        if row.event_id is not None:
            names.append(("event", row.event_id))
        if not any(name in seen for name in names):
            kept.append(row)
        seen.update(names)
    return kept


def match_refunds(rows):
    """Find the payment of each refund of one user."""
    payments = [row for row in rows if 1 <= row.kind <= 4]
    refunds = [row for row in rows if row.kind >= 5]
    for refund in refunds:
        same = [row for row in payments if row.transaction is not None and row.transaction == refund.transaction]
        if same:
            refund.payment = same[0]
            same[0].refunded = True
    for refund in refunds:
        if refund.payment is not None:
            continue
        before = rows[: rows.index(refund)]
        left = [row for row in before if 1 <= row.kind <= 4 and row.chain == refund.chain and not row.refunded]
        if left:
            refund.payment = left[-1]
            left[-1].refunded = True


def stream_of(row, by_product):
    """Return that within which payments are counted: the chain, or the chain's product."""
    return (row.chain, row.product) if by_product else row.chain


def number_payments(rows, by_product, consecutive):
    """Give every row of one user its ordinal; a trial's is that of the payment before it, 0 where there is none."""
    so_far, last = Counter(), {}
    for row in rows:
        stream = stream_of(row, by_product)
        if 1 <= row.kind <= 3:
            so_far[stream] += 1
            row.ordinal = last[stream] = row.number if consecutive else so_far[stream]
        elif row.kind == 0:
            row.ordinal = last.get(stream, 0)
        elif row.kind == 4:
            row.ordinal = 1
    for row in rows:
        if row.kind >= 5:
            row.ordinal = 1 if row.payment is None else row.payment.ordinal


def installed_on(rows, days):
    """Return the day a user came: the installs' say, else the events', else the first money's."""
    if days:
        return min(days)
    told = [row.installed for row in rows if row.installed is not None]
    if told:
        return min(told)
    money = [row.day for row in rows if row.kind > 0]
    return money[0] if money else None


# --- the sums of one segment -------------------------------------------------------------------------------


def add(rows):
    """Add up the three moneys of some rows, a refund's against the rest."""
    return [sum(-abs(row.money[at]) if row.kind >= 5 else row.money[at] for row in rows) for at in range(3)]


def users(rows):
    """Return the users of some rows."""
    return {row.user for row in rows}


def payments_of(rows):
    return [row for row in rows if 1 <= row.kind <= 4]


def refunds_of(rows):
    return [row for row in rows if row.kind >= 5]


def chains_of(rows):
    """Return the chains of the subscription payments among some rows."""
    return {row.chain for row in rows if 1 <= row.kind <= 3}


def bought_once(rows):
    return [row for row in rows if row.kind == 4]


def standing(rows):
    """Count chains and one-time purchases which no refund among the same rows has touched."""
    refunds = refunds_of(rows)
    touched = {refund.payment.chain for refund in refunds if refund.payment and refund.payment.kind <= 3}
    touched |= {refund.chain for refund in refunds if refund.payment is None}
    undone = [refund.payment for refund in refunds]
    return len(chains_of(rows) - touched) + sum(row not in undone for row in bought_once(rows))


def by_renewal(rows, column, installs, averages):
    """Sum a column of period_type renewals."""
    upto = [row for row in rows if row.kind > 0 and row.ordinal <= column]
    here = [row for row in upto if row.ordinal == column]
    paid = payments_of(here)
    return {
        "installs": installs,
        "money": add(here),
        "ppu": add(upto),
        "other": add(upto if averages == "cumulative" else here),
        "subscribers": len(users(paid)),
        "subscriptions": len(chains_of(paid)) + len(bought_once(paid)),
        "payers": len(users(payments_of(upto)) - users(refunds_of(upto))),
        "activated": len({row.user for row in rows if row.kind <= 3}),
    }


def by_day(rows, column, installs, age):
    """Sum a column of period_type days."""
    upto = [row for row in rows if age(row) <= column]
    payers = len(users(payments_of(upto)) - users(refunds_of(upto)))
    return {
        "installs": installs,
        "money": add(upto),
        "ppu": add(upto),
        "other": add(upto),
        "subscribers": payers,
        "subscriptions": standing(upto),
        "payers": payers,
        "activated": len({row.user for row in upto if row.kind <= 3}),
    }


def in_all(rows, installs, period_type):
    """Sum a segment."""
    payers = users(payments_of(rows)) - users(refunds_of(rows))
    money = add(rows)
    paying = payers if period_type == "days" else users(payments_of(rows))
    plain = len(chains_of(rows)) + len(bought_once(rows))
    return {
        "installs": installs,
        "money": money,
        "ppu": money,
        "other": money,
        "subscribers": len(paying),
        "subscriptions": standing(rows) if period_type == "days" else plain,
        "payers": len(payers),
        "activated": len({row.user for row in rows if row.kind <= 3}),
    }


def total_of(sums):
    """Add the sums of segments."""
    return {
        name: [sum(column) for column in zip(*(one[name] for one in sums), strict=True)]
        if isinstance(sums[0][name], list)
        else sum(one[name] for one in sums)
        for name in sums[0]
    }


# --- publishing --------------------------------------------------------------------------------------------


def quotient(over, under):
    """Round one exact fraction; 0.0 over nothing."""
    return float(Fraction(over, under)) if under else 0.0


def averages_of(sums, one):
    """Publish the nine averages."""
    found = {}
    for names, under in AVERAGES.items():
        money = sums["ppu" if under == "payers" else "other"]
        for name, units in zip(names, money, strict=True):
            found[f"{name}_usd"] = quotient(units, sums[under] * one)
    return found


def value(period, sums, first, active, one):
    """Publish a cell of the response."""
    found = {"period": period, "installs": sums["installs"]}
    found |= {name: quotient(units, one) for name, units in zip(MONEYS, sums["money"], strict=True)}
    found |= averages_of(sums, one)
    found |= {"subscriptions": sums["subscriptions"], "subscribers": sums["subscribers"]}
    for name, units, start in zip(("revenue", "proceeds", "net_revenue"), sums["money"], first["money"], strict=True):
        found[f"{name}_relative"] = quotient(100 * units, start)
    for name in ("subscriptions", "subscribers"):
        found[f"{name}_relative"] = quotient(100 * sums[name], first[name])
    return found | {"currently_active_period": active}


def segment(start, kind, title, sums, values, one):
    """Publish a segment of the response."""
    return {
        "segment_start_date": start.isoformat(),
        "type": kind,
        "title": title,
        "total_installs": sums["installs"],
        "total_subscriptions": sums["subscriptions"],
        "total_paid_subscribers": sums["subscribers"],
        **{f"total_{name}": quotient(units, one) for name, units in zip(MONEYS, sums["money"], strict=True)},
        **{f"total_{name}": number for name, number in averages_of(sums, one).items()},
        "predict": None,
        "values": values,
    }


# --- the table ---------------------------------------------------------------------------------------------

REPORT = (
    "rows", "blank_lines", "header_lines", "superseded", "sandbox", "other_events", "unknown_events", "family_shared",
    "granted", "upgraded", "void", "zero_payments", "nulls", "after_to", "duplicates", "shared_chains",
    "refunds_without_payment", "without_install", "not_in_installs", "before_install", "missing_money",
    "missing_money_revenue", "unordered_states", "unfiltered_installs",
)  # fmt: skip


def cohort(
    events,
    request,
    *,
    installs,
    timezone="UTC",
    user_unit="profile_id",
    refund_upgraded="zero",
    period_number="ordinal",
    restart_per_product="auto",
    averages="cumulative",
    after_to="drop",
    as_of=None,
    week_start="monday",
    missing_money="zero",
    zero_payments="count",
    event_types=None,
    nulls="error",
    decimals=6,
    unknown=None,
    products=None,
):
    """Return the response and the report.

    `installs` is a list of dicts with the user's column and install_date, or with install_date and installs, or
    the word from_events.
    """
    filters = request["filters"]
    first, to = (date.fromisoformat(day) for day in filters["date"])
    as_of = to if as_of is None else as_of
    freq = FREQ[request.get("period_unit", "month")]
    period_type = request.get("period_type", "renewals")
    one = 10**decimals
    # Days know no ordinals, so they ask for no numbers.
    consecutive = period_number == "consecutive" and period_type == "renewals"
    by_product = restart_per_product is True or (
        restart_per_product == "auto" and bool(filters.get("store_product_id"))
    )
    by_product = by_product and not consecutive
    report = dict.fromkeys(REPORT, 0)
    report["rows"] = len(events)

    rows = counting(
        events,
        report,
        filters,
        unit=user_unit,
        refund_upgraded=refund_upgraded,
        timezone=timezone,
        nulls=nulls,
        decimals=decimals,
        missing_money=missing_money,
        zero_payments=zero_payments,
        event_types=event_types,
        unknown=unknown,
        products=products,
    )
    late = [row for row in rows if row.day > to and (after_to == "drop" or row.kind >= 5)]
    report["after_to"] = len(late)
    rows = [row for row in rows if row not in late]
    if consecutive and any(row.number is None or row.number < 1 for row in rows if 1 <= row.kind <= 3):
        raise Refused("consecutive_payments")

    # Each user's rows in their order, then each user's story.
    of_user = defaultdict(list)
    for row in rows:
        of_user[row.user].append(row)
    counted = installs != "from_events" and bool(installs) and "installs" in installs[0]
    table = None if counted or installs == "from_events" else installs
    days_of_user = defaultdict(list)
    for entry in table or ():
        days_of_user[user_of(entry, user_unit)].append(day_of(entry["install_date"], timezone))
    if table is not None:
        report["not_in_installs"] = sum(user not in days_of_user for user in of_user)

    came, kept = {}, []
    for user in {*of_user, *days_of_user}:
        own = sorted(of_user[user], key=lambda row: canonical(row, by_product, consecutive))
        day = installed_on(own, days_of_user[user])
        if day is None:
            report["without_install"] += 1
        else:
            came[user] = day
        story = without_repeats(own)
        report["duplicates"] += len(own) - len(story)
        match_refunds(story)
        number_payments(story, by_product, consecutive)
        kept += story
    owners = defaultdict(set)
    for row in kept:
        if row.chain[1] == "id":
            owners[row.chain[2]].add(row.user)
    report["shared_chains"] = sum(len(found) > 1 for found in owners.values())
    report["refunds_without_payment"] = sum(row.kind >= 5 and row.payment is None for row in kept)

    # Membership, the segments and their installs.
    period = {user: naive.period_of(day, freq, week_start) for user, day in came.items() if first <= day <= to}
    segments = range(naive.period_of(first, freq, week_start), naive.period_of(to, freq, week_start) + 1)
    installed = Counter()
    if installs == "from_events":
        seen = {row.user for row in rows if row.audience}
        installed.update(period[user] for user in seen if user in period)
    elif counted:
        for entry in installs:
            day = day_of(entry["install_date"], timezone)
            if first <= day <= to and install_passes(entry, filters):
                installed[naive.period_of(day, freq, week_start)] += entry["installs"]
    else:
        seen = {user_of(entry, user_unit) for entry in table if install_passes(entry, filters)}
        installed.update(period[user] for user in seen if user in period)

    report["before_install"] = sum(row.user in period and row.kind > 0 and row.day < came[row.user] for row in kept)

    # What counts from here on: members' rows that pass, a matched refund by its payment's word.
    passing = [row for row in kept if row.user in period and (row.payment or row).passes]
    of_segment = {number: [row for row in passing if period[row.user] == number] for number in segments}

    lacking = [row for row in passing if row.lacks]
    report["missing_money"] = len(lacking)
    report["missing_money_revenue"] = float(Fraction(sum(abs(row.money[0]) for row in lacking), one))
    columns_of = {"store": "store", "country": "country"} | COLUMN_OF
    asked = [name for name in columns_of if filters.get(name) and not name.startswith(("offer", "duration"))]
    if installs != "from_events" and any(columns_of[name] not in entry for entry in installs[:1] for name in asked):
        report["unfiltered_installs"] = sum(installed.values())

    def age(row):
        return max(0, (row.day - came[row.user]).days)

    if period_type == "days":
        columns = sorted(set(request.get("renewal_days", RENEWAL_DAYS)))
    else:
        columns = list(range(1, max((row.ordinal for row in passing if row.kind > 0), default=0) + 1))

    # A stream of payments runs on where its last row, found before any filter, expires on as_of or later.
    lasts = {}
    for row in kept:
        if row.kind <= 3:
            lasts[stream_of(row, by_product)] = row
    running = [
        row
        for row in lasts.values()
        if row.user in period and row.passes and not row.refunded and row.expires is not None and row.expires >= as_of
    ]

    singles, active = {}, {}
    for number in segments:
        mine = of_segment[number]
        last = min(naive.last_day(number, freq, week_start), to)
        if period_type == "days":
            singles[number] = [by_day(mine, column, installed[number], age) for column in columns]
            active[number] = [last + timedelta(days=column) >= as_of for column in columns]
        else:
            singles[number] = [by_renewal(mine, column, installed[number], averages) for column in columns]
            ends = [row.ordinal for row in running if period[row.user] == number]
            active[number] = [any(end < column for end in ends) for column in columns]
    totals = {number: in_all(of_segment[number], installed[number], period_type) for number in segments}

    def publish(start, kind, title, total, cells, alive):
        values = [
            value(column, sums, cells[0], is_alive, one)
            for column, sums, is_alive in zip(columns, cells, alive, strict=True)
        ]
        return segment(start, kind, title, total, values, one)

    together = [total_of([singles[number][at] for number in segments]) for at in range(len(columns))]
    alive = [any(active[number][at] for number in segments) for at in range(len(columns))]
    if period_type == "days":
        alive = [to + timedelta(days=column) >= as_of for column in columns]
    data = [publish(first, "total", "Total", total_of(list(totals.values())), together, alive)]
    for number in segments:
        start = naive.first_day(number, freq, week_start)
        data.append(publish(start, "single", start.isoformat(), totals[number], singles[number], active[number]))
    return {"data": data}, report
