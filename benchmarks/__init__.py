"""Benchmarks of cohortlib against the best known queries of other engines."""

from cohortlib.engine.jit import INTERPRETER

# A tiny table runs before a timed one, so that compilation is not timed; it must not run as plain Python.
INTERPRETER.patience = 0
