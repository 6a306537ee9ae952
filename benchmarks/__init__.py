"""Side-by-side measurements of cohortlib and the best queries of its peers."""
