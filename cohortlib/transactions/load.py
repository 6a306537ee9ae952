"""Load transactions: partition the rows of a source by user, and lay out the grid of periods that they are placed on.

:func:`load` chooses one of four strategies. Each is a function below:

- :func:`_load_prepared` scans a prepared form part by part;
- :func:`_load_batches` reads batches into packed records, or into full records if some values do not fit packed ones;
- :func:`_load_table` reads the table whole, if user ids or a joined table are needed, or after an error in a batch;
- :func:`_load_spilled` writes rows that exceed the memory budget to disk, partitioned by user.

The strategy does not change a result. All of them agree on this:

- the right edge is the period of the last row, including rows dropped for nulls;
- dropped rows are counted over the whole table, with one warning;
- Σ |units| is below 2 ** 63, else DataError, so no sum of units overflows;
- only integers are added, so the order of rows, batches and threads does not matter.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from itertools import chain, islice
from pathlib import Path
from tempfile import gettempdir
from typing import TYPE_CHECKING, NamedTuple

import polars as pl
from polars.selectors import by_name

from cohortlib.engine import files
from cohortlib.engine.buffers import POOL
from cohortlib.engine.partitions import FullError, partition_bits
from cohortlib.engine.progress import Meter
from cohortlib.errors import DataError, SchemaError
from cohortlib.read import sources
from cohortlib.read.arrays import min_max
from cohortlib.read.nulls import Dropped
from cohortlib.read.tables import Locate, Source, Stream
from cohortlib.read.text import is_text
from cohortlib.read.transactions import TransactionReader, Transactions
from cohortlib.read.users import NarrowIds, UserEncoding, Users
from cohortlib.transactions.grid import Grid
from cohortlib.transactions.joined import joined_cohorts, joined_cut, joined_in_stream, joined_table
from cohortlib.transactions.loaded import LoadedRows
from cohortlib.transactions.netting import RecordsNetting
from cohortlib.transactions.part_netting import PartsNetting
from cohortlib.transactions.reading import check_prepared_with, parsed, reader_of, warn_of_ids
from cohortlib.transactions.records import Batch, Layout, RecordsBuilder
from cohortlib.transactions.settings import Settings
from cohortlib.transactions.store.parts import FilteredStore
from cohortlib.transactions.store.prepared import Prepared, opened
from cohortlib.transactions.store.spill import RunPlan, SpilledRuns, Totals, gather_runs, keep_in_memory, read_batches

if TYPE_CHECKING:
    from cohortlib.read.amounts import Amounts

_FIXED_BYTES = 64 << 20  # needed for any number of rows
_EXCESS, _BLOCK = 8, 1 << 16  # an estimate of rows can be wrong by this factor, and by this number
_DEFERRED_SPAN = 4096  # periods; their sums take 64 MB per thread


@contextmanager
def load(
    source: Source, settings: Settings, *, keep_users: bool, full_grid: bool = False, may_spill: bool = True
) -> Iterator[LoadedRows]:
    """Load the rows of a source; files that were spilled are deleted at the end of the block.

    Parameters
    ----------
    keep_users
        Keep user ids, not only their keys, for tables with one row per user.
    full_grid
        Let the grid cover all rows and joined dates, also those after the right edge; the caller cuts it.
    may_spill
        Write rows that exceed the memory budget to disk.
    """
    POOL.bound(settings.max_memory)
    with ExitStack() as stack:
        source = stack.enter_context(opened(source))
        yield _load(source, settings, stack, keep_users=keep_users, full_grid=full_grid, may_spill=may_spill)


def _load(
    source: Source, settings: Settings, stack: ExitStack, *, keep_users: bool, full_grid: bool, may_spill: bool
) -> LoadedRows:
    """Choose a strategy."""
    if isinstance(source, Prepared):
        return _load_prepared(source, settings, keep_users=keep_users, full_grid=full_grid)
    sources.check_sheet(source, settings.file_options)
    needs_users = keep_users or settings.joined is not None
    if settings.joined is not None and not may_spill:
        return _load_table(source, settings, full_grid=full_grid)

    max_bytes = settings.budget if may_spill else None
    stream = sources.stream(
        source, settings.columns_to_read, options=settings.file_options, max_bytes=max_bytes, expected=may_spill
    )
    if stream.rows is None and stream.expected is None and may_spill:
        stream = stream.buffered(stream.rest(settings.budget) // 4)
    budget = stream.rest(settings.budget) if may_spill else math.inf
    by_batches = not needs_users and Users.has_one_type(stream.schema[settings.user])
    estimate = _Estimate.of(stream, settings, by_batches=by_batches)
    if by_batches and estimate.packed <= budget:
        # On bad data fall through to another strategy: errors must count over the whole table, not over one batch.
        with suppress(DataError, SchemaError):
            meter = Meter(settings.progress, estimate.rows)
            with suppress(FullError):  # if a later batch does not fit the layout of the first
                return _load_batches(stream, settings, meter, estimate, packed=True)
            if estimate.full <= budget:
                meter.restart()
                try:
                    return _load_batches(stream, settings, meter, estimate)
                except FullError:  # far more rows than were expected
                    estimate = _Estimate(math.inf, math.inf)
    if estimate.full <= budget:
        if keep_users and settings.joined is None and _narrow(stream.schema[settings.user]) and stream.rows is not None:
            with suppress(DataError, SchemaError, FullError):
                meter, estimate = Meter(settings.progress, stream.rows), _Estimate(0, 0, stream.rows)
                return _load_batches(stream, settings, meter, estimate, packed=True, keep_users=True)
        return _load_table(stream.source, settings, full_grid=full_grid, locate=stream.locate)
    if stream.rows is None and may_spill:
        stream = stream.buffered(stream.rest(settings.budget) // 4)
    folder = stack.enter_context(files.temporary_folder(Path(gettempdir())))
    return _load_spilled(source, stream, settings, folder, keep_users=keep_users, full_grid=full_grid)


def _narrow(dtype: pl.DataType) -> bool:
    """Whether ids of this type can be found from packed records."""
    return dtype != pl.String and Users.has_one_type(dtype)


class _Estimate(NamedTuple):
    """Estimated bytes of the rows in memory, as packed records and as full ones; the number of rows, and the most."""

    packed: float
    full: float
    rows: int = 0
    most: int = 0

    @classmethod
    def of(cls, stream: Stream, settings: Settings, *, by_batches: bool) -> "_Estimate":
        """Estimate from the number of rows; if that is unknown, assume that the rows do not fit."""
        rows = stream.expected if stream.rows is None else stream.rows
        if rows is None:
            return cls(math.inf, math.inf)
        if not by_batches:  # the table is read whole
            return cls(math.inf, _FIXED_BYTES + 100 * rows)
        text = stream.schema[settings.user] == pl.String
        most = rows if stream.rows is not None else min(_EXCESS * rows + _BLOCK, settings.budget // 36)
        packed, full = (26, 36) if text else (9, 27)
        return cls(_FIXED_BYTES + packed * rows, _FIXED_BYTES + full * rows, rows, most)


# -------------------------------------------------------------------------------------------------- the strategies


def _load_prepared(source: Prepared, settings: Settings, *, keep_users: bool, full_grid: bool) -> LoadedRows:
    """Scan a prepared form part by part during netting."""
    check_prepared_with(source, settings)
    manifest = source.manifest
    # A kept column that is joined comes with user ids as they are stored: wide integers are text.
    integers = not manifest.text if settings.joined_is_one_of(source.columns) else manifest.whole
    encoding = UserEncoding(manifest.kind, manifest.key_secret, integers=integers)
    joined = joined_table(settings, source.columns, lambda: source.unique_pairs(str(settings.joined)))
    meter = Meter(settings.progress, manifest.rows)
    # Finding the last day that passes a filter takes a third of the time. It can wait for netting, unless it decides
    # which users are placed, or a far day that is filtered out would make the sums large.
    span = settings.ordinal(manifest.final_day) - settings.ordinal(manifest.first_day) + 1
    deferred = source.predicate is not None and manifest.rows > 0
    deferred &= not (keep_users or joined is not None or span > _DEFERRED_SPAN)
    days = (manifest.first_day, manifest.final_day, manifest.final_day) if deferred else source.days()
    rows = _place_parts(
        settings, source, days, manifest.magnitude, meter, encoding, joined, full_grid=full_grid or deferred
    )
    return replace(
        rows,
        filter_deferred=deferred,
        dropped=Dropped(manifest.rows + manifest.dropped, manifest.dropped),
        first_day=None if deferred else rows.first_day,
        last_day=source.last_dropped_day() if deferred else rows.last_day,
    )


def _load_table(source: Source, settings: Settings, *, full_grid: bool, locate: Locate | None = None) -> LoadedRows:
    """Read a table whole, with its joined table, and write full records; `locate` says where its rows come from."""
    names: list[str] = []

    def choose(columns: list[str]) -> list[str]:
        names.extend(columns)
        return settings.columns_to_read(columns)

    stream = sources.stream(source, choose, options=settings.file_options)
    stream = stream._replace(locate=locate or stream.locate)
    in_units = is_text(stream.schema[settings.amount])
    with reader_of(stream, settings) as reader:
        batches = [stream.source] if isinstance(stream.source, pl.DataFrame) else stream.batches()
        typed = [reader.typed(batch) for batch in batches] or [reader.typed(pl.DataFrame(schema=stream.schema))]
        frame = pl.concat(typed, how="vertical_relaxed")
        rows = reader.parse_typed(frame, in_units=in_units)
    joined = joined_table(settings, names, lambda: frame.select(by_name(settings.user, str(settings.joined))))
    batch, users = None, [rows.users]
    if rows.users.integers and not Users.has_one_type(stream.schema[settings.user]):
        users = [Users(rows.users.series.cast(pl.String))]  # wide integers are text on every road
    if joined is not None:
        row_users, joined_users = Users.align(rows.users, Users.of(joined[settings.user]))
        cut = joined_cut(joined, settings)
        batch = None if cut is None else Batch(joined_users, cut, None)
        rows = replace(rows, users=row_users)
        users = [row_users] if batch is None else [joined_users, row_users]
    rows.dropped.warn("the table")
    meter = Meter(settings.progress, len(rows.users))
    loaded = _place_records(
        settings, [rows], len(rows.users), meter, wide=rows.users.wide, joined=batch, users=users, full_grid=full_grid
    )
    return replace(loaded, dropped=rows.dropped)


def _load_batches(
    stream: Stream, settings: Settings, meter: Meter, estimate: _Estimate, *, packed: bool = False,
    keep_users: bool = False,
) -> LoadedRows:  # fmt: skip
    dropped = Dropped()
    reader = TransactionReader(settings.columns)

    def batches() -> Iterator[Transactions]:
        nonlocal dropped
        for rows in parsed(stream, reader):
            dropped += rows.dropped
            yield rows
        meter.correct(dropped.rows)

    wide = stream.schema[settings.user] == pl.String
    ids = None
    dtype = stream.schema[settings.user]
    if packed and isinstance(stream.source, pl.DataFrame) and dtype.is_integer() and dtype != pl.UInt64:
        low, high = min_max(stream.source[settings.user].alias("").cast(pl.Int64), settings.workers)
        ids = None if low is None else (low, high)
    rows = _place_records(
        settings, batches(), estimate.rows, meter, wide=wide, packed=packed, most=max(estimate.rows, estimate.most),
        ids=ids, keep_users=keep_users,
    )  # fmt: skip
    warn_of_ids(reader)
    dropped.warn("the table")
    return replace(rows, dropped=dropped)


def _load_spilled(
    source: Source, stream: Stream, settings: Settings, folder: Path, *, keep_users: bool, full_grid: bool
) -> LoadedRows:
    """Write runs of parts to a folder; a single run stays in memory."""
    encoding = UserEncoding.of(stream.schema[settings.user], settings.user)
    with_ids = keep_users or settings.joined is not None
    plan = RunPlan(stream.rest(settings.budget), settings.workers, encoding.wide, with_ids, stream.rows)
    meter = Meter(settings.progress if stream.rows else None, stream.rows or 0)
    totals = Totals()
    runs, in_memory = SpilledRuns(folder, plan), None
    with reader_of(stream, settings) as reader:
        batches = read_batches(stream.batches(), settings, reader, encoding, ())
        for run in gather_runs(batches, plan, totals, meter):
            if run.last and not runs.rows:
                in_memory = keep_in_memory(run, plan)
            else:
                runs.sink(run)
            del run  # frees its memory before the next run is gathered
    totals.dropped.warn("the table")
    first, final = totals.first_day, totals.final_day
    joined = joined_in_stream(source, settings) if settings.joined is not None else None
    rows = _place_parts(
        settings, in_memory or runs, (first, final, totals.last_day), totals.magnitude, meter,
        encoding, joined, full_grid=full_grid,
    )  # fmt: skip
    return replace(rows, dropped=totals.dropped)


# ------------------------------------------------------------------------------------- the builders they share


def _place_records(
    settings: Settings, tables: Iterable[Transactions], count: int, meter: Meter, *,
    wide: bool, packed: bool = False, joined: Batch | None = None, users: Sequence[Users] = (), full_grid: bool = False,
    most: int | None = None, ids: tuple[int, int] | None = None, keep_users: bool = False,
) -> LoadedRows:  # fmt: skip
    """Write the rows of tables as records in memory, after the users in `joined`, and lay out the grid.

    There are about `count` rows, and not more than `most`; `ids` are as for `Layout.of`.
    """
    amounts: list[Amounts] = []
    dtypes: list[pl.DataType] = []
    first_days: list[int] = []
    last_days: list[int] = []

    def batches() -> Iterator[Batch]:
        for table in tables:
            amounts[:] = [table.amounts]
            if table.last_day is not None:
                last_days.append(table.last_day)
            if table.cut is not None:
                dtypes[:] = [table.users.series.dtype]
                first_days.append(table.cut.days[0])
                yield Batch(table.users, table.cut, table.amounts)

    joined_count = len(joined.users) if joined else 0
    bits = partition_bits(count, joined_count)
    remaining: Iterable[Batch] = batches()
    layout = None
    if packed:
        begin = list(islice(remaining, 1))
        layout = Layout.of(begin[0], bits, ids) if begin else None
        if keep_users and begin and layout is None:
            raise FullError
        remaining = chain(begin, remaining)
    builder = RecordsBuilder((most or count) + joined_count, bits, settings.workers, wide=wide, layout=layout)
    if joined is not None:
        builder.add([joined])
    builder.add(remaining, meter)
    records = builder.build()
    if builder.total >= 2**63:
        raise amounts[0].too_large()

    last_day = max(last_days, default=None)
    placed_days = [] if records is None else [records.first, records.last]
    grid = _lay_out(settings, last_day, placed_days, full_grid=full_grid)
    if grid is None or records is None:
        return LoadedRows(settings, last_day)
    user_ids: list[Users] | NarrowIds = list(users)
    if keep_users and layout is not None:
        user_ids = NarrowIds(dtypes[0], layout.first_id, layout.key_bits + bits)
    netting = RecordsNetting(settings, grid, meter, records, user_ids)
    return LoadedRows(settings, last_day, builder.total, grid, netting, first_day=min(first_days, default=None))


def _place_parts(
    settings: Settings, parts: FilteredStore, days: tuple[int, int, int | None], magnitude: int, meter: Meter,
    encoding: UserEncoding, joined: pl.DataFrame | None, *, full_grid: bool,
) -> LoadedRows:  # fmt: skip
    """Return the grid for parts. `days` are the first and last day of their rows, and the last day of all rows."""
    first, final, last_day = days
    cut = None if joined is None else joined_cut(joined, settings)
    placed_days = [first, final] if first <= final else []
    placed_days += [] if cut is None else cut.days
    grid = _lay_out(settings, last_day, placed_days, full_grid=full_grid)
    if grid is None:
        return LoadedRows(settings, last_day)
    cohorts = None
    if cut is not None and joined is not None:
        cohorts = joined_cohorts(encoding, joined, cut, settings.calendar, grid.origin)
    netting = PartsNetting(settings, grid, meter, parts, (first, final), cohorts)
    return LoadedRows(settings, last_day, magnitude, grid, netting, first_day=first if first <= final else None)


def _lay_out(settings: Settings, last_day: int | None, placed_days: Sequence[int], *, full_grid: bool) -> Grid | None:
    """Return the grid for rows and joined dates on `placed_days`; None if there is nothing to place."""
    start, last = settings.bounds(last_day)
    if not placed_days:
        return None
    final = settings.ordinal(max(placed_days))
    if full_grid:
        last = final if last is None else max(final, last)
    if last is None:
        return None
    # If all rows lie after the right edge, the grid is that one period; the rows are checked all the same.
    origin = min(last, settings.ordinal(min(placed_days)))
    return Grid(origin, last - origin + 1, 0 if start is None else max(0, start - origin))
