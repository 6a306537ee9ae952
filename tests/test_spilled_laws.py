"""Compare runs with a tiny memory budget, which spill, with the reference implementation and with runs in memory."""

import inspect
import tempfile
from datetime import date

import naive
import polars as pl
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from polars.testing import assert_frame_equal
from strategies import cases, customer_settings, exactly, quietly

import cohortlib as cl
from cohortlib.engine import memory
from cohortlib.engine import spill as engine_spill
from cohortlib.engine.spill import Spill
from cohortlib.errors import CohortlibError
from cohortlib.read import tables
from cohortlib.transactions import part_netting
from cohortlib.transactions.store import spill

pytestmark = pytest.mark.disk

# The tables that may spill. Customers are returned in memory; sink_customer_cohorts writes them to files.
TABLES = tuple(
    name
    for name in ("cohorts", "customer_cohorts")
    if "max_memory" in inspect.signature(getattr(cl.termina, name)).parameters
)


@pytest.fixture(autouse=True, scope="module")
def tiny_memory(tmp_path_factory):
    """Limit batches, runs, parts and slices to a few rows, and put temporary folders where the tests look."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(memory, "MINIMUM", 1)
        patch.setattr(spill, "_MIN_ROWS", 3)
        patch.setattr(engine_spill, "_CHUNK_ROWS", 2)
        patch.setattr(tables, "_BATCH", 3)
        patch.setattr(part_netting, "GROUP_ROWS", 4)
        scratch = tmp_path_factory.mktemp("scratch")
        patch.setattr(tempfile, "tempdir", str(scratch))
        yield scratch


@pytest.fixture(autouse=True)
def no_leftovers(tiny_memory):
    """Check that the temporary folder is empty after each test."""
    yield
    assert list(tiny_memory.iterdir()) == []


def cells(table):
    return [[exactly(cell) for cell in row] for row in table.rows()]


def same(left, right):
    """Compare two tables to the last bit."""
    assert_frame_equal(left, right, check_exact=True)


MEMORY = st.sampled_from((1, 200, 1_000, 10_000))


@given(case=cases(joined=("none", "none", "table", "column")), more=customer_settings(), budget=MEMORY)
def test_tables_match_the_reference(case, more, budget):
    for table in TABLES:
        options = more if table == "customer_cohorts" else {}
        try:
            expected = case.judge(table, **options)
        except naive.Refused:
            with pytest.raises(CohortlibError):
                case.ask(table, max_memory=budget, **options)
            return
        found = case.ask(table, max_memory=budget, **options)
        assert cells(found) == [[exactly(row[name]) for name in found.columns] for row in expected]
        same(found, case.ask(table, **options))


@given(case=cases(), cut=st.integers(0, 40), rows=st.sampled_from((2, 7)), budget=MEMORY)
def test_parquet_files(case, cut, rows, budget, tmp_path_factory):
    folder = tmp_path_factory.mktemp("parts")
    case.frame[:cut].write_parquet(folder / "part-0.parquet", row_group_size=rows)
    case.frame[cut:].write_parquet(folder / "part-1.parquet", row_group_size=rows)
    settings = {**case.names, **case.settings, "joined": case.joined_as, "threads": case.threads}
    for table in TABLES:
        try:
            expected = case.ask(table)
        except cl.errors.DataError:
            assume(False)
        same(quietly(getattr(cl.termina, table), str(folder / "*.parquet"), max_memory=budget, **settings), expected)


@given(case=cases(joined=("none", "table"), poison=False, kinds=("cents",)), budget=MEMORY)
def test_csv_files(case, budget, tmp_path_factory):
    """A CSV file that exceeds memory is read in batches, and its text columns give the same users."""
    user, at = case.names.get("user", "user_id"), case.names.get("timestamp", "timestamp")
    assume(case.frame.height and case.frame[at].dtype == pl.Date and case.frame[at].dt.year().min() >= 1000)
    written = case.frame.with_columns(pl.col(user).cast(pl.String))
    plain = pl.col(user).str.contains(r"^[ -~]+$") & ~pl.col(user).str.contains(r'["\s]')
    assume(written.select(plain.all()).item())
    file = tmp_path_factory.mktemp("csv") / "rows.csv"
    written.write_csv(file)
    joined = case.joined_as
    if joined is not None:
        joined = joined.with_columns(pl.col(user).cast(pl.String))
    settings = {**case.names, **case.settings, "joined": joined, "threads": case.threads}
    try:
        expected = quietly(cl.termina.cohorts, written, **settings)
    except cl.errors.DataError:
        assume(False)
    same(quietly(cl.termina.cohorts, str(file), max_memory=budget, **settings), expected)


@given(case=cases(joined=("none", "column", "table"), poison=False), budget=MEMORY)
def test_sums(case, budget):
    settings = {**case.names, **case.settings, "joined": case.joined_as}
    for edge in ("start", "end", "complete_only"):
        settings.pop(edge, None)
    try:
        expected = quietly(cl.termina.sums, case.frame, **settings)
    except cl.errors.DataError:
        assume(False)
    assert quietly(cl.termina.sums, case.frame, max_memory=budget, **settings) == expected


@pytest.mark.parametrize("threads", [1, 3])
def test_progress_ends_with_all_rows(threads):
    rows = 300
    frame = pl.DataFrame({"user_id": pl.int_range(rows, eager=True) % 50, "amount": pl.repeat(1.0, rows, eager=True),
                          "timestamp": pl.int_range(rows, eager=True).cast(pl.Date)})  # fmt: skip
    seen = []
    table = cl.termina.cohorts(frame, threads=threads, max_memory=500, progress=lambda *rows: seen.append(rows))
    same(table, cl.termina.cohorts(frame))
    assert {total for _, total in seen} == {rows}
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    assert seen[-1] == (rows, rows)


def test_rows_are_spilled(tiny_memory, monkeypatch):
    """Check that the other tests of this file do spill."""
    written = []
    sink = Spill.sink

    def watched(self, *run, **options):
        sink(self, *run, **options)
        written.append([file.parent for file in self._path.parent.iterdir()])

    monkeypatch.setattr(Spill, "sink", watched)
    frame = pl.DataFrame({"user_id": [1, 2, 3, 4] * 5, "timestamp": date(2026, 1, 1), "amount": 1.0})
    same(cl.termina.cohorts(frame, max_memory=200), cl.termina.cohorts(frame))
    assert len(written) > 2
    assert {folder.parent for files in written for folder in files} == {tiny_memory}
    assert len(written[-1]) > len(written)  # each run has several files
