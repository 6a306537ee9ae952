"""Events and installs as the kernels take them: columns of numbers, block by block, ordered by partition of users."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any, NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from cohortlib.adapty import filters
from cohortlib.adapty.arrays import Days, People, Texts, bits_of, without_nulls
from cohortlib.adapty.installs import copy_of
from cohortlib.adapty.kernels.records import EXTRA, HAS_CHAIN, HAS_EVENT, HAS_TRANSACTION, PASSES, ROW, SEEN, pack
from cohortlib.adapty.question import Question
from cohortlib.adapty.read.events import Events
from cohortlib.engine.partitions import Partitions, WriteColumns
from cohortlib.engine.progress import Meter
from cohortlib.engine.threads import on_threads, workers_for
from cohortlib.errors import DataError, SchemaError
from cohortlib.periods import epoch_day
from cohortlib.read.amounts import Amounts, magnitude
from cohortlib.read.arrays import Ints, Keys
from cohortlib.read.instants import Instants
from cohortlib.read.users import SECRET, Users

_MONEY = ("revenue_usd", "proceeds_usd", "net_revenue_usd")
_NUMBER = "consecutive_payments"
_LAST_PAYMENT = 4  # of the kinds of events; what is above is a refund
_LAST = date(9999, 12, 30)
_MOST_NUMBER = 1 << 20


# ------------------------------------------------------------------------------------------------ events, installs


class Columns(NamedTuple):
    """The columns of events in `Partitions`; `keys2` and `extras` may be empty."""

    keys: Keys
    keys2: Keys
    rows: NDArray[np.void]
    extras: NDArray[np.void]
    lines: NDArray[np.uint32]


@dataclass(frozen=True)
class Rows:
    """The events, column by column, as the kernels take them."""

    question: Question
    kind: NDArray[np.int8]
    instants: Instants | None
    days: Days
    transactions: Texts
    chains: Texts
    amounts: tuple[Amounts, ...]
    people: People
    first_seen: Days
    expiries: Days
    products: NDArray[np.int32]
    numbers: NDArray[np.int32]
    events: Texts | None
    durations: NDArray[np.int32]
    passes: NDArray[np.bool_] | None
    seen: NDArray[np.bool_] | None
    """Who counts as an install; None where that is not for the events to say."""

    @classmethod
    def of(
        cls, events: Events, users: Users, question: Question, *, installs: bool, durations: bool, secret: Keys
    ) -> "Rows":
        """Prepare the columns of events.

        `installs` says whether it is they who tell of installs; the keys of chains are drawn by `secret`.
        """
        frame = events.frame
        none = Days(None, None)
        at = frame["event_datetime"]
        dated = at.null_count() < len(at)
        if dated:
            at, _ = without_nulls(at)
        chains = frame["original_transaction_id"]
        if chains.null_count():
            chains = frame.select(pl.coalesce("original_transaction_id", "transaction_id")).to_series()
        there = set(frame.columns)

        def days(column: pl.Series | None) -> Days:
            return none if column is None else Days.of(_before_the_end(column), question.timezone)

        instants = [
            at,
            *(frame[name] if name in there else None for name in ("install_date", "subscription_expires_at")),
        ]
        came, first_seen, expiries = on_threads(workers_for(question.threads), days, instants)
        ids = [(frame["transaction_id"], SECRET), (chains, secret)]
        transactions, chained = on_threads(workers_for(question.threads), lambda pair: Texts.of(*pair), ids)
        seen = None
        if installs:
            passing = filters.audience(frame, question.request.filters)
            seen = np.ones(frame.height, np.bool_) if passing is None else passing.to_numpy()
        return cls(
            question,
            events.kind.to_numpy(),
            Instants.of(at) if dated else None,
            came,
            transactions,
            chained,
            tuple(Amounts.of(frame[name], question.decimals) for name in _MONEY),
            People.of(users),
            first_seen,
            expiries,
            _codes(frame["product_id"]) if question.restarts else np.empty(0, np.int32),
            _numbers(frame) if question.consecutive else np.empty(0, np.int32),
            Texts.of(frame["profile_event_id"]) if "profile_event_id" in there else None,
            _durations(frame) if durations else np.empty(0, np.int32),
            bits_of(filters.transactions(frame, question.request.filters)),
            seen,
        )

    def partitions(
        self, bits: int, last_day: int, meter: Meter, report: dict[str, int]
    ) -> tuple[Partitions, tuple[int, ...]]:
        """Order the rows that count, up to `last_day`, and sum the magnitudes of each kind of money.

        Count in `report` those left out because they are later.
        """
        later: list[int] = []
        totals: list[list[int]] = []
        unnumbered: list[int] = []

        def block(first: int, size: int) -> tuple[Keys, WriteColumns]:
            counts = self.kind[first : first + size] >= 0
            days = self.days(first, size)
            late = (days > last_day) & counts
            if self.question.conventions.after_to == "payments":
                late &= self.kind[first : first + size] > _LAST_PAYMENT
            later.append(int(np.count_nonzero(late)))
            chosen = np.flatnonzero(counts & ~late)
            lines = (chosen + first).astype(np.uint32)
            money = tuple(amounts.units(first, size) for amounts in self.amounts)
            totals.append([*map(magnitude, money)])
            if self.numbers.size:
                kind, numbers = self.kind[lines], self.numbers[lines]
                wrong = (numbers < 1) | (numbers > _MOST_NUMBER)
                unnumbered.append(int((wrong & (kind >= 1) & (kind <= 3)).sum()))
            keys, keys2 = self.people(first, size, lines)
            transaction, chain = self.transactions.keys(lines)[0], self.chains.keys(lines)[0]
            flags = self._flags(lines)
            ticks, first_seen, expiry = (
                self._ticks(first, size),
                self.first_seen(first, size),
                self.expiries(first, size),
            )

            def write(order: NDArray[np.intp], out: Sequence[NDArray[Any]]) -> None:
                ordered = Columns(*out)
                copy_of((keys, keys2, lines), order, (ordered.keys, ordered.keys2, ordered.lines))
                pack(order, transaction, chain, flags, chosen, ticks, money, days, first_seen, expiry, ordered.rows)
                self._write_extras(ordered.lines, ordered.extras)

            meter.add(size)
            return keys, write

        types = ((np.uint64, True), (np.uint64, self.people.users.wide), (ROW, True),
                 (EXTRA, self._has_extras), (np.uint32, True))  # fmt: skip
        count = 0 if self.instants is None else self.kind.size
        ordered = Partitions.of(count, bits, workers_for(self.question.threads), block, types)
        magnitudes = tuple(map(sum, zip(*totals, strict=True))) or (0,) * len(self.amounts)
        for amounts, total in zip(self.amounts, magnitudes, strict=True):
            if total >= 2**63:
                raise amounts.too_large()
        if sum(unnumbered):
            raise DataError(
                f"column {_NUMBER!r} is null, below 1 or above {_MOST_NUMBER:,} in {sum(unnumbered):,} payments of "
                "subscriptions; expected the number of the payment, 1 first. Hint: period_number='ordinal' counts the "
                "payments itself"
            )
        report["after_to"] = sum(later)
        return ordered, magnitudes

    def _ticks(self, first: int, size: int) -> Ints:
        return np.empty(0, np.int64) if self.instants is None else self.instants.ticks(first, size)

    @property
    def _has_extras(self) -> bool:
        return self.events is not None or max(self.products.size, self.numbers.size, self.durations.size) > 0

    def _write_extras(self, lines: NDArray[np.uint32], extras: NDArray[np.void]) -> None:
        if self._has_extras:
            extras["event"] = 0 if self.events is None else self.events.keys(lines)[0]
            for name, codes in (("product", self.products), ("number", self.numbers), ("duration", self.durations)):
                extras[name] = codes[lines] if codes.size else 0

    def _flags(self, lines: NDArray[np.uint32]) -> NDArray[np.int32]:
        flags = self.kind[lines].astype(np.int32)
        for flag, there in (
            (PASSES, True if self.passes is None else self.passes[lines]),
            (SEEN, False if self.seen is None else self.seen[lines]),
            (HAS_TRANSACTION, self.transactions.there(lines)),
            (HAS_CHAIN, self.chains.there(lines)),
            (HAS_EVENT, False if self.events is None else self.events.there(lines)),
        ):
            flags |= np.where(there, np.int32(flag), np.int32(0))
        return flags


def _before_the_end(column: pl.Series) -> pl.Series:
    """Take what lies at the end of the calendar, where no zone may push it over, for the last day but one."""
    latest = column.alias("").to_physical().max()
    end = epoch_day(_LAST) * Instants.of(column).day
    return column.clip(upper_bound=_LAST) if isinstance(latest, int) and latest > end else column


def _codes(column: pl.Series) -> NDArray[np.int32]:
    """Give texts numbers in their order, from 1; 0 is null."""
    names = column.alias("").cast(pl.String)
    kinds = pl.Enum(_names(names))
    return (names.cast(kinds).to_physical().cast(pl.Int32) + 1).fill_null(0).to_numpy()


def _names(column: pl.Series) -> pl.Series:
    return column.drop_nulls().unique().sort()


def durations(frame: pl.DataFrame) -> list[str]:
    """Name the durations of products, in whatever case they are written, in the order of their numbers."""
    return _names(frame["duration"].str.to_lowercase()).to_list() if "duration" in frame.columns else []


def _durations(frame: pl.DataFrame) -> NDArray[np.int32]:
    return _codes(frame["duration"].str.to_lowercase()) if "duration" in frame.columns else np.empty(0, np.int32)


def _numbers(frame: pl.DataFrame) -> NDArray[np.int32]:
    """Take the numbers that the file gives to payments, 0 where it gives none that could be one."""
    if _NUMBER not in frame.columns:
        raise SchemaError(
            f"column {_NUMBER!r} is not in the events; period_number='consecutive' needs it. "
            "Hint: period_number='ordinal' counts the payments of each chain"
        )
    numbers = frame[_NUMBER].alias("").fill_null(0)
    return numbers.clip(0, _MOST_NUMBER + 1).cast(pl.Int32).to_numpy()
