"""What :func:`cohortlib.inspect` returns."""

import shlex
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, TypeAlias

from cohortlib.errors import Arg, CohortlibError, CohortlibWarning
from cohortlib.show.text import short, text

Message: TypeAlias = CohortlibError | CohortlibWarning

_WIDEST = 32
_MOST_COLUMNS = 60


@dataclass(frozen=True)
class InspectedColumn:
    """A column of a source.

    Attributes
    ----------
    name
        Its name.
    type
        Its type, as polars names it.
    holds
        What the values are: instants, amounts, numbers or text.
    nulls
        The rows without a value, of those that were read.
    distinct
        The number of distinct values in the first rows; None for types that cannot be compared.
    example
        A value, as text.
    """

    name: str
    type: str
    holds: str
    nulls: int
    distinct: int | None
    example: str


@dataclass(frozen=True)
class Inspection:
    """What is in a source, and how to read it. ``print`` shows all of it.

    Attributes
    ----------
    source
        The path, glob, or type of the source.
    kind
        ``"CSV"``, ``"Parquet"``, ``"JSON lines"``, ``"Excel"``, ``"Delta"``, ``"Iceberg"`` or ``"frame"``.
    layout
        The separator and the encoding of text files.
    files, files_read
        The number of files, and of those that rows were read from.
    rows, rows_read
        The number of rows, or None if it is not known; and the rows that all statements are about.
    size
        Bytes of the files, or None.
    columns
        The columns that can be read.
    unreadable
        The other columns, each with the reason.
    vendor
        ``"Adapty"`` or ``"RevenueCat"`` if the columns are those of its export, else None.
    user, timestamp, amount
        The columns that are guessed; None where no column looks like it.
    settings
        The settings to pass, beside the defaults.
    first, last
        The first and the last instant; in UTC if instants have offsets.
    range_is_of_all
        Whether these are of all rows.
    has_offsets
        Whether instants have offsets from UTC.
    repeats
        The rows that are the same as an earlier one in all columns.
    warnings
        The doubts, as warnings.
    error
        The error that the table ends with, whatever the settings; None if there is none.
    path
        The source as the command takes it: a path, or a list of paths; None for others.
    rows_compared
        The rows in which distinct values were counted.
    request
        The request for Adapty's table, for a vendor's export.
    """

    source: str
    kind: str
    layout: tuple[str, ...]
    files: int
    files_read: int
    rows: int | None
    rows_read: int
    size: int | None
    columns: tuple[InspectedColumn, ...]
    unreadable: dict[str, str] = field(default_factory=dict)
    vendor: str | None = None
    user: str | None = None
    timestamp: str | None = None
    amount: str | None = None
    settings: dict[str, Any] = field(default_factory=dict)
    first: datetime | None = None
    last: datetime | None = None
    range_is_of_all: bool = False
    has_offsets: bool = False
    repeats: int | None = None
    warnings: tuple[CohortlibWarning, ...] = ()
    error: CohortlibError | None = None
    request: dict[str, Any] | None = None
    path: str | list[str] | None = None
    rows_compared: int = 0

    @property
    def doubts(self) -> list[str]:
        """What may be wrong, or needs a decision."""
        return [str(each) for each in self.warnings]

    @property
    def is_ready(self) -> bool:
        """Whether the guesses are complete, and the rows that were read are accepted with them."""
        if self.error is not None:
            return False
        return self.request is not None if self.vendor else None not in (self.user, self.timestamp, self.amount)

    @property
    def command(self) -> str | None:
        """The command to run; None for sources that are not files, and where :attr:`is_ready` is False."""
        if not self.is_ready or self.path is None:
            return None
        paths = [self.path] if isinstance(self.path, str) else self.path
        paths = [f"./{path}" if path.startswith("-") else path for path in paths]
        if self.vendor:
            import json

            body = shlex.quote(json.dumps(self.request))
            words = ["cohortlib", "adapty", "cohort", *paths, "--installs", "from_events", "--request", "-"]
            return f"echo {body} | {shlex.join([*words, *self._options()])}"
        return shlex.join(["cohortlib", "termina", "cohorts", *paths, *self._options()])

    def _options(self) -> list[str]:
        """Return the settings as options, without those that can hold secrets."""
        words: list[str] = []
        for name, value in self.settings.items():
            if name != "storage_options":
                option = f"--{name.replace('_', '-')}"
                words += [f"{option}={value}"] if str(value).startswith("-") else [option, str(value)]
        return words

    @property
    def call(self) -> str | None:
        """The call in Python; None where :attr:`is_ready` is False."""
        if not self.is_ready:
            return None
        source = repr(self.path) if self.path is not None else "source"
        shown = (f"{name}=..." if name == "storage_options" else str(Arg(name, value))
                 for name, value in self.settings.items())  # fmt: skip
        if self.vendor:
            arguments = ", ".join([source, repr(self.request), 'installs="from_events"', *shown])
            return f"cl.adapty.cohort({arguments})"
        return f"cl.termina.cohorts({', '.join([source, *shown])})"

    def __str__(self) -> str:
        return "\n".join(self.lines())

    def lines(self, write: Callable[[Message], str] = str) -> list[str]:
        """Return the lines of the text; `write` formats doubts and the error."""
        lines = [f"{text(self.source)}: {self._describe()}", f"read: {self._seen()}", ""]
        lines += self._columns()
        lines.append("")
        if self.vendor:
            lines.append(f"These are the columns of {self.vendor}.")
        else:
            for role in ("user", "timestamp", "amount"):
                column = getattr(self, role)
                lines.append(f"{role:<9}  {'no column looks like it' if column is None else text(column)}")
        if self.first is not None and self.last is not None:
            zone = " UTC" if self.has_offsets else ""
            of_all = " (all rows)" if self.range_is_of_all and self.rows != self.rows_read else ""
            lines.append(f"{'from':<9}  {_moment(self.first)} to {_moment(self.last)}{zone}{of_all}")
        if self.repeats:
            lines.append(f"{'repeated':<9}  {self.repeats:,} rows are the same as an earlier one in all columns")
        if self.warnings:
            lines += ["", "Doubts:", *(f"- {text(write(each))}" for each in self.warnings)]
        if self.error is not None:
            lines += ["", "The table ends with this error:", text(write(self.error))]
        if self.command is not None:
            lines += ["", "Run:", self.command]
        if self.call is not None:
            lines += ["", "In Python:", self.call]
        return lines

    def _describe(self) -> str:
        files = f"{self.files:,} {'file' if self.files == 1 else 'files'} of " if self.files > 1 else ""
        parts = [f"{files}{self.kind}", *self.layout]
        if self.size is not None:
            parts.append(_bytes(self.size))
        if self.rows is not None:
            parts.append("1 row" if self.rows == 1 else f"{self.rows:,} rows")
        return ", ".join(parts)

    def _seen(self) -> str:
        """Say which rows were read."""
        if self.rows == self.rows_read:
            return "all rows"
        if self.files < 2:
            return f"the first {self.rows_read:,} rows. What follows is about these"
        of = (
            f"all {self.files:,} files"
            if self.files == self.files_read
            else f"{self.files_read} of {self.files:,} files"
        )
        return f"{self.rows_read:,} rows, the first of {of}. What follows is about these"

    def _columns(self) -> list[str]:
        shown = self.columns[:_MOST_COLUMNS]
        rows = [
            (short(each.name, _WIDEST), _type(each.type), f"{each.nulls:,}",
             "-" if each.distinct is None else f"{each.distinct:,}", each.holds,
             short(each.example, _WIDEST))
            for each in shown
        ]  # fmt: skip
        distinct = "distinct" if self.rows_compared == self.rows_read else f"distinct in {self.rows_compared:,}"
        headers = ["column", "type", "nulls", distinct, "holds", "example"]
        widths = [max(len(row[at]) for row in [headers, *rows]) for at in range(len(headers))]
        lines = []
        for row in [headers, *rows]:
            cells = [cell.rjust(width) if at in (2, 3) else cell.ljust(width)
                     for at, (cell, width) in enumerate(zip(row, widths, strict=True))]  # fmt: skip
            lines.append("  ".join(cells).rstrip())
        if len(shown) < len(self.columns):
            lines.append(f"and {len(self.columns) - len(shown):,} more columns")
        if self.unreadable and not self.vendor:
            lines += [f"{short(name, _WIDEST)}: {text(reason)}" for name, reason in self.unreadable.items()]
        return lines


def _type(name: str) -> str:
    """Shorten the names of types with parameters: ``Datetime(time_unit='us', time_zone='UTC')``."""
    if name.startswith(("Enum", "Struct", "Categorical")):
        return name.partition("(")[0]
    if not name.startswith("Datetime"):
        return "Text" if name == "String" else name
    zone = name.partition("time_zone=")[2].rstrip(")").strip("'")
    return "Datetime" if zone in ("None", "") else f"Datetime {zone}"


def _moment(instant: datetime) -> str:
    """Format an instant, without a time at midnight."""
    return instant.strftime("%Y-%m-%d %H:%M").removesuffix(" 00:00")


def _bytes(size: int) -> str:
    for unit in ("bytes", "kB", "MB"):
        if size < 1000:
            return f"{size:,.0f} {unit}"
        size //= 1000
    return f"{size:,} GB"
