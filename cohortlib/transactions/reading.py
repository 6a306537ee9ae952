"""Read the batches of a source of transactions: count over all of it what is wrong, and warn about doubtful ids."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from itertools import chain, islice, starmap

import polars as pl
from polars.selectors import by_name

from cohortlib.engine.threads import map_ordered
from cohortlib.errors import Arg, DataError, SchemaError, SettingError
from cohortlib.read import sources
from cohortlib.read.amounts import as_decimal
from cohortlib.read.faults import find_faults
from cohortlib.read.instants import read_instants
from cohortlib.read.tables import FileOptions, Locate, Source, Stream, in_memory
from cohortlib.read.text import is_text
from cohortlib.read.transactions import TransactionReader, Transactions
from cohortlib.transactions.keywords import SETTINGS, Parsing, types
from cohortlib.transactions.settings import Settings
from cohortlib.transactions.store.prepared import Prepared

TEXT_SETTINGS = tuple(types(Parsing))
"""Settings that say how text is read."""


@contextmanager
def reader_of(
    stream: Stream, settings: Settings, *, zoned: bool | None = None, prepared: bool = False
) -> Iterator[TransactionReader]:
    """Return a reader for the batches of a stream.

    Errors about values count over the whole source. At the end of the block, warn about ids that may be mistakes.

    Parameters
    ----------
    zoned
        Whether earlier rows, from other sources, have an offset from UTC.
    prepared
        Whether the stream is a prepared form, whose instants are local dates already.
    """
    columns = settings.columns
    if prepared:
        columns = replace(columns, rules=replace(columns.rules, assume_zone=None))
    reader = TransactionReader(columns, zoned)
    try:
        yield reader
    except (DataError, SchemaError):
        error = find_faults(_batches(stream.source, settings.roles, settings.file_options), columns, stream.locate)
        if error is not None:
            raise error from None
        raise
    warn_of_ids(reader)


def parsed(stream: Stream, reader: TransactionReader) -> Iterator[Transactions]:
    """Parse the batches of a stream, several of them on threads."""
    if stream.mapped is not None:
        yield from starmap(reader.join, stream.mapped(reader.parse_apart))
        return
    batches = stream.batches()
    first = list(islice(batches, 2))
    if len(first) < 2:
        yield from map(reader.parse, first)
        return
    parsed = map_ordered(reader.columns.workers, reader.parse_apart, chain(first, batches), ahead=1)
    yield from starmap(reader.join, parsed)


def typed_frame(frame: pl.DataFrame, settings: Settings, locate: Locate) -> pl.DataFrame:
    """Parse text: the three columns, and every other column that holds only dates."""
    with reader_of(in_memory(frame)._replace(locate=locate), settings) as reader:
        typed = reader.typed(frame)
    if is_text(frame.schema[settings.amount]):
        typed = typed.with_columns(as_decimal(by_name(settings.amount), settings.decimals))
    for name in typed.select(pl.col(pl.String)).columns:
        if name not in settings.roles and typed[name].null_count() < typed.height:
            with suppress(DataError):
                column, _ = read_instants(typed[name], settings.columns.rules, settings.workers)
                typed = typed.with_columns(column)
    return typed


def typed_pairs(table: pl.DataFrame, settings: Settings) -> pl.DataFrame:
    """Parse the users and the dates of a joined table, its first and its last column."""
    user, date = table.columns[0], table.columns[-1]
    columns = replace(settings.columns, user=user, timestamp=date, amount="", check_years=False, nulls="drop")
    reader = TransactionReader(columns)
    try:
        return table.with_columns(reader.users(table[user]), reader.instants(table[date]))
    except DataError:
        error = find_faults([table], columns, lambda row: f"the joined table, row {row:,}")
        if error is not None:
            raise error from None
        raise


def warn_of_ids(reader: TransactionReader) -> None:
    """Warn about ids and amounts that may be mistakes, once all batches of a source have been read."""
    reader.doubts.warn(reader.columns.user, reader.columns.rules.normalize)
    reader.amount_doubts.warn(reader.columns.amount, reader.columns.rules.decimal)


def check_prepared_with(prepared: Prepared, settings: Settings) -> None:
    """Raise SettingError if a prepared form was written with other settings, which would change the result.

    How text is read need not be repeated.
    """
    folder = str(prepared.folder)
    for name in ("user", "timestamp", "amount", "timezone", "decimals", *TEXT_SETTINGS):
        written_with, value = getattr(prepared.manifest, name), getattr(settings, name)
        if value != written_with and not (name in TEXT_SETTINGS and value == SETTINGS[name].default):
            raise SettingError(
                (f"{folder!r} was prepared with ", Arg(name, written_with), ", not with ", Arg(name, value)),
                value=value,
                expected="the setting that it was prepared with",
                hint=("pass ", Arg(name, written_with), ", or prepare the transactions again"),
            )


def _batches(source: Source, columns: Sequence[str], options: FileOptions) -> Iterator[pl.DataFrame]:
    return sources.stream(source, lambda _: list(columns), options=options, max_bytes=0).batches()
