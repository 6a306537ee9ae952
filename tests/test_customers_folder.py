"""Write the customer table to a folder: files of disjoint users that together are the table."""

from datetime import date

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

import cohortlib as cl
from cohortlib.errors import DataError, SettingError
from cohortlib.transactions.store import spill

pytestmark = pytest.mark.disk

ORDER = ["cohort", "cohort_size_amount", "user_id", "period"]
LITTLE = "64MiB"  # too little to read the table whole, so rows are partitioned by user


@pytest.fixture(scope="module")
def frame():
    random = np.random.default_rng(1)
    return pl.DataFrame(
        {
            "user_id": random.integers(0, 300, 2000),
            "timestamp": pl.Series(random.integers(19000, 19600, 2000).astype(np.int32)).cast(pl.Date),
            "amount": random.integers(-50, 200, 2000),
        }
    )


@pytest.fixture(params=[None, 500], ids=["one run", "runs on disk"], autouse=True)
def small(request, monkeypatch):
    monkeypatch.setattr(spill, "_PART_ROWS", 300)
    monkeypatch.setattr(spill, "_MIN_ROWS", 300)
    if request.param:
        monkeypatch.setattr(spill.RunPlan, "capacity", lambda plan, extras: request.param)


def read_folder(folder):
    """Check the files of a folder; return their number, and their rows in the order of the table."""
    parts = [pl.read_parquet(file) for file in sorted(folder.iterdir())]
    users = [set(part["user_id"]) for part in parts]
    assert sum(map(len, users)) == len(set.union(*users))
    for part in parts:
        assert part.equals(part.sort(ORDER, descending=[False, True, False, False]))
    return len(parts), pl.concat(parts).sort(ORDER, descending=[False, True, False, False])


@pytest.mark.parametrize("basis", ["single_customer", "cohort_total", "cohort_mean"])
@pytest.mark.parametrize("kind", [pl.Int64, pl.String])
def test_parts_are_the_table(frame, tmp_path, basis, kind):
    frame = frame.with_columns(pl.col("user_id").cast(kind))
    options = {"basis": basis, "start": "2022-03", "rows": "active", "refunds": "signed"}
    cl.termina.sink_customer_cohorts(frame, f"{tmp_path}/out/", max_memory=LITTLE, **options)
    count, table = read_folder(tmp_path / "out")
    assert count > 1
    assert_frame_equal(table, cl.termina.customer_cohorts(frame, **options), check_exact=True)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_joined_users_are_included(frame, tmp_path):
    """Also those without any row."""
    joined = pl.DataFrame({"user_id": range(250, 400), "joined": [date(2022, 3, 1)] * 150})
    options = {"joined": joined, "before_joined": "clip"}
    with pytest.warns(UserWarning, match="not in joined"):
        whole = cl.termina.customer_cohorts(frame, **options)
    with pytest.warns(UserWarning, match="not in joined"):
        cl.termina.sink_customer_cohorts(frame, f"{tmp_path}/out/", max_memory=LITTLE, **options)
    assert_frame_equal(read_folder(tmp_path / "out")[1], whole, check_exact=True)


def test_prepared_form(frame, tmp_path):
    cl.prepare(frame, tmp_path / "form", max_memory=LITTLE)
    cl.termina.sink_customer_cohorts(tmp_path / "form", f"{tmp_path}/out/", freq="Q")
    assert_frame_equal(read_folder(tmp_path / "out")[1], cl.termina.customer_cohorts(frame, freq="Q"), check_exact=True)


@pytest.mark.parametrize("road", ["frame", "parquet", "csv", "prepared", "file", "folder"])
@pytest.mark.parametrize(
    ("kind", "native"),
    [
        (pl.Int64, pl.Int64),
        (pl.Int16, pl.Int64),
        (pl.UInt64, pl.UInt64),
        (pl.String, pl.String),
        (pl.Categorical, pl.String),
        (pl.Decimal(20, 0), pl.String),
    ],
    ids=str,
)
def test_native_ids(frame, tmp_path, road, kind, native):
    """The rows of the table with text, in the same order, on every road."""
    frame = frame.with_columns(pl.col("user_id").cast(pl.String).cast(kind))
    expected = cl.termina.customer_cohorts(frame, start="2022-03")
    source = frame
    if road in ("parquet", "csv"):
        source = tmp_path / f"rows.{road}"
        getattr(frame, f"write_{road}")(source)
    elif road == "prepared":
        cl.prepare(frame, tmp_path / "form", max_memory=LITTLE)
        source = tmp_path / "form"
    settings = {"start": "2022-03", "ids": "native"}
    if road == "file":
        cl.termina.sink_customer_cohorts(source, tmp_path / "out.parquet", **settings)
        table = pl.read_parquet(tmp_path / "out.parquet")
    elif road == "folder":
        cl.termina.sink_customer_cohorts(source, f"{tmp_path}/out/", max_memory=LITTLE, **settings)
        assert len(list((tmp_path / "out").iterdir())) > 1
        order = ["cohort", "cohort_size_amount", pl.col("user_id").cast(pl.String), "period"]
        table = pl.read_parquet(tmp_path / "out").sort(order, descending=[False, True, False, False])
    else:
        table = cl.termina.customer_cohorts(source, **settings)
    assert table.schema["user_id"] == (pl.String if road == "csv" else native)
    labels = table.schema["cohort"].categories.to_list()
    assert labels == sorted(labels)
    assert expected["cohort"].is_in(labels).all()
    text = table.with_columns(pl.col("cohort", "user_id").cast(pl.String))
    assert_frame_equal(text, expected, check_exact=True)


def test_the_old_folder_stays_until_the_new_one_is_complete(frame, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    cl.termina.sink_customer_cohorts(frame, out, max_memory=LITTLE)
    before = {file.name: file.read_bytes() for file in out.iterdir()}
    broken = frame.with_columns(timestamp=pl.when(pl.col("user_id") == 7).then(None).otherwise("timestamp"))
    with pytest.raises(DataError, match="nulls"):
        cl.termina.sink_customer_cohorts(broken, out, max_memory=LITTLE)
    assert {file.name: file.read_bytes() for file in out.iterdir()} == before
    cl.termina.sink_customer_cohorts(frame.head(1), out, max_memory=LITTLE)
    assert read_folder(out)[0] == 1
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_no_rows(frame, tmp_path):
    cl.termina.sink_customer_cohorts(frame.clear(), f"{tmp_path}/out/")
    assert_frame_equal(read_folder(tmp_path / "out")[1], cl.termina.customer_cohorts(frame.clear()))


def test_invalid_folders(frame, tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(SettingError, match="has files that cohortlib did not write"):
        cl.termina.sink_customer_cohorts(frame, tmp_path)
    with pytest.raises(SettingError, match="top_n=5 needs a file"):
        cl.termina.sink_customer_cohorts(frame, f"{tmp_path}/out/", top_n=5)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]
