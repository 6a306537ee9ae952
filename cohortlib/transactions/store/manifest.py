"""The manifest of a folder of parts, and its files."""

import json
import re
import secrets as chance
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from cohortlib.engine import files
from cohortlib.errors import SourceError
from cohortlib.read.arrays import Keys
from cohortlib.read.tables import first_line

VERSION = 2
MANIFEST = "cohortlib.json"
_FORMAT = "cohortlib parts"
_FILE = re.compile(r"[0-9a-f]{8}-\d+\.(users|rows|dropped)\.parquet|sums-[0-9a-f]{8}\.parquet")


@dataclass(frozen=True)
class Filed:
    """A part on disk: the start of its files' names, its size, and the first words of its least and greatest key."""

    name: str
    users: int
    rows: int
    low: int
    high: int


@dataclass(frozen=True)
class FiledDropped:
    """A file of dropped rows: the start of its name, and its number of rows."""

    name: str
    rows: int


@dataclass(frozen=True)
class Manifest:
    """What a folder holds, and what its rows were read by."""

    user: str = "user_id"
    timestamp: str = "timestamp"
    amount: str = "amount"
    keep: tuple[str, ...] = ()
    timezone: str = "UTC"
    decimals: int = 6
    nulls: str = "error"
    kind: str = "Int64"
    """How users are kept: as "Int64", "UInt64" or "String"."""
    whole: bool = True
    """Whether users were whole numbers, of whatever width."""
    secret: tuple[int, ...] = ()
    """What the keys of users are drawn by."""
    bits: int = 0
    """As many top bits of the key tell where a part may begin."""
    rows: int = 0
    first_day: int = 0
    final_day: int = -1
    """Of the rows kept; local days since 1970-01-01."""
    last_day: int | None = None
    """Of all rows, kept or not."""
    magnitude: int = 0
    """Σ |units|."""
    dropped: int = 0
    dropped_files: tuple[FiledDropped, ...] = ()
    """Kept columns and latest days of the dropped rows that have an instant; none where no column is kept."""
    runs: tuple[tuple[Filed, ...], ...] = ()
    state: dict[str, Any] = field(default_factory=dict)
    """What a state needs beside its rows."""

    @property
    def text(self) -> bool:
        """Whether users are text: then their keys have two words."""
        return self.kind == "String"

    @property
    def key_secret(self) -> Keys:
        """The secret as the kernels take it."""
        return np.array(self.secret, np.uint64)

    def text_of(self) -> str:
        """Write the manifest."""
        told = asdict(self) | {"magnitude": str(self.magnitude)}
        return json.dumps({"format": _FORMAT, "version": VERSION} | told, indent=1)

    @classmethod
    def read(cls, folder: Path) -> "Manifest":
        """Read the manifest of a folder.

        Raises
        ------
        SourceError
            Where there is none, or one of another version.
        """
        file = folder / MANIFEST
        try:
            told = json.loads(file.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise SourceError(
                f"the folder {str(folder)!r} has no {MANIFEST}; expected one that cl.prepare or State.build has "
                "written to its end. Hint: for a folder of Parquet files give a glob, such as 'folder/*.parquet'"
            ) from None
        except (OSError, ValueError) as error:
            raise SourceError(f"{str(file)!r} cannot be read: {first_line(error)}") from error
        if not isinstance(told, dict) or told.pop("format", None) != _FORMAT or told.pop("version", None) != VERSION:
            raise SourceError(f"{str(file)!r} is not of version {VERSION}. Hint: prepare the transactions anew")
        try:
            runs = tuple(tuple(Filed(**part) for part in run) for run in told.pop("runs"))
            told["dropped_files"] = tuple(FiledDropped(**file) for file in told["dropped_files"])
            told |= {"magnitude": int(told["magnitude"]), "keep": tuple(told["keep"]), "secret": tuple(told["secret"])}
            return cls(**told, runs=runs)
        except (KeyError, TypeError, ValueError) as error:
            raise SourceError(f"{str(file)!r} cannot be read: {first_line(error)}") from error


def new_run() -> str:
    """Give a run a name that no other has."""
    return chance.token_hex(4)


def unsound(file: Path) -> SourceError:
    """Give the error for a file that the kernels could not work on without looking beyond their arrays."""
    return SourceError(f"{str(file)!r} is not what {MANIFEST} says of it. Hint: prepare the transactions anew")


def sweep(folder: Path, manifest: Manifest) -> None:
    """Remove the files that a manifest does not name: what was replaced, or what a killed process left."""
    files.delete_stale(folder)
    names = {part.name for run in manifest.runs for part in run} | {manifest.state.get("sums")}
    names |= {dropped.name for dropped in manifest.dropped_files}
    for file in folder.iterdir():
        if _FILE.fullmatch(file.name) and file.name not in names and file.name.split(".")[0] not in names:
            file.unlink(missing_ok=True)
