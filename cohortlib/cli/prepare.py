"""The command `cohortlib prepare`: write transactions in the form that every table reads fastest."""

from typing import Any

import click

from cohortlib.cli.options import PREPARE_OPTIONS, QUIET, decorated, source
from cohortlib.cli.output import check_not_inside, compute_with_progress, reporting, writing

SETTINGS = (
    source("transactions", "TRANSACTIONS"),
    click.argument("folder", metavar="FOLDER"),
    click.option("--keep", multiple=True, metavar="COLUMN", help="Keep this column too, for filters (repeatable)."),
    *PREPARE_OPTIONS,
    QUIET,
)


@click.command(short_help="Write transactions once, for many tables.")
@lambda command: decorated(command, SETTINGS)
def prepare(transactions: str | list[str], folder: str, quiet: bool, **settings: Any) -> None:
    """Write TRANSACTIONS to FOLDER, in the form that every table reads fastest.

    TRANSACTIONS are Parquet, CSV, TSV, JSON lines or Excel files: paths, folders, URLs, or globs in quotes. They
    have one row per payment, with user, time and amount. All commands accept FOLDER in their place, return the
    same table, and are much faster. An earlier folder of this command is replaced once the new one is complete.

    \b
    Examples:
      cohortlib prepare 'orders/*.parquet' prepared/ --user customer --amount usd
      cohortlib termina cohorts prepared/ --freq W
    """
    with writing(folder), reporting(quiet=quiet):
        check_not_inside(folder, [transactions])
        from cohortlib import prepare as write

        compute_with_progress(write, transactions, folder, **settings)
