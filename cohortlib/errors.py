"""Errors and the warning: one base class, few leaves.

::

    CohortlibError
    ├── SettingError   an argument is not one of the values it may take (also a ValueError)
    ├── SourceError    a file is missing, unreadable or of an unknown kind (also an OSError)
    ├── SchemaError    a column is missing or of the wrong type, or the input is no table (also a TypeError)
    └── DataError      the values themselves: nulls, NaN, out of range, activity before joined (also a ValueError)

    CohortlibWarning   rows or users that were left out or read in another way, always with their count

A message says what is wrong, shows the value, says what was expected, and ends with a hint.
"""

import sys
import warnings
from collections.abc import Iterable

__all__ = ["CohortlibError", "CohortlibWarning", "DataError", "SchemaError", "SettingError", "SourceError"]


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


def warn(message: str) -> None:
    """Warn with the line outside of this package that led here."""
    package = __name__.partition(".")[0]
    frame, level = sys._getframe(1), 2  # 1 is the line below, 2 that of the caller
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] == package:
        frame, level = frame.f_back, level + 1
    warnings.warn(message, CohortlibWarning, stacklevel=level)


def one_of(name: str, value: object, values: Iterable[object]) -> None:
    """Refuse an argument that is not one of the values it may take."""
    values = tuple(values)
    if not any(type(value) is type(known) and value == known for known in values):
        raise SettingError(f"{name}={value!r} is unknown; expected one of {listed(values)}")
