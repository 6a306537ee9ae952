"""Tables for people: triangles, colours, text, plots, pages and the report.

Imports the vendors' tables and fields.
"""
