"""Propose other amounts of rows: rounded, limited, multiplied and rounded; repeated rows; refunds at their purchase."""

from collections.abc import Iterator

import numpy as np

from cohortlib.compare.explain.causes import Cause, choice
from cohortlib.compare.explain.termina.context import Context
from cohortlib.compare.explain.termina.edits import (
    Amounts,
    Capped,
    RefundsAtPurchase,
    Repeats,
    Rounded,
    RowEdit,
    Scaled,
)
from cohortlib.compare.explain.termina.numbers import factor

_LIMITS = tuple(
    digit * 10.0**power for power in range(-2, 7) for digit in (1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 7.5, 8.0)
)
_ROUNDED = {
    "half even": "rounded to {}",
    "half up": "rounded to {}, halves up",
    "truncated": "truncated to {}",
    "down": "rounded down to {}",
    "up": "rounded up to {}",
}
_STEPS = {1.0: "whole units", 0.1: "tenths", 10.0: "tens", 0.05: "0.05"}


def amount_candidates(context: Context) -> Iterator[Cause]:
    """List the changes of amounts to try."""
    ledger, rows = context.ledger, context.rows
    repeats = Repeats("drop")
    count = int(repeats.chosen(ledger, rows, None).sum())
    if count:
        words = f"without {count:,} duplicate rows (same user, time and amount)"
        yield Cause("repeats", repeats, words, bits=choice(1))
    if (ledger.units < 0).any():
        for same in (False, True):
            words = f"refunds booked at the {'payment of the same amount' if same else 'last payment'} before them"
            yield Cause("refund dates", RefundsAtPurchase(same), words, bits=choice(2))
    if "amounts" in context.kinds:
        return
    yield from _rounded(context)
    yield from _limited(context)


def _rounded(context: Context) -> Iterator[Cause]:
    rows, alternatives = context.rows, len(_ROUNDED) * len(_STEPS) + 1
    units = context.ledger.units
    for step, words in _STEPS.items():
        for how, text in _ROUNDED.items():
            if (units % round(step * rows.scale)).any():
                edit = Rounded(how, step)  # type: ignore[arg-type]
                yield Cause("amounts", edit, f"each amount {text.format(words)}", bits=choice(alternatives))
    if (units < 0).any():
        yield Cause("amounts", Rounded("absolute"), "refunds counted as payments", bits=choice(alternatives))
    totals = context.screen.by_period
    local, remote = (float(np.sum(side[:-1])) for side in totals) if totals is not None else (0.0, 0.0)
    if local > 0 and remote > 0:
        # Rounding to cents moves the sum by about a third of a cent times the root of the number of rows.
        slack = 4 * 0.3 * 0.01 * rows.scale * np.sqrt(units.size) / local
        simple = factor(remote / local - slack, remote / local + slack)
        if simple is not None:
            words = f"each amount times {simple[1]}, rounded to cents"
            yield Cause("amounts", Scaled(simple[0], None, 2), words, bits=choice(1) + simple[2])


def _limited(context: Context) -> Iterator[Cause]:
    """List the limits of amounts that come closest."""
    size = np.abs(context.ledger.units) / context.rows.scale
    if not size.size:
        return
    low, high = np.quantile(size, [0.0, 1.0])
    limits = [limit for limit in _LIMITS if low < limit < high]
    ranked: list[tuple[float, Cause]] = []
    for limit in limits:
        edits: list[tuple[RowEdit, str]] = [
            (Amounts("drop", "above", limit), f"without the rows of amounts above {limit:g}"),
            (Capped(limit), f"amounts above {limit:g} counted as {limit:g}"),
        ]
        if np.mean(size < limit) <= 0.9:
            edits.insert(0, (Amounts("drop", "below", limit), f"without the rows of amounts below {limit:g}"))
        for edit, words in edits:
            if not context.in_time():
                return
            bits = context.screen.bits_of(context.with_edit(edit).story)
            kind = "limit" if isinstance(edit, Amounts) else "amounts"
            ranked.append((bits, Cause(kind, edit, words, bits=choice(3, len(limits)))))
    yield from context.best(ranked)
