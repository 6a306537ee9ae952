"""Every status, slow, truncated and invalid replies, retries and their limits, the rate limit, redaction."""

import gzip
import itertools
import json
import logging
import threading
import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from loopback import Server, reply, sending

from cohortlib import errors
from cohortlib.errors import FetchError, ReplyError, SettingError, TransportError
from cohortlib.network import http_errors, json_rows, retry
from cohortlib.network import secrets as secrecy
from cohortlib.network import transport as transports
from cohortlib.network.transport import Call, Reply

pytestmark = pytest.mark.unit


@pytest.fixture
def server():
    with Server() as one:
        yield one


@pytest.fixture(autouse=True)
def _soon(monkeypatch):
    monkeypatch.setattr(retry, "WAITS", {"wait_initial": 0.01, "wait_max": 0.02, "wait_jitter": 0.01})


def send(server, attempts=3, timeout=20.0, transport=None, secrets=(), **settings):
    connection = retry.Connection.open("Vendor", transport or transports.http(**settings), attempts, timeout)
    call = Call("GET", f"{server.url}/path?a=1", {"Authorization": "Bearer k"})
    return connection.send(call, secrets, connection.deadline())


def failing(server, kind, *args, **settings):
    with pytest.raises(kind) as caught:
        send(server, *args, **settings)
    assert type(caught.value) is kind
    return caught.value


# --- statuses ---


@pytest.mark.parametrize("status", [200, 201])
def test_success(server, status):
    server.answer = sending(reply(status, [1, 2]))
    found = send(server)
    assert (found.status, json.loads(found.body)) == (status, [1, 2])
    (received,) = server.received
    assert received.line == "GET /path?a=1 HTTP/1.1"
    assert received.headers["authorization"] == "Bearer k"
    assert received.headers["accept-encoding"] == "gzip"


@pytest.mark.parametrize(
    ("status", "kind", "attempts"),
    [
        (400, errors.RefusedError, 1),
        (401, errors.AuthenticationError, 1),
        (403, errors.ForbiddenError, 1),
        (404, errors.NotFoundError, 1),
        (409, errors.RefusedError, 1),
        (413, errors.RefusedError, 1),
        (418, errors.RefusedError, 1),
        (422, errors.RefusedError, 1),
        (429, errors.RateLimitError, 3),
        (500, errors.ServerError, 1),
        (502, errors.ServerError, 3),
        (503, errors.ServerError, 3),
        (504, errors.ServerError, 3),
        (599, errors.ServerError, 1),
    ],
)
def test_failures(server, status, kind, attempts):
    server.answer = sending(reply(status, {"detail": "the vendor's words"}))
    error = failing(server, kind)
    assert (error.status, error.body) == (status, '{"detail": "the vendor\'s words"}')
    assert f"({status})" in str(error)
    assert str(error).startswith("Vendor ")
    assert str(error).endswith(": the vendor's words")
    assert len(server.received) == attempts


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_redirect_is_not_followed(server, status):
    server.answer = sending(reply(status, b"", [f"Location: {server.url}/other"]))
    error = failing(server, ReplyError)
    assert f"a redirect ({status}) to {server.url}/other, which is not followed" in str(error)
    assert len(server.received) == 1


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (
            {"detail": [{"loc": ["query", "freq"], "msg": "should be 'M'", "type": "enum", "input": "X", "ctx": {}},
                        {"loc": ["query", 1], "msg": "odd"}, {"msg": "whole"}, "plain"]},
            "query.freq: should be 'M' (got X); query.1: odd; whole; plain",
        ),
        (
            {"errors": [{"source": "filters.date", "errors": ["missing", "late"]}, {"source": None, "errors": ["bad"]},
                        {"source": "non_field_errors", "errors": ["worse"]}, "text", 5],
             "error_code": "base_error", "status_code": 400},
            "filters.date: missing, late; bad; worse; text; 5; base_error",
        ),
        ({"detail": "Not allowed"}, "Not allowed"),
        ({"message": "m", "error": "e"}, "m; e"),
        ([1, 2], ""),
        (b"<html>a page</html>", ""),
        (b"plain \x00\x1b[31m words", "plain   [31m words"),
        (b"[" * 100_000, "[" * 200),
        (b"", ""),
    ],
)  # fmt: skip
def test_the_vendors_reasons(server, body, words):
    server.answer = sending(reply(422, body))
    error = failing(server, errors.RefusedError)
    assert str(error) == "Vendor refused the request (422)" + (f": {words}" if words else "")
    assert len(error.body) <= 64 * 1024


