"""Benchmarks of cohortlib against the best known queries of other engines."""
