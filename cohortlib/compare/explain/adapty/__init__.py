"""Explain Adapty's answers: recompute them under causes, and propose candidates."""
