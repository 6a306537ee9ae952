"""
Plant differences into the answer of Adapty's cohort table and check whether `explain` names them.

Each difference changes one thing on the remote or the local side; pairs are two at once.
``python -m benchmarks.planted_adapty [rows]`` prints the causes named for each case.
"""

import sys
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import date, timedelta
from itertools import combinations, permutations
from typing import Any

import numpy as np
import polars as pl

import cohortlib as cl
from benchmarks.subscriptions import history
from cohortlib.adapty import Answer, Conventions, Request
from cohortlib.compare.explain.adapty.table import AdaptyTable
from cohortlib.compare.explain.causes import Cause
from cohortlib.compare.explain.search import search
from cohortlib.compare.reconcile.compare import reconcile

RENEWALS = {"filters": {"date": ["2023-06-01", "2025-06-30"]}, "period_unit": "month", "period_type": "renewals"}
DAYS = {"filters": {"date": ["2024-01-01", "2025-06-30"]}, "period_unit": "week", "period_type": "days"}
REQUESTS = {"renewals": RENEWALS, "days": DAYS}
MONEY = ("revenue", "proceeds", "net_revenue")
FAMILIES = (("arpu", "appu", "anrpu"), ("arppu", "apppu", "anrppu"), ("arpas", "appas", "anrpas"))


@dataclass(frozen=True)
class Side:
    """The data and the settings of one side."""

    events: pl.DataFrame
    installs: Any
    request: dict[str, Any]
    timezone: str = "UTC"
    conventions: dict[str, Any] = field(default_factory=dict)
    after: tuple[Callable[[Answer], Answer], ...] = ()

    def answer(self) -> Answer:
        """Compute the answer of this side."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            answer = cl.adapty.cohort(
                self.events, self.request, installs=self.installs, timezone=self.timezone,
                conventions=Conventions(**self.conventions),
            )  # fmt: skip
        for change in self.after:
            answer = change(answer)
        return answer

    @property
    def dates(self) -> tuple[date, date]:
        """The dates of the request."""
        first, last = map(date.fromisoformat, self.request["filters"]["date"])
        return first, last


Change = Callable[[Side], Side]


@dataclass(frozen=True)
class Planted:
    """One difference: how it changes a side, and the kinds of the cause that should be named; without, none may be."""

    name: str
    kinds: tuple[str, ...]
    remote: Change = lambda side: side
    local: Change = lambda side: side
    value: Any = None
    only: str | None = None

    def named_by(self, cause: Cause) -> bool:
        """Return whether a cause is this difference."""
        if cause.kind not in self.kinds:
            return False
        if callable(self.value):
            return bool(self.value(cause))
        return self.value is None or cause.value == self.value


def world(rows: int, seed: int) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Generate events and installs in which some customers have two profiles, and families share."""
    events, installs = history(rows, seed=seed)
    rng = np.random.default_rng(seed)
    profiles = installs["profile_id"].unique(maintain_order=True)
    customers = profiles.to_list()
    for at in np.flatnonzero(rng.random(len(customers)) < 0.03).tolist():
        customers[at] = customers[max(at - int(rng.integers(1, 400)), 0)]
    of = pl.DataFrame({"profile_id": profiles, "customer_user_id": customers})
    shared = pl.Series(np.where(rng.random(events.height) < 0.004, "FAMILY_SHARED", "PURCHASED"))
    named = pl.coalesce("customer_user_id", "profile_id").alias("customer_user_id")
    events = events.join(of, on="profile_id", how="left", maintain_order="left").with_columns(named)
    return (
        events.with_columns(ownership_type=shared),
        installs.join(of, on="profile_id", how="left", maintain_order="left").with_columns(named),
    )


# ---------------------------------------------------------------------------------------------------- the changes


def _set(**settings: Any) -> Change:
    return lambda side: replace(side, conventions=side.conventions | settings)


def _zone(name: str) -> Change:
    return lambda side: replace(side, timezone=name)


def _dates(first: int, last: int) -> Change:
    def change(side: Side) -> Side:
        dates = [day + timedelta(by) for day, by in zip(side.dates, (first, last), strict=True)]
        filters = side.request["filters"] | {"date": [day.isoformat() for day in dates]}
        return replace(side, request=side.request | {"filters": filters})

    return change


def _counted(column: str, value: str, instead: str) -> Change:
    written = pl.when(pl.col(column) == value).then(pl.lit(instead)).otherwise(column).alias(column)
    return lambda side: replace(side, events=side.events.with_columns(written))


