"""Adapty's cohort table: the worked example, the judge's opinion of drawn exports, rules one by one."""

import json
from datetime import UTC, date, datetime
from decimal import Decimal

import naive
import naive_adapty
import polars as pl
import pytest
from hypothesis import event, given
from strategies import exactly, quietly
from strategies_adapty import assert_same, cases

import cohortlib as cl

pytestmark = pytest.mark.unit

MONEYS = naive_adapty.MONEYS
AVERAGES = tuple(f"{name}_usd" for names in naive_adapty.AVERAGES for name in names)
RELATIVE = tuple(f"{name}_relative" for name in ("revenue", "proceeds", "net_revenue", "subscriptions", "subscribers"))


def happened(user, name, at, revenue=0.0, transaction=None, chain=None, **more):
    """Make an event of the export; proceeds and net revenue are 0.7 of the revenue."""
    share = None if revenue is None else round(revenue * 0.7, 6)
    return {
        "profile_id": user,
        "event_type": name,
        "event_datetime": date.fromisoformat(at) if isinstance(at, str) else at,
        "transaction_id": transaction,
        "original_transaction_id": chain,
        "environment": "Production",
        "product_id": "monthly",
        "revenue_usd": revenue,
        "proceeds_usd": share,
        "net_revenue_usd": share,
        **more,
    }


def came(**days):
    """Make an installs table of users and their days."""
    return [{"profile_id": user, "install_date": date.fromisoformat(day)} for user, day in days.items()]


def framed(rows):
    """Make a frame of dicts that need not have the same keys."""
    return pl.DataFrame(rows, infer_schema_length=None) if rows else rows


def asking(events, request, installs, **options):
    """Ask judge and engine, check that they agree, and return the response and the report."""
    conventions = {name: options.pop(name) for name in tuple(options) if name not in ("timezone", "nulls", "decimals")}
    names = dict.fromkeys(name for row in events for name in row)
    events = [dict.fromkeys(names) | row for row in events]
    expected, report = naive_adapty.cohort(events, request, installs=installs, **conventions, **options)
    answer = quietly(
        cl.adapty.cohort,
        framed(events),
        request,
        installs=installs if isinstance(installs, str) else framed(installs),
        conventions=cl.adapty.Conventions(**conventions),
        **options,
    )
    assert_same(answer.to_dict(), expected)
    assert {name: answer.report.get(name) for name in report} == report
    return expected["data"], report


def column(segment, name):
    """Read one field down the values of a segment."""
    return [value[name] for value in segment["values"]]


# --- the worked example of the semantics page --------------------------------------------------------------

EXAMPLE = [
    happened("u1", "trial_started", "2026-02-03", 0.0, "a0", "A"),
    happened("u1", "trial_converted", "2026-02-10", 10.0, "a1", "A"),
    happened("u1", "subscription_renewed", "2026-03-10", 10.0, "a2", "A"),
    happened("u1", "subscription_renewed", "2026-04-10", 10.0, "a3", "A"),
    happened("u1", "subscription_refunded", "2026-03-20", 10.0, "a2", "A"),
    happened("u2", "subscription_started", "2026-02-10", 10.0, "b1", "B"),
    happened("u2", "subscription_refunded", "2026-04-05", 10.0, "b1", "B"),
    happened("u4", "subscription_started", "2026-03-05", 60.0, "c1", "C"),
    happened("u4", "non_subscription_purchase", "2026-03-06", 5.0, "d1", "D"),
]
INSTALLS = came(u1="2026-02-03", u2="2026-02-10", u3="2026-02-25", u4="2026-03-02")
HALF_YEAR = {"filters": {"date": ["2026-02-01", "2026-06-30"]}}
RENEWALS = {**HALF_YEAR, "period_type": "renewals"}
DAYS = {**HALF_YEAR, "period_type": "days", "renewal_days": [0, 7, 31, 61]}


def cells(period, installs, money, averages, counts, relative, active):
    """Write a cell: money and averages for revenue (proceeds and net are 0.7 of it), subscriptions and subscribers."""
    shares = list(money) + [units * 7 / 10 for units in money] * 2
    assert len(shares) == 3
    names = [[f"{name}_usd" for name in names] for names in naive_adapty.AVERAGES]
    found = {}
    for trio, (over, under) in zip(names, averages, strict=True):
        divided = over / under if under else 0.0
        less = over * 7 / (under * 10) if under else 0.0
        found |= dict(zip(trio, (divided, less, less), strict=True))
    return {
        "period": period,
        "installs": installs,
        **dict(zip(MONEYS, shares, strict=True)),
        **found,
        "subscriptions": counts[0],
        "subscribers": counts[1],
        **dict(zip(RELATIVE, (relative[0], *[relative[0]] * 2, relative[1], relative[2]), strict=True)),
        "currently_active_period": active,
    }


def whole(start, title, installs, subscriptions, subscribers, revenue, averages, values):
    """Write a segment."""
    sums = cells(0, installs, [revenue], averages, (0, 0), (0.0, 0.0, 0.0), False)
    return {
        "segment_start_date": start,
        "type": "total" if title == "Total" else "single",
        "title": title,
        "total_installs": installs,
        "total_subscriptions": subscriptions,
        "total_paid_subscribers": subscribers,
        **{f"total_{name}": sums[name] for name in (*MONEYS, *AVERAGES)},
        "predict": None,
        "values": values,
    }


