"""Explain Adapty's answers: planted differences are named, and the answer of each cause is the engine's own."""

import warnings
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

import cohortlib as cl
from cohortlib.adapty import Conventions
from cohortlib.compare.explain.adapty.dimensions import MARK, extra_columns
from cohortlib.compare.explain.adapty.money import UserMoney
from cohortlib.compare.explain.adapty.standing import Scales
from cohortlib.compare.explain.adapty.table import AdaptyTable
from cohortlib.compare.explain.causes import Cause
from cohortlib.compare.explain.search import search
from cohortlib.compare.reconcile.compare import reconcile
from cohortlib.errors import CohortlibWarning

pytestmark = [pytest.mark.search, pytest.mark.filterwarnings("ignore::cohortlib.errors.CohortlibWarning")]

with pytest.MonkeyPatch.context() as patch:
    patch.syspath_prepend(Path(__file__).parents[1])
    from benchmarks import planted_adapty as planted

ROWS = 10_000


def in_time():
    return True


DAY = date(1970, 1, 1)


@pytest.fixture(scope="module")
def world():
    return planted.world(ROWS, seed=2)


@pytest.fixture(scope="module")
def large():
    return planted.world(60_000, seed=3)


# --- planted differences ---

ALONE = [
    # By default every third is enough.
    pytest.param(kind, one, id=f"{kind}: {one[0].name}", marks=[pytest.mark.ci] if at % 3 else [])
    for kind in planted.REQUESTS
    for at, one in enumerate(planted.cases(kind, pairs=False))
    # Differences for both requests are planted into one of them. With so few rows an empty day does not stand out.
    if one[0].name != "a day missing locally" and (one[0].only or at % 2 == (kind == "days"))
]
NAMES = {one.name: one for one in planted.PLANTED}
PAIRS = [
    ("renewals", "zone America/New_York", "averages per period"),
    ("days", "zone Asia/Tokyo", "a day missing"),
    pytest.param("renewals", "a customer missing", "cents", marks=pytest.mark.ci),
    pytest.param("renewals", "columns from 0", "payments after to", marks=pytest.mark.ci),
    pytest.param("days", "week starts on Sunday", "no refunds", marks=pytest.mark.ci),
    pytest.param("days", "proceeds and net exchanged", "a customer twice", marks=pytest.mark.ci),
]


@pytest.mark.parametrize(("kind", "differences"), ALONE)
def test_planted_differences_are_named(world, kind, differences):
    outcome = planted.outcome(differences, *world, planted.REQUESTS[kind])
    assert outcome is not None, "it changes nothing"
    assert outcome.right, outcome


@pytest.mark.parametrize(("kind", "one", "other"), PAIRS)
def test_two_at_once_are_named(world, kind, one, other):
    outcome = planted.outcome((NAMES[one], NAMES[other]), *world, planted.REQUESTS[kind])
    assert outcome is not None
    assert outcome.right, outcome


@pytest.mark.parametrize("kind", planted.REQUESTS)
def test_no_cause_without_a_difference(world, kind):
    side = planted.Side(*world, planted.REQUESTS[kind])
    local = AdaptyTable(side.events, side.answer(), side.request, installs=side.installs)
    result = search(local, seconds=60)
    assert result.best.causes == ()
    assert result.best.agreeing == result.best.total


# --- each answer is the engine's ---


def local_of(world, kind="renewals", remote=None, **options):
    side = planted.Side(*world, planted.REQUESTS[kind])
    return side, AdaptyTable(
        side.events, side.answer() if remote is None else remote, side.request, installs=side.installs, **options
    )


def same(actual, expected):
    assert_frame_equal(actual.segments, expected.segments, check_exact=True)
    assert_frame_equal(actual.values, expected.values, check_exact=True)


SETTINGS = [
    (("timezone", "America/New_York"),),
    (("timezone", "Asia/Kolkata"), ("averages", "per_period")),
    (("after_to", "payments"), ("refund_upgraded", "negative")),
    (("user_unit", "customer_user_id"), ("installs", "from_events")),
    (("period_number", "consecutive"),),
    (("restart_per_product", True), ("as_of", date(2025, 8, 1))),
    (("week_start", "sunday"), ("date", (date(2024, 1, 2), date(2025, 6, 29)))),
]


