from .adapty import adapty_cohort as adapty_cohort
from .termina import cohorts as cohorts
from .termina import customer_cohorts as customer_cohorts
