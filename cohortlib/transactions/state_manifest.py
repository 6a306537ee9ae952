"""What a state keeps in its manifest: settings, sums and batches."""

from dataclasses import replace
from pathlib import Path
from typing import Any, Unpack

import numpy as np

from cohortlib import __version__
from cohortlib.engine import files
from cohortlib.engine.digests import digest
from cohortlib.read.arrays import Keys
from cohortlib.transactions.additive import SumsSettings
from cohortlib.transactions.batches import UNNAMED, Batch
from cohortlib.transactions.keywords import UpdateKeywords
from cohortlib.transactions.reading import TEXT_SETTINGS
from cohortlib.transactions.settings import Settings
from cohortlib.transactions.store.manifest import MANIFEST, Manifest, new_run
from cohortlib.transactions.store.manifest_checks import STATE_SETTINGS, damaged
from cohortlib.transactions.sums import Sums


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


def with_batches(manifest: Manifest, batches: list[Batch]) -> Manifest:
    """Set the batches of a state; those without names become one."""
    unnamed = [batch for batch in batches if batch.code == UNNAMED]
    named = [batch for batch in batches if batch.code != UNNAMED]
    if unnamed:
        last = [batch.last_dropped for batch in unnamed if batch.last_dropped is not None]
        rows, dropped = (sum(counts) for counts in zip(*((each.rows, each.dropped) for each in unnamed), strict=True))
        named = [Batch(UNNAMED, (), rows, dropped, max(last, default=None), unnamed[-1].added), *named]
    return replace(manifest, state=manifest.state | {"batches": [batch._asdict() for batch in named]})


def digest_of(contents: list[Keys], dropped: int, last_dropped: int | None) -> str:
    """Return the digest of rows from the words of all parts, and of dropped rows from their count and last day."""
    words = "".join(f"{word:016x}" for word in np.sum([np.zeros(2, np.uint64), *contents], axis=0).tolist())
    return f"{words} {dropped} {last_dropped}" if dropped else words


def commit_state(folder: Path, manifest: Manifest, sums: Sums) -> None:
    """Write the sums, then the manifest, which makes the new state visible."""
    name = f"sums-{new_run()}.parquet"
    sums = replace(sums, last_day=manifest.last_day, magnitude=manifest.magnitude)
    sums.save(folder / name)
    state = {setting: getattr(sums.settings, setting) for setting in STATE_SETTINGS}
    state |= {"batches": manifest.state["batches"], "sums": name, "sums_digest": digest((folder / name).read_bytes())}
    state |= {"table": manifest.state["table"]} if "table" in manifest.state else {}
    files.commit(folder, MANIFEST, replace(manifest, state=state, library=__version__).to_json())
