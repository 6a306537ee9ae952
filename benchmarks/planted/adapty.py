"""Differences in Adapty's answers, as people meet them."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from functools import cache
from typing import Any

import numpy as np
import polars as pl

import cohortlib as cl
from benchmarks import planted_adapty
from benchmarks.planted.kinds import Change, Kind, Plant
from cohortlib.adapty import Answer


class Side(planted_adapty.Side):
    """The data and settings of one side."""

    compute = planted_adapty.Side.answer


Rng = np.random.Generator
Frame = Callable[[pl.DataFrame], pl.DataFrame]
BOTH, MONEY = ("renewals", "days"), [f"{name}_usd" for name in planted_adapty.MONEY]
LEFT_OUT = r"without|left out|leaves out|not counted|excluded|no row|missing|ignored"
ONLY = r"only|alone|kept"
DAY = pl.col("event_datetime").dt.date()


@cache
def world(rows: int, seed: int) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Generate events and installs. Customers of some domain are tests, and events come in monthly files."""
    events, installs = planted_adapty.world(rows, seed)
    customer = pl.col("customer_user_id")
    domain = (
        pl.when(customer.hash(seed) % 40 == 0).then(pl.lit("@test.acme.example")).otherwise(pl.lit("@mail.example"))
    )
    named = (customer + domain).alias("customer_user_id")
    rate = pl.col("store_country").replace_strict(
        {"DE": 0.9217, "FR": 0.9217, "GB": 0.79, "JP": 151.3, "BR": 5.41, "IN": 83.2, "CA": 1.36}, default=1.0
    )
    local = [(pl.col(f"{name}_usd") * rate).round(2).alias(f"{name}_local") for name in planted_adapty.MONEY]
    file = ("events_" + DAY.dt.strftime("%Y-%m") + ".csv").alias("source_file")
    return events.with_columns(named, *local, file), installs.with_columns(named)


def side(rows: int, seed: int, table: str) -> Side:
    """Return the side of a request."""
    return Side(*world(rows, seed), planted_adapty.REQUESTS[table])


def explain(local: Side, remote: Answer, seconds: float) -> Any:
    """Explain the remote answer as a user would."""
    conventions = cl.adapty.Conventions(**local.conventions)
    return cl.explain(
        local.events, remote, request=local.request, installs=local.installs, timezone=local.timezone,
        conventions=conventions, seconds=seconds,
    )  # fmt: skip


# ------------------------------------------------------------------------------------------------ how sides are changed


def events(change: Frame) -> Change:
    return lambda side: replace(side, events=change(side.events))


def keep(which: pl.Expr) -> Change:
    return events(lambda frame: frame.filter(which))


def columns(*changes: pl.Expr) -> Change:
    return events(lambda frame: frame.with_columns(changes))


def after(change: Callable[[Answer], Answer]) -> Change:
    return lambda side: replace(side, after=(*side.after, change))


def drawn(*patterns: tuple[str, ...], **changes: Any) -> Callable[[Side, Rng], Plant]:
    """Return a kind without anything to draw."""
    return lambda _side, _rng: Plant(patterns, **changes)


def _on(times: pl.Expr, then: pl.Expr, name: str) -> pl.Expr:
    return pl.when(times).then(then).otherwise(name).alias(name)


def _country(side: Side) -> Side:
    """Ask for one country only."""
    return replace(side, request=side.request | {"filters": side.request["filters"] | {"country": ["US"]}})


def _begins(side: Side, rng: Rng) -> Plant:
    first, last = side.dates
    day = first + timedelta(int((last - first).days * rng.uniform(0.2, 0.5)))
    return Plant(((str(day),), (str(day - timedelta(1)),)), remote=keep(day <= DAY))


def _left_out(column: str, low: float = 0.02, high: float = 0.4) -> Callable[[Side, Rng], Plant]:
    def draw(side: Side, rng: Rng) -> Plant:
        shares = side.events[column].value_counts(normalize=True).drop_nulls().sort(column)
        some = shares.filter(pl.col("proportion").is_between(low, high))
        value = some[column][int(rng.integers(some.height))]
        return Plant(((column, rf"\b{value}\b", LEFT_OUT),), remote=keep((pl.col(column) != value).fill_null(True)))

    return draw


def _file_missing(side: Side, rng: Rng) -> Plant:
    day = planted_adapty._busy(side, int(rng.integers(1000)))
    month = day.strftime("%Y-%m")
    patterns = ((rf"events_{month}[.]csv",), (rf"{month}-01 to {month}-(28|29|30|31)",))
    return Plant(patterns, remote=keep(pl.col("source_file") != f"events_{month}.csv"))


def _factor_from(factor: float, words: str) -> Callable[[Side, Rng], Plant]:
    def draw(side: Side, rng: Rng) -> Plant:
        first, last = side.dates
        day = first + timedelta(int((last - first).days * rng.uniform(0.4, 0.7)))
        money = [_on(day <= DAY, (pl.col(name) * factor).round(6), name) for name in MONEY]
        return Plant(((str(day), words),), remote=columns(*money))

    return draw


