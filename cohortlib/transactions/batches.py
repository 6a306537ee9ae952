"""Batches of a state: each has a name and the digest of its content, so that what arrives twice counts once."""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import polars as pl

from cohortlib.engine.digests import digest, file_digest
from cohortlib.errors import Arg, DataError, SettingError, one_of, warn
from cohortlib.read.arrays import Keys
from cohortlib.read.paths import list_files
from cohortlib.read.tables import Source
from cohortlib.read.users import UserEncoding
from cohortlib.transactions.store.manifest import MANIFEST, Manifest
from cohortlib.transactions.store.parts import DAY, INSTANT, SIZE, UNITS, Part, keys_of

Again = Literal["error", "skip", "replace"]
AGAIN: tuple[Again, ...] = ("error", "skip", "replace")
UNNAMED = 0
"""The code of rows without a batch."""
_ROWS = "rows:"  # before a digest of rows; others are those of files
_MIX = (np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB))
_LANES = (np.uint64(0x9E3779B97F4A7C15), np.uint64(0xD1B54A32D192ED03))


class Batch(NamedTuple):
    """A batch in a state: the code of its rows, the names and digests of its content, and its counts."""

    code: int
    names: tuple[tuple[str, str], ...]
    rows: int
    dropped: int = 0
    last_dropped: int | None = None  # the last day of dropped rows
    added: str = ""


class Incoming(NamedTuple):
    """Rows to add: their source, and their names with digests; a digest is empty if it is not known before reading."""

    source: Source
    names: tuple[tuple[str, str], ...] = ()


def batches_of(state: dict[str, Any]) -> list[Batch]:
    """Return the batches of a state, from its manifest."""
    return [Batch(**facts | {"names": tuple(map(tuple, facts["names"]))}) for facts in state["batches"]]


