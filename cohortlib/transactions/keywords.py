"""The settings of calls on transactions, written once: name, type, default, values and a sentence.

The types are in groups (``Reading``, ``Rules``, ...). A call takes the groups it needs as
``**settings: Unpack[...]``, so type checkers know every keyword, and :func:`with_settings` lists them in its
signature, so ``help()`` and Sphinx show them too. :data:`SETTINGS` has the defaults; the command line makes its
options from it. Nothing heavy is imported here.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import TYPE_CHECKING, Any, Literal, ParamSpec, TypedDict, TypeVar, get_args

from cohortlib.errors import one_of
from cohortlib.literals import FREQS, WEEK_START, WEEKDAYS, Decimal, Freq, Normalize, Nulls
from cohortlib.signatures import list_settings

if TYPE_CHECKING:
    import polars as pl

    from cohortlib.engine.progress import Progress
    from cohortlib.read.tables import Source

Refunds = Literal["net", "signed", "drop"]
BeforeJoined = Literal["error", "clip", "drop"]
Basis = Literal["single_customer", "cohort_total", "cohort_mean"]
CustomerRows = Literal["dense", "active"]
Ids = Literal["text", "native"]
Retention = Literal["exact", "unbounded", "consecutive"]

_Arguments = ParamSpec("_Arguments")
_Result = TypeVar("_Result")


class Reading(TypedDict, total=False):
    """How the columns of a table are read."""

    user: str
    timestamp: str
    amount: str
    timezone: str
    nulls: Nulls
    decimals: int


class Parsing(TypedDict, total=False):
    """How text is read."""

    timestamp_format: str | None
    decimal: Decimal
    assume_zone: str | None
    normalize: Normalize | None


class Files(TypedDict, total=False):
    """How files are opened."""

    encoding: str | None
    sheet: str | int | None
    storage_options: dict[str, Any] | None


class Rules(TypedDict, total=False):
    """How rows become activity in periods."""

    freq: Freq
    week_start: str
    refunds: Refunds


class Joining(TypedDict, total=False):
    """Join dates, which set the cohorts of users."""

    joined: "Source | None"
    before_joined: BeforeJoined


class Edges(TypedDict, total=False):
    """The cohorts and periods of a table."""

    start: str | date | datetime | None
    end: str | date | datetime | None
    complete_only: bool


class Customer(TypedDict, total=False):
    """Which customers and ages a customer table has, and what it compares a customer with."""

    basis: Basis
    rows: CustomerRows
    top_n: int | None
    rank_by: "str | pl.Expr | None"


class SegmentColumns(TypedDict, total=False):
    """The columns of the transactions that split users into segments."""

    by: "str | Sequence[str]"
    split: "str | Sequence[str]"


class Segments(SegmentColumns, total=False):
    """The columns that split users into segments, also of a table of users."""

    users: "Source | None"


class Clocks(TypedDict, total=False):
    """Periods that are not those of the calendar, and ages that are not in the unit of `freq`."""

    age: str | None
    calendar: "Source | None"
    fiscal_start: int


class Counting(TypedDict, total=False):
    """Which users count at an age, further amounts, and intervals."""

    retention: Retention
    brackets: Sequence[int] | None
    amounts: "str | Sequence[str]"
    confidence: float | None


class Types(TypedDict, total=False):
    """The types of a customer table's columns."""

    ids: Ids


class Threads(TypedDict, total=False):
    """Threads to run on."""

    threads: int | None


class MemoryLimit(TypedDict, total=False):
    """A limit for memory."""

    max_memory: int | str | None


class Watching(TypedDict, total=False):
    """A callback for progress."""

    progress: "Progress | None"


class Running(Threads, Watching, MemoryLimit, total=False):
    """How a computation runs, without effect on its result."""


class PrepareKeywords(Reading, Parsing, Files, Running, total=False):
    """The settings of ``prepare``."""


class StateKeywords(Reading, Parsing, Files, Rules, Running, total=False):
    """The settings of ``State.build``."""


