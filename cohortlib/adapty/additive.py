"""`Sums`: the sums and counts of some users, which add up to those of all users.

A value is computed from all event rows of some users and their installs. Values of disjoint users add in any order,
and the answer of the total equals that of all rows at once. Nothing is rounded before the answer. One count does not
add: chains shared by several users, so a value also holds a key for each chain of each user.
"""

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from hashlib import sha256, shake_256

import numpy as np
import polars as pl

from cohortlib.adapty import compose, doubts
from cohortlib.adapty.aggregate import COUNTED_ROWS, Aggregation, SegmentSums
from cohortlib.adapty.answer import Answer
from cohortlib.adapty.arrays import TextColumn
from cohortlib.adapty.durations import with_durations
from cohortlib.adapty.findings import Findings
from cohortlib.adapty.forecast import Prediction
from cohortlib.adapty.installs import Installs
from cohortlib.adapty.kernels.records import INSTALLS
from cohortlib.adapty.plan import RequestPlan
from cohortlib.adapty.read.events import Events
from cohortlib.adapty.read.specs import MONEY
from cohortlib.errors import Arg, DataError, SettingError, listed, warn
from cohortlib.read.amounts import beyond_range
from cohortlib.read.arrays import Ints, Keys
from cohortlib.read.nulls import Dropped
from cohortlib.read.tables import DEFAULT_OPTIONS
from cohortlib.read.users import SECRET

SCHEMA = pl.Schema({"name": pl.String, "segment": pl.Int64, "column": pl.Int64, "value": pl.Int64})
"""The columns of `Sums` as a table; `value` adds where the others are equal."""

# Names of the rows of that table.
_CELLS = (
    "revenue", "proceeds", "net", "subscribers", "subscriptions", "payers", "activated", "running",
)  # fmt: skip
_HEADS = ("installs", "paid_subscribers", "all_subscriptions")
_CHAIN, _STATE, _COLUMNS, _MAGNITUDE = "chain", "state", "columns", "magnitude"
_COUNT, _PLAN, _SECRET, _FINDING = "report.", "plan.", "secret.", "finding."
_DROPPED = ("events", "installs")

_HALF = 2**32
_SHARE_SECRET = ("pass the same ", Arg("secret"), " to all of them, such as os.urandom(16)")


