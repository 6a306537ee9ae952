"""Sums as a value: what they give, how they add, how they are kept, and what they refuse."""

import json
from datetime import date, timedelta

import polars as pl
import pytest
from hypothesis import assume, given
from polars.testing import assert_frame_equal
from strategies import cases, quietly

import cohortlib as cl
from cohortlib.errors import CohortlibWarning, DataError, SettingError, SourceError

pytestmark = pytest.mark.unit


def rows(*told):
    return pl.DataFrame(told, schema={"user_id": pl.String, "timestamp": pl.Date, "amount": pl.Int64}, orient="row")


ANN = rows(("ann", date(2026, 1, 5), 100), ("ann", date(2026, 3, 3), 80))
BOB = rows(("bob", date(2026, 1, 20), 50), ("bob", date(2026, 4, 9), -5))
BOTH = pl.concat([ANN, BOB])


@pytest.mark.parametrize("freq", ["D", "W", "M", "Q", "A"])
@pytest.mark.parametrize("refunds", ["net", "signed", "drop"])
def test_parts_add_to_the_whole(freq, refunds):
    one, other = (cl.termina.sums(part, freq=freq, refunds=refunds) for part in (ANN, BOB))
    whole = cl.termina.sums(BOTH, freq=freq, refunds=refunds)
    assert one + other == whole == other + one
    assert sum([one, other]) == whole
    assert_frame_equal((one + other).cohorts(), cl.termina.cohorts(BOTH, freq=freq, refunds=refunds))


@pytest.mark.parametrize(
    "edges",
    [
        {"start": "2026-02"},
        {"end": "2026-02"},
        {"end": "2026-12"},
        {"end": "2025-12"},
        {"start": "2027-01", "end": "2027-02"},
        {"complete_only": True},
        {"start": "2026-01", "end": "2026-03", "complete_only": True},
    ],
)
def test_edges_are_asked_of_the_sum(edges):
    """The right edge comes from the rows of all parts, not of each."""
    both = cl.termina.sums(ANN) + cl.termina.sums(BOB)
    assert_frame_equal(both.cohorts(**edges), cl.termina.cohorts(BOTH, **edges))


@given(cases(joined=("none", "column")))
def test_any_cut_of_users_adds(case):
    """Whatever the settings, and whoever is in which part."""
    told = {**case.names, **case.settings, "joined": case.joined_as}
    edges = {name: told.pop(name) for name in ("start", "end", "complete_only") if name in told}
    try:
        whole = case.ask("cohorts")
    except cl.errors.DataError:
        assume(False)
    user = case.frame[case.names.get("user", "user_id")].cast(pl.String).alias("")
    other = (user.hash() % 2 == 1).fill_null(value=False)
    parts = [quietly(cl.termina.sums, case.frame.filter(mask), **told) for mask in (other, ~other)]
    assert_frame_equal(quietly(sum(parts).cohorts, **edges), whole, check_exact=True)


@pytest.mark.parametrize("before_joined", ["clip", "drop"])
def test_users_may_join_after_the_rows_of_their_part(before_joined):
    """Bob's part ends before he joined; the rows of the other part say that his cohort is to be shown."""
    ann = rows(("ann", date(2026, 1, 5), 100), ("ann", date(2026, 5, 3), 80))
    bob = rows(("bob", date(2026, 1, 20), 50))
    days = {"ann": date(2026, 1, 1), "bob": date(2026, 4, 1), "cat": date(2026, 3, 1)}
    joined = pl.DataFrame({"user_id": days.keys(), "joined": days.values()})

    def sums(frame, *names):
        theirs = joined.filter(pl.col("user_id").is_in(names))
        return quietly(cl.termina.sums, frame, joined=theirs, before_joined=before_joined)

    whole = quietly(cl.termina.cohorts, pl.concat([ann, bob]), joined=joined, before_joined=before_joined)
    assert whole["cohort"].unique().sort().to_list() == ["2026-01", "2026-03", "2026-04"]
    parts = [sums(ann, "ann"), sums(bob, "bob"), sums(ann.clear(), "cat")]
    assert_frame_equal(sum(parts).cohorts(), whole)


