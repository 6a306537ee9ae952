"""Present tables: triangles, colours, text, plots, HTML pages and the report.

Imports the vendors' tables and fields.
"""

from lazy_loader import attach_stub

__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)
