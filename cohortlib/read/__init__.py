"""Read transactions: files, frames and Arrow streams become users, instants and amounts.

Each column is checked once, here. Imports the engine, and nothing that knows what a cohort is.
"""
