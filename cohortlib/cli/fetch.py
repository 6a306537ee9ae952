"""The commands that fetch a vendor's table: a question in options, the key from the environment alone."""

# ruff: noqa: D301 - \b is click's mark of a paragraph to leave as it is

import json
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, get_args

import click

from cohortlib.adapty.request import Format, Request
from cohortlib.cli.adapty import read_body
from cohortlib.cli.delivery import ending, put
from cohortlib.cli.failures import warnings_told
from cohortlib.cli.options import Decorated, decorated
from cohortlib.cli.termina import encoded
from cohortlib.errors import CohortlibWarning

if TYPE_CHECKING:
    import polars as pl

    from cohortlib.adapty import Answer
    from cohortlib.termina import Concentration


# As in cohortlib.termina.client.calls, which brings what help does without.
USER_TYPES = ("business", "consumer", "supplier", "asset", "labor", "business_user")
FORMATS = ("json", "csv", "parquet")


def _access(vendor: str) -> tuple[Callable[[Decorated], Decorated], ...]:
    return (
        click.option("--base-url", metavar="URL", help=f"Another address than {vendor}'s; https, or this machine."),
        click.option(
            "--attempts",
            type=click.IntRange(min=1),
            default=5,
            show_default=True,
            metavar="N",
            help="How often to ask at most, where the server is busy or the connection fails.",
        ),
        click.option(
            "--timeout",
            type=click.FloatRange(min=0, min_open=True),
            default=120.0,
            show_default=True,
            metavar="SECONDS",
            help="Time in which all has to be done.",
        ),
    )


def _output(kinds: str) -> Callable[[Decorated], Decorated]:
    return click.option(
        "-o",
        "--output",
        metavar="FILE",
        help=f"Write to FILE ({kinds} by its ending); - is standard output, which is the default.",
    )


QUESTION = (
    click.option("--group", "group_id", type=click.IntRange(min=0), required=True, metavar="ID", help="Group."),
    click.option("--deal", "deal_id", type=click.IntRange(min=0), required=True, metavar="ID", help="Deal."),
    click.option("--user-type", type=click.Choice(USER_TYPES), required=True, help="Whose cohorts."),
    click.option("--metric", required=True, metavar="NAME", help="What the amount is: revenue, gtv."),
    click.option("--freq", type=click.Choice(("M", "Q", "A")), help="Month, quarter or calendar year."),
    *_access("Termina"),
)


@click.group(no_args_is_help=True)
def fetch() -> None:
    """Tables as the vendors compute them, to lay beside your own.

    Keys come from the environment (TERMINA_API_KEY, ADAPTY_API_KEY), never from an option, where others could
    read them.
    """


@fetch.group("termina", no_args_is_help=True)
def of_termina() -> None:
    """Termina's product tables; the key is taken from TERMINA_API_KEY."""


@fetch.group("adapty", no_args_is_help=True)
def of_adapty() -> None:
    """Adapty's cohort table; the key is taken from ADAPTY_API_KEY."""


def _table(name: str, what: str) -> None:
    """Add the command for one of Termina's tables."""
    kinds = FORMATS if name != "concentration" else FORMATS[:1]
    shown = ", ".join(f".{kind}" for kind in kinds)

    def command(output: str | None, base_url: str | None, **settings: Any) -> None:  # noqa: ANN401
        kind = _kind(output, kinds)

        def ask() -> "pl.DataFrame | Concentration":
            from cohortlib import termina as tables

            call = getattr(tables, f"fetch_{name.replace('-', '_')}")
            with _quietly():
                found: pl.DataFrame | Concentration = call(**_given(settings, base_url))
            return found

        put(lambda: _written(ask(), kind), output, [])

    command.__doc__ = f"""Fetch {what}, in the fields of Termina's API.

    The key is taken from the environment variable TERMINA_API_KEY. Without -o, JSON is written to standard output.

    \b
    Example:
      cohortlib fetch termina {name} --group 1 --deal 1 --user-type business --metric revenue -o remote.json
    """
    options = (*QUESTION, _output(shown))
    of_termina.command(name, short_help=f"{what[0].upper()}{what[1:]}.")(decorated(command, options))


_table("cohorts", "one row per cohort and age")
_table("customer-cohorts", "one row per customer and age")
_table("user-accounting", "users who came, stayed and left, one row per period")
_table("growth-accounting", "how the amount grew and shrank, one row per period")
_table("concentration", "how much of the amount the largest users hold")


@of_adapty.command("cohort", short_help="The cohort table for a request of the API.")
@click.option("--request", required=True, metavar="FILE", help="The API's body, as JSON; - is standard input.")
@click.option("--timezone", metavar="ZONE", help="IANA zone in which days begin.  [default: the app's]")
@lambda command: decorated(command, (*_access("Adapty"), _output(".json, .csv")))
def cohort(request: str, output: str | None, base_url: str | None, **settings: Any) -> None:  # noqa: ANN401
    """Fetch the answer of Adapty's cohort API to a request.

    The key is taken from the environment variable ADAPTY_API_KEY. The answer is asked for and written as -o ends,
    else in the request's own format.

    \b
    Examples:
      cohortlib fetch adapty cohort --request request.json --timezone Europe/Berlin -o remote.json
      cohortlib fetch adapty cohort --request request.json -o remote.csv
    """
    with warnings_told():
        asked = Request.of(read_body(request))
    kind = _kind(output, ("json", "csv"), asked.format)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CohortlibWarning)  # which has been told
        asked = replace(asked, format=next(known for known in get_args(Format) if known == kind))

    def ask() -> "Answer | pl.DataFrame":
        from cohortlib.adapty import fetch_cohort

        with _quietly():
            return fetch_cohort(asked, **_given(settings, base_url))

    put(lambda: _written(ask(), kind), output, [request if request != "-" else None])


@contextmanager
def _quietly() -> Iterator[None]:
    """Say nothing of retries: what is printed is the table, or one line that says why there is none."""
    try:
        from stamina.instrumentation import get_on_retry_hooks, set_on_retry_hooks
    except ImportError:  # of which the call itself will tell
        yield
        return
    before = get_on_retry_hooks()
    set_on_retry_hooks([])
    try:
        yield
    finally:
        set_on_retry_hooks(before)


def _given(settings: dict[str, Any], base_url: str | None) -> dict[str, Any]:
    return settings if base_url is None else settings | {"base_url": base_url}


def _kind(output: str | None, kinds: Iterable[str], otherwise: str = "json") -> str:
    """Tell how to write by the ending of the file."""
    if output is None or output == "-":
        return otherwise
    kind = ending(output)
    if kind not in kinds:
        raise click.UsageError(f"-o {output}: the ending is none of {', '.join(f'.{one}' for one in kinds)}")
    return kind


def _written(found: "pl.DataFrame | Answer | Concentration", kind: str) -> Iterable[bytes]:
    import polars as pl

    if isinstance(found, pl.DataFrame):
        return encoded(found, kind)
    return [json.dumps(found.to_dict(), ensure_ascii=False, allow_nan=False).encode(), b"\n"]
