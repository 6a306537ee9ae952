"""The site builds without a warning, every link in it leads somewhere, and the reference has every public name."""

import re
import subprocess
import sys
from html.parser import HTMLParser
from importlib import import_module
from pathlib import Path
from types import ModuleType
from urllib.parse import unquote, urlsplit

import pytest

import cohortlib as cl

pytestmark = pytest.mark.docs

ROOT = Path(__file__).parents[1]
LOADED = {"link": "href", "script": "src", "img": "src", "object": "data", "iframe": "src", "source": "src"}
ANCHORED = re.compile(r"\]\((docs/[^)#]+)\.md#([^)]+)\)")


class Page(HTMLParser):
    """The anchors of a page, where its links lead, and what it loads."""

    def __init__(self, path):
        super().__init__()
        self.anchors, self.links, self.loaded = set(), set(), set()
        self.feed(path.read_text(encoding="utf-8"))
        self.close()

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        self.anchors |= {given[name] for name in ("id", "name") if given.get(name)}
        if tag == "a" and given.get("href"):
            self.links.add(given["href"])
        if given.get(LOADED.get(tag)):
            self.loaded.add(given[LOADED[tag]])


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    for name in ("sphinx", "myst_parser", "furo", "sphinx_click"):
        pytest.importorskip(name, reason=f"{name} is not installed (extra ci)")
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-n", "-q", "-d", folder / "trees"]
    told = subprocess.run(
        [*command, ROOT / "docs", folder / "html"], check=False, capture_output=True, text=True, timeout=300, cwd=ROOT
    )
    if told.returncode or told.stderr:
        pytest.fail(f"sphinx-build ended with {told.returncode}:\n{told.stderr}", pytrace=False)
    return {path.relative_to(folder / "html").as_posix(): Page(path) for path in folder.glob("html/**/*.html")} | {
        "": folder / "html"
    }


def pages(site):
    return {name: page for name, page in site.items() if name}


def test_every_page_is_built(site):
    assert {f"{path.stem}.html" for path in (ROOT / "docs").glob("*.md")} <= set(site)


def test_links_and_anchors_lead_somewhere(site):
    lost = []
    for name, page in pages(site).items():
        for link in page.links | page.loaded:
            target = urlsplit(link)
            if target.scheme or target.netloc:
                continue
            path = (site[""] / name).parent / unquote(target.path) if target.path else site[""] / name
            path = path.resolve()
            inside = path.relative_to(site[""].resolve()).as_posix()
            anchor = unquote(target.fragment)
            if not path.is_file() or (anchor and inside in site and anchor not in site[inside].anchors):
                lost.append(f"{name}: {link}")
    assert not lost


def test_nothing_is_loaded_from_elsewhere(site):
    loaded = {(name, link) for name, page in pages(site).items() for link in page.loaded}
    assert {(name, link) for name, link in loaded if urlsplit(link).netloc} == set()


def test_readme_names_anchors_that_are_there(site):
    for page, anchor in ANCHORED.findall((ROOT / "README.md").read_text(encoding="utf-8")):
        assert anchor in site[f"{Path(page).name}.html"].anchors, f"{page}.md#{anchor}"


def public():
    """Name everything that a user may import, each with the names under which the reference may hold it."""
    modules = [import_module("cohortlib.network.transport")]
    for name in cl.__all__:
        value = getattr(cl, name)
        if isinstance(value, ModuleType):
            modules.append(value)
        else:
            yield {f"cohortlib.{name}"}
    for module in modules:
        short = [name for name in cl.__all__ if getattr(cl, name) is module]
        for name in module.__all__:
            yield {f"{module.__name__}.{name}", *(f"cohortlib.{known}.{name}" for known in short)}


def test_reference_has_every_public_name(site):
    missing = [sorted(names) for names in public() if not names & site["api.html"].anchors]
    assert not missing, "add them to docs/api.md"


def test_reference_has_every_command(site):
    pytest.importorskip("click")
    from cohortlib.cli.main import cli

    def commands(group, path):
        for name, command in group.commands.items():
            yield f"{path}-{name}"
            if hasattr(command, "commands"):
                yield from commands(command, f"{path}-{name}")

    assert set(commands(cli, "cohortlib")) <= site["cli.html"].anchors
