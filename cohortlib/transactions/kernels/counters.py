"""The counters of a tally: how a joined table fits the rows that a thread has netted."""

EARLY = 0
"""Users active before their joined date."""
LATE = 1
"""Users whose joined date lies after the last period."""
CONFLICTS = 2
"""Joined rows that assign a user another cohort than the user's first joined row."""
UNLISTED = 3
"""Active users without a joined date."""
LISTED = 4
"""Users with a joined date."""
EARLY_ROW = 5
"""1 + the least row of a user counted in EARLY; 0 if there is none."""
CONFLICT_ROW = 6
"""1 + the least row of a user counted in CONFLICTS; 0 if there is none."""
COUNTERS = 7
"""Number of entries."""
