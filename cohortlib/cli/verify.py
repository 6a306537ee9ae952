"""The command `cohortlib verify`: check a prepared form, a state or saved sums."""

from typing import Any

import click

from cohortlib.cli.options import THREADS, decorated


@click.command(short_help="Check a prepared form, a state or sums.")
@click.argument("path", metavar="PATH")
@lambda command: decorated(command, (THREADS,))
def verify(path: str, **settings: Any) -> None:
    """Check every file of the prepared form or state in the folder PATH, or a file of sums.

    Each file must have the checksum that was written, and hold what it can hold. Damaged files are listed with what
    can be rebuilt, and the command ends with 1.

    \b
    Examples:
      cohortlib verify prepared/
      cohortlib verify shop/
    """
    from cohortlib import verify as check

    found = check(path, **settings)
    click.echo(str(found))
    if not found.ok:
        raise click.exceptions.Exit(1)
