from . import adapty as adapty
from . import errors as errors
from . import spark as spark
from . import termina as termina
from .compare.explain.explain import explain as explain
from .compare.reconcile.compare import reconcile as reconcile
from .engine.buffers import free_memory as free_memory
from .show import plot as plot
from .show.averages import summary as summary
from .show.inspect.inspect import inspect as inspect
from .show.inspect.inspection import Inspection as Inspection
from .show.report.report import report as report
from .show.triangle import triangle as triangle
from .transactions.general.compute import cohorts as cohorts
from .transactions.general.compute import users as users
from .transactions.general.sums import Sums as Sums
from .transactions.general.sums import sums as sums
from .transactions.state import State as State
from .transactions.store.prepare import prepare as prepare
from .transactions.store.prepared import Prepared as Prepared
from .transactions.verify import verify as verify

__version__: str
