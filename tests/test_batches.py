"""Batches count once, and rows can be removed: after each step the table is that of the rows that should be there."""

import os
from datetime import date, datetime

import polars as pl
import pytest
from polars.testing import assert_frame_equal
from strategies import quietly

import cohortlib as cl
from cohortlib.engine import digests, files
from cohortlib.errors import CohortlibError, CohortlibWarning, DataError, SchemaError, SettingError
from cohortlib.transactions import state as states
from cohortlib.transactions.load import load
from cohortlib.transactions.settings import Settings
from cohortlib.transactions.sums import sums_of

pytestmark = pytest.mark.disk


def rows(*entries, users=pl.String):
    return pl.DataFrame(entries, schema={"user_id": users, "timestamp": pl.Date, "amount": pl.Int64}, orient="row")


HISTORY = rows(("a", date(2026, 1, 5), 1), ("b", date(2026, 1, 9), 3), ("a", date(2026, 2, 5), 1))
DAY = rows(("a", date(2026, 3, 1), 7), ("d", date(2025, 12, 1), 9))
OTHER = rows(("a", date(2026, 3, 1), 8), ("e", date(2025, 11, 1), 9), ("c", date(2026, 4, 1), -2))


@pytest.fixture
def state(tmp_path):
    return cl.termina.State.build(HISTORY, tmp_path / "state")


def has(state, *frames):
    """Check that a state has these rows, in all of its files."""
    expected = quietly(cl.termina.cohorts, pl.concat(frames))
    assert_frame_equal(state.cohorts(), expected)
    assert_frame_equal(quietly(cl.termina.cohorts, state.folder), expected)
    assert cl.verify(state.folder).ok


def test_a_batch_counts_once(state):
    state.update(DAY, batch="day")
    with pytest.raises(DataError, match=r"batch 'day' was added before, on .*\. Expected each batch once"):
        state.update(DAY, batch="day")
    has(state, HISTORY, DAY)
    state.update(DAY.reverse(), batch="day", again="skip")  # in another order it is the same content
    has(state, HISTORY, DAY)
    with pytest.raises(DataError, match=r"'day' was added before, on .* with other content"):
        state.update(OTHER, batch="day", again="skip")
    has(state, HISTORY, DAY)


@pytest.mark.parametrize("compacted", [False, True])
def test_a_batch_is_replaced(state, compacted):
    state.update(DAY, batch="day")
    if compacted:
        state.compact()
    state.update(OTHER, batch="day", again="replace")
    has(state, HISTORY, OTHER)
    state.update(OTHER, batch="day", again="replace")  # nothing changes
    has(state, HISTORY, OTHER)
    state.update(DAY.clear(), batch="day", again="replace")
    has(state, HISTORY)


def test_a_replaced_batch_takes_its_right_edge_with_it(tmp_path):
    state = quietly(cl.termina.State.build, HISTORY, tmp_path / "state", nulls="drop")
    late = rows(("a", date(2027, 1, 1), None))
    quietly(state.update, pl.concat([DAY, late]), batch="day")
    assert state.info().dropped == 1
    assert state.cohorts()["period"].max() == 13
    state.update(DAY, batch="day", again="replace")
    assert state.info().dropped == 0
    has(state, HISTORY, DAY)


@pytest.mark.parametrize("change", [{"country": "FR"}, {"country": None}, {"margin": 2.5}, {"hour": 2}])
def test_kept_columns_are_content(tmp_path, change):
    def day(country="DE", margin=1.5, hour=1):
        at = datetime(2026, 1, 5, hour)
        return pl.DataFrame(
            {"user_id": ["a"], "timestamp": [at], "amount": [7], "country": [country], "margin": margin}
        )

    state = cl.State.build(day(), tmp_path / "state", batch="day", by="country", amounts=["margin"])
    state.update(day(), batch="day", again="skip")
    with pytest.raises(DataError, match=r"'day' was added before, on .* with other content"):
        state.update(day(**change), batch="day", again="skip")
    state.update(day(**change), batch="day", again="replace")
    assert state.cohorts().equals(cl.cohorts(day(**change), by="country", amounts=["margin"]))


def test_a_batch_with_dropped_rows_keeps_their_last_day_alone(tmp_path):
    state = cl.termina.State.build(OTHER, tmp_path / "state", batch="first", nulls="drop")
    dropped = rows(("a", date(2026, 2, 20), None))
    quietly(state.update, pl.concat([HISTORY, dropped]), batch="second")
    state.update(OTHER.head(0), batch="first", again="replace")
    quietly(state.remove, ["a"])
    assert state.info().last_day == date(2026, 2, 20)


def test_the_same_content_under_another_name(state):
    state.update(DAY, batch="one")
    with pytest.warns(CohortlibWarning, match="batch 'two' has the same content as batch 'one'.*: both count"):
        state.update(DAY, batch="two")
    has(state, HISTORY, DAY, DAY)


def test_a_frame_without_a_name_counts_every_time(state):
    for _ in range(2):
        state.update(DAY)
    has(state, HISTORY, DAY, DAY)
    assert state.info().batches.select("name", "rows").rows() == [(None, 7)]


