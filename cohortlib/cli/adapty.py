"""The command of Adapty's cohort table: the request is a file, every convention an option."""

import json
import sys
from collections.abc import Iterable
from datetime import date
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import click

from cohortlib.adapty.conventions import CHOICES, Conventions
from cohortlib.adapty.request import Format, Request
from cohortlib.adapty.validation import read_day
from cohortlib.cli import options
from cohortlib.cli.cohorts import MOST_SEGMENTS, write_table
from cohortlib.cli.messages import Failure, printed_warnings
from cohortlib.cli.output import compute_with_progress, ending, is_terminal, row_limit, write_output, writing
from cohortlib.cli.termina import OUTPUT
from cohortlib.fields import VALUES
from cohortlib.read.paths import check_exist

if TYPE_CHECKING:
    import polars as pl

    from cohortlib.adapty import Answer


FORMATS: tuple[Format, ...] = get_args(Format)

# The counts of rows left out, and their names in messages.
LEFT_OUT = {
    "blank_lines": "blank lines", "header_lines": "repeated header lines",
    "superseded": "superseded by a later state", "sandbox": "sandbox", "other_events": "of events without money",
    "unknown_events": "of unknown events", "family_shared": "family-shared", "granted": "granted",
    "upgraded": "refunds for upgrades", "void": "ending before they start", "zero_payments": "free payments",
    "nulls": "with nulls", "after_to": "after the last day", "duplicates": "repeated",
}  # fmt: skip
COLUMNS = {"renewals": "number of the payment", "days": "day since the install"}


def _day(ctx: click.Context, param: click.Parameter, text: str | None) -> date | None:
    try:
        return None if text is None else read_day(text)
    except ValueError:
        raise click.BadParameter(f"{text!r} is not a date. Expected one such as 2026-01-31.", ctx, param) from None


def _event_types(ctx: click.Context, param: click.Parameter, pairs: tuple[str, ...]) -> dict[str, str] | None:
    types: dict[str, str] = {}
    for pair in pairs:
        name, mark, known = pair.rpartition("=")
        if not (mark and name and known):
            raise click.BadParameter(f"{pair!r}. Expected NAME=TYPE.", ctx, param)
        if types.setdefault(name, known) != known:
            raise click.BadParameter(f"{name!r} is mapped to {types[name]} and to {known}.", ctx, param)
    return types or None


def _convention(name: str, help_text: str, metavar: str | None = None) -> Any:
    values = ["yes" if value is True else "no" if value is False else str(value) for value in CHOICES[name]]
    return click.option(
        f"--{name.replace('_', '-')}", type=click.Choice(values), default=values[0], show_default=True,
        metavar=metavar, help=help_text,
    )  # fmt: skip


_INPUT_OPTIONS = (
    options.source("events", "EVENTS"),
    click.option(
        "--request", required=True, metavar="FILE", help="The request body of the API, as JSON; - is standard input."
    ),
    click.option(
        "--installs", metavar="FILE|from_events",
        help="A file of profile_id and install_date, or of install_date and installs (counts); from_events counts only "
        "the users seen in EVENTS.",
    ),
    options.setting(
        "timezone", "IANA time zone whose calendar counts. Dates are not converted; times without a zone are UTC."
    ),
    _convention("user_unit", "Column that identifies a user."),
    _convention("refund_upgraded", "Refunds for a switch to another product: ignored, or as any other refund."),
    _convention("period_number", "Number of a payment: its ordinal in its chain, or the column consecutive_payments."),
    _convention("restart_per_product", "Restart numbering with each product; auto: if products are filtered."),
    _convention("averages", "Money in ARPU and ARPAS, by renewals: up to the column, or of the column alone."),
    _convention("missing_money", "Payments without proceeds or net revenue: count these as 0, or refuse."),
    _convention("zero_payments", "Payments of revenue 0: count them as payments, or skip them."),
    _convention("ladder_age", "Ages of predictions: from the first day of a cohort's period, or from each install."),
    _convention("after_to", "Events after the request's last day: leave out all of them, or only refunds."),
    click.option(
        "--as-of", metavar="DATE", callback=_day,
        help="Day that decides whether a period is over.  [default: the request's last day]",
    ),
    _convention("week_start", "First day of a week.", "WEEKDAY"),
    click.option(
        "--event-type",
        "event_types",
        multiple=True,
        metavar="NAME=TYPE",
        callback=_event_types,
        help="Name of a renamed event type and Adapty's name of it: app_subscribed=subscription_started. Repeatable.",
    ),
    click.option("--products", metavar="FILE", help="A file of product_id and duration, such as Monthly."),
    options.NULLS, options.DECIMALS,
    *map(options.setting, ("timestamp_format", "decimal", "normalize", "encoding", "sheet", "storage_options")),
    options.THREADS, options.MAX_MEMORY,
)  # fmt: skip
OPTIONS = (
    *_INPUT_OPTIONS,
    click.option("--predict", is_flag=True, help="Predict each segment."),
    options.output_option("Write the answer to FILE (.json or .csv by its ending); - is standard output."),
    options.format_option(
        FORMATS, "Format of the answer, regardless of the file's ending.  [default: the request's format]"
    ),
)  # fmt: skip


