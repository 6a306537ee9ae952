"""The prepared form: transactions written once, user by user, to be asked again and again."""

import secrets
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeAlias

import numpy as np

from cohortlib.engine import files
from cohortlib.engine.progress import Meter, Progress
from cohortlib.engine.threads import on_threads
from cohortlib.errors import SettingError, listed
from cohortlib.read import sources
from cohortlib.read.nulls import Nulls
from cohortlib.read.tables import Source
from cohortlib.read.users import UserEncoding
from cohortlib.transactions.settings import Settings
from cohortlib.transactions.store.manifest import MANIFEST, Filed, Manifest, new_run
from cohortlib.transactions.store.part_files import write_part
from cohortlib.transactions.store.parts import DAY, UNITS, Part
from cohortlib.transactions.store.prepared import Prepared, opened
from cohortlib.transactions.store.spill import DroppedRows, Gathered, Plan, Told, gathered, rows_of, written

_DROPPED = 32  # the share of the budget that kept columns of dropped rows may take

Finish: TypeAlias = Callable[[Manifest, Part], Part]


def prepare(
    transactions: Source,
    folder: str | Path,
    *,
    user: str = "user_id",
    timestamp: str = "timestamp",
    amount: str = "amount",
    keep: Sequence[str] = (),
    timezone: str = "UTC",
    nulls: Nulls = "error",
    decimals: int = 6,
    threads: int | None = None,
    progress: Progress | None = None,
    max_memory: int | str | None = None,
) -> Prepared:
    """Write transactions to a folder, user by user and cut to days, so that any question is answered by a scan.

    Every function that takes transactions takes the result, or the path of the folder, in their place, and gives the
    same table; it must be asked with the names, the `timezone` and the `decimals` given here.

    Parameters
    ----------
    transactions, user, timestamp, amount, timezone, nulls, decimals, threads, progress, max_memory
        As for :func:`cohortlib.termina.cohorts`.
    folder
        Where to write: a new folder, or an earlier one of the kind, which is replaced once the new one is complete.
        The folder it stands in must exist.
    keep
        Other columns to keep, by which rows can be left out later: see :meth:`Prepared.filter`. Of rows that `nulls`
        drops these columns and the latest days are kept, since they hold the right edge.

    Returns
    -------
    Prepared
        The folder, to be handed on.

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
    >>> days = [date(2026, 1, 5), date(2026, 2, 10), date(2026, 1, 20)]
    >>> users, country = ["a", "a", "b"], ["DE", "DE", "FR"]
    >>> rows = pl.DataFrame({"user_id": users, "timestamp": days, "amount": [100, 80, 50], "country": country})
    >>> with TemporaryDirectory() as folder:
    ...     prepared = cl.prepare(rows, Path(folder) / "prepared", keep=["country"])
    ...     french = prepared.filter(pl.col("country") == "FR")
    ...     [cl.termina.cohorts(asked)["ltv"].to_list() for asked in (prepared, french)]
    [[75.0, 115.0], [50.0]]
    """
    settings = Settings(
        user=user, timestamp=timestamp, amount=amount, freq="D", timezone=timezone, nulls=nulls, decimals=decimals,
        threads=threads, progress=progress, max_memory=max_memory,
    )  # fmt: skip
    with files.atomic_folder(Path(folder), is_ours) as hidden:
        manifest = write_all(transactions, settings, keep, hidden)
        files.commit(hidden, MANIFEST, manifest.text_of())
    return Prepared(Path(folder), manifest)


def is_ours(folder: Path) -> bool:
    """Tell whether a folder holds the prepared form."""
    return (folder / MANIFEST).is_file()


