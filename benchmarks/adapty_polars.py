"""Adapty's cohort table as polars queries."""

from datetime import timedelta
from typing import NamedTuple

import polars as pl
from polars import col

from benchmarks import engines
from benchmarks.adapty_rules import DAY, EPOCH, GRANTED, KINDS, RENEWAL_DAYS, SUMS, History

# Steps that several others use are collected once. Ordinals are running sums over rows in order of time, so no chain
# is sorted. Keys are 64-bit hashes, as in "DuckDB, hashed keys"; hashes of two keys are combined by wrapping
# arithmetic. Steps in which the row order matters run on the in-memory engine. CPU time for 1,000,000 events,
# compared with "DuckDB, hashed keys": renewals two thirds, days a fifth to a third more.
MIX = pl.lit(0x9E3779B97F4A7C15, dtype=pl.UInt64)
MIX_KIND = pl.lit(0xD6E8FEB86659FD93, dtype=pl.UInt64)
MONEY = ("r", "p", "n")


class Steps(NamedTuple):
    """The common input of both tables: kept rows with their users, ordinals, refunds with their payments, segments."""

    kept: pl.LazyFrame
    numbered: pl.LazyFrame
    refunded: pl.LazyFrame
    segments: pl.LazyFrame


def answer(given: History, threads: int, *, period_type: str, engine: str) -> pl.DataFrame:
    del threads
    steps = _steps(given, period_type, engine)
    filled = _renewals(steps, engine) if period_type == "renewals" else _days(steps, given.last)
    return _values(filled, given.first).collect(engine=engine)


