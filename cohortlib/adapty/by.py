"""One answer per value of a column, from rows that are read once.

The answer of a value is that of a filter with this value. A user without a row of the value adds the same to the
answers of all values: installs that the column does not cut, and counts of the report. So all users are added up once
with nothing selected. For each value only its users are added again, with its rows selected, and subtracted with
nothing selected.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import date
from typing import Any

import numpy as np
import polars as pl

from cohortlib.adapty import filters, forecast
from cohortlib.adapty.additive import Sums, occurrences
from cohortlib.adapty.aggregate import COUNTED_ROWS, MISSING_REVENUE, Aggregation, SegmentSums
from cohortlib.adapty.answer import Answer
from cohortlib.adapty.arrays import UserColumn
from cohortlib.adapty.durations import with_durations
from cohortlib.adapty.findings import Findings
from cohortlib.adapty.forecast import Ladders
from cohortlib.adapty.installs import Installs
from cohortlib.adapty.plan import RequestPlan
from cohortlib.adapty.read.events import Events
from cohortlib.adapty.read.specs import BY
from cohortlib.adapty.request import FILTERS, Request
from cohortlib.engine.partitions import check_size
from cohortlib.engine.threads import on_threads, workers_for
from cohortlib.errors import Arg, CohortlibError, DataError, SchemaError, SettingError, listed
from cohortlib.read.arrays import Ints, Keys
from cohortlib.read.nulls import Dropped
from cohortlib.read.users import Users

MOST_VALUES = 1000
WORK = 250
"""Bytes that are needed per event, in addition to those of one answer."""
_HINT = "filter the events, or use a column with fewer values"
# The counts of a report that count rows of the table.
_OF_TABLE = (COUNTED_ROWS, "missing_money", MISSING_REVENUE)


@dataclass(frozen=True)
class By:
    """The column whose values each have an answer."""

    name: str
    filter: str | None
    """The filter that compares the column; None for a column that is not a filter."""

    @classmethod
    def of(cls, name: str) -> "By":
        """Find the filter that a name stands for: its own, or that of its only column."""
        if not isinstance(name, str) or not name:
            raise SettingError(
                (Arg("by", name), " is not a column"), value=name, expected=f"a filter ({listed(FILTERS, 20)}) or the "
                "name of a column of the events"
            )  # fmt: skip
        return cls(name, next((each for each in FILTERS if name == each or filters.columns_of(each) == (name,)), None))

    @property
    def own_column(self) -> str | None:
        """The column to be read as `BY`; None for a filter."""
        return self.name if self.filter is None else None

    @property
    def needed_columns(self) -> tuple[str, ...]:
        """The columns of events of which one is needed."""
        if self.filter is None:
            return (self.name,)
        own = filters.columns_of(self.filter)
        return (*own, "subscription_expires_at") if self.filter == "duration" else own

    @property
    def columns(self) -> set[str]:
        """The columns of events that the filter needs."""
        return set() if self.filter is None else filters.columns_of_values(self.filter)

    def plan(self, plan: RequestPlan) -> RequestPlan:
        """Return the plan with which users are added up: numbering restarts as if there were a filter on products."""
        if self.filter != "store_product_id" or plan.conventions.restart_per_product != "auto":
            return plan
        return replace(plan, conventions=replace(plan.conventions, restart_per_product=True))

    def spelled(self, text: str) -> str:
        """Return the spelling in which a value is compared."""
        return text if self.filter is None else filters.spelled(self.filter, text)

    def request(self, request: Request, text: str | None) -> Request:
        """Return the request with a filter on a value; as it is where a filter cannot express it."""
        if self.filter is None or text is None:
            return request
        try:
            chosen: dict[str, Any] = {self.filter: (text,)}
            one = replace(request.filters, **chosen)
        except CohortlibError:
            return request
        return replace(request, filters=one) if filters.value_texts(one, self.filter) == [text] else request

    def cuts(self, frame: pl.DataFrame, *, installs: bool) -> bool:
        """Whether a table has the column; for installs, whether its values select installs."""
        if self.filter is None:
            return BY in frame.columns
        if installs and not filters.is_of_users(self.filter):
            return False
        return any(name in frame.columns for name in filters.columns_of(self.filter, installs=installs))

    def unfiltered(self, installs: Installs) -> Findings:
        """Count the filter if the installs lack its column."""
        if self.filter is None or installs.frame is None or not filters.is_of_users(self.filter):
            return Findings()
        return Findings() if self.cuts(installs.frame, installs=True) else Findings({("unfiltered", self.filter): 1})

    @property
    def mark(self) -> str:
        """The column that selects rows of events."""
        of_users = self.filter is not None and filters.is_of_users(self.filter)
        return filters.SELECTED if of_users else filters.SELECTED_TRANSACTIONS

    def values(self, frame: pl.DataFrame, plan: RequestPlan, *, installs: bool = False) -> pl.DataFrame:
        """Return the values that the rows of a table hold; see :meth:`filters.Masks.values`."""
        masks = filters.Masks.of(frame, plan.request.filters, installs=installs)
        return masks.values(BY if self.filter is None else self.filter)


@dataclass(frozen=True)
class Change:
    """What the rows of a value change in the sums of all users with nothing selected."""

    text: str | None
    by_segment: SegmentSums
    counts: dict[str, int]
    chains: tuple[Keys, Keys]
    """The chains that are no longer seen, and those seen in addition: ties between equal rows may end differently."""
    ladders: Ladders | None

    @classmethod
    def of(cls, text: str | None, sums: Sums, nothing: Sums, ladders: Ladders | None) -> "Change":
        """Compare the sums of a value's users with those with nothing selected."""
        same = np.array_equal(sums.chains, nothing.chains)
        none = np.empty(0, np.uint64)
        return cls(
            text,
            sums.by_segment + -nothing.by_segment,
            {name: count - nothing.counts[name] for name, count in sums.counts.items()},
            (none, none) if same else (nothing.chains, sums.chains),
            ladders,
        )

    def __add__(self, other: "Change") -> "Change":
        texts = [text for text in (self.text, other.text) if text is not None]
        removed, added = (np.concatenate(pair) for pair in zip(self.chains, other.chains, strict=True))
        return Change(
            min(texts, default=None),
            self.by_segment + other.by_segment,
            {name: count + other.counts[name] for name, count in self.counts.items()},
            (removed, added),
            forecast.add_ladders(self.ladders, other.ladders),
        )

    def shared(self, count: Callable[[Keys], Ints]) -> int:
        """Return by how many there are more chains of several users; `count` returns how often keys occur."""
        removed, added = self.chains
        keys = np.unique(np.concatenate([removed, added]))
        if not keys.size:
            return 0
        before = count(keys)
        after = before - occurrences(np.sort(removed), keys) + occurrences(np.sort(added), keys)
        return int((after > 1).sum()) - int((before > 1).sum())


