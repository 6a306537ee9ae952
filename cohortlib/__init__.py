"""Cohort analytics from raw transactions, in the very fields that Termina and Adapty return."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cohortlib import adapty, errors, termina
    from cohortlib.triangles import triangle

__version__ = "0.1.0"
__all__ = ["__version__", "adapty", "errors", "termina", "triangle"]


def __getattr__(name: str) -> object:
    # Modules come when they are asked for, so that importing the package brings neither polars nor numba.
    if name in ("adapty", "errors", "termina"):
        return import_module(f"cohortlib.{name}")
    if name == "triangle":
        return import_module("cohortlib.triangles").triangle
    raise AttributeError(f"module 'cohortlib' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