def now() -> str:
    """Return the present time as text."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def incoming(rows: Source, batch: str | None, sheet: object = None) -> list[Incoming]:
    """Return the batches that come with a source: one with the name `batch`, or one for each file."""
    if batch is not None and (not isinstance(batch, str) or not batch):
        raise SettingError((Arg("batch", batch), " is not a name"), value=batch, expected="text, or None")
    paths = [rows] if isinstance(rows, str | Path) else list(rows) if isinstance(rows, list | tuple) else []
    if batch is None and not paths:
        return [Incoming(rows)]
    local = bool(paths) and all(isinstance(path, str | Path) and "://" not in str(path) for path in paths)
    if not local:
        names = [batch] if batch is not None else [str(path) for path in paths]
        return [Incoming(rows, tuple((name, "") for name in names))]
    sources = [file for path in paths for file in list_files(str(path))]
    if batch is not None:
        digests = sorted(found for file in sources for _, found in _content(file, sheet))
        return [Incoming(rows, ((batch, digests[0] if len(digests) == 1 else digest("".join(digests).encode())),))]
    return [Incoming(file, _content(file, sheet)) for file in sources] or [
        Incoming(rows)
    ]  # reading will say what is wrong


def _content(path: str, sheet: object) -> tuple[tuple[str, str], ...]:
    """Return the absolute paths and digests of a file, or of the files in a folder."""
    folder = Path(path)
    if (folder / MANIFEST).is_file():
        files = [folder / MANIFEST]  # it has the digests of the others
    else:
        files = sorted(file for file in folder.rglob("*") if file.is_file()) if folder.is_dir() else [folder]
    end = "" if sheet is None else f"#{sheet}"
    return tuple((f"{file.absolute()}{end}", _file_digest(file)) for file in files)


def _file_digest(file: Path) -> str:
    try:
        return file_digest(file)
    except OSError:
        return ""  # reading will say what is wrong


def choose(arriving: Sequence[Incoming], known: Sequence[Batch], again: Again) -> list[Incoming]:
    """Return the batches to add; raise DataError for those that were added before, as `again` says."""
    one_of("again", again, AGAIN)
    names = {name: (batch, found) for batch in known for name, found in batch.names}
    chosen = []
    for each in arriving:
        seen = [(name, found, *names[name]) for name, found in each.names if name in names]
        if seen and again == "error":
            name, found, batch, before = seen[0]
            _refuse(name, batch, same=_same(found, before))
        same = [_same(found, before) for _, found, _, before in seen]
        if same and all(same) and len(seen) == len(each.names):
            continue
        changed = [at for at, found in zip(seen, same, strict=True) if found is False]
        if changed and again == "skip":
            _refuse(changed[0][0], changed[0][2], same=False)
        if any(same) and not changed:
            what = f"only some files of one folder were added before, such as {seen[0][0]!r}"
            raise DataError(what, value=seen[0][0], expected="folders of new files", hint="pass the new files alone")
        chosen.append(each)
    return chosen


def _same(found: str, before: str) -> bool | None:
    """Return whether two digests are of the same content; None if they cannot be compared."""
    if not found or not before or found.startswith(_ROWS) != before.startswith(_ROWS):
        return None
    return found == before


def _refuse(name: str, batch: Batch, *, same: bool | None) -> None:
    content = {True: "with the same content", False: "with other content", None: ""}[same]
    hint: tuple[Arg | str, ...] = (Arg("again", "replace"), " takes its rows away and adds these")
    if same is not False:
        hint = (Arg("again", "skip"), " leaves it as it is, ", *hint)
    what = f"batch {name!r} was added before, on {batch.added} {content}".rstrip()
    raise DataError(what, value=name, expected="each batch once", hint=hint)


def replaced_by(each: Incoming, known: Iterable[Batch]) -> set[int]:
    """Return the codes of the batches that an incoming batch replaces."""
    names = {name for name, _ in each.names}
    old = [batch for batch in known if names & {name for name, _ in batch.names}]
    for batch in old:
        others = [name for name, _ in batch.names if name not in names]
        if others:
            what = f"batch {min(names)!r} was added together with {len(others):,} other files, such as {others[0]!r}"
            raise DataError(what, value=others[0], expected="all of them to replace", hint="build the state again")
    return {batch.code for batch in old}


def resolve(each: Incoming, content: str, known: Sequence[Batch], again: Again) -> Incoming | None:
    """Fill in the digest of rows that are known now; return None if they were added before, and are to be skipped."""
    names = tuple((name, found or _ROWS + content) for name, found in each.names)
    if any(not found for _, found in each.names):
        chosen = choose([each._replace(names=names)], known, again)
        if not chosen:
            return None
    digests = {found: name for batch in known for name, found in batch.names}
    present = {name for batch in known for name, _ in batch.names}
    for name, found in names:
        if found in digests and name not in present:
            warn(f"batch {name!r} has the same content as batch {digests[found]!r}, which was added before: both count")
    return each._replace(names=names)


def content_of(part: Part, manifest: Manifest) -> Keys:
    """Return two words that depend on all columns of rows, kept ones too, but not on the order of rows; they add."""
    key, key2 = keys_of(part.users)
    seed = key + key2 * _LANES[1] if key2.size else key
    owners = np.repeat(seed, part.users[SIZE].to_numpy())
    integers = [name for name in (DAY, UNITS, INSTANT) if name in part.rows.columns]
    columns = [part.rows[name].to_numpy().astype(np.int64).view(np.uint64) for name in integers]
    encoding = UserEncoding("String", manifest.key_secret, integers=False)
    for name in manifest.keep:
        texts = part.rows[name].cast(pl.String, strict=False).fill_null("\0")  # no value is that text
        columns.append(encoding.users(texts).keys(0, texts.len())[0])
    words = []
    for lane in _LANES:
        word = owners
        for column in columns:
            word = _mixed(word + lane * column)
        words.append(word.sum())
    return np.array(words, np.uint64)


def _mixed(words: Keys) -> Keys:
    words = (words ^ (words >> np.uint64(30))) * _MIX[0]
    words = (words ^ (words >> np.uint64(27))) * _MIX[1]
    mixed: Keys = words ^ (words >> np.uint64(31))
    return mixed
