"""Values that arguments of both vendors take. Nothing is imported, so the command line lists them at once."""

from typing import Literal, get_args

Freq = Literal["D", "W", "M", "Q", "A"]
Nulls = Literal["error", "drop"]
Decimal = Literal[".", ","]
Normalize = Literal["strip", "casefold"]
Weekday = Literal["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"]

FREQS: tuple[Freq, ...] = get_args(Freq)
WEEKDAYS: tuple[Weekday, ...] = get_args(Weekday)
WEEK_START: Weekday = "monday"
"""The first day of a week by default, in every call."""