def _members(side: Side, count: int, seed: int = 5, least: int = 2) -> list[str]:
    """Choose users with payments from different segments of the date range."""
    first, last = side.dates
    paid = pl.col("event_type").is_in(["subscription_started", "trial_converted", "subscription_renewed"])
    real = (pl.col("environment") == "Production") & (pl.col("ownership_type") != "FAMILY_SHARED")
    before = pl.col("event_datetime").dt.date() < last - timedelta(2)
    paying = side.events.filter(paid & real & before).group_by("profile_id").len().filter(pl.col("len") >= least)
    came = side.installs.unique("profile_id").with_columns(day=pl.col("install_date").dt.date())
    inside = pl.col("day").is_between(first + timedelta(20), last - timedelta(20))
    users = paying.join(came.filter(inside), on="profile_id").sort("profile_id")
    drawn = users.sample(fraction=1.0, shuffle=True, seed=seed).unique(
        pl.col("day").dt.strftime("%Y%m"), maintain_order=True
    )
    return drawn["profile_id"].head(count).to_list()


def _without_users(count: int, installs: bool = False) -> Change:
    def change(side: Side) -> Side:
        gone = pl.col("profile_id").is_in(_members(side, count))
        kept = side.installs.filter(~gone) if installs else side.installs
        return replace(side, events=side.events.filter(~gone), installs=kept)

    return change


def _again(side: Side, rows: pl.Expr) -> Side:
    more = side.events.filter(rows).with_columns(pl.col("transaction_id") + "-b")
    return replace(side, events=pl.concat([side.events, more]))


def _users_twice(count: int) -> Change:
    return lambda side: _again(side, pl.col("profile_id").is_in(_members(side, count, seed=7)))


def _busy(side: Side, seed: int) -> date:
    """Choose a day in the middle of the date range."""
    first, last = side.dates
    return first + timedelta(int(np.random.default_rng(seed).integers(200, (last - first).days - 60)))


def _on(first: date, last: date) -> pl.Expr:
    return pl.col("event_datetime").dt.date().is_between(first, last)


def _without_days(count: int, seed: int = 3) -> Change:
    def change(side: Side) -> Side:
        day = _busy(side, seed)
        return replace(side, events=side.events.filter(~_on(day, day + timedelta(count - 1))))

    return change


def _days_twice(count: int, seed: int = 4) -> Change:
    def change(side: Side) -> Side:
        day = _busy(side, seed)
        return _again(side, _on(day, day + timedelta(count - 1)))

    return change


def _ends_early(days: int, installs: bool) -> Change:
    def change(side: Side) -> Side:
        end = side.dates[1] - timedelta(days)
        came = side.installs.filter(pl.col("install_date").dt.date() <= end) if installs else side.installs
        return replace(side, events=side.events.filter(pl.col("event_datetime").dt.date() <= end), installs=came)

    return change


def _after(change: Callable[[Answer], Answer]) -> Change:
    return lambda side: replace(side, after=(*side.after, change))


def _factor(by: float) -> Change:
    def change(answer: Answer) -> Answer:
        return replace(
            answer,
            values=answer.values.with_columns(pl.col("^.*_usd$") * by),
            segments=answer.segments.with_columns(pl.col("^total_.*_usd$") * by),
        )

    return _after(change)


def _exchanged(order: tuple[int, int, int]) -> Change:
    """Swap revenue, proceeds and net revenue."""

    def moved(frame: pl.DataFrame, before: str) -> pl.DataFrame:
        trios = [tuple(f"{before}{name}_usd" for name in trio) for trio in (MONEY, *FAMILIES)]
        trios += [] if before else [tuple(f"{name}_relative" for name in MONEY)]
        return frame.with_columns(pl.col(trio[order[at]]).alias(trio[at]) for trio in trios for at in range(3))

    return _after(lambda one: replace(one, values=moved(one.values, ""), segments=moved(one.segments, "total_")))


def _columns(by: int) -> Change:
    return _after(lambda one: replace(one, values=one.values.with_columns(pl.col("period") + by)))


def _labelled_later(side: Side) -> Side:
    unit = {"month": "1mo", "week": "1w"}[side.request["period_unit"]]
    later = pl.col("segment_start_date").str.to_date().dt.offset_by(unit).dt.to_string("%Y-%m-%d")
    name = pl.when(pl.col("type") == "single").then(later)

    def change(one: Answer) -> Answer:
        values = one.values.with_columns(name.otherwise("segment_start_date").alias("segment_start_date"))
        segments = one.segments.with_columns(
            name.otherwise("segment_start_date").alias("segment_start_date"), name.otherwise("title").alias("title")
        )
        return replace(one, values=values, segments=segments)

    return _after(change)(side)


