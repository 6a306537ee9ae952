"""HTTP for the clients of both vendors: transport, retries and rate limit, errors, secrets, JSON replies.

Imports ``errors`` and ``periods`` only; never the engine, a reader or a model.
"""
