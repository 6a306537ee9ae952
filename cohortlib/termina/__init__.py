"""Termina's tables, field for field: what its API returns, computed from raw transactions."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cohortlib.termina.compute import cohorts, customer_cohorts, sink_customer_cohorts

__all__ = ["cohorts", "customer_cohorts", "sink_customer_cohorts"]

_HOMES = dict.fromkeys(__all__, "compute")


def __getattr__(name: str) -> object:
    # What only talks to the API needs no engine, and the engine no HTTP.
    if name in _HOMES:
        return getattr(import_module(f"cohortlib.termina.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'cohortlib.termina' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