@dataclass(frozen=True, eq=False)
class Sums:
    """The sums and counts of some users; values of disjoint users add with ``+``.

    Attributes
    ----------
    plan
        The request with its settings; only values of equal plans add.
    by_segment
        The sums over (segment, column).
    counts
        The report of an answer. `shared_chains` counts only chains whose keys are no longer held in `chains`.
    dropped
        The rows of events, and those of installs, that were dropped for nulls.
    magnitudes
        The sums of absolute revenue, proceeds and net revenue, in whole units; sums are exact while these are below
        2**63.
    chains
        One key per chain and user, sorted. A key that occurs more than once belongs to a chain of several users.
    secret_id
        Identifies the secret that the keys of chains depend on; keys of different secrets cannot be compared.
    findings
        What to warn of.
    states
        One key per transaction of RevenueCat's, sorted. The latest state is known only if all its rows are in one
        value.
    """

    plan: RequestPlan
    by_segment: SegmentSums
    counts: dict[str, int]
    dropped: tuple[Dropped, Dropped]
    magnitudes: tuple[int, ...]
    chains: Keys
    secret_id: str = ""
    findings: Findings = field(default_factory=Findings)
    states: Keys = field(default_factory=lambda: np.empty(0, np.uint64))

    def __repr__(self) -> str:
        request = self.plan.request
        first, last = request.date
        return f"Sums({request.period_type} by {request.period_unit}, {first} to {last}: {self.counts['rows']:,} rows)"

    @classmethod
    def of(
        cls, events: Events, installs: Installs, plan: RequestPlan, *, secret: bytes | None = None, part: bool = False
    ) -> "Sums":
        """Aggregate the users of some events and installs.

        Keys of chains can be compared between values made with the same `secret`. If this is a `part`, to be added to
        others, the transactions of RevenueCat's rows are kept too.
        """
        words = SECRET if secret is None else np.frombuffer(shake_256(secret).digest(SECRET.nbytes), np.uint64)
        if plan.request.filters.duration:
            events = with_durations(events, plan)
        sums = cls.of_users(Aggregation.of(events, installs, plan, secret=words), installs, events.dropped, words)
        return replace(sums, states=_state_keys(events.state_ids, words)) if part else sums

    @classmethod
    def of_users(
        cls, aggregation: Aggregation, installs: Installs, dropped: Dropped | None = None, words: Keys = SECRET
    ) -> "Sums":
        """Add up the users of partitioned rows; `dropped` are rows of events, and `words` the secret of the keys."""
        plan = aggregation.plan
        by_segment, chains = aggregation.sums()
        by_segment.heads[INSTALLS] += installs.counts(plan.segments, plan)
        return cls(
            _without_running(plan),
            by_segment,
            aggregation.report | {"shared_chains": 0},
            (dropped or Dropped(), installs.dropped),
            aggregation.magnitudes,
            chains,
            sha256(words.tobytes()).hexdigest()[:16],
            aggregation.findings + installs.findings(plan),
        )

    def __add__(self, other: "Sums") -> "Sums":
        if not isinstance(other, Sums):
            return NotImplemented
        if self.plan != other.plan:
            raise SettingError(
                f"sums of different requests or settings cannot be added: {_difference(self.plan, other.plan)}",
                expected="the same request, conventions, timezone and decimals",
            )
        magnitudes = tuple(a + b for a, b in zip(self.magnitudes, other.magnitudes, strict=True))
        self._check(magnitudes)
        if (
            (self.chains.size or self.states.size)
            and (other.chains.size or other.states.size)
            and self.secret_id != other.secret_id
        ):
            raise SettingError(
                "sums made by two processes cannot be added: the keys of their chains cannot be compared",
                hint=_SHARE_SECRET,
            )
        chains, states = (np.concatenate(pair) for pair in ((self.chains, other.chains), (self.states, other.states)))
        chains.sort(kind="stable")  # a merge: both arrays are sorted
        states.sort(kind="stable")
        _check_states(repeated(states))
        return Sums(
            self.plan,
            self.by_segment + other.by_segment,
            {name: count + other.counts[name] for name, count in self.counts.items()},
            (self.dropped[0] + other.dropped[0], self.dropped[1] + other.dropped[1]),
            magnitudes,
            chains,
            self.secret_id if self.chains.size or self.states.size else other.secret_id,
            self.findings + other.findings,
            states,
        )

    def _check(self, magnitudes: tuple[int, ...]) -> None:
        """Raise if the money of all rows could need more than 64 bits."""
        for name, magnitude in zip(MONEY, magnitudes, strict=True):
            if magnitude >= 2**63:
                raise beyond_range(f"column {name!r}", self.plan.decimals)

    @property
    def report(self) -> dict[str, int]:
        """Counts of rows left out and of other findings, as in an answer."""
        shared = self.counts["shared_chains"] + repeated(self.chains)
        unfiltered = any(name[0] == "unfiltered" for name in self.findings)
        installs = int(self.by_segment.heads[INSTALLS].sum()) if unfiltered else 0
        counts = {name: count for name, count in self.counts.items() if name != COUNTED_ROWS}
        return counts | {
            "shared_chains": shared,
            "unordered_states": self.findings[("unordered",)],
            "unfiltered_installs": installs,
        }

    def without_chains(self, shared: int = 0) -> "Sums":
        """Return the sums without the keys of chains, where `shared` chains are known to have several users."""
        counts = self.counts | {"shared_chains": self.counts["shared_chains"] + shared}
        return replace(self, counts=counts, chains=self.chains[:0])

    def warn(self) -> None:
        """Issue the warnings that :func:`cohort` issues, such as rows dropped for nulls."""
        for dropped, what in zip(self.dropped, _DROPPED, strict=True):
            dropped.warn(f"the {what}")
        report = self.report
        for name, text in _WARNINGS.items():
            if report[name]:
                warn(text.format(f"{report[name]:,}"))
        doubts.warn_of(self.findings, report, self.counts[COUNTED_ROWS], self.plan, self.dropped[0])

    def answer(self, predictions: list[Prediction] | None = None) -> Answer:
        """Return the answer of Adapty's API for the users added so far."""
        return compose.compose(self.by_segment, self.plan, self.report, predictions)

    def table(self) -> pl.DataFrame:
        """Return the sums as a table with the columns name, segment, column and value, to be sent or stored.

        Any engine can add such tables: ``group_by("name", "segment", "column").agg(pl.col("value").sum())``. There is
        one row named ``chain`` for each chain: `column` is its key and `value` its number of users. These rows can be
        replaced by a count: a row named ``report.shared_chains`` whose `value` is the number of chains with a `value`
        above 1.
        """
        keys, users = np.unique(self.chains, return_counts=True)
        frames = [
            *(_nonzero_rows(name, plane) for name, plane in zip(_CELLS, self.by_segment.cells, strict=True)),
            *(_nonzero_rows(name, head[:, None]) for name, head in zip(_HEADS, self.by_segment.heads, strict=True)),
            _rows(_CHAIN, np.zeros(keys.size, np.int64), keys.view(np.int64), users),
            _rows(_PLAN + _digest(self.plan), 0, 0, 1),
            *(_rows(_COUNT + name, 0, 0, count) for name, count in self.counts.items()),
        ]
        if self.states.size:
            frames.append(_rows(_STATE, np.zeros(self.states.size, np.int64), self.states.view(np.int64), 1))
        if self.chains.size or self.states.size:
            frames.append(_rows(_SECRET + self.secret_id, 0, 0, 1))
        if self.by_segment.columns:
            frames.append(_rows(_COLUMNS, 0, self.by_segment.columns, 1))
        # A sum of magnitudes may need more than 64 bits, so each is stored as two halves.
        halves = [divmod(magnitude, _HALF) for magnitude in self.magnitudes]
        frames += [_rows(_MAGNITUDE, at, half, pair[half]) for at, pair in enumerate(halves) for half in (0, 1)]
        for what, dropped in zip(_DROPPED, self.dropped, strict=True):
            frames += [_rows(f"{what}.rows", 0, 0, dropped.rows), _rows(f"{what}.dropped", 0, 0, dropped.count)]
            frames += [_rows(f"{what}.nulls.{name}", 0, 0, count) for name, count in dropped.nulls.items()]
        frames += [_rows(_FINDING + json.dumps(name), 0, 0, count) for name, count in self.findings.items()]
        return pl.concat(frames)

    @classmethod
    def of_table(cls, table: pl.DataFrame, plan: RequestPlan) -> "Sums":
        """Read sums from their table, or the total from the concatenated tables of several sums."""
        missing = [name for name in SCHEMA if name not in table.columns]
        if missing:
            raise DataError(f"the table of sums has no column {missing[0]!r}", expected=f"columns {listed(SCHEMA)}")
        plan = _without_running(plan)
        # Rows whose values sum to 0 stay: a count of 0 is still part of the report.
        table = (
            table.select(pl.col(name).cast(kind) for name, kind in SCHEMA.items())
            .group_by("name", "segment", "column", maintain_order=True)
            .agg(pl.col("value").sum())
        )
        rows = {name: part.drop("name") for (name,), part in table.group_by("name", maintain_order=True)}
        _check_plan(rows, plan)
        secret_ids = _suffixes(rows, _SECRET)
        if len(secret_ids) > 1:
            raise SettingError(
                f"the table has sums of {len(secret_ids)} processes, and the keys of their chains cannot be compared",
                hint=_SHARE_SECRET,
            )

        def number(name: str) -> int:
            return int(rows[name]["value"].sum()) if name in rows else 0

        def dropped(what: str) -> Dropped:
            nulls = Counter({column: number(f"{what}.nulls.{column}") for column in _suffixes(rows, f"{what}.nulls.")})
            return Dropped(number(f"{what}.rows"), number(f"{what}.dropped"), nulls)

        halves = {(at, half): value for at, half, value in rows[_MAGNITUDE].iter_rows()}
        chains = rows.get(_CHAIN, table.head(0))
        keys = chains["column"].to_numpy().view(np.uint64).repeat(chains["value"].to_numpy())
        keys.sort()
        state_rows = rows.get(_STATE, table.head(0))
        _check_states(int((state_rows["value"] > 1).sum()))
        sums = cls(
            plan,
            _segment_sums(rows, plan),
            {name: number(_COUNT + name) for name in _suffixes(rows, _COUNT)},
            (dropped("events"), dropped("installs")),
            tuple(halves[at, 0] * _HALF + halves[at, 1] for at in range(len(MONEY))),
            keys,
            secret_ids[0] if secret_ids else "",
            Findings({tuple(json.loads(name)): number(_FINDING + name) for name in _suffixes(rows, _FINDING)}),
            np.sort(state_rows["column"].to_numpy().view(np.uint64)),
        )
        sums._check(sums.magnitudes)
        return sums


