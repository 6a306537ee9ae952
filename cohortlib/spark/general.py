"""The general table from a Spark frame: users are partitioned, each partition is summed, and the sums add."""

from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Unpack

import numpy as np
import polars as pl

from cohortlib.errors import Arg, CohortlibError, SchemaError, listed, silent_warnings
from cohortlib.read.amounts import beyond_range
from cohortlib.read.ids import Doubts, clean_ids
from cohortlib.read.nulls import Dropped, without_nulls
from cohortlib.read.text import is_text
from cohortlib.read.transactions import TransactionReader
from cohortlib.spark import frames
from cohortlib.spark.frames import Batches, Note, quoted
from cohortlib.spark.sums import check_note, halves, whole
from cohortlib.spark.text import NOT_PARSED, Parsed
from cohortlib.spark.transactions import (
    TABLES,
    check_dates,
    last_day_of,
    parse_if_needed,
    with_joined_table,
)
from cohortlib.transactions.general.additive import SEGMENT, carried, keys_of, limbs_of, values_of
from cohortlib.transactions.general.question import NO_AMOUNT, Question
from cohortlib.transactions.general.rows import load_source, read_users
from cohortlib.transactions.general.sums import Sums, TableSettings, check_additive, sums_of
from cohortlib.transactions.keywords import (
    BeforeJoined,
    Clocks,
    Counting,
    Edges,
    Parsing,
    ReadingTable,
    Rules,
    Segments,
)

if TYPE_CHECKING:
    from pyspark.sql import DataFrame as SparkFrame

_JOINED = "joined"  # in place of the frame of join dates, in settings that are sent to workers


class SparkTableKeywords(ReadingTable, Parsing, Rules, Edges, Segments, Clocks, Counting, total=False):
    """The settings of ``cohorts`` on Spark."""

    joined: "SparkFrame | str | None"
    before_joined: BeforeJoined


@dataclass(frozen=True)
class TableReader:
    """Read the rows of a partition in a worker, and sum them up.

    Columns are known by position: the user, the instant, the amount, with `joined` the join date and (if `tagged`)
    whether it is a transaction; the others follow.
    """

    settings: dict[str, Any]  # those of the question, without edges; tables are polars frames
    names: tuple[str, ...]  # of user, instant and amount, then of the join date
    more: tuple[str, ...]  # of further columns
    types: dict[str, pl.DataType]  # of the columns of segments
    tagged: bool
    parsed: Parsed = NOT_PARSED

    def question(self, joined: pl.DataFrame | None = None) -> Question:
        """Return the question, for one thread."""
        return Question.of(**self.settings | {"joined": joined, "threads": 1})

    @property
    def columns(self) -> dict[str, Any]:
        """The columns that a worker returns: keys and halves of sums, or in other rows a note."""
        keys = {
            alias: pl.String if name.startswith(SEGMENT) else pl.Int64 for name, alias in self.aliases[0].items()
        }  # fmt: skip
        sums = [f"{alias}{half}" for alias in self.aliases[1].values() for half in ("_high", "_low")]
        return keys | dict.fromkeys(sums, pl.Int64) | {"note": pl.String}

    @cached_property
    def aliases(self) -> tuple[dict[str, str], dict[str, str]]:
        """The names of keys and of sums in Spark, where a name with a point is a field."""
        question = self.question()
        return (
            {name: f"key{at}" for at, name in enumerate(keys_of(question))},
            {name: f"sum{at}" for at, name in enumerate(values_of(question))},
        )

    def __call__(self, batches: Batches) -> Batches:
        """Yield the sums of a partition, and a note."""
        table = None
        try:
            frame = frames.read(batches)
            note = Note()
            if frame is not None:
                table, note = self._sums(self.parsed.typed(frame, self.question().settings.decimals))
        except CohortlibError as error:
            note, table = Note.of(error), None
        if table is not None:
            texts = [as_text(table[f"{SEGMENT}{name}"].cast(kind)) for name, kind in self.types.items()]
            keys, sums = self.aliases
            table = table.with_columns(texts).rename(keys | sums)
            table = table.with_columns(**halves(sums.values()), note=pl.lit(None, pl.String))
            yield from frames.batches(table, self.columns)
        if note != Note():
            yield from frames.batches(pl.DataFrame([{"note": note.to_json()}], schema=self.columns), self.columns)

    def _sums(self, frame: pl.DataFrame) -> tuple[pl.DataFrame | None, Note]:
        rows, joined, dropped_joined = self._tables(frame)
        doubts = Doubts()
        if is_text(rows.to_series(0).dtype):
            rows = rows.with_columns(clean_ids(rows.to_series(0), None, doubts))
        question = self.question(joined)
        needed = rows.select(*question.read_columns, *question.amounts)
        _, dropped = without_nulls(needed, "drop", TABLES[0])
        last_day = None
        if dropped.count:  # dropped rows count for the last period too
            last_day = last_day_of(rows[question.settings.timestamp], question.settings)
            rows = rows.filter(needed.select(pl.all_horizontal(pl.all().is_not_null())).to_series())
        note = Note(last_day, 0, dropped, dropped_joined, null_words=doubts.null_words)
        if question.settings.nulls == "error" and (dropped.count or dropped_joined.count):
            return None, note
        with silent_warnings(), ExitStack() as stack:  # the driver warns, once for all partitions
            loaded = load_source(rows, question, read_users(question), stack, keep_ids=joined is not None)
            loaded.fits = []
            sums = sums_of(loaded, self.settings)
        days = [day for day in (last_day, sums.last_day) if day is not None]
        note = replace(note, last_day=max(days, default=None), magnitudes=sums.magnitudes)
        return sums.table, replace(note, fit=sum(loaded.fits, note.fit))

    def _tables(self, frame: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame | None, Dropped]:
        """Split a partition into transactions and join dates, with the names of their columns."""
        columns = frame.get_columns()
        until = 3 + (len(self.names) > 3) + self.tagged
        roles = [column.alias(name) for column, name in zip(columns, self.names[:3], strict=False)]
        taken = [name for name in self.names[:3] if name != NO_AMOUNT]
        more = [column.alias(name) for column, name in zip(columns[until:], self.more, strict=True)]
        rows = pl.DataFrame([*(role for role in roles if role.name != NO_AMOUNT), *more]).select(*taken, *self.more)
        if len(self.names) == 3:
            return rows, None, Dropped()
        joined = pl.DataFrame([columns[0].alias(self.names[0]), columns[3].alias(self.names[3])])
        if self.tagged:
            rows, joined = rows.filter(columns[4]), joined.filter(~columns[4])
        else:
            joined = joined.filter(columns[0].is_not_null())
        joined, dropped = without_nulls(joined, "drop", TABLES[1])
        return rows, joined, dropped


