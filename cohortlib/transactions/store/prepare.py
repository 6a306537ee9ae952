"""Write the prepared form: transactions grouped by user and cut to days, so that later calls only scan them."""

import logging
import secrets
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeAlias, Unpack

import numpy as np
import polars as pl

from cohortlib.engine import files
from cohortlib.engine.progress import Meter
from cohortlib.errors import Arg, SettingError, listed
from cohortlib.read import sources
from cohortlib.read.tables import Source
from cohortlib.read.users import UserEncoding
from cohortlib.transactions.keywords import PrepareKeywords, with_settings
from cohortlib.transactions.reading import TEXT_SETTINGS, reader_of
from cohortlib.transactions.settings import Settings
from cohortlib.transactions.store.manifest import DATES, INSTANTS, MANIFEST, Manifest, PartFile, new_run
from cohortlib.transactions.store.part_files import write_part
from cohortlib.transactions.store.parts import DAY, DROPPED_USER, INSTANT, UNITS, Part
from cohortlib.transactions.store.prepared import Prepared, open_if_prepared
from cohortlib.transactions.store.spill import DroppedRows, RunPlan, SpilledRuns, Totals, gather_runs, read_batches

_LOG = logging.getLogger(__name__)
_DROPPED_SHARE = 32  # of the memory budget, kept columns of dropped rows may take 1/32

Finish: TypeAlias = Callable[[Manifest, Part], Part]


@with_settings
def prepare(
    transactions: Source, folder: str | Path, *, keep: Sequence[str] = (), **settings: Unpack[PrepareKeywords]
) -> Prepared:
    """Write transactions to a folder, grouped by user and with instants cut to days, so that later calls scan less.

    Every function that takes transactions takes the result, or the path of the folder, and returns the same table. Its
    column names, `timezone` and `decimals` must be those of this call.

    Parameters
    ----------
    transactions, user, timestamp, amount, timezone, nulls, timestamp_format, decimal, assume_zone, normalize, \
    encoding, sheet, storage_options, decimals, threads, progress, max_memory
        As for :func:`cohortlib.termina.cohorts`.
    folder
        Where to write: a new folder, or a folder that this function wrote, which is replaced once the new one is
        complete. The parent folder must exist.
    keep
        Other columns to keep, for filters (see :meth:`Prepared.filter`) and for `joined`. For rows that `nulls` drops,
        these columns, the users and the latest days are kept too, because those rows count for the last period and for
        `joined`.

    Returns
    -------
    Prepared
        The folder, to pass to other functions.

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
    >>> days = [date(2026, 1, 5), date(2026, 2, 10), date(2026, 1, 20)]
    >>> users, country = ["a", "a", "b"], ["DE", "DE", "FR"]
    >>> rows = pl.DataFrame({"user_id": users, "timestamp": days, "amount": [100, 80, 50], "country": country})
    >>> with TemporaryDirectory() as folder:
    ...     prepared = cl.prepare(rows, Path(folder) / "prepared", keep=["country"])
    ...     french = prepared.filter(pl.col("country") == "FR")
    ...     [cl.termina.cohorts(rows)["ltv"].to_list() for rows in (prepared, french)]
    [[75.0, 115.0], [50.0]]
    """
    checked = Settings.of(**settings, freq="D")
    with files.atomic_folder(Path(folder), is_ours) as hidden:
        manifest = write_all(transactions, checked, keep, hidden)
        files.commit(hidden, MANIFEST, manifest.to_json())
    _LOG.info("prepared %s rows in %s", f"{manifest.rows:,}", folder)
    return Prepared(Path(folder), manifest)


def is_ours(folder: Path) -> bool:
    """Return whether a folder is in the prepared form."""
    return (folder / MANIFEST).is_file()


