"""Decide for each event row whether it counts, and count why rows do not."""

from dataclasses import dataclass, field, replace
from functools import reduce
from math import isfinite
from operator import and_

import polars as pl

from cohortlib.adapty.findings import Findings
from cohortlib.adapty.kernels.records import REFUND, STARTED, TRIAL
from cohortlib.adapty.read import revenuecat
from cohortlib.adapty.read.event_types import NO_MONEY, UNKNOWN
from cohortlib.adapty.read.readers import ReadColumn, UnreadError
from cohortlib.adapty.read.specs import ALL_KINDS, BY, EVENT_COLUMNS, MONEY, MONEY_KINDS
from cohortlib.adapty.read.tables import RawTable
from cohortlib.engine.threads import on_threads
from cohortlib.errors import Arg, DataError, SchemaError
from cohortlib.read.nulls import Dropped
from cohortlib.read.tables import Locate
from cohortlib.read.text import is_text

# Products that Adapty grants for free.
GRANTED = ("adapty_server_side_product", "adapty_dashboard_product", "adapty_promotion")
REASONS = (
    "blank_lines", "header_lines", "superseded", "sandbox", "other_events", "unknown_events", "family_shared",
    "granted", "upgraded", "void", "zero_payments", "nulls",
)  # fmt: skip

# The kinds of events whose rows need a column, and the columns that must not be null there.
_KINDS = {name: spec.kinds for name, spec in EVENT_COLUMNS.items()} | dict.fromkeys(revenuecat.SHARES, MONEY_KINDS)
_NOT_NULL = ("user", *(name for name, spec in EVENT_COLUMNS.items() if spec.not_null))


@dataclass(frozen=True)
class CountedRows:
    """The rows of one table, the kind of each (−1 if it does not count), and counts for the report."""

    frame: pl.DataFrame
    kind: pl.Series
    report: dict[str, int]
    nulls: dict[str, int]
    findings: Findings = field(default_factory=Findings)

    def with_strays(self, strays: dict[str, int]) -> "CountedRows":
        """Add the counts of lines that were removed before."""
        if not strays:
            return self
        return replace(self, report=self.report | strays | {"rows": self.report["rows"] + sum(strays.values())})


def without_stray_lines(table: RawTable) -> tuple[RawTable, dict[str, int]]:
    """Remove blank lines, and header lines that are repeated where files were joined; count them."""
    counts = {"blank_lines": table.blank_lines} if table.blank_lines else {}
    if table.mixed or not table.frame.width:
        return table, counts
    for name, is_stray in (("blank_lines", _blank_lines), ("header_lines", _header_lines)):
        stray = is_stray(table.frame)
        if stray is not None and stray.any():
            counts[name] = counts.get(name, 0) + int(stray.sum())
            table = table.filter(~stray)
    return table, counts


def _blank_lines(frame: pl.DataFrame) -> pl.Series | None:
    if not all(column.null_count() and column.dtype == pl.String for column in frame.iter_columns()):
        return None
    return reduce(and_, (column.is_null() for column in frame.iter_columns()))


def _header_lines(frame: pl.DataFrame) -> pl.Series | None:
    columns = frame.get_columns()
    if not all(column.dtype == pl.String for column in columns):
        return None
    repeated = columns[0] == columns[0].name
    if not repeated.any():
        return None
    return reduce(and_, (column == column.name for column in columns[1:]), repeated).fill_null(value=False)


def zero_payments(columns: dict[str, ReadColumn], kind: pl.Series) -> pl.Series:
    """Return which rows are payments of revenue 0."""
    zero = (columns["revenue_usd"].series == 0).fill_null(value=False)
    return zero & (kind >= STARTED) & (kind < REFUND)


