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
def load_rows(
    source: Source, question: Question, *, keep_ids: bool, packed: bool = False
) -> Iterator[TableRows | PackedRows]:
    """Read the rows of a source; files that were spilled are deleted at the end of the block.

    With `packed`, they may be packed records.
    """
    settings = question.settings
    POOL.bound(settings.max_memory)
    with ExitStack() as stack:
        source = open_if_prepared(source)
        if isinstance(source, Prepared):
            yield load_prepared(source, question, keep_ids=keep_ids)
            return
        sources.check_sheet(source, settings.file_options)
        attributes = read_users(question)
        stream = open_stream(source, question, columns_of_rows(question, attributes))
        rows = pack_rows(stream, question) if packed else None
        yield rows or load_source(
            source, question, attributes, stack, keep_ids=keep_ids or settings.joined is not None, stream=stream
        )
