"""
The history of a subscription app, generated from a seed: Adapty's event export, and the installs that it lacks.

A history is generated from the top down: installs, chains of subscribing users, legs of a chain (payments in sequence
for one product; an upgrade or a return after a gap starts a new leg), payments of a leg, and events that follow a
payment. Each step is a few array operations over all rows of the previous step.
"""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

import numpy as np
import polars as pl

from benchmarks.data import own_bytes, texts, uuids

START = np.datetime64("2023-01-01", "us")
END = np.datetime64("2026-01-01", "us")
DAY = 86_400_000_000
SPAN = int((END - START).astype(np.int64))
NEVER = np.iinfo(np.int64).min  # numpy's NaT
IDS = ("int", "uuid")

ROWS_PER_INSTALL = {True: 2.15, False: 1.45}  # with noise and without; slightly lower than the actual ratio
SUBSCRIBING = 0.3  # share of the installs that reach the store's payment sheet
TESTERS = 0.01

REFUNDED = 0.035
ONE_TIME_REFUNDED = 0.06
LOOSE_REFUNDS = 0.1  # share of the refunds without the transaction id of their payment
LOST_PAYMENTS, LOST_REFUNDED_PAYMENTS = 0.0005, 0.03
REPEATED = 0.01


class Product(NamedTuple):
    """A product: its price in US cents, period, trial days, upgrade target, and churn."""

    name: str
    base_plan: str | None
    duration: str
    cents: int
    months: int
    days: int
    trial: int
    upgrade: int
    share: float
    stay: tuple[float, float]  # beta distribution of the probability that a chain ends after a payment


# The probability differs between users and stays constant per user, so the churn of remaining users falls.
PRODUCTS = (
    Product("premium.weekly.499", "weekly", "Weekly", 499, 0, 7, 3, 1, 0.25, (1.0, 4.0)),
    Product("premium.monthly.999", "monthly", "Monthly", 999, 1, 30, 7, 4, 0.40, (1.0, 4.5)),
    Product("premium.quarterly.2499", "quarterly", "3 months", 2499, 3, 91, 0, 4, 0.08, (1.5, 2.5)),
    Product("premium.half_year.3999", "half-year", "6 months", 3999, 6, 182, 0, 4, 0.05, (1.5, 2.0)),
    Product("premium.annual.5999", "annual", "Annual", 5999, 12, 365, 7, 5, 0.22, (2.0, 2.0)),
    Product("family.annual.8999", "family-annual", "Annual", 8999, 12, 365, 0, 5, 0.00, (1.5, 3.0)),
    Product("premium.lifetime", None, "Lifetime", 14999, 0, 0, 0, 6, 0.0, (1.0, 1.0)),
    Product("coins.100", None, "Uncategorized", 199, 0, 0, 0, 7, 0.0, (1.0, 1.0)),
    Product("coins.1000", None, "Uncategorized", 999, 0, 0, 0, 8, 0.0, (1.0, 1.0)),
    Product("adapty_promotion", None, "Uncategorized", 0, 1, 30, 0, 9, 0.0, (1.0, 1.0)),
)
SUBSCRIPTIONS, LIFETIME, COINS, GRANTED = 6, 6, (7, 8), 9

# Country, share of the users, price level, sales tax.
COUNTRIES = (
    ("US", 0.40, 1.00, 0.00),
    ("GB", 0.10, 1.05, 0.20),
    ("DE", 0.10, 1.10, 0.19),
    ("FR", 0.07, 1.10, 0.20),
    ("BR", 0.12, 0.45, 0.10),
    ("IN", 0.12, 0.30, 0.18),
    ("JP", 0.09, 0.90, 0.10),
)
APPLE, GOOGLE = 0, 1
STORES = ("app_store", "play_store")
# Source, status, share of the users.
SOURCES = (
    ("organic", "organic", 0.55),
    ("apple_search_ads", "non_organic", 0.15),
    ("facebook", "non_organic", 0.18),
    ("google_ads", "non_organic", 0.12),
)
REASONS = ("upgraded", "voluntarily_cancelled", "billing_error", "refund")
UPGRADED, VOLUNTARY, BILLING, REFUND = range(4)
OFFERS = ("introductory", "win_back")

