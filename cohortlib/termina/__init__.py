"""Termina's tables, field for field: what its API returns, computed from raw transactions."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cohortlib.termina.client.fetch import (
        fetch_cohorts,
        fetch_concentration,
        fetch_customer_cohorts,
        fetch_growth_accounting,
        fetch_user_accounting,
    )
    from cohortlib.termina.client.replies import Concentration
    from cohortlib.termina.compute import cohorts, customer_cohorts, sink_customer_cohorts
    from cohortlib.transactions.state import State
    from cohortlib.transactions.sums import Sums, sums

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

_HOMES = {name: "termina.client.fetch" if name.startswith("fetch_") else "termina.compute" for name in __all__}
_HOMES |= {
    "Concentration": "termina.client.replies",
    "State": "transactions.state",
    "Sums": "transactions.sums",
    "sums": "transactions.sums",
}


def __getattr__(name: str) -> object:
    # What only talks to the API needs no engine, and the engine no HTTP.
    if name in _HOMES:
        return getattr(import_module(f"cohortlib.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'cohortlib.termina' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
