"""One answer per value of a column: each is that of the value as a filter, to the bit."""

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from naive_adapty import MONEYS
from strategies import quietly
from strategies_adapty import assert_same, cases
from test_adapty_laws import PLAIN, added, sums
from test_adapty_spilling import little_memory
from test_revenuecat_states import COLUMNS, row_of

import cohortlib as cl
from cohortlib.adapty import by as by_value
from cohortlib.adapty import filters
from cohortlib.errors import CohortlibWarning, DataError, SchemaError, SettingError

pytestmark = pytest.mark.unit

few = settings(max_examples=settings().max_examples // 2)
NAMES = (
    "country", "store", "store_product_id", "attribution_status", "attribution_adset", "attribution_channel",
    "offer_category", "offer_type", "offer_id", "duration", "product_id",
)  # fmt: skip


def same(left, right):
    """Compare two answers with their reports and requests."""
    assert_same(left.to_dict(), right.to_dict())
    assert left.report == right.report
    assert (left.request, left.conventions) == (right.request, right.conventions)
    assert left.segments.equals(right.segments)


def filtered(case, name, value, **more):
    """Return the answer with a filter on one value, in addition to the other filters of the case."""
    filters = {**case.request["filters"], name: [value]}
    return case.ask(case.frame, request={**case.request, "filters": filters}, **more)


def with_columns(case, names):
    """Whether the frame of a case has one of some columns, under its own name."""
    return any(name in case.frame.columns for name in names)


def names_of(case):
    """List the filters whose columns a case has and that do not filter already."""
    taken = {name for name, values in case.request["filters"].items() if values}
    names = [name for name in NAMES if name not in taken and with_columns(case, filters.columns_of(name))]
    return [name for name in names if name != "product_id"] + ["product_id"] * ("store_product_id" in names)


@given(st.data(), cases(poison=False), st.booleans())
def test_each_value_is_the_filter(drawn, case, predict):
    name = drawn.draw(st.sampled_from(names_of(case) or ["country"]))
    if not with_columns(case, filters.columns_of(name)):
        return
    as_filter = "store_product_id" if name == "product_id" else name
    answers = case.ask(case.frame, by=name, predict=predict)
    values = [value for value in answers if value is not None]
    assert list(answers) == sorted(values) + [None] * (None in answers)
    for value, answer in answers.items():
        if value is not None and answer.request != cl.adapty.Request.of(case.request):
            same(answer, filtered(case, as_filter, value, predict=predict))
    with little_memory(5):
        spilled = case.ask(
            case.frame.lazy(), by=name, predict=predict, max_memory=drawn.draw(st.sampled_from((1, 20_000)))
        )
    assert list(spilled) == list(answers)
    for value, answer in spilled.items():
        same(answer, answers[value])


def with_texts(frame, name, texts):
    """Add a column of some texts, over and over."""
    return frame.with_columns(pl.Series(name, [texts[at % len(texts)] for at in range(frame.height)], dtype=pl.String))


@given(
    cases(poison=False, filtered=False),
    st.lists(st.sampled_from(("a", "B", "", None)), min_size=1, max_size=7),
    st.booleans(),
)
def test_a_column_that_is_not_a_filter_and_null(case, texts, listed):
    """The values of any column, and null, select as the values of a filter that is like it."""
    events, installs, own = case.frame, case.installs_as, "plan_name"
    listed = listed and not isinstance(installs, str)
    # A filter on transactions leaves installs alone; one on networks cuts those that have its column.
    like = "attribution_creative" if listed else "offer_id"
    twin = events.drop(like, strict=False)
    events = with_texts(events, own, texts)
    twin = with_texts(twin, like, [text or "none" for text in texts])
    install_twin = installs
    if listed:
        install_twin = with_texts(installs, like, [text or "none" for text in texts[::-1]])
        installs = with_texts(installs, own, texts[::-1])
    answers = case.ask(events, by=own, installs=installs)
    judged = case.ask(twin, by=like, installs=install_twin)
    assert [value or "none" for value in answers] == [
        value for value in (*sorted(set(judged) - {"none"}), "none") if value in judged
    ]
    for value, answer in answers.items():
        same_but_request = judged[value or "none"]
        assert_same(answer.to_dict(), same_but_request.to_dict())
        assert answer.report == same_but_request.report
        assert answer.request == cl.adapty.Request.of(case.request)
        request = {**case.request, "filters": {**case.request["filters"], like: [value or "none"]}}
        assert_same(answer.to_dict(), case.ask(twin, request=request, installs=install_twin).to_dict())


@few
@given(cases(poison=False, filtered=False, money=PLAIN), st.sampled_from(("country", "store", "offer_id")))
def test_money_adds_up_and_users_add_up_to_no_less(case, name):
    if not with_columns(case, filters.columns_of(name)):
        return
    whole, answers = case.ask(case.frame), case.ask(case.frame, by=name)
    for at, segment in enumerate(whole.to_dict()["data"]):
        total = sums(segment, case)
        parts = added([sums(answer.to_dict()["data"][at], case) for answer in answers.values()])
        money = [key for key in total if key[1] in MONEYS]
        assert {key: parts.get(key, 0) for key in money} == {key: total[key] for key in money}
        if case.request.get("period_type") != "days":  # by days, a user refunded anywhere is no subscriber
            assert all(
                parts.get((column, "subscribers"), 0) >= total[column, "subscribers"] for column, _ in total if column
            )


USERS = pl.DataFrame({
    "profile_id": ["u1", "u1", "u2", "u3"], "event_type": "subscription_started",
    "event_datetime": ["2026-02-03", "2026-02-04", "2026-02-05", "2026-02-06"],
    "transaction_id": ["1", "2", "3", "4"], "original_transaction_id": ["1", "2", "3", "4"],
    "environment": "Production", "product_id": "monthly", "revenue_usd": [10.0, 20.0, 5.0, 1.0], "proceeds_usd": 1.0,
    "net_revenue_usd": 1.0, "store_country": ["US", "DE", "us", None], "paywall_name": ["x", "y", "x", "x"],
})  # fmt: skip
LISTED = pl.DataFrame(
    {"profile_id": ["u1", "u2", "u3", "u4"], "install_date": "2026-02-01", "country": ["us", "us", None, "fr"]}
)
REQUEST = {"filters": {"date": ["2026-02-01", "2026-02-28"]}}


def totals(answers, name):
    return {value: answer.segments[f"total_{name}"][0] for value, answer in answers.items()}


def test_what_adds_up_and_what_need_not():
    """A user who pays in two countries counts in both; installs are cut only where their table has the column."""
    answers = cl.adapty.cohort(USERS, REQUEST, installs=LISTED, by="country")
    assert totals(answers, "revenue_usd") == {"DE": 20.0, "US": 15.0, "fr": 0.0, None: 1.0}
    assert totals(answers, "paid_subscribers") == {"DE": 1, "US": 2, "fr": 0, None: 1}  # 3 users
    assert totals(answers, "installs") == {"DE": 0, "US": 2, "fr": 1, None: 1}
    assert answers["US"].request.filters.country == ("US",)
    with pytest.warns(
        CohortlibWarning, match="installs that filters cannot reach: 4, since the installs have no column 'country'"
    ):
        answers = cl.adapty.cohort(USERS, REQUEST, installs=LISTED.drop("country"), by="country")
    assert totals(answers, "installs") == {"DE": 4, "US": 4, None: 4}
    answers = cl.adapty.cohort(USERS, REQUEST, installs=LISTED, by="paywall_name")
    assert totals(answers, "installs") == {"x": 4, "y": 4}
    assert totals(answers, "revenue_usd") == {"x": 16.0, "y": 20.0}


def test_values_of_the_other_filters_only():
    request = {"filters": {**REQUEST["filters"], "country": ["us", "fr"]}}
    assert totals(cl.adapty.cohort(USERS, request, installs=LISTED, by="country"), "revenue_usd") == {
        "US": 15.0,
        "fr": 0.0,
    }


def test_files(tmp_path):
    """The rows of several files are as those of one frame, also if they need more memory than there is."""
    whole = cl.adapty.cohort(USERS, REQUEST, installs=LISTED, by="paywall_name")
    for at in range(2):
        USERS[at::2].write_csv(tmp_path / f"{at}.csv")
    files = [str(tmp_path / f"{at}.csv") for at in range(2)]
    for most in (None, "1GB", 1):
        with little_memory(1):
            answers = cl.adapty.cohort(files, REQUEST, installs=LISTED, by="paywall_name", max_memory=most)
        assert list(answers) == ["x", "y"]
        for value, answer in answers.items():
            same(answer, whole[value])


def test_networks(tmp_path):
    """A user of several networks counts for each; with another filter on networks, one network must pass both."""
    told = ['{"a": {"status": "organic"}, "b": {"status": "paid"}}', None, '{"b": {"status": "organic"}}', None]
    USERS.with_columns(pl.Series("attributions", told)).write_ndjson(tmp_path / "events.jsonl")
    for status in ([], ["organic"]):
        request = {"filters": {**REQUEST["filters"], "attribution_status": status}}
        answers = cl.adapty.cohort(tmp_path / "events.jsonl", request, installs="from_events", by="attribution_source")
        with little_memory(1):
            spilled = cl.adapty.cohort(
                tmp_path / "events.jsonl", request, installs="from_events", by="attribution_source", max_memory=1
            )
        money = {"a": 10.0, "b": 5.0} if status else {"a": 10.0, "b": 15.0, None: 21.0}
        assert totals(answers, "revenue_usd") == totals(spilled, "revenue_usd") == money
        for value in ("a", "b"):
            one = {"filters": {**request["filters"], "attribution_source": [value]}}
            same(answers[value], quietly(cl.adapty.cohort, tmp_path / "events.jsonl", one, installs="from_events"))
            same(spilled[value], answers[value])


def test_revenuecat():
    """The latest state of a transaction decides its value; columns that are not filters are not read."""
    rows = [
        row_of(store="stripe"),
        row_of(updated_at="2026-02-11 09:00:00"),
        row_of(store_transaction_id="t2", store=""),
    ]
    frame = pl.DataFrame(rows, schema=dict.fromkeys(COLUMNS, pl.String))
    answers = cl.adapty.cohort(frame, REQUEST, installs="from_events", by="store")
    assert totals(answers, "subscriptions") == {"app_store": 1, None: 1}
    with little_memory(1):
        spilled = cl.adapty.cohort(frame, REQUEST, installs="from_events", by="store", max_memory=1)
    for value, answer in spilled.items():
        same(answer, answers[value])
    with pytest.raises(SchemaError, match=r"column 'offer_name' of RevenueCat's .* is not read\. Expected a filter"):
        cl.adapty.cohort(frame, REQUEST, installs="from_events", by="offer_name")


def test_errors(monkeypatch):
    ask = cl.adapty.cohort
    with pytest.raises(SchemaError, match="by='store' needs the column 'store', which the events do not have"):
        ask(USERS, REQUEST, installs=LISTED, by="store")
    with pytest.raises(SchemaError, match="by='plan' needs the column 'plan'"):
        ask(USERS, REQUEST, installs=LISTED, by="plan")
    with pytest.raises(SettingError, match=r"by=7 is not a column\. Expected a filter"):
        ask(USERS, REQUEST, installs=LISTED, by=7)
    with pytest.raises(SchemaError, match="revenue_usd"):
        ask(USERS, REQUEST, installs=LISTED, by="revenue_usd")
    monkeypatch.setattr(by_value, "MOST_VALUES", 1)
    with pytest.raises(DataError, match="the column has more than 1 values"):
        ask(USERS, REQUEST, installs=LISTED, by="country")
