"""The state: whatever comes in, however cut, late or not, the table is that of all rows together."""

import json
from datetime import date, datetime
from itertools import pairwise

import polars as pl
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from polars.testing import assert_frame_equal
from strategies import cases, quietly, shaped

import cohortlib as cl
from cohortlib.engine import files
from cohortlib.errors import CohortlibError, CohortlibWarning, DataError, SchemaError, SettingError, SourceError
from cohortlib.transactions import standing
from cohortlib.transactions import state as of_states
from cohortlib.transactions.store import spill

pytestmark = pytest.mark.disk

EDGES = ("start", "end", "complete_only")


def rows(*told, users=pl.String):
    return pl.DataFrame(told, schema={"user_id": users, "timestamp": pl.Date, "amount": pl.Int64}, orient="row")


HISTORY = rows(
    ("ann", date(2026, 2, 5), 100),
    ("ann", date(2026, 4, 3), 80),
    ("bob", date(2026, 3, 20), 50),
    ("cat", date(2026, 3, 1), -5),
)


@pytest.fixture
def state(tmp_path):
    return cl.termina.State.build(HISTORY, tmp_path / "state")


def parts_of(frame, cuts):
    """Cut a frame into stretches of rows."""
    places = sorted({0, *(min(cut, frame.height) for cut in cuts), frame.height})
    return [frame.slice(begin, end - begin) for begin, end in pairwise(places)] or [frame]


def files_of(state):
    """Name the files of a state that it is made of; nothing else may be there."""
    told = json.loads((state.folder / "cohortlib.json").read_text())
    names = {f"{part['name']}.{kind}.parquet" for run in told["runs"] for part in run for kind in ("users", "rows")}
    return names | {"cohortlib.json", told["state"]["sums"]}


def whole(state):
    """Check that a folder holds what its manifest names and nothing else, and give its sums."""
    assert {file.name for file in state.folder.iterdir()} == files_of(state)
    return state.sums()


@given(
    case=cases(joined=("none",), poison=False),
    cuts=st.lists(st.integers(0, 40), max_size=4),
    runs=st.sampled_from((0, 2, 99)),
    capacity=st.sampled_from((2, 1000)),
)
def test_updates_are_a_recomputation(case, cuts, runs, capacity, tmp_path_factory):
    """Any rows in any order: late ones, refunds of the first payment, users who come and users who move."""
    told = {**case.names, **case.settings}
    told.pop("before_joined", None)
    edges = {name: told.pop(name) for name in EDGES if name in told}
    try:
        table = case.ask("cohorts")
    except DataError:
        assume(False)
    first, *others = parts_of(case.frame, cuts)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(of_states, "_RUNS", runs)
        patch.setattr(of_states, "_SHARE", 4 if runs == 2 else 0)
        patch.setattr(spill.RunPlan, "capacity", lambda plan, extras: capacity)
        patch.setattr(spill, "_PART_ROWS", 4)
        patch.setattr(spill, "_MIN_ROWS", 4)
        patch.setattr(files, "fsync", lambda path: None)
        folder = tmp_path_factory.mktemp("state") / "state"
        state = quietly(cl.termina.State.build, shaped(first, case.form), folder, threads=case.threads, **told)
        for part in others:
            quietly(state.update, shaped(part, case.form), threads=case.threads)
    assert whole(state) == quietly(cl.termina.sums, case.frame, **told)
    assert_frame_equal(quietly(state.cohorts, **edges), table, check_exact=True)
    # And the folder is the prepared form of all rows.
    assert_frame_equal(quietly(cl.termina.cohorts, state.folder, **told, **edges), table, check_exact=True)


