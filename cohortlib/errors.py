"""Errors and the warning. Each carries its facts; Python and the command line format them in their own words.

::

    CohortlibError
    ├── SettingError   an argument has a value it cannot take (also a ValueError)
    │   └── KeywordError      a function does not take an argument of this name (also a TypeError)
    ├── SourceError    a file is missing, unreadable or of an unknown kind (also an OSError)
    ├── SchemaError    a column is missing or has the wrong type, or the input is not a table (also a TypeError)
    ├── DataError      bad values: nulls, NaN, out of range, activity before joined (also a ValueError)
    └── FetchError     a vendor's table could not be fetched, or its reply could not be read
        ├── AuthenticationError   the key or token is missing, wrong or expired (401)
        ├── ForbiddenError        the key has no access (403)
        ├── NotFoundError         nothing exists at this address (404)
        ├── RefusedError          the request is invalid, with the vendor's reasons (400, 409, 413, 422, other 4xx)
        ├── RateLimitError        too many requests, after every retry (429)
        ├── ServerError           the vendor's server failed, after every retry (5xx)
        ├── TransportError        no reply: no connection, a timeout, or a reply cut short (also a ConnectionError)
        └── ReplyError            a reply that the vendor does not publish: not JSON, another shape, too large, a
                                  redirect (also a ValueError)

    CohortlibWarning   rows or users that were left out or changed, with their count

A message states the problem with its value, then what was expected, then a hint.
"""

import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TypeAlias

__all__ = [
    "Arg",
    "AuthenticationError",
    "CohortlibError",
    "CohortlibWarning",
    "DataError",
    "FetchError",
    "ForbiddenError",
    "KeywordError",
    "NotFoundError",
    "RateLimitError",
    "RefusedError",
    "ReplyError",
    "SchemaError",
    "ServerError",
    "SettingError",
    "SourceError",
    "TransportError",
]


@dataclass(frozen=True)
class Arg:
    """An argument that a message mentions: ``freq='M'`` in Python, ``--freq M`` on the command line.

    >>> str(Arg("freq", "M")), str(Arg("timeout"))
    ("freq='M'", 'timeout=')
    """

    name: str
    value: object = ...  # the argument without a value: ``timeout=``

    def __str__(self) -> str:
        return f"{self.name}=" if self.value is ... else f"{self.name}={self.value!r}"


Text: TypeAlias = "str | Arg | Sequence[str | Arg]"
"""A part of a message: text, an argument, or a sequence of both."""


def _format(text: Text, write: Callable[[Arg], str]) -> str:
    parts = [text] if isinstance(text, str | Arg) else text
    return "".join(part if isinstance(part, str) else write(part) for part in parts)


class CohortlibError(Exception):
    """Base class of every error that cohortlib raises on purpose.

    Attributes
    ----------
    what
        The problem, with the value and where it is.
    value
        The wrong value itself, or None.
    expected
        What was expected instead; may be empty.
    hint
        What to do; may be empty.
    """

    def __init__(self, what: Text, *, value: object = None, expected: Text = "", hint: Text = "") -> None:
        self.what, self.value, self.expected, self.hint = what, value, expected, hint
        super().__init__(self.text())

    def text(self, write: Callable[[Arg], str] = str) -> str:
        """Format the message; `write` formats the arguments in it.

        >>> SettingError((Arg("freq", "X"), " is unknown"), expected="'M' or 'Q'").text()
        "freq='X' is unknown. Expected 'M' or 'Q'"
        """
        text = _format(self.what, write)
        if self.expected:
            text += f". Expected {_format(self.expected, write)}"
        if self.hint:
            text += f". Hint: {_format(self.hint, write)}"
        return text


class SettingError(CohortlibError, ValueError):
    """An argument has a value it cannot take."""


class KeywordError(SettingError, TypeError):
    """A function does not take an argument of this name."""


class SourceError(CohortlibError, OSError):
    """A file is missing, cannot be read, or is of an unknown kind."""