def test_long_messages_are_cut(server):
    server.answer = sending(reply(400, {"detail": ["x" * 10_000] * 50}))
    error = failing(server, errors.RefusedError)
    assert len(str(error)) == 600
    assert len(error.body) == 64 * 1024


# --- retries ---


@pytest.mark.parametrize("status", [429, 502, 503, 504])
def test_temporary_failures_are_retried(server, status):
    server.answer = sending(reply(status), reply(status), reply(200, b"[]"))
    assert send(server).body == b"[]"
    assert len(server.received) == 3


def test_broken_connections_are_retried(server):
    server.answer = sending(b"", b"HTTP/1.1 200 OK\r\nConte", reply(200, b"[1", length=10), reply(200, b"[]"))
    assert send(server, attempts=4).body == b"[]"
    assert len(server.received) == 4


@pytest.mark.parametrize("form", ["1", "date"])
@pytest.mark.parametrize("status", [429, 503])
def test_retry_after_is_honoured(server, status, form):
    when = format_datetime(datetime.now(UTC) + timedelta(seconds=2), usegmt=True) if form == "date" else form
    server.answer = sending(reply(status, b"", [f"Retry-After: {when}"]), reply(200, b"[]"))
    send(server)
    first, second = server.received
    assert 0.9 <= second.at - first.at < 10


def test_a_retry_after_beyond_the_timeout_fails_at_once(server):
    server.answer = sending(reply(429, b"", ["Retry-After: 3600"]))
    begun = time.monotonic()
    error = failing(server, errors.RateLimitError, timeout=5)
    assert time.monotonic() - begun < 4
    assert error.retry_after == 3600
    assert "(retry after 3600 seconds)" in str(error)
    assert len(server.received) == 1


@pytest.mark.parametrize("text", ["soon", "-5", "nan", "1e9", "99999999999999999999", "\u0663", "Mon, 99 Foo 2026"])
def test_an_invalid_retry_after_is_ignored(text):
    assert http_errors.retry_after(Reply(429, {"RETRY-AFTER": text})) is None


def test_a_retry_after_in_the_past_is_zero():
    assert http_errors.retry_after(Reply(429, {"retry-after": "Thu, 01 Jan 1970 00:00:00 GMT"})) == 0
    assert http_errors.retry_after(Reply(429, {"retry-after": "Thu, 01 Jan 1970 00:00:00"})) == 0
    assert http_errors.retry_after(Reply(429, {"Retry-After": " 1.5 "})) == 1.5


@pytest.mark.parametrize("after", ["0", "0.0", "Thu, 01 Jan 1970 00:00:00 GMT"])
def test_a_retry_after_of_zero_waits_the_usual_pause(server, monkeypatch, after):
    monkeypatch.setattr(retry, "WAITS", {"wait_initial": 0.3, "wait_max": 0.3, "wait_jitter": 0.0})
    server.answer = sending(reply(429, b"", [f"Retry-After: {after}"]), reply(200, b"[]"))
    send(server)
    first, second = server.received
    assert second.at - first.at >= 0.25


def test_retries_end_at_the_timeout(server):
    server.answer = lambda connection, received: (server.wait(0.3), connection.sendall(reply(503, {"detail": "busy"})))
    error = failing(server, errors.ServerError, attempts=1000, timeout=1.0)
    assert str(error).endswith(": busy")
    assert 2 <= len(server.received) <= 5


