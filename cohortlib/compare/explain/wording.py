"""Phrases about rows, days and customers, shared by both vendors."""

from collections.abc import Sequence
from datetime import date

import polars as pl

MAX_NAMED = 5  # customers, days or cohorts in a sentence


def listed(names: Sequence[object]) -> str:
    """List names, the first five of them.

    >>> listed(["a", "b"]), listed("abcdefg")
    ('a, b', 'a, b, c, d, e and 2 more')
    """
    more = f" and {len(names) - MAX_NAMED:,} more" if len(names) > MAX_NAMED else ""
    return ", ".join(map(str, names[:MAX_NAMED])) + more


def customers(names: Sequence[object]) -> str:
    """Name customers.

    >>> customers(["a"]), customers(["a", "b"])
    ('customer a', 'the 2 customers a, b')
    """
    return f"customer {names[0]}" if len(names) == 1 else f"the {len(names):,} customers {listed(names)}"


def date_range(first: date, last: date) -> str:
    """Format a range of days.

    >>> date_range(date(2026, 1, 1), date(2026, 1, 1)), date_range(date(2026, 1, 1), date(2026, 1, 3))
    ('2026-01-01', '2026-01-01 to 2026-01-03')
    """
    return f"{first}" if first == last else f"{first} to {last}"


def fault_phrase(what: str, *, duplicated: bool) -> str:
    """Phrase a fault of the remote table.

    >>> fault_phrase("customer a", duplicated=False), fault_phrase("customer a", duplicated=True)
    ('without customer a', 'customer a counted twice')
    """
    return f"{what} counted twice" if duplicated else f"without {what}"


def first_payment(times: pl.Series) -> str:
    """Phrase the first of a customer's payments, from local times or dates; empty without payments."""
    first = times.drop_nulls().sort().head(1)
    form = "%Y-%m-%d" if first.dtype == pl.Date else "%Y-%m-%d at %H:%M"
    return f"first payment on {first.dt.strftime(form)[0]}" if len(first) else ""