class SchemaError(CohortlibError, TypeError):
    """A column is missing or has the wrong type, or the input is not a table."""


class DataError(CohortlibError, ValueError):
    """A column holds values that cannot be used."""


class FetchError(CohortlibError):
    """A vendor's table could not be fetched, or its reply could not be read.

    Attributes
    ----------
    status
        The HTTP status; None without a reply, or for a saved reply.
    body
        The start of the reply, as text and without the secrets that were sent.
    retry_after
        The seconds to wait that the server asked for, or None.
    """

    def __init__(
        self,
        what: Text,
        status: int | None = None,
        body: str = "",
        retry_after: float | None = None,
        *,
        value: object = None,
        expected: Text = "",
        hint: Text = "",
    ) -> None:
        super().__init__(what, value=value, expected=expected, hint=hint)
        self.status = status
        self.body = body
        self.retry_after = retry_after


class AuthenticationError(FetchError):
    """The key or token is missing, wrong or expired."""


class ForbiddenError(FetchError):
    """The key has no access to what was requested."""


class NotFoundError(FetchError):
    """Nothing exists at the address."""


class RefusedError(FetchError):
    """The request is invalid; the message has the vendor's reasons."""


class RateLimitError(FetchError):
    """Too many requests, after every retry."""


class ServerError(FetchError):
    """The vendor's server failed, after every retry."""


class TransportError(FetchError, ConnectionError):
    """No reply: no connection, a timeout, or a reply cut short.

    Attributes
    ----------
    lasting
        Whether the same request would fail again at once, so that it was not retried.
    """

    lasting = False


class ReplyError(FetchError, ValueError):
    """A reply that the vendor does not publish: not JSON, another shape, too large, or a redirect."""


class CohortlibWarning(UserWarning):
    """Rows or users were left out or changed.

    Attributes
    ----------
    what
        The message, with the arguments it mentions.
    """

    def __init__(self, what: Text) -> None:
        self.what = what
        super().__init__(self.text())

    def text(self, write: Callable[[Arg], str] = str) -> str:
        """Format the message; `write` formats the arguments in it."""
        return _format(self.what, write)


def listed(names: Iterable[object], limit: int = 12) -> str:
    """List names for a message, quoted, at most `limit` of them.

    >>> listed(["user_id", "ts"])
    "'user_id', 'ts'"
    """
    quoted = [repr(name) for name in names]
    more = f" and {len(quoted) - limit} more" if len(quoted) > limit else ""
    return ", ".join(quoted[:limit]) + more


_recorded: ContextVar[list[str] | None] = ContextVar("_recorded", default=None)


@contextmanager
def recorded_warnings() -> Iterator[list[str]]:
    """Collect the warnings raised in the block; the caller gets them as well."""
    messages: list[str] = []
    token = _recorded.set(messages)
    try:
        yield messages
    finally:
        _recorded.reset(token)


_silent: ContextVar[bool] = ContextVar("_silent", default=False)


@contextmanager
def silent_warnings() -> Iterator[None]:
    """Drop this package's warnings in the block; other than ``catch_warnings`` only in its own thread."""
    token = _silent.set(True)
    try:
        yield
    finally:
        _silent.reset(token)


def warn(what: Text) -> None:
    """Warn at the line outside this package that made the call."""
    if _silent.get():
        return
    warning = CohortlibWarning(what)
    messages = _recorded.get()
    if messages is not None:
        messages.append(str(warning))
    inside = (__name__.partition(".")[0], "contextlib")  # a with statement is entered through contextlib
    frame, level = sys._getframe(1), 2  # level 1 is the line below, level 2 the caller's
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] in inside:
        frame, level = frame.f_back, level + 1
    warnings.warn(warning, stacklevel=level)


def one_of(name: str, value: object, values: Iterable[object]) -> None:
    """Raise SettingError unless an argument is one of the values it can take."""
    values = tuple(values)
    if not any(type(value) is type(known) and value == known for known in values):
        raise SettingError((Arg(name, value), " is unknown"), value=value, expected=f"one of {listed(values)}")
