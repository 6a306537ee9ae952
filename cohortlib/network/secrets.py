"""Keys and tokens: take them from the caller or the environment, and keep them out of all that is said."""

import logging
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import lru_cache
from typing import TypeAlias
from urllib.parse import unquote

from cohortlib.errors import AuthenticationError, SettingError

Secrets: TypeAlias = tuple[str, ...]

HIDDEN = "***"
# No shorter text is taken out: it would be found where nobody put it. In data, which must not be harmed, none that
# a word could be.
_SHORTEST, _SHORTEST_IN_DATA = 4, 16
_READ = 1 << 20  # the most that is looked at of a body that is no data
_ESCAPED = re.compile(r"\\(?:u00([0-9a-fA-F]{2})|([^u]))")
# Those that log what a server sent, which may be what we sent it.
_LOGGERS = ("httpx2", *(f"httpcore2.{part}" for part in ("connection", "http11", "http2", "proxy", "socks")))
_now_hidden: ContextVar[Secrets] = ContextVar("cohortlib_hidden", default=())


def secret(name: str, given: str | None, variable: str = "", whose: str = "this") -> str:
    """Take a key from an argument, else from a variable of the environment."""
    value = os.environ.get(variable, "").strip() if given is None else given
    if given is None and not value:
        raise AuthenticationError(f"{whose} needs a key. Hint: set {variable} (in Python also {name}=)")
    if not isinstance(value, str) or not re.fullmatch(r"[!-~]+", value):
        where = variable if given is None else f"{name}="
        raise SettingError(f"{where} (not shown) cannot be sent; expected a text of ASCII letters, digits and signs")
    return value


def without(text: str, secrets: Secrets) -> str:
    """Put ``***`` for every secret, also where it is escaped as in JSON or an address, and in letters of another case.

    >>> without("Api-Key secret/1 is unknown: secret%2F1", ("secret/1",))
    'Api-Key *** is unknown: ***'
    """
    return _hidden(text, tuple(one for one in secrets if len(one) >= _SHORTEST))


def without_in_data(body: bytes, secrets: Secrets) -> bytes:
    """Put ``***`` for every long secret in what a server sent."""
    found = tuple(one for one in secrets if len(one) >= _SHORTEST_IN_DATA)
    for one in sorted(found, key=len, reverse=True):
        body = body.replace(one.encode(), HIDDEN.encode())
    # A character for each byte, and back.
    return _hidden(body.decode("latin-1"), found).encode("latin-1") if found else body


def readable(body: bytes, secrets: Secrets, limit: int = _READ) -> str:
    """Give the start of a body as text, without secrets, at most `limit` characters."""
    text = without(body[:_READ].decode(errors="replace"), secrets)
    if len(body) > _READ:  # a secret that was cut there is no more known as one
        text = text[: -6 * max(map(len, secrets), default=0) or None]
    return text[:limit]


def _hidden(text: str, secrets: Secrets) -> str:
    """Put ``***`` for secrets; the pattern is slow, so it is tried where there is one to be found."""
    plain = _ESCAPED.sub(lambda found: chr(int(found[1], 16)) if found[1] else found[2], text)
    plain = (plain if "%" not in plain else unquote(plain) + plain).lower()
    return _pattern(secrets).sub(HIDDEN, text) if any(one.lower() in plain for one in secrets) else text


@lru_cache(maxsize=4)
def _pattern(secrets: Secrets) -> re.Pattern[str]:
    """Match each secret, every character as it is or escaped; the longest first, which may hold another."""

    def form(mark: str) -> str:
        return rf"(?:\\?{re.escape(mark)}|\\u{ord(mark):04x}|%{ord(mark):02x})"

    longest = sorted(secrets, key=len, reverse=True)
    return re.compile("|".join("".join(map(form, one)) for one in longest), re.IGNORECASE)


@contextmanager
def unlogged(secrets: Secrets) -> Iterator[None]:
    """Keep secrets out of what the HTTP library logs meanwhile: at DEBUG it logs the headers that came."""
    for name in _LOGGERS:
        logging.getLogger(name).addFilter(_hide)  # once, however often it is added
    before = _now_hidden.set(secrets)
    try:
        yield
    finally:
        _now_hidden.reset(before)


def _hide(record: logging.LogRecord) -> bool:
    if hidden := _now_hidden.get():
        record.msg, record.args = without(record.getMessage(), hidden), None
        record.exc_info = record.exc_text = None
    return True
