"""The commands that download a vendor's table. The key comes from the environment only."""

import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, get_args

import click

from cohortlib.adapty.request import Format, Request
from cohortlib.cli.adapty import read_body
from cohortlib.cli.messages import printed_warnings
from cohortlib.cli.options import Decorated, decorated, output_option
from cohortlib.cli.output import ending, write_output
from cohortlib.cli.termina import encoded
from cohortlib.errors import CohortlibWarning
from cohortlib.fields import Endpoint
from cohortlib.network.retry import ATTEMPTS, TIMEOUT
from cohortlib.termina.client.calls import ApiFreq, UserType

FORMATS = ("json", "csv", "parquet")
CONNECTION = ("base_url", "attempts", "timeout")  # the settings of a client; all others are those of its methods


def _connection_options(vendor: str) -> tuple[Callable[[Decorated], Decorated], ...]:
    return (
        click.option("--base-url", metavar="URL", help=f"Another address than {vendor}'s; https, or on this machine."),
        click.option(
            "--attempts", type=click.IntRange(min=1), default=ATTEMPTS, show_default=True, metavar="N",
            help="Maximum number of attempts, if the server is busy or the connection fails.",
        ),
        click.option(
            "--timeout", type=click.FloatRange(min=0, min_open=True), default=TIMEOUT, show_default=True,
            metavar="SECONDS", help="Total time, with retries.",
        ),
    )  # fmt: skip


def _output_option(suffixes: str) -> Callable[[Decorated], Decorated]:
    return output_option(f"Write to FILE ({suffixes}, by its ending) or to standard output (-).  [default: -]")


TERMINA_OPTIONS = (
    click.option("--group", "group_id", type=click.IntRange(min=0), required=True, metavar="ID", help="Group."),
    click.option("--deal", "deal_id", type=click.IntRange(min=0), required=True, metavar="ID", help="Deal."),
    click.option("--user-type", type=click.Choice(get_args(UserType)), required=True, help="Type of user."),
    click.option("--metric", required=True, metavar="NAME", help="What the amount is: revenue, gtv."),
    click.option("--freq", type=click.Choice(get_args(ApiFreq)), help="Month, quarter or calendar year."),
    *_connection_options("Termina"),
)


@click.group(no_args_is_help=True)
def fetch() -> None:
    """Download tables as the vendors compute them, to compare with your own.

    Keys come from the environment (TERMINA_API_KEY, ADAPTY_API_KEY), never from an option, which other users of the
    machine could see.
    """


@fetch.group("termina", no_args_is_help=True)
def termina_group() -> None:
    """Termina's product tables; the key is read from TERMINA_API_KEY."""


@fetch.group("adapty", no_args_is_help=True)
def adapty_group() -> None:
    """Adapty's cohort table; the key is read from ADAPTY_API_KEY."""


def _add_table(name: Endpoint, what: str) -> None:
    """Add the command for one of Termina's tables."""
    formats = FORMATS if name != "concentration" else FORMATS[:1]

    def command(output: str | None, **settings: Any) -> None:
        chosen = _format_of(output, formats)
        connection, query = _split(settings)

        def download() -> Iterable[bytes]:
            from cohortlib.termina import Client

            with _no_retry_logs(), printed_warnings():
                client = Client(**connection)
                if chosen == "json":
                    return [client.reply(name, **query)]
                return encoded(getattr(client, name.replace("-", "_"))(**query), chosen)

        write_output(download, output, [])

    command.__doc__ = f"""Download {what}, in the fields of Termina's API.

    The key is read from the environment variable TERMINA_API_KEY. JSON is the reply as it comes, byte for byte;
    without -o, it is written to standard output.

    \b
    Example:
      cohortlib fetch termina {name} --group 1 --deal 1 --user-type business --metric revenue -o remote.json
    """
    options = (*TERMINA_OPTIONS, _output_option(", ".join(f".{suffix}" for suffix in formats)))
    termina_group.command(name, short_help=f"{what[0].upper()}{what[1:]}.")(decorated(command, options))


_add_table("cohorts", "one row per cohort and age")
_add_table("customer-cohorts", "one row per customer and age")
_add_table("user-accounting", "users who came, stayed and left, one row per period")
_add_table("growth-accounting", "how the amount grew and shrank, one row per period")
_add_table("concentration", "how much of the amount the largest users hold")


@adapty_group.command("cohort", short_help="The cohort table for a request of the API.")
@click.option("--request", required=True, metavar="FILE", help="The API's body, as JSON; - is standard input.")
@click.option("--timezone", metavar="ZONE", help="IANA zone in which days begin.  [default: the app's]")
@lambda command: decorated(command, (*_connection_options("Adapty"), _output_option(".json, .csv")))
def cohort(request: str, output: str | None, timezone: str | None, **settings: Any) -> None:
    """Download the answer of Adapty's cohort API to a request, as it comes.

    The key is read from the environment variable ADAPTY_API_KEY. The format is that of the ending of -o; without
    -o, it is the format of the request.

    \b
    Examples:
      cohortlib fetch adapty cohort --request request.json --timezone Europe/Berlin -o remote.json
      cohortlib fetch adapty cohort --request request.json -o remote.csv
    """
    with printed_warnings():
        checked = Request.of(read_body(request))
    chosen = _format_of(output, ("json", "csv"), checked.format)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CohortlibWarning)  # printed above
        checked = replace(checked, format=next(known for known in get_args(Format) if known == chosen))
    connection, _ = _split(settings)

    def download() -> list[bytes]:
        from cohortlib.adapty import Client

        with _no_retry_logs(), printed_warnings():
            return [Client(**connection).reply(checked, timezone=timezone)]

    write_output(download, output, [request if request != "-" else None])


@contextmanager
def _no_retry_logs() -> Iterator[None]:
    """Disable stamina's log of retries: standard error gets one line, and only if the download fails."""
    try:
        from stamina.instrumentation import get_on_retry_hooks, set_on_retry_hooks
    except ImportError:  # the client raises the error
        yield
        return
    hooks = get_on_retry_hooks()
    set_on_retry_hooks([])
    try:
        yield
    finally:
        set_on_retry_hooks(hooks)


def _split(settings: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Split settings into those of a client, without unset ones, and those of its method."""
    connection = {name: settings.pop(name) for name in CONNECTION}
    return {name: value for name, value in connection.items() if value is not None}, settings


def _format_of(output: str | None, formats: Iterable[str], default: str = "json") -> str:
    """Return the format for an output file, by its ending."""
    if output is None or output == "-":
        return default
    suffix = ending(output)
    if suffix not in formats:
        raise click.UsageError(f"-o {output}: the ending is none of {', '.join(f'.{known}' for known in formats)}")
    return suffix
