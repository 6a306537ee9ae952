"""Causes, and the interface of a table that can be recomputed under causes."""

import math
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from cohortlib.compare.explain.evidence import Places, Standing


def choice(*alternatives: float) -> float:
    """Return the bits of choices among so many alternatives each; one bit at least.

    >>> choice(1), choice(8, 4)
    (1.0, 5.0)
    """
    return max(1.0, sum(math.log2(max(1.0, count)) for count in alternatives))


def subset(chosen: int, among: int) -> float:
    """Return the bits of choosing some of many things, to add to those of :func:`choice`.

    >>> subset(2, 16)
    8.0
    """
    return chosen * math.log2(max(among, 1))


@dataclass(frozen=True)
class Cause:
    """A possible reason for a difference: another setting, or a data fault."""

    kind: str  # such as "timezone" or "days missing"; causes of the same kind exclude each other
    value: Hashable  # distinguishes the causes of a kind
    # Shown to the user: "time zone America/New_York", "without the 4 rows of 1997-06-10".
    words: str = field(compare=False)
    # Added in brackets: other zones with the same clock, the date of a first payment.
    note: str = field(default="", compare=False, kw_only=True)
    # The arguments of the public call that reproduce the cause, as pairs; empty for a data fault.
    settings: tuple[tuple[str, Any], ...] = field(default=(), compare=False)
    # What choosing this cause costs: log2 of its alternatives.
    bits: float = field(default=1.0, compare=False, kw_only=True)
    # Whether it may be named where it explains some cohorts, dates or customers only, and not half of all differences.
    partial: bool = field(default=True, compare=False, kw_only=True)
    # Groups of cells, such as ("dates", 7), that the cause speaks of: of those that differed, half have to agree.
    claims: tuple[tuple[str, int], ...] = field(default=(), compare=False, kw_only=True)

    @property
    def phrase(self) -> str:
        """The words with a preposition: ``"with time zone UTC"``, ``"without the 4 rows of 1997-06-10"``."""
        return self.words if self.words.startswith(("without ", "with ")) else f"with {self.words}"


class LocalTable(Protocol):
    """The local table, which can be recomputed under causes. Its rows are read once."""

    @property
    def places(self) -> Places:
        """The groups of the cells that are compared under every cause."""

    @property
    def forms(self) -> Sequence[str]:
        """How the remote table is written, in words, where that is not as cohortlib writes it."""

    @property
    def rounding(self) -> Mapping[str, float]:
        """The tolerances of fields that the remote side rounds."""

    def recompute(self, causes: tuple[Cause, ...]) -> Any:  # noqa: ANN401 - a frame, or an Answer
        """Recompute the table under causes of different kinds; their order does not matter."""

    def standing(self, causes: tuple[Cause, ...]) -> Standing:
        """Compare the cells that either table has at the start, under causes."""

    def candidates(self, causes: tuple[Cause, ...], in_time: Callable[[], bool]) -> Iterable[Cause]:
        """List further causes to try together with `causes`, likely ones first.

        Causes that cannot change a cell are left out. Of causes with the same table only one is listed; its words or
        note mention the others. The list ends early once `in_time` returns False.
        """

    def describe_remaining(self, causes: tuple[Cause, ...], report: Any) -> Sequence[str]:  # noqa: ANN401
        """Describe in sentences what still differs: where, and which customers or days may be behind it."""
