"""Partition events by user, as the records that the kernels take."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any, NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from cohortlib.adapty import filters
from cohortlib.adapty.arrays import DayColumn, TextColumn, UserColumn, bits_of, without_nulls
from cohortlib.adapty.findings import Findings
from cohortlib.adapty.installs import take_columns
from cohortlib.adapty.kernels.records import (
    EXTRA,
    HAS_CHAIN,
    HAS_EVENT,
    HAS_TRANSACTION,
    LACKS_MONEY,
    ONE_TIME,
    PASSES,
    REFUND,
    ROW,
    SEEN,
    TRIAL,
    pack,
)
from cohortlib.adapty.plan import RequestPlan
from cohortlib.adapty.read.events import Events
from cohortlib.adapty.read.specs import MONEY
from cohortlib.engine.partitions import Partitions, WriteColumns
from cohortlib.engine.progress import Meter
from cohortlib.engine.threads import on_threads, workers_for
from cohortlib.errors import Arg, DataError, SchemaError
from cohortlib.periods import epoch_day
from cohortlib.read.amounts import Amounts, magnitude
from cohortlib.read.arrays import Ints, Keys
from cohortlib.read.instants import Instants
from cohortlib.read.users import SECRET, Users

_NUMBER = "consecutive_payments"
_LAST_DAY = date(9999, 12, 30)
_MAX_NUMBER = 1 << 20
_ORDINAL_HINT = (Arg("period_number", "ordinal"), " counts the payments of each chain")


class EventColumns(NamedTuple):
    """The columns of events in `Partitions`; `keys2` and `extras` may be empty, `lines` is the row in the input."""

    keys: Keys
    keys2: Keys
    rows: NDArray[np.void]
    extras: NDArray[np.void]
    lines: NDArray[np.uint32]


@dataclass(frozen=True)
class EventRows:
    """The columns of events, ready to be packed into records."""

    plan: RequestPlan
    kind: NDArray[np.int8]
    instants: Instants | None
    days: DayColumn
    transactions: TextColumn
    chains: TextColumn
    amounts: tuple[Amounts, ...]
    users: UserColumn
    first_seen: DayColumn
    expiries: DayColumn
    products: NDArray[np.int32]
    numbers: NDArray[np.int32]
    events: TextColumn | None
    durations: NDArray[np.int32]
    passes: NDArray[np.bool_] | None
    seen: NDArray[np.bool_] | None
    """Whether an event proves that its user installed; None with a table of installs."""
    lacks_money: NDArray[np.bool_] | None
    """Whether an event lacks proceeds or net revenue, which count as 0; None if none does."""
    masks: filters.Masks

    @classmethod
    def of(
        cls, events: Events, users: Users, plan: RequestPlan, *, installs: bool, durations: bool, secret: Keys
    ) -> "EventRows":
        """Prepare the columns of events.

        Parameters
        ----------
        installs
            Whether the events define the installs.
        durations
            Whether the durations of products are needed.
        secret
            The secret that the keys of chains depend on.
        """
        frame = events.frame
        at = frame["event_datetime"]
        has_instants = at.null_count() < len(at)
        if has_instants:
            at, _ = without_nulls(at)
        chains = frame["original_transaction_id"]
        if chains.null_count():
            chains = frame.select(pl.coalesce("original_transaction_id", "transaction_id")).to_series()

        def days(column: pl.Series | None) -> DayColumn:
            return DayColumn(None, None) if column is None else DayColumn.of(_clip_last_day(column), plan.timezone)

        instants = [at, *(frame.get_column(name, default=None) for name in ("install_date", "subscription_expires_at"))]
        event_days, first_seen, expiries = on_threads(workers_for(plan.threads), days, instants)
        ids = [(frame["transaction_id"], SECRET), (chains, secret)]
        transactions, chain_ids = on_threads(workers_for(plan.threads), lambda pair: TextColumn.of(*pair), ids)
        masks, seen = filters.Masks.of(frame, plan.request.filters), None
        if installs:
            passing = masks.audience
            seen = np.ones(frame.height, np.bool_) if passing is None else passing.to_numpy()
        return cls(
            plan,
            events.kind.to_numpy(),
            Instants.of(at) if has_instants else None,
            event_days,
            transactions,
            chain_ids,
            tuple(Amounts.of(frame[name].fill_null(0), plan.decimals) for name in MONEY),
            UserColumn.of(users),
            first_seen,
            expiries,
            _codes(frame["product_id"]) if plan.restarts else np.empty(0, np.int32),
            _numbers(frame) if plan.consecutive else np.empty(0, np.int32),
            TextColumn.of(frame["profile_event_id"]) if "profile_event_id" in frame.columns else None,
            _durations(frame) if durations else np.empty(0, np.int32),
            bits_of(masks.passing),
            seen,
            _lacks_money(frame),
            masks,
        )

    def findings(self, events: Events) -> Findings:
        """Count the values of the filters in rows that count."""
        if not self.plan.request.filters.active:
            return Findings()
        counting = events.kind >= 0
        return self.masks.findings(counting) + Findings({("rows",): int(counting.sum())})

    def partitions(
        self, bits: int, last_day: int, meter: Meter, report: dict[str, int]
    ) -> tuple[Partitions, tuple[int, ...]]:
        """Partition the rows that count and are not after `last_day`, and sum the absolute amounts of each money.

        Adds to `report` the number of rows after `last_day`.
        """
        later: list[int] = []
        totals: list[list[int]] = []
        unnumbered: list[int] = []

        def block(first: int, size: int) -> tuple[Keys, WriteColumns]:
            counts = self.kind[first : first + size] >= 0
            days = self.days(first, size)
            late = (days > last_day) & counts
            if self.plan.conventions.after_to == "payments":
                late &= self.kind[first : first + size] >= REFUND
            later.append(int(np.count_nonzero(late)))
            chosen = np.flatnonzero(counts & ~late)
            lines = (chosen + first).astype(np.uint32)
            money = tuple(amounts.units(first, size) for amounts in self.amounts)
            totals.append([*map(magnitude, money)])
            if self.numbers.size:
                kind, numbers = self.kind[lines], self.numbers[lines]
                wrong = (numbers < 1) | (numbers > _MAX_NUMBER)
                unnumbered.append(int((wrong & (kind > TRIAL) & (kind < ONE_TIME)).sum()))
            keys, keys2 = self.users(first, size, lines)
            transaction, chain = self.transactions.keys(lines)[0], self.chains.keys(lines)[0]
            flags = self._flags(lines)
            ticks = self._ticks(first, size)
            first_seen, expiry = self.first_seen(first, size), self.expiries(first, size)

            def write(order: NDArray[np.intp], out: Sequence[NDArray[Any]]) -> None:
                ordered = EventColumns(*out)
                take_columns((keys, keys2, lines), order, (ordered.keys, ordered.keys2, ordered.lines))
                pack(order, transaction, chain, flags, chosen, ticks, money, days, first_seen, expiry, ordered.rows)
                self._write_extras(ordered.lines, ordered.extras)

            meter.add(size)
            return keys, write

        types = ((np.uint64, True), (np.uint64, self.users.users.wide), (ROW, True),
                 (EXTRA, self._has_extras), (np.uint32, True))  # fmt: skip
        count = 0 if self.instants is None else self.kind.size
        ordered = Partitions.of(count, bits, workers_for(self.plan.threads), block, types)
        magnitudes = tuple(map(sum, zip(*totals, strict=True))) or (0,) * len(self.amounts)
        for amounts, total in zip(self.amounts, magnitudes, strict=True):
            if total >= 2**63:
                raise amounts.too_large()
        if sum(unnumbered):
            raise DataError(
                f"column {_NUMBER!r} is null, below 1 or above {_MAX_NUMBER:,} in {sum(unnumbered):,} payments of "
                "subscriptions",
                expected="the number of the payment in its chain, starting at 1",
                hint=_ORDINAL_HINT,
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
        for flag, is_set in (
            (PASSES, True if self.passes is None else self.passes[lines]),
            (SEEN, False if self.seen is None else self.seen[lines]),
            (HAS_TRANSACTION, self.transactions.present(lines)),
            (HAS_CHAIN, self.chains.present(lines)),
            (HAS_EVENT, False if self.events is None else self.events.present(lines)),
            (LACKS_MONEY, False if self.lacks_money is None else self.lacks_money[lines]),
        ):
            flags |= np.where(is_set, np.int32(flag), np.int32(0))
        return flags


def _lacks_money(frame: pl.DataFrame) -> NDArray[np.bool_] | None:
    if not any(frame[name].null_count() for name in MONEY):
        return None
    return frame.select(pl.any_horizontal(pl.col(MONEY).is_null())).to_series().to_numpy()


def _clip_last_day(column: pl.Series) -> pl.Series:
    """Clip instants to 9999-12-30, so that no time zone moves them past the end of the calendar."""
    latest = column.alias("").to_physical().max()
    end = epoch_day(_LAST_DAY) * Instants.of(column).day
    return column.clip(upper_bound=_LAST_DAY) if isinstance(latest, int) and latest > end else column


def _codes(column: pl.Series) -> NDArray[np.int32]:
    """Return the rank of each text among the distinct texts, starting at 1; nulls are 0."""
    names = column.alias("").cast(pl.String)
    kinds = pl.Enum(_distinct(names))
    return (names.cast(kinds).to_physical().cast(pl.Int32) + 1).fill_null(0).to_numpy()


def _distinct(column: pl.Series) -> pl.Series:
    return column.drop_nulls().unique().sort()


def durations(frame: pl.DataFrame) -> list[str]:
    """List the durations of products in lower case, in the order of their codes."""
    return _distinct(frame["duration"].str.to_lowercase()).to_list() if "duration" in frame.columns else []


def _durations(frame: pl.DataFrame) -> NDArray[np.int32]:
    return _codes(frame["duration"].str.to_lowercase()) if "duration" in frame.columns else np.empty(0, np.int32)


def _numbers(frame: pl.DataFrame) -> NDArray[np.int32]:
    """Return the column consecutive_payments, clipped; nulls are 0."""
    if _NUMBER not in frame.columns:
        raise SchemaError(
            (f"column {_NUMBER!r} is not in the events, but ", Arg("period_number", "consecutive"), " needs it"),
            hint=_ORDINAL_HINT,
        )
    numbers = frame[_NUMBER].alias("").fill_null(0)
    return numbers.clip(0, _MAX_NUMBER + 1).cast(pl.Int32).to_numpy()
