"""Compiled loops on subscription events: pack, settle, sort and add up.

Arrays in, arrays out; imports the engine's kernels.
"""