@pytest.mark.parametrize("kind", planted.REQUESTS)
@pytest.mark.parametrize("settings", SETTINGS)
def test_settings_equal_those_of_the_call(world, kind, settings):
    side, local = local_of(world, kind)
    causes = tuple(Cause(name, value, "", ((name, value),)) for name, value in settings)
    arguments = dict(settings)
    zone, installs = arguments.pop("timezone", "UTC"), arguments.pop("installs", side.installs)
    request = side.request
    if "date" in arguments:
        dates = [day.isoformat() for day in arguments.pop("date")]
        request = request | {"filters": request["filters"] | {"date": dates}}
    expected = cl.adapty.cohort(
        side.events, request, installs=installs, timezone=zone, conventions=Conventions(**arguments)
    )
    same(local.recompute(causes), expected)
    same(local.recompute(causes[::-1]), expected)


def number(day):
    return (day - DAY).days


def on(first, last, zone="UTC"):
    days = pl.col("event_datetime").dt.convert_time_zone(zone).dt.date()
    return days.is_between(first, last)


@pytest.mark.parametrize("kind", planted.REQUESTS)
def test_faults_of_the_rows_are_edits_of_the_events(world, kind):
    side, local = local_of(world, kind)
    user = side.events.filter(pl.col("event_type") == "subscription_renewed")["profile_id"][50]
    first, last = date(2024, 11, 3), date(2024, 11, 8)
    zone = Cause("timezone", "Asia/Tokyo", "", (("timezone", "Asia/Tokyo"),))
    of_user, of_days = pl.col("profile_id") == user, on(first, last)
    paid = ~pl.col("event_type").str.ends_with("refunded")
    twice = pl.col("transaction_id") + "-again"

    def answer(events, installs=side.installs, timezone="UTC"):
        return cl.adapty.cohort(events, side.request, installs=installs, timezone=timezone)

    def table(kind, value, *more):
        return local.recompute((Cause(kind, value, ""), *more))

    days = number(first), number(last)
    events, installs = side.events, side.installs
    same(table("rows missing", ("users", (user,), False)), answer(events.filter(~of_user)))
    same(table("rows missing", ("users", (user,), True)), answer(events.filter(~of_user), installs.filter(~of_user)))
    same(table("rows missing", ("days", *days)), answer(events.filter(~of_days)))
    same(table("rows missing", ("days", *days), zone), answer(events.filter(~on(first, last, "Asia/Tokyo")),
                                                              timezone="Asia/Tokyo"))  # fmt: skip
    same(table("rows missing", ("UTC days", *days), zone), answer(events.filter(~of_days), timezone="Asia/Tokyo"))
    same(table("rows twice", ("days", *days)), answer(pl.concat([events, events.filter(of_days).with_columns(twice)])))
    same(table("rows twice", ("users", (user,), False)),
         answer(pl.concat([events, events.filter(of_user).with_columns(twice)])))  # fmt: skip
    same(table("right edge", days[1]), answer(events.filter(pl.col("event_datetime").dt.date() <= last),
                                              installs.filter(pl.col("install_date").dt.date() <= last)))  # fmt: skip
    same(table("refunds", "ignored"), answer(events.filter(paid)))
    production = pl.lit("Production").alias("environment")
    same(table("sandbox", "counted"), answer(events.with_columns(production)))


