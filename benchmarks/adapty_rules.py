"""
What every engine is asked of a subscription history: the `values` of Adapty's cohort table.

The question is section 3 of the definitions with the default settings, month segments over the whole history: rows
that count, repeats, install days, ordinals within chains, each refund's payment, users and chains that stay or were
refunded, every field of each cell and of the total row.

The peers follow all the rules that the generated history brings up. They need not follow what it lacks: ids of single
events, family-shared rows, text instants, two payments of a chain at one instant. They sum floats, so they round sums
to cents, which changes nothing for amounts in cents.

Two rules look as if they needed a loop and need none:

- The latest payment that is not refunded yet: in each chain, a payment opens a bracket and a refund that names no
  payment closes one. A refund's payment is the row before it in its chain at its depth.
- Users who stay: a user is a payer from the first payment up to the first refund, so only the two first moments of each
  user count. In the renewals table, where each chain's ordinals run from 1 without gaps, a user has paid at p if the
  user's greatest ordinal is at least p.
"""

from datetime import date
from typing import TYPE_CHECKING, NamedTuple

from benchmarks.subscriptions import EVENTS, START

if TYPE_CHECKING:
    from benchmarks.engines import Table

EPOCH = date(1970, 1, 1)
FIRST = (START.astype(object).date() - EPOCH).days
DAY = 86_400_000_000
RENEWAL_DAYS = (0, 3, 7, 14, 28, 31, 61, 92, 183, 336, 550, 731)
KINDS = EVENTS[:7]  # those with money
GRANTED = ("adapty_server_side_product", "adapty_dashboard_product", "adapty_promotion")
SUMS = ("revenue_usd", "proceeds_usd", "net_revenue_usd")


class History(NamedTuple):
    """What is asked about; `first` and `last` are the days of the request, counted from 1970."""

    events: "Table"
    installs: "Table"
    first: int
    last: int
