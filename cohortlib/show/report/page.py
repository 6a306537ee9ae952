"""Render the page of a report."""

import base64
import hashlib
import json
from importlib.resources import files

from cohortlib import __version__
from cohortlib.errors import CohortlibError
from cohortlib.fields import CUMULATIVE
from cohortlib.show.page.rendering import render
from cohortlib.show.report import sheets
from cohortlib.show.report.findings import Findings
from cohortlib.show.report.pictures import pictures


def page(findings: Findings, title: str) -> str:
    """Render the page."""
    table, unfinished = findings.table, findings.unfinished
    # Byte for byte: the page's policy allows this script by its digest.
    script = (files("cohortlib.show.report") / "report.js").read_text(encoding="utf-8")
    about = {
        "kinds": sheets.KINDS,
        "cumulative": [name for name in table.columns if name in CUMULATIVE],
        "unfinished": unfinished,
        "first": sheets.FIRST_ROWS,
        "steps": sheets.STEPS,
    }
    return render(
        "cohortlib.show.report",
        "report.html.j2",
        title=title,
        findings=findings,
        version=__version__,
        pictures=list(pictures(findings)) if table.height else [],
        fields=sheets.TRIANGLES,
        kinds=sheets.KINDS,
        ages=range(findings.cells.ages if table.height else 0),
        triangle=sheets.triangle(table, sheets.FIRST_TRIANGLE, unfinished),
        lines=sheets.lines(table),
        columns=table.columns,
        csv=_plain(sheets.csv(table)),
        about=_plain(json.dumps(about, separators=(",", ":"))),
        script=script,
        digest=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    )


def _plain(text: str) -> str:
    """Check that nothing can close the script element that holds the text; in there text cannot be escaped."""
    if "<" in text:
        raise CohortlibError("the data of a script contain '<'", expected="labels and numbers only")
    return text
