"""The counters of a tally: how a joined table fits the rows that a thread has netted.

The first five are the counts of a `JoinedFit`, in its order.
"""

EARLY = 0  # users active before their joined date
LATE = 1  # users whose joined date lies after the last period
CONFLICTS = 2  # joined rows that assign a user another cohort than the user's first joined row
UNLISTED = 3  # active users without a joined date
LISTED = 4  # users with a joined date
EARLY_ROW = 5  # 1 + the least row of a user counted in EARLY; 0 if there is none
CONFLICT_ROW = 6  # 1 + the least row of a user counted in CONFLICTS; 0 if there is none
COUNTERS = 7  # number of entries
