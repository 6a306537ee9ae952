"""What must hold of Adapty's cohort table whatever the events are; no judge, the engine beside itself."""

from dataclasses import replace
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from itertools import pairwise

import polars as pl
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from naive_adapty import COLUMN_OF, DEVICE, MONEYS
from strategies import exactly
from strategies_adapty import assert_same, cases

import cohortlib as cl

pytestmark = pytest.mark.unit

WRITTEN = ("date", "instant", "instant")  # instants that a test can move
PLAIN = ("cents", "whole", "decimal", "text")  # sums that a float holds to the last unit
COUNTS = ("installs", "subscriptions", "subscribers")
STORY = ("duplicates", "shared_chains", "refunds_without_payment", "without_install", "not_in_installs")
INFINITY = 10**6

calm = cases(poison=False)
few = settings(max_examples=settings().max_examples // 2)  # for laws that ask the engine often
plain = cases(poison=False, money=PLAIN)


def same(left, right):
    """Compare two answers field for field, to the last bit, and what they say of the events' story."""
    assert_same(left.to_dict(), right.to_dict())
    assert [left.report[name] for name in STORY] == [right.report[name] for name in STORY]


def data(answer):
    """Return the total and the single segments of an answer."""
    total, *singles = answer.to_dict()["data"]
    return total, singles


def units(amount, case):
    """Read published money back as whole units; exact while sums stay below 2 ** 53 units."""
    return round(Decimal(amount).scaleb(case.settings.get("decimals", 6)))


def sums(segment, case):
    """Return what adds in a segment: (column, field) -> count or units; column None is the segment's total."""
    found = {(None, name): units(segment[f"total_{name}"], case) for name in MONEYS}
    found |= {(None, name): segment[f"total_{name}"] for name in ("installs", "subscriptions", "paid_subscribers")}
    for value in segment["values"]:
        found |= {(value["period"], name): units(value[name], case) for name in MONEYS}
        found |= {(value["period"], name): value[name] for name in COUNTS}
    return found


def added(parts):
    """Add what adds; a column that a part does not have is one of zeros there, but for its installs."""
    names = {name for part in parts for name in part}
    return {
        (column, name): sum(part.get((column, name), part[None, name] if name == "installs" else 0) for part in parts)
        for column, name in names
    }


def chunked(frame, cuts):
    """Cut a frame into parts."""
    cuts = sorted({0, frame.height, *(min(cut, frame.height) for cut in cuts)})
    return [frame[a:b] for a, b in pairwise(cuts)] or [frame]


def days_of(case):
    """Turn a request into one of days."""
    return {**case.request, "period_type": "days"}


def renewals_of(case):
    return {**case.request, "period_type": "renewals"}


# --- nothing but the events matters ------------------------------------------------------------------------


@given(calm, st.randoms(use_true_random=False))
def test_order_of_rows(case, random):
    order = list(range(case.frame.height))
    random.shuffle(order)
    installs = case.installs_as
    if not isinstance(installs, str):
        installs = installs.reverse()
    answer = case.ask()
    shuffled = case.ask(case.frame[order], installs=installs)
    same(shuffled, answer)
    assert shuffled.report == answer.report


@few
@given(calm, st.integers(1, 7))
def test_number_of_threads(case, threads):
    alone = case.ask(threads=1)
    together = case.ask(threads=threads)
    same(together, alone)
    assert together.report == alone.report


@few
@given(calm, st.lists(st.integers(0, 24), max_size=4))
def test_chunks_and_forms(case, cuts):
    expected = case.ask()
    for frame in (
        pl.concat(chunked(case.frame, cuts), rechunk=False),
        case.frame.lazy(),
        case.frame.to_arrow(),
        case.frame.with_columns(pl.lit("x").alias("something else")),
        case.frame.select(reversed(case.frame.columns)),
    ):
        got = case.ask(frame)
        same(got, expected)
        assert got.report == expected.report


@pytest.mark.parametrize("kind", ["parquet", "csv"])
@few
@given(case=cases(poison=False, money=("cents", "awkward", "text")), cuts=st.lists(st.integers(0, 24), max_size=3))
def test_cuts_into_files(case, cuts, kind, tmp_path_factory):
    assume(case.frame.height)
    money = [
        name for name, kind_ in case.frame.schema.items() if kind == "csv" and name in REVENUE and kind_.is_float()
    ]
    expected = case.ask(case.frame.with_columns(pl.col(money).cast(pl.String)))  # in text 2.675 is not a bit less
    folder = tmp_path_factory.mktemp("parts")
    for at, part in enumerate(chunked(case.frame, cuts)):
        getattr(part, f"write_{kind}")(folder / f"part-{at:02}.{kind}")
    installs = case.installs_as
    users_are_numbers = any(dtype.is_integer() for name, dtype in case.frame.schema.items() if name in USER_COLUMNS)
    if kind == "csv" and not isinstance(installs, str) and users_are_numbers:
        # A CSV file's users are text, so the installs' must be.
        texts = [pl.col(name).cast(pl.String) for name in USER_COLUMNS if name in installs.columns]
        installs = installs.with_columns(texts)
    got = case.ask(str(folder / f"part-*.{kind}"), installs=installs)
    same(got, expected)
    assert got.report == expected.report


REVENUE = ("revenue_usd", "price_usd", "proceeds_usd", "net_revenue_usd")
USER_COLUMNS = ("profile_id", "customer_user_id", "device_id", *DEVICE)


@few
@given(cases(poison=False, user_unit="profile_id"), st.sampled_from(("number", "text", "long text")))
def test_names_of_users_and_transactions(case, kind):
    """Give the users other names in the opposite order, and the transactions others in the same order."""
    assume(case.frame["profile_id"].null_count() == 0)
    users = {*case.frame["profile_id"]}
    if not isinstance(case.installs_as, str) and "profile_id" in case.installs_as.columns:
        users |= {*case.installs_as["profile_id"]}
    new = {old: {"number": -(7**at), "text": f"{at}", "long text": "customer number " * 3 + f"{at}"}[kind]
           for at, old in enumerate(sorted(users, reverse=True))}  # fmt: skip

    def renamed(frame):
        if isinstance(frame, str) or "profile_id" not in frame.columns:
            return frame
        names = [new[user] for user in frame["profile_id"]]
        return frame.with_columns(pl.Series("profile_id", names, pl.Int64 if kind == "number" else pl.String))

    columns = ["transaction_id", "original_transaction_id"]
    known = {name for column in columns for name in case.frame[column] if name}
    names = {name: f"transaction {at:03}" for at, name in enumerate(sorted(known))}
    frame = renamed(case.frame).with_columns(
        pl.Series(column, [names.get(name) for name in case.frame[column]], dtype=pl.String) for column in columns
    )
    same(case.ask(frame, installs=renamed(case.installs_as)), case.ask())


@few
@given(calm)
def test_filters_on_nothing(case):
    empty = dict.fromkeys(("store", "country", "store_product_id", *COLUMN_OF), ())
    bare = {**case.request, "filters": {"date": case.request["filters"]["date"]}}
    filters = {name: list(values) for name, values in empty.items()} | bare["filters"]
    expected = case.ask(request=bare)
    same(case.ask(request={**bare, "filters": filters}), expected)
    # Nor does one that every event and install passes.
    marked = case.frame.with_columns(pl.lit("Paper Boy").alias("attribution_source"))
    filters = {**bare["filters"], "attribution_source": ["nobody", "Paper Boy"]}
    same(case.ask(marked, request={**bare, "filters": filters}), expected)


@few
@given(calm)
def test_the_shape_of_the_display_is_not_of_the_numbers(case):
    display = {"value_type": "relative", "value_field": "arpas", "accounting_type": "proceeds"}
    same(case.ask(request={**case.request, **display}), case.ask())


# --- adding and conserving ---------------------------------------------------------------------------------


@given(plain)
def test_singles_sum_to_the_total(case):
    total, singles = data(case.ask())
    assert added([sums(single, case) for single in singles]) == sums(total, case)
    assert {len(single["values"]) for single in singles} == {len(total["values"])}


@given(plain)
def test_renewals_add_up_to_the_money(case):
    total, singles = data(case.ask(request=renewals_of(case)))
    for segment in (total, *singles):
        for name in MONEYS:
            assert sum(units(value[name], case) for value in segment["values"]) == units(segment[f"total_{name}"], case)


@given(calm, st.integers(0, 50))
def test_days_end_at_the_money(case, day):
    total, singles = data(case.ask(request={**days_of(case), "renewal_days": [day, INFINITY]}))
    for segment in (total, *singles):
        last = segment["values"][-1]
        for name in (*MONEYS, *(name for name in last if name.endswith("_usd"))):
            assert exactly(last[name]) == exactly(segment[f"total_{name}"])
        assert last["subscribers"] == segment["total_paid_subscribers"]
        assert last["subscriptions"] == segment["total_subscriptions"]


@given(calm)
def test_both_kinds_of_columns_share_their_totals(case):
    pairs = [data(case.ask(request=request)) for request in (days_of(case), renewals_of(case))]
    names = ("installs", *MONEYS, *(f"{name}_usd" for name in ("arpu", "anrpu", "arppu", "apppu", "arpas", "appas")))
    for by_day, by_renewal in zip(*([total, *singles] for total, singles in pairs), strict=True):
        for name in names:
            assert exactly(by_day[f"total_{name}"]) == exactly(by_renewal[f"total_{name}"])
        # The days' regime takes refunded users and chains out.
        assert by_day["total_paid_subscribers"] <= by_renewal["total_paid_subscribers"]
        assert by_day["total_subscriptions"] <= by_renewal["total_subscriptions"]


@given(calm)
def test_installs_are_constant_over_columns(case):
    total, singles = data(case.ask())
    for segment in (total, *singles):
        assert {value["installs"] for value in segment["values"]} <= {segment["total_installs"]}
    assert sum(single["total_installs"] for single in singles) == total["total_installs"]


@few
@given(calm, st.sets(st.integers(0, 400), min_size=1, max_size=4), st.integers(0, 400))
def test_days_do_not_know_each_other(case, days, first):
    """Ask for more days: a day's own numbers stay."""
    few = case.ask(request={**days_of(case), "renewal_days": [first]}).to_dict()["data"]
    many = case.ask(request={**days_of(case), "renewal_days": sorted({first, *days})}).to_dict()["data"]
    for less, more in zip(few, many, strict=True):
        (own,) = less["values"]
        (same_day,) = (value for value in more["values"] if value["period"] == first)
        keep = [name for name in own if not name.endswith("_relative")]
        assert_same([own[name] for name in keep], [same_day[name] for name in keep])


@few
@given(cases(poison=False, money=PLAIN, installs=("table", "from_events"), user_unit="profile_id"), st.data())
def test_disjoint_users_add(case, drawn):
    users = sorted({*case.frame["profile_id"]}, key=str)
    some = drawn.draw(st.sets(st.sampled_from(users))) if users else set()
    parts = []
    for chosen in (True, False):
        mine = pl.col("profile_id").is_in(list(some)) == chosen
        installs = case.installs_as
        if not isinstance(installs, str):
            installs = installs.filter(mine)
        parts.append(case.ask(case.frame.filter(mine), installs=installs).to_dict()["data"])
    whole = case.ask().to_dict()["data"]
    for segment, *pieces in zip(whole, *parts, strict=True):
        assert added([sums(piece, case) for piece in pieces]) == sums(segment, case)


# --- repeats and what comes too late -----------------------------------------------------------------------


@few
@given(calm, st.integers(1, 3))
def test_rows_repeated_count_once(case, times):
    known = pl.col("transaction_id").str.len_chars() > 0
    if "profile_event_id" in case.frame.columns:
        known |= pl.col("profile_event_id").str.len_chars() > 0
    frame = case.frame.filter(known.fill_null(False))
    once, often = case.ask(frame), case.ask(pl.concat([frame] * (times + 1)))
    assert_same(often.to_dict(), once.to_dict())
    out = (
        "sandbox", "other_events", "unknown_events", "granted", "family_shared", "upgraded", "zero_payments", "nulls",
        "after_to",
    )  # fmt: skip
    kept = once.report["rows"] - sum(once.report.get(name, 0) for name in out)
    assert often.report["duplicates"] == once.report["duplicates"] + times * kept
    assert [often.report[name] for name in STORY[1:]] == [once.report[name] for name in STORY[1:]]


def moment(day, dtype):
    """Return noon of a day as a column of one value."""
    if dtype == pl.Date:
        return pl.Series([day])
    column = pl.Series([datetime.combine(day, time(12))], dtype=pl.Datetime(dtype.time_unit))
    return (
        column if dtype.time_zone is None else column.dt.replace_time_zone("UTC").dt.convert_time_zone(dtype.time_zone)
    )


@few
@given(cases(poison=False, forms=WRITTEN, after_to="drop"), st.integers(0, 23), st.integers(2, 100))
def test_a_row_moved_after_to_is_a_row_deleted(case, at, by):
    assume(at < case.frame.height)
    to = date.fromisoformat(case.request["filters"]["date"][1])
    here = pl.int_range(pl.len()) == at
    late = moment(to + timedelta(days=by), case.frame.schema["event_datetime"])
    moved = case.frame.with_columns(
        event_datetime=pl.when(here).then(pl.lit(late).first()).otherwise(pl.col("event_datetime"))
    )
    same(case.ask(moved), case.ask(case.frame.filter(~here)))


@given(cases(poison=False, user_unit="profile_id"))
def test_users_who_came_too_late_are_no_part(case):
    """Let everybody come after `to`: nobody is left."""
    to = date.fromisoformat(case.request["filters"]["date"][1])
    users = case.frame.select("profile_id").unique()
    late = users.with_columns(install_date=pl.lit(to + timedelta(days=1)))
    total, _ = data(case.ask(installs=late))
    assert (total["total_installs"], total["total_revenue_usd"], total["total_subscriptions"]) == (0, 0.0, 0)


# --- time --------------------------------------------------------------------------------------------------


def shifted(frame, days):
    """Move every instant of a frame."""
    if isinstance(frame, str):
        return frame
    return frame.with_columns(pl.col(pl.Date, pl.Datetime) + pl.duration(days=days))


@few
@given(cases(poison=False, forms=WRITTEN, zones=("UTC",)), st.sampled_from((1, -1, 5, 2)))
def test_shift_by_whole_periods(case, by):
    """Move everything by 28 years, in which the calendar repeats itself, or by weeks: only the labels move."""
    days = by * 7 if case.request.get("period_unit") in ("day", "week") else (1 if by > 0 else -1) * 10_227
    first, to = (date.fromisoformat(day) + timedelta(days=days) for day in case.request["filters"]["date"])
    filters = {**case.request["filters"], "date": [first.isoformat(), to.isoformat()]}
    conventions = dict(case.conventions)
    if "as_of" in conventions:
        conventions["as_of"] += timedelta(days=days)
    expected = case.ask().to_dict()
    later = replace(case, conventions=conventions).ask(
        shifted(case.frame, days),
        request={**case.request, "filters": filters},
        installs=shifted(case.installs_as, days),
    )
    for segment in expected["data"]:
        start = date.fromisoformat(segment["segment_start_date"]) + timedelta(days=days)
        segment["segment_start_date"] = start.isoformat()
        segment["title"] = segment["title"] if segment["type"] == "total" else start.isoformat()
    assert_same(later.to_dict(), expected)


@few
@given(cases(poison=False, forms=("date",), zones=("UTC",)), st.sampled_from(("us", "ms", "ns")), st.data())
def test_dates_are_noons(case, unit, drawn):
    """Say each date as an instant at noon: the answer is the same in any zone near enough."""
    zone = drawn.draw(st.sampled_from(("UTC", "Europe/Berlin", "America/New_York", "Asia/Kolkata")))

    def at_noon(frame):
        if isinstance(frame, str):
            return frame
        noon = pl.col(pl.Date).cast(pl.Datetime(unit)) + pl.duration(hours=12)
        return frame.with_columns(noon.dt.replace_time_zone("UTC"))

    settings = {**case.settings, "timezone": zone}
    same(case.ask(at_noon(case.frame), installs=at_noon(case.installs_as), **settings), case.ask())


# --- bounds ------------------------------------------------------------------------------------------------


@given(calm)
def test_columns_and_bounds(case):
    total, singles = data(case.ask())
    periods = [value["period"] for value in total["values"]]
    assert periods == sorted(set(periods))
    if case.request.get("period_type") != "days":
        assert periods == list(range(1, len(periods) + 1))
    for segment in (total, *singles):
        assert [value["period"] for value in segment["values"]] == periods
        for value in segment["values"]:
            assert all(value[name] >= 0 for name in COUNTS)
            assert all(abs(number) < float("inf") for name, number in value.items() if isinstance(number, float))
        if segment["values"]:
            first = segment["values"][0]
            for name in ("subscriptions", "subscribers"):
                assert first[f"{name}_relative"] == (100.0 if first[name] else 0.0)
        assert segment["predict"] is None


@given(cases(poison=False, refund_upgraded="zero"))
def test_without_refunds_both_regimes_agree(case):
    refunds = pl.col("event_type").str.ends_with("refunded").fill_null(False)
    frame = case.frame.filter(~refunds)
    for by_day, by_renewal in zip(
        *(case.ask(frame, request=request).to_dict()["data"] for request in (days_of(case), renewals_of(case))),
        strict=True,
    ):
        for name in ("paid_subscribers", "subscriptions", "arppu_usd"):
            assert exactly(by_day[f"total_{name}"]) == exactly(by_renewal[f"total_{name}"])


def test_instants_do_not_depend_on_how_they_are_zoned():
    """Say the same instants as text, without a zone and in another zone."""
    at = pl.Series("event_datetime", [datetime(2026, 3, 9, 3, 59, tzinfo=UTC), datetime(2026, 3, 31, 23, tzinfo=UTC)])
    frame = pl.DataFrame({
        "profile_id": ["u", "u"], "event_type": ["subscription_started", "subscription_renewed"],
        "transaction_id": ["1", "2"], "original_transaction_id": ["1", "1"], "environment": ["Production"] * 2,
        "product_id": ["p"] * 2, "revenue_usd": [1.0, 2.0], "proceeds_usd": [1.0, 2.0], "net_revenue_usd": [1.0, 2.0],
    })  # fmt: skip
    request = {"filters": {"date": ["2026-03-01", "2026-03-31"]}, "period_unit": "day", "period_type": "days"}
    installs = pl.DataFrame({"profile_id": ["u"], "install_date": [date(2026, 3, 8)]})
    answers = [
        cl.adapty.cohort(frame.with_columns(column), request, installs=installs, timezone="America/New_York")
        for column in (
            at,
            at.dt.replace_time_zone(None),
            at.dt.convert_time_zone("Asia/Kolkata"),
            at.dt.cast_time_unit("ns"),
            at.dt.strftime("%Y-%m-%d %H:%M:%S%.6f%z"),
            at.dt.strftime("%Y-%m-%dT%H:%M:%SZ"),
            at.dt.strftime("%Y-%m-%dT%H:%M:%S%:z"),
            at.dt.strftime("%Y-%m-%d %H:%M:%S"),
        )
    ]
    for answer in answers:
        same(answer, answers[0])
    assert answers[0].to_dict()["data"][0]["total_revenue_usd"] == 3.0
