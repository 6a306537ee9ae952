"""The commands `cohortlib termina user-accounting`, `growth-accounting` and `concentration`."""

import json
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import click

from cohortlib.cli import options
from cohortlib.cli.output import compute_with_progress, ending, is_terminal, write_output
from cohortlib.cli.termina import OUTPUT, as_prepared, encoded, format_of

if TYPE_CHECKING:
    import polars as pl

ACCOUNTING_OPTIONS = (options.source("transactions", "TRANSACTIONS"), *options.ACCOUNTING_OPTIONS)


@click.command(short_help="Users who came, stayed and left, one row per period.")
@lambda command: options.decorated(command, (*ACCOUNTING_OPTIONS, *OUTPUT))
def user_accounting(transactions: str | list[str], output: str | None, kind: str | None, **settings: Any) -> None:
    """Compute users who came, stayed and left from TRANSACTIONS, one row per period.

    TRANSACTIONS are Parquet, CSV, TSV, JSON lines or Excel files: paths, folders, URLs, or globs in quotes. They
    have one row per payment, with user, time and amount.

    The table is written to -o, or as CSV to standard output.

    \b
    Examples:
      cohortlib termina user-accounting orders.csv --user customer --timestamp paid_at --amount usd
      cohortlib termina user-accounting 'orders/*.parquet' --freq Q -o users.csv
    """
    from cohortlib import termina as tables

    _write_table(tables.user_accounting, transactions, settings, output, kind)


@click.command(short_help="How the amount grew and shrank, one row per period.")
@lambda command: options.decorated(command, (*ACCOUNTING_OPTIONS, *OUTPUT))
def growth_accounting(transactions: str | list[str], output: str | None, kind: str | None, **settings: Any) -> None:
    """Compute how the amount grew and shrank from TRANSACTIONS, one row per period.

    TRANSACTIONS are Parquet, CSV, TSV, JSON lines or Excel files: paths, folders, URLs, or globs in quotes. They
    have one row per payment, with user, time and amount.

    The table is written to -o, or as CSV to standard output.

    \b
    Examples:
      cohortlib termina growth-accounting orders.csv -o growth.csv
      cohortlib termina growth-accounting 'orders/*.parquet' --complete-only -o growth.parquet
    """
    from cohortlib import termina as tables

    _write_table(tables.growth_accounting, transactions, settings, output, kind)


@click.command(short_help="How much of the amount the largest users hold.")
@lambda command: options.decorated(command, ACCOUNTING_OPTIONS)
@options.output_option("Write to FILE (.json) or to standard output (-).  [default: -]")
def concentration(transactions: str | list[str], output: str | None, **settings: Any) -> None:
    """Compute how much of the amount the largest users hold from TRANSACTIONS.

    TRANSACTIONS are Parquet, CSV, TSV, JSON lines or Excel files: paths, folders, URLs, or globs in quotes. They
    have one row per payment, with user, time and amount.

    The result is the JSON object of Termina's API: metrics by period, and the top users and the distribution of the
    last one. It is written to -o or to standard output.

    \b
    Examples:
      cohortlib termina concentration orders.csv -o concentration.json
      cohortlib termina concentration orders.csv | jq '.time_series_metrics[-1].gini_coefficient'
    """
    from cohortlib import termina as tables

    if output not in (None, "-") and ending(output) != "json":
        raise click.UsageError(f"-o {output}: the ending is not .json; concentration is an object of three tables")
    settings = as_prepared(transactions, settings)

    def make() -> Iterable[bytes]:
        found = compute_with_progress(tables.concentration, transactions, **settings)
        return [json.dumps(found.to_dict(), ensure_ascii=False, allow_nan=False).encode(), b"\n"]

    write_output(make, output, [transactions])


def _write_table(
    compute: "Callable[..., pl.DataFrame]", transactions: str | list[str], settings: dict[str, Any],
    output: str | None, kind: str | None,
) -> None:  # fmt: skip
    """Compute a table and write it."""
    settings = as_prepared(transactions, settings)
    written_as = kind or format_of(output)
    if written_as == "parquet" and output in (None, "-") and is_terminal():
        raise click.UsageError("Parquet cannot be printed in a terminal. Hint: -o FILE.parquet")
    write_output(
        lambda: encoded(compute_with_progress(compute, transactions, **settings), written_as), output, [transactions]
    )
