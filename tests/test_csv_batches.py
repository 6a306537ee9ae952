"""CSV is read in batches: they make one table, and what is wrong in any of them is found."""

import pytest

import cohortlib as cl
from cohortlib.errors import CohortlibError, CohortlibWarning, DataError, SourceError
from cohortlib.read import bytes as text_bytes
from cohortlib.read import ids as id_module
from cohortlib.read import sources
from cohortlib.transactions import load as load_module
from cohortlib.transactions import records as records_module

pytestmark = pytest.mark.unit


@pytest.fixture
def in_blocks(tmp_path, monkeypatch):
    """Return a function that writes rows as CSV, which is read in blocks of 64 bytes, a batch each."""
    monkeypatch.setattr(text_bytes, "BLOCK", 64)
    monkeypatch.setattr(id_module, "SAMPLE", 4)

    def write(*rows):
        path = tmp_path / "orders.csv"
        path.write_text("user_id,timestamp,amount\n" + "".join(f"{row}\n" for row in rows))
        return path

    return write


PLAIN = [f"u{number % 7},2026-0{1 + number % 3}-05,{number}.50" for number in range(40)]


@pytest.mark.parametrize("threads", [1, 2])
def test_batches_of_csv_make_one_table(in_blocks, threads):
    path = in_blocks(*PLAIN)
    stream = sources.stream(path, lambda names: names, max_bytes=1 << 30, expected=True)
    assert len(list(stream.batches())) > 5
    assert cl.termina.cohorts(path, threads=threads).equals(cl.termina.cohorts(stream.frame()))


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("u1,2026-01-05T00:00:00Z,1", "1 instant with an offset"),
        ("u1,2026-01-05,x", "line 42: amount 'x'"),
        ("u1,31/01/2026,5", "line 42: timestamp '31/01/2026'"),
    ],
)
def test_faults_of_a_late_batch_are_found(in_blocks, row, message):
    with pytest.raises(CohortlibError, match=message):
        cl.termina.cohorts(in_blocks(*PLAIN, row))


def test_currencies_of_two_batches_are_two(in_blocks):
    with pytest.raises(DataError, match="currencies"):
        cl.termina.cohorts(in_blocks("a,2026-01-05,$5", *PLAIN, "b,2026-01-05,€5"))


def test_doubts_of_batches_add(in_blocks):
    rows = ["a,2026-01-05,5", "A,2026-01-05,5", *PLAIN, "NULL,2026-01-05,5", *PLAIN, "null,2026-01-05,5"]
    with pytest.warns(CohortlibWarning) as caught:
        cl.termina.cohorts(in_blocks(*rows))
    messages = " ".join(str(each.message) for each in caught)
    assert "has 2 rows whose user is text" in messages
    assert "'a'" in messages or "'A'" in messages


def test_more_rows_than_expected(in_blocks, monkeypatch):
    rows = PLAIN * 40
    expected = cl.termina.cohorts(in_blocks(*rows))
    monkeypatch.setattr(sources, "_size", lambda path: 64)
    monkeypatch.setattr(load_module, "_BLOCK", 0)
    monkeypatch.setattr(records_module, "_ROOM", 0)
    with monkeypatch.context() as patch:
        patch.setattr(load_module, "_load_table", None)  # it would need memory for all rows
        assert cl.termina.cohorts(in_blocks(*rows)).equals(expected)


def test_progress_of_an_estimate_ends_with_the_rows(in_blocks):
    reports = []
    cl.termina.cohorts(in_blocks(*PLAIN), progress=lambda done, rows: reports.append((done, rows)))
    assert reports[-1] == (40, 40)
    assert [done for done, _ in reports] == sorted(done for done, _ in reports)


def test_small_files_make_one_batch(tmp_path):
    for number in range(9):
        (tmp_path / f"{number}.csv").write_text("user_id,timestamp,amount\n" + PLAIN[number] + "\n")
    stream = sources.stream(tmp_path, lambda names: names, expected=True)
    assert [batch.rows() for batch in stream.batches()] == [[tuple(row.split(",")) for row in PLAIN[:9]]]
    (tmp_path / "7.csv").write_text('user_id,timestamp,amount\nu1,2026-01-05,"5\n')
    with pytest.raises(SourceError, match=r"7\.csv, line 2 opens a quote"):
        cl.termina.cohorts(tmp_path)