@dataclass(frozen=True)
class ByValue:
    """The sums of some users with nothing selected, and the change for each value; those of disjoint users add."""

    nothing: Sums
    changes: dict[str | None, Change] = field(default_factory=dict)

    def __add__(self, other: "ByValue") -> "ByValue":
        changes = dict(self.changes)
        for value, change in other.changes.items():
            changes[value] = changes[value] + change if value in changes else change
        check_values(len(changes))
        return ByValue(self.nothing + other.nothing, changes)

    def warn(self) -> None:
        """Warn of what a single answer warns of, over all values."""
        counts = dict(self.nothing.counts)
        for name in _OF_TABLE:
            counts[name] += sum(change.counts[name] for change in self.changes.values())
        replace(self.nothing, counts=counts).warn()

    def answers(
        self, plan: RequestPlan, by: By, shared: int, count: Callable[[Keys], Ints], *, predict: bool
    ) -> dict[str | None, Answer]:
        """Return the answer of each value; `shared` chains have several users, and `count` counts those of keys."""
        values = sorted(self.changes, key=lambda value: (value is None, self.changes[value].text or ""))
        answers: dict[str | None, Answer] = {}
        for value in values:
            change = self.changes[value]
            counts = {name: number + change.counts[name] for name, number in self.nothing.counts.items()}
            total = replace(
                self.nothing,
                plan=replace(plan, request=by.request(plan.request, change.text)),
                by_segment=self.nothing.by_segment + change.by_segment,
                counts=counts | {"shared_chains": shared + change.shared(count)},
                chains=np.empty(0, np.uint64),
            )
            answers[change.text] = total.answer(forecast.predictions(change.ladders, plan) if predict else None)
        return answers


