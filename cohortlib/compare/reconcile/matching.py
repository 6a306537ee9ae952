"""Bring two tables to one form, so that only numbers can differ; say in words what was changed or left out."""

from math import lgamma, log

import polars as pl

from cohortlib.compare.reconcile.form import LABELS, has_gaps, idle, is_among, keys_in, normalised, with_known_names
from cohortlib.compare.reconcile.join import have_equal_keys
from cohortlib.compare.reconcile.labels import read_labels
from cohortlib.compare.reconcile.same_labels import same_labels
from cohortlib.compare.reconcile.wide import in_long_form
from cohortlib.fields import ACTIVE
from cohortlib.periods import Calendar

# Evidence in bits: a set of rows or customers is left out on purpose if as few of all sets of its size would do.
_BITS_OF_ROWS, _BITS_OF_CUSTOMERS = 5, 10


def in_one_form(local: pl.DataFrame, remote: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame, tuple[str, ...]]:
    """Return two tables in one form, and how they were written, in words.

    Raises DataError as :func:`cohortlib.compare.reconcile.form.detect` does.
    """
    local, words = with_known_names(local, "local")
    remote, more = with_known_names(remote, "remote")
    words += more
    local, more = in_long_form(local, remote, "local")
    words += more
    remote, more = in_long_form(remote, local, "remote")
    words += more
    if not local.width or not remote.width or keys_in(local) != keys_in(remote):
        return local, remote, tuple(words)
    local, more = _normalised(local, "local", remote)
    words += more
    remote, more = _normalised(remote, "remote", local)
    words += more
    for name in LABELS:
        if name in local.columns and name in remote.columns:
            columns, more = same_labels(local[name], remote[name])
            local, remote = (table.with_columns(column) for table, column in zip((local, remote), columns, strict=True))
            words += more
    if not set(LABELS) & set(local.columns) or have_equal_keys(local, remote, keys_in(local)):
        return local, remote, tuple(words)
    local, remote, more = _same_numbering(local, remote)
    words += more
    local, remote, more = _same_customers(local, remote)
    words += more
    local, remote, more = _without_idle_rows(local, remote)
    words += more
    local, more = _complete_only(local, remote)
    return local, remote, (*words, *more)


def _normalised(table: pl.DataFrame, side: str, other: pl.DataFrame) -> tuple[pl.DataFrame, list[str]]:
    """Read numbers and shares, unless both sides hold the same text."""
    texts = [name for name, dtype in table.schema.items() if dtype == pl.String and other.schema.get(name) == pl.String]
    kept = table.select(texts)
    table, words = normalised(table.drop(texts), side)
    return table.hstack(kept.get_columns()), [f"{word} (in {side})" for word in words]


# ------------------------------------------------------------------------------------------------- rows left out


def _same_numbering(local: pl.DataFrame, remote: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame, list[str]]:
    """Count periods from 0 on both sides, where one side certainly counts them from 1."""
    if "period" not in local.columns or {local["period"].min(), remote["period"].min()} != {0, 1}:
        return local, remote, []
    first = [_first_period(table) for table in (local, remote)]
    if None in first or first[0] == first[1]:
        return local, remote, []
    side, table = ("local", local) if first[0] == 1 else ("remote", remote)
    shifted = table.with_columns(pl.col("period") - 1)
    words = [f"period: numbered from 1 (in {side}), compared from 0"]
    return (shifted, remote, words) if side == "local" else (local, shifted, words)


def _first_period(table: pl.DataFrame) -> int | None:
    """Return the first period of every cohort, in which all of its users are active; None if it is not certain."""
    if "cohort" not in table.columns or not table.schema.get("period", pl.String()).is_integer():
        return None
    group = [name for name in keys_in(table) if name != "period"]
    starts = table.group_by(group).agg(pl.col("period").min())["period"].drop_nulls()
    if starts.n_unique() != 1:
        return None
    first = table.filter(pl.col("period") == starts.min())
    whole = [("active_users", pl.col("cohort_size")), ("amount", pl.col("cohort_size_amount")),
             (ACTIVE, pl.lit(1.0))]  # fmt: skip
    known = [
        (pl.col(name) - size).abs() < 1e-6
        for name, size in whole
        if name in table.columns and set(size.meta.root_names()) <= set(table.columns)
        and table.schema[name].is_numeric()
    ]  # fmt: skip
    if not known or not first.select(pl.any_horizontal(known).all()).item():
        return None
    return int(starts[0])


