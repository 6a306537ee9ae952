from .accounting import concentration as concentration
from .accounting import growth_accounting as growth_accounting
from .accounting import user_accounting as user_accounting
from .adapty import adapty_cohort as adapty_cohort
from .termina import cohorts as cohorts
from .termina import customer_cohorts as customer_cohorts
