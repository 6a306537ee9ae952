"""Termina's tables, field for field: what its API returns, computed from raw transactions."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cohortlib.termina.adding import Sums, sums
    from cohortlib.termina.compute import cohorts, customer_cohorts, sink_customer_cohorts
    from cohortlib.termina.fetch import (
        fetch_cohorts,
        fetch_concentration,
        fetch_customer_cohorts,
        fetch_growth_accounting,
        fetch_user_accounting,
    )
    from cohortlib.termina.replies import Concentration
    from cohortlib.termina.state import State

__all__ = [
    "Concentration",
    "State",
    "Sums",
    "cohorts",
    "customer_cohorts",
    "fetch_cohorts",
    "fetch_concentration",
    "fetch_customer_cohorts",
    "fetch_growth_accounting",
    "fetch_user_accounting",
    "sink_customer_cohorts",
    "sums",
]

_HOMES = {name: "fetch" if name.startswith("fetch_") else "compute" for name in __all__}
_HOMES |= {"Concentration": "replies", "State": "state", "Sums": "adding", "sums": "adding"}


def __getattr__(name: str) -> object:
    # What only talks to the API needs no engine, and the engine no HTTP.
    if name in _HOMES:
        return getattr(import_module(f"cohortlib.termina.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'cohortlib.termina' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
