"""Propose customers who are missing or duplicated, or whose first payment is in another period."""

from collections.abc import Iterator

import polars as pl

from cohortlib.compare.explain.causes import Cause
from cohortlib.compare.explain.termina.comparison import CENT, TerminaComparison
from cohortlib.compare.explain.termina.faults import CustomerAdded, CustomerFault, FirstPaymentMoved, RemoteRows
from cohortlib.compare.explain.wording import customers, first_payment, listed

_MAX_CLOSE = 3


def missing_or_duplicated(comparison: TerminaComparison) -> Iterator[Cause]:
    """Find customers who are missing or duplicated in the remote table."""
    missing, duplicated = _by_name(comparison) if comparison.has_customers else _by_amounts(comparison)
    if missing:
        label, note = customers(missing), _first_payment_note(comparison, missing)
        yield Cause("customers missing", CustomerFault(tuple(missing), False), f"without {label}", note=note)
        if len(missing) == 1:
            for by in (1, -1):
                words = f"the first payment of {label} one period {'later' if by > 0 else 'earlier'}"
                yield Cause("customers missing", FirstPaymentMoved(missing[0], by), words, note=note)
    if duplicated:
        label, note = customers(duplicated), _first_payment_note(comparison, duplicated)
        yield Cause("customers twice", CustomerFault(tuple(duplicated), True), f"{label} counted twice", note=note)


def _first_payment_note(comparison: TerminaComparison, names: list[str]) -> str:
    """Return the local time of a customer's first payment as text; empty for several customers."""
    if len(names) != 1:
        return ""
    view = comparison.view
    rows = comparison.rows.filter(view.users(comparison.rows) == names[0])
    return first_payment(view.local_times(rows.filter(rows[view.amount] > 0)))


def _by_name(comparison: TerminaComparison) -> tuple[list[str], list[str]]:
    """Find missing and duplicated customers by their ids, unless they are more than half of all."""
    local, remote = comparison.local["user_id"].unique(), comparison.remote["user_id"].unique()
    missing = local.filter(~local.is_in(remote.implode())).sort().to_list()
    per_user = comparison.cells.group_by("user_id").agg(
        pl.col("_excess").abs().sum(),
        (pl.col("_excess") - pl.col("amount")).abs().sum().alias("rest"),
        pl.col("amount").abs().sum(),
    )
    twice = per_user.filter((pl.col("_excess") > CENT) & (pl.col("rest") <= CENT) & (pl.col("amount") > 0))
    duplicated = twice["user_id"].sort().to_list()
    return (
        missing if len(missing) <= len(local) // 2 else [],
        duplicated if len(duplicated) <= len(per_user) // 2 else [],
    )


def _by_amounts(comparison: TerminaComparison) -> tuple[list[str], list[str]]:
    """Find the customers who would cause the difference of a cohort if they were missing, or duplicated."""
    if comparison.differing_cohorts.is_empty():
        return [], []

    def matching(duplicated: bool) -> list[str]:
        rest = _rest_by_customer(comparison, duplicated)
        exact = (pl.col("all") > CENT) & (pl.col("rest") <= CENT + 1e-6 * pl.col("all"))
        return _best_per_cohort(rest.filter(exact))["user_id"].to_list()

    return matching(False), matching(True)


def _rest_by_customer(comparison: TerminaComparison, duplicated: bool) -> pl.DataFrame:
    """For each customer, compute the difference of the cohort (`all`), and the `rest` of it without the customer."""
    cells = comparison.differing_cohorts
    activity = comparison.activity().join(cells.select("cohort", "period", "_excess"), on=["cohort", "period"])
    effect = pl.col("amount") if duplicated else -pl.col("amount")
    change = ((pl.col("_excess") - effect).abs() - pl.col("_excess").abs()).sum().alias("rest")
    total = cells.group_by("cohort").agg(pl.col("_excess").abs().sum().alias("all"))
    per_user = activity.group_by("cohort", "user_id").agg(change).join(total, on="cohort")
    return per_user.with_columns(pl.col("rest") + pl.col("all"))


def _best_per_cohort(rest: pl.DataFrame) -> pl.DataFrame:
    return rest.sort("cohort", "rest", "user_id").unique("cohort", keep="first", maintain_order=True)


def close_customers(comparison: TerminaComparison) -> list[str]:
    """Describe the customers whose amounts come close to the difference of a cohort."""
    if comparison.has_customers or not comparison.has_amounts or comparison.differing_cohorts.is_empty():
        return []
    lines = []
    for duplicated in (False, True):
        rest = _rest_by_customer(comparison, duplicated)
        close = rest.filter((pl.col("all") > CENT) & (pl.col("rest") < pl.col("all") / 4))
        for cohort, name in _best_per_cohort(close).select("cohort", "user_id").head(_MAX_CLOSE).rows():
            direction = "higher" if duplicated else "lower"
            note = _first_payment_note(comparison, [name])
            lines.append(
                f"The remote amounts of cohort {cohort} are {direction} by about what customer {name} paid ({note})."
            )
    return lines


def missing_locally(comparison: TerminaComparison) -> Iterator[Cause]:
    """Assume that customers of the remote table only are missing in the local rows."""
    if comparison.has_customers:
        extra = comparison.remote.join(comparison.local, on="user_id", how="anti", maintain_order="left")
        names = extra["user_id"].unique(maintain_order=True).to_list()
        if names and len(names) <= comparison.remote["user_id"].n_unique() // 2:
            words = f"{customers(names)} without a local row"
            yield Cause("customers missing locally", RemoteRows(extra), words, assumed=True)
        return
    cells = comparison.differing_cohorts
    if cells.is_empty():
        return
    one_more = (
        (pl.col("cohort_size_remote") - pl.col("cohort_size") == 1).all()
        & (pl.col("active_users_remote") - pl.col("active_users") == (pl.col("_excess") > CENT)).all()
        & (pl.col("_excess") > -CENT).all()
    )
    cohorts = cells.group_by("cohort").agg(one_more.alias("one_more")).filter(pl.col("one_more"))["cohort"]
    if len(cohorts):
        added = cells.filter(pl.col("cohort").is_in(cohorts.implode())).sort("cohort", "period")
        fault = CustomerAdded(tuple(added.select("cohort", "period", "_excess").rows()))
        where = f"in {'cohort' if len(cohorts) == 1 else 'each of the cohorts'} {listed(sorted(cohorts))}"
        paid = f"{added['_excess'].sum():,.2f}{' in total' if len(cohorts) > 1 else ''}"
        words = f"one more customer {where} (no local row, paid {paid})"
        yield Cause("customers missing locally", fault, words, assumed=True)
