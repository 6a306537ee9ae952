"""A state: the history in the prepared form, and what keeps a cohort table up to date as rows come in."""

from dataclasses import dataclass, replace
from datetime import date, datetime
from pathlib import Path
from threading import Lock
from typing import cast

import polars as pl

from cohortlib.engine import files
from cohortlib.engine.progress import Meter, Progress
from cohortlib.engine.threads import on_threads
from cohortlib.errors import DataError, SchemaError, SourceError
from cohortlib.periods import Freq
from cohortlib.read import sources
from cohortlib.read.nulls import Nulls
from cohortlib.read.tables import Source
from cohortlib.read.users import UserEncoding
from cohortlib.transactions.settings import Refunds, Settings
from cohortlib.transactions.standing import STANDING, Adding, Standing, Update
from cohortlib.transactions.store.manifest import MANIFEST, Manifest, PartFile, new_run, sweep
from cohortlib.transactions.store.part_files import write_part
from cohortlib.transactions.store.parts import Part
from cohortlib.transactions.store.prepare import is_ours, write_all
from cohortlib.transactions.store.prepared import Prepared, open_if_prepared
from cohortlib.transactions.store.spill import RunPlan, Totals, gather_runs, read_batches
from cohortlib.transactions.sums import TABLE, Conventions, Sums

_RUNS = 32  # that an update leaves; each is looked through by the next
_SHARE = 4  # of the rows, that may stand in other runs than the first


