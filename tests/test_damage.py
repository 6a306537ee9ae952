"""Damaged and edited folders are refused, or mean what their rows say; nothing crashes and nothing hangs.

Some folders per test; ``COHORTLIB_DAMAGES=1000`` makes it a thousand.
"""

import json
import os
import random
import secrets
import shutil
from contextlib import suppress

import damage
import polars as pl
import pytest
from polars.testing import assert_frame_equal
from strategies import quietly

import cohortlib as cl
from cohortlib.errors import CohortlibError, DataError, SourceError
from cohortlib.transactions.store import spill

DAMAGES = int(os.environ.get("COHORTLIB_DAMAGES", "14"))

pytestmark = pytest.mark.disk


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Folders to damage, by type of user ids, and the answers of each."""
    folders = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(spill, "_MIN_ROWS", 60)
        patch.setattr(spill, "_PART_ROWS", 60)
        # Names of files and the secret of keys are drawn, so that a seed damages the same bytes in every run.
        draw = random.Random(1)  # noqa: S311
        patch.setattr(secrets, "token_hex", lambda size: draw.randbytes(size).hex())
        patch.setattr(secrets, "token_bytes", draw.randbytes)
        for text in (False, True):
            folder = tmp_path_factory.mktemp("made")
            folders[text] = damage.make(folder, text=text)
    answers = {}
    for text in (False, True):
        for name in ("form", "state"):
            target = tmp_path_factory.mktemp("asked")
            asked = damage.questions(damage.copy(folders[text], target, name))
            answers[text, name] = {question: quietly(ask) for question, ask in asked.items()}
    return folders, answers


def ask(question):
    """Return the answer, or the error; every other exception fails the test."""
    try:
        return quietly(question)
    except CohortlibError as error:
        return error


def cases():
    """Yield the seeds of damages."""
    return range(int(os.environ.get("COHORTLIB_FIRST_DAMAGE", "0")), DAMAGES)


@pytest.mark.parametrize("seed", cases())
def test_damage_is_refused(made, seed, tmp_path):
    """Without its digest, no damaged file is read; what needs it not is as before."""
    folders, answers = made
    draw = damage.draws(seed)
    text, name = seed % 2 == 1, draw.choice(("form", "state"))
    kind = damage.DAMAGES[seed % len(damage.DAMAGES)]
    folder = damage.copy(folders[text], tmp_path, name)
    before = {file.name: file.read_bytes() for file in damage.files_of(folder)}
    kind(draw, folder)
    changed = {file for file, data in before.items() if not same_bytes(folder / file, data)}
    if not changed:
        return
    try:
        found = cl.verify(folder)
    except SourceError:
        assert not (folder / damage.MANIFEST).exists()
    else:
        assert {each.file.name for each in found.damage} == changed, str(found)
    if (folder / damage.MANIFEST).exists():
        for question, asked in damage.questions(folder).items():
            answer = ask(asked)
            if not isinstance(answer, CohortlibError):
                assert_frame_equal(answer, answers[text, name][question])


def same_bytes(file, data):
    """Check whether a file is as before."""
    return file.exists() and file.read_bytes() == data


@pytest.mark.parametrize("facts_too", [False, True], ids=["digests", "digests and facts"])
@pytest.mark.parametrize("seed", cases())
def test_edits_with_digests_are_refused_or_mean_what_they_say(made, seed, facts_too, tmp_path):
    folders, _ = made
    draw = damage.draws(f"mended {seed}")
    text, name = seed % 2 == 1, draw.choice(("form", "state"))
    folder = damage.copy(folders[text], tmp_path, name)
    damage.DAMAGES[seed % len(damage.DAMAGES)](draw, folder)
    damage.mend(folder, facts_too=facts_too)
    try:
        found = cl.verify(folder)
    except SourceError:
        return
    asked = damage.questions(folder)
    tables = {name: ask(asked.pop(name)) for name in ("cohorts", "customers", "days")}
    # Tables without user ids know users by their keys alone, so an edited id is refused only where ids are read.
    same_ids = not any("column 'user'" in each.problem for each in found.damage)
    if same_ids and any(isinstance(answer, pl.DataFrame) for answer in tables.values()):
        # A column that these tables do not need cannot be read, or a day is one that rows cannot have.
        with suppress(pl.exceptions.PolarsError, DataError):
            rows, last_day = damage.rows_in(folder)
            means(tables, rows, last_day)
    for question in asked.values():
        ask(question)


def means(tables, rows, last_day):
    """Compare answers with those about the rows in the files."""
    edge = pl.DataFrame({"day": [last_day]}).select(pl.col("day").cast(pl.Int32).cast(pl.Date))["day"][0]
    expected = {
        "cohorts": lambda: quietly(cl.termina.cohorts, rows, end=edge),
        "customers": lambda: quietly(cl.termina.customer_cohorts, rows, end=edge).sort("user_id", "period"),
        "days": lambda: quietly(cl.termina.cohorts, rows, freq="D", start="2025-03-01", end="2025-06-30"),
    }
    for name, compute in expected.items():
        if isinstance(tables[name], pl.DataFrame):
            assert_frame_equal(tables[name], compute())


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("secret", [1], "has secret = .* Expected 34 words"),
        ("bits", 64, "has bits = 64. Expected an integer from 0 to 10"),
        ("rows", 10**6, "has rows = 1000000. Expected 285, the sum over all parts"),
        ("first_day", True, "has first_day = True"),
        ("final_day", 30_000, r"has first_day, final_day = .*, as in the parts"),
        ("timezone", "Mars", "has a setting that cannot be: .*Mars"),
        ("keep", ["user_id", "since"], "has keep = 'user_id'. Expected each name once"),
        ("library", None, "has library = None. Expected text"),
    ],
)
def test_a_manifest_that_cannot_be(made, field, value, message, tmp_path):
    folder = damage.copy(made[0][True], tmp_path, "form")
    edit_manifest(folder, {field: value})
    with pytest.raises(SourceError, match=message):
        cl.Prepared.open(folder)


def edit_manifest(folder, values):
    """Change values of a manifest, and give it its digest."""
    file = folder / damage.MANIFEST
    file.write_text(json.dumps(json.loads(file.read_text()) | values))
    damage.mend(folder, facts_too=False)


@pytest.mark.parametrize(
    ("kind", "column", "change", "message"),
    [
        ("users", "key", pl.col("key").reverse(), "has keys from"),
        ("users", "key", pl.col("key").cast(pl.Int64, strict=False), "column 'key' is Int64. Expected UInt64"),
        ("users", "rows", pl.lit(0, pl.UInt32), "column 'rows' has values from 0"),
        ("users", "user", pl.col("user").first(), "column 'user' does not have the users of column 'key'"),
        ("users", "user", pl.lit(None, pl.String), "column 'user' has .* nulls"),
        ("rows", "local_day", pl.col("local_day") + 1, "column 'local_day' has days from"),
        ("rows", "units", pl.col("units") * 2, "column 'units' has the absolute sum"),
        ("rows", "country", pl.col("country").cast(pl.Binary), "column 'country' is Binary. Expected String"),
        ("dropped", "local_day", pl.col("local_day") + 999, "column 'local_day' has days up to"),
    ],
)
def test_a_column_that_cannot_be(made, kind, column, change, message, tmp_path):
    """With new digests."""
    folder = damage.copy(made[0][True], tmp_path, "form")
    file = next(folder.glob(f"*.{kind}.parquet"))
    pl.read_parquet(file).with_columns(change.alias(column)).write_parquet(file)
    damage.mend(folder, facts_too=False)
    with pytest.raises(SourceError, match=rf"{file.name}' {message}"):
        quietly(cl.prepare, folder, tmp_path / "again", keep=["country", "since"])
    (found,) = cl.verify(folder).damage
    assert found.file == file
    assert "prepare the transactions again" in found.remedy


def test_sums_that_are_not_those_of_the_rows(made, tmp_path):
    folder = damage.copy(made[0][False], tmp_path, "state")
    file = next(folder.glob("sums-*.parquet"))
    metadata = {"cohortlib.sums": pl.read_parquet_metadata(file)["cohortlib.sums"]}
    pl.read_parquet(file).with_columns(pl.col("amount") // 2).write_parquet(file, metadata=metadata)
    damage.mend(folder, facts_too=False)
    (found,) = cl.verify(folder).damage
    assert found.file == file
    assert "can be rebuilt from the rows" in found.remedy


def test_a_standing_that_is_not_that_of_the_rows(made, tmp_path):
    folder = damage.copy(made[0][False], tmp_path, "state")
    file = next(folder.glob("*.users.parquet"))
    pl.read_parquet(file).with_columns(pl.col("last_net") + 1).write_parquet(file)
    damage.mend(folder, facts_too=False)
    (found,) = cl.verify(folder).damage
    assert "does not follow from their rows" in found.problem


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("size", None, "column 'size' has 1 nulls"),
        ("active", -1, "counts from 0"),
        ("active", 10**6, "at most as many active users as the cohort has"),
        ("age", -1, "cohorts and periods from"),
        ("cohort", -(2**62), "cohorts and periods from"),
        ("amount", 2**62, "column 'amount' has a larger absolute sum"),
        ("age", 5, "each cohort and age once"),
    ],
)
def test_saved_sums_that_cannot_be(made, column, value, message, tmp_path):
    file = shutil.copy(made[0][True] / "sums.parquet", tmp_path / "sums.parquet")
    metadata = {"cohortlib.sums": pl.read_parquet_metadata(file)["cohortlib.sums"]}
    table = pl.read_parquet(file)
    changed = pl.Series(column, [value, *table[column][1:]], dtype=pl.Int64)
    table.with_columns(changed).write_parquet(file, metadata=metadata)
    with pytest.raises(SourceError, match="does not have the digest that it says"):
        cl.termina.Sums.load(file)
    file.write_bytes(damage.reseal(file.read_bytes()))
    with pytest.raises(SourceError, match=message):
        cl.termina.Sums.load(file)
    assert not cl.verify(file).ok
