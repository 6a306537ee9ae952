"""HTTP: transport, retries, secrets and JSON replies, shared by the clients of both vendors.

Imports only :mod:`cohortlib.errors`; never the engine, a reader or a model.
"""