@click.group(no_args_is_help=True)
def adapty() -> None:
    """Tables with the fields of Adapty's API."""


@adapty.command(short_help="The cohort table for a request of the API.")
@lambda command: options.decorated(command, OPTIONS)
@click.option("--by", metavar="COLUMN", help="One answer per value of a filter, such as country, or of any column.")
def cohort(
    events: str | list[str], request: str, installs: str | None, output: str | None, kind: str | None, by: str | None,
    **settings: Any,
) -> None:  # fmt: skip
    """Answer a request of Adapty's cohort API from the events in EVENTS.

    EVENTS is the S3/GCS event export (CSV or Parquet), webhook events (JSON) or RevenueCat's transactions (all
    deliveries together; the latest state of each transaction counts): files, also in .gz, .zst or .zip, folders, URLs,
    or globs in quotes.

    The answer is written to -o, or to standard output, as the API returns it. In a terminal, without -o, the values
    that the request selects (value_field, value_type, accounting_type) are printed as a table instead. Counts of rows
    left out are printed on standard error. With --by, CSV begins with a column of the values, and JSON is
    {"by": COLUMN, "answers": [{"value": VALUE, "data": [...]}, ...]}.

    \b
    Examples:
      cohortlib adapty cohort events.csv --installs installs.csv --request request.json -o answer.json
      cohortlib adapty cohort 'events/*.csv.gz' --installs from_events --request request.json --format csv
      cohortlib adapty cohort events.csv --installs installs.csv --request request.json --by country -o answers.json
      echo '{"filters": {"date": ["2026-01-01", "2026-06-30"]}}' |
        cohortlib adapty cohort events.csv --installs installs.csv --request - | jq '.data[0]'
    """
    body, settings, sources = _read_options(events, request, installs, settings)

    def answers() -> "dict[str | None, Answer]":
        check_exist(events)
        from cohortlib.adapty import cohort as compute

        computed: Any = compute_with_progress(compute, events, body, by=by, **settings)
        by_value: dict[str | None, Answer] = {None: computed} if by is None else computed
        for answer in islice(by_value.values(), 1):  # what was left out is the same for all values
            for line in report_lines(answer.report):
                click.echo(line, err=True)
        return by_value

    if is_terminal() and output is None and kind is None:
        with writing("to standard output"):
            _print_answers(answers(), by)
        return
    written_as = kind or format_of(output, body)

    def make() -> Iterable[bytes]:
        from cohortlib.adapty.answer import answers_to_csv, answers_to_json

        computed = answers()
        if by is None:
            text = computed[None].to_csv() if written_as == "csv" else computed[None].to_json()
        else:
            text = (answers_to_csv if written_as == "csv" else answers_to_json)(by, computed)
        return [text.rstrip("\n").encode(), b"\n"]

    write_output(make, output, sources)


@adapty.command(short_help="The users behind a cell of the cohort table.")
@lambda command: options.decorated(command, _INPUT_OPTIONS)
@click.option("--segment-start-date", metavar="DATE", help="First day of the segment.  [default: the "
              "total over all segments]")  # fmt: skip
@click.option("--period", required=True, type=click.IntRange(min=0), metavar="PERIOD",
              help="Number of the payment, or day since the install.")  # fmt: skip
@lambda command: options.decorated(command, OUTPUT)
def users(
    events: str | list[str], request: str, installs: str | None, output: str | None, kind: str | None,
    segment_start_date: str | None, period: int, **settings: Any,
) -> None:  # fmt: skip
    """List the users behind a cell of `cohortlib adapty cohort`, largest revenue first.

    The options are those that the answer was computed with.

    \b
    Examples:
      cohortlib adapty users events.csv --installs installs.csv --request request.json
        --segment-start-date 2026-02-01 --period 2
      cohortlib adapty users events.csv --installs from_events --request request.json --period 1 -o users.csv
    """
    body, settings, sources = _read_options(events, request, installs, settings)

    def compute() -> "pl.DataFrame":
        check_exist(events)
        from cohortlib.adapty import cohort

        answer: Answer = compute_with_progress(cohort, events, body, **settings)
        return answer.users(segment_start_date=segment_start_date, period=period)

    write_table(compute, output, kind, sources)


