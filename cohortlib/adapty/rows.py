"""Partition events by user, as the records that the kernels take."""

from dataclasses import dataclass
from datetime import date

import numpy as np
import polars as pl
from numpy.typing import NDArray

from cohortlib.adapty import filters
from cohortlib.adapty.arrays import DayColumn, TextColumn, UserColumn, bits_of
from cohortlib.adapty.findings import Findings
from cohortlib.adapty.kernels.records import (
    EXTRA,
    ONE_TIME,
    REFUND,
    ROW,
    TRIAL,
    EventArrays,
    EventBlock,
    EventColumns,
    choose_rows,
    write_events,
    write_extras,
)
from cohortlib.adapty.plan import RequestPlan
from cohortlib.adapty.read.events import Events
from cohortlib.adapty.read.specs import MONEY
from cohortlib.engine.partitions import Partitions, RowStore
from cohortlib.engine.progress import Meter
from cohortlib.engine.threads import on_threads, workers_for
from cohortlib.errors import Arg, DataError, SchemaError
from cohortlib.periods import epoch_day
from cohortlib.read.amounts import Amounts, magnitude
from cohortlib.read.arrays import Ints, Keys, read_only
from cohortlib.read.instants import Instants
from cohortlib.read.users import SECRET, Users

_BLOCK = 1 << 16  # rows that a thread writes at a time: fewer would leave but a few of each partition
_DATES = "event_datetime", "install_date", "subscription_expires_at"
_NUMBER = "consecutive_payments"
_LAST_DAY = date(9999, 12, 30)
_MAX_NUMBER = 1 << 20
_ORDINAL_HINT = (Arg("period_number", "ordinal"), " counts the payments of each chain")


@dataclass(frozen=True)
class EventRows:
    """The columns of events, ready to be packed into records."""

    plan: RequestPlan
    arrays: EventArrays
    instants: Instants | None
    """None if there are none, so that no row counts."""
    transactions: TextColumn
    chains: TextColumn
    events: TextColumn
    """The ids of the events themselves; empty if they have none."""
    days: DayColumn
    first_seen: DayColumn
    expiries: DayColumn
    amounts: tuple[Amounts, ...]
    users: UserColumn
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
        chains = frame["original_transaction_id"]
        if chains.null_count():
            chains = frame.select(pl.coalesce("original_transaction_id", "transaction_id")).to_series()

        def days(name: str) -> DayColumn:
            column = frame.get_column(name, default=None)
            return DayColumn(None, None) if column is None else DayColumn.of(_clip_last_day(column), plan.timezone)

        workers = workers_for(plan.threads)
        event_days, first_seen, expiries = on_threads(
            workers, days, ("event_datetime", "install_date", "subscription_expires_at")
        )
        ids = [(frame["transaction_id"], SECRET), (chains, secret)]
        ids.append((frame.get_column("profile_event_id", default=pl.Series(dtype=pl.String)), SECRET))
        transactions, chain_ids, event_ids = on_threads(workers, lambda pair: TextColumn.of(*pair), ids)
        masks, seen = filters.Masks.of(frame, plan.request.filters), None
        if installs:
            passing = masks.audience
            seen = pl.repeat(value=True, n=frame.height, eager=True) if passing is None else passing
        none = np.empty(0, np.int32)
        arrays = EventArrays(
            read_only(events.kind.to_numpy()),
            transactions.nulls,
            chain_ids.nulls,
            event_ids.nulls,
            bits_of(masks.passing),
            bits_of(seen),
            bits_of(_lacks_money(frame)),
            read_only(_codes(frame["product_id"]) if plan.restarts else none),
            read_only(_numbers(frame) if plan.consecutive else none),
            read_only(_durations(frame) if durations else none),
        )
        amounts = tuple(Amounts.of(frame[name].fill_null(0), plan.decimals) for name in MONEY)
        instants = Instants.of(frame["event_datetime"]) if event_days else None
        return cls(
            plan, arrays, instants, transactions, chain_ids, event_ids, event_days, first_seen, expiries, amounts,
            UserColumn.of(users), masks,
        )  # fmt: skip

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
        totals: list[list[int]] = [[0] * len(self.amounts)]
        unnumbered: list[int] = []
        arrays, wide = self.arrays, self.users.users.wide
        rows = 0 if self.instants is None else arrays.kind.size
        has_extras = max(map(len, (self.events.views[0], arrays.products, arrays.numbers, arrays.durations))) > 0
        types = (np.uint64, 1), (np.uint64, wide), (ROW, 1), (EXTRA, has_extras), (np.uint32, 1)
        store = RowStore(rows, bits, types)
        least_kind = REFUND if self.plan.conventions.after_to == "payments" else 0

        def write(first: int) -> None:
            size = min(_BLOCK, rows - first)
            kind, days = arrays.kind[first : first + size], self.days(first, size)
            lines = np.empty(size, np.uint32)
            count, late = choose_rows(kind, days, first, last_day, least_kind, lines)
            lines = lines[:count]
            later.append(late)
            money = tuple(amounts.units(first, size) for amounts in self.amounts)
            totals.append([*map(magnitude, money)])
            if arrays.numbers.size:
                kind, numbers = arrays.kind[lines], arrays.numbers[lines]
                wrong = (numbers < 1) | (numbers > _MAX_NUMBER)
                unnumbered.append(int((wrong & (kind > TRIAL) & (kind < ONE_TIME)).sum()))
            keys, keys2 = self.users(first, size, lines)
            transactions, chains = self.transactions.keys(lines)[0], self.chains.keys(lines)[0]
            events = self.events.keys(lines)[0] if self.events.views[0].size else np.empty(0, np.uint64)
            block = EventBlock(
                first, lines, keys, keys2, transactions, chains, events, self._ticks(first, size), days,
                self.first_seen(first, size), self.expiries(first, size), money,
            )  # fmt: skip
            begins, columns = store.reserve(block.keys), EventColumns(*store.columns)
            write_events(block, arrays, bits, begins.copy(), columns)
            if has_extras:
                write_extras(block, arrays, bits, begins, columns)
            meter.add(size)

        on_threads(workers_for(self.plan.threads), write, range(0, rows, _BLOCK))
        magnitudes = tuple(map(sum, zip(*totals, strict=True)))
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
        return store.finalize(), magnitudes

    def _ticks(self, first: int, size: int) -> Ints:
        return np.empty(0, np.int64) if self.instants is None else self.instants.ticks(first, size)


def _lacks_money(frame: pl.DataFrame) -> pl.Series | None:
    """Return which events lack proceeds or net revenue, which count as 0; None if none does."""
    if not any(frame[name].null_count() for name in MONEY):
        return None
    return frame.select(pl.any_horizontal(pl.col(MONEY).is_null())).to_series()


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
