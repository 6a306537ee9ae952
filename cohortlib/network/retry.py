"""Send a call to a vendor: retries on 429, 502, 503, 504 and broken connections, rate limit, deadline, HTTP errors."""

import math
import queue
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlsplit

from cohortlib.errors import Arg, FetchError, RateLimitError, ServerError, SettingError, TransportError
from cohortlib.network.http_errors import MAX_BODY, clean, status_error
from cohortlib.network.secrets import Secrets, redact_data, redact_logs, redact_sent, redact_start
from cohortlib.network.transport import Call, Reply, Transport, http, missing_extra

ATTEMPTS, TIMEOUT = 5, 120.0
RETRIED_STATUSES = (502, 503, 504)  # and 429, a RateLimitError
# Exponential backoff without a Retry-After header, or with one of 0, in stamina's terms.
WAITS = {"wait_initial": 0.5, "wait_max": 10.0, "wait_jitter": 1.0}


class RateLimit:
    """Limit how many calls arrive at a server within a period, across threads.

    A token bucket on this side cannot ensure that: calls that leave half a second apart may arrive together, when the
    network delays only the first. So each call takes a slot, and a slot is free again one period after the call's
    reply. A call arrives before its reply, so the next call of that slot arrives more than a period later. Of any
    three calls, two share one of two slots. (The slot of a call without a reply is free one period after the call was
    given up: by then it has arrived, if it ever will.)
    """

    def __init__(self, slots: int, period: float) -> None:
        self._period = period
        self._free_at: queue.Queue[float] = queue.Queue()  # for each slot, when it is free again
        for _ in range(slots):
            self._free_at.put(-math.inf)

    @contextmanager
    def slot(self, deadline: float) -> Iterator[None]:
        """Wait for a slot; hold it in the context and for one period after."""
        timed_out = TransportError("timed out while waiting for the rate limit", hint=Arg("timeout"))
        timed_out.lasting = True
        try:
            free_at = self._free_at.get(timeout=max(0.0, deadline - time.monotonic()))
        except queue.Empty:
            free_at = math.inf
        else:
            if free_at >= deadline:
                self._free_at.put(free_at)
        if free_at >= deadline:
            raise timed_out
        time.sleep(max(0.0, free_at - time.monotonic()))
        try:
            yield
        finally:
            self._free_at.put(time.monotonic() + self._period)


_rate_limits: dict[tuple[str, int, float], RateLimit] = {}
_rate_limits_lock = threading.Lock()


def rate_limit(url: str, slots: int, period: float) -> RateLimit:
    """Return the rate limit of a server, shared by all clients of this process."""
    parts = urlsplit(url)
    server = f"{parts.hostname}:{parts.port or (443 if parts.scheme == 'https' else 80)}"
    with _rate_limits_lock:
        return _rate_limits.setdefault((server, slots, period), RateLimit(slots, period))


@dataclass(frozen=True)
class Connection:
    """How to reach a vendor."""

    vendor: str
    transport: Transport
    attempts: int  # at most, for one call
    timeout: float  # seconds for a table, with all calls, retries and waits
    rate: RateLimit | None = None

    @classmethod
    def open(
        cls, vendor: str, transport: Transport | None, attempts: int, timeout: float, rate: RateLimit | None = None
    ) -> "Connection":
        """Check the settings of a client."""
        if isinstance(attempts, bool) or not isinstance(attempts, int) or attempts < 1:
            what = (Arg("attempts", attempts), " is not a count")
            raise SettingError(what, value=attempts, expected="1 or more")
        if isinstance(timeout, bool) or not isinstance(timeout, int | float) or not 0 < timeout < threading.TIMEOUT_MAX:
            what = (Arg("timeout", timeout), " is not a duration")
            raise SettingError(what, value=timeout, expected="seconds, more than 0")
        if transport is not None and not callable(transport):
            raise SettingError((Arg("transport"), " is not callable"), expected="a function from Call to Reply")
        return cls(vendor, transport or http(), attempts, timeout, rate)

    def deadline(self) -> float:
        """Return the time at which a table that is requested now has to be complete, on the monotonic clock."""
        return time.monotonic() + self.timeout

    def send(self, call: Call, secrets: Secrets, deadline: float) -> Reply:
        """Send a call, with retries, and return the successful reply without secrets; raise FetchError otherwise."""
        try:
            import stamina
        except ImportError as error:
            missing = missing_extra(error)
        else:
            last: FetchError | None = None

            def wait(error: Exception) -> bool | float:
                nonlocal last
                last = error if isinstance(error, FetchError) else None
                return last is not None and retry_wait(last, deadline - time.monotonic())

            for attempt in stamina.retry_context(on=wait, attempts=self.attempts, timeout=None, **WAITS):
                with attempt:
                    try:
                        return self._send_once(call, secrets, deadline)
                    except TransportError as error:
                        # At the deadline, the previous attempt's error is more useful than a timeout.
                        problem = last if last is not None and time.monotonic() >= deadline else error
                    raise problem
            raise AssertionError("unreachable")
        raise missing

    def _send_once(self, call: Call, secrets: Secrets, deadline: float) -> Reply:
        with self.rate.slot(deadline) if self.rate else nullcontext(), redact_logs(secrets):
            left = max(0.001, deadline - time.monotonic())
            reply = _call_transport(self.transport, replace(call, timeout=left), self.vendor, secrets)
        error = status_error(self.vendor, reply, secrets)
        if error is not None:
            raise error
        return replace(reply, body=redact_data(reply.body, secrets))


def retry_wait(error: FetchError, left: float) -> bool | float:
    """Return how long to wait before a retry, in seconds; True for exponential backoff, False for no retry."""
    temporary = (
        isinstance(error, RateLimitError)
        or (isinstance(error, ServerError) and error.status in RETRIED_STATUSES)
        or (isinstance(error, TransportError) and not error.lasting)
    )
    if not temporary or left <= 0:
        return False
    if not error.retry_after:  # 0 too: a server that is overloaded must not be called again at once
        return True
    return error.retry_after if error.retry_after < left else False


def _call_transport(transport: Transport, call: Call, vendor: str, secrets: Secrets) -> Reply:
    """Call a transport. Its errors are raised anew: the originals, their notes and causes may hold the key."""
    try:
        reply: Any = transport(call)
    except FetchError as error:
        kind = next(kind for kind in type(error).__mro__ if kind.__module__ == FetchError.__module__)
        message, facts = redact_sent(str(error), secrets), (error.status, error.body, error.retry_after)
        lasting = getattr(error, "lasting", True)
    except Exception as error:
        kind, facts = TransportError, (None, "", None)
        message = f"the transport failed: {type(error).__name__}: {redact_sent(str(error), secrets)}"
        lasting = not isinstance(error, OSError)
    else:
        if isinstance(reply, Reply):
            return reply
        what = (Arg("transport"), f" returned a {type(reply).__name__}")
        raise SettingError(what, expected="a cohortlib.network.transport.Reply")
    status, body, retry_after = facts
    message = clean(message if message.startswith(vendor) else f"{vendor}: {message}", secrets)
    problem: FetchError = kind(
        message, status, redact_start(body.encode(errors="replace"), secrets, MAX_BODY), retry_after
    )
    if isinstance(problem, TransportError):
        problem.lasting = lasting
    raise problem
