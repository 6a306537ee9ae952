"""Damage folders of the prepared form: flipped bits, lost and swapped files, edited columns and manifests."""

import json
import random
import re
import shutil
from datetime import date, timedelta

import polars as pl
from strategies import quietly

import cohortlib as cl
from cohortlib.engine.digests import BLANK, digest, sealed

MANIFEST = "cohortlib.json"
KINDS = ("users", "rows", "dropped")


def draws(seed):
    """Return a source of draws."""
    return random.Random(seed)  # noqa: S311


def make(folder, *, text):
    """Write a prepared form and a state of two runs, both of several parts; return the paths by name."""
    draw = draws(text)
    first = date(2025, 1, 1)
    rows = [
        (draw.randrange(40), first + timedelta(draw.randrange(500)), draw.randint(-30, 90), draw.choice(["DE", "FR"]))
        for _ in range(300)
    ]
    schema = {"user_id": pl.Int64, "timestamp": pl.Date, "amount": pl.Int64, "country": pl.String}
    frame = pl.DataFrame(rows, schema=schema, orient="row").with_columns(since=pl.lit(first))
    if text:
        frame = frame.with_columns(pl.format("customer number {}", "user_id").alias("user_id"))
    with_nulls = frame.with_columns(pl.when(pl.int_range(pl.len()) % 20 != 0).then("amount").alias("amount"))
    quietly(cl.prepare, with_nulls, folder / "form", keep=["country", "since"], nulls="drop")
    state = cl.termina.State.build(frame[:200, :3], folder / "state")
    state.update(frame[200:250, :3])
    state.sums().save(folder / "sums.parquet")
    return folder


def files_of(folder):
    """List the files of a folder."""
    return sorted(file for file in folder.iterdir() if file.name != ".lock")


def flip(draw, folder):
    """Flip some bits of a file."""
    file = draw.choice(files_of(folder))
    data = bytearray(file.read_bytes())
    for _ in range(draw.choice((1, 1, 8))):
        data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
    file.write_bytes(data)
    return file


def zero(draw, folder):
    """Overwrite a block with zeros, or with other bytes."""
    file = draw.choice(files_of(folder))
    data = bytearray(file.read_bytes())
    size = min(len(data), draw.choice((16, 512, 4096)))
    begin = draw.randrange(len(data) - size + 1)
    data[begin : begin + size] = draw.choice((bytes(size), draw.randbytes(size)))
    file.write_bytes(data)
    return file


def cut(draw, folder):
    """Truncate a file, lengthen it, or delete it."""
    file = draw.choice(files_of(folder))
    data = file.read_bytes()
    how = draw.randrange(3)
    if how == 2:
        file.unlink()
    else:
        file.write_bytes(data[: draw.randrange(len(data))] if how else data + data[-40:])
    return file


def swap(draw, folder):
    """Swap two files of one kind, or copy one over the other."""
    kind = draw.choice(("users", "rows"))
    found = sorted(folder.glob(f"*.{kind}.parquet"))
    if len(found) < 2:
        return flip(draw, folder)
    one, other = draw.sample(found, 2)
    content = one.read_bytes()
    if draw.randrange(2):
        one.write_bytes(other.read_bytes())
    other.write_bytes(content)
    return other


def edit(draw, folder):
    """Change a column of a file."""
    file = draw.choice([file for file in files_of(folder) if file.suffix == ".parquet"])
    frame = pl.read_parquet(file)
    metadata = {key: value for key, value in pl.read_parquet_metadata(file).items() if key.startswith("cohortlib")}
    column = draw.choice(frame.columns)
    values = frame[column]
    at = draw.randrange(len(values)) if len(values) else 0
    others = values.to_list()
    how = draw.randrange(9)
    if how < 4 and others:
        big = 2**63 - 1 if values.dtype == pl.Int64 else 2**31 - 1
        number = draw.choice((0, 1, -1, big, -big, others[draw.randrange(len(others))]))
        value = number if values.dtype.is_integer() else draw.choice(others)
        others[at] = draw.choice((value, value, None)) if how else value
        unsigned = values.dtype.is_unsigned_integer() and isinstance(others[at], int) and others[at] < 0
        others[at] = -others[at] if unsigned else others[at]
        frame = frame.with_columns(pl.Series(column, others, dtype=values.dtype, strict=False))
    elif how == 4:
        frame = frame.with_columns(values.reverse())
    elif how == 5:
        frame = frame.drop(column)
    elif how == 6:
        frame = frame.with_columns(values.cast(pl.Binary if values.dtype == pl.String else pl.String, strict=False))
    elif how == 7:
        frame = pl.concat([frame, frame.sample(1, seed=at)]) if len(values) else frame
    else:
        frame = frame.head(at)
    frame.write_parquet(file, compression="uncompressed", metadata=metadata or None)
    return file


def edit_manifest(draw, folder):
    """Change one value of the manifest."""
    file = folder / MANIFEST
    facts = json.loads(file.read_text())
    node = facts
    while True:
        key = draw.choice(list(node) if isinstance(node, dict) else range(len(node)))
        if not isinstance(node[key], dict | list) or not node[key] or draw.randrange(6) == 0:
            break
        node = node[key]
    values = (None, -1, 0, 1, 7, 2**31, 2**63, 2**64, -(2**40), 1.5, "", "x", "../x", [], {}, True, [1], "D", "UTC")
    old = node[key]
    near = [old + 1, old - 1, old * 2] if type(old) is int else [values[draw.randrange(len(values))]]
    if isinstance(node, dict) and draw.randrange(8) == 0:
        del node[key]
    else:
        node[key] = draw.choice([*values, *near, *near, *near])
    file.write_text(json.dumps(facts, indent=1))
    return file


