"""The commands `cohortlib termina cohorts` and `customer-cohorts`: write tables, or print triangles."""

import io
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from cohortlib.cli import options
from cohortlib.cli.output import (
    check_not_input,
    check_not_inside,
    compute_with_progress,
    ending,
    is_terminal,
    row_limit,
    write_output,
    writing,
)
from cohortlib.engine.files import is_folder
from cohortlib.fields import COHORTS, CUSTOMER_COHORTS, SHOWN, Fields, by_age
from cohortlib.read.paths import check_exist
from cohortlib.transactions.keywords import Parsing, types

if TYPE_CHECKING:
    import polars as pl


FORMATS = ("csv", "json", "parquet")
PREPARED_WITH = ("user", "timestamp", "amount", "timezone", "decimals", *types(Parsing))
CUSTOMERS_SHOWN = ("amount",)
SLICE = 100_000

OUTPUT = (
    options.output_option("Write the table to FILE (.csv, .json or .parquet by its ending); - is standard output."),
    options.format_option(
        FORMATS, "Format of the table, regardless of the ending.  [default for standard output: csv]"
    ),
    options.SAFE_CELLS,
)


def settings_options(command: options.Decorated) -> options.Decorated:
    """Add TRANSACTIONS and the settings of every table."""
    return options.decorated(command, (options.source("transactions", "TRANSACTIONS"), *options.COHORTS_OPTIONS))


def output_options(fields: Fields, shown: Sequence[str]) -> Callable[[options.Decorated], options.Decorated]:
    """Add the options for where the table goes and which of its fields are shown; `shown` is the default."""
    show = click.option(
        "--show",
        type=click.Choice(tuple(by_age(fields))),
        multiple=True,
        help="Print triangles of these fields instead of the table (may be repeated).  "
        f"[default in a terminal without -o: {', '.join(shown)}]",
    )
    return lambda command: options.decorated(command, (*OUTPUT, show))


@click.group(no_args_is_help=True)
def termina() -> None:
    """Tables with the fields of Termina's API."""


@termina.command(short_help="One row per cohort and age.")
@settings_options
@options.MAX_MEMORY
@output_options(COHORTS, SHOWN)
def cohorts(
    transactions: str | list[str], output: str | None, kind: str | None, show: tuple[str, ...], **settings: Any
) -> None:
    """Compute one row per cohort and age from TRANSACTIONS.

    TRANSACTIONS are Parquet, CSV, TSV, JSON lines or Excel files: paths, folders, URLs, or globs in quotes. They
    have one row per payment, with user, time and amount.

    The table is written to -o, or as CSV to standard output. In a terminal, without -o, its logo retention
    and ltv are printed as triangles instead (--show selects other fields).

    \b
    Examples:
      cohortlib termina cohorts orders.csv --user customer --timestamp paid_at --amount usd
      cohortlib termina cohorts 'orders/*.parquet' --freq Q -o cohorts.csv
      cohortlib termina cohorts orders.parquet --format json | jq '.[0]'
      cohortlib termina cohorts orders.csv --show amount_retention | less -S
    """
    check_exist(transactions)
    from cohortlib import termina as tables

    write_or_print(tables.cohorts, transactions, settings, output=output, kind=kind, show=show, shown=SHOWN)


@termina.command(short_help="One row per customer and age.")
@settings_options
@lambda command: options.decorated(command, options.CUSTOMER_OPTIONS)
@options.MAX_MEMORY
@output_options(CUSTOMER_COHORTS, CUSTOMERS_SHOWN)
def customer_cohorts(
    transactions: str | list[str], output: str | None, kind: str | None, show: tuple[str, ...], max_memory: str | None,
    **settings: Any,
) -> None:  # fmt: skip
    """Compute one row per customer and age from TRANSACTIONS.

    TRANSACTIONS are Parquet, CSV, TSV, JSON lines or Excel files: paths, folders, URLs, or globs in quotes. They
    have one row per payment, with user, time and amount.

    The table is written to -o, or as CSV to standard output. In a terminal, without -o, the amounts of
    the first customers are printed by age instead (--show selects other fields). If -o is a folder (out/), the table
    is written as several Parquet files and may exceed memory.

    \b
    Examples:
      cohortlib termina customer-cohorts orders.csv --user customer --top-n 25
      cohortlib termina customer-cohorts 'orders/*.parquet' --basis cohort_total -o customers.parquet
      cohortlib termina customer-cohorts 'orders/*.parquet' --rows active -o customers/
      cohortlib termina customer-cohorts orders.csv --rows active --format json > customers.json
    """
    check_exist(transactions)
    from cohortlib import termina as tables

    if max_memory is not None and (output is None or not is_folder(output)):
        raise click.UsageError("--max-memory needs a folder as output. Hint: -o customers/")
    write_or_print(
        tables.customer_cohorts, transactions, settings,
        output=output, kind=kind, show=show, shown=CUSTOMERS_SHOWN,
        sink=partial(tables.sink_customer_cohorts, max_memory=max_memory),
    )  # fmt: skip


