"""The model of a transaction table: what a row means, when a user is active, and which sums add.

``load`` reads rows into ``records`` in memory or into parts of the ``store``; ``netting`` nets them by user and period;
``activity`` adds users up. ``sums``, ``customers`` and ``state`` are built on that. Imports ``read`` and the engine;
never :mod:`cohortlib.adapty`.
"""
