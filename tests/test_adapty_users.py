"""The users behind a cell: their counts and money are the cell's."""

import pickle
from datetime import date

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies_adapty import cases
from test_adapty_by import LISTED, REQUEST, USERS, names_of
from test_adapty_laws import PLAIN, units
from test_adapty_spilling import little_memory

import cohortlib as cl
from cohortlib.errors import DataError, SettingError

pytestmark = pytest.mark.unit

few = settings(max_examples=max(5, settings().max_examples // 3))
MOST = 60 if settings().max_examples < 50 else 10**6  # cells of an answer, each of which is computed anew


def check(answer, case):
    """Compare every cell of an answer with its users; in the tests of the README, those of segments that are small."""
    left = MOST
    ready = not isinstance(case.installs_as, str) and "installs" in case.installs_as.columns
    by_segment = answer.values.partition_by("segment_start_date", "type", maintain_order=True)
    for start, cells in zip([None, *answer.segments["segment_start_date"][1:]], by_segment, strict=False):
        if cells.height > left:
            continue
        money, left = 0, left - cells.height
        for cell in cells.iter_rows(named=True):
            users = answer.users(segment_start_date=start, period=cell["period"])
            assert users["user_id"].is_unique().all()
            assert ready or users["installed"].sum() == cell["installs"]
            for name in ("subscriber", "subscriptions"):
                assert users[name].sum() == cell[name + "s" * (name == "subscriber")]
            for name in ("revenue_usd", "proceeds_usd", "net_revenue_usd"):
                assert sum(units(each, case) for each in users[name]) == units(cell[name], case)
            per_period = answer.request.period_type == "renewals"
            revenue = sum(units(each, case) for each in users["revenue_usd"])
            money = money + revenue if per_period else revenue
            payers, scale = users["payer"].sum(), 10 ** case.settings.get("decimals", 6)
            assert cell["arppu_usd"] == (money / (payers * scale) if payers else 0)
            if case.conventions.get("averages") != "per_period":
                activated = users["activated"].sum()
                assert cell["arpas_usd"] == (money / (activated * scale) if activated else 0)
            assert users.sort("revenue_usd", "user_id", descending=[True, False]).equals(users)


@few
@given(st.data(), cases(poison=False, money=PLAIN))
def test_counts_of_all_cells(drawn, case):
    check(case.ask(case.frame), case)
    by, value = None, None
    if names := names_of(case):
        by = drawn.draw(st.sampled_from(names))
        answers = case.ask(case.frame, by=by)
        if answers:
            value = drawn.draw(st.sampled_from(list(answers)))
            check(answers[value], case)
    answers = case.ask(case.frame, by=by)
    with little_memory(5):
        spilled = case.ask(case.frame.lazy(), by=by, max_memory=1)
        answer, spilled = (answers, spilled) if by is None else (answers.get(value), spilled.get(value))
        for period in spilled.values["period"].unique() if spilled else ():
            assert spilled.users(period=period).equals(answer.users(period=period))


def test_one_cell():
    answer = cl.adapty.cohort(USERS, REQUEST, installs=LISTED)
    found = answer.users(segment_start_date="2026-02-01", period=1)
    assert found.select("user_id", "installed", "payer", "payments", "revenue_usd").rows() == [
        ("u1", True, True, 2, 30.0),
        ("u2", True, True, 1, 5.0),
        ("u3", True, True, 1, 1.0),
        ("u4", True, False, 0, 0.0),
    ]  # fmt: skip
    assert found["install_date"].to_list() == [date(2026, 2, 1)] * 4
    assert answer.users(period=1).equals(found)
    assert answer.users(segment_start_date=date(2026, 2, 1), period=1).equals(found)
    assert found.schema["user_id"] == pl.String
    numbered = [
        each.with_columns(profile_id=pl.col("profile_id").str.slice(1).cast(pl.Int32)) for each in (USERS, LISTED)
    ]
    users = cl.adapty.cohort(numbered[0], REQUEST, installs=numbered[1]).users(period=1)
    assert users["user_id"].to_list() == [1, 2, 3, 4]


def test_errors(tmp_path):
    path = tmp_path / "events.parquet"
    USERS.write_parquet(path)
    answer = cl.adapty.cohort(path, REQUEST, installs=LISTED)
    with pytest.raises(SettingError, match="segment_start_date='2026-02' is not a segment of the answer"):
        answer.users(segment_start_date="2026-02", period=1)
    for period in (2, "1", True):
        with pytest.raises(SettingError, match=r"is not a period of the answer\. Expected one of 1"):
            answer.users(period=period)
    for other in (pickle.loads(pickle.dumps(answer)), cl.adapty.sums(USERS, REQUEST, installs=LISTED).answer()):  # noqa: S301
        with pytest.raises(SettingError, match="this answer has no users"):
            other.users(period=1)
    USERS[:3].write_parquet(path)
    with pytest.raises(DataError, match="the events have 3 rows now, and had 4 when the answer was computed"):
        answer.users(period=1)


def test_users_without_events_in_other_parts():
    """Users who only have an install may be in a part without any event."""
    for by in (None, "paywall_name"):
        answers = cl.adapty.cohort(USERS[:2], REQUEST, installs=LISTED, by=by)
        with little_memory(5):
            spilled = cl.adapty.cohort(USERS[:2].lazy(), REQUEST, installs=LISTED, by=by, max_memory=1)
            answer, spilled = (answers, spilled) if by is None else (answers["x"], spilled["x"])
            assert spilled.users(period=1)["user_id"].to_list() == ["u1", "u2", "u3", "u4"]
            assert spilled.users(period=1).equals(answer.users(period=1))
