"""Describe the differences that no cause explains: where they are, and what they have in common."""

from collections.abc import Iterator

import numpy as np
import polars as pl
from numpy.typing import NDArray

from cohortlib.compare.explain.termina.context import Context
from cohortlib.compare.explain.termina.screen import Groups
from cohortlib.compare.explain.wording import listed
from cohortlib.compare.reconcile.compare import Report

Floats = NDArray[np.float64]

_ALIKE = 0.95  # of the differences share a sign, a size or a share
_CERTAIN = 20.0  # bits of evidence
_WHOLE = 1e-6
_BASE = {"amount", "active_users"}  # the fields that all others are computed from
_MOST_VALUES = 200  # of a column that is looked at


def describe(context: Context, report: Report) -> list[str]:
    """Describe where cells still differ, the largest difference, and the pattern of the differences."""
    fields = report.differences["field"].cast(pl.String).unique(maintain_order=True).to_list()
    if _BASE & context.remote.values.keys() and not _BASE & set(fields):
        question = f"First question to the vendor: how do they compute {fields[0]}?"
        return [*_places(report.differences), question]
    if one_sided := list(_one_sided(report.differences)):
        return [*_places(report.differences), *one_sided]
    return [*_places(report.differences), *_patterns(context), *_question(context)]


def _one_sided(differences: pl.DataFrame) -> Iterator[str]:
    """Describe rows that only one table has, if all other cells agree: sums over periods do not compare these."""
    outcomes = set(differences["outcome"].cast(pl.String))
    if outcomes not in ({"only_local"}, {"only_remote"}):
        return
    has, ask = ("local", "why is there no row") if outcomes == {"only_local"} else ("vendor's", "which rows count")
    rows = differences.unique([name for name in ("cohort", "user_id", "period") if name in differences.columns])
    count = "They are 1 row" if rows.height == 1 else f"They are {rows.height:,} rows"
    yield f"{count} that only the {has} table has; all cells of the other rows agree."
    cohort, period = rows.sort("cohort", "period").select("cohort", "period").row(-1)
    yield f"First question to the vendor: {ask} in cohort {cohort} at age {period}?"


def _places(differences: pl.DataFrame) -> Iterator[str]:
    """Describe in which cohorts and fields cells differ, and how large the largest difference is."""
    cohorts = differences.group_by("cohort").len().sort("len", "cohort", descending=[True, False])
    label, count = cohorts.row(0)
    fields = differences["field"].cast(pl.String).unique(maintain_order=True).to_list()
    if len(differences) == 1:
        yield f"The only cell that still differs is {fields[0]} in cohort {label}."
    else:
        place = f"all in cohort {label}"
        if len(cohorts) > 1:
            place = f"in {len(cohorts):,} cohorts, most of them in {label} ({count:,})"
        yield f"The {len(differences):,} cells that still differ are {place}; fields: {', '.join(fields)}."
    with_values = differences.filter(pl.col("local").is_not_null() & pl.col("remote").is_not_null()).head(1)
    for row in with_values.rows(named=True):
        customer = f" of customer {row['user_id']}" if "user_id" in row else ""
        yield (
            f"The largest difference is {row['field']}{customer} in cohort {row['cohort']} at age {row['period']}: "
            f"{row['local']:,.6g} local, {row['remote']:,.6g} remote."
        )