NOTHING = [(0.0, 0), (0.0, 0), (0.0, 0)]
# Averages are (money, installs), (money, payers without a refund), (money, activated).
EXPECTED_RENEWALS = [
    whole("2026-02-01", "Total", 4, 4, 3, 85.0, [(85, 4), (85, 1), (85, 3)], [
        cells(1, 4, [75.0], [(75, 4), (75, 2), (75, 3)], (4, 3), (100.0, 100.0, 100.0), False),
        cells(2, 4, [0.0], [(75, 4), (75, 1), (75, 3)], (1, 1), (0.0, 25.0, 100 / 3), False),
        cells(3, 4, [10.0], [(85, 4), (85, 1), (85, 3)], (1, 1), (1000 / 75, 25.0, 100 / 3), False),
    ]),
    whole("2026-02-01", "2026-02-01", 3, 2, 2, 20.0, [(20, 3), (0, 0), (20, 2)], [
        cells(1, 3, [10.0], [(10, 3), (10, 1), (10, 2)], (2, 2), (100.0, 100.0, 100.0), False),
        cells(2, 3, [0.0], [(10, 3), (0, 0), (10, 2)], (1, 1), (0.0, 50.0, 50.0), False),
        cells(3, 3, [10.0], [(20, 3), (0, 0), (20, 2)], (1, 1), (100.0, 50.0, 50.0), False),
    ]),
    whole("2026-03-01", "2026-03-01", 1, 2, 1, 65.0, [(65, 1), (65, 1), (65, 1)], [
        cells(1, 1, [65.0], [(65, 1), (65, 1), (65, 1)], (2, 1), (100.0, 100.0, 100.0), False),
        cells(2, 1, [0.0], [(65, 1), (65, 1), (65, 1)], (0, 0), (0.0, 0.0, 0.0), False),
        cells(3, 1, [0.0], [(65, 1), (65, 1), (65, 1)], (0, 0), (0.0, 0.0, 0.0), False),
    ]),
    *[
        whole(start, start, 0, 0, 0, 0.0, NOTHING,
              [cells(p, 0, [0.0], NOTHING, (0, 0), (0.0, 0.0, 0.0), False) for p in (1, 2, 3)])
        for start in ("2026-04-01", "2026-05-01", "2026-06-01")
    ],
]  # fmt: skip
EXPECTED_DAYS = [
    whole("2026-02-01", "Total", 4, 2, 1, 85.0, [(85, 4), (85, 1), (85, 3)], [
        cells(0, 4, [10.0], [(10, 4), (10, 1), (10, 2)], (1, 1), (100.0, 100.0, 100.0), True),
        cells(7, 4, [85.0], [(85, 4), (85, 3), (85, 3)], (4, 3), (850.0, 400.0, 300.0), True),
        cells(31, 4, [85.0], [(85, 4), (85, 3), (85, 3)], (4, 3), (850.0, 400.0, 300.0), True),
        cells(61, 4, [75.0], [(75, 4), (75, 1), (75, 3)], (2, 1), (750.0, 200.0, 100.0), True),
    ]),
    whole("2026-02-01", "2026-02-01", 3, 0, 0, 20.0, [(20, 3), (0, 0), (20, 2)], [
        cells(0, 3, [10.0], [(10, 3), (10, 1), (10, 2)], (1, 1), (100.0, 100.0, 100.0), False),
        cells(7, 3, [20.0], [(20, 3), (20, 2), (20, 2)], (2, 2), (200.0, 200.0, 200.0), False),
        cells(31, 3, [20.0], [(20, 3), (20, 2), (20, 2)], (2, 2), (200.0, 200.0, 200.0), False),
        cells(61, 3, [10.0], [(10, 3), (0, 0), (10, 2)], (0, 0), (100.0, 0.0, 0.0), False),
    ]),
    whole("2026-03-01", "2026-03-01", 1, 2, 1, 65.0, [(65, 1), (65, 1), (65, 1)], [
        cells(0, 1, [0.0], [(0, 1), (0, 0), (0, 0)], (0, 0), (0.0, 0.0, 0.0), False),
        *[cells(d, 1, [65.0], [(65, 1), (65, 1), (65, 1)], (2, 1), (0.0, 0.0, 0.0), False) for d in (7, 31, 61)],
    ]),
    *[
        whole(start, start, 0, 0, 0, 0.0, NOTHING,
              [cells(d, 0, [0.0], NOTHING, (0, 0), (0.0, 0.0, 0.0), d >= open_from) for d in (0, 7, 31, 61)])
        for start, open_from in (("2026-04-01", 61), ("2026-05-01", 31), ("2026-06-01", 0))
    ],
]  # fmt: skip
WORKED = pytest.mark.parametrize(
    ("request_", "expected"), [(RENEWALS, EXPECTED_RENEWALS), (DAYS, EXPECTED_DAYS)], ids=["renewals", "days"]
)


@WORKED
def test_worked_example_by_the_judge(request_, expected):
    found, report = naive_adapty.cohort(EXAMPLE, request_, installs=INSTALLS)
    assert_same(found, {"data": expected})
    assert report == dict.fromkeys(naive_adapty.REPORT, 0) | {"rows": 9}


@WORKED
def test_worked_example(request_, expected):
    answer = cl.adapty.cohort(framed(EXAMPLE), request_, installs=framed(INSTALLS))
    assert_same(answer.to_dict(), {"data": expected})
    assert list(answer.to_dict()["data"][0]) == list(expected[0])
    assert {*answer.to_dict()["data"][0]["values"][0]} == {*expected[0]["values"][0]}
    assert {name for name, count in answer.report.items() if count} == {"rows"}
    assert json.loads(answer.to_json()) == answer.to_dict()


# --- engine and judge --------------------------------------------------------------------------------------


def same_opinion(case):
    """Check that the engine gives the judge's very response and report, or refuses where the judge does."""
    try:
        expected, report = case.judge()
    except naive.Refused as refusal:
        event(f"refused: {refusal}")
        with pytest.raises(cl.errors.DataError):
            case.ask()
        return
    total = expected["data"][0]
    event("money" if total["total_revenue_usd"] else "no money")
    event("filters" if len(case.request["filters"]) > 1 else "no filters")
    answer = case.ask()
    assert_same(answer.to_dict(), expected)
    assert {name: answer.report.get(name) for name in report} == report


@given(cases())
def test_answers_are_the_judges(case):
    same_opinion(case)


@given(cases(installs=("from_events",)))
def test_answers_from_events_alone_are_the_judges(case):
    same_opinion(case)


@given(cases(poison=False))
def test_frames_hold_what_the_response_holds(case):
    answer = case.ask()
    data = answer.to_dict()["data"]
    segments = answer.segments.to_dicts()
    assert len(segments) == len(data)
    for row, segment in zip(segments, data, strict=True):
        for name in set(row) & set(segment) - {"segment_start_date", "values", "predict"}:
            assert exactly(row[name]) == exactly(segment[name])
        assert str(row["segment_start_date"]) == segment["segment_start_date"]
    values = [value for segment in data for value in segment["values"]]
    assert answer.values.height == len(values)
    for row, value in zip(answer.values.to_dicts(), values, strict=True):
        assert set(value) <= set(row)
        assert_same({name: row[name] for name in value}, value)


# --- rules one by one, where a failure should say its own name ---------------------------------------------

YEAR = {"filters": {"date": ["2026-01-01", "2026-12-31"]}, "period_unit": "year"}
ONE = came(u="2026-01-01")


