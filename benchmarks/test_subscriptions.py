"""The generated history is reproducible and contains everything that it documents."""

import polars as pl
import pytest
from polars import col
from polars.testing import assert_frame_equal

from benchmarks.subscriptions import EVENTS, IDS, PRODUCTS, history

REFUND = col("event_type").str.ends_with("refunded") & (col("cancellation_reason") != "upgraded")
PAYMENT = col("event_type").is_in(
    ["subscription_started", "trial_converted", "subscription_renewed", "non_subscription_purchase"]
)
KEY = ("profile_id", "transaction_id", "event_type")


@pytest.fixture(scope="module")
def made():
    return history(60_000, seed=7)


@pytest.fixture
def events(made):
    return made[0]


@pytest.fixture
def installs(made):
    return made[1]


@pytest.mark.parametrize("ids", IDS)
def test_same_seed_same_frames(ids):
    for first, second in zip(history(3000, seed=3, ids=ids), history(3000, seed=3, ids=ids), strict=True):
        assert_frame_equal(first, second)
    assert not history(3000, seed=3, ids=ids)[0].equals(history(3000, seed=4, ids=ids)[0])


@pytest.mark.parametrize("count", [0, 1, 10, 5000])
def test_number_of_rows_in_order_of_time(count):
    frame, installs = history(count)
    assert frame.height == count
    assert frame["event_datetime"].is_sorted()
    assert installs["install_date"].is_sorted()
    assert frame.schema["event_datetime"] == installs.schema["install_date"] == pl.Datetime("us", "UTC")


def test_every_kind_of_event_product_and_place(events, installs):
    assert set(events["event_type"]) == set(EVENTS)
    assert set(events["product_id"]) == {product.name for product in PRODUCTS}
    assert set(events["duration"]) == {product.duration for product in PRODUCTS}
    for name, kinds in {"store": 2, "store_country": 7, "profile_country": 7, "environment": 2}.items():
        assert events[name].n_unique() == kinds
    assert set(events["cancellation_reason"].drop_nulls()) == {
        *("upgraded", "voluntarily_cancelled", "billing_error", "refund")
    }
    assert set(events["offer_category"].drop_nulls()) == {"introductory", "win_back"}
    quarters = installs["install_date"].dt.truncate("1q").value_counts().sort("install_date")["count"]
    assert quarters[-2] > 2 * quarters[0]


def test_ids_look_like_the_stores(events):
    ids = events.filter(col("transaction_id").is_not_null())
    digits = ids.filter(store="app_store", product_id="premium.monthly.999")
    assert digits["transaction_id"].str.contains(r"^\d{15}$").all()
    orders = ids.filter(~PAYMENT | col("product_id").str.starts_with("premium")).filter(store="play_store")
    orders = orders.filter(col("original_transaction_id").str.starts_with("GPA"))
    assert orders["transaction_id"].str.contains(r"^GPA(\.\d{4})(-\d{4}){2}-\d{5}(\.\.\d+)?$").all()
    assert events["profile_id"].str.len_chars().unique().to_list() == [36]
    assert history(100, ids="int")[0].schema["profile_id"] == pl.Int64


def test_amounts_are_in_cents(events):
    paid = events.filter(PAYMENT, col("product_id") != "adapty_promotion")
    for name in ("revenue_usd", "proceeds_usd", "net_revenue_usd"):
        cents = paid[name] * 100
        assert ((cents - cents.round()).abs() < 1e-9).all()
    assert (paid["revenue_usd"] > paid["proceeds_usd"]).all()
    assert (paid["proceeds_usd"] >= paid["net_revenue_usd"]).all()
    assert set(events.filter(REFUND)["revenue_usd"].sign()) == {-1.0, 1.0}


def test_churn_falls_with_age(events):
    paid = events.filter(PAYMENT, product_id="premium.monthly.999").unique(KEY)
    reached = paid["consecutive_payments"].value_counts().sort("consecutive_payments")["count"]
    assert reached[1] / reached[0] < reached[7] / reached[6]


def test_refunds_with_and_without_their_payment(events):
    refunds = events.filter(REFUND)
    payments = events.filter(PAYMENT).select("profile_id", "transaction_id", paid="event_datetime")
    named = refunds.join(payments, on=["profile_id", "transaction_id"])
    assert 0.8 < named.unique(KEY).height / refunds.unique(KEY).height < 0.95
    assert refunds["transaction_id"].null_count() > 0

    chain = ["profile_id", "original_transaction_id"]
    last = events.filter(PAYMENT).group_by(chain).agg(last=col("event_datetime").max())
    before_the_last = refunds.join(last, on=chain).filter(col("last") > col("event_datetime")).height
    assert 0 < before_the_last < refunds.height
    assert refunds.join(last, on=chain, how="anti").height > 0


def test_upgrades_and_gaps(events):
    upgraded = events.filter(cancellation_reason="upgraded")
    assert set(upgraded["event_type"]) == {"subscription_refunded"}
    chain = ["profile_id", "original_transaction_id"]
    paid = events.filter(PAYMENT).unique(KEY).sort("event_datetime")
    products = paid.group_by(chain).agg(col("product_id").n_unique()).filter(col("product_id") > 1)
    assert products.join(upgraded, on=chain, how="semi").height > 0
    expired = col("subscription_expires_at").shift(1).over(chain)
    assert paid.filter(col("event_datetime") > expired + pl.duration(days=30)).height > 0


def test_noise(events, installs):
    copies = events.filter(pl.len().over(KEY) > 1, col("transaction_id").is_not_null())
    assert 0 < copies.filter(pl.len().over(*KEY, "event_datetime") > 1).height < copies.height
    assert events.filter(environment="Sandbox").height > 0
    assert events.filter(product_id="adapty_promotion")["transaction_id"].null_count() > 0
    owners = events.group_by("original_transaction_id").agg(col("profile_id").n_unique())
    assert owners["profile_id"].max() == 2
    assert events.join(installs, on="profile_id", how="anti")["install_date"].null_count() > 0
    assert installs["profile_id"].is_duplicated().any()
    assert events.filter(PAYMENT, col("event_datetime") < col("install_date")).height > 0


def test_without_noise():
    events, installs = history(20_000, noise=False, loose_refunds=False)
    assert set(events["event_type"]) == set(EVENTS[:7])
    assert events["environment"].unique().to_list() == ["Production"]
    counting = events.filter(col("cancellation_reason").ne_missing("upgraded"))
    assert not counting.select(KEY).is_duplicated().any()
    assert not installs["profile_id"].is_duplicated().any()
    assert events.join(installs, on="profile_id", how="anti").is_empty()
    payments = events.filter(PAYMENT)
    assert events.filter(REFUND).join(payments, on=["profile_id", "transaction_id"], how="anti").is_empty()


def test_unknown_ids():
    with pytest.raises(ValueError, match="'int', 'uuid'"):
        history(10, ids="text")