class TableStateKeywords(StateKeywords, SegmentColumns, Clocks, Counting, total=False):
    """The settings of ``State.build``, those of the general table among them."""


class UpdateKeywords(Files, Running, total=False):
    """The settings of ``State.update``."""


class SumsKeywords(StateKeywords, Joining, total=False):
    """The settings of ``sums``."""


class CohortsKeywords(SumsKeywords, Edges, total=False):
    """The settings of ``cohorts`` and ``report``."""


class AccountingKeywords(StateKeywords, Edges, total=False):
    """The settings of ``user_accounting``, ``growth_accounting`` and ``concentration``."""


class ReadingTable(Reading, total=False):
    """How the columns of a table are read, if there may be no amounts."""

    amount: str | None  # type: ignore[misc]


class TableSumsKeywords(
    ReadingTable, Parsing, Files, Running, Rules, Joining, Segments, Clocks, Counting, total=False
):  # fmt: skip
    """The settings of the sums of the general table."""


class UsersKeywords(TableSumsKeywords, Edges, total=False):
    """The settings of the general table and of its users."""


class CustomerKeywords(Reading, Parsing, Files, Rules, Joining, Edges, Customer, Types, Threads, Watching, total=False):
    """The settings of ``customer_cohorts``."""


class SinkKeywords(CustomerKeywords, MemoryLimit, total=False):
    """The settings of ``sink_customer_cohorts``: all settings."""


@dataclass(frozen=True)
class Setting:
    """A setting of calls on transactions."""

    name: str  # the keyword; the command line's option is --name
    default: object
    sentence: str  # what it does, for the command line and the report
    values: tuple[Any, ...] = ()  # the values it can take, if they can be listed
    metavar: str | None = None  # the placeholder for its value in the command line's help
    least: int | None = None  # the smallest number it can be
    default_text: str | None = None  # what the default None means, for the command line's help

    def check(self, value: object) -> None:
        """Raise SettingError unless a value is one of :attr:`values`."""
        if self.values and not (value is None and self.default is None):
            one_of(self.name, value, self.values)


SETTINGS = {setting.name: setting for setting in (
    Setting("user", "user_id", "Column of the user.", metavar="COLUMN"),
    Setting("timestamp", "timestamp", "Column of the date or time.", metavar="COLUMN"),
    Setting("amount", "amount", "Column of the amount; refunds are negative.", metavar="COLUMN"),
    Setting("freq", "M", "Unit of periods: D day, W week, M month, Q quarter, A calendar year.", FREQS),
    Setting("timezone", "UTC", metavar="ZONE",
            sentence="IANA time zone whose calendar counts. Dates, and times without a zone, are not converted."),
    Setting("week_start", WEEK_START, "First day of a week, for the unit W.", WEEKDAYS, "WEEKDAY"),
    Setting("refunds", "net", values=get_args(Refunds),
            sentence="Periods of a user that net to 0 or less: count 0, keep the sign, or drop rows <= 0 first."),
    Setting("joined", None, "Join date of each user, which sets the cohort: a column, or a table of users and dates.",
            metavar="COLUMN|FILE"),
    Setting("before_joined", "error", "Activity before the join date: an error, clip to age 0, or drop.",
            get_args(BeforeJoined)),
    Setting("start", None, "First cohort to show: 2026, 2026Q1, 2026-01 or 2026-01-31.", metavar="DATE"),
    Setting("end", None, "Last period to use, in the same forms; later rows are ignored.", metavar="DATE"),
    Setting("complete_only", False, "Leave out the periods that are not over by the last row.", (True, False)),
    Setting("basis", "single_customer",
            "What a customer is compared with: itself, its cohort's total, or its cohort's mean.", get_args(Basis)),
    Setting("rows", "dense", "Every age, or only ages with activity.", get_args(CustomerRows)),
    Setting("top_n", None, "Keep the N customers that rank highest.", metavar="N", least=1, default_text="all"),
    Setting("rank_by", None, "Column to rank by: ltv, acv, cohort_size_amount or active_periods.", metavar="COLUMN",
            default_text="acv + ltv"),
    Setting("ids", "text", values=get_args(Ids),
            sentence="Users and cohorts as text, or users as integers where they are and cohorts as enumeration."),
    Setting("nulls", "error", "Rows without a user, a time or an amount: an error, or drop them.", get_args(Nulls)),
    Setting("timestamp_format", None, metavar="FORMAT", default_text="ISO 8601",
            sentence="Form of dates in text: a format such as %d/%m/%Y, or epoch_s, epoch_ms, epoch_us, excel."),
    Setting("decimal", ".", "Decimal mark of amounts in text.", get_args(Decimal), "MARK"),
    Setting("assume_zone", None, "IANA time zone of dates and times without an offset.", metavar="ZONE"),
    Setting("normalize", None, "User ids in text: strip blanks around them, or casefold too.", get_args(Normalize)),
    Setting("encoding", None, "Encoding of text files, such as latin-1 or cp1252.", metavar="NAME",
            default_text="UTF-8, or UTF-16 with its mark"),
    Setting("sheet", None, "Sheet of an Excel file: its name, or its number from 1.", metavar="SHEET"),
    Setting("storage_options", None, metavar="KEY=VALUE",
            sentence="Options of the store for URLs, such as aws_region=eu-central-1, which polars hands on."),
    Setting("decimals", 6, "Decimal places of money that are exact.", tuple(range(10)), "N"),
    Setting("threads", None, "Threads to use.", metavar="N", least=1, default_text="all cores"),
    Setting("progress", None, "Function to call with the rows done and all rows."),
    Setting("max_memory", None, "Memory to use, such as 4GB or 512MiB; more rows go to temporary files.",
            metavar="SIZE", default_text="60 % of free memory"),
)}  # fmt: skip
"""The settings of Termina's tables by name, in the order of signatures and of the command line's help."""