# --- no reply ---


def test_refused_connection():
    with Server() as gone:
        pass
    error = failing(gone, TransportError, attempts=2)
    assert str(error).startswith("Vendor: no connection to 127.0.0.1: ")
    assert (error.status, error.body) == (None, "")
    assert isinstance(error, ConnectionError)


def test_unknown_host():
    server = Server()
    server.url = "https://no-such-host.invalid"
    assert "no connection to no-such-host.invalid" in str(failing(server, TransportError, attempts=1))


def test_silence_is_limited(server):
    server.answer = lambda connection, received: server.wait(30)
    error = failing(server, TransportError, attempts=2, read=0.2)
    assert str(error) == "Vendor: 127.0.0.1 sent nothing for 0.2 seconds"
    assert len(server.received) == 2


@pytest.mark.parametrize("part", ["head", "body"])
def test_slow_replies_are_limited(server, part):
    """A server that sends a byte at a time never exceeds the read timeout, and still has to end."""

    def drip(connection, received):
        whole = reply(200, b" " * 100_000)
        if part == "body":
            connection.sendall(whole[:200])
        for mark in whole[200 if part == "body" else 0 :]:
            connection.sendall(bytes([mark]))
            time.sleep(0.05)

    server.answer = drip
    begun = time.monotonic()
    error = failing(server, TransportError, attempts=5, timeout=0.7, read=5)
    assert time.monotonic() - begun < 5
    assert "did not send its whole reply within" in str(error)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"HTTP/1.1 2",
        b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n[1,",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n[1,2\r\n",
        b"no http at all\r\n\r\n",
        reply(200, gzip.compress(b"[1, 2, 3]" * 100)[:-9], ["Content-Encoding: gzip"]),
    ],
    ids=["nothing", "status", "length", "chunks", "other", "gzip"],
)
def test_cut_short(server, raw):
    server.answer = sending(raw)
    assert "cut short" in str(failing(server, TransportError, attempts=2))
    assert len(server.received) == 2


def test_tls_errors_are_not_retried(server):
    server.greeting = b"HTTP/1.1 200 OK\r\n\r\n"
    server.url = server.url.replace("http://", "https://")
    error = failing(server, TransportError)
    assert "no connection to 127.0.0.1: [SSL" in str(error)
    assert error.lasting


# --- invalid replies ---


@pytest.mark.parametrize("coding", ["", "gzip", "x-gzip", "GZIP", "identity"])
def test_compressed(server, coding):
    body = gzip.compress(b"[1, 2]") if "zip" in coding.lower() else b"[1, 2]"
    server.answer = sending(reply(200, body, [f"Content-Encoding: {coding}"] if coding else []))
    assert send(server).body == b"[1, 2]"


@pytest.mark.parametrize(
    ("body", "coding", "message"),
    [
        (b"[1, 2]", "gzip", "is labelled as gzip, but is not"),
        (b"[1, 2]", "br", "is compressed with br. Expected gzip"),
        (b"[1, 2]", "gzip, br", "is compressed with an unknown encoding. Expected gzip"),
        (b"x" * 10_001, "identity", "larger than 10,000 bytes. Hint: transport=http(max_bytes=...)"),
        (gzip.compress(b"0" * 50_000_000), "gzip", "larger than 10,000 bytes"),
        (gzip.compress(bytes(range(256)) * 39 + b"x" * 17), "gzip", "larger than 10,000 bytes"),
    ],
    ids=["no gzip", "br", "both", "large", "bomb", "by one"],
)
def test_refused_replies(server, body, coding, message):
    server.answer = sending(reply(200, body, [f"Content-Encoding: {coding}"]))
    assert message in str(failing(server, ReplyError, max_bytes=10_000))
    assert len(server.received) == 1


