"""Termina's tables, field for field: what its API returns, computed from raw transactions.

Public names are listed in ``__init__.pyi`` and are imported on first use: fetching loads no engine, and computing no
HTTP library.
"""

from lazy_loader import attach_stub

__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)
