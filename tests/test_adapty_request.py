"""The request: what the API's body may say, what is told where it is wrong, and the conventions."""

import contextlib
import inspect
import json
import pickle
import subprocess
import sys
from collections import UserDict
from dataclasses import FrozenInstanceError, fields, replace
from datetime import date, datetime

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import cohortlib as cl
from cohortlib.adapty import keywords
from cohortlib.adapty.conventions import Conventions
from cohortlib.adapty.request import FILTERS, Filters, Request
from cohortlib.adapty.validation import DURATIONS, RequestError, read_day
from cohortlib.errors import CohortlibWarning, SettingError
from cohortlib.literals import WEEKDAYS

pytestmark = pytest.mark.unit

DATES = ["2024-04-01", "2024-09-30"]
DEFAULTS = {
    "filters": {"date": DATES},
    "period_unit": "month",
    "period_type": "renewals",
    "value_type": "absolute",
    "value_field": "revenue",
    "accounting_type": "revenue",
    "renewal_days": [0, 3, 7, 14, 28, 31, 61, 92, 183, 336, 550, 731],
    "prediction_months": 12,
    "format": "json",
}
CHOICES = {
    "period_unit": ["month", "day", "week", "quarter", "year"],
    "period_type": ["renewals", "days"],
    "value_type": ["absolute", "relative"],
    "value_field": ["revenue", "arppu", "arpu", "arpas", "subscribers", "subscriptions"],
    "accounting_type": ["revenue", "proceeds", "net_revenue"],
    "prediction_months": [12, 3, 6, 9, 18, 24],
    "format": ["json", "csv"],
}
CONVENTIONS = {
    "user_unit": ["profile_id", "customer_user_id", "device_id"],
    "refund_upgraded": ["zero", "negative"],
    "period_number": ["ordinal", "consecutive"],
    "restart_per_product": ["auto", True, False],
    "averages": ["cumulative", "per_period"],
    "after_to": ["drop", "payments"],
    "missing_money": ["zero", "error"],
    "zero_payments": ["count", "skip"],
    "ladder_age": ["cohort", "install"],
    "week_start": list(WEEKDAYS),
}


def body(filters=None, **rest):
    return {"filters": {"date": DATES} | (filters or {})} | rest


def wrong(request):
    """Give what is wrong with a request, by field."""
    with pytest.raises(RequestError) as caught:
        Request.of(request)
    told = {one["source"]: one["errors"] for one in caught.value.errors}
    assert len(told) == len(caught.value.errors)
    assert all(isinstance(text, str) and text for texts in told.values() for text in texts)
    return told


# --- what may be said ---


def test_defaults():
    assert Request.of(body()).to_dict() == DEFAULTS
    assert Request.of(body()) == Request(date=(date(2024, 4, 1), date(2024, 9, 30)))


def test_a_request_shows_what_is_not_the_default():
    request = Request.of(body({"store": ["app_store"]}, period_unit="week"))
    dates = "date=(datetime.date(2024, 4, 1), datetime.date(2024, 9, 30))"
    assert repr(request) == f"Request({dates}, filters=Filters(store=('app_store',)), period_unit='week')"
    assert repr(Conventions(after_to="payments")) == "Conventions(after_to='payments')"
    assert repr(Filters()) == "Filters()"


def test_the_example_of_the_docs():
    request = Request.of(
        body(
            {"store": ["app_store"], "country": ["us"]},
            period_unit="month",
            period_type="renewals",
            value_type="absolute",
            value_field="subscriptions",
        )
    )
    assert request.date == (date(2024, 4, 1), date(2024, 9, 30))
    assert request.filters == Filters(store=("app_store",), country=("us",))
    assert request.value_field == "subscriptions"


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in CHOICES.items() for value in values])
def test_every_choice(name, value):
    request = Request.of(body(**{name: value}))
    assert getattr(request, name) == value
    assert request.to_dict() == DEFAULTS | {name: value}


def test_dates_of_python_and_one_day():
    day = date(2024, 2, 29)
    assert Request.of({"filters": {"date": (day, "2024-02-29")}}).date == (day, day)