def test_the_largest_size(server):
    server.answer = sending(reply(200, b"x" * 10_000))
    assert len(send(server, max_bytes=10_000).body) == 10_000
    server.answer = sending(reply(200, gzip.compress(b"x" * 10_000), ["Content-Encoding: gzip"]))
    assert len(send(server, max_bytes=10_000).body) == 10_000


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "is empty. Expected JSON"),
        (b" \n", "is empty. Expected JSON"),
        (b"<html>", "Expecting value at character 0; it begins with '<html>'"),
        (b'[{"a": 1}, {"a"', "it is cut short after 15 characters"),
        (b'[{"a": "te', "it is cut short after 10 characters"),
        (b"[1, NaN]", "it contains NaN"),
        (b'[{"a": 1, "b": 2, "a": 1}]', "an object with the field 'a' 2 times. Expected each field once"),
        (b'{"data": [{"new": {"x": 1, "\\u0078": 2}}]}', "an object with the field 'x' 2 times. Expected"),
        (b'"\xed\xa0\x80"', "it is not text"),
        (b"[-Infinity]", "it contains -Infinity"),
        (b"\xff\xfe\xfd", "it is not text"),
        (b"[" * 200_000, "recursion"),
        (b"[" + b"9" * 5000 + b"]", "Exceeds the limit"),
    ],
)
def test_invalid_json(body, message):
    with pytest.raises(ReplyError) as caught:
        json_rows.parse_json(body)
    assert message in str(caught.value)
    with pytest.raises(ReplyError) as caught:
        http_errors.parse_reply(lambda: json_rows.parse_json(body), "Vendor", Reply(200, {}, body), ())
    assert str(caught.value).startswith(("Vendor: the reply is", "Vendor: the reply has"))
    assert caught.value.status == 200
    assert caught.value.body == body.decode(errors="replace")[: 64 * 1024]


# --- addresses ---


@pytest.mark.parametrize(
    "base",
    [
        "https://x.example",
        "https://x.example:8443/a/b/",
        "http://localhost:80",
        "http://127.9.9.9",
        "http://[::1]:8080",
    ],
)
def test_addresses(base):
    assert transports.api_url(base, "/api") == base.rstrip("/") + "/api"


@pytest.mark.parametrize(
    "base",
    [
        "http://x.example", "http://127.0.0.1.example", "http://localhost.example", "http://0.0.0.0", "http://[::2]",
        "http://127.1", "ftp://localhost", "https://", "https:///x", "x.example", "", None, 5, "https://a b",
        "//x.example", "https://x.example?q=1", "https://x.example#f", "http://localhost#x.example",
        "https://x.example:99999", "https://x:0",
        "https://x\n.example", "https://[::1", "http://localhost\\x.example", "https://exämple.com", "HTTP://x.example",
        "http://2130706433", "http://[::ffff:127.0.0.1]", "https://x.example:80:90",
    ],
)  # fmt: skip
def test_addresses_refused(base):
    with pytest.raises(SettingError, match="Expected https://host"):
        transports.api_url(base, "/api")


@pytest.mark.parametrize(
    "base", ["https://user:hunter22@x.example", "http://hunter22@localhost", "https://x/hunter22@y"]
)
def test_addresses_with_a_password(base):
    with pytest.raises(SettingError, match="a user or a password") as caught:
        transports.api_url(base, "/api")
    assert "hunter22" not in str(caught.value)


def test_loopback_bypasses_the_proxy(server, monkeypatch):
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        for variable in (name, name.lower()):
            monkeypatch.setenv(variable, "http://127.0.0.1:9")
    server.answer = sending(reply(200, b"[]"))
    assert send(server).body == b"[]"


def test_an_invalid_proxy_is_shown_without_its_password(monkeypatch):
    monkeypatch.setenv("HTTPS_PROXY", "http://user:hunter22@127.0.0.1:port")
    server = Server()
    server.url = "https://x.example"
    assert "hunter22" not in str(failing(server, TransportError))


