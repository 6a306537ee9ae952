"""The commands `cohortlib termina state`: a cohort table that is updated as rows arrive."""

from typing import TYPE_CHECKING, Any

import click

from cohortlib.cli.options import EDGES_OPTIONS, FILES_OPTIONS, MAX_MEMORY, STATE_OPTIONS, THREADS, decorated, source
from cohortlib.cli.output import check_not_inside, compute_with_progress, writing
from cohortlib.cli.termina import output_options, write_or_print
from cohortlib.fields import COHORTS, SHOWN

if TYPE_CHECKING:
    import polars as pl


FOLDER = click.argument("folder", metavar="FOLDER")


@click.group(no_args_is_help=True, short_help="A table that is updated as rows arrive.")
def state() -> None:
    """Store the rows of a cohort table in a folder, and update it as rows arrive.

    \b
    Every night:
      cohortlib termina state update shop/ 'orders/2026-01-31/*.parquet'
      cohortlib termina state cohorts shop/ -o cohorts.csv
    """


@state.command(short_help="Write the first rows.")
@lambda command: decorated(command, (source("transactions", "TRANSACTIONS"), FOLDER, *STATE_OPTIONS))
def build(transactions: str | list[str], folder: str, **settings: Any) -> None:
    """Write TRANSACTIONS as a new state to FOLDER.

    TRANSACTIONS are Parquet, CSV, TSV, JSON lines or Excel files: paths, folders, URLs, or globs in quotes. They
    have one row per payment, with user, time and amount. The settings apply to all updates. An existing state is
    replaced once the new one is complete.

    \b
    Examples:
      cohortlib termina state build 'orders/*.parquet' shop/ --user customer --amount usd --freq W
    """
    from cohortlib.termina import State

    with writing(folder):
        check_not_inside(folder, [transactions])
        compute_with_progress(State.build, transactions, folder, **settings)


@state.command(short_help="Add rows.")
@FOLDER
@source("new_rows", "NEW_ROWS")
@lambda command: decorated(command, (*FILES_OPTIONS, THREADS, MAX_MEMORY))
def update(folder: str, new_rows: str | list[str], **settings: Any) -> None:
    """Add the transactions in NEW_ROWS (files, folders, URLs, or globs in quotes) to the state in FOLDER.

    The update is atomic: FOLDER holds the old state until all rows are added, even after a crash. Late rows are
    allowed: if one makes a user's cohort earlier, the whole user moves to that cohort.

    \b
    Examples:
      cohortlib termina state update shop/ orders-2026-01-31.csv
    """
    from cohortlib.termina import State

    opened = State.open(folder)
    with writing(folder):
        check_not_inside(folder, [new_rows])
        compute_with_progress(opened.update, new_rows, **settings)


@state.command(short_help="Compute the table of all rows.")
@FOLDER
@lambda command: decorated(command, EDGES_OPTIONS)
@output_options(COHORTS, SHOWN)
def cohorts(folder: str, output: str | None, kind: str | None, show: tuple[str, ...], **settings: Any) -> None:
    """Compute one row per cohort and age from all rows of the state in FOLDER.

    The table is written as by `cohortlib termina cohorts`.

    \b
    Examples:
      cohortlib termina state cohorts shop/ -o cohorts.csv
      cohortlib termina state cohorts shop/ --complete-only --show ltv
    """
    from cohortlib.termina import State

    sums = State.open(folder).sums()

    def compute(_: str, *, progress: object = None, freq: str, joined: None, **edges: Any) -> "pl.DataFrame":
        return sums.cohorts(**edges)

    settings |= {"freq": sums.settings.freq, "joined": None}
    write_or_print(compute, folder, settings, output=output, kind=kind, show=show, shown=SHOWN)
