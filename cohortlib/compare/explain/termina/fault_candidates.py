"""Propose the data faults that may be behind the differences of a Termina table.

A fault leaves traces. Missing or duplicated rows of a day change the sums of periods by the sums of that day; a missing
customer changes one cohort by exactly that customer's amounts; a factor is the ratio that most amounts share. Such a
trace makes a fault a candidate; recomputing the table decides.
"""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import polars as pl

from cohortlib.compare.explain.causes import Cause
from cohortlib.compare.explain.termina import customer_candidates
from cohortlib.compare.explain.termina.comparison import CENT, TerminaComparison
from cohortlib.compare.explain.termina.day_candidates import DayCandidates
from cohortlib.compare.explain.termina.faults import AgeShift, Factor, LabelShift, RepeatsDropped

_FACTOR_NOTES = {100.0: " (cents)", 0.01: " (units instead of cents)", 2.0: " (every row twice?)"}


def fault_candidates(comparison: TerminaComparison) -> Iterator[Cause]:
    """List the faults to try, likely ones first and those that copy remote values last."""
    yield from _shifts()
    yield from _repeats(comparison)
    if not comparison.has_amounts:
        return
    yield from _factor(comparison)
    by_clock = [DayCandidates(comparison, comparison.view)]
    if comparison.view.zone != "UTC":
        # Rows may be stored by UTC days, whatever zone the table is in.
        by_clock.append(DayCandidates(comparison, replace(comparison.view, zone="UTC"), suffix=" UTC"))
    for days in by_clock:
        yield from days.missing_or_duplicated()
    yield from customer_candidates.missing_or_duplicated(comparison)
    if set(comparison.local.columns) <= set(comparison.remote.columns):  # the other faults copy whole rows
        yield from customer_candidates.missing_locally(comparison)
        for days in by_clock:
            yield from days.missing_locally()


def _shifts() -> Iterator[Cause]:
    for by in (1, -1):
        yield Cause("ages", AgeShift(by), f"ages counted from {by}")
    for by in (1, -1):
        words = f"cohorts labelled with the {'next' if by > 0 else 'previous'} period"
        yield Cause("labels", LabelShift(by), words)


def _repeats(comparison: TerminaComparison) -> Iterator[Cause]:
    rows, fault = comparison.rows, RepeatsDropped()
    count = len(rows) - len(fault.edit_rows(rows, comparison.view))
    if count:
        yield Cause("repeats", fault, f"without {count:,} duplicate rows (same user, time and amount)")


def _factor(comparison: TerminaComparison) -> Iterator[Cause]:
    """Find the ratio that most amounts share."""
    pairs = comparison.joined.select("amount", "amount_remote").drop_nulls()
    pairs = pairs.filter((pl.col("amount") != 0) & (pl.col("amount_remote") != 0))
    pairs = pairs.sort(pl.col("amount").abs(), descending=True).head(5_000)
    local, remote = (pairs[name].to_numpy() for name in ("amount", "amount_remote"))
    if local.size < 3:
        return
    best, best_count = None, max(2, local.size // 5)
    for ratio in remote[:50] / local[:50]:
        agrees = np.abs(remote - ratio * local) <= CENT + 1e-7 * np.abs(remote)
        if agrees.sum() > best_count:
            best, best_count = agrees, int(agrees.sum())
    if best is None:
        return
    # Rounding to cents leaves an interval of ratios for each amount; the factor lies in all of them.
    slack = (CENT / 2) / np.abs(local[best])
    ratios = remote[best] / local[best]
    factor = simplest(float((ratios - slack).max()), float((ratios + slack).min()), float(ratios[0]))
    if factor != 1.0:
        yield Cause("factor", Factor(factor), f"all amounts times {factor:.10g}{_FACTOR_NOTES.get(factor, '')}")


def simplest(low: float, high: float, fallback: float) -> float:
    """Return the number with the fewest digits in an interval, or `fallback` if the interval is empty.

    >>> simplest(0.9199, 0.92003, 0.92)
    0.92
    """
    if low > high:
        return float(f"{fallback:.6g}")
    middle = (low + high) / 2
    for digits in range(1, 16):
        short = float(f"{middle:.{digits}g}")
        if low <= short <= high:
            return short
    return middle
