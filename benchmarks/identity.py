"""
Ours is the same to the bit, however the rows lie and whoever computes.

Row order, threads, chunks of a frame and row groups of a file: each answer is compared with that for the frame as it
was made, on one thread.
"""

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl

from benchmarks.adapty_rules import History
from benchmarks.data import Transactions
from benchmarks.inputs import SUBSCRIPTIONS
from benchmarks.measure import OURS
from benchmarks.questions import QUESTIONS, kind

THREADS = (1, 2, 3)
PIECES = (1_000, 30_011)  # rows of a chunk or of a row group


def check(question: str, given: Transactions | History) -> list[str]:
    """Raise AssertionError where the answer differs in a bit; return what was tried."""
    ours = QUESTIONS[question].contenders[OURS].run
    expected = _bits(ours(given, 1))
    tried = []
    with tempfile.TemporaryDirectory() as folder:
        for what, variant in _variants(question, given, Path(folder)):
            for threads in THREADS:
                same = _bits(ours(variant, threads)).equals(expected)
                assert same, f"{question}: {what}, {threads} threads: another answer"
            tried.append(what)
    return tried


def _variants(question: str, given: Any, folder: Path) -> Iterator[tuple[str, Any]]:
    """Lay the same rows out in other ways."""
    name = "events" if kind(question) == SUBSCRIPTIONS else "rows"
    frame: pl.DataFrame = getattr(given, name)
    yield "as made", given
    yield "shuffled", given._replace(**{name: frame.sample(fraction=1, shuffle=True, seed=1)})
    yield "reversed", given._replace(**{name: frame.reverse()})
    for piece in PIECES:
        parts = [frame[at : at + piece] for at in range(0, frame.height, piece)]
        yield f"chunks of {piece:,} rows", given._replace(**{name: pl.concat(parts, rechunk=False)})
    for piece in (*PIECES, frame.height):
        path = folder / f"{piece}.parquet"
        frame.write_parquet(path, row_group_size=piece)
        yield f"Parquet, row groups of {piece:,} rows", given._replace(**{name: path})


def _bits(answer: pl.DataFrame) -> pl.DataFrame:
    """Read floats as their bits: −0.0 is not 0.0 here."""
    return answer.with_columns(pl.col(pl.Float64).reinterpret(signed=True))