EVENTS = (
    "trial_started",
    "subscription_started",
    "trial_converted",
    "subscription_renewed",
    "non_subscription_purchase",
    "subscription_refunded",
    "non_subscription_purchase_refunded",
    "access_level_updated",
    "subscription_renewal_cancelled",
    "subscription_expired",
    "trial_renewal_cancelled",
    "trial_expired",
    "billing_issue_detected",
    "entered_grace_period",
)
TRIAL, STARTED, CONVERTED, RENEWED, ONE_TIME, REFUNDED_EVENT, ONE_TIME_REFUNDED_EVENT = range(7)
ACCESS, CANCELLED, EXPIRED, TRIAL_CANCELLED, TRIAL_EXPIRED, BILLING_ISSUE, GRACE = range(7, 14)


@dataclass(frozen=True)
class Users:
    """Users who installed the app, in order of time."""

    installed: np.ndarray
    country: np.ndarray
    store: np.ndarray
    source: np.ndarray
    tester: np.ndarray
    id: pl.Series
    id_characters: np.ndarray | None


@dataclass(frozen=True)
class Chains:
    """Transactions with the same original_transaction_id; a one-time purchase is a chain of its own."""

    user: np.ndarray
    product: np.ndarray
    start: np.ndarray


@dataclass(frozen=True)
class Rows:
    """
    Events as integers. `place` numbers the transactions of a chain from 0; below 0 there is no transaction id.

    `number` is consecutive_payments, `cents` the price, `code` the event type; NEVER and −1 mean null.
    """

    chain: np.ndarray
    code: np.ndarray
    at: np.ndarray
    place: np.ndarray
    product: np.ndarray
    number: np.ndarray
    expires: np.ndarray
    cents: np.ndarray
    reason: np.ndarray
    offer: np.ndarray

    @classmethod
    def of(cls, **columns: np.ndarray | int) -> "Rows":
        """Build rows from columns. A scalar is repeated; missing columns are null."""
        height = len(columns["chain"])
        nothing = {"number": -1, "expires": NEVER, "cents": -1, "reason": -1, "offer": -1}
        given = nothing | columns
        return cls(**{name: np.broadcast_to(given[name], height) for name in cls.__dataclass_fields__})

    @classmethod
    def together(cls, parts: "list[Rows]") -> "Rows":
        """Concatenate rows, with small integer types."""
        small = dict.fromkeys(("code", "product", "reason", "offer"), np.int8)
        types = {"chain": np.int32, "cents": np.int32, "place": np.int16, "number": np.int16, **small}
        types |= {"at": np.int64, "expires": np.int64}
        return cls(
            **{
                name: np.concatenate([getattr(part, name).astype(dtype, copy=False) for part in parts])
                for name, dtype in types.items()
            }
        )

    def take(self, rows: np.ndarray) -> "Rows":
        """Return the rows at these indices."""
        return Rows(**{name: getattr(self, name)[rows] for name in self.__dataclass_fields__})

    @cached_property
    def height(self) -> int:
        """The number of rows."""
        return len(self.chain)