def test_days_are_in_order_and_once():
    assert Request.of(body(renewal_days=[7, 0, 7, np.int64(3)])).renewal_days == (0, 3, 7)
    assert json.dumps(Request.of(body(renewal_days=np.arange(3).tolist())).to_dict())
    assert Request.of(body(renewal_days=range(3))).renewal_days == (0, 1, 2)


def test_filters_are_kept_as_they_stand_but_once():
    filters = {name: ["b", "A", "b"] for name in FILTERS if name not in ("store_product_id", "duration")}
    request = Request.of(body(filters))
    for name in filters:
        assert getattr(request.filters, name) == ("b", "A")
    assert request.to_dict()["filters"] == {"date": DATES} | {name: ["b", "A"] for name in filters}


@pytest.mark.parametrize("empty", [[], (), None])
def test_an_empty_list_is_no_filter(empty):
    assert Request.of(body(dict.fromkeys(FILTERS, empty))) == Request.of(body())
    assert Request.of(body({"store": empty})).filters.active == ()


def test_durations_in_any_case():
    filters = Request.of(body({"duration": ["WEEKLY", "weekly", "2 Months", "uncategorized"]})).filters
    assert filters.duration == ("Weekly", "2 months", "Uncategorized")
    assert Request.of(body({"duration": [name.upper() for name in DURATIONS]})).filters.duration == DURATIONS


@pytest.mark.parametrize(
    ("written", "read", "text"),
    [
        ("gold", (None, "gold", None), "gold"),
        ("app_store:gold", ("app_store", "gold", None), "app_store:gold"),
        ("play_store:gold:p1m", ("play_store", "gold", "p1m"), "play_store:gold:p1m"),
        (["app_store", "gold"], ("app_store", "gold", None), "app_store:gold"),
        (["play_store", "gold:p1m"], ("play_store", "gold:p1m", None), ["play_store", "gold:p1m"]),
        ("a:b:c:d", (None, "a:b:c:d", None), "a:b:c:d"),
        (("app_store", "gold", None), ("app_store", "gold", None), "app_store:gold"),
        ((None, "gold", None), (None, "gold", None), "gold"),
    ],
)
def test_products(written, read, text):
    request = Request.of(body({"store_product_id": [written]}))
    assert request.filters.store_product_id == (read,)
    assert request.to_dict()["filters"]["store_product_id"] == [text]
    assert Request.of(request.to_dict()) == request


@pytest.mark.parametrize("store_and_product", [["0", ":"], [":", "gold"], ["a:b", "c"], ["app_store", "a:b"]])
def test_a_product_with_a_colon_is_written_as_a_list(store_and_product):
    request = Request.of(body({"store_product_id": [store_and_product]}))
    assert request.filters.store_product_id == ((*store_and_product, None),)
    assert request.to_dict()["filters"]["store_product_id"] == [store_and_product]
    assert Request.of(json.loads(json.dumps(request.to_dict()))) == request


def test_a_comparison_is_ignored_with_a_warning():
    with pytest.warns(CohortlibWarning, match=r"filters\.compare_date is ignored"):
        request = Request.of(body({"compare_date": ["2023-04-01", "2023-09-30"]}))
    assert request.compare_date == (date(2023, 4, 1), date(2023, 9, 30))
    assert request.to_dict()["filters"]["compare_date"] == ["2023-04-01", "2023-09-30"]
    assert Request.of(body({"compare_date": None})) == Request.of(body())


def test_any_mapping_and_a_request_itself():
    request = Request.of(UserDict(body(UserDict({"store": ["x"]}))))
    assert Request.of(request) is request