def check_values(values: int) -> None:
    """Raise if a column has too many values."""
    if values > MOST_VALUES:
        raise DataError(
            f"the column has more than {MOST_VALUES:,} values", value=values, expected="one answer per value",
            hint=_HINT,
        )  # fmt: skip


def add_up(events: Events, installs: Installs, plan: RequestPlan, by: By, since: date | None) -> ByValue:
    """Add up users for each value; `since` is the day from which older cohorts count in predictions, or None."""
    plan = by.plan(plan)
    if by.filter == "duration":
        events = with_durations(events, plan)
    parts = _Parts.of(events, installs, plan, by)
    unselected = parts.unselected()
    nothing = Sums.of(*unselected, plan)
    nothing = replace(nothing, findings=nothing.findings + by.unfiltered(installs))
    check_size(parts.texts.height * nothing.by_segment.cells.size, _HINT)
    workers = workers_for(plan.threads)
    own = replace(plan, progress=None, threads=1 if parts.texts.height >= 2 * workers else plan.threads)

    def change(code: int) -> Change:
        rows = parts.of_value(code)
        ladders = None if since is None else forecast.ladders(*rows, own, since)
        aggregation = Aggregation.of(*rows, own)
        sums = Sums.of_users(aggregation, rows[1])
        aggregation.select_none(users=by.mark == filters.SELECTED, installs=parts.cuts_installs)
        return Change.of(parts.texts["text"][code], sums, Sums.of_users(aggregation, parts.none_of(rows[1])), ladders)

    codes = range(parts.texts.height)
    changes = on_threads(workers if own.threads == 1 else 1, change, codes)
    return ByValue(nothing, dict(zip(parts.texts["value"], changes, strict=True)))


def select_value(
    events: Events, installs: Installs, plan: RequestPlan, by: By, text: str | None
) -> tuple[Events, Installs]:
    """Select the rows that hold a value of the column, or none of its values."""
    value = None if text is None else by.spelled(text)

    def selected(frame: pl.DataFrame, *, is_installs: bool) -> pl.Series:
        rows = by.values(frame, plan, installs=is_installs).filter(pl.col("value").eq_missing(value))["row"]
        return pl.repeat(value=False, n=frame.height, eager=True).scatter(rows, values=True)

    if by.cuts(events.frame, installs=False):
        marks = selected(events.frame, is_installs=False).alias(by.mark)
        events = replace(events, frame=events.frame.with_columns(marks))
    if installs.frame is not None and by.cuts(installs.frame, installs=True):
        marks = selected(installs.frame, is_installs=True).alias(filters.SELECTED)
        installs = replace(installs, frame=installs.frame.with_columns(marks))
    return events, installs


