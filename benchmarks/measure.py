"""Time contenders side by side, their answers compared first."""

import gc
from statistics import median
from time import perf_counter
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd
import polars as pl

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

OURS = "cohortlib"
SLICE = 1 << 20
FIRST_CALL_COUNTS = 2.0  # seconds


class Contender(NamedTuple):
    """An engine's answer; `prepare` brings what is given into the engine's own shape and is not timed."""

    run: "Callable[[Any, int], Any]"
    prepare: "Callable[[Any], Any]" = lambda given: given


class Question(NamedTuple):
    """What is asked of all, and how two answers are compared."""

    contenders: dict[str, Contender]
    compare: "Callable[[Any, Any], None]"


class Timed(NamedTuple):
    """Median seconds of each contender, and how many rounds they are of."""

    seconds: dict[str, float]
    rounds: int

    def fastest_peer(self) -> float:
        """Return the seconds of the fastest peer, NaN where there is none."""
        return min((time for name, time in self.seconds.items() if name != OURS), default=float("nan"))


def measure(
    question: Question, names: "Iterable[str]", given: Any, tiny: Any, threads: int, repeat: int, seconds: float
) -> Timed:
    """
    Time every contender on the same input, after its answer was found to be the same as ours.

    All warm up on a tiny question, then answer once to be compared. That call counts as a round only where it takes
    so long (2 s) that nothing of a first call can be left in it. Then they take turns, each round starting with
    another one, so that a noisy minute hits all alike, until there are `repeat` rounds or `seconds` have gone.
    """
    contenders = {name: question.contenders[name] for name in names}
    for contender in contenders.values():
        contender.run(contender.prepare(tiny), threads)

    times: dict[str, list[float]] = {name: [] for name in contenders}
    begun = perf_counter()
    first = _answers(question, contenders, given, threads)
    if max(first.values()) > FIRST_CALL_COUNTS:
        times = {name: [time] for name, time in first.items()}
    rounds = len(times[OURS])
    while rounds < repeat and (not rounds or perf_counter() - begun < seconds):
        for name in _turns(list(contenders), rounds):
            times[name].append(_once(contenders[name], given, threads)[0])
        rounds += 1
    return Timed({name: median(taken) for name, taken in times.items()}, rounds)


def _answers(question: Question, contenders: dict[str, Contender], given: Any, threads: int) -> dict[str, float]:
    """Let all answer, compare each answer with ours, and return what each took."""
    seconds, agreed = {}, None
    for name, contender in contenders.items():
        seconds[name], answer = _once(contender, given, threads)
        if agreed is None:
            agreed = answer
            continue
        try:
            question.compare(agreed, answer)
        except AssertionError as error:
            raise AssertionError(f"{name} answers otherwise: {error}") from error
        del answer
    return seconds


def _once(contender: Contender, given: Any, threads: int) -> tuple[float, Any]:
    prepared = contender.prepare(given)
    gc.collect()
    start = perf_counter()
    answer = contender.run(prepared, threads)
    return perf_counter() - start, answer


def same_table(left: Any, right: Any, exact: "Iterable[str]", close: "Iterable[str]", *, rel: float) -> None:
    """
    Raise AssertionError unless columns `exact` are equal, without nulls, and `close` within `rel` of their size.

    Row by row in the order they stand, a slice at a time, so that tables of tens of millions of rows take no copy.
    """
    left, right = _as_polars(left), _as_polars(right)
    assert left.height == right.height, f"{left.height:,} rows are not {right.height:,}"
    for at in range(0, left.height, SLICE):
        ours, other = left.slice(at, SLICE), right.slice(at, SLICE)
        for name in exact:
            assert ours[name].null_count() == other[name].null_count() == 0, f"{name}: nulls"
            wrong = int((ours[name] != other[name].cast(ours[name].dtype)).sum())
            assert wrong == 0, f"{name}: {wrong} cells differ from row {at:,} on"
        for name in close:
            a, b = (frame[name].cast(pl.Float64).fill_null(np.nan).to_numpy() for frame in (ours, other))
            assert np.array_equal(np.isnan(a), np.isnan(b)), f"{name}: nulls differ"
            worst = np.nanmax(np.abs(a - b) / np.maximum(np.maximum(np.abs(a), np.abs(b)), 1e-300), initial=0.0)
            assert worst <= rel, f"{name}: differs by {worst:.1e} of its size"


def _as_polars(answer: Any) -> pl.DataFrame:
    if isinstance(answer, pl.DataFrame):
        return answer
    return pl.from_pandas(answer) if isinstance(answer, pd.DataFrame) else pl.from_arrow(answer)


def _turns(names: list[str], turn: int) -> "Iterator[str]":
    first = turn % len(names)
    yield from names[first:]
    yield from names[:first]
