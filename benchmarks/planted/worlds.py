"""Rows of two generators and of two real data sets, with the columns that exports of shops have."""

from functools import cache
from pathlib import Path

import numpy as np
import polars as pl

from benchmarks import data, planted_termina

REAL = Path(__file__).parents[3] / "shared" / "data"
COUNTRIES = ("US", "DE", "FR", "GB", "BR", "JP", "NL", "PL")
CURRENCIES = {"US": "USD", "DE": "EUR", "FR": "EUR", "NL": "EUR", "GB": "GBP", "BR": "BRL", "JP": "JPY", "PL": "PLN"}
CHANNELS = ("web", "ios", "android", "partner", "store")
STATUSES = ("paid", "pending", "disputed", "failed")
WORLDS = ("shop", "sales", "cdnow", "retail")


@cache
def transactions(world: str, rows: int, seed: int) -> pl.DataFrame:
    """Return about as many rows of a world, with columns besides user, instant and amount."""
    rng = np.random.default_rng([seed, WORLDS.index(world)])
    if world == "shop":  # evenings in UTC, users with e-mail addresses
        frame = planted_termina.transactions(rows, seed).drop("signup_date")
    elif world == "sales":  # instants without a zone, a few users with most rows
        frame = data.transactions(rows, "uuid", seed=seed, shuffled=True)
    else:
        name = {"cdnow": "cdnow_master", "retail": "online_retail"}[world]
        frame = pl.read_parquet(REAL / f"{name}.parquet").drop_nulls("user_id").filter(pl.col("amount") != 0)
        frame = frame.select(pl.col("user_id").cast(pl.String), "timestamp", "amount", *_country(frame))
        users = frame["user_id"].unique().sort()
        kept = users.sample(min(len(users), max(1, len(users) * rows // frame.height)), seed=seed)
        frame = frame.filter(pl.col("user_id").is_in(kept.implode())).with_columns(pl.col("amount").round(2))
        if world == "cdnow":
            frame = frame.with_columns(pl.col("timestamp").dt.date())
    return _enriched(frame, rng)


def _country(frame: pl.DataFrame) -> list[str]:
    return ["country"] if "country" in frame.columns else []


def _enriched(frame: pl.DataFrame, rng: np.random.Generator) -> pl.DataFrame:
    """Add columns of users and rows. 3 % of the users are tests, seen by their names."""
    day = pl.col("timestamp").dt.date()
    users = frame.group_by("user_id").agg(day.min().alias("_first")).sort("user_id")
    count = users.height
    tests = pl.Series(rng.random(count) < 0.03)
    shares = 1 / np.arange(1, len(COUNTRIES) + 1) ** 0.8
    countries = pl.Series(rng.choice(COUNTRIES, count, p=shares / shares.sum()))
    lead = pl.Series((rng.exponential(12, count) * (rng.random(count) < 0.6)).astype(np.int64))
    domain = pl.Series(rng.choice(["@mail.example", "@post.example", "@firm.example"], count))
    users = users.with_columns(
        (pl.col("user_id") + pl.when(tests).then(pl.lit("@test.acme.example")).otherwise(domain)).alias("_name"),
        countries.alias("_country"),
        (pl.col("_first") - pl.duration(days=lead)).alias("signup_date"),
    )
    joined = frame.join(users, on="user_id", how="left", maintain_order="left")
    rows = joined.height
    weights = 1 / np.arange(1, 31)
    country = pl.col("country" if "country" in frame.columns else "_country")
    return joined.with_columns(
        pl.col("_name").alias("user_id"),
        country.alias("country"),
        pl.Series("channel", rng.choice(CHANNELS, rows, p=[0.4, 0.25, 0.2, 0.1, 0.05])),
        pl.Series("product", rng.choice(30, rows, p=weights / weights.sum())).cast(pl.String).str.zfill(2) + "-plan",
        country.replace_strict(CURRENCIES, default="GBP", return_dtype=pl.String).alias("currency"),
        pl.Series("status", rng.choice(STATUSES, rows, p=[0.9, 0.05, 0.03, 0.02])),
        ("orders_" + day.dt.strftime("%Y-%m") + ".csv").alias("source_file"),
    ).select(
        "user_id", "timestamp", "amount", "country", "channel", "product", "currency", "status", "signup_date",
        "source_file",
    )  # fmt: skip
