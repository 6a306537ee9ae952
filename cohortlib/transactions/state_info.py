"""What a state holds: its batches, rows, days, settings and size."""

from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path
from typing import Any

import polars as pl

from cohortlib.read.typed import counted
from cohortlib.transactions.batches import batches_of
from cohortlib.transactions.keywords import TABLE_SETTINGS
from cohortlib.transactions.state_manifest import read_sums, settings_of
from cohortlib.transactions.store.manifest import MANIFEST, Manifest
from cohortlib.transactions.store.part_files import rows_file, users_file

_SETTINGS = (
    "user", "timestamp", "amount", "freq", "timezone", "week_start", "refunds", "nulls", "timestamp_format", "decimal",
    "assume_zone", "normalize", "decimals",
)  # fmt: skip


@dataclass(frozen=True)
class StateInfo:
    """What a state holds.

    Attributes
    ----------
    batches
        A frame with one row per batch: its `name`, null for rows without one; its number of `files`; its `rows`; and
        when it was `added`.
    rows, dropped
        The rows, and those that were dropped for nulls.
    users
        Users with a cohort.
    first_day, last_day
        The local days of the first and the last row; None without rows.
    settings
        The settings that the state was built with.
    runs, bytes
        How many runs the rows are in, and the size of all files.
    updated
        When the last batch was added, in UTC.
    library
        The version of cohortlib that wrote the state.
    """

    folder: Path
    batches: pl.DataFrame
    rows: int
    dropped: int
    users: int
    first_day: date | None
    last_day: date | None
    settings: dict[str, Any]
    runs: int
    bytes: int
    updated: str
    library: str

    @classmethod
    def of(cls, folder: Path, manifest: Manifest) -> "StateInfo":
        """Collect what a state holds."""
        batches = batches_of(manifest.state)
        frame = pl.DataFrame(
            {
                "name": [_name(batch.names) for batch in batches],
                "files": [len(batch.names) for batch in batches],
                "rows": [batch.rows for batch in batches],
                "added": [batch.added for batch in batches],
            },
            schema={"name": pl.String, "files": pl.Int64, "rows": pl.Int64, "added": pl.String},
        )
        files = [make(folder, part.name) for part in manifest.parts for make in (users_file, rows_file)]
        files += [folder / MANIFEST, folder / manifest.state["sums"]]
        settings = settings_of(manifest)
        return cls(
            folder, frame, manifest.rows, manifest.dropped, int(read_sums(folder, manifest).table["size"].sum()),
            _date(manifest.first_day) if manifest.rows else None,
            None if manifest.last_day is None else _date(manifest.last_day),
            {name: getattr(settings, name) for name in _SETTINGS} | _of_table(manifest.state.get("table", {})),
            len(manifest.runs),
            sum(file.stat().st_size for file in files), max((batch.added for batch in batches), default=""),
            manifest.library,
        )  # fmt: skip

    def __str__(self) -> str:
        settings = ", ".join(f"{name}={value!r}" for name, value in self.settings.items() if value is not None)
        size = f"{self.bytes / 1e6:,.1f} MB in {counted(self.runs, 'run')}"
        lines = [
            f"state {str(self.folder)!r}",
            f"  rows      {self.rows:,}, and {self.dropped:,} dropped",
            f"  users     {self.users:,} with a cohort",
            f"  days      {self.first_day} to {self.last_day}",
            f"  size      {size}",
            f"  updated   {self.updated}, by cohortlib {self.library}",
            f"  settings  {settings}",
            f"  batches   {self.batches.height:,}",
        ]
        for name, _, rows, added in self.batches.iter_rows():
            lines.append(f"    {'(no name)' if name is None else name}: {counted(rows, 'row')}, added {added}")
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """Return all values as plain Python objects."""
        return asdict(self) | {"folder": str(self.folder), "batches": self.batches.to_dicts()}


def _of_table(settings: dict[str, Any]) -> dict[str, Any]:
    """Return the settings of the general table that are not at their defaults."""
    return {
        name: settings[name] for name, setting in TABLE_SETTINGS.items()
        if name in settings and name != "users" and settings[name] not in (setting.default, [])
    }  # fmt: skip


def _name(names: tuple[tuple[str, str], ...]) -> str | None:
    if not names:
        return None
    more = f" and {len(names) - 1:,} more" if len(names) > 1 else ""
    return names[0][0] + more


def _date(day: int) -> date:
    return date.fromordinal(date(1970, 1, 1).toordinal() + day)