def year(events, installs=ONE, *, filters=None, days=None, **options):
    """Ask about the year 2026 in one segment; return that segment and the report."""
    request = {**YEAR, "filters": {**YEAR["filters"], **(filters or {})}}
    if days is not None:
        request |= {"period_type": "days", "renewal_days": days}
    data, report = asking(events, request, installs, **options)
    assert len(data) == 2
    return data[1], report


def paid(at, revenue=10.0, transaction=None, chain="C", user="u", name="subscription_renewed", **more):
    return happened(user, name, at, revenue, transaction, chain, **more)


def refund(at, revenue=10.0, transaction=None, chain="C", user="u", **more):
    return happened(user, "subscription_refunded", at, revenue, transaction, chain, **more)


def test_a_gap_does_not_restart_the_count():
    found, _ = year([paid("2026-01-01", 1.0, "1"), paid("2026-02-01", 2.0, "2"), paid("2026-11-01", 4.0, "3")])
    assert column(found, "revenue_usd") == [1.0, 2.0, 4.0]
    assert column(found, "period") == [1, 2, 3]


def test_the_last_column_is_the_largest_ordinal_of_any_segment():
    request = {"filters": {"date": ["2026-01-01", "2026-02-28"]}}
    events = [paid("2026-01-05", transaction="1"), paid("2026-02-05", transaction="2")]
    events.append(paid("2026-02-06", transaction="3", user="v"))
    data, _ = asking(events, request, came(u="2026-01-01", v="2026-02-01"))
    assert [column(segment, "subscribers") for segment in data] == [[2, 1], [1, 1], [1, 0]]


def test_no_payment_no_columns():
    data, _ = asking([happened("u", "trial_started", "2026-01-02", None, "1", "C")], YEAR, ONE)
    assert [segment["values"] for segment in data] == [[], []]
    assert data[0]["total_installs"] == 1


def test_a_one_time_purchase_is_of_the_first_period():
    once = [paid(f"2026-0{at}-01", 1.0, f"p{at}", "P", name="non_subscription_purchase") for at in (1, 2, 3)]
    found, _ = year([*once, paid("2026-04-01", 10.0, "1")])
    assert column(found, "revenue_usd") == [13.0]
    assert column(found, "subscriptions") == [4]
    assert column(found, "subscribers") == [1]


def test_a_trial_activates_and_is_no_column():
    found, _ = year([happened("v", "trial_started", "2026-01-02", None, "1", "T"), paid("2026-02-01", 9.0, "2")],
                    came(u="2026-01-01", v="2026-01-01"))  # fmt: skip
    assert column(found, "revenue_usd") == [9.0]
    assert (found["total_arpas_usd"], found["total_arppu_usd"]) == (4.5, 9.0)


def test_rows_after_to_are_not_there():
    rows = [paid("2026-01-05", 10.0, "1"), refund("2027-01-01", 10.0, "1"), paid("2027-01-01", 9.0, "2")]
    found, report = year(rows)
    assert column(found, "revenue_usd") == [10.0]
    assert found["total_arppu_usd"] == 10.0
    assert report["after_to"] == 2


@pytest.mark.parametrize("days", [None, [0, 6, 60]])
def test_payments_after_to_count_where_they_are_to(days):
    rows = [
        happened("u", "trial_started", "2026-12-30", None, "1", "A"),
        paid("2027-01-05", 10.0, "2", "A"),
        refund("2027-01-06", 10.0, "2", "A"),
        paid("2027-02-05", 9.0, "3", "A"),
        happened("v", "trial_started", "2027-01-02", None, "4", "B"),
    ]
    installs = came(u="2026-12-30", v="2026-12-31", w="2027-01-01")
    found, report = year(rows, installs, days=days, after_to="payments")
    assert column(found, "revenue_usd") == ([10.0, 9.0] if days is None else [0.0, 10.0, 19.0])
    assert [found[f"total_{name}"] for name in ("revenue_usd", "arppu_usd", "arpas_usd")] == [19.0, 19.0, 9.5]
    assert (found["total_installs"], report["after_to"]) == (2, 1)
    found, report = year(rows, installs, days=days, after_to="drop")
    assert (found["total_revenue_usd"], found["total_installs"], report["after_to"]) == (0.0, 2, 4)


def test_to_is_a_day_of_the_zone():
    at = datetime(2026, 12, 31, 23, 30, tzinfo=UTC)
    assert year([paid(at, 10.0, "1")])[0]["total_revenue_usd"] == 10.0
    found, report = year([paid(at, 10.0, "1")], timezone="Europe/Berlin")
    assert (found["total_revenue_usd"], report["after_to"]) == (0.0, 1)
    assert year([paid(at, 10.0, "1")], timezone="America/New_York")[0]["total_revenue_usd"] == 10.0


# Repeats.


def test_a_repeat_counts_once_by_transaction_and_type_or_by_event_id():
    rows = [
        paid("2026-01-05", 10.0, "1", profile_event_id="e1"),
        paid("2026-01-06", 10.0, "1", profile_event_id="e2"),  # the transaction again
        paid("2026-01-07", 10.0, "2", profile_event_id="e2"),  # the event of a row that was itself a repeat
        paid("2026-01-08", 10.0, "1", name="trial_converted", profile_event_id="e3"),  # another type
        paid("2026-01-09", 10.0, None, profile_event_id=None),
        paid("2026-01-09", 10.0, None, profile_event_id=None),  # nothing to know it by
    ]
    found, report = year(rows)
    assert column(found, "revenue_usd") == [10.0] * 4
    assert report["duplicates"] == 2


def test_a_repeat_is_one_users_own():
    found, report = year([paid("2026-01-05", 10.0, "1"), paid("2026-01-05", 10.0, "1", user="v")],
                         came(u="2026-01-01", v="2026-01-01"))  # fmt: skip
    assert (found["total_revenue_usd"], report["duplicates"], report["shared_chains"]) == (20.0, 0, 1)
    assert found["total_subscriptions"] == 2


def test_names_of_one_type_repeat_each_other():
    both = [
        paid("2026-01-05", 10.0, "1", name=name) for name in ("subscription_initial_purchase", "subscription_started")
    ]
    assert year(both)[1]["duplicates"] == 1


# Refunds.


def test_a_refund_is_negative_whatever_its_sign():
    for sign in (1, -1):
        found, _ = year([paid("2026-01-05", 10.0, "1"), refund("2026-01-06", 4.0 * sign, "1")])
        assert found["total_revenue_usd"] == 6.0


