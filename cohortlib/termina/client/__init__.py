"""Fetch Termina's tables from its API.

Imports ``network``, ``errors`` and the fields; never the engine.
"""
