"""Termina's tables over a real connection: requests, replies, the token; and its own SDK reading our tables."""

import base64
import inspect
import json
import threading
import time
import urllib.parse
import warnings
from contextlib import contextmanager
from pathlib import Path

import polars as pl
import pytest
from loopback import Server, reply, sending
from polars.testing import assert_frame_equal

import cohortlib as cl
from cohortlib import fields
from cohortlib.errors import (
    AuthenticationError,
    ForbiddenError,
    RefusedError,
    ReplyError,
    ServerError,
    SettingError,
    TransportError,
)
from cohortlib.network import retry
from cohortlib.network.transport import Reply
from cohortlib.termina.client import calls, replies, tokens
from cohortlib.termina.client.client import Client

pytestmark = pytest.mark.unit

RECORDED = Path(__file__).parent / "recorded"
METHODS = {
    "cohorts": Client.cohorts,
    "customer-cohorts": Client.customer_cohorts,
    "user-accounting": Client.user_accounting,
    "growth-accounting": Client.growth_accounting,
    "concentration": Client.concentration,
}
QUERY = {"group_id": 7, "deal_id": 0, "user_type": "business", "metric": "net revenue/€"}
KEY = "tk_Abcdefghijklmnop"


def recorded(endpoint):
    return (RECORDED / f"termina_{endpoint.replace('-', '_')}.json").read_bytes()


def jwt(number=0, seconds=3600):
    parts = [{"alg": "none"}, {"exp": int(time.time()) + seconds, "n": number}, {"signature": number}]
    return ".".join(base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in parts)


class Vendor(Server):
    """Issue tokens for KEY, and return tables for valid tokens."""

    def __init__(self, tables=None):
        super().__init__(self.respond)
        self.tables = {name: recorded(name) for name in METHODS} if tables is None else tables
        self.tokens = []
        self.counter = threading.Lock()

    def respond(self, connection, received):
        path = urllib.parse.urlsplit(received.path).path
        if path == "/api/v1/auth/get-token":
            time.sleep(0.02)
            if received.json != {"api_key": KEY}:
                connection.sendall(reply(401, {"detail": "unknown key"}))
                return
            with self.counter:
                self.tokens.append(jwt(len(self.tokens)))
            connection.sendall(reply(200, {"access_token": self.tokens[-1], "more": 1}))
        elif received.headers.get("authorization") not in [f"Bearer {one}" for one in (*self.tokens, "given-token")]:
            connection.sendall(reply(401, {"detail": "token?"}))
        else:
            connection.sendall(reply(200, self.tables[path.rpartition("/")[2]]))

    def paths(self):
        return [received.path.partition("?")[0].rpartition("/")[2] for received in self.received]


@pytest.fixture(autouse=True)
def _fresh(monkeypatch):
    monkeypatch.setattr(retry, "WAITS", {"wait_initial": 0.01, "wait_max": 0.02, "wait_jitter": 0.01})
    monkeypatch.delenv("TERMINA_API_KEY", raising=False)


CONNECTION = inspect.signature(Client).parameters


def fetch(settings):
    """Make a client and download its cohort table."""
    client = Client(**{name: value for name, value in settings.items() if name in CONNECTION})
    return client.cohorts(**{name: value for name, value in settings.items() if name not in CONNECTION})


@pytest.fixture
def vendor():
    with Vendor() as one:
        yield one


# --- requests and replies ---


@pytest.mark.parametrize("endpoint", METHODS)
def test_every_table(vendor, endpoint):
    found = METHODS[endpoint](Client(api_key=KEY, base_url=vendor.url), **QUERY, freq="M")
    expected = replies.read(endpoint, json.loads(recorded(endpoint)), freq="M")
    if endpoint == "concentration":
        assert found.to_dict() == expected.to_dict()
    else:
        assert_frame_equal(found, expected)
        assert found.schema == pl.Schema(fields.schema(fields.TABLES[endpoint]))
    first, second = vendor.received
    assert first.line == "POST /api/v1/auth/get-token HTTP/1.1"
    assert "authorization" not in first.headers
    assert second.line.split()[0] == "GET"
    parts = urllib.parse.urlsplit(second.path)
    assert parts.path == f"/api/v1/group/7/deal/0/data/{endpoint}"
    query = {"user_type": "business", "metric": "net revenue/€", "freq": "M"}
    assert dict(urllib.parse.parse_qsl(parts.query)) == query
    assert second.headers["authorization"] == f"Bearer {vendor.tokens[0]}"
    assert second.body == b""


