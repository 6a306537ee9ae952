"""The whole call of every contender, timed by pytest-benchmark: `pytest benchmarks --rows 10000`."""

import pytest

from benchmarks.contenders import COHORTS, compare
from benchmarks.data import transactions
from benchmarks.measure import OURS


@pytest.fixture(scope="module", params=["int", "uuid"])
def frame(request, rows):
    return transactions(rows, request.param)


@pytest.fixture(scope="module")
def our_answer(frame, threads):
    return COHORTS[OURS].run(frame, threads)


@pytest.mark.parametrize("name", COHORTS)
def test_cohorts(benchmark, name, frame, our_answer, rows, threads):
    contender = COHORTS[name]
    given = contender.prepare(frame)
    compare(our_answer, contender.run(given, threads))

    benchmark.group = f"cohorts, {rows:,} rows, user_id {frame.schema['user_id']}"
    benchmark(contender.run, given, threads)
