"""The command that compares two tables."""

import sys
from typing import TYPE_CHECKING

import click

from cohortlib.cli.messages import printed_warnings
from cohortlib.cli.options import output_option
from cohortlib.cli.output import row_limit, write_output, writing
from cohortlib.cli.termina import encoded, format_of

if TYPE_CHECKING:
    import polars as pl
    from rich.console import Console

    from cohortlib.compare.reconcile.compare import Report
    from cohortlib.compare.reconcile.pairing import ComparedTable
    from cohortlib.show.text import Block


LINES = 20  # of a triangle in a terminal


def _tolerances(
    ctx: click.Context, param: click.Parameter, texts: tuple[str, ...]
) -> dict[str, float | tuple[float, float]]:
    """Parse the values of --tolerance."""
    tolerances: dict[str, float | tuple[float, float]] = {}
    for text in texts:
        field, mark, sizes = text.partition("=")
        try:
            numbers = [float(size) for size in sizes.split(",")]
        except ValueError:
            numbers = []
        if not field or not mark or len(numbers) not in (1, 2):
            raise click.BadParameter(f"{text!r} is not a tolerance. Expected FIELD=ABS or FIELD=ABS,REL", ctx, param)
        tolerances[field] = numbers[0] if len(numbers) == 1 else (numbers[0], numbers[1])
    return tolerances


TOLERANCES = click.option(
    "--tolerance",
    "tolerances",
    multiple=True,
    metavar="FIELD=ABS[,REL]",
    callback=_tolerances,
    help="How far apart the values of a field may be: ABS, or REL times the remote value (may be repeated).",
)


@click.command(short_help="Compare two tables cell by cell.")
@click.argument("local")
@click.argument("remote")
@TOLERANCES
@click.option("--html", metavar="FILE", help="Write a page with both tables and their difference to FILE.")
@output_option(
    "Write every cell with its outcome to FILE (.csv, .json or .parquet by its ending); - is standard output."
)
@click.option(
    "--format",
    "kind",
    type=click.Choice(("text", "json")),
    default="text",
    show_default=True,
    help="Format of the printed report.",
)
@click.pass_context
def reconcile(
    ctx: click.Context, local: str, remote: str, tolerances: dict[str, float | tuple[float, float]],
    html: str | None, output: str | None, kind: str,
) -> None:  # fmt: skip
    """Compare the tables of two files, LOCAL and REMOTE, cell by cell.

    The files are Parquet, CSV or JSON, written by cohortlib or sent by a vendor. Rows are joined on their keys; their
    order does not matter. Money may differ by 0.005, ratios by 1e-6, Adapty's percentages by 1e-4; counts must be
    equal.

    The exit code is 0 if all cells agree, 1 if some differ, 2 if the tables cannot be compared.

    \b
    Examples:
      cohortlib reconcile local.parquet remote.json
      cohortlib reconcile local.parquet remote.json --html page.html -o cells.csv
      cohortlib reconcile local.csv remote.csv --tolerance ltv=0.01 --tolerance amount=0.005,1e-9
      cohortlib reconcile local.json remote.json --format json | jq .sentence
    """
    written_as = format_of(output) if output is not None else None
    with printed_warnings():
        from cohortlib.compare.reconcile.compare import reconcile as compare

        report = compare(local, remote, tolerances=tolerances)
    sources = [local, remote]
    if html is not None:
        write_output(lambda: [report.to_html().encode()], html, sources)
    if output is not None and written_as is not None:
        write_output(lambda: encoded(report.cells, written_as), output, sources)
    if "-" not in (html, output):
        _print(report, kind)
    if not report.ok:
        ctx.exit(1)


def _print(report: "Report", kind: str) -> None:
    if kind == "json":
        write_output(lambda: [report.to_json().encode(), b"\n"], None, [])
        return
    from cohortlib.cli.terminal import console_for_output

    with writing("to standard output"):
        print_report(console_for_output(), report, row_limit())
        sys.stdout.flush()  # so that a closed pipe is noticed before the exit code is set


def print_report(console: "Console", report: "Report", limit: int | None) -> None:
    """Print the sentence, the tables, and the differences of the worst field by cohort and age."""
    from cohortlib.cli.terminal import print_line, print_prose
    from cohortlib.compare.reconcile import describe
    from rich.text import Text  # isort: skip

    print_prose(console, Text(report.sentence, style="bold green" if report.ok else "bold red"))
    for line in describe.form_lines(report.forms):
        print_prose(console, line)
    print_line(console)
    _print_block(console, describe.summary_block(report.summary))
    for table in report.tables:
        if "period" in table.keys and table.agreeing < table.total:
            print_line(console)
            _print_triangle(console, table, report.differences, limit)
    for block in (
        describe.cohorts_block(report.cohorts),
        describe.cells_block(report.differences),
        describe.rows_block(report.tables),
    ):
        if block:
            print_line(console)
            _print_block(console, block)
    for line in describe.left_out(report.tables):
        print_prose(console, line)


def _print_block(console: "Console", block: "Block") -> None:
    from cohortlib.cli.terminal import Column, print_columns, print_title

    print_title(console, block.title)
    cells = enumerate(zip(block.headers, block.columns, strict=True))
    print_columns(console, [Column([header], column, left=i < block.names) for i, (header, column) in cells])


def _print_triangle(console: "Console", table: "ComparedTable", differences: "pl.DataFrame", limit: int | None) -> None:
    """Print the differences of the worst field: a line per cohort or customer, a column per age."""
    import polars as pl

    from cohortlib.cli.terminal import Column, print_fitting, print_prose, print_title
    from cohortlib.compare.reconcile.pairing import worst_lines
    from cohortlib.show.text import number, short

    if "table" in differences.columns:
        differences = differences.filter(pl.col("table") == table.name)
    numeric = differences.filter(pl.col("difference").is_not_null())
    worst = (numeric if numeric.height else differences)["field"][0]
    field = next(field for field in table.fields if field.name == worst)
    lines = [key for key in table.keys if key != "period"]
    all_lines = pl.concat([table.local.select(lines), table.unpaired[1].select(lines)])
    chosen = worst_lines(all_lines, differences.select(lines), all_lines.height, LINES if limit is None else limit)
    cells = table.within(chosen).cells_of(field).sort(table.keys)
    names = cells.select(lines).unique(maintain_order=True)
    top = cells["difference"].abs().max()
    marks = {"only_local": "L", "only_remote": "R", "null_local": "null", "null_remote": "null", "match": "="}
    positions = {name: i for i, name in enumerate(names.iter_rows())}
    columns = []
    for period in sorted(cells["period"].unique()):
        texts, shades = [""] * len(positions), [None] * len(positions)
        for row in cells.filter(pl.col("period") == period).iter_rows(named=True):
            at = positions[tuple(row[key] for key in lines)]
            difference = row["difference"]
            differs = row["outcome"] == "differ" and difference is not None
            texts[at] = number(difference) if differs else marks.get(row["outcome"], "x")
            shades[at] = abs(difference) / top if differs and top else None
        columns.append(Column([str(period)], texts, shades))
    print_title(console, f"{field.name}: local - remote, by period")
    heads = [Column([key], [short(name) for name in names[key]], left=True) for key in lines]
    print_fitting(console, heads, columns, "period")
    print_prose(console, "(= agrees, L only local has the row, R only remote has it, null on one side, x differs)")
    if (count := all_lines.n_unique()) > names.height:
        print_prose(console, f"(the worst {names.height:,} of {count:,})")
