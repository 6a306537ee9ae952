"""Check all files of a prepared form, a state or saved sums."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Unpack

import polars as pl

from cohortlib.engine.threads import on_threads, workers_for
from cohortlib.errors import SourceError
from cohortlib.transactions.general.saved import holds_table
from cohortlib.transactions.general.sums import Sums as TableSums
from cohortlib.transactions.keywords import Threads, with_settings
from cohortlib.transactions.rewriting import kept_columns, sums_of_table
from cohortlib.transactions.standing import Standing, SumsBuilder
from cohortlib.transactions.state_manifest import read_sums, settings_of
from cohortlib.transactions.store.manifest import MANIFEST, Manifest
from cohortlib.transactions.store.part_checks import STANDING
from cohortlib.transactions.store.part_files import dropped_file, rows_file, users_file
from cohortlib.transactions.store.parts import DROPPED_USER, USER
from cohortlib.transactions.store.prepared import Prepared
from cohortlib.transactions.sums import Sums

_AGAIN = "cannot be rebuilt from the folder: prepare the transactions again, or build the state again"
_REBUILD = "can be rebuilt from the rows: State.open(folder).rebuild()"


@dataclass(frozen=True)
class Damage:
    """A damaged file: its path, what is wrong with it, and whether it can be rebuilt."""

    file: Path
    problem: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.problem}; {self.remedy}"


@dataclass(frozen=True)
class Verification:
    """What :func:`cohortlib.verify` found: the kind of the folder, its files and rows, and the damaged files."""

    path: Path
    kind: str  # "prepared form", "state" or "sums"
    files: int
    rows: int
    damage: tuple[Damage, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether no file is damaged."""
        return not self.damage

    def __str__(self) -> str:
        head = f"{self.kind} {str(self.path)!r}: {self.files:,} file{'s' * (self.files != 1)}, {self.rows:,} rows"
        if self.ok:
            return f"{head}, no damage"
        return "\n".join([f"{head}, {len(self.damage):,} damaged", *(f"  {damage}" for damage in self.damage)])


@with_settings
def verify(path: str | Path, **running: Unpack[Threads]) -> Verification:
    """Read and check every file of a prepared form, a state or saved sums.

    Each file must have the digest in the manifest, and hold what a part can hold. The sums of a state, and what it
    stores for each user, are computed again from its rows.

    Parameters
    ----------
    path
        The folder of :func:`cohortlib.prepare` or ``State.build``, or a file of ``Sums.save``.
    threads
        Threads to use; all cores by default.

    Returns
    -------
    Verification
        Its `ok` is True if no file is damaged; `damage` lists the damaged files, and what can be rebuilt.

    Examples
    --------
    >>> import cohortlib as cl
    >>> import polars as pl
    >>> from datetime import date
    >>> from pathlib import Path
    >>> from tempfile import TemporaryDirectory
    >>> rows = pl.DataFrame({"user_id": ["a", "b"], "timestamp": [date(2026, 1, 5)] * 2, "amount": [100, 80]})
    >>> with TemporaryDirectory() as folder:
    ...     prepared = cl.prepare(rows, Path(folder) / "prepared")
    ...     before = cl.verify(prepared.folder).ok
    ...     file = next(prepared.folder.glob("*.rows.parquet"))
    ...     _ = file.write_bytes(bytes(100))
    ...     before, [damage.file == file for damage in cl.verify(prepared.folder).damage]
    (True, [True])
    """
    workers = workers_for(running.get("threads"))
    path = Path(path)
    if path.is_file():
        try:
            table = (TableSums if holds_table(path) else Sums).load(path).table
        except SourceError as error:
            return Verification(path, "sums", 1, 0, (_damage(path, error, "compute the sums again"),))
        return Verification(path, "sums", 1, table.height)
    try:
        manifest = Manifest.read(path)
    except SourceError as error:
        if not (path / MANIFEST).exists():
            raise
        return Verification(path, "folder", 1, 0, (_damage(path / MANIFEST, error, _AGAIN),))
    store = Prepared(path, manifest)
    checks = [*_part_checks(store), *_dropped_checks(store)]
    damage: list[Damage] = [each for each in on_threads(workers, _damage_of, checks) if each is not None]
    kind, files = "prepared form", 1 + len(checks)
    if manifest.state:
        kind, files = "state", files + 1
        damage += _state_damage(store, workers, intact=not damage)
    return Verification(path, kind, files, manifest.rows, tuple(damage))


def _part_checks(store: Prepared) -> Iterator[tuple[Path, Callable[[], object]]]:
    """Yield each file of a part, and a function that reads all of it."""
    users, rows = (
        [USER, *(STANDING if store.manifest.state else ())],
        kept_columns(store.manifest) if store.manifest.state else list(store.manifest.keep),
    )
    for part in store.manifest.parts:
        yield users_file(store.folder, part.name), lambda part=part: store.read_users(part, users)  # type: ignore[misc]
        yield rows_file(store.folder, part.name), lambda part=part: store.read_rows(part, rows)  # type: ignore[misc]


def _dropped_checks(store: Prepared) -> Iterator[tuple[Path, Callable[[], object]]]:
    columns = [*store.manifest.keep, DROPPED_USER]
    for dropped in store.manifest.dropped_files:
        file = dropped_file(store.folder, dropped.name)
        yield file, lambda dropped=dropped: store.read_dropped(dropped, columns)  # type: ignore[misc]


def _damage_of(check: tuple[Path, Callable[[], object]]) -> Damage | None:
    file, read = check
    try:
        read()
    except SourceError as error:
        return _damage(file, error, _AGAIN)
    return None


def _damage(file: Path, error: SourceError, remedy: str) -> Damage:
    """Describe the damage that an error says."""
    expected = f". Expected {error.expected}" if error.expected else ""
    return Damage(file, f"{error.what}{expected}", remedy)


def _state_damage(store: Prepared, workers: int, *, intact: bool) -> list[Damage]:
    """Check the sums of a state; with intact parts also that they are those of the rows."""
    folder, manifest = store.folder, store.manifest
    file = folder / manifest.state["sums"]
    damage = []
    sums = None
    try:
        sums = read_sums(folder, manifest)
    except SourceError as error:
        damage.append(_damage(file, error, _REBUILD if intact else _AGAIN))
    if not intact:
        return damage
    builder = SumsBuilder(settings_of(manifest), manifest)

    def differs(index: int) -> bool:
        part = store.load(index, users=[*STANDING]).contiguous()
        standing = Standing.none(part.users.height)
        builder.advance(part, standing)
        return not part.users.select(*STANDING).equals(pl.DataFrame(standing.columns(builder.origin)))

    wrong = sum(on_threads(workers, differs, range(store.count)))
    if wrong:
        what = f"the standing of users does not follow from their rows, in {wrong:,} of {store.count:,} ranges of keys"
        damage.append(Damage(folder, what, _REBUILD))
    if sums is not None and not sums.table.equals(sums_of_table(sums.settings, builder.table()).table):
        damage.append(Damage(file, f"{str(file)!r} does not have the sums of the rows", _REBUILD))
    return damage
