"""Print tables in a terminal: triangles, shaded if the terminal has colours, and a progress bar for long work.

All text is ASCII except for what comes from the data, so it is safe in any terminal, pipe or log.
"""

import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import polars as pl
from rich.cells import cell_len, set_cell_size
from rich.color import Color
from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.style import Style
from rich.text import Text

from cohortlib.fields import COHORTS, CUSTOMER_COHORTS, Field
from cohortlib.show.averages import mean_values
from cohortlib.show.triangle import MEAN, pivot

UNITS = {"D": "days", "W": "weeks", "M": "months", "Q": "quarters", "A": "years"}

# From the fixed 256 colours, light to dark: they look the same in every terminal that has them.
SHADES = (255, 153, 110, 68, 25, 18)
DARK_FROM = 4
NO_WIDTH = 1_000_000
ELLIPSIS = ".."
WIDEST_NAME = 16

COUNTS = ("", "k", "M", "bn")
BYTES = ("B", "kB", "MB", "GB", "TB")
WIDTH_FOR_BYTES = 76


@dataclass(frozen=True)
class Column:
    """A column of text under its header lines. A shade is between 0 (light) and 1 (dark), or None."""

    header: Sequence[str]
    cells: Sequence[str]
    shades: Sequence[float | None] = ()
    left: bool = False
    at_least: int = 0

    @property
    def width(self) -> int:
        """The width of its widest line in terminal columns."""
        return max(self.at_least, *(cell_len(text) for text in (*self.header, *self.cells)))


def printable(text: str) -> str:
    """Replace control characters, which names from the data may contain, by question marks."""
    return "".join(character if character.isprintable() else "?" for character in text)


def print_triangle(
    console: Console, table: pl.DataFrame, field: str, *, freq: str = "M", limit: int | None = None, mean: bool = False
) -> None:
    """Print one field of a cohort or customer table: a line per cohort or customer, a column per age.

    Ages that do not fit the console's width are left out, except the last one, and a line below lists them. Rows beyond
    `limit` are left out too. A blank is not observed yet; `-` has no value, because its denominator is 0. `mean` adds a
    line of averages over complete cohorts.
    """
    fields = CUSTOMER_COHORTS if "user_id" in table.columns else COHORTS
    unit = UNITS.get(freq, "periods")
    print_title(console, f"{field}: {_meaning(fields[field])}, by age in {unit}")
    if table.is_empty():
        print_prose(console, "(no cohorts: no user is active in any period)")
        return
    keys = [name for name in ("cohort", "user_id") if name in table.columns]
    rows = table.group_by(keys, maintain_order=True).agg(
        pl.col("period").max().alias("last_age"), pl.col("^cohort_size$").first()
    )
    shown = rows if limit is None else rows.head(limit)
    grid: pl.DataFrame = pivot(table.join(shown, on=keys, how="semi"), field)
    write = (lambda value: f"{100 * value:.0f}") if fields[field].kind == "share" else None
    names, last = _name_columns(shown), shown["last_age"].to_list()
    if mean:
        means = mean_values(table, field, None)
        row = {age: means.get(int(age)) for age in grid.drop(keys).columns}
        grid = pl.concat([grid, pl.DataFrame([row | {"cohort": MEAN}])], how="diagonal_relaxed")
        last = [*last, max(means, default=-1)]
        names = [replace(each, cells=[*each.cells, MEAN if at == 0 else ""]) for at, each in enumerate(names)]
    print_grid(console, names, grid.drop(keys), write=write, last=last)
    if len(shown) < len(rows):
        kind = "customers" if "user_id" in keys else "cohorts"
        print_prose(console, f"(the first {len(shown):,} of {len(rows):,} {kind})")


def _meaning(field: Field) -> str:
    """Return what a field is; shares are printed as percentages without the sign."""
    if field.kind != "share":
        return field.meaning
    share = field.meaning.removeprefix("share of ")
    return f"{field.meaning}, in %" if share == field.meaning else f"% of {share}"


def print_grid(
    console: Console, names: Sequence[Column], grid: pl.DataFrame, *,
    write: Callable[[float], str] | None = None, unit: str = "age", last: Sequence[int] | None = None, plain: int = 0,
) -> None:  # fmt: skip
    """Print a table of numbers, shaded, with the names of the lines to the left.

    Columns that do not fit the console's width are left out, except the last one, and a line below lists them. In each
    line the columns after its `last` one are blank. The first `plain` lines hold totals and have no shade.
    """
    print_fitting(console, names, _cell_columns(grid, write or _writer(grid), last, plain), unit)


