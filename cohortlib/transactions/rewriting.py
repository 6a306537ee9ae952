"""Rewrite a state without some of its rows; the standing of users and the sums follow from those that are left."""

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from cohortlib.engine.threads import on_threads
from cohortlib.transactions.additive import SumsSettings
from cohortlib.transactions.batches import batches_of
from cohortlib.transactions.saved_sums import TABLE
from cohortlib.transactions.settings import Settings
from cohortlib.transactions.standing import Standing, SumsBuilder
from cohortlib.transactions.store.manifest import INSTANTS, Manifest, PartFile, new_run
from cohortlib.transactions.store.part_files import write_part
from cohortlib.transactions.store.parts import BATCH, INSTANT, SIZE, Part
from cohortlib.transactions.store.prepared import Prepared
from cohortlib.transactions.sums import Sums


def rewrite(
    folder: Path, manifest: Manifest, settings: Settings, keep: Callable[[Part], NDArray[np.bool_]]
) -> tuple[Manifest, Sums]:
    """Write the rows for which `keep` is true as one new run; return its manifest and its sums."""
    store, builder = Prepared(folder, manifest), SumsBuilder(settings, manifest)
    name = new_run()

    def copy(index: int) -> tuple[PartFile, Counter[int]] | None:
        part = store.load(index, users=store.user_columns, rows=kept_columns(manifest)).contiguous()
        mask = keep(part)
        owners = np.repeat(np.arange(part.users.height), part.users[SIZE].to_numpy())
        sizes = np.bincount(owners[mask], minlength=part.users.height)
        users = part.users.with_columns(pl.Series(SIZE, sizes, dtype=pl.UInt32)).filter(sizes > 0)
        if not users.height:
            return None
        part = Part.of(users, part.rows.filter(mask))
        standing = Standing.none(users.height)
        builder.advance(part, standing)
        part = replace(part, users=users.with_columns(standing.columns(builder.origin)))
        codes, counts = np.unique(part.rows[BATCH].to_numpy(), return_counts=True)
        rows = Counter(dict(zip(codes.tolist(), counts.tolist(), strict=True)))
        return write_part(folder, f"{name}-{index:04}", part, durable=True), rows

    written = [each for each in on_threads(settings.workers, copy, range(store.count)) if each is not None]
    parts = tuple(part for part, _ in written)
    rows = sum((counts for _, counts in written), Counter[int]())
    batches = [batch._replace(rows=rows[batch.code]) for batch in batches_of(manifest.state)]
    state = manifest.state | {"batches": [batch._asdict() for batch in batches]}
    manifest = replace(manifest, runs=(parts,) if parts else (), state=state)
    return count_again(manifest), sums_of_table(SumsSettings.of(settings), builder.table())


def kept_columns(manifest: Manifest) -> list[str]:
    """Return the columns of a state's rows, besides those that every part has."""
    return [BATCH, *manifest.keep, *[INSTANT] * (manifest.instants == INSTANTS)]


def count_again(manifest: Manifest) -> Manifest:
    """Count the totals of a manifest again, from its parts and batches."""
    parts, batches = manifest.parts, batches_of(manifest.state)
    last = [batch.last_dropped for batch in batches if batch.last_dropped is not None]
    return replace(
        manifest, rows=sum(part.rows for part in parts), magnitude=sum(part.magnitude for part in parts),
        first_day=min((part.first_day for part in parts), default=0),
        final_day=max((part.final_day for part in parts), default=-1),
        dropped=sum(batch.dropped for batch in batches), last_dropped=max(last, default=None),
    )  # fmt: skip


def sums_of_table(settings: SumsSettings, table: pl.DataFrame) -> Sums:
    """Add the rows of a table of sums; the last day and the absolute sum are unknown."""
    zero = Sums(settings, pl.DataFrame(schema=TABLE), None, 0)
    return zero + replace(zero, table=table)
