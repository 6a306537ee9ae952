"""Compiled loops on transactions: group rows by user, net them, add users up, lay out customers.

Arrays in, arrays out; imports the engine's kernels.
"""
