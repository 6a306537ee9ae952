"""Print what `explain` says about planted differences, and how often it is right."""

import argparse
import sys
import traceback
import warnings
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import median
from typing import Any

import numpy as np

import cohortlib as cl
from benchmarks.planted import adapty, termina
from benchmarks.planted.kinds import Kind, Plant
from benchmarks.planted.perturbed import PERTURBATIONS
from benchmarks.planted.verdict import ERROR, PARTLY, RIGHT, SILENT, WRONG, Verdict, judged
from benchmarks.planted.worlds import REAL, transactions

KINDS = (*termina.KINDS, *adapty.KINDS)
MODULES = {"termina": termina, "adapty": adapty}


@dataclass(frozen=True)
class Place:
    """The rows and the table into which differences are planted."""

    world: str
    rows: int
    table: str

    def side(self, seed: int) -> Any:
        """Return the side without any difference."""
        if self.table in adapty.BOTH:
            return adapty.side(self.rows, seed, self.table)
        return termina.side(transactions(self.world, self.rows, seed), self.table)

    def __str__(self) -> str:
        return f"{self.world} {self.rows // 1000}k {self.table}"


def places(kind: Kind, *, quick: bool) -> Iterator[Place]:
    """Yield where a kind is planted: each table, few and many rows, both generators, and real rows."""
    tables = kind.tables[:1] if quick else kind.tables
    for at, table in enumerate(tables):
        if kind.vendor == "adapty":
            yield Place("app", 20_000 if quick or at else 100_000, table)
            continue
        yield Place("shop", 20_000 if quick or not at else 100_000, table)
        if not quick:
            yield Place("sales", 100_000 if not at else 20_000, table)
            if REAL.exists():
                yield Place("retail" if at else "cdnow", 60_000, table)


def planted(kinds: Sequence[Kind], place: Place, seed: int) -> tuple[list[Plant], Any, list[Any]] | None:
    """Plant differences. Returns them, the local side, and the remote tables: of each alone, then of all.

    None if one of them changes nothing.
    """
    rng = np.random.default_rng([seed, *map(KINDS.index, kinds)])
    base = place.side(seed)
    plants = [kind.draw(base, rng) for kind in kinds]
    for plant in plants:
        base = plant.base(base)

    def tables(chosen: Sequence[Plant]) -> tuple[Any, Any, Any]:
        local = remote = base
        for plant in chosen:
            local, remote = plant.local(local), plant.remote(remote)
        return local, local.compute(), remote.compute()

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        local, *both = tables(plants)
        for at in range(len(plants)):
            rest = tables([*plants[:at], *plants[at + 1 :]])[1:]
            if all(map(_same, both, rest)):
                return None
        alone = [tables([plant])[2] for plant in plants] if len(plants) > 1 else []
    return plants, local, [*alone, both[1]]


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, cl.adapty.Answer):
        return one.values.equals(other.values) and one.segments.equals(other.segments)
    return one.equals(other)


class Results:
    """The verdicts, printed as they come and counted at the end."""

    def __init__(self) -> None:
        self.verdicts: defaultdict[str, list[tuple[Verdict, bool]]] = defaultdict(list)

    def add(self, group: str, name: str, verdict: Verdict, *, on_list: bool) -> None:
        """Print a verdict and keep it."""
        self.verdicts[group].append((verdict, on_list))
        said = verdict.said if len(verdict.said) < 240 else verdict.said[:237] + "..."
        print(f"{verdict.word:6} {verdict.seconds:6.1f} s  {name}: {said}", flush=True)

    @property
    def wrong(self) -> int:
        """The number of explanations that named something false."""
        return sum(one.word == WRONG for group in self.verdicts.values() for one, _ in group)

    def summary(self) -> None:
        """Print the counts by group."""
        print(f"\n{'':24} cases  right first (on list)  partly  silent  WRONG  error  median s  max s")
        for group, verdicts in self.verdicts.items():
            listed = [one for one, on_list in verdicts if on_list]
            count = {word: sum(one.word == word for one, _ in verdicts) for word in (PARTLY, SILENT, WRONG, ERROR)}
            right = sum(one.word == RIGHT for one in listed)
            share = f"{right} of {len(listed)} ({right / len(listed):.0%})" if listed else "-"
            times = [one.seconds for one, _ in verdicts]
            print(
                f"{group:24} {len(verdicts):5}  {share:>21}  {count[PARTLY]:6}  {count[SILENT]:6}  {count[WRONG]:5}  "
                f"{count[ERROR]:5}  {median(times):8.1f}  {max(times):5.1f}"
            )


Cases = Sequence[tuple[tuple[Kind, ...], Sequence[Place]]]


