"""Cohort analytics from raw transactions, in the very fields that Termina and Adapty return.

Public names are listed in ``__init__.pyi`` and are imported on first use, so ``import cohortlib`` loads neither polars
nor numba.
"""

from lazy_loader import attach_stub

__version__ = "0.1.0"

__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)
