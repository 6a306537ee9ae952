"""The tables of a report: what a browser shows at first, and the exact numbers behind it.

The page holds the numbers once, as the CSV of the cohort table. Its script builds triangles from them, sorts and
saves. What is visible before any script runs is formatted here, in the same way as in the script.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal

import polars as pl

from cohortlib.fields import COHORTS, SHOWN, Kind, by_age
from cohortlib.show.colours import limits

STEPS = 6  # of shading
FIRST_ROWS = 100  # of a long table, until the reader asks for more

KINDS: dict[str, Kind] = {name: field.kind for name, field in COHORTS.items()}
TRIANGLES = {name: field.title for name, field in by_age(COHORTS).items()}
FIRST_TRIANGLE = SHOWN[0]


@dataclass(frozen=True)
class ShadedCell:
    """The text of a cell, and its CSS classes."""

    text: str
    classes: str = ""


@dataclass(frozen=True)
class CohortLine:
    """A cohort, its size, and its cells from age 0 on."""

    cohort: str
    size: str
    cells: list[ShadedCell]


def csv(table: pl.DataFrame) -> str:
    """Return the exact numbers as CSV.

    It contains no text that a spreadsheet could take for a formula, or a browser for a tag: the columns are field
    names, the cohorts are period labels, and the rest is numbers.
    """
    return table.write_csv()


def triangle(table: pl.DataFrame, field: str, unfinished: dict[str, int]) -> Iterator[CohortLine]:
    """Yield a line per cohort with a field's value at each age that it has reached."""
    low, high = limits(table, field)
    for (cohort,), rows in table.group_by(["cohort"], maintain_order=True):
        end = unfinished.get(str(cohort))
        cells = []
        for age, value in rows.select("period", field).iter_rows():
            classes = [shade(value, low, high)] if value is not None else []
            classes += ["open"] if end is not None and age >= end else []
            cells.append(ShadedCell(formatted(value, KINDS[field]), " ".join(classes)))
        yield CohortLine(str(cohort), formatted(rows["cohort_size"][0], "count"), cells)


def shade(value: float, low: float, high: float) -> str:
    """Return the CSS class of a value.

    >>> [shade(value, 0.0, 1.0) for value in (-1, 0, 0.5, 1, 7)]
    ['v1', 'v1', 'v4', 'v6', 'v6']
    """
    share = (value - low) / (high - low) if high > low else 0.0
    return f"v{min(max(int(share * STEPS), 0), STEPS - 1) + 1}"


def lines(table: pl.DataFrame, count: int = FIRST_ROWS) -> list[list[str]]:
    """Return the first rows of a table as text."""
    kinds = [KINDS[name] for name in table.columns]
    return [
        [formatted(value, kind) for value, kind in zip(row, kinds, strict=True)]
        for row in table.head(count).iter_rows()
    ]


def formatted(value: object, kind: Kind) -> str:
    """Format a value like JavaScript's ``toFixed``, which rounds ties away from zero, with thousands separators.

    >>> formatted(0.0625, "share"), formatted(1234.5, "money"), formatted(12345.5, "money"), formatted(None, "share")
    ('6.3%', '1,234.50', '12,346', '')
    """
    if value is None:
        return ""
    if kind == "text":
        return str(value)
    if kind == "count" or not isinstance(value, float):
        return f"{value:,}"
    if kind == "share":
        return f"{_fixed(100 * value, '0.1')}%"
    return f"{_fixed(value, '1' if abs(value) >= 10_000 else '0.01'):,}"


def _fixed(value: float, places: str) -> Decimal:
    return Decimal(value).quantize(Decimal(places), ROUND_HALF_UP)
