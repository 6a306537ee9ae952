"""Compare the answer of every contender and time the whole call with pytest-benchmark: `pytest benchmarks`."""

from functools import cache

import pytest

from benchmarks import identity
from benchmarks.inputs import SOURCES, Shape, load, write
from benchmarks.measure import OURS
from benchmarks.questions import QUESTIONS, kind

IDS = ("int", "uuid")
PAIRS = [(question, name) for question, asked in QUESTIONS.items() for name in asked.contenders]


@pytest.fixture(scope="session")
def folders(rows, tmp_path_factory):
    """Write each table once. Returns its folder by kind and ids."""
    made = {}
    for ids in IDS:
        for name in {kind(name) for name in QUESTIONS}:
            made[name, ids] = tmp_path_factory.mktemp(f"{name}_{ids}")
            write(name, Shape(rows, ids), made[name, ids])
    return made


@pytest.fixture(scope="session")
def our_answer(folders, threads):
    """Return a function with cohortlib's answer to each question, from memory; `identity` covers the other sources."""

    @cache
    def answer(question, ids):
        given = load(kind(question), ids, folders[kind(question), ids], "memory")
        return QUESTIONS[question].contenders[OURS].run(given, threads)

    return answer


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("ids", IDS)
@pytest.mark.parametrize(("question", "name"), PAIRS)
def test_contender(benchmark, question, name, ids, source, folders, our_answer, rows, threads):
    contender = QUESTIONS[question].contenders[name]
    given = contender.prepare(load(kind(question), ids, folders[kind(question), ids], source))
    benchmark.group = f"{question}, {rows:,} rows, {ids} ids, {source}"
    answer = benchmark.pedantic(contender.run, (given, threads), warmup_rounds=1)
    QUESTIONS[question].compare(our_answer(question, ids), answer)


@pytest.mark.parametrize("ids", IDS)
@pytest.mark.parametrize("question", QUESTIONS)
def test_ours_is_the_same_to_the_bit(question, ids, folders):
    identity.check(question, load(kind(question), ids, folders[kind(question), ids], "memory"))
