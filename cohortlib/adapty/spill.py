"""More events than there is memory for: to files by user, batch by batch, and then added up part by part.

Each batch goes through the door by itself, with what only a whole column tells settled before. The rows that count
are gathered up to a share of the memory, ordered by a key of their users, and written as one file. A part is then a
range of keys, as wide as fits: one piece of every file. So files are few and long, however many parts there are, and
how many there are need not be known before all is read.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import reduce
from itertools import pairwise
from operator import add
from pathlib import Path
from tempfile import gettempdir

import numpy as np
import polars as pl

from cohortlib.adapty import forecast
from cohortlib.adapty.forecast import Ladder, Prediction
from cohortlib.adapty.installs import Installs
from cohortlib.adapty.parts import Part, repeated
from cohortlib.adapty.question import Question
from cohortlib.adapty.read.columns import is_whole, is_wide
from cohortlib.adapty.read.events import Arriving, Events
from cohortlib.adapty.read.installs import refuse_mixture
from cohortlib.adapty.read.tables import held
from cohortlib.adapty.read.types import Kinds, in_types
from cohortlib.engine import files
from cohortlib.engine.progress import Progress
from cohortlib.errors import CohortlibError, SchemaError, SourceError
from cohortlib.read.arrays import Ints, Keys
from cohortlib.read.nulls import Dropped
from cohortlib.read.users import Users

WORK = 160
"""Bytes that adding up takes for a row of events, beside the row itself."""
WORK_OF_INSTALLS = 60

_BITS = 12
_BUCKETS = 1 << _BITS
_GATHERED = 0.1  # share of the memory for the rows gathered; to order and to write them takes as much three times
_A_PART = 0.4  # share of the memory for a part
_LEAST = 1 << 16  # bytes, so that a file is worth its while
_KIND = "kind"


class Spill:
    """Rows on disk, each file in the order of a key of users."""

    def __init__(self, folder: Path, name: str, most: int) -> None:
        self.rows = np.zeros(_BUCKETS, np.int64)
        self.bytes = 0
        self._place, self._most = folder / name, most
        self._kinds = Kinds()
        self._files: list[tuple[Path, Ints]] = []
        self._gathered: list[pl.DataFrame] = []
        self._size = 0

    def know(self, frame: pl.DataFrame) -> None:
        """Take note of the types of some rows, which all rows will have in common."""
        self._kinds.add(frame)

    def put(self, frame: pl.DataFrame) -> None:
        """Gather some rows, and write those gathered when they are many."""
        if not frame.height:
            return
        if self._gathered and self._gathered[0].schema != frame.schema:
            self.write()
        self._gathered.append(frame)
        self._size += held(frame)
        if self._size > max(self._most, _LEAST):
            self.write()

    def write(self) -> None:
        """Write what is gathered."""
        if not self._gathered:
            return
        frame = pl.concat(self._gathered)
        self._gathered.clear()
        self.bytes, self._size = self.bytes + self._size, 0
        keys, _ = Users.of(frame["user"]).keys(0, frame.height)
        buckets = (keys >> np.uint64(64 - _BITS)).astype(np.uint16)
        order = np.argsort(buckets, kind="stable")
        counts = np.bincount(buckets, minlength=_BUCKETS)
        self.rows += counts
        file = self._place.with_name(f"{self._place.name}-{len(self._files):05}.parquet")
        with _written(file):
            frame[order].write_parquet(
                file, compression="lz4", statistics=False, row_group_size=max(1024, frame.height >> 6)
            )
        self._files.append((file, np.concatenate([[0], np.cumsum(counts)])))

    def read(self, first: int, last: int) -> pl.DataFrame:
        """Give the rows of some buckets, in the types that all rows have in common."""
        types = self._kinds.common()
        empty = pl.DataFrame(schema=types)
        pieces = [
            in_types(pl.scan_parquet(file, glob=False).slice(edges[first], edges[last] - edges[first]).collect(), types)
            for file, edges in self._files
            if edges[last] > edges[first]
        ]
        return pl.concat([empty, *pieces], rechunk=True)


class Chains:
    """The keys of chains of all parts, on disk; for a chain of several users may be in several parts."""

    def __init__(self, folder: Path, most: int) -> None:
        self._folder, self._most = folder, most
        self._files: list[Path] = []
        self._count = 0

    def put(self, keys: Keys) -> None:
        """Write the keys of a part, which are in order."""
        file = self._folder / f"chains-{len(self._files):05}.npy"
        with _written(file):
            np.save(file, keys)
        self._files.append(file)
        self._count += keys.size

    def repeated(self) -> int:
        """Count the keys that stand more than once, range by range of keys."""
        columns: list[Keys] = [np.load(file, mmap_mode="r") for file in self._files]
        ranges = 1 << max(0, (16 * self._count // max(self._most, _LEAST)).bit_length())
        edges = [np.uint64(at * (2**64 // ranges)) for at in range(1, ranges)]
        cuts = [[0, *np.searchsorted(keys, np.array(edges, np.uint64)), keys.size] for keys in columns]
        found = 0
        for at in range(ranges):
            some = [keys[cut[at] : cut[at + 1]] for keys, cut in zip(columns, cuts, strict=True)]
            together = np.concatenate([np.empty(0, np.uint64), *some])
            together.sort()
            found += repeated(together)
        return found


@contextmanager
def _written(file: Path) -> Iterator[None]:
    try:
        with files.file_errors(file):
            yield
    except OSError as error:
        if isinstance(error, CohortlibError):
            raise
        raise SourceError(
            f"the temporary file {str(file)!r} cannot be written: {error.strerror}. Hint: the environment variable "
            "TMPDIR names another place for temporary files, and a larger max_memory= needs less of them"
        ) from error


def add_up(
    question: Question,
    events: Arriving[Events],
    installs: Arriving[tuple[pl.DataFrame, Dropped]] | None,
    *,
    room: int,
    predict: bool,
) -> tuple[Part, list[Prediction] | None]:
    """Add up all users in about `room` bytes; give the predictions too, where they are asked for.

    Without `installs`, it is the events that tell of them.
    """
    with files.temporary_folder(Path(gettempdir())) as folder:
        spilled = _Spilled(question, events, installs, folder, room, predict=predict)
        chains = Chains(folder, int(room * _A_PART))
        parts: list[Part] = []
        ladders: list[tuple[Ladder, Ladder]] = []
        for read, who, asked in spilled.parts():
            part = Part.of(read, who, asked)
            both = forecast.ladders(read, who, question, spilled.since) if predict else None
            chains.put(part.chains)
            # What has been added up is one part.
            parts = [reduce(add, [*parts, part.without_chains()])]
            if both is not None:
                ladders = [reduce(_both, [*ladders, both])]
        predictions = forecast.predictions(ladders[0] if ladders else None, question) if predict else None
        return parts[0].without_chains(chains.repeated()), predictions


def _both(one: tuple[Ladder, Ladder], other: tuple[Ladder, Ladder]) -> tuple[Ladder, Ladder]:
    return one[0] + other[0], one[1] + other[1]


class _Spilled:
    """Events and installs on disk, and what is known of all of them."""

    def __init__(
        self,
        question: Question,
        events: Arriving[Events],
        installs: Arriving[tuple[pl.DataFrame, Dropped]] | None,
        folder: Path,
        room: int,
        *,
        predict: bool,
    ) -> None:
        self._question, self._room = question, room
        self._from_events = installs is None
        self.since = question.request.date[0]
        self._predict = predict
        ids = events.ids, [] if installs is None else installs.ids
        texts = any(map(is_wide, ids[0] + ids[1]))
        most = int(room * _GATHERED)
        self._users = Spill(folder, "installs", most)
        self._counted: list[pl.DataFrame] = []
        self._dropped = Dropped()
        if installs is not None:
            self._gather_installs(installs, texts=texts)
        self._events = Spill(folder, "events", most)
        self._told = Events(pl.DataFrame(), pl.Series(dtype=pl.Int8), {})
        self._gather_events(events, texts=texts)
        whole = [{is_whole(kind) for kind in kinds} for kinds in ids]
        if whole[0] != whole[1] and self._events.rows.any() and self._users.rows.any():
            raise SchemaError(
                f"the users are {ids[0][0]} in the events and {ids[1][0]} in installs; expected the same type in both. "
                "Hint: cast one of them"
            )

    def _gather_installs(self, installs: Arriving[tuple[pl.DataFrame, Dropped]], *, texts: bool) -> None:
        counted = []
        for frame, dropped in installs.batches(texts=texts):
            counted.append("installs" in frame.columns)
            refuse_mixture(counted[-2:])
            self._dropped += dropped
            if counted[-1]:
                self._counted.append(frame)
            else:
                self._users.know(frame)
                self._users.put(frame)
                self._look_back(Events(pl.DataFrame(), pl.Series(dtype=pl.Int8), {}), Installs(frame))
        self._users.write()

    def _gather_events(self, events: Arriving[Events], *, texts: bool) -> None:
        report: dict[str, int] = {}
        dropped = Dropped()
        for batch in events.batches(texts=texts):
            report = {name: report.get(name, 0) + count for name, count in batch.report.items()}
            dropped += batch.dropped
            frame = batch.frame.with_columns(batch.kind.alias(_KIND))
            self._events.know(frame)
            self._events.put(frame.filter(batch.kind >= 0))
            self._look_back(batch, Installs(None))
            if self._question.progress is not None:
                self._question.progress(0, report["rows"])
        self._events.write()
        self._told = replace(self._told, report=report, dropped=dropped)

    def _look_back(self, events: Events, installs: Installs) -> None:
        if self._predict:
            self.since = forecast.earliest(events, installs, self.since)

    def parts(self) -> Iterator[tuple[Events, Installs, Question]]:
        """Give the rows of disjoint users, as many as fit. The report of the reading stands with the first."""
        done = 0
        cuts = self._cuts()
        for first, last in pairwise(cuts):
            frame = self._events.read(first, last)
            begun, count = done, frame.height
            report, dropped = self._told.report, self._told.dropped
            if first:
                report, dropped = dict.fromkeys(report, 0), Dropped()
            read = Events(frame.drop(_KIND), frame[_KIND], report, dropped)
            who = self._installs(first, last)
            yield read, who, replace(self._question, progress=self._progress(begun))
            done = begun + count
        if self._question.progress is not None:
            self._question.progress(self._told.report["rows"], self._told.report["rows"])

    def _progress(self, begun: int) -> Progress | None:
        """Tell of a part as of a stretch of all rows: those that do not count are taken for done at the end."""
        whole = self._question.progress
        rows = self._told.report["rows"]
        return None if whole is None else lambda done, _: whole(min(begun + done, rows), rows)

    def _installs(self, first: int, last: int) -> Installs:
        if self._from_events:
            return Installs(None)
        dropped = Dropped() if first else self._dropped
        if self._counted:
            # Counts are of everybody, so one part has them all.
            counts = Kinds()
            for frame in self._counted:
                counts.add(frame)
            whole = pl.concat([in_types(frame, counts.common()) for frame in self._counted])
            return Installs(whole.head(0) if first else whole, dropped)
        return Installs(self._users.read(first, last), dropped)

    def _cuts(self) -> list[int]:
        """Cut the keys of users to ranges that fit."""
        need = self._events.rows * (2 * _each(self._events) + WORK) + self._users.rows * (
            2 * _each(self._users) + WORK_OF_INSTALLS
        )
        cuts, size = [0], 0
        for bucket, bytes_ in enumerate(need.tolist()):
            if size and size + bytes_ > self._room * _A_PART:
                cuts.append(bucket)
                size = 0
            size += bytes_
        return [*cuts, _BUCKETS]


def _each(spill: Spill) -> int:
    """Tell about how many bytes a row takes."""
    return spill.bytes // max(1, int(spill.rows.sum()))