def edit_sums(draw, folder):
    """Change one value of the sums of a state."""
    found = list(folder.glob("sums-*.parquet"))
    if not found:
        return edit(draw, folder)
    table = pl.read_parquet(found[0])
    metadata = {"cohortlib.sums": pl.read_parquet_metadata(found[0])["cohortlib.sums"]}
    column, at = draw.choice(table.columns), draw.randrange(table.height)
    values = table[column].to_list()
    values[at] = draw.choice((None, -1, 10**6, 2**62, values[at] + 1, values[0]))
    table.with_columns(pl.Series(column, values, dtype=pl.Int64)).write_parquet(found[0], metadata=metadata)
    return found[0]


DAMAGES = (flip, zero, cut, swap, edit, edit_manifest, edit_sums)


def mend(folder, *, facts_too):
    """Give edited files their digests, and if `facts_too` let the manifest say what they hold, as far as possible."""
    file = folder / MANIFEST
    try:
        facts = json.loads(file.read_bytes())
        for part in [part for run in facts["runs"] for part in run]:
            for kind in ("users", "rows"):
                data = (folder / f"{part['name']}.{kind}.parquet").read_bytes()
                part[f"{kind}_digest"] = digest(data)
                if facts_too:
                    _mend_part(part, kind, pl.read_parquet(data))
        for dropped in facts["dropped_files"]:
            dropped["rows_digest"] = digest((folder / f"{dropped['name']}.dropped.parquet").read_bytes())
        if facts["state"]:
            sums = folder / facts["state"]["sums"]
            sums.write_bytes(reseal(sums.read_bytes()))
            facts["state"]["sums_digest"] = digest(sums.read_bytes())
        if facts_too:
            parts = [part for run in facts["runs"] for part in run]
            facts["rows"] = sum(part["rows"] for part in parts)
            facts["magnitude"] = sum(part["magnitude"] for part in parts)
            facts["first_day"] = min(part["first_day"] for part in parts)
            facts["final_day"] = max(part["final_day"] for part in parts)
    except Exception:  # it is damaged too much
        return
    facts["digest"] = BLANK
    file.write_bytes(sealed(json.dumps(facts, indent=1).encode()))


def _mend_part(part, kind, frame):
    part[kind] = frame.height
    if kind == "users":
        part["low"], part["high"] = frame["key"].min(), frame["key"].max()
    else:
        part["first_day"], part["final_day"] = frame["local_day"].min(), frame["local_day"].max()
        part["magnitude"] = sum(map(abs, frame["units"].to_list()))


def reseal(data):
    """Give a file that holds its own digest a new one."""
    pattern = rb'"digest": "[0-9a-f]{32}"'
    return sealed(re.sub(pattern, b'"digest": "%s"' % BLANK.encode(), data))


def copy(made, target, name):
    """Copy a folder."""
    shutil.copytree(made / name, target / name, ignore=shutil.ignore_patterns(".lock"))
    return target / name


def questions(folder):
    """Return what can be asked of a folder, by name."""
    late = pl.DataFrame({"user_id": [3], "timestamp": [date(2024, 1, 1)], "amount": [5]})
    asked = {
        "cohorts": lambda: cl.termina.cohorts(folder),
        "customers": lambda: cl.termina.customer_cohorts(folder).sort("user_id", "period"),
        "frame": lambda: cl.Prepared.open(folder).frame().sort(pl.all()),
        "days": lambda: cl.termina.cohorts(folder, freq="D", start="2025-03-01", end="2025-06-30"),
    }
    if folder.name == "form":
        german = pl.col("country") == "DE"
        return asked | {
            "joined": lambda: cl.termina.cohorts(folder, joined="since"),
            "filter": lambda: cl.termina.cohorts(cl.Prepared.open(folder).filter(german)),
            "again": lambda: cl.termina.cohorts(cl.prepare(folder, folder.with_name("fresh"), keep=["country"])),
        }

    def update():
        state = cl.termina.State.open(fresh(folder))
        rows = late.with_columns(pl.col("user_id").cast(state_ids(folder)))
        state.update(rows)
        return state.cohorts()

    def compact():
        state = cl.termina.State.open(fresh(folder))
        state.compact()
        return cl.termina.cohorts(state.folder)

    return asked | {"state": lambda: cl.termina.State.open(folder).cohorts(), "update": update, "compact": compact}


def fresh(folder):
    """Copy a folder, to change the copy."""
    target = folder.with_name("fresh")
    shutil.rmtree(target, ignore_errors=True)
    return shutil.copytree(folder, target)


def state_ids(folder):
    """Return the type of the user ids of a folder."""
    return getattr(pl, json.loads((folder / MANIFEST).read_bytes())["kind"])


def rows_in(folder):
    """Read the rows of a folder as a frame, without the library: what its files mean."""
    facts = json.loads((folder / MANIFEST).read_bytes())
    pieces = []
    for part in [part for run in facts["runs"] for part in run]:
        users, rows = (pl.read_parquet(folder / f"{part['name']}.{kind}.parquet") for kind in ("users", "rows"))
        owners = users["user"].repeat_by(users["rows"]).explode(empty_as_null=False)
        pieces.append(rows.select(owners.alias("user_id"), timestamp=pl.col("local_day").cast(pl.Date), amount="units"))
    frame = pl.concat(pieces)
    days = [facts[name] for name in ("final_day", "last_dropped") if facts[name] is not None]
    return frame.with_columns(pl.col("amount").cast(pl.Decimal(38, 0)) / 10**6), max(days)
