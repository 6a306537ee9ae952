"""The prepared form: parts on disk, in which prepared transactions and states are stored.

A folder holds runs of parts and a manifest: ``spill`` gathers runs, ``prepare`` writes them, ``prepared`` reads them,
and ``history`` looks up users for updates. Imports the engine, ``read``, and the records and settings of transactions.
"""
