"""Read tables of Delta and Iceberg through their own libraries, so that deleted rows stay deleted."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import polars as pl

from cohortlib.errors import CohortlibError, SourceError
from cohortlib.read.folders import Files
from cohortlib.read.tables import (
    PANIC,
    ChooseColumns,
    FileOptions,
    Source,
    Stream,
    first_line,
    in_memory,
    select_columns,
)


def folder_stream(source: Source, files: Files, choose: ChooseColumns, options: FileOptions, *, whole: bool) -> Stream:
    """Read the table in a folder."""
    frame = _delta_folder(files.name, options) if files.kind == "delta" else _iceberg_folder(files.name)
    return _stream(source, frame, choose, f"the {files.kind.title()} table {files.name!r}", whole=whole)


def table_stream(table: Any, choose: ChooseColumns, *, whole: bool) -> Stream:  # noqa: ANN401
    """Read a DeltaTable, or a Table of pyiceberg."""
    if type(table).__module__.startswith("deltalake"):
        with _lake_errors("the DeltaTable"):
            frame = pl.scan_delta(table)
        return _stream(table, frame, choose, "the DeltaTable", whole=whole)
    with _lake_errors("the Iceberg table"):
        frame = pl.scan_iceberg(table)
    return _stream(table, frame, choose, "the Iceberg table", whole=whole)


@contextmanager
def _lake_errors(name: str) -> Iterator[None]:
    """Raise SourceError for any failure of polars or of the table's library, which refuses what it cannot read."""
    try:
        yield
    except CohortlibError:
        raise
    except ImportError as error:
        raise SourceError(
            f"{name} needs the package that reads it: {first_line(error)}", hint="pip install 'cohortlib[lake]'"
        ) from error
    except (Exception, PANIC) as error:
        raise SourceError(f"{name} cannot be read: {first_line(error)}") from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Leave out polars' advice to plan scans of Iceberg with another package."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", pl.exceptions.PerformanceWarning)
        yield


def _stream(source: Source, frame: pl.LazyFrame, choose: ChooseColumns, name: str, *, whole: bool) -> Stream:
    with _lake_errors(name), _quiet():
        lazy = select_columns(frame, choose)
        if whole:
            return in_memory(lazy.collect())
        schema = lazy.collect_schema()
        rows = frame.select(pl.len()).collect().item()

    def batches() -> Iterator[pl.DataFrame]:
        with _lake_errors(name):
            with _quiet():  # while the scan is planned
                iterator = iter(lazy.collect_batches(maintain_order=True))
                first = next(iterator, None)
            if first is not None:
                yield first
            yield from iterator

    return Stream(source, schema, rows, batches)


def _delta_folder(path: str, options: FileOptions) -> pl.LazyFrame:
    with _lake_errors(f"the Delta table {path!r}"):
        import deltalake

        stored = dict(options.storage_options) if options.storage_options else None
        return pl.scan_delta(deltalake.DeltaTable(path, storage_options=stored))


def _iceberg_folder(path: str) -> pl.LazyFrame:
    """Open an Iceberg table by the newest metadata file of its folder."""
    with _lake_errors(f"the Iceberg table {path!r}"):
        from pyiceberg.table import StaticTable

        return pl.scan_iceberg(StaticTable.from_metadata(str(_newest_metadata(Path(path)).absolute())))


def _newest_metadata(folder: Path) -> Path:
    """Return the metadata file of the current version; raise SourceError if names do not say which one that is."""
    metadata = folder / "metadata"
    hint = metadata / "version-hint.text"
    if hint.is_file():
        version = hint.read_text().strip()
        for name in (f"v{version}.metadata.json", f"{version}.metadata.json", version):
            if (metadata / name).is_file():
                return metadata / name
    versions: dict[int, list[Path]] = {}
    for file in metadata.glob("*.metadata.json"):
        number = file.name.removeprefix("v").split("-")[0].split(".")[0]
        if number.isdecimal():
            versions.setdefault(int(number), []).append(file)
    newest = versions[max(versions)] if versions else []
    if len(newest) != 1:
        raise SourceError(
            f"the Iceberg table {str(folder)!r} has {len(newest)} metadata files of its newest version",
            value=str(folder),
            expected="one",
            hint="load it from its catalog with pyiceberg, and pass the table",
        )
    return newest[0]
