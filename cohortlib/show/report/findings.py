"""The contents of a report: the table, its source and settings, row counts, headline numbers and definitions."""

from dataclasses import dataclass
from datetime import date
from functools import cached_property
from pathlib import Path

import polars as pl

from cohortlib.errors import recorded_warnings
from cohortlib.fields import COHORTS, keys, quotients
from cohortlib.periods import date_of
from cohortlib.read.nulls import Dropped
from cohortlib.read.tables import Source
from cohortlib.read.urls import shown_path
from cohortlib.show.plot.cells import Cells, read
from cohortlib.show.plot.curves import average_by_age
from cohortlib.show.plot.drawing import PERIODS
from cohortlib.show.report.sheets import formatted
from cohortlib.show.text import Block, text
from cohortlib.termina.compute import cohort_table
from cohortlib.transactions.keywords import SETTINGS, Customer, Running, types
from cohortlib.transactions.load import load
from cohortlib.transactions.settings import Settings
from cohortlib.transactions.store.prepared import Prepared, open_if_prepared

_TERMS = {
    "period": "A calendar {unit}, by the local date of each row.",
    "net": "The sum of a user's amounts in a period; refunds are negative.",
    "active": "A user is active in a period if the net is above 0.",
    "cohort": "The users whose first active period is the same; {joined}",
    "age": "Calendar {unit}s since the cohort's own, which is age 0.",
}
_MORE_TERMS = {
    "weighted": "Over the cohorts that have completed the age: the sum of numerators / the sum of denominators.",
    "blank": "Not reached yet, or a ratio whose denominator is 0; never zero.",
}

_NOT_SHOWN = {*types(Running), *types(Customer)}  # settings without effect on the cohort table


@dataclass(frozen=True)
class Headline:
    """A number with its name and a note."""

    name: str
    value: str
    note: str = ""