@pytest.mark.parametrize("kind", planted.REQUESTS)
def test_other_readings_are_edits_of_the_events(world, kind):
    side, _ = local_of(world, kind)
    money = [f"{name}_usd" for name in planted.MONEY]
    of_store = pl.col("store") == "play_store"
    events = side.events.with_columns(
        pl.when(of_store).then(None).otherwise(name).alias(name) for name in money[1:]
    ).with_columns((pl.col(name).fill_null(0) * 2).alias(name.replace("_usd", "_local")) for name in money)
    half = pl.when(of_store).then(pl.col(money[0]) / 2)
    rows = {"play": of_store, "late": pl.col("event_datetime").dt.date() >= date(2024, 9, 1)}
    local = AdaptyTable(events, side.answer(), side.request, installs=side.installs)

    def answer(*changes, kept=None, installs=side.installs):
        chosen = events if kept is None else events.filter(kept)
        return cl.adapty.cohort(chosen.with_columns(changes), side.request, installs=installs)

    def same_as(kind, value, expected):
        same(local.recompute((Cause(kind, value, ""),)), expected)

    def times(which, by):
        return [pl.when(rows[which]).then(pl.col(name) * by).otherwise(name).alias(name) for name in money]

    same_as("values of store", ("store", ("play_store",), False, False), answer(kept=~of_store))
    same_as("values of store", ("store", ("play_store",), True, True),
            answer(kept=of_store, installs=side.installs.filter(of_store)))  # fmt: skip
    same_as("factor of store", ("play_store", (2.0, 2.0, 2.0)), answer(*times("play", 2.0)))
    same_as("factor of dates", (number(date(2024, 9, 1)), (3.0, 3.0, 3.0)), answer(*times("late", 3.0)))
    same_as("missing money", (0.5, 0.0), answer(half.otherwise(money[1]).alias(money[1])))
    same_as("currency", "local", answer(*(pl.col(n.replace("_usd", "_local")).alias(n) for n in money)))
    same_as("events moved", 1, answer(pl.col("event_datetime").dt.offset_by("1d")))
    moved = side.installs.with_columns(pl.col("install_date").dt.offset_by("-2d"))
    same_as("installs moved", -2, answer(installs=moved))
    there = side.installs.with_columns(pl.col("install_date").dt.convert_time_zone("Asia/Tokyo").dt.date())
    same_as("installs moved", "Asia/Tokyo", answer(installs=there))


def test_rows_in_small_columns_line_up_or_are_left_out(world):
    events, _ = world
    extras = extra_columns(events.with_columns(pl.lit("a@b.example").alias("customer_user_id")), events.height)
    assert MARK + "store" in extras.columns
    assert not {MARK + "transaction_id", MARK + "environment", MARK + "end of customer_user_id"} & set(extras.columns)
    assert extra_columns(events, events.height + 1).is_empty()


def test_an_unknown_type_is_tried_as_a_known_one(world):
    side, _ = local_of(world)
    renamed = pl.col("event_type").replace("subscription_renewed", "premium_renewed")
    why = cl.explain(side.events.with_columns(renamed), side.answer(), installs=side.installs)
    assert why.ok
    assert why.settings == {"event_types": {"premium_renewed": "subscription_renewed"}}
    again = cl.explain(side.events.with_columns(renamed), side.answer(), installs=side.installs, **why.settings)
    assert again.reports[0].ok


def test_a_factor_from_a_date_is_not_one_of_all_rows(world):
    """It was fitted while a file was still missing, so it is fitted again next to that cause."""
    side, _ = local_of(world)
    names = [f"{name}_usd" for name in planted.MONEY]
    late = pl.col("event_datetime").dt.date() >= date(2024, 6, 4)
    money = [pl.when(late).then(pl.col(name) * 1.1).otherwise(name).alias(name) for name in names]
    file = pl.col("event_datetime").dt.strftime("%Y-%m").alias("file")
    events = side.events.with_columns(file)
    remote = replace(side, events=events.filter(pl.col("file") != "2024-07").with_columns(money)).answer()
    why = cl.explain(events, remote, installs=side.installs)
    assert {cause.kind for cause in why.causes} == {"factor of dates", "values of file"}
    assert why.ok


# --- how differences are weighed ---


def test_totals_and_derived_fields_carry_nothing(world):
    side, _ = local_of(world)
    answer = side.answer()
    doubled = replace(answer, values=answer.values.with_columns(pl.col("arpu_usd", "revenue_relative") * 1.5))
    scales = Scales.of(answer, doubled, "renewals")
    standing = scales.standing(answer)
    report = reconcile(answer, doubled)
    assert standing.differing == report.total - report.agreeing
    total = scales.places["cohorts"] == 0
    assert not standing.bits[total].any()
    assert standing.remaining > 0  # the users that ARPU divides by
    relative = replace(answer, values=answer.values.with_columns(pl.col("revenue_relative") * 1.5))
    assert Scales.of(answer, relative, "renewals").standing(answer).remaining == 0
    assert Scales.of(answer, answer, "renewals").standing(answer).remaining == 0


