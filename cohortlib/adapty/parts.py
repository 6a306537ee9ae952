"""What some of the users give: sums and counts, which add to those of everybody.

A part is made of all rows of some users, and of their installs. Parts of disjoint users add, in whatever order, and
the answer of their sum is that of all rows at once. Nothing in a part is rounded; only a chain that stands under
several users is not told by numbers that add, so a part keeps a key of each chain of each user.
"""

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from hashlib import sha256, shake_256

import numpy as np
import polars as pl

from cohortlib.adapty import compose
from cohortlib.adapty.answer import Answer
from cohortlib.adapty.forecast import Prediction
from cohortlib.adapty.installs import Installs
from cohortlib.adapty.kernels.records import INSTALLS
from cohortlib.adapty.question import Question
from cohortlib.adapty.read.events import Events
from cohortlib.adapty.read.names import MONEY
from cohortlib.adapty.sums import Ledger, Sums
from cohortlib.errors import DataError, SettingError, warn
from cohortlib.read.arrays import Ints, Keys
from cohortlib.read.nulls import Dropped
from cohortlib.read.users import SECRET

SCHEMA = pl.Schema({"name": pl.String, "segment": pl.Int64, "column": pl.Int64, "value": pl.Int64})
"""The columns of a part as a table, of which `value` adds where the others are equal."""

_CELLS = (
    "revenue", "proceeds", "net", "subscribers", "subscriptions", "payers", "activated", "running",
)  # fmt: skip
_HEADS = ("installs", "paid_subscribers", "all_subscriptions")
_CHAIN, _SHOWN, _MAGNITUDE, _COUNT = "chain", "columns", "magnitude", "report."
_DROPPED = ("events", "installs")
_HALF = 2**32