def test_a_refund_stands_at_its_payments_ordinal():
    rows = [paid("2026-01-05", 10.0, "1"), paid("2026-02-05", 10.0, "2"), refund("2026-03-01", 10.0, "1")]
    found, _ = year(rows)
    assert column(found, "revenue_usd") == [0.0, 10.0]
    assert column(found, "subscribers") == [1, 1]  # refunded ones still count
    assert column(found, "arppu_usd") == [0.0, 0.0]


def test_a_refund_without_its_payments_id_takes_the_latest_of_its_chain():
    rows = [paid("2026-01-05", 1.0, "1"), paid("2026-02-05", 2.0, "2"), paid("2026-04-05", 4.0, "3")]
    found, report = year([*rows, refund("2026-03-01", 2.0, "other"), refund("2026-03-02", 1.0, None)])
    assert column(found, "revenue_usd") == [0.0, 0.0, 4.0]
    assert report["refunds_without_payment"] == 0


def test_refunds_that_name_their_payment_come_first():
    rows = [paid("2026-01-05", 1.0, "1"), paid("2026-02-05", 2.0, "2")]
    found, _ = year([*rows, refund("2026-03-01", 0.5, None), refund("2026-03-02", 0.25, "2")])
    assert column(found, "revenue_usd") == [0.5, 1.75]


def test_a_refund_of_a_transaction_of_two_kinds_is_of_the_first():
    rows = [paid("2026-01-05", 1.0, "1", name="trial_converted"), paid("2026-02-05", 2.0, "1")]
    assert column(year([*rows, refund("2026-03-01", 1.0, "1")])[0], "revenue_usd") == [0.0, 2.0]


def test_a_chains_latest_payment_may_be_a_purchase():
    rows = [paid("2026-01-05", 1.0, "1"), paid("2026-02-05", 2.0, "2")]
    rows.append(paid("2026-02-20", 4.0, "3", name="non_subscription_purchase"))
    found, _ = year([*rows, refund("2026-03-01", 4.0)])
    assert column(found, "revenue_usd") == [1.0, 2.0]
    assert column(year([*rows, refund("2026-03-01", 4.0)], days=[55, 60])[0], "subscriptions") == [2, 1]


def test_a_refund_without_payment_takes_its_chain_out():
    started = paid("2026-02-05", 1.0, "1")
    early = refund("2026-01-05", 1.0, "x")  # before any payment of its chain
    assert column(year([early, started], days=[4, 60])[0], "subscriptions") == [0, 0]
    assert column(year([early, started, refund("2026-02-06", 1.0, "1")], days=[40])[0], "subscriptions") == [0]


def test_a_refund_without_payment_is_of_period_one_and_reported():
    found, report = year([paid("2026-02-05", 10.0, "1", "D"), refund("2026-03-01", 3.0, "x")])
    assert column(found, "revenue_usd") == [7.0]
    assert (found["total_arppu_usd"], found["total_paid_subscribers"]) == (0.0, 1)
    assert report["refunds_without_payment"] == 1


def test_a_refund_may_be_dated_before_its_payment():
    rows = [refund("2026-01-03", 10.0, "1"), paid("2026-01-10", 10.0, "1")]
    found, report = year(rows, days=[2, 9])
    assert column(found, "revenue_usd") == [-10.0, 0.0]
    assert column(found, "subscribers") == [0, 0]
    assert report["refunds_without_payment"] == 0
    # Only its transaction finds it: the chain offers what stands before the refund.
    _, report = year([refund("2026-01-03", 10.0, "x"), paid("2026-01-10", 10.0, "1")])
    assert report["refunds_without_payment"] == 1


def test_two_regimes_of_refunds():
    rows = [paid("2026-01-01", 10.0, "1", "C"), paid("2026-01-02", 5.0, "2", "D"), refund("2026-01-03", 10.0, "1", "C")]
    found, _ = year(rows)
    assert (found["total_paid_subscribers"], found["total_subscriptions"]) == (1, 2)
    found, _ = year(rows, days=[0, 1, 2])
    assert column(found, "revenue_usd") == [10.0, 15.0, 5.0]
    assert column(found, "subscribers") == [1, 1, 0]  # though D's payment stands
    assert column(found, "subscriptions") == [1, 2, 1]
    assert (found["total_paid_subscribers"], found["total_subscriptions"]) == (0, 1)


def test_a_refunded_purchase_leaves_the_chain_standing():
    rows = [
        paid("2026-01-01", 10.0, "1"),
        paid("2026-01-01", 5.0, "2", name="non_subscription_purchase"),
        happened("u", "non_subscription_purchase_refunded", "2026-01-02", 5.0, "2", "C"),
    ]
    assert column(year(rows, days=[0, 1])[0], "subscriptions") == [2, 1]


def test_upgrades_are_no_refunds_unless_asked():
    rows = [paid("2026-01-05", 10.0, "1"), refund("2026-02-01", 4.0, "1", cancellation_reason="upgraded")]
    found, report = year(rows)
    assert (found["total_revenue_usd"], found["total_arppu_usd"], report["upgraded"]) == (10.0, 10.0, 1)
    found, report = year(rows, refund_upgraded="negative")
    assert (found["total_revenue_usd"], found["total_arppu_usd"], report["upgraded"]) == (6.0, 0.0, 0)


# Chains.


def test_chains_are_known_by_their_first_transaction():
    rows = [
        paid("2026-01-05", 1.0, "1", None),  # names itself
        paid("2026-02-05", 2.0, "2", "1"),
        paid("2026-03-05", 4.0, None, None),  # alone
        paid("2026-04-05", 8.0, None, None),
    ]
    found, _ = year(rows)
    assert column(found, "revenue_usd") == [13.0, 2.0]
    assert column(found, "subscriptions") == [3, 1]


def test_rows_of_one_instant_are_ordered_by_kind_and_transaction():
    rows = [
        paid("2026-01-05", 4.0, "c", name="subscription_renewed"),
        paid("2026-01-05", 2.0, "b", name="subscription_started"),
        paid("2026-01-05", 8.0, "a", name="subscription_renewed"),
        paid("2026-01-05", 1.0, None, name="subscription_started"),
    ]
    assert column(year(rows)[0], "revenue_usd") == [1.0, 2.0, 8.0, 4.0]


def test_of_rows_alike_the_one_that_passes_counts():
    both = [paid("2026-01-05", 1.0, "1", store=store, product_id=store) for store in ("play_store", "app_store")]
    for rows in (both, both[::-1]):
        for store in ("play_store", "app_store"):
            found, report = year(rows, filters={"store": [store]})
            assert (found["total_revenue_usd"], report["duplicates"]) == (1.0, 1)


