"""Client of Termina's API.

Imports ``network``, ``errors`` and the fields; never the engine.
"""