_WARNINGS = {
    "refunds_without_payment": "refunds without a payment in the events: {}; they count in period 1",
    "shared_chains": "chains (original_transaction_id) of several users: {}; each counts once per user",
    "not_in_installs": "users of the events that are not in installs: {}; their money counts, but not the users",
    "without_install": "users without an install date and without money: {}; they belong to no cohort",
}


def _state_keys(ids: pl.Series, secret: Keys) -> Keys:
    ids = ids.drop_nulls().unique()
    keys = TextColumn.of(ids, secret).keys(np.arange(len(ids), dtype=np.uint32))[0]
    keys.sort()
    return keys


def _check_states(shared: int) -> None:
    """Raise if transactions of RevenueCat's have rows in several values."""
    if shared:
        raise DataError(
            f"transactions of RevenueCat's with rows in several sums: {shared:,}; their latest states are not known",
            value=shared,
            expected="all rows of a transaction in one call, also if its user changes",
            hint="sum only the latest state of each transaction, or pass all rows to one call",
        )


def repeated(keys: Keys) -> int:
    """Count the keys that occur more than once in a sorted array."""
    again = keys[1:] == keys[:-1]
    return int(again.sum() - (again[1:] & again[:-1]).sum())


def occurrences(column: Keys, keys: Keys) -> Ints:
    """Count how often each key occurs in a sorted column."""
    return np.searchsorted(column, keys, side="right") - np.searchsorted(column, keys, side="left")


