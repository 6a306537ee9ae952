"""CSV of every form, on small data: all contenders give the same table."""

import pytest

from benchmarks import csv


@pytest.mark.parametrize("form", csv.FORMS)
@pytest.mark.parametrize(("ids", "width"), [("int", 20), ("uuid", 4)])
def test_the_answers_are_the_same(rows, threads, tmp_path, ids, width, form):
    case = csv.Case(rows, ids, width, form)
    assert len(csv.orders(case._replace(rows=3)).columns) == width
    results = csv.measure(case, tmp_path, threads, 1)
    assert [len(rounds) for rounds in results.values()] == [1, 1, 1]
    assert len(csv.cells(results, dict.fromkeys(results, 0))) == 8
