"""What a state and a prepared form should hold, as plain lists in memory, and a process that can be killed."""

import multiprocessing
import os
import random
import signal
import warnings
from dataclasses import dataclass, field, replace

import naive
import polars as pl

import cohortlib as cl

SCHEMA = {"user_id": pl.String, "timestamp": pl.Date, "amount": pl.Int64}


def frame(rows):
    """Return rows as a frame."""
    return pl.DataFrame(rows, schema=SCHEMA, orient="row")


def content(rows):
    """Return what makes two batches the same: their rows in any order; of those dropped, how many and the last day."""
    kept = sorted(row for row in rows if row[2] is not None)
    dropped = [row[1] for row in rows if row[2] is None]
    return kept, len(dropped), max(dropped, default=None)


@dataclass(frozen=True)
class Model:
    """The rows of each batch, and what its content was when it came; rows without a batch are under None."""

    rows: dict = field(default_factory=lambda: {None: ()})
    contents: dict = field(default_factory=dict)

    def all(self):
        """Return all rows."""
        return [row for rows in self.rows.values() for row in rows]

    def cohorts(self, freq="M", refunds="net"):
        """Return the cohort table of all rows, by the plain twin."""
        return naive.cohorts(self.all(), freq=freq, nulls="drop", refunds=refunds)

    def update(self, rows, batch, again):
        """Return the model with a batch, or None if it is refused."""
        rows = tuple(rows)
        if batch is None:
            return replace(self, rows={**self.rows, None: (*self.rows[None], *rows)})
        if batch in self.contents:
            same = self.contents[batch] == content(rows)
            if again == "error" or (again == "skip" and not same):
                return None
            if same:
                return self
        left = {name: kept for name, kept in self.rows.items() if name != batch}
        return Model({**left, batch: rows}, {**self.contents, batch: content(rows)})

    def remove(self, users):
        """Return the model without some users; rows without an amount set the last day, and are of nobody."""
        left = {
            name: tuple(row for row in rows if row[2] is None or row[0] not in users)
            for name, rows in self.rows.items()
        }
        return replace(self, rows=left)


# ---- a process that is killed


def write(folder, step, *arguments):
    """Take a step of a writer."""
    warnings.simplefilter("ignore")
    getattr(cl.termina.State.open(folder), step)(*arguments)


CALLS = ("replace", "rename", "unlink", "fsync", "open", "mkdir", "rmdir")


def _die_at(moment, function, *arguments, **options):
    """Call a function in this process, which kills itself at its n-th call to the file system."""
    left = [moment]

    def counted(call):
        def wrapper(*args, **kwargs):
            left[0] -= 1
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return call(*args, **kwargs)

        return wrapper

    for name in CALLS:
        setattr(os, name, counted(getattr(os, name)))
    function(*arguments, **options)


def killed(moment, function, *arguments, **options):
    """Call a function in another process that dies at its n-th call to the file system; return whether it died."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["polars", "cohortlib.transactions.state"])
    process = context.Process(target=_die_at, args=(moment, function, *arguments), kwargs=options)
    process.start()
    process.join(60)
    code = process.exitcode
    process.kill()
    if code not in (0, 1, -signal.SIGKILL):
        raise AssertionError(f"the writer ended with {code}")
    return code == -signal.SIGKILL


def damage(folder, seed):
    """Flip a bit of a file that the manifest lists, or delete it; return its name."""
    draw = random.Random(seed)  # noqa: S311
    listed = (folder / "cohortlib.json").read_text()
    files = [path for path in folder.iterdir() if path.name == "cohortlib.json" or path.name.split(".")[0] in listed]
    file = draw.choice(sorted(path for path in files if not path.name.startswith(".")))  # others are of killed writers
    data = bytearray(file.read_bytes())
    if draw.random() < 0.3 or not data:
        file.unlink()
    else:
        data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
        file.write_bytes(data)
    return file.name