def _patterns(context: Context) -> Iterator[str]:
    """Describe in which periods the totals differ, and whether the differences have a direction, a share or a unit."""
    totals = context.screen.by_period
    if totals is None or not context.ledger.at.size:
        return
    local, remote = totals
    scale = context.rows.scale if context.screen.money is not None or context.story.users else 1
    unit = context.screen.unit if scale > 1 else 1.0
    excess = remote - local
    slack = 0.51 * unit * np.sqrt(max(1, context.grid.periods))
    differing = np.flatnonzero(np.abs(excess) > slack)
    what = "amounts" if scale > 1 else "active users"
    if not differing.size:
        yield (
            f"The {what} of all periods together agree: the same rows are counted, but users are in other cohorts. "
            "Their cohorts may come from a date that is not here, such as a sign-up."
        )
        return
    places = [context.grid.label(int(period)) for period in differing]
    known = int(((local != 0) | (remote != 0)).sum())
    yield f"The {what} of {len(places):,} of {known:,} periods differ: {listed(places)}."
    gaps = excess[differing]
    if gaps.size > 1 and max((gaps > 0).mean(), (gaps < 0).mean()) >= _ALIKE:
        direction = "higher" if gaps.sum() > 0 else "lower"
        yield f"The remote {what} are {direction} in nearly all of these, by {abs(gaps.sum()) / scale:,.2f} in total."
    shares = gaps[local[differing] > 0] / local[differing][local[differing] > 0]
    if shares.size > 2 and np.ptp(shares) <= 0.02 * max(abs(float(np.median(shares))), 1e-12):
        yield f"The difference is a constant share of the local {what}: {float(np.median(shares)):+.3%}."
    if scale > 1 and (np.abs(gaps / scale - np.rint(gaps / scale)) < _WHOLE).all():
        yield "All differences are whole units."
    yield from _over_represented(context)


def _over_represented(context: Context) -> Iterator[str]:
    """Return the value of a column whose rows go with the differences, by the correlation over cells."""
    money = context.cell_money()
    if money is None:
        return
    excess, cell_of = money
    used = np.zeros(excess.size, np.bool_)
    used[cell_of[cell_of >= 0]] = True
    cells = int(used.sum())
    best: tuple[float, str, object, float] | None = None
    tried = 0
    for name in context.rows.dimensions:
        values, codes = context.rows.codes(name)
        if len(values) > _MOST_VALUES:
            continue
        groups = Groups.of_codes(np.where(context.ledger.counts, codes[context.ledger.row], -1), len(values))
        sums = context.cell_sums(groups, cell_of, excess.size)
        if sums is None:
            continue
        tried += len(values)
        total = sums.sum(axis=0)[used]
        for index, value in enumerate(values):
            # What a value has beyond its share of all amounts, against the differences beyond theirs.
            own = _residual(sums[index][used], total)
            bits, correlation = _evidence(own, _residual(excess[used], total), cells)
            if best is None or bits > best[0]:
                best = bits, name, value, correlation
    if best is not None and best[0] > _CERTAIN + np.log2(max(1, tried)):
        yield (
            f"The differences go with the amounts of rows with {best[1]} {best[2]} (correlation {best[3]:+.2f} over "
            f"{cells:,} cells, beyond the size of the cells; the likeliest of {tried:,} values)."
        )


def _residual(values: Floats, total: Floats) -> Floats:
    """Return what is left of values after their best multiple of the total."""
    size = float(total @ total)
    return values - total * (float(values @ total) / size if size else 0.0)


def _evidence(own: Floats, excess: Floats, cells: int) -> tuple[float, float]:
    """Return the bits of a correlation (of the test of a normal regression), and the correlation."""
    size = np.sqrt(float(own @ own) * float(excess @ excess))
    if not size:
        return 0.0, 0.0
    correlation = float(np.clip(own @ excess / size, -0.999999, 0.999999))
    return -0.5 * cells * float(np.log2(1 - correlation**2)), correlation


def _question(context: Context) -> Iterator[str]:
    """Return what to ask the vendor first."""
    totals = context.screen.by_period
    if totals is None or not context.ledger.at.size:
        return
    excess = totals[1] - totals[0]
    if np.abs(excess).max(initial=0) <= context.screen.unit * context.grid.periods:
        yield "First question to the vendor: by which date are users assigned to cohorts?"
        return
    label = context.grid.label(int(np.argmax(np.abs(excess))))
    if excess.sum() < 0:
        yield f"First question to the vendor: which of the rows of {label} do they have, and which do they leave out?"
    else:
        yield f"First question to the vendor: which rows do they count in {label} that are not in the local data?"
