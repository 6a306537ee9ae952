"""Explain Termina's tables: recompute them under causes, and propose candidates."""