def write_all(
    source: Source, settings: Settings, keep: Sequence[str], folder: Path, finish: Finish | None = None
) -> Manifest:
    """Write all rows as one run of parts, each finished once all rows are known; give the manifest."""
    keep = _checked(keep, settings)
    source = opened(source)
    stream = sources.stream(
        source, lambda _: [*settings.roles, *keep],
        text_column=settings.user, number_column=settings.amount, max_bytes=settings.budget,
    )  # fmt: skip
    secret = np.frombuffer(secrets.token_bytes(8 * 34), np.uint64)
    encoding = UserEncoding.of(stream.schema[settings.user], settings.user, secret)
    plan = Plan(settings.budget, settings.workers, encoding.wide, True, stream.rows)
    # Rows are seen twice: as they are gathered, and as they are written.
    meter = Meter(settings.progress if stream.rows else None, stream.rows or 0)
    told = Told(dropped_rows=(dropped := DroppedRows(folder, settings.budget // _DROPPED)))
    if isinstance(source, Prepared):  # rows dropped there hold the right edge here, too
        told.last_day = source.last_dropped_day()
        for rows in source.dropped_rows(keep) if keep else ():
            dropped.add(rows)
    manifest = Manifest(
        user=settings.user, timestamp=settings.timestamp, amount=settings.amount, keep=tuple(keep),
        timezone=settings.timezone, decimals=settings.decimals, nulls=settings.nulls,
        kind=encoding.dtype, whole=encoding.integers, secret=tuple(secret.tolist()), bits=plan.bits,
    )  # fmt: skip
    name = new_run()
    finish = finish or (lambda manifest, part: part)

    def filed(manifest: Manifest, number: int, part: Part) -> Filed:
        meter.add(part.rows.height)
        return write_part(folder, f"{name}-{number:04}", finish(manifest, part))

    runs: list[tuple[Filed, ...]] = []
    with files.temporary_folder(folder) as spill:
        for run in gathered(rows_of(stream.batches(), settings, encoding, keep), plan, told, meter):
            if run.last and not runs:
                manifest = known(manifest, told)
                return replace(manifest, runs=(_alone(run, plan, manifest, filed),))
            runs.append(tuple(written(run, plan, spill)))
            del run  # before the next is gathered
        manifest = known(manifest, told)
        spilled = Prepared(spill, replace(manifest, runs=tuple(runs)))

        def merge(cut: int) -> Filed:
            return filed(manifest, cut, spilled.load(cut, users=spilled.names, rows=keep).laid_together())

        merged = on_threads(settings.workers, merge, range(spilled.count))
    return replace(manifest, runs=(tuple(merged),)) if merged else manifest


def _alone(
    run: Gathered, plan: Plan, manifest: Manifest, filed: Callable[[Manifest, int, Part], Filed]
) -> tuple[Filed, ...]:
    """Write the parts of the only run."""
    numbered = list(enumerate(run.parts(plan)))
    return tuple(on_threads(plan.workers, lambda each: filed(manifest, each[0], run.part(each[1])), numbered))


def known(manifest: Manifest, told: Told) -> Manifest:
    """Complete a manifest by what is known of all rows, and say what was dropped."""
    told.dropped.warn("the table")
    return replace(
        manifest,
        rows=told.rows,
        first_day=min((day for day, _ in told.days), default=0),
        final_day=max((day for _, day in told.days), default=-1),
        last_day=told.last_day,
        magnitude=told.magnitude,
        dropped=told.dropped.count,
        dropped_files=() if told.dropped_rows is None else told.dropped_rows.files(),
    )


def _checked(keep: Sequence[str], settings: Settings) -> list[str]:
    """Refuse to keep what cannot be kept."""
    if isinstance(keep, str) or not all(isinstance(name, str) for name in keep):
        raise SettingError(f"keep={keep!r} is no list of columns; expected such as ['country']")
    for name in keep:
        if name in settings.roles or name in (DAY, UNITS):
            raise SettingError(
                f"keep={listed(keep)}: {name!r} is there anyway; expected columns other than "
                f"{listed([*settings.roles, DAY, UNITS])}"
            )
    return list(dict.fromkeys(keep))
