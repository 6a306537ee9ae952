"""Pages of HTML that stand alone: what all of them have in common."""
