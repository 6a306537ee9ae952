"""Read columns of frames and tables of other libraries; the other columns may be of any type."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeAlias
from uuid import UUID

import polars as pl

from cohortlib.errors import CohortlibError, DataError, SchemaError
from cohortlib.read.arrays import min_max
from cohortlib.read.tables import PANIC, ChooseColumns, Stream, choose_columns, first_line, in_memory

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


def _arrow(source: Any, choose: ChooseColumns, whole: bool) -> Stream:  # noqa: ANN401
    """Read any Arrow stream; it can be one that is read only once, so all of it is kept."""
    return _arrow_stream(source, lambda: source, choose, whole=True)


def _arrow_stream(source: Any, opened: Callable[[], Any], choose: ChooseColumns, *, whole: bool) -> Stream:  # noqa: ANN401
    """Read an Arrow stream batch by batch, only the chosen columns of each; `opened` begins it anew."""
    import nanoarrow

    first = nanoarrow.c_array_stream(opened())
    schema = first.get_schema()
    names = _names(source) or [child.name or "" for child in schema.children]
    columns = choose_columns(names, choose)
    indexes = [names.index(name) for name in columns]
    for index, name in zip(indexes, columns, strict=True):
        _check_format(schema.child(index).format, name)

    def frame(arrays: list[Any]) -> pl.DataFrame:
        return pl.DataFrame([_arrow_series(array, name) for array, name in zip(arrays, columns, strict=True)])

    def batches(stream: Any | None = None) -> Iterator[pl.DataFrame]:  # noqa: ANN401
        with _conversion_errors(source):
            for batch in stream or nanoarrow.c_array_stream(opened()):
                yield frame([batch.child(index) for index in indexes])

    empty = frame([nanoarrow.c_array([], schema.child(index)) for index in indexes])
    if whole:
        return in_memory(pl.concat([empty, *batches(first)]))
    first.release() if hasattr(first, "release") else None
    return Stream(source, empty.schema, None, batches)


def _names(source: Any) -> list[str] | None:  # noqa: ANN401
    """Return the names of the columns of pyarrow's tables: the Arrow interface cuts a name at a NUL."""
    if type(source).__module__.partition(".")[0] != "pyarrow" or hasattr(source, "scanner"):
        return None
    return list(source.schema.names) if hasattr(source, "schema") else None


class _Integers:
    """An Arrow array read as integers of 64 bits."""

    def __init__(self, array: Any) -> None:  # noqa: ANN401
        self._array = array

    def __arrow_c_array__(self, requested_schema: object | None = None) -> tuple[object, object]:
        import nanoarrow

        _, values = self._array.__arrow_c_array__()
        return nanoarrow.c_schema(nanoarrow.int64()).__arrow_c_schema__(), values


def _check_seconds(values: pl.Series, name: str) -> None:
    """Raise DataError for seconds that do not fit into milliseconds, as polars reads them."""
    low, high = min_max(values)
    if low is not None and max(-low, high) > 2**63 // 1000:
        raise DataError(f"column {name!r} has instants beyond the range of 64 bits in milliseconds")


def _check_format(written: str, name: str) -> None:
    """Raise SchemaError for types that polars does not have; it would panic at some of them."""
    kind = "an interval" if written.startswith("ti") else "a decimal of 256 bits" if written.endswith(",256") else ""
    if kind:
        raise SchemaError(f"column {name!r} is {kind}", value=written, expected="users, instants or amounts")


def _arrow_series(array: Any, name: str) -> pl.Series:  # noqa: ANN401
    try:
        if array.schema.format.startswith("tss:"):
            _check_seconds(pl.Series(_Integers(array)), name)
        return pl.Series(array).alias(name)
    except CohortlibError:
        raise
    except (Exception, PANIC) as error:
        raise SchemaError(
            f"column {name!r} cannot be read through the Arrow interface: {first_line(error)}", hint=_zone_hint(error)
        ) from error


def _pyarrow(source: Any, choose: ChooseColumns, whole: bool) -> Stream:  # noqa: ANN401
    """Read a dataset or a scanner of pyarrow."""
    if not hasattr(source, "scanner"):
        return _arrow_stream(source, source.to_reader, choose, whole=whole)
    columns = choose_columns(source.schema.names, choose)
    return _arrow_stream(source, lambda: source.scanner(columns=columns).to_reader(), lambda _: columns, whole=whole)


def _duckdb(source: Any, choose: ChooseColumns, whole: bool) -> Stream:  # noqa: ANN401
    import duckdb

    columns = choose_columns(list(source.columns), choose)
    chosen = source.select(*(duckdb.ColumnExpression(name) for name in columns))
    return _arrow_stream(source, lambda: chosen, lambda _: columns, whole=whole)


def _ibis(source: Any, choose: ChooseColumns, whole: bool) -> Stream:  # noqa: ANN401
    columns = choose_columns(list(source.columns), choose)
    chosen = source.select(*columns)
    return _arrow_stream(source, chosen.to_pyarrow, lambda _: columns, whole=whole)


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
    "pyarrow": (("Dataset", "Scanner"), _pyarrow),
    "duckdb": (("DuckDBPyRelation",), _duckdb),
    "_duckdb": (("DuckDBPyRelation",), _duckdb),
    "ibis": (("Table",), _ibis),
    "narwhals": (("DataFrame", "LazyFrame"), _narwhals),
    "deltalake": (("DeltaTable",), _lake),
    "pyiceberg": (("Table",), _lake),
}