def test_files_are_batches(tmp_path):
    first, second = tmp_path / "1.csv", tmp_path / "2.csv"
    HISTORY.write_csv(first)
    state = cl.termina.State.build(first, tmp_path / "state")
    DAY.write_csv(second)
    with pytest.raises(DataError, match=r"1\.csv' was added before, on .* with the same content"):
        state.update(str(tmp_path / "*.csv"))
    state.update(str(tmp_path / "*.csv"), again="skip")
    has(state, HISTORY, DAY)
    OTHER.write_csv(second)
    state.update([first, second], again="replace")
    has(state, HISTORY, OTHER)
    assert state.info().batches["name"].to_list() == [str(first), str(second)]


def test_files_that_are_built_together_are_replaced_together(tmp_path):
    one, two = tmp_path / "1.parquet", tmp_path / "2.parquet"
    HISTORY.write_parquet(one)
    DAY.write_parquet(two)
    state = cl.termina.State.build([one, two], tmp_path / "state")
    OTHER.write_parquet(two)
    with pytest.raises(DataError, match="was added together with 1 other files"):
        state.update(two, again="replace")
    has(state, HISTORY, DAY)


def test_arguments(state):
    with pytest.raises(SettingError, match="batch='' is not a name"):
        state.update(DAY, batch="")
    with pytest.raises(SettingError, match="again='often' is unknown"):
        state.update(DAY, batch="day", again="often")
    with pytest.raises(SchemaError, match="'users' is Int64"):
        state.remove([1])


def test_removed_users_are_in_no_file(tmp_path, monkeypatch):
    monkeypatch.setattr(states, "_RUNS", 99)
    name = "a customer with a long name"
    renamed = [
        frame.with_columns(pl.col("user_id").replace("a", name), pl.lit(1).alias("amount")) for frame in (HISTORY, DAY)
    ]
    state = cl.termina.State.build(renamed[0], tmp_path / "state")
    state.update(renamed[1])
    assert any(name.encode() in file.read_bytes() for file in state.folder.iterdir())
    assert state.remove([name, "nobody"]) == 3
    assert not any(name.encode() in file.read_bytes() for file in state.folder.iterdir())
    left = [frame.filter(pl.col("user_id") != name) for frame in renamed]
    has(state, *left)
    state.update(renamed[1])  # they come back with their rows
    has(state, *left, renamed[1])


def test_all_users_are_removed(tmp_path):
    frame = rows((1, date(2026, 1, 5), 1), (2, date(2026, 1, 9), 3), users=pl.Int64)
    state = cl.termina.State.build(frame, tmp_path / "state")
    assert state.remove([1, 2]) == 2
    assert state.cohorts().is_empty()
    state.update(frame)
    has(state, frame)


def test_rebuilt(state):
    """A state whose sums were lost has them again."""
    expected = state.cohorts()
    next(state.folder.glob("sums-*")).unlink()
    assert "rebuild" in str(cl.verify(state.folder).damage[0])
    state.rebuild()
    assert_frame_equal(state.cohorts(), expected)
    has(state, HISTORY)


def test_what_a_state_says(state):
    state.update(DAY, batch="day")
    info = state.info()
    assert (info.rows, info.users, info.first_day, info.last_day) == (5, 3, date(2025, 12, 1), date(2026, 3, 1))
    assert (info.settings["freq"], info.library) == ("M", cl.__version__)
    assert info.bytes == sum(file.stat().st_size for file in state.folder.iterdir())
    assert "day: 2 rows" in str(info)
    assert info.to_dict()["batches"][1]["name"] == "day"


@pytest.mark.skipif(os.name == "nt", reason="folders have no locks there")
def test_a_reader_sees_the_old_or_the_new_whole(state):
    """Files that a reader may still open are deleted by the writer after next."""
    state.update(DAY)
    settings = Settings.of()
    with load(state.folder, settings, keep_users=False) as loaded:
        old = {file.name for file in state.folder.glob("*.parquet")}
        state.update(OTHER)
        state.compact()
        assert old <= {file.name for file in state.folder.iterdir()}
        assert_frame_equal(sums_of(loaded).cohorts(), quietly(cl.termina.cohorts, pl.concat([HISTORY, DAY])))
    state.compact()
    assert not old & {file.name for file in state.folder.iterdir()}
    has(state, HISTORY, DAY, OTHER)


@pytest.mark.skipif(os.name == "nt", reason="folders have no locks there")
def test_removal_waits_for_readers(state, monkeypatch):
    monkeypatch.setattr(states, "_PATIENCE", 0.1)
    with files.shared(state.folder), pytest.raises(CohortlibError, match="is still being read"):
        state.remove(["a"])
    state.remove(["a"])
    assert len(list(state.folder.glob("*.rows.parquet"))) == 1
    has(state, HISTORY.filter(pl.col("user_id") != "a"))


def test_the_digest_of_a_file_is_that_of_its_bytes(tmp_path, monkeypatch):
    monkeypatch.setattr(digests, "_PIECE", 7)
    file = tmp_path / "rows"
    for size in (0, 7, 20):
        file.write_bytes(bytes(range(size)))
        assert digests.file_digest(file) == digests.digest(bytes(range(size)))
