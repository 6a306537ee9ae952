"""Parts on disk: the format of the prepared form, of a state and of spilled rows.

A folder holds runs of parts and a manifest. Imports the engine and ``read``.
"""