def run_kinds(cases: Cases, options: argparse.Namespace, results: Results) -> None:
    """Plant kinds, alone or in pairs, and judge what is said."""
    for kinds, where in cases:
        for place in where:
            name = f"{' + '.join(kind.name for kind in kinds)} [{place}]"
            try:
                case = planted(kinds, place, options.seed)
                if case is None:
                    print(f"-                {name}: changes nothing", flush=True)
                    continue
                plants, local, remotes = case
                verdict = judged(plants, local, remotes, MODULES[kinds[0].vendor].explain, options.seconds)
            except Exception:
                verdict = Verdict(ERROR, 0.0, traceback.format_exc(limit=-2).replace("\n", " | "))
            group = f"{'pairs' if len(kinds) > 1 else 'alone'}, {place.table}"
            results.add(group, name, verdict, on_list=all(kind.on_list for kind in kinds))


def pairs(count: int, seed: int, chosen: Sequence[Kind]) -> Cases:
    """Draw pairs of kinds of different families, with a table in common into which they are planted."""
    able = []
    for kinds in combinations([kind for kind in chosen if kind.on_list], 2):
        shared = [table for table in kinds[0].tables if table in kinds[1].tables]
        if kinds[0].family != kinds[1].family and shared:
            able.append((kinds, shared))
    rng = np.random.default_rng(seed)
    cases = []
    for at in rng.permutation(len(able))[:count]:
        kinds, shared = able[at]
        world = "app" if kinds[0].vendor == "adapty" else ("shop", "sales")[int(rng.integers(2))]
        cases.append(
            (kinds, [Place(world, (20_000, 100_000)[int(rng.integers(2))], shared[int(rng.integers(len(shared)))])])
        )
    return cases


def run_random(count: int, options: argparse.Namespace, results: Results) -> None:
    """Change tables at random: any cause named is wrong."""
    where = [
        Place("shop", 20_000, "M"), Place("sales", 20_000, "W"), Place("shop", 20_000, "C"),
        Place("app", 20_000, "renewals"), Place("app", 20_000, "days"), Place("cdnow", 20_000, "M"),
        Place("sales", 100_000, "M"),
    ]  # fmt: skip
    where = [place for place in where if place.world != "cdnow" or REAL.exists()]
    if options.vendor:
        where = [place for place in where if (place.table in adapty.BOTH) == (options.vendor == "adapty")]
    for at in range(count):
        name = list(PERTURBATIONS)[at % len(PERTURBATIONS)]
        place = where[at // len(PERTURBATIONS) % len(where)]
        rng = np.random.default_rng([options.seed, at])
        local = place.side(options.seed)
        remote = PERTURBATIONS[name](local, rng)
        vendor = MODULES["adapty" if place.table in adapty.BOTH else "termina"]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            table = remote.compute()
        verdict = judged((), local, [table], vendor.explain, options.seconds)
        results.add("random", f"{name} {at} [{place}]", verdict, on_list=False)


def main(arguments: Sequence[str]) -> int:
    """Run the benchmark. Returns 1 if anything false was named."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.planted", description=__doc__)
    parser.add_argument(
        "--set", choices=["new", "known"], default="new", help="the kinds: the 60 and more, or the first ones"
    )
    parser.add_argument("--kinds", default="", help="only kinds whose name has this text; several with |")
    parser.add_argument("--vendor", choices=list(MODULES), help="only kinds of one vendor")
    parser.add_argument("--quick", action="store_true", help="20,000 rows and one table for each kind")
    parser.add_argument("--pairs", type=int, default=0, metavar="N", help="also N pairs of kinds")
    parser.add_argument("--random", type=int, default=0, metavar="N", help="also N random perturbations")
    parser.add_argument("--no-alone", action="store_true", help="only pairs and perturbations")
    parser.add_argument("--seconds", type=float, default=60.0, help="time limit of each search")
    parser.add_argument("--rows", type=int, default=20_000, help="rows of the known kinds")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--list", action="store_true", help="print the names of the kinds and stop")
    options = parser.parse_args(arguments)
    chosen = [
        kind
        for kind in KINDS
        if any(part in kind.name for part in options.kinds.split("|")) and options.vendor in (None, kind.vendor)
    ]
    if options.list:
        for kind in chosen:
            print(
                f"{kind.vendor:8} {', '.join(kind.tables):16} {kind.name}{'' if kind.on_list else ' (not on the list)'}"
            )
        return 0
    if options.set == "known":
        from benchmarks import planted_adapty, planted_termina

        planted_termina.main(options.rows, options.pairs)
        planted_adapty.main(options.rows, min(1.0, options.pairs / 500))
        return 0
    results = Results()
    if not options.no_alone:
        cases = [((kind,), list(places(kind, quick=options.quick))) for kind in chosen]
        run_kinds(cases, options, results)
    if options.pairs:
        run_kinds(pairs(options.pairs, options.seed, chosen), options, results)
    if options.random:
        run_random(options.random, options, results)
    results.summary()
    return 1 if results.wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
