"""Keys, partitions, threads, memory, atomic files and ratios: machinery that knows no vendor and no rule.

Rows are keyed and partitioned by user here. Imports only :mod:`cohortlib.errors`, ``periods`` and ``fields``.
"""
