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

VERSION = 3
MANIFEST = "cohortlib.json"
_FORMAT = "cohortlib parts"
_FILE = re.compile(r"[0-9a-f]{8}-\d+\.(users|rows|dropped)\.parquet|sums-[0-9a-f]{8}\.parquet")


@dataclass(frozen=True)
class PartFile:
    """A part on disk: the prefix of its files' names, its size, and the first words of its least and greatest key."""

    name: str
    users: int
    rows: int
    low: int
    high: int


@dataclass(frozen=True)
class DroppedFile:
    """A file of dropped rows: the prefix of its name, and its number of rows."""

    name: str
    rows: int


@dataclass(frozen=True)
class Manifest:
    """The files of a folder, and the settings that its rows were read with."""

    user: str = "user_id"
    timestamp: str = "timestamp"
    amount: str = "amount"
    keep: tuple[str, ...] = ()
    timezone: str = "UTC"
    decimals: int = 6
    nulls: str = "error"
    timestamp_format: str | None = None
    decimal: str = "."
    assume_zone: str | None = None
    normalize: str | None = None
    zoned: bool | None = None  # whether instants had an offset from UTC; None if there were none
    kind: str = "Int64"  # type of the user ids on disk: "Int64", "UInt64" or "String"
    whole: bool = True  # whether user ids were integers of any width
    secret: tuple[int, ...] = ()  # seed of the hash that makes keys of user ids
    bits: int = 0  # top bits of the key that delimit key ranges
    rows: int = 0
    first_day: int = 0  # local day (since 1970-01-01) of the first row that was not dropped
    final_day: int = -1  # the same of the last
    last_day: int | None = None  # local day of the last row, including dropped rows
    magnitude: int = 0  # Σ |units|
    dropped: int = 0
    dropped_files: tuple[DroppedFile, ...] = ()  # kept columns, users and latest days; empty if no column is kept
    runs: tuple[tuple[PartFile, ...], ...] = ()
    state: dict[str, Any] = field(default_factory=dict)  # settings and sums of a state; empty for a prepared form

    @property
    def text(self) -> bool:
        """Whether user ids are text; their keys have two words."""
        return self.kind == "String"

    @property
    def key_secret(self) -> Keys:
        """The secret as an array."""
        return np.array(self.secret, np.uint64)

    def to_json(self) -> str:
        """Return the manifest as JSON."""
        facts = asdict(self) | {"magnitude": str(self.magnitude)}
        return json.dumps({"format": _FORMAT, "version": VERSION} | facts, indent=1)

    @classmethod
    def read(cls, folder: Path) -> "Manifest":
        """Read the manifest of a folder; raise SourceError if it is missing, damaged or of another version."""
        file = folder / MANIFEST
        try:
            facts = json.loads(file.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise SourceError(
                f"the folder {str(folder)!r} has no {MANIFEST}",
                expected="a folder that cl.prepare or State.build has completed",
                hint="for a folder of Parquet files pass a glob such as 'folder/*.parquet'",
            ) from None
        except (OSError, ValueError) as error:
            raise SourceError(f"{str(file)!r} cannot be read: {first_line(error)}") from error
        if not isinstance(facts, dict) or facts.pop("format", None) != _FORMAT or facts.pop("version", None) != VERSION:
            raise SourceError(f"{str(file)!r} is not of version {VERSION}", hint="prepare the transactions again")
        try:
            runs = tuple(tuple(PartFile(**part) for part in run) for run in facts.pop("runs"))
            facts["dropped_files"] = tuple(DroppedFile(**file) for file in facts["dropped_files"])
            facts |= {name: tuple(facts[name]) for name in ("keep", "secret")} | {"magnitude": int(facts["magnitude"])}
            return cls(**facts, runs=runs)
        except (KeyError, TypeError, ValueError) as error:
            raise SourceError(f"{str(file)!r} cannot be read: {first_line(error)}") from error


def new_run() -> str:
    """Return a random name for a run."""
    return chance.token_hex(4)


def damaged(file: Path) -> SourceError:
    """Return the error for a file that contradicts the manifest, so that kernels could read out of bounds."""
    return SourceError(f"{str(file)!r} does not match {MANIFEST}", hint="it is damaged; prepare the transactions again")


def sweep(folder: Path, manifest: Manifest) -> None:
    """Delete files that the manifest does not list: those replaced, and those left behind by a killed process."""
    files.delete_stale(folder)
    names = {part.name for run in manifest.runs for part in run} | {manifest.state.get("sums")}
    names |= {dropped.name for dropped in manifest.dropped_files}
    for file in folder.iterdir():
        if _FILE.fullmatch(file.name) and file.name not in names and file.name.split(".")[0] not in names:
            file.unlink(missing_ok=True)
