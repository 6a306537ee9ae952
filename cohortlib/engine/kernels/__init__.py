"""Compiled loops of the engine: words, keys, days, money and partitions.

Arrays in, arrays out; no data frames and no settings. Threads are the caller's task.
"""
