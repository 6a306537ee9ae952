"""Keys and tokens never appear in output, logs, errors or files, also when a server echoes them."""

import base64
import contextlib
import copy
import gzip
import io
import json
import logging
import os
import pickle
import subprocess
import sys
import traceback
import urllib.parse
import warnings

import pytest
import stamina.instrumentation
from click.testing import CliRunner
from loopback import Server, reply

import cohortlib as cl
from cohortlib.cli import main
from cohortlib.errors import CohortlibError
from cohortlib.network import retry
from cohortlib.network.transport import http

pytestmark = pytest.mark.unit

KEY = "sk_live_Distinctive/Key+Q7x9Zp3LmN8vB2=="
TOKEN = "eyJhbGciOiJub25lIn0.eyJkaXN0aW5jdGl2ZSI6InRva2VuLVI4dzJYazVUcTRIajYifQ.Sig9Yc4Fd7Wm1"  # noqa: S105
BASE = {"group_id": 1, "deal_id": 1, "user_type": "business", "metric": "revenue"}
REQUEST = {"filters": {"date": ["2026-02-01", "2026-06-30"]}}


def forms(secret):
    """Return the ways in which a secret, or a part of it, may be written."""
    yield from (secret, urllib.parse.quote(secret, safe=""), json.dumps(secret)[1:-1], secret.replace("/", "\\/"))
    yield repr(secret.encode())[2:-1]
    yield base64.b64encode(secret.encode()).decode().rstrip("=")[:-2]
    yield secret[:20]  # a part of it
    yield secret[-12:].rstrip("=")


SECRETS = [form.lower() for secret in (KEY, TOKEN) for form in forms(secret)]


def assert_clean(text, where):
    found = [form for form in SECRETS if form in text.lower()]
    assert not found, f"{where} shows {found[0]}: {text[:2000]}"


# --- servers that echo what they receive ---


def sent(received):
    """Return the credentials that were sent."""
    return received.headers.get("authorization") or received.json["api_key"]


def key(received):
    """Return the secret that the server knows: from this call, or remembered from the call before."""
    return received.headers.get("remembered") or sent(received).rpartition(" ")[2]


def echo(received):
    """Return everything that was sent, as a server in debug mode would."""
    auth, body = sent(received), received.body.decode()
    return {
        "detail": f"you sent {auth} and {body}",
        "errors": [{"source": auth, "errors": [body, key(received)]}],
        "message": auth,
        key(received): auth,
        "more": [{"loc": [key(received)], "msg": auth, "input": auth}],
    }


def escaped(text):
    return "".join(f"\\u{ord(mark):04X}" for mark in text)


def headers(received):
    return [f"X-Echo: {sent(received)}", f"Set-Cookie: key={key(received)}"]


def status(code):
    def answer(connection, received):
        location = [f"Location: /?key={urllib.parse.quote(key(received))}&auth={sent(received)}"]
        connection.sendall(reply(code, echo(received), headers(received) + location))

    return answer


def body(make, *more):
    def answer(connection, received):
        connection.sendall(reply(200, make(received), headers(received) + list(more)))

    return answer


def raw(make):
    return lambda connection, received: connection.sendall(make(received))


def row(received, **more):
    return {
        "cohort": sent(received),
        "period": 0,
        "cohort_size": 2,
        "cohort_size_amount": 1,
        "active_users": 1,
        key(received): sent(received),
    } | more


ECHOES = {
    **{str(code): status(code) for code in (301, 302, 400, 401, 403, 404, 409, 413, 418, 422, 429, 500, 502, 503, 504)},
    "not json": body(lambda received: f"<p>{echo(received)}</p>".encode()),
    "begins": body(lambda received: sent(received).encode()),
    "begins with the key": body(lambda received: key(received).encode()),
    "a list": body(lambda received: [echo(received)]),
    "an object": body(echo),
    "a text": body(lambda received: json.dumps(sent(received)).encode()),
    "texts": body(lambda received: [sent(received)] * 2),
    "field": body(lambda received: [row(received, period=sent(received))]),
    "escaped": body(lambda received: f'["{escaped(key(received))}"]'.encode()),
    "escaped field": body(
        lambda received: json.dumps([row(received, period="@")]).replace("@", escaped(key(received))).encode()
    ),
    "lacking": body(lambda received: [{key(received): 1, "cohort": key(received)}]),
    "twice": body(lambda received: {"data": [{"segment_start_date": key(received), "type": key(received)}]}),
    "nan": body(lambda received: f'[{{"{key(received)}": NaN}}]'.encode()),
    "cut": raw(lambda received: reply(200, echo(received), headers(received), length=10**6)),
    "cut head": raw(lambda received: f"HTTP/1.1 200 OK\r\nX-Echo: {sent(received)} {key(received)}".encode()),
    "bad head": raw(lambda received: f"HTTP/1.1 200 OK\r\n{sent(received)}{key(received)}\r\n\r\n".encode()),
    "bad status": raw(lambda received: f"HTTP/1.1 {key(received)} {sent(received)}\r\n\r\n".encode()),
    "bad length": raw(lambda received: f"HTTP/1.1 200 OK\r\nContent-Length: {key(received)}\r\n\r\n".encode()),
    "bad coding": raw(lambda received: reply(200, b"x", [f"Content-Encoding: {key(received)}"])),
    "bad gzip": body(lambda received: key(received).encode(), "Content-Encoding: gzip"),
    "packed": body(lambda received: gzip.compress(json.dumps(echo(received)).encode()), "Content-Encoding: gzip"),
    "large": body(lambda received: key(received).encode() * 60_000),
    "long": body(lambda received: ("x" * 65_500 + key(received) * 10).encode()),
    "cut words": raw(lambda received: reply(400, {"detail": "x" * 170 + key(received)})),
    "cut text": raw(lambda received: reply(400, b"x" * 170 + key(received).encode() * 9)),
    "silent": lambda connection, received: None,
}  # fmt: skip


