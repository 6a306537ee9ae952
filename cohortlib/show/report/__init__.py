"""A report on cohorts: one page of HTML with numbers, pictures and tables, for somebody who has no Python."""
