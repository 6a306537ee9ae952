"""
Print the side-by-side table: `python -m benchmarks --rows 1e6 1e7 --ids int uuid --threads 2 --repeat 5`.

Run it from the root of the repository, with nothing else running. Adapty's cohort table has a table of its own:
`python -m benchmarks.adapty`.
"""

import argparse
import os

from benchmarks.measure import cells, conditions, count, line, measure


def main() -> None:
    options = _options()
    # polars reads it once, on import, so everything that imports polars waits until here.
    os.environ["POLARS_MAX_THREADS"] = str(options.threads)

    from benchmarks.contenders import COHORTS, compare
    from benchmarks.data import transactions

    print(line("rows", "ids", *COHORTS, "ours is faster by"))
    print(line(*["---:", "---", *["---:"] * len(COHORTS), "---:"]))
    for rows in options.rows:
        for ids in options.ids:
            frame = transactions(rows, ids, shuffled=options.shuffled)
            seconds = measure(frame, COHORTS, compare, options.threads, options.repeat)
            print(line(f"{rows:,}", ids, *cells(seconds)), flush=True)
    print()
    order = "in random order" if options.shuffled else "in order of time"
    print(conditions(options, order, ("polars", "duckdb", "pandas")))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--rows", nargs="+", type=count, default=[1_000_000], help="like 1e6 1e7")
    parser.add_argument("--ids", nargs="+", default=["int", "uuid"], choices=["int", "sparse", "uuid"])
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="the same for all; pandas has one")
    parser.add_argument("--repeat", type=int, default=5, help="rounds")
    parser.add_argument("--shuffled", action="store_true", help="rows in random order instead of order of time")
    return parser.parse_args()


if __name__ == "__main__":
    main()