def test_a_request_is_a_value():
    request = Request.of(body({"store": ["x"]}))
    assert {request: 1}[Request.of(body({"store": ["x"]}))] == 1
    assert replace(request, period_unit="week").to_dict() == request.to_dict() | {"period_unit": "week"}
    assert pickle.loads(pickle.dumps(request)) == request  # noqa: S301
    with pytest.raises(FrozenInstanceError):
        request.period_unit = "week"
    with pytest.raises(RequestError, match="period_unit: 'weekly' is unknown"):
        replace(request, period_unit="weekly")
    with pytest.raises(RequestError, match=r"filters\.store: 5 is not a text"):
        replace(request, filters=Filters(store=[5]))


def test_a_request_of_python():
    days = (date(2024, 4, 1), date(2024, 9, 30))
    assert Request(date=days, filters={"store": ["x"]}) == Request.of(body({"store": ["x"]}))
    with pytest.raises(RequestError, match=r"filters\.date: unknown field"):
        Request(date=days, filters={"date": DATES})


texts = st.lists(st.text(min_size=1, max_size=5), max_size=3)
part = st.text(st.characters(blacklist_characters=":"), min_size=1, max_size=3)
products = st.one_of(
    part,
    st.builds("{}:{}".format, part, part),
    st.builds("{}:{}:{}".format, part, part, part),
    st.lists(st.text(min_size=1, max_size=5), min_size=2, max_size=2),
)
days = st.dates().map(date.isoformat)
bodies = st.fixed_dictionaries(
    {
        "filters": st.fixed_dictionaries(
            {"date": st.tuples(days, days).map(sorted)},
            optional={name: texts for name in FILTERS if name not in ("store_product_id", "duration")}
            | {"duration": st.lists(st.sampled_from(DURATIONS)), "store_product_id": st.lists(products, max_size=3)},
        )
    },
    optional={name: st.sampled_from(values) for name, values in CHOICES.items()}
    | {"renewal_days": st.lists(st.integers(0, 4000), min_size=1)},
)


@given(bodies)
def test_bodies_come_back(request):
    read = Request.of(request)
    again = read.to_dict()
    assert Request.of(again) == read
    assert Request.of(json.loads(json.dumps(again))) == read
    assert set(again) == set(DEFAULTS)
    for name in CHOICES:
        assert again[name] == request.get(name, DEFAULTS[name])
    for name, values in again["filters"].items():
        if name not in ("date", "store_product_id"):
            assert values == list(dict.fromkeys(request["filters"][name]))


# --- what may not ---

NO_CHOICE = ["", "Month", "no such thing", None, True, 1, 1.5, 12.0, [], ["month"], {}, date(2024, 1, 1), np.array([1])]


@pytest.mark.parametrize("name", CHOICES)
@pytest.mark.parametrize("value", NO_CHOICE, ids=repr)
def test_no_choice(name, value):
    told = wrong(body(**{name: value}))
    assert list(told) == [name]
    assert f"is unknown. Expected one of {CHOICES[name][0]!r}" in told[name][0]


@pytest.mark.parametrize(
    "value",
    [
        None, [], DATES[:1], [*DATES, "2024-12-31"], "2024-04-01", 20240401, {"from": 1, "to": 2}, ["2024-04-01", None],
        ["2024-04-01", "20240930"], ["2024-04-01", "2024-W40-1"], ["2024-04-01", "2024-09-31"],
        ["2024-04-01", "2024-9-30"], ["2024-04-01", "2024-09-30T00:00:00Z"], [datetime(2024, 4, 1), "2024-09-30"],
        ["2024-04-01", 20240930], ["0000-01-01", "2024-01-01"], ["２024-04-01", "2024-09-30"], list(reversed(DATES)),
    ],
    ids=repr,
)  # fmt: skip
def test_no_range(value):
    told = wrong({"filters": {"date": value}})
    assert list(told) == ["filters.date"]
    assert "['2024-04-01', '2024-09-30']" in told["filters.date"][0]
    if value is not None:
        assert list(wrong(body({"compare_date": value}))) == ["filters.compare_date"]


@pytest.mark.parametrize("request_body", [{}, {"filters": {}}, {"filters": None}, {"filters": {"store": ["x"]}}])
def test_no_date(request_body):
    assert wrong(request_body)["filters.date"][0].startswith("missing. Expected two ISO dates")


