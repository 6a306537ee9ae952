"""The command line: one command per table, one option per setting, and files in and out.

`--help` is instant: the heavy modules (polars, numba, rich) are imported by the functions that use them.
"""

# ruff: noqa: D301 - \b is click's mark of a paragraph to leave as it is

import glob
import io
import re
import secrets
import shlex
import shutil
import sys
import traceback
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, TypeVar

import click

from cohortlib import __version__
from cohortlib.errors import CohortlibError, CohortlibWarning

if TYPE_CHECKING:
    import polars as pl

Decorated = TypeVar("Decorated", bound=Callable[..., Any])

FORMATS = ("csv", "json", "parquet")
WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
LOGO_AND_LTV = ("logo_retention", "ltv")
ROWS_SHOWN = 40
SLICE = 100_000


# --- failures: one line, exit code 2 ----------------------------------------------------------------------


class Failure(click.ClickException):
    """What went wrong, for a person."""

    exit_code = 2


class CommandLine(click.Group):
    """A group that tells every failure in one line on standard error and exits with 2."""

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        **extra: Any,  # noqa: ANN401
    ) -> Any:  # noqa: ANN401
        """Run as click does, but for how failures are told."""
        try:
            code = super().main(args, prog_name, complete_var, standalone_mode=False, **extra)
        except click.exceptions.NoArgsIsHelpError as asked:
            asked.show()
            code = 2
        except click.ClickException as error:
            click.echo(f"error: {one_line(error.format_message())}", err=True)
            code = 2
        except click.Abort:
            code = 130
        except OSError as error:  # of --help and --version, which click prints before there is a command
            click.echo(f"error: cannot write to standard output: {error.strerror or error}", err=True)
            code = 2
        if standalone_mode:
            sys.exit(code if isinstance(code, int) else 0)
        return code

    def invoke(self, ctx: click.Context) -> Any:  # noqa: ANN401
        """Run the command; turn what it raises into a Failure, under --debug with the traceback before it."""
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()  # a reader that has gone away is noticed here, and click ends quietly
        except (click.ClickException, click.Abort, click.exceptions.Exit, BrokenPipeError):
            raise
        except Exception as error:
            if ctx.params["debug"]:
                traceback.print_exc()
            if isinstance(error, CohortlibError):
                raise Failure(in_options(str(error))) from error
            kind = type(error).__name__
            raise Failure(f"unexpected {kind}: {error} (cohortlib --debug ... shows where)") from error
        return result


def one_line(text: str) -> str:
    """Put a message on one line, without what a terminal could act on."""
    return "".join(mark if mark.isprintable() else "?" for mark in " ".join(text.split()))


def in_options(message: str) -> str:
    """Say a message of the library in the words of the command line: `nulls='drop'` is `--nulls drop` here."""
    names = {param.name for command in termina.commands.values() for param in command.params}

    def option(found: re.Match[str]) -> str:
        name, value = found.groups()
        if name not in names:
            return found.group()
        return f"--{name.replace('_', '-')}" + (f" {shlex.quote(value)}" if value else "")

    return re.sub(r"\b([a-z_]+)=(?:'([^']*)')?", option, message)


@contextmanager
def warnings_told() -> Iterator[None]:
    """Print cohortlib's warnings as lines on standard error, and leave all others to Python."""
    with warnings.catch_warnings():
        warnings.simplefilter("always", CohortlibWarning)
        otherwise = warnings.showwarning

        def show(message: Warning | str, category: type[Warning], *where: Any) -> None:  # noqa: ANN401
            if issubclass(category, CohortlibWarning):
                click.echo(f"warning: {one_line(in_options(str(message)))}", err=True)
            else:
                otherwise(message, category, *where)

        warnings.showwarning = show  # type: ignore[assignment]
        yield


# --- options that the tables share ------------------------------------------------------------------------


