"""The columns of events and installs: name, aliases, reader, whether required, and for which kinds of events."""

from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches

import polars as pl

from cohortlib.adapty.kernels.records import ONE_TIME_REFUND, RENEWED, STARTED, TRIAL
from cohortlib.adapty.read import readers
from cohortlib.adapty.read.readers import Reader
from cohortlib.adapty.read.settings import Reading
from cohortlib.errors import SchemaError, listed

# Ranges of kinds of events, both ends included.
ALL_KINDS = (TRIAL, ONE_TIME_REFUND)
MONEY_KINDS = (STARTED, ONE_TIME_REFUND)
_SUBSCRIPTION_PAYMENTS = (STARTED, RENEWED)


@dataclass(frozen=True)
class ColumnSpec:
    """A column that is read.

    Attributes
    ----------
    name
        Its name in the export.
    reader
        Converts it; None for a column that only decides whether a row counts, and is not kept.
    aliases
        Other accepted names. The first name present is read; the aliases fill each other's nulls.
    required
        Whether it is an error if the column is missing.
    optional
        Whether the column is read only for requests that need it.
    kinds
        The first and last kind of event whose rows need the column. A value that cannot be read is an error in these
        rows only.
    not_null
        Whether a null in these rows is an error (or drops the row).
    """

    name: str
    reader: Reader | None = None
    aliases: tuple[str, ...] = ()
    required: bool = False
    optional: bool = False
    kinds: tuple[int, int] = ALL_KINDS
    not_null: bool = False

    @property
    def accepted(self) -> tuple[str, ...]:
        """All names under which the column is accepted."""
        return (self.name, *self.aliases)

    def read(self, column: pl.Series, reading: Reading) -> readers.ReadColumn:
        """Convert the column."""
        if self.reader is None:
            raise TypeError(f"column {self.name!r} has no reader")
        return self.reader(column, reading)


def _by_name(*specs: ColumnSpec) -> dict[str, ColumnSpec]:
    return {spec.name: spec for spec in specs}


# What the webhook reports of each attribution network.
ATTRIBUTION = ("status", "channel", "campaign", "ad_group", "ad_set", "creative")
_ATTRIBUTION = (
    ColumnSpec("attribution_source", readers.text, optional=True),
    ColumnSpec("attribution_status", readers.text, optional=True),
    ColumnSpec("attribution_channel", readers.text, optional=True),
    ColumnSpec("attribution_campaign", readers.text, optional=True),
    ColumnSpec("attribution_ad_group", readers.text, ("attribution_adgroup",), optional=True),
    ColumnSpec("attribution_ad_set", readers.text, ("attribution_adset",), optional=True),
    ColumnSpec("attribution_creative", readers.text, optional=True),
)

# The column that identifies the user, by user_unit. In frames of events and installs it is named "user".
USER_COLUMNS = _by_name(
    ColumnSpec("profile_id", readers.user, required=True, not_null=True),
    ColumnSpec("customer_user_id", readers.user, required=True, not_null=True),
    ColumnSpec(
        "device_id",
        readers.device,
        ("idfv", "android_app_set_id", "android_id", "idfa", "advertising_id"),
        required=True,
        not_null=True,
    ),
)

EVENT_COLUMNS = _by_name(
    ColumnSpec("event_type", required=True),
    ColumnSpec("environment", required=True),
    ColumnSpec("ownership_type", aliases=("in_app_ownership_type",)),
    ColumnSpec("cancellation_reason", optional=True),
    ColumnSpec("event_datetime", readers.instant, ("purchase_date",), required=True, not_null=True),
    ColumnSpec("transaction_id", readers.text, required=True),
    ColumnSpec("original_transaction_id", readers.text, required=True),
    ColumnSpec("product_id", readers.text, ("vendor_product_id",), required=True),
    ColumnSpec("revenue_usd", readers.number, ("price_usd",), required=True, kinds=MONEY_KINDS, not_null=True),
    ColumnSpec("proceeds_usd", readers.number, required=True, kinds=MONEY_KINDS),
    ColumnSpec("net_revenue_usd", readers.number, required=True, kinds=MONEY_KINDS),
    ColumnSpec("install_date", readers.instant, ("profile_install_datetime",)),
    ColumnSpec("subscription_expires_at", readers.end),
    ColumnSpec("profile_event_id", readers.text),
    ColumnSpec("consecutive_payments", readers.whole, optional=True, kinds=_SUBSCRIPTION_PAYMENTS),
    ColumnSpec("store", readers.text, optional=True),
    ColumnSpec("base_plan_id", readers.text, optional=True),
    ColumnSpec("store_country", readers.text, optional=True),
    ColumnSpec("profile_country", readers.text, ("profile_county",), optional=True),
    ColumnSpec("duration", readers.text, optional=True),
    ColumnSpec("offer_category", readers.text, ("store_offer_category",), optional=True),
    ColumnSpec("offer_type", readers.text, ("store_offer_discount_type",), optional=True),
    ColumnSpec("offer_id", readers.text, ("promotional_offer_id",), optional=True),
    *_ATTRIBUTION,
)
BY = "by"
"""The column of events and of installs that holds the values of a column that is not a filter."""
OFFERS = ("offer_category", "offer_type", "offer_id")
MONEY = tuple(name for name, spec in EVENT_COLUMNS.items() if spec.reader is readers.number)

INSTALL_COLUMNS = _by_name(
    ColumnSpec("install_date", readers.instant, ("profile_install_datetime", "first_seen_time"), required=True),
    ColumnSpec("installs", readers.whole),
    ColumnSpec("store", readers.text),
    ColumnSpec("country", readers.text, ("store_country", "profile_country", "profile_county")),
    *_ATTRIBUTION,
)


def by_column(name: str) -> ColumnSpec:
    """Return how the column is read whose values each have an answer."""
    return ColumnSpec(name, readers.text, EVENT_COLUMNS[name].aliases if name in EVENT_COLUMNS else ())


def accepted_names(specs: Iterable[ColumnSpec]) -> list[str]:
    """List all names under which some columns are accepted, each once."""
    return list(dict.fromkeys(name for spec in specs for name in spec.accepted))


def check_required(required: dict[str, tuple[str, ...]], columns: list[str], where: str) -> None:
    """Raise if a required column is missing under all of its names, with columns of similar names as a hint."""
    missing = [name for name, accepted in required.items() if not any(alias in columns for alias in accepted)]
    if not missing:
        return
    known = {alias for accepted in required.values() for alias in accepted}
    unknown = {name.lower(): name for name in columns if name not in known}
    similar = [(name, get_close_matches(name.lower(), unknown, 1)) for name in missing]
    renames = ", ".join(f"{unknown[match[0]]!r} to {name!r}" for name, match in similar if match)
    raise SchemaError(
        f"{'column' if len(missing) == 1 else 'columns'} {listed(missing, 20)} missing from {where}; columns are "
        f"{listed(columns, 60)}",
        value=missing,
        hint=f"rename {renames}" if renames else "name them as Adapty's event export or its webhook does",
    )
