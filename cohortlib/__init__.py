"""Cohort analytics from raw transactions, in the very fields that Termina and Adapty return."""

import gc
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cohortlib import adapty, errors, spark, termina
    from cohortlib.compare.explain.explain import explain
    from cohortlib.compare.reconcile.compare import reconcile
    from cohortlib.show import plot
    from cohortlib.show.report.report import report
    from cohortlib.show.triangle import triangle
    from cohortlib.transactions.store.prepare import prepare
    from cohortlib.transactions.store.prepared import Prepared

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
    "Prepared": "transactions.store.prepared",
    "explain": "compare.explain.explain",
    "prepare": "transactions.store.prepare",
    "reconcile": "compare.reconcile.compare",
    "report": "show.report.report",
    "triangle": "show.triangle",
}


def __getattr__(name: str) -> object:
    # Modules come when they are asked for, so that importing the package brings neither polars nor numba.
    if name in ("adapty", "errors", "spark", "termina"):
        return _loaded(name)
    if name == "plot":
        return _loaded("show.plot")
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
