"""Compute the general table, and the users of one of its cells."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Unpack

import polars as pl

from cohortlib.read.tables import Source
from cohortlib.transactions.general.cells import count_cells, lay_out
from cohortlib.transactions.general.question import Question
from cohortlib.transactions.general.rows import load_rows
from cohortlib.transactions.general.table import empty_table, write_table
from cohortlib.transactions.keywords import UsersKeywords, with_settings

__all__ = ["cohorts"]


@with_settings
def cohorts(transactions: Source, **settings: Unpack[UsersKeywords]) -> pl.DataFrame:
    """Compute the general cohort table."""
    question = Question.of(**settings)
    with load_rows(transactions, question, keep_ids=False) as rows:
        grid = lay_out(rows)
        if grid is None:
            return empty_table(question)
        return write_table(rows, count_cells(rows, grid), grid)


_ = (Mapping, replace, Any)
