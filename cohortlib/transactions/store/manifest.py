"""The manifest of a folder of parts, and its files."""

import json
import re
import secrets as chance
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from cohortlib import __version__
from cohortlib.engine import digests, files
from cohortlib.errors import SourceError
from cohortlib.periods import Calendar
from cohortlib.read.arrays import Keys
from cohortlib.read.tables import first_line
from cohortlib.transactions.store.manifest_checks import check_manifest, damaged

VERSION = 4
MANIFEST = "cohortlib.json"
DATES, INSTANTS = "dates", "kept"
"""Whether rows had dates, or had instants that are kept beside their local days."""
_FORMAT = "cohortlib parts"
_FILE = re.compile(r"[0-9a-f]{8}-\d+\.(users|rows|dropped)\.parquet|sums-[0-9a-f]{8}\.parquet")


@dataclass(frozen=True)
class PartFile:
    """A part on disk: the prefix of its files' names, what they hold, and their digests."""

    name: str
    users: int
    rows: int
    low: int  # first word of the least key
    high: int  # the same of the greatest
    first_day: int
    final_day: int
    magnitude: int  # Σ |units|
    users_digest: str
    rows_digest: str


@dataclass(frozen=True)
class DroppedFile:
    """A file of dropped rows: the prefix of its name, its number of rows, and its digest."""

    name: str
    rows: int
    rows_digest: str


@dataclass(frozen=True)
class Manifest:
    """The files of a folder, and the settings that its rows were read with."""

    user: str = "user_id"
    timestamp: str = "timestamp"
    amount: str = "amount"
    keep: tuple[str, ...] = ()
    kept_types: tuple[str, ...] = ()  # of the kept columns; empty without rows
    timezone: str = "UTC"
    decimals: int = 6
    nulls: str = "error"
    timestamp_format: str | None = None
    decimal: str = "."
    assume_zone: str | None = None
    normalize: str | None = None
    zoned: bool | None = None  # whether instants had an offset from UTC; None if there were none
    instants: str | None = None  # DATES or INSTANTS; None if rows had instants that are not kept
    kind: str = "Int64"  # type of the user ids on disk: "Int64", "UInt64" or "String"
    whole: bool = True  # whether user ids were integers of any width
    secret: tuple[int, ...] = ()  # seed of the hash that makes keys of user ids
    bits: int = 0  # top bits of the key that delimit key ranges
    rows: int = 0
    first_day: int = 0  # local day (since 1970-01-01) of the first row that was not dropped
    final_day: int = -1  # the same of the last
    last_dropped: int | None = None  # the same of the last row that was dropped; None if none had a day
    magnitude: int = 0  # Σ |units|
    dropped: int = 0
    dropped_files: tuple[DroppedFile, ...] = ()  # kept columns, users and latest days; empty if no column is kept
    runs: tuple[tuple[PartFile, ...], ...] = ()
    state: dict[str, Any] = field(default_factory=dict)  # settings and sums of a state; empty for a prepared form
    library: str = __version__  # the version of cohortlib that wrote the manifest

    @property
    def last_day(self) -> int | None:
        """Local day of the last row, dropped rows included."""
        days = [self.final_day] if self.rows else []
        return max(days if self.last_dropped is None else [*days, self.last_dropped], default=None)

    @property
    def text(self) -> bool:
        """Whether user ids are text; their keys have two words."""
        return self.kind == "String"

    @property
    def key_secret(self) -> Keys:
        """The secret as an array."""
        return np.frombuffer(np.array(self.secret, np.uint64).tobytes(), np.uint64)  # read-only, as kernels expect

    @property
    def parts(self) -> list[PartFile]:
        """The parts of all runs."""
        return [part for run in self.runs for part in run]

    @property
    def names(self) -> set[str | None]:
        """The prefixes of the names of all files of parts, and the name of the sums."""
        dropped = {file.name for file in self.dropped_files}
        return {part.name for part in self.parts} | dropped | {self.state.get("sums")}

    @property
    def periods(self) -> tuple[int, int]:
        """The first and the last period of a state's rows."""
        calendar = Calendar(self.state["freq"], self.state["week_start"])
        first, final = calendar.ordinals(np.array([self.first_day, self.final_day], np.int64)).tolist()
        return first, final

    def to_json(self) -> str:
        """Return the manifest as JSON, with its own digest."""
        facts = {"format": _FORMAT, "version": VERSION, "digest": digests.BLANK} | asdict(self)
        return digests.sealed(json.dumps(facts, indent=1).encode()).decode()

    @classmethod
    def read(cls, folder: Path) -> "Manifest":
        """Read the manifest of a folder; raise SourceError if it is missing, damaged or of another version."""
        file = folder / MANIFEST
        try:
            data = file.read_bytes()
            facts = json.loads(data)
        except FileNotFoundError:
            raise SourceError(
                f"the folder {str(folder)!r} has no {MANIFEST}",
                expected="a folder that cl.prepare or State.build has completed",
                hint="for a folder of Parquet files pass a glob such as 'folder/*.parquet'",
            ) from None
        except OSError as error:
            raise SourceError(f"{str(file)!r} cannot be read: {first_line(error)}") from error
        except (ValueError, RecursionError) as error:
            raise SourceError(f"{str(file)!r} cannot be read: it is not JSON") from error
        if not isinstance(facts, dict) or facts.pop("format", None) != _FORMAT:
            raise SourceError(f"{str(file)!r} is not a manifest of cohortlib's")
        version = facts.pop("version", None)
        if version != VERSION:
            hint = "prepare the transactions again, or build the state again"
            raise SourceError(
                f"{str(file)!r} is of version {version!r}", value=version, expected=str(VERSION), hint=hint
            )
        if not digests.is_sealed(data):
            raise damaged(file, "does not have the digest that it says")
        del facts["digest"]
        return cls._of_facts(check_manifest(file, facts))

    @classmethod
    def _of_facts(cls, facts: dict[str, Any]) -> "Manifest":
        """Make a manifest of checked facts."""
        runs = tuple(tuple(PartFile(**part) for part in run) for run in facts["runs"])
        dropped = tuple(DroppedFile(**file) for file in facts["dropped_files"])
        tuples = {name: tuple(facts[name]) for name in ("keep", "kept_types", "secret")}
        return cls(**facts | tuples | {"runs": runs, "dropped_files": dropped})


def is_part(name: str) -> bool:
    """Return whether a file has a name that files of parts and sums have."""
    return _FILE.fullmatch(name) is not None


def new_run() -> str:
    """Return a random name for a run."""
    return chance.token_hex(4)


def sweep(folder: Path, manifest: Manifest, *, wait: float = 0) -> bool:
    """Delete files that the manifest does not list: those replaced, and those left behind by a killed process.

    While others read the folder, nothing is deleted: the next writer does it. Waits for them up to `wait` seconds, and
    returns whether the files are deleted.
    """
    files.delete_stale(folder)
    names = manifest.names
    with files.unread(folder, wait) as is_free:
        for file in folder.iterdir() if is_free else ():
            if is_part(file.name) and file.name not in names and file.name.split(".")[0] not in names:
                file.unlink(missing_ok=True)
        return is_free
