"""Adapty's inputs are read as transactions are: the same files, the same text, the same errors."""

import gzip
import io
import json
import zipfile

import polars as pl
import pytest
from test_adapty_cases import CASES, DATES, in_python, in_python_once, numbers, recorded, told
from test_adapty_spilling import little_memory
from test_cli_adapty import run

import cohortlib as cl
from cohortlib.errors import CohortlibError, DataError, SourceError

pytestmark = pytest.mark.unit

NAMES = (
    "profile_id", "event_type", "event_datetime", "transaction_id", "original_transaction_id", "environment",
    "product_id", "revenue_usd", "proceeds_usd", "net_revenue_usd",
)  # fmt: skip
ONE = ("u1", "subscription_started", "2026-02-02T09:00:00Z", "t1", "t1", "Production", "pro", "10", "7", "6")
TWO = ("u2", "subscription_started", "2026-03-02", "t2", "t2", "Production", "pro", "5.5", "4", "3")
BOTH = ((15.5, 11.0, 9.0), [(15.5, 2)])


def csv(*rows, mark=","):
    return "".join(f"{mark.join(row)}\n" for row in (NAMES, *rows))


def ask(source, installs="from_events", room=None, **settings):
    with little_memory(1):
        answer = cl.adapty.cohort(source, {"filters": DATES}, installs=installs, max_memory=room, **settings)
    return numbers(answer.to_dict())


def fails(source, error=CohortlibError, **settings):
    """Return the error, which is the same in memory and in batches."""
    found = []
    for room in (None, 1):
        with pytest.raises(error) as caught:
            ask(source, room=room, **settings)
        found.append(str(caught.value))
    assert found[0] == found[1]
    return found[0]


def test_a_comma_in_a_field():
    path = CASES / "comma_in_a_field.csv"
    assert f"{path}, line 3 has 14 fields, the header 13" in fails(path, SourceError)


@pytest.mark.parametrize("room", [None, 1])
def test_text_files_of_any_shape(tmp_path, room):
    whole = csv(ONE, TWO)
    files = {
        "a.tsv": csv(ONE, TWO, mark="\t").encode(),
        "b.csv": csv(ONE, TWO, mark=";").encode("utf-16"),
        "c.csv": b"\xef\xbb\xbf" + whole.replace("\n", "\r\n").encode(),
        "d.csv.gz": gzip.compress(whole.encode()),
        "e.csv": csv(ONE, TWO, mark="|").encode(),
    }
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
        assert ask(tmp_path / name, room=room) == BOTH
    (tmp_path / "l.csv").write_bytes(csv(ONE, ("Zoë", *TWO[1:])).encode("latin-1"))
    assert "encoding='latin-1'" in fails(tmp_path / "l.csv", SourceError)
    assert ask(tmp_path / "l.csv", room=room, encoding="latin-1") == BOTH


@pytest.mark.parametrize("room", [None, 1])
def test_lists_folders_and_globs(tmp_path, room):
    folder = tmp_path / "lake" / "environment=Production"
    folder.mkdir(parents=True)
    texts = [",".join((*row[:5], *row[6:])) for row in (NAMES, ONE, TWO)]
    for at in (1, 2):
        (folder / f"{at}.csv").write_text(f"{texts[0]}\n{texts[at]}\n", "utf-8")
    (folder / "0.csv").write_text(texts[0] + "\n", "utf-8")
    assert ask(tmp_path / "lake", room=room) == BOTH
    assert ask(str(tmp_path / "**" / "*.csv"), room=room) == BOTH
    each = [str(tmp_path / "*" / folder.name / f"{at}.csv") for at in (1, 2)]
    assert ask(each, room=room) == ask(each[::-1], room=room) == BOTH


def zipped(path, files, **options):
    with zipfile.ZipFile(path, "w", **options) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return path


@pytest.mark.parametrize("room", [None, 1])
def test_archives(tmp_path, room):
    files = {"a/1.csv": csv(ONE), "a/2.CSV": csv(TWO), "__MACOSX/a/._1.csv": b"\0", ".DS_Store": b"\0"}
    deflated = zipped(tmp_path / "a.zip", files, compression=zipfile.ZIP_DEFLATED)
    assert ask(deflated, room=room) == ask(zipped(tmp_path / "b.ZIP", files), room=room) == BOTH
    line = json.dumps(dict(zip(NAMES, ONE, strict=True)))
    for name, text in {"a.jsonl": f"{line}\n", "a.json": f"[{line}]", "b.json": f"{line}\n"}.items():
        assert ask(zipped(tmp_path / "j.zip", {name: text}), room=room)[0] == (10.0, 7.0, 6.0)
    packed = zipped(tmp_path / "g.zip", {"a.csv.gz": gzip.compress(csv(ONE, TWO).encode())})
    assert ask(packed, room=room) == BOTH