def _transferred(side: Side) -> Side:
    """Hand some chains over to another profile after their first payments."""
    chain = pl.col("original_transaction_id")
    number = pl.col("event_datetime").rank("ordinal").over("original_transaction_id")
    moved = (chain.hash(5) % 12 == 0) & (number > 2) & chain.is_not_null()
    first = side.events.select("profile_id", "install_date").unique("profile_id", maintain_order=True)
    names = first.with_columns(
        pl.col("profile_id").shift(37, fill_value=first["profile_id"][0]).alias("_next"),
        pl.col("install_date").shift(37, fill_value=first["install_date"][0]).alias("_next_install"),
    ).drop("install_date")
    joined = side.events.join(names, on="profile_id", how="left", maintain_order="left")
    return replace(
        side,
        events=joined.with_columns(
            _on(moved, pl.col("_next"), "profile_id"), _on(moved, pl.col("_next_install"), "install_date")
        ).select(side.events.columns),
    )


def _to_first_owner(frame: pl.DataFrame) -> pl.DataFrame:
    chain = pl.col("original_transaction_id")
    owner = pl.col("profile_id").sort_by("event_datetime").first().over("original_transaction_id")
    installed = frame.group_by("profile_id").agg(pl.col("install_date").min().alias("_installed"))
    given = frame.with_columns(pl.when(chain.is_not_null()).then(owner).otherwise("profile_id").alias("_owner"))
    joined = given.join(installed, left_on="_owner", right_on="profile_id", how="left", maintain_order="left")
    return joined.with_columns(
        _on(pl.col("_owner") != pl.col("profile_id"), pl.col("_installed"), "install_date"),
        pl.col("_owner").alias("profile_id"),
    ).select(frame.columns)


def _refunds_at_payment(frame: pl.DataFrame) -> pl.DataFrame:
    paid = frame.filter(~pl.col("event_type").str.ends_with("refunded"), pl.col("revenue_usd") > 0)
    at = paid.select("transaction_id", pl.col("event_datetime").alias("_paid")).unique("transaction_id", keep="first")
    refund = pl.col("event_type").str.ends_with("refunded")
    joined = frame.join(at, on="transaction_id", how="left", maintain_order="left")
    when = pl.when(refund).then(pl.coalesce("_paid", "event_datetime")).otherwise("event_datetime")
    return joined.with_columns(when.alias("event_datetime")).drop("_paid")


def _late(frame: pl.DataFrame, name: str, days: int) -> pl.DataFrame:
    return frame.with_columns(pl.col(name).dt.offset_by(f"{days}d"))


def _without_tests(side: Side) -> Side:
    test = pl.col("customer_user_id").str.ends_with("@test.acme.example").fill_null(False)
    return replace(side, events=side.events.filter(~test), installs=side.installs.filter(~test))


def _relative(change: pl.Expr) -> Change:
    return after(lambda answer: replace(answer, values=answer.values.with_columns(change)))


def _rounded(places: int) -> Change:
    def change(answer: Answer) -> Answer:
        return replace(
            answer,
            values=answer.values.with_columns(pl.col("^.*_(usd|relative)$").round(places)),
            segments=answer.segments.with_columns(pl.col("^total_.*_usd$").round(places)),
        )

    return after(change)


def _labels(form: str) -> Change:
    """Write the start of each segment in another form."""
    written = pl.col("segment_start_date").str.to_date().dt.strftime(form).alias("segment_start_date")
    return after(
        lambda answer: replace(
            answer, values=answer.values.with_columns(written), segments=answer.segments.with_columns(written)
        )
    )


REVENUE, PROCEEDS, NET = (pl.col(name) for name in MONEY)
CONVERTED = pl.col("event_type") == "trial_converted"
FREE = (pl.col("transaction_id").hash(3) % 25 == 0) & CONVERTED
PLAY = pl.col("store") == "play_store"
_STARTED = pl.col("event_datetime").min().over("original_transaction_id")
_AFTER_A_YEAR = pl.col("event_datetime") > _STARTED.dt.offset_by("1y")


def _zero(name: str, which: pl.Expr) -> pl.Expr:
    return _on(which, pl.lit(0.0), name)