@pytest.mark.parametrize("value", [None, [], "7", 7, {}, [7.0], ["7"], [True], [-1], [10**7], [None], [[7]]], ids=repr)
def test_no_days(value):
    assert list(wrong(body(renewal_days=value))) == ["renewal_days"]


NO_TEXTS = ["app_store", 5, True, {}, {"a"}, [5], [None], [True], [""], [["app_store"]], [["app_store", "x"]], [b"x"]]


@pytest.mark.parametrize("name", [name for name in FILTERS if name != "store_product_id"])
@pytest.mark.parametrize("value", NO_TEXTS, ids=repr)
def test_no_filter(name, value):
    assert list(wrong(body({name: value}))) == [f"filters.{name}"]


def test_no_duration():
    told = wrong(body({"duration": ["Weekly", "weekly ", "1 month"]}))["filters.duration"]
    assert [text.partition(".")[0] for text in told] == ["'weekly ' is unknown", "'1 month' is unknown"]
    assert all(repr(name) in told[0] for name in DURATIONS)


@pytest.mark.parametrize(
    "value",
    [5, None, "", ":", "a:", ":a", "a::b", [], ["a"], ["a", ""], ["a", 5], ["a", "b", "c"], ("a", "", None), {},
     (5, "a", None), ("a", "b", 5), ("a", None, "b"), ("a", "b", "c", "d")],
    ids=repr,
)  # fmt: skip
def test_no_product(value):
    told = wrong(body({"store_product_id": [value, "good"]}))["filters.store_product_id"]
    assert len(told) == 1
    assert "'store:product:base_plan'" in told[0]


@pytest.mark.parametrize(
    ("request_body", "source", "hint"),
    [
        (body(period_units="month"), "period_units", ". Hint: period_unit"),
        (body({"countri": ["us"]}), "filters.countri", ". Hint: filters.country"),
        (body({"attribution_ad_group": ["x"]}), "filters.attribution_ad_group", ". Hint: filters.attribution_adgroup"),
        (body(store=["x"]), "store", ". Hint: filters.store"),
        (body(date=DATES), "date", ". Hint: filters.date"),
        (body({"dates": DATES}), "filters.dates", ". Hint: filters.date"),
        (body(zzz=1), "zzz", ". Expected one of 'filters', 'period_unit',"),
        (body({"zzz": 1}), "filters.zzz", ". Expected one of 'date', 'compare_date', 'store',"),
        (body() | {7: 1}, "7", ". Expected one of"),
    ],
)
def test_unknown_fields(request_body, source, hint):
    told = wrong(request_body)
    assert list(told) == [source]
    assert told[source][0].startswith("unknown field" + hint)


@pytest.mark.parametrize("value", [None, [], "{}", 5, [("filters", {})], b"{}"], ids=repr)
def test_no_object(value):
    told = wrong(value)
    assert list(told) == ["non_field_errors"]
    with pytest.raises(RequestError, match=r"^the request is invalid: .* is not an object. Expected the API's body"):
        Request.of(value)


@pytest.mark.parametrize("value", [[], "date", 5, [DATES]], ids=repr)
def test_filters_that_are_no_object(value):
    assert list(wrong({"filters": value, "format": "xml"})) == ["filters", "format"]


def test_all_is_told_at_once():
    told = wrong(
        {
            "filters": {"date": DATES[::-1], "stores": ["x"], "country": "us", "duration": ["Daily"], "store": [1, 2]},
            "period_unit": "weeks",
            "renewal_days": [],
            "nothing": 1,
        }
    )
    assert set(told) == {
        "nothing", "filters.stores", "filters.date", "filters.country", "filters.duration", "filters.store",
        "period_unit", "renewal_days",
    }  # fmt: skip
    assert len(told["filters.store"]) == 2


def test_many_wrong_items_do_not_flood():
    told = wrong(body({"store": list(range(5000))}))["filters.store"]
    assert len(told) == 4
    assert told[-1] == "and 4,997 more"