def history(
    events: int, *, seed: int = 0, ids: str = "uuid", noise: bool = True, loose_refunds: bool = True
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """
    Generate the first `events` events of a subscription app, over at most the three years 2023 to 2025.

    Installs grow with time. 30 % of the users subscribe to one of six products, directly or after a trial. Churn falls
    with age. Some users upgrade in the same chain, some return to it after a gap, some start a second chain or make
    one-time purchases. Some payments are late, and some are refunded: before or after later payments, on the same day
    or weeks later.

    Parameters
    ----------
    events
        Number of events.
    seed
        Seed of the random generator.
    ids
        "int": serial numbers in the order of the installs, with gaps; "uuid": text of 36 characters.
    noise
        Add rows that do not count or are inconsistent: events without money, sandbox testers, granted products,
        duplicate rows (some delivered later), refunds without payment, users missing or duplicated in the installs,
        payments before the install, chains shared by two users.
    loose_refunds
        Give 10 % of the refunds no transaction id, or a different one from their payment's.

    Returns
    -------
    tuple of pl.DataFrame
        The events in order of time, with the column names of Adapty's export, and the installs: one row per user with
        profile_id, install_date, country, store, attribution_source and attribution_status.
    """
    if ids not in IDS:
        raise ValueError(f"ids {ids!r} is unknown. Expected one of {', '.join(map(repr, IDS))}")
    installs = int(events / ROWS_PER_INSTALL[noise]) + 100
    while True:
        rng = np.random.default_rng(seed)
        users = _users(installs, ids, rng)
        chains, rows = _generated(users, noise, loose_refunds, rng)
        if rows.height >= events:
            break
        installs = installs * 5 // 4
    order = np.argsort(rows.at, kind="stable")[:events]
    frame = _event_frame(rows.take(order), chains, users, noise, rng)
    return frame, _install_frame(users, int(rows.at[order[-1]]) if events else SPAN, noise, rng)


def _users(count: int, ids: str, rng: np.random.Generator) -> Users:
    """Generate users whose installs grow with time."""
    characters = uuids(rng.integers(0, 256, (count, 16), dtype=np.uint8)) if ids == "uuid" else None
    serial = 1000 + np.cumsum(rng.integers(1, 4, count))
    return Users(
        installed=_whole_ms(np.sort(SPAN * rng.random(count) ** 0.6)),
        country=_drawn(len(COUNTRIES), [country[1] for country in COUNTRIES], count, rng),
        store=(rng.random(count) < 0.35).astype(np.int8),
        source=_drawn(len(SOURCES), [source[2] for source in SOURCES], count, rng),
        tester=rng.random(count) < TESTERS,
        id=pl.Series(serial) if characters is None else texts(characters),
        id_characters=characters,
    )


def _generated(users: Users, noise: bool, loose_refunds: bool, rng: np.random.Generator) -> tuple[Chains, Rows]:
    """Generate all events of the users up to the end of the three years."""
    subscribing = np.flatnonzero(rng.random(len(users.installed)) < SUBSCRIBING)
    chains = _chains(users, subscribing, noise, rng)
    subscribed = _subscribed(chains, users, noise, rng)
    bought, once = _bought_once(users, subscribing, len(chains.user), rng)
    chains = Chains(*(np.concatenate([getattr(chains, name), getattr(bought, name)]) for name in _names(Chains)))
    rows = _in_time(Rows.together([*subscribed, once]))
    payment = (rows.code >= STARTED) & (rows.code <= ONE_TIME) & (rows.product != GRANTED)
    chance = np.where(rows.code == ONE_TIME, ONE_TIME_REFUNDED, REFUNDED) * payment
    refunded = np.flatnonzero(rng.random(rows.height) < chance)
    refunds = _refunds(rows.take(refunded), loose_refunds, rng)
    if noise:
        chance = payment * LOST_PAYMENTS
        chance[refunded] = LOST_REFUNDED_PAYMENTS
        rows = rows.take(np.flatnonzero(rng.random(rows.height) >= chance))
    rows = _in_time(Rows.together([rows, refunds]))
    if noise:
        rows = _in_time(Rows.together([rows, _repeats(rows, rng)]))
    return chains, rows


def _in_time(rows: Rows) -> Rows:
    return rows.take(np.flatnonzero(rows.at < SPAN))


def _chains(users: Users, subscribing: np.ndarray, noise: bool, rng: np.random.Generator) -> Chains:
    """Start the first chain of every subscribing user near the install, and a second one for 12.5 % of them."""
    second = subscribing[rng.random(len(subscribing)) < 0.125]
    user = np.concatenate([subscribing, second])
    delay = np.where(rng.random(len(user)) < 0.6, rng.exponential(0.02, len(user)), rng.exponential(12, len(user)))
    delay[len(subscribing) :] += rng.exponential(150, len(second))
    start = users.installed[user] + _whole_ms(delay * DAY)
    if noise:
        # Bought before the known install, and restored by it.
        restored = (rng.random(len(user)) < 0.01) & (users.installed[user] > 60 * DAY)
        start = np.where(restored, users.installed[user] - _whole_ms(60 * DAY * rng.random(len(user))), start)
    return Chains(user, _drawn(len(PRODUCTS), [product.share for product in PRODUCTS], len(user), rng), start)


class Leg(NamedTuple):
    """Payments in sequence for one product: their chain and start, and the place, number and code of the first."""

    chain: np.ndarray
    product: np.ndarray
    start: np.ndarray
    first_place: np.ndarray
    first_number: np.ndarray
    first_code: np.ndarray


def _subscribed(chains: Chains, users: Users, noise: bool, rng: np.random.Generator) -> list[Rows]:
    """Generate the trials, the two legs of each chain, and events without money."""
    count = len(chains.user)
    trial_days = np.array([product.trial for product in PRODUCTS])[chains.product]
    trial = (trial_days > 0) & (rng.random(count) < 0.7)
    converted = trial & (rng.random(count) < 0.45)
    paid = np.flatnonzero(~trial | converted)
    trial_end = chains.start + trial_days * DAY

    on_trial = np.flatnonzero(trial)
    left = on_trial[~converted[on_trial]]
    parts = [
        Rows.of(
            chain=on_trial,
            code=TRIAL,
            at=chains.start[on_trial],
            place=0,
            product=chains.product[on_trial],
            expires=trial_end[on_trial],
            cents=0,
        )
    ]
    first = Leg(
        chain=paid,
        product=chains.product[paid],
        start=np.where(trial, trial_end, chains.start)[paid],
        first_place=trial[paid].astype(np.int64),
        first_number=np.ones(len(paid), np.int64),
        first_code=np.where(trial[paid], CONVERTED, STARTED),
    )
    planned = _planned(first.product, rng)
    upgrades = (np.array([product.upgrade for product in PRODUCTS])[first.product] != first.product) & (
        rng.random(len(paid)) < 0.06
    )
    # An upgrade ends the first leg at a random payment.
    planned = np.where(upgrades, np.ceil(planned * rng.random(len(paid))).astype(np.int64), planned)
    payments, last, is_last = _payments(first, planned, chains, users, rng)
    parts.append(payments)

    # The second leg. `last` is the row of the last payment of each leg, which may be after the three years.
    returns = ~upgrades & (rng.random(len(paid)) < 0.09)
    going_on = np.flatnonzero(upgrades | returns)
    upgrading = upgrades[going_on]
    before = payments.take(last[going_on])
    lasted = before.expires - before.at
    moment = np.where(
        upgrading,
        before.at + _whole_ms(lasted * (0.05 + 0.9 * rng.random(len(going_on)))),
        before.expires + _whole_ms(DAY * (1 + rng.exponential(70, len(going_on)))),
    )
    upgrade_to = np.array([product.upgrade for product in PRODUCTS])
    others = rng.integers(0, SUBSCRIPTIONS, len(going_on))
    back_to = np.where(rng.random(len(going_on)) < 0.7, before.product, others)
    second = Leg(
        chain=before.chain,
        product=np.where(upgrading, upgrade_to[before.product], back_to),
        start=moment,
        first_place=before.place + 1,
        first_number=np.where(upgrading, before.number + 1, 1),
        first_code=np.full(len(going_on), RENEWED),
    )
    more, more_last, more_is_last = _payments(second, _planned(second.product, rng), chains, users, rng)
    parts.append(more)

    upgraded = before.take(np.flatnonzero(upgrading))
    parts.append(
        replace(
            upgraded,
            code=np.full(upgraded.height, REFUNDED_EVENT),
            at=moment[upgrading],
            number=np.full(upgraded.height, -1),
            reason=np.full(upgraded.height, UPGRADED),
        )
    )
    if noise:
        ended = np.flatnonzero(~upgrades)
        parts += _without_payment(payments, last[ended], is_last, rng)
        parts += _without_payment(more, more_last, more_is_last, rng)
        parts += [
            Rows.of(
                chain=left,
                code=code,
                at=(chains.start[left] + share * (trial_end - chains.start)[left]).astype(np.int64),
                product=chains.product[left],
                expires=trial_end[left],
                place=0,
                reason=VOLUNTARY,
            )
            for code, share in ((TRIAL_CANCELLED, 0.5), (TRIAL_EXPIRED, 1.0))
        ]
        parts.append(_granted(chains, rng))
    return parts


def _planned(product: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draw the number of payments of each leg, if time permits."""
    stay = np.array([product.stay for product in PRODUCTS])[product]
    return rng.geometric(np.maximum(rng.beta(stay[:, 0], stay[:, 1]), 1e-3))


def _payments(
    leg: Leg, planned: np.ndarray, chains: Chains, users: Users, rng: np.random.Generator
) -> tuple[Rows, np.ndarray, np.ndarray]:
    """
    Generate the payments of each leg, up to the first one after the end of the three years.

    Returns
    -------
    tuple
        The payments, leg by leg; the row of each leg's last payment; whether a row is the last one planned.
    """
    days = np.array([product.days for product in PRODUCTS])[leg.product]
    months = np.array([product.months for product in PRODUCTS])[leg.product]
    room = np.maximum(SPAN - leg.start, 0) // (days * DAY) + 2
    given = np.minimum(planned, room)
    of = np.repeat(np.arange(len(given)), given)
    first = np.cumsum(given) - given
    index = np.arange(len(of)) - first[of]

    late = np.where((index > 0) & (rng.random(len(of)) < 0.03), _whole_ms(DAY * rng.exponential(4, len(of))), 0)
    waited = np.cumsum(late)
    waited -= waited[first[of]]
    at = _periods_later(leg.start, months, days, of, index) + waited
    expires = _periods_later(leg.start, months, days, of, index + 1) + waited

    product, chain = leg.product[of], leg.chain[of]
    country = users.country[chains.user[chain]]
    code = np.where(index == 0, leg.first_code[of], RENEWED)
    introduced = (code == STARTED) & (rng.random(len(of)) < 0.15)
    won_back = (code == RENEWED) & (index == 0) & (leg.first_number[of] == 1) & (rng.random(len(of)) < 0.3)
    price = _price(product, country)
    payments = Rows(
        chain=chain,
        code=code,
        at=at,
        place=leg.first_place[of] + index,
        product=product,
        number=leg.first_number[of] + index,
        expires=expires,
        cents=np.where(introduced | won_back, price // 2, price),
        reason=np.full(len(of), -1),
        offer=np.where(introduced, 0, np.where(won_back, 1, -1)),
    )
    last = first + given - 1
    is_last = np.zeros(len(of), bool)
    is_last[last] = planned <= room
    return payments, last, is_last


def _without_payment(payments: Rows, last: np.ndarray, is_last: np.ndarray, rng: np.random.Generator) -> list[Rows]:
    """Generate events without money: the end of a leg, billing issues, access updates."""
    ended = payments.take(last[is_last[last]])
    lasted = ended.expires - ended.at
    billing = rng.random(ended.height) < 0.2
    reason = np.where(billing, BILLING, VOLUNTARY)
    updated = payments.take(np.flatnonzero(rng.random(payments.height) < 0.12))
    return [
        _without_money(ended, CANCELLED, ended.at + _whole_ms(lasted * rng.random(ended.height)), reason),
        _without_money(ended, EXPIRED, ended.expires, reason),
        _without_money(ended, BILLING_ISSUE, ended.expires, reason).take(np.flatnonzero(billing)),
        _without_money(ended, GRACE, ended.expires + 60_000_000, reason).take(np.flatnonzero(billing)),
        _without_money(updated, ACCESS, updated.at + 250_000, np.full(updated.height, -1)),
    ]


def _without_money(rows: Rows, code: int, at: np.ndarray, reason: np.ndarray) -> Rows:
    nothing = np.full(rows.height, -1)
    return replace(rows, code=np.full(rows.height, code), at=at, reason=reason, cents=nothing, number=nothing)


def _granted(chains: Chains, rng: np.random.Generator) -> Rows:
    """Grant a product to a few users, as support does: no transaction, no money."""
    granted = np.flatnonzero(rng.random(len(chains.user)) < 0.004)
    at = chains.start[granted] + _whole_ms(DAY * rng.exponential(30, len(granted)))
    expires = at + 30 * DAY
    return Rows.of(chain=granted, code=STARTED, at=at, product=GRANTED, place=-1, expires=expires, cents=0, number=1)


def _bought_once(
    users: Users, subscribing: np.ndarray, first_chain: int, rng: np.random.Generator
) -> tuple[Chains, Rows]:
    """Generate one-time purchases: coins, which a few users buy repeatedly, and the lifetime product."""
    buyers = subscribing[rng.random(len(subscribing)) < 0.05]
    times = rng.geometric(0.45, len(buyers))
    lifetime = subscribing[rng.random(len(subscribing)) < 0.02]
    user = np.concatenate([np.repeat(buyers, times), lifetime])
    product = np.full(len(user), LIFETIME)
    product[: times.sum()] = rng.choice(COINS, times.sum(), p=(0.7, 0.3))
    at = users.installed[user] + _whole_ms(DAY * rng.exponential(45, len(user)))
    rows = Rows.of(
        chain=first_chain + np.arange(len(user)),
        code=ONE_TIME,
        at=at,
        place=0,
        product=product,
        cents=_price(product, users.country[user]),
        number=1,
    )
    return Chains(user, product, at), rows


def _refunds(paid: Rows, loose: bool, rng: np.random.Generator) -> Rows:
    """Generate refunds of these payments, most within days, some after later payments."""
    count = paid.height
    wait = np.where(rng.random(count) < 0.7, rng.exponential(3, count), 5 + rng.exponential(30, count))
    unnamed = (rng.random(count) < LOOSE_REFUNDS) & loose
    # Without a transaction id, or with a different one.
    place = np.where(rng.random(count) < 0.5, -1, -2 - paid.place)
    return replace(
        paid,
        code=np.where(paid.code == ONE_TIME, ONE_TIME_REFUNDED_EVENT, REFUNDED_EVENT),
        at=paid.at + _whole_ms(DAY * wait),
        place=np.where(unnamed, place, paid.place),
        number=np.full(count, -1),
        reason=np.full(count, REFUND),
        offer=np.full(count, -1),
    )


def _repeats(rows: Rows, rng: np.random.Generator) -> Rows:
    """Generate duplicate rows, 30 % of them up to an hour later, with the same transaction id."""
    again = rows.take(np.flatnonzero((rng.random(rows.height) < REPEATED) & (rows.place >= 0)))
    later = rng.random(again.height) < 0.3
    return replace(again, at=again.at + _whole_ms(later * rng.random(again.height) * DAY / 24))


def _event_frame(rows: Rows, chains: Chains, users: Users, noise: bool, rng: np.random.Generator) -> pl.DataFrame:
    """Convert the integers to the columns of the export."""
    user = chains.user[rows.chain]
    tester = users.tester[user] & noise
    original, transaction = _transaction_ids(rows, users.store[user])
    if noise:
        # The same store account on two devices: some chains appear under two profiles.
        shared = (rows.chain % 503 == 7) & (rows.place >= 2)
        user = np.where(shared, (user + 1) % len(users.installed), user)
    country = users.country[user]
    abroad = np.where(rng.random(rows.height) < 0.03, rng.integers(0, len(COUNTRIES), rows.height), country)
    tax = np.array([country[3] for country in COUNTRIES])[country]
    share = np.where(rows.number > 12, 85, 70)
    proceeds = rows.cents * share // 100
    net = proceeds - np.rint(rows.cents * tax / (1 + tax)).astype(np.int64)
    google = users.store[user] == GOOGLE
    # Exports differ in the sign of refunds.
    sign = np.where(google & ((rows.code == REFUNDED_EVENT) | (rows.code == ONE_TIME_REFUNDED_EVENT)), -1, 1)
    unknown = rng.random(rows.height) < 0.1 * noise
    installed = np.where(unknown, NEVER, users.installed[user])
    plan = np.where(google, rows.product, -1)
    return pl.DataFrame(
        {
            "profile_id": users.id.gather(user) if users.id_characters is None else texts(users.id_characters[user]),
            "event_type": _named(rows.code, EVENTS),
            "event_datetime": _instants(rows.at),
            "transaction_id": transaction,
            "original_transaction_id": original,
            "subscription_expires_at": _instants(rows.expires),
            "environment": _named(tester.astype(np.int8), ("Production", "Sandbox")),
            "product_id": _named(rows.product, [product.name for product in PRODUCTS]),
            "base_plan_id": _named(plan, [product.base_plan for product in PRODUCTS]),
            "duration": _named(rows.product, [product.duration for product in PRODUCTS]),
            "offer_category": _named(rows.offer, OFFERS),
            "revenue_usd": _dollars(sign * rows.cents, rows.cents),
            "proceeds_usd": _dollars(sign * proceeds, rows.cents),
            "net_revenue_usd": _dollars(sign * net, rows.cents),
            "consecutive_payments": _whole(rows.number),
            "cancellation_reason": _named(rows.reason, REASONS),
            "store": _named(users.store[user], STORES),
            "store_country": _named(abroad, [country[0] for country in COUNTRIES]),
            "profile_country": _named(country, [country[0] for country in COUNTRIES]),
            "install_date": _instants(installed),
            "attribution_source": _named(users.source[user], [source[0] for source in SOURCES]),
            "attribution_status": _named(users.source[user], [source[1] for source in SOURCES]),
        }
    )


def _install_frame(users: Users, last: int, noise: bool, rng: np.random.Generator) -> pl.DataFrame:
    """Return the installs up to the last event, with some users missing and some duplicated."""
    listed = np.flatnonzero(users.installed <= last)
    installed = users.installed[listed]
    if noise:
        listed = listed[rng.random(len(listed)) >= 0.005]
        again = listed[rng.random(len(listed)) < 0.01]
        installed = np.concatenate([users.installed[listed], users.installed[again] + 20 * DAY])
        listed = np.concatenate([listed, again])
        order = np.argsort(installed, kind="stable")
        listed, installed = listed[order], installed[order]
    return pl.DataFrame(
        {
            "profile_id": own_bytes(users.id.gather(listed)),
            "install_date": _instants(installed),
            "country": _named(users.country[listed], [country[0] for country in COUNTRIES]),
            "store": _named(users.store[listed], STORES),
            "attribution_source": _named(users.source[listed], [source[0] for source in SOURCES]),
            "attribution_status": _named(users.source[listed], [source[1] for source in SOURCES]),
        }
    )


def _transaction_ids(rows: Rows, store: np.ndarray) -> tuple[pl.Series, pl.Series]:
    """
    Format original_transaction_id and transaction_id as the stores do.

    At Apple every transaction has a new number of 15 digits. Google numbers the order, and appends a counter to its
    renewals: GPA.3321-0456-1287-52340, then ..0, ..1 and so on.
    """
    # The place −2 − n is a refund of place n with its own transaction id, or with none at Google.
    loose = rows.place < -1
    google = store == GOOGLE
    apples, googles = np.flatnonzero(~google), np.flatnonzero(google)
    place = np.where(loose, 2046 - rows.place, np.maximum(rows.place, 0))
    serial = rows.chain.astype(np.int64) * 4096
    apple = [_numbers(serial[apples]), _numbers(serial[apples] + place[apples])]
    order = _orders(rows.chain[googles])
    counts = [f"..{count}" for count in range(2048)]
    counted = pl.Series(["", *counts]).gather(np.where(loose, 0, place)[googles])

    back = np.empty(rows.height, np.int64)
    back[np.concatenate([apples, googles])] = np.arange(rows.height)
    original = pl.concat([apple[0], order]).gather(back)
    transaction = pl.concat([apple[1], order + counted]).gather(back)
    missing = pl.Series((rows.place == -1) | (loose & google))
    return own_bytes(original), own_bytes(transaction.set(missing, None))


def _numbers(serial: np.ndarray) -> pl.Series:
    """Map serial numbers to distinct, unordered numbers of 15 digits."""
    return pl.Series((serial * 0x4F1B_BCDC_BFA5) % 2**47 + 2 * 10**14).cast(pl.String)


def _orders(chain: np.ndarray) -> pl.Series:
    """Format GPA.dddd-dddd-dddd-ddddd, distinct for each chain."""
    number = (chain.astype(np.int64) * 0x1F1B_BCDC_BFA5) % 2**56
    digits = np.frombuffer("".join(f"{number:05}" for number in range(100_000)).encode(), np.uint8).reshape(-1, 5)
    characters = np.full((len(chain), 24), ord("-"), np.uint8)
    characters[:, :4] = np.frombuffer(b"GPA.", np.uint8)
    for at, width in ((19, 5), (14, 4), (9, 4), (4, 4)):
        number, group = np.divmod(number, 10**width)
        characters[:, at : at + width] = digits[group, 5 - width :]
    return texts(characters)


def _periods_later(
    start: np.ndarray, months: np.ndarray, days: np.ndarray, of: np.ndarray, count: np.ndarray
) -> np.ndarray:
    """Add periods: months, to the same day or the last one of the month, or days if the period has no months."""
    instant = START + start.astype("timedelta64[us]")
    month = instant.astype("datetime64[M]")
    since = (instant - month).astype(np.int64)
    first = month.astype(np.int64) - START.astype("datetime64[M]").astype(np.int64)

    later = first[of] + months[of] * count
    begins = START.astype("datetime64[M]") + np.arange(later.max(initial=0) + 2)
    begins = (begins.astype("datetime64[us]") - START).astype(np.int64)
    last_day = np.diff(begins)[later] - DAY
    by_months = begins[later] + np.minimum((since // DAY * DAY)[of], last_day) + (since % DAY)[of]
    return np.where(months[of] > 0, by_months, start[of] + count * days[of] * DAY)


def _price(product: np.ndarray, country: np.ndarray) -> np.ndarray:
    """Return the price of each product in each country: whole dollars less one cent, and at least 33 cents."""
    cents = np.array([product.cents for product in PRODUCTS])
    levels = np.array([country[2] for country in COUNTRIES])
    prices = np.maximum(np.rint(np.outer(cents, levels) / 100).astype(np.int64) * 100 - 1, 33) * (cents > 0)[:, None]
    return prices[product, country]


def _drawn(kinds: int, shares: list[float], count: int, rng: np.random.Generator) -> np.ndarray:
    return rng.choice(kinds, count, p=np.array(shares) / sum(shares)).astype(np.int8)


def _whole_ms(us: np.ndarray) -> np.ndarray:
    return (us // 1000).astype(np.int64) * 1000


def _instants(us: np.ndarray) -> pl.Series:
    """Convert microseconds from the start to instants; NEVER becomes null."""
    at = START + np.where(us == NEVER, 0, us).astype("timedelta64[us]")
    at[us == NEVER] = np.datetime64("NaT")
    return pl.Series(at).dt.replace_time_zone("UTC")


def _named(code: np.ndarray, names: "tuple[str | None, ...] | list[str | None]") -> pl.Series:
    """Map codes to names; codes below 0 become null."""
    table = pl.Series([None, *names], dtype=pl.String)
    named = table.gather(code + 1)
    # A string view stores up to 12 bytes inline.
    return own_bytes(named) if max(len(name or "") for name in names) > 12 else named


def _dollars(cents: np.ndarray, price: np.ndarray) -> pl.Series:
    return pl.Series(cents / 100).set(pl.Series(price < 0), None)


def _whole(number: np.ndarray) -> pl.Series:
    return pl.Series(number.astype(np.int64)).set(pl.Series(number < 0), None)


def _names(kind: type) -> list[str]:
    return list(kind.__dataclass_fields__)