def test_products_order_rows_alike_where_they_are_counted():
    both = [paid("2026-02-05", 1.0, None, product_id=product) for product in ("monthly", "yearly")]
    for rows in (both, both[::-1]):
        found, _ = year([paid("2026-01-05", 4.0, "1"), *rows, refund("2026-03-01", 1.0)], restart_per_product=True)
        assert column(found, "revenue_usd") == [4.0, 1.0]  # the refund is of the year, the last of the chain


def test_amounts_order_refunds_as_the_file_has_them():
    for amounts in ((5.0, -3.0), (-3.0, 5.0)):
        rows = [paid("2026-01-05", 9.0, "1"), *(refund("2026-01-06", amount, "1") for amount in amounts)]
        found, report = year(rows)
        assert (found["total_revenue_usd"], report["duplicates"]) == (6.0, 1)


@pytest.mark.parametrize("number", ["ordinal", "consecutive"])
@pytest.mark.parametrize(
    ("transaction", "differing", "values"),
    [
        (None, "subscription_expires_at", (None, date(2026, 12, 31))),
        ("1", "consecutive_payments", (2, 1)),
        ("1", "original_transaction_id", ("D", "C")),
        ("1", "original_transaction_id", ("V", None)),
    ],
)
def test_rows_alike_but_for_one_thing_have_an_order_too(transaction, differing, values, number):
    long = [paid(f"2026-0{at}-01", 1.0, f"v{at}", "V", consecutive_payments=at) for at in (1, 2, 3)]
    both = [{**paid("2026-01-05", 1.0, transaction, consecutive_payments=1), differing: value} for value in values]
    assert year([*both, *long], period_number=number) == year([*both[::-1], *long], period_number=number)


@pytest.mark.parametrize(
    ("restart", "filters", "expected"),
    [
        ("auto", {}, [1.0, 2.0, 4.0]),
        (False, {}, [1.0, 2.0, 4.0]),
        (True, {}, [5.0, 2.0]),
        ("auto", {"store_product_id": ["yearly", "monthly"]}, [5.0, 2.0]),
        ("auto", {"store_product_id": ["yearly"]}, [4.0]),
        ("auto", {"store_product_id": []}, [1.0, 2.0, 4.0]),
        (False, {"store_product_id": ["yearly"]}, [0.0, 0.0, 4.0]),
        (True, {"store": ["app_store"]}, [1.0]),
    ],
)
def test_products_restart_the_count(restart, filters, expected):
    rows = [
        paid("2026-01-05", 1.0, "1", store="app_store"),
        paid("2026-02-05", 2.0, "2", store="play_store"),
        paid("2026-03-05", 4.0, "3", store="play_store", product_id="yearly"),
    ]
    found, _ = year(rows, restart_per_product=restart, filters=filters)
    assert column(found, "revenue_usd") == expected


def test_subscriptions_are_chains_however_payments_are_counted():
    rows = [paid("2026-01-05", 1.0, "1"), paid("2026-03-05", 4.0, "3", product_id="yearly")]
    assert column(year(rows, restart_per_product=True)[0], "subscriptions") == [1]


def test_consecutive_numbers_are_the_files():
    rows = [paid("2026-01-05", 1.0, "1", consecutive_payments=1), paid("2026-05-05", 2.0, "2", consecutive_payments=1),
            paid("2026-06-05", 4.0, "3", consecutive_payments=3)]  # fmt: skip
    assert column(year(rows, period_number="consecutive")[0], "revenue_usd") == [3.0, 0.0, 4.0]
    for bad in (None, 0):
        rows[1]["consecutive_payments"] = bad
        with pytest.raises(cl.errors.DataError, match="consecutive_payments"):
            cl.adapty.cohort(framed(rows), YEAR, installs=framed(ONE),
                             conventions=cl.adapty.Conventions(period_number="consecutive"))  # fmt: skip


# Membership.


def test_the_install_day_is_the_installs_earliest():
    installs = [*came(u="2026-01-20"), *came(u="2026-01-10"), *came(u="2026-02-10")]
    found, _ = year([paid("2026-01-15", 1.0, "1", install_date=date(2025, 1, 1))], installs, days=[4, 5])
    assert column(found, "revenue_usd") == [0.0, 1.0]
    assert found["total_installs"] == 1


def test_the_install_day_falls_back_on_the_events():
    rows = [
        paid("2026-01-15", 1.0, "1", user="v", install_date=date(2026, 1, 12)),
        paid("2026-01-16", 2.0, "2", user="v", install_date=date(2026, 1, 10)),
        happened("w", "trial_started", "2026-01-01", None, "3", "T"),
        paid("2026-01-20", 4.0, "4", user="w"),
        happened("x", "trial_started", "2026-01-01", None, "5", "X"),
    ]
    found, report = year(rows, days=[0, 5, 6])
    assert column(found, "revenue_usd") == [4.0, 5.0, 7.0]
    assert column(found, "installs") == [1, 1, 1]  # u's
    assert (report["not_in_installs"], report["without_install"]) == (3, 1)


def test_installs_before_from_are_no_members():
    found, report = year([paid("2026-01-15", 1.0, "1")], came(u="2025-12-31", v="2026-01-01"))
    assert (found["total_revenue_usd"], found["total_installs"], report["not_in_installs"]) == (0.0, 1, 0)


def test_a_payment_before_the_install_is_of_day_zero():
    rows = [paid("2026-01-05", 1.0, "1"), paid("2026-02-12", 2.0, "2")]
    found, report = year(rows, came(u="2026-02-10"), days=[0, 2])
    assert column(found, "revenue_usd") == [1.0, 3.0]
    assert report["before_install"] == 1


def test_installs_from_events_are_the_users_seen():
    rows = [paid("2026-01-05", 1.0, "1", install_date=date(2026, 1, 1)),
            happened("v", "trial_started", "2026-01-02", None, "2", "T", install_date=date(2026, 1, 2)),
            happened("w", "trial_started", "2026-01-02", None, "3", "W")]  # fmt: skip
    found, report = year(rows, "from_events")
    assert (found["total_installs"], report["without_install"], report["not_in_installs"]) == (2, 1, 0)


def test_filters_on_installs_from_events():
    rows = [paid("2026-01-05", 1.0, "1", store="app_store"), paid("2026-01-05", 1.0, "2", user="v", store="play_store")]
    assert year(rows, "from_events", filters={"store": ["app_store"]})[0]["total_installs"] == 1
    assert year(rows, "from_events", filters={"store_product_id": ["yearly"]})[0]["total_installs"] == 2


