"""Causes, and the interface of a table that can be recomputed under causes."""

from collections.abc import Hashable, Iterable
from dataclasses import dataclass, field
from typing import Any, Protocol


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
    # The recomputed table copies values from the remote table, so nothing proves the cause: it ranks last.
    assumed: bool = field(default=False, compare=False)

    @property
    def phrase(self) -> str:
        """The words with a preposition: ``"with time zone UTC"``, ``"without the 4 rows of 1997-06-10"``."""
        return self.words if self.words.startswith("without ") else f"with {self.words}"


class LocalTable(Protocol):
    """The local table, which can be recomputed under causes. Its rows are read once."""

    def recompute(self, causes: tuple[Cause, ...]) -> Any:  # noqa: ANN401 - a frame, or an Answer
        """Recompute the table under causes of different kinds; their order does not matter."""

    def candidates(self, causes: tuple[Cause, ...], report: Any) -> Iterable[Cause]:  # noqa: ANN401
        """List further causes to try together with `causes`, under which the table differs as `report` says.

        Likely ones come first, because the time is limited. Causes that cannot change a cell are left out. Of causes
        with the same table only one is listed; its words or note mention the others.
        """

    def describe_remaining(self, causes: tuple[Cause, ...], report: Any) -> list[str]:  # noqa: ANN401
        """Describe in sentences what still differs: where, and which customers or days may be behind it."""
