"""Count what is wrong in a whole source, once a batch of it has been refused, and say what would read it."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from cohortlib.engine.kernels.instants import BAD, DATE, NAIVE, NULL, ZONED
from cohortlib.errors import Arg, DataError, Text
from cohortlib.read.amounts import beyond_range
from cohortlib.read.arrays import physical, value_text
from cohortlib.read.formats import GUESSES, NUMBERS, TIMES, compile_format
from cohortlib.read.ids import NULL_WORDS, clean_ids, most_common
from cohortlib.read.instants import assume_zone, outside, read_instants
from cohortlib.read.nulls import Dropped
from cohortlib.read.tables import Locate
from cohortlib.read.text import is_text, parse_instants, parse_units
from cohortlib.read.transactions import Columns

_MOST_TEXTS = 10_000  # distinct texts that formats are tried on
_PLAUSIBLE = (7_305, 47_482)  # days from 1990 to 2100: numbers that are other days since an epoch are not suggested
_SUGGESTED = 3
_CORRECT = "correct the rows, or make the field empty"
_NO_DATE = ("0000-00-00", "0000-00-00 00:00:00")  # as MySQL writes it


def find_faults(batches: Iterable[pl.DataFrame], columns: Columns, locate: Locate) -> DataError | None:
    """Read a source, and return the error for its values with counts over all rows; None if all can be read."""
    faults = Faults(columns)
    for batch in batches:
        faults.add(batch)
    return faults.error(locate)


def date_formats() -> list[str]:
    """List the formats of dates to try, alone and with times."""
    return [day + time for day in GUESSES for time in TIMES if "%S" not in day or not time]


def fitting(texts: pl.Series, name: str | None) -> NDArray[np.bool_]:
    """Return which texts a format reads as an instant of the years 1990 to 2100."""
    instants = parse_instants(texts, compile_format(name))
    days = instants.ticks // 86_400_000_000
    plausible = (days >= _PLAUSIBLE[0]) & (days <= _PLAUSIBLE[1])
    return np.asarray((instants.kinds != BAD) & (instants.kinds != NULL) & plausible)


def fitting_formats(texts: Mapping[str, int], current: str | None) -> Text:
    """Say which formats read how many of some values that are not dates, given the count of each text."""
    column = pl.Series(list(texts), dtype=pl.String)
    counts = np.array(list(texts.values()), np.int64)
    fits: Counter[str] = Counter()
    for name in [*date_formats(), *NUMBERS]:
        if name != current and (good := fitting(column, name)).any():
            fits[name] = int(counts[good].sum())
    total = int(counts.sum())
    parts: list[str | Arg] = []
    for name, count in fits.most_common(_SUGGESTED):
        note = next((f" ({words})" for day, words in GUESSES.items() if name.startswith(day)), "")
        separator = ", " if parts else ""
        parts += [separator, Arg("timestamp_format", name), f"{note} reads {count:,} of these {total:,}"]
    return parts


def fitting_decimal(texts: Mapping[str, int], mark: str, decimals: int) -> Text:
    """Say how many of some values that are not numbers are read with the other decimal mark."""
    other = "," if mark == "." else "."
    refused = parse_units(pl.Series(list(texts), dtype=pl.String), other, decimals).bad
    total = sum(texts.values())
    fits = total - sum(texts[text] for text in refused)
    return (Arg("decimal", other), f" reads {fits:,} of these {total:,}") if fits else ""


def _missing_values(texts: Counter[str]) -> Text:
    """Return the hint for words that stand for a missing value; empty if there are other texts."""
    if not all(text.strip().lower() in NULL_WORDS or text.strip() in _NO_DATE for text in texts):
        return ""
    return f"{min(texts)!r} is read as text: make the field empty, and ", Arg("nulls", "drop"), " skips these rows"


def _minus_signs(texts: Counter[str]) -> Text:
    """Return the hint for minus signs that are not read; empty if it would not help with all texts."""
    if all(text.strip() in ("-", "\u2013", "\u2014", "\u2212") for text in texts):
        return "write 0, or make the field empty"
    if all(text.strip().endswith("-") or "\u2212" in text for text in texts):
        return "write a minus as '-' in front of the digits"
    return ""


@dataclass
class _Tally:
    """Values of one fault: how many there are, the first and its row."""

    count: int = 0
    row: int = -1
    value: object = None

    def add(self, column: pl.Series, mask: pl.Series, first_row: int) -> None:
        """Count rows of a batch, in which the batch begins with row `first_row` of the source."""
        count = int(mask.sum())
        if count and not self.count:
            at = int(mask.arg_max() or 0)
            self.row, self.value = first_row + at, value_text(column, at)
        self.count += count

    def add_tally(self, other: "_Tally") -> None:
        """Add the values of other rows; which is the first is not known, so the smallest is shown."""
        if other.count and (not self.count or str(other.value) < str(self.value)):
            self.row, self.value = other.row, other.value
        self.count += other.count


def _plain(value: object) -> object:
    return vars(value) | {"value": str(value.value)} if isinstance(value, _Tally) else value


@dataclass
class Faults:
    """What is wrong in the batches of a source, counted."""

    columns: Columns
    rows: int = 0
    kinds: list[int] = field(default_factory=lambda: [0] * 5)
    not_dates: _Tally = field(default_factory=_Tally)
    not_amounts: _Tally = field(default_factory=_Tally)
    years: _Tally = field(default_factory=_Tally)
    early: int = 0
    texts: Counter[str] = field(default_factory=Counter)
    amount_texts: Counter[str] = field(default_factory=Counter)
    currencies: Counter[str] = field(default_factory=Counter)
    amounts: int = 0
    too_large: str = ""
    nulls: Counter[str] = field(default_factory=Counter)

    def add(self, frame: pl.DataFrame) -> None:
        """Look through a batch."""
        of = self.columns
        users = frame[of.user]
        if is_text(users.dtype):
            users = clean_ids(users, None, None)
        self._count_nulls(of.user, users.null_count())
        self._add_instants(frame[of.timestamp])
        if of.amount:
            self._add_amounts(frame[of.amount])
        self.rows += frame.height

    def _count_nulls(self, name: str, count: int) -> None:
        if count:
            self.nulls[name] += count

    def _add_instants(self, column: pl.Series) -> None:
        of = self.columns
        dtype = column.dtype
        if is_text(dtype):
            instants = parse_instants(column, of.rules.format, of.workers)
            counts = instants.counts()
            self._count_nulls(of.timestamp, counts[NULL])
            if counts[BAD]:
                bad = pl.Series(instants.kinds == BAD)
                self.not_dates.add(column, bad, self.rows)
                if len(self.texts) < _MOST_TEXTS:
                    texts = column.alias("").cast(pl.String).filter(bad).head(_MOST_TEXTS)
                    self.texts.update(dict(texts.value_counts().iter_rows()))
            is_instant = (instants.kinds == DATE) | (instants.kinds == NAIVE) | (instants.kinds == ZONED)
            ticks = instants.ticks
            if of.rules.assume_zone is not None:
                ticks = assume_zone(ticks, is_instant & (instants.kinds != ZONED), of.rules.assume_zone)
            self._add_years(column, pl.Series(ticks).set(pl.Series(~is_instant), None).cast(pl.Datetime("us")))
        else:
            counts = [column.null_count(), 0, 0, 0, 0]
            present = len(column) - counts[NULL]
            self._count_nulls(of.timestamp, counts[NULL])
            if dtype.is_numeric() and of.rules.format.number is not None:
                column, _ = read_instants(column, of.rules)
                dtype = column.dtype
            if dtype == pl.Date:
                counts[DATE] = present
            elif isinstance(dtype, pl.Datetime):
                counts[ZONED if dtype.time_zone else NAIVE] = present
            else:
                return
            self._add_years(column, read_instants(column, of.rules)[0])
        self.kinds = [total + count for total, count in zip(self.kinds, counts, strict=True)]

    def _add_years(self, column: pl.Series, instants: pl.Series) -> None:
        if not self.columns.check_years:
            return
        wrong = outside(instants, self.columns.last_day)
        self.years.add(column, wrong, self.rows)
        if wrong.any():
            self.early += int((wrong & (physical(instants) < 0)).sum())

    def _add_amounts(self, column: pl.Series) -> None:
        of = self.columns
        if not is_text(column.dtype):
            self._count_nulls(of.amount, column.null_count())
            return
        amounts = parse_units(column, of.rules.decimal, of.decimals, of.workers)
        present = len(column) - column.null_count()
        self.currencies.update(amounts.currencies)
        if amounts.too_large:
            self.too_large = min([*amounts.too_large, *filter(None, [self.too_large])])
        if amounts.bad:
            is_bad = column.alias("").cast(pl.String).is_in(pl.Series(list(amounts.bad)).implode())
            self.not_amounts.add(column, is_bad.fill_null(value=False), self.rows)
            if len(self.amount_texts) < _MOST_TEXTS:
                self.amount_texts.update(amounts.bad)
        wrong = sum(amounts.bad.values()) + sum(amounts.too_large.values())
        missing = int((~amounts.valid).sum()) - wrong
        self._count_nulls(of.amount, missing)
        self.amounts += present - (missing - column.null_count())

    def to_dict(self) -> dict[str, Any]:
        """Return the counts as values of JSON."""
        return {field.name: _plain(getattr(self, field.name)) for field in fields(self) if field.name != "columns"}

    def add_counts(self, counts: dict[str, Any]) -> None:
        """Add the counts of :meth:`to_dict`, of other rows."""
        for name in ("not_dates", "not_amounts", "years"):
            getattr(self, name).add_tally(_Tally(**counts[name]))
        for name in ("texts", "amount_texts", "currencies", "nulls"):
            getattr(self, name).update(counts[name])
        self.kinds = [total + count for total, count in zip(self.kinds, counts["kinds"], strict=True)]
        self.rows, self.early, self.amounts = (
            getattr(self, name) + counts[name] for name in ("rows", "early", "amounts")
        )
        self.too_large = self.too_large or counts["too_large"]

    def error(self, locate: Locate) -> DataError | None:
        """Return the error for the fault that matters most."""
        naive, zoned = self.kinds[DATE] + self.kinds[NAIVE], self.kinds[ZONED]
        if self.not_dates.count:
            return self._bad_instants(locate)
        if naive and zoned and self.columns.rules.assume_zone is None:
            return self._two_kinds()
        if self.years.count:
            return self._bad_years(locate)
        if self.not_amounts.count:
            return self._bad_amounts(locate)
        if len(self.currencies) > 1:
            return self._two_currencies()
        if self.too_large:
            return beyond_range(f"column {self.columns.amount!r} has {self.too_large!r}", self.columns.decimals)
        if self.nulls and self.columns.nulls == "error":
            names = [name for name in self.columns.names if self.nulls[name]]
            return Dropped(self.rows, 0, Counter({name: self.nulls[name] for name in names})).error("the table")
        return None

    def _bad_instants(self, locate: Locate) -> DataError:
        tally, rules = self.not_dates, self.columns.rules
        total = sum(self.kinds[DATE:])
        if rules.timestamp_format is None:
            expected: Text = "ISO 8601 such as '2025-02-28' or '2025-02-28T09:30:00Z'"
        else:
            expected = f"the form {rules.timestamp_format!r}"
        return DataError(
            f"{locate(tally.row)}: {self.columns.timestamp} {tally.value!r} is not a date "
            f"({tally.count:,} of {total:,} values)",
            value=tally.value,
            expected=expected,
            hint=fitting_formats(self.texts, rules.timestamp_format) or _missing_values(self.texts) or _CORRECT,
        )

    def _two_kinds(self) -> DataError:
        kinds = {
            "date": ("", self.kinds[DATE]),
            "instant": (" without an offset", self.kinds[NAIVE]),
            "instants": (" with an offset", self.kinds[ZONED]),
        }
        words = [
            f"{count:,} {name.rstrip('s')}{'' if count == 1 else 's'}{suffix}"
            for name, (suffix, count) in kinds.items()
            if count
        ]
        return DataError(
            f"column {self.columns.timestamp!r} has {' and '.join([', '.join(words[:-1]), words[-1]])}",
            expected="all with an offset from UTC, or none",
            hint=(Arg("assume_zone", self.columns.zone), " takes those without one as local times of that zone"),
        )

    def _bad_years(self, locate: Locate) -> DataError:
        tally = self.years
        instants = "instant" if tally.count == 1 else "instants"
        hint: Text = (Arg("end"), " leaves later rows out") if not self.early else "correct the rows"
        return DataError(
            f"{locate(tally.row)}: {self.columns.timestamp} {tally.value!r} is before 1900 or after 2200 "
            f"({tally.count:,} {instants})",
            value=tally.value,
            expected="instants in the years 1900 to 2200",
            hint=hint,
        )

    def _bad_amounts(self, locate: Locate) -> DataError:
        tally, rules = self.not_amounts, self.columns.rules
        hint = fitting_decimal(self.amount_texts, rules.decimal, self.columns.decimals)
        return DataError(
            f"{locate(tally.row)}: {self.columns.amount} {tally.value!r} is not a number "
            f"({tally.count:,} of {self.amounts:,} values)",
            value=tally.value,
            expected=f"numbers such as {'12.5 or $1,099.50' if rules.decimal == '.' else '12,5 or 1.099,50 €'}",
            hint=hint or _missing_values(self.amount_texts) or _minus_signs(self.amount_texts) or _CORRECT,
        )

    def _two_currencies(self) -> DataError:
        counts = [f"{count:,} in {name!r}" for name, count in most_common(self.currencies, 5)]
        return DataError(
            f"column {self.columns.amount!r} has amounts in {len(self.currencies)} currencies: {', '.join(counts)}",
            value=dict(self.currencies),
            expected="one currency",
            hint="convert the amounts, or split the table",
        )
