"""Compare two tables cell by cell: read both sides, pair their rows, apply tolerances, describe the differences."""