def _days_from_one(side: Side) -> Side:
    """Count the install day as day 1, so that all ages are one higher."""
    days = Request.of(side.request).renewal_days
    less = [day - 1 for day in days if day > 0]

    def change(one: Answer) -> Answer:
        shown = one.values.with_columns(pl.col("period") + 1)
        if 0 not in days:
            return replace(one, values=shown)
        nothing = shown.filter(pl.col("period") == pl.col("period").min()).with_columns(
            pl.lit(0).cast(shown.schema["period"]).alias("period"),
            *(pl.lit(0.0).alias(name) for name in shown.columns if name.endswith(("_usd", "_relative"))),
            *(pl.lit(0).cast(pl.Int64).alias(name) for name in ("subscriptions", "subscribers")),
        )
        first = shown.columns
        whole = pl.concat([nothing, shown.with_columns(pl.lit(0.0).alias(n) for n in first if n.endswith("_relative"))])
        last = one.values.filter(pl.col("period") == pl.col("period").max())["currently_active_period"]
        return replace(one, values=_reactive(whole, one, side, len(last)))

    return _after(change)(replace(side, request=side.request | {"renewal_days": less}))


def _reactive(values: pl.DataFrame, one: Answer, side: Side, count: int) -> pl.DataFrame:
    """Compute which periods are still active from the days as labelled."""
    active = (
        replace(side, after=())
        .answer()
        .values.select("segment_start_date", "type", "period", "currently_active_period")
    )
    keys = ["segment_start_date", "type", "period"]
    return (
        values.drop("currently_active_period")
        .join(active, on=keys, how="left")
        .sort(pl.col("type") == "single", "segment_start_date", "period")
    )


def _days_value(count: int, extra: int = 0) -> Callable[[Cause], bool]:
    def right(cause: Cause) -> bool:
        value: Any = cause.value
        return value[0] in ("days", "UTC days") and value[2] - value[1] <= count - 1 + extra

    return right


def _users_value(count: int) -> Callable[[Cause], bool]:
    return lambda cause: cause.value[0] == "users" and len(cause.value[1]) == count


PLANTED = (
    *(Planted(f"zone {zone}", ("timezone",), _zone(zone), value=zone) for zone in (
        "America/New_York", "America/Los_Angeles", "Asia/Tokyo", "Europe/Berlin", "Asia/Kolkata", "Pacific/Auckland",
    )),
    Planted("week starts on Sunday", ("week start",), _set(week_start="sunday"), value="sunday", only="days"),
    Planted("users by customer", ("user",), _set(user_unit="customer_user_id"), value="customer_user_id"),
    Planted("upgrades refunded", ("refunds of upgrades",), _set(refund_upgraded="negative")),
    Planted("numbers of the file", ("period number",), _set(period_number="consecutive"), only="renewals"),
    Planted("products by themselves", ("numbering of products",), _set(restart_per_product=True), only="renewals"),
    Planted("averages per period", ("averages",), _set(averages="per_period"), only="renewals"),
    Planted("installs from events", ("installs",), lambda side: replace(side, installs="from_events")),
    Planted("payments after to", ("after to",), _set(after_to="payments")),
    Planted("as of later", ("as of",), lambda side: _set(as_of=side.dates[1] + timedelta(40))(side)),
    Planted("to a day earlier", ("dates", "right edge"), _dates(0, -1)),
    Planted("from a day later", ("dates",), _dates(1, 0)),
    Planted("no refunds", ("refunds",), lambda side: replace(
        side, events=side.events.filter(~pl.col("event_type").str.ends_with("refunded")))),
    Planted("sandbox counted", ("sandbox",), _counted("environment", "Sandbox", "Production")),
    Planted("families counted", ("family_shared",), _counted("ownership_type", "FAMILY_SHARED", "PURCHASED")),
    # By days, the few counts that differ carry fewer bits than a cause needs.
    Planted("granted counted", ("granted",), _counted("product_id", "adapty_promotion", "promotion"), only="renewals"),
    Planted("a customer missing", ("rows missing",), _without_users(1), value=_users_value(1)),
    Planted("a customer missing, installs too", ("rows missing",), _without_users(1, True), value=_users_value(1)),
    Planted("three customers missing", ("rows missing",), _without_users(3), value=_users_value(3)),
    Planted("a customer twice", ("rows twice",), _users_twice(1), value=_users_value(1)),
    Planted("a day missing", ("rows missing",), _without_days(1), value=_days_value(1)),
    Planted("five days missing", ("rows missing",), _without_days(5), value=_days_value(5)),
    Planted("a day twice", ("rows twice",), _days_twice(1), value=_days_value(1)),
    Planted("data end early", ("right edge",), _ends_early(20, True)),
    Planted("events end early", ("rows missing",), _ends_early(20, False), value=_days_value(20, 1)),
    Planted("cents", ("factor",), _factor(100.0)),
    Planted("another currency", ("factor",), _factor(0.9237)),
    Planted("proceeds and net exchanged", ("moneys",), _exchanged((0, 2, 1)), value=(0, 2, 1)),
    Planted("net as revenue", ("moneys",), _exchanged((2, 1, 2)), value=(2, 1, 2)),
    Planted("columns from 0", ("columns",), _columns(-1), value=-1, only="renewals"),
    Planted("days from 1", ("ages",), _days_from_one, value=-1, only="days"),
    Planted("labelled a period later", ("labels",), _labelled_later, value=1),
    Planted("a day missing locally", (), local=_without_days(1, 8)),  # nothing here can prove it
    Planted("a day twice locally", ("repeats",), local=_days_twice(1, 9)),
)  # fmt: skip


