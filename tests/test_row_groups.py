"""Check that the slices of Parquet files hold every row once, and that reading by slices changes no table."""

import math

import numpy as np
import polars as pl
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

import cohortlib as cl
from cohortlib.engine.kernels.footer import DEPTH, FIELDS, read_row_groups
from cohortlib.errors import DataError, SourceError
from cohortlib.read import large_groups, parquet, row_groups, sources
from cohortlib.read.footers import read_footers
from cohortlib.read.large_groups import LargeGroups
from cohortlib.read.row_groups import file_slices

pytestmark = pytest.mark.unit


def table(rows=3000):
    days = pl.date(2024, 1, 1) + pl.duration(days=pl.int_range(rows) * 37 % 700)
    users = pl.format("user {} of this table", pl.int_range(rows) * 31 % 400)
    return pl.select(user_id=users, timestamp=days, amount=pl.int_range(rows) % 90 - 5.5)


@pytest.fixture
def sliced(monkeypatch):
    """Read small files by slices of about 150 rows; streaming fails."""
    monkeypatch.setattr(row_groups, "SLICE", 150)
    monkeypatch.setattr(parquet, "FULL", 1)
    monkeypatch.setattr(parquet, "_SMALL", 0)
    monkeypatch.setattr(pl.LazyFrame, "collect_batches", None)


@given(st.lists(st.integers(0, 40), max_size=30), st.integers(1, 60))
def test_slices_hold_whole_row_groups_in_order(sizes, most):
    slices = list(row_groups._joined(sizes, most))
    edges = np.cumsum([0, *sizes]).tolist()
    at = 0
    for first, rows in slices:
        assert first == at
        assert {first, first + rows} <= set(edges)
        assert 0 < rows <= max(most, *sizes)
        at += rows
    assert at == sum(sizes)


@pytest.mark.parametrize("size", [1, 77, 150, 151, 2999, 3000])
@pytest.mark.parametrize("threads", [1, 2])
def test_a_sliced_file_and_a_frame_give_the_same_table(size, threads, sliced, tmp_path):
    frame = table()
    frame.head(1234).write_parquet(tmp_path / "a.parquet", row_group_size=size)
    frame.tail(-1234).write_parquet(tmp_path / "b.parquet", row_group_size=99, use_pyarrow=True)
    groups = [pl.scan_parquet(tmp_path / f"{name}.parquet").collect().height for name in "ab"]
    slices = file_slices(read_footers([str(tmp_path / "a.parquet"), str(tmp_path / "b.parquet")]))
    assert [sum(part.rows for part in slices if part.file == number) for number in (0, 1)] == groups
    stream = sources.stream(str(tmp_path), lambda names: names[:1])
    assert pl.concat(stream.batches()).equals(frame.select("user_id"))
    assert_frame_equal(cl.termina.cohorts(tmp_path, threads=threads), cl.termina.cohorts(frame), check_exact=True)


def test_errors_of_a_sliced_file_count_over_all_of_it(sliced, tmp_path, monkeypatch):
    frame = table().with_columns(amount=pl.when(pl.int_range(pl.len()) > 2900).then(math.nan).otherwise("amount"))
    path = tmp_path / "rows.parquet"
    frame.write_parquet(path, row_group_size=100)
    monkeypatch.undo()  # to find the faults, all of the file is read again
    monkeypatch.setattr(row_groups, "SLICE", 150)
    monkeypatch.setattr(parquet, "FULL", 1)
    with pytest.raises(DataError, match=r"99 times|99 of 3,000"):
        cl.termina.cohorts(path)


