"""A kind of difference: how it changes both sides, and the truth that an explanation may name."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from cohortlib.compare.explain.causes import Cause

Change = Callable[[Any], Any]  # of a side: the data and settings that a table is computed from


def same(side: Any) -> Any:
    return side


@dataclass(frozen=True)
class Plant:
    """A difference that was drawn: its changes, and patterns of which one has to be found in a true cause."""

    # Each pattern is a tuple of regular expressions, all of which have to match the words of a cause.
    truth: tuple[tuple[str, ...], ...]
    remote: Change = same
    local: Change = same
    base: Change = same  # of both sides, before all other changes
    form: bool = False  # only the form of the table differs: it may be detected instead of named

    def named_by(self, cause: Cause) -> bool:
        """Return whether the words of a cause say this difference."""
        text = f"{cause.kind}: {cause.words} {cause.note} {dict(cause.settings)}"
        return any(all(re.search(part, text, re.IGNORECASE) for part in pattern) for pattern in self.truth)


@dataclass(frozen=True)
class Kind:
    """A kind of difference, whose details are drawn for each side."""

    name: str
    tables: tuple[str, ...]
    draw: Callable[[Any, np.random.Generator], Plant]
    on_list: bool = True  # of the causes that `explain` knows; others have to be met with silence
    family: str = ""  # kinds of one family are not paired

    @property
    def vendor(self) -> str:
        """The vendor whose tables the kind is planted into."""
        return "adapty" if self.tables[0] in ("renewals", "days") else "termina"