# --- clients ---


def with_key(url, **more):
    return cl.termina.Client(api_key=KEY, base_url=url, **more).customer_cohorts(**BASE)


def with_token(url, **more):
    return cl.termina.Client(token=TOKEN, base_url=url, **more).cohorts(**BASE)


def of_adapty(url, **more):
    return cl.adapty.Client(api_key=KEY, base_url=url, **more).cohort(REQUEST)


def csv_of_adapty(url, **more):
    return cl.adapty.Client(api_key=KEY, base_url=url, **more).cohort(REQUEST | {"format": "csv"})


# What a CSV may be: lines of text.
ONE_COLUMN = ("begins", "begins with the key", "a text", "long")
CALLERS = {one.__name__: one for one in (with_key, with_token, of_adapty, csv_of_adapty)}


@pytest.fixture(autouse=True)
def _fresh(monkeypatch):
    unlimited = lambda url, slots, period: retry.RateLimit(slots, 0.0)  # noqa: E731
    monkeypatch.setattr("cohortlib.adapty.client.client.rate_limit", unlimited)
    monkeypatch.setattr(retry, "WAITS", {"wait_initial": 0.001, "wait_max": 0.002, "wait_jitter": 0.001})


@contextlib.contextmanager
def everything():
    """Collect everything printed, warned and logged, at any level and by any library."""
    said = io.StringIO()
    handler = logging.StreamHandler(said)
    # every attribute of a record, as a log collector would keep it
    handler.setFormatter(_All())
    root = logging.getLogger()
    level, known = root.level, [logging.getLogger(name) for name in (*logging.root.manager.loggerDict,)]
    levels = [(one, one.level) for one in known]
    root.addHandler(handler)
    root.setLevel(1)
    for one in known:
        one.setLevel(1)
    before = stamina.instrumentation.get_on_retry_hooks()
    stamina.instrumentation.set_on_retry_hooks([*before, lambda details: said.write(repr(details))])
    try:
        with (
            contextlib.redirect_stdout(said),
            contextlib.redirect_stderr(said),
            warnings.catch_warnings(record=True) as seen,
        ):
            warnings.simplefilter("always")
            yield said
        said.writelines(str(one.message) for one in seen)
    finally:
        stamina.instrumentation.set_on_retry_hooks(before)
        root.removeHandler(handler)
        root.setLevel(level)
        for one, old in levels:
            one.setLevel(old)


class _All(logging.Formatter):
    def format(self, record):
        return f"{super().format(record)} {record.__dict__!r}"


def all_texts_of(error):
    """Return all texts of an error and of its causes."""
    seen, todo = [], [error]
    while todo:
        one = todo.pop()
        if one is None or any(one is other for other in seen):
            continue
        seen.append(one)
        todo += [one.__cause__, one.__context__]
    texts = [f"{one!r} {one!s} {one.args!r} {vars(one)!r} {getattr(one, 'filename', '')}" for one in seen]
    texts += traceback.format_exception(error)
    texts.append(repr(pickle.dumps(error)))
    texts.append(repr(copy.copy(error)))
    return "\n".join(texts)


def refused(call, *args, **options):
    with everything() as said, pytest.raises(CohortlibError) as caught:
        call(*args, **options)
    assert_clean(said.getvalue(), "what was said")
    assert_clean(all_texts_of(caught.value), "the error")
    return caught.value


# --- the tests ---