def test_rounded_money_is_compared_as_rounded(world):
    side, _ = local_of(world)
    answer = side.answer()
    rounded = replace(
        answer,
        values=answer.values.with_columns(pl.col("^.*_(usd|relative)$").round(0)),
        segments=answer.segments.with_columns(pl.col("^total_.*_usd$").round(0)),
    )
    local = AdaptyTable(side.events, rounded, side.request, installs=side.installs)
    assert local.rounding["arpu_usd"] == pytest.approx(0.5)
    assert local.standing(()).agreeing == local.standing(()).total
    assert not AdaptyTable(side.events, answer, side.request, installs=side.installs).rounding


def test_moneys_exchanged_and_multiplied_are_those_of_every_field(world):
    side, local = local_of(world)
    answer = side.answer()
    actual = local.recompute((Cause("moneys", (1, 0, 2), ""), Cause("factor", (10.0, 100.0, 1.0), "")))
    pairs = [("revenue", "proceeds", 10), ("proceeds", "revenue", 100), ("arppu", "apppu", 10), ("appu", "arpu", 100),
             ("net_revenue", "net_revenue", 1), ("anrpas", "anrpas", 1)]  # fmt: skip
    for name, source, factor in pairs:
        np.testing.assert_allclose(actual.values[f"{name}_usd"], answer.values[f"{source}_usd"] * factor)
        np.testing.assert_allclose(
            actual.segments[f"total_{name}_usd"], answer.segments[f"total_{source}_usd"] * factor
        )
    assert actual.values["revenue_relative"].equals(answer.values["proceeds_relative"].alias("revenue_relative"))
    counts = ["subscribers", "subscriptions", "installs"]
    assert actual.values.select(counts).equals(answer.values.select(counts))


def test_other_labels_of_columns_and_segments(world):
    side, local = local_of(world, "days")
    answer = side.answer()
    later = local.recompute((Cause("labels", 1, ""),)).segments["segment_start_date"].to_list()
    starts = answer.segments["segment_start_date"].to_list()
    assert later[0] == starts[0]
    assert later[1:-1] == starts[2:]
    ends = local.recompute((Cause("labels", "last day", ""),)).values
    assert (
        ends.filter(type="single")["segment_start_date"][0]
        == (date.fromisoformat(starts[2]) - timedelta(1)).isoformat()
    )
    assert local.recompute((Cause("columns", 1, ""),)).values["period"].to_list() == [
        day + 1 for day in answer.values["period"].to_list()
    ]


def test_days_counted_from_one_start_empty(world):
    side, local = local_of(world, "days")
    total = local.recompute((Cause("ages", -1, ""),)).values.filter(type="total")
    days = total["period"].to_list()
    less = side.request | {"renewal_days": [day - 1 for day in days[1:]]}
    expected = cl.adapty.cohort(side.events, less, installs=side.installs).values.filter(type="total")
    assert total["revenue_usd"].to_list() == [0.0, *expected["revenue_usd"]]
    assert total["subscribers"].to_list() == [0, *expected["subscribers"]]
    assert total["arpas_usd"].to_list() == [0.0, *expected["arpas_usd"]]


# --- inputs ---


def test_events_come_as_files_frames_and_streams(world, tmp_path):
    side, local = local_of(world)
    plain = local.recompute(())
    side.events.write_csv(tmp_path / "events.csv")
    side.installs.write_parquet(tmp_path / "installs.parquet")
    remote = side.answer()
    for events in (str(tmp_path / "events.csv"), side.events.lazy(), side.events.to_arrow()):
        local = AdaptyTable(
            events, (remote.segments, remote.values), side.request, installs=str(tmp_path / "installs.parquet")
        )
        same(local.recompute(()), plain)
        assert list(local.candidates((), in_time))


def test_predictions_are_computed_if_the_remote_answer_has_them(large):
    side = planted.Side(*large, planted.REQUESTS["renewals"])
    remote = cl.adapty.cohort(side.events, side.request, installs=side.installs, predict=True)
    assert remote.segments["predict"].null_count() < remote.segments.height
    actual = AdaptyTable(side.events, remote, side.request, installs=side.installs).recompute(())
    assert actual.segments["predict"].equals(remote.segments["predict"])
    plain = AdaptyTable(side.events, side.answer(), side.request, installs=side.installs).recompute(())
    assert plain.segments["predict"].null_count() == plain.segments.height


