"""The model of a transaction table: what a row means, who is active when, and which sums add.

Settings are checked, rows are recorded, netted and added up; a state keeps them for the next day. Imports ``read`` and
the engine; never :mod:`cohortlib.adapty`.
"""