@dataclass(frozen=True, eq=False)
class Part:
    """What some of the users give; parts of disjoint users add to that of all of them.

    Attributes
    ----------
    question
        What is asked; only parts of the same question add.
    sums
        The sums over (segment, column).
    counts
        The report of an answer. Of `shared_chains` only those which no other part can have.
    dropped
        The rows of events, and those of installs, that were left out for nulls.
    magnitudes
        The sum of the magnitudes of revenue, proceeds and net revenue, in whole units: exact while below 2**63.
    chains
        A key of each chain of each user, in order; a chain whose key stands more than once is of several users.
    drawn
        What the keys of chains were drawn by; others do not compare.
    """

    question: Question
    sums: Sums
    counts: dict[str, int]
    dropped: tuple[Dropped, Dropped]
    magnitudes: tuple[int, ...]
    chains: Keys
    drawn: str = ""

    def __repr__(self) -> str:
        asked = self.question.request
        first, last = asked.date
        return f"Part({asked.period_type} by {asked.period_unit}, {first} to {last}: {self.counts['rows']:,} rows)"

    @classmethod
    def of(cls, events: Events, installs: Installs, question: Question, *, secret: bytes | None = None) -> "Part":
        """Add up the users of some events and installs; keys of chains compare where `secret` is the same."""
        words = SECRET if secret is None else np.frombuffer(shake_256(secret).digest(SECRET.nbytes), np.uint64)
        ledger = Ledger.of(events, installs, question, secret=words)
        sums, chains = ledger.add_up()
        sums.heads[INSTALLS] += installs.counts(question.segments, question)
        chains.sort()
        return cls(
            replace(question, threads=None, progress=None),
            sums,
            ledger.report | {"shared_chains": 0},
            (events.dropped, installs.dropped),
            ledger.magnitudes,
            chains,
            sha256(words.tobytes()).hexdigest()[:16],
        )

    def __add__(self, other: "Part") -> "Part":
        if not isinstance(other, Part):
            return NotImplemented
        if self.question != other.question:
            raise SettingError(
                f"parts of two questions do not add: {_difference(self.question, other.question)}; expected the same "
                "request, conventions, timezone and decimals"
            )
        magnitudes = tuple(a + b for a, b in zip(self.magnitudes, other.magnitudes, strict=True))
        self._check(magnitudes)
        if self.chains.size and other.chains.size and self.drawn != other.drawn:
            raise SettingError(
                "parts made by two processes do not add, for the keys of their chains do not compare. Hint: give all "
                "of them the same secret, such as secret=os.urandom(16)"
            )
        chains = np.concatenate([self.chains, other.chains])
        chains.sort(kind="stable")  # of two that are in order, this is a merge
        return Part(
            self.question,
            self.sums + other.sums,
            {name: count + other.counts[name] for name, count in self.counts.items()},
            (self.dropped[0] + other.dropped[0], self.dropped[1] + other.dropped[1]),
            magnitudes,
            chains,
            self.drawn if self.chains.size else other.drawn,
        )

    def _check(self, magnitudes: tuple[int, ...]) -> None:
        """Refuse sums that need more than 64 bits."""
        decimals = self.question.decimals
        for name, magnitude in zip(MONEY, magnitudes, strict=True):
            if magnitude >= 2**63:
                raise DataError(
                    f"column {name!r}: the sum of all is beyond {2**63 / 10**decimals:.3g}, the range of 64-bit "
                    f"integers with decimals={decimals}. Hint: "
                    + ("set a smaller decimals=" if decimals else "divide the amounts, by 1000 say")
                )

    @property
    def report(self) -> dict[str, int]:
        """What was left out or is worth knowing, by count, as in an answer."""
        return self.counts | {"shared_chains": self.counts["shared_chains"] + repeated(self.chains)}

    def without_chains(self, shared: int = 0) -> "Part":
        """Give up the keys of chains, once it is known from elsewhere how many of them several users have."""
        counts = self.counts | {"shared_chains": self.counts["shared_chains"] + shared}
        return replace(self, counts=counts, chains=self.chains[:0])

    def tell(self) -> None:
        """Warn of what a user should look into."""
        for dropped, what in zip(self.dropped, _DROPPED, strict=True):
            dropped.warn(f"the {what}")
        report = self.report
        for name, text in _WARNINGS.items():
            if report[name]:
                warn(text.format(f"{report[name]:,}"))

    def answer(self, predictions: list[Prediction] | None = None) -> Answer:
        """Give the answer of Adapty's API, as of all users that were added."""
        return compose.compose(self.sums, self.question, self.report, predictions)

    def table(self) -> pl.DataFrame:
        """Give the part as a table, to be sent or kept: of the columns name, segment, column and value.

        Such tables add as ``group_by("name", "segment", "column").agg(pl.col("value").sum())`` does, whoever does it.
        The rows named ``chain`` are as many as there are chains: `column` is the key, `value` the number of its
        users. They may be counted instead: a row named ``report.shared_chains`` takes the number of those with a
        `value` above 1.
        """
        keys, users = np.unique(self.chains, return_counts=True)
        frames = [
            *(_sparse(name, plane) for name, plane in zip(_CELLS, self.sums.cells, strict=True)),
            *(_sparse(name, head[:, None]) for name, head in zip(_HEADS, self.sums.heads, strict=True)),
            _rows(_CHAIN, np.zeros(keys.size, np.int64), keys.view(np.int64), users),
            _rows(f"question.{_digest(self.question)}", 0, 0, 1),
            *(_rows(_COUNT + name, 0, 0, count) for name, count in self.counts.items()),
        ]
        if self.chains.size:
            frames.append(_rows(f"drawn.{self.drawn}", 0, 0, 1))
        if self.sums.columns:
            frames.append(_rows(_SHOWN, 0, self.sums.columns, 1))
        # A sum of magnitudes may need more than 64 bits, so each is told in two halves.
        halves = [divmod(magnitude, _HALF) for magnitude in self.magnitudes]
        frames += [_rows(_MAGNITUDE, at, half, pair[half]) for at, pair in enumerate(halves) for half in (0, 1)]
        for what, dropped in zip(_DROPPED, self.dropped, strict=True):
            frames += [_rows(f"{what}.rows", 0, 0, dropped.rows), _rows(f"{what}.dropped", 0, 0, dropped.count)]
            frames += [_rows(f"{what}.nulls.{name}", 0, 0, count) for name, count in dropped.nulls.items()]
        return pl.concat(frames)

    @classmethod
    def of_table(cls, table: pl.DataFrame, question: Question) -> "Part":
        """Read a part from its table, or that of all the parts of which the tables lie one under another."""
        missing = [name for name in SCHEMA if name not in table.columns]
        if missing:
            raise DataError(f"the table of a part has no column {missing[0]!r}; expected {', '.join(SCHEMA)}")
        question = replace(question, threads=None, progress=None)
        keys = ["name", "segment", "column"]
        table = table.select(pl.col(name).cast(kind) for name, kind in SCHEMA.items())
        # Of what leaves and enters again nothing is left, and a report of none is a report.
        table = table.group_by(keys, maintain_order=True).agg(pl.col("value").sum())
        told = {name: rows.drop("name") for (name,), rows in table.group_by("name", maintain_order=True)}
        asked = [name for name in told if name.startswith("question.")]
        if asked != [f"question.{_digest(question)}"]:
            raise SettingError(
                f"the table is of {len(asked)} other questions; expected parts of the request, conventions, timezone "
                "and decimals that are given"
                if asked
                else "the table is not that of a part: it has no row that names its question"
            )
        drawn = [name.removeprefix("drawn.") for name in told if name.startswith("drawn.")]
        if len(drawn) > 1:
            raise SettingError(
                f"the table has parts made by {len(drawn)} processes with keys that do not compare. Hint: give all of "
                "them the same secret, such as secret=os.urandom(16)"
            )

        def number(name: str) -> int:
            return int(told[name]["value"].sum()) if name in told else 0

        def dropped(what: str) -> Dropped:
            nulls = Counter({
                name.removeprefix(f"{what}.nulls."): number(name) for name in told if name.startswith(f"{what}.nulls.")
            })  # fmt: skip
            return Dropped(number(f"{what}.rows"), number(f"{what}.dropped"), nulls)

        halves = {(at, half): value for at, half, value in told[_MAGNITUDE].iter_rows()}
        magnitudes = tuple(halves[at, 0] * _HALF + halves[at, 1] for at in range(len(MONEY)))
        chains = told[_CHAIN] if _CHAIN in told else table.head(0)
        keyed = chains["column"].to_numpy().view(np.uint64).repeat(chains["value"].to_numpy())
        keyed.sort()
        part = cls(
            question,
            _sums(told, question),
            {name.removeprefix(_COUNT): number(name) for name in told if name.startswith(_COUNT)},
            (dropped("events"), dropped("installs")),
            magnitudes,
            keyed,
            *drawn,
        )
        part._check(magnitudes)
        return part


