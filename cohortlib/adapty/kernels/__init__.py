"""Compiled loops over subscription events: pack records, group and sort them, link refunds, add up.

Arrays in, arrays out; imports the engine's kernels.
"""
