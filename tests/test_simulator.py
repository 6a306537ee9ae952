"""A state and a prepared form beside a plain model: after any steps they are the model's, or an error says why."""

import shutil
import tempfile
import threading
import warnings
from datetime import date, timedelta
from pathlib import Path

import polars as pl
import pytest
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from simulator import Model, damage, frame, killed, write
from strategies import exactly, quietly

import cohortlib as cl
from cohortlib.engine import files
from cohortlib.errors import CohortlibError, CohortlibWarning, DataError
from cohortlib.transactions import state as states
from cohortlib.transactions.store import spill

pytestmark = pytest.mark.disk

USERS = ("a", "b", "customer number three", "d", "é")
BATCHES = (None, "one", "two", "three")
DAYS = st.integers(0, 400).map(lambda day: date(2025, 11, 20) + timedelta(day))
AMOUNTS = st.sampled_from((-3, 0, 1, 5, 8, None))
ROWS = st.lists(st.tuples(st.sampled_from(USERS), DAYS, AMOUNTS), max_size=6)
SEEDS = st.integers(0, 2**32)


@pytest.fixture(autouse=True, scope="module")
def small_parts():
    """Let parts be cut at a few rows, and let updates be compacted soon."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(spill, "_MIN_ROWS", 3)
        patch.setattr(spill, "_PART_ROWS", 3)
        patch.setattr(states, "_RUNS", 3)
        patch.setattr(states, "_SHARE", 1)
        yield


def cells(table):
    """Return the rows of a table of ours."""
    return [[exactly(cell) for cell in row] for row in table.rows()]


def judged(table, names):
    """Return the rows of a table of the twin."""
    return [[exactly(row[name]) for name in names] for row in table]


class Simulator(RuleBasedStateMachine):
    """A state, a prepared form of the same rows, and readers that opened either at some time."""

    def __init__(self):
        super().__init__()
        self.root = Path(tempfile.mkdtemp())
        self.folder, self.form = self.root / "state", self.root / "form"
        self.model, self.in_form, self.readers = Model(), None, []

    def teardown(self):
        shutil.rmtree(self.root)

    @initialize(rows=ROWS, batch=st.sampled_from(BATCHES))
    def build(self, rows, batch):
        quietly(cl.termina.State.build, frame(rows), self.folder, batch=batch, nulls="drop")
        self.model = Model().update(rows, batch, "error")

    # ---- questions

    def answer(self, source, **question):
        return quietly(cl.termina.cohorts, source, nulls="drop", **question)

    def is_model(self, table, model, **question):
        assert cells(table) == judged(model.cohorts(**question), table.columns)

    @invariant()
    def is_the_model(self):
        """Check the table, another question of the same folder, and what the state says of itself."""
        if not self.folder.exists():
            return
        state = cl.termina.State.open(self.folder)
        self.is_model(quietly(state.cohorts), self.model)
        self.is_model(self.answer(self.folder, freq="Q", refunds="signed"), self.model, freq="Q", refunds="signed")
        info = state.info()
        rows = self.model.all()
        assert (info.rows, info.dropped) == (
            sum(row[2] is not None for row in rows), sum(row[2] is None for row in rows)
        )  # fmt: skip
        named = info.batches.filter(pl.col("name").is_not_null())
        assert dict(named.select("name", "rows").rows()) == {
            name: sum(row[2] is not None for row in rows) for name, rows in self.model.rows.items() if name is not None
        }
        assert not [file for file in self.folder.parent.iterdir() if file not in (self.folder, self.form)]

    @rule()
    def verify(self):
        assert cl.verify(self.folder).ok

    # ---- one writer

    def step(self, step, *positional, **named):
        quietly(getattr(cl.termina.State.open(self.folder), step), *positional, **named)

    @rule(rows=ROWS, batch=st.sampled_from(BATCHES), again=st.sampled_from(("error", "skip", "replace")))
    def update(self, rows, batch, again):
        grown = self.model.update(rows, batch, again)
        if grown is None:
            with pytest.raises(DataError, match=f"batch '{batch}' was added before"):
                self.step("update", frame(rows), batch=batch, again=again)
        else:
            self.step("update", frame(rows), batch=batch, again=again)
            self.model = grown

    @precondition(lambda self: self.model.contents)
    @rule(data=st.data(), again=st.sampled_from(("error", "skip", "replace")))
    def repeat(self, data, again):
        """Send a batch again, its rows in another order; users that were removed do not come back by it."""
        name = data.draw(st.sampled_from(sorted(self.model.contents)))
        rows = data.draw(st.permutations(self.model.rows[name]))
        self.update(rows, name, again)

    @precondition(lambda self: self.in_form is not None)
    @rule(batch=st.sampled_from(BATCHES[1:]), again=st.sampled_from(("error", "skip", "replace")))
    def update_from_prepared(self, batch, again):
        grown = self.model.update(self.in_form.all(), batch, again)
        if grown is None:
            with pytest.raises(DataError, match=f"batch '{batch}' was added before"):
                self.step("update", cl.Prepared.open(self.form), batch=batch, again=again)
        else:
            self.step("update", cl.Prepared.open(self.form), batch=batch, again=again)
            self.model = grown

    @rule(users=st.lists(st.sampled_from(USERS), max_size=3))
    def remove(self, users):
        self.step("remove", pl.Series(users, dtype=pl.String))
        self.model = self.model.remove(users)
        for file in self.folder.glob("*users*.parquet"):
            text = file.read_bytes()
            assert not [user for user in users if len(user) > 8 and user.encode() in text]

    @rule(step=st.sampled_from(("compact", "rebuild")))
    def rewrite(self, step):
        self.step(step)

    @rule()
    def prepare(self):
        """Write the rows of the state to the prepared form, which may replace one, and ask it."""
        quietly(cl.prepare, frame(self.model.all()), self.form, nulls="drop")
        self.in_form = self.model
        self.is_model(self.answer(self.form), self.in_form)

    # ---- accidents

    @rule(rows=ROWS, step=st.sampled_from(("update", "compact", "rebuild", "remove")), moment=st.integers(1, 40))
    def kill(self, rows, step, moment):
        """Kill a writer: it did all of its work or nothing, and the next writer is not hindered."""
        users = [row[0] for row in rows]
        arguments = {"update": (frame(rows),), "remove": (pl.Series(users, dtype=pl.String),)}.get(step, ())
        after = {
            "update": lambda: self.model.update(rows, None, "error"),
            "remove": lambda: self.model.remove(users),
        }.get(step, lambda: self.model)()
        died = killed(moment, write, self.folder, step, *arguments)
        found = cells(self.answer(self.folder))
        table = self.answer(self.folder)
        names = table.columns
        assert found in [judged(each.cohorts(), names) for each in (self.model, after)]
        rows_now = cl.termina.State.open(self.folder).info().rows
        sizes = [sum(row[2] is not None for row in each.all()) for each in (self.model, after)]
        assert rows_now in sizes
        # Rows without a cohort change no cell, so the number of rows decides what was done.
        done = not died or (rows_now == sizes[1] and found == judged(after.cohorts(), names))
        dropped = cl.termina.State.open(self.folder).info().dropped
        done = done and dropped == sum(row[2] is None for row in after.all())
        self.model = after if done else self.model

    @rule(seed=SEEDS)
    def damage(self, seed):
        """Damage a copy: it is refused by name, or the damaged file is not read."""
        copy = self.root / "copy"
        try:
            shutil.copytree(self.folder, copy)
            name = damage(copy, seed)
            try:
                checked = cl.verify(copy)
                assert not checked.ok
                assert name in str(checked)
            except CohortlibError as error:
                assert name in str(error)  # noqa: PT017
            for question in (lambda: cl.termina.State.open(copy).cohorts(), lambda: self.answer(copy)):
                try:
                    table = quietly(question)
                except CohortlibError as error:
                    assert name in str(error)  # noqa: PT017
                else:
                    self.is_model(table, self.model)
        finally:
            shutil.rmtree(copy)

    # ---- several at a time

    @rule(rows=ROWS)
    def second_writer(self, rows):
        with (
            files.locked(self.folder),
            pytest.raises(CohortlibError, match="is being written by another process"),
        ):
            self.step("update", frame(rows))

    @rule(pair=st.tuples(ROWS, ROWS))
    def two_writers(self, pair):
        """Let two threads update at the same time: each counts, or is refused."""
        done = []

        def write(rows):
            try:
                cl.termina.State.open(self.folder).update(frame(rows))
            except CohortlibError as error:
                assert "is being written by another process" in str(error)  # noqa: PT017
            else:
                done.append(rows)

        threads = [threading.Thread(target=write, args=(rows,)) for rows in pair]
        with warnings.catch_warnings():  # filters are of all threads
            warnings.simplefilter("ignore", CohortlibWarning)
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        assert done
        for rows in done:
            self.model = self.model.update(rows, None, "error")

    @rule()
    def open(self):
        self.readers.append((cl.Prepared.open(self.folder), self.model))

    @precondition(lambda self: self.readers)
    @rule(data=st.data())
    def read(self, data):
        """Ask a reader that opened the state earlier: it sees the rows of then, those of now, or an error."""
        reader, model = data.draw(st.sampled_from(self.readers))
        try:
            found = cells(self.answer(reader, freq="W"))
        except CohortlibError:
            return
        names = self.answer(self.folder, freq="W").columns
        assert found in [judged(each.cohorts(freq="W"), names) for each in (model, self.model)]


TestSimulator = Simulator.TestCase
examples = settings.default.max_examples
TestSimulator.settings = settings(
    max_examples=50 if examples == 10 else examples,
    stateful_step_count=8,
    phases=[Phase.explicit, Phase.generate],
    print_blob=True,
)