def print_fitting(console: Console, names: Sequence[Column], cells: Sequence[Column], unit: str = "age") -> None:
    """Print as many columns as fit, the last one included, and list those left out in a line below."""
    fitting = _fitting(names, cells, console.width)
    print_columns(console, [*names, *fitting])
    if fitting != list(cells):
        missing = _missing(fitting, cells, unit)
        print_prose(console, f"({missing} not shown: {_width([*names, *cells])} columns needed)")


def plain_columns(rows: pl.DataFrame) -> list[Column]:
    """Format a few rows of a table; long column names take two lines."""
    return [
        Column(_header(name), [_written(value) for value in rows[name]], left=rows.schema[name] == pl.String)
        for name in rows.columns
    ]


def print_columns(console: Console, columns: Sequence[Column]) -> None:
    """Print columns next to each other, right-aligned under their headers unless they are marked `left`."""
    depth = max(len(column.header) for column in columns)
    coloured = console.color_system in {"256", "truecolor"} and not console.no_color
    for index in range(depth):
        heads = [
            _padded(("",) * (depth - len(column.header)) + tuple(column.header), index, column) for column in columns
        ]
        print_line(console, Text(" ".join(heads).rstrip(), style="bold"))
    for index in range(len(columns[0].cells)):
        line = Text()
        for place, column in enumerate(columns):
            text = _padded(column.cells, index, column)
            shade = column.shades[index] if column.shades and coloured else None
            # the blank between two cells belongs to the right one, so that shades touch
            line.append(f" {text}" if place else text, _style(shade))
        line.rstrip()
        print_line(console, line)


def print_title(console: Console, text: str) -> None:
    """Print the line above a table."""
    print_prose(console, Text(text, style="bold"))


def print_line(console: Console, line: Text | str = "") -> None:
    """Print one line as it is: no wrapping, no markup, no highlights."""
    console.print(line, markup=False, highlight=False, soft_wrap=True)


def print_prose(console: Console, text: Text | str) -> None:
    """Print text, wrapped at spaces to the console's width; no markup, no highlights."""
    console.print(text, markup=False, highlight=False)


def console_for_output() -> Console:
    """Open a console on standard output. A pipe or a file has no width, so nothing is left out."""
    wide = None if sys.stdout.isatty() or "COLUMNS" in os.environ else NO_WIDTH
    return Console(width=wide)


@contextmanager
def progress_bar(
    console: Console, what: str = "rows", delay: float = 0.5, size: int | None = None
) -> Iterator[Callable[[int, int], None]]:
    """Yield a callable for (done, total) that shows a progress bar once `delay` seconds have passed.

    The bar shows how many `what` are done, the speed and the remaining time; with `size` also the bytes done,
    estimated from the fraction done, if the console is wide enough.
    """
    in_bytes = [] if size is None or console.width < WIDTH_FOR_BYTES else [_DoneBytes(size)]
    columns = [TextColumn(what), BarColumn(20), _Done(), *in_bytes, _Rate(), TimeRemainingColumn()]
    bar = Progress(*columns, console=console, transient=True)
    task = bar.add_task(what, total=None)
    started = time.monotonic()

    def report(done: int, total: int) -> None:
        bar.update(task, completed=done, total=total)
        if done < total and time.monotonic() - started >= delay:
            bar.start()

    try:
        yield report
    finally:
        if bar.live.is_started:
            bar.stop()


class _Done(ProgressColumn):
    """What is done, of the total: ``12.3/200.0 M``."""

    def render(self, task: Task) -> Text:
        return Text(_share(task.completed, task.total, COUNTS))


class _DoneBytes(ProgressColumn):
    """The same in bytes: ``1.2/3.4 GB``."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self._size = size

    def render(self, task: Task) -> Text:
        return Text(_share(self._size * task.completed / (task.total or 1), self._size, BYTES))


class _Rate(ProgressColumn):
    """The speed per second: ``4.1 M/s``."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{_amount(speed, speed, COUNTS)}/s")


def _share(done: float, total: float | None, units: Sequence[str]) -> str:
    if total is None:
        return _amount(done, done, units)
    number, _, unit = _amount(done, total, units).partition(" ")
    return f"{number}/{_amount(total, total, units).partition(' ')[0]}{' ' if unit else ''}{unit}"


def _amount(value: float, largest: float, units: Sequence[str]) -> str:
    """Format a number in the unit that fits the largest."""
    step = next((at for at in range(len(units) - 1) if largest < 1000 ** (at + 1)), len(units) - 1)
    return f"{value / 1000**step:,.{1 if step else 0}f} {units[step]}".rstrip()


