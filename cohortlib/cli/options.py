"""Options that more than one command takes."""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import click

Decorated = TypeVar("Decorated", bound=Callable[..., Any])

WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")


def decorated(command: Decorated, options: Sequence[Callable[[Decorated], Decorated]]) -> Decorated:
    """Add options to a command, the first one first."""
    for option in reversed(options):
        command = option(command)
    return command


def choice(
    name: str, values: Sequence[str], default: str, help_text: str, metavar: str | None = None
) -> Callable[[Decorated], Decorated]:
    """Make an option that takes one of some words."""
    return click.option(
        name,
        type=click.Choice(values),
        default=default,
        show_default=True,
        metavar=metavar,
        help=help_text,
    )


def source(name: str, metavar: str) -> Callable[[Decorated], Decorated]:
    """Make the argument that is a file or a glob, and say what happened where the shell opened the glob."""

    def one(ctx: click.Context, param: click.Parameter, given: Sequence[str]) -> str:
        if len(given) > 1:
            raise click.UsageError(
                f"one {metavar} expected, {len(given)} given. Hint: put a glob in quotes, 'data/*.csv', "
                "so that the shell does not open it",
                ctx,
            )
        return given[0]

    return click.argument(name, nargs=-1, required=True, metavar=metavar, callback=one)


def timezone(naive: str) -> Callable[[Decorated], Decorated]:
    """Add --timezone, and say what becomes of times without a zone."""
    return click.option(
        "--timezone",
        default="UTC",
        show_default=True,
        metavar="ZONE",
        help=f"IANA zone whose calendar counts. Dates stand as they are, and times without a zone {naive}.",
    )


COLUMNS = (
    click.option("--user", default="user_id", show_default=True, metavar="COLUMN", help="Who paid."),
    click.option("--timestamp", default="timestamp", show_default=True, metavar="COLUMN", help="When."),
    click.option("--amount", default="amount", show_default=True, metavar="COLUMN", help="How much."),
)
NULLS = choice("--nulls", ("error", "drop"), "error", "Rows without a user, a time or an amount.")
DECIMALS = click.option(
    "--decimals",
    type=click.IntRange(0, 9),
    default=6,
    show_default=True,
    metavar="N",
    help="Places to which amounts are exact.",
)
THREADS = click.option(
    "--threads", type=click.IntRange(min=1), metavar="N", help="Threads to use.  [default: all cores]"
)
MAX_MEMORY = click.option(
    "--max-memory",
    metavar="SIZE",
    help="Memory to take, such as 4GB or 512MiB; more rows go to temporary files.  [default: 60 % of what is free]",
)
