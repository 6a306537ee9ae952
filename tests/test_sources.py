"""Of many files the one that cannot be read is told by its name."""

import datetime as dt
import os

import polars as pl
import pytest

import cohortlib as cl
from cohortlib import sources
from cohortlib.errors import SourceError

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


def spoilt(data):
    """Overwrite the first pages; the header and the end are whole."""
    return data[:4] + bytes(600) + data[604:]


BYTES = {
    "cut short": lambda data: data[: len(data) // 2],
    "cut by one byte": lambda data: data[:-1],
    "empty": lambda _: b"",
    "no Parquet": lambda _: b"user_id,timestamp,amount\n" * 9,
    "only an end": lambda data: b"PAR1" + data[-300:],
    "spoilt": spoilt,
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
def test_several_are_spoilt_and_the_first_is_named(folder, call):
    for file in (4, 2, 3):
        path = folder / f"part-{file}.parquet"
        path.write_bytes(BYTES["empty" if file == 4 else "spoilt"](path.read_bytes()))
    with pytest.raises(SourceError, match=r"^'part-4\.parquet' cannot be read"):  # its end is read before all rows
        call("*.parquet")
    rows(4).write_parquet("part-4.parquet")
    with pytest.raises(SourceError, match=r"^'part-2\.parquet' cannot be read"):
        call("*.parquet")


def test_what_has_been_read_is_not_read_again(folder):
    for file in (1, 3):
        path = folder / f"part-{file}.parquet"
        path.write_bytes(spoilt(path.read_bytes()))
    found = sources.files("*.parquet")

    def guilty(done):
        return sources._unreadable_parquet(found, lambda _: ["user_id", "amount"], done)

    assert guilty(0).startswith("'part-1.parquet' cannot be read")
    assert guilty(2 * ROWS - 1).startswith("'part-1.parquet' cannot be read")
    assert guilty(2 * ROWS).startswith("'part-3.parquet' cannot be read")
    assert guilty(4 * ROWS) is None  # nothing wrong is found: the files are told as they were named


def test_a_file_that_goes_while_it_is_read(folder):
    stream = sources.stream("*.parquet", lambda _: ["user_id"], text="user_id")
    assert stream.rows == FILES * ROWS
    (folder / "part-2.parquet").unlink()
    with pytest.raises(SourceError, match=r"^'part-2\.parquet' cannot be read: No such file or directory"):
        list(stream.batches())


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read(folder):
    (folder / "part-2.parquet").chmod(0)
    with pytest.raises(SourceError, match=r"^'part-2\.parquet' cannot be read: Permission denied"):
        cl.termina.cohorts("*.parquet")


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize(
    ("change", "told"),
    [
        (
            lambda frame: frame.drop("amount"),
            "'part-3.parquet' has no column 'amount'; expected the columns of 'part-0.parquet'",
        ),
        (
            lambda frame: frame.with_columns(pl.col("amount").cast(pl.String)),
            "column 'amount' of 'part-3.parquet' is String; expected Float64, as in 'part-0.parquet'",
        ),
    ],
)
def test_the_file_with_other_columns_is_named(folder, call, change, told):
    change(rows(3)).write_parquet("part-3.parquet")
    with pytest.raises(SourceError) as error:
        call("*.parquet")
    assert str(error.value) == told


@pytest.mark.parametrize("call", CALLS)
def test_columns_that_are_not_asked_for_may_come_and_go(folder, call):
    expected = call("*.parquet")
    rows(1).with_columns(country=pl.lit("de")).write_parquet("part-1.parquet")
    rows(3).select("amount", "timestamp", pl.lit(1).alias("country"), "user_id").write_parquet("part-3.parquet")
    assert call("*.parquet").equals(expected)
