"""The settings of a request's computation, written once: names, types and defaults."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ParamSpec, TypedDict, TypeVar

from cohortlib.literals import Decimal, Normalize
from cohortlib.signatures import list_settings

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cohortlib.adapty.conventions import Conventions
    from cohortlib.engine.progress import Progress
    from cohortlib.read.tables import Source

_Arguments = ParamSpec("_Arguments")
_Result = TypeVar("_Result")


class RequestKeywords(TypedDict, total=False):
    """What rows mean, and how text is read."""

    timezone: str
    conventions: "Conventions | None"
    event_types: "Mapping[str, str] | None"
    products: "Source | None"
    decimals: int
    timestamp_format: str | None
    decimal: Decimal
    normalize: Normalize | None


class PlanKeywords(RequestKeywords, total=False):
    """All settings of a plan: also how files are opened, threads and progress."""

    encoding: str | None
    sheet: str | int | None
    storage_options: "Mapping[str, Any] | None"
    threads: int | None
    progress: "Progress | None"


DEFAULTS: dict[str, Any] = {
    "timezone": "UTC", "conventions": None, "event_types": None, "products": None, "decimals": 6,
    "timestamp_format": None, "decimal": ".", "normalize": None, "encoding": None, "sheet": None,
    "storage_options": None, "threads": None, "progress": None,
}  # fmt: skip


def with_settings(function: Callable[_Arguments, _Result]) -> Callable[_Arguments, _Result]:
    """List the settings that a function takes as ``**settings: Unpack[Group]`` in its signature, with defaults."""
    return list_settings(function, DEFAULTS)
