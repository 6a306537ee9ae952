"""The general table, on small data: all engines give the same answer."""

import pytest

from benchmarks import data, general
from benchmarks.measure import OURS


@pytest.mark.parametrize("kind", ["country", "clock"])
def test_the_answers_are_the_same(rows, threads, kind):
    given = data.Transactions(data.transactions(rows), packable=True)
    question = general.question(kind)
    ours = question.contenders[OURS]
    expected = ours.run(ours.prepare(given, threads), threads)
    for contender in question.contenders.values():
        if contender.answers:
            question.compare(expected, contender.run(contender.prepare(given, threads), threads))
