"""Look into a source before the first table: columns, guesses, doubts, and the command to run.

The guesses are checked with the readers that the tables use.
"""
