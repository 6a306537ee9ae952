"""All questions, by their names on the command line."""

from benchmarks import adapty, cohorts, customers
from benchmarks.inputs import SUBSCRIPTIONS, TRANSACTIONS

QUESTIONS = {
    "cohorts": cohorts.question("M"),
    "cohorts-daily": cohorts.question("D"),
    "customer-cohorts": customers.QUESTION,
    "adapty-renewals": adapty.question("renewals"),
    "adapty-days": adapty.question("days"),
}


def kind(name: str) -> str:
    """Return the kind of table that a question is about."""
    return SUBSCRIPTIONS if name.startswith("adapty") else TRANSACTIONS