def test_filters_on_ready_counts():
    told = (("app_store", 3), ("play_store", 4), (None, 50))
    counts = [{"install_date": date(2026, 1, 5), "installs": number, "store": store} for store, number in told]
    rows = [paid("2026-01-05", 1.0, "1", store="app_store")]
    assert year(rows, counts, filters={"store": ["app_store"]})[0]["total_installs"] == 3
    assert year(rows, counts, filters={"store_product_id": ["yearly"]})[0]["total_installs"] == 57


def test_any_row_of_the_installs_may_pass_the_filters():
    told = (("2026-03-01", "app_store"), ("2026-02-01", None), ("2027-01-01", "play_store"))
    installs = [{"profile_id": "u", "install_date": date.fromisoformat(day), "store": store} for day, store in told]
    rows = [paid("2026-02-05", 1.0, "1", store="app_store")]
    assert year(rows, installs, filters={"store": ["app_store"]})[0]["total_arpu_usd"] == 1.0
    assert year(rows, installs, filters={"store": ["play_store"]})[0]["total_installs"] == 1
    assert year(rows, installs, filters={"store": ["stripe"]})[0]["total_installs"] == 0


def test_ready_counts_beyond_the_range_are_refused():
    for days in (("2026-01-05", "2026-01-05"), ("2026-01-05", "2026-02-05")):
        counts = pl.DataFrame({"install_date": [date.fromisoformat(day) for day in days], "installs": [2**62, 2**62]})
        for request in (YEAR, {**YEAR, "period_unit": "month"}):
            with pytest.raises(cl.errors.DataError, match="installs"):
                cl.adapty.cohort(framed(EXAMPLE), request, installs=counts)


def test_ready_counts_of_installs():
    told = (("2026-01-05", 3), ("2026-06-05", 4), ("2025-12-31", 50), ("2026-01-05", 2))
    counts = [{"install_date": date.fromisoformat(day), "installs": number} for day, number in told]
    found, report = year([paid("2026-01-05", 18.0, "1")], counts)
    assert (found["total_installs"], found["total_arpu_usd"], report["not_in_installs"]) == (9, 2.0, 0)


def test_local_midnight_cuts_the_install_day():
    rows = [
        paid(datetime(2026, 3, 9, 3, 59, tzinfo=UTC), 1.0, "1"),
        paid(datetime(2026, 3, 9, 4, 0, tzinfo=UTC), 2.0, "2"),
    ]
    installs = [{"profile_id": "u", "install_date": datetime(2026, 3, 8, 4, 59, tzinfo=UTC)}]  # New York: the 7th
    found, _ = year(rows, installs, days=[0, 1, 2], timezone="America/New_York")
    assert column(found, "revenue_usd") == [0.0, 1.0, 3.0]


def test_every_period_is_a_segment():
    request = {"filters": {"date": ["2026-01-15", "2026-03-10"]}}
    data, _ = asking(
        [paid("2026-02-05", transaction="1")], request, came(u="2026-02-01", v="2026-01-10", w="2026-03-11")
    )
    assert [(segment["segment_start_date"], segment["title"], segment["type"], segment["total_installs"])
            for segment in data] == [
        ("2026-01-15", "Total", "total", 1),
        ("2026-01-01", "2026-01-01", "single", 0),
        ("2026-02-01", "2026-02-01", "single", 1),
        ("2026-03-01", "2026-03-01", "single", 0),
    ]  # fmt: skip


def test_weeks_start_when_told():
    request = {"filters": {"date": ["2026-01-01", "2026-01-10"]}, "period_unit": "week"}  # a Thursday, a Saturday
    starts = {
        "monday": ["2025-12-29", "2026-01-05"],
        "sunday": ["2025-12-28", "2026-01-04"],
        "friday": ["2025-12-26", "2026-01-02", "2026-01-09"],
    }
    for week_start, expected in starts.items():
        data, _ = asking([paid("2026-01-05", transaction="1")], request, ONE, week_start=week_start)
        assert [segment["title"] for segment in data[1:]] == expected


def test_the_first_money_is_the_first_by_the_clock():
    # 00:00 of the 7th in St. John's; a minute later the clocks there go back to 23:01 of the 6th.
    first, second = (datetime(2010, 11, 7, 2, minute, tzinfo=UTC) for minute in (30, 31))
    request = {"filters": {"date": ["2010-11-06", "2010-11-07"]}, "period_unit": "day"}
    rows = [paid(second, 2.0, "2"), paid(first, 1.0, "1")]
    data, _ = asking(rows, request, came(v="2010-11-06"), timezone="America/St_Johns")
    assert [segment["total_revenue_usd"] for segment in data] == [3.0, 0.0, 3.0]


def test_repeats_tell_of_their_users_too():
    """Take install dates and the audience from repeated rows as from any other."""
    rows = [paid("2026-02-05", 1.0, "1", store="play_store", install_date=date(2026, 2, 1)),
            paid("2026-02-06", 1.0, "1", store="app_store", install_date=date(2026, 1, 31))]  # fmt: skip
    found, _ = year(rows, "from_events", filters={"store": ["app_store"]})
    assert (found["total_installs"], found["total_revenue_usd"]) == (1, 0.0)
    assert column(year(rows, "from_events", days=[4, 5])[0], "revenue_usd") == [0.0, 1.0]


# Filters.


@pytest.mark.parametrize(
    ("items", "expected"),
    [
        (["monthly"], 1.0 + 2.0),
        (["app_store:monthly"], 1.0),
        (["APP_STORE:monthly", ["play_store", "monthly"]], 1.0 + 2.0 + 4.0),
        (["play_store:monthly"], 2.0 + 4.0),  # also a product of that very name
        ([("play_store", "monthly")], 2.0 + 4.0),
        (["play_store:monthly:base-1"], 2.0),
        (["play_store:monthly:base-2"], 0.0),
        (["Monthly"], 0.0),
    ],
)
def test_products_may_be_named_with_their_store_and_plan(items, expected):
    rows = [
        paid("2026-01-05", 1.0, "1", "A", store="app_store", base_plan_id=None),
        paid("2026-01-05", 2.0, "2", "B", store="play_store", base_plan_id="base-1"),
        paid("2026-01-05", 4.0, "3", "C", store="app_store", base_plan_id=None, product_id="play_store:monthly"),
    ]
    assert year(rows, filters={"store_product_id": items})[0]["total_revenue_usd"] == expected


