"""The columns and settings of the general table that a state keeps."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import polars as pl

from cohortlib.errors import DataError, SchemaError, SourceError
from cohortlib.transactions.general.question import Question
from cohortlib.transactions.general.saved import settings_from
from cohortlib.transactions.general.sums import TableSettings
from cohortlib.transactions.keywords import TABLE_SETTINGS, TableStateKeywords
from cohortlib.transactions.reading import TEXT_SETTINGS
from cohortlib.transactions.state_manifest import settings_of
from cohortlib.transactions.store.manifest import MANIFEST, Manifest
from cohortlib.transactions.store.part_files import rows_file


def fixed_table(settings: TableStateKeywords) -> tuple[TableSettings | None, list[str], dict[str, Any]]:
    """Split the settings of a new state: those of its general table (None for Termina's), its columns, the others."""
    own = {name: value for name, value in settings.items() if name not in TABLE_SETTINGS}
    if all(_is_default(name, value) for name, value in settings.items() if name in TABLE_SETTINGS):
        return None, [], own
    question = Question.of(**settings)
    columns = list(dict.fromkeys([*question.by, *question.split, *question.amounts]))
    return TableSettings.of(cast("Mapping[str, Any]", settings), question, ()), columns, own


def _is_default(name: str, value: object) -> bool:
    """Return whether a setting of the general table has no effect."""
    default = TABLE_SETTINGS[name].default
    return value is default or (isinstance(value, str | int | tuple | list) and value in (default, [], ()))


def table_keywords(folder: Path, manifest: Manifest) -> dict[str, Any]:
    """Return the settings with which the general table of a state is computed."""
    if "table" not in manifest.state:
        raise SourceError(
            f"the state in {str(folder)!r} has the sums of Termina's table alone",
            expected="a state that was built with a setting of cl.cohorts, such as by",
            hint="build it again with by, age or amounts; or compute cl.cohorts from the folder",
        )  # fmt: skip
    table: TableSettings = settings_from(folder / MANIFEST, manifest.state["table"], TableSettings)
    settings = settings_of(manifest)
    reading = {name: getattr(settings, name) for name in ("user", "timestamp", "amount", "nulls", *TEXT_SETTINGS)}
    return reading | table.keywords()


def check_kept_amounts(rows: pl.DataFrame, amounts: Sequence[str]) -> None:
    """Raise DataError for further amounts that are null."""
    for name in amounts:
        if rows[name].null_count():
            raise DataError(
                f"the table has nulls: {rows[name].null_count():,} in column {name!r}", value=name, expected="amounts",
                hint="leave these rows out, or fill the amounts",
            )  # fmt: skip


class KeptColumns:
    """The types of kept columns in the first rows of a state, which later rows must have."""

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        self._names, self._schema = manifest.keep, dict[str, pl.DataType]()
        self._amounts = manifest.state["table"]["amounts"] if manifest.keep else ()
        if manifest.keep and manifest.parts:
            schema = pl.read_parquet_schema(rows_file(folder, manifest.parts[0].name))
            self._schema = {name: schema[name] for name in manifest.keep}

    @property
    def types(self) -> tuple[str, ...]:
        """The types, as a manifest has them."""
        return tuple(str(self._schema[name]) for name in self._names if name in self._schema)

    def cast(self, frame: pl.DataFrame) -> pl.DataFrame:
        """Cast the kept columns of new rows, where all values keep their meaning."""
        check_kept_amounts(frame, self._amounts)
        for name in self._names:
            kind, known = frame.schema[name], self._schema.setdefault(name, frame.schema[name])
            if kind == known:
                continue
            numbers = kind.is_integer() and known.is_numeric()
            texts = all(isinstance(each, pl.String | pl.Categorical | pl.Enum) for each in (kind, known))
            try:
                if not (numbers or texts or kind == pl.Null):
                    raise pl.exceptions.InvalidOperationError("")
                frame = frame.with_columns(pl.col(name).cast(known))
            except pl.exceptions.PolarsError as error:
                raise SchemaError(
                    f"column {name!r} is {kind} in these rows, and {known} in the state", value=kind,
                    expected=str(known), hint="cast it, or build the state again from all rows",
                ) from error  # fmt: skip
        return frame
