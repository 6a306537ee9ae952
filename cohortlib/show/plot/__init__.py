"""Pictures of a cohort table, to paste and to send on: needs ``cohortlib[plot]``.

Every function takes the table of :func:`cohortlib.termina.cohorts` and gives an Altair chart. Save it with
``chart.save("heat.png")``, ``.svg`` or ``.html``; a notebook shows it by itself.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from cohortlib.errors import CohortlibError

if TYPE_CHECKING:
    from cohortlib.show.plot.bars import cohort_sizes, layers
    from cohortlib.show.plot.curves import ltv_curves, retention_curves
    from cohortlib.show.plot.heat import heatmap

__all__ = ["cohort_sizes", "heatmap", "layers", "ltv_curves", "retention_curves"]

_HOMES = {
    "cohort_sizes": "bars",
    "heatmap": "heat",
    "layers": "bars",
    "ltv_curves": "curves",
    "retention_curves": "curves",
}


def __getattr__(name: str) -> object:
    if name in _HOMES:
        try:
            return getattr(import_module(f"cohortlib.show.plot.{_HOMES[name]}"), name)
        except ModuleNotFoundError as error:
            if error.name != "altair":
                raise
            raise CohortlibError("a picture needs Altair. Hint: pip install 'cohortlib[plot]'") from error
    raise AttributeError(f"module 'cohortlib.show.plot' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