def test_values_are_cut_short():
    told = wrong(body(period_unit="x" * 10_000, **{"y" * 10_000: 1}))
    assert max(map(len, [*told, *told["period_unit"]])) < 200


def test_the_error_is_the_apis():
    with pytest.raises(RequestError) as caught:
        Request.of(body(period_unit="weeks", format="xml"))
    error = caught.value
    assert isinstance(error, SettingError)
    text = "'weeks' is unknown. Expected one of 'month', 'day', 'week', 'quarter', 'year'"
    assert error.to_dict() == {
        "errors": [
            {"source": "period_unit", "errors": [text]},
            {"source": "format", "errors": ["'xml' is unknown. Expected one of 'json', 'csv'"]},
        ],
        "error_code": "base_error",
        "status_code": 400,
    }
    assert (error.error_code, error.status_code) == ("base_error", 400)
    assert (
        str(error)
        == f"the request is invalid: period_unit: {text}; format: 'xml' is unknown. Expected one of 'json', 'csv'"
    )
    assert json.loads(json.dumps(error.to_dict())) == error.to_dict()
    again = pickle.loads(pickle.dumps(error))  # noqa: S301
    assert (str(again), again.errors) == (str(error), error.errors)


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.sampled_from(DATES) | st.dates(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text() | st.sampled_from(FILTERS), inner),
    max_leaves=6,
)


@given(
    st.dictionaries(st.sampled_from([*DEFAULTS, "else"]), anything),
    st.dictionaries(st.sampled_from(FILTERS), anything),
)
def test_nonsense_is_a_request_error_or_nothing(rest, filters):
    for request in (rest, body(filters) | rest, body(filters)):
        with contextlib.suppress(RequestError):
            read = Request.of(request)
            assert Request.of(read.to_dict()) == read


# --- conventions ---


def test_conventions_defaults():
    found = {field.name: getattr(Conventions(), field.name) for field in fields(Conventions)}
    assert found == {name: values[0] for name, values in CONVENTIONS.items()} | {"as_of": None}
    assert all(one.kind is one.KEYWORD_ONLY for one in inspect.signature(Conventions).parameters.values())
    assert Conventions(as_of=date(2024, 1, 1)).as_of == date(2024, 1, 1)


@pytest.mark.parametrize("name", CONVENTIONS)
def test_every_convention(name):
    for value in CONVENTIONS[name]:
        assert getattr(Conventions(**{name: value}), name) is value
    for value in ("", "no", None, 1, 0, [], "Monday", np.True_):
        with pytest.raises(SettingError, match=f"^{name}=.* is unknown. Expected one of"):
            Conventions(**{name: value})


@pytest.mark.parametrize("value", ["2024-01-01", 20240101, datetime(2024, 1, 1), True])
def test_no_as_of(value):
    with pytest.raises(SettingError, match=r"^as_of=.* is not a date. Expected a datetime\.date, or None"):
        Conventions(as_of=value)


def test_read_day():
    assert read_day("2024-02-29") == date(2024, 2, 29)
    for value in ("2023-02-29", "2024-2-9", "", 5, None, datetime(2024, 1, 1)):
        with pytest.raises(ValueError, match=r"."):
            read_day(value)


def test_a_request_needs_no_frames():
    code = "import sys, cohortlib.adapty.request; print({'polars', 'numpy', 'numba'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


@pytest.mark.parametrize("call", [cl.adapty.cohort, cl.adapty.sums, cl.spark.adapty_cohort])
def test_signatures_show_every_setting(call):
    parameters = inspect.signature(call).parameters
    assert all(each.kind is not inspect.Parameter.VAR_KEYWORD for each in parameters.values())
    group = keywords.RequestKeywords if call is cl.spark.adapty_cohort else keywords.PlanKeywords
    assert {name: parameters[name].default for name in group.__annotations__}.items() <= keywords.DEFAULTS.items()
    with pytest.raises(TypeError, match=r"unexpected keyword argument 'timezon'. Did you mean 'timezone'\?"):
        call("events.csv", {}, timezon="UTC")
