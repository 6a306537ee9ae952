"""Compare the answers of contenders, then time them in turns."""

import gc
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import groupby
from resource import RUSAGE_SELF, getrusage
from statistics import median
from time import perf_counter, sleep
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import polars as pl

OURS = "cohortlib"
SLICE = 1 << 20
FEW = 2  # rounds, after which slow peers stop
SLOW = 1.5  # times the median of the fastest peer
IN_A_ROW = 9
IDLE = 5  # calls, each after a second of sleep


class Contender(NamedTuple):
    """
    A function that answers with one engine.

    `prepare` converts or loads the input for the engine, before timing starts. If `answers` is false, the function does
    a part of the work only, such as decoding; it is timed and not compared.
    """

    run: Callable[[Any, int], Any]
    prepare: Callable[[Any, int], Any] = lambda given, threads: given
    answers: bool = True


class Question(NamedTuple):
    """All contenders, and the function that compares two answers."""

    contenders: dict[str, Contender]
    compare: Callable[[Any, Any], None]

    def peers(self, names: Iterable[str]) -> list[str]:
        """List the names of other engines that answer."""
        return [name for name in names if not name.startswith(OURS) and self.contenders[name].answers]


class Call(NamedTuple):
    """The duration of a call, and the CPU time of the process meanwhile, in seconds."""

    seconds: float
    user: float
    system: float


class Timed(NamedTuple):
    """The calls of each contender: in turns, many in a row, and each after an idle second."""

    calls: dict[str, list[Call]]
    in_a_row: dict[str, list[Call]]
    after_idle: dict[str, list[Call]]

    @property
    def seconds(self) -> dict[str, float]:
        """Return the median seconds of each contender in turns."""
        return {name: middle(calls) for name, calls in self.calls.items()}


def middle(calls: Sequence[Call]) -> float:
    """Return the median seconds."""
    return median(call.seconds for call in calls)


def measure(
    question: Question,
    names: Iterable[str],
    given: Any,
    tiny: Any,
    threads: int,
    repeat: int,
    seconds: float = float("inf"),
    *,
    spread: str = "",
) -> Timed:
    """
    Time every contender on the same input, after comparing its answer with the first one's.

    All answer for a tiny input, then once for the comparison, which is not timed. Then they take turns, each round
    starting with a different one so that noise affects all equally, until there are `repeat` rounds or `seconds` have
    passed. Peers that are slow after two rounds stop. With `spread`, cohortlib and the best form of each engine, or of
    the fastest one, are then called many times in a row, and after idle seconds.
    """
    contenders = {name: question.contenders[name] for name in names}
    for contender in contenders.values():
        contender.run(contender.prepare(tiny, threads), threads)
    calls = {
        name: partial(contender.run, contender.prepare(given, threads), threads)
        for name, contender in contenders.items()
    }
    _compare(question, calls)

    turns: dict[str, list[Call]] = {name: [] for name in calls}
    begun, running = perf_counter(), list(calls)
    for turn in range(repeat):
        if turn and perf_counter() - begun > seconds:
            break
        if turn == FEW:
            running = _without_slow(question, turns)
        for name in _from(running, turn):
            turns[name].append(_call(calls[name]))
    last = _best_of_each(question, turns)[: {"each": None, "fastest": 2}.get(spread, 0)]
    row = {name: [_call(calls[name]) for _ in range(IN_A_ROW + 1)][1:] for name in last}
    idle = {name: [_call(calls[name], idle=1) for _ in range(min(IDLE, repeat))] for name in last}
    return Timed(turns, row, idle)


def _compare(question: Question, calls: dict[str, Callable[[], Any]]) -> None:
    agreed = None
    for name, call in calls.items():
        answer = call()
        if agreed is None:
            agreed = answer
        elif question.contenders[name].answers:
            try:
                question.compare(agreed, answer)
            except AssertionError as error:
                raise AssertionError(f"the answer of {name} differs: {error}") from error
        del answer


def _without_slow(question: Question, turns: dict[str, list[Call]]) -> list[str]:
    """List cohortlib, and the peers and the partial work that are at most `SLOW` times the fastest of their kind."""
    times = {name: middle(calls) for name, calls in turns.items()}
    peers = question.peers(turns)
    others = [name for name in turns if not name.startswith(OURS) and name not in peers]
    slow = [name for kind in (peers, others) for name in kind if times[name] > SLOW * min(times[each] for each in kind)]
    return [name for name in turns if name not in slow]


def _best_of_each(question: Question, turns: dict[str, list[Call]]) -> list[str]:
    """List cohortlib, and the fastest form of each engine, beginning with the fastest."""
    times = {name: middle(turns[name]) for name in question.peers(turns)}
    by_engine = groupby(sorted(times), engine)
    return [OURS, *sorted((min(names, key=times.__getitem__) for _, names in by_engine), key=times.__getitem__)]


def engine(name: str) -> str:
    """Return the engine of a contender such as "DuckDB, own table"."""
    return name.split(",", maxsplit=1)[0]


def _call(run: Callable[[], Any], idle: float = 0) -> Call:
    gc.collect()
    sleep(idle)
    before, start = getrusage(RUSAGE_SELF), perf_counter()
    answer = run()
    seconds, after = perf_counter() - start, getrusage(RUSAGE_SELF)
    del answer
    return Call(seconds, after.ru_utime - before.ru_utime, after.ru_stime - before.ru_stime)


def same_table(left: Any, right: Any, exact: Iterable[str], close: Iterable[str], *, rel: float) -> None:
    """
    Raise AssertionError unless columns `exact` are equal, without nulls, and `close` within a relative `rel`.

    Rows are compared in order, one slice at a time, so that tables of tens of millions of rows are not copied.
    """
    left, right = _as_polars(left), _as_polars(right)
    assert left.height == right.height, f"{left.height:,} rows against {right.height:,}"
    for at in range(0, left.height, SLICE):
        ours, other = left.slice(at, SLICE), right.slice(at, SLICE)
        for name in exact:
            assert ours[name].null_count() == other[name].null_count() == 0, f"{name}: nulls"
            wrong = int((ours[name] != other[name].cast(ours[name].dtype)).sum())
            assert wrong == 0, f"{name}: {wrong} cells differ in the slice from row {at:,}"
        for name in close:
            a, b = (frame[name].cast(pl.Float64).fill_null(np.nan).to_numpy() for frame in (ours, other))
            assert np.array_equal(np.isnan(a), np.isnan(b)), f"{name}: nulls differ"
            worst = np.nanmax(np.abs(a - b) / np.maximum(np.maximum(np.abs(a), np.abs(b)), 1e-300), initial=0.0)
            assert worst <= rel, f"{name}: relative difference {worst:.1e}"


def _as_polars(answer: Any) -> pl.DataFrame:
    if isinstance(answer, pl.DataFrame):
        return answer
    return pl.from_pandas(answer) if isinstance(answer, pd.DataFrame) else pl.from_arrow(answer)


def _from(names: list[str], turn: int) -> Iterator[str]:
    first = turn % len(names)
    yield from names[first:]
    yield from names[:first]
