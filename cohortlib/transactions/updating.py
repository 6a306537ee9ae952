"""Write new rows of a state: their parts, and what they change in its sums."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from cohortlib.engine.progress import Meter
from cohortlib.errors import Arg, DataError, SchemaError, SettingError
from cohortlib.read import sources
from cohortlib.read.arrays import Keys
from cohortlib.read.users import UserEncoding
from cohortlib.transactions.batches import (
    UNNAMED,
    Again,
    Batch,
    Incoming,
    batches_of,
    content_of,
    now,
    replaced_by,
    resolve,
)
from cohortlib.transactions.kept import KeptColumns
from cohortlib.transactions.reading import reader_of
from cohortlib.transactions.rewriting import count_again, rewrite
from cohortlib.transactions.settings import Settings
from cohortlib.transactions.standing import SumsBuilder, Update
from cohortlib.transactions.state_manifest import digest_of, read_sums, with_batches
from cohortlib.transactions.store.manifest import DATES, INSTANTS, Manifest, PartFile, new_run
from cohortlib.transactions.store.part_files import write_part
from cohortlib.transactions.store.parts import BATCH, DAY, UNITS, Part
from cohortlib.transactions.store.prepared import Prepared, open_if_prepared
from cohortlib.transactions.store.spill import Run, RunPlan, Totals, gather_runs, read_batches
from cohortlib.transactions.sums import Sums


def add_batches(
    folder: Path, chosen: list[Incoming], manifest: Manifest, settings: Settings, again: Again
) -> tuple[Manifest, Sums] | None:
    """Add batches, and take away those that they replace; None if there is nothing to add."""
    before, sums = manifest, read_sums(folder, manifest)
    replaced: set[int] = set()
    for each in chosen:
        batches = batches_of(manifest.state)
        left = [batch for batch in batches if batch.code not in replaced]
        code = max((batch.code for batch in batches), default=0) + 1 if each.names else UNNAMED
        grown, grown_sums, content, last_dropped = _updated(folder, each, code, manifest, sums, settings)
        added = resolve(each, content, left, again)
        if added is None:
            continue
        replaced |= replaced_by(each, left)
        new = Batch(
            code, added.names, grown.rows - manifest.rows, grown.dropped - manifest.dropped,
            last_dropped, now(),
        )  # fmt: skip
        manifest, sums = with_batches(grown, [*batches, new]), grown_sums
    if manifest == before:
        return None
    if replaced:
        batches = [batch for batch in batches_of(manifest.state) if batch.code not in replaced]
        codes = np.array(sorted(replaced), np.uint32)
        left_out, sums = rewrite(folder, manifest, settings, lambda part: ~np.isin(part.rows[BATCH].to_numpy(), codes))
        manifest = count_again(with_batches(left_out, batches))
    return manifest, sums


def _updated(
    folder: Path, arriving: Incoming, code: int, manifest: Manifest, sums: Sums, settings: Settings
) -> tuple[Manifest, Sums, str, int | None]:
    """Write the rows of a batch; return the new manifest and sums, the digest of the rows, and the last day dropped."""
    contents: list[Keys] = []
    rows = open_if_prepared(arriving.source)
    sources.check_sheet(rows, settings.file_options)
    columns = [*settings.roles, *manifest.keep]
    stream = sources.stream(rows, lambda _: columns, options=settings.file_options, max_bytes=settings.budget)
    if stream.rows is None:
        stream = stream.buffered(stream.rest(settings.budget) // 4)
    encoding = _encoding(manifest, stream.schema[settings.user], settings.user)
    plan = RunPlan(stream.rest(settings.budget), settings.workers, encoding.wide, True, stream.rows)
    meter = Meter(settings.progress if stream.rows else None, stream.rows or 0)
    totals, before = Totals(), manifest
    if isinstance(rows, Prepared):
        totals.last_dropped, totals.dropped_before = rows.last_dropped_day(), rows.manifest.dropped
        if manifest.instants == INSTANTS and rows.manifest.instants != DATES:
            raise SettingError(
                f"{str(rows.folder)!r} has local days, without the order of rows within a day",
                expected="the transactions themselves", hint="update the state with the rows that were prepared",
            )  # fmt: skip
    is_prepared = isinstance(rows, Prepared)
    kept = KeptColumns(folder, manifest)
    zoned = None if is_prepared else manifest.zoned
    with reader_of(stream, settings, zoned=zoned, prepared=is_prepared) as reader:
        batches = read_batches(
            map(kept.cast, stream.batches()), settings, reader, encoding, manifest.keep,
            instants=manifest.instants == INSTANTS,
        )  # fmt: skip
        for run in gather_runs(batches, plan, totals, meter):
            grown = replace(_grown(before, totals), runs=manifest.runs, kept_types=kept.types)
            with_content = any(not found for _, found in arriving.names)
            changed, written = _write_run(
                folder, run, grown, plan, settings, meter, code, contents if with_content else None
            )
            sums = replace(sums, magnitude=0) + Sums(sums.settings, changed, None, 0)
            manifest = replace(grown, runs=(*manifest.runs, written))
            del run  # free memory before the next run
    complete = _grown(before, totals)  # with the rows that were dropped
    manifest = replace(complete, runs=manifest.runs, kept_types=manifest.kept_types)
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
    content = digest_of(contents, manifest.dropped - before.dropped, totals.last_dropped)
    return manifest, sums, content, totals.last_dropped


def _write_run(
    folder: Path,
    run: Run,
    grown: Manifest,
    plan: RunPlan,
    settings: Settings,
    meter: Meter,
    code: int,
    contents: list[Keys] | None,
) -> tuple[pl.DataFrame, tuple[PartFile, ...]]:
    """Write new rows; return what they change in the sums, and the files."""
    gained, lost = SumsBuilder(settings, grown), SumsBuilder(settings, grown)
    update = Update(Prepared(folder, grown), gained, lost, settings.workers)
    name = new_run()
    written = []
    for number, partitions in enumerate(run.part_ranges(plan)):
        part = run.part(partitions)
        in_time = replace(part, rows=part.rows.select(DAY, UNITS))
        users = part.users.with_columns(update.of(in_time).columns(gained.origin))
        if contents is not None:
            contents.append(content_of(part, grown))
        part = with_batch(replace(part, users=users), code)
        written.append(write_part(folder, f"{name}-{number:04}", part, durable=True))
        meter.add(part.rows.height)
    return pl.concat([gained.table(), lost.table(-1)]), tuple(written)


def with_batch(part: Part, code: int) -> Part:
    """Add the code of their batch to all rows of a part."""
    return replace(part, rows=part.rows.with_columns(pl.lit(code, pl.UInt32).alias(BATCH)))


def keys_of_users(manifest: Manifest, users: Sequence[Any] | pl.Series) -> tuple[Keys, Keys]:
    """Return the sorted keys of user ids; raise SchemaError for ids of another type than those of a state."""
    column = users if isinstance(users, pl.Series) else pl.Series("users", list(users))
    encoding = _encoding(manifest, column.dtype, "users")
    key, key2 = encoding.users(column.unique()).keys(0, column.n_unique())
    order = np.lexsort((key2, key)) if key2.size else np.argsort(key)
    return key[order], key2[order] if key2.size else key2


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
    last = [day for day in (manifest.last_dropped, totals.last_dropped) if day is not None]
    return replace(
        manifest, rows=manifest.rows + totals.rows,
        dropped=manifest.dropped + totals.dropped_before + totals.dropped.count,
        first_day=min(days, default=manifest.first_day), final_day=max(days, default=manifest.final_day),
        last_dropped=max(last, default=None), magnitude=manifest.magnitude + totals.magnitude,
    )  # fmt: skip
