"""Adapty's cohort table from subscription events, in the fields of Adapty's API.

Lives here: the request (`request`), the choices that Adapty's documents leave open (`conventions`), what both mean for
the rows (`plan`, `filters`), the aggregation (`rows`, `installs`, `aggregate`, `kernels`, `spill`), the values that add
(`additive`), predictions (`forecast`), and the answer (`compose`, `answer`). ``read`` reads events and installs;
``client`` calls the API. Refunds are linked to payments in
``kernels/link.py`` and subtracted in ``kernels/add.py``. Imports the shared ``read``
and the engine, never ``transactions``.

Public names are listed in ``__init__.pyi`` and are imported on first use: a request is checked without polars or
numba.
"""

from lazy_loader import attach_stub

__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)
