"""One question to a vendor: sent, sent again where that helps, and its reply told from a failure."""

import json
import math
import queue
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, TypeVar
from urllib.parse import urlsplit

from cohortlib.errors import (
    AuthenticationError,
    FetchError,
    ForbiddenError,
    NotFoundError,
    RateLimitError,
    RefusedError,
    ReplyError,
    ServerError,
    SettingError,
    TransportError,
)
from cohortlib.network.secrets import Secrets, readable, unlogged, without, without_in_data
from cohortlib.network.transport import Call, Reply, Transport, extra, http, is_loopback

Read = TypeVar("Read")

BODY = 64 * 1024
MESSAGE = 600
PASSING = (502, 503, 504)
# How long to wait before a retry where the server does not say, in stamina's terms.
WAITS = {"wait_initial": 0.5, "wait_max": 10.0, "wait_jitter": 1.0}

_NETWORK = re.compile(r"([A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\])(:\d{1,5})?", re.ASCII)
_ERRORS: dict[int, type[FetchError]] = {
    401: AuthenticationError,
    403: ForbiddenError,
    404: NotFoundError,
    429: RateLimitError,
}
_WORDS: dict[type[FetchError], str] = {
    AuthenticationError: "does not know the key or token",
    ForbiddenError: "does not let this key see that",
    NotFoundError: "has nothing at this address",
    RateLimitError: "had too many requests",
    RefusedError: "refused the request",
    ServerError: "failed",
}


def address(base_url: str, path: str) -> str:
    """Put a path behind a base address, which has to be https, or this machine.

    >>> address("https://example.com/proxy/", "/api/v1")
    'https://example.com/proxy/api/v1'
    """
    expected = "expected https://host, or http:// where the host is this machine (localhost, 127.0.0.1, ::1)"
    if not isinstance(base_url, str) or not re.fullmatch(r"[!-~]+", base_url) or "\\" in base_url:
        raise SettingError(f"base_url= is not an address; {expected}")
    try:
        parts = urlsplit(base_url)
        port = parts.port
    except ValueError:
        raise SettingError(f"base_url= is not an address; {expected}") from None
    if "@" in base_url:
        raise SettingError(f"base_url= (not shown) holds a user or a password; {expected}. Hint: api_key=")
    if not _NETWORK.fullmatch(parts.netloc) or port == 0 or parts.query or parts.fragment:
        raise SettingError(f"base_url={base_url!r} is not an address; {expected}")
    if parts.scheme != "https" and not (parts.scheme == "http" and is_loopback(parts.hostname or "")):
        raise SettingError(f"base_url={base_url!r} would send the key in the clear; {expected}")
    return base_url.rstrip("/") + path


def failure(who: str, reply: Reply, secrets: Secrets = ()) -> FetchError | None:
    """Give the error that a reply is, or None where it is none.

    Parameters
    ----------
    who
        The vendor, for the message.
    reply
        What came back.
    secrets
        What must not be in the message, nor in the body that the error carries.
    """
    status = reply.status
    if 200 <= status < 300:
        return None
    # Before anything is cut: of a secret that is cut, nobody would find the rest.
    reply = replace(reply, body=readable(reply.body, secrets).encode())
    if status < 400:
        to = reply.header("location")
        told = f"{who} answered with a redirect ({status}){f' to {to}' if to else ''}, which is not followed"
        return _error(ReplyError, f"{told}. Hint: base_url=", reply, secrets)
    kind = _ERRORS.get(status, ServerError if status >= 500 else RefusedError)
    reasons = "; ".join(_reasons(reply))
    wait = retry_after(reply)
    asked = f" (it asks to wait {wait:g} seconds)" if wait is not None else ""
    told = f"{who} {_WORDS[kind]} ({status}){asked}{': ' if reasons else ''}{reasons}"
    return _error(kind, told, reply, secrets, wait)


def _error(
    kind: type[FetchError], message: str, reply: Reply, secrets: Secrets, wait: float | None = None
) -> FetchError:
    return kind(_cut(without(message, secrets)), reply.status, readable(reply.body, secrets, BODY), wait)


def _cut(text: str) -> str:
    text = "".join(mark if mark.isprintable() else " " for mark in text)
    return text if len(text) <= MESSAGE else f"{text[: MESSAGE - 3]}..."


