"""Compare two tables cell by cell (`reconcile`) and find out why they differ (`explain`).

May import everything except the command line.
"""