def test_without_freq_dates_stay_dates(vendor):
    found = Client(token="given-token", base_url=vendor.url).cohorts(**QUERY)
    assert found["cohort"].unique().sort().to_list() == ["2026-01-01", "2026-03-01"]
    assert "freq" not in vendor.received[0].path


def test_the_address_of_termina():
    sent = []

    def transport(call):
        sent.append(call)
        return Reply(200, {}, b"[]")

    table = Client(token="t", transport=transport).customer_cohorts(**QUERY)
    assert table.schema == pl.Schema(fields.schema(fields.CUSTOMER_COHORTS))
    assert sent[0].url.startswith("https://app.termina.ai/api/v1/group/7/deal/0/data/customer-cohorts?")
    assert calls.BASE_URL == "https://app.termina.ai"


def test_all_methods_take_the_same_arguments():
    taken = {name: inspect.signature(method).parameters for name, method in METHODS.items()}
    assert len({str(parameters) for parameters in taken.values()}) == 1
    assert all(one.kind == one.KEYWORD_ONLY for name, one in taken["cohorts"].items() if name != "self")
    assert all(one.kind == one.KEYWORD_ONLY for one in inspect.signature(Client).parameters.values())


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"user_type": "person"}, "user_type='person' is unknown. Expected one of 'business', 'consumer'"),
        ({"group_id": -1}, "group_id=-1 is not an id"),
        ({"group_id": True}, "group_id=True is not an id"),
        ({"deal_id": "7/../8"}, "deal_id='7/../8' is not an id"),
        ({"deal_id": 1.0}, "deal_id=1.0 is not an id"),
        ({"metric": " "}, "metric=' ' is not a name"),
        ({"metric": None}, "metric=None is not a name"),
        ({"metric": "\ud800"}, "is not valid text"),
        ({"freq": "W"}, "freq='W' is unknown. Expected one of 'M', 'Q', 'A'"),
        ({"base_url": "http://termina.example"}, "would send the key unencrypted"),
        ({"token": "t", "api_key": "k"}, "token= and api_key= are both set. Expected one of them"),
        ({"token": "a b", "api_key": None}, "token= (not shown) cannot be sent"),
        ({"api_key": ""}, "api_key= (not shown) cannot be sent"),
        ({"attempts": 0}, "attempts=0"),
    ],
)
def test_invalid_arguments_are_not_sent(wrong, message):
    def transport(call):
        raise AssertionError("nothing is sent")

    with pytest.raises(SettingError) as caught:
        fetch(QUERY | {"api_key": KEY, "transport": transport} | wrong)
    assert message in str(caught.value)


def test_the_error_of_an_invalid_table_has_the_reply(vendor):
    vendor.tables["cohorts"] = [{"cohort": "2026-01", "period": "x"}]
    with pytest.raises(ReplyError, match=r"Termina: row 0, field 'period' is 'x'\. Expected an integer") as caught:
        Client(api_key=KEY, base_url=vendor.url).cohorts(**QUERY)
    assert caught.value.status == 200
    assert caught.value.body == '[{"cohort": "2026-01", "period": "x"}]'
    vendor.tables["cohorts"] = recorded("concentration")
    with pytest.raises(ReplyError, match="the reply is an object with 'time_series_metrics'"):
        Client(api_key=KEY, base_url=vendor.url).cohorts(**QUERY)