def _reasons(reply: Reply) -> Iterator[str]:
    """Put what a vendor says is wrong in words: the body of Termina's 422, or Adapty's 400."""
    try:
        body = json.loads(reply.body)
    except (ValueError, RecursionError):
        text = " ".join(reply.body[:400].decode(errors="replace").split())
        if text and not text.startswith("<"):  # a page is not for a message
            yield text[:200]
        return
    found = body if isinstance(body, dict) else {}
    for each in found["errors"] if isinstance(found.get("errors"), list) else []:
        if isinstance(each, dict) and isinstance(each.get("errors"), list):
            source = each.get("source")
            texts = ", ".join(map(str, each["errors"]))
            yield texts if source in (None, "", "non_field_errors") else f"{source}: {texts}"
        else:
            yield _plain(each)
    detail = found.get("detail")
    for each in detail if isinstance(detail, list) else [detail]:
        if isinstance(each, dict) and "msg" in each:
            where = each.get("loc")
            place = ".".join(map(str, where)) if isinstance(where, list) else ""
            got = f" (got {_plain(each['input'])})" if "input" in each else ""
            yield f"{place}: {each['msg']}{got}" if place else f"{each['msg']}{got}"
        elif each is not None:
            yield _plain(each)
    for name in ("message", "error", "error_code"):
        if isinstance(found.get(name), str):
            yield found[name]