@pytest.mark.parametrize(
    ("name", "column_", "wanted", "same", "other"),
    [
        ("attribution_status", "attribution_status", "non-organic", ("non_organic", "Non-Organic"), ("organic", None)),
        ("attribution_status", "attribution_status", "NON_ORGANIC", ("non-organic",), ("", "nonorganic")),
        ("offer_category", "offer_category", "winback", ("win_back", "winback"), ("introductory", "")),
        ("offer_type", "offer_type", "win_back", ("winback",), (None, "free_trial")),
        ("attribution_adgroup", "attribution_ad_group", "a", ("a",), ("A", "b", None)),
        ("attribution_adset", "attribution_ad_set", "a", ("a",), ("A", "b", None)),
        ("country", "profile_country", "us", ("US", "us"), ("de", "", None)),
        ("store", "store", "App_Store", ("app_store", "APP_STORE"), ("play_store", None)),
        ("duration", "duration", "monthly", ("Monthly",), ("Annual", None)),
    ],
)
def test_values_that_a_filter_takes_for_the_same(name, column_, wanted, same, other):
    rows = [paid("2026-01-05", 1.0, f"{at}", f"{at}", **{column_: value}) for at, value in enumerate((*same, *other))]
    assert year(rows, filters={name: [wanted]})[0]["total_revenue_usd"] == len(same)


def test_filters_on_products_leave_installs_alone():
    rows = [paid("2026-01-05", 1.0, "1"), paid("2026-01-06", 2.0, "2", "D", product_id="yearly", duration="Annual"),
            refund("2026-02-05", 2.0, "2", "D", product_id="monthly")]  # fmt: skip
    for filters in ({"store_product_id": ["yearly"]}, {"duration": ["Annual"]}):
        found, _ = year(rows, filters=filters)
        # The refund goes with its payment, whatever stands on its own row.
        assert (found["total_revenue_usd"], found["total_installs"], found["total_subscriptions"]) == (0.0, 1, 1)
    assert year(rows, filters={"store_product_id": ["monthly"]})[0]["total_revenue_usd"] == 1.0


def test_filters_on_country_narrow_installs_too():
    rows = [
        paid("2026-01-05", 1.0, "1", store_country="US"),
        paid("2026-01-05", 2.0, "2", user="v", store_country="de"),
        paid("2026-01-06", 4.0, "3", user="v", store_country=None, profile_country="us"),
    ]
    installs = [{"profile_id": "u", "install_date": date(2026, 1, 1), "country": "us"},
                {"profile_id": "v", "install_date": date(2026, 1, 1), "country": "DE"},
                {"profile_id": "w", "install_date": date(2026, 1, 1), "country": None}]  # fmt: skip
    found, _ = year(rows, installs, filters={"country": ["us"]})
    assert (found["total_revenue_usd"], found["total_installs"]) == (5.0, 1)
    plain = [{name: row[name] for name in ("profile_id", "install_date")} for row in installs]
    found, _ = year(rows, plain, filters={"country": ["us"]})  # a table that knows no countries is not narrowed
    assert (found["total_revenue_usd"], found["total_installs"]) == (5.0, 3)


def test_filters_come_after_counting():
    rows = [paid("2026-01-05", 1.0, "1", store="play_store"), paid("2026-02-05", 2.0, "2", store="app_store"),
            refund("2026-02-06", 2.0, None, store="play_store")]  # fmt: skip
    assert column(year(rows, filters={"store": ["app_store"]})[0], "revenue_usd") == [0.0, 0.0]
    assert column(year(rows, filters={"store": ["play_store"]})[0], "revenue_usd") == [1.0]


def test_a_refund_without_payment_passes_by_itself():
    rows = [paid("2026-01-05", 10.0, "1", store="app_store"), refund("2026-02-06", 2.0, "x", "X", store="play_store")]
    assert year(rows, filters={"store": ["app_store"]})[0]["total_revenue_usd"] == 10.0
    assert year(rows, filters={"store": ["play_store"]})[0]["total_revenue_usd"] == -2.0


# Averages, relatives, active periods.


def test_averages_per_period():
    rows = [paid("2026-01-05", 1.0, "1"), paid("2026-02-05", 2.0, "2"), paid("2026-03-05", 4.0, "3")]
    found, _ = year(rows, averages="per_period")
    assert column(found, "arpu_usd") == column(found, "arpas_usd") == [1.0, 2.0, 4.0]
    assert column(found, "arppu_usd") == [1.0, 3.0, 7.0]
    assert column(year(rows)[0], "arpu_usd") == [1.0, 3.0, 7.0]


def test_a_relative_of_nothing_is_nothing():
    found, _ = year([paid("2026-01-05", 0.0, "1"), paid("2026-02-05", 2.0, "2")])
    assert column(found, "revenue_relative") == [0.0, 0.0]
    assert column(found, "subscribers_relative") == [100.0, 100.0]


def test_a_zero_over_a_loss_is_a_plain_zero():
    found, _ = year([refund("2026-01-05", 1.0, "x", "X"), paid("2026-02-05", 0.0, "1"), paid("2026-03-05", 0.0, "2")])
    assert column(found, "revenue_relative") == [100.0, 0.0]
    assert [cell.hex() for cell in column(found, "revenue_relative")][1] == (0.0).hex()


def test_a_quotient_of_large_numbers_rounds_once():
    huge = Decimal(2**55 + 1).scaleb(-6)
    rows = [paid("2026-01-05", 1.0, "1"), paid("2026-02-05", 1.0, "2"), paid("2026-03-05", 1.0, "3")]
    for row, amount in zip(rows, (huge, huge * 3, Decimal(1)), strict=True):
        row.update(dict.fromkeys(MONEYS, amount))
    found, _ = year(rows, came(u="2026-01-01", v="2026-01-01", w="2026-01-01"))
    assert found["values"][0]["arpu_usd"] == (2**55 + 1) / 3_000_000
    assert found["values"][1]["revenue_relative"] == 300.0


def test_money_beyond_the_range_is_refused():
    rows = [paid("2026-01-05", 5e12, "1"), paid("2026-02-05", -5e12, "2")]
    with pytest.raises(cl.errors.DataError, match="decimals"):
        cl.adapty.cohort(framed(rows), YEAR, installs=framed(ONE))
    assert year(rows, decimals=2)[0]["total_revenue_usd"] == 0.0