TABLE_SETTINGS = {setting.name: setting for setting in (
    Setting("by", (), "Column of the segment, which has a table of its own (repeatable).", metavar="COLUMN"),
    Setting("split", (), "Column whose values are computed each as if no others were there (repeatable).",
            metavar="COLUMN"),
    Setting("users", None, "Table with one row per user, for columns of --by.", metavar="FILE"),
    Setting("age", None, "Unit of ages: D, W, M, Q, A, or days since each user's first, such as 7d or 30d.",
            metavar="UNIT", default_text="that of --freq"),
    Setting("calendar", None, "Table of first days and labels of periods, in place of --freq.", metavar="FILE"),
    Setting("fiscal_start", 1, "Month in which years and quarters begin, for --freq Q and A.", tuple(range(1, 13)),
            "MONTH"),
    Setting("retention", "exact",
            "Who counts at an age: active at it, at it or later, or at every age up to it.", get_args(Retention)),
    Setting("brackets", None, "First ages of brackets, such as 0,1,3,7; the last one is open.", metavar="AGES"),
    Setting("amounts", (), "Further column of amounts to sum up (repeatable).", metavar="COLUMN"),
    Setting("confidence", None, "Level of intervals, such as 0.95.", metavar="LEVEL"),
)}  # fmt: skip
"""The settings that only the general table has."""

ALL_SETTINGS = SETTINGS | TABLE_SETTINGS


def types(group: type) -> dict[str, object]:
    """Return the types of a group's settings by name, in the order of :data:`ALL_SETTINGS`."""
    annotations = group.__annotations__
    return {name: annotations[name] for name in ALL_SETTINGS if name in annotations}


def with_settings(function: Callable[_Arguments, _Result]) -> Callable[_Arguments, _Result]:
    """List the settings that a function takes as ``**settings: Unpack[Group]`` in its signature, with defaults."""
    hints = dict.fromkeys(TABLE_SETTINGS, "cl.cohorts and cl.sums take it")
    return list_settings(function, {name: setting.default for name, setting in ALL_SETTINGS.items()}, hints)
