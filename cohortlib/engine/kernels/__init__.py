"""Compiled loops of the engine: words, keys, days, money and partitions.

Arrays in, arrays out; no frame and no option. Threads stay outside.
"""
