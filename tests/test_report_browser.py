"""The pages in a real browser: they render, nothing goes wrong or over a network, sorting, saving and the dark work.

Needs Debian's packages ``chromium`` and ``chromium-driver``, and selenium.
"""

import json
import shutil
import time
from datetime import date, timedelta

import polars as pl
import pytest

import cohortlib as cl
from cohortlib.show.report import sheets

webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed (extra ci)")
DRIVER, BROWSER = shutil.which("chromedriver"), shutil.which("chromium")
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(
        not (DRIVER and BROWSER), reason="no chromedriver, or no chromium: apt-get install chromium chromium-driver"
    ),
]
PATIENCE = 60  # seconds
HOSTILE = "</script><script>document.title = 'harm'</script><img src=x onerror=\"document.title = 'harm'\">"


@pytest.fixture(scope="module")
def browser():
    from selenium.webdriver.chrome.options import Options
    from selenium.webdriver.chrome.service import Service

    options = Options()
    options.binary_location = BROWSER
    for argument in ("headless=new", "no-sandbox", "disable-gpu", "disable-dev-shm-usage", "window-size=1200,1000"):
        options.add_argument(f"--{argument}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(DRIVER))
    yield driver
    driver.quit()


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    days = [(1, 5), (2, 10), (1, 20), (3, 1), (2, 20), (3, 15), (3, 9)]
    rows = pl.DataFrame(
        {
            "user_id": ["a", "a", "b", "b", "c", "c", "d"],
            "timestamp": [date(2026, month, day) for month, day in days],
            "amount": [100.25, 80.0, 50.0, 1070.0 / 3, 30.0, -60.0, 20.5],
        }
    )
    file = tmp_path_factory.mktemp("small") / "report.html"
    cl.report(rows, file, refunds="signed")
    return file, cl.termina.cohorts(rows, refunds="signed")


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """200 weekly cohorts; the rows end within the last one."""
    ages = {user: [0, *((user * step) % 97 for step in (3, 7, 31))] for user in range(400)}
    rows = [
        (user, date(2022, 1, 3) + timedelta(weeks=user % 200 + age), 1.0 + user % 7)
        for user, active in ages.items() for age in active if user % 200 + age < 200
    ]  # fmt: skip
    frame = pl.DataFrame(rows, schema=["user_id", "timestamp", "amount"], orient="row")
    file = tmp_path_factory.mktemp("large") / "report.html"
    cl.report(frame, file, freq="W")
    return file, cl.termina.cohorts(frame, freq="W")


def opened(browser, file, scheme="light"):
    """Open a page and discard earlier logs."""
    wanted = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", wanted)
    browser.get("about:blank")
    for kind in ("browser", "performance"):
        browser.get_log(kind)
    browser.get(file.as_uri())
    return browser


def requests(browser):
    """Return the URLs requested since the page was opened."""
    events = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    return [event["params"]["request"]["url"] for event in events if event["method"] == "Network.requestWillBeSent"]


def quiet(browser, file):
    """Check that nothing was logged, and only the page itself was requested."""
    assert browser.get_log("browser") == []
    assert {url for url in requests(browser) if not url.startswith(("data:", "blob:"))} == {file.as_uri()}


def run(browser, code, *given):
    return browser.execute_script(code, *given)


def column(browser, table, at):
    """Return the texts of a column."""
    cells = """
const rows = [...document.getElementById(arguments[0]).tBodies[0].rows];
return rows.map(row => (row.cells[arguments[1]] || {}).textContent || "");
"""
    return run(browser, cells, table, at)


def head(browser, table, at):
    return browser.find_elements("css selector", f"#{table} thead button")[at]


def saved(browser, folder, button):
    """Press a button that saves a file, and return the file."""
    browser.execute_cdp_cmd("Browser.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(folder)})
    browser.find_element("id", button).click()
    end = time.monotonic() + PATIENCE
    while not (files := [file for file in folder.iterdir() if file.suffix == ".csv"]):
        assert time.monotonic() < end, list(folder.iterdir())
        time.sleep(0.05)
    return files[0]


def test_the_network_is_watched(browser, tmp_path):
    """Otherwise the tests below would prove nothing."""
    page = tmp_path / "page.html"
    page.write_text("<!doctype html><title>x</title><img src='http://127.0.0.1:9/x.png'>", encoding="utf-8")
    opened(browser, page)
    assert "http://127.0.0.1:9/x.png" in requests(browser)
    assert browser.get_log("browser") != []


@pytest.mark.parametrize(("size", "cohorts"), [("small", 3), ("large", 200)])
def test_renders(browser, request, size, cohorts):
    file, table = request.getfixturevalue(size)
    opened(browser, file)
    assert browser.title == "Cohort report"
    assert len(column(browser, "triangle", 0)) == cohorts == table["cohort"].n_unique()
    look = """
return [...document.querySelectorAll(".picture svg, .picture img")].map(picture => {
  const place = picture.getBoundingClientRect();
  return [place.width, place.height, picture.tagName === "svg" || picture.naturalWidth > 0];
});
"""
    sizes = run(browser, look)
    assert len(sizes) == 6
    assert all(width > 100 and height > 50 and visible for width, height, visible in sizes)
    wide = run(browser, "return [document.documentElement.scrollWidth, document.documentElement.clientWidth]")
    assert wide[0] <= wide[1]  # what is wide scrolls by itself
    kinds = run(
        browser, "return [...document.querySelectorAll('.picture')].map(p => p.querySelector('svg') ? 'svg' : 'png')"
    )
    assert kinds == (["svg"] * 6 if size == "small" else ["png", "png", "svg", "svg", "svg", "png"])
    quiet(browser, file)


def test_the_script_writes_the_same_text(browser, small):
    opened(browser, small[0])
    for table in ("triangle", "cohorts"):
        before = run(browser, "return document.getElementById(arguments[0]).tBodies[0].innerText", table)
        classes = "return [...document.querySelectorAll('#' + arguments[0] + ' tbody td')].map(c => c.className)"
        shades = run(browser, classes, table)
        head(browser, table, 0).click()  # by cohort, as it was
        assert run(browser, "return document.getElementById(arguments[0]).tBodies[0].innerText", table) == before
        assert run(browser, classes, table) == shades
    quiet(browser, small[0])


@pytest.mark.parametrize("size", ["small", "large"])
def test_sorting_by_click(browser, request, size):
    file, table = request.getfixturevalue(size)
    opened(browser, file)
    at = table.columns.index("ltv")
    ltv = [sheets.formatted(value, "money") for value in table["ltv"].sort()]
    count = min(len(ltv), sheets.FIRST_ROWS)
    head(browser, "cohorts", at).click()
    assert column(browser, "cohorts", at) == ltv[:count]
    states = "return [...document.querySelectorAll('#cohorts thead th')].map(h => h.getAttribute('aria-sort'))"
    assert run(browser, states) == [None] * at + ["ascending"]
    head(browser, "cohorts", at).click()
    assert column(browser, "cohorts", at) == ltv[::-1][:count]
    assert run(browser, states) == [None] * at + ["descending"]
    assert "Sorted by ltv, descending." in browser.find_element("id", "cohorts-status").text
    head(browser, "cohorts", 0).click()
    assert run(browser, states) == ["ascending"] + [None] * at
    assert column(browser, "cohorts", 0) == table["cohort"].to_list()[:count]
    more = browser.find_element("id", "cohorts-more")
    assert more.is_displayed() == (size == "large")
    if size == "large":
        more.click()
        assert len(column(browser, "cohorts", 0)) == count + 1000
    quiet(browser, file)


def test_sorting_a_triangle_puts_blanks_last(browser, small):
    file, table = small
    opened(browser, file)
    choice = browser.find_element("id", "field")
    choice.find_element("css selector", "option[value=ltv]").click()
    assert browser.find_element("id", "triangle-title").text == "Triangle: Lifetime value"
    wide = cl.triangle(table, "ltv")
    for descending in (False, True):
        head(browser, "triangle", 3).click()  # cohort, size, age 0, age 1
        ordered = wide.sort("1", descending=descending, nulls_last=True, maintain_order=True)
        assert column(browser, "triangle", 0) == ordered["cohort"].to_list()
        assert column(browser, "triangle", 3) == [sheets.formatted(cell, "money") for cell in ordered["1"]]
    assert head(browser, "triangle", 3).get_attribute("aria-label") == "sort by age 1"


def test_by_keyboard(browser, small):
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.keys import Keys

    file, table = small
    opened(browser, file)

    def press(*keys):
        ActionChains(browser).send_keys(*keys).perform()
        return run(browser, "return document.activeElement")

    skip = press(Keys.TAB)
    assert skip.get_attribute("class") == "skip"
    assert skip.rect["x"] >= 0
    assert press(Keys.ENTER).get_attribute("id") == "main"
    opened(browser, file)
    seen = []
    while (now := press(Keys.TAB)).tag_name != "body" and len(seen) < 60:
        seen.append(now)
        style = run(browser, "const s = getComputedStyle(arguments[0]); return [s.outlineStyle, s.outlineWidth]", now)
        assert style == ["solid", "3px"], now.get_attribute("outerHTML")[:80]
    assert [one.text for one in seen if one.tag_name == "button" and "CSV" in one.text] == [
        "Download this triangle (CSV)", "Download the cohort table (CSV)",
    ]  # fmt: skip
    by_size = [one for one in seen if one.tag_name == "button" and one.text.startswith("active_users")]
    run(browser, "arguments[0].focus()", by_size[0])
    assert press(Keys.ENTER) == by_size[0]  # it stays where the reader is
    assert column(browser, "cohorts", 4) == [str(count) for count in table["active_users"].sort()]
    press(Keys.SPACE)
    assert column(browser, "cohorts", 4) == [str(count) for count in table["active_users"].sort(descending=True)]
    quiet(browser, file)


@pytest.mark.parametrize("size", ["small", "large"])
def test_saving(browser, request, tmp_path, size):
    file, table = request.getfixturevalue(size)
    opened(browser, file)
    head(browser, "cohorts", 2).click()  # the file is the table, however it is shown
    (tmp_path / "one").mkdir()
    file_saved = saved(browser, tmp_path / "one", "save-cohorts")
    assert file_saved.name == "cohorts.csv"
    assert file_saved.read_bytes() == table.write_csv().encode()
    browser.find_element("css selector", "#field option[value=amount_retention]").click()
    (tmp_path / "two").mkdir()
    file_saved = saved(browser, tmp_path / "two", "save-triangle")
    assert file_saved.name == "triangle_amount_retention.csv"
    assert file_saved.read_bytes() == cl.triangle(table, "amount_retention").write_csv().encode()
    quiet(browser, file)


@pytest.mark.parametrize("size", ["small", "large"])
def test_light_and_dark(browser, request, size):
    file, _ = request.getfixturevalue(size)
    looks = """
const style = (query, name) => {
  const element = document.querySelector(query);
  return element && getComputedStyle(element)[name];
};
return [style("body", "backgroundColor"), style("body", "color"), style(".picture .role-axis-label text", "fill"),
  style(".picture .role-axis-grid line", "stroke"), style("#triangle .v6", "backgroundColor"),
  (document.querySelector(".picture img") || {}).currentSrc];
"""
    light, dark = (run(opened(browser, file, scheme), looks) for scheme in ("light", "dark"))
    assert light[0] == "rgb(255, 255, 255)"
    assert dark[0] == "rgb(22, 24, 29)"
    assert all(one != other for one, other in zip(light, dark, strict=True) if one)
    assert (light[5] is None) == (size == "small")
    quiet(browser, file)


def test_hostile_names_do_no_harm(browser, tmp_path):
    rows = pl.DataFrame({HOSTILE: [HOSTILE, "b", None], "timestamp": [date(2026, 1, 5)] * 3, "amount": [1.0, 2.0, 3.0]})
    source, file = tmp_path / "<img src=x onerror=alert(1)>.parquet", tmp_path / "report.html"
    rows.write_parquet(source)
    with pytest.warns(cl.errors.CohortlibWarning):
        cl.report(source, file, user=HOSTILE, title=HOSTILE, nulls="drop")
    opened(browser, file)
    assert browser.title == HOSTILE
    assert browser.find_element("tag name", "h1").text == HOSTILE
    assert HOSTILE.replace("'", "\\'") in browser.find_element("css selector", ".warnings li").text
    assert len(browser.find_elements("tag name", "script")) == 3
    quiet(browser, file)


def test_no_other_script_runs(browser, small, tmp_path):
    """The page's policy stops any script that is injected after all."""
    text = small[0].read_text(encoding="utf-8")
    file = tmp_path / "report.html"
    file.write_text(text.replace("<main", f"{HOSTILE}<main"), encoding="utf-8")
    opened(browser, file)
    assert browser.title == "Cohort report"
    assert any("Content Security Policy" in entry["message"] for entry in browser.get_log("browser"))


@pytest.mark.parametrize("kind", ["reconcile", "explain"])
def test_pages_of_comparisons(browser, tmp_path, kind):
    days = [date(2026, 1, 5), date(2026, 2, 1), date(2026, 2, 9)]
    rows = pl.DataFrame({"user_id": ["a", "a", "b"], "timestamp": days, "amount": [10.0, -3.0, 5.0]})
    table = cl.termina.cohorts(rows, refunds="signed")
    file = tmp_path / "page.html"
    if kind == "reconcile":
        cl.reconcile(cl.termina.cohorts(rows), table).save_html(file)
    else:
        cl.explain(rows, table).save_html(file)
    light, dark = (
        run(opened(browser, file, scheme), "return getComputedStyle(document.body).backgroundColor")
        for scheme in ("light", "dark")
    )
    assert light != dark
    assert browser.find_element("tag name", "h1").text in ("Reconciliation", "Why the tables differ")
    assert browser.find_element("css selector", "details[open] table").is_displayed()
    quiet(browser, file)
