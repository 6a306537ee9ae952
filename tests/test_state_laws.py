"""A state beside the judge: however the rows arrive, late ones too, it is the table of all that have arrived."""

import naive
import polars as pl
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from polars.testing import assert_frame_equal
from strategies import cases, exactly, quietly

import cohortlib as cl
from cohortlib.errors import CohortlibError
from cohortlib.transactions import state as states
from cohortlib.transactions.store import spill

pytestmark = pytest.mark.disk

EDGES = ("start", "end", "complete_only")


@pytest.fixture(autouse=True, scope="module")
def small_parts():
    """Let parts be cut at a few rows, so that users stand in many of them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(spill, "_MIN_ROWS", 3)
        patch.setattr(spill, "_PART_ROWS", 3)
        yield


def told(case):
    """Take apart what a state is built with, and what its table is asked."""
    settings = {name: value for name, value in case.settings.items() if name not in (*EDGES, "before_joined")}
    return settings | case.names, {name: case.settings[name] for name in EDGES if name in case.settings}


def arrivals(case, data):
    """Cut the rows into a history and updates, in any order."""
    order = data.draw(st.permutations(range(case.frame.height)))
    cuts = sorted(data.draw(st.lists(st.integers(0, case.frame.height), min_size=1, max_size=4)))
    return [order[a:b] for a, b in zip([0, *cuts], [*cuts, case.frame.height], strict=True)]


@given(data=st.data(), case=cases(joined=("none",)), most=st.sampled_from((1, 2, 6)))
def test_rows_arrive_in_any_order(data, case, most, tmp_path_factory):
    """Build, update again and again, now and then bring together; each time it is the judge's table."""
    built, edges = told(case)
    history, *updates = arrivals(case, data)
    folder = tmp_path_factory.mktemp("state") / "state"
    so_far = list(history)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(states, "_RUNS", most)
        try:
            naive.cohorts([case.rows[at] for at in so_far], **case.settings)
        except naive.Refused:
            with pytest.raises(CohortlibError):
                quietly(cl.termina.State.build, case.frame[so_far], folder, **built)
            return
        quietly(cl.termina.State.build, case.frame[so_far], folder, **built)
        for update in updates:
            before = cl.termina.State.open(folder).sums()
            try:
                expected = naive.cohorts([case.rows[at] for at in [*so_far, *update]], **case.settings)
            except naive.Refused:
                with pytest.raises(CohortlibError):
                    quietly(cl.termina.State.open(folder).update, case.frame[list(update)])
                assert cl.termina.State.open(folder).sums() == before
                return
            so_far += update
            state = cl.termina.State.open(folder)
            quietly(state.update, case.frame[list(update)], threads=case.threads)
            table = quietly(state.cohorts, **edges)
            assert [[exactly(cell) for cell in row] for row in table.rows()] == [
                [exactly(row[name]) for name in table.columns] for row in expected
            ]
            assert state.sums() == quietly(cl.termina.sums, case.frame[so_far], **built)


@given(data=st.data(), case=cases(joined=("none",), poison=False))
def test_it_is_the_prepared_form(data, case, tmp_path_factory):
    """Another question of a state's folder counts the rows of all updates."""
    built, edges = told(case)
    history, *updates = arrivals(case, data)
    folder = tmp_path_factory.mktemp("state") / "state"
    try:
        expected = [case.ask("cohorts"), case.ask("customer_cohorts")]
        quietly(cl.termina.State.build, case.frame[list(history)], folder, **built)
    except cl.errors.DataError:
        assume(False)
    for update in updates:
        cl.termina.State.open(folder).update(case.frame[list(update)])
    for table, want in zip(("cohorts", "customer_cohorts"), expected, strict=True):
        assert_frame_equal(quietly(getattr(cl.termina, table), folder, **built, **edges), want, check_exact=True)


def test_a_late_row_moves_all_of_its_user(tmp_path):
    rows = pl.DataFrame(
        {
            "user_id": ["a", "a", "b"],
            "timestamp": [naive.date(2026, 2, 1), naive.date(2026, 3, 1), naive.date(2026, 3, 1)],
            "amount": [5, 7, 11],
        }
    )
    late = pl.DataFrame({"user_id": ["a"], "timestamp": [naive.date(2026, 1, 1)], "amount": [3]})
    state = cl.termina.State.build(rows, tmp_path / "state")
    assert state.cohorts()["cohort"].unique(maintain_order=True).to_list() == ["2026-02", "2026-03"]
    state.update(late)
    assert state.cohorts().select("cohort", "period", "active_users", "amount").rows() == [
        ("2026-01", 0, 1, 3.0),
        ("2026-01", 1, 1, 5.0),
        ("2026-01", 2, 1, 7.0),
        ("2026-03", 0, 1, 11.0),
    ]
