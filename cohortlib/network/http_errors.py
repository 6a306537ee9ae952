"""Turn an HTTP status, or a reply that cannot be parsed, into a typed error without secrets."""

import json
import math
import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any, TypeVar

from cohortlib.errors import (
    Arg,
    AuthenticationError,
    CohortlibError,
    FetchError,
    ForbiddenError,
    NotFoundError,
    RateLimitError,
    RefusedError,
    ReplyError,
    ServerError,
    Text,
)
from cohortlib.network.secrets import Secrets, hidden, redact, redact_sent, redact_start
from cohortlib.network.transport import Reply

Parsed = TypeVar("Parsed")

MAX_BODY = 64 * 1024
MAX_JSON = 1 << 20  # of an error's body
MAX_MESSAGE = 600

_ERRORS: dict[int, type[FetchError]] = {
    401: AuthenticationError,
    403: ForbiddenError,
    404: NotFoundError,
    429: RateLimitError,
}
_MESSAGES: dict[type[FetchError], str] = {
    AuthenticationError: "does not accept the key or token",
    ForbiddenError: "denies this key access",
    NotFoundError: "has nothing at this address",
    RateLimitError: "received too many requests",
    RefusedError: "refused the request",
    ServerError: "failed",
}


def status_error(vendor: str, reply: Reply, secrets: Secrets = ()) -> FetchError | None:
    """Return the error for a reply's status, with the vendor's reasons; None for a success."""
    status = reply.status
    if 200 <= status < 300:
        return None
    if status < 400:
        location = redact_sent(reply.header("location"), secrets)
        message = f"{vendor} replied with a redirect ({status}){f' to {location}' if location else ''}"
        return _error(ReplyError, f"{message}, which is not followed", reply, secrets, hint=Arg("base_url"))
    kind = _ERRORS.get(status, ServerError if status >= 500 else RefusedError)
    wait = retry_after(reply)
    pause = f" (retry after {wait:g} seconds)" if wait is not None else ""
    reasons = "; ".join(_reasons(reply, secrets))
    message = f"{vendor} {_MESSAGES[kind]} ({status}){pause}{': ' if reasons else ''}{reasons}"
    return _error(kind, message, reply, secrets, wait)


def parse_reply(parse: Callable[[], Parsed], vendor: str, reply: Reply, secrets: Secrets) -> Parsed:
    """Call a parser of a reply; add the vendor, status and body to its ReplyError."""
    try:
        with hidden(secrets):
            return parse()
    except ReplyError as error:
        message, expected, hint = f"{vendor}: {CohortlibError(error.what)}", error.expected, error.hint
    raise _error(ReplyError, message, reply, secrets, expected=expected, hint=hint)


def _error(
    kind: type[FetchError],
    message: str,
    reply: Reply,
    secrets: Secrets,
    wait: float | None = None,
    expected: Text = "",
    hint: Text = "",
) -> FetchError:
    body = redact_start(reply.body, secrets, MAX_BODY)
    return kind(
        clean(message, secrets),
        reply.status,
        body,
        wait,
        expected=_redact_parts(expected, secrets),
        hint=_redact_parts(hint, secrets),
    )


def _redact_parts(text: Text, secrets: Secrets) -> Text:
    if isinstance(text, str):
        return clean(text, secrets)
    if isinstance(text, Arg):
        return text if redact(str(text), secrets) == str(text) else redact(str(text), secrets)
    return [part if isinstance(part, Arg) else clean(part, secrets) for part in text]


def clean(message: str, secrets: Secrets) -> str:
    """Redact secrets, replace control characters by spaces, and cut a long message."""
    message = redact(message, secrets)
    message = "".join(char if char.isprintable() else " " for char in message)
    return message if len(message) <= MAX_MESSAGE else f"{message[: MAX_MESSAGE - 3]}..."


def _reasons(reply: Reply, secrets: Secrets) -> Iterator[str]:
    """List the reasons that a vendor states, without secrets. The words around them in a message are not redacted."""
    try:
        body = json.loads(reply.body[:MAX_JSON])
    except (ValueError, RecursionError):
        # Redact before cutting: half a secret would not be recognized.
        text = " ".join(redact_start(reply.body, secrets, 400).split())
        if text and not text.startswith("<"):  # an HTML page says nothing useful
            yield text[:200]
        return
    if isinstance(body, dict):
        for reason in _reasons_of(body, lambda text: redact_sent(text, secrets)):
            yield redact_sent(reason, secrets)


def _reasons_of(body: dict[str, Any], hide: Callable[[str], str]) -> Iterator[str]:
    """List the reasons in a JSON body, such as that of Termina's 422 or Adapty's 400."""
    errors = body.get("errors")
    for item in errors if isinstance(errors, list) else []:
        if isinstance(item, dict) and isinstance(item.get("errors"), list):
            source = item.get("source")
            texts = ", ".join(map(str, item["errors"]))
            yield texts if source in (None, "", "non_field_errors") else f"{source}: {texts}"
        else:
            yield _as_text(item, hide)
    detail = body.get("detail")
    for item in detail if isinstance(detail, list) else [detail]:
        if isinstance(item, dict) and "msg" in item:
            location = item.get("loc")
            place = ".".join(map(str, location)) if isinstance(location, list) else ""
            value = f" (got {_as_text(item['input'], hide)})" if "input" in item else ""
            yield f"{place}: {item['msg']}{value}" if place else f"{item['msg']}{value}"
        elif item is not None:
            yield _as_text(item, hide)
    for name in ("message", "error", "error_code"):
        if isinstance(body.get(name), str):
            yield body[name]


def _as_text(value: object, hide: Callable[[str], str]) -> str:
    text = hide(value if isinstance(value, str) else json.dumps(value))
    return text if len(text) <= 200 else f"{text[:197]}..."


def retry_after(reply: Reply) -> float | None:
    """Parse the Retry-After header, in seconds or as a date; None if it is missing or invalid."""
    text = reply.header("retry-after").strip()
    if re.fullmatch(r"\d{1,9}(\.\d{1,9})?", text, re.ASCII):
        return float(text)
    from email.utils import parsedate_to_datetime

    try:
        when = parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return None
    if when.tzinfo is None:
        when = when.replace(tzinfo=UTC)
    return max(0.0, math.ceil((when - datetime.now(UTC)).total_seconds() * 10) / 10)