def test_a_damaged_row_group_names_the_file(sliced, tmp_path, monkeypatch):
    table().write_parquet(tmp_path / "a.parquet", row_group_size=100)
    table().write_parquet(tmp_path / "b.parquet", row_group_size=100)
    data = bytearray((tmp_path / "b.parquet").read_bytes())
    data[len(data) // 3 : len(data) // 2] = bytes(len(data) // 2 - len(data) // 3)
    (tmp_path / "b.parquet").write_bytes(data)
    monkeypatch.undo()
    monkeypatch.setattr(row_groups, "SLICE", 150)
    monkeypatch.setattr(parquet, "FULL", 1)
    with pytest.raises(SourceError, match=r"b\.parquet"):
        cl.termina.cohorts(tmp_path)


def test_large_row_groups_and_other_files_are_streamed(tmp_path, monkeypatch):
    path = tmp_path / "rows.parquet"
    table().write_parquet(path)
    monkeypatch.setattr(row_groups, "_LEAST", 1)
    assert [part[:3] for part in file_slices(read_footers([str(path)]))] == [(0, 0, 3000)]
    monkeypatch.setattr(row_groups, "LARGEST", 2999)
    assert file_slices(read_footers([str(path)])) is None
    assert file_slices(read_footers([str(path)]), max_rows=3000) is None
    pieces = [part[:3] for part in file_slices(read_footers([str(path)]), max_rows=1400)]
    assert pieces == [(0, 0, 700), (0, 700, 700), (0, 1400, 700), (0, 2100, 700), (0, 2800, 200)]
    assert read_footers([str(tmp_path / "none.parquet")]) is None
    (tmp_path / "short.parquet").write_bytes(b"PAR1")
    assert read_footers([str(tmp_path / "short.parquet")]) is None


def test_a_large_row_group_is_decoded_in_pieces_under_max_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(row_groups, "LARGEST", 500)
    monkeypatch.setattr(parquet, "_SHARE", 1000)  # 1,171 rows of 57 bytes
    monkeypatch.setattr(pl.LazyFrame, "collect_batches", None)
    path = tmp_path / "rows.parquet"
    table().write_parquet(path)
    expected = cl.termina.cohorts(table())
    assert_frame_equal(cl.termina.cohorts(path, max_memory="64MiB"), expected, check_exact=True)


def test_a_footer_that_is_not_plain_is_streamed(tmp_path, monkeypatch):
    frame = table()
    frame.write_parquet(tmp_path / "rows.parquet", row_group_size=100)
    monkeypatch.setattr(parquet, "_SMALL", 0)
    monkeypatch.setattr(parquet, "FULL", 1)
    monkeypatch.setattr(parquet, "read_footers", lambda _: None)
    monkeypatch.setattr(parquet, "file_slices", None)
    assert_frame_equal(cl.termina.cohorts(tmp_path), cl.termina.cohorts(frame), check_exact=True)


@example(b"\x03", 0)  # the number of a field is cut off
@given(
    st.binary(max_size=80) | st.lists(st.sampled_from([0x15, 0x19, 0x1C, 0x4C, 2, 0, 0xFC]), max_size=80).map(bytes),
    st.sampled_from([0, 9, 90]),
)
def test_any_bytes_as_a_footer(data, room):
    buffers = np.zeros((3, DEPTH), np.int64), np.zeros(FIELDS, np.int64), np.empty(3, np.int64)
    found, _, size = read_row_groups(np.frombuffer(data, np.uint8), 99, 5, *buffers, np.empty(room, np.uint8))
    assert -1 <= found <= 3
    assert 0 <= size <= room


def test_memory_bounds_the_slices_of_wide_rows(monkeypatch, tmp_path):
    monkeypatch.setattr(row_groups, "SLICE", 1000)
    monkeypatch.setattr(row_groups, "_LEAST", 10)
    table().write_parquet(tmp_path / "a.parquet", row_group_size=50)
    footers = read_footers([str(tmp_path / "a.parquet")])
    assert max(part.rows for part in file_slices(footers)) == 1000
    assert max(part.rows for part in file_slices(footers, 120)) == 100
    assert max(part.rows for part in file_slices(footers, 30)) == 30


def test_large_row_groups_take_their_memory_from_the_rows(monkeypatch, tmp_path):
    monkeypatch.setattr(row_groups, "SLICE", 1000)
    monkeypatch.setattr(row_groups, "LARGEST", 1000)
    monkeypatch.setattr(row_groups, "_LEAST", 100)
    file, small = tmp_path / "a.parquet", tmp_path / "b.parquet"
    table().write_parquet(file, row_group_size=3000)
    table().write_parquet(small, row_group_size=100)
    expected = cl.termina.cohorts(table())
    size = file.stat().st_size
    monkeypatch.setattr(parquet, "_GROUP", size)
    options = sources.FileOptions(workers=2)

    def opened(path, max_bytes):
        return sources.stream(str(path), lambda names: names, options=options, max_bytes=max_bytes)

    assert opened(file, 10 * size).reading == pytest.approx(2 * parquet._GROWTH * size, rel=0.1)  # on two threads
    stream = opened(file, 3 * size)
    assert stream.reading == pytest.approx(parquet._GROWTH * size, rel=0.1)  # on one
    assert stream.rest(3 * size) == 3 * size - stream.reading
    assert stream.rest(size) == size // 4
    assert opened(small, 3 * size).reading == opened(file, None).reading == 0
    assert pl.concat(stream.batches()).equals(table())
    assert_frame_equal(cl.termina.cohorts(file, max_memory="64MiB"), expected, check_exact=True)


def test_row_groups_too_large_for_memory_are_read_page_by_page(monkeypatch, tmp_path):
    pytest.importorskip("pyarrow")
    monkeypatch.setattr(parquet, "LARGEST", 500)
    monkeypatch.setattr(parquet, "_SHARE", 1000)  # 1,171 rows of 57 bytes
    monkeypatch.setattr(large_groups, "ROWS", 700)
    file = tmp_path / "rows.parquet"
    table().write_parquet(file)
    expected = cl.termina.cohorts(table())
    seen = []
    batches = LargeGroups.batches
    monkeypatch.setattr(LargeGroups, "batches", lambda self: seen.append(self.memory()) or batches(self))
    assert_frame_equal(cl.termina.cohorts(file, max_memory="64MiB"), expected, check_exact=True)
    assert seen[0] > 3 * large_groups._COLUMN  # the dictionary of users
    content = bytearray(file.read_bytes())
    content[40:400] = bytes(360)
    (tmp_path / "damaged.parquet").write_bytes(content)
    with pytest.raises(SourceError, match=r"damaged\.parquet' cannot be read"):
        cl.termina.cohorts(tmp_path / "damaged.parquet", max_memory="64MiB")
    assert len(seen) == 2
    monkeypatch.setattr(large_groups, "find_spec", lambda _: None)  # without pyarrow
    assert_frame_equal(cl.termina.cohorts(file, max_memory="64MiB"), expected, check_exact=True)
    assert len(seen) == 2
