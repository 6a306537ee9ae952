"""Warnings about the data: what does not count, what is missing, and filters that reach nothing."""

from collections.abc import Mapping

from cohortlib.adapty import filters
from cohortlib.adapty.aggregate import MISSING_REVENUE
from cohortlib.adapty.findings import Findings
from cohortlib.adapty.plan import RequestPlan
from cohortlib.adapty.read.counted import REASONS
from cohortlib.adapty.read.event_types import unknown_types_text
from cohortlib.adapty.read.specs import EVENT_COLUMNS
from cohortlib.errors import Arg, listed, warn
from cohortlib.read.nulls import Dropped

_REVENUE = (*EVENT_COLUMNS["revenue_usd"].accepted, "purchase_price_in_usd")
_LEFT_OUT = (*REASONS, "after_to", "duplicates")


def warn_of(findings: Findings, report: Mapping[str, int], counted: int, plan: RequestPlan, dropped: Dropped) -> None:
    """Warn of all findings; `counted` is the number of events in the table."""
    unknown = {name[1]: count for name, count in findings.items() if name[0] == "unknown"}
    if unknown:
        warn(unknown_types_text(unknown))
    if not counted and report["rows"]:
        _warn_of_nothing(report)
    if findings[("rows",)]:
        _warn_of_values(findings, plan)
    if report["missing_money"]:
        revenue = report[MISSING_REVENUE] / 10**plan.decimals
        warn((
            f"payments and refunds without proceeds or net revenue: {report['missing_money']:,}, with "
            f"{revenue:,.2f} of revenue; these amounts count as 0. Hint: ",
            Arg("missing_money", "error"),
            " raises instead",
        ))  # fmt: skip
    if report["unfiltered_installs"]:
        names = [name[1] for name in findings if name[0] == "unfiltered"]
        columns = listed(sorted({filters.install_column(name) for name in names}))
        warn(
            f"installs that filters cannot reach: {report['unfiltered_installs']:,}, since the installs have no column "
            f"{columns}; every number per install is too low"
        )
    if report["unordered_states"]:
        warn(
            "transactions in different rows whose order is unknown: "
            f"{report['unordered_states']:,}, since they have the same updated_at or none. Hint: pass a complete "
            "export, or deliveries with the column updated_at"
        )
    if any(dropped.nulls[name] for name in _REVENUE):
        warn("payments were dropped for nulls: the numbers of later payments of their chains are lower")
    if findings[("durations",)]:
        warn((
            f"payments whose duration is that of the paid period, up to subscription_expires_at: "
            f"{findings[('durations',)]:,}. Hint: ",
            Arg("products"),
            " takes a table of product_id and duration",
        ))  # fmt: skip


def _warn_of_nothing(report: Mapping[str, int]) -> None:
    counts = [f"{report[name]:,} {name}" for name in _LEFT_OUT if report[name]]
    reasons = f"left out: {', '.join(counts)}" if counts else "the others are of other dates or filtered out"
    warn(f"no row counts: the events have {report['rows']:,} rows" + (f"; {reasons}" if report["rows"] else ""))


def _warn_of_values(findings: Findings, plan: RequestPlan) -> None:
    """Warn of the values of filters that no row holds."""
    for name in plan.request.filters.active:
        for value in filters.value_texts(plan.request.filters, name):
            if findings[("held", name, value)]:
                continue
            near = [(count, key[3]) for key, count in findings.items() if key[:3] == ("near", name, value)]
            hint = f". Hint: rows hold {filters.nearest(name, value, [text for _, text in near])!r}" if near else ""
            warn(f"filters.{name}: no row that counts holds {value!r}{hint}")