def test_the_vendors_reasons(vendor):
    detail = [{"loc": ["query", "metric"], "msg": "unknown metric", "type": "value_error", "input": "gtv"}]
    vendor.answer = sending(reply(422, {"detail": detail}))
    with pytest.raises(RefusedError) as caught:
        Client(token="given-token", base_url=vendor.url).cohorts(**QUERY)
    assert str(caught.value) == "Termina refused the request (422): query.metric: unknown metric (got gtv)"


# --- the token ---


def test_a_token_is_reused(vendor):
    client = Client(api_key=KEY, base_url=vendor.url)
    for _ in range(3):
        client.cohorts(**QUERY)
    assert vendor.paths() == ["get-token", "cohorts", "cohorts", "cohorts"]


def test_a_token_is_renewed_before_its_hour_is_over(vendor):
    client = Client(api_key=KEY, base_url=vendor.url)
    client.cohorts(**QUERY)
    assert tokens.TOKEN_SECONDS == 3600 - 300
    cache = client._tokens
    assert 3600 - 301 < cache._expires_at - time.monotonic() <= 3600 - 300
    cache._expires_at = time.monotonic() + 5
    client.cohorts(**QUERY)
    assert len(vendor.tokens) == 1
    cache._expires_at = time.monotonic()
    client.cohorts(**QUERY)
    assert len(vendor.tokens) == 2
    assert vendor.received[-1].headers["authorization"] == f"Bearer {vendor.tokens[1]}"


