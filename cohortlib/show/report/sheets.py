"""The tables of a report: what a browser shows at once, and the exact numbers behind it.

The numbers stand in the page once, as the CSV of the cohort table; the page's script makes triangles of it, sorts and
saves. What is shown before any script runs is written here, in the script's very format.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal

import polars as pl

STEPS = 6  # of shading
FIRST_ROWS = 100  # that a long table shows until more are asked for

# How a column is written: a text, a whole number, money, or a share of 1.
KINDS = {
    "cohort": "text",
    "period": "count",
    "cohort_size": "count",
    "cohort_size_amount": "money",
    "active_users": "count",
    "logo_retention": "share",
    "amount": "money",
    "amount_retention": "share",
    "ltv": "money",
}
TRIANGLES = {
    "logo_retention": "Logo retention",
    "amount_retention": "Amount retention",
    "active_users": "Active users",
    "amount": "Amount",
    "ltv": "LTV",
}


@dataclass(frozen=True)
class Cell:
    """What a cell shows, and its class."""

    text: str
    shade: str = ""


@dataclass(frozen=True)
class Line:
    """A cohort, its size, and its cells from age 0 on."""

    cohort: str
    size: str
    cells: list[Cell]


def csv(table: pl.DataFrame) -> str:
    """Write the numbers exactly.

    There is no text in it that a spreadsheet could take for a formula, or a browser for a tag: columns have the names
    of fields, cohorts those of periods, and all else is numbers.
    """
    return table.write_csv()


def triangle(table: pl.DataFrame, field: str, unfinished: dict[str, int]) -> Iterator[Line]:
    """Lay out one field: a line for each cohort, a cell for each age that it has reached."""
    low, high = edges(table, field)
    for (cohort,), rows in table.group_by(["cohort"], maintain_order=True):
        end = unfinished.get(str(cohort))
        cells = []
        for age, found in rows.select("period", field).iter_rows():
            classes = [step(found, low, high)] if found is not None else []
            classes += ["open"] if end is not None and age >= end else []
            cells.append(Cell(written(found, KINDS[field]), " ".join(classes)))
        yield Line(str(cohort), written(rows["cohort_size"][0], "count"), cells)


def edges(table: pl.DataFrame, field: str) -> tuple[float, float]:
    """Give the values of the lightest and of the darkest shade: of later ages, as age 0 would leave all others pale."""
    later = table.filter((pl.col("period") > 0) | (field == "ltv"))[field].drop_nulls()
    values = later if later.len() else table[field].drop_nulls()
    return (float(values.min()), float(values.max())) if values.len() else (0.0, 0.0)  # type: ignore[arg-type]


def step(found: float, low: float, high: float) -> str:
    """Name the shade of a value.

    >>> [step(found, 0.0, 1.0) for found in (-1, 0, 0.5, 1, 7)]
    ['v1', 'v1', 'v4', 'v6', 'v6']
    """
    share = (found - low) / (high - low) if high > low else 0.0
    return f"v{min(max(int(share * STEPS), 0), STEPS - 1) + 1}"


def lines(table: pl.DataFrame, count: int = FIRST_ROWS) -> list[list[str]]:
    """Write the first rows of a table."""
    kinds = [KINDS[name] for name in table.columns]
    return [
        [written(found, kind) for found, kind in zip(row, kinds, strict=True)] for row in table.head(count).iter_rows()
    ]


def written(found: object, kind: str) -> str:
    """Write a value as JavaScript's ``toFixed`` does, which rounds a tie away from zero, with commas.

    >>> written(0.0625, "share"), written(1234.5, "money"), written(12345.5, "money"), written(None, "share")
    ('6.3%', '1,234.50', '12,346', '')
    """
    if found is None:
        return ""
    if kind == "text":
        return str(found)
    if kind == "count" or not isinstance(found, float):
        return f"{found:,}"
    if kind == "share":
        return f"{_fixed(100 * found, '0.1')}%"
    return f"{_fixed(found, '1' if abs(found) >= 10_000 else '0.01'):,}"


def _fixed(found: float, places: str) -> Decimal:
    return Decimal(found).quantize(Decimal(places), ROUND_HALF_UP)
