"""Cohort analytics from raw transactions, in the very fields that Termina and Adapty return."""

import gc
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cohortlib import adapty, errors, termina
    from cohortlib.reconciling.compare import reconcile
    from cohortlib.triangles import triangle

__version__ = "0.1.0"
__all__ = ["__version__", "adapty", "errors", "reconcile", "termina", "triangle"]


def __getattr__(name: str) -> object:
    # Modules come when they are asked for, so that importing the package brings neither polars nor numba.
    if name in ("adapty", "errors", "termina"):
        return _loaded(name)
    if name == "triangle":
        return _loaded("triangles").triangle
    if name == "reconcile":
        return _loaded("reconciling.compare").reconcile
    raise AttributeError(f"module 'cohortlib' has no attribute {name!r}")


def _loaded(name: str) -> ModuleType:
    """Import a module. Its imports make many objects, all to stay: looking for garbage would take a fifth longer."""
    collecting = gc.isenabled()
    gc.disable()
    try:
        return import_module(f"cohortlib.{name}")
    finally:
        if collecting:
            gc.enable()


def __dir__() -> list[str]:
    return __all__