def _cell_columns(
    grid: pl.DataFrame, write: Callable[[float], str], last: Sequence[int] | None, plain: int
) -> list[Column]:
    low, high = _range(grid.slice(plain))
    columns: list[Column] = []
    for name in grid.columns:
        cells: list[str] = []
        shades: list[float | None] = []
        for line, value in enumerate(grid[name].to_list()):
            observed = last is None or int(name) <= last[line]
            cells.append("" if not observed else "-" if value is None else write(value))
            shaded = value is not None and line >= plain
            shades.append(min(max((value - low) / (high - low), 0.0), 1.0) if shaded else None)
        columns.append(Column([name], cells, shades))
    # All columns have one width; only the first may be wider, since it often holds 100 and the others do not.
    widest = max((column.width for column in columns[1:]), default=0)
    return [replace(column, at_least=widest) for column in columns]


def _range(grid: pl.DataFrame) -> tuple[float, float]:
    """Return the values of the lightest and the darkest shade.

    The first column, often 100 % in every line, would make the others pale. It counts only if it is the only one.
    """
    values = grid.select(grid.columns[1:] or grid.columns).select(pl.all().cast(pl.Float64))
    lows = [low for low in values.min().row(0) if low is not None] if values.width else []
    highs = [high for high in values.max().row(0) if high is not None] if values.width else []
    low, high = (min(lows), max(highs)) if lows else (0.0, 1.0)
    return low, (high if high > low else low + 1.0)


def _writer(grid: pl.DataFrame) -> Callable[[float], str]:
    """Return how to format numbers: as counts, or as amounts with or without cents."""
    if all(dtype.is_integer() for dtype in grid.dtypes):
        return lambda value: f"{value:,}"
    largest = max((abs(value) for column in grid for value in column if value is not None), default=0)
    places = 2 if largest < 10_000 else 0
    return lambda value: f"{value:,.{places}f}"


def _name_columns(rows: pl.DataFrame) -> list[Column]:
    """Return the columns left of the ages: the cohort, and its number of users or the customer."""
    columns = [Column(["cohort"], rows["cohort"].to_list(), left=True)]
    if "user_id" in rows.columns:
        columns.append(Column(["user_id"], [_short(user) for user in rows["user_id"]], left=True))
    elif "cohort_size" in rows.columns:
        columns.append(Column(["users"], [f"{size:,}" for size in rows["cohort_size"]]))
    return columns


def _fitting(names: Sequence[Column], cells: Sequence[Column], width: int) -> list[Column]:
    """Return the columns that fit: the first ones and the last, which holds the oldest cohort's latest value."""
    if _width([*names, *cells]) <= width or len(cells) < 3:
        return list(cells)
    gap = Column([ELLIPSIS], [ELLIPSIS if cell else "" for cell in cells[-1].cells])
    first = len(cells) - 2
    while first > 1 and _width([*names, *cells[:first], gap, cells[-1]]) > width:
        first -= 1
    return [*cells[:first], gap, cells[-1]]


def _missing(fitting: Sequence[Column], cells: Sequence[Column], unit: str) -> str:
    first, last = (cells[at].header[0] for at in (len(fitting) - 2, len(cells) - 2))
    return f"{unit} {first}" if first == last else f"{unit}s {first} to {last}"


def _width(columns: Sequence[Column]) -> int:
    return sum(column.width + 1 for column in columns) - 1


def _padded(texts: Sequence[str], index: int, column: Column) -> str:
    blank = " " * (column.width - cell_len(texts[index]))
    return texts[index] + blank if column.left else blank + texts[index]


def _style(shade: float | None) -> Style:
    if shade is None:
        return Style.null()
    step = min(int(shade * len(SHADES)), len(SHADES) - 1)
    text = Color.from_ansi(231 if step >= DARK_FROM else 16)  # white or black of the same fixed colours
    return Style(color=text, bgcolor=Color.from_ansi(SHADES[step]))


def _header(name: str) -> list[str]:
    """Split a long name after its last underscore."""
    head, mark, tail = name.rpartition("_")
    return [head + mark, tail] if len(name) > 8 and head else [name]


def _written(value: object) -> str:
    if value is None:
        return "-"
    return f"{value:,.2f}" if isinstance(value, float) else _short(str(value))


def _short(name: str) -> str:
    """Shorten a long name to leave room for the ages."""
    name = printable(name)
    if cell_len(name) <= WIDEST_NAME:
        return name
    return set_cell_size(name, WIDEST_NAME - len(ELLIPSIS)) + ELLIPSIS