def write_or_print(
    compute: "Callable[..., pl.DataFrame]", transactions: str | list[str], settings: dict[str, Any], *,
    output: str | None, kind: str | None, show: Sequence[str], shown: Sequence[str],
    sink: Callable[..., None] | None = None,
) -> None:  # fmt: skip
    """Compute a table and write it, or print triangles with --show or in a terminal.

    If there is a `sink`, it computes and writes Parquet files in place of `compute`.
    """
    settings = as_prepared(transactions, settings)
    if show and (output or kind):
        raise click.UsageError("--show prints triangles and cannot be combined with -o or --format")
    if show or (is_terminal() and output is None and kind is None):
        with writing("to standard output"):
            table = compute_with_progress(compute, transactions, **settings)
            print_fields(table, show or shown, freq=settings["freq"], limit=row_limit())
        return
    folder = sink is not None and output is not None and is_folder(output)
    written_as = kind or ("parquet" if folder else format_of(output))
    if written_as == "parquet" and output in (None, "-") and is_terminal():
        raise click.UsageError("Parquet cannot be printed in a terminal. Hint: -o FILE.parquet")

    if folder and written_as != "parquet":
        raise click.UsageError(f"-o {output}: a folder takes Parquet, not {written_as}. Hint: -o FILE.{written_as}")
    sources = [transactions, settings["joined"]]
    if sink is not None and written_as == "parquet" and output is not None and output != "-":
        with writing(output):
            (check_not_inside if folder else check_not_input)(output, sources)
            compute_with_progress(sink, transactions, output, **settings)
        return

    def make() -> Iterable[bytes]:
        return encoded(compute_with_progress(compute, transactions, **settings), written_as)

    write_output(make, output, sources)


def as_prepared(transactions: str | list[str], settings: dict[str, Any]) -> dict[str, Any]:
    """For prepared TRANSACTIONS, read columns, time zone and decimals from its manifest unless the options are set."""
    check_exist(transactions)
    from cohortlib.transactions.store.prepared import Prepared, open_if_prepared

    rows = open_if_prepared(transactions)
    if not isinstance(rows, Prepared):
        return settings
    context = click.get_current_context()
    unset = [name for name in PREPARED_WITH if context.get_parameter_source(name) == ParameterSource.DEFAULT]
    return settings | {name: getattr(rows.manifest, name) for name in unset}


def print_fields(table: "pl.DataFrame", fields: Sequence[str], *, freq: str, limit: int | None) -> None:
    """Print one triangle per field on standard output."""
    from cohortlib.cli.terminal import console_for_output, print_line, print_triangle

    console = console_for_output()
    for index, field in enumerate(fields):
        if index:
            print_line(console)
        print_triangle(console, table, field, freq=freq, limit=limit)


def format_of(output: str | None) -> str:
    """Return the format of a file by its ending."""
    if output is None or output == "-":
        return "csv"
    if ending(output) not in FORMATS:
        raise click.UsageError(f"-o {output}: the ending is none of .csv, .json, .parquet. Hint: --format csv")
    return ending(output)


def encoded(table: "pl.DataFrame", kind: str) -> Iterator[bytes]:
    """Encode a table as bytes; text in slices, so that memory does not hold the whole text."""
    if kind == "parquet":
        buffer = io.BytesIO()
        table.write_parquet(buffer)
        yield buffer.getvalue()
        return
    for start in range(0, max(len(table), 1), SLICE):
        part = table.slice(start, SLICE)
        if kind == "csv":
            if options.has_safe_cells():
                part = safe_cells(part)
            yield part.write_csv(include_header=start == 0).encode()
        else:
            yield (b"," if start else b"[") + part.write_json().encode()[1:-1]
    if kind == "json":
        yield b"]\n"


def safe_cells(table: "pl.DataFrame") -> "pl.DataFrame":
    """Write an apostrophe before text that a spreadsheet would run as a formula."""
    import polars as pl

    return table.with_columns(pl.col(pl.String).str.replace(r"^([=+\-@\t\r])", "'${1}"))
