"""Adapty's cohort table from raw events: the request that its API takes, the answer that it gives."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cohortlib.adapty.answer import Answer
    from cohortlib.adapty.client.fetch import fetch_cohort
    from cohortlib.adapty.compute import cohort, part
    from cohortlib.adapty.conventions import Conventions
    from cohortlib.adapty.parts import Part
    from cohortlib.adapty.request import Filters, Request
    from cohortlib.adapty.validation import RequestError

__all__ = ["Answer", "Conventions", "Filters", "Part", "Request", "RequestError", "cohort", "fetch_cohort", "part"]

_HOMES = {
    "Conventions": "conventions",
    "RequestError": "validation",
    "Answer": "answer",
    "Part": "parts",
    "cohort": "compute",
    "fetch_cohort": "client.fetch",
    "part": "compute",
}


def __getattr__(name: str) -> object:
    # The request alone, which is checked without frames, brings neither polars nor numba.
    if name in __all__:
        return getattr(import_module(f"cohortlib.adapty.{_HOMES.get(name, 'request')}"), name)
    raise AttributeError(f"module 'cohortlib.adapty' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