def _one_source(ctx: click.Context, param: click.Parameter, sources: Sequence[str]) -> str:
    if len(sources) > 1:
        raise click.UsageError(
            f"one SOURCE expected, {len(sources)} given. Hint: put a glob in quotes, 'data/*.csv', "
            "so that the shell does not open it",
            ctx,
        )
    return sources[0]


def _choice(
    name: str, values: Sequence[str], default: str, help_text: str, metavar: str | None = None
) -> Callable[[Decorated], Decorated]:
    return click.option(
        name,
        type=click.Choice(values),
        default=default,
        show_default=True,
        metavar=metavar,
        help=help_text,
    )


SETTINGS = (
    click.argument("source", nargs=-1, required=True, metavar="SOURCE", callback=_one_source),
    click.option("--user", default="user_id", show_default=True, metavar="COLUMN", help="Who paid."),
    click.option("--timestamp", default="timestamp", show_default=True, metavar="COLUMN", help="When."),
    click.option("--amount", default="amount", show_default=True, metavar="COLUMN", help="How much."),
    _choice("--freq", ("D", "W", "M", "Q", "A"), "M", "Day, week, month, quarter or calendar year."),
    click.option(
        "--timezone",
        default="UTC",
        show_default=True,
        metavar="ZONE",
        help="IANA zone whose calendar counts, for instants that have a zone.",
    ),
    _choice("--week-start", WEEKDAYS, "monday", "First day of a week, for --freq W.", "WEEKDAY"),
    _choice(
        "--refunds",
        ("net", "signed", "drop"),
        "net",
        "Periods of a user that net to 0 or less: count as 0, keep their sign, or drop rows <= 0 first.",
    ),
    click.option(
        "--joined",
        metavar="COLUMN|FILE",
        help="Date each user joined, which makes the cohort: a column of SOURCE, or a file of user and date.",
    ),
    _choice(
        "--before-joined",
        ("error", "clip", "drop"),
        "error",
        "Activity before that date: an error, counted at age 0, or dropped.",
    ),
    click.option("--start", metavar="DATE", help="First cohort to keep: 2026, 2026Q1, 2026-01 or 2026-01-31."),
    click.option("--end", metavar="DATE", help="Last period to count, in the same forms."),
    click.option("--complete-only", is_flag=True, help="Leave out the last period if the data end inside it."),
    _choice("--nulls", ("error", "drop"), "error", "Rows without a user, a time or an amount."),
    click.option(
        "--decimals",
        type=click.IntRange(0, 9),
        default=6,
        show_default=True,
        help="Places to which amounts are exact.",
    ),
    click.option("--threads", type=click.IntRange(min=1), metavar="N", help="Threads to use.  [default: all cores]"),
)

OUTPUT = (
    click.option(
        "-o",
        "--output",
        metavar="FILE",
        help="Write the table to FILE (.csv, .json or .parquet by its ending); - is standard output.",
    ),
    click.option(
        "--format",
        "kind",
        type=click.Choice(FORMATS),
        help="Write as this, whatever the ending.  [default for standard output: csv]",
    ),
)


def settings_options(command: Decorated) -> Decorated:
    """Add SOURCE and every setting that all tables take."""
    return _decorated(command, SETTINGS)


def output_options(fields: Sequence[str], shown: Sequence[str]) -> Callable[[Decorated], Decorated]:
    """Add where the table goes, and which fields can be shown instead; `shown` are those of the default."""
    show = click.option(
        "--show",
        type=click.Choice(fields),
        multiple=True,
        help="Print triangles of these fields instead of the table (may be repeated).  "
        f"[default in a terminal without -o: {', '.join(shown)}]",
    )
    return lambda command: _decorated(command, (*OUTPUT, show))


def _decorated(command: Decorated, options: Sequence[Callable[[Decorated], Decorated]]) -> Decorated:
    for option in reversed(options):
        command = option(command)
    return command


# --- commands ---------------------------------------------------------------------------------------------


@click.group(cls=CommandLine, no_args_is_help=True, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, message="%(prog)s %(version)s")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
def cli(debug: bool) -> None:
    """Cohort tables from raw transactions, exact and offline.

    \b
    Start here:
      cohortlib demo
      cohortlib termina cohorts --help
    """


