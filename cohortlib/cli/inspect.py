"""The command `cohortlib inspect`: what is in a source, and the command to run."""

from typing import Any

import click

from cohortlib.cli.messages import error_text, one_line, printed_warnings
from cohortlib.cli.options import FILES_OPTIONS, THREADS, decorated, source
from cohortlib.cli.output import writing
from cohortlib.read.paths import check_exist


@click.command(short_help="What is in a file, and the command to run.")
@source("transactions", "FILE")
@click.option("--all-rows", is_flag=True, help="Read all rows, not only the first 10,000.")
@lambda command: decorated(command, (*FILES_OPTIONS, THREADS))
def inspect(transactions: str | list[str], **settings: Any) -> None:
    """Look into FILE: its columns, which are user, timestamp and amount, its doubts, and the command to run.

    FILE is a file, a folder, a URL, or a glob in quotes; several are one source. The first 10,000 rows are read, of
    many files some rows of each; the output says which. The exports of Adapty and RevenueCat are recognized by their
    columns.

    \b
    Examples:
      cohortlib inspect orders.csv
      cohortlib inspect 'orders/*.parquet' --all-rows
    """
    check_exist(transactions)
    from cohortlib.show.inspect.inspect import inspect as look

    with printed_warnings():
        inspection = look(transactions, **settings)
    with writing("to standard output"):
        for line in inspection.lines(lambda message: one_line(error_text(message))):
            click.echo(line)
