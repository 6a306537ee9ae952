"""State: transactions on disk with their sums, so that a cohort table is updated as rows arrive."""

from dataclasses import dataclass, replace
from pathlib import Path
from threading import Lock
from typing import Any, Unpack

import polars as pl

from cohortlib import __version__
from cohortlib.engine import files
from cohortlib.engine.digests import digest
from cohortlib.engine.progress import Meter
from cohortlib.engine.threads import on_threads
from cohortlib.errors import Arg, DataError, SchemaError, SourceError
from cohortlib.read import sources
from cohortlib.read.tables import Source
from cohortlib.read.users import UserEncoding
from cohortlib.transactions.accounting import AccountingSums, accounting_sums_of
from cohortlib.transactions.additive import SumsSettings
from cohortlib.transactions.keywords import Edges, MemoryLimit, StateKeywords, Threads, UpdateKeywords, with_settings
from cohortlib.transactions.load import load
from cohortlib.transactions.reading import TEXT_SETTINGS, reader_of
from cohortlib.transactions.saved_sums import TABLE
from cohortlib.transactions.settings import Settings
from cohortlib.transactions.standing import Standing, SumsBuilder, Update
from cohortlib.transactions.store.manifest import MANIFEST, Manifest, PartFile, new_run, sweep
from cohortlib.transactions.store.manifest_checks import STATE_SETTINGS, damaged
from cohortlib.transactions.store.part_checks import STANDING
from cohortlib.transactions.store.part_files import write_part
from cohortlib.transactions.store.parts import Part
from cohortlib.transactions.store.prepare import is_ours, write_all
from cohortlib.transactions.store.prepared import Prepared, open_if_prepared
from cohortlib.transactions.store.spill import Run, RunPlan, Totals, gather_runs, read_batches
from cohortlib.transactions.sums import Sums

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
    def build(cls, history: Source, folder: str | Path, **settings: Unpack[StateKeywords]) -> "State":
        """Write the first rows to a folder, and return the state in it.

        Parameters
        ----------
        history, user, timestamp, amount, freq, timezone, week_start, refunds, nulls, timestamp_format, \
        decimal, assume_zone, normalize, encoding, sheet, storage_options, decimals, threads, progress, max_memory
            As for :func:`cohortlib.termina.cohorts`.
        folder
            Where to write: a new folder, or an earlier state, which is replaced once the new one is complete.

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
        checked = Settings.of(**settings)
        builders: list[SumsBuilder] = []
        lock = Lock()

        def builder_for(manifest: Manifest) -> SumsBuilder:
            with lock:
                if not builders:
                    builders.append(SumsBuilder(checked, manifest))
                return builders[0]

        def add_standing(manifest: Manifest, part: Part) -> Part:
            builder = builder_for(manifest)
            standing = Standing.none(part.users.height)
            builder.advance(part, standing)
            return replace(part, users=part.users.with_columns(standing.columns(builder.origin)))

        with files.atomic_folder(Path(folder), is_ours) as hidden:
            manifest = write_all(history, checked, (), hidden, add_standing)
            sums = sums_of_table(SumsSettings.of(checked), builder_for(manifest).table())
            _commit(hidden, manifest, sums)
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
            except SourceError:
                if self._manifest() == manifest:
                    raise  # otherwise an update replaced the sums just now

    @with_settings
    def cohorts(self, **edges: Unpack[Edges]) -> pl.DataFrame:
        """Return the cohort table of all rows, with the arguments and columns of :func:`cohortlib.termina.cohorts`."""
        return self.sums().cohorts(**edges)

    @with_settings
    def accounting_sums(self, **running: Unpack[Resources]) -> AccountingSums:
        """Compute the sums behind both accountings from all rows, with the settings that the state was built with.

        The state does not keep them: this reads the folder once. `threads` and `max_memory` are those of
        :func:`cohortlib.termina.cohorts`.
        """
        manifest = self._manifest()
        with load(Prepared(self.folder, manifest), settings_of(manifest, **running), keep_users=False) as loaded:
            return accounting_sums_of(loaded)

    @with_settings
    def update(self, rows: Source, **running: Unpack[UpdateKeywords]) -> None:
        """Add rows.

        The update is atomic: the folder holds the old state until all rows are added, even after a crash. It can be
        read meanwhile; a second writer is refused. After 32 updates, or once they hold a quarter of the rows, an
        update also compacts the runs.

        Parameters
        ----------
        rows
            The new rows, with the columns of the history.
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
                _commit(self.folder, *self._updated(rows, manifest, settings))
            finally:
                sweep(self.folder, self._manifest())
            manifest = self._manifest()
            new_rows = sum(part.rows for run in manifest.runs[1:] for part in run)
            if len(manifest.runs) > _RUNS or new_rows * _SHARE > manifest.rows:
                self._compact(manifest, settings)

    def _updated(self, rows: Source, manifest: Manifest, settings: Settings) -> tuple[Manifest, Sums]:
        sums = read_sums(self.folder, manifest)
        rows = open_if_prepared(rows)
        sources.check_sheet(rows, settings.file_options)
        stream = sources.stream(
            rows, lambda _: settings.roles, options=settings.file_options, max_bytes=settings.budget
        )
        if stream.rows is None:
            stream = stream.buffered(stream.rest(settings.budget) // 4)
        encoding = _encoding(manifest, stream.schema[settings.user], settings.user)
        plan = RunPlan(stream.rest(settings.budget), settings.workers, encoding.wide, True, stream.rows)
        meter = Meter(settings.progress if stream.rows else None, stream.rows or 0)
        totals, before = Totals(), manifest
        if isinstance(rows, Prepared):
            totals.last_day, totals.dropped_before = rows.last_dropped_day(), rows.manifest.dropped
        is_prepared = isinstance(rows, Prepared)
        zoned = None if is_prepared else manifest.zoned
        with reader_of(stream, settings, zoned=zoned, prepared=is_prepared) as reader:
            batches = read_batches(stream.batches(), settings, reader, encoding, ())
            for run in gather_runs(batches, plan, totals, meter):
                now = replace(_grown(before, totals), runs=manifest.runs)
                changed, written = self._write_run(run, now, plan, settings, meter)
                sums = replace(sums, magnitude=0) + Sums(sums.settings, changed, None, 0)
                manifest = replace(now, runs=(*manifest.runs, written))
                del run  # free memory before the next run
        manifest = replace(_grown(before, totals), runs=manifest.runs)  # the last day counts dropped rows too
        manifest = manifest if is_prepared else replace(manifest, zoned=reader.zoned)
        totals.dropped.warn("the table")
        meter.done()
        if manifest.magnitude >= 2**63:
            limit = f"{2**63 / settings.scale:.3g}"
            raise DataError(
                (f"with these rows the sum of all amounts exceeds {limit}, the range of 64-bit integers with ",
                 Arg("decimals", settings.decimals)),
                hint=("build the state again with a smaller ", Arg("decimals")),
            )  # fmt: skip
        return manifest, sums

    def _write_run(
        self, run: Run, now: Manifest, plan: RunPlan, settings: Settings, meter: Meter
    ) -> tuple[pl.DataFrame, tuple[PartFile, ...]]:
        """Write new rows; return what they change in the sums, and the files."""
        gained, lost = SumsBuilder(settings, now), SumsBuilder(settings, now)
        update = Update(Prepared(self.folder, now), gained, lost, settings.workers)
        name = new_run()
        written = []
        for number, partitions in enumerate(run.part_ranges(plan)):
            part = run.part(partitions)
            users = part.users.with_columns(update.of(part).columns(gained.origin))
            written.append(write_part(self.folder, f"{name}-{number:04}", replace(part, users=users), durable=True))
            meter.add(part.rows.height)
        return pl.concat([gained.table(), lost.table(-1)]), tuple(written)

    @with_settings
    def compact(self, **running: Unpack[Resources]) -> None:
        """Merge the rows of all updates with the history; after 32 updates, an update does so itself.

        `threads` and `max_memory` are those of :func:`cohortlib.termina.cohorts`.
        """
        with files.locked(self.folder):
            manifest = self._manifest()
            self._compact(manifest, settings_of(manifest, **running))

    def _compact(self, manifest: Manifest, settings: Settings) -> None:
        store = Prepared(self.folder, manifest)
        name = new_run()

        def merge(cut: int) -> PartFile | None:
            part = store.load(cut, users=[*store.user_columns, *STANDING]).contiguous()
            if not part.users.height:  # a part may cover several cuts
                return None
            return write_part(self.folder, f"{name}-{cut:04}", part, durable=True)

        try:
            run = tuple(part for part in on_threads(settings.workers, merge, range(store.count)) if part is not None)
            files.commit(self.folder, MANIFEST, replace(manifest, runs=(run,) if run else ()).to_json())
        finally:
            sweep(self.folder, self._manifest())


def settings_of(manifest: Manifest, **running: Unpack[UpdateKeywords]) -> Settings:
    """Return the settings that a state was built with."""
    names = ("user", "timestamp", "amount", "timezone", "decimals", "nulls", *TEXT_SETTINGS)
    built: dict[str, Any] = {name: getattr(manifest, name) for name in names}
    return Settings.of(**built, **{name: manifest.state[name] for name in STATE_SETTINGS}, **running)


def read_sums(folder: Path, manifest: Manifest) -> Sums:
    """Read the sums of a state, which must fit the manifest."""
    file = folder / manifest.state["sums"]
    sums = Sums.load(file)
    if digest(file.read_bytes()) != manifest.state["sums_digest"]:
        raise damaged(file, f"does not have the digest in {MANIFEST}")
    if sums.settings != SumsSettings.of(settings_of(manifest)):
        raise damaged(file, f"has the settings {sums.settings}", f"those in {MANIFEST}")
    if (sums.last_day, sums.magnitude) != (manifest.last_day, manifest.magnitude):
        what = f"has the last day {sums.last_day} and the absolute sum {sums.magnitude}"
        raise damaged(file, what, f"{manifest.last_day} and {manifest.magnitude}, as in {MANIFEST}")
    return sums


def sums_of_table(settings: SumsSettings, table: pl.DataFrame) -> Sums:
    """Add the rows of a table of sums; the last day and the absolute sum are unknown."""
    zero = Sums(settings, pl.DataFrame(schema=TABLE), None, 0)
    return zero + replace(zero, table=table)


def _encoding(manifest: Manifest, kind: pl.DataType, name: str) -> UserEncoding:
    """Return how the state stores users; a table's users must have the same kind."""
    new = UserEncoding.of(kind, name)
    if new.integers != manifest.whole and kind != pl.Null:
        expected = f"users as in the history, stored as {manifest.kind}"
        raise SchemaError(f"column {name!r} is {kind}", expected=expected, hint="cast it")
    return UserEncoding(manifest.kind, manifest.key_secret, manifest.whole)


def _grown(manifest: Manifest, totals: Totals) -> Manifest:
    """Add new rows to the totals of a manifest."""
    days = [day for pair in totals.days for day in pair]
    if manifest.rows:
        days += [manifest.first_day, manifest.final_day]
    last = [day for day in (manifest.last_day, totals.last_day) if day is not None]
    return replace(
        manifest, rows=manifest.rows + totals.rows,
        dropped=manifest.dropped + totals.dropped_before + totals.dropped.count,
        first_day=min(days, default=manifest.first_day), final_day=max(days, default=manifest.final_day),
        last_day=max(last, default=None), magnitude=manifest.magnitude + totals.magnitude,
    )  # fmt: skip


def _commit(folder: Path, manifest: Manifest, sums: Sums) -> None:
    """Write the sums, then the manifest, which makes the new state visible."""
    name = f"sums-{new_run()}.parquet"
    sums = replace(sums, last_day=manifest.last_day, magnitude=manifest.magnitude)
    sums.save(folder / name)
    state = {setting: getattr(sums.settings, setting) for setting in STATE_SETTINGS}
    state |= {"sums": name, "sums_digest": digest((folder / name).read_bytes())}
    files.commit(folder, MANIFEST, replace(manifest, state=state, library=__version__).to_json())