# --- settings and custom transports ---


@pytest.mark.parametrize(
    "settings",
    [
        {"attempts": 0}, {"attempts": True}, {"attempts": 1.5}, {"timeout": 0}, {"timeout": "5"},
        {"timeout": float("inf")},         {"timeout": float("nan")}, {"timeout": True}, {"transport": "http"},
    ],
)  # fmt: skip
def test_settings_refused(settings):
    with pytest.raises(SettingError):
        send(Server(), **settings)


def test_custom_transports(server):
    server.url = "https://x.example"
    seen = []

    def once_broken(call):
        seen.append(call)
        if len(seen) == 1:
            raise TimeoutError("slow today")
        return Reply(200, {}, b"[]")

    assert send(server, transport=once_broken).body == b"[]"
    assert 0 < seen[1].timeout < seen[0].timeout <= 20

    def broken(call):
        seen.append(call)
        raise ValueError("a fault of its own")

    seen.clear()
    error = failing(server, TransportError, transport=broken)
    assert str(error) == "Vendor: the transport failed: ValueError: a fault of its own"
    assert len(seen) == 1
    with pytest.raises(SettingError, match=r"transport= returned a tuple\. Expected a cohortlib"):
        send(server, transport=lambda call: (200, b""))


def test_reprs_show_no_headers_and_no_body():
    call = Call("POST", "https://x.example", {"Authorization": "Bearer hunter22"}, b"hunter22")
    assert repr(call) == "Call(POST https://x.example, 1 headers, 8 bytes)"
    assert repr(Reply(200, {"a": "hunter22"}, b"hunter22")) == "Reply(200, 1 headers, 8 bytes)"
    assert repr([call]) == f"[{call!r}]"


@pytest.mark.parametrize("missing", ["httpx2", "stamina"])
def test_without_the_extra(monkeypatch, missing):
    monkeypatch.setitem(__import__("sys").modules, missing, None)
    with pytest.raises(FetchError, match=rf"fetching needs {missing}, .* pip install 'cohortlib\[fetch\]'") as caught:
        send(Server(), transport=None if missing == "httpx2" else lambda call: Reply(200))
    assert caught.value.__context__ is None


# --- the rate limit ---


