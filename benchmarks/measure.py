"""Time contenders side by side, their answers compared first, and write the lines of the table."""

import gc
import os
import sys
from statistics import median
from time import perf_counter
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterable, Iterator

    import polars as pl

OURS = "cohortlib"


class Contender(NamedTuple):
    """An engine's answer; `prepare` brings what is given into the engine's own shape and is not timed."""

    run: "Callable[[Any, int], Any]"
    prepare: "Callable[[Any], Any]" = lambda given: given


def measure(
    given: Any,
    contenders: dict[str, Contender],
    compare: "Callable[[Any, Any], None]",
    threads: int,
    repeat: int,
) -> dict[str, float]:
    """
    Time every contender on the same input, after its answer was found to be the same as the others'.

    The comparing calls are also the warm-up. The contenders take turns, each round starting with another
    one, so that a noisy minute hits all alike.

    Returns
    -------
    dict
        The median of the seconds of each contender, from its own shape of the input to its result.
    """
    prepared = {name: contender.prepare(given) for name, contender in contenders.items()}
    agreed = None
    for name, contender in contenders.items():
        answer = contender.run(prepared[name], threads)
        agreed = answer if agreed is None else agreed
        compare(agreed, answer)

    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for turn in range(repeat):
        for name in _turns(list(contenders), turn):
            gc.collect()
            start = perf_counter()
            answer = contenders[name].run(prepared[name], threads)
            seconds[name].append(perf_counter() - start)
            del answer
    return {name: median(times) for name, times in seconds.items()}


def same_table(
    left: "pl.DataFrame", right: "pl.DataFrame", exact: "Iterable[str]", close: "Iterable[str]", *, rel: float
) -> None:
    """Raise AssertionError unless columns `exact` are equal, without nulls, and `close` within `rel` of their size."""
    assert left.shape == right.shape, f"{left.shape} is not {right.shape}"
    for name in exact:
        wrong = int((left[name] != right[name]).sum())
        assert left[name].null_count() == right[name].null_count() == wrong == 0, f"{name}: {wrong} cells differ"
    for name in close:
        a, b = left[name].to_numpy(), right[name].to_numpy()
        worst = np.max(np.abs(a - b) / np.maximum(np.maximum(np.abs(a), np.abs(b)), 1e-300), initial=0.0)
        assert worst <= rel, f"{name}: differs by {worst:.1e} of its size"


def cells(seconds: dict[str, float]) -> "Iterator[str]":
    """Write each median with its ratio to the fastest peer, and last how many times faster ours is."""
    fastest = min(time for name, time in seconds.items() if name != OURS)
    for time in seconds.values():
        yield f"{time * 1000:,.0f} ms ({time / fastest:.2f})"
    yield f"{fastest / seconds[OURS]:.1f}×"


def line(*texts: str) -> str:
    """Write a line of a markdown table."""
    return f"| {' | '.join(texts)} |"


def conditions(options: "argparse.Namespace", order: str, peers: tuple[str, ...]) -> str:
    """Say what the numbers hold for."""
    from importlib.metadata import version

    names = ("cohortlib", *peers, "numpy", "numba")
    return (
        f"Medians of {options.repeat} rounds, rows {order}, in brackets the ratio to the fastest peer; "
        f"{os.cpu_count()} cores, {options.threads} threads; Python {sys.version.split()[0]}, "
        + ", ".join(f"{name} {version(name)}" for name in names)
        + "."
    )


def count(text: str) -> int:
    """Read a number of rows, like 1e6."""
    return int(float(text))


def _turns(names: list[str], turn: int) -> "Iterator[str]":
    first = turn % len(names)
    yield from names[first:]
    yield from names[:first]