def _read_options(
    events: str | list[str], request: str, installs: str | None, settings: dict[str, Any]
) -> tuple[Request, dict[str, Any], list[Any]]:
    """Return the request, the settings as the function takes them, and the files that are read."""
    with printed_warnings():
        body = Request.of(read_body(request))
    chosen = {name: settings.pop(name) for name in (*CHOICES, "as_of")}
    chosen["restart_per_product"] = {"yes": True, "no": False}.get(chosen["restart_per_product"], "auto")
    settings |= {"conventions": Conventions(**chosen), "installs": installs}
    others = [installs if installs != "from_events" else None, request if request != "-" else None]
    return body, settings, [events, settings["products"], *others]


def read_body(path: str) -> dict[str, object]:
    """Read the body of a request from a JSON file, or from standard input if the path is -."""
    where = "standard input" if path == "-" else path
    try:
        data = sys.stdin.buffer.read() if path == "-" else Path(path).read_bytes()
    except OSError as error:
        raise Failure(f"cannot read {where}: {error.strerror or error}") from error
    try:
        body = json.loads(data, object_pairs_hook=_once)
    except json.JSONDecodeError as error:
        place = f"line {error.lineno}, column {error.colno}"
        raise Failure(f"{where} is not JSON: {error.msg} in {place}. Expected the request body of the API") from error
    except (ValueError, RecursionError) as error:
        raise Failure(f"{where} cannot be read as a request: {error}") from error
    if not isinstance(body, dict):
        raise Failure(
            f"{where} does not contain a JSON object. Expected the request body of the API, such as "
            '{"filters": {"date": ["2026-01-01", "2026-06-30"]}}'
        )
    return body


def _once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """Raise on a repeated name in an object, since either value could be meant."""
    body = dict(pairs)
    if len(body) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"{next(name for name in names if names.count(name) > 1)!r} occurs twice in one object")
    return body


def format_of(output: str | None, request: Request) -> Format:
    """Return the format to write: that of the file's ending, else that of the request."""
    extension = ending(output)
    if extension in ("parquet", "pq"):
        raise click.UsageError(f"-o {output}: Parquet is not supported. Expected JSON or CSV. Hint: -o FILE.json")
    return next((kind for kind in FORMATS if kind == extension), request.format)


def report_lines(report: dict[str, float]) -> list[str]:
    """Summarise the rows left out and the rows before the install; other counts have warnings of their own."""
    lines = []
    left = [f"{report[name]:,} {words}" for name, words in LEFT_OUT.items() if report[name]]
    if left:
        lines.append(f"left out of {report['rows']:,} rows: {', '.join(left)}")
    if report["before_install"]:
        lines.append(f"counted at the install: {report['before_install']:,} rows dated before it")
    return lines


def _print_answers(answers: "dict[str | None, Answer]", by: str | None) -> None:
    """Print the answer, or that of each value under its name."""
    from cohortlib.cli.terminal import console_for_output, print_line, print_prose

    if len(answers) > MOST_SEGMENTS:
        raise Failure(
            f"{by} has {len(answers):,} values. Expected at most {MOST_SEGMENTS} in a terminal. "
            "Hint: -o FILE.csv writes all of them"
        )
    console = console_for_output()
    for at, (value, answer) in enumerate(answers.items()):
        if at:
            print_line(console)
        if by is not None:
            print_prose(console, f"{by}: {value}")
        print_answer(answer, row_limit())


def print_answer(answer: "Answer", limit: int | None) -> None:
    """Print the values that the request selects: a line per segment, a column per period."""
    import polars as pl

    from cohortlib.adapty.answer import shown_field, shown_values
    from cohortlib.cli.terminal import Column, console_for_output, plain_columns, print_grid, print_prose, print_title

    request, console = answer.request, console_for_output()
    relative = request.value_type == "relative"
    name = shown_field(request)
    meaning = "% of the first column" if relative else VALUES[name].meaning
    print_title(console, f"{name}: {meaning}, by {COLUMNS[request.period_type]}")
    segments = answer.segments if limit is None else answer.segments.head(limit + 1)
    periods = answer.values["period"].unique().sort().to_list()
    cells = shown_values(answer.values, request).to_list()
    width = len(periods)
    grid = pl.DataFrame({str(period): cells[at::width][: len(segments)] for at, period in enumerate(periods)})
    names = [
        Column(["segment"], segments["title"].to_list(), left=True),
        Column(["installs"], [f"{count:,}" for count in segments["total_installs"]]),
    ]
    if segments["predict"].null_count() < len(segments):
        predicted = segments["predict"].struct.unnest().select("revenue_usd", "ltv_usd")
        names += plain_columns(predicted.rename(lambda name: f"predicted_{name.removesuffix('_usd')}"))
    unit = "day" if request.period_type == "days" else "period"
    print_grid(console, names, grid, write="{:.0f}".format if relative else None, unit=unit, plain=1)
    if not periods:
        print_prose(console, "(no periods: no payment counts)")
    if len(segments) < len(answer.segments):
        print_prose(console, f"(the first {limit:,} of {len(answer.segments) - 1:,} segments)")