@pytest.mark.parametrize("refunds", ["net", "signed", "drop"])
@pytest.mark.parametrize(
    "new",
    [
        [("ann", date(2026, 4, 9), 20)],  # in the last period
        [("ann", date(2026, 6, 9), 20), ("dan", date(2026, 5, 1), 7)],  # later; a new user
        [("ann", date(2026, 3, 9), 20)],  # late, between the periods of the user
        [("ann", date(2025, 12, 9), 20)],  # so late that the user's cohort is another
        [("ann", date(2026, 2, 9), -100)],  # the first payment is taken back
        [("bob", date(2026, 3, 25), -50)],  # the only one is: no cohort is left
        [("bob", date(2026, 3, 25), -50), ("bob", date(2026, 3, 26), 1)],
        [("cat", date(2026, 3, 9), 20)],  # who had never been active
        [("cat", date(2026, 3, 9), 5)],  # nor is now
        [("ann", date(2026, 4, 9), -80), ("ann", date(2026, 4, 9), -80)],
        [("bob", date(2026, 9, 1), -1)],  # nothing, but the right edge moves
        [],
    ],
)
def test_what_rows_change(tmp_path, refunds, new):
    state = cl.termina.State.build(HISTORY, tmp_path / "other", refunds=refunds)
    state.update(rows(*new))
    together = pl.concat([HISTORY, rows(*new)])
    assert whole(state) == cl.termina.sums(together, refunds=refunds)
    # A second time: what was written is what the next one builds on.
    state.update(rows(*new))
    assert whole(state) == cl.termina.sums(pl.concat([together, rows(*new)]), refunds=refunds)


def test_only_late_users_are_worked_out_anew(state, monkeypatch):
    """Of the others no row is read again."""
    loaded = []
    read_history = standing.read_history

    def noticed(store, users, slices):
        loaded.append(users.height)
        return read_history(store, users, slices)

    monkeypatch.setattr(standing, "read_history", noticed)
    monkeypatch.setattr(of_states, "_SHARE", 0)  # nor are the runs brought together
    state.update(rows(("ann", date(2026, 4, 9), 20), ("bob", date(2026, 7, 1), 3), ("dan", date(2020, 1, 1), 7)))
    assert not loaded
    state.update(rows(("ann", date(2026, 3, 9), 20)))
    assert loaded


def test_compacted(state):
    for day in range(1, 6):
        state.update(rows(("ann", date(2026, 5, day), 1), ("eve", date(2026, 5, day), 1)))
    before = whole(state)
    state.compact()
    assert whole(state) == before
    assert len(files_of(state)) == 4
    state.update(rows(("ann", date(2026, 5, 9), 1)))
    expected = pl.concat([HISTORY, *(rows((u, date(2026, 5, d), 1)) for d in range(1, 6) for u in ("ann", "eve"))])
    assert whole(state) == cl.termina.sums(pl.concat([expected, rows(("ann", date(2026, 5, 9), 1))]))


def test_opened_again(state):
    again = cl.termina.State.open(str(state.folder))
    again.update(rows(("ann", date(2026, 5, 1), 1)))
    assert again.sums() == state.sums()
    assert_frame_equal(state.cohorts(end="2026-03"), cl.termina.cohorts(HISTORY, end="2026-03"))


def test_settings_are_kept(tmp_path):
    settings = {"freq": "W", "week_start": "sunday", "timezone": "Asia/Tokyo", "refunds": "signed", "decimals": 2}
    names = {"user": "who", "timestamp": "at", "amount": "money"}
    frame = HISTORY.select(
        who="user_id", at=pl.col("timestamp").cast(pl.Datetime("us")).dt.replace_time_zone("UTC"), money="amount"
    )
    state = cl.termina.State.build(frame.head(2), tmp_path / "state", **settings, **names)
    cl.termina.State.open(tmp_path / "state").update(frame.tail(2))
    assert whole(state) == cl.termina.sums(frame, **settings, **names)


@pytest.mark.parametrize(
    ("new", "error", "words"),
    [
        (rows((1, date(2026, 5, 1), 1), users=pl.Int64), SchemaError, "is Int64. Expected users as in the history"),
        (rows(("ann", None, 1)), DataError, "nulls"),
        (HISTORY.drop("amount"), SchemaError, "column 'amount' is not in the table"),
        (rows(("ann", date(2026, 5, 1), 9_223_372_036_854)), DataError, "range of 64-bit integers with decimals=6"),
        ("nowhere.parquet", SourceError, "there is no file"),
    ],
)
def test_what_cannot_be_added_changes_nothing(state, new, error, words):
    before = (state.folder / "cohortlib.json").read_bytes()
    with pytest.raises(error, match=words):
        state.update(new)
    assert (state.folder / "cohortlib.json").read_bytes() == before
    assert whole(state) == cl.termina.sums(HISTORY)


