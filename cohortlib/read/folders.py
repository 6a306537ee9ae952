"""Find the files of a source: paths, globs, lists and folders, with the Hive partitions in their paths."""

import glob
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from os import PathLike, walk
from os.path import basename, dirname, isdir, isfile, islink, join, realpath
from pathlib import Path
from urllib.parse import unquote

import polars as pl

from cohortlib.errors import SourceError, listed
from cohortlib.read import zips
from cohortlib.read.paths import SHOWN, list_files, missing
from cohortlib.read.tables import DEFAULT_OPTIONS, FileOptions

PARQUET = (".parquet", ".pq")
CSV = tuple(ending + packed for ending in (".csv", ".tsv") for packed in ("", ".gz", ".zst"))
LINES = tuple(ending + packed for ending in (".jsonl", ".ndjson", ".json") for packed in ("", ".gz", ".zst"))
EXCEL = (".xlsx", ".xlsm")
KINDS = {"parquet": PARQUET, "csv": CSV, "lines": LINES, "excel": EXCEL}
"""The kinds of files, by the ends of their names in lower case."""

_NO_VALUE = "__HIVE_DEFAULT_PARTITION__"


@dataclass(frozen=True)
class File:
    """A file, or a URL, and the values of the Hive partitions in its path."""

    path: str
    partitions: Mapping[str, str | None] = field(default_factory=dict)


@dataclass(frozen=True)
class Files:
    """The files of a source, all of one kind: a key of :data:`KINDS`, or ``"delta"`` or ``"iceberg"`` for a folder."""

    name: str
    files: list[File]
    kind: str


def is_paths(source: object) -> bool:
    """Return whether a source is a path, or a list of paths."""
    return isinstance(source, str | PathLike) or (
        isinstance(source, list | tuple) and all(isinstance(path, str | PathLike) for path in source)
    )


def resolve(
    source: str | PathLike[str] | Sequence[str | PathLike[str]], options: FileOptions = DEFAULT_OPTIONS
) -> Files:
    """Find the files of a path, a glob, a folder, a URL, or of a list of them."""
    if isinstance(source, str | PathLike):
        return _resolve_one(str(source), options)
    name = listed(map(str, source), 3)
    if not source:
        raise SourceError("the list of files is empty", expected=f"paths or globs of {SHOWN}")
    checked: set[str] = set()
    each = [_resolve_one(str(path), options, checked) for path in source]
    if lakes := [item for item in each if item.kind in ("delta", "iceberg")]:
        raise SourceError(f"{lakes[0].name!r} is a table of its own, in a list", expected="one table, or files")
    if len(kinds := {item.kind for item in each}) > 1:
        raise SourceError(f"the list of files mixes {' and '.join(sorted(kinds))}", expected="files of one kind")
    files = [file for item in each for file in item.files]
    seen: set[str] = set()
    folder_place = cache(realpath)
    for file in files:
        folder, name = dirname(file.path), basename(file.path)
        place = file.path
        if "://" not in place:
            place = realpath(place) if islink(place) or not name else join(folder_place(folder), name)
        if place in seen:
            raise SourceError(
                f"the list of files holds {file.path!r} twice", value=file.path, expected="each file once"
            )
        seen.add(place)
    return Files(name, files, each[0].kind)


def _resolve_one(path: str, options: FileOptions, checked: set[str] | None = None) -> Files:
    if "://" in path:
        from cohortlib.read import urls

        paths = urls.list_urls(path, options)
        shown = urls.without_secrets(path)
        kind = _kind(shown, [urls.without_secrets(each) for each in paths])
        urls.refuse_lake(path, paths, options)
        return Files(shown, [File(each) for each in paths], kind)
    if isdir(path):
        return _resolve_folder(path)
    paths = match_files(path, SHOWN, checked)[0]
    root = path if isfile(path) else _before_wildcards(path)
    of_folder = _folder_partitions(root)
    files = [File(each, {} if file == root else of_folder(dirname(file))) for file in paths for each in _within(file)]
    return Files(path, files, _kind(path, [file.path for file in files]))


def _within(path: str) -> list[str]:
    """List the files within a zip archive; any other file stands for itself."""
    if not path.lower().endswith(zips.ENDING):
        return [path]
    names = zips.members(path)
    if wrong := [name for name in names if not name.lower().endswith(CSV + LINES)]:
        raise SourceError(
            f"{wrong[0]!r} is neither CSV, TSV nor JSON lines by its name",
            value=wrong[0],
            expected="only such files in an archive",
            hint="unpack the archive, and pass some of its files",
        )
    return names


