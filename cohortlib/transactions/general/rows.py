"""Read rows into parts of disjoint users, with the codes of segments, instants and further amounts."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from tempfile import gettempdir
from typing import NamedTuple, Protocol

import numpy as np
import polars as pl

from cohortlib.engine import files
from cohortlib.engine.progress import Meter
from cohortlib.errors import Arg, DataError, SchemaError, listed
from cohortlib.periods import offsets
from cohortlib.read import sources
from cohortlib.read.amounts import Amounts, magnitude, read_amounts
from cohortlib.read.arrays import Ints
from cohortlib.read.instants import EARLIEST, LATEST, instants_of
from cohortlib.read.nulls import without_nulls
from cohortlib.read.tables import Source, Stream
from cohortlib.read.text import is_text
from cohortlib.read.transactions import TransactionReader
from cohortlib.read.users import UserEncoding, Users
from cohortlib.transactions.general.question import NO_AMOUNT, Question
from cohortlib.transactions.general.values import Codes, Values
from cohortlib.transactions.joined import JoinedFit, joined_cut, joined_in_stream
from cohortlib.transactions.reading import reader_of
from cohortlib.transactions.store.parts import KEY, KEY2, USER, Part, PartStore
from cohortlib.transactions.store.spill import (
    MemoryParts,
    ReadBatch,
    RunPlan,
    SpilledRuns,
    Totals,
    gather_runs,
    keep_in_memory,
)

JOINED = "\0joined"


class TableFrame(Protocol):
    """What the layout and the columns of a table need of its rows."""

    question: Question
    days: tuple[int, int]
    last_day: int | None
    values: dict[str, Values]
    row_columns: tuple[str, ...]
    joined: "UserTable | None"
    joined_days: tuple[int, int] | None


class UserTable(NamedTuple):
    """Users of another table, each once, by key: their ids and further columns, and how many rows contradict."""

    users: pl.DataFrame
    conflicts: int
    conflicting_user: str


@dataclass
class TableRows:
    """The rows of all users in parts, and what the codes in them stand for.

    Attributes
    ----------
    first_day, last_day
        Local days: a day at or before the first row that counts, and that of the last row of any kind, or None.
    values
        The values of each column of `by` or `split`.
    """

    question: Question
    store: PartStore
    encoding: UserEncoding
    days: tuple[int, int]
    last_day: int | None
    values: dict[str, Values]
    row_columns: tuple[str, ...]
    with_instants: bool
    joined: UserTable | None
    attributes: UserTable | None
    meter: Meter
    joined_days: tuple[int, int] | None = None
    keep_ids: bool = False
    user_type: pl.DataType = field(default_factory=pl.String)
    split_codes: Sequence[Codes] = ()  # the combinations of values of `split`
    magnitudes: tuple[int, ...] = ()  # Σ |units| of the amounts, and of each further one
    fits: list[JoinedFit] | None = None  # where the caller checks how a joined table fits: its fits
    _ranks: dict[str, Codes] = field(default_factory=dict)

    def load(self, index: int, users: Sequence[str]) -> Part:
        """Load a part with the columns of this table."""
        return self.store.load(index, users=users, rows=column_names(self))

    def ranks(self, name: str) -> Codes:
        """Return the rank of each code of a column."""
        if name not in self._ranks:
            self._ranks[name] = self.values[name].ranks()
        return self._ranks[name]


def read_users(question: Question) -> pl.DataFrame | None:
    """Read the table `users`: the column of users, and those of `by` that it has."""
    if question.users is None:
        return None
    settings, by = question.settings, question.by
    if not sources.is_table(question.users):
        raise SchemaError((Arg("users"), f" is a {type(question.users).__qualname__}"), expected="a table")

    def choose(names: list[str]) -> list[str]:
        chosen = [name for name in by if name in names]
        if settings.user not in names or not chosen:
            expected = f"{settings.user!r} and one of {listed(by)}"
            raise SchemaError((Arg("users"), f" has the columns {listed(names)}"), value=names, expected=expected)
        return [settings.user, *chosen]

    return sources.read(question.users, choose, options=settings.file_options)


def columns_of_rows(question: Question, attributes: pl.DataFrame | None) -> tuple[str, ...]:
    """Return the columns of segments that are columns of the transactions."""
    of_users = () if attributes is None else tuple(attributes.columns[1:])
    return tuple(name for name in (*question.by, *question.split) if name not in of_users)


def open_stream(source: Source, question: Question, in_rows: Sequence[str]) -> Stream:
    """Return the columns of a source that the table needs."""
    settings = question.settings

    def choose(columns: list[str]) -> list[str]:
        for setting in ("by", "split"):
            for name in getattr(question, setting):
                if name in in_rows and name not in columns:
                    where = "the transactions" if question.users is None else "the transactions or in users"
                    raise SchemaError((Arg(setting, name), f" is not a column of {where}"), value=name,
                                      expected=f"one of {listed(columns)}")  # fmt: skip
        joined = [str(settings.joined)] if settings.joined_is_one_of(columns) else []
        return [*question.read_columns, *in_rows, *question.amounts, *joined]

    return sources.stream(source, choose, options=settings.file_options, max_bytes=settings.budget, expected=True)


def load_source(
    source: Source, question: Question, attributes: pl.DataFrame | None, stack: ExitStack, *, keep_ids: bool,
    stream: Stream | None = None,
) -> TableRows:  # fmt: skip
    """Read rows into parts: in memory if they fit, else in files, which `stack` deletes.

    `stream` has the rows of the source, if it has been opened before.
    """
    settings = question.settings
    in_rows = columns_of_rows(question, attributes)
    stream = stream or open_stream(source, question, in_rows)
    keep_ids = keep_ids or settings.joined is not None
    if stream.rows is None:
        stream = stream.buffered(settings.budget // 4)
    encoding = UserEncoding.of(stream.schema[settings.user], settings.user)
    plan = RunPlan(settings.budget, settings.workers, encoding.wide, keep_ids, stream.rows)
    meter = Meter(settings.progress if stream.rows else None, stream.rows or 0)
    totals = Totals()
    spilled = in_memory = None
    reading = _Reading(question, stream, encoding, {name: Values(name) for name in in_rows})
    with _reader(stream, question) as reader:
        for run in gather_runs(reading.batches(reader), plan, totals, meter):
            if run.last and spilled is None:
                in_memory = keep_in_memory(run, plan)
            else:
                if spilled is None:
                    folder = stack.enter_context(files.temporary_folder(Path(gettempdir())))
                    spilled = SpilledRuns(folder, plan)
                spilled.sink(run)
            del run
        attribute_table = None if attributes is None else attributes_of(attributes, question, encoding, reading.values)
    totals.dropped.warn("the table")
    store: PartStore = spilled or in_memory or MemoryParts([], [], encoding.wide)
    joined = joined_in_stream(source, settings) if settings.joined is not None else None
    rows = TableRows(
        question, store, encoding, (totals.first_day, totals.final_day), totals.last_day, reading.values, in_rows,
        reading.with_instants, None, attribute_table, meter,
        keep_ids=keep_ids, user_type=user_type(stream.schema[settings.user], encoding),
        split_codes=combined(reading.combinations, len(question.split)),
        magnitudes=(totals.magnitude, *(reading.magnitudes.get(name, 0) for name in question.amounts)),
    )  # fmt: skip
    question.check_days(totals.first_day, totals.final_day) if totals.rows else None
    return with_joined(rows, joined)


@contextmanager
def _reader(stream: Stream, question: Question) -> Iterator[TransactionReader]:
    """Return the reader of a stream; without amounts, errors count over the columns that there are."""
    if question.money:
        with reader_of(stream, question.settings) as reader:
            yield reader
        return
    yield TransactionReader(question.settings.columns)


@dataclass
class _Reading:
    """Parse batches, and add up what all of them have in common."""

    question: Question
    stream: Stream
    encoding: UserEncoding
    values: dict[str, Values]
    with_instants: bool = False
    magnitudes: dict[str, int] = field(default_factory=dict)
    combinations: list[pl.DataFrame] = field(default_factory=list)  # of the values of `split`

    def __post_init__(self) -> None:
        self.with_instants = needs_instants(
            self.question, self.values, self.stream.schema[self.question.settings.timestamp]
        )

    def batches(self, reader: TransactionReader) -> Iterator[ReadBatch]:
        """Yield the rows of each batch, with the columns that the table needs."""
        question, settings = self.question, self.question.settings
        for raw in self.stream.batches():
            frame = raw if question.money else raw.with_columns(pl.lit(1).alias(NO_AMOUNT))
            frame = self._without_null_amounts(reader.typed(frame))
            rows = reader.parse_typed(frame, in_units=question.money and is_text(raw.schema[settings.amount]))
            kept = frame.drop_nulls(settings.roles) if rows.dropped.count else frame
            yield ReadBatch(
                replace(rows, users=self.encoding.users(kept[settings.user])), self._extras(kept, reader), None
            )

    def _without_null_amounts(self, frame: pl.DataFrame) -> pl.DataFrame:
        """Parse further amounts; a row with a null in one of them is dropped with the nulls of the other columns."""
        settings = self.question.settings
        for name in self.question.amounts:
            nulls = frame[name].null_count()
            if nulls and settings.nulls == "error":
                raise DataError(
                    f"the table has nulls: {nulls:,} in column {name!r}", value=name, expected="no nulls",
                    hint=(Arg("nulls", "drop"), " skips these rows"),
                )  # fmt: skip
            if nulls:
                missing = frame[name].is_null()
                frame = frame.with_columns(
                    pl.when(missing).then(None).otherwise(frame[settings.user]).alias(settings.user)
                )
        return frame

    def _extras(self, frame: pl.DataFrame, reader: TransactionReader) -> pl.DataFrame | None:
        columns = [pl.Series(name, values.encode(frame[name])) for name, values in self.values.items()]
        if self.question.split:
            self.combinations.append(pl.DataFrame(columns).unique(maintain_order=True))
        if self.with_instants:
            columns.append(instants_of(frame[self.question.settings.timestamp]))
        columns += [self._units(frame[name]) for name in self.question.amounts]
        return pl.DataFrame([column.alias(f"{at}") for at, column in enumerate(columns)]) if columns else None

    def _units(self, column: pl.Series) -> pl.Series:
        units = units_of(column, self.question)
        self.magnitudes[column.name] = self.magnitudes.get(column.name, 0) + magnitude(units)
        if self.magnitudes[column.name] >= 2**63:
            raise Amounts(column, self.question.settings.decimals).too_large()
        return pl.Series(units)


def combined(frames: Sequence[pl.DataFrame], count: int) -> list[Codes]:
    """Return the combinations of codes in any of some frames, a column each."""
    if not frames:
        return [np.empty(0, np.uint32)] * count
    return [column.to_numpy() for column in pl.concat(frames).unique(maintain_order=True).get_columns()]


def user_type(dtype: pl.DataType, encoding: UserEncoding) -> pl.DataType:
    """Return the type of user ids in a result: that of the transactions, or text where they are stored as text."""
    keeps = dtype.is_integer() or isinstance(dtype, pl.Categorical | pl.Enum)
    return dtype if keeps else pl.Int64() if encoding.dtype == "Int64" else pl.String()


def units_of(column: pl.Series, question: Question) -> Ints:
    """Return further amounts in units."""
    decimals = question.settings.decimals
    in_units = is_text(column.dtype)
    if in_units:
        column, _ = read_amounts(column, question.settings.columns.rules, decimals)
    return Amounts.of(column, decimals, in_units=in_units).units(0, column.len())


def needs_instants(question: Question, row_values: object, dtype: pl.DataType) -> bool:
    """Return whether the order of rows within a day matters: for segments, and where local days are not in order."""
    if dtype == pl.Date:
        return False
    if row_values and not question.split:
        return True
    zoned = not isinstance(dtype, pl.Datetime) or dtype.time_zone is not None  # text may be zoned
    return zoned and not question.same_unit and not days_in_order(question.settings.timezone)


@lru_cache(maxsize=8)
def days_in_order(zone: str) -> bool:
    """Return whether a later instant never has an earlier local day: clocks never go back over midnight."""
    day = 86_400
    starts, shifts = offsets(zone, EARLIEST * day, (LATEST + 1) * day)
    before, after = starts[1:] - 1 + shifts[:-1], starts[1:] + shifts[1:]
    return bool((after // day >= before // day).all())


def attributes_of(
    table: pl.DataFrame, question: Question, encoding: UserEncoding, values: dict[str, Values]
) -> UserTable:
    """Encode the table `users`: one row per user, with the codes of its columns, which are added to `values`."""
    user, names = table.columns[0], table.columns[1:]
    ids = TransactionReader(question.settings.columns).users(table[user])
    keep = ids.is_not_null()
    if not keep.all():
        _, dropped = without_nulls(ids.to_frame(), question.settings.nulls, "users")
        dropped.warn("users")
        table, ids = table.filter(keep), ids.filter(keep)
    keys = keys_of_ids(encoding, ids, "users")
    for name in names:
        values[name] = Values(name)
    codes = {name: values[name].encode(table[name]) for name in names}
    frame = keys.with_columns(pl.Series(name, column) for name, column in codes.items()).unique(maintain_order=True)
    key_names = [name for name in (KEY, KEY2) if name in frame.columns]
    twice = frame.filter(pl.struct(key_names).is_duplicated())
    if twice.height:
        count = twice.select(pl.struct(key_names).n_unique()).item()
        raise DataError(
            f"{count:,} users have rows in users that differ, among them {twice[USER].cast(pl.String).min()!r}",
            value=twice[USER][0], expected="one row per user",
        )  # fmt: skip
    return UserTable(frame, 0, "")


def keys_of_ids(encoding: UserEncoding, column: pl.Series, table: str) -> pl.DataFrame:
    """Return the keys and the ids of a column of users of another table."""
    if column.len() and Users.of(column).integers != encoding.integers:
        what = f"the users are {encoding.dtype} in the transactions and {column.dtype} in {table} ({column[0]!r})"
        raise SchemaError(what, expected="the same type in both", hint="cast one of them")
    users = encoding.users(column)
    key, key2 = users.keys(0, len(users))
    keys = {KEY: key} | ({KEY2: key2} if encoding.wide else {})
    return pl.DataFrame(keys | {USER: users.series.alias("")})


def with_joined(rows: TableRows, joined: pl.DataFrame | None) -> TableRows:
    """Add the joined table to rows."""
    if joined is None:
        return rows
    question = rows.question
    cut = joined_cut(joined, question.settings)
    if cut is None:
        days = np.empty(0, np.int32)
    else:
        days = cut.local_days(0, joined.height)
        question.check_days(int(days.min()), int(days.max()))
    frame = keys_of_ids(rows.encoding, joined.to_series(0), "joined").with_columns(pl.Series(JOINED, days))
    long = days.astype(np.int64)
    units = [long] if question.width else [question.calendar.ordinals(long), question.ages.ordinals(long)]
    frame = frame.with_columns(pl.Series(f"\0{at}", unit) for at, unit in enumerate(units))
    key_names = [name for name in (KEY, KEY2) if name in frame.columns]
    first = frame.unique(key_names, keep="first", maintain_order=True)
    both = frame.join(first, on=key_names)
    other = both.filter(pl.any_horizontal(pl.col(f"\0{at}") != pl.col(f"\0{at}_right") for at in range(len(units))))
    earliest = frame.group_by(key_names, maintain_order=True).agg(pl.col(USER).first(), pl.col(JOINED).min())
    table = UserTable(earliest, other.height, str(other[USER][0]) if other.height else "")
    span = (int(days.min()), int(days.max())) if days.size else None
    return replace(rows, joined=table, joined_days=span)


def part_rows(rows: TableRows, part: Part) -> tuple[Ints, Codes, Ints]:
    """Return the instants, the ranks of segments, and the further amounts of the rows of a part."""
    count = len(rows.row_columns)
    names = column_names(rows)
    height = part.rows.height
    codes = np.empty((count, height), np.uint32)
    for at, name in enumerate(rows.row_columns):
        codes[at] = rows.ranks(name)[part.rows[names[at]].to_numpy()]
    instants = part.rows[names[count]].to_numpy() if rows.with_instants else np.empty(0, np.int64)
    amounts = np.empty((len(rows.question.amounts), height), np.int64)
    for at, name in enumerate(names[count + rows.with_instants :]):
        amounts[at] = part.rows[name].to_numpy()
    return instants, codes, amounts


def column_names(rows: TableRows) -> Sequence[str]:
    """Return the names of the columns of rows that parts have for this table."""
    return [f"{at}" for at in range(len(rows.row_columns) + rows.with_instants + len(rows.question.amounts))]