# -------------------------------------------------------------------------------------------------------- the search


@dataclass(frozen=True)
class Outcome:
    """The result of the search for some planted differences."""

    names: str
    right: bool
    seconds: float
    tried: int
    summary: str


def outcome(
    planted: tuple[Planted, ...], events: pl.DataFrame, installs: pl.DataFrame, request: dict[str, Any]
) -> Outcome | None:
    """Plant differences and search for them. Returns None if they change nothing."""
    whole = Side(events, installs, request)
    # Differences in installs come last, because they remove data that others use.
    planted = tuple(sorted(planted, key=lambda one: "installs" in one.kinds))
    remote, local = whole, whole
    for one in planted:
        remote, local = one.remote(remote), one.local(local)
    remote_answer = remote.answer()
    if len(planted) > 1 and any(_has_no_effect(one, planted, whole) for one in planted):
        return None
    start = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        table = AdaptyTable(local.events, remote_answer, request, installs=local.installs)
        result = search(table, seconds=120)
    seconds = time.perf_counter() - start
    best = result.best
    if result.unchanged.solved:
        return None
    if any(not one.kinds for one in planted):
        right = not best.causes
    else:
        right = any(_named(planted, trial.causes) for trial in (best, *result.ties))
    summary = " + ".join(cause.words for cause in best.causes) + (
        "" if not result.ties else f" (= {len(result.ties)} more)"
    )
    names = " + ".join(one.name for one in planted)
    return Outcome(names, right, seconds, len(result.trials), f"{summary}: {best.agreeing:,} of {best.total:,}")


def _has_no_effect(one: Planted, planted: tuple[Planted, ...], whole: Side) -> bool:
    """Return whether a difference changes nothing together with the others, so that it cannot be named."""
    sides = []
    for group in (planted, [other for other in planted if other is not one]):
        remote, local = whole, whole
        for other in group:
            remote, local = other.remote(remote), other.local(local)
        sides.append((remote.answer(), local.answer()))
    return all(reconcile(*pair).ok for pair in zip(*sides, strict=True))


def _named(planted: tuple[Planted, ...], causes: tuple[Cause, ...]) -> bool:
    """Return whether the first causes are exactly the planted ones."""
    first = causes[: len(planted)]
    return len(first) == len(planted) and any(
        all(one.named_by(cause) for one, cause in zip(order, first, strict=True)) for order in permutations(planted)
    )


def cases(request: str, pairs: bool) -> Iterator[tuple[Planted, ...]]:
    """Yield the planted differences of a request, alone or in pairs of different kinds."""
    known = [one for one in PLANTED if one.only in (None, request)]
    if not pairs:
        yield from ((one,) for one in known)
        return
    for one, other in combinations(known, 2):
        if not set(one.kinds) & set(other.kinds):
            yield one, other


def main(rows: int, share: float, only: str = "") -> None:
    """Print the causes named for every difference, and for a share of the pairs."""
    events, installs = world(rows, seed=1)
    rng = np.random.default_rng(0)
    for request, body in REQUESTS.items():
        for pairs in (False, True):
            outcomes = []
            for planted in cases(request, pairs):
                if (pairs and rng.random() >= share) or (only and only not in " + ".join(p.name for p in planted)):
                    continue
                result = outcome(planted, events, installs, body)
                if result is None:
                    print(f"{request}: {' + '.join(one.name for one in planted)}: changes nothing")
                    continue
                outcomes.append(result)
                print(f"{request}: {'ok  ' if result.right else 'MISS'} {result.names} -> {result.summary} "
                      f"({result.seconds:.1f} s, {result.tried} tried)", flush=True)  # fmt: skip
            if outcomes:
                right = sum(one.right for one in outcomes)
                times = sorted(one.seconds for one in outcomes)
                print(
                    f"== {request}, {'pairs' if pairs else 'alone'}: {right} of {len(outcomes)} named "
                    f"({right / len(outcomes):.1%}), {np.median(times):.1f} s median, {times[-1]:.1f} s at most"
                )


if __name__ == "__main__":
    args = sys.argv[1:]
    main(int(args[0]) if args else 100_000, float(args[1]) if len(args) > 1 else 0.1, "".join(args[2:3]))
