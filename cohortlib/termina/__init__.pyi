from .additive import State as State
from .additive import Sums as Sums
from .additive import sums as sums
from .client.client import Client as Client
from .client.replies import Concentration as Concentration
from .compute import cohorts as cohorts
from .compute import customer_cohorts as customer_cohorts
from .compute import sink_customer_cohorts as sink_customer_cohorts
