"""Cohort analytics from raw transactions, in the very fields that Termina and Adapty return."""

import gc
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cohortlib import adapty, errors, spark, termina
    from cohortlib import plotting as plot
    from cohortlib.explaining.explain import explain
    from cohortlib.preparing import prepare
    from cohortlib.reconciling.compare import reconcile
    from cohortlib.reporting.report import report
    from cohortlib.stores import Prepared
    from cohortlib.triangles import triangle

__version__ = "0.1.0"
__all__ = [
    "Prepared",
    "__version__",
    "adapty",
    "errors",
    "explain",
    "plot",
    "prepare",
    "reconcile",
    "report",
    "spark",
    "termina",
    "triangle",
]

_HOMES = {
    "Prepared": "stores",
    "explain": "explaining.explain",
    "prepare": "preparing",
    "reconcile": "reconciling.compare",
    "report": "reporting.report",
    "triangle": "triangles",
}


def __getattr__(name: str) -> object:
    # Modules come when they are asked for, so that importing the package brings neither polars nor numba.
    if name in ("adapty", "errors", "spark", "termina"):
        return _loaded(name)
    if name == "plot":
        return _loaded("plotting")
    if name in _HOMES:
        return getattr(_loaded(_HOMES[name]), name)
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
