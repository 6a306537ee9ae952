"""The names and types of Termina's fields, by which its tables are written and its answers are read."""

import polars as pl

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
