"""Keys and tokens: read them from an argument or the environment, and redact them everywhere else."""

import logging
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import lru_cache
from typing import TypeAlias
from urllib.parse import unquote

from cohortlib.errors import Arg, AuthenticationError, SettingError

Secrets: TypeAlias = tuple[str, ...]

REDACTED = "***"
# Shorter secrets may be ordinary text. They are not replaced in our own words, only in what a vendor sent; in data,
# which must not be damaged, only after the name of an authorization scheme or in a field for keys.
_MIN_LENGTH, _MIN_LENGTH_IN_DATA = 4, 16
_BEFORE_SECRET = (
    r"(?:bearer|api-key)(?:\s+|%20|\+|\\u0020)",
    r"""["'](?:authorization|secret|(?:[\w-]*[_-])?(?:key|token))\\?["']\s*:\s*\\?["']""",
)
_MAX_BYTES = 1 << 20  # of an error's body
_ESCAPED = re.compile(r"\\(?:u00([0-9a-fA-F]{2})|([^u]))")
# These loggers print what a server sent, which may echo the secrets.
_LOGGERS = ("httpx2", *(f"httpcore2.{part}" for part in ("connection", "http11", "http2", "proxy", "socks")))
_call_secrets: ContextVar[Secrets] = ContextVar("cohortlib_call_secrets", default=())  # of the call in progress


def read_secret(argument: str, value: str | None, variable: str = "", vendor: str = "this") -> str:
    """Return the key or token passed as an argument; without one, read an environment variable."""
    secret = os.environ.get(variable, "").strip() if value is None else value
    if value is None and not secret:
        hint = (f"set {variable} (in Python also ", Arg(argument), ")")
        raise AuthenticationError(f"{vendor} needs a key", hint=hint)
    if not isinstance(secret, str) or not re.fullmatch(r"[!-~]+", secret):
        name = variable if value is None else Arg(argument)
        raise SettingError((name, " (not shown) cannot be sent"), expected="ASCII letters, digits and punctuation")
    return secret


def redact(text: str, secrets: Secrets) -> str:
    """Replace every secret by ``***``, also in another case, or escaped as in JSON or a URL.

    Secrets of fewer than 4 characters stay: this is for whole messages, and our own words may contain them. What a
    vendor sent is redacted by :func:`redact_sent` before it becomes part of a message.

    >>> redact("Api-Key secret/1 is unknown: secret%2F1", ("secret/1",))
    'Api-Key *** is unknown: ***'
    """
    return _redact(text, tuple(secret for secret in secrets if len(secret) >= _MIN_LENGTH))


def redact_sent(text: str, secrets: Secrets | None = None) -> str:
    """Replace secrets of any length in text that a vendor or a transport sent; by default those of the call.

    A secret of a single character is replaced where it stands alone, not within words.

    >>> redact_sent("token k7x is unknown, Bearer k7x", ("k7x",)), redact_sent("key k is unknown", ("k",))
    ('token *** is unknown, Bearer ***', 'key *** is unknown')
    """
    return _redact(text, _call_secrets.get() if secrets is None else secrets)


def redact_data(body: bytes, secrets: Secrets) -> bytes:
    """Replace secrets in the body of a successful reply by ``***``.

    Long ones are replaced everywhere; a short one, which may be ordinary data, only where the reply repeats the header
    that was sent, or in a field such as ``"api_key"``.
    """
    short = tuple(secret for secret in secrets if len(secret) < _MIN_LENGTH_IN_DATA)
    if short:
        body = _sent_pattern(short).sub(rb"\1***", body)
    long = tuple(secret for secret in secrets if len(secret) >= _MIN_LENGTH_IN_DATA)
    for secret in sorted(long, key=len, reverse=True):
        body = body.replace(secret.encode(), REDACTED.encode())
    # latin-1 maps each byte to one character and back.
    return _redact(body.decode("latin-1"), long).encode("latin-1") if long else body


def redact_start(body: bytes, secrets: Secrets, limit: int = _MAX_BYTES) -> str:
    """Return the start of a body as text, at most `limit` characters, with every secret replaced by ``***``."""
    text = redact_sent(body[:_MAX_BYTES].decode(errors="replace"), secrets)
    if len(body) > _MAX_BYTES:  # a secret may be cut in two here, so drop its longest escaped form
        text = text[: -6 * max(map(len, secrets), default=0) or None]
    return text[:limit]


def _redact(text: str, secrets: Secrets) -> str:
    """Replace secrets by ``***``. The pattern is slow, so first check whether any secret occurs."""
    plain = _ESCAPED.sub(lambda match: chr(int(match[1], 16)) if match[1] else match[2], text)
    plain = (plain if "%" not in plain else unquote(plain) + plain).lower()
    return _pattern(secrets).sub(REDACTED, text) if any(secret.lower() in plain for secret in secrets) else text


@lru_cache(maxsize=4)
def _pattern(secrets: Secrets) -> re.Pattern[str]:
    """Match each secret; the longest first, as it may contain another."""
    longest_first = sorted(secrets, key=len, reverse=True)
    # A single character is matched only where it stands alone.
    alone = (
        rf"(?<![a-z0-9]){_forms(secret)}(?![a-z0-9])" if len(secret) == 1 else _forms(secret)
        for secret in longest_first
    )
    return re.compile("|".join(alone), re.IGNORECASE)


def _forms(secret: str) -> str:
    """Return a pattern of a secret, every character plain or escaped."""
    chars = (rf"(?:\\?{re.escape(char)}|\\u{ord(char):04x}|%{ord(char):02x})" for char in secret)
    return "".join(chars)


@lru_cache(maxsize=4)
def _sent_pattern(secrets: Secrets) -> re.Pattern[bytes]:
    """Match what stands before an echoed secret, as the only group, and the secret."""
    longest_first = "|".join(map(_forms, sorted(secrets, key=len, reverse=True)))
    before = "|".join(_BEFORE_SECRET)
    return re.compile(rf"({before})(?:{longest_first})(?![a-z0-9])".encode(), re.IGNORECASE)


@contextmanager
def hidden(secrets: Secrets) -> Iterator[None]:
    """Let :func:`redact_sent` replace these secrets while in the context."""
    token = _call_secrets.set(secrets)
    try:
        yield
    finally:
        _call_secrets.reset(token)


@contextmanager
def redact_logs(secrets: Secrets) -> Iterator[None]:
    """Redact secrets in httpx2's log records while in the context: at DEBUG it logs the headers of replies."""
    for name in _LOGGERS:
        logging.getLogger(name).addFilter(_redact_record)  # adding it again has no effect
    with hidden(secrets):
        yield


def _redact_record(record: logging.LogRecord) -> bool:
    if _call_secrets.get():
        record.msg, record.args = redact_sent(record.getMessage()), None
        record.exc_info = record.exc_text = None
    return True
