"""Write the general table from its cells."""

import math
from statistics import NormalDist

import numpy as np
import polars as pl
from numpy.typing import NDArray

from cohortlib.engine import ratios
from cohortlib.engine.partitions import check_size
from cohortlib.errors import Arg
from cohortlib.fields import GENERAL, schema
from cohortlib.read.arrays import Ints
from cohortlib.transactions.general.cells import Cells, Grid
from cohortlib.transactions.general.question import Question
from cohortlib.transactions.general.rows import TableFrame
from cohortlib.transactions.kernels import general as kernel


class Rows:
    """The rows of a table: a group and a column of ages each, and running sums over the columns of a group."""

    def __init__(self, cells: Cells, grid: Grid) -> None:
        self.cells, self.grid = cells, grid
        width = grid.widths[cells.keys % grid.rules.cohort_count]
        check_size(int(width.sum()), (Arg("brackets"), ", or a coarser ", Arg("age")))
        ends = np.cumsum(width)
        self._begins = np.repeat(ends - width, width)
        self._ends = np.repeat(ends, width) - 1
        self.group = np.repeat(np.arange(cells.keys.size), width)
        self.column = np.arange(self.group.size) - self._begins
        self.at = np.repeat(cells.offsets, width) + self.column

    def entry(self, number: int) -> Ints:
        """Return one entry of each cell."""
        entries: Ints = self.cells.cells[self.at, number]
        return entries

    def up_to(self, values: NDArray[np.int64]) -> Ints:
        """Return the sum over the columns of the group up to each one."""
        running = np.append(np.int64(0), np.cumsum(values))
        return running[1:] - running[self._begins]

    def before(self, values: NDArray[np.int64]) -> Ints:
        """Return the sum over the columns of the group before each one."""
        return self.up_to(values) - values

    def since(self, values: NDArray[np.int64]) -> Ints:
        """Return the sum over the columns of the group from each one on."""
        running = np.append(np.int64(0), np.cumsum(values))
        return running[self._ends + 1] - running[:-1]

    def wide(self, number: int) -> list[int]:
        """Return 128-bit numbers of each cell."""
        low, high = (self.cells.squares[self.at, number + word].tolist() for word in range(2))
        return [(h << 64 | w) - (1 << 128 if h >> 63 else 0) for w, h in zip(low, high, strict=True)]


def empty_table(question: Question) -> pl.DataFrame:
    """Return the table without rows; columns of segments are of unknown type."""
    types = schema(GENERAL)
    segments = dict.fromkeys((*question.by, *question.split), pl.Null)
    amounts = {name: pl.Float64 for column in question.amounts for name in (column, f"{column}_ltv")}
    return pl.DataFrame(
        schema=segments | {name: types.get(name, pl.Float64) for name in column_order(question)} | amounts
    )


def column_order(question: Question) -> list[str]:
    """Return the columns of a table, without segments."""
    money, interval = question.money, question.confidence is not None
    names = ["cohort", "period"]
    names += ["period_end"] if question.brackets is not None else []
    names += ["cohort_size"] + ["cohort_size_amount"] * money + ["active_users", "logo_retention"]
    names += ["amount", "amount_retention", "ltv"] * money
    names += ["observed", "complete"]
    names += ["logo_low", "logo_high"] * interval
    names += ["amount_retention_low", "amount_retention_high", "ltv_low", "ltv_high"] * (interval and money)
    return names + [name for column in question.amounts for name in (column, f"{column}_ltv")]


