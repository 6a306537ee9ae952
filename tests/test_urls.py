"""URLs of S3, read from a server on the loopback. Needs moto (extra ci)."""

import gzip
import io
import socket
import subprocess
import sys
import time

import polars as pl
import pytest

import cohortlib as cl
from cohortlib.errors import SourceError
from cohortlib.read.urls import without_secrets

pytestmark = pytest.mark.process

ROWS = pl.DataFrame(
    {"user_id": ["a", "b", "a"], "timestamp": ["2026-01-05", "2026-01-06", "2026-02-01"], "amount": [1, 2, 3]}
)
HEADER = b"user_id,timestamp,amount\n"


@pytest.fixture(scope="module")
def store():
    """Start a server with a bucket; return the options for it."""
    boto3 = pytest.importorskip("boto3")
    pytest.importorskip("moto.server")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)], stderr=subprocess.DEVNULL
    )
    try:
        for _ in range(300):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.1)
        url = f"http://127.0.0.1:{port}"
        keys = {"aws_access_key_id": "key", "aws_secret_access_key": "secret"}
        client = boto3.client("s3", endpoint_url=url, region_name="us-east-1", **keys)
        client.create_bucket(Bucket="shop")

        def put(key, data):
            client.put_object(Bucket="shop", Key=key, Body=data)

        for index in range(3):
            put(f"csv/{index}.csv", ROWS[index : index + 1].write_csv().encode())
            put(f"packed/{index}.csv.gz", gzip.compress(ROWS[index : index + 1].write_csv().encode()))
            parquet = io.BytesIO()
            ROWS[index : index + 1].with_columns(pl.col("timestamp").str.to_date()).write_parquet(parquet)
            put(f"lake/x={index}/0.parquet", parquet.getvalue())
            put(f"delta/x={index}/0.parquet", parquet.getvalue())
        put("delta/_delta_log/0.json", b"{}")
        put("csv/ragged/0.csv", HEADER + b"a,2026-01-05,1\nb,2026-01-05\n")
        yield {"aws_endpoint_url": url, "aws_region": "us-east-1", "aws_allow_http": "true", **keys}
        client.close()
    finally:
        server.kill()
        server.wait()


@pytest.mark.parametrize("road", [None, 1 << 27])
@pytest.mark.parametrize("name", ["csv/*.csv", "packed/*.csv.gz", "lake/**/*.parquet"])
def test_globs(store, name, road):
    expected = cl.termina.cohorts(ROWS.with_columns(pl.col("timestamp").str.to_date()))
    assert cl.termina.cohorts(f"s3://shop/{name}", storage_options=store, max_memory=road).equals(expected)


def test_lists_and_single_files(store):
    each = [f"s3://shop/csv/{index}.csv" for index in range(3)]
    expected = cl.termina.cohorts(ROWS.with_columns(pl.col("timestamp").str.to_date()))
    assert cl.termina.cohorts(each, storage_options=store).equals(expected)
    assert cl.termina.cohorts(each[0], storage_options=store)["amount"].to_list() == [1.0]


def test_refusals(store):
    with pytest.raises(SourceError, match=r"^s3://shop/csv/ragged/0\.csv, line 3 has 2 fields, the header 3"):
        cl.termina.cohorts("s3://shop/csv/ragged/*.csv", storage_options=store)
    for glob in ("s3://shop/delta/**/*.parquet", "s3://shop/delta/x=0/*.parquet"):
        with pytest.raises(SourceError, match="reads files of the Delta table 's3://shop/delta/'"):
            cl.termina.cohorts(glob, storage_options=store)
    for missing in ("s3://shop/none/*.csv", "s3://shop/none.csv"):
        with pytest.raises(SourceError, match=r"s3://shop/none"):
            cl.termina.cohorts(missing, storage_options=store)


def test_messages_have_no_secrets():
    assert without_secrets("https://me:word@host/a/b.csv?sig=secret") == "https://host/a/b.csv"