def _without_idle_rows(local: pl.DataFrame, remote: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame, list[str]]:
    """Leave out the rows of zeros that the other side leaves out."""
    if local.height == remote.height:
        return local, remote, []
    for table, other, side in ((local, remote, "remote"), (remote, local, "local")):
        if not has_gaps(other) or other.select(idle(other).any()).item():
            continue
        kept = table.filter(~idle(table) | is_among(table, other))
        count = table.height - kept.height
        if _bits(table.height, count) >= _BITS_OF_ROWS:
            words = [
                f"{side} leaves out rows of zeros: {count:,} {'row is' if count == 1 else 'rows are'} not compared"
            ]
            return (kept, remote, words) if side == "remote" else (local, kept, words)
    return local, remote, []


def _bits(count: int, chosen: int) -> float:
    """Return the bits of a choice of some of `count` things."""
    return (lgamma(count + 1) - lgamma(chosen + 1) - lgamma(count - chosen + 1)) / log(2)


def _complete_only(local: pl.DataFrame, remote: pl.DataFrame) -> tuple[pl.DataFrame, list[str]]:
    """Leave out periods that are not over, if the other side leaves out all of these."""
    if local.schema.get("complete") != pl.Boolean or "complete" in remote.columns:
        return local, []
    missing = ~is_among(local, remote)
    if not missing.any() or not missing.equals(~local["complete"]):
        return local, []
    return local.filter(~missing), [f"remote has only complete periods: {missing.sum():,} rows are not compared"]


# ------------------------------------------------------------------------------------------------------ customers


def _same_customers(local: pl.DataFrame, remote: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame, list[str]]:
    """Leave out customers that the other side leaves out because it has only the top ones."""
    if "user_id" not in local.columns or "user_id" not in remote.columns or "cohort" not in remote.columns:
        return local, remote, []
    if local["user_id"].n_unique() <= remote["user_id"].n_unique():
        return local, remote, []
    users = [table["user_id"].cast(pl.String).unique() for table in (local, remote)]
    rankings = rankings_of_top(local, users[1])
    if not rankings:
        return local, remote, []
    kept = local.filter(pl.col("user_id").cast(pl.String).is_in(users[1].implode()))
    by = " or ".join(rankings)
    return kept, remote, [f"remote has only the top {len(users[1]):,} of {len(users[0]):,} customers, ranked by {by}"]


def rankings_of_top(table: pl.DataFrame, users: pl.Series) -> list[str]:
    """Return the rankings whose top customers are exactly `users`, in words."""
    ranked = rank_customers(table)
    chosen = pl.col("user_id").is_in(users.implode())
    count = int(ranked.select(chosen.sum()).item())
    if count < len(users) or not 0 < count < ranked.height or _bits(ranked.height, count) < _BITS_OF_CUSTOMERS:
        return []
    names = [name for name in ranked.columns if name != "user_id"]
    fits = ranked.select(pl.col(names).filter(chosen).min() >= pl.col(names).filter(~chosen).max()).row(0)
    return [name for name, fit in zip(names, fits, strict=True) if fit]


def rank_customers(table: pl.DataFrame) -> pl.DataFrame:
    """Return what customers are ranked by: one row per customer, one column per ranking, named in words."""
    labels = read_labels(table["cohort"], "local")
    rankings: dict[str, pl.Expr] = {}
    if "ltv" in table.columns:
        rankings["ltv"] = pl.col("ltv").sort_by("period").last()
    if "amount" in table.columns and labels is not None:
        unit = labels.units["M" if "M" in labels.units else next(iter(labels.units))]
        calendar = Calendar(unit.freq, unit.week_start)
        ordinals = {label: calendar.ordinal(day) for label, day in labels.days.items()}
        at = pl.col("cohort").replace_strict(list(ordinals), list(ordinals.values()), return_dtype=pl.Int64)
        table = table.with_columns(_at=at + pl.col("period"))
        last = int(table["_at"].max())  # type: ignore[arg-type]
        recent = pl.col("amount").filter(pl.col("_at") >= calendar.trailing_year(last)).sum()
        rankings["the amount of the last 12 months"] = recent
        if "ltv" in rankings:
            rankings["the amount of the last 12 months plus ltv"] = recent + rankings["ltv"]
    if "cohort_size_amount" in table.columns:
        rankings["the amount of the first period"] = pl.col("cohort_size_amount").first()
    if ACTIVE in table.columns:
        rankings["active periods"] = pl.col(ACTIVE).sum()
    return table.group_by(pl.col("user_id").cast(pl.String)).agg(value.alias(name) for name, value in rankings.items())
