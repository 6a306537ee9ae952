"""How far two values of a field may be apart and still agree."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

from cohortlib.errors import Arg, SettingError, listed

Tolerances: TypeAlias = Mapping[str, float | tuple[float, float]]
"""By field: an absolute tolerance, or an absolute and a relative one."""


@dataclass(frozen=True)
class Tolerance:
    """Two numbers agree if they are at most the larger of `absolute` and `relative` × |remote| apart."""

    absolute: float = 0.0
    relative: float = 0.0

    @property
    def exact(self) -> bool:
        """Whether only equal values agree."""
        return self.absolute == 0 and self.relative == 0


EXACT = Tolerance()


def unknown_field(field: str, fields: list[str]) -> SettingError:
    """Return the error of a tolerance for a field that is not compared."""
    return SettingError(
        (Arg("tolerances"), f" has {field!r}, which is not a compared field"),
        value=field,
        expected=f"fields among {listed(fields)}",
    )


def checked(tolerances: Tolerances | None, fields: list[str], texts: list[str]) -> dict[str, Tolerance]:
    """Check the caller's tolerances for fields of both sides; those in `texts` cannot have one."""
    result = {}
    for field, value in (tolerances or {}).items():
        if field not in fields:
            raise unknown_field(field, fields)
        sizes = value if isinstance(value, tuple) else (value, 0.0)
        if len(sizes) != 2 or not all(_is_size(size) for size in sizes):
            raise SettingError(
                (Arg("tolerances"), f" has {value!r} for {field!r}"),
                value=value,
                expected="a number >= 0 such as 0.01, or an absolute and a relative one such as (0.005, 1e-9)",
            )
        if field in texts:
            raise SettingError(
                (Arg("tolerances"), f" has {field!r}, whose values are not numbers"),
                value=field,
                expected="numeric fields; other values must be equal",
            )
        result[field] = Tolerance(float(sizes[0]), float(sizes[1]))
    return result


def _is_size(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value >= 0 and math.isfinite(value)