@dataclass(frozen=True)
class _Parts:
    """The rows of the users of each value, in events and in installs, and which of them are selected."""

    by: By
    events: Events
    installs: Installs
    cuts_installs: bool
    texts: pl.DataFrame
    rows: tuple[dict[int, pl.DataFrame], dict[int, pl.DataFrame]]

    @classmethod
    def of(cls, events: Events, installs: Installs, plan: RequestPlan, by: By) -> "_Parts":
        """Find the users of each value."""
        counting = events.kind >= 0
        if not by.cuts(events.frame, installs=False):
            raise SchemaError(
                (Arg("by", by.name), " needs ", filters.needed(by.needed_columns), ", which the events do not have"),
                value=by.name, hint="add the column to the events",
            )  # fmt: skip
        held = by.values(events.frame, plan).join(_numbered(counting), on="row", how="semi", maintain_order="left")
        of_installs = held.clear()
        cuts = installs.frame is not None and by.cuts(installs.frame, installs=True)
        if cuts and installs.frame is not None:
            of_installs = by.values(installs.frame, plan, installs=True)
        both = pl.concat([held, of_installs])
        texts = both.group_by("value").agg(pl.col("text").min()).sort("text", nulls_last=True)
        check_values(texts.height)
        texts = texts.with_row_index("code")
        held, of_installs = (
            each.join(texts.select("value", "code"), on="value", nulls_equal=True, maintain_order="left").select(
                "row", "code", selected=pl.lit(value=True)
            )
            for each in (held, of_installs)
        )
        keys = _keys(events, installs)
        owners = [pl.DataFrame({"row": np.arange(key.size, dtype=np.uint32), "key": key}) for key in keys]
        owners[0] = owners[0].join(_numbered(counting), on="row", how="semi", maintain_order="left")
        pairs = pl.concat(
            each.join(owner, on="row").select("key", "code")
            for each, owner in zip((held, of_installs), owners, strict=True)
        ).unique()

        several = pairs.group_by("key").len().filter(pl.col("len") > 1).select("key")

        def of_users(owner: pl.DataFrame, selected: pl.DataFrame) -> dict[int, pl.DataFrame]:
            # Users of one value whose rows all hold it need no join.
            rest, simple = owner, []
            if selected.height == owner.height and selected["row"].equals(owner["row"]):
                rest = owner.join(several, on="key", how="semi", maintain_order="left")
                simple = [selected.join(rest, on="row", how="anti", maintain_order="left") if rest.height else selected]
            rows = rest.join(pairs, on="key").drop("key").join(selected, on=["row", "code"], how="left")
            return _by_code(pl.concat([rows, *simple]))

        if installs.frame is not None and installs.users is None:  # ready counts, which belong to no user
            return cls(by, events, installs, cuts, texts, (of_users(owners[0], held), _by_code(of_installs)))
        rows = of_users(owners[0], held), of_users(owners[1], of_installs)
        return cls(by, events, installs, cuts, texts, rows)

    def unselected(self) -> tuple[Events, Installs]:
        """Return all rows, with none selected."""
        nothing = pl.lit(value=False)
        events = replace(self.events, frame=self.events.frame.with_columns(nothing.alias(self.by.mark)))
        installs = self.installs
        if installs.frame is not None and self.cuts_installs:
            installs = replace(installs, frame=installs.frame.with_columns(nothing.alias(filters.SELECTED)))
        return events, installs

    def of_value(self, code: int) -> tuple[Events, Installs]:
        """Return the rows of a value's users, with those of the value selected."""
        empty = pl.DataFrame(schema={"row": pl.UInt32, "selected": pl.Boolean})
        rows, install_rows = (each.get(code, empty) for each in self.rows)
        marks, install_marks = (each["selected"].fill_null(value=False) for each in (rows, install_rows))
        frame = self.events.frame[rows["row"]].with_columns(marks.alias(self.by.mark))
        kind, report = self.events.kind.gather(rows["row"]), dict.fromkeys(self.events.report, 0)
        installs = self.installs.frame
        if installs is not None:
            installs = installs[install_rows["row"]]
            if self.cuts_installs:
                installs = installs.with_columns(install_marks.alias(filters.SELECTED))
        return Events(frame, kind, report), Installs(installs, Dropped())

    def none_of(self, installs: Installs) -> Installs:
        """Return the installs of a value's users with none selected."""
        if installs.frame is None or not self.cuts_installs:
            return installs
        return replace(installs, frame=installs.frame.with_columns(pl.lit(value=False).alias(filters.SELECTED)))


def _numbered(mask: pl.Series) -> pl.DataFrame:
    return pl.DataFrame({"row": mask.arg_true().cast(pl.UInt32)})


def _by_code(rows: pl.DataFrame) -> dict[int, pl.DataFrame]:
    parts = rows.partition_by("code", as_dict=True, include_key=False)
    return {code: part for (code,), part in parts.items()}


def _keys(events: Events, installs: Installs) -> Iterator[Keys]:
    """Return the key of the user of each row of both tables; ready counts have none."""
    users, others = Users.of(events.frame["user"]), None
    if installs.users is not None:
        users, others = Users.align(users, Users.of(installs.users), ("the events", "installs"))
    for column in (users, others):
        size = 0 if column is None else len(column)
        rows = np.arange(size, dtype=np.uint32)
        yield np.empty(0, np.uint64) if column is None else UserColumn.of(column)(0, size, rows)[0]
