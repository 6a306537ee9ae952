"""Compiled loops on transactions: group rows by user, net them, add users up, write customers.

Arrays in, arrays out. Imports the engine's kernels only.
"""
