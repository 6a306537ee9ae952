"""The types of Adapty's events and the kinds that they count as."""

from collections.abc import Callable, Mapping
from difflib import get_close_matches
from typing import Any, TypeAlias

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
from cohortlib.engine.threads import on_threads
from cohortlib.errors import Arg, SchemaError, SettingError, listed
from cohortlib.read.arrays import string_views
from cohortlib.read.text import is_text

EventTypes: TypeAlias = tuple[tuple[str, str], ...]
"""Renamed event types and Adapty's names of them, in lower case."""

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

_BLOCK = 1 << 17  # rows
_MAX_SHOWN = 5  # names in a warning


class RenamedTypes(dict[str, str]):
    """Renamed event types; as text, as the command line takes them."""

    def __str__(self) -> str:
        return ",".join(f"{name}={known}" for name, known in self.items())


def check_event_types(event_types: Mapping[str, str] | None) -> EventTypes:
    """Check a mapping of renamed event types, and return it sorted, with names in lower case."""
    if event_types is None:
        return ()
    expected = "a dict from each renamed event type to Adapty's name of it, {'app_subscribed': 'subscription_started'}"
    if not isinstance(event_types, Mapping):
        raise SettingError((Arg("event_types", event_types), " is no dict"), value=event_types, expected=expected)
    renamed: dict[str, str] = {}
    for name, known in event_types.items():
        if not isinstance(name, str) or not isinstance(known, str):
            raise SettingError((Arg("event_types", {name: known}), " is not text"), value=known, expected=expected)
        if known.lower() not in KINDS:
            similar = get_close_matches(known.lower(), KINDS, 1, 0.3)
            raise SettingError(
                (Arg("event_types", RenamedTypes({name: known})), f": {known!r} is not an event type of Adapty"),
                value=known,
                expected=f"one of {listed(KINDS, len(KINDS))}",
                hint=(Arg("event_types", RenamedTypes({name: similar[0]})),) if similar else "",
            )
        if renamed.setdefault(name.lower(), known.lower()) != known.lower():
            raise SettingError(
                (Arg("event_types"), f" maps {name.lower()!r} to {renamed[name.lower()]!r} and to {known.lower()!r}"),
                value=name,
                expected="one type for each name, regardless of upper and lower case",
            )
    return tuple(sorted(renamed.items()))


def suggested_type(name: str) -> str:
    """Return the event type of Adapty that a renamed one most likely stands for."""
    counting = [known for known, kind in KINDS.items() if kind >= TRIAL]
    return next(iter(get_close_matches(name.lower(), counting, 1, 0.3)), "subscription_started")


def unknown_types_text(counts: Mapping[str, int]) -> tuple[str | Arg, ...]:
    """Format the warning that names unknown event types with their counts, the most frequent first."""
    names = sorted(counts, key=lambda name: (-counts[name], name))
    shown = ", ".join(f"{name[:60]!r} ({counts[name]:,})" for name in names[:_MAX_SHOWN])
    rest = f" and {len(names) - _MAX_SHOWN:,} more" if len(names) > _MAX_SHOWN else ""
    count = sum(counts.values())
    return (
        f"rows of unknown event types: {count:,}; they are left out: {shown}{rest}. Hint: if types were renamed, ",
        Arg("event_types", RenamedTypes({names[0]: suggested_type(names[0])})),
        " counts them",
    )


def kinds_of(column: pl.Series, workers: int, event_types: EventTypes = ()) -> pl.Series:
    """Return the kind of each event type, as Int8; upper and lower case are the same.

    `event_types` are the renamed ones, as :func:`check_event_types` returns them.
    """
    dtype = column.dtype
    if dtype == pl.Null:
        return pl.repeat(UNKNOWN, len(column), dtype=pl.Int8, eager=True)
    if not is_text(dtype):
        raise SchemaError(f"column {column.name!r} is {dtype}", expected="event types as text, such as 'trial_started'")
    renamed = dict(event_types)

    def kind_of(name: str) -> int:
        lower = name.lower()
        return KINDS.get(renamed.get(lower, lower), UNKNOWN)

    if dtype != pl.String:
        return _by_name(column, kind_of)
    kind_of_code = np.full(256, UNKNOWN, np.int8)
    kind_of_code[: len(KINDS)] = [kind_of(name) for name in KINDS]
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
        block[-1][:] = kind_of_code[block[-1]]

    on_threads(workers, recognise_block, blocks)
    # The kernel compares exact names; the others are few, or one of few spellings.
    others = np.flatnonzero(kinds == UNKNOWN)
    if others.size:
        kinds[others] = _by_name(column.gather(others), kind_of).to_numpy()
    return pl.Series(kinds)


def _by_name(column: pl.Series, kind_of: Callable[[str], int]) -> pl.Series:
    """Return the kind of each event type of a column with few distinct names."""
    names = column.unique().drop_nulls().cast(pl.String)
    known = {name: kind for name in names if (kind := kind_of(name)) != UNKNOWN}
    if not known:
        return pl.repeat(UNKNOWN, len(column), dtype=pl.Int8, eager=True)
    codes = column.cast(pl.Enum([*known]), strict=False).to_physical().cast(pl.UInt32).fill_null(len(known))
    return pl.Series(np.array([*known.values(), UNKNOWN], np.int8)[codes.to_numpy()])
