"""Formats of timestamps: strftime formats compiled to the instructions of a kernel, and numbers since an epoch."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from cohortlib.engine.kernels import instants as kernel
from cohortlib.errors import Arg, SettingError

NUMBERS = {"epoch_s": 6, "epoch_ms": 3, "epoch_us": 0, "excel": 9}
"""Formats that are numbers, and the decimal places to read them with."""

GUESSES = {
    "%d/%m/%Y": "day first",
    "%m/%d/%Y": "month first",
    "%Y/%m/%d": "year first",
    "%d.%m.%Y": "day first",
    "%m.%d.%Y": "month first",
    "%Y.%m.%d": "year first",
    "%d-%m-%Y": "day first",
    "%m-%d-%Y": "month first",
    "%d/%m/%y": "day first",
    "%m/%d/%y": "month first",
    "%d.%m.%y": "day first",
    "%m.%d.%y": "month first",
    "%d-%m-%y": "day first",
    "%m-%d-%y": "month first",
    "%d %b %Y": "day first",
    "%b %d, %Y": "month first",
    "%d-%b-%Y": "day first",
    "%d-%b-%y": "day first",
    "%Y%m%d%H%M%S": "year first",
    "%a, %d %b %Y": "day first",
    "%Y-%m-%d": "year first",
    "%Y. %m. %d.": "year first",
    "%Y年%m月%d日": "year first",
    "%Y%m%d.0": "year first",
    "%a %b %d %H:%M:%S %Y": "month first",
}
"""Dates to try for a hint, alone and with the times of `TIMES`."""
TIMES = (
    "", " %H:%M:%S", " %H:%M", " %I:%M:%S %p", " %I:%M %p", " %H:%M:%S.%f", " %H:%M:%S %z", ", %H:%M:%S", ", %H:%M",
    " %I.%M.%S %p", " %I.%M.%S.%f %p", " %H.%M.%S", "-%H.%M.%S", "-%H.%M.%S.%f", " %H:%M:%S %z UTC",
)  # fmt: skip

_DIRECTIVES = {
    "Y": [kernel.YEAR],
    "y": [kernel.YEAR2],
    "m": [kernel.MONTH],
    "d": [kernel.DAY],
    "H": [kernel.HOUR],
    "I": [kernel.HOUR12],
    "M": [kernel.MINUTE],
    "S": [kernel.SECOND],
    "f": [kernel.FRACTION],
    "z": [kernel.OFFSET],
    "Z": [kernel.OFFSET],
    "p": [kernel.HALF],
    "b": [kernel.MONTH_NAME],
    "B": [kernel.MONTH_NAME],
    "a": [kernel.WEEKDAY],
    "A": [kernel.WEEKDAY],
    "%": [ord("%")],
}
_SHORT = {"%T": "%H:%M:%S", "%R": "%H:%M", "%F": "%Y-%m-%d", "%D": "%m/%d/%y"}


@dataclass(frozen=True)
class Format:
    """A format of timestamps.

    Attributes
    ----------
    ops
        The instructions for the kernel; empty for ISO 8601 and for numbers.
    number
        One of `NUMBERS`, or None.
    or_iso
        ISO dates are read as well: the format does not begin with the year, so no value fits both.
    """

    ops: NDArray[np.int16]
    number: str | None = None
    or_iso: bool = False


ISO = Format(np.empty(0, np.int16))


@lru_cache(maxsize=256)
def compile_format(text: str | None) -> Format:
    """Compile the setting `timestamp_format`; raise SettingError if it does not describe a date."""
    if text is None:
        return ISO
    if text in NUMBERS:
        return Format(ISO.ops, text)
    ops: list[int] = []
    expanded = text if isinstance(text, str) else ""
    for short, long in _SHORT.items():
        expanded = expanded.replace(short, long)
    letters = iter(expanded)
    for letter in letters:
        if letter.isspace():
            if ops[-1:] != [kernel.BLANK]:
                ops.append(kernel.BLANK)
        elif letter != "%":
            ops.extend(letter.encode())
        else:
            directive = next(letters, "")
            if directive == "-":  # numbers without leading zeros are read in any case
                directive = next(letters, "")
            if directive not in _DIRECTIVES:
                raise _bad(text, f"has the unknown directive '%{directive}'")
            ops.extend(_DIRECTIVES[directive])
    once = [op for op in ops if op >= kernel.YEAR and op != kernel.BLANK]
    if len(once) != len(set(once)):
        raise _bad(text, "has the same part twice")
    for names, part in (((kernel.YEAR, kernel.YEAR2), "year"), ((kernel.MONTH, kernel.MONTH_NAME), "month")):
        if sum(op in ops for op in names) != 1:
            raise _bad(text, f"needs one {part}")
    if kernel.DAY not in ops:
        raise _bad(text, "needs a day")
    if (kernel.HOUR12 in ops) != (kernel.HALF in ops) or (kernel.HOUR12 in ops and kernel.HOUR in ops):
        raise _bad(text, "needs %I and %p together, without %H")
    return Format(np.array(ops, np.int16), or_iso=ops[0] not in (kernel.YEAR, kernel.BLANK))


def _bad(text: object, problem: str) -> SettingError:
    return SettingError(
        (Arg("timestamp_format", text), f" {problem}"),
        value=text,
        expected="a strftime format such as '%d/%m/%Y' or '%Y-%m-%d %H:%M:%S%z', or one of 'epoch_s', 'epoch_ms', "
        "'epoch_us', 'excel'",
    )