@dataclass(frozen=True)
class Findings:
    """The cohort table, and what it was computed from."""

    table: pl.DataFrame
    settings: Settings
    source: str  # a short name, without folders
    dropped: Dropped  # the numbers of rows, before any filter on prepared data
    filtered: bool  # by a predicate on prepared data
    first_day: date | None  # of the rows kept
    last_day: date | None  # of the last row
    warnings: tuple[str, ...]

    @classmethod
    def of(cls, transactions: Source, settings: Settings) -> "Findings":
        """Compute the table and collect the rest."""
        transactions = open_if_prepared(transactions)
        with recorded_warnings() as warnings, load(transactions, settings, keep_users=False) as loaded:
            table = cohort_table(loaded)
            last = loaded.final_day if loaded.span else loaded.last_day
            return cls(
                table, settings, source_name(transactions), loaded.dropped,
                isinstance(transactions, Prepared) and transactions.predicate is not None,
                _day(loaded.first_day), _day(last), tuple(warnings),
            )  # fmt: skip

    @property
    def unit(self) -> str:
        """The name of a period, such as month."""
        return PERIODS[self.settings.freq]

    @cached_property
    def cells(self) -> Cells:
        """The cells of a table with rows; raise DataError if they are too many for charts."""
        fields = tuple(name for name in COHORTS if name not in keys(COHORTS))
        return read(self.table, fields, self.settings.freq, self.last_day)

    @cached_property
    def unfinished(self) -> dict[str, int]:
        """For each cohort with an unfinished period, the age of that period."""
        if self.table.is_empty():
            return {}
        cells = self.cells.frame.filter("unfinished")
        return dict(cells.group_by("cohort", maintain_order=True).agg(pl.col("age").min()).iter_rows())

    @property
    def headlines(self) -> list[Headline]:
        """The most important numbers."""
        first = self.table.filter(period=0)
        users, amount = int(first["cohort_size"].sum()), float(self.table["amount"].sum())
        lines = [
            Headline("Users", f"{users:,}", f"in {first.height:,} cohort{'s' * (first.height != 1)}"),
            Headline("Rows", f"{self.dropped.rows:,}", self._rows_note),
            Headline("Amount", formatted(amount, "money"), "of all cohorts and ages shown"),
            Headline("First day", _day_text(self.first_day), "of the rows kept" * bool(self.first_day)),
            Headline("Last day", _day_text(self.last_day), f"its {self.unit} is not over" * bool(self.unfinished)),
        ]
        if not users:
            return lines
        lines.append(Headline("LTV to date", formatted(amount / users, "money"), "amount per user, all cohorts"))
        oldest = self.table.filter(cohort=first["cohort"][0])
        if oldest["ltv"][-1] is not None:
            note = f"cohort {oldest['cohort'][0]} at age {oldest['period'][-1]}"
            lines.append(Headline("LTV of the oldest cohort", formatted(oldest["ltv"][-1], "money"), note))
        for field in quotients(COHORTS):
            name = COHORTS[field].title
            means = average_by_age(self.cells, field)
            for row in means.filter(pl.col("age").is_in((1, *_LATER[self.settings.freq]))).iter_rows(named=True):
                age, count = row["age"], row["cohorts"]
                note = f"at age {age}, weighted over {count:,} cohort{'s' * (count != 1)}"
                lines.append(Headline(f"{name} at {_span(age, self.unit)}", formatted(row["mean"], "share"), note))
        return lines

    @property
    def _rows_note(self) -> str:
        if self.filtered:
            return "prepared, before the filter"
        return f"{self.dropped.count:,} dropped" if self.dropped.count else ""

    @property
    def rows_block(self) -> Block:
        """The numbers of rows read, dropped and kept."""
        kept = self.dropped.rows - self.dropped.count
        lines = [("rows read", f"{self.dropped.rows:,}"), ("dropped for nulls", f"{self.dropped.count:,}")]
        nulls = sorted((name, count) for name, count in self.dropped.nulls.items() if count)
        lines += [(f"with a null in {text(name)}", f"{count:,}") for name, count in nulls]
        lines.append(("rows kept, before the filter" if self.filtered else "rows kept", f"{kept:,}"))
        first = self.table.filter(period=0)
        lines += [
            ("users in cohorts", f"{first['cohort_size'].sum():,}"),
            ("cohorts", f"{first.height:,}"),
            ("rows of the cohort table", f"{self.table.height:,}"),
        ]
        return Block("Rows", ("what", "count"), tuple(lines), 1)

    @property
    def settings_block(self) -> Block:
        """The settings, with a mark on those that differ from the default."""
        lines = []
        for name, setting in SETTINGS.items():
            if name in _NOT_SHOWN:
                continue
            value = getattr(self.settings, name)
            same = value is None if name == "joined" else value == setting.default
            lines.append((name, _setting_text(name, value), "default" if same else "chosen", setting.sentence))
        return Block("Settings", ("setting", "value", "is", "meaning"), tuple(lines), 4)

    @property
    def definitions_block(self) -> Block:
        """The meaning of each term under these settings."""
        words = {
            "unit": self.unit,
            "joined": "here: whose joined date is in the same period."
            if self.settings.joined is not None
            else "a user who is never active is in no cohort.",
        }
        fields = {name: _sentence(field.definition) for name, field in COHORTS.items() if not field.key}
        if self.settings.refunds == "signed":
            amount = COHORTS["amount"].definition
            fields["amount"] = _sentence(f"{amount}, and the nets of other users, as refunds are signed")
        terms = {term: text.format_map(words) for term, text in (_TERMS | fields | _MORE_TERMS).items()}
        return Block("Definitions", ("term", "meaning"), tuple(terms.items()), 2)


_NAMED = 3  # files of a list
_LATER: dict[str, tuple[int, ...]] = {"D": (7, 30), "W": (4, 12), "M": (6, 12), "Q": (4,), "A": ()}


def source_name(source: object) -> str:
    """Return a short name of a source, without folders."""
    if isinstance(source, str | Path):
        return text(Path(shown_path(str(source))).name)
    if isinstance(source, list | tuple):
        more = [f"{len(source) - _NAMED:,} more"] if len(source) > _NAMED else []
        return ", ".join([*map(source_name, source[:_NAMED]), *more])
    if isinstance(source, Prepared):
        only = "" if source.predicate is None else f", rows where {source.predicate}"
        return text(f"{source.folder.name}, prepared{only}")
    kind = type(source)
    return f"a table in memory ({kind.__module__.partition('.')[0]} {kind.__qualname__})"


def _day(days: int | None) -> date | None:
    return None if days is None else date_of(days)


def _day_text(day: date | None) -> str:
    return "-" if day is None else day.isoformat()


def _sentence(phrase: str) -> str:
    return f"{phrase[0].upper()}{phrase[1:]}."


def _span(age: int, unit: str) -> str:
    return f"{age} {unit}{'s' * (age != 1)}"


def _setting_text(name: str, value: object) -> str:
    if value is None:
        return "none"
    if name == "storage_options":  # their values can be keys
        return "not shown"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return source_name(value) if name == "joined" else text(value)
