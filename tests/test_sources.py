"""Sources read whole and in batches; errors name the file at fault among many."""

import datetime as dt
import gzip
import os
from pathlib import Path

import polars as pl
import pytest

import cohortlib as cl
from cohortlib.errors import SchemaError, SourceError
from cohortlib.read import sources
from cohortlib.read.folders import File
from cohortlib.read.parquet import Parquet
from cohortlib.read.sources import list_files

pytestmark = pytest.mark.unit

CALLS = [cl.termina.cohorts, cl.termina.customer_cohorts]
FILES, ROWS = 5, 2000


def rows(file):
    return pl.DataFrame(
        {
            "user_id": [f"u{file}-{row % 700}" for row in range(ROWS)],
            "timestamp": [dt.date(2026, 1 + file, 1 + row % 28) for row in range(ROWS)],
            "amount": [row % 97 / 4 for row in range(ROWS)],
        }
    )


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for file in range(FILES):
        rows(file).write_parquet(f"part-{file}.parquet")
    return tmp_path


def damaged(data):
    """Overwrite the first pages; the header and the footer stay intact."""
    return data[:4] + bytes(600) + data[604:]


BYTES = {
    "cut short": lambda data: data[: len(data) // 2],
    "cut by one byte": lambda data: data[:-1],
    "empty": lambda _: b"",
    "no Parquet": lambda _: b"user_id,timestamp,amount\n" * 9,
    "only an end": lambda data: b"PAR1" + data[-300:],
    "damaged": damaged,
}


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("file", [0, 3, FILES - 1])
@pytest.mark.parametrize("how", BYTES)
def test_the_file_that_cannot_be_read_is_named(folder, call, file, how):
    path = folder / f"part-{file}.parquet"
    path.write_bytes(BYTES[how](path.read_bytes()))
    with pytest.raises(SourceError, match=rf"^'part-{file}\.parquet' cannot be read: "):
        call("*.parquet")


@pytest.mark.parametrize("call", CALLS)
def test_the_first_of_several_damaged_files_is_named(folder, call):
    for file in (4, 2, 3):
        path = folder / f"part-{file}.parquet"
        path.write_bytes(BYTES["empty" if file == 4 else "damaged"](path.read_bytes()))
    with pytest.raises(SourceError, match=r"^'part-4\.parquet' cannot be read"):  # footers are read before rows
        call("*.parquet")
    rows(4).write_parquet("part-4.parquet")
    with pytest.raises(SourceError, match=r"^'part-2\.parquet' cannot be read"):
        call("*.parquet")


def test_files_already_read_are_skipped(folder):
    for file in (1, 3):
        path = folder / f"part-{file}.parquet"
        path.write_bytes(damaged(path.read_bytes()))
    paths = list_files("*.parquet")

    def bad(done):
        source = Parquet("*.parquet", "the files", [File(path) for path in paths], lambda _: ["user_id", "amount"])
        error = source.find_bad_file(done)
        return error and str(error)

    assert bad(0).startswith("'part-1.parquet' cannot be read")
    assert bad(2 * ROWS - 1).startswith("'part-1.parquet' cannot be read")
    assert bad(2 * ROWS).startswith("'part-3.parquet' cannot be read")
    assert bad(4 * ROWS) is None  # no file is at fault


def test_a_file_deleted_while_reading(folder):
    stream = sources.stream("*.parquet", lambda _: ["user_id"])
    assert stream.rows == FILES * ROWS
    (folder / "part-2.parquet").unlink()
    with pytest.raises(SourceError, match=r"^'part-2\.parquet' cannot be read: No such file or directory"):
        list(stream.batches())


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_permission(folder):
    (folder / "part-2.parquet").chmod(0)
    with pytest.raises(SourceError, match=r"^'part-2\.parquet' cannot be read: Permission denied"):
        cl.termina.cohorts("*.parquet")


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize(
    ("change", "expected_error"),
    [
        (
            lambda frame: frame.drop("amount"),
            "'part-3.parquet' has no column 'amount'. Expected the same columns in all files",
        ),
        (
            lambda frame: frame.with_columns(pl.col("amount").cast(pl.String)),
            "column 'amount' of 'part-3.parquet' is String. Expected Float64, as in 'part-0.parquet'",
        ),
    ],
)
def test_the_file_with_other_columns_is_named(folder, call, change, expected_error):
    change(rows(3)).write_parquet("part-3.parquet")
    with pytest.raises(SourceError) as error:
        call("*.parquet")
    assert str(error.value) == expected_error


@pytest.mark.parametrize("call", CALLS)
def test_other_columns_may_differ_between_files(folder, call):
    expected = call("*.parquet")
    rows(1).with_columns(country=pl.lit("de")).write_parquet("part-1.parquet")
    rows(3).select("amount", "timestamp", pl.lit(1).alias("country"), "user_id").write_parquet("part-3.parquet")
    assert call("*.parquet").equals(expected)


# --- CSV -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def csv_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for file in range(FILES):
        rows(file).write_csv(f"part-{file}.csv")
    return tmp_path


def in_batches(source, wanted=("user_id", "timestamp", "amount")):
    stream = sources.stream(source, lambda _: list(wanted), max_bytes=0)
    frames = list(stream.batches())
    assert all(frame.schema == stream.schema for frame in frames)
    assert stream.rows in (None, sum(frame.height for frame in frames))
    return pl.concat([pl.DataFrame(schema=stream.schema), *frames])


def whole(source, wanted=("user_id", "timestamp", "amount")):
    return sources.read(source, lambda _: list(wanted))


BOTH = [whole, in_batches]


def append(path, end):
    path.write_bytes(path.read_bytes() + end)


@pytest.mark.parametrize("read", BOTH)
@pytest.mark.parametrize(
    ("end", "expected_error"),
    [
        (b"u,2026-01-01,3,4,5\n", "part-3.csv, line 2,002 has 5 fields, the header 3"),
        (b"\xff\xfe,2026-01-01,3\n", "part-3.csv, line 2,002 is not UTF-8"),
    ],
)
def test_the_csv_file_that_cannot_be_read_is_named(csv_folder, read, end, expected_error):
    append(csv_folder / "part-3.csv", end)
    with pytest.raises(SourceError) as error:
        read("*.csv")
    assert str(error.value).startswith(expected_error)


@pytest.mark.parametrize("read", BOTH)
def test_a_truncated_compressed_csv_file_is_named(csv_folder, read):
    for file in range(FILES):
        data = gzip.compress((csv_folder / f"part-{file}.csv").read_bytes())
        (csv_folder / f"part-{file}.csv.gz").write_bytes(data[: len(data) // 2] if file == 3 else data)
    with pytest.raises(SourceError, match=r"^'part-3\.csv\.gz' cannot be read"):
        read("*.csv.gz")


@pytest.mark.parametrize("read", BOTH)
@pytest.mark.parametrize(
    ("file", "text", "expected_error"),
    [
        (2, "", "'part-2.csv' is empty"),
        (0, "", "'part-0.csv' is empty"),
        (
            4,
            "user_id,timestamp,money\nu,2026-01-01,2\n",
            "'part-4.csv' has no column 'amount'. Expected the same columns in all files",
        ),
    ],
)
def test_the_csv_file_with_another_header_is_named(csv_folder, read, file, text, expected_error):
    (csv_folder / f"part-{file}.csv").write_text(text)
    with pytest.raises(SourceError) as error:
        read("*.csv")
    assert str(error.value).startswith(expected_error)


@pytest.mark.parametrize("read", BOTH)
def test_columns_of_csv_files_are_text(csv_folder, read):
    assert set(read("*.csv").dtypes) == {pl.String}


# --- in batches ----------------------------------------------------------------------------------------------------


def test_batches_equal_the_whole(csv_folder, folder):
    frame = pl.concat([rows(file) for file in range(FILES)])
    lazy = pl.scan_parquet("*.parquet").filter(pl.col("amount") > 3)
    for source in ("*.parquet", "*.csv", Path("part-0.csv"), frame, frame.lazy(), lazy, frame.to_arrow()):
        assert in_batches(source).equals(whole(source))
        assert in_batches(source, ["amount", "user_id"]).equals(whole(source, ["amount", "user_id"]))
    assert sources.stream("*.parquet", list, max_bytes=0).rows == FILES * ROWS
    assert sources.stream(lazy, list, max_bytes=0).rows is None
    assert sources.stream(lazy, list).rows == lazy.select(pl.len()).collect().item()


def test_batches_of_empty_tables(csv_folder, folder):
    (csv_folder / "none.csv").write_text("user_id,timestamp,amount\n")
    for source in ("none.csv", rows(0).head(0), rows(0).lazy().head(0)):
        assert in_batches(source).equals(whole(source))
        assert in_batches(source).schema == whole(source).schema


def test_batches_can_be_read_twice(csv_folder, folder):
    for source in ("*.csv", "*.parquet", pl.scan_parquet("*.parquet")):
        stream = sources.stream(source, list, max_bytes=0)
        once, again = (pl.concat(stream.batches()) for _ in range(2))
        assert once.equals(again)


@pytest.mark.parametrize("read", BOTH)
def test_errors_of_a_lazy_frame(folder, read):
    (folder / "part-3.parquet").write_bytes(b"x" * 1000)
    with pytest.raises(SourceError, match=r"^the lazy frame cannot be read: "):
        read(pl.scan_parquet("*.parquet"))
    with pytest.raises(SchemaError, match="column 'amount' is not in the table"):
        read(pl.scan_parquet("part-0.parquet").drop("amount"))