def test_who_joins_after_the_last_row_is_left_out_with_a_warning():
    joined = pl.DataFrame({"user_id": ["ann", "bob"], "joined": [date(2026, 1, 1), date(2027, 1, 1)]})
    sums = cl.termina.sums(ANN, joined=joined)
    with pytest.warns(CohortlibWarning, match="1 users in joined have a date after the last period"):
        table = sums.cohorts()
    with pytest.warns(CohortlibWarning, match="after the last period"):
        assert_frame_equal(table, cl.termina.cohorts(ANN, joined=joined))


def test_no_rows():
    nothing = cl.termina.sums(ANN.clear())
    assert_frame_equal(nothing.cohorts(), cl.termina.cohorts(ANN.clear()))
    assert nothing + cl.termina.sums(ANN) == cl.termina.sums(ANN)


def test_kept_in_a_file(tmp_path):
    sums = cl.termina.sums(BOTH, freq="W", week_start="sunday", timezone="Asia/Tokyo", refunds="signed", decimals=2)
    sums.save(tmp_path / "sums.parquet")
    again = cl.termina.Sums.load(tmp_path / "sums.parquet")
    assert again == sums
    assert again.settings == sums.settings
    assert_frame_equal(again.cohorts(), sums.cohorts())
    assert [file.name for file in tmp_path.iterdir()] == ["sums.parquet"]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("freq", "W"),
        ("timezone", "Europe/Berlin"),
        ("week_start", "sunday"),
        ("refunds", "drop"),
        ("decimals", 2),
        ("joined", BOB.select("user_id", joined="timestamp").head(1)),
    ],
)
def test_what_does_not_fit_is_refused(name, value):
    one, other = cl.termina.sums(ANN), cl.termina.sums(BOB, **{name: value})
    with pytest.raises(SettingError, match=rf"sums with {name}=.* do not add. Expected equal settings in both"):
        one + other
    with pytest.raises(TypeError):
        one + 1
    assert one != other


def test_sums_do_not_wrap():
    """Each part fits 64 bits, both together do not."""
    far = [rows((name, date(2026, 1, 1), 7 * 10**12)) for name in "ab"]
    with pytest.raises(DataError, match="range of 64-bit integers with decimals=6"):
        cl.termina.sums(far[0]) + cl.termina.sums(far[1])
    with pytest.raises(DataError, match="range of 64-bit"):
        cl.termina.sums(pl.concat(far))


def test_files_that_hold_no_sums(tmp_path):
    file = tmp_path / "some.parquet"
    with pytest.raises(SourceError, match=r"some\.parquet. cannot be read"):
        cl.termina.Sums.load(file)
    file.write_bytes(b"no Parquet")
    with pytest.raises(SourceError, match=r"some\.parquet. cannot be read"):
        cl.termina.Sums.load(file)
    ANN.write_parquet(file)
    with pytest.raises(SourceError, match="does not hold sums"):
        cl.termina.Sums.load(file)
    sums = cl.termina.sums(ANN)
    sums.table.write_parquet(file, metadata={"cohortlib.sums": json.dumps({"version": 99})})
    with pytest.raises(SourceError, match=r"version 99\. Expected 2"):
        cl.termina.Sums.load(file)


def test_what_it_shows():
    assert repr(cl.termina.sums(BOTH)) == (
        "Sums(freq='M', timezone='UTC', week_start='monday', refunds='net', decimals=6, joined='no'; "
        "2 users in 1 cohorts)"
    )


def test_nothing_else_counts():
    """The days of rows that add nothing still move the right edge."""
    later = rows(("cat", date(2026, 6, 1) + timedelta(days=3), -1))
    sums = cl.termina.sums(ANN) + cl.termina.sums(later)
    assert sums.cohorts()["period"].max() == 5
