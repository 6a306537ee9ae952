"""Client of Adapty's API.

Imports ``network``, ``errors``, the request and its answer; never the engine.
"""
