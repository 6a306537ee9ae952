"""
The question about subscription histories: the `values` of Adapty's cohort table.

Every engine follows docs/adapty.md with the default settings and monthly segments over the whole history: which rows
count, duplicates, install days, ordinals within chains, the payment of each refund, refunded users and chains, every
field of each cell and of the total.

The other engines follow all rules that matter for the generated history. They skip what it lacks: event ids,
family-shared rows, instants as text, two payments of a chain at one instant. They sum floats, so they round sums to
cents, which changes nothing for amounts in cents.

Two rules seem to need a loop, but do not:

- The latest payment without a refund: in each chain, a payment opens a bracket, and a refund without a known payment
  closes one. The payment of a refund is the row before it in its chain at the same depth.
- Paying users: a user counts from the first payment to the first refund, so only these two instants matter. In the
  renewals table the ordinals of a chain have no gaps, so a user has paid at p if the user's largest ordinal is at least
  p.
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
    """The input of the question; `first` and `last` are the days of the request, counted from 1970."""

    events: "Table"
    installs: "Table"
    first: int
    last: int
