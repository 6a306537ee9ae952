"""The report: one self-contained HTML page with numbers, charts and tables."""