def write_all(
    source: Source, settings: Settings, keep: Sequence[str], folder: Path, finish: Finish | None = None,
    *, of_state: bool = False, ordered: bool = False,
) -> Manifest:  # fmt: skip
    """Write all rows as one run of parts, each passed through `finish` first; return the manifest.

    Rows that exceed the memory budget are spilled to a temporary folder, and grouped from there.
    `of_state` keeps no dropped rows, since a state can remove users from all files; `ordered` keeps the instants of all
    rows, also of dates, since later rows may have a time.
    """
    keep = _checked_keep(keep, settings)
    source = open_if_prepared(source)
    columns, options = [*settings.roles, *keep], settings.file_options
    sources.check_sheet(source, options)
    stream = sources.stream(source, lambda _: columns, options=options, max_bytes=settings.budget)
    # Local days lose the order of rows within a day, which decides about segments of kept columns.
    dates = stream.schema[settings.timestamp] == pl.Date and not (
        isinstance(source, Prepared) and source.manifest.instants != DATES
    )
    if ordered and isinstance(source, Prepared) and not dates:
        raise SettingError(
            f"{str(source.folder)!r} has local days, without the order of rows within a day",
            expected="the transactions themselves", hint="build the state from the rows that were prepared",
        )  # fmt: skip
    has_order = bool(keep) and not of_state and not dates and not isinstance(source, Prepared)
    instants = [INSTANT] if ordered or has_order else []
    secret = np.frombuffer(secrets.token_bytes(8 * 34), np.uint64)
    if isinstance(source, Prepared):  # its users are encoded already; without rows their type is not in the schema
        encoding = UserEncoding(source.manifest.kind, secret, source.manifest.whole)
    else:
        encoding = UserEncoding.of(stream.schema[settings.user], settings.user, secret)
    plan = RunPlan(stream.rest(settings.budget), settings.workers, encoding.wide, True, stream.rows)
    # The meter counts rows twice: as they are gathered, and as they are written.
    meter = Meter(settings.progress if stream.rows else None, stream.rows or 0)
    dropped = DroppedRows(folder, settings.budget // _DROPPED_SHARE)
    totals = Totals(dropped_rows=None if of_state else dropped)
    if isinstance(source, Prepared):  # rows dropped in the source still count for the right edge and for joined
        totals.last_dropped = source.last_dropped_day()
        totals.dropped_before = source.manifest.dropped
        for rows in source.dropped_rows([*keep, DROPPED_USER]) if keep else ():
            dropped.add(rows)
    manifest = Manifest(
        user=settings.user, timestamp=settings.timestamp, amount=settings.amount, keep=tuple(keep),
        timezone=settings.timezone, decimals=settings.decimals, nulls=settings.nulls,
        instants=INSTANTS if instants else DATES if dates else None,
        **{name: getattr(settings, name) for name in TEXT_SETTINGS},
        kind=encoding.dtype, whole=encoding.integers, secret=tuple(secret.tolist()), bits=plan.bits,
    )  # fmt: skip
    name = new_run()
    kept_types: list[tuple[str, ...]] = []

    def write(number: int, part: Part) -> PartFile:
        meter.add(part.rows.height)
        kept_types.append(tuple(map(str, part.rows.select(*keep).dtypes)))
        return write_part(folder, f"{name}-{number:04}", part if finish is None else finish(manifest, part))

    with files.temporary_folder(folder) as spill_folder:
        spilled = SpilledRuns(spill_folder, plan)
        with reader_of(stream, settings, prepared=isinstance(source, Prepared)) as reader:
            batches = read_batches(stream.batches(), settings, reader, encoding, keep, instants=bool(instants))
            in_memory = None
            for run in gather_runs(batches, plan, totals, meter):
                if run.last and not spilled.rows:
                    manifest = _complete(manifest, totals)
                    in_memory = tuple(run.map_parts(plan, write))
                else:
                    spilled.sink(run)
                del run  # frees its memory before the next run is gathered
        zoned = source.manifest.zoned if isinstance(source, Prepared) else reader.zoned
        if in_memory is not None:
            return replace(manifest, zoned=zoned, runs=(in_memory,), kept_types=kept_types[0])
        manifest = replace(_complete(manifest, totals), zoned=zoned)
        parts = spilled.map_parts(write)
    return replace(manifest, runs=(tuple(parts),), kept_types=kept_types[0]) if parts else manifest


def _complete(manifest: Manifest, totals: Totals) -> Manifest:
    """Add the totals of all rows to the manifest, and warn about dropped rows."""
    totals.dropped.warn("the table")
    return replace(
        manifest, rows=totals.rows,
        first_day=totals.first_day, final_day=totals.final_day, last_dropped=totals.last_dropped,
        magnitude=totals.magnitude,
        dropped=totals.dropped_before + totals.dropped.count,
        dropped_files=() if totals.dropped_rows is None else totals.dropped_rows.files(),
    )  # fmt: skip


def _checked_keep(keep: Sequence[str], settings: Settings) -> list[str]:
    """Check the argument `keep`, and return each column once."""
    if isinstance(keep, str) or not all(isinstance(name, str) for name in keep):
        what = (Arg("keep", keep), " is not a list of columns")
        raise SettingError(what, value=keep, expected="a list such as ['country']")
    taken = [*settings.roles, DAY, UNITS, INSTANT, DROPPED_USER]
    for name in keep:
        if name in taken:
            what = (Arg("keep", keep), f" includes {name!r}, which is written anyway")
            raise SettingError(what, value=name, expected=f"columns other than {listed(taken)}")
    return list(dict.fromkeys(keep))
