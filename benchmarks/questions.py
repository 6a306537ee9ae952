"""All questions of the suite, by name."""

from benchmarks import adapty, cohorts, customers, general, reconcile
from benchmarks.measure import Question

QUESTIONS: dict[str, Question] = {
    "cohorts": cohorts.question("M"),
    "cohorts-daily": cohorts.question("D"),
    "segments": general.question("country"),
    "own-clock": general.question("clock"),
    "customers-active": customers.question("active"),
    "customers-dense": customers.question("dense"),
    "adapty-renewals": adapty.question("renewals"),
    "adapty-days": adapty.question("days"),
    **{f"reconcile-{order}": reconcile.question() for order in reconcile.ORDERS},
}
