"""The command that lays two tables side by side."""

# ruff: noqa: D301 - \b is click's mark of a paragraph to leave as it is

import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING

import click

from cohortlib.cli.delivery import put, rows_shown, writing
from cohortlib.cli.failures import warnings_told
from cohortlib.cli.termina import encoded, kind_of

if TYPE_CHECKING:
    import polars as pl
    from rich.console import Console

    from cohortlib.compare.reconcile.compare import Report
    from cohortlib.compare.reconcile.pairing import Compared
    from cohortlib.show.text import Block


LINES = 20  # of a triangle that a person reads


def _tolerances(
    ctx: click.Context, param: click.Parameter, given: tuple[str, ...]
) -> dict[str, float | tuple[float, float]]:
    found: dict[str, float | tuple[float, float]] = {}
    for text in given:
        field, mark, sizes = text.partition("=")
        try:
            numbers = [float(size) for size in sizes.split(",")]
        except ValueError:
            numbers = []
        if not field or not mark or len(numbers) not in (1, 2):
            raise click.BadParameter(f"{text!r} is no tolerance; expected FIELD=ABS or FIELD=ABS,REL.", ctx, param)
        found[field] = numbers[0] if len(numbers) == 1 else (numbers[0], numbers[1])
    return found


TOLERANCES = click.option(
    "--tolerance",
    "tolerances",
    multiple=True,
    metavar="FIELD=ABS[,REL]",
    callback=_tolerances,
    help="How far the values of a field may lie apart: ABS, or REL times the remote value (may be repeated).",
)


@click.command(short_help="Compare two tables cell by cell.")
@click.argument("local")
@click.argument("remote")
@TOLERANCES
@click.option("--html", metavar="FILE", help="Write a page with both tables and their difference to FILE.")
@click.option(
    "-o",
    "--output",
    metavar="FILE",
    help="Write every cell with its outcome to FILE (.csv, .json or .parquet by its ending); - is standard output.",
)
@click.option(
    "--format",
    "kind",
    type=click.Choice(("text", "json")),
    default="text",
    show_default=True,
    help="Print the report as this.",
)
@click.pass_context
def reconcile(
    ctx: click.Context,
    local: str,
    remote: str,
    tolerances: dict[str, float | tuple[float, float]],
    html: str | None,
    output: str | None,
    kind: str,
) -> None:
    """Compare the tables of two files, LOCAL and REMOTE, cell by cell.

    The files are what this program writes and what the vendors send: Parquet, CSV or JSON. Rows are joined on their
    keys, whatever their order. Money may be 0.005 apart, ratios 1e-6, Adapty's percentages 1e-4; counts are equal.

    The exit code is 0 where all cells agree, 1 where some do not, 2 where the tables cannot be compared.

    \b
    Examples:
      cohortlib reconcile local.parquet remote.json
      cohortlib reconcile local.parquet remote.json --html page.html -o cells.csv
      cohortlib reconcile local.csv remote.csv --tolerance ltv=0.01 --tolerance amount=0.005,1e-9
      cohortlib reconcile local.json remote.json --format json | jq .sentence
    """
    written_as = kind_of(output) if output is not None else None
    with warnings_told():
        from cohortlib.compare.reconcile.compare import reconcile as compare

        report = compare(local, remote, tolerances=tolerances)
    sources = [local, remote]
    if html is not None:
        put(lambda: [report.to_html().encode()], html, sources)
    if output is not None and written_as is not None:
        put(lambda: encoded(report.cells, written_as), output, sources)
    if "-" not in (html, output):
        _print(report, kind)
    if not report.ok:
        ctx.exit(1)


def _print(report: "Report", kind: str) -> None:
    """Print a report on standard output."""
    if kind == "json":

        def make() -> Iterable[bytes]:
            return [report.to_json().encode(), b"\n"]

        put(make, None, [])
        return
    from cohortlib.cli.terminal import console_for_output

    with writing("to standard output"):
        print_report(console_for_output(), report, rows_shown())
        sys.stdout.flush()  # a reader that has gone away is noticed before the exit code is given


def print_report(console: "Console", report: "Report", limit: int | None) -> None:
    """Print the sentence, the tables of numbers, and the differences of the worst field by cohort and age."""
    from cohortlib.cli.terminal import print_line, print_prose
    from cohortlib.compare.reconcile import words
    from rich.text import Text  # isort: skip

    print_prose(console, Text(report.sentence, style="bold green" if report.ok else "bold red"))
    print_line(console)
    _print_block(console, words.summary_block(report.summary))
    for table in report.tables:
        if "period" in table.keys and table.agreeing < table.total:
            print_line(console)
            _print_triangle(console, table, report.differences, limit)
    for block in (
        words.cohorts_block(report.cohorts),
        words.cells_block(report.differences),
        words.rows_block(report.tables),
    ):
        if block:
            print_line(console)
            _print_block(console, block)
    for line in words.left_out(report.tables):
        print_prose(console, line)


def _print_block(console: "Console", block: "Block") -> None:
    from cohortlib.cli.terminal import Column, print_columns, print_title

    print_title(console, block.title)
    print_columns(
        console,
        [
            Column([header], cells, left=i < block.names)
            for i, (header, cells) in enumerate(zip(block.headers, block.columns, strict=True))
        ],
    )


def _print_triangle(console: "Console", table: "Compared", differences: "pl.DataFrame", limit: int | None) -> None:
    """Print the differences of one field: a line per cohort or customer, a column per age."""
    import polars as pl

    from cohortlib.cli.terminal import Column, print_fitting, print_prose, print_title
    from cohortlib.compare.reconcile.pairing import worst_lines
    from cohortlib.show import text as words

    if "table" in differences.columns:
        differences = differences.filter(pl.col("table") == table.name)
    measured = differences.filter(pl.col("difference").is_not_null())
    worst = (measured if measured.height else differences)["field"][0]
    field = next(field for field in table.fields if field.name == worst)
    lines = [key for key in table.keys if key != "period"]
    everything = pl.concat([table.local.select(lines), table.unpaired[1].select(lines)])
    chosen = worst_lines(everything, differences.select(lines), everything.height, LINES if limit is None else limit)
    cells = table.within(chosen).cells_of(field).sort(table.keys)
    names = cells.select(lines).unique(maintain_order=True)
    top = cells["difference"].abs().max()
    marks = {"only_local": "L", "only_remote": "R", "null_local": "null", "null_remote": "null", "match": "="}
    places = {name: i for i, name in enumerate(names.iter_rows())}
    columns = []
    for period in sorted(cells["period"].unique()):
        texts, shades = [""] * len(places), [None] * len(places)
        for row in cells.filter(pl.col("period") == period).iter_rows(named=True):
            at = places[tuple(row[key] for key in lines)]
            difference = row["difference"]
            told = row["outcome"] == "differ" and difference is not None
            texts[at] = words.number(difference) if told else marks.get(row["outcome"], "x")
            shades[at] = abs(difference) / top if told and top else None
        columns.append(Column([str(period)], texts, shades))
    print_title(console, f"{field.name}: local - remote, by period")
    heads = [Column([key], [words.short(name) for name in names[key]], left=True) for key in lines]
    print_fitting(console, heads, columns, "period")
    print_prose(console, "(= agrees, L only local has the row, R only remote, null on one side, x differs)")
    if (count := everything.n_unique()) > names.height:
        print_prose(console, f"(the worst {names.height:,} of {count:,})")
