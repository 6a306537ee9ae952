"""Propose other readings of the events: renamed types, dates, owners of chains, currencies, missing money."""

from collections.abc import Iterator
from difflib import get_close_matches
from itertools import product

import numpy as np
import polars as pl

from cohortlib.adapty import filters
from cohortlib.adapty.kernels.records import STARTED
from cohortlib.adapty.read.event_types import KINDS
from cohortlib.adapty.read.specs import MONEY
from cohortlib.compare.explain.adapty.comparison import AdaptyComparison
from cohortlib.compare.explain.adapty.dimensions import LOCAL, MARK
from cohortlib.compare.explain.adapty.edits import FIRST_REFUND
from cohortlib.compare.explain.adapty.money import Floats
from cohortlib.compare.explain.causes import Cause, choice

_MONEY_TYPES = (
    "subscription_started", "trial_converted", "subscription_renewed", "non_subscription_purchase",
    "subscription_refunded", "non_subscription_purchase_refunded", "trial_started",
)  # fmt: skip
_MOST_UNKNOWN = 4  # types of events
_SHIFTS = (1, -1, 2, -2)  # days
_SHARES = 1e4  # alternatives of a share


def event_candidates(comparison: AdaptyComparison) -> Iterator[Cause]:
    """List other readings that can change a number."""
    yield from _unfiltered(comparison)
    yield from _missing_money(comparison)
    yield from _currency(comparison)
    yield from _renamed(comparison)
    yield from _owners(comparison)
    yield from _free_payments(comparison)
    yield from _refund_dates(comparison)
    yield from _moved(comparison)


def _unfiltered(comparison: AdaptyComparison) -> Iterator[Cause]:
    if comparison.installs.users is None:
        return
    frame, passing = comparison.installs.frame, comparison.passing_installs()
    if frame is not None and passing is not None and passing.height < frame.height:
        request = comparison.recipe.request.filters
        active = [name for name in filters.columns(request) if name in frame.columns or "country" in name]
        words = f"installs not filtered by {', '.join(sorted(active)) or 'the request'}"
        yield Cause("installs unfiltered", "all", words, bits=choice(2))


def _missing_money(comparison: AdaptyComparison) -> Iterator[Cause]:
    """Fit the share of revenue that the remote side uses where proceeds or net revenue are missing."""
    excess = comparison.excess
    frame, rows = comparison.events.frame, comparison.user_money.rows
    lacking = [frame[name].is_null().gather(rows["row"]).to_numpy() for name in MONEY[1:]]
    if excess is None or not any(column.any() for column in lacking):
        return
    revenue, segment = rows["revenue"].to_numpy(), rows["segment"].to_numpy()
    shares = []
    for at, missing in enumerate(lacking, start=1):
        own = np.bincount(segment[missing], revenue[missing], len(excess)).astype(np.float64)
        shares.append(_share(excess[:, at], own))
    if any(shares):
        named = [f"{name} as {share:.6g}" for name, share in zip(("proceeds", "net_revenue"), shares, strict=True)]
        words = f"missing {' and missing '.join(named)} times the revenue"
        yield Cause("missing money", tuple(shares), words, bits=choice(_SHARES, _SHARES))


def _share(excess: Floats, own: Floats) -> float:
    power = float((own**2).sum())
    share = float((excess * own).sum()) / power if power else 0.0
    for digits in (2, 3, 4, 6):
        short = round(share, digits)
        if np.abs(excess - short * own).sum() <= np.abs(excess - share * own).sum() + 0.02 * len(own):
            return max(short, 0.0)
    return max(share, 0.0)


def _currency(comparison: AdaptyComparison) -> Iterator[Cause]:
    if LOCAL + MONEY[0] in comparison.events.frame.columns:
        yield Cause("currency", "local", "amounts in local currency added up (revenue_local …)", bits=choice(2))


def _renamed(comparison: AdaptyComparison) -> Iterator[Cause]:
    """List the types that unknown events may be, similar names first."""
    frame = comparison.events.frame
    if MARK + "event_type" not in frame.columns:
        return
    types = frame[MARK + "event_type"].str.to_lowercase()
    known = {*KINDS, *(name for name, _ in comparison.recipe.event_types)}
    counts = types.filter(~types.is_in(list(known))).drop_nulls().value_counts(sort=True)
    unknown = counts.head(_MOST_UNKNOWN)[types.name].to_list()
    pairs = list(product(unknown, _MONEY_TYPES))
    pairs.sort(key=lambda pair: pair[1] not in get_close_matches(pair[0], _MONEY_TYPES, 1, 0.3))
    for name, meaning in pairs:
        words = f"events named {name} as {meaning}"
        yield Cause(f"events named {name}", meaning, words, (("event_types", _Names({name: meaning})),),
                    bits=choice(len(pairs)))  # fmt: skip


class _Names(dict[str, str]):
    """A mapping that can be compared and printed."""


def _owners(comparison: AdaptyComparison) -> Iterator[Cause]:
    shared = comparison.events.frame.filter(comparison.events.kind >= 0)
    shared = shared.select("original_transaction_id", "user").drop_nulls().unique()
    if shared["original_transaction_id"].n_unique() < shared.height:
        for end in ("first", "last"):
            words = f"chains of several users counted for their {end} owner (transfers)"
            yield Cause("owner", end, words, bits=choice(2))


def _free_payments(comparison: AdaptyComparison) -> Iterator[Cause]:
    conventions, kind = comparison.recipe.conventions, comparison.events.kind
    paid = comparison.events.frame.filter((kind >= STARTED) & (kind < FIRST_REFUND))
    if conventions.zero_payments == "skip" or (paid["revenue_usd"].cast(pl.Float64) == 0).any():
        other, words = ("skip", "payments of revenue 0 skipped")
        if conventions.zero_payments == "skip":
            other, words = ("count", "payments of revenue 0 counted")
        yield Cause("free payments", other, words, (("zero_payments", other),), bits=choice(2))


def _refund_dates(comparison: AdaptyComparison) -> Iterator[Cause]:
    if (comparison.events.kind >= FIRST_REFUND).any():
        yield Cause("refund dates", "payment", "refunds booked at the date of their payment", bits=choice(2))


def _moved(comparison: AdaptyComparison) -> Iterator[Cause]:
    for kind, what in (("events moved", "events"), ("installs moved", "installs")):
        if kind.startswith("installs") and comparison.installs.users is None:
            continue
        for days in _SHIFTS:
            count = "a day" if abs(days) == 1 else f"{abs(days)} days"
            yield Cause(kind, days, f"{what} dated {count} {'later' if days > 0 else 'earlier'}", bits=choice(8))
