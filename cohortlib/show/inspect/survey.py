"""Go through rows with the settings that were guessed, and count what the readers of the tables would refuse."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
from numpy.typing import NDArray
from polars.selectors import by_name

from cohortlib.engine.kernels.instants import BAD, NULL, ZONED
from cohortlib.read.faults import Faults
from cohortlib.read.ids import clean_ids
from cohortlib.read.instants import outside, read_instants
from cohortlib.read.tables import PANIC
from cohortlib.read.text import TextRules, is_text, parse_instants
from cohortlib.read.transactions import Columns

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MOST_APART = 0.01  # of the rows, after empty years, are doubtful


@dataclass
class Dates:
    """The first and the last instant of a column, and the rows of each year."""

    rules: TextRules
    first: datetime | None = None
    last: datetime | None = None
    zoned: bool = False
    years: Counter[int] = field(default_factory=Counter)

    def add(self, column: pl.Series) -> None:
        """Add the rows of a batch whose instants are within the years that are read."""
        if is_text(column.dtype):
            instants = parse_instants(column, self.rules.format)
            self.zoned |= bool((instants.kinds == ZONED).any())
            bad = (instants.kinds == BAD) | (instants.kinds == NULL)
            column = pl.Series(instants.ticks).set(pl.Series(bad), None).cast(pl.Datetime("us"))
        elif column.dtype.is_numeric() and self.rules.format.number is not None:
            column, _ = read_instants(column, self.rules)
        if column.dtype != pl.Date and not isinstance(column.dtype, pl.Datetime):
            return
        self.zoned |= isinstance(column.dtype, pl.Datetime) and column.dtype.time_zone is not None
        column = column.alias("")
        column = column.filter(~outside(column, None)).drop_nulls()
        if not len(column):
            return
        column = column.dt.replace_time_zone(None) if isinstance(column.dtype, pl.Datetime) else column
        column = column.cast(pl.Datetime("us"))
        ticks = column.to_physical()
        low, high = (_EPOCH + timedelta(microseconds=int(tick)) for tick in (ticks.min(), ticks.max()))  # type: ignore[arg-type]
        self.first = low if self.first is None else min(self.first, low)
        self.last = high if self.last is None else max(self.last, high)
        self.years.update(dict(column.dt.year().value_counts().iter_rows()))

    def apart(self) -> list[tuple[int, int]]:
        """Return years with few rows that empty years separate from all others, with their rows."""
        years = sorted(self.years)
        result = []
        for at, year in enumerate(years):
            near = [abs(year - other) for other in years[max(at - 1, 0) : at + 2] if other != year]
            if near and min(near) > 1 and self.years[year] <= _MOST_APART * self.years.total():
                result.append((year, self.years[year]))
        return result


@dataclass
class Survey:
    """Counts over rows."""

    columns: Columns | None
    faults: Faults | None
    dates: Dates | None
    rows: int = 0
    nulls: Counter[str] = field(default_factory=Counter)
    hashes: list[NDArray[np.uint64]] = field(default_factory=list)
    can_hash: bool = True

    @classmethod
    def over(
        cls, batches: Iterable[pl.DataFrame], columns: Columns | None, timestamp: str | None, rules: TextRules
    ) -> "Survey":
        """Go through batches; without `columns` only count nulls, repeated rows and dates."""
        survey = cls(columns, None if columns is None else Faults(columns), None if timestamp is None else Dates(rules))
        for batch in batches:
            survey.add(batch, timestamp)
        return survey

    def add(self, frame: pl.DataFrame, timestamp: str | None) -> None:
        """Go through a batch."""
        self.rows += frame.height
        for column in frame.get_columns():
            values = clean_ids(column, None, None) if is_text(column.dtype) else column
            if count := values.null_count():
                self.nulls[column.name] += count
        if self.dates is not None and timestamp is not None:
            self.dates.add(frame[timestamp])
        if self.faults is not None and self.columns is not None:
            self.faults.add(frame.select(by_name(*self.columns.names)))
        if self.can_hash:
            try:
                self.hashes.append(frame.hash_rows(seed=0).to_numpy())
            except (pl.exceptions.PolarsError, PANIC):
                self.can_hash = False

    @property
    def repeats(self) -> int | None:
        """The number of rows that are the same as an earlier one in all columns; None if types cannot be compared."""
        if not self.can_hash:
            return None
        hashes = np.concatenate(self.hashes) if self.hashes else np.empty(0, np.uint64)
        return int(hashes.size - np.unique(hashes).size)
