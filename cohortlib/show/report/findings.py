"""What a report tells: the table, what it was made from and how, and its headline numbers."""

from dataclasses import dataclass
from datetime import date
from functools import cached_property
from pathlib import Path

import polars as pl

from cohortlib.errors import recorded_warnings
from cohortlib.periods import date_of
from cohortlib.read.nulls import Dropped
from cohortlib.read.tables import Source
from cohortlib.show.plot.cells import Cells, read
from cohortlib.show.plot.curves import mean_by_age
from cohortlib.show.plot.drawing import PERIODS
from cohortlib.show.report.sheets import written
from cohortlib.show.text import Block, text
from cohortlib.termina.compute import cohort_table
from cohortlib.transactions.load import load
from cohortlib.transactions.settings import Settings
from cohortlib.transactions.store.prepared import Prepared, open_if_prepared

DEFINITIONS = Block(
    "Definitions",
    ("term", "what it is"),
    (
        ("period", "A calendar {unit}, by the local date of each row."),
        ("net", "The sum of a user's amounts in a period, refunds taken off."),
        ("active", "A user is active in a period where the net is above 0."),
        ("cohort", "The users whose first active period is the same; {joined}"),
        ("age", "Calendar {unit}s since the cohort's own, which is age 0."),
        ("cohort_size", "Users in the cohort."),
        ("cohort_size_amount", "The cohort's amount at age 0."),
        ("active_users", "Users of the cohort who are active at this age."),
        ("logo_retention", "active_users / cohort_size."),
        ("amount", "The sum of the active users' nets at this age{signed}."),
        ("amount_retention", "amount / cohort_size_amount; may exceed 100%."),
        ("ltv", "The sum of amount over the ages 0 to this one / cohort_size: money per user who started."),
        ("weighted", "Over cohorts that have finished the age: the sum of numerators / the sum of denominators."),
        ("blank", "Not reached yet, or a ratio whose denominator is 0; never a zero."),
    ),
    1,
)  # fmt: skip

MEANINGS = {
    "user": "Column of the user.",
    "timestamp": "Column of the instant.",
    "amount": "Column of the amount.",
    "freq": "Unit of periods: D day, W week, M month, Q quarter, A year.",
    "timezone": "Zone whose calendar cuts the instants that have a zone.",
    "week_start": "First day of a week, for freq W.",
    "refunds": "A period that nets to 0 or less: net counts as 0, signed keeps its sign, drop removes such rows first.",
    "joined": "Dates that make the cohorts, from outside.",
    "before_joined": "Activity before that date: an error, clipped to age 0, or dropped.",
    "start": "First cohort shown.",
    "end": "Last period counted; later rows are ignored.",
    "complete_only": "Leave out the last period where the rows end inside it.",
    "nulls": "Rows with a null: an error, or dropped and counted.",
    "decimals": "Places of money that are exact.",
}


@dataclass(frozen=True)
class Headline:
    """A number with its name, and what is to be known of it."""

    name: str
    value: str
    note: str = ""