KINDS = (
    Kind("installs of all countries", BOTH, drawn(
        ("install", "countr|unfiltered|filter"), base=_country,
        remote=lambda side: replace(side, installs=side.installs.drop("country"))), family="installs"),
    Kind("proceeds of converted trials missing", BOTH, drawn(
        ("proceeds", "missing|trial_converted|null|lack"), remote=columns(
            _zero("proceeds_usd", CONVERTED), _zero("net_revenue_usd", CONVERTED))), family="money"),
    Kind("proceeds of a store missing here", BOTH, drawn(
        ("proceeds", "missing|null|lack|0\\.85"), base=columns(
            _on(PLAY, (REVENUE * 0.85).round(6), "proceeds_usd"),
            _on(PLAY, (REVENUE * 0.68).round(6), "net_revenue_usd")),
        local=columns(_on(PLAY, pl.lit(None), "proceeds_usd"), _on(PLAY, pl.lit(None), "net_revenue_usd"))),
        family="money"),
    Kind("net revenue by a flat tax", BOTH, drawn(
        ("net", r"0\.8|1\.19|tax|flat|times"), remote=columns((PROCEEDS / 1.19).round(6).alias("net_revenue_usd"))),
        family="money"),
    Kind("net revenue without tax", BOTH, drawn(
        ("proceeds as net",), ("net", "tax|proceeds"), remote=columns(PROCEEDS.alias("net_revenue_usd"))),
        family="money"),
    Kind("local currency added up", BOTH, drawn(
        ("local",), remote=columns(*(pl.col(name.replace("_usd", "_local")).alias(name) for name in MONEY))),
        family="money"),
    Kind("commission of a store", BOTH, drawn(
        ("proceeds", "play_store"), remote=columns(_on(PLAY, (PROCEEDS * 0.85 / 0.7).round(6), "proceeds_usd"))),
        family="money"),
    Kind("prices higher from a date on", BOTH, _factor_from(1.1, r"1\.1|10 ?%"), family="money"),
    Kind("chains moved to their first owner", BOTH, drawn(
        ("transfer|owner|first (profile|user|customer)|original",), base=_transferred, remote=events(_to_first_owner)),
        family="users"),
    Kind("converted trials renamed there", BOTH, drawn(
        ("trial_converted", LEFT_OUT), remote=keep(~CONVERTED)), family="events"),
    Kind("renewals renamed here", BOTH, drawn(
        ("premium_renewed",), local=columns(
            _on((pl.col("event_type") == "subscription_renewed") & PLAY, pl.lit("premium_renewed"), "event_type"))),
        family="events"),
    Kind("events of a store left out", BOTH, _left_out("store"), family="values"),
    Kind("events of a product left out", BOTH, _left_out("product_id"), family="values"),
    Kind("events of a country left out", BOTH, _left_out("store_country"), family="values"),
    Kind("events of an attribution left out", BOTH, _left_out("attribution_source"), family="values"),
    Kind("test customers left out", BOTH, drawn((r"test\.acme\.example", LEFT_OUT), remote=_without_tests),
         family="values"),
    Kind("events begin later", BOTH, _begins, family="history"),
    Kind("a file of events missing", BOTH, _file_missing, family="history"),
    Kind("events a day late", BOTH, drawn(
        ("a day|one day|1 day|24 h",), remote=events(lambda frame: _late(frame, "event_datetime", 1))), family="clock"),
    Kind("installs a day late", BOTH, drawn(
        ("install", "a day|one day|1 day|24 h"),
        remote=lambda side: replace(side, installs=_late(side.installs, "install_date", 1))), family="clock"),
    Kind("refunds booked at the payment", ("days",), drawn(
        ("refund", "payment|purchase|booked"), remote=events(_refunds_at_payment)), family="refunds"),
    Kind("free payments skipped", BOTH, drawn(
        ("free|zero|revenue 0|of 0",), base=columns(*(_zero(name, FREE) for name in MONEY)),
        remote=planted_adapty._set(zero_payments="skip")), family="users"),
    Kind("relatives as fractions", BOTH, drawn(
        ("percent|fraction|100|0\\.01",), remote=_relative(pl.col("^.*_relative$") / 100), form=True), family="form"),
    Kind("rounded to whole dollars", BOTH, drawn(("round",), remote=_rounded(0), form=True), family="form"),
    Kind("labels of another form", ("renewals",), drawn(("label",), remote=_labels("%Y-%m"), form=True), family="form"),
    # Not on the list: silence is right.
    Kind("installs cut in another zone", BOTH, drawn(
        ("install", "tokyo"), remote=lambda side: replace(side, installs=side.installs.with_columns(
            pl.col("install_date").dt.offset_by("9h")))), on_list=False),
    Kind("lower commission after a year", BOTH, drawn(remote=columns(
        _on(_AFTER_A_YEAR, (REVENUE * 0.85).round(6), "proceeds_usd"))), on_list=False),
    Kind("amounts rounded to dollars", BOTH, drawn(remote=columns(*(pl.col(name).round(0) for name in MONEY))),
         on_list=False),
    Kind("users with a refund left out", BOTH, drawn(remote=keep(
        ~pl.col("event_type").str.ends_with("refunded").any().over("profile_id"))), on_list=False),
    Kind("a store twice", BOTH, drawn(("play_store", "twice|2"), remote=events(lambda frame: pl.concat([
        frame, frame.filter(PLAY).with_columns(pl.col("transaction_id") + "-b")]))), on_list=False),
    Kind("a sample of users", BOTH, drawn(remote=keep(pl.col("profile_id").hash(9) % 10 > 0)), on_list=False),
    Kind("first payments left out", BOTH, drawn(
        # All rows of these types are first ones, so that naming them is true, though not all.
        ("subscription_started|non_subscription_purchase", LEFT_OUT), remote=keep(
        (pl.col("event_datetime").rank("ordinal").over("original_transaction_id") > 1).fill_null(True))),
        on_list=False),
    Kind("prices capped", BOTH, drawn(remote=columns(*(pl.col(name).clip(-30, 30) for name in MONEY))), on_list=False),
)  # fmt: skip