def test_rows_dropped_still_have_a_day(tmp_path):
    state = cl.termina.State.build(HISTORY, tmp_path / "state", nulls="drop")
    with pytest.warns(CohortlibWarning, match="1 of 1 rows of the table dropped"):
        state.update(rows((None, date(2026, 8, 1), 1)))
    with pytest.warns(CohortlibWarning, match="1 of 5 rows"):
        expected = cl.termina.cohorts(pl.concat([HISTORY, rows((None, date(2026, 8, 1), 1))]), nulls="drop")
    assert_frame_equal(state.cohorts(), expected)


def test_begin_with_nothing(tmp_path):
    state = cl.termina.State.build(HISTORY.clear(), tmp_path / "state")
    assert state.cohorts().is_empty()
    state.update(HISTORY)
    assert whole(state) == cl.termina.sums(HISTORY)
    state.update(HISTORY.clear())
    assert whole(state) == cl.termina.sums(HISTORY)


def test_large_numbers_as_users(tmp_path):
    far = rows((2**63 + 5, date(2026, 1, 1), 5), (7, date(2026, 1, 2), 5), users=pl.UInt64)
    state = cl.termina.State.build(far, tmp_path / "state")
    state.update(rows((7, date(2026, 2, 2), 5), users=pl.Int16))
    assert whole(state) == cl.termina.sums(pl.concat([far, rows((7, date(2026, 2, 2), 5), users=pl.UInt64)]))


def test_one_writer_at_a_time(state):
    with files.locked(state.folder), pytest.raises(CohortlibError, match="another process"):
        state.update(HISTORY)


def test_litter_of_the_killed_goes(state):
    for name in ("0123abcd-0001.rows.parquet", "0123abcd-0001.users.parquet", "sums-0123abcd.parquet"):
        (state.folder / name).write_bytes(b"half")
    (state.folder / "notes.txt").write_text("mine")
    state.update(rows(("ann", date(2026, 5, 1), 1)))
    assert {file.name for file in state.folder.iterdir()} == files_of(state) | {"notes.txt"}


def test_no_state(tmp_path, state):
    with pytest.raises(SourceError, match=r"has no cohortlib\.json"):
        cl.termina.State.open(tmp_path)
    cl.prepare(HISTORY, tmp_path / "prepared")
    with pytest.raises(SourceError, match="does not hold a state"):
        cl.termina.State.open(tmp_path / "prepared")
    with pytest.raises(SettingError, match="has files that cohortlib did not write"):
        cl.termina.State.build(HISTORY, tmp_path)
    manifest = state.folder / "cohortlib.json"
    manifest.write_text(manifest.read_text().replace('"version": 4', '"version": 99'))
    with pytest.raises(SourceError, match=r"version 99\. Expected 4"):
        cl.termina.State.open(state.folder)


def test_a_damaged_part_is_told(state):
    file = next(state.folder.glob("*.users.parquet"))
    file.write_bytes(file.read_bytes()[:-20])
    with pytest.raises(SourceError, match=rf"{file.name}' does not have the digest"):
        state.update(rows(("ann", date(2020, 1, 1), 1)))


def test_instants_are_cut_to_local_days(tmp_path):
    """23:30 UTC on the last of January is February in Berlin."""
    at = pl.Series("timestamp", [datetime(2026, 1, 31, 23, 30)]).dt.replace_time_zone("UTC")
    frame = pl.DataFrame({"user_id": ["ann"], "timestamp": at, "amount": [5.5]})
    state = cl.termina.State.build(frame.clear(), tmp_path / "state", timezone="Europe/Berlin")
    state.update(frame)
    assert state.cohorts()["cohort"].to_list() == ["2026-02"]
