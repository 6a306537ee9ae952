"""Sums and state of Termina's tables, under Termina's name; :mod:`cohortlib.transactions` implements them."""

from cohortlib.transactions.accounting import AccountingSums, accounting_sums
from cohortlib.transactions.state import State
from cohortlib.transactions.sums import Sums, sums

__all__ = ["AccountingSums", "State", "Sums", "accounting_sums", "sums"]
