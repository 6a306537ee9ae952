"""Check that small Parquet files which are joined in memory give the rows of the files, whoever wrote them."""

import duckdb
import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal
from pyarrow import parquet as arrow

import cohortlib as cl
from cohortlib.errors import SourceError
from cohortlib.read import parquet, small_files, sources
from cohortlib.read.folders import File
from cohortlib.read.footers import read_footers
from cohortlib.read.small_files import blocks_of, join

pytestmark = pytest.mark.unit


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Take all files as small; streaming fails."""
    monkeypatch.setattr(parquet, "FULL", 1 << 16)
    monkeypatch.setattr(pl.LazyFrame, "collect_batches", None)


def rows(count, seed=0):
    rng = np.random.default_rng(seed)
    user = pl.Series(rng.integers(0, 40, count))
    return pl.select(
        user_id=user,
        timestamp=pl.date(2024, 1, 1) + pl.duration(days=pl.lit(pl.Series(rng.integers(0, 300, count)))),
        amount=pl.lit(pl.Series(rng.integers(-5, 90, count) / 2)),
        text=pl.when(user > 3).then(pl.format("user {}", user)),
        other=pl.format("{}", user).cast(pl.Categorical),
        nested=pl.concat_list(user, user),
    )


def by_polars(frame, path, size):
    frame.write_parquet(path, row_group_size=size, compression="snappy")


def by_pyarrow(frame, path, size):
    table = frame.to_arrow().replace_schema_metadata({"number": path.name})  # as pandas writes its index
    arrow.write_table(table, path, row_group_size=size, use_dictionary=size % 2 == 0, write_page_index=True)


def by_duckdb(frame, path, size):
    frame = frame.with_columns(pl.col("other").cast(pl.String))
    duckdb.from_arrow(frame.to_arrow()).to_parquet(str(path), row_group_size=size, compression="zstd")


def sources_of(paths):
    return parquet.Parquet("", "", [File(path) for path in paths], lambda names: names)


WRITERS = [by_polars, by_pyarrow, by_duckdb]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    writer=st.sampled_from(WRITERS),
    counts=st.lists(st.integers(0, 40), min_size=2, max_size=5) | st.just([3] * 20),
    size=st.integers(3, 50),
)
def test_joined_files_hold_the_rows_of_all(writer, counts, size, tmp_path_factory):
    folder = tmp_path_factory.mktemp("small")
    paths = [str(folder / f"{number:02}.parquet") for number in range(len(counts))]
    for number, count in enumerate(counts):
        writer(rows(count, number), folder / f"{number:02}.parquet", size)
    footers = read_footers(paths)
    assert [footer.rows for footer in footers] == counts
    assert len({id(schema) for schema in sources_of(paths).stored}) == 1
    joined = parquet.scan_parquet(join(paths, footers)).collect()
    assert_frame_equal(joined, pl.concat(pl.read_parquet(path) for path in paths))


def test_blocks_end_where_files_differ_and_where_they_are_full(tmp_path, monkeypatch):
    for number in range(9):
        by_polars(rows(10), tmp_path / f"{number}.parquet", 5)
    footers = read_footers(sorted(map(str, tmp_path.iterdir())))
    assert blocks_of(footers, [range(5), range(5, 9)]) == [range(5), range(5, 9)]
    assert blocks_of(footers, [range(5), range(5, 9)], 30) == [range(3), range(3, 5), range(5, 8), range(8, 9)]
    assert blocks_of(footers, [range(9)], 9) is None  # nothing to join
    monkeypatch.setattr(small_files, "_BYTES_OF_BLOCK", footers[0].size * 4)
    assert blocks_of(footers, [range(9)]) == [range(4), range(4, 8), range(8, 9)]
    monkeypatch.setattr(small_files, "_LARGEST", 9)
    assert blocks_of(footers, [range(9)]) is None


def test_partitions_and_columns_that_come_later(tmp_path):
    frames = []
    for number in range(12):
        folder = tmp_path / f"country={'DE' if number < 7 else 'FR'}"
        folder.mkdir(exist_ok=True)
        frame = rows(20, number).select("user_id", "timestamp", "amount")
        if number > 4:
            frame = frame.with_columns(pl.col("user_id").cast(pl.Int32), later=pl.lit(1)).select(pl.all().reverse())
        frame.write_parquet(folder / f"{number:02}.parquet")
        frames.append(
            frame.select(pl.col("user_id").cast(pl.Int64), "timestamp", "amount", country=pl.lit(folder.name[-2:]))
        )
    names = ["user_id", "timestamp", "amount", "country"]
    stream = sources.stream(str(tmp_path), lambda _: names, options=sources.FileOptions(workers=2))
    assert_frame_equal(pl.concat(stream.batches()), pl.concat(frames))
    assert (stream.rows, dict(stream.schema)) == (240, dict(frames[0].schema))
    expected = cl.termina.cohorts(pl.concat(frames))
    for max_memory in (None, "64MiB"):
        assert_frame_equal(cl.termina.cohorts(tmp_path, max_memory=max_memory), expected, check_exact=True)


def write(folder, count=9):
    for number in range(count):
        by_pyarrow(rows(200, number), folder / f"{number}.parquet", 50)


def test_a_damaged_page_names_its_file(tmp_path, monkeypatch):
    write(tmp_path)
    data = bytearray((tmp_path / "5.parquet").read_bytes())
    data[4:900] = bytes(896)
    (tmp_path / "5.parquet").write_bytes(data)
    monkeypatch.undo()
    with pytest.raises(SourceError, match=r"5\.parquet' cannot be read"):
        cl.termina.cohorts(tmp_path)


@pytest.mark.parametrize(
    ("amount", "error"),
    [
        ({}, r"5\.parquet' has no column 'amount'"),
        ({"amount": True}, r"column 'amount' of .*5\.parquet' is Boolean"),
    ],
)
def test_a_file_of_another_kind_is_named(tmp_path, amount, error):
    write(tmp_path)
    rows(200).drop("amount").with_columns(**amount).write_parquet(tmp_path / "5.parquet")
    with pytest.raises(SourceError, match=error):
        cl.termina.cohorts(tmp_path)


def test_files_that_change_while_they_are_read_are_not_joined(tmp_path, monkeypatch):
    write(tmp_path, 2)
    paths = sorted(map(str, tmp_path.iterdir()))
    footers = read_footers(paths)
    assert join(paths, footers) is not None
    by_pyarrow(rows(201, 1), tmp_path / "1.parquet", 50)
    assert join(paths, footers) is None
    stream = sources.stream(str(tmp_path), lambda names: names)
    by_pyarrow(rows(200, 7), tmp_path / "1.parquet", 50)
    monkeypatch.undo()
    with pytest.raises(SourceError, match="changed"):
        list(stream.batches())


def test_chunks_outside_of_a_file_are_not_joined(tmp_path):
    write(tmp_path, 2)
    path = tmp_path / "1.parquet"
    path.write_bytes(b"PAR1" + path.read_bytes()[-4000:])  # the footer tells of pages that are cut off
    assert read_footers([str(path)]) is None
