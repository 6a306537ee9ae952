"""Draw small event exports in which everything collides, and requests and conventions of every kind.

Each event is drawn as a short string of bytes, one for each thing about it, and each byte chooses from a short
list whose first item is the plainest: that is cheap to draw and shrinks to plain events.
"""

from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import naive
import naive_adapty
import polars as pl
from hypothesis import strategies as st
from strategies import ZONES, exactly, quietly, seldom, shaped

import cohortlib as cl

UNITS = ("month", "day", "week", "quarter", "year")
SPAN = {"day": 9, "week": 45, "month": 160, "quarter": 400, "year": 1100}  # days from the first event to the last
BASES = (
    date(2026, 1, 1),
    date(2026, 3, 1),
    date(2026, 10, 20),
    date(2011, 12, 28),
    date(2010, 11, 5),
    date(2018, 11, 2),
    date(2024, 2, 26),
    date(1969, 12, 25),
)
HOUR = 3_600_000_000
NUDGES = (0, 12 * HOUR, 12 * HOUR, -1, 1, HOUR, -HOUR // 2, 23 * HOUR, 12 * HOUR + 1, 1_000_000)

EVENTS = (
    *("subscription_started", "subscription_renewed", "subscription_renewed", "subscription_refunded") * 3,
    *("non_subscription_purchase", "trial_started", "trial_converted", "subscription_refunded") * 2,
    "subscription_initial_purchase", "subscription_renewed", "subscription_renewed", "subscription_renewed",
    "non_subscription_purchase_refunded", "non_subscription_purchase_refunded",
)  # fmt: skip
# Names in any case, and renamed ones.
SPELLED = (*EVENTS, "Subscription_Started", "SUBSCRIPTION_RENEWED", "Trial_started", "App_Subscribed", "app_refunded")
RENAMED = {"app_subscribed": "subscription_started", "APP_REFUNDED": "Subscription_refunded"}
NOISE = (*SPELLED, "subscription_expired", "Billing_Issue_Detected", "what_is_this", None)
ENVIRONMENTS = (*["Production"] * 10, "production", "Sandbox", None)
PRODUCTS = ("monthly", "yearly", "coins")
MORE_PRODUCTS = (*PRODUCTS * 3, "play_store:monthly", None, "", "adapty_promotion")
STORES = ("app_store", "play_store", "app_store", "stripe", "App_Store", None)
COUNTRIES = ("us", "de", "US", "us", "", None)
CATALOGUE = {
    "duration": ("Monthly", "Annual", "Weekly", None, "2 months"),
    "offer_category": ("introductory", "win_back", "winback", None, "promotional"),
    "offer_type": ("free_trial", "winback", "win_back", None, "pay_up_front"),
    "offer_id": ("o1", "o2", None, "o1"),
    "attribution_source": ("facebook", "apple_search_ads", None),
    "attribution_status": ("organic", "non-organic", "non_organic", None, "Non-Organic"),
    "attribution_channel": ("a", "b", None),
    "attribution_campaign": ("a", "b", ""),
    "attribution_ad_group": ("a", "b", None),
    "attribution_ad_set": ("a", "b", None),
    "attribution_creative": ("a", "b", None),
}
FILTER_OF = {column: name for name, column in naive_adapty.COLUMN_OF.items()}
ITEMS = (
    "monthly", "yearly", "coins", "app_store:monthly", "play_store:monthly", "APP_STORE:yearly",
    "play_store:monthly:base-1", ["app_store", "monthly"], ["play_store", "coins"],
)  # fmt: skip
DURATIONS = ("monthly", "Monthly", "ANNUAL", "Weekly", "2 months")
# Columns that may stay away where no filter or setting asks for them.
OPTIONAL = (
    "install_date", "subscription_expires_at", "profile_event_id", "consecutive_payments", "cancellation_reason",
    "ownership_type",
    "store", "base_plan_id", "store_country", "profile_country", *CATALOGUE,
)  # fmt: skip
ALIASES = {
    "product_id": "vendor_product_id",
    "revenue_usd": "price_usd",
    "profile_country": "profile_county",
    "install_date": "profile_install_datetime",
}


def pick(byte, choices):
    """Choose by a byte."""
    return choices[byte % len(choices)]


# --- instants and money ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Clock:
    """How a column of instants is written: as dates, as instants of some type, or as text."""

    form: str = "date"  # date, instant, text, day text
    unit: str = "us"
    written: str | None = "UTC"
    zone: str = "UTC"  # at whose midnights the instants lie

    def at(self, day, nudge):
        """Return what happens on a day as the judge takes it: a date, or an instant of UTC."""
        if self.form in ("date", "day text"):
            return day
        instant = datetime.combine(day, time(0), ZoneInfo(self.zone)).astimezone(UTC) + timedelta(microseconds=nudge)
        if self.unit == "ms":
            instant = instant.replace(microsecond=instant.microsecond // 1000 * 1000)
        return instant

    def column(self, name, values):
        """Make the frame's column."""
        if self.form == "date":
            return pl.Series(name, values, dtype=pl.Date)
        if self.form == "day text":
            return pl.Series(name, [None if value is None else value.isoformat() for value in values], dtype=pl.String)
        if self.form == "text":
            texts = [None if value is None else written(value, at) for at, value in enumerate(values)]
            return pl.Series(name, texts, dtype=pl.String)
        column = pl.Series(name, values, dtype=pl.Datetime("us", "UTC")).dt.cast_time_unit(self.unit)
        if self.written is None:
            return column.dt.replace_time_zone(None)
        return column.dt.convert_time_zone(self.written)


def written(instant, at):
    """Write an instant of UTC in one of the ways of ISO 8601."""
    plain = instant.strftime("%Y-%m-%dT%H:%M:%S") if at % 2 else instant.strftime("%Y-%m-%d %H:%M:%S")
    fraction = f".{instant.microsecond:06}" if instant.microsecond or at % 3 == 0 else ""
    return plain + fraction + pick(at, ("+0000", "Z", "", "+00:00"))


CLOCKS = ("date", "instant", "instant", "text", "instant", "day text")


@st.composite
def clocks(draw, zone, forms=CLOCKS):
    """Draw a way to write instants."""
    form = draw(st.sampled_from(forms))
    unit = draw(st.sampled_from(("us", "ms", "ns")))
    others = ("UTC", None, zone, draw(st.sampled_from(ZONES)))
    return Clock(form, unit, draw(st.sampled_from(others)), draw(st.sampled_from(("UTC", zone))))


CENTS = (9.99, 10.0, 0.0, 4.99, 59.99, -3.0, 0.01, 0.1, 0.2, 100.0)
AWKWARD = (0.1, 0.2, 0.30000000000000004, 1 / 3, 2.675, 5e-7, 1.5e-6, 0.0078125, 0.0234375, -0.1, -0.0, 1e-300)


@dataclass(frozen=True)
class Money:
    """How the columns of money are written."""

    form: str = "cents"
    decimals: int = 6

    def amount(self, byte):
        """Return an amount as the judge takes it."""
        if self.form == "whole":
            return pick(byte, (10, 5, 0, 60, 1, -4))
        if self.form == "decimal":
            return Decimal(pick(byte, (999, 1000, 0, 499, -300, 1))).scaleb(-min(2, self.decimals))
        if self.form == "huge":  # units that no float holds: quotients must round once
            return Decimal(2 ** (48 + byte % 8) + byte % 3 - 1).scaleb(-self.decimals)
        return pick(byte, AWKWARD if self.form == "awkward" else CENTS)

    def column(self, name, values):
        """Make the frame's column."""
        if self.form == "text":
            return pl.Series(name, [None if value is None else str(value) for value in values], dtype=pl.String)
        if self.form == "whole":
            return pl.Series(name, values, dtype=pl.Int64)
        if self.form in ("decimal", "huge"):
            scale = min(2, self.decimals) if self.form == "decimal" else self.decimals
            return pl.Series(name, values, dtype=pl.Decimal(38, scale))
        return pl.Series(name, values, dtype=pl.Float64)


# --- requests and conventions ------------------------------------------------------------------------------


def some(choices, most=3):
    """Draw a few of some values."""
    return st.lists(st.sampled_from(choices), min_size=1, max_size=most, unique_by=str)


@st.composite
def all_filters(draw):
    """Draw filters, most often one or two; an empty list is as none."""
    names = draw(
        st.lists(
            st.sampled_from((*("store_product_id", "country", "store", "attribution_status") * 2, *FILTER_OF.values())),
            max_size=draw(st.sampled_from((0, 1, 0, 2, 3))),
            unique=True,
        )
    )
    found = {}
    for name in names:
        if name == "store_product_id":
            found[name] = draw(some(ITEMS))
        elif name == "store":
            found[name] = draw(some(("app_store", "play_store", "APP_STORE", "stripe")))
        elif name == "country":
            found[name] = draw(some(("us", "DE", "US", "fr")))
        elif name == "duration":
            found[name] = draw(some(DURATIONS))
        else:
            values = [value for value in CATALOGUE[naive_adapty.COLUMN_OF[name]] if value]
            values += ["no_offer"] * name.startswith("offer")
            found[name] = draw(some(values))
    if draw(seldom(6)):
        found[draw(st.sampled_from(("offer_id", "store", "store_product_id")))] = []
    return found


@st.composite
def requests(draw, base, unit, filters):
    """Draw a request's body, its frame somewhere near the days of the events."""
    width = SPAN[unit]
    start = base + timedelta(days=draw(st.sampled_from((0, -width // 3, 0, width // 6))))
    end = start + timedelta(
        days=draw(st.sampled_from((width + 31, width, width * 2 // 3, width + 400 * (unit != "day"), width // 4, 0)))
    )
    body = {"filters": {"date": [start.isoformat(), end.isoformat()], **filters}}
    if unit != "month" or draw(st.booleans()):
        body["period_unit"] = unit
    if draw(st.sampled_from((False, True, False, True, False))):
        body["period_type"] = "days"
        days = st.lists(st.sampled_from((0, 1, 3, 7, 31, 61, 400)), min_size=1, max_size=4)
        if draw(seldom(4)):
            days = st.lists(st.integers(0, width), min_size=1, max_size=3)
        if draw(st.integers(0, 5)):
            body["renewal_days"] = draw(days)
    elif draw(st.booleans()):
        body["period_type"] = "renewals"
    return body


@st.composite
def all_conventions(draw):
    """Draw conventions but for as_of, each left out as often as not."""
    found = draw(
        st.fixed_dictionaries(
            {},
            optional={
                "refund_upgraded": st.sampled_from(("zero", "negative")),
                "period_number": st.sampled_from(("ordinal", "consecutive")),
                "restart_per_product": st.sampled_from(("auto", True, False)),
                "averages": st.sampled_from(("cumulative", "per_period")),
                "after_to": st.sampled_from(("drop", "payments")),
                "zero_payments": st.sampled_from(("count", "skip")),
                "week_start": st.sampled_from(naive.WEEKDAYS),
            },
        )
    )
    unit = draw(st.sampled_from((None, None, None, "profile_id", "customer_user_id", "device_id")))
    return found if unit is None else found | {"user_unit": unit}


# What an event is where nothing about it was drawn.
PLAIN = {
    **{name: choices[0] for name, choices in CATALOGUE.items()},
    "environment": "Production",
    "product_id": "monthly",
    "store": "app_store",
    "base_plan_id": "base-1",
    "store_country": "us",
    "profile_country": "us",
}

# --- the whole ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Case:
    """One drawn export with its installs, its request and its settings, for the judge and for the engine."""

    events: list[dict[str, Any]]
    frame: pl.DataFrame
    installs: Any
    installs_as: Any
    request: dict[str, Any]
    conventions: dict[str, Any] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    form: str = "frame"
    threads: int | None = None

    def __repr__(self):
        """Show what is not plain about each event, so that a failing case can be read."""
        lines = [
            f"{name}={getattr(self, name)!r}" for name in ("request", "conventions", "settings", "form", "threads")
        ]
        lines += [f"installs={self.installs!r}", f"schema={dict(self.frame.schema)!r}"]
        lines += [repr({name: value for name, value in one.items() if value != PLAIN.get(name)}) for one in self.events]
        return "Case(\n  " + "\n  ".join(lines) + "\n)"

    def _repr_pretty_(self, printer, cycle):
        """Show hypothesis the same."""
        printer.text(repr(self))

    def judge(self, unknown=None):
        """Ask the judge for the response and the report."""
        unknown = Counter() if unknown is None else unknown
        return naive_adapty.cohort(
            self.events, self.request, installs=self.installs, unknown=unknown, **self.conventions, **self.settings
        )

    def ask(self, frame=None, **more):
        """Ask the engine, about another frame of events or under other options where they are given."""
        options = {
            "installs": self.installs_as,
            "conventions": cl.adapty.Conventions(**self.conventions),
            "threads": self.threads,
            **self.settings,
            **more,
        }
        events = shaped(self.frame, self.form) if frame is None else frame
        return quietly(cl.adapty.cohort, events, options.pop("request", self.request), **options)


WIDTH = 34  # bytes of an event


def unit_columns(unit, column_of_device, user):
    """Return the columns that name the user of an event or an installs row."""
    if unit == "profile_id":
        return {"profile_id": user}
    if unit == "customer_user_id":
        return {"profile_id": "p", "customer_user_id": user}
    if column_of_device == "device_id":
        return {"profile_id": "p", "device_id": user, "idfv": "other"}
    # The identifier stands in one of two columns; the later one is a decoy where the first has it.
    first = user is not None and str(user)[-1] in "13579a"
    return {"profile_id": "p", "idfv": user if first else "", "advertising_id": "other" if first else user}


def event_of(at, bits, before, world):
    """Make the judge's event of its bytes; `before` are the events before it, `world` what the case has in common."""
    user = pick(bits[0], world["users"])
    kind = pick(bits[1], world["events"])
    day = world["days"][bits[2] % len(world["days"])]
    refund = kind is not None and kind.endswith("refunded")

    transaction = f"t{at}"
    how = bits[4] % 16
    if (how in (8, 9, 10, 11) or (refund and how < 8)) and before:
        # Another's transaction: a repeat, a payment's refund, or a kind of its own under the same id.
        other = before[-1 - bits[5] % min(len(before), 6)]
        transaction = other["transaction_id"] if refund or how == 11 else transaction
        if how < 11 and not refund:
            kind, transaction = other["event_type"], other["transaction_id"]
    elif how >= 12:
        transaction = pick(bits[5], world["transactions"])
    chain = pick(bits[6], world["chains"])
    chain = f"{user}-{chain}" if isinstance(chain, int) else chain

    revenue = world["money"].amount(bits[7])
    net = [world["money"].amount(byte) if byte > 60 else revenue for byte in (bits[8], bits[9])]
    expires = None
    if bits[10] % 4:
        expires = world["expiry"].at(
            day + timedelta(days=pick(bits[10], (30, 400, 60, 7, 800, 0, 31))), pick(bits[11], world["nudges"])
        )
    installed = None
    if bits[12] % 2:
        installed = world["install"].at(pick(bits[12] // 2, world["days"]), pick(bits[13], world["nudges"]))
    event = {
        **unit_columns(world["unit"], world["device"], user),
        "event_type": kind,
        "event_datetime": world["clock"].at(day, pick(bits[3], world["nudges"])),
        "transaction_id": transaction,
        "original_transaction_id": chain,
        "environment": pick(bits[14], world["environments"]),
        "ownership_type": pick(bits[14] // 16, world["owners"]),
        "product_id": pick(bits[15], world["products"]),
        "revenue_usd": revenue,
        "proceeds_usd": net[0],
        "net_revenue_usd": net[1],
        "subscription_expires_at": expires,
        "install_date": installed,
        "profile_event_id": pick(bits[16], (f"e{at}", f"e{at}", None, "e0", f"e{at // 2}", "")),
        "consecutive_payments": pick(bits[17], (1, 2, 3, 1, 5)) if bits[17] < 250 else pick(bits[18], (None, 0)),
        "cancellation_reason": pick(bits[18], (None, "upgraded", "refund", "")),
        "store": pick(bits[19], STORES),
        "base_plan_id": pick(bits[20], ("base-1", "base-2", None)),
        "store_country": pick(bits[21], COUNTRIES),
        "profile_country": pick(bits[22], COUNTRIES),
        **{name: pick(bits[23 + nth], choices) for nth, (name, choices) in enumerate(CATALOGUE.items())},
    }
    for place, name in enumerate(("proceeds_usd", "net_revenue_usd")):  # which some stores leave out
        if world["lacking"] and bits[8 + place] % 5 == 0:
            event[name] = None
    if event["event_type"] == "trial_started":  # what carries no money needs none
        event |= dict.fromkeys(naive_adapty.MONEYS, pick(bits[8], (revenue, None)))
    return event


def needed(filters, conventions, columns=()):
    """Name the optional columns that filters and conventions ask for."""
    names = {naive_adapty.COLUMN_OF[name] for name, values in filters.items() if values and name in FILTER_OF.values()}
    if "subscription_expires_at" in columns:  # durations come from the paid period where the column is absent
        names -= {"duration"}
    if filters.get("store") or any(
        not isinstance(item, str) or ":" in item for item in filters.get("store_product_id", ())
    ):
        names |= {"store", "base_plan_id"}
    if filters.get("country"):
        names |= {"store_country"}
    if conventions.get("period_number") == "consecutive":
        names |= {"consecutive_payments"}
    return names


def table_of(rows, columns, writers):
    """Make a frame of dicts; `writers` make the columns that are no texts."""
    made = []
    for name in columns:
        values = [row[name] for row in rows]
        if name in writers:
            made.append(writers[name](name, values))
        else:
            whole = name in ("consecutive_payments", "installs")
            made.append((numbers if whole else texts)(name, values))
    return pl.DataFrame(made)


@st.composite
def installs_near(draw, world, form):
    """Draw installs: a table of users, of counts, or the word that there is none."""
    if form == "from_events":
        return form, form
    clock = draw(clocks(world["zone"], world["forms"]))
    extra = draw(
        st.lists(st.sampled_from(("store", "country", "attribution_status", "attribution_ad_set")), unique=True)
    )
    entries = []
    for bits in draw(st.lists(st.binary(min_size=8, max_size=8), min_size=1, max_size=7)):
        entry = {"install_date": clock.at(pick(bits[1], world["days"]), pick(bits[2], world["nudges"]))}
        if form == "counts":
            entry["installs"] = pick(bits[0], (1, 0, 3, 1000))
        else:
            entry |= unit_columns(world["unit"], world["device"], pick(bits[0], world["installers"]))
        entry |= {
            "store": pick(bits[3], STORES),
            "country": pick(bits[4], COUNTRIES),
            "attribution_status": pick(bits[5], CATALOGUE["attribution_status"]),
            "attribution_ad_set": pick(bits[6], CATALOGUE["attribution_ad_set"]),
        }
        entries.append(entry)
    absent = {"store", "country", "attribution_status", "attribution_ad_set"} - set(extra)
    entries = [{name: value for name, value in entry.items() if name not in absent} for entry in entries]
    frame = table_of(entries, entries[0], {"install_date": clock.column, **world["writers"]})
    return entries, frame


def texts(name, values):
    """Make a column of text."""
    return pl.Series(name, values, dtype=pl.String)


def numbers(name, values):
    """Make a column of integers."""
    return pl.Series(name, values, dtype=pl.Int64)


SLOTS = st.sampled_from((4, 2, 12, 50))
INSTALLS = ("table", "table", "counts", "from_events")
MONEY = ("cents", "whole", "awkward", "decimal", "text", "huge", "cents")


@st.composite
def cases(draw, *, poison=True, installs=INSTALLS, money=MONEY, forms=CLOCKS, zones=ZONES, filtered=True, **fixed):
    """Draw a case.

    Without `poison` nothing is refused. `fixed` conventions are as given.
    """
    unit = draw(st.sampled_from(UNITS))
    zone = draw(st.sampled_from(zones))
    base = draw(st.sampled_from(BASES))
    width = SPAN[unit]
    decimals = draw(st.sampled_from((6, 6, 6, 2, 3, 9)))
    filters = draw(all_filters()) if filtered else {}
    conventions = draw(all_conventions()) | fixed
    user_unit = conventions.get("user_unit", "profile_id")
    names = draw(st.sampled_from((("u1", "u2", "u3", "u4"), (7, 3, 70, 2**40), ("007", "7", "ü", " a"))))
    if user_unit == "device_id":
        names = ("u1", "u2", "u3", "u4")
    noisy = draw(seldom(3))
    world = {
        "users": names[: draw(st.sampled_from((1, 2, 3)))],
        "installers": names,
        "unit": user_unit,
        "writers": {user_unit: numbers} if isinstance(names[0], int) else {},
        "device": draw(st.sampled_from(("device_id", "idfv"))) if user_unit == "device_id" else None,
        "zone": zone,
        # A few days and instants make ties, many make histories.
        "days": [base + timedelta(days=at * width // (slots - 1)) for slots in [draw(SLOTS)] for at in range(slots)],
        "nudges": draw(st.sampled_from(((0,), NUDGES))),
        "events": NOISE if noisy else draw(st.sampled_from((EVENTS, EVENTS, SPELLED))),
        "lacking": draw(seldom(3)),
        "environments": ENVIRONMENTS if noisy else ENVIRONMENTS[:1],
        "owners": (None, "PURCHASED", "FAMILY_SHARED", None, None, None) if noisy else (None,),
        "products": MORE_PRODUCTS if noisy else PRODUCTS,
        "chains": draw(st.sampled_from(((1,), (1, 1, 1, 2, 2, "shared", None), (1, 2, "shared", "x", None, "", "t0")))),
        "transactions": draw(st.sampled_from((("x", None, "y"), (None, ""), ("x", "y", "t0")))),
        "forms": forms,
        "clock": draw(clocks(zone, forms)),
        "expiry": draw(clocks(zone, forms)),
        "install": draw(clocks(zone, forms)),
        "money": Money(draw(st.sampled_from(money)), decimals),
    }
    request = draw(requests(base, unit, filters))

    height = draw(st.sampled_from((1, 8, 4, 12, 8, 16, 24)))
    events = []
    for at, bits in enumerate(
        draw(st.lists(st.binary(min_size=WIDTH, max_size=WIDTH), min_size=height * 3 // 4, max_size=height))
    ):
        events.append(event_of(at, bits, events, world))
    holes = poison and draw(seldom(12))
    if holes and events:
        for _ in range(draw(st.integers(1, 3))):
            hole = draw(st.sampled_from(("event_datetime", "revenue_usd", "revenue_usd", "profile_id")))
            events[draw(st.integers(0, len(events) - 1))][hole] = None
    if not poison:
        for event in events:
            event["consecutive_payments"] = event["consecutive_payments"] or 1

    dropped = draw(st.lists(st.sampled_from(OPTIONAL), max_size=4, unique=True)) if draw(seldom(3)) else []
    ends = () if "subscription_expires_at" in dropped else ("subscription_expires_at",)
    absent = set(dropped) - needed(filters, conventions, ends)
    events = [{name: value for name, value in event.items() if name not in absent} for event in events]
    columns = [name for name in event_of(0, bytes(WIDTH), [], world) if name not in absent]
    writers = {
        "event_datetime": world["clock"].column,
        "install_date": world["install"].column,
        "subscription_expires_at": world["expiry"].column,
        **dict.fromkeys(naive_adapty.MONEYS, world["money"].column),
        **world["writers"],
    }
    if "as_of" not in fixed and draw(st.booleans()):
        ends = {event["subscription_expires_at"] for event in events if event.get("subscription_expires_at")}
        to = date.fromisoformat(request["filters"]["date"][1])
        days = [naive_adapty.day_of(end, zone) for end in ends] + [to + timedelta(days=by) for by in (1, -1, 0, 30)]
        conventions["as_of"] = draw(st.sampled_from(sorted(days)))
    frame = table_of(events, columns, writers)
    if draw(seldom(6)):
        frame = frame.rename({name: alias for name, alias in ALIASES.items() if name in columns})

    entries, entries_as = draw(installs_near(world, draw(st.sampled_from(installs))))
    settings = {}
    if any((event["event_type"] or "").lower() in ("app_subscribed", "app_refunded") for event in events):
        settings["event_types"] = draw(st.sampled_from((RENAMED, RENAMED, None)))
    if zone != "UTC":
        settings["timezone"] = zone
    if decimals != 6:
        settings["decimals"] = decimals
    if draw(seldom(3)):
        settings["nulls"] = draw(st.sampled_from(("drop", "error")))
    return Case(
        events=events,
        frame=frame,
        installs=entries,
        installs_as=entries_as,
        request=request,
        conventions=conventions,
        settings=settings,
        form=draw(st.sampled_from(("frame", "chunks", "lazy", "arrow"))),
        threads=draw(st.sampled_from((None, 1, 2, 3))),
    )


# --- comparing ---------------------------------------------------------------------------------------------


def bits(found, place=()):
    """Flatten a response to what two of them must share: at each place the same type with the same bits."""
    if not isinstance(found, dict | list):
        return {place: exactly(found)}
    flat = {place: len(found)}
    for name, inner in found.items() if isinstance(found, dict) else enumerate(found):
        flat |= bits(inner, (*place, name))
    return flat


def assert_same(found, expected):
    """Compare two responses field for field, to the last bit, and show where they differ."""
    got, want = bits(found), bits(expected)
    differ = {place: (got.get(place), want.get(place)) for place in want | got if got.get(place) != want.get(place)}
    assert not differ, differ
