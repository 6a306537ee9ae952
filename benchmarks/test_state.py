"""Daily updates, on small data: the state and a computation from all rows give the same answer."""

from datetime import timedelta

import pytest

from benchmarks import state, years
from benchmarks.years import DAYS, Years


@pytest.mark.parametrize("ids", years.IDS)
def test_the_answers_are_the_same(rows, threads, tmp_path, ids):
    data = Years(rows, rows // 10, 4, ids, days=DAYS - len(state.LATE))
    _, days = state.measure(data, tmp_path, threads)
    assert [(day.late, day.rows > 0) for day in days] == [(late, True) for late in state.LATE]


def test_some_rows_are_late():
    data = Years(2_000_000, 200_000, 4)
    start = (years.START + 1000 * years.DAY).item()
    rows = state.new_rows(data, 1000, 0.1)["timestamp"]
    assert (rows < start).mean() == pytest.approx(0.1, abs=0.03)
    assert rows.max() < start + timedelta(days=1)
    assert (state.new_rows(data, 1000, 0.0)["timestamp"] >= start).all()