def _rows(name: str, segment: object, column: object, value: object) -> pl.DataFrame:
    """Make rows of the table that have one name."""
    segments, columns, values = np.broadcast_arrays(
        *(np.atleast_1d(np.asarray(x, np.int64)) for x in (segment, column, value))
    )
    names = pl.repeat(name, values.size, dtype=pl.String, eager=True)
    return pl.DataFrame([names, *map(pl.Series, (segments, columns, values))], schema=SCHEMA)


def _nonzero_rows(name: str, plane: Ints) -> pl.DataFrame:
    segments, columns = np.nonzero(plane)
    return _rows(name, segments, columns, plane[segments, columns])


def _suffixes(names: Mapping[str, object], prefix: str) -> list[str]:
    """Return what follows the prefix in the names that start with it."""
    return [name.removeprefix(prefix) for name in names if name.startswith(prefix)]


def _segment_sums(rows: Mapping[str, pl.DataFrame], plan: RequestPlan) -> SegmentSums:
    """Fill the planes from the rows of a table."""
    columns = len(plan.request.renewal_days)
    if plan.request.period_type != "days":
        columns = max(rows[_COLUMNS]["column"].to_list(), default=0) if _COLUMNS in rows else 0
    used = [int(max(rows[name]["column"].to_list(), default=0)) for name in _CELLS if name in rows]
    width = max([columns, *used]) + 1
    cells = np.zeros((len(_CELLS), len(plan.segments), width), np.int64)
    heads = np.zeros((len(_HEADS), len(plan.segments)), np.int64)
    for names, planes in ((_CELLS, cells), (_HEADS, heads[:, :, None])):
        for name, plane in zip(names, planes, strict=True):
            if name in rows:
                of_plane = rows[name]
                plane[of_plane["segment"].to_numpy(), of_plane["column"].to_numpy()] = of_plane["value"].to_numpy()
    return SegmentSums(columns, cells, heads)


def _check_plan(rows: Mapping[str, object], plan: RequestPlan) -> None:
    """Raise unless a table holds sums of exactly this plan."""
    plans = _suffixes(rows, _PLAN)
    if plans == [_digest(plan)]:
        return
    if not plans:
        raise SettingError("the table does not hold sums: it has no row that identifies their request and settings")
    if len(plans) > 1:
        what = f"the table holds sums of {len(plans)} different requests or settings"
    else:
        what = "the table holds sums of another request or of other settings"
    raise SettingError(what, expected="sums of the given request, conventions, timezone and decimals")


def _without_running(plan: RequestPlan) -> RequestPlan:
    """Return a plan without what has no effect on sums: threads, progress, and how files are opened."""
    return replace(plan, threads=None, progress=None, files=DEFAULT_OPTIONS)


def _settings(plan: RequestPlan) -> dict[str, str]:
    names = ("request", "conventions", "timezone", "decimals", "event_types", "products", "rules")
    return {name: repr(getattr(plan, name)) for name in names}


def _digest(plan: RequestPlan) -> str:
    """Return a short digest of a plan, the same in every process."""
    return sha256(json.dumps(_settings(plan)).encode()).hexdigest()[:16]


def _difference(one: RequestPlan, other: RequestPlan) -> str:
    left, right = _settings(one), _settings(other)
    return "; ".join(f"{name} {left[name]} and {right[name]}" for name in left if left[name] != right[name])
