"""The names and types of Termina's fields, by which its tables are written and its answers are read."""

from typing import Literal

import polars as pl

Endpoint = Literal["cohorts", "customer-cohorts", "user-accounting", "growth-accounting", "concentration"]

COHORTS = {
    "cohort": pl.String,
    "period": pl.Int64,
    "cohort_size": pl.Int64,
    "cohort_size_amount": pl.Float64,
    "active_users": pl.Int64,
    "logo_retention": pl.Float64,
    "amount": pl.Float64,
    "amount_retention": pl.Float64,
    "ltv": pl.Float64,
}

CUSTOMER_COHORTS = {
    "cohort": pl.String,
    "user_id": pl.String,
    "period": pl.Int64,
    "cohort_size_amount": pl.Float64,
    "logo_retention": pl.Float64,
    "amount": pl.Float64,
    "amount_retention": pl.Float64,
    "ltv": pl.Float64,
}

_GROWTH_RATES = dict.fromkeys(("cmgr3", "cmgr6", "cmgr12", "cqgr1", "cqgr2", "cqgr4"), pl.Float64)

USER_ACCOUNTING = {
    "date": pl.String,
    "active_users": pl.Int64,
    "retained": pl.Int64,
    "new": pl.Int64,
    "resurrected": pl.Int64,
    "churned": pl.Int64,
    **_GROWTH_RATES,
    "logo_retention": pl.Float64,
    "quick_ratio": pl.Float64,
}

GROWTH_ACCOUNTING = {
    "date": pl.String,
    "amount": pl.Float64,
    "retained": pl.Float64,
    "new": pl.Float64,
    "resurrected": pl.Float64,
    "expansion": pl.Float64,
    "contraction": pl.Float64,
    "churned": pl.Float64,
    **_GROWTH_RATES,
    "quick_ratio": pl.Float64,
    "gross_retention": pl.Float64,
    "net_churn": pl.Float64,
    "lifetime_quick_ratio": pl.Float64,
    "lifetime_gross_retention": pl.Float64,
    "lifetime_net_churn": pl.Float64,
}

TIME_SERIES_METRICS = {
    "date": pl.String,
    "top_5_count": pl.Float64,
    "top_10_count": pl.Float64,
    "top_20_count": pl.Float64,
    "top_10_percent": pl.Float64,
    "top_20_percent": pl.Float64,
    "mean": pl.Float64,
    "p25": pl.Float64,
    "median": pl.Float64,
    "p75": pl.Float64,
    "p90": pl.Float64,
    "average_to_median": pl.Float64,
    "gini_coefficient": pl.Float64,
}

ENDPOINT_TOP_USERS = {
    "user_id": pl.String,
    "amount": pl.Float64,
    "amount_percent": pl.Float64,
}

ENDPOINT_CDF = {
    "method": pl.String,
    "amount": pl.Float64,
    "cdf_users": pl.Float64,
    "cdf_amount": pl.Float64,
}

# What is one frame, and what is three.
TABLES = {
    "cohorts": COHORTS,
    "customer-cohorts": CUSTOMER_COHORTS,
    "user-accounting": USER_ACCOUNTING,
    "growth-accounting": GROWTH_ACCOUNTING,
}
CONCENTRATION = {
    "time_series_metrics": TIME_SERIES_METRICS,
    "endpoint_top_users": ENDPOINT_TOP_USERS,
    "endpoint_cdf": ENDPOINT_CDF,
}

# Termina's SDK lets every other field be null, or absent.
REQUIRED = {
    "cohorts": ("cohort", "period", "cohort_size", "cohort_size_amount", "active_users"),
    "customer-cohorts": ("cohort", "user_id", "period", "cohort_size_amount"),
    "user-accounting": ("date", "active_users"),
    "growth-accounting": ("date", "amount"),
    "time_series_metrics": ("date",),
    "endpoint_top_users": ("user_id", "amount", "amount_percent"),
    "endpoint_cdf": ("method", "amount"),
}
