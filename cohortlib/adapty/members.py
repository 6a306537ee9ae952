"""The users behind a cell of an answer: the sums of the cell, with each user as a segment of its own."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import polars as pl
from numpy.typing import NDArray

from cohortlib.adapty.aggregate import Aggregation, Linked, column_of_age
from cohortlib.adapty.arrays import UserColumn
from cohortlib.adapty.by import select_value
from cohortlib.adapty.durations import with_durations
from cohortlib.adapty.inputs import Batched, Inputs
from cohortlib.adapty.installs import Installs
from cohortlib.adapty.kernels.add import add_days, add_renewals
from cohortlib.adapty.kernels.records import (
    ACTIVATED,
    INSTALLS,
    KIND,
    NET,
    PAYERS,
    PROCEEDS,
    REFUND,
    REVENUE,
    SUBSCRIBERS,
    SUBSCRIPTIONS,
    TRIAL,
    EventColumns,
    Scratch,
)
from cohortlib.adapty.plan import RequestPlan
from cohortlib.adapty.read.events import Events
from cohortlib.adapty.spill import spilled_rows
from cohortlib.engine import ratios
from cohortlib.errors import DataError
from cohortlib.fields import MONEY
from cohortlib.read.arrays import Ints, Keys
from cohortlib.read.users import Users

_CELLS = 1 << 17  # of the users that are added at a time
_COUNTS = ("subscriptions", "payments", "refunds")
_FLAGS = ("installed", "activated", "subscriber", "payer")


@dataclass(frozen=True)
class Behind:
    """The input of an answer, from which its users can be listed; `text` is the value of the column `by`, if any."""

    inputs: Inputs
    rows: int
    """The rows of the events, as the answer counted them."""
    text: str | None = None

    def users(self, segment: int | None, period: int) -> pl.DataFrame:
        """List the users behind the cell of a segment (None: of all), as :meth:`~cohortlib.adapty.Answer.users`."""
        tables, seen = [], 0
        for events, installs in _parts(self.inputs):
            seen += events.report["rows"]
            tables.append(_members(events, installs, self.inputs, self.text, segment, period))
        if seen != self.rows:
            raise DataError(
                f"the events have {seen:,} rows now, and had {self.rows:,} when the answer was computed",
                value=seen, expected="the same events", hint="compute the answer again; a stream can be read once",
            )  # fmt: skip
        return _frame(pl.concat(tables, how="vertical"), self.inputs)


def _parts(inputs: Inputs) -> Iterator[tuple[Events, Installs]]:
    rows = inputs.read()
    if not isinstance(rows, Batched):
        yield rows
        return
    with spilled_rows(inputs.plan, rows.events, rows.installs, room=rows.room) as spilled:
        for events, installs, _ in spilled.partitions():
            yield events, installs


def _members(
    events: Events, installs: Installs, inputs: Inputs, text: str | None, segment: int | None, period: int
) -> pl.DataFrame:
    """Return the users of some rows that count in the cell; money in units."""
    plan, by = replace(inputs.plan, progress=None), inputs.by
    if plan.request.filters.duration or (by is not None and by.filter == "duration"):
        events = with_durations(events, plan)
    if by is not None:
        events, installs, plan = *select_value(events, installs, plan, by, text), by.plan(plan)
    adders, _ = Aggregation.of(events, installs, plan).run(lambda plan: _UserAdder(plan, segment, period))
    found = pl.concat([pl.DataFrame(schema=_SCHEMA), *(part for adder in adders for part in adder.parts)])
    counts = found.select(pl.any_horizontal(pl.exclude("key", "key2", "install_date") != 0)).to_series()
    return _ids(events, installs).join(found.filter(counts), on=["key", "key2"], how="inner").drop("key", "key2")


_SCHEMA = {
    "key": pl.UInt64, "key2": pl.UInt64, "install_date": pl.Int32,
    **dict.fromkeys((*_FLAGS, *_COUNTS, *MONEY), pl.Int64),
}  # fmt: skip


class _UserAdder:
    """List the users of a segment, with what each adds to one cell."""

    def __init__(self, plan: RequestPlan, segment: int | None, period: int) -> None:
        self.parts: list[pl.DataFrame] = []
        self.installed = np.zeros(len(plan.segments), np.int64)
        self._segment, self._period = segment, period
        self._days = plan.request.renewal_days if plan.request.period_type == "days" else None

    def add(self, columns: EventColumns, linked: Linked, scratch: Scratch) -> None:
        """Add the users of a partition, some at a time."""
        users = scratch.users[: linked.total]
        segments = users["segment"].copy()
        inside = np.flatnonzero(segments >= 0 if self._segment is None else segments == self._segment)
        width = len(self._days) + 1 if self._days is not None else max(linked.farthest, self._period) + 1
        step = max(1, _CELLS // width)
        for first in range(0, inside.size, step):
            chosen = inside[first : first + step]
            users["segment"] = -1
            users["segment"][chosen] = np.arange(chosen.size, dtype=np.int32)
            self.parts.append(self._part(columns, linked, scratch, chosen, width))
        users["segment"] = segments

    def _part(
        self, columns: EventColumns, linked: Linked, scratch: Scratch, chosen: NDArray[np.intp], width: int
    ) -> pl.DataFrame:
        cells, heads = np.zeros((8, chosen.size, width), np.int64), np.zeros((3, chosen.size), np.int64)
        if self._days is None:
            add_renewals(linked.total, columns.rows, np.zeros(width, np.int64), cells, heads, scratch)
            column = self._period - 1
            money = cells[:, :, column]
            payer = cells[PAYERS, :, : column + 1].sum(axis=1)
            subscriber, subscriptions = money[SUBSCRIBERS], money[SUBSCRIPTIONS]
        else:
            add_days(linked.total, columns.rows, column_of_age(self._days), cells, heads, scratch)
            column = self._days.index(self._period)
            money = cells[:, :, : column + 1].sum(axis=2)
            payer = subscriber = money[SUBSCRIBERS]
            subscriptions = money[SUBSCRIPTIONS]
        activated = cells[ACTIVATED, :, : column + 1].sum(axis=1)
        users = scratch.users[chosen]
        flags = (heads[INSTALLS], activated, subscriber, payer)
        counts = (subscriptions, *(each[chosen] for each in self._rows(columns, linked, scratch)))
        values = (*flags, *counts, *(money[plane] for plane in (REVENUE, PROCEEDS, NET)))
        ids = users["key"], users["key2"], users["install"]
        return pl.DataFrame(dict(zip(_SCHEMA, map(np.ascontiguousarray, (*ids, *values)), strict=True)), schema=_SCHEMA)

    def _rows(self, columns: EventColumns, linked: Linked, scratch: Scratch) -> tuple[Ints, Ints]:
        """Count the payments, and the refunds, of each user in the cell."""
        count = linked.users
        ends = scratch.users["end"][:count]
        rows = int(ends[-1]) if count else 0
        of_user = np.repeat(np.arange(count), np.diff(ends, prepend=0))
        places, records = scratch.places[:rows], columns.rows[scratch.position[:rows]]
        kind = records["marks"] & KIND
        if self._days is None:
            inside = places["ordinal"] == self._period
        else:
            installed = scratch.users["install"][:count].astype(np.int64)
            inside = records["day"] - installed[of_user] <= self._period
        inside &= places["use"] & (kind > TRIAL)
        payments, refunds = (
            np.bincount(of_user[inside & which], minlength=linked.total) for which in (kind < REFUND, kind >= REFUND)
        )
        return payments, refunds


def _ids(events: Events, installs: Installs) -> pl.DataFrame:
    """Return the id of each user and the words of its key."""
    own = events.frame["user"].filter(events.kind >= 0)
    if installs.users is None:
        return _keyed(own, Users.of(own)).unique(["key", "key2"], keep="any")
    users, others = Users.align(Users.of(own), Users.of(installs.users), ("the events", "installs"))
    listed = installs.users
    if listed.dtype != own.dtype:  # ids that are integers of different widths, or text as categories
        same = listed.cast(own.dtype, strict=False)
        own, listed = (own, same) if not same.null_count() and len(own) else (own.cast(listed.dtype), listed)
    both = [_keyed(column, keys) for column, keys in ((own, users), (listed, others))]
    return pl.concat(both).unique(["key", "key2"], keep="any")


def _keyed(ids: pl.Series, users: Users) -> pl.DataFrame:
    key, key2 = _keys(users)
    return pl.DataFrame({"user_id": ids, "key": key, "key2": key2})


def _keys(users: Users) -> tuple[Keys, Keys]:
    size = len(users)
    key, key2 = UserColumn.of(users)(0, size, np.arange(size, dtype=np.uint32))
    return key, key2 if key2.size else np.zeros(size, np.uint64)


def _frame(found: pl.DataFrame, inputs: Inputs) -> pl.DataFrame:
    """Return the published columns, in order."""
    scale = 10**inputs.plan.decimals
    found = found.sort(MONEY[0], "user_id", descending=[True, False])
    return found.select(
        "user_id",
        pl.col("install_date").cast(pl.Date),
        *(pl.col(name).cast(pl.Boolean) for name in _FLAGS),
        *_COUNTS,
        *(ratios.money(found[name].to_numpy(), scale).alias(f"{name}_usd") for name in MONEY),
    )
