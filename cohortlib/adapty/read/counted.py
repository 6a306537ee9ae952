"""Decide for each event row whether it counts, and why not."""

from dataclasses import dataclass
from math import isfinite
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from cohortlib.adapty.kernels.vocabulary import Vocabulary, recognise
from cohortlib.adapty.read import revenuecat
from cohortlib.adapty.read.columns import Column
from cohortlib.adapty.read.names import GRANTED, KIND_OF_CODE, MONEY, OTHER, READERS, TYPES, UNKNOWN
from cohortlib.engine.threads import on_threads
from cohortlib.errors import DataError, SchemaError
from cohortlib.read.arrays import string_views
from cohortlib.read.nulls import Dropped

_BLOCK = 1 << 17  # rows
_MATTERS = {
    **dict.fromkeys(MONEY, (1, 6)),
    **dict.fromkeys(revenuecat.SHARES, (1, 6)),
    "consecutive_payments": (1, 3),
}
REASONS = ("sandbox", "other_events", "unknown_events", "family_shared", "granted", "upgraded", "nulls")


@dataclass(frozen=True)
class CountedPart:
    """What one table gave."""

    frame: pl.DataFrame
    kind: pl.Series
    report: dict[str, int]
    nulls: dict[str, int]


def granted_rows(read: dict[str, Column]) -> pl.Series:
    """Return which rows are of a product that Adapty grants for free."""
    return read["product_id"].series.is_in(GRANTED).fill_null(value=False)


def codes_of(column: pl.Series, workers: int) -> pl.Series:
    """Give each event type its kind, or −1 for one without money and −2 for one that nobody knows."""
    kind = column.dtype
    if kind == pl.Null:
        return pl.repeat(UNKNOWN, len(column), dtype=pl.Int8, eager=True)
    if not isinstance(kind, pl.String | pl.Categorical | pl.Enum):
        raise SchemaError(f"column {column.name!r} is {kind}; expected event types as text, such as 'trial_started'")
    if kind != pl.String:
        return pl.Series(KIND_OF_CODE[column.cast(TYPES, strict=False).to_physical().fill_null(255).to_numpy()])
    codes, vocabulary = np.empty(len(column), np.int8), Vocabulary.of(TYPES.categories.to_list())
    pieces = []
    first = 0
    for views, memory, bases in string_views(column):
        for at in range(0, views.size, 2 * _BLOCK):
            part = views[at : at + 2 * _BLOCK]
            pieces.append((part, memory, bases, *vocabulary, codes[first : first + part.size // 2]))
            first += part.size // 2

    def block(piece: tuple[NDArray[Any], ...]) -> None:
        recognise(*piece)
        piece[-1][:] = KIND_OF_CODE[piece[-1]]

    on_threads(workers, block, pieces)
    return pl.Series(codes)


def is_kind(column: pl.Series, word: str) -> pl.Series:
    """Tell where a column of few values holds a word, in whatever case."""
    kind = column.dtype
    if kind == pl.Null:
        return pl.repeat(value=False, n=len(column), eager=True)
    if not isinstance(kind, pl.String | pl.Categorical | pl.Enum):
        raise SchemaError(f"column {column.name!r} is {kind}; expected text such as {word!r}")
    exact = column.eq_missing(word) if kind == pl.String else None
    rest = column if exact is None else column.filter(~exact)
    spelt = [value for value in rest.unique().drop_nulls().cast(pl.String) if value.lower() == word.lower()]
    if exact is not None and not spelt:
        return exact
    other = column.cast(pl.Enum(spelt), strict=False).is_not_null()
    return other if exact is None else exact | other


def judged_rows(
    read: dict[str, Column],
    code: pl.Series,
    live: pl.Series,
    masks: dict[str, pl.Series | None],
    spared: frozenset[str],
) -> CountedPart:
    """Tell which rows count, and refuse what cannot be read in those."""
    if "sandbox" in spared:
        live = pl.repeat(value=True, n=len(code), eager=True)
    report = dict.fromkeys(("rows", *REASONS), 0) | {"rows": len(code), "sandbox": len(code) - int(live.sum())}
    for reason, mask in {"other_events": code == OTHER, "unknown_events": code == UNKNOWN, **masks}.items():
        if reason not in spared and mask is not None and mask.any():
            report[reason] = int((live & mask).sum())
            live = live & ~mask
    for name, column in read.items():
        if column.bad is not None:
            column.refuse_unread(live & code.is_between(*_MATTERS.get(name, (0, 6))))
    nulls: dict[str, int] = {}
    gone: pl.Series | None = None
    for name in ("user", "event_datetime", *MONEY):
        series = read[name].series
        if series.null_count():
            lost = live & series.is_null() & (code >= _MATTERS.get(name, (0, 6))[0])
            if lost.any():
                nulls[series.name] = int(lost.sum())
                gone = lost if gone is None else gone | lost
    if gone is not None:
        report["nulls"] = int(gone.sum())
        live = live & ~gone
    kind = code if live.all() else pl.select(pl.when(live).then(code).otherwise(pl.lit(-1, pl.Int8))).to_series()
    frame = pl.DataFrame([column.series.alias(name) for name, column in read.items() if name in READERS])
    return CountedPart(frame, kind, report, nulls)


def settled_rows(frame: pl.DataFrame, kind: pl.Series) -> pl.DataFrame:
    """Put 0 where no money counts, and refuse what is no number where it does."""
    free = kind <= 0
    if free.any():
        zero = (pl.when(free).then(pl.lit(0, frame.schema[name])).otherwise(name).alias(name) for name in MONEY)
        frame = frame.with_columns(*zero)
    for name in MONEY:
        money = frame[name]
        # A sum tells at once; where it is not finite, it may yet be one of finite numbers.
        if money.dtype.is_float() and not isfinite(money.sum()) and not money.is_finite().all():
            wild = ~money.is_finite()
            raise DataError(
                f"column {name!r} holds NaN or infinity, {int(wild.sum()):,} times in rows that count, first in row "
                f"{wild.arg_max()}; expected finite numbers. Hint: filter them, or fill_nan(None) with nulls='drop'"
            )
    return frame


def refuse_nulls(what: str, dropped: Dropped, nulls: str) -> None:
    """Refuse nulls that are not to be dropped."""
    if dropped.count and nulls == "error":
        raise DataError(
            f"{what} have nulls: {dropped.counts()}, in rows that count; expected none. Hint: nulls='drop' leaves "
            "these rows out"
        )
