"""Describe the differences that no cause explains: where they are, and what they have in common."""

import polars as pl

from cohortlib.compare.explain.termina.scene import Scene
from cohortlib.compare.explain.termina.tables import Cells
from cohortlib.compare.reconcile.compare import Report


def describe(scene: Scene, cells: Cells, report: Report) -> list[str]:
    """Describe where cells still differ, and the largest difference."""
    differences = report.differences
    cohorts = differences.group_by("cohort").len().sort("len", "cohort", descending=[True, False])
    label, count = cohorts.row(0)
    fields = differences["field"].cast(pl.String).unique(maintain_order=True).to_list()
    if len(differences) == 1:
        lines = [f"The only cell that still differs is {fields[0]} in cohort {label}."]
    else:
        place = f"all in cohort {label}"
        if len(cohorts) > 1:
            place = f"in {len(cohorts):,} cohorts, most of them in {label} ({count:,})"
        lines = [f"The {len(differences):,} cells that still differ are {place}; fields: {', '.join(fields)}."]
    with_values = differences.filter(pl.col("local").is_not_null() & pl.col("remote").is_not_null()).head(1)
    for row in with_values.rows(named=True):
        customer = f" of customer {row['user_id']}" if "user_id" in row else ""
        lines.append(
            f"The largest difference is {row['field']}{customer} in cohort {row['cohort']} at age {row['period']}: "
            f"{row['local']:,.6g} local, {row['remote']:,.6g} remote."
        )
    return lines
