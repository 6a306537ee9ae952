"""Repeated queries, on small data: the prepared form, the raw files and DuckDB give the same answer."""

import pytest

from benchmarks import prepared, years
from benchmarks.measure import OURS
from benchmarks.years import Years


@pytest.mark.parametrize("ids", years.IDS)
def test_the_answers_are_the_same(rows, threads, tmp_path, ids):
    tiny, _ = prepared.made(prepared.TINY._replace(ids=ids), tmp_path, threads)
    given, _ = prepared.made(Years(rows, rows // 10, 4, ids), tmp_path, threads)
    queries, timed = zip(*prepared.ask(given, tiny, threads, repeat=1, seconds=0), strict=True)
    assert queries == prepared.QUERIES
    assert {len(one.seconds) for one in timed} == {2, 3}  # DuckDB does not have every query
    assert all(OURS in one.seconds for one in timed)
