"""The command `explain`."""

from collections.abc import Iterable
from functools import cache
from typing import TYPE_CHECKING, Any

import click

from cohortlib.cli.adapty import read_body
from cohortlib.cli.options import decorated, output_option, settings, source
from cohortlib.cli.output import compute_with_progress, write_output
from cohortlib.cli.reconcile import TOLERANCES
from cohortlib.transactions.keywords import CohortsKeywords

if TYPE_CHECKING:
    from cohortlib.compare.explain.explanation import Explanation


# The settings of both vendors' tables; unset options keep the default of the call that computes the table.
SETTINGS = (
    *settings(CohortsKeywords, "freq", "week_start", "max_memory", unset=True),
    click.option("--request", metavar="FILE", help="For Adapty: the API's request body, as JSON."),
    click.option("--installs", metavar="FILE|from_events", help="For Adapty: the installs."),
)


@click.command(short_help="Find out why a vendor's table differs from the local one.")
@source("transactions", "TRANSACTIONS", required=False)
@click.argument("remote")
@lambda command: decorated(command, SETTINGS)
@TOLERANCES
@click.option(
    "--seconds",
    type=click.FloatRange(min=0, min_open=True),
    default=120.0,
    show_default=True,
    metavar="N",
    help="Time limit of the search.",
)
@click.option("--html", metavar="FILE", help="Write an HTML page with the result and both tables to FILE.")
@output_option("Write the result to FILE as JSON; - is standard output.")
def explain(
    transactions: str | list[str], remote: str, request: str | None, html: str | None, output: str | None,
    **settings: Any,
) -> None:  # fmt: skip
    """Find out why the table in REMOTE differs from the one computed from TRANSACTIONS.

    The local table is recomputed with other settings (time zone, refunds, first and last period, source of the
    cohorts, ...) and with simulated data faults (missing or duplicate rows, a factor, shifted periods), first one at a
    time, then in combination. The output shows which changes make the most cells agree, and what still differs. The
    options are the settings of your own table.

    The exit code is 0, whether or not the differences are explained, and 2 if the tables cannot be compared.

    \b
    Examples:
      cohortlib explain transactions.parquet remote.json
      cohortlib explain orders.csv remote.json --user customer --amount usd --html why.html
      cohortlib explain events.csv answer.json --request request.json --installs installs.csv
    """
    if not transactions:  # click fills the last argument first
        raise click.UsageError(f"Missing argument 'REMOTE', the vendor's table, after {remote!r}.")
    passed = {name: value for name, value in settings.items() if value is not None}
    if request is not None:
        passed["request"] = read_body(request)
    sources = [transactions, remote]

    @cache  # shared by all outputs, and called only once the first one is known to be writable
    def why() -> "Explanation":
        from cohortlib.compare.explain.explain import explain as compute

        return compute_with_progress(compute, transactions, remote, what="combinations", **passed)

    if html is not None:
        write_output(lambda: [why().to_html().encode()], html, sources)
    if output is not None:
        write_output(lambda: [why().to_json().encode(), b"\n"], output, sources)
    if "-" not in (html, output):
        write_output(lambda: _lines(why()), None, [])


def _lines(why: "Explanation") -> Iterable[bytes]:
    """Encode the result as text. Names come from the data, so control characters are replaced."""
    from cohortlib.cli.terminal import printable

    return (printable(line).encode() + b"\n" for line in str(why).split("\n"))
