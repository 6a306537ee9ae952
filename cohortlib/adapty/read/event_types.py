"""The types of Adapty's events and the kinds that they count as."""

from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from cohortlib.adapty.kernels.records import (
    CONVERTED,
    ONE_TIME,
    ONE_TIME_REFUND,
    REFUND,
    RENEWED,
    STARTED,
    TRIAL,
)
from cohortlib.adapty.kernels.vocabulary import Vocabulary, recognise
from cohortlib.adapty.read.readers import is_text
from cohortlib.engine.threads import on_threads
from cohortlib.errors import SchemaError
from cohortlib.read.arrays import string_views

NO_MONEY, UNKNOWN = -1, -2
KINDS = {
    "trial_started": TRIAL,
    "subscription_started": STARTED,
    "trial_converted": CONVERTED,
    "subscription_renewed": RENEWED,
    "non_subscription_purchase": ONE_TIME,
    "subscription_refunded": REFUND,
    "non_subscription_purchase_refunded": ONE_TIME_REFUND,
    "subscription_initial_purchase": STARTED,
    **dict.fromkeys(
        (
            "access_level_updated", "auto_renew_off", "auto_renew_off_subscription", "auto_renew_on",
            "auto_renew_on_subscription", "billing_issue_detected", "entered_grace_period", "subscription_cancelled",
            "subscription_deferred", "subscription_expired", "subscription_paused", "subscription_renewal_cancelled",
            "subscription_renewal_reactivated", "trial_cancelled", "trial_expired", "trial_renewal_cancelled",
            "trial_renewal_reactivated",
        ),
        NO_MONEY,
    ),
}  # fmt: skip
"""The kind of each event type; `NO_MONEY` for types that never count."""

_TYPES = pl.Enum([*KINDS])
_KIND_OF_CODE = np.array([*KINDS.values(), *[UNKNOWN] * (256 - len(KINDS))], np.int8)
_BLOCK = 1 << 17  # rows


def kinds_of(column: pl.Series, workers: int) -> pl.Series:
    """Return the kind of each event type, as Int8."""
    dtype = column.dtype
    if dtype == pl.Null:
        return pl.repeat(UNKNOWN, len(column), dtype=pl.Int8, eager=True)
    if not is_text(dtype):
        raise SchemaError(f"column {column.name!r} is {dtype}", expected="event types as text, such as 'trial_started'")
    if dtype != pl.String:
        return pl.Series(_KIND_OF_CODE[column.cast(_TYPES, strict=False).to_physical().fill_null(255).to_numpy()])
    kinds, vocabulary = np.empty(len(column), np.int8), Vocabulary.of([*KINDS])
    blocks = []
    first = 0
    for views, memory, bases in string_views(column):
        for at in range(0, views.size, 2 * _BLOCK):
            part = views[at : at + 2 * _BLOCK]
            blocks.append((part, memory, bases, *vocabulary, kinds[first : first + part.size // 2]))
            first += part.size // 2

    def recognise_block(block: tuple[NDArray[Any], ...]) -> None:
        recognise(*block)
        block[-1][:] = _KIND_OF_CODE[block[-1]]

    on_threads(workers, recognise_block, blocks)
    return pl.Series(kinds)