def test_archives_that_cannot_be_read(tmp_path):
    path = zipped(tmp_path / "a.zip", {"a.csv": csv(ONE, (*TWO, "x"))})
    assert f"{path}/a.csv, line 3 has 11 fields" in fails(path, SourceError)
    data = bytearray(zipped(tmp_path / "e.zip", {"a.csv": csv(ONE)}).read_bytes())
    at = data.index(b"PK\x01\x02")
    data[at + 8] |= 1
    (tmp_path / "e.zip").write_bytes(data)
    assert "'a.csv' in" in (said := fails(tmp_path / "e.zip", SourceError))
    assert "is encrypted" in said
    path = zipped(tmp_path / "l.zip", {"a.csv": csv(ONE)}, compression=zipfile.ZIP_LZMA)
    assert "compressed with method 14" in fails(path, SourceError)
    assert "holds no files" in fails(zipped(tmp_path / "n.zip", {}), SourceError)
    assert "'README.md' is neither CSV" in fails(zipped(tmp_path / "r.zip", {"README.md": ""}), SourceError).replace(
        f"{tmp_path}/r.zip/", ""
    )
    (tmp_path / "t.zip").write_bytes(b"PK\x03\x04 no archive")
    assert "cannot be read" in fails(tmp_path / "t.zip", SourceError)
    data = bytearray(zipped(tmp_path / "c.zip", {"a.csv": csv(ONE)}).read_bytes())
    data[data.index(b"Production")] ^= 1
    (tmp_path / "c.zip").write_bytes(data)
    assert "Bad CRC-32" in fails(tmp_path / "c.zip", SourceError)


