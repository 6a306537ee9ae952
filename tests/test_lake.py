"""Tables of Delta and Iceberg are read as tables: deleted rows stay deleted. Needs the extra lake."""

import json
import struct

import polars as pl
import pytest

import cohortlib as cl
from cohortlib.errors import SourceError
from cohortlib.read import sources

pytestmark = pytest.mark.unit

FRAME = pl.DataFrame({"user_id": range(100), "timestamp": [20_000] * 100, "amount": [1.0] * 100, "x": [[1]] * 100})
FRAME = FRAME.with_columns(pl.col("timestamp").cast(pl.Date))


def users(source):
    """Read the users on both roads."""
    both = [
        sources.stream(source, lambda _: ["user_id"], max_bytes=road).frame().to_series().sort().to_list()
        for road in (None, 0)
    ]
    assert both[0] == both[1]
    return both[0]


def customers(source):
    return cl.termina.cohorts(source)["cohort_size"].to_list()


@pytest.fixture
def delta(tmp_path):
    deltalake = pytest.importorskip("deltalake")
    path = tmp_path / "delta"
    for mode in ("error", "append"):
        deltalake.write_deltalake(str(path), FRAME.to_arrow(), mode=mode)
    deltalake.DeltaTable(str(path)).delete("user_id >= 50")
    return path


def test_delta(delta):
    import deltalake

    assert len(list(delta.glob("*.parquet"))) > 1
    for source in (delta, str(delta), deltalake.DeltaTable(str(delta))):
        assert users(source) == sorted([*range(50), *range(50)])
        assert customers(source) == [50]


def test_files_of_delta_are_refused(delta):
    for source in (
        f"{delta}/*.parquet",
        str(delta.parent),
        next(delta.glob("*.parquet")),
        f"{delta}/_delta_log/*.json",
    ):
        with pytest.raises(SourceError, match=r"reads files of the Delta table .*Hint: pass its folder"):
            customers(source)


def encoded(data):
    """Write bytes in base 85 as Z85 does."""
    digits = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.-:+=^!/*?&<>()[]{}@%$#"
    text = ""
    for start in range(0, len(data), 4):
        value = int.from_bytes(data[start : start + 4].ljust(4, b"\0"), "big")
        text += "".join(digits[value // 85**power % 85] for power in range(4, -1, -1))
    return text


def test_deletion_vectors_of_delta(tmp_path):
    """The log marks three rows of the file as deleted, in a bitmap of Roaring's format."""
    deltalake = pytest.importorskip("deltalake")
    path, deleted = tmp_path / "delta", [3, 97, 99]
    deltalake.write_deltalake(str(path), FRAME.to_arrow(), configuration={"delta.enableDeletionVectors": "true"})
    (log,) = (path / "_delta_log").glob("*.json")
    (added,) = (json.loads(line)["add"] for line in log.read_text().splitlines() if "add" in json.loads(line))
    values = struct.pack(f"<{len(deleted)}H", *deleted)
    bitmap = struct.pack("<IQIIIHHI", 1681511377, 1, 0, 12346, 1, 0, len(deleted) - 1, 16) + values
    vector = {
        "storageType": "i",
        "pathOrInlineDv": encoded(bitmap),
        "sizeInBytes": len(bitmap),
        "cardinality": len(deleted),
    }
    actions = [
        {"remove": {"path": added["path"], "deletionTimestamp": 1, "dataChange": True}},
        {"add": {**added, "deletionVector": vector}},
    ]
    (path / "_delta_log" / "00000000000000000001.json").write_text("\n".join(map(json.dumps, actions)))
    for source in (path, deltalake.DeltaTable(str(path))):
        assert users(source) == [user for user in range(100) if user not in deleted]


def test_iceberg(tmp_path):
    pytest.importorskip("pyiceberg")
    pytest.importorskip("sqlalchemy")
    from pyiceberg.catalog.sql import SqlCatalog

    catalog = SqlCatalog("test", uri=f"sqlite:///{tmp_path}/catalog.db", warehouse=f"file://{tmp_path}/warehouse")
    catalog.create_namespace("shop")
    rows = FRAME.drop("x").to_arrow()
    table = catalog.create_table("shop.orders", schema=rows.schema)
    for _ in range(2):
        table.append(rows)
    table.delete("user_id >= 50")
    folder = table.location().removeprefix("file://")
    for source in (table, folder):
        assert users(source) == sorted([*range(50), *range(50)])
        assert customers(source) == [50]
    with pytest.raises(SourceError, match=r"reads files of the Iceberg table .*Hint: pass its folder"):
        customers(f"{folder}/data/*.parquet")
    catalog.close()


def test_a_broken_table(tmp_path):
    (tmp_path / "_delta_log").mkdir()
    with pytest.raises(SourceError, match=r"^the Delta table .* (cannot be read: |needs the package)"):
        customers(tmp_path)
    (tmp_path / "x" / "metadata").mkdir(parents=True)
    for name in ("00001-a", "00001-b"):
        (tmp_path / "x" / "metadata" / f"{name}.metadata.json").write_text("{}")
    with pytest.raises(
        SourceError, match=r"^the Iceberg table .* (has 2 metadata files of its newest|needs the package)"
    ):
        customers(tmp_path / "x")
