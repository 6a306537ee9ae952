"""Read row groups of millions of rows page by page, with pyarrow.

polars decodes a column of a row group from its beginning, also for a slice: with slices of 300,000 rows, 20 million
rows of text took 15 times the CPU time, and a row group's compressed bytes are in memory. pyarrow holds one page of
each column, and the dictionaries.
"""

from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from typing import Any

import polars as pl

ROWS = 1 << 16
"""Rows of a batch: pyarrow takes several times the memory of its rows."""
_BUFFER = 1 << 20  # bytes that are read at a time, of each column
_COLUMN = 8 << 20  # bytes of the pages of a column
_DICTIONARY = 5  # bytes in memory of a byte of a dictionary in the file, which is compressed


class LargeGroups:
    """Parquet files whose columns `schema` are read batch by batch."""

    def __init__(self, paths: Sequence[str], schema: pl.Schema) -> None:
        self._paths, self._schema = paths, schema

    @classmethod
    def open(cls, paths: Sequence[str], schema: pl.Schema) -> "LargeGroups | None":
        """Open files; None without pyarrow, or if it reads them otherwise than polars."""
        if find_spec("pyarrow") is None:
            return None
        files = cls(paths, schema)
        for path in paths:
            types = files._file(path).schema_arrow
            if any(name not in types.names for name in schema):
                return None
            empty = types.empty_table().select(list(schema))
            if pl.DataFrame(empty).schema != schema:
                return None
        return files

    def memory(self) -> int:
        """Estimate the bytes that reading takes."""
        return max(map(self._group_bytes, self._paths), default=0)

    def _group_bytes(self, path: str) -> int:
        metadata = self._file(path).metadata
        most = 0
        for number in range(metadata.num_row_groups):
            group = metadata.row_group(number)
            columns = [group.column(at) for at in range(group.num_columns)]
            chosen = [column for column in columns if column.path_in_schema in self._schema]
            pages = [column for column in chosen if column.has_dictionary_page]
            dictionaries = sum(column.data_page_offset - column.dictionary_page_offset for column in pages)
            most = max(most, _COLUMN * len(chosen) + _DICTIONARY * dictionaries)
        return most

    def batches(self) -> Iterator[pl.DataFrame]:
        """Read all rows in order."""
        import pyarrow

        try:
            for path in self._paths:
                with self._file(path) as file:
                    for batch in file.iter_batches(ROWS, columns=list(self._schema), use_threads=False):
                        yield pl.DataFrame(batch).select(*self._schema)
        except pyarrow.ArrowException as error:
            raise pl.exceptions.ComputeError(str(error)) from error
        finally:
            pyarrow.default_memory_pool().release_unused()

    @staticmethod
    def _file(path: str) -> Any:  # noqa: ANN401  pyarrow has no types
        from pyarrow.parquet import ParquetFile

        return ParquetFile(path, buffer_size=_BUFFER, pre_buffer=False)
