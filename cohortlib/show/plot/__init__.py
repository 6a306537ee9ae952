"""Charts of a cohort table, to paste and to share. Needs ``cohortlib[plot]``.

Every function takes the table of :func:`cohortlib.termina.cohorts` and returns an Altair chart. Save it with
``chart.save("heat.png")``, ``.svg`` or ``.html``; a notebook shows it by itself.
"""

from lazy_loader import attach_stub

from cohortlib.errors import CohortlibError

_load, __dir__, __all__ = attach_stub(__name__, __file__)


def __getattr__(name: str) -> object:
    try:
        return _load(name)
    except ModuleNotFoundError as error:
        if error.name != "altair":
            raise
        raise CohortlibError("charts need Altair", hint="pip install 'cohortlib[plot]'") from error
