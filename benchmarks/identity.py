"""
Check that cohortlib's results are identical to the bit for other row orders, threads, chunks and row groups.

Each answer is compared with the one for the original frame on one thread.
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
PIECES = (1_000, 30_011)  # rows per chunk or row group


def check(question: str, given: Transactions | History) -> list[str]:
    """Raise AssertionError if an answer differs in any bit. Returns the variants that were checked."""
    ours = QUESTIONS[question].contenders[OURS].run
    expected = _bits(ours(given, 1))
    checked = []
    with tempfile.TemporaryDirectory() as folder:
        for what, variant in _variants(question, given, Path(folder)):
            for threads in THREADS:
                same = _bits(ours(variant, threads)).equals(expected)
                assert same, f"{question}: {what}, {threads} threads: the answer differs"
            checked.append(what)
    return checked


def _variants(question: str, given: Any, folder: Path) -> Iterator[tuple[str, Any]]:
    """Yield the same rows in other orders and layouts."""
    name = "events" if kind(question) == SUBSCRIPTIONS else "rows"
    frame: pl.DataFrame = getattr(given, name)
    yield "original", given
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
    """Reinterpret floats as integers, so that −0.0 differs from 0.0."""
    return answer.with_columns(pl.col(pl.Float64).reinterpret(signed=True))
