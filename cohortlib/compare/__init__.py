"""Compare two tables, and explain why they differ.

Imports everything below it except the command line.
"""
