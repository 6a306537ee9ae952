"""The command line: `main`, one module per command, `options` they share, `output`, `messages` and the terminal.

No module here imports polars, numba or rich before a command runs, so help is instant. Imports everything below it.
"""
