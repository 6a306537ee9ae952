"""Read columns of frames and tables of other libraries; the other columns may be of any type."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date
from typing import Any, TypeAlias
from uuid import UUID

import polars as pl
from polars.selectors import by_name

from cohortlib.errors import CohortlibError, DataError, SchemaError
from cohortlib.read.arrays import min_max
from cohortlib.read.tables import PANIC, ChooseColumns, Stream, choose_columns, first_line, in_memory

_FIRST, _LAST = -62_135_596_800, 253_402_300_799  # seconds of the years 1 and 9999

Reader: TypeAlias = Callable[[Any, ChooseColumns, bool], Any]


def is_frame(source: object) -> bool:
    """Return whether a source is a table that can be read here."""
    return hasattr(source, "__arrow_c_stream__") or _reader(source) is not None


def frame_stream(source: Any, choose: ChooseColumns, *, whole: bool) -> Any:  # noqa: ANN401
    """Read columns of a table as a Stream, or return the polars frame that it wraps.

    `whole` reads all rows at once; else those that can be read twice are read in batches.
    """
    with _conversion_errors(source):
        return (_reader(source) or _arrow)(source, choose, whole)


@contextmanager
def _conversion_errors(source: object) -> Iterator[None]:
    try:
        yield
    except CohortlibError:
        raise
    except (Exception, PANIC) as error:
        raise SchemaError(
            f"the {_type_name(source)} cannot be read: {first_line(error)}", hint=_zone_hint(error)
        ) from error


def _zone_hint(error: BaseException) -> str:
    return "convert the instants to UTC" if "time zone" in str(error).lower() else ""


def _type_name(source: object) -> str:
    return f"{type(source).__module__}.{type(source).__qualname__}"


def _reader(source: object) -> Reader | None:
    """Return how a table of a known library is read."""
    for library, (kinds, reader) in _READERS.items():
        if library in sys.modules and any(
            f"{base.__module__}.{base.__qualname__}".startswith(f"{library}.") and base.__qualname__ in kinds
            for base in type(source).__mro__
        ):
            return reader
    return None


def _pandas(source: Any, choose: ChooseColumns, whole: bool) -> Stream:  # noqa: ANN401
    names = [str(name) if not isinstance(name, str) else name for name in source.columns]
    columns = choose_columns(names, choose)
    chosen = source.iloc[:, [names.index(name) for name in columns]]
    chosen = chosen.set_axis(columns, axis=1)
    series = [_pandas_series(chosen, name, index) for index, name in enumerate(columns)]
    return in_memory(pl.DataFrame(series))


def _pandas_series(frame: Any, name: str, index: int) -> pl.Series:  # noqa: ANN401
    part = frame.iloc[:, [index]].set_axis(["column"], axis=1).reset_index(drop=True)
    if str(part.dtypes.iloc[0]) == "object" and all(isinstance(value, UUID) for value in part["column"].dropna()):
        part = part.map(lambda value: str(value) if isinstance(value, UUID) else None)
    if str(part.dtypes.iloc[0]) == "object":
        part = part.assign(column=_with_offsets(part["column"]))
    if str(part.dtypes.iloc[0]).startswith("datetime64[s"):
        seconds = part["column"].dropna().astype("int64")
        _check_seconds(pl.Series([seconds.min(), seconds.max()] if len(seconds) else [], dtype=pl.Int64), name)
    try:
        return pl.DataFrame(part).to_series().alias(name)
    except (Exception, PANIC) as error:
        kinds = sorted({type(value).__name__ for value in part["column"].head(10_000)})
        raise SchemaError(
            f"column {name!r} of the {_type_name(frame)} cannot be read: {first_line(error)}",
            value=part.dtypes.iloc[0],
            hint=f"its values are of types {', '.join(kinds[:6])}" if len(kinds) > 1 else _zone_hint(error),
        ) from error


def _with_offsets(column: Any) -> Any:  # noqa: ANN401
    """Write instants as text if only some have an offset from UTC: the conversion to Arrow would drop it silently."""
    kinds = {getattr(value, "tzinfo", None) is not None for value in column if isinstance(value, date)}
    if len(kinds) < 2:
        return column
    return column.map(lambda value: value.isoformat() if isinstance(value, date) else value)


def _arrow(source: Any, choose: ChooseColumns, whole: bool) -> Stream:  # noqa: ANN401
    """Read any Arrow stream; it can be one that is read only once, so all of it is kept."""
    import nanoarrow

    stream = nanoarrow.c_array_stream(source)
    schema = stream.get_schema()
    names = [child.name or "" for child in schema.children]
    columns = choose_columns(names, choose)
    indexes = [names.index(name) for name in columns]
    formats = [schema.child(index).format for index in indexes]
    _check_formats(formats, columns)
    unknown = any(_unknown_type(child.format) for child in schema.children)
    # nanoarrow does not keep all buffers of views, so these are imported with the rest of the table.
    if not unknown or any(each.startswith("v") for each in formats) or "tss:" in "".join(formats):
        return in_memory(_imported(stream, columns, formats))
    wanted = list(zip(indexes, columns, strict=True))
    frames = [pl.DataFrame([_series(nanoarrow.c_array([], schema.child(index)), name) for index, name in wanted])]
    frames += [pl.DataFrame([_series(batch.child(index), name) for index, name in wanted]) for batch in stream]
    return in_memory(pl.concat(frames))


def _projected(source: Any, columns: list[str], opened: Callable[[], Any], *, whole: bool) -> Stream:  # noqa: ANN401
    """Read an Arrow stream of the chosen columns alone, in their order; `opened` begins it anew."""
    import nanoarrow

    first = nanoarrow.c_array_stream(opened())
    formats = [child.format for child in first.get_schema().children]
    _check_formats(formats, columns)
    if whole:
        return in_memory(_imported(first, columns, formats))

    def lazy() -> pl.LazyFrame:
        return pl.scan_arrow_c_stream(nanoarrow.c_array_stream(opened()))

    def batches() -> Iterator[pl.DataFrame]:
        with _conversion_errors(source):
            for batch in lazy().collect_batches(maintain_order=True):
                yield batch.rename(dict(zip(batch.columns, columns, strict=True)))

    types = lazy().collect_schema().dtypes()
    return Stream(source, pl.Schema(zip(columns, types, strict=True)), None, batches)


def _imported(stream: Any, columns: list[str], formats: list[str]) -> pl.DataFrame:  # noqa: ANN401
    """Import a stream, and check seconds, which polars reads as milliseconds without a check."""
    frame = pl.DataFrame(stream)
    if frame.width == len(columns):
        frame.columns = columns
    frame = frame.select(by_name(*columns))
    for name, written in zip(columns, formats, strict=True):
        if written.startswith("tss:"):  # as milliseconds
            _check_seconds(frame[name].to_physical() // 1000, name)
    return frame


def _check_formats(formats: list[str], columns: list[str]) -> None:
    """Raise SchemaError for types that polars does not have; it would panic at some of them."""
    for written, name in zip(formats, columns, strict=True):
        if kind := _unknown_type(written):
            raise SchemaError(f"column {name!r} is {kind}", value=written, expected="users, instants or amounts")


def _unknown_type(written: str) -> str:
    return "an interval" if written.startswith("ti") else "a decimal of 256 bits" if written.endswith(",256") else ""


def _check_seconds(values: pl.Series, name: str) -> None:
    """Raise DataError for instants of seconds beyond the years 1 to 9999, some of which would wrap around."""
    low, high = min_max(values)
    if low is not None and not (low >= _FIRST and high <= _LAST):
        raise DataError(f"column {name!r} has instants beyond the years 1 to 9999")


def _series(array: Any, name: str) -> pl.Series:  # noqa: ANN401
    try:
        return pl.Series(array).alias(name)
    except (Exception, PANIC) as error:
        raise SchemaError(f"column {name!r} cannot be read: {first_line(error)}", hint=_zone_hint(error)) from error


def _pyarrow(source: Any, choose: ChooseColumns, whole: bool) -> Stream:  # noqa: ANN401
    """Read a table, a batch, a reader, a dataset or a scanner of pyarrow."""
    import pyarrow

    kind = type(source).__name__
    names = list((source.projected_schema if kind == "Scanner" else source.schema).names)
    columns = choose_columns(names, choose)
    indexes = [names.index(name) for name in columns]
    numbers = [str(index) for index in range(len(columns))]  # the Arrow interface cuts a name at a NUL

    def chosen(batches: Any) -> Any:  # noqa: ANN401
        schema = pyarrow.schema([full.field(index) for index in indexes])
        return pyarrow.Table.from_batches((batch.select(indexes) for batch in batches), schema).rename_columns(numbers)

    full = source.projected_schema if kind == "Scanner" else source.schema
    if hasattr(source, "scanner"):
        return _projected(source, columns, lambda: source.scanner(columns=columns).to_reader(), whole=whole)
    if kind == "Scanner":
        return _projected(source, columns, lambda: chosen(source.to_reader()), whole=True)
    if kind == "RecordBatchReader":
        return _projected(source, columns, lambda: chosen(source), whole=True)
    seconds = [full.field(index).type for index in indexes]
    for name, index, dtype in zip(columns, indexes, seconds, strict=True):
        if str(dtype).startswith("timestamp[s"):
            column = source.column(index)
            _check_seconds(pl.Series(column.cast(pyarrow.int64())), name)
    return _projected(source, columns, lambda: source.select(indexes).rename_columns(numbers), whole=True)


def _duckdb(source: Any, choose: ChooseColumns, whole: bool) -> Stream:  # noqa: ANN401
    import duckdb

    columns = choose_columns(list(source.columns), choose)
    chosen = source.select(*(duckdb.ColumnExpression(name) for name in columns))
    return _projected(source, columns, lambda: chosen, whole=True)  # a connection has one open result


def _ibis(source: Any, choose: ChooseColumns, whole: bool) -> Stream:  # noqa: ANN401
    columns = choose_columns(list(source.columns), choose)
    chosen = source.select(*columns)
    return _projected(source, columns, chosen.to_pyarrow, whole=whole)


def _narwhals(source: Any, choose: ChooseColumns, whole: bool) -> Any:  # noqa: ANN401
    import narwhals

    native = narwhals.to_native(source)
    if isinstance(native, pl.DataFrame | pl.LazyFrame):
        return native
    if is_frame(native):
        return frame_stream(native, choose, whole=whole)
    columns = choose_columns(list(source.collect_schema().names()), choose)
    chosen = source.select(*(narwhals.col(name) for name in columns))
    if hasattr(chosen, "collect"):
        chosen = chosen.collect()
    return frame_stream(chosen.to_arrow(), lambda _: columns, whole=whole)


def _lake(source: Any, choose: ChooseColumns, whole: bool) -> Stream:  # noqa: ANN401
    from cohortlib.read.lake import table_stream

    return table_stream(source, choose, whole=whole)


_READERS: dict[str, tuple[tuple[str, ...], Reader]] = {
    "pandas": (("DataFrame",), _pandas),
    "pyarrow": (("Dataset", "Scanner", "Table", "RecordBatch", "RecordBatchReader"), _pyarrow),
    "duckdb": (("DuckDBPyRelation",), _duckdb),
    "_duckdb": (("DuckDBPyRelation",), _duckdb),
    "ibis": (("Table",), _ibis),
    "narwhals": (("DataFrame", "LazyFrame"), _narwhals),
    "deltalake": (("DeltaTable",), _lake),
    "pyiceberg": (("Table",), _lake),
}