def test_planted_secrets_are_found():
    """The checks of this module find planted secrets, in logs too."""
    for text in (KEY, TOKEN, f"x{KEY[:25]}", urllib.parse.quote(KEY, safe="")):
        with pytest.raises(AssertionError):
            assert_clean(text, "text")
    with everything() as said:
        logging.getLogger("httpcore2.http11").debug("came %s", KEY)
        logging.getLogger("some.other").debug("x", extra={"key": KEY})
        warnings.warn(TOKEN, stacklevel=1)
        print(KEY)
    assert said.getvalue().count(KEY) >= 3
    assert TOKEN in said.getvalue()
    assert KEY in all_texts_of(ValueError(KEY))


@pytest.mark.parametrize("what", ECHOES)
@pytest.mark.parametrize("client", CALLERS)
def test_failures_show_no_secret(client, what):
    """For every reply that echoes what was sent."""
    answer = ECHOES[what]
    if client == "with_key":  # once before there is a token, and once after

        def later(connection, received):
            if "get-token" in received.path:
                connection.sendall(reply(200, {"access_token": TOKEN}))
            else:
                received.headers["remembered"] = KEY
                answer(connection, received)

        with Server(later) as server:
            check_client(client, server.url, what)
        answer_with_token = raw(lambda received: reply(200, TOKEN.encode()))
        with Server(answer_with_token) as server:
            check_client(client, server.url, what)
    with Server(answer) as server:
        check_client(client, server.url, what)


@pytest.mark.parametrize("client", ["with_key", "with_token", "of_adapty"])
def test_failures_show_no_short_key(client, monkeypatch):
    """A key of three characters could be ordinary text; it is hidden in all that the vendor sent."""
    for name, value in {"KEY": "Zq7", "TOKEN": "Zq7", "SECRETS": ["zq7"]}.items():
        monkeypatch.setitem(globals(), name, value)
    for what in ECHOES:
        test_failures_show_no_secret(client, what)
    test_transports_show_no_secret(client)


@pytest.mark.parametrize("secret", ["the", "key", "row", "k"])
def test_our_words_stay_where_a_key_is_like_them(secret):
    def answer(connection, received):
        status, body = replies.pop(0)
        connection.sendall(reply(status, body))

    replies = [
        (401, {"detail": f"no {secret}", "errors": [{"source": secret, "errors": [{secret: secret}]}]}),
        (200, [{"cohort": "2026-01", secret: 1}]),
        (200, [{"cohort": "2026-01", "period": secret * 30}]),
        (200, f"{secret} <"),
    ]
    with Server(answer) as server:
        errors = []
        for _ in range(4):
            with pytest.raises(CohortlibError) as caught:
                cl.termina.Client(token=secret, base_url=server.url).cohorts(**BASE)
            errors.append(str(caught.value))
    assert errors[0] == "Termina does not accept the key or token (401): ***: {'***': '***'}; no ***"
    assert errors[1] == "Termina: row 0 has no field 'period'; its fields are 'cohort', '***'"
    shown = secret * 30 if len(secret) == 1 else "***" * 30
    assert errors[2].startswith(f"Termina: row 0, field 'period' is '{shown[:20]}")
    assert errors[3].startswith("Termina: the reply is text")


def check_client(client, url, what):
    options = {"attempts": 2, "timeout": 20, "transport": http(max_bytes=2_000_000)}
    if client == "csv_of_adapty" and what in ONE_COLUMN:
        with everything() as said:  # this reply is a valid table of one column
            table = CALLERS[client](url, **options)
        assert_clean(said.getvalue() + table.write_csv(), "what was said")
        return
    refused(CALLERS[client], url, **options)


@pytest.mark.parametrize("client", CALLERS)
def test_transports_show_no_secret(client):
    """Also custom ones, with the whole call in their exceptions."""

    def cause(call):
        raise KeyError(dict(call.headers), call.body)

    def chained(kind):
        def transport(call):
            try:
                cause(call)
            except KeyError as error:
                raise kind(f"failed with {call.headers} {call.body!r}") from error

        return transport

    def noted(call):
        error = cl.errors.TransportError(f"failed with {call.headers}", None, f"{call.body!r} {call.headers}")
        error.add_note(f"{call.headers} {call.body!r}")
        raise error

    for kind in (
        OSError,
        TimeoutError,
        ValueError,
        cl.errors.TransportError,
        cl.errors.ReplyError,
        cl.errors.ServerError,
    ):
        refused(CALLERS[client], "https://vendor.example", transport=chained(kind), attempts=2)
    refused(CALLERS[client], "https://vendor.example", transport=noted, attempts=1)
    refused(CALLERS[client], "https://vendor.example", transport=lambda call: (call.headers, call.body), attempts=1)


