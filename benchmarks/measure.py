"""Compare the answers of contenders, then time them in turns."""

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
    """A function that answers with one engine. `prepare` converts the input for the engine and is not timed."""

    run: "Callable[[Any, int], Any]"
    prepare: "Callable[[Any], Any]" = lambda given: given


class Question(NamedTuple):
    """All contenders, and the function that compares two answers."""

    contenders: dict[str, Contender]
    compare: "Callable[[Any, Any], None]"


class Timed(NamedTuple):
    """Median seconds of each contender, and the number of rounds."""

    seconds: dict[str, float]
    rounds: int

    def fastest_peer(self) -> float:
        """Return the seconds of the fastest other engine, or NaN if there is none."""
        return min((time for name, time in self.seconds.items() if name != OURS), default=float("nan"))


def measure(
    question: Question, names: "Iterable[str]", given: Any, tiny: Any, threads: int, repeat: int, seconds: float
) -> Timed:
    """
    Time every contender on the same input, after comparing its answer with cohortlib's.

    All warm up on a tiny input, then answer once for the comparison. That call counts as a round only if one of them
    takes longer than 2 s, when first-call overhead no longer matters. Then they take turns, each round starting with a
    different one so that noise affects all equally, until there are `repeat` rounds or `seconds` have passed.
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
    """Run all contenders once and compare each answer with the first. Returns their seconds."""
    seconds, agreed = {}, None
    for name, contender in contenders.items():
        seconds[name], answer = _once(contender, given, threads)
        if agreed is None:
            agreed = answer
            continue
        try:
            question.compare(agreed, answer)
        except AssertionError as error:
            raise AssertionError(f"the answer of {name} differs: {error}") from error
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


def _turns(names: list[str], turn: int) -> "Iterator[str]":
    first = turn % len(names)
    yield from names[first:]
    yield from names[:first]