def granted_rows(columns: dict[str, ReadColumn], workers: int = 1) -> pl.Series:
    """Return which rows are of a product that Adapty grants for free."""
    products = columns["product_id"].series
    size = max(1, -(-len(products) // workers))
    parts = [products.slice(first, size) for first in range(0, max(1, len(products)), size)]
    return pl.concat(on_threads(workers, lambda part: part.is_in(GRANTED).fill_null(value=False), parts))


def equals_ignoring_case(column: pl.Series, word: str) -> pl.Series:
    """Return where a column of few distinct texts equals a word, ignoring case."""
    dtype = column.dtype
    if dtype == pl.Null:
        return pl.repeat(value=False, n=len(column), eager=True)
    if not is_text(dtype):
        raise SchemaError(f"column {column.name!r} is {dtype}", expected=f"text such as {word!r}")
    exact = column.eq_missing(word) if dtype == pl.String else None
    rest = column if exact is None else column.filter(~exact)
    spellings = [value for value in rest.unique().drop_nulls().cast(pl.String) if value.lower() == word.lower()]
    if exact is not None and not spellings:
        return exact
    others = column.cast(pl.Enum(spellings), strict=False).is_not_null()
    return others if exact is None else exact | others


def count_rows(
    columns: dict[str, ReadColumn],
    kind: pl.Series,
    live: pl.Series,
    reasons: dict[str, pl.Series | None],
    keep: frozenset[str],
    types: pl.Series | None = None,
    where: Locate | None = None,
) -> CountedRows:
    """Decide which rows count, and raise on values of these rows that could not be read.

    Parameters
    ----------
    columns, kind
        The columns read, and the kind of each event.
    live
        Which rows are of the production environment.
    reasons
        Masks of rows that do not count, by reason; a row is counted under its first reason.
    keep
        Reasons to ignore.
    types
        The event types as in the table, to name unknown ones.
    where
        Describes a row, for messages.
    """
    if "sandbox" in keep:
        live = pl.repeat(value=True, n=len(kind), eager=True)
    report = dict.fromkeys(("rows", *REASONS), 0) | {"rows": len(kind), "sandbox": len(kind) - int(live.sum())}
    unknown = live & (kind == UNKNOWN)
    for reason, mask in {"other_events": kind == NO_MONEY, "unknown_events": kind == UNKNOWN, **reasons}.items():
        if reason not in keep and mask is not None and mask.any():
            report[reason] = int((live & mask).sum())
            live = live & ~mask
    faults = [
        fault
        for order, (name, column) in enumerate(columns.items())
        if column.unread
        for fault in column.faults(live & kind.is_between(*_KINDS.get(name, ALL_KINDS)), where, order)
    ]
    if faults:
        raise UnreadError(faults)
    nulls: dict[str, int] = {}
    dropped: pl.Series | None = None
    for name in _NOT_NULL:
        series = columns[name].series
        if series.null_count():
            null = live & series.is_null() & (kind >= _KINDS.get(name, ALL_KINDS)[0])
            if null.any():
                nulls[series.name] = int(null.sum())
                dropped = null if dropped is None else dropped | null
    if dropped is not None:
        report["nulls"] = int(dropped.sum())
        live = live & ~dropped
    if not live.all():
        kind = pl.select(pl.when(live).then(kind).otherwise(pl.lit(-1, pl.Int8))).to_series()
    kept = [
        column.series.alias(name)
        for name, column in columns.items()
        if name in ("user", BY) or name.partition("@")[0] in EVENT_COLUMNS
    ]
    return CountedRows(pl.DataFrame(kept), kind, report, nulls, _unknown_types(types, unknown))


def _unknown_types(types: pl.Series | None, unknown: pl.Series) -> Findings:
    """Count the rows of each event type that is not known."""
    if types is None or not unknown.any():
        return Findings()
    counts = types.filter(unknown).cast(pl.String).fill_null("").value_counts()
    return Findings({("unknown", name): count for name, count in counts.iter_rows()})


def checked_money(frame: pl.DataFrame, kind: pl.Series, workers: int = 1) -> pl.DataFrame:
    """Set money to 0 in rows where it does not count, and raise on NaN and infinity in the others."""
    unpaid = kind <= TRIAL
    any_unpaid = unpaid.any()

    def checked(name: str) -> pl.Series:
        money = frame[name]
        # Most exports have zeros there, and looking takes less than writing.
        if any_unpaid and (money.null_count() or ((money != 0) & unpaid).any()):
            zero = pl.lit(0, money.dtype)
            money = pl.select(pl.when(unpaid).then(zero).otherwise(pl.lit(money)).alias(name)).to_series()
        # A finite sum proves that all numbers are finite, and is fast; finite numbers may still overflow the sum.
        if money.dtype.is_float() and not isfinite(money.sum()) and not money.is_finite().all():
            bad = ~money.is_finite()
            raise DataError(
                f"column {name!r} is NaN or infinite in {int(bad.sum()):,} rows that count, first in row "
                f"{bad.arg_max()}",
                expected="finite numbers",
                hint=("filter these rows, or use fill_nan(None) with ", Arg("nulls", "drop")),
            )
        return money

    return frame.with_columns(on_threads(workers, checked, MONEY))


def check_money(frame: pl.DataFrame, kind: pl.Series) -> None:
    """Raise if payments or refunds lack proceeds or net revenue."""
    lacking = {name: int((frame[name].is_null() & (kind > TRIAL)).sum()) for name in MONEY[1:]}
    if any(lacking.values()):
        counts = ", ".join(f"{count:,} in column {name!r}" for name, count in lacking.items() if count)
        raise DataError(
            f"the events have nulls in payments or refunds: {counts}",
            expected="none",
            hint=(Arg("missing_money", "zero"), " counts these amounts as 0"),
        )


def check_nulls(what: str, dropped: Dropped, nulls: str) -> None:
    """Raise if rows have nulls and these are not to be dropped."""
    if dropped.count and nulls == "error":
        raise DataError(
            f"{what} have nulls in rows that count: {dropped.counts()}",
            expected="none",
            hint=(Arg("nulls", "drop"), " skips these rows"),
        )