def test_many_threads_request_one_token(vendor):
    found, client = [], Client(api_key=KEY, base_url=vendor.url)
    threads = [threading.Thread(target=lambda: found.append(client.cohorts(**QUERY).height)) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 20
    assert sorted(vendor.paths()) == ["cohorts"] * 20 + ["get-token"]


def test_a_rejected_token_is_renewed_once(vendor):
    client = Client(api_key=KEY, base_url=vendor.url)
    client.cohorts(**QUERY)
    vendor.tokens[0] = "revoked"
    assert client.cohorts(**QUERY).height == 4
    assert vendor.paths()[2:] == ["cohorts", "get-token", "cohorts"]
    vendor.tokens[:] = []
    accepted = vendor.respond

    def forgetful(connection, received):
        accepted(connection, received)
        vendor.tokens[:] = []

    vendor.answer = forgetful
    vendor.received.clear()
    with pytest.raises(AuthenticationError) as caught:
        client.cohorts(**QUERY)
    assert vendor.paths() == ["cohorts", "get-token", "cohorts"]
    assert caught.value.__context__ is None
    vendor.received.clear()
    with pytest.raises(AuthenticationError):
        Client(api_key=KEY, base_url=vendor.url).cohorts(**QUERY)
    assert vendor.paths() == ["get-token", "cohorts"]


def test_a_token_argument_is_not_replaced(vendor):
    with pytest.raises(AuthenticationError, match=r"Termina does not accept the key or token \(401\): token\?"):
        Client(token="another-token", base_url=vendor.url).cohorts(**QUERY)
    assert vendor.paths() == ["cohorts"]


def test_each_client_has_its_own_token(vendor):
    Client(api_key=KEY, base_url=vendor.url).cohorts(**QUERY)
    Client(api_key=KEY, base_url=vendor.url + "/").cohorts(**QUERY)
    assert vendor.paths() == ["get-token", "cohorts"] * 2
    with Vendor() as other:
        Client(api_key=KEY, base_url=other.url).cohorts(**QUERY)
        assert other.paths() == ["get-token", "cohorts"]
    with pytest.raises(AuthenticationError, match="unknown key"):
        Client(api_key="tk_another", base_url=vendor.url).cohorts(**QUERY)


def test_no_client_shows_its_key(vendor):
    for client in (Client(api_key=KEY, base_url=vendor.url), Client(token=KEY, base_url=vendor.url)):
        assert repr(client) == f"Client('{vendor.url}')"
        assert KEY not in f"{client} {client!r} {[client]} {client._tokens!r} {client._connection!r}"


def test_the_environment(vendor, monkeypatch):
    with pytest.raises(AuthenticationError, match=r"Termina needs a key\. Hint: set TERMINA_API_KEY") as caught:
        Client(base_url=vendor.url).cohorts(**QUERY)
    assert caught.value.status is None
    monkeypatch.setenv("TERMINA_API_KEY", f" {KEY}\n")
    Client(base_url=vendor.url).cohorts(**QUERY)
    assert vendor.paths() == ["get-token", "cohorts"]
    monkeypatch.setenv("TERMINA_API_KEY", vendor.tokens[0])  # a token instead of a key
    vendor.received.clear()
    Client(base_url=vendor.url).cohorts(**QUERY)
    assert vendor.paths() == ["cohorts"]
    with pytest.raises(AuthenticationError):  # the argument takes precedence
        Client(api_key="tk_another", base_url=vendor.url).cohorts(**QUERY)


@pytest.mark.parametrize(
    "body",
    [b"", b"eyJ.raw.token", b'"eyJ.raw.token"', b"[1]", b"{}", b'{"access_token": 5}', b'{"access_token": ""}',
     b'{"access_token": "a\\nb"}', b'{"access_token": "\\u00e9"}', b'{"token": "eyJ.raw.token"}', b"[" * 100_000],
)  # fmt: skip
def test_replies_without_a_token(vendor, body):
    vendor.answer = sending(reply(200, body))
    with pytest.raises(ReplyError) as caught:
        Client(api_key=KEY, base_url=vendor.url).cohorts(**QUERY)
    assert "has no token. Expected an object with the text 'access_token'" in str(caught.value)
    assert (caught.value.status, caught.value.body) == (200, "")
    assert caught.value.__context__ is None


@pytest.mark.parametrize(("status", "kind"), [(401, AuthenticationError), (403, ForbiddenError), (500, ServerError)])
def test_errors_of_the_token_endpoint(vendor, status, kind):
    vendor.answer = sending(reply(status, {"detail": f"not for {KEY}"}))
    with pytest.raises(kind) as caught:
        Client(api_key=KEY, base_url=vendor.url).cohorts(**QUERY)
    assert caught.value.body == '{"detail": "not for ***"}'
    assert vendor.paths() == ["get-token"]


def test_waiting_for_another_threads_token_is_limited(vendor):
    vendor.answer = lambda connection, received: vendor.wait(3)
    failed = []
    client = Client(api_key=KEY, base_url=vendor.url, timeout=1.5)
    hasty = Client(api_key=KEY, base_url=vendor.url, timeout=0.2)
    hasty._tokens = client._tokens

    def call(client):
        with pytest.raises(TransportError) as caught:
            client.cohorts(**QUERY)
        failed.append(str(caught.value))

    first = threading.Thread(target=call, args=(client,))
    first.start()
    while not vendor.received:
        time.sleep(0.01)
    call(hasty)
    assert failed == ["Termina: timed out while waiting for a token. Hint: timeout="]
    first.join()
    assert len(failed) == 2


# --- Termina's own SDK reads what is computed here ---


@pytest.fixture(scope="module")
def sdk():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # raised by the SDK's imports
        return pytest.importorskip("termina", reason="the vendor's SDK is not installed (extra ci)")


ORDERS = pl.DataFrame(
    {
        "user_id": [f"user {i % 23}" for i in range(400)],
        "timestamp": pl.date_range(pl.date(2024, 11, 3), pl.date(2026, 1, 11), "1d", eager=True)
        .gather_every(1)
        .head(400),
        "amount": [round((i * 37 % 101) * 1.13 - 9, 2) for i in range(400)],
    }
)


@contextmanager
def served(sdk, tables):
    with Vendor(tables) as vendor:
        yield vendor, sdk.Termina(api_key=KEY, base_url=vendor.url).product


def field_by_field(models, rows, renamed=()):
    assert len(models) == len(rows)
    names = dict(renamed)
    for model, row in zip(models, rows, strict=True):
        assert {name: getattr(model, names.get(name, name)) for name in row} == row
        assert not set(model.model_extra) - set(names), "a field that its users' code does not expect"


RENAMED = {name: f"{name[:4]}_{name[4:]}" for name in ("cmgr3", "cmgr6", "cmgr12", "cqgr1", "cqgr2", "cqgr4")}
RENAMED |= {"p25": "p_25", "p75": "p_75", "p90": "p_90"}


@pytest.mark.parametrize("freq", ["M", "Q", "A"])
@pytest.mark.parametrize(
    ("endpoint", "compute"), [("cohorts", cl.termina.cohorts), ("customer-cohorts", cl.termina.customer_cohorts)]
)
def test_the_sdk_reads_what_is_computed(sdk, endpoint, compute, freq):
    table = compute(ORDERS, freq=freq)
    with served(sdk, {endpoint: table.write_json().encode()}) as (vendor, product):
        get = getattr(product, f"get_{endpoint.replace('-', '_')}")
        models = get(7, 0, user_type="business", metric="revenue", freq=freq)
        field_by_field(models, table.to_dicts())
        fetched = METHODS[endpoint](Client(api_key=KEY, base_url=vendor.url), **QUERY, freq=freq)
        assert_frame_equal(fetched, table)
        by_sdk, by_client = (
            one for one in vendor.received if one.path.startswith(f"/api/v1/group/7/deal/0/data/{endpoint}?")
        )
        assert set(dict(urllib.parse.parse_qsl(by_client.path.partition("?")[2]))) == {"user_type", "metric", "freq"}
        assert by_sdk.path.partition("?")[0] == by_client.path.partition("?")[0]


@pytest.mark.parametrize("endpoint", ["user-accounting", "growth-accounting"])
def test_the_sdk_reads_accountings(sdk, endpoint):
    rows = json.loads(recorded(endpoint))
    with served(sdk, {endpoint: rows}) as (_, product):
        models = getattr(product, f"get_{endpoint.replace('-', '_')}")(7, 0, user_type="business", metric="revenue")
    assert set(rows[0]) == set(fields.TABLES[endpoint])
    field_by_field(models, rows, RENAMED)


def test_the_sdk_reads_a_concentration(sdk):
    body = json.loads(recorded("concentration"))
    with served(sdk, {"concentration": body}) as (_, product):
        model = product.get_concentration(7, 0, user_type="business", metric="revenue")
    for name, table in fields.CONCENTRATION.items():
        assert set(body[name][0]) == set(table)
        field_by_field(getattr(model, name), body[name], RENAMED)


@pytest.mark.parametrize(
    ("model", "table"),
    [
        ("CohortsResponse", fields.COHORTS),
        ("CustomerCohortsResponse", fields.CUSTOMER_COHORTS),
        ("UserAccountingResponse", fields.USER_ACCOUNTING),
        ("GrowthAccountingResponse", fields.GROWTH_ACCOUNTING),
        ("ConcentrationTimeseriesDetail", fields.TIME_SERIES_METRICS),
        ("ConcentrationEndpointTopUsersDetail", fields.ENDPOINT_TOP_USERS),
        ("ConcentrationEndpointCdfDetail", fields.ENDPOINT_CDF),
    ],
)
def test_the_fields_are_those_of_the_sdk(sdk, model, table):
    known = getattr(sdk, model).model_fields
    back = {theirs: ours for ours, theirs in RENAMED.items()}
    assert [back.get(name, name) for name in known] == list(table)
    needed = {back.get(name, name) for name, field in known.items() if field.is_required()}
    assert needed == set(fields.required(table))
    dtypes = {"int": "Int64", "float": "Float64", "str": "String"}
    for name, field in known.items():
        text = str(field.annotation)
        (dtype,) = {dtypes[kind] for kind in dtypes if kind in text}
        assert table[back.get(name, name)].dtype == dtype, name


def test_the_user_types_are_those_of_the_sdk(sdk):
    for known in calls.get_args(calls.UserType):
        assert f"'{known}'" in str(sdk.UserType)
