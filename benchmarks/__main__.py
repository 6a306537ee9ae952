"""
Make docs/benchmarks.md: `python -m benchmarks page`, from the root of the repository, with nothing else running.

The page holds one run: `page` runs all cases and writes their results to benchmarks/results.json as it goes, then the
page. `render` writes the page from the results. `run CASE …` runs some cases and replaces their results. With `--quick`
all sizes are a tenth, and the results and the page are printed only.
"""

import argparse
import os
import sys
import tempfile
from pathlib import Path

from benchmarks import page, suite
from benchmarks.suite import Options

QUICK = {"scale": 0.1, "rounds": 2}


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("page", "render", "run"))
    parser.add_argument("cases", nargs="*", metavar="CASE", help=", ".join(case.name for case in suite.CASES))
    parser.add_argument("--quick", action="store_true", help="a tenth of the rows, two rounds; the page is printed")
    parser.add_argument("--folder", type=Path, help="keep the generated data here; by default in a temporary folder")
    parser.add_argument("--results", type=Path, help="by default benchmarks/results.json")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="the same for all contenders")
    arguments = parser.parse_intermixed_args()
    if unknown := set(arguments.cases) - {case.name for case in suite.CASES}:
        parser.error(f"no case is named {', '.join(sorted(unknown))}")
    with tempfile.TemporaryDirectory() as temporary:
        results = Path(temporary) / "results.json" if arguments.quick else page.RESULTS
        results = (arguments.results or results).absolute()
        folder = (arguments.folder or Path(temporary)).absolute()
        if arguments.what != "render":
            quick = QUICK if arguments.quick else {}
            suite.run(Options(folder, results, arguments.threads, **quick), arguments.cases)
        text = page.render(results)
    if arguments.quick or arguments.results:
        sys.stdout.write(text)
    else:
        page.PAGE.write_text(text)


if __name__ == "__main__":
    main()