@cli.command()
def demo() -> None:
    """Compute the tables of a small real data set and show them."""
    from cohortlib.demo import show
    from cohortlib.terminal import console_for_output

    with writing("to standard output"):
        show(console_for_output())


@cli.group(no_args_is_help=True)
def termina() -> None:
    """Tables in the fields, names and order of Termina's API."""


@termina.command(short_help="One row per cohort and age.")
@settings_options
@output_options(("logo_retention", "ltv", "amount", "amount_retention", "active_users"), LOGO_AND_LTV)
def cohorts(
    source: str,
    output: str | None,
    kind: str | None,
    show: tuple[str, ...],
    **settings: Any,  # noqa: ANN401
) -> None:
    """Make one row per cohort and age from the transactions in SOURCE.

    SOURCE is a Parquet or CSV file, or a glob in quotes, with one row per payment: who, when, how much.

    The table is written to -o, or as CSV to standard output. In a terminal, without -o, its logo retention
    and ltv are printed as triangles instead (--show chooses others).

    \b
    Examples:
      cohortlib termina cohorts orders.csv --user customer --timestamp paid_at --amount usd
      cohortlib termina cohorts 'orders/*.parquet' --freq Q -o cohorts.csv
      cohortlib termina cohorts orders.parquet --format json | jq '.[0]'
      cohortlib termina cohorts orders.csv --show amount_retention | less -S
    """
    from cohortlib import termina as tables

    deliver(tables.cohorts, source, settings, output=output, kind=kind, show=show, shown=LOGO_AND_LTV)


@termina.command(short_help="One row per customer and age.")
@settings_options
@_choice(
    "--basis",
    ("single_customer", "cohort_total", "cohort_mean"),
    "single_customer",
    "What a customer is set against: itself, its cohort's total, or its cohort's mean.",
)
@_choice("--rows", ("dense", "active"), "dense", "Every age, or only those in which the customer was active.")
@click.option("--top-n", type=click.IntRange(min=1), metavar="N", help="Keep the N best customers.")
@click.option(
    "--rank-by",
    metavar="COLUMN",
    help="What is best: ltv, acv, cohort_size_amount or active_periods.  [default: acv + ltv]",
)
@output_options(("amount", "ltv", "logo_retention", "amount_retention"), ("amount",))
def customer_cohorts(
    source: str,
    output: str | None,
    kind: str | None,
    show: tuple[str, ...],
    **settings: Any,  # noqa: ANN401
) -> None:
    """Make one row per customer and age from the transactions in SOURCE.

    SOURCE is a Parquet or CSV file, or a glob in quotes, with one row per payment: who, when, how much.

    The table is written to -o, or as CSV to standard output. In a terminal, without -o, the amounts of
    the first customers are printed by age instead (--show chooses other fields).

    \b
    Examples:
      cohortlib termina customer-cohorts orders.csv --user customer --top-n 25
      cohortlib termina customer-cohorts 'orders/*.parquet' --basis cohort_total -o customers.parquet
      cohortlib termina customer-cohorts orders.csv --rows active --format json > customers.json
    """
    from cohortlib import termina as tables

    deliver(tables.customer_cohorts, source, settings, output=output, kind=kind, show=show, shown=("amount",))


# --- from a source to where the table goes ----------------------------------------------------------------


def deliver(
    compute: "Callable[..., pl.DataFrame]",
    source: str,
    settings: dict[str, Any],
    *,
    output: str | None,
    kind: str | None,
    show: Sequence[str],
    shown: Sequence[str],
) -> None:
    """Compute a table and write it; print triangles of it where that is asked for or a person is looking."""
    if show and (output or kind):
        raise click.UsageError("--show prints triangles: it goes with neither -o nor --format")
    looking = sys.stdout.isatty()
    if show or (looking and output is None and kind is None):
        table = computed(compute, source, settings)
        with writing("to standard output"):
            print_fields(table, show or shown, freq=settings["freq"], limit=ROWS_SHOWN if looking else None)
        return
    kind = kind or kind_of(output)
    if output is not None and output != "-":
        with writing(output), replacing(Path(output), [source, settings["joined"]]) as stream:
            pour(encoded(computed(compute, source, settings), kind), stream)
        return
    if looking and kind == "parquet":
        raise click.UsageError("Parquet is no text for a terminal. Hint: -o FILE.parquet")
    with writing("to standard output"):
        pour(encoded(computed(compute, source, settings), kind), sys.stdout.buffer)


