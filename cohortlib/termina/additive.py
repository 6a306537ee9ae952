"""Sums and state of a cohort table, under Termina's name; :mod:`cohortlib.transactions` implements them."""

from cohortlib.transactions.state import State
from cohortlib.transactions.sums import Sums, sums

__all__ = ["State", "Sums", "sums"]
