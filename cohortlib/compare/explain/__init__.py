"""Why two tables differ: recompute one under other settings and faults until it is the other."""