def test_days_may_grow_until_the_data_end():
    request = {
        "filters": {"date": ["2026-01-10", "2026-03-20"]},
        "period_type": "days",
        "renewal_days": [0, 20, 28, 48],
    }
    data, _ = asking([paid("2026-01-15", transaction="1")], request, ONE)
    active = [column(segment, "currently_active_period") for segment in data]
    assert active == [[True] * 4, [False, False, False, True], [False, True, True, True], [True] * 4]
    data, _ = asking([paid("2026-01-15", transaction="1")], request, ONE, as_of=date(2026, 4, 17))
    active = [column(segment, "currently_active_period") for segment in data]
    assert active == [[False, False, True, True], [False] * 4, [False, False, False, True], [False, False, True, True]]


def test_renewals_may_grow_while_a_chain_runs():
    def running(*rows, **options):
        long = [paid(f"2026-0{at}-01", 1.0, f"v{at}", "V", "v") for at in (1, 2, 3)]
        found, _ = year([*long, *rows], **options)
        return column(found, "currently_active_period")

    later, earlier = date(2026, 12, 31), date(2026, 12, 30)
    assert running(paid("2026-05-05", 1.0, "1", subscription_expires_at=later)) == [False, True, True]
    assert running(paid("2026-05-05", 1.0, "1", subscription_expires_at=earlier)) == [False] * 3
    assert running(paid("2026-05-05", 1.0, "1", subscription_expires_at=earlier), as_of=earlier) == [False, True, True]
    # The chain's last row speaks for it; a refunded one does not.
    two = [paid("2026-04-05", 1.0, "1", subscription_expires_at=later), paid("2026-05-05", 1.0, "2")]
    assert running(*two) == [False] * 3
    assert running(two[0], refund("2026-04-06", 1.0, "1")) == [False] * 3
    trial = happened("u", "trial_started", "2026-04-05", None, "1", "C", subscription_expires_at=later)
    assert running(trial) == [True] * 3
    assert running(paid("2026-04-01", 1.0, "0"), trial) == [False, True, True]
    # The last row must pass, not only some row; each product of a chain runs by itself where it counts by itself.
    stores = [paid("2026-04-05", 1.0, "1", subscription_expires_at=later), paid("2026-05-05", 1.0, "2", store="other")]
    stores[0]["store"] = "store"
    long = [paid(f"2026-0{at}-01", 1.0, f"v{at}", "V", store="store") for at in (1, 2, 3)]
    for expires in (None, later):
        stores[1]["subscription_expires_at"] = expires
        found, _ = year([*stores, *long], filters={"store": ["store"]})
        assert column(found, "currently_active_period") == [False] * 3
    products = [two[0], paid("2026-05-05", 1.0, "2", product_id="yearly")]
    assert running(*products) == [False] * 3
    assert running(*products, restart_per_product=True) == [False, True, True]
    # A one-time purchase is no part of the schedule.
    once = paid("2026-04-05", 1.0, "1", "P", name="non_subscription_purchase", subscription_expires_at=later)
    assert running(once) == [False] * 3


# What does not count.


def test_rows_that_do_not_count_are_counted():
    rows = [
        paid("2026-01-05", 1.0, "1"),
        paid("2026-01-05", 2.0, "2", environment="Sandbox"),
        paid("2026-01-05", 2.0, "3", environment=None),
        paid("2026-01-05", 2.0, "4", product_id="adapty_promotion"),
        paid("2026-01-05", 2.0, "5", name="subscription_expired"),
        paid("2026-01-05", 2.0, "6", name="what_is_this"),
        paid("2026-01-05", None, "7"),
        paid("2026-01-05", 2.0, "9", ownership_type="FAMILY_SHARED"),
        paid("2026-01-05", 4.0, "8", environment="production"),
    ]
    found, report = year(rows, nulls="drop")
    assert found["total_revenue_usd"] == 5.0
    expected = {"rows": 9, "sandbox": 2, "granted": 1, "other_events": 1, "unknown_events": 1, "nulls": 1}
    expected |= {"family_shared": 1}
    assert {name: count for name, count in report.items() if count} == expected
    nobody = [*rows[:1], paid("2026-01-05", 2.0, "2", user=None)]
    assert year(nobody, nulls="drop")[1]["nulls"] == 1
    with pytest.raises(cl.errors.DataError, match="usd"):
        cl.adapty.cohort(framed(rows), YEAR, installs=framed(ONE))


def test_what_was_noticed_is_said():
    rows = [paid("2026-01-05", 1.0, "1"), paid("2026-01-05", 1.0, "2", user="v"), refund("2026-01-06", 1.0, "x", "X")]
    with pytest.warns(cl.errors.CohortlibWarning) as caught:
        cl.adapty.cohort(framed(rows), YEAR, installs=framed(ONE))
    said = " ".join(str(one.message) for one in caught)
    for word in ("chain", "refund", "install"):
        assert word in said
    assert {one.filename for one in caught} == {__file__}


def test_installs_must_be_given():
    with pytest.raises(cl.errors.SettingError, match="from_events"):
        cl.adapty.cohort(framed(EXAMPLE), RENEWALS)


def test_no_events():
    frame = framed(EXAMPLE).head(0)
    for request, installs in ((RENEWALS, INSTALLS), (DAYS, INSTALLS)):
        expected, report = naive_adapty.cohort([], request, installs=installs)
        answer = cl.adapty.cohort(frame, request, installs=framed(installs))
        assert_same(answer.to_dict(), expected)
        assert {name: answer.report.get(name) for name in report} == report


def test_dates_before_the_calendar_are_told():
    long_ago = pl.Series([-800_000], dtype=pl.Int32).cast(pl.Date)  # a year that Python's dates do not have
    events = framed([paid("2026-01-05", 1.0, "1")])
    years = {"install_date": "1900 to 2200", "event_datetime": "1900 to 2200", "subscription_expires_at": "1 to 9999"}
    for name, expected in years.items():
        with pytest.raises(cl.errors.DataError, match=rf"{name}.*-0221.*years {expected}"):
            cl.adapty.cohort(events.with_columns(long_ago.alias(name)), YEAR, installs="from_events")


def test_expiries_at_the_end_of_the_calendar_are_far_away():
    rows = [paid("2026-01-05", 1.0, "1", subscription_expires_at="9999-12-31T23:59:59Z")]
    answer = cl.adapty.cohort(framed(rows), YEAR, installs="from_events", timezone="Asia/Tokyo")
    assert answer.segments["total_revenue_usd"][0] == 1.0
