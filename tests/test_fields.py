"""The registry of published fields: complete, light to import, and the only place that defines them."""

import subprocess
import sys
from datetime import date
from pathlib import Path

import polars as pl
import pytest

import cohortlib
from cohortlib import fields
from cohortlib.fields import ALL_TABLES, COHORTS, CUSTOMER_COHORTS, SEGMENTS, SHOWN

pytestmark = pytest.mark.unit

ROWS = pl.DataFrame({"user_id": ["a"], "timestamp": [date(2026, 1, 1)], "amount": [1.0]})
EVERY = [field for table in ALL_TABLES for field in table.values()]


def test_importing_the_registry_is_light():
    code = "import sys, cohortlib.fields; print(*({'polars', 'numba', 'numpy'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "\n"


def test_few_modules_name_a_field():
    """The registry, the modules that compute it, the docstrings of the calls, and explain, which computes it too."""
    package = Path(cohortlib.__file__).parent
    naming = [path for path in package.rglob("*.py") if "logo_retention" in path.read_text(encoding="utf-8")]
    assert len(naming) <= 10, naming


@pytest.mark.parametrize("field", EVERY, ids=lambda field: field.name)
def test_every_field_is_defined(field):
    assert field.title
    assert field.meaning
    assert field.definition.startswith(field.meaning)
    assert getattr(pl, field.dtype)
    assert (field.kind == "struct") == bool(field.parts)
    assert field.required >= field.key


def test_structs_have_their_parts_as_schema():
    predict = fields.schema(SEGMENTS)["predict"]
    assert predict == pl.Struct({"revenue_usd": pl.Float64, "ltv_usd": pl.Float64, "months": pl.Int64})


def test_computed_tables_have_the_fields_of_the_registry():
    assert cohortlib.termina.cohorts(ROWS).schema == pl.Schema(fields.schema(COHORTS))
    assert cohortlib.termina.customer_cohorts(ROWS).schema == pl.Schema(fields.schema(CUSTOMER_COHORTS))


@pytest.mark.parametrize("table", [COHORTS, CUSTOMER_COHORTS])
def test_quotients_and_shown_fields_are_fields(table):
    for above, below in fields.quotients(table).values():
        assert {above, below} <= set(table)
    assert set(SHOWN) <= set(fields.by_age(table))
    assert not set(fields.by_age(table)) & set(fields.keys(table))


def test_shares_are_shown_as_percentages():
    table = cohortlib.termina.cohorts(ROWS)
    for name, field in fields.by_age(COHORTS).items():
        assert ("100.0%" in cohortlib.triangle(table, name)._repr_html_()) == (field.kind == "share"), name