def _plain(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= 200 else f"{text[:197]}..."


def retry_after(reply: Reply) -> float | None:
    """Read how long to wait: seconds, or a date."""
    text = reply.header("retry-after").strip()
    if re.fullmatch(r"\d{1,9}(\.\d{1,9})?", text, re.ASCII):
        return float(text)
    try:
        when = parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return None
    if when.tzinfo is None:
        when = when.replace(tzinfo=UTC)
    return max(0.0, math.ceil((when - datetime.now(UTC)).total_seconds() * 10) / 10)


def parsed(reply: Reply) -> object:
    """Read the JSON of a reply; a ReplyError where there is none."""

    def refuse(name: str) -> None:
        raise ReplyError(f"the reply is not JSON: it has {name}, which is no number")

    if not reply.body.strip():
        raise ReplyError("the reply is empty; expected JSON")
    try:
        return json.loads(reply.body, parse_constant=refuse)
    except json.JSONDecodeError as error:
        size = len(error.doc.rstrip())
        if error.pos >= size or error.msg.startswith("Unterminated"):
            why = f"it ends after {size:,} characters, too early"
        else:
            why = f"{error.msg} at character {error.pos:,}; it begins with {error.doc.lstrip()[:40]!r}"
    except ReplyError:
        raise
    except UnicodeDecodeError:
        why = "it is no text"
    except (ValueError, RecursionError) as error:
        why = str(error)
    raise ReplyError(f"the reply is not JSON: {why}")


def understood(read: Callable[[], Read], who: str, reply: Reply, secrets: Secrets) -> Read:
    """Read a reply; where that fails, with the reply's status and body in the error."""
    try:
        return read()
    except ReplyError as error:
        message = str(error)
    raise _error(ReplyError, f"{who}: {message}", reply, secrets)


class Pace:
    """Let no more than a few calls arrive at a server within any second, whoever makes them.

    A bucket of tokens on this side cannot promise that: calls that leave half a second apart may arrive together,
    for the network holds up the one and not the other. So a call takes one of a few slots, and a slot is free again
    a second after its reply has come. The call arrived before its reply, so the next one of the slot arrives more
    than a second after it; of any three calls, two have the same one of two slots. (A call that was given up has no
    reply: its slot is free a second after that, and it has to be hoped that it arrived by then, if ever.)
    """

    def __init__(self, slots: int, seconds: float) -> None:
        self._seconds = seconds
        self._free: queue.Queue[float] = queue.Queue()  # when each slot is free again
        for _ in range(slots):
            self._free.put(-math.inf)

    @contextmanager
    def turn(self, deadline: float) -> Iterator[None]:
        """Wait for a slot, and hold it for what is done inside and the time after that."""
        late = TransportError("the time was over before this call's turn came. Hint: timeout=")
        late.lasting = True
        try:
            free = self._free.get(timeout=max(0.0, deadline - time.monotonic()))
        except queue.Empty:
            free = math.inf
        else:
            if free >= deadline:
                self._free.put(free)
        if free >= deadline:
            raise late
        time.sleep(max(0.0, free - time.monotonic()))
        try:
            yield
        finally:
            self._free.put(time.monotonic() + self._seconds)


_paces: dict[tuple[str, int, float], Pace] = {}
_paces_lock = threading.Lock()


def pace(url: str, slots: int, seconds: float) -> Pace:
    """Give the pace of a server, the same one to every caller of this process."""
    parts = urlsplit(url)
    server = f"{parts.hostname}:{parts.port or (443 if parts.scheme == 'https' else 80)}"
    with _paces_lock:
        return _paces.setdefault((server, slots, seconds), Pace(slots, seconds))


@dataclass(frozen=True)
class Line:
    """How to reach a vendor: what is the same for every call of one fetch.

    Attributes
    ----------
    who
        The vendor's name, for messages.
    transport
        What sends.
    attempts
        How often a call is sent at most.
    deadline
        Until when, on the monotonic clock, all has to be done.
    pace
        What bounds the rate of calls, if anything does.
    """

    who: str
    transport: Transport
    attempts: int
    deadline: float
    pace: Pace | None = None

    @classmethod
    def open(
        cls, who: str, transport: Transport | None, attempts: int, timeout: float, pace: Pace | None = None
    ) -> "Line":
        """Check what the caller chose, and begin to count the time."""
        if isinstance(attempts, bool) or not isinstance(attempts, int) or attempts < 1:
            raise SettingError(f"attempts={attempts!r} is not a count; expected 1 or more")
        if isinstance(timeout, bool) or not isinstance(timeout, int | float) or not 0 < timeout < threading.TIMEOUT_MAX:
            raise SettingError(f"timeout={timeout!r} is not a time; expected seconds, more than 0")
        if transport is not None and not callable(transport):
            raise SettingError(f"transport= is a {type(transport).__name__}; expected a function from Call to Reply")
        return cls(who, transport or http(), attempts, time.monotonic() + timeout, pace)

    def ask(self, call: Call, secrets: Secrets) -> Reply:
        """Send a call and give its reply, without secrets; a failure is raised, after the retries that help."""
        try:
            import stamina
        except ImportError as error:
            missing = extra(error)
        else:
            last: FetchError | None = None

            def again(error: Exception) -> bool | float:
                nonlocal last
                last = error if isinstance(error, FetchError) else None
                return last is not None and wait_before(last, self.deadline - time.monotonic())

            for attempt in stamina.retry_context(on=again, attempts=self.attempts, timeout=None, **WAITS):
                with attempt:
                    try:
                        return self._send(call, secrets)
                    except TransportError as error:
                        # Where there is no time left for an answer, the one before says more.
                        told = last if last is not None and time.monotonic() >= self.deadline else error
                    raise told
            raise AssertionError("unreachable")
        raise missing

    def _send(self, call: Call, secrets: Secrets) -> Reply:
        with self.pace.turn(self.deadline) if self.pace else nullcontext(), unlogged(secrets):
            left = max(0.001, self.deadline - time.monotonic())
            reply = _sent(self.transport, replace(call, timeout=left), self.who, secrets)
        error = failure(self.who, reply, secrets)
        if error is not None:
            raise error
        return replace(reply, body=without_in_data(reply.body, secrets))


def wait_before(error: FetchError, left: float) -> bool | float:
    """Tell whether to send again: True, for a while that grows; a number, for these seconds; False, not at all."""
    passing = (
        isinstance(error, RateLimitError)
        or (isinstance(error, ServerError) and error.status in PASSING)
        or (isinstance(error, TransportError) and not error.lasting)
    )
    if not passing or left <= 0:
        return False
    if error.retry_after is None:
        return True
    return error.retry_after if error.retry_after < left else False


def _sent(transport: Transport, call: Call, who: str, secrets: Secrets) -> Reply:
    """Send a call; what goes wrong is raised clean, and without the chain of what led to it, which may hold the key."""
    try:
        reply: Any = transport(call)
    except FetchError as error:
        # Made anew, without the notes and the attributes that another transport's error may have.
        kind = next(kind for kind in type(error).__mro__ if kind.__module__ == FetchError.__module__)
        problem: FetchError = kind(str(error), error.status, error.body, error.retry_after)
        lasting = getattr(error, "lasting", True)
    except Exception as error:
        problem = TransportError(f"the transport failed: {type(error).__name__}: {error}")
        lasting = not isinstance(error, OSError)
    else:
        if isinstance(reply, Reply):
            return reply
        raise SettingError(f"transport= gave a {type(reply).__name__}; expected a cohortlib.network.transport.Reply")
    told = str(problem)
    problem.args = (_cut(without(told if told.startswith(who) else f"{who}: {told}", secrets)),)
    problem.body = readable(problem.body.encode(errors="replace"), secrets, BODY)
    if isinstance(problem, TransportError):
        problem.lasting = lasting
    raise problem
