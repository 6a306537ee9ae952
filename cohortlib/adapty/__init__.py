"""Adapty's cohort table, computed from raw events for a request of its API.

Public names are listed in ``__init__.pyi`` and are imported on first use: a request is checked without polars or
numba.
"""

from lazy_loader import attach_stub

__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)
