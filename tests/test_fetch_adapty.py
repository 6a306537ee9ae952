"""Adapty's cohort table over a real connection: requests, answers, the rate limit; both by their schemas."""

import copy
import json
import threading
import time
from pathlib import Path

import jsonschema
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from loopback import Server, reply, sending
from polars.testing import assert_frame_equal
from strategies_adapty import cases

import cohortlib as cl
from cohortlib import fields
from cohortlib.adapty.client import calls, replies
from cohortlib.adapty.client import client as clients
from cohortlib.adapty.client.client import Client
from cohortlib.errors import (
    AuthenticationError,
    CohortlibWarning,
    RateLimitError,
    RefusedError,
    ReplyError,
    SettingError,
)
from cohortlib.network import retry
from cohortlib.network.transport import Reply

pytestmark = pytest.mark.unit

HERE = Path(__file__).parent
KEY = "secret_live_Abcdefghijklmnop"
REQUEST = {"filters": {"date": ["2026-02-01", "2026-06-30"]}}
RECORDED = (HERE / "recorded" / "adapty_renewals.json").read_bytes()


def validator(name):
    schema = json.loads((HERE / "schemas" / f"adapty_{name}.json").read_text())
    kind = jsonschema.Draft202012Validator
    kind.check_schema(schema)
    return kind(schema, format_checker=kind.FORMAT_CHECKER)


REQUESTS, ANSWERS = validator("request"), validator("answer")


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setattr(retry, "WAITS", {"wait_initial": 0.01, "wait_max": 0.02, "wait_jitter": 0.01})
    monkeypatch.delenv("ADAPTY_API_KEY", raising=False)
    with Server(sending(reply(200, RECORDED))) as one:
        yield one


def fetch(server, request=REQUEST, **options):
    query = {"timezone": options.pop("timezone")} if "timezone" in options else {}
    return Client(**{"api_key": KEY, "base_url": server.url, **options}).cohort(request, **query)


# --- requests and answers ---


@pytest.mark.parametrize("status", [200, 201])
def test_an_answer(server, status):
    server.answer = sending(reply(status, RECORDED))
    answer = fetch(server, timezone="Europe/Berlin")
    assert answer.to_dict() == json.loads(RECORDED)
    assert (answer.request, answer.report, answer.conventions) == (cl.adapty.Request.of(REQUEST), {}, None)
    (received,) = server.received
    assert received.line == "POST /api/v1/client-api/metrics/cohort/ HTTP/1.1"
    assert received.headers["authorization"] == f"Api-Key {KEY}"
    assert received.headers["adapty-tz"] == "Europe/Berlin"
    assert received.headers["content-type"] == "application/json"
    assert received.json == cl.adapty.Request.of(REQUEST).to_dict()
    REQUESTS.validate(received.json)


def test_the_request_is_sent_as_given(server):
    body = {
        "filters": {
            "date": ["2026-02-01", "2026-06-30"], "compare_date": ["2025-02-01", "2025-06-30"], "country": ["us", "DE"],
            "store_product_id": ["a", "app_store:b", ["play_store", "c:d"]], "duration": ["monthly"],
        },
        "period_type": "days", "renewal_days": [7, 0, 7], "prediction_months": 3,
    }  # fmt: skip
    with pytest.warns(CohortlibWarning, match="compare_date"):
        fetch(server, body)
    (received,) = server.received
    REQUESTS.validate(received.json)
    assert received.json["filters"] == {
        "date": ["2026-02-01", "2026-06-30"], "country": ["us", "DE"],
        "store_product_id": ["a", "app_store:b", ["play_store", "c:d"]], "duration": ["Monthly"],
    }  # fmt: skip
    assert received.json["renewal_days"] == [0, 7]
    assert "adapty-tz" not in received.headers


def test_the_address_of_adapty():
    sent = []

    def transport(call):
        sent.append(call)
        return Reply(200, {}, RECORDED)

    answer = Client(api_key=KEY, transport=transport).cohort(cl.adapty.Request.of(REQUEST))
    assert answer.segments.height == 6
    assert sent[0].url == "https://api-admin.adapty.io/api/v1/client-api/metrics/cohort/"
    assert calls.BASE_URL == "https://api-admin.adapty.io"


def test_csv(server):
    text = "\ufeffsegment,installs,Period 1,share\nTotal,4,75.5,\n2026-02-01,3,10,0.5\n"
    server.answer = sending(reply(200, text.encode()))
    table = fetch(server, REQUEST | {"format": "csv"})
    assert_frame_equal(
        table,
        pl.DataFrame(
            {"segment": ["Total", "2026-02-01"], "installs": [4, 3], "Period 1": [75.5, 10.0], "share": [None, 0.5]}
        ),
    )
    assert server.received[0].json["format"] == "csv"
    assert server.received[0].headers["accept"] == "text/csv"


