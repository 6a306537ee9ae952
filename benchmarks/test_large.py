"""The benchmark on data larger than memory, on small data: contenders agree, and exceeding the limit fails."""

import polars as pl
import pytest

from benchmarks import large, limited, years
from benchmarks.cohorts import FIELDS
from benchmarks.years import Years


@pytest.mark.parametrize("ids", years.IDS)
@pytest.mark.parametrize("freq", ["M", "D"])
def test_the_answers_are_the_same(rows, threads, tmp_path, ids, freq):
    arguments = f"--rows {rows} --users {rows // 10} --files 4 --ids {ids} --freq {freq} --threads {threads}"
    results = large.measure(large.options(arguments.split()), tmp_path)
    assert {name: len(rounds) for name, rounds in results.items()} == dict.fromkeys(large.CONTENDERS, 1)


def test_another_answer_is_found():
    table = pl.DataFrame({field: [1.0] for field in FIELDS})
    large.same(table, table)
    with pytest.raises(AssertionError, match="ltv"):
        large.same(table, table.with_columns(ltv=1.0000000000000002))


def greedy(files, size):
    """Allocate `size` bytes."""
    block = bytearray(size if files == "all" else 1)
    return pl.DataFrame({"bytes": [len(block)]})


@pytest.mark.parametrize("limit", ["address", "data"])
def test_the_limit_holds(tmp_path, limit):
    def ask(size):
        given = {"files": "all", "tiny": "one", "size": size}
        return limited.run(
            "benchmarks.test_large:greedy", given, limit=limit, memory=2 * limited.GB, threads=1, folder=tmp_path
        )

    modest = ask(200 << 20)
    assert modest.answer.item() == 200 << 20
    assert modest.peak >= 200 << 20
    with pytest.raises(limited.DidNotEndError, match="MemoryError"):
        ask(3 * limited.GB)


def test_the_data_are_what_they_say(tmp_path):
    for ids in years.IDS:
        data = Years(5_000, 400, 7, ids)
        folder = tmp_path / ids
        years.write(data, folder)
        years.write(data, folder)  # the second call does nothing
        made = pl.read_parquet(years.files(folder))
        assert made.height == 5_000
        assert made["user_id"].n_unique() == 400
        assert made["timestamp"].is_sorted()
        assert made.group_by("user_id").agg(pl.col("country").n_unique())["country"].max() == 1
        with pytest.raises(SystemExit, match="holds Years"):
            years.write(data._replace(seed=1), folder)
