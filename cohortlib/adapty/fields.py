"""The names and types of Adapty's fields, by which its answers are written and read."""

import polars as pl

MONEY = ("revenue", "proceeds", "net_revenue")
# The averages of each family, in the order of MONEY: per user, per paying user, per activated user.
AVERAGES = {
    "arpu": ("arpu", "appu", "anrpu"),
    "arppu": ("arppu", "apppu", "anrppu"),
    "arpas": ("arpas", "appas", "anrpas"),
}
RELATIVE = ("revenue", "proceeds", "net_revenue", "subscriptions", "subscribers")
SEGMENT = ("segment_start_date", "type")  # what tells one segment from another
PREDICT = pl.Struct({"revenue_usd": pl.Float64, "ltv_usd": pl.Float64, "months": pl.Int64})

_AMOUNTS = [*MONEY, *(name for family in AVERAGES.values() for name in family)]
SEGMENTS = {
    "segment_start_date": pl.String,
    "type": pl.String,
    "title": pl.String,
    "total_installs": pl.Int64,
    "total_subscriptions": pl.Int64,
    "total_paid_subscribers": pl.Int64,
    **{f"total_{name}_usd": pl.Float64 for name in _AMOUNTS},
    "predict": PREDICT,
}
VALUES = {
    "segment_start_date": pl.String,
    "type": pl.String,
    "period": pl.Int64,
    "installs": pl.Int64,
    **{f"{name}_usd": pl.Float64 for name in _AMOUNTS},
    "subscriptions": pl.Int64,
    "subscribers": pl.Int64,
    **{f"{name}_relative": pl.Float64 for name in RELATIVE},
    "currently_active_period": pl.Boolean,
}