@pytest.mark.parametrize(
    "body", [b"", b" ", b'{"data": []}', b"<html>", b"a,b\n1,2,3\n", b'a,b\n"1,2\n', b"a\n\xff\xfe\n"]
)
def test_invalid_csv(server, body):
    server.answer = sending(reply(200, body))
    with pytest.raises(ReplyError, match="Adapty: the reply is not CSV") as caught:
        fetch(server, REQUEST | {"format": "csv"})
    assert caught.value.__context__ is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"request": {"filters": {}}}, "filters.date: missing"),
        ({"timezone": "Europe/Berlin\r\nX-Other: 1"}, "is not a time zone. Expected an IANA name"),
        ({"timezone": ""}, "is not a time zone"),
        ({"timezone": "x" * 65}, "is not a time zone"),
        ({"timezone": 5}, "timezone=5 is not a time zone"),
        ({"timezone": "Европа"}, "is not a time zone"),
        ({"base_url": "http://adapty.example"}, "would send the key unencrypted"),
        ({"api_key": "a\nb"}, "api_key= (not shown) cannot be sent"),
        ({"attempts": 0}, "attempts=0"),
    ],
)
def test_invalid_arguments_are_not_sent(server, options, message):
    with pytest.raises(SettingError) as caught:
        fetch(server, **options)
    assert message in str(caught.value)
    assert server.received == []


def test_the_environment(server, monkeypatch):
    with pytest.raises(AuthenticationError, match=r"Adapty needs a key\. Hint: set ADAPTY_API_KEY"):
        fetch(server, api_key=None)
    monkeypatch.setenv("ADAPTY_API_KEY", KEY)
    fetch(server, api_key=None)
    assert server.received[0].headers["authorization"] == f"Api-Key {KEY}"


@pytest.mark.parametrize(("status", "kind"), [(400, RefusedError), (401, AuthenticationError)])
def test_the_vendors_reasons(server, status, kind):
    errors = [{"source": "filters.date", "errors": ["This field is required."]}]
    body = {"errors": errors, "error_code": "base_error", "status_code": status}
    server.answer = sending(reply(status, body))
    with pytest.raises(kind) as caught:
        fetch(server)
    assert str(caught.value).endswith(f"({status}): filters.date: This field is required.; base_error")
    assert json.loads(caught.value.body) == body


def test_the_error_of_an_invalid_answer_has_the_reply(server):
    server.answer = sending(reply(200, {"data": [{"type": "total"}]}))
    with pytest.raises(ReplyError, match="Adapty: segment 0 has no field 'segment_start_date'") as caught:
        fetch(server)
    assert (caught.value.status, caught.value.body) == (200, '{"data": [{"type": "total"}]}')


# --- the reply is kept ---

VENDORS = json.loads(RECORDED)
VENDORS["data"][0] |= {"predict": {"p12": {"revenue": 1.50, "low": -1}}, "cohort_colour": "green"}
VENDORS["data"][1]["values"][0]["new_metric"] = [1e2, None]
VENDORS["request_id"] = "übung-1"
# As the vendor writes it: other blanks, escapes and numbers than ours, with a mark.
SENT = b"\xef\xbb\xbf" + json.dumps(VENDORS, indent=1).replace("1.5,", "1.50,").encode() + b"\n \n"


def test_a_fetched_answer_keeps_the_reply(server):
    assert b"1.50," in SENT
    assert b"\\u00fc" in SENT
    server.answer = sending(reply(200, SENT))
    answer = fetch(server)
    assert answer.reply == SENT
    assert answer.to_dict() == VENDORS
    assert answer.to_json() == SENT.decode("utf-8-sig")
    assert answer.segments["predict"].to_list()[0] is None
    assert Client(api_key=KEY, base_url=server.url).reply(REQUEST) == SENT
    assert cl.adapty.Answer(answer.segments, answer.values, answer.request).to_dict() != VENDORS


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "utf-32-le"])
def test_a_reply_in_another_encoding_is_kept(server, encoding):
    sent = json.dumps(VENDORS, ensure_ascii=False).encode(encoding)
    server.answer = sending(reply(200, sent))
    answer = fetch(server)
    assert (answer.reply, answer.to_dict()) == (sent, VENDORS)
    assert json.loads(answer.to_json()) == VENDORS


def test_a_fetched_csv_is_kept(server):
    sent = b"\xef\xbb\xbfsegment;x,1\r\nTotal,1.50\r\n"
    server.answer = sending(reply(200, sent))
    assert Client(api_key=KEY, base_url=server.url).reply(REQUEST | {"format": "csv"}) == sent


def test_a_wrong_reply_is_not_returned(server):
    for body in (b"[]", SENT.replace(b'"type"', b'"title"', 1)):
        server.answer = sending(reply(200, body))
        with pytest.raises(ReplyError, match=r"the reply is a list|the field 'title' 2 times"):
            Client(api_key=KEY, base_url=server.url).reply(REQUEST)


# --- the rate limit ---


def windows(arrivals):
    """Return the time between each arrival and the second one after it."""
    arrivals = sorted(arrivals)
    return [third - first for first, third in zip(arrivals, arrivals[2:], strict=False)]


