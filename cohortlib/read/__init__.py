"""Read transactions: files, frames and Arrow streams become users, instants and amounts.

``sources`` opens any source: ``folders`` and ``urls`` find its files; ``csv``, ``parquet``, ``jsonl``, ``excel``,
``lake`` and ``frames`` read their columns. ``transactions`` checks its three columns with ``users``, ``instants``,
``amounts`` and ``nulls``; ``arrays`` reads columns as numpy arrays. ``text`` parses text, with ``formats`` for
timestamps, ``money`` for amounts and ``ids`` for users; ``faults`` counts over a whole source what cannot be read.
Imports only the engine, ``periods``, ``literals`` and ``errors``.
"""
