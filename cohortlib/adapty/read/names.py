"""Column and event names of Adapty's exports, with their aliases."""

from collections.abc import Callable
from difflib import get_close_matches
from typing import TypeAlias

import numpy as np
import polars as pl

from cohortlib.adapty.read import columns
from cohortlib.adapty.read.columns import Column
from cohortlib.adapty.read.tables import ATTRIBUTION
from cohortlib.errors import SchemaError, listed

KINDS = {
    "trial_started": 0,
    "subscription_started": 1,
    "trial_converted": 2,
    "subscription_renewed": 3,
    "non_subscription_purchase": 4,
    "subscription_refunded": 5,
    "non_subscription_purchase_refunded": 6,
    "subscription_initial_purchase": 1,
}
_OTHERS = (
    "access_level_updated", "auto_renew_off", "auto_renew_off_subscription", "auto_renew_on",
    "auto_renew_on_subscription", "billing_issue_detected", "entered_grace_period", "subscription_cancelled",
    "subscription_deferred", "subscription_expired", "subscription_paused", "subscription_renewal_cancelled",
    "subscription_renewal_reactivated", "trial_cancelled", "trial_expired", "trial_renewal_cancelled",
    "trial_renewal_reactivated",
)  # fmt: skip
OTHER, UNKNOWN = -1, -2
TYPES = pl.Enum([*KINDS, *_OTHERS])
KIND_OF_CODE = np.array([*KINDS.values(), *[OTHER] * len(_OTHERS), *[UNKNOWN] * (256 - len(TYPES.categories))], np.int8)
GRANTED = ("adapty_server_side_product", "adapty_dashboard_product", "adapty_promotion")

MONEY = ("revenue_usd", "proceeds_usd", "net_revenue_usd")
_DEVICE = ("idfv", "android_app_set_id", "android_id", "idfa", "advertising_id")
NO_DEVICE = "00000000-0000-0000-0000-000000000000"  # what phones give where the user forbids tracking
FAMILY = ("ownership_type", "in_app_ownership_type")

ALIASES: dict[str, tuple[str, ...]] = {
    "event_datetime": ("purchase_date",),
    "product_id": ("vendor_product_id",),
    "revenue_usd": ("price_usd",),
    "install_date": ("profile_install_datetime",),
    "profile_country": ("profile_county",),
    "offer_category": ("store_offer_category",),
    "offer_type": ("store_offer_discount_type",),
    "offer_id": ("promotional_offer_id",),
    "attribution_ad_group": ("attribution_adgroup",),
    "attribution_ad_set": ("attribution_adset",),
    "device_id": _DEVICE,
}
Reader: TypeAlias = Callable[[pl.Series], Column]
READERS: dict[str, Reader] = {
    "user": columns.user,
    "event_datetime": columns.instant,
    "transaction_id": columns.text,
    "original_transaction_id": columns.text,
    "product_id": columns.text,
    **dict.fromkeys(MONEY, columns.number),
    "install_date": columns.instant,
    "subscription_expires_at": columns.instant,
    "profile_event_id": columns.text,
    "consecutive_payments": columns.whole,
    **dict.fromkeys(
        (
            "store", "base_plan_id", "store_country", "profile_country", "duration", "offer_category", "offer_type",
            "offer_id", "attribution_source", *(f"attribution_{name}" for name in ATTRIBUTION),
        ),
        columns.text,
    ),
}  # fmt: skip
INSTANTS = tuple(name for name, read in READERS.items() if read is columns.instant)
REQUIRED = ("event_datetime", "transaction_id", "original_transaction_id", "product_id", *MONEY)
ALWAYS = ("install_date", "subscription_expires_at", "profile_event_id")


def accepted_names(name: str) -> tuple[str, ...]:
    """List the names under which a column is accepted."""
    return (name, *ALIASES.get(name, ()))


def refuse_missing(required: dict[str, tuple[str, ...]], there: list[str], where: str) -> None:
    """Raise if a required column is missing, with names that look like it."""
    missing = [name for name, accepted in required.items() if not any(one in there for one in accepted)]
    if not missing:
        return
    known = {one for accepted in required.values() for one in accepted}
    strangers = {name.lower(): name for name in there if name not in known}
    near = [(name, get_close_matches(name.lower(), strangers, 1)) for name in missing]
    renamed = ", ".join(f"{strangers[match[0]]!r} to {name!r}" for name, match in near if match)
    raise SchemaError(
        f"{'column' if len(missing) == 1 else 'columns'} {listed(missing, 20)} missing from {where}; columns are "
        f"{listed(there, 60)}. Hint: "
        + (f"rename {renamed}" if renamed else "name them as Adapty's event export or its webhook does")
    )
