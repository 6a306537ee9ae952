"""Read columns of Excel workbooks: a sheet whose first row that is not blank is the header."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

import polars as pl

from cohortlib.errors import Arg, SettingError, SourceError, listed
from cohortlib.read.folders import File
from cohortlib.read.tables import (
    DEFAULT_OPTIONS,
    PANIC,
    ChooseColumns,
    FileOptions,
    Source,
    Stream,
    choose_columns,
    first_line,
    in_memory,
)
from cohortlib.read.typed import Kinds, Places, missing_column, typed_frame


class _Sheet(NamedTuple):
    """The header, the rows that are not blank, and their numbers in the sheet."""

    path: str
    names: list[str]
    rows: list[list[Any]]
    numbers: list[int]

    def column(self, name: str) -> list[Any]:
        """Return the values of a column; whole numbers as integers."""
        index = self.names.index(name)
        return [_value(row[index]) if index < len(row) else None for row in self.rows]


def _value(value: Any) -> Any:  # noqa: ANN401
    """Excel has no integers: whole numbers are read as such, if they are exact."""
    if isinstance(value, str):
        return value or None
    if isinstance(value, float) and value.is_integer() and abs(value) <= 2**53:
        return int(value)
    return value


@dataclass(frozen=True)
class Workbooks:
    """Excel files, and the columns to read."""

    source: Source
    files: list[File]
    choose: ChooseColumns
    options: FileOptions = field(default=DEFAULT_OPTIONS)

    def stream(self) -> Stream:
        """Read all rows."""
        every = list(dict.fromkeys(name for sheet in self._sheets for name in sheet.names))
        twice = [name for name in every if any(sheet.names.count(name) > 1 for sheet in self._sheets)]
        columns = choose_columns([*every, *twice], self.choose)
        values: dict[str, list[Any]] = {}
        schema = pl.Schema()
        for name in columns:
            kinds, values[name] = Kinds(name), []
            for sheet in self._sheets:
                if name not in sheet.names:
                    raise missing_column(sheet.path, name)
                column = sheet.column(name)
                kinds.add(column, Places(sheet.path, "row", sheet.numbers))
                values[name] += column
            schema[name] = kinds.dtype()
        return in_memory(typed_frame(values, schema), self.locate)

    def locate(self, row: int) -> str:
        """Return the file and the row, as the sheet counts it."""
        for sheet in self._sheets:
            if row < len(sheet.numbers):
                return Places(sheet.path, "row", sheet.numbers)(row)
            row -= len(sheet.numbers)
        return f"row {row}"

    @cached_property
    def _sheets(self) -> list[_Sheet]:
        return [self._sheet(file.path) for file in self.files]

    def _sheet(self, path: str) -> _Sheet:
        try:
            from python_calamine import CalamineWorkbook
        except ImportError as error:
            raise SourceError(
                f"{path!r} needs the package python-calamine", value=path, hint="pip install 'cohortlib[excel]'"
            ) from error
        if "://" in path:
            raise SourceError(f"{path!r} is a workbook at a URL", value=path, expected="a local file")
        try:
            with CalamineWorkbook.from_path(path) as workbook:
                name = self._sheet_name(path, workbook.sheet_names)
                cells = workbook.get_sheet_by_name(name).to_python(skip_empty_area=False)
        except (SettingError, SourceError):
            raise
        except (Exception, PANIC) as error:
            raise SourceError(f"{path!r} cannot be read: {first_line(error)}", value=path) from error
        return _Sheet(path, *_shape(path, cells))

    def _sheet_name(self, path: str, names: list[str]) -> str:
        sheet = self.options.sheet
        if sheet is None and len(names) == 1:
            return names[0]
        if isinstance(sheet, str) and sheet in names:
            return sheet
        number = int(sheet) if isinstance(sheet, int) or (isinstance(sheet, str) and sheet.isdecimal()) else 0
        if 0 < number <= len(names):
            return names[number - 1]
        if sheet is None:
            raise SettingError(
                f"{path!r} has {len(names):,} sheets", expected=f"one of {listed(names)}", hint=Arg("sheet", names[0])
            )
        raise SettingError(
            (f"{path!r} has no sheet for ", Arg("sheet", sheet)), value=sheet, expected=f"one of {listed(names)}"
        )


def _shape(path: str, cells: list[list[Any]]) -> tuple[list[str], list[list[Any]], list[int]]:
    """Find the header; check that no row has values beyond it."""
    rows = _filled(cells)
    header = next(rows, None)
    if header is None:
        raise SourceError(f"{path!r} is empty", value=path, expected="a sheet with a header row")
    names = [str(_value(value)) if value != "" else "" for value in header[1]]
    while names and not names[-1]:
        names.pop()
    kept, numbers = [], []
    for number, row in rows:
        if any(value != "" for value in row[len(names) :]):
            raise SourceError(f"{path}, row {number:,} has values beyond the {len(names):,} columns of the header")
        kept.append(row)
        numbers.append(number)
    return names, kept, numbers


def _filled(cells: list[list[Any]]) -> Iterator[tuple[int, list[Any]]]:
    for number, row in enumerate(cells, 1):
        if any(value != "" for value in row):
            yield number, row