def computed(compute: "Callable[..., pl.DataFrame]", source: str, settings: dict[str, Any]) -> "pl.DataFrame":
    """Compute a table, with a bar on standard error where it takes long and a person is looking."""
    with warnings_told():
        if not sys.stderr.isatty():
            return compute(source, **settings)
        from rich.console import Console

        from cohortlib.terminal import progress_bar

        with progress_bar(Console(stderr=True)) as progress:
            return compute(source, progress=progress, **settings)


def print_fields(table: "pl.DataFrame", fields: Sequence[str], *, freq: str, limit: int | None) -> None:
    """Print one triangle per field on standard output."""
    from cohortlib.terminal import console_for_output, print_line, print_triangle

    console = console_for_output()
    for index, field in enumerate(fields):
        if index:
            print_line(console)
        print_triangle(console, table, field, freq=freq, limit=limit)


def kind_of(output: str | None) -> str:
    """Tell the kind of a file by its ending."""
    if output is None or output == "-":
        return "csv"
    ending = Path(output).suffix.lower().removeprefix(".")
    if ending not in FORMATS:
        raise click.UsageError(f"-o {output}: the ending is none of .csv, .json, .parquet. Hint: --format csv")
    return ending


def encoded(table: "pl.DataFrame", kind: str) -> Iterator[bytes]:
    """Give a table as bytes, text by slices, so that it is never in memory a second time."""
    if kind == "parquet":
        buffer = io.BytesIO()
        table.write_parquet(buffer)
        yield buffer.getvalue()
        return
    for start in range(0, max(len(table), 1), SLICE):
        part = table.slice(start, SLICE)
        if kind == "csv":
            yield part.write_csv(include_header=start == 0).encode()
        else:
            yield (b"," if start else b"[") + part.write_json().encode()[1:-1]
    if kind == "json":
        yield b"]\n"


def pour(pieces: Iterable[bytes], stream: IO[bytes]) -> None:
    """Write all of the bytes: where Python runs unbuffered, one call may write a part and not say so."""
    for piece in pieces:
        rest = memoryview(piece)
        while rest:
            rest = rest[stream.write(rest) :]
    stream.flush()


@contextmanager
def writing(where: str) -> Iterator[None]:
    """Tell what cannot be written, and why; a reader that has gone away is no failure."""
    try:
        yield
    except (CohortlibError, BrokenPipeError):
        raise
    except OSError as error:
        raise Failure(f"cannot write {where}: {error.strerror or error}") from error


@contextmanager
def replacing(path: Path, sources: Sequence[str | None]) -> Iterator[IO[bytes]]:
    """Open a file beside `path` and put it in its place at the end, so that nobody reads half a file."""
    _refuse_own_source(path, sources)
    if path.exists() and not path.is_file():  # a device or a pipe has no place to be put in
        with path.open("wb") as stream:
            yield stream
        return
    path = path.resolve()  # behind a link, the file it names is the one to replace
    partial = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        with partial.open("xb") as stream:
            yield stream
        if path.exists():
            shutil.copymode(path, partial)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def _refuse_own_source(path: Path, sources: Sequence[str | None]) -> None:
    """Refuse to write over a file that the table is made from."""
    if not path.is_file():
        return
    for source in filter(None, sources):
        for name in (source, *glob.iglob(source, recursive=True)):
            if Path(name).is_file() and path.samefile(name):
                raise Failure(f"cannot write {path}: it is a file of the source {source}")