def as_text(column: pl.Series) -> pl.Series:
    """Write values as text, by which Spark groups them; :func:`from_text` reads them again."""
    kind = column.dtype
    if kind.is_float():  # by their bits, of which 0 has two
        numbers = column.cast(pl.Float64).fill_null(0).to_numpy()  # polars adds 0 to -0 as if it were nothing
        bits = (numbers + 0.0).view(np.int64)
        return pl.Series(column.name, bits).set(column.is_null(), None).cast(pl.String)
    if kind.is_temporal():
        return column.to_physical().cast(pl.String)
    return column.cast(pl.String)


def from_text(column: pl.Series, kind: pl.DataType) -> pl.Series:
    """Read the values that :func:`as_text` wrote.

    >>> column = pl.Series("x", [0.1, -0.0, None])
    >>> from_text(as_text(column), column.dtype).to_list()
    [0.1, 0.0, None]
    """
    if kind.is_float():
        numbers = column.cast(pl.Int64)
        floats = pl.Series(column.name, numbers.fill_null(0).to_numpy().view(np.float64))
        return floats.set(numbers.is_null(), None).cast(kind)
    if kind.is_temporal():
        return column.cast(pl.Int32 if kind == pl.Date else pl.Int64).cast(kind)
    if kind == pl.Boolean:
        return column == "true"
    return column.cast(kind)