@dataclass(frozen=True)
class Findings:
    """What was computed and from what.

    Attributes
    ----------
    table
        The cohort table.
    settings
        What was asked.
    source
        What the rows came from, in words; a file by its name alone.
    dropped
        How many rows there were, before a filter of what was prepared, and those with nulls.
    filtered
        Whether there is such a filter.
    first_day, last_day
        Local days of the first row kept and of the last of all.
    warned
        What was warned of on the way.
    """

    table: pl.DataFrame
    settings: Settings
    source: str
    dropped: Dropped
    filtered: bool
    first_day: date | None
    last_day: date | None
    warned: tuple[str, ...]

    @classmethod
    def of(cls, transactions: Source, settings: Settings) -> "Findings":
        """Compute the table and take note of the rest."""
        transactions = open_if_prepared(transactions)
        with recorded_warnings() as warned, load(transactions, settings, keep_users=False) as loaded:
            table = cohort_table(loaded)
            last = loaded.final_day if loaded.span else loaded.last_day
            return cls(
                table, settings, named(transactions), loaded.dropped,
                isinstance(transactions, Prepared) and transactions.predicate is not None,
                _day(loaded.first_day), _day(last), tuple(warned),
            )  # fmt: skip

    @property
    def unit(self) -> str:
        """What a period is called."""
        return PERIODS[self.settings.freq]

    @cached_property
    def cells(self) -> Cells:
        """The cells of the table, each with whether its period is over; there must be one.

        Raises
        ------
        DataError
            Where they are too many for pictures.
        """
        return read(self.table, _FIELDS, self.settings.freq, self.last_day)

    @cached_property
    def unfinished(self) -> dict[str, int]:
        """The first age of each cohort whose period is not over, for the cohorts that have one."""
        if self.table.is_empty():
            return {}
        found = self.cells.frame.filter("unfinished").group_by("cohort", maintain_order=True).agg(pl.col("age").min())
        return dict(found.iter_rows())

    @property
    def headlines(self) -> list[Headline]:
        """The numbers that stand above all others."""
        first = self.table.filter(period=0)
        users, amount = int(first["cohort_size"].sum()), float(self.table["amount"].sum())
        lines = [
            Headline("Users", f"{users:,}", f"in {first.height:,} cohort{'s' * (first.height != 1)}"),
            Headline("Rows", f"{self.dropped.rows:,}", self._rows_note),
            Headline("Amount", written(amount, "money"), "of all cohorts and ages shown"),
            Headline("First day", _told(self.first_day), "of the rows kept" * bool(self.first_day)),
            Headline("Last day", _told(self.last_day), f"its {self.unit} is not over" * bool(self.unfinished)),
        ]
        if not users:
            return lines
        lines.append(Headline("LTV to date", written(amount / users, "money"), "amount per user, all cohorts"))
        oldest = self.table.filter(cohort=first["cohort"][0])
        if oldest["ltv"][-1] is not None:
            note = f"cohort {oldest['cohort'][0]} at age {oldest['period'][-1]}"
            lines.append(Headline("LTV of the oldest cohort", written(oldest["ltv"][-1], "money"), note))
        for name, above, below in _RATIOS:
            means = mean_by_age(self.cells.frame, (pl.col(above), pl.col(below)))
            for row in means.filter(pl.col("age").is_in((1, *_LATER[self.settings.freq]))).iter_rows(named=True):
                age, count = row["age"], row["cohorts"]
                note = f"at age {age}, weighted over {count:,} cohort{'s' * (count != 1)}"
                lines.append(Headline(f"{name} at {_span(age, self.unit)}", written(row["mean"], "share"), note))
        return lines

    @property
    def _rows_note(self) -> str:
        if self.filtered:
            return "prepared, before the filter"
        return f"{self.dropped.count:,} dropped" if self.dropped.count else ""

    @property
    def rows(self) -> Block:
        """Where the rows went."""
        kept = self.dropped.rows - self.dropped.count
        lines = [("rows read", f"{self.dropped.rows:,}"), ("dropped for nulls", f"{self.dropped.count:,}")]
        lines += [(f"with a null in {text(name)}", f"{count:,}") for name, count in sorted(self.dropped.nulls.items())]
        lines.append(("rows kept, before the filter" if self.filtered else "rows kept", f"{kept:,}"))
        first = self.table.filter(period=0)
        lines += [
            ("users in cohorts", f"{first['cohort_size'].sum():,}"),
            ("cohorts", f"{first.height:,}"),
            ("rows of the cohort table", f"{self.table.height:,}"),
        ]
        return Block("Rows", ("what", "count"), tuple(lines), 1)

    @property
    def asked(self) -> Block:
        """The settings, those that are not the default marked."""
        default = Settings()
        lines = []
        for name, meaning in MEANINGS.items():
            value = getattr(self.settings, name)
            same = value is None if name == "joined" else value == getattr(default, name)
            lines.append((name, _written(name, value), "default" if same else "chosen", meaning))
        return Block("Settings", ("setting", "value", "is", "what it says"), tuple(lines), 4)

    @property
    def definitions(self) -> Block:
        """What the terms mean, under these settings."""
        words = {
            "unit": self.unit,
            "joined": "here: whose joined date is in the same period."
            if self.settings.joined is not None
            else "a user who never is active is in none.",
            "signed": ", and of the nets of the others, as refunds are signed" * (self.settings.refunds == "signed"),
        }
        rows = tuple((term, told.format_map(words)) for term, told in DEFINITIONS.rows)
        return Block(DEFINITIONS.title, DEFINITIONS.headers, rows, 2)


_FIELDS = ("cohort_size", "cohort_size_amount", "active_users", "logo_retention", "amount", "amount_retention", "ltv")
_RATIOS = (
    ("Logo retention", "active_users", "cohort_size"),
    ("Amount retention", "amount", "cohort_size_amount"),
)
_LATER: dict[str, tuple[int, ...]] = {"D": (7, 30), "W": (4, 12), "M": (6, 12), "Q": (4,), "A": ()}


def named(source: object) -> str:
    """Say what a source is, in a few words and without the folders it is in."""
    if isinstance(source, str | Path):
        return text(Path(source).name)
    if isinstance(source, Prepared):
        only = "" if source.predicate is None else f", rows where {source.predicate}"
        return text(f"{source.folder.name}, prepared{only}")
    kind = type(source)
    return f"a table in memory ({kind.__module__.partition('.')[0]} {kind.__qualname__})"


def _day(days: int | None) -> date | None:
    return None if days is None else date_of(days)


def _told(day: date | None) -> str:
    return "-" if day is None else day.isoformat()


def _span(age: int, unit: str) -> str:
    return f"{age} {unit}{'s' * (age != 1)}"


def _written(name: str, value: object) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return named(value) if name == "joined" else text(value)