def test_dates_have_no_time_zone(world):
    events, installs = world
    dated = (pl.col(name).dt.date() for name in ("event_datetime", "install_date", "subscription_expires_at"))
    events, installs = events.with_columns(dated), installs.with_columns(pl.col("install_date").dt.date())
    _, local = local_of((events, installs))
    assert "timezone" not in {cause.kind for cause in local.candidates((), in_time)}


def test_warnings_are_raised_once(world):
    events, installs = world
    with_nulls = events.with_columns(
        pl.when(pl.int_range(pl.len()) % 977 == 0).then(None).otherwise("profile_id").alias("profile_id")
    )
    side, _ = local_of(world)
    with warnings.catch_warnings(record=True) as raised:
        warnings.simplefilter("always")
        local = AdaptyTable(with_nulls, side.answer(), side.request, installs=installs, nulls="drop")
        local.recompute(())
        list(local.candidates((), in_time))
    assert sum("dropped" in str(one.message) for one in raised if one.category is CohortlibWarning) <= 1


# --- candidates ---


def named(local, causes=()):
    return {(cause.kind, cause.value) for cause in local.candidates(causes, in_time)}


def test_causes_without_effect_are_not_candidates(world):
    side, local = local_of(world, "days")
    kinds = {kind for kind, _ in named(local)}
    assert not kinds & {"averages", "period number", "numbering of products", "rows missing", "rows twice", "factor"}
    assert {"week start", "after to", "refunds", "installs", "user", "sandbox"} <= kinds
    bare = side.events.drop("customer_user_id", "consecutive_payments", "cancellation_reason", "ownership_type")
    bare = bare.filter(pl.col("environment") == "Production", ~pl.col("event_type").str.ends_with("refunded"))
    local = AdaptyTable(bare, side.answer(), side.request, installs=side.installs.drop("customer_user_id"))
    assert not {kind for kind, _ in named(local)} & {
        "user",
        "refunds",
        "refunds of upgrades",
        "sandbox",
        "family_shared",
    }
    local = AdaptyTable(side.events, side.answer(), side.request, installs="from_events")
    assert "installs" not in {kind for kind, _ in named(local)}


def test_kinds_already_applied_are_not_candidates(world):
    _, local = local_of(world)
    first = [cause for cause in local.candidates((), in_time) if cause.kind == "averages"]
    assert not [cause for cause in local.candidates(tuple(first), in_time) if cause.kind == "averages"]


def test_zones_with_the_same_days_are_one_candidate(world):
    side, _ = local_of(world)
    remote = cl.adapty.cohort(side.events, side.request, installs=side.installs, timezone="Europe/Paris")
    local = AdaptyTable(side.events, remote, side.request, installs=side.installs)
    zones = [cause for cause in local.candidates((), in_time) if cause.kind == "timezone"]
    assert zones[0].value == "Europe/Berlin"
    assert zones[0].note.startswith("or Europe/Paris and ")
    assert len(zones) < 15


def test_as_of_is_derived_from_the_active_cells(world):
    side, _ = local_of(world, "days")
    for day in (date(2025, 3, 1), date(2025, 9, 1)):
        remote = cl.adapty.cohort(side.events, side.request, installs=side.installs, conventions=Conventions(as_of=day))
        local = AdaptyTable(side.events, remote, side.request, installs=side.installs)
        (cause,) = [cause for cause in local.candidates((), in_time) if cause.kind == "as of"]
        assert reconcile(local.recompute((cause,)), remote).ok


# --- users and days by their money ---


def money_of(rows, segments=2):
    names = ["user", "day", "utc_day", "segment", "revenue", "proceeds", "net_revenue"]
    full = [(user, day, day, segment, money, money * 0.7, money * 0.5) for user, day, segment, money in rows]
    return UserMoney(pl.DataFrame(full, schema=names, orient="row", schema_overrides={"revenue": pl.Float64}), segments)


def test_users_and_pairs_by_their_money():
    money = money_of([("a", 0, 0, 10.0), ("a", 1, 0, 5.0), ("b", 0, 0, 7.0), ("c", 0, 0, 3.0), ("d", 0, 1, 15.0)])
    per_unit = np.array([1, 0.7, 0.5])
    assert money.users_with(0, 15.0 * per_unit) == [("a",)]
    assert money.users_with(1, 15.0 * per_unit) == [("d",)]
    assert money.users_with(0, 10.0 * per_unit) == [("b", "c")]
    assert money.users_with(0, 99.0 * per_unit) == []
    assert money.users_with(0, np.array([15.0, 1.0, 1.0])) == []


