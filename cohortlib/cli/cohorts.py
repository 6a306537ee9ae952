"""The commands `cohortlib cohorts` and `cohortlib users`: the general table, and the users behind one of its cells."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from cohortlib.cli import options
from cohortlib.cli.output import compute_with_progress, is_terminal, row_limit, write_output, writing
from cohortlib.cli.termina import OUTPUT, as_prepared, encoded, format_of, output_options
from cohortlib.fields import COHORTS, SHOWN, by_age
from cohortlib.transactions import keywords

if TYPE_CHECKING:
    import polars as pl

MOST_SEGMENTS = 12
GENERAL_OPTIONS = (
    options.source("transactions", "TRANSACTIONS"),
    *options.settings(keywords.UsersKeywords),
    click.option("--no-amount", is_flag=True, help="Count activity without money: any row makes a user active."),
)


@click.command(short_help="Cohorts by segment, with any clock for ages.")
@lambda command: options.decorated(command, GENERAL_OPTIONS)
@click.option("--mean", is_flag=True, help="Average over the complete cohorts: a last line of each triangle, or with "
              "-o or in a pipe the table of averages.")  # fmt: skip
@output_options(COHORTS, SHOWN)
def cohorts(
    transactions: str | list[str], output: str | None, kind: str | None, show: tuple[str, ...], mean: bool,
    no_amount: bool, **settings: Any,
) -> None:  # fmt: skip
    """Compute one row per segment, cohort and age from TRANSACTIONS.

    TRANSACTIONS are Parquet, CSV, TSV, JSON lines or Excel files: paths, folders, URLs, or globs in quotes. They
    have one row per payment, with user, time and amount.

    The table is written to -o, or as CSV to standard output. In a terminal, without -o, triangles are printed instead,
    one per segment.

    \b
    Examples:
      cohortlib cohorts orders.csv --by country --mean
      cohortlib cohorts 'orders/*.parquet' --freq M --age 30d -o cohorts.csv
      cohortlib cohorts logins.csv --no-amount --retention unbounded
    """
    import cohortlib as cl

    settings = _settings(transactions, settings, no_amount=no_amount)
    sources = [transactions, settings["joined"], settings["users"], settings["calendar"]]
    write_or_print_segments(
        lambda: compute_with_progress(cl.cohorts, transactions, **settings), settings, output, kind, show, sources,
        mean=mean,
    )  # fmt: skip


def write_or_print_segments(
    compute: "Callable[[], pl.DataFrame]", settings: Mapping[str, Any], output: str | None, kind: str | None,
    show: tuple[str, ...], sources: Sequence[Any], *, mean: bool = False,
) -> None:  # fmt: skip
    """Compute a table and write it, or print triangles with --show or in a terminal."""
    import cohortlib as cl

    if show and (output or kind):
        raise click.UsageError("--show prints triangles and cannot be combined with -o or --format")
    if show or (is_terminal() and output is None and kind is None):
        with writing("to standard output"):
            table = compute()
            _print(table, show or tuple(name for name in SHOWN if name in table.columns), settings, mean=mean)
        return
    write_table(lambda: cl.summary(compute()) if mean else compute(), output, kind, sources)


@click.command(short_help="The users behind a cell of the cohort table.")
@lambda command: options.decorated(command, GENERAL_OPTIONS)
@click.option("--cohort", required=True, metavar="LABEL", help="Label of the cohort, such as 2026-01.")
@click.option("--period", required=True, type=click.IntRange(min=0), metavar="AGE", help="Age, 0 first.")
@click.option("--who", type=click.Choice(("active", "inactive", "all")), default="active", show_default=True,
              help="The active users of the cell, those who are not, or both.")  # fmt: skip
@click.option("--segment", multiple=True, metavar="COLUMN=VALUE", help="A value of a column of --by.  (repeatable)")
@lambda command: options.decorated(command, OUTPUT)
def users(
    transactions: str | list[str], output: str | None, kind: str | None, cohort: str, period: int, who: str,
    segment: tuple[str, ...], no_amount: bool, **settings: Any,
) -> None:  # fmt: skip
    """List the users behind a cell of `cohortlib cohorts`, largest amount first.

    The options are those that the table was computed with.

    \b
    Examples:
      cohortlib users orders.csv --cohort 2026-01 --period 3
      cohortlib users orders.csv --cohort 2026-01 --period 3 --who inactive -o left.csv
      cohortlib users orders.csv --cohort 2026-01 --period 3 --by country --segment country=DE
    """
    import cohortlib as cl

    settings = _settings(transactions, settings, no_amount=no_amount)
    pairs = [each.partition("=") for each in segment]
    if wrong := [name for name, mark, _ in pairs if not (name and mark)]:
        raise click.UsageError(f"--segment {wrong[0]} is not COLUMN=VALUE")
    cell: dict[str, Any] = {
        "cohort": cohort, "period": period, "active": {"active": True, "inactive": False, "all": None}[who],
        "segment": {name: value for name, _, value in pairs},
    }  # fmt: skip
    sources = [transactions, settings["joined"], settings["users"], settings["calendar"]]
    write_table(lambda: compute_with_progress(cl.users, transactions, **cell, **settings), output, kind, sources)


def _settings(transactions: str | list[str], settings: dict[str, Any], *, no_amount: bool) -> dict[str, Any]:
    """Return the settings as the functions take them."""
    settings = as_prepared(transactions, settings)
    return settings | {"amount": None} if no_amount else settings


def write_table(compute: Any, output: str | None, kind: str | None, sources: Sequence[Any]) -> None:
    """Write the table that `compute` returns, in the format of the option or of the file's ending."""
    written_as = kind or format_of(output)
    if written_as == "parquet" and output in (None, "-") and is_terminal():
        raise click.UsageError("Parquet cannot be printed in a terminal. Hint: -o FILE.parquet")

    def make() -> Iterable[bytes]:
        return encoded(compute(), written_as)

    write_output(make, output, sources)


def _print(table: "pl.DataFrame", fields: Sequence[str], settings: Mapping[str, Any], *, mean: bool) -> None:
    """Print the triangles of a table, for each segment under its name."""
    from cohortlib.cli.terminal import console_for_output, print_line, print_prose, print_triangle
    from cohortlib.show.averages import segments_of, split_segments

    console = console_for_output()
    freq = settings["age"] or settings["freq"]
    if missing := [field for field in fields if field not in table.columns]:
        raise click.UsageError(f"--show {missing[0]}: the table has {', '.join(by_age(COHORTS))} only with amounts")
    if table.is_empty() and segments_of(table):
        print_prose(console, "(no cohorts: no user is active in any period)")
        return
    segments = split_segments(table, MOST_SEGMENTS, "-o FILE.csv writes all of them") or {None: table}
    names = ", ".join(segments_of(table))
    for index, ((key, part), field) in enumerate((each, field) for each in segments.items() for field in fields):
        if index:
            print_line(console)
        if names:
            print_prose(console, f"{names}: {key if not isinstance(key, tuple) else ', '.join(map(str, key))}")
        print_triangle(console, part, field, freq=freq, limit=row_limit(), mean=mean)