@pytest.mark.parametrize("client", CALLERS)
def test_failed_connections_show_no_secret(client, monkeypatch):
    with Server() as gone:
        pass
    refused(CALLERS[client], gone.url, attempts=2)
    refused(CALLERS[client], gone.url.replace("http:", "https:"), attempts=2)
    refused(CALLERS[client], f"https://{KEY[:7]}:{TOKEN}@vendor.example")
    refused(CALLERS[client], f"http://vendor.example/{client}")
    monkeypatch.setenv("HTTPS_PROXY", f"http://user:{TOKEN}@127.0.0.1:{gone.url.rpartition(':')[2]}")
    refused(CALLERS[client], "https://vendor.example", attempts=2)
    monkeypatch.setenv("HTTPS_PROXY", f"http://user:{TOKEN}@127.0.0.1:port")
    refused(CALLERS[client], "https://vendor.example", attempts=2)
    monkeypatch.setenv("HTTPS_PROXY", f"other://user:{TOKEN}@127.0.0.1")
    refused(CALLERS[client], "https://vendor.example", attempts=2)


@pytest.mark.parametrize("bad", [f"{KEY}\n", f"{KEY} {KEY}", f"{KEY}é", [KEY], {KEY: KEY}, KEY.encode()])
def test_keys_that_cannot_be_sent(bad):
    refused(cl.adapty.Client, api_key=bad)
    refused(cl.termina.Client, api_key=bad)
    refused(cl.termina.Client, token=bad)


def test_tables_show_no_secret(tmp_path):
    """Valid replies may contain secrets too: in unknown fields, in text, in headers."""
    line = {"cohort": "2026-01", "period": 0, "cohort_size": 2, "cohort_size_amount": 1, "active_users": 1}

    def answer(connection, received):
        if "get-token" in received.path:
            connection.sendall(reply(200, {"access_token": TOKEN, "key": KEY}, [f"X-Echo: {KEY}"]))
            return
        echoed = line | {"user_id": f"user of {received.headers['authorization']} {KEY}", KEY: TOKEN}
        connection.sendall(reply(200, [echoed], headers(received)))

    with Server(answer) as server, everything() as said:
        table = with_key(server.url)
        print(table, repr(table))
        for kind in ("csv", "json", "parquet"):
            getattr(table, f"write_{kind}")(tmp_path / f"table.{kind}")
    assert table["user_id"].to_list() == ["user of Bearer *** ***"]
    assert_clean(said.getvalue(), "what was said")
    for path in tmp_path.iterdir():
        assert_clean(path.read_bytes().decode("latin-1"), path.name)


ARGS = {
    "termina": [
        "fetch",
        "termina",
        "cohorts",
        "--group",
        "1",
        "--deal",
        "1",
        "--user-type",
        "business",
        "--metric",
        "x",
    ],
    "adapty": ["fetch", "adapty", "cohort", "--request", "request.json"],
}


@pytest.mark.parametrize("what", ECHOES)
@pytest.mark.parametrize(
    ("vendor", "secret", "debug"),
    [("termina", KEY, []), ("termina", TOKEN, ["--debug"]), ("adapty", KEY, [])],
    ids=["key", "token", "adapty"],
)
def test_commands_show_no_secret(tmp_path, monkeypatch, vendor, secret, debug, what):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "request.json").write_text(json.dumps(REQUEST))
    env = {"TERMINA_API_KEY": secret, "ADAPTY_API_KEY": secret}
    with Server(ECHOES[what]) as server, everything() as said:
        args = [*debug, *ARGS[vendor], "--base-url", server.url, "--attempts", "2", "-o", "out.json"]
        result = CliRunner().invoke(main.cli, args, env=env, prog_name="cohortlib")
    assert result.exit_code == 2
    assert result.stdout == ""
    lines = result.stderr.splitlines()
    assert lines[-1].startswith("error: ")
    assert (len(lines) == 1) == (not debug)
    assert_clean(result.output + repr(result), "the command")
    assert_clean(said.getvalue(), "what was said")
    assert [path.name for path in tmp_path.iterdir()] == ["request.json"]


@pytest.mark.parametrize("vendor", ARGS)
def test_processes_show_no_secret(tmp_path, vendor):
    """In a process of its own, where nothing captures the output."""
    (tmp_path / "request.json").write_text(json.dumps(REQUEST))
    with Server(ECHOES["503"]) as server:
        args = [*ARGS[vendor], "--base-url", server.url, "--attempts", "2"]
        env = os.environ | {"TERMINA_API_KEY": KEY, "ADAPTY_API_KEY": KEY}
        command = [sys.executable, "-m", "cohortlib", *args]
        done = subprocess.run(command, capture_output=True, env=env, cwd=tmp_path, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (2, b"")
    assert done.stderr.startswith(b"error: ")
    assert done.stderr.count(b"\n") == 1
    assert_clean(done.stderr.decode(), "the process")
    assert len(server.received) == 2


def test_recorded_files_have_no_secret():
    from pathlib import Path

    for path in (Path(__file__).parent / "recorded").iterdir():
        assert "secret" not in path.read_text()
        assert "eyJ" not in path.read_text()
