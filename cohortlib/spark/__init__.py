"""The tables of Termina and Adapty from the frames of Spark: partitions of users, worked on where they lie.

Nothing here imports pyspark: a frame brings its session with it, also where it is one of Spark Connect.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cohortlib.spark.adapty import adapty_cohort
    from cohortlib.spark.termina import cohorts, customer_cohorts

__all__ = ["adapty_cohort", "cohorts", "customer_cohorts"]

_HOMES = {"adapty_cohort": "adapty", "cohorts": "termina", "customer_cohorts": "termina"}


def __getattr__(name: str) -> object:
    if name in _HOMES:
        return getattr(import_module(f"cohortlib.spark.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'cohortlib.spark' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