def _resolve_folder(path: str) -> Files:
    if (Path(path) / "_delta_log").is_dir():
        return Files(path, [File(path)], "delta")
    if _is_iceberg(Path(path)):
        return Files(path, [File(path)], "iceberg")
    found: dict[str, list[str]] = {}
    for entry, folders, names in walk(path):
        folder = Path(entry)
        _refuse_lake(folder, path)
        # Names that begin with a dot or an underscore are those of tools: _SUCCESS, .part-0.parquet.crc.
        folders[:] = [name for name in folders if not name.startswith((".", "_"))]
        for name in names:
            for kind in ("parquet", "csv"):
                if name.lower().endswith(KINDS[kind]) and not name.startswith((".", "_")):
                    found.setdefault(kind, []).append(join(*folder.parts, name))
    if not found:
        raise SourceError(f"the folder {path!r} has no Parquet or CSV files", value=path, expected=SHOWN)
    if len(found) > 1:
        counts = " and ".join(f"{len(paths):,} {kind}" for kind, paths in sorted(found.items()))
        raise SourceError(
            f"the folder {path!r} has {counts} files",
            value=path,
            expected="files of one kind",
            hint=f"use a glob: '{Path(path) / '**' / '*.parquet'}'",
        )
    ((kind, paths),) = found.items()
    of_folder = _folder_partitions(path)
    return Files(path, [File(file, of_folder(dirname(file))) for file in sorted(paths)], kind)


def _kind(name: str, paths: Sequence[str]) -> str:
    """Return the kind of files, by their names."""
    names = [basename(path).lower() for path in paths]
    for kind, endings in KINDS.items():
        if all(each.endswith(endings) for each in names):
            return kind
    raise SourceError(
        f"{name!r} is neither Parquet, CSV, TSV, JSON lines nor Excel by its name",
        value=name,
        expected="names that all end in .parquet, in .csv or .tsv, in .jsonl (also with .gz or .zst), or in .xlsx",
        hint="" if len(names) == 1 else "use a glob such as 'folder/*.parquet'",
    )


# ----------------------------------------------------------------------------------------------------- globs


def match_files(path: str, kinds: str, checked: set[str] | None = None) -> tuple[list[str], list[str]]:
    """List the files of a path or glob, and their names without folders in lower case; there must be at least one.

    Folders that are not tables of a lake are added to `checked`, and not checked again.
    """
    paths = [file for file in list_files(path) if "://" in file or isfile(file)]
    if not paths:
        raise missing(path, kinds)
    checked = set() if checked is None else checked
    for own in {dirname(file) for file in paths if "://" not in file} - checked:
        for folder in (Path(own), *Path(own).parents):
            if str(folder) not in checked:
                _refuse_lake(folder, path)
                checked.add(str(folder))
        checked.add(own)
    return paths, [basename(file).lower() for file in paths]


def _is_iceberg(folder: Path) -> bool:
    return any(folder.glob("metadata/*.metadata.json"))


def _refuse_lake(folder: Path, path: str) -> None:
    """Raise SourceError if a folder is a table of Delta or Iceberg, whose files also hold deleted rows."""
    kind = "Delta" if (folder / "_delta_log").is_dir() else "Iceberg" if _is_iceberg(folder) else None
    if kind is None and not {"_delta_log", "metadata"} & set(folder.parts[-1:]):
        return
    if kind is None:  # a file of the log itself
        parent = folder.parent
        kind = "Delta" if folder.name == "_delta_log" else "Iceberg" if _is_iceberg(parent) else None
        folder = parent
    if kind is not None:
        raise SourceError(
            f"{path!r} reads files of the {kind} table {str(folder)!r}, also those that were deleted from it",
            value=path,
            expected="the table itself",
            hint=f"pass its folder {str(folder)!r}, which is read with cohortlib[lake]",
        )


# ----------------------------------------------------------------------------------------------- partitions


def _before_wildcards(path: str) -> str:
    parts = Path(path).parts
    fixed = next((index for index, part in enumerate(parts) if glob.has_magic(part)), len(parts) - 1)
    return str(Path(*parts[:fixed])) if fixed else "."


def _folder_partitions(root: str) -> Callable[[str], Mapping[str, str | None]]:
    """Return a function of folders below `root`: the Hive partitions in their names, of ``country=DE`` the country."""

    @cache
    def partitions(folder: str) -> Mapping[str, str | None]:
        pairs = (name.partition("=") for name in Path(folder).relative_to(root).parts if "=" in name)
        return {unquote(name): None if value == _NO_VALUE else unquote(value) for name, _, value in pairs if name}

    return partitions


def partition_type(files: Sequence[File], name: str) -> pl.DataType:
    """Return the type of a partition: integers if each value in all paths is written as one, else text."""
    values = [value for file in files if (value := file.partitions.get(name)) is not None]
    whole = all(value.isdecimal() and value.isascii() and str(int(value)) == value for value in values)
    fits = whole and all(int(value) < 2**63 for value in values)
    return pl.Int64() if values and fits else pl.String()


def partition_columns(values: Mapping[str, str | None], dtype: pl.DataType) -> list[pl.Expr]:
    """Return columns of constants."""
    return [pl.lit(value, pl.String()).cast(dtype).alias(name) for name, value in values.items()]
