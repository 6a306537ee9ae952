"""Templates and rendering that all HTML pages share."""
