"""Draw `docs/demo.svg`, the picture in the README: `python docs/picture.py`."""

import re
from pathlib import Path

import polars as pl
from rich.console import Console
from rich.terminal_theme import MONOKAI

from cohortlib import termina
from cohortlib.demo import SAMPLE
from cohortlib.terminal import print_line, print_triangle

console = Console(record=True, width=100, force_terminal=True, color_system="truecolor", no_color=False)
table = termina.cohorts(pl.read_parquet(str(SAMPLE)))
print_triangle(console, table, "logo_retention")
print_line(console)
print_triangle(console, table, "ltv")
picture = console.export_svg(title="cohortlib demo", theme=MONOKAI)
# The font is named, not fetched: the page that shows the picture makes no request.
picture = re.sub(r"@font-face \{.*?\}\s*", "", picture, flags=re.DOTALL)
Path(__file__).with_name("demo.svg").write_text(picture, encoding="utf-8")
