"""The command that says why a vendor's table is not ours."""

# ruff: noqa: D301 - \b is click's mark of a paragraph to leave as it is

from collections.abc import Iterable
from functools import cache
from typing import TYPE_CHECKING, Any

import click

from cohortlib.cli.adapty import read_body
from cohortlib.cli.delivery import computed, put
from cohortlib.cli.options import decorated, settings
from cohortlib.cli.reconcile import TOLERANCES
from cohortlib.transactions.keywords import CohortsKeywords

if TYPE_CHECKING:
    from cohortlib.compare.explain.explanation import Explanation


# The settings of both vendors' tables; unset options keep the default of the call that computes the table.
SETTINGS = (
    *settings(CohortsKeywords, "freq", "week_start", "max_memory", unset=True),
    click.option("--request", metavar="FILE", help="Of Adapty's table: the body that the API takes, as JSON."),
    click.option("--installs", metavar="FILE|from_events", help="Of Adapty's table: the installs."),
)


@click.command(short_help="Say why a vendor's table is not the one that transactions give.")
@click.argument("transactions")
@click.argument("remote")
@lambda command: decorated(command, SETTINGS)
@TOLERANCES
@click.option(
    "--seconds",
    type=click.FloatRange(min=0, min_open=True),
    default=120.0,
    show_default=True,
    metavar="N",
    help="Time after which nothing more is tried.",
)
@click.option("--html", metavar="FILE", help="Write a page with the findings and both tables to FILE.")
@click.option("-o", "--output", metavar="FILE", help="Write the findings to FILE as JSON; - is standard output.")
def explain(
    transactions: str,
    remote: str,
    request: str | None,
    html: str | None,
    output: str | None,
    **settings: Any,  # noqa: ANN401
) -> None:
    """Say why the table in REMOTE is not the one that the rows in TRANSACTIONS give.

    The table is recomputed under other settings (time zone, refunds, edges, where cohorts come from, ...) and with
    faults of the data (rows missing or there twice, a factor, shifted periods), each alone and then together. It is
    told what makes the most cells agree, and what stays unexplained. The options say how your own table is made.

    The exit code is 0 whatever is found, and 2 where the tables cannot be compared.

    \b
    Examples:
      cohortlib explain transactions.parquet remote.json
      cohortlib explain orders.csv remote.json --user customer --amount usd --html why.html
      cohortlib explain events.csv answer.json --request request.json --installs installs.csv
    """
    given = {name: value for name, value in settings.items() if value is not None}
    if request is not None:
        given["request"] = read_body(request)
    sources = [transactions, remote]

    @cache  # made once it is known that the first file can be written
    def why() -> "Explanation":
        from cohortlib.compare.explain.explain import explain as compute

        return computed(compute, transactions, remote, what="combinations", **given)

    if html is not None:
        put(lambda: [why().to_html().encode()], html, sources)
    if output is not None:
        put(lambda: [why().to_json().encode(), b"\n"], output, sources)
    if "-" not in (html, output):
        put(lambda: _lines(why()), None, [])


def _lines(why: "Explanation") -> Iterable[bytes]:
    """Write the findings; names come from the data, and may hold what a terminal could act on."""
    from cohortlib.cli.terminal import printable

    return (printable(line).encode() + b"\n" for line in str(why).split("\n"))
