"""Find files by path or glob, and say which are missing. Imports no polars, so that the error comes at once."""

import glob
from collections.abc import Sequence
from os.path import isfile

from cohortlib.errors import SourceError

SHOWN = "Parquet, CSV, TSV, JSON lines or Excel files"
"""The kinds of files that can be read."""


def list_files(path: str) -> list[str]:
    """List the files of a path or glob; a URL is returned as it is."""
    try:
        if "://" in path or isfile(path):
            return [path]
        return sorted(glob.glob(path, recursive=True))
    except (OSError, ValueError):  # no file can have this name
        return []


def missing(path: str, kinds: str = SHOWN) -> SourceError:
    """Return the error for a path or glob without files."""
    problem = "no file matches" if glob.has_magic(path) else "there is no file"
    return SourceError(f"{problem} {path!r}", value=path, expected=f"the path or glob of {kinds}")


def check_exist(paths: str | Sequence[str]) -> None:
    """Raise SourceError if a path or glob has no files."""
    for path in [paths] if isinstance(paths, str) else paths:
        if not list_files(path):
            raise missing(path)
