"""Fetch Adapty's cohort answer from its API.

Imports ``network``, ``errors`` and the request; never the engine.
"""