def _steps(given: History, period_type: str, engine: str) -> Steps:
    counted = _collected(_counted(given).with_columns(copied=col("tx").is_not_null() & _fingerprint().is_duplicated()))
    listed = (
        engines.scan(given.installs).group_by(user=col("profile_id").hash()).agg(day=_us("install_date").min() // DAY)
    )
    listed = _collected(listed, engine)
    known = counted.group_by("user").agg(
        installed=col("installed").min() // DAY, paid=col("moment").filter(col("kind") > 0).min() // (8 * DAY)
    )
    users = (
        known.join(listed, on="user", how="left")
        .select("user", joined=pl.coalesce("day", "installed", "paid"))
        .filter(col("joined").is_between(given.first, given.last))
        .with_columns(segment=_month("joined"))
    )
    copied = counted.filter("copied").sort("moment", *MONEY)
    firsts = copied.unique(["user", "tx", "kind"], keep="first", maintain_order=True)
    kept = _collected(pl.concat([counted.filter(~col("copied")), firsts]).join(users, on="user"), engine)

    numbered = kept.filter(col("kind") <= 4)
    if period_type == "renewals":
        subscribed = col("kind").is_between(1, 3).cast(pl.Int64).cum_sum().over("chain")
        numbered = numbered.sort("moment").with_columns(number=pl.when(col("kind") == 4).then(1).otherwise(subscribed))
    else:
        numbered = numbered.with_columns(number=pl.lit(1, dtype=pl.Int64))
    numbered = _collected(numbered)

    span = range(_month_of(given.first), _month_of(given.last) + 1)
    installed = listed.filter(col("day").is_between(given.first, given.last))
    installed = installed.group_by(segment=_month("day")).agg(installs=pl.len().cast(pl.Int64))
    segments = pl.LazyFrame({"segment": span}, schema={"segment": pl.Int32}).join(installed, on="segment", how="left")
    return Steps(kept, numbered, _refunded(kept, numbered), segments.with_columns(col("installs").fill_null(0)))


def _counted(given: History) -> pl.LazyFrame:
    refund = col("kind") > 4
    money = {"r": "revenue_usd", "p": "proceeds_usd", "n": "net_revenue_usd"}
    return (
        engines.scan(given.events)
        .filter(
            col("event_type").is_in(KINDS),
            col("environment") == "Production",
            ~col("product_id").is_in(GRANTED),
            _us("event_datetime") < (given.last + 1) * DAY,
        )
        .with_columns(kind=col("event_type").replace_strict(KINDS, range(len(KINDS)), return_dtype=pl.Int8))
        .filter(~(refund & col("cancellation_reason").eq_missing("upgraded")))
        .select(
            "kind",
            user=col("profile_id").hash(),
            moment=_us("event_datetime") * 8 + col("kind"),
            tx=pl.when(col("transaction_id").is_not_null()).then(col("transaction_id").hash()),
            chain=pl.coalesce("original_transaction_id", "transaction_id").hash() * MIX + col("profile_id").hash(),
            open=(_us("subscription_expires_at") >= given.last * DAY).fill_null(value=False),
            installed=_us("install_date"),
            **{name: pl.when(refund).then(-col(full).abs()).otherwise(col(full)) for name, full in money.items()},
        )
    )


def _refunded(kept: pl.LazyFrame, numbered: pl.LazyFrame) -> pl.LazyFrame:
    refunds = kept.filter(col("kind") > 4).with_row_index("id")
    paid = numbered.filter(col("kind") > 0)
    payments = paid.select("user", "tx", of_chain="chain", of_moment="moment", of_number="number")
    named = _collected(refunds.join(payments, on=["user", "tx"]).sort("of_moment").unique("id", keep="first"))
    loose = refunds.join(named, on="id", how="anti")

    free = paid.join(loose, on="chain", how="semi").join(
        named.select("tx", chain="of_chain", moment="of_moment"),
        on=["chain", "moment", "tx"],
        how="anti",
        nulls_equal=True,
    )
    brackets = pl.concat([free, loose], how="diagonal").sort("moment", "tx")
    closing = col("id").is_not_null()
    depth = pl.when(closing).then(-1).otherwise(1).cum_sum().over("chain") + closing.cast(pl.Int32)
    before = {f"of_{name}": col(name).shift(1).over("chain", "depth") for name in ("moment", "number")}
    matched = brackets.with_columns(depth=depth).with_columns(**before).filter(closing)
    matched = loose.join(matched.select("id", "of_moment", "of_number"), on="id").with_columns(of_chain="chain")
    return _collected(pl.concat([named, matched], how="diagonal").with_columns(number=col("of_number").fill_null(1)))


def _renewals(steps: Steps, engine: str) -> pl.LazyFrame:
    paid = steps.numbered.filter(col("kind") > 0)
    money = ["segment", "number", *MONEY]
    cells = (
        pl.concat([paid.select(*money, paid=1), steps.refunded.select(*money, paid=0)])
        .group_by("segment", period="number")
        .agg(col(*MONEY).sum().round(2), subscriptions=col("paid").sum().cast(pl.Int64))
        .collect(engine=engine)
    )
    widest = cells["period"].max() or 0
    # The rows of a chain are in order of time.
    ends = _collected(
        steps.numbered.filter(col("kind") <= 3)
        .group_by("chain")
        .agg(col("segment", "user").first(), col("number", "open", "moment").last())
    )
    once = paid.filter(col("kind") == 4).select("user", "segment", "number", activated=False)
    users = _collected(
        pl.concat([ends.select("user", "segment", "number", activated=True), once])
        .group_by("user")
        .agg(col("segment").first(), col("number").max(), col("activated").any())
        .join(steps.refunded.group_by("user").agg(refund=col("number").min()), on="user", how="left"),
        engine,
    )
    payers = users.filter(col("number") > 0)
    reached = pl.concat(
        [
            payers.group_by("segment", period="number").agg(subscribers=_rows()),
            payers.group_by("segment", period=(col("refund") - 1).fill_null(widest)).agg(payers=_rows()),
        ],
        how="diagonal",
    )
    reached = reached.group_by("segment", "period").agg(col("subscribers", "payers").sum())
    refunded = steps.refunded.select(chain="of_chain", moment="of_moment")
    running = ends.filter("open").join(refunded, on=["chain", "moment"], how="anti")
    return (
        steps.segments.join(pl.LazyFrame({"period": range(1, widest + 1)}, schema={"period": pl.Int64}), how="cross")
        .join(cells.lazy(), on=["segment", "period"], how="left")
        .join(reached, on=["segment", "period"], how="left")
        .join(users.filter("activated").group_by("segment").agg(activated=_rows()), on="segment", how="left")
        .fill_null(0)
        .join(running.group_by("segment").agg(least=col("number").min()), on="segment", how="left")
        .sort("segment", "period")
        .with_columns(
            *(col(name).cum_sum().over("segment").alias(f"{name}s") for name in MONEY),
            col("subscribers", "payers").cum_sum(reverse=True).over("segment"),
            active=(col("period") > col("least")).fill_null(value=False),
        )
    )


def _days(steps: Steps, last: int) -> pl.LazyFrame:
    paid = steps.numbered.filter(col("kind") > 0)
    age = col("moment") // (8 * DAY) - col("joined")
    money = ["segment", "joined", "moment", *MONEY]
    aged = pl.concat([paid.select(money), steps.refunded.select(money)]).group_by("segment", age=age)

    subscribed, refund = col("kind") <= 3, col("kind") > 4
    firsts = steps.kept.with_columns(age=age).group_by("user")
    firsts = firsts.agg(
        col("segment").first(),
        paid=col("age").filter(col("kind").is_between(1, 4)).min(),
        refund=col("age").filter(refund).min(),
        subscribed=col("age").filter(subscribed).min(),
    )
    is_once = (col("of_moment") % 8 == 4).fill_null(value=False)
    refunded = steps.refunded.with_columns(age=age)
    of_chains = refunded.filter(~is_once).group_by(chain="of_chain").agg(refund=col("age").min())
    of_once = refunded.filter(is_once).group_by(chain="of_chain", moment="of_moment").agg(refund=col("age").min())
    chains = paid.filter(subscribed).with_columns(age=age).group_by("chain")
    chains = chains.agg(col("segment").first(), paid=col("age").min()).join(of_chains, on="chain", how="left")
    once = paid.filter(col("kind") == 4).join(of_once, on=["chain", "moment"], how="left")
    kinds = [chains.select("segment", "paid", "refund"), once.select("segment", "refund", paid=age)]

    steps_of_counts = [
        *_staying(firsts, "subscribers"),
        *_staying(pl.concat(kinds, how="diagonal"), "subscriptions"),
        firsts.drop_nulls("subscribed").group_by("segment", age="subscribed").agg(activated=_rows()),
        aged.agg(col(*MONEY).sum()),
    ]
    periods = pl.LazyFrame({"period": RENEWAL_DAYS}, schema={"period": pl.Int64})
    cells = (
        periods.join(pl.concat(steps_of_counts, how="diagonal"), how="cross")
        .filter(col("age") <= col("period"))
        .group_by("segment", "period")
        .agg(col(*MONEY, "subscribers", "subscriptions", "activated").sum())
    )
    month_end = _first_day("segment").dt.month_end().to_physical().cast(pl.Int64)
    return (
        steps.segments.join(periods, how="cross")
        .join(cells, on=["segment", "period"], how="left")
        .fill_null(0)
        .with_columns(
            *(col(name).alias(f"{name}s") for name in MONEY),
            payers="subscribers",
            active=pl.min_horizontal(month_end, last) + col("period") >= last,
        )
    )


def _staying(frame: pl.LazyFrame, name: str) -> list[pl.LazyFrame]:
    """Count users or chains from their first payment until their first refund, if the payment comes first."""
    staying = frame.filter(col("paid").is_not_null(), (col("refund") > col("paid")).fill_null(value=True))
    return [
        staying.group_by("segment", age="paid").agg(_rows().alias(name)),
        staying.drop_nulls("refund").group_by("segment", age="refund").agg((-_rows()).alias(name)),
    ]


def _values(filled: pl.LazyFrame, first: int) -> pl.LazyFrame:
    counts = ["installs", "activated", "subscriptions", "subscribers", "payers"]
    sums = [*MONEY, *(f"{name}s" for name in MONEY)]
    total = filled.group_by("period").agg(col(*counts, *sums).sum(), col("active").any())
    lines = pl.concat([total, filled.select("segment", "period", *counts, *sums, "active")], how="diagonal")
    lines = lines.sort("segment", "period").with_columns(col(*sums).round(2))
    start = pl.coalesce(_first_day("segment"), pl.lit(EPOCH + timedelta(days=first)))
    shares = {"pu": "installs", "ppu": "payers", "pas": "activated"}
    averages = {
        f"a{short}{suffix}_usd": _quotient(col(f"{name}s"), col(by))
        for suffix, by in shares.items()
        for short, name in (("r", "r"), ("p", "p"), ("nr", "n"))
    }
    relatives = {"revenue": "r", "proceeds": "p", "net_revenue": "n"} | {name: name for name in counts[2:4]}
    return lines.select(
        pl.when(col("segment").is_null()).then(pl.lit("total")).otherwise(pl.lit("single")).alias("type"),
        start.dt.strftime("%Y-%m-%d").alias("segment_start_date"),
        "period",
        "installs",
        *(col(name).alias(full) for name, full in zip(MONEY, SUMS, strict=True)),
        *(average.alias(name) for name, average in averages.items()),
        "subscriptions",
        "subscribers",
        *(
            _quotient(100 * col(name), col(name).first().over("segment")).alias(f"{field}_relative")
            for field, name in relatives.items()
        ),
        col("active").alias("currently_active_period"),
    )


def _collected(frame: pl.LazyFrame, engine: str = "in-memory") -> pl.LazyFrame:
    return frame.collect(engine=engine).lazy()


def _fingerprint() -> pl.Expr:
    return col("tx") + col("user") * MIX + col("kind").cast(pl.UInt64) * MIX_KIND


def _us(name: str) -> pl.Expr:
    return col(name).dt.timestamp("us")


def _rows() -> pl.Expr:
    return pl.len().cast(pl.Int64)


def _quotient(above: pl.Expr, below: pl.Expr) -> pl.Expr:
    return pl.when(below != 0).then(above / below).otherwise(0.0)


def _month(name: str) -> pl.Expr:
    """Convert days since 1970 to months since January of year 0."""
    day = col(name).cast(pl.Int32).cast(pl.Date)
    return day.dt.year() * 12 + day.dt.month().cast(pl.Int32) - 1


def _month_of(day: int) -> int:
    at = EPOCH + timedelta(days=day)
    return at.year * 12 + at.month - 1


def _first_day(name: str) -> pl.Expr:
    return pl.date(col(name) // 12, col(name) % 12 + 1, 1)
