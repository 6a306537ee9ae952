"""Machinery without vendors or business rules: partitions, threads, progress, memory, atomic files, ratios.

Rows are keyed (``kernels.keys``) and partitioned by user (``partitions``) here. Imports only :mod:`cohortlib.errors`,
``periods`` and ``fields``.
"""