@dataclass(frozen=True)
class State:
    """Transactions on disk with the sums of their cohort table, brought up to date as rows come in.

    An update costs what its rows and their users cost, not what the history does: of users whose new rows come after
    all others, or in their last period, only the standing is looked up; the others are worked out from all their rows.
    Late rows may come at any time. After every update the table is that of all rows together, to the bit.

    The folder is in the prepared form too: every function takes it for questions of another frequency or setting.

    Attributes
    ----------
    folder
        Where it is kept. What was asked for when it was built is written there.
    """

    folder: Path

    def __repr__(self) -> str:
        return f"State({str(self.folder)!r})"

    @classmethod
    def build(
        cls,
        history: Source,
        folder: str | Path,
        *,
        user: str = "user_id",
        timestamp: str = "timestamp",
        amount: str = "amount",
        freq: Freq = "M",
        timezone: str = "UTC",
        week_start: str = "monday",
        refunds: Refunds = "net",
        nulls: Nulls = "error",
        decimals: int = 6,
        threads: int | None = None,
        progress: Progress | None = None,
        max_memory: int | str | None = None,
    ) -> "State":
        """Begin with the rows of so far.

        Parameters
        ----------
        history, user, timestamp, amount, freq, timezone, week_start, refunds, nulls, decimals, threads, progress, \
        max_memory
            As for :func:`cohortlib.termina.cohorts`.
        folder
            Where to keep the state: a new folder, or one of the kind, which is replaced once the new one is complete.

        Returns
        -------
        State
            The state.

        Raises
        ------
        SettingError, SourceError, SchemaError, DataError
            As for :func:`cohortlib.termina.cohorts`; a `folder` that holds something else.
        OSError
            Where the folder cannot be written; the error names the file.

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
        settings = Settings(
            user=user, timestamp=timestamp, amount=amount, freq=freq, timezone=timezone, week_start=week_start,
            refunds=refunds, nulls=nulls, decimals=decimals, threads=threads, progress=progress, max_memory=max_memory,
        )  # fmt: skip
        adding: list[Adding] = []

        def began(manifest: Manifest) -> Adding:
            if not adding:
                adding.append(Adding(settings, manifest))
            return adding[0]

        lock = Lock()

        def finish(manifest: Manifest, part: Part) -> Part:
            with lock:
                ground = began(manifest)
            standing = Standing.none(part.users.height)
            ground.advance(part, standing)
            return replace(part, users=part.users.with_columns(standing.columns(ground.origin)))

        with files.atomic_folder(Path(folder), is_ours) as hidden:
            manifest = write_all(history, settings, (), hidden, finish)
            nobody = Sums(Conventions.of(settings), pl.DataFrame(schema=TABLE), None, 0)
            of_threads = replace(nobody, table=began(manifest).table())
            sums = replace(nobody + of_threads, last_day=manifest.last_day, magnitude=manifest.magnitude)
            _commit(hidden, manifest, sums)
        return cls(Path(folder))

    @classmethod
    def open(cls, folder: str | Path) -> "State":
        """Open a state that was built.

        Raises
        ------
        SourceError
            Where there is none, or one of another version.
        """
        state = cls(Path(folder))
        state._manifest()
        return state

    def _manifest(self) -> Manifest:
        manifest = Manifest.read(self.folder)
        if "sums" not in manifest.state:
            raise SourceError(
                f"the folder {str(self.folder)!r} holds no state; expected one that State.build has written. Hint: "
                "cl.prepare makes what can be asked, but not be updated"
            )
        return manifest

    def sums(self) -> Sums:
        """Give the sums behind the table.

        Raises
        ------
        SourceError
            Where the folder cannot be read.
        """
        while True:
            manifest = self._manifest()
            try:
                return Sums.load(self.folder / manifest.state["sums"])
            except SourceError:
                if self._manifest() == manifest:
                    raise  # else it was updated just now

    def cohorts(
        self,
        *,
        start: str | date | datetime | None = None,
        end: str | date | datetime | None = None,
        complete_only: bool = False,
    ) -> pl.DataFrame:
        """Make the cohort table, as :func:`cohortlib.termina.cohorts` does of all rows.

        Parameters
        ----------
        start, end, complete_only
            As for :func:`cohortlib.termina.cohorts`.

        Returns
        -------
        polars.DataFrame
            As of :func:`cohortlib.termina.cohorts`.
        """
        return self.sums().cohorts(start=start, end=end, complete_only=complete_only)

    def update(
        self,
        rows: Source,
        *,
        threads: int | None = None,
        progress: Progress | None = None,
        max_memory: int | str | None = None,
    ) -> None:
        """Add rows.

        The folder is the old one until the update is complete, and the new one from then on, whatever happens. Readers
        may go on meanwhile; a second writer is refused.

        Parameters
        ----------
        rows
            What is new, with the columns of the history.
        threads, progress, max_memory
            As for :func:`cohortlib.termina.cohorts`.

        Raises
        ------
        SettingError, SourceError, SchemaError, DataError
            As for :func:`cohortlib.termina.cohorts`; nothing is added then.
        CohortlibError
            Where another process is writing.
        OSError
            Where the folder cannot be written; the error names the file.
        """
        with files.locked(self.folder):
            manifest = self._manifest()
            sweep(self.folder, manifest)
            settings = _settings(manifest, threads, progress, max_memory)
            try:
                _commit(self.folder, *self._updated(rows, manifest, settings))
            finally:
                sweep(self.folder, self._manifest())
            manifest = self._manifest()
            other = sum(part.rows for run in manifest.runs[1:] for part in run)
            if len(manifest.runs) > _RUNS or other * _SHARE > manifest.rows:
                self._compact(manifest, settings)

    def _updated(self, rows: Source, manifest: Manifest, settings: Settings) -> tuple[Manifest, Sums]:
        sums = Sums.load(self.folder / manifest.state["sums"])
        rows = open_if_prepared(rows)
        stream = sources.stream(
            rows,
            lambda _: settings.roles,
            text_column=settings.user,
            number_column=settings.amount,
            max_bytes=settings.budget,
        )
        if stream.rows is None:
            stream = stream.buffered(settings.budget // 4)
        encoding = _encoding(manifest, stream.schema[settings.user], settings.user)
        plan = RunPlan(settings.budget, settings.workers, encoding.wide, True, stream.rows)
        meter = Meter(settings.progress if stream.rows else None, stream.rows or 0)
        told, before = Totals(), manifest
        if isinstance(rows, Prepared):
            told.last_day = rows.last_dropped_day()
        for run in gather_runs(read_batches(stream.batches(), settings, encoding, ()), plan, told, meter):
            now = replace(_grown(before, told), runs=manifest.runs)
            gained, lost = Adding(settings, now), Adding(settings, now)
            update = Update(Prepared(self.folder, now), gained, lost, settings.workers)
            name = new_run()
            filed = []
            for number, partitions in enumerate(run.part_ranges(plan)):
                part = run.part(partitions)
                users = part.users.with_columns(update.of(part).columns(gained.origin))
                filed.append(write_part(self.folder, f"{name}-{number:04}", replace(part, users=users), durable=True))
                meter.add(part.rows.height)
            changed = pl.concat([gained.table(), lost.table(-1)])
            sums = replace(sums, magnitude=0) + Sums(sums.conventions, changed, None, 0)
            manifest = replace(now, runs=(*manifest.runs, tuple(filed)))
            del run, part  # before the next is gathered
        manifest = replace(_grown(before, told), runs=manifest.runs)  # rows that were dropped have a day too
        told.dropped.warn("the table")
        meter.done()
        if manifest.magnitude >= 2**63:
            raise DataError(
                f"with these rows the sum of all amounts is beyond {2**63 / 10**settings.decimals:.3g}, the range of "
                f"64-bit integers with decimals={settings.decimals}. Hint: build the state anew with a smaller "
                "decimals="
            )
        return manifest, replace(sums, last_day=manifest.last_day, magnitude=manifest.magnitude)

    def compact(self, *, threads: int | None = None, max_memory: int | str | None = None) -> None:
        """Bring the rows of all updates together with those of the history; updates do so now and then.

        Parameters
        ----------
        threads, max_memory
            As for :func:`cohortlib.termina.cohorts`.
        """
        with files.locked(self.folder):
            manifest = self._manifest()
            self._compact(manifest, _settings(manifest, threads, None, max_memory))

    def _compact(self, manifest: Manifest, settings: Settings) -> None:
        store = Prepared(self.folder, manifest)
        name = new_run()

        def merge(cut: int) -> PartFile | None:
            part = store.load(cut, users=[*store.user_columns, *STANDING]).contiguous()
            if not part.users.height:  # within a part that reaches over several cuts
                return None
            return write_part(self.folder, f"{name}-{cut:04}", part, durable=True)

        try:
            run = tuple(part for part in on_threads(settings.workers, merge, range(store.count)) if part is not None)
            files.commit(self.folder, MANIFEST, replace(manifest, runs=(run,) if run else ()).to_json())
        finally:
            sweep(self.folder, self._manifest())


def _settings(
    manifest: Manifest, threads: int | None, progress: Progress | None, max_memory: int | str | None
) -> Settings:
    """Take up what a state was built with."""
    asked = {name: manifest.state[name] for name in ("freq", "week_start", "refunds")}
    return Settings(
        user=manifest.user, timestamp=manifest.timestamp, amount=manifest.amount, timezone=manifest.timezone,
        decimals=manifest.decimals, nulls=cast("Nulls", manifest.nulls), threads=threads, progress=progress,
        max_memory=max_memory, **asked,
    )  # fmt: skip


def _encoding(manifest: Manifest, kind: pl.DataType, name: str) -> UserEncoding:
    """Take users as the state keeps them."""
    new = UserEncoding.of(kind, name)
    if new.integers != manifest.whole and kind != pl.Null:
        raise SchemaError(
            f"column {name!r} is {kind}; expected users as in the history, kept as {manifest.kind}. Hint: cast it"
        )
    return UserEncoding(manifest.kind, manifest.key_secret, manifest.whole)


def _grown(manifest: Manifest, told: Totals) -> Manifest:
    """Tell of more rows."""
    days = [day for pair in told.days for day in pair]
    if manifest.rows:
        days += [manifest.first_day, manifest.final_day]
    last = [day for day in (manifest.last_day, told.last_day) if day is not None]
    return replace(
        manifest,
        rows=manifest.rows + told.rows,
        first_day=min(days, default=manifest.first_day),
        final_day=max(days, default=manifest.final_day),
        last_day=max(last, default=None),
        magnitude=manifest.magnitude + told.magnitude,
        dropped=manifest.dropped + told.dropped.count,
    )


def _commit(folder: Path, manifest: Manifest, sums: Sums) -> None:
    """Let a folder be what has been written to it."""
    name = f"sums-{new_run()}.parquet"
    sums.save(folder / name)
    conventions = sums.conventions
    asked = {"freq": conventions.freq, "week_start": conventions.week_start, "refunds": conventions.refunds}
    files.commit(folder, MANIFEST, replace(manifest, state=asked | {"sums": name}).to_json())
