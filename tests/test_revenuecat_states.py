"""RevenueCat's rows are states of transactions: any deliveries, in any order of files, give the table of the latest."""

from collections import defaultdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import naive_adapty
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import quietly
from strategies_adapty import assert_same
from test_adapty_spilling import little_memory

import cohortlib as cl
from cohortlib.errors import CohortlibWarning, DataError

pytestmark = pytest.mark.unit

REQUEST = {"filters": {"date": ["2026-01-01", "2026-06-30"]}}
START = datetime(2026, 1, 10, 8, tzinfo=UTC)
COLUMNS = (
    "rc_original_app_user_id", "product_identifier", "start_time", "end_time", "store", "is_auto_renewable",
    "is_trial_period", "is_sandbox", "price_in_usd", "store_transaction_id", "original_store_transaction_id",
    "refunded_at", "renewal_number", "is_trial_conversion", "ownership_type", "tax_percentage",
    "commission_percentage", "purchase_price_in_usd", "product_duration", "first_seen_time", "updated_at",
)  # fmt: skip


def written(instant):
    return "" if instant is None else instant.strftime("%Y-%m-%d %H:%M:%S")


@st.composite
def states(draw):
    """Draw a state of one of a few transactions, as texts by column."""
    number = draw(st.integers(1, 3))
    start = START + timedelta(days=30 * number)
    price = draw(st.sampled_from(("10", "9.99", "0", "60")))
    refunded = draw(st.sampled_from((None, None, start + timedelta(days=5))))
    back = draw(st.sampled_from(("0", "4", price))) if refunded else price
    end = draw(st.sampled_from((start + timedelta(days=30),) * 4 + (None, start - timedelta(days=1))))
    transaction = draw(st.sampled_from(("a", "b", "b", "c", "")))
    return {
        "rc_original_app_user_id": draw(st.sampled_from(("u1", "u2", "u1"))),
        "product_identifier": "pro",
        "start_time": written(start),
        "end_time": written(end),
        "store": draw(st.sampled_from(("app_store", "stripe", "app_store", "promotional"))),
        "is_auto_renewable": draw(st.sampled_from(("true", "false", ""))),
        "is_trial_period": draw(st.sampled_from(("false", "false", "true"))),
        "is_sandbox": draw(st.sampled_from(("false", "false", "f", "true"))),
        "price_in_usd": back if float(back) <= float(price) else "0",
        "store_transaction_id": transaction,
        "original_store_transaction_id": draw(st.sampled_from(("a", "b", ""))),
        "refunded_at": written(refunded),
        "renewal_number": str(number),
        "is_trial_conversion": draw(st.sampled_from(("false", "false", "true"))),
        "ownership_type": "PURCHASED",
        "tax_percentage": draw(st.sampled_from(("0.1", "", "0"))),
        "commission_percentage": draw(st.sampled_from(("0.3", "0.15", ""))),
        "purchase_price_in_usd": price,
        "product_duration": draw(st.sampled_from(("P1M", "", "P1Y"))),
        "first_seen_time": "2026-01-09 03:00:00",
        "updated_at": written(START + timedelta(days=draw(st.sampled_from((1, 2, 3, 40))))) if draw(ONE_IN_9) else "",
    }


ONE_IN_9 = st.integers(0, 8).map(bool)


def latest(rows):
    """Return the greatest state of each transaction; rows without an id are each one of their own."""
    versions, alone = defaultdict(list), []
    for row in rows:
        key = row["store_transaction_id"], row["renewal_number"]
        (versions[key] if key[0] else alone).append(row)

    def order(row):
        return row["updated_at"], [row[name] for name in sorted(row)]

    return alone + [max(found, key=order) for found in versions.values()]


def as_events(row):
    """Return the events of a state, as the judge of Adapty's table takes them."""
    if row["end_time"] and row["end_time"] < row["start_time"]:
        return []
    subscription = bool(row["end_time"]) or row["is_auto_renewable"] == "true"
    if row["is_trial_period"] == "true":
        kind = "trial_started"
    elif row["is_trial_conversion"] == "true":
        kind = "trial_converted"
    elif not subscription:
        kind = "non_subscription_purchase"
    else:
        kind = "subscription_started" if row["renewal_number"] == "1" else "subscription_renewed"

    def instant(name):
        return datetime.strptime(row[name], "%Y-%m-%d %H:%M:%S").replace(tzinfo=UTC) if row[name] else None

    def event(kind, at, price):
        commission, tax = (float(row[name] or 0) for name in ("commission_percentage", "tax_percentage"))
        shared = row["store_transaction_id"]
        return {
            "profile_id": row["rc_original_app_user_id"],
            "event_type": kind,
            "event_datetime": at,
            "transaction_id": f"{shared}:{row['renewal_number']}" if shared else None,
            "original_transaction_id": row["original_store_transaction_id"] or shared or None,
            "environment": "Sandbox" if row["is_sandbox"] == "true" else "Production",
            "product_id": "adapty_promotion" if row["store"] == "promotional" else row["product_identifier"],
            "revenue_usd": price,
            "proceeds_usd": price * (1.0 - commission),
            "net_revenue_usd": price * (1.0 - commission - tax),
            "subscription_expires_at": instant("end_time"),
            "install_date": instant("first_seen_time"),
        }

    price, remaining = float(row["purchase_price_in_usd"]), float(row["price_in_usd"])
    events = [event(kind, instant("start_time"), price)]
    if kind != "trial_started" and row["refunded_at"] and price - remaining > 0:
        refund = "non_subscription_purchase_refunded" if "non_" in kind else "subscription_refunded"
        events.append(event(refund, instant("refunded_at"), price - remaining))
    return events


