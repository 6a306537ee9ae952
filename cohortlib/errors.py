"""Errors and the warning: one base class, few leaves.

::

    CohortlibError
    ├── SettingError   an argument is not one of the values it may take (also a ValueError)
    ├── SourceError    a file is missing, unreadable or of an unknown kind (also an OSError)
    ├── SchemaError    a column is missing or of the wrong type, or the input is no table (also a TypeError)
    ├── DataError      the values themselves: nulls, NaN, out of range, activity before joined (also a ValueError)
    └── FetchError     a vendor's table could not be fetched, or what it sent cannot be read
        ├── AuthenticationError   the key or the token is missing, wrong or too old (401)
        ├── ForbiddenError        the key may not see this (403)
        ├── NotFoundError         there is nothing at this address (404)
        ├── RefusedError          the request is refused, with the vendor's reasons (400, 409, 413, 422, other 4xx)
        ├── RateLimitError        too many requests, after every retry (429)
        ├── ServerError           the vendor's server failed (5xx)
        ├── TransportError        no answer: no connection, too slow, cut short (also a ConnectionError)
        └── ReplyError            an answer that is not what the vendor publishes: not JSON, of another shape, too
                                  large, a redirect (also a ValueError)

    CohortlibWarning   rows or users that were left out or read in another way, always with their count

A message says what is wrong, shows the value, says what was expected, and ends with a hint.
"""

import sys
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

__all__ = [
    "AuthenticationError",
    "CohortlibError",
    "CohortlibWarning",
    "DataError",
    "FetchError",
    "ForbiddenError",
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


class CohortlibError(Exception):
    """Base of every error that cohortlib raises on purpose."""


class SettingError(CohortlibError, ValueError):
    """An argument has a value that it may not take."""


class SourceError(CohortlibError, OSError):
    """A file is missing, cannot be read, or is of an unknown kind."""


class SchemaError(CohortlibError, TypeError):
    """A column is missing or of the wrong type, or the input is no table."""


class DataError(CohortlibError, ValueError):
    """The values of a column are not what the computation needs."""


class FetchError(CohortlibError):
    """A vendor's table could not be fetched, or what it sent cannot be read.

    Attributes
    ----------
    status
        The HTTP status; None where there was no answer, or where a saved one was read.
    body
        The start of the answer, as text and without the secrets that were sent.
    retry_after
        The seconds to wait that the server asked for, or None.
    """

    def __init__(
        self, message: str, status: int | None = None, body: str = "", retry_after: float | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.body = body
        self.retry_after = retry_after


class AuthenticationError(FetchError):
    """The key or the token is missing, wrong or too old."""


class ForbiddenError(FetchError):
    """The key may not see what was asked for."""


class NotFoundError(FetchError):
    """There is nothing at the address."""


class RefusedError(FetchError):
    """The request itself is refused; the message has the vendor's reasons."""


class RateLimitError(FetchError):
    """There were too many requests, also after every retry."""


class ServerError(FetchError):
    """The vendor's server failed, also after every retry."""


class TransportError(FetchError, ConnectionError):
    """There was no answer: no connection, too slow, or cut short.

    Attributes
    ----------
    lasting
        Whether it would be the same at once again, so that there was no retry.
    """

    lasting = False


class ReplyError(FetchError, ValueError):
    """An answer is not what the vendor publishes: not JSON, of another shape, too large, or a redirect."""


class CohortlibWarning(UserWarning):
    """Rows or users were left out, or read in another way than they stand."""


def listed(names: Iterable[object], limit: int = 12) -> str:
    """List names for a message, quoted, at most `limit` of them.

    >>> listed(["user_id", "ts"])
    "'user_id', 'ts'"
    """
    quoted = [repr(name) for name in names]
    more = f" and {len(quoted) - limit} more" if len(quoted) > limit else ""
    return ", ".join(quoted[:limit]) + more


_heard: ContextVar[list[str] | None] = ContextVar("_heard", default=None)


@contextmanager
def overheard() -> Iterator[list[str]]:
    """Collect what is warned of meanwhile; whoever called is warned all the same."""
    messages: list[str] = []
    token = _heard.set(messages)
    try:
        yield messages
    finally:
        _heard.reset(token)


def warn(message: str) -> None:
    """Warn with the line outside of this package that led here."""
    heard = _heard.get()
    if heard is not None:
        heard.append(message)
    inside = (__name__.partition(".")[0], "contextlib")  # what is read in a with statement is called from there
    frame, level = sys._getframe(1), 2  # 1 is the line below, 2 that of the caller
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] in inside:
        frame, level = frame.f_back, level + 1
    warnings.warn(message, CohortlibWarning, stacklevel=level)


def one_of(name: str, value: object, values: Iterable[object]) -> None:
    """Refuse an argument that is not one of the values it may take."""
    values = tuple(values)
    if not any(type(value) is type(known) and value == known for known in values):
        raise SettingError(f"{name}={value!r} is unknown; expected one of {listed(values)}")
