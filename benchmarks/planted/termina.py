"""Differences in Termina's tables, as people meet them."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import date, timedelta
from typing import Any

import numpy as np
import polars as pl

import cohortlib as cl
from benchmarks.planted.kinds import Change, Kind, Plant

Rng = np.random.Generator
Frame = Callable[[pl.DataFrame], pl.DataFrame]
MONEY = ("cohort_size_amount", "amount", "ltv")
RATIOS = ("logo_retention", "amount_retention")
ALL, COHORTS = ("M", "W", "C", "D"), ("M", "W")
_DAYS_SHOWN = 120  # of a table of days


@dataclass(frozen=True)
class Side:
    """The rows and settings of one side."""

    rows: pl.DataFrame
    table: str  # the period unit of cohorts, or C for customers by month
    settings: dict[str, Any] = field(default_factory=dict)
    after: tuple[Frame, ...] = ()

    @property
    def customers(self) -> bool:
        """Whether the table has a row per customer."""
        return self.table == "C"

    def compute(self) -> pl.DataFrame:
        """Compute the table of this side."""
        call = cl.termina.customer_cohorts if self.customers else cl.termina.cohorts
        table = call(self.rows, freq="M" if self.customers else self.table, **self.settings)  # type: ignore[operator]
        for change in self.after:
            table = change(table)
        return table

    def days(self) -> pl.Series:
        """Return the days of the rows as they stand."""
        return self.rows["timestamp"].cast(pl.Date)


def side(rows: pl.DataFrame, table: str) -> Side:
    """Return a side; a table of days has rows of a few months only."""
    if table == "D":
        last = rows["timestamp"].cast(pl.Date).min() + timedelta(_DAYS_SHOWN)  # type: ignore[operator]
        rows = rows.filter(pl.col("timestamp").cast(pl.Date) < last)
    return Side(rows, table)


def explain(local: Side, remote: pl.DataFrame, seconds: float) -> Any:
    """Explain the remote table as a user would: the period unit is read off its labels."""
    return cl.explain(local.rows, remote, seconds=seconds, **local.settings)


# ------------------------------------------------------------------------------------------------ how sides are changed


def rows(change: Frame) -> Change:
    return lambda side: replace(side, rows=change(side.rows))


def keep(which: pl.Expr) -> Change:
    return rows(lambda frame: frame.filter(which))


def settings(**values: Any) -> Change:
    return lambda side: replace(side, settings=side.settings | values)


def after(change: Frame) -> Change:
    return lambda side: replace(side, after=(*side.after, change))


def _day(side: Side, rng: Rng, low: float, high: float) -> date:
    """Draw a day at a share of the span of the rows, with rows on it."""
    days = side.days().unique().sort()
    return days[int(len(days) * rng.uniform(low, high))]


def _value(side: Side, column: str, rng: Rng, low: float = 0.01, high: float = 0.35) -> Any:
    """Draw a value of a column that some of the rows have."""
    shares = side.rows[column].value_counts(normalize=True).sort(column)
    some = shares.filter(pl.col("proportion").is_between(low, high))
    return (some if some.height else shares)[column][int(rng.integers(max(1, some.height)))]


DAY = pl.col("timestamp").dt.date()
LEFT_OUT = r"without|left out|leaves out|not counted|excluded|no row|missing"
ONLY = r"only|alone|kept"


# --------------------------------------------------------------------------------------------------------- the kinds


def _ranked(count: int, by: str, words: str) -> Callable[[Side, Rng], Plant]:
    def chosen(table: pl.DataFrame) -> pl.DataFrame:
        at = pl.col("cohort").str.to_date("%Y-%m").dt.offset_by(pl.format("{}mo", pl.col("period")))
        last = table.select(at.max()).item()
        recent = pl.col("amount").filter(at > pl.lit(last).dt.offset_by("-12mo")).sum()
        measures = {
            "ltv": pl.col("ltv").last(), "first": pl.col("cohort_size_amount").first(),
            "periods": (pl.col("logo_retention") > 0).sum(), "acv": recent,
        }  # fmt: skip
        best = table.group_by("user_id").agg(measures[by].alias("_rank"))
        best = best.sort("_rank", "user_id", descending=[True, False]).head(count)
        return table.filter(pl.col("user_id").is_in(best["user_id"].implode()))

    pattern = (rf"\b{count}\b", words)
    return lambda _side, _rng: Plant((pattern,), remote=after(chosen), form=True)


def _begins(low: float, high: float) -> Callable[[Side, Rng], Plant]:
    def draw(side: Side, rng: Rng) -> Plant:
        day = _day(side, rng, low, high)
        return Plant(((str(day),),), remote=keep(day <= DAY))

    return draw


def _ends(low: float, high: float) -> Callable[[Side, Rng], Plant]:
    def draw(side: Side, rng: Rng) -> Plant:
        day = _day(side, rng, low, high)
        return Plant(((str(day),), (str(day + timedelta(1)),)), remote=keep(day >= DAY))

    return draw


def _left_out(column: str, count: int = 1, low: float = 0.01, high: float = 0.35) -> Callable[[Side, Rng], Plant]:
    def draw(side: Side, rng: Rng) -> Plant:
        values = {_value(side, column, rng, low, high) for _ in range(count)}
        pattern = (column, *(rf"\b{value}\b" for value in values), LEFT_OUT)
        return Plant((pattern,), remote=keep(~pl.col(column).is_in(list(values))))

    return draw


def _alone(column: str) -> Callable[[Side, Rng], Plant]:
    def draw(side: Side, rng: Rng) -> Plant:
        value = _value(side, column, rng, 0.08, 0.7)
        return Plant(((column, rf"\b{value}\b", ONLY),), remote=keep(pl.col(column) == value))

    return draw


def _test_users(_side: Side, _rng: Rng) -> Plant:
    test = pl.col("user_id").str.ends_with("@test.acme.example")
    return Plant(((r"test\.acme\.example", LEFT_OUT),), remote=keep(~test))


def _factor_of(column: str, value: Any, factor: float, words: str) -> Callable[[Side, Rng], Plant]:
    def draw(side: Side, rng: Rng) -> Plant:
        chosen = value if value in side.rows[column].unique() else _value(side, column, rng, 0.05, 0.4)
        amount = pl.when(pl.col(column) == chosen).then(pl.col("amount") * factor).otherwise("amount")
        changed = rows(lambda frame: frame.with_columns(amount.round(6).alias("amount")))
        return Plant(((rf"\b{chosen}\b", words),), remote=changed)

    return draw


def _factor_from(factor: float, words: str) -> Callable[[Side, Rng], Plant]:
    def draw(side: Side, rng: Rng) -> Plant:
        day = _day(side, rng, 0.3, 0.7)
        amount = pl.when(day <= DAY).then(pl.col("amount") * factor).otherwise("amount").round(6)
        return Plant(((str(day), words),), remote=rows(lambda frame: frame.with_columns(amount.alias("amount"))))

    return draw


def _amounts(change: pl.Expr, *patterns: tuple[str, ...]) -> Callable[[Side, Rng], Plant]:
    return lambda _side, _rng: Plant(patterns, remote=rows(lambda frame: frame.with_columns(change.alias("amount"))))


def _minimum(least: float) -> Callable[[Side, Rng], Plant]:
    pattern = (r"minimum|below|less than|at least|under|smaller|small", rf"\b{least:g}\b")
    return lambda _side, _rng: Plant((pattern,), remote=keep(pl.col("amount").abs() >= least))


def _refunds_at_purchase(_side: Side, _rng: Rng) -> Plant:
    def booked(frame: pl.DataFrame) -> pl.DataFrame:
        refund = pl.col("amount") < 0
        bought = pl.when(~refund).then("timestamp").forward_fill().over("user_id", order_by="timestamp")
        return frame.with_columns(
            pl.when(refund).then(pl.coalesce(bought, "timestamp")).otherwise("timestamp").alias("timestamp")
        )

    return Plant((("refund", "purchase|payment|order|booked|bought"),), remote=rows(booked))


def _joined(mode: str, *, here: bool, patterns: tuple[tuple[str, ...], ...]) -> Callable[[Side, Rng], Plant]:
    def draw(_side: Side, _rng: Rng) -> Plant:
        local = (lambda side: side) if here else rows(lambda frame: frame.drop("signup_date"))
        return Plant(patterns, remote=settings(joined="signup_date", before_joined=mode), local=local)

    return draw


def _first_row(_side: Side, _rng: Rng) -> Plant:
    def change(side: Side) -> Side:
        first = side.rows.group_by("user_id").agg(pl.col("timestamp").min().alias("joined"))
        return replace(side, settings=side.settings | {"joined": first, "before_joined": "clip"})

    return Plant((("first row",),), remote=change)


def _ids(spoilt: pl.Expr, cleaned: pl.Expr, *patterns: tuple[str, ...]) -> Callable[[Side, Rng], Plant]:
    """Write some ids in another way; the remote side joins them again."""

    def draw(_side: Side, rng: Rng) -> Plant:
        salt = int(rng.integers(1 << 30))
        chosen = (pl.col("user_id").hash(salt) % 6 == 0) & (pl.int_range(pl.len()).hash(salt) % 2 == 0)
        name = pl.when(chosen).then(spoilt).otherwise("user_id").alias("user_id")
        base = rows(lambda frame: frame.with_columns(name))
        return Plant(patterns, base=base, remote=rows(lambda frame: frame.with_columns(cleaned.alias("user_id"))))

    return draw


def _mapped(_side: Side, rng: Rng) -> Plant:
    salt = int(rng.integers(1 << 30))

    def base(frame: pl.DataFrame) -> pl.DataFrame:
        device = pl.when((pl.col("user_id").hash(salt) % 5 == 0) & (pl.col("channel") != "web")).then(pl.lit("#app"))
        return frame.with_columns(
            pl.col("user_id").alias("account"), (pl.col("user_id") + device.otherwise(pl.lit(""))).alias("user_id")
        )

    merged = rows(lambda frame: frame.with_columns(pl.col("account").alias("user_id")))
    return Plant((("account",),), base=rows(base), remote=merged)


def _file(*, twice: bool, local: bool = False) -> Callable[[Side, Rng], Plant]:
    def draw(side: Side, rng: Rng) -> Plant:
        name = _value(side, "source_file", rng, 0.02, 0.3)
        chosen = pl.col("source_file") == name
        change = rows(lambda frame: pl.concat([frame, frame.filter(chosen)])) if twice else keep(~chosen)
        file = rf"\b{name.replace('.', '[.]')}"
        month = name.removeprefix("orders_").removesuffix(".csv")
        patterns = (
            (file,),
            (rf"{month}-01 to {month}-(28|29|30|31)",),
            *([("duplicate|repeat|twice",)] if local else []),
        )
        return Plant(patterns, **{"local" if local else "remote": change})

    return draw


def _late(days: int) -> Callable[[Side, Rng], Plant]:
    moved = pl.col("timestamp").dt.offset_by(f"{days}d")
    number = {1: "a day|one day|1 day|24 h"}.get(abs(days), rf"\b{abs(days)} days|{abs(days) * 24} h")
    return lambda _s, _r: Plant(((number,),), remote=rows(lambda frame: frame.with_columns(moved.alias("timestamp"))))


def _fiscal(month: int, name: str) -> Callable[[Side, Rng], Plant]:
    """Move dates so that the years end with the month before: the library's own labels are then the fiscal ones."""
    moved = pl.col("timestamp").dt.offset_by(f"{13 - month}mo").alias("timestamp")
    patterns = (("fiscal|year|quarter|financial", rf"{name}|\b{month}\b"),)
    return lambda _side, _rng: Plant(patterns, remote=rows(lambda frame: frame.with_columns(moved)))