def test_runs_of_days_by_their_money():
    rng = np.random.default_rng(0)
    rows = [(f"u{at}", int(rng.integers(0, 200)), int(rng.integers(0, 4)), float(rng.integers(1, 5000)) / 100)
            for at in range(3000)]  # fmt: skip
    money = money_of(rows, 4)
    frame = money.rows
    for first, last in ((20, 20), (50, 54), (150, 199), (3, 120)):
        inside = frame.filter(pl.col("day").is_between(first, last))
        target = np.array([inside.filter(segment=at)["revenue"].sum() for at in range(4)])
        assert (first, last) in money.runs_with(target, 3)
        # Another difference in one segment does not matter.
        if last - first < 40:
            assert (first, last) in money.runs_with(target + np.array([0, 0, 500.0, 0]), 3)
    assert money.runs_with(np.zeros(4), 3) == []
    assert money_of([], 4).runs_with(np.ones(4), 3) == []


# --- remaining differences ---


def test_no_sentence_without_a_difference(world):
    side, local = local_of(world)
    assert local.describe_remaining((), reconcile(local.recompute(()), side.answer())) == []


def test_a_customer_who_installed_around_midnight_is_named():
    days = pl.datetime_range(
        datetime(2026, 1, 1, 12, tzinfo=UTC), datetime(2026, 3, 31, 12, tzinfo=UTC), "1d", eager=True
    )
    users = [f"u{at}" for at in range(len(days))]
    days = days.set(pl.Series(users) == "u58", datetime(2026, 2, 28, 22, 40, tzinfo=UTC))
    events = pl.DataFrame({
        "profile_id": users, "event_type": "subscription_started", "event_datetime": days,
        "transaction_id": [f"t{user}" for user in users], "original_transaction_id": [f"t{user}" for user in users],
        "environment": "Production", "product_id": "monthly",
        "revenue_usd": [10.0 + at / 100 for at in range(len(users))], "proceeds_usd": 7.0, "net_revenue_usd": 6.0,
    })  # fmt: skip
    installs = pl.DataFrame({"profile_id": users, "install_date": days})
    request = {"filters": {"date": ["2026-01-01", "2026-03-31"]}}
    moved = installs.with_columns(
        pl.when(pl.col("profile_id") == "u58")
        .then(pl.lit(datetime(2026, 3, 1, 0, 10, tzinfo=UTC)).dt.cast_time_unit("us"))
        .otherwise("install_date")
        .alias("install_date")
    )
    remote = cl.adapty.cohort(events, request, installs=moved)
    local = AdaptyTable(events, remote, request, installs=installs, timezone="Europe/Berlin")
    lines = local.describe_remaining((), reconcile(local.recompute(()), remote))
    assert lines[2] == "The remote answer has as many installs in all; they differ in 2 of 3 segments."
    assert (
        "The money of both segments agrees if customer u58 (first payment on 2026-02-28 at 23:40) is moved from "
        "2026-02-01 to 2026-03-01."
    ) in lines
    assert lines[-1].startswith("The first question to the vendor: which installs count")
    assert lines[0].startswith(
        f"{reconcile(local.recompute(()), remote).differences.height} cells still differ, in 2 segments"
    )


def test_a_customer_missing_locally_is_described(world):
    side, _ = local_of(world)
    gone = planted._members(side, 1)
    remote = side.answer()
    kept = side.events.filter(~pl.col("profile_id").is_in(gone))
    local = AdaptyTable(kept, remote, side.request, installs=side.installs)
    lines = local.describe_remaining((), reconcile(local.recompute(()), remote))
    assert "all in segment" in lines[0]
    assert "revenue_usd" in " ".join(lines)


def test_days_without_local_rows_are_named(large):
    events, installs = large
    side = planted.Side(events, installs, planted.REQUESTS["days"])
    day = planted._busy(side, 8)
    local = AdaptyTable(events.filter(~on(day, day)), side.answer(), side.request, installs=installs)
    report = reconcile(local.recompute(()), side.answer())
    assert f"The local data have few rows or none of {day}, unlike the days around." in local.describe_remaining(
        (), report
    )
    assert not search(local, seconds=60).best.causes
