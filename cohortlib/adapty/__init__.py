"""Adapty's cohort table from raw events: the request that its API takes, the answer that it gives."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cohortlib.adapty.answer import Answer
    from cohortlib.adapty.compute import cohort, part
    from cohortlib.adapty.fetch import fetch_cohort
    from cohortlib.adapty.parts import Part
    from cohortlib.adapty.request import Conventions, Filters, Request, RequestError

__all__ = ["Answer", "Conventions", "Filters", "Part", "Request", "RequestError", "cohort", "fetch_cohort", "part"]

_HOMES = {"Answer": "answer", "Part": "parts", "cohort": "compute", "fetch_cohort": "fetch", "part": "compute"}


def __getattr__(name: str) -> object:
    # The request alone, which is checked without frames, brings neither polars nor numba.
    if name in __all__:
        return getattr(import_module(f"cohortlib.adapty.{_HOMES.get(name, 'request')}"), name)
    raise AttributeError(f"module 'cohortlib.adapty' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
