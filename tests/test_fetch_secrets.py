"""No key or token is in anything that is said, logged, raised or saved, whatever fails and whoever echoes it."""

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
    """Give what a part of a secret is as, in any of the ways it may be written."""
    yield from (secret, urllib.parse.quote(secret, safe=""), json.dumps(secret)[1:-1], secret.replace("/", "\\/"))
    yield repr(secret.encode())[2:-1]
    yield base64.b64encode(secret.encode()).decode().rstrip("=")[:-2]
    yield secret[:20]  # a part is as bad
    yield secret[-12:].rstrip("=")


SECRETS = [form.lower() for secret in (KEY, TOKEN) for form in forms(secret)]


def assert_clean(text, where):
    found = [form for form in SECRETS if form in text.lower()]
    assert not found, f"{where} shows {found[0]}: {text[:2000]}"


# --- what echoes ---


def sent(asked):
    """Give what was sent to get in."""
    return asked.headers.get("authorization") or asked.json["api_key"]


def key(asked):
    """Give the secret that the server knows: what it was sent, or what it remembers of the call before."""
    return asked.headers.get("remembered") or sent(asked).rpartition(" ")[2]


def echo(asked):
    """Give all of what was sent, as one that debugs would."""
    auth, body = sent(asked), asked.body.decode()
    return {
        "detail": f"you sent {auth} and {body}",
        "errors": [{"source": auth, "errors": [body, key(asked)]}],
        "message": auth,
        key(asked): auth,
        "more": [{"loc": [key(asked)], "msg": auth, "input": auth}],
    }


def escaped(text):
    return "".join(f"\\u{ord(mark):04X}" for mark in text)


def headers(asked):
    return [f"X-Echo: {sent(asked)}", f"Set-Cookie: key={key(asked)}"]


def status(code):
    def answer(connection, asked):
        location = [f"Location: /?key={urllib.parse.quote(key(asked))}&auth={sent(asked)}"]
        connection.sendall(reply(code, echo(asked), headers(asked) + location))

    return answer


def body(make, *more):
    def answer(connection, asked):
        connection.sendall(reply(200, make(asked), headers(asked) + list(more)))

    return answer


def raw(make):
    return lambda connection, asked: connection.sendall(make(asked))


def row(asked, **more):
    return {
        "cohort": sent(asked),
        "period": 0,
        "cohort_size": 2,
        "cohort_size_amount": 1,
        "active_users": 1,
        key(asked): sent(asked),
    } | more


ECHOES = {
    **{str(code): status(code) for code in (301, 302, 400, 401, 403, 404, 409, 413, 418, 422, 429, 500, 502, 503, 504)},
    "not json": body(lambda asked: f"<p>{echo(asked)}</p>".encode()),
    "begins": body(lambda asked: sent(asked).encode()),
    "begins with the key": body(lambda asked: key(asked).encode()),
    "a list": body(lambda asked: [echo(asked)]),
    "an object": body(echo),
    "a text": body(lambda asked: json.dumps(sent(asked)).encode()),
    "texts": body(lambda asked: [sent(asked)] * 2),
    "field": body(lambda asked: [row(asked, period=sent(asked))]),
    "escaped": body(lambda asked: f'["{escaped(key(asked))}"]'.encode()),
    "escaped field": body(
        lambda asked: json.dumps([row(asked, period="@")]).replace("@", escaped(key(asked))).encode()
    ),
    "lacking": body(lambda asked: [{key(asked): 1, "cohort": key(asked)}]),
    "twice": body(lambda asked: {"data": [{"segment_start_date": key(asked), "type": key(asked)}]}),
    "nan": body(lambda asked: f'[{{"{key(asked)}": NaN}}]'.encode()),
    "cut": raw(lambda asked: reply(200, echo(asked), headers(asked), length=10**6)),
    "cut head": raw(lambda asked: f"HTTP/1.1 200 OK\r\nX-Echo: {sent(asked)} {key(asked)}".encode()),
    "bad head": raw(lambda asked: f"HTTP/1.1 200 OK\r\n{sent(asked)}{key(asked)}\r\n\r\n".encode()),
    "bad status": raw(lambda asked: f"HTTP/1.1 {key(asked)} {sent(asked)}\r\n\r\n".encode()),
    "bad length": raw(lambda asked: f"HTTP/1.1 200 OK\r\nContent-Length: {key(asked)}\r\n\r\n".encode()),
    "bad coding": raw(lambda asked: reply(200, b"x", [f"Content-Encoding: {key(asked)}"])),
    "bad gzip": body(lambda asked: key(asked).encode(), "Content-Encoding: gzip"),
    "packed": body(lambda asked: gzip.compress(json.dumps(echo(asked)).encode()), "Content-Encoding: gzip"),
    "large": body(lambda asked: key(asked).encode() * 60_000),
    "long": body(lambda asked: ("x" * 65_500 + key(asked) * 10).encode()),
    "cut words": raw(lambda asked: reply(400, {"detail": "x" * 170 + key(asked)})),
    "cut text": raw(lambda asked: reply(400, b"x" * 170 + key(asked).encode() * 9)),
    "silent": lambda connection, asked: None,
}  # fmt: skip


