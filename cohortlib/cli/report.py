"""The command `cohortlib report`: write a report as an HTML page."""

from collections.abc import Iterable
from typing import Any

import click

from cohortlib.cli.options import MAX_MEMORY
from cohortlib.cli.output import compute_with_progress, ending, write_output
from cohortlib.cli.termina import as_prepared, settings_options


@click.command(short_help="Write an HTML page of numbers, charts and tables.")
@settings_options
@MAX_MEMORY
@click.option("--title", metavar="TEXT", help="Heading of the page.  [default: Cohort report]")
@click.option(
    "-o", "--output", required=True, metavar="FILE", help="Write the page to FILE.html; - is standard output."
)
def report(transactions: str | list[str], output: str, **settings: Any) -> None:
    """Write a report on the cohorts of TRANSACTIONS: one self-contained HTML page.

    TRANSACTIONS are Parquet, CSV, TSV, JSON lines or Excel files: paths, folders, URLs, or globs in quotes. They
    have one row per payment, with user, time and amount.

    The page has headline numbers, heat maps, curves, sortable tables with CSV export, the settings, the definitions,
    and the count of rows read and dropped. It opens in any browser without a network.

    \b
    Examples:
      cohortlib report transactions.parquet -o report.html
      cohortlib report 'orders/*.csv' --user customer --amount usd --freq Q --title 'Our shop' -o report.html
    """
    if output != "-" and ending(output) not in ("html", "htm"):
        raise click.UsageError(f"-o {output}: a report is an HTML file. Hint: -o FILE.html")
    settings = as_prepared(transactions, settings)

    def make() -> Iterable[bytes]:
        from cohortlib.show.report.report import report_page

        return [compute_with_progress(report_page, transactions, **settings).encode()]

    write_output(make, output, [transactions, settings["joined"]])
