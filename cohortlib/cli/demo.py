"""Compute the tables of a small real data set and print them."""

import shlex
import time
from importlib.resources import as_file, files

import polars as pl
from rich.console import Console

from cohortlib import termina
from cohortlib.cli.terminal import plain_columns, print_columns, print_line, print_prose, print_triangle
from cohortlib.fields import SHOWN

SAMPLE = files("cohortlib") / "samples" / "cdnow_sample.parquet"
CUSTOMER_ROWS = 6


def show(console: Console) -> None:
    """Compute both tables of the packaged sample and print parts of them.

    The sample holds every tenth of the CDNOW customers who first bought music in the first quarter of 1997, with all
    their orders until the middle of 1998.
    """
    with as_file(SAMPLE) as path:
        orders = pl.read_parquet(path)
        begin = time.perf_counter()
        cohorts, customers = both_tables(orders)
        seconds = time.perf_counter() - begin
        command = f"cohortlib termina cohorts {shlex.quote(str(path))} -o cohorts.csv"

    users, since, until = orders.select(
        pl.col("user_id").n_unique(),
        since=pl.col("timestamp").min().dt.date(),
        until=pl.col("timestamp").max().dt.date(),
    ).row(0)
    print_prose(console, "CDNOW sold music online. The sample has every tenth customer of early 1997:")
    print_prose(console, f"{orders.height:,} orders of {users:,} users, {since} to {until}.")
    for field in SHOWN:
        print_line(console)
        print_triangle(console, cohorts, field)
    print_line(console)
    print_prose(console, f"customer-cohorts: the first {CUSTOMER_ROWS} of {customers.height:,} rows")
    print_columns(console, plain_columns(customers.head(CUSTOMER_ROWS)))
    print_line(console)
    work = f"Both tables, {orders.height:,} rows of {users:,} users"
    print_prose(console, f"{work}: {in_words(seconds)}.")
    print_line(console)
    print_prose(console, "Next, write the first table to a file, then try a file of your own:")
    print_line(console, f"  {command}")


def both_tables(orders: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Compute the cohort table and the customer table."""
    return termina.cohorts(orders), termina.customer_cohorts(orders)


def in_words(seconds: float) -> str:
    """Format a duration with about two digits.

    >>> in_words(1.2345), in_words(0.0123)
    ('1.2 s', '12 ms')
    """
    return f"{seconds:.1f} s" if seconds >= 0.9995 else f"{1000 * seconds:.0f} ms"
