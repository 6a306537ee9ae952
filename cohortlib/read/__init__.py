"""Read transactions: files, frames and Arrow streams become users, instants and amounts.

``sources`` reads any source through ``tables``, ``parquet`` and ``csv``; ``transactions`` checks its three columns with
``users``, ``instants``, ``amounts`` and ``nulls``; ``arrays`` reads columns as numpy arrays. ``text`` parses text, with
``formats`` for timestamps, ``money`` for amounts and ``ids`` for users; ``faults`` counts over a whole source what
cannot be read, and ``lines`` finds its file and line. Imports only the engine, ``periods`` and ``errors``.
"""