def test_an_archive_that_would_fill_the_memory(tmp_path):
    """A small archive of very many bytes is read block by block; a row that is too long is refused."""
    text = io.BytesIO()
    with zipfile.ZipFile(text, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("a.csv", "w") as file:
        file.write(b",".join(name.encode() for name in NAMES) + b"\n")
        for _ in range(80):
            file.write(b"0" * (1 << 20))
    (tmp_path / "a.zip").write_bytes(text.getvalue())
    with pytest.raises(SourceError, match="a row is longer than 64 MiB"):
        ask(tmp_path / "a.zip")


def test_text_by_the_settings(tmp_path):
    day = [*ONE[:2], "02.02.2026", *ONE[3:7], "1.010,00 €", "7,5", "6"]
    other = ["U1 ", "subscription_renewed", "05.03.2026", "t3", "t1", "Production", "pro", "10,00 €", "7,5", "6"]
    path = tmp_path / "a.csv"
    path.write_text(csv(day, other, mark=";"), "utf-8")
    (tmp_path / "i.csv").write_text("profile_id;install_date\n u1;01.02.2026\n", "utf-8")
    said = fails(path, DataError)
    assert f"{path}, line 2: event_datetime '02.02.2026' is not a date" in said
    assert "timestamp_format='%d.%m.%Y' (day first) reads 2 of these 2" in said
    assert "decimal=','" in fails(path, DataError, timestamp_format="%d.%m.%Y")
    settings = {"timestamp_format": "%d.%m.%Y", "decimal": ",", "normalize": "casefold"}
    expected = (1020.0, 15.0, 12.0), [(1010.0, 1), (10.0, 1)]
    for room in (None, 1):
        assert ask(path, tmp_path / "i.csv", room, **settings) == expected
    (tmp_path / "request.json").write_text(json.dumps({"filters": DATES}), "utf-8")
    options = ["--timestamp-format", "%d.%m.%Y", "--decimal", ",", "--normalize", "casefold"]
    args = [str(path), "--request", str(tmp_path / "request.json"), "--installs", str(tmp_path / "i.csv")]
    result = run(*args, *options)
    assert numbers(json.loads(result.stdout)) == expected
    result = run(*args)
    assert "--timestamp-format %d.%m.%Y" in result.stderr
    one, two = (
        cl.adapty.sums(pl.DataFrame([row], NAMES, orient="row"), {"filters": DATES}, installs="from_events",
                       timestamp_format=form)
        for row, form in (((*day[:7], *ONE[7:]), "%d.%m.%Y"), (ONE, None))
    )  # fmt: skip
    with pytest.raises(cl.errors.SettingError, match="rules"):
        one + two


def test_doubtful_ids_are_named_once(tmp_path):
    rows = [(user, *TWO[1:3], f"t{user}", f"t{user}", *TWO[5:]) for user in ("Ann", "ann", "null", " ")]
    (tmp_path / "a.csv").write_text(csv(*rows), "utf-8")
    for room in (None, 1):
        with recorded() as caught:
            ask(tmp_path / "a.csv", room=room, nulls="drop")
        said = told(caught)
        assert len([text for text in said if "'profile_id' has 2 users whose ids differ only in case" in text]) == 1
        assert len([text for text in said if "'null' 1" in text]) == 1
        assert len([text for text in said if "1 of 4 rows of the events dropped" in text]) == 1


def test_a_line_of_installs_is_blank_if_all_of_its_columns_are(tmp_path):
    (events := tmp_path / "events.csv").write_text(csv(ONE))
    (installs := tmp_path / "installs.csv").write_text("profile_id,install_date,country\nu1,2026-02-01,DE\n,,\n")
    assert ask(events, installs=installs) == ask(events)
    installs.write_text("profile_id,install_date,country\nu1,2026-02-01,DE\n,,FR\n")
    assert "1 in column 'user'" in fails(events, DataError, installs=installs)


def test_blank_lines_are_reported(tmp_path):
    (tmp_path / "a.csv").write_text(csv(NAMES, ONE).replace("u1", "\n\nu1") + "\n", "utf-8")
    (tmp_path / "b.csv").write_text("\n" + csv(TWO), "utf-8")
    sources = [str(tmp_path / "a.csv"), str(tmp_path / "b.csv")]
    for room in (None, 1):
        with little_memory(1):
            answer = cl.adapty.cohort(sources, {"filters": DATES}, installs="from_events", max_memory=room)
        assert numbers(answer.to_dict()) == BOTH
        assert answer.report | {"rows": 7, "blank_lines": 4, "header_lines": 1} == answer.report


def test_two_currencies(tmp_path):
    rows = [(*ONE[:7], "$10", *ONE[8:]), (*TWO[:7], "5 €", *TWO[8:])]
    (tmp_path / "a.csv").write_text(csv(*rows), "utf-8")
    with pytest.raises(DataError, match="in 2 currencies: 1 in '\\$', 1 in 'EUR'"):
        ask(tmp_path / "a.csv")


def test_a_place_survives_lines_that_are_left_out(tmp_path):
    bad = (*ONE[:2], "soon", *ONE[3:])
    path = tmp_path / "a.csv"
    path.write_text(csv(ONE, NAMES, [""] * 10, bad), "utf-8")
    assert f"{path}, line 5: event_datetime 'soon' is not a date (in 1 row that counts)" in fails(path, DataError)


def test_elements_of_an_array_are_cut_at_any_place(tmp_path, monkeypatch):
    objects = [dict(zip(NAMES, row, strict=True)) | {"note": 'a],["\\ {é'} for row in (ONE, TWO)]
    path = tmp_path / "a.json"
    for indent in (None, 2):
        path.write_text(json.dumps(objects, indent=indent, ensure_ascii=False), "utf-8")
        for size in (1, 7, 1 << 20):
            monkeypatch.setattr("cohortlib.read.bytes.BLOCK", size)
            assert ask(path) == BOTH
    for text, said in (
        ("[{}", "it ends where a comma or the end is expected"), ("[{},]", "is broken"), ("[{} {}]", "a comma or the"),
        ("[{}] x", "nothing expected after element 1"), ("[", "it ends where an element or the end is expected"),
    ):  # fmt: skip
        path.write_text(text, "utf-8")
        assert said in fails(path, SourceError)
    path.write_text("[]", "utf-8")
    assert ask(path) == ((0.0, 0.0, 0.0), [])


def test_cases_by_zip_are_those_of_the_file(tmp_path):
    name = "two_networks.jsonl"
    path = zipped(tmp_path / "a.zip", {name: (CASES / name).read_bytes()})
    filters = {"attribution_source": ["apple_search_ads"]}
    assert in_python(path, filters) == in_python(name, filters)
    assert in_python_once(path).report == in_python_once(name).report