def test_twenty_threads_never_exceed_the_rate_limit(server):
    """The server answers late and unevenly, and refuses some calls, which are retried."""
    count = iter(range(1000))

    def answer(connection, received):
        number = next(count)
        time.sleep(0.05 * (number % 3))
        connection.sendall(reply(429 if number in (3, 7) else 200, RECORDED))

    server.answer = answer
    found = []
    threads = [threading.Thread(target=lambda: found.append(fetch(server).segments.height)) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [6] * 20
    arrivals = [received.at for received in server.received]
    assert len(arrivals) == 22
    assert min(windows(arrivals)) > 1.0
    assert max(arrivals) - min(arrivals) < 25  # no slower than necessary


def test_retries_keep_the_rate_limit(server):
    server.answer = sending(reply(429, b"", ["Retry-After: 0"]))
    with pytest.raises(RateLimitError):
        fetch(server, attempts=4)
    assert len(server.received) == 4
    assert min(windows([received.at for received in server.received])) > 1.0


# --- request and answer by the schema ---


def test_the_recorded_answers_are_valid():
    for name in ("renewals", "days"):
        ANSWERS.validate(json.loads((HERE / "recorded" / f"adapty_{name}.json").read_text()))


@given(cases(poison=False))
@settings(max_examples=settings().max_examples // 3)
def test_requests_and_computed_answers_are_valid(case):
    request = cl.adapty.Request.of(case.request)
    REQUESTS.validate(request.to_dict())
    body = json.loads(calls.cohort_call(request).body)
    REQUESTS.validate(body)
    assert body == json.loads(json.dumps(request.to_dict()))
    try:
        answer = case.ask()
    except cl.errors.DataError:
        return
    text = answer.to_json()
    ANSWERS.validate(json.loads(text))
    fetched = replies.read(json.loads(text))
    assert_frame_equal(fetched[0], answer.segments.drop("predict_reason", strict=False))
    assert_frame_equal(fetched[1], answer.values)


INVALID_REQUESTS = [
    {},
    {"filters": {}},
    {"filters": {"date": ["2026-02-01"]}},
    {"filters": {"date": ["2026-02-01", "tomorrow"]}},
    {"filters": {"date": "2026-02-01"}},
    {"date": ["2026-02-01", "2026-06-30"]},
    *(
        REQUEST | wrong
        for wrong in (
            {"period_unit": "months"}, {"period_type": "day"}, {"value_type": 1}, {"value_field": "ltv"},
            {"accounting_type": "gross"}, {"renewal_days": []}, {"renewal_days": [-1]}, {"renewal_days": [0.5]},
            {"renewal_days": 7}, {"prediction_months": 5}, {"format": "xml"}, {"limit": 5},
        )
    ),
    *(
        {"filters": REQUEST["filters"] | wrong}
        for wrong in ({"country": "us"}, {"country": [1]}, {"duration": ["Daily"]}, {"store_product_id": [["a"]]},
                      {"x": []})
    ),
]  # fmt: skip


@pytest.mark.parametrize("body", INVALID_REQUESTS, ids=json.dumps)
def test_invalid_requests(body):
    assert not REQUESTS.is_valid(body)
    with pytest.raises(cl.adapty.RequestError):
        cl.adapty.Request.of(body)


@given(st.data())
def test_invalid_answers(data):
    """Remove a field, or change the type of its value: the schema and the reader both reject it."""
    body = copy.deepcopy(json.loads(RECORDED))
    segment = data.draw(st.sampled_from(body["data"]))
    place = data.draw(st.sampled_from([segment, *segment["values"]]))
    name = data.draw(st.sampled_from(sorted(set(place) - {"predict"})))
    if data.draw(st.booleans()):
        del place[name]
    else:
        place[name] = data.draw(
            st.sampled_from([[], {}, "no number", 0.5, True]).filter(lambda value: odd(place[name], value))
        )
    assert not ANSWERS.is_valid(body)
    with pytest.raises(ReplyError):
        replies.read(body)


def odd(value, other):
    """Check whether a field with one value could not hold another."""
    if isinstance(value, str | list):
        return not isinstance(other, type(value))
    if isinstance(value, bool):
        return not isinstance(other, bool)
    if isinstance(value, int):
        return isinstance(other, bool) or not isinstance(other, int)
    return isinstance(other, bool) or not isinstance(other, int | float)


def test_answers_out_of_order_are_invalid():
    body = json.loads(RECORDED)
    body["data"].reverse()
    assert not ANSWERS.is_valid(body)
    assert not ANSWERS.is_valid({"data": []})
    assert not ANSWERS.is_valid(json.loads(RECORDED) | {"more": 1})


def test_the_schema_has_the_fields_that_are_written():
    segment = ANSWERS.schema["$defs"]["segment"]["properties"]
    value = ANSWERS.schema["$defs"]["value"]["properties"]
    assert [*segment] == [*fields.SEGMENTS, "values"]
    assert [*value] == [name for name in fields.VALUES if name not in fields.SEGMENT]
    assert clients.CALLS_PER_SECOND == 2
