"""Events and installs as the kernels take them: columns of numbers, block by block, ordered by partition of users."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from cohortlib import kernels as shared
from cohortlib.adapty import filters, kernels
from cohortlib.adapty.events import Events
from cohortlib.adapty.question import Question, Segments
from cohortlib.errors import DataError, SchemaError
from cohortlib.partitions import Meter, Partitions, Write, on_threads, workers_for
from cohortlib.periods import Calendar, epoch_day
from cohortlib.schema import SECRET, Amounts, Cut, Dropped, Instants, Ints, Keys, Users, magnitude, string_views

_MONEY = ("revenue_usd", "proceeds_usd", "net_revenue_usd")
_NUMBER = "consecutive_payments"
_LAST_PAYMENT = 4  # of the kinds of events; what is above is a refund
_LAST = date(9999, 12, 30)
_MOST_NUMBER = 1 << 20


# ------------------------------------------------------------------------------------------- columns, block by block


@dataclass(frozen=True)
class Days:
    """A column of instants as local days, `kernels.NONE` where it is null."""

    cut: Cut | None
    nulls: NDArray[np.bool_] | None

    @classmethod
    def of(cls, column: pl.Series, zone: str) -> "Days":
        """Prepare a column that may have nulls."""
        if column.null_count() == len(column):
            return cls(None, None)
        filled, nulls = without_nulls(column)
        return cls(Cut.of(Instants.of(filled), zone, Calendar("D")), nulls)

    def __bool__(self) -> bool:
        return self.cut is not None

    def __call__(self, first: int, size: int) -> NDArray[np.int32]:
        """Give `size` rows from `first` on; none where the column has no value at all."""
        if self.cut is None:
            return np.empty(0, np.int32)
        days = self.cut.local_days(first, size)
        if self.nulls is not None:
            days[self.nulls[first : first + size]] = kernels.NONE
        return days


@dataclass(frozen=True)
class Texts:
    """A column of ids: views, memory and bases as ``kernels.fingerprint_strings`` takes them, and which are null."""

    views: tuple[NDArray[Any], ...]
    nulls: NDArray[np.bool_] | None
    secret: Keys = field(default_factory=lambda: SECRET)

    @classmethod
    def of(cls, column: pl.Series, secret: Keys = SECRET) -> "Texts":
        """Look at a column where it lies; `secret` is what its keys are drawn by."""
        nulls = column.alias("").is_null().to_numpy() if column.null_count() else None
        pieces = string_views(column.rechunk(), nulls=False)
        return cls(
            pieces[0] if pieces else (np.empty(0, np.uint64), np.empty(0, np.uint8), np.empty(0, np.uint64)),
            nulls,
            secret,
        )

    def there(self, rows: NDArray[np.uint32]) -> NDArray[np.bool_]:
        """Tell which of some rows have an id."""
        return np.ones(rows.size, np.bool_) if self.nulls is None else ~self.nulls[rows]

    def keys(self, rows: NDArray[np.uint32], *, wide: bool = False) -> tuple[Keys, Keys]:
        """Give some rows a key of one word, or of two."""
        if self.nulls is not None and self.nulls[rows].any():
            # Nobody knows what stands in the view of a null.
            there = self.there(rows)
            keys, keys2 = np.zeros(rows.size, np.uint64), np.zeros(rows.size * wide, np.uint64)
            found, found2 = self.keys(rows[there], wide=wide)
            keys[there] = found
            if wide:
                keys2[there] = found2
            return keys, keys2
        keys, keys2 = np.empty(rows.size, np.uint64), np.empty(rows.size * wide, np.uint64)
        shared.fingerprint_strings(*self.views, rows, self.secret, keys, keys2)
        return keys, keys2


@dataclass(frozen=True)
class _People:
    """The users of a table, as text or as numbers."""

    users: Users
    texts: Texts | None

    @classmethod
    def of(cls, users: Users) -> "_People":
        return cls(users, Texts.of(users.series) if users.wide else None)

    def __call__(self, first: int, size: int, rows: NDArray[np.uint32]) -> tuple[Keys, Keys]:
        """Give some of `size` rows from `first` on a key of one word, or of two where the ids are text."""
        if self.texts is not None:
            return self.texts.keys(rows, wide=True)
        keys, none = self.users.keys(first, size)
        return keys[rows - np.uint32(first)], none


def without_nulls(column: pl.Series) -> tuple[pl.Series, NDArray[np.bool_] | None]:
    """Fill nulls of instants with a value that stands there anyway, and mark where they were."""
    if not column.null_count():
        return column, None
    # Without its name, which polars may take for a pattern.
    plain = column.alias("")
    numbers = plain.to_physical()
    return numbers.fill_null(numbers.min()).cast(column.dtype).alias(column.name), plain.is_null().to_numpy()


def _bits(column: pl.Series | None) -> NDArray[np.bool_] | None:
    return None if column is None else column.to_numpy()


# ------------------------------------------------------------------------------------------------ events, installs


class Columns(NamedTuple):
    """The columns of events in `Partitions`; `keys2` and `extras` may be empty."""

    keys: Keys
    keys2: Keys
    rows: NDArray[np.void]
    extras: NDArray[np.void]
    lines: NDArray[np.uint32]


class Listed(NamedTuple):
    """The columns of installs in `Partitions`."""

    keys: Keys
    keys2: Keys
    days: NDArray[np.int32]
    passes: NDArray[np.int32]


def _copy(columns: Sequence[NDArray[Any]], order: NDArray[np.intp], out: Sequence[NDArray[Any]]) -> None:
    """Write columns in an order, those that are there."""
    for values, place in zip(columns, out, strict=True):
        if place.size:
            np.take(values, order, out=place, mode="clip")


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
    people: _People
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
            _People.of(users),
            first_seen,
            expiries,
            _codes(frame["product_id"]) if question.restarts else np.empty(0, np.int32),
            _numbers(frame) if question.consecutive else np.empty(0, np.int32),
            Texts.of(frame["profile_event_id"]) if "profile_event_id" in there else None,
            _durations(frame) if durations else np.empty(0, np.int32),
            _bits(filters.transactions(frame, question.request.filters)),
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

        def block(first: int, size: int) -> tuple[Keys, Write]:
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
                _copy((keys, keys2, lines), order, (ordered.keys, ordered.keys2, ordered.lines))
                kernels.pack(
                    order, transaction, chain, flags, chosen, ticks, money, days, first_seen, expiry, ordered.rows
                )
                self._write_extras(ordered.lines, ordered.extras)

            meter.add(size)
            return keys, write

        types = ((np.uint64, True), (np.uint64, self.people.users.wide), (kernels.ROW, True),
                 (kernels.EXTRA, self._has_extras), (np.uint32, True))  # fmt: skip
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
            (kernels.PASSES, True if self.passes is None else self.passes[lines]),
            (kernels.SEEN, False if self.seen is None else self.seen[lines]),
            (kernels.HAS_TRANSACTION, self.transactions.there(lines)),
            (kernels.HAS_CHAIN, self.chains.there(lines)),
            (kernels.HAS_EVENT, False if self.events is None else self.events.there(lines)),
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


@dataclass(frozen=True)
class Installs:
    """Who installed, and when: a table of users, ready counts by date, or what the events say."""

    frame: pl.DataFrame | None
    dropped: Dropped = field(default_factory=Dropped)
    """The rows left out for nulls, and the columns in which these are."""

    @property
    def users(self) -> pl.Series | None:
        """The users, where they are told one by one."""
        return self.frame["user"] if self.frame is not None and "user" in self.frame.columns else None

    def counts(self, segments: Segments, question: Question) -> Ints:
        """Add up ready counts, where there are any."""
        total = np.zeros(len(segments), np.int64)
        if self.frame is None or self.users is not None:
            return total
        passing = filters.installs(self.frame, question.request.filters)
        frame = self.frame if passing is None else self.frame.filter(passing)
        everybody, most = sum(frame["installs"].to_list()), 2**63 // 10**question.decimals
        if everybody >= most:
            raise DataError(
                f"column 'installs' adds up to {everybody:,}; expected fewer than {most:,}, the range of 64-bit "
                f"integers with decimals={question.decimals}"
            )
        days = Days.of(frame["install_date"], question.timezone)(0, frame.height)
        inside = (days >= segments.first) & (days <= segments.last)
        np.add.at(total, segments.of_day[days[inside] - segments.first], frame["installs"].to_numpy()[inside])
        return total

    def partitions(self, users: Users | None, bits: int, question: Question) -> Partitions:
        """Order the table of users."""
        types = ((np.uint64, True), (np.uint64, users is not None and users.wide), (np.int32, True), (np.int32, True))
        if self.frame is None or users is None or not len(users):
            return Partitions.empty(bits, types)
        days = Days.of(self.frame["install_date"], question.timezone)
        passes = _bits(filters.installs(self.frame, question.request.filters))
        people = _People.of(users)

        def block(first: int, size: int) -> tuple[Keys, Write]:
            passing = np.ones(size, np.int32)
            if passes is not None:
                passing = passes[first : first + size].astype(np.int32)
            lines = np.arange(first, first + size, dtype=np.uint32)
            keys, keys2 = people(first, size, lines)
            return keys, partial(_copy, (keys, keys2, days(first, size), passing))

        return Partitions.of(len(users), bits, workers_for(question.threads), block, types)
