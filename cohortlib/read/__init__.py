"""Read transactions: files, frames and Arrow streams become users, instants and amounts.

``sources`` reads any source through ``tables``, ``parquet`` and ``csv``; ``transactions`` checks its three columns with
``users``, ``instants``, ``amounts`` and ``nulls``; ``arrays`` reads columns as numpy arrays. Imports only the engine,
``periods`` and ``errors``.
"""