@given(st.lists(states(), min_size=1, max_size=12), st.data())
def test_the_latest_states_are_the_table(rows, data):
    winners = latest(rows)
    expected, _ = naive_adapty.cohort(
        [event for row in winners for event in as_events(row)], REQUEST, installs="from_events"
    )
    order = data.draw(st.permutations(rows))
    of_file = [data.draw(st.integers(0, 2)) for _ in order]
    names = data.draw(st.permutations(COLUMNS))
    kind = data.draw(st.sampled_from(("csv", "parquet")))
    with TemporaryDirectory() as folder:
        for number in {*of_file}:
            texts = [row for row, own in zip(order, of_file, strict=True) if own == number]
            frame = pl.DataFrame(texts, schema=dict.fromkeys(names, pl.String))
            path = Path(folder) / f"{number}.{kind}"
            frame.write_csv(path) if kind == "csv" else frame.write_parquet(path)
        source = f"{folder}/*.{kind}"
        answers = [quietly(cl.adapty.cohort, source, REQUEST, installs="from_events")]
        with little_memory(data.draw(st.integers(1, 4))):
            answers.append(quietly(cl.adapty.cohort, source, REQUEST, installs="from_events", max_memory=1))
    for answer in answers:
        assert_same(answer.to_dict(), expected)
        assert answer.report["rows"] == len(rows)
        assert answer.report["superseded"] == len(rows) - len(winners)
    assert answers[0].report == answers[1].report


def row_of(**changed):
    row = dict.fromkeys(COLUMNS, "") | {
        "rc_original_app_user_id": "u1", "product_identifier": "pro", "start_time": "2026-02-10 08:00:00",
        "end_time": "2026-03-10 08:00:00", "store": "app_store", "is_trial_period": "false", "is_sandbox": "false",
        "price_in_usd": "10", "store_transaction_id": "t1", "original_store_transaction_id": "t1",
        "renewal_number": "1", "is_trial_conversion": "false", "purchase_price_in_usd": "10",
        "first_seen_time": "2026-02-01 03:00:00", "updated_at": "2026-02-10 09:00:00",
    }  # fmt: skip
    return row | changed


def ask(*rows, drop=()):
    frame = pl.DataFrame(rows, schema=dict.fromkeys(COLUMNS, pl.String)).drop(drop)
    return cl.adapty.cohort(frame, REQUEST, installs="from_events")


def test_a_transaction_may_move_to_another_user():
    moved = row_of(rc_original_app_user_id="u2", updated_at="2026-02-11 09:00:00")
    answer = ask(moved, row_of())
    assert answer.segments["total_subscriptions"][0] == 1
    assert answer.report["superseded"] == 1


@pytest.mark.parametrize("drop", [(), "updated_at"])
def test_states_without_an_order_are_warned_of(drop):
    rows = row_of(), row_of(price_in_usd="9", purchase_price_in_usd="9")
    with pytest.warns(CohortlibWarning, match="order is unknown: 1, since they have the same updated_at or none"):
        answer = ask(*rows, drop=drop)
    assert answer.segments["total_subscriptions"][0] == 1
    assert answer.report["superseded"] == (0 if drop else 1)
    assert ask(row_of(), row_of(), drop=drop).report["unordered_states"] == 0  # a row that is delivered twice


def test_wrong_updated_at():
    with pytest.raises(cl.errors.DataError, match="row 1: updated_at 'yesterday' is not a date"):
        ask(row_of(), row_of(updated_at="yesterday"))


def test_a_row_that_ends_before_it_starts_is_void():
    answer = quietly(ask, row_of(end_time="2026-02-09 08:00:00"))
    assert answer.report["void"] == 1
    assert answer.segments["total_subscriptions"][0] == 0


def test_versions_of_the_export():
    # Booleans were t and f before version 4, and columns can be chosen since version 7.
    old = ask(row_of(is_sandbox="f", is_trial_period="f", is_trial_conversion="f"))
    few = ask(row_of(), drop=("is_auto_renewable", "product_duration", "first_seen_time", "ownership_type"))
    typed = ask(row_of()) if True else None
    assert old.to_dict() == few.to_dict() == typed.to_dict()


def test_a_transaction_that_moves_to_another_user_is_not_added_twice():
    """Which state is the latest shows only among all rows of a transaction; sums of parts are refused."""
    old, new, other = (
        pl.DataFrame([row_of(**row)])
        for row in (
            {"rc_original_app_user_id": "u1", "updated_at": "2026-02-01 00:00:00"},
            {"rc_original_app_user_id": "u2", "updated_at": "2026-02-02 00:00:00"},
            {"rc_original_app_user_id": "u3", "store_transaction_id": "other"},
        )
    )

    def part(frame):
        return quietly(cl.adapty.sums, frame, REQUEST, installs="from_events", secret=b"same")

    one, two, three = map(part, (old, new, other))
    for add in (lambda: one + two, lambda: (one + three) + two):
        with pytest.raises(DataError, match="with rows in several sums: 1"):
            add()
    tables = pl.concat([one.table(), two.table()])
    with pytest.raises(DataError, match="with rows in several sums: 1"):
        cl.adapty.Sums.of_table(tables, one.plan)
    moved = part(pl.concat([old, new]))
    whole = quietly(cl.adapty.cohort, pl.concat([old, new, other]), REQUEST, installs="from_events")
    assert_same((moved + three).answer().to_dict(), whole.to_dict())
    again = cl.adapty.Sums.of_table(pl.concat([moved.table(), three.table()]), one.plan)
    assert (again.answer().to_dict(), again.report["superseded"]) == (whole.to_dict(), 1)
