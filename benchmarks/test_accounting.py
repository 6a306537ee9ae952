"""Growth accounting, on small data: all engines give the same answer."""

import pytest

from benchmarks import accounting, data
from benchmarks.measure import OURS


@pytest.mark.parametrize("ids", ["int", "uuid"])
def test_the_answers_are_the_same(rows, threads, ids):
    given = data.Transactions(data.transactions(rows, ids), packable=ids == "int")
    question = accounting.question()
    expected = question.contenders[OURS].run(given, threads)
    for contender in question.contenders.values():
        question.compare(expected, contender.run(contender.prepare(given, threads), threads))
    question.compare(expected, accounting.duck(given, threads, pairs=accounting.JOIN))