_WARNINGS = {
    "refunds_without_payment": "refunds without a payment in the events: {}; they count in period 1",
    "shared_chains": "chains (original_transaction_id) of several users: {}; each user's part counts as a chain",
    "not_in_installs": "users of the events who are not in installs: {}; their money counts, they do not",
    "without_install": "users without an install date and without money: {}; they are in no cohort",
}


def repeated(keys: Keys) -> int:
    """Count the keys that stand more than once, of keys in order."""
    again = keys[1:] == keys[:-1]
    return int(again.sum() - (again[1:] & again[:-1]).sum())


def _rows(name: str, segment: object, column: object, value: object) -> pl.DataFrame:
    """Make rows of a table of one name."""
    segments, columns, values = np.broadcast_arrays(
        *(np.atleast_1d(np.asarray(x, np.int64)) for x in (segment, column, value))
    )
    names = pl.repeat(name, values.size, dtype=pl.String, eager=True)
    return pl.DataFrame([names, *map(pl.Series, (segments, columns, values))], schema=SCHEMA)


def _sparse(name: str, plane: Ints) -> pl.DataFrame:
    segments, columns = np.nonzero(plane)
    return _rows(name, segments, columns, plane[segments, columns])


def _sums(told: Mapping[str, pl.DataFrame], question: Question) -> Sums:
    """Fill the planes from rows."""
    of_days = question.request.period_type == "days"
    shown = len(question.request.renewal_days)
    if not of_days:
        shown = max(told[_SHOWN]["column"].to_list(), default=0) if _SHOWN in told else 0
    reached = [int(max(told[name]["column"].to_list(), default=0)) for name in _CELLS if name in told]
    width = max([shown, *reached]) + 1
    cells = np.zeros((len(_CELLS), len(question.segments), width), np.int64)
    heads = np.zeros((len(_HEADS), len(question.segments)), np.int64)
    for names, planes in ((_CELLS, cells), (_HEADS, heads[:, :, None])):
        for name, plane in zip(names, planes, strict=True):
            if name in told:
                rows = told[name]
                plane[rows["segment"].to_numpy(), rows["column"].to_numpy()] = rows["value"].to_numpy()
    return Sums(shown, cells, heads)


def _settings(question: Question) -> dict[str, str]:
    return {name: repr(getattr(question, name)) for name in ("request", "conventions", "timezone", "decimals")}


def _digest(question: Question) -> str:
    """Tell questions apart in few letters, the same in every process."""
    return sha256(json.dumps(_settings(question)).encode()).hexdigest()[:16]


def _difference(one: Question, other: Question) -> str:
    mine, theirs = _settings(one), _settings(other)
    return "; ".join(f"{name} {mine[name]} and {theirs[name]}" for name in mine if mine[name] != theirs[name])
