"""Findings: what to warn of, with counts that add over parts of the data."""

from collections import Counter
from typing import TypeAlias

Findings: TypeAlias = Counter[tuple[str, ...]]
"""Counts by finding: its kind, and what it is about.

=========================== =====================================================
``unknown, name``           rows of an event type that is not known
``held, filter, value``     rows that hold a value of a filter
``near, filter, v, other``  rows with a value that resembles `v`
``unfiltered, filter``      a filter whose column the installs lack
``unordered``               transactions whose states updated_at does not order
``lines, kind``             stray lines of the table of installs
``dates``                   dates that share a column with instants
``durations``               rows whose duration comes from the paid period
=========================== =====================================================
"""
