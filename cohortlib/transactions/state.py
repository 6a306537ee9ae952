"""State: transactions on disk with their sums, so that a cohort table is updated as rows arrive."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any, Unpack

import numpy as np
import polars as pl
from numpy.typing import NDArray

from cohortlib.engine import files
from cohortlib.engine.threads import on_threads
from cohortlib.errors import CohortlibError, SourceError
from cohortlib.read.tables import Source
from cohortlib.transactions.accounting import AccountingSums, accounting_sums_of
from cohortlib.transactions.additive import SumsSettings
from cohortlib.transactions.batches import (
    UNNAMED,
    Again,
    Batch,
    Incoming,
    batches_of,
    choose,
    content_of,
    incoming,
    now,
    resolve,
)
from cohortlib.transactions.general.compute import cohorts as general_table
from cohortlib.transactions.general.sums import Sums as TableSums
from cohortlib.transactions.general.sums import sums as compute_sums
from cohortlib.transactions.kept import check_kept_amounts, fixed_table, table_keywords
from cohortlib.transactions.keywords import (
    Edges,
    MemoryLimit,
    TableStateKeywords,
    Threads,
    UpdateKeywords,
    with_settings,
)
from cohortlib.transactions.load import load
from cohortlib.transactions.rewriting import kept_columns, rewrite, sums_of_table
from cohortlib.transactions.settings import Settings
from cohortlib.transactions.standing import Standing, SumsBuilder
from cohortlib.transactions.state_info import StateInfo
from cohortlib.transactions.state_manifest import commit_state, digest_of, read_sums, settings_of, with_batches
from cohortlib.transactions.store.manifest import MANIFEST, Manifest, PartFile, new_run, sweep
from cohortlib.transactions.store.part_checks import STANDING
from cohortlib.transactions.store.part_files import write_part
from cohortlib.transactions.store.parts import SIZE, Part, keys_of, match_keys
from cohortlib.transactions.store.prepare import is_ours, write_all
from cohortlib.transactions.store.prepared import Prepared
from cohortlib.transactions.sums import Sums
from cohortlib.transactions.updating import add_batches, keys_of_users, with_batch

if TYPE_CHECKING:
    from cohortlib.read.arrays import Keys

_LOG = logging.getLogger(__name__)
_PATIENCE = 60.0  # seconds to wait for readers before files must be deleted
_RUNS = 32  # at most after an update; the next update searches each
_SHARE = 4  # compact once more than 1 / _SHARE of the rows are in runs after the first


class Resources(Threads, MemoryLimit, total=False):
    """The settings of :meth:`State.compact` and :meth:`State.accounting_sums`."""


@dataclass(frozen=True)
class State:
    """Transactions on disk with the sums of their cohort table, updated as rows arrive.

    The cost of an update depends on the new rows and their users, not on the history. For users whose new rows are all
    in or after their last period, only the last known standing is read; other users are recomputed from all of their
    rows. Late rows are allowed at any time. After every update the table is exactly the table of all rows.

    The `folder` also holds the settings that the state was built with. It is in the prepared form: every function
    reads it, with other periods or settings too.
    """

    folder: Path

    def __repr__(self) -> str:
        return f"State({str(self.folder)!r})"

    @classmethod
    @with_settings
    def build(
        cls, history: Source, folder: str | Path, *, batch: str | None = None, **settings: Unpack[TableStateKeywords]
    ) -> "State":
        """Write the first rows to a folder, and return the state in it.

        Parameters
        ----------
        history, user, timestamp, amount, freq, timezone, week_start, refunds, nulls, timestamp_format, \
        decimal, assume_zone, normalize, encoding, sheet, storage_options, decimals, threads, progress, max_memory
            As for :func:`cohortlib.termina.cohorts`.
        by, split, age, calendar, fiscal_start, retention, brackets, amounts, confidence
            As for :func:`cohortlib.cohorts`. With any of them, the table of the state is that of this function, and all
            rows must have the columns of `by`, `split` and `amounts`.
        folder
            Where to write: a new folder, or an earlier state, which is replaced once the new one is complete.
        batch
            The name of these rows; see :meth:`update`. Files that are built together are replaced together.

        Raises
        ------
        SettingError, SourceError, SchemaError, DataError
            As for :func:`cohortlib.termina.cohorts`; also a SettingError if `folder` holds anything else.
        OSError
            The folder cannot be written; the error has the name of the file.

        Examples
        --------
        >>> import cohortlib as cl
        >>> import polars as pl
        >>> from datetime import date
        >>> from pathlib import Path
        >>> from tempfile import TemporaryDirectory
        >>> def rows(user, day, amount):
        ...     return pl.DataFrame({"user_id": [user], "timestamp": [day], "amount": [amount]})
        >>> with TemporaryDirectory() as folder:
        ...     state = cl.termina.State.build(rows("a", date(2026, 1, 5), 100), Path(folder) / "state")
        ...     state.update(rows("a", date(2026, 2, 10), 80))
        ...     state.cohorts().select("cohort", "period", "ltv").rows()
        [('2026-01', 0, 100.0), ('2026-01', 1, 180.0)]
        """
        table, keep, own = fixed_table(settings)
        ordered = table is not None and table.needs_order
        checked = Settings.of(**own)
        arriving = incoming(history, batch, checked.sheet)
        names = tuple(name for each in arriving for name in each.names)
        code = UNNAMED + bool(names)
        contents: list[Keys] = []
        builders: list[SumsBuilder] = []
        lock = Lock()

        def builder_for(manifest: Manifest) -> SumsBuilder:
            with lock:
                if not builders:
                    builders.append(SumsBuilder(checked, manifest))
                return builders[0]

        def add_standing(manifest: Manifest, part: Part) -> Part:
            check_kept_amounts(part.rows, () if table is None else table.amounts)
            builder = builder_for(manifest)
            standing = Standing.none(part.users.height)
            builder.advance(part, standing)
            if any(not found for _, found in names):
                contents.append(content_of(part, manifest))
            return with_batch(replace(part, users=part.users.with_columns(standing.columns(builder.origin))), code)

        with files.atomic_folder(Path(folder), is_ours) as hidden:
            manifest = write_all(history, checked, keep, hidden, add_standing, of_state=True, ordered=ordered)
            if table is not None:
                manifest = replace(manifest, state={"table": asdict(table)})
            sums = sums_of_table(SumsSettings.of(checked), builder_for(manifest).table())
            content = digest_of(contents, manifest.dropped, manifest.last_dropped)
            whole = resolve(Incoming(history, names), content, [], "error")
            first = Batch(
                code, whole.names if whole else (), manifest.rows, manifest.dropped, manifest.last_dropped, now()
            )
            commit_state(hidden, with_batches(manifest, [first]), sums)
        _LOG.info("built a state of %s rows in %s", f"{manifest.rows:,}", folder)
        return cls(Path(folder))

    @classmethod
    def open(cls, folder: str | Path) -> "State":
        """Open a state.

        Raises
        ------
        SourceError
            The folder does not hold a state, or holds one of another version.
        """
        state = cls(Path(folder))
        state._manifest()
        return state

    def _manifest(self) -> Manifest:
        manifest = Manifest.read(self.folder)
        if "sums" not in manifest.state:
            what = f"the folder {str(self.folder)!r} does not hold a state"
            hint = "a folder of cl.prepare can be read, but not updated"
            raise SourceError(what, expected="a folder that State.build wrote", hint=hint)
        return manifest

    def sums(self) -> Sums:
        """Return the sums behind the table.

        Raises
        ------
        SourceError
            The folder cannot be read.
        """
        while True:
            manifest = self._manifest()
            try:
                return read_sums(self.folder, manifest)
            except OSError:  # a SourceError, too
                if self._manifest() == manifest:
                    raise  # otherwise an update replaced the sums just now

    @with_settings
    def cohorts(self, **edges: Unpack[Edges]) -> pl.DataFrame:
        """Return the cohort table of all rows, with the arguments and columns of :func:`cohortlib.termina.cohorts`.

        For a state that was built with a setting of :func:`cohortlib.cohorts`, the table is that of this function. The
        state keeps no sums of it: the folder is read once.
        """
        if "table" not in self._manifest().state:
            return self.sums().cohorts(**edges)
        with files.shared(self.folder):
            manifest = self._manifest()
            return general_table(Prepared(self.folder, manifest), **table_keywords(self.folder, manifest), **edges)

    @with_settings
    def table_sums(self, **running: Unpack[Resources]) -> TableSums:
        """Compute the sums behind the table of a state that was built with a setting of :func:`cohortlib.cohorts`.

        The state does not keep them: this reads the folder once. `threads` and `max_memory` are those of
        :func:`cohortlib.cohorts`.
        """
        with files.shared(self.folder):
            manifest = self._manifest()
            return compute_sums(
                Prepared(self.folder, manifest), **table_keywords(self.folder, manifest), **running
            )  # fmt: skip

    @with_settings
    def accounting_sums(self, **running: Unpack[Resources]) -> AccountingSums:
        """Compute the sums behind both accountings from all rows, with the settings that the state was built with.

        The state does not keep them: this reads the folder once. `threads` and `max_memory` are those of
        :func:`cohortlib.termina.cohorts`.
        """
        with files.shared(self.folder):
            manifest = self._manifest()
            with load(Prepared(self.folder, manifest), settings_of(manifest, **running), keep_users=False) as loaded:
                return accounting_sums_of(loaded)

    @with_settings
    def update(
        self, rows: Source, *, batch: str | None = None, again: Again = "error", **running: Unpack[UpdateKeywords]
    ) -> None:
        """Add rows.

        The update is atomic: the folder holds the old state until all rows are added, even after a crash. It can be
        read meanwhile; a second writer is refused. After 32 updates, or once they hold a quarter of the rows, an
        update also compacts the runs.

        Parameters
        ----------
        rows
            The new rows, with the columns of the history.
        batch
            The name of these rows, such as ``"2026-01-31"``, so that they count once. Local files are batches by
            default, each with its path as name. A frame without a name is added every time.
        again
            What to do with a batch whose name was added before. ``"error"`` refuses it; ``"skip"`` leaves it out if the
            content is the same, and refuses other content; ``"replace"`` takes the earlier rows away and adds these,
            which rewrites the state. If the same content comes under another name, both count, with a warning.
        encoding, sheet, storage_options, threads, progress, max_memory
            As for :func:`cohortlib.termina.cohorts`.

        Raises
        ------
        SettingError, SourceError, SchemaError, DataError
            As for :func:`cohortlib.termina.cohorts`; then nothing is added.
        CohortlibError
            Another process is writing.
        OSError
            The folder cannot be written; the error has the name of the file.
        """
        with files.locked(self.folder):
            manifest = self._manifest()
            sweep(self.folder, manifest)
            settings = settings_of(manifest, **running)
            try:
                chosen = choose(incoming(rows, batch, settings.sheet), batches_of(manifest.state), again)
                changed = add_batches(self.folder, chosen, manifest, settings, again)
                if changed is not None:
                    commit_state(self.folder, *changed)
            finally:
                sweep(self.folder, self._manifest())
            before, manifest = manifest, self._manifest()
            change = f"{manifest.rows - before.rows:+,} rows" if changed is not None else "nothing, as all was there"
            _LOG.info("updated %s: %s, now %s", self.folder, change, f"{manifest.rows:,}")
            new_rows = sum(part.rows for run in manifest.runs[1:] for part in run)
            if len(manifest.runs) > _RUNS or new_rows * _SHARE > manifest.rows:
                self._compact(manifest, settings)

    @with_settings
    def compact(self, **running: Unpack[Resources]) -> None:
        """Merge the rows of all updates with the history; after 32 updates, an update does so itself.

        `threads` and `max_memory` are those of :func:`cohortlib.termina.cohorts`.
        """
        with files.locked(self.folder):
            manifest = self._manifest()
            self._compact(manifest, settings_of(manifest, **running))
            _LOG.info("compacted %s: %s rows in one run", self.folder, f"{manifest.rows:,}")

    @property
    def table_settings(self) -> dict[str, Any] | None:
        """The settings of the general table that the state was built with; None for Termina's table."""
        table: dict[str, Any] | None = self._manifest().state.get("table")
        return table

    @property
    def has_integers(self) -> bool:
        """Whether user ids are integers."""
        return self._manifest().whole

    def info(self) -> StateInfo:
        """Return the batches, rows, users, days, settings and size of the state."""
        return StateInfo.of(self.folder, self._manifest())

    @with_settings
    def remove(self, users: Sequence[Any] | pl.Series, **running: Unpack[Resources]) -> int:
        """Remove all rows of some users, and return how many rows there were.

        The state is rewritten without them, the old files are deleted, and the new ones are read to prove that no key
        of these users is left. The table becomes that of the other users. Rows of removed users count again if they
        are added again. Rows that were dropped for nulls are not stored; the last day that they set stays.

        Parameters
        ----------
        users
            User ids, as in the tables.
        threads, max_memory
            As for :func:`cohortlib.termina.cohorts`.

        Raises
        ------
        SchemaError
            The ids are of another type than those in the state.
        CohortlibError
            Another process is writing.
        """
        with files.locked(self.folder):
            manifest = self._manifest()
            key, key2 = keys_of_users(manifest, users)

            def is_left(part: Part) -> NDArray[np.bool_]:
                _, removed = match_keys(key, key2, *keys_of(part.users))
                kept = np.ones(part.users.height, np.bool_)
                kept[removed] = False
                return np.repeat(kept, part.users[SIZE].to_numpy())

            self._rewrite(manifest, settings_of(manifest, **running), is_left)
            left = self._manifest()
            if not sweep(self.folder, left, wait=_PATIENCE):
                what = f"{str(self.folder)!r} is still being read, so the old files with these users are not deleted"
                raise CohortlibError(what, hint="the users are not in the state; remove them again to delete the files")
            store = Prepared(self.folder, left)
            for part in left.parts:
                if match_keys(key, key2, *keys_of(store.read_users(part, [])))[0].size:
                    raise CohortlibError(f"users are still in {part.name}", hint="remove them again")
        _LOG.info("removed %s rows from %s, now %s", f"{manifest.rows - left.rows:,}", self.folder, f"{left.rows:,}")
        return manifest.rows - left.rows

    @with_settings
    def rebuild(self, **running: Unpack[Resources]) -> None:
        """Compute the sums, and what is stored for each user, from all rows again.

        `threads` and `max_memory` are those of :func:`cohortlib.termina.cohorts`.
        """
        with files.locked(self.folder):
            manifest = self._manifest()
            settings = settings_of(manifest, **running)
            self._rewrite(manifest, settings, lambda part: np.ones(part.rows.height, np.bool_))
            _LOG.info("rebuilt %s from %s rows", self.folder, f"{manifest.rows:,}")

    def _rewrite(self, manifest: Manifest, settings: Settings, keep: Callable[[Part], NDArray[np.bool_]]) -> None:
        try:
            commit_state(self.folder, *rewrite(self.folder, manifest, settings, keep))
        finally:
            sweep(self.folder, self._manifest())

    def _compact(self, manifest: Manifest, settings: Settings) -> None:
        store = Prepared(self.folder, manifest)
        name = new_run()

        def merge(cut: int) -> PartFile | None:
            part = store.load(cut, users=[*store.user_columns, *STANDING], rows=kept_columns(manifest)).contiguous()
            if not part.users.height:  # a part may cover several cuts
                return None
            return write_part(self.folder, f"{name}-{cut:04}", part, durable=True)

        try:
            run = tuple(part for part in on_threads(settings.workers, merge, range(store.count)) if part is not None)
            files.commit(self.folder, MANIFEST, replace(manifest, runs=(run,) if run else ()).to_json())
        finally:
            sweep(self.folder, self._manifest())
