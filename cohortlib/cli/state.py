"""The commands `cohortlib termina state`: a cohort table that is updated as rows arrive."""

from typing import TYPE_CHECKING, Any

import click

from cohortlib.cli.cohorts import write_or_print_segments
from cohortlib.cli.options import (
    EDGES_OPTIONS,
    FILES_OPTIONS,
    MAX_MEMORY,
    QUIET,
    STATE_OPTIONS,
    THREADS,
    decorated,
    source,
)
from cohortlib.cli.output import check_not_inside, compute_with_progress, reporting, writing
from cohortlib.cli.termina import output_options, write_or_print
from cohortlib.fields import COHORTS, SHOWN

if TYPE_CHECKING:
    import polars as pl


FOLDER = click.argument("folder", metavar="FOLDER")
BATCH = click.option(
    "--batch", metavar="NAME", help="Name of all these rows, such as 2026-01-31; else each file's path."
)
AGAIN = click.option(
    "--again", type=click.Choice(("error", "skip", "replace")), default="error", show_default=True,
    help="A batch that was added before: an error, skip the same content, or replace its rows.",
)  # fmt: skip


@click.group(no_args_is_help=True, short_help="A table that is updated as rows arrive.")
def state() -> None:
    """Store the rows of a cohort table in a folder, and update it as rows arrive.

    \b
    Every night:
      cohortlib termina state update shop/ 'orders/2026-01-31/*.parquet'
      cohortlib termina state cohorts shop/ -o cohorts.csv
    """


@state.command(short_help="Write the first rows.")
@lambda command: decorated(command, (source("transactions", "TRANSACTIONS"), FOLDER, *STATE_OPTIONS, BATCH, QUIET))
def build(transactions: str | list[str], folder: str, quiet: bool, **settings: Any) -> None:
    """Write TRANSACTIONS as a new state to FOLDER.

    TRANSACTIONS are Parquet, CSV, TSV, JSON lines or Excel files: paths, folders, URLs, or globs in quotes. They
    have one row per payment, with user, time and amount. The settings apply to all updates. An existing state is
    replaced once the new one is complete.

    \b
    Examples:
      cohortlib termina state build 'orders/*.parquet' shop/ --user customer --amount usd --freq W
      cohortlib termina state build 'orders/*.parquet' shop/ --by country --age 30d
    """
    from cohortlib.termina import State

    with writing(folder), reporting(quiet=quiet):
        check_not_inside(folder, [transactions])
        compute_with_progress(State.build, transactions, folder, **settings)


@state.command(short_help="Add rows.")
@FOLDER
@source("new_rows", "NEW_ROWS")
@lambda command: decorated(command, (BATCH, AGAIN, *FILES_OPTIONS, THREADS, MAX_MEMORY, QUIET))
def update(folder: str, new_rows: str | list[str], quiet: bool, **settings: Any) -> None:
    """Add the transactions in NEW_ROWS (files, folders, URLs, or globs in quotes) to the state in FOLDER.

    The update is atomic: FOLDER holds the old state until all rows are added, even after a crash. Late rows are
    allowed: if one makes a user's cohort earlier, the whole user moves to that cohort.

    Each file is a batch, with its path as name, and counts once: a file that was added before is an error, unless
    --again skips or replaces it.

    \b
    Examples:
      cohortlib termina state update shop/ orders-2026-01-31.csv
      cohortlib termina state update shop/ 'orders/*.csv' --again skip
    """
    from cohortlib.termina import State

    opened = State.open(folder)
    with writing(folder), reporting(quiet=quiet):
        check_not_inside(folder, [new_rows])
        compute_with_progress(opened.update, new_rows, **settings)


@state.command(short_help="Show what a state holds.")
@FOLDER
@click.option("--json", "as_json", is_flag=True, help="Write JSON.")
def info(folder: str, as_json: bool) -> None:
    """Show the batches, rows, users, days, settings and size of the state in FOLDER."""
    import json

    from cohortlib.termina import State

    found = State.open(folder).info()
    click.echo(json.dumps(found.to_dict(), indent=1, default=str) if as_json else str(found))


@state.command(short_help="Remove all rows of users.")
@FOLDER
@click.argument("users", nargs=-1, required=True, metavar="USER...")
@lambda command: decorated(command, (THREADS, MAX_MEMORY, QUIET))
def remove(folder: str, users: tuple[str, ...], quiet: bool, **settings: Any) -> None:
    """Remove all rows of each USER from the state in FOLDER; afterwards no file holds them.

    Users that the state does not have are ignored. Removed users come back if their rows are added again.
    """
    from cohortlib.termina import State

    opened = State.open(folder)
    ids = [int(user) if opened.has_integers and user.lstrip("-").isdecimal() else user for user in users]
    with writing(folder), reporting(quiet=quiet):
        opened.remove(ids, **settings)


@state.command(short_help="Compute the sums again.")
@FOLDER
@lambda command: decorated(command, (THREADS, MAX_MEMORY, QUIET))
def rebuild(folder: str, quiet: bool, **settings: Any) -> None:
    """Compute the sums of the state in FOLDER, and what it stores for each user, from all rows again."""
    from cohortlib.termina import State

    with writing(folder), reporting(quiet=quiet):
        State.open(folder).rebuild(**settings)


@state.command(short_help="Compute the table of all rows.")
@FOLDER
@lambda command: decorated(command, EDGES_OPTIONS)
@output_options(COHORTS, SHOWN)
def cohorts(folder: str, output: str | None, kind: str | None, show: tuple[str, ...], **settings: Any) -> None:
    """Compute one row per cohort and age from all rows of the state in FOLDER.

    The table is written as by `cohortlib termina cohorts`; for a state that was built with --by, --age or another
    option of `cohortlib cohorts`, as by that command.

    \b
    Examples:
      cohortlib termina state cohorts shop/ -o cohorts.csv
      cohortlib termina state cohorts shop/ --complete-only --show ltv
    """
    from cohortlib.termina import State

    opened = State.open(folder)
    if opened.table_settings is not None:
        write_or_print_segments(lambda: opened.cohorts(**settings), opened.table_settings, output, kind, show, [folder])
        return
    sums = opened.sums()

    def compute(_: str, *, progress: object = None, freq: str, joined: None, **edges: Any) -> "pl.DataFrame":
        return sums.cohorts(**edges)

    settings |= {"freq": sums.settings.freq, "joined": None}
    write_or_print(compute, folder, settings, output=output, kind=kind, show=show, shown=SHOWN)
