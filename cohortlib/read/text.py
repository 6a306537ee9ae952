"""Parse text columns of users, instants and amounts by one rule for all files, batches and roads.

A value is read by itself: neither other values nor their order decide how. Kernels parse the common forms straight
from the Arrow views; what they leave goes to a slower parser with the same results.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from cohortlib.engine.kernels import instants as kernel
from cohortlib.engine.kernels.texts import OTHER, PLAIN, parse_amounts
from cohortlib.engine.threads import on_threads
from cohortlib.errors import Arg, SettingError, one_of
from cohortlib.periods import check_zone
from cohortlib.read.arrays import Ints, read_only, string_views
from cohortlib.read.formats import NUMBERS, Format, compile_format
from cohortlib.read.money import TOO_LARGE, parse_money

_BLOCK = 1 << 16  # rows that a thread parses at a time


@dataclass(frozen=True)
class TextRules:
    """How text is read: the settings of these names."""

    timestamp_format: str | None = None
    decimal: str = "."
    assume_zone: str | None = None
    normalize: str | None = None

    def __post_init__(self) -> None:
        one_of("decimal", self.decimal, (".", ","))
        one_of("normalize", self.normalize, (None, "strip", "casefold"))
        if self.timestamp_format is not None and not isinstance(self.timestamp_format, str):
            raise SettingError(
                (Arg("timestamp_format", self.timestamp_format), " is not a format"),
                value=self.timestamp_format,
                expected="a string such as '%d/%m/%Y', or None for ISO 8601",
            )
        compile_format(self.timestamp_format)
        if self.assume_zone is not None:
            check_zone(self.assume_zone, "assume_zone")

    @property
    def format(self) -> Format:
        """The format of timestamps, compiled."""
        return compile_format(self.timestamp_format)


class TextInstants(NamedTuple):
    """Instants as microseconds since 1970-01-01, and what each row holds: a kind of the kernel."""

    ticks: Ints
    kinds: NDArray[np.uint8]

    def counts(self) -> list[int]:
        """Return the number of rows of each kind."""
        return [int(np.count_nonzero(self.kinds == kind)) for kind in range(5)]


class TextAmounts(NamedTuple):
    """Amounts as units, whether each row has one, and the texts that are no amounts, with the count of each.

    `currencies` counts the rows of each currency sign or code.
    """

    units: Ints
    valid: NDArray[np.bool_]
    bad: dict[str, int]
    currencies: dict[str, int]
    too_large: dict[str, int]


def is_text(dtype: pl.DataType) -> bool:
    """Return whether a column is text."""
    return dtype == pl.String or isinstance(dtype, pl.Categorical | pl.Enum)


def parse_instants(column: pl.Series, form: Format, workers: int = 1) -> TextInstants:
    """Parse a column of text as instants."""
    column = column.cast(pl.String)
    if form.number is not None:
        return _parse_numbers(column, form.number, workers)
    ticks, kinds = np.empty(len(column), np.int64), np.empty(len(column), np.uint8)

    def work(piece: tuple[Any, ...], offset: int, first: int, last: int) -> None:
        rows = slice(offset, offset + piece[0].size // 2)
        if form.ops.size:
            kernel.parse_formatted(*piece, first, last, form.ops, form.or_iso, ticks[rows], kinds[rows])
        else:
            kernel.parse_instants(*piece, first, last, ticks[rows], kinds[rows])

    each_block(column, workers, work)
    return TextInstants(ticks, kinds)


def _parse_numbers(column: pl.Series, number: str, workers: int) -> TextInstants:
    """Parse numbers since an epoch; what is not a number can be ISO 8601 with dashes."""
    amounts = parse_units(column, ".", NUMBERS[number], workers, plain=True)
    empty = np.asarray(column.alias("").is_null()) | ~amounts.valid
    ticks, kinds = epoch_ticks(amounts.units, number), np.full(len(column), kernel.ZONED, np.uint8)
    if number == "excel":
        kinds[:] = np.where(ticks % kernel.DAY_TICKS == 0, kernel.DATE, kernel.NAIVE)
        kinds[amounts.units < 61 * 10**9] = kernel.BAD  # Excel counts a 29 February 1900, its day 60
    if empty.any():
        rest = parse_instants(column.filter(pl.Series(empty)), compile_format(None), workers)
        texts = column.filter(pl.Series(empty)).alias("").str.strip_chars(" \t\n\r\v\f")
        basic = np.asarray((texts.str.slice(4, 1) != "-").fill_null(value=True)) & (rest.kinds != kernel.NULL)
        ticks[empty] = rest.ticks
        kinds[empty] = np.where(basic, kernel.BAD, rest.kinds)
    return TextInstants(ticks, kinds)


def epoch_ticks(units: Ints, number: str) -> Ints:
    """Convert numbers since an epoch to microseconds since 1970-01-01."""
    if number != "excel":
        return units
    days = units // 10**9 - 25_569  # 1970-01-01 is day 25,569
    millis = (units % 10**9 * 864 + 5_000) // 10_000  # a serial number is a float; it is exact to a millisecond
    return np.asarray(days * kernel.DAY_TICKS + millis * 1_000, np.int64)


def parse_units(column: pl.Series, mark: str, decimals: int, workers: int = 1, *, plain: bool = False) -> TextAmounts:
    """Parse a column of text as whole numbers of 10^-decimals, rounded half to even.

    Parameters
    ----------
    mark
        The decimal mark, ``"."`` or ``","``.
    plain
        Only accept plain numbers, without currencies, thousands separators and brackets.
    """
    column = column.cast(pl.String)
    units, kinds = np.empty(len(column), np.int64), np.empty(len(column), np.uint8)

    def work(piece: tuple[Any, ...], offset: int, first: int, last: int) -> None:
        rows = slice(offset, offset + piece[0].size // 2)
        parse_amounts(*piece, first, last, ord(mark), decimals, units[rows], kinds[rows])

    each_block(column, workers, work)
    bad: dict[str, int] = {}
    too_large: dict[str, int] = {}
    currencies: dict[str, int] = {}
    valid = kinds == PLAIN
    rest = np.flatnonzero(kinds == OTHER)
    if rest.size:
        texts = column.alias("").gather(rest)
        counts = texts.value_counts()
        values: dict[str, int | None] = {}
        for text, count in counts.iter_rows():
            money = parse_money(text, mark, decimals, plain=plain)
            if money is None:
                bad[text] = count
            elif money.units == TOO_LARGE:
                too_large[text] = count
            elif money.currency:
                currencies[money.currency] = currencies.get(money.currency, 0) + count
            values[text] = None if money is None or money.units in (None, TOO_LARGE) else money.units
        parsed = texts.replace_strict(list(values), list(values.values()), return_dtype=pl.Int64)
        valid[rest] = np.asarray(parsed.is_not_null())
        units[rest] = parsed.fill_null(0).to_numpy()
    return TextAmounts(units, valid, bad, currencies, too_large)


def each_block(column: pl.Series, workers: int, work: Callable[[tuple[Any, ...], int, int, int], Any]) -> list[Any]:
    """Call ``work(piece, offset, first, last)`` for blocks of rows of a column of text, on threads.

    A piece has the views of one chunk, their bytes, the memory and the offsets of its buffers; `offset` is the row
    in the column that it begins with.
    """
    blocks = []
    offset = 0
    for views, memory, bases in string_views(column):
        piece = views, read_only(views.view(np.uint8)), memory, bases
        rows = views.size // 2
        blocks += [(piece, offset, first, min(first + _BLOCK, rows)) for first in range(0, rows, _BLOCK)]
        offset += rows
    return on_threads(workers, lambda block: work(*block), blocks)
