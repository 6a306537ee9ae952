"""The result of Termina's concentration, computed or fetched; its other tables are frames."""

from dataclasses import dataclass
from typing import Any

import polars as pl

from cohortlib.fields import CONCENTRATION

__all__ = ["Concentration"]


@dataclass(frozen=True, repr=False)
class Concentration:
    """How much of the amount the largest users hold.

    Attributes
    ----------
    time_series_metrics
        One row for each period.
    endpoint_top_users
        The largest users of the last period.
    endpoint_cdf
        The distribution in the last period, from the smallest user up.
    """

    time_series_metrics: pl.DataFrame
    endpoint_top_users: pl.DataFrame
    endpoint_cdf: pl.DataFrame

    def __repr__(self) -> str:
        users, points = self.endpoint_top_users.height, self.endpoint_cdf.height
        return f"Concentration({self.time_series_metrics.height:,} periods, {users:,} top users, {points:,} points)"

    def to_dict(self) -> dict[str, list[dict[str, Any]]]:
        """Return the JSON of the API as Python values."""
        return {name: getattr(self, name).to_dicts() for name in CONCENTRATION}
