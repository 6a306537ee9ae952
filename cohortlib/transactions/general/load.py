"""Load the rows of the general table, from any source."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from cohortlib.engine.buffers import POOL
from cohortlib.read import sources
from cohortlib.read.tables import Source
from cohortlib.transactions.general.packed import PackedRows, pack_rows
from cohortlib.transactions.general.prepared import load_prepared
from cohortlib.transactions.general.question import Question
from cohortlib.transactions.general.rows import TableRows, columns_of_rows, load_source, open_stream, read_users
from cohortlib.transactions.store.prepared import Prepared, open_if_prepared


@contextmanager
def load_rows(source: Source, question: Question, *, keep_ids: bool) -> Iterator[TableRows]:
    """Read the rows of a source; files that were spilled are deleted at the end of the block."""
    with _opened(source, question) as (opened, stack):
        if isinstance(opened, Prepared):
            yield load_prepared(opened, question, keep_ids=keep_ids)
        else:
            yield load_source(opened, question, read_users(question), stack, keep_ids=keep_ids)


@contextmanager
def load_for_counting(source: Source, question: Question) -> Iterator[TableRows | PackedRows]:
    """Read the rows of a source, into packed records where these are enough; otherwise as `load_rows`."""
    with _opened(source, question) as (opened, stack):
        if isinstance(opened, Prepared):
            yield load_prepared(opened, question, keep_ids=False)
            return
        attributes = read_users(question)
        stream = open_stream(opened, question, columns_of_rows(question, attributes))
        packed = pack_rows(stream, question)
        yield packed or load_source(opened, question, attributes, stack, keep_ids=False, stream=stream)


@contextmanager
def _opened(source: Source, question: Question) -> Iterator[tuple[Source, ExitStack]]:
    """Open a prepared form, and check the settings of other sources."""
    settings = question.settings
    POOL.bound(settings.max_memory)
    with ExitStack() as stack:
        source = open_if_prepared(source)
        if not isinstance(source, Prepared):
            sources.check_sheet(source, settings.file_options)
        yield source, stack