# --- who asks ---


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
    """Collect all that is printed, warned and logged at any level by anyone."""
    said = io.StringIO()
    handler = logging.StreamHandler(said)
    # of each record all there is, as a collector of logs would keep it
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


def told_by(error):
    """Give all that an error tells, and all that led to it."""
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
    assert_clean(told_by(caught.value), "the error")
    return caught.value


# --- the tests ---


def test_the_search_finds_them():
    """The net has no hole: what is planted is found, in logs too."""
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
    assert KEY in told_by(ValueError(KEY))


@pytest.mark.parametrize("what", ECHOES)
@pytest.mark.parametrize("who", CALLERS)
def test_no_failure_tells(who, what):
    """Whatever comes back, and with it all that was sent."""
    answer = ECHOES[what]
    if who == "with_key":  # once before there is a token, and once after

        def later(connection, asked):
            if "get-token" in asked.path:
                connection.sendall(reply(200, {"access_token": TOKEN}))
            else:
                asked.headers["remembered"] = KEY
                answer(connection, asked)

        with Server(later) as server:
            asked(who, server.url, what)
        answer_with_token = raw(lambda asked: reply(200, TOKEN.encode()))
        with Server(answer_with_token) as server:
            asked(who, server.url, what)
    with Server(answer) as server:
        asked(who, server.url, what)


def asked(who, url, what):
    options = {"attempts": 2, "timeout": 20, "transport": http(max_bytes=2_000_000)}
    if who == "csv_of_adapty" and what in ONE_COLUMN:
        with everything() as said:  # which is a table of one column
            table = CALLERS[who](url, **options)
        assert_clean(said.getvalue() + table.write_csv(), "what was said")
        return
    refused(CALLERS[who], url, **options)


@pytest.mark.parametrize("who", CALLERS)
def test_no_transport_tells(who):
    """Also one that the caller brought, and that puts all of the call in its exceptions."""

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
        refused(CALLERS[who], "https://vendor.example", transport=chained(kind), attempts=2)
    refused(CALLERS[who], "https://vendor.example", transport=noted, attempts=1)
    refused(CALLERS[who], "https://vendor.example", transport=lambda call: (call.headers, call.body), attempts=1)


@pytest.mark.parametrize("who", CALLERS)
def test_no_connection_tells(who, monkeypatch):
    with Server() as gone:
        pass
    refused(CALLERS[who], gone.url, attempts=2)
    refused(CALLERS[who], gone.url.replace("http:", "https:"), attempts=2)
    refused(CALLERS[who], f"https://{KEY[:7]}:{TOKEN}@vendor.example")
    refused(CALLERS[who], f"http://vendor.example/{who}")
    monkeypatch.setenv("HTTPS_PROXY", f"http://user:{TOKEN}@127.0.0.1:{gone.url.rpartition(':')[2]}")
    refused(CALLERS[who], "https://vendor.example", attempts=2)
    monkeypatch.setenv("HTTPS_PROXY", f"http://user:{TOKEN}@127.0.0.1:port")
    refused(CALLERS[who], "https://vendor.example", attempts=2)
    monkeypatch.setenv("HTTPS_PROXY", f"other://user:{TOKEN}@127.0.0.1")
    refused(CALLERS[who], "https://vendor.example", attempts=2)


@pytest.mark.parametrize("bad", [f"{KEY}\n", f"{KEY} {KEY}", f"{KEY}é", [KEY], {KEY: KEY}, KEY.encode()])
def test_keys_that_cannot_be_sent(bad):
    refused(cl.adapty.Client, api_key=bad)
    refused(cl.termina.Client, api_key=bad)
    refused(cl.termina.Client, token=bad)


def test_no_success_tells(tmp_path):
    """What is right may hold them too: in fields that nobody knows, in texts, in the headers."""
    line = {"cohort": "2026-01", "period": 0, "cohort_size": 2, "cohort_size_amount": 1, "active_users": 1}

    def answer(connection, asked):
        if "get-token" in asked.path:
            connection.sendall(reply(200, {"access_token": TOKEN, "key": KEY}, [f"X-Echo: {KEY}"]))
            return
        echoed = line | {"user_id": f"user of {asked.headers['authorization']} {KEY}", KEY: TOKEN}
        connection.sendall(reply(200, [echoed], headers(asked)))

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
def test_no_command_tells(tmp_path, monkeypatch, vendor, secret, debug, what):
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
def test_no_process_tells(tmp_path, vendor):
    """As a process of its own, where nobody catches what is printed on the way."""
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
    assert len(server.asked) == 2


def test_recorded_files_hold_none():
    from pathlib import Path

    for path in (Path(__file__).parent / "recorded").iterdir():
        assert "secret" not in path.read_text()
        assert "eyJ" not in path.read_text()