def general_cohorts(
    frame: "SparkFrame", partitions: int | None, **settings: Unpack[SparkTableKeywords]
) -> pl.DataFrame:
    """Return the table of :func:`cohortlib.cohorts`."""
    edges: dict[str, Any] = {name: settings[name] for name in ("start", "end", "complete_only") if name in settings}
    rows, reader = _partitioned(frame, settings)
    Question.of(**reader.settings | edges)  # checks the edges, before Spark reads any row
    by_user = rows.repartition("user_key") if partitions is None else rows.repartition(partitions, "user_key")
    question = reader.question()
    (keys, values), columns = reader.aliases, reader.columns
    keys_and_note = [*keys.values(), "note"]
    added = [name for name in columns if name not in keys_and_note]
    partial = by_user.mapInArrow(reader, frames.ddl(columns))
    sums = partial.groupBy(*keys_and_note).sum(*added).toDF(*keys_and_note, *added)
    table = pl.DataFrame(sums.toArrow())
    note = Note.all(table["note"].drop_nulls())
    checked = question.settings
    check_note(note, replace(checked, joined=settings.get("joined")), (*question.read_columns, *question.amounts))
    for name, size in zip((checked.amount, *question.amounts), note.magnitudes, strict=False):
        if size >= 2**63:
            raise beyond_range(f"column {name!r}", checked.decimals)
    cells = table.filter(pl.col("note").is_null()).with_columns(**whole(values.values()))
    cells = cells.select(**{name: pl.col(alias) for name, alias in (keys | values).items()})
    cells = cells.with_columns(from_text(cells[f"{SEGMENT}{name}"], kind) for name, kind in reader.types.items())
    cells = carried(cells, limbs_of(question)).sort(*keys, nulls_last=True)
    users = tuple(name for name in question.by if question.users is not None and name not in reader.more)
    kept = TableSettings.of(reader.settings, question, users)
    kept = replace(kept, joined="no" if settings.get("joined") is None else checked.before_joined)
    return Sums(kept, cells, note.last_day, note.magnitudes or (0,)).cohorts(**edges)


def _partitioned(frame: "SparkFrame", settings: SparkTableKeywords) -> tuple["SparkFrame", TableReader]:
    """Check a call as far as that is possible without reading rows, and select its columns."""
    frames.check_frame(frame)
    joined = settings.get("joined")
    values: dict[str, Any] = {
        name: value for name, value in settings.items() if name not in ("joined", "start", "end", "complete_only")
    }
    for name in ("users", "calendar"):
        if hasattr(settings.get(name), "mapInArrow"):
            hint = "collect it, for example with toArrow()"
            if name == "users":
                hint = "join its columns to the transactions, which by takes, or collect it with toArrow()"
            raise SchemaError((Arg(name), " is a Spark frame"), expected="a table in memory or a file", hint=hint)
    check_additive(Question.of(**values | {"joined": None if joined is None else _JOINED}))
    question = Question.of(**values)
    attributes = read_users(question)
    types: dict[str, pl.DataType] = {} if attributes is None else dict(list(attributes.schema.items())[1:])
    kinds, checked = frames.kinds(frame), question.settings
    roles = {role: getattr(checked, role) for role in ("user", "timestamp", "amount")}
    frames.check_columns(frame, {role: name for role, name in roles.items() if name != NO_AMOUNT})
    more = list(dict.fromkeys([*(name for name in (*question.by, *question.split) if name not in types),
                               *question.amounts]))  # fmt: skip
    for setting in ("by", "split", "amounts"):
        for name in getattr(question, setting):
            if name in more and name not in kinds:
                raise SchemaError((Arg(setting, name), " is not a column of the transactions"), value=name,
                                  expected=f"one of {listed(kinds)}")  # fmt: skip
    types |= frames.empty({name: kinds[name] for name in more if name not in question.amounts}).schema
    TransactionReader(checked.columns).parse(
        frames.empty(
            {name: kinds[name] for name in checked.roles if name in kinds}
            | ({} if question.money else {NO_AMOUNT: "bigint"})
        )
    )
    amount = quoted(checked.amount) if question.money else "cast(1 as bigint)"
    columns = [f"{quoted(checked.user)} as user_key", f"{quoted(checked.timestamp)} as instant", f"{amount} as amount"]
    aliases = {name: f"more{at}" for at, name in enumerate(more)}
    others = [f"{quoted(name)} as {alias}" for name, alias in aliases.items()]
    names, tagged = tuple(checked.roles), False
    if joined is None:
        rows = frame.selectExpr(*columns, *others)
    elif isinstance(joined, str):
        if joined not in kinds:
            what = (Arg("joined", joined), " is not a column")
            raise SchemaError(what, value=joined, expected=f"one of {listed(kinds)}")
        check_dates(frames.empty({joined: kinds[joined]})[joined])
        rows, names = frame.selectExpr(*columns, f"{quoted(joined)} as joined", *others), (*names, joined)
    else:
        rows, day = with_joined_table(frame, joined, checked, columns[1:], aliases)
        names, tagged = (*names, day), True
    rows, parsed = parse_if_needed(rows, checked, tagged=tagged)
    ordered = {name: types[name] for name in (*question.by, *question.split)}
    if attributes is not None:
        values["users"] = attributes
    calendar = TableSettings.of(values, question, ()).calendar_table()
    values |= {} if calendar is None else {"calendar": calendar}
    return rows, TableReader(values, names, tuple(more), ordered, tagged, parsed)
