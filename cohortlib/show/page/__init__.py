"""Templates and rendering shared by all HTML pages."""
