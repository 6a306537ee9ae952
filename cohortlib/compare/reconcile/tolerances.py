"""How far two values of a field may lie apart and still agree."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

from cohortlib.errors import SettingError, listed

Tolerances: TypeAlias = Mapping[str, float | tuple[float, float]]


@dataclass(frozen=True)
class Tolerance:
    """Two numbers agree where they are at most the larger of `absolute` and `relative` × |remote| apart."""

    absolute: float = 0.0
    relative: float = 0.0

    @property
    def exact(self) -> bool:
        """Tell that only equal values agree."""
        return self.absolute == 0 and self.relative == 0


EXACT = Tolerance()


def read(given: Tolerances | None, fields: list[str], texts: list[str]) -> dict[str, Tolerance]:
    """Check the tolerances that a caller gives, for fields that both sides have; `texts` can have none."""
    tolerances = {}
    for field, value in (given or {}).items():
        if field not in fields:
            raise SettingError(f"tolerances: {field!r} is no field that is compared; the fields are {listed(fields)}")
        pair = value if isinstance(value, tuple) else (value, 0.0)
        if len(pair) != 2 or not all(_is_size(one) for one in pair):
            raise SettingError(
                f"tolerances: {field}={value!r} is no tolerance; expected a number such as 0.01, or an absolute and a "
                "relative one such as (0.005, 1e-9), none below 0"
            )
        if field in texts:
            raise SettingError(f"tolerances: field {field!r} holds no numbers, so its values are equal or differ")
        tolerances[field] = Tolerance(float(pair[0]), float(pair[1]))
    return tolerances


def _is_size(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value >= 0 and math.isfinite(value)