def _set(patterns: tuple[tuple[str, ...], ...], **values: Any) -> Callable[[Side, Rng], Plant]:
    return lambda _side, _rng: Plant(patterns, remote=settings(**values))


def _form(change: Frame, *words: str) -> Callable[[Side, Rng], Plant]:
    return lambda _side, _rng: Plant((words,), remote=after(change), form=True)


def _labels(form: str, *, end: bool = False) -> Frame:
    first = pl.col("cohort").str.to_date("%Y-%m")
    day = first.dt.month_end() if end else first
    return lambda table: table.with_columns(day.dt.strftime(form).alias("cohort"))


def _rounded(table: pl.DataFrame, money: int, ratio: int) -> pl.DataFrame:
    return table.with_columns(pl.col(MONEY).round(money), pl.col(RATIOS).round(ratio))


def _rows(change: Frame) -> Callable[[Side, Rng], Plant]:
    return lambda _side, _rng: Plant((), remote=rows(change))


AMOUNT = pl.col("amount")
_ACTIVE = pl.col("logo_retention") > 0
SUNDAY_NEW_YORK = (("sunday",), ("new_york",))

KINDS = (
    # Ranking behind the top N.
    Kind("25 best by ltv", ("C",), _ranked(25, "ltv", "ltv|lifetime"), family="top"),
    Kind("10 best by amount of the first period", ("C",), _ranked(10, "first", "first|size"), family="top"),
    Kind("50 best by active periods", ("C",), _ranked(50, "periods", "active"), family="top"),
    Kind("20 best by the last 12 months", ("C",), _ranked(20, "acv", "12|acv|trailing"), family="top"),
    # History.
    Kind("history begins after a few months", ("M", "C"), _begins(0.15, 0.3), family="history"),
    Kind("history begins late", ("W", "M"), _begins(0.45, 0.7), family="history"),
    Kind("history ends within a month", ("M", "W"), _ends(0.7, 0.9), family="history"),
    # Values of a column.
    Kind("a product left out", ("M", "C"), _left_out("product", low=0.02), family="values"),
    Kind("a country left out", ("W", "M"), _left_out("country"), family="values"),
    Kind("two channels left out", ("M", "W"), _left_out("channel", 2), family="values"),
    Kind("a status left out", ("M", "D"), _left_out("status"), family="values"),
    Kind("a currency left out", ("C", "M"), _left_out("currency"), family="values"),
    Kind("a country kept alone", ("M", "W"), _alone("country"), family="values"),
    Kind("paid rows kept alone", ("C", "M"), lambda _s, _r: Plant(
        (("status", "paid", ONLY), ("status", "pending", "disputed", "failed", LEFT_OUT)),
        remote=keep(pl.col("status") == "paid")), family="values"),
    Kind("a channel kept alone", ("W", "M"), _alone("channel"), family="values"),
    Kind("test accounts left out", ("M", "C"), _test_users, family="values"),
    # Factors.
    Kind("another rate for a currency", ("M", "C"), _factor_of("currency", "EUR", 1.0835, r"1\.083"), family="amounts"),
    Kind("tax of a country taken off", ("W", "M"), _factor_of("country", "DE", 1 / 1.19, r"0\.84|1\.19|19 ?%"),
         family="amounts"),
    Kind("tax taken off from a date on", ("M", "W"), _factor_from(1 / 1.2, r"0\.83|1\.2|20 ?%"), family="amounts"),
    Kind("prices 7 % higher from a date on", ("C", "M"), _factor_from(1.07, r"1\.07|7 ?%"), family="amounts"),
    # Amounts of rows.
    Kind("amounts rounded to units", ("M", "C"), _amounts(AMOUNT.round(0), ("round",), ("whole",)), family="amounts"),
    Kind("amounts truncated", ("W", "M"), _amounts(AMOUNT.truncate(0), ("trunc|cut|down|whole|floor",)),
         family="amounts"),
    Kind("tax taken off and rounded to cents", ("M", "W"), _amounts((AMOUNT / 1.25).round(2), (r"0\.8\b|1\.25",)),
         family="amounts"),
    Kind("minimum amount of 10", ("M", "C"), _minimum(10), family="amounts"),
    Kind("minimum amount of 5", ("C", "W"), _minimum(5), family="amounts"),
    Kind("refunds booked at the purchase", ("M", "W"), _refunds_at_purchase, family="refunds"),
    # Cohorts.
    Kind("cohorts by a sign-up that is not here", ("M", "W"), _joined("clip", here=False, patterns=(
        ("sign|registr|joined|another date|date that", "not|missing|absent|no column"),)), on_list=False,
         family="joined"),
    Kind("cohorts by sign-up, earlier activity dropped", ("W", "M"),
         _joined("drop", here=True, patterns=(("signup_date",),)), family="joined"),
    Kind("cohorts by the first row of any amount", ("M", "C"), _first_row, family="joined"),
    # Ids.
    Kind("ids joined by case", ("M", "C"), _ids(
        pl.col("user_id").str.to_uppercase(), pl.col("user_id").str.to_lowercase(), ("case",)), family="ids"),
    Kind("ids joined without blanks", ("W", "M"), _ids(pl.col("user_id") + " ", pl.col("user_id").str.strip_chars(),
         ("blank|strip|space",),), family="ids"),
    Kind("devices of an account joined", ("M", "W"), _mapped, family="ids"),
    # Files and days.
    Kind("a file loaded twice", ("M", "C"), _file(twice=True), family="files"),
    Kind("a file missing", ("W", "M"), _file(twice=False), family="files"),
    Kind("a file loaded twice here", ("M", "W"), _file(twice=True, local=True), family="files"),
    Kind("dates a day late", ("M", "W"), _late(1), family="clock"),
    Kind("dates two days early", ("C", "M"), _late(-2), family="clock"),
    # Calendars.
    Kind("fiscal quarters from February", ("Q",), _fiscal(2, "feb"), family="clock"),
    Kind("fiscal years from April", ("A",), _fiscal(4, "apr"), family="clock"),
    Kind("weeks from Sunday in New York", ("W",),
         _set(SUNDAY_NEW_YORK, timezone="America/New_York", week_start="sunday"), family="clock"),
    Kind("complete weeks only", ("W",), _set((("complete",), ("right edge",)), complete_only=True), family="history"),
    # The form of the table.
    Kind("sparse rows", ("W", "C"), _form(lambda table: table.filter(_ACTIVE), "sparse|active|rows"), family="form"),
    Kind("retention in percent", ("M", "C"),
         _form(lambda table: table.with_columns(pl.col(RATIOS) * 100), "percent|100"), family="form"),
    Kind("percent with one decimal", ("W", "M"), _form(lambda table: _rounded(
        table.with_columns(pl.col(RATIOS) * 100), 2, 1), "percent|100|round"), family="form"),
    Kind("rounded to whole money", ("M", "C"), _form(lambda table: _rounded(table, 0, 3), "round"), family="form"),
    Kind("first days as labels", ("M", "C"), _form(_labels("%Y-%m-%d"), "label"), family="form"),
    Kind("month ends as labels", ("M", "C"), _form(_labels("%Y-%m-%d", end=True), "label"), family="form"),
    Kind("labels of Excel", ("M",), _form(_labels("%b-%y"), "label"), family="form"),
    # Not on the list: silence is right.
    Kind("amounts capped", ("M", "C"), _rows(lambda frame: frame.with_columns(AMOUNT.clip(-100, 100))), on_list=False),
    Kind("refunds counted as sales", ("M", "W"), _rows(lambda frame: frame.with_columns(AMOUNT.abs())), on_list=False),
    Kind("customers of one purchase left out", ("M", "W"),
         _rows(lambda frame: frame.filter(pl.len().over("user_id") > 1)), on_list=False),
    Kind("a sample of customers", ("M", "C"),
         _rows(lambda frame: frame.filter(pl.col("user_id").hash(9) % 10 > 0)), on_list=False),
    Kind("first purchases left out", ("M", "W"), _rows(lambda frame: frame.filter(
        pl.col("timestamp").rank("ordinal").over("user_id") > 1)), on_list=False),
    Kind("one purchase a day counted", ("M", "W"), _rows(lambda frame: frame.unique(
        subset=["user_id", pl.col("timestamp").cast(pl.Date)], keep="first", maintain_order=True)), on_list=False),
    Kind("weekends counted on Monday", ("M", "D"), _rows(lambda frame: frame.with_columns(
        pl.when(pl.col("timestamp").dt.weekday() == 6).then(pl.col("timestamp").dt.offset_by("2d"))
        .when(pl.col("timestamp").dt.weekday() == 7).then(pl.col("timestamp").dt.offset_by("1d"))
        .otherwise("timestamp").alias("timestamp"))), on_list=False),
    Kind("payments settled after days", ("M", "W"), _rows(lambda frame: frame.with_columns(
        pl.col("timestamp").dt.offset_by(pl.format("{}d", pl.col("user_id").hash(4) % 6)))), on_list=False),
)  # fmt: skip