def test_no_period_sees_a_third_call():
    """Calls take any time to arrive; the limit holds at the server."""
    limit, arrived, lock = retry.RateLimit(2, 0.2), [], threading.Lock()

    def work(number):
        with limit.slot(time.monotonic() + 60):
            time.sleep(0.07 * (number % 3))  # until the call arrives
            with lock:
                arrived.append(time.monotonic())
            time.sleep(0.03 * (number % 2))  # until the reply arrives

    threads = [threading.Thread(target=work, args=(number,)) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    arrived.sort()
    assert len(arrived) == 12
    assert all(third - first > 0.2 for first, third in itertools.pairwise(arrived[::2]))
    assert all(third - first > 0.2 for first, third in zip(arrived, arrived[2:], strict=False))


def test_waiting_for_a_slot_times_out():
    limit = retry.RateLimit(1, 5.0)
    with (
        limit.slot(time.monotonic() + 1),
        pytest.raises(TransportError, match="waiting for the rate limit"),
        limit.slot(time.monotonic() + 0.05),
    ):
        pass
    for _ in range(3):  # a slot that timed out is not lost
        begun = time.monotonic()
        with pytest.raises(TransportError, match="waiting for the rate limit"), limit.slot(begun + 2):
            pass
        assert time.monotonic() - begun < 1.5


def test_one_rate_limit_for_each_server():
    assert retry.rate_limit("https://a.example/x", 2, 1.0) is retry.rate_limit("https://a.example:443/y", 2, 1.0)
    assert retry.rate_limit("https://a.example", 2, 1.0) is not retry.rate_limit("https://b.example", 2, 1.0)


# --- secrets ---

KEY = "secret_live_Ab+/=0123456789"


@pytest.mark.parametrize(
    "text",
    [KEY, KEY.upper(), "secret_live_Ab%2B%2f%3D0123456789", r"secret_live_Ab\u002B\/\u003d0123456789", f"x{KEY}y{KEY}"],
)
def test_redact(text):
    found = secrecy.redact(f"key {text}.", (KEY, "key"))
    assert "0123456789" not in found
    assert found.startswith("key ***") or found.startswith("key x***y***")
    assert secrecy.redact_data(text.encode(), (KEY,)).count(b"***") == text.lower().count("secret")


def test_short_keys_do_not_change_data():
    body = '[{"user_id": "test", "é": 1}]'.encode()
    assert secrecy.redact_data(body, ("test",)) == body
    assert secrecy.redact_data(body * 100_000, ("test",)) == body * 100_000
    large = KEY.encode() + b" " * (1 << 21)
    assert secrecy.redact_data(large, (KEY,)) == b"***" + b" " * (1 << 21)


@pytest.mark.parametrize("key", ["k", "Zq7", "Zq7-9x", "a*b"])
def test_short_keys_in_text_that_was_sent(key):
    escaped = "".join(f"\\u{ord(char):04x}" for char in key)
    text = f"Bearer {key}, {key}: {{'{key}': '{escaped}'}} {key}."
    assert secrecy.redact_sent(text, (key,)) == "Bearer ***, ***: {'***': '***'} ***."
    assert secrecy.redact_sent("booklet kin book", (key,)) == "booklet kin book"
    with secrecy.hidden((key,)):
        dashes = "-" * (41 - len(key))  # so that a cut at 40 characters would leave all but one of the key's
        assert json_rows.preview(dashes + key, 40) == repr((dashes + "***")[:40])
    assert secrecy.redact_start(text.encode(), (key,)) == "Bearer ***, ***: {'***': '***'} ***."


@pytest.mark.parametrize("key", ["k", "Zq7", "Zq7-9x", "a*b"])
def test_short_keys_in_data(key):
    data = f'[{{"user_id": "{key}", "country": "{key}x", "monkey": "{key}k"}}'
    echoes = [f"Bearer {key}", f"api-key%20{key}", f"Api-Key {key}", f'"api_key": "{key}"', f'"token":"{key}"']
    for echo in echoes:
        found = secrecy.redact_data(f"{data}, {echo}]".encode(), (key,)).decode()
        assert found == f"{data}, {echo[: -len(key)] if echo.endswith(key) else echo[: -len(key) - 1]}***" + (
            '"]' if echo.endswith('"') else "]"
        )


@pytest.mark.parametrize("key", [KEY, KEY * 10])
@pytest.mark.parametrize("before", [0, 1, 2**20 - 20, 2**20 - 150])
def test_no_secret_is_cut_in_two(key, before):
    """Also if most of the text is redacted."""
    text = secrecy.redact_start(b" " * before + key.encode() * (2**21 // len(key)), (key,), 64 * 1024)
    assert "secret" not in text
    assert "789" not in text.replace("***", "")
    assert set(text) <= {" ", "*"}


@pytest.mark.parametrize("key", ["a b", "a\n", "", "é", 5, b"x", "a\x00"])
def test_keys_refused(key):
    with pytest.raises(SettingError, match=r"api_key= \(not shown\) cannot be sent") as caught:
        secrecy.read_secret("api_key", key, "NO_SUCH_KEY", "Vendor")
    assert repr(key) not in str(caught.value)


def test_other_logs_are_unchanged(caplog):
    with caplog.at_level(logging.DEBUG):
        logging.getLogger("httpx2").info("before %s", KEY)
        with secrecy.redact_logs((KEY,)):
            logging.getLogger("httpx2").info("within %s", KEY)
        logging.getLogger("httpx2").info("after %s", KEY)
    assert [record.getMessage() for record in caplog.records] == [f"before {KEY}", "within ***", f"after {KEY}"]
