"""What the command line is made of: a module per vendor, what their options share, and where tables go.

None of these modules imports anything heavy (polars, numba, rich) before a command runs, so that help is instant.
"""
