"""What may make two tables differ, and what can recompute a table under it."""

from collections.abc import Hashable, Iterable
from dataclasses import dataclass, field
from typing import Any, Protocol


@dataclass(frozen=True)
class Cause:
    """One thing that may differ: a setting of the computation, or a fault of the data.

    Parameters
    ----------
    kind
        Of the causes of one kind at most one holds at a time: ``"timezone"``, ``"refunds"``, ``"days missing"``.
    value
        Which of its kind this is.
    words
        How a person says it, to stand behind "with": ``"time zone America/New_York"``.
    note
        What a sentence adds in brackets: who else has the same clock, when a customer first paid.
    settings
        The arguments of the public call that bring it about, as pairs; none for a fault of the data.
    assumed
        Whether its table takes values from the other side, which nothing here can prove: the last resort.
    """

    kind: str
    value: Hashable
    words: str = field(compare=False)
    note: str = field(default="", compare=False, kw_only=True)
    settings: tuple[tuple[str, Any], ...] = field(default=(), compare=False)
    assumed: bool = field(default=False, compare=False)


class Maker(Protocol):
    """Makes the local table as it would be under some causes.

    What all its tables share (reading, coding users) is done once.
    """

    def table(self, causes: tuple[Cause, ...]) -> Any:  # noqa: ANN401 - a frame, or an Answer
        """Recompute the table under some causes, at most one of each kind, in any order."""

    def causes(self, chosen: tuple[Cause, ...], report: Any) -> Iterable[Cause]:  # noqa: ANN401
        """Name what is worth a try beside the causes `chosen`, whose table differs as `report` says.

        The likeliest come first, for time may run out. Causes that cannot change anything are left out, and of those
        that must give the same table only the first is named, with the others in its words.
        """

    def suspects(self, chosen: tuple[Cause, ...], report: Any) -> list[str]:  # noqa: ANN401
        """Say in sentences what stays unexplained: where it lies, and which customers or days it may be."""