def write_table(rows: TableFrame, cells: Cells, grid: Grid) -> pl.DataFrame:
    """Return the table."""
    question, scale = rows.question, rows.question.settings.scale
    table = Rows(cells, grid)
    observed = table.since(table.entry(kernel.LAST))
    shown = (observed > 0) & (table.column >= grid.hidden)
    size = cells.sizes[table.group]
    active = table.entry(kernel.ACTIVE)
    if question.retention != "exact":
        active = table.since(active)
    keys = cells.keys[table.group]
    cohort = keys % grid.rules.cohort_count
    columns: dict[str, pl.Series] = {}
    labels = pl.Series(question.calendar.labels(grid.origin + np.arange(grid.rules.cohort_count)), dtype=pl.String)
    columns["cohort"] = labels.gather(cohort)
    columns["period"] = pl.Series(grid.firsts[table.column], dtype=pl.Int64)
    ends = pl.Series(grid.lasts[table.column], dtype=pl.Int64)
    columns["period_end"] = ends.set(ends < 0, None)
    columns["cohort_size"] = pl.Series(size)
    columns["observed"] = pl.Series(observed)
    columns["active_users"] = pl.Series(active)
    columns["logo_retention"] = ratios.quotient(active, observed)
    columns["complete"] = pl.Series(table.since(table.entry(kernel.OVER)) == size)
    amount = table.entry(kernel.AMOUNT)
    firsts = table.since(table.entry(kernel.LAST_FIRST))
    totals = table.up_to(amount) - table.before(table.entry(kernel.LAST_TOTAL))
    columns["cohort_size_amount"] = ratios.money(cells.firsts[table.group], scale)
    columns["amount"] = ratios.money(amount, scale)
    columns["amount_retention"] = ratios.quotient(amount, firsts)
    columns["ltv"] = ratios.ltv(totals, observed, scale)
    for m, name in enumerate(question.amounts):
        more, last = (table.entry(kernel.MORE + 2 * m + each) for each in range(2))
        columns[name] = ratios.money(more, scale)
        columns[f"{name}_ltv"] = ratios.ltv(table.up_to(more) - table.before(last), observed, scale)
    if question.confidence is not None:
        z = NormalDist().inv_cdf((1 + question.confidence) / 2)
        columns |= _share_interval(active, observed, z)
        if question.money:
            columns |= _money_intervals(table, observed, amount, firsts, totals, scale, z)
    segments = segment_columns(rows, keys // grid.rules.cohort_count, grid)
    chosen = [segments[name].alias(name) for name in (*question.by, *question.split)]
    chosen += [columns[name].alias(name) for name in column_order(question)]
    return pl.DataFrame(chosen).filter(pl.Series(shown)) if chosen else empty_table(question)


def segment_columns(rows: TableFrame, segment: Ints, grid: Grid) -> dict[str, pl.Series]:
    """Return the columns of segments, in their order, from their numbers."""
    columns = {}
    rest = segment
    names = (*rows.question.by, *rows.question.split)
    for name, count in reversed(list(zip(names, grid.counts, strict=True))):
        columns[name] = rows.values[name].column(rest % count)
        rest = rest // count
    return {name: columns[name] for name in names}


def _share_interval(active: Ints, observed: Ints, z: float) -> dict[str, pl.Series]:
    """Return Wilson's score interval: (p + z²/2n ± z·√(p(1 − p)/n + z²/4n²)) / (1 + z²/n)."""
    n = np.maximum(observed, 1).astype(np.float64)
    p = active / n
    middle = p + z * z / (2 * n)
    half = z * np.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    below = 1 + z * z / n
    few = pl.Series(observed < 2)
    return {
        name: pl.Series((middle + sign * half) / below).set(few, None)
        for name, sign in (("logo_low", -1), ("logo_high", 1))
    }


def _money_intervals(
    table: Rows, observed: Ints, amount: Ints, firsts: Ints, totals: Ints, scale: int, z: float
) -> dict[str, pl.Series]:
    """Return the intervals of ltv and of amount retention, from exact sums of squares and products.

    n²(n − 1)·s²/n is the integer n·Σy² − (Σy)², over n·(n − 1), so that only roots and quotients are rounded.
    """
    names = ("ltv_low", "ltv_high", "amount_retention_low", "amount_retention_high")
    results: dict[str, list[float | None]] = {name: [] for name in names}
    squares, products = table.wide(kernel.SQUARES), table.wide(kernel.PRODUCTS)
    grown, last_firsts, last_totals = (table.wide(n) for n in (kernel.TOTALS, kernel.LAST_FIRSTS, kernel.LAST_TOTALS))
    total_squares, first_squares = _running(table, grown, last_totals), _remaining(table, last_firsts)
    for n, y, x, total, yy, xy, xx, tt in zip(
        observed.tolist(), amount.tolist(), firsts.tolist(), totals.tolist(), squares, products, first_squares,
        total_squares, strict=True,
    ):  # fmt: skip
        values: tuple[float | None, ...] = (None,) * 4
        if n > 1:
            half = z * math.sqrt((n * tt - total * total) / (n * n * (n - 1)))
            mean = total / n
            values = ((mean - half) / scale, (mean + half) / scale, None, None)
            if x:
                # (s_y² − 2R·s_xy + R²·s_x²)/(n·x̄²), times x⁴ over whole numbers
                spread = [n * xx - x * x, n * xy - x * y, n * yy - y * y]
                variance = spread[2] * x * x - 2 * x * y * spread[1] + y * y * spread[0]
                half = z * math.sqrt(variance / (x**4 * (n - 1))) if variance > 0 else 0.0
                values = (*values[:2], y / x - half, y / x + half)
        for name, value in zip(names, values, strict=True):
            results[name].append(value)
    return {name: pl.Series(values, dtype=pl.Float64) for name, values in results.items()}


def _running(table: Rows, grown: list[int], last: list[int]) -> list[int]:
    """Return Σ cumulative amount² of the users observed in each cell."""
    result, sum_so_far = [], 0
    for column, more, less in zip(table.column.tolist(), grown, last, strict=True):
        sum_so_far = more if column == 0 else sum_so_far + more
        result.append(sum_so_far)
        sum_so_far -= less
    return result


def _remaining(table: Rows, last: list[int]) -> list[int]:
    """Return the sum over the columns of the group from each one on."""
    result = [0] * len(last)
    so_far, after = 0, -1
    groups = table.group.tolist()
    for at in range(len(last) - 1, -1, -1):
        so_far = last[at] if groups[at] != after else so_far + last[at]
        result[at], after = so_far, groups[at]
    return result
