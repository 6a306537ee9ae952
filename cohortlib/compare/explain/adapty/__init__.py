"""Adapty's answers under other settings and faults: what makes them so, and what points at it."""
