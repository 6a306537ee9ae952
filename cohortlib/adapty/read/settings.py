"""How the columns of events and installs are read."""

from collections import Counter
from dataclasses import dataclass, field

from cohortlib.read.ids import Doubts
from cohortlib.read.tables import DEFAULT_OPTIONS, FileOptions
from cohortlib.read.text import TextRules

ISO_RULES = TextRules()


@dataclass(frozen=True)
class Reading:
    """How the columns of a table are read.

    Attributes
    ----------
    rules, files
        How text is read, and how files are opened.
    zone
        The time zone of the calendar: a date among instants is the beginning of that day there.
    decimals
        The decimal places of amounts in text.
    last_day
        The last local day that counts; later instants can have any year.
    doubts
        What is doubtful about user ids, over all batches.
    counts
        ``"dates"``: the dates that share a column with instants, over all batches.
    """

    rules: TextRules = ISO_RULES
    files: FileOptions = DEFAULT_OPTIONS
    zone: str = "UTC"
    decimals: int = 6
    last_day: int | None = None
    doubts: Doubts = field(default_factory=Doubts, compare=False)
    counts: Counter[str] = field(default_factory=Counter, compare=False)
