"""Clean text user ids, and collect doubts about them over all batches of a source."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from cohortlib.engine.kernels.texts import BLANK_ID, DOUBTFUL_ID, NULL_WORD, inspect_ids
from cohortlib.errors import Arg, warn
from cohortlib.read.arrays import read_only
from cohortlib.read.text import each_block

SPACES = (
    "\t\n\v\f\r \x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u2028\u2029\u202f"
    "\u205f\u3000"
)
"""What Unicode calls white space."""

NULL_WORDS = (
    "null", r"\n", "nan", "none", "n/a", "#n/a", "na", "nil", "<na>", "<null>", "(null)", "undefined", "nat", "(none)",
)  # fmt: skip
"""Text that often stands for a missing value, in lower case."""
SAMPLE = 1 << 16  # rows, the first of a source, in which ids are compared with each other


def _word_table() -> NDArray[np.uint64]:
    """Return the length, the two words and the masks of letters' case of each of `NULL_WORDS`."""
    rows = []
    for word in NULL_WORDS:
        data = word.encode().ljust(16, b"\0")
        case = bytes(32 if chr(byte).isalpha() else 0 for byte in data)
        words = [int.from_bytes(part, "little") for part in (data[:8], data[8:], case[:8], case[8:])]
        rows.append([len(word), *words])
    return np.array(rows, np.uint64)


_TABLE = read_only(_word_table())


@dataclass
class Doubts:
    """Ids that may be mistakes, over all batches."""

    null_words: Counter[str] = field(default_factory=Counter)
    rows: int = 0
    sample: list[pl.Series] = field(default_factory=list)
    """Distinct ids of the first `SAMPLE` rows."""
    doubtful: bool = False
    """Whether one of these could be another id, were it not for letters' case, blanks around or decimal places of 0."""

    def add_sample(self, column: pl.Series) -> None:
        """Add the ids of a batch to the sample, and count its rows."""
        # Of two ids that are alike, one is doubtful: a sample that ends without a doubtful id is not needed.
        if self.rows < SAMPLE and (self.doubtful or self.rows + len(column) < SAMPLE):
            ids = column.head(SAMPLE - self.rows).drop_nulls().unique()
            self.sample.append(pl.Series(ids.to_list(), dtype=pl.String))  # a copy, which holds no batch in memory
        self.rows += len(column)

    def join(self, later: "Doubts", column: pl.Series, normalize: str | None) -> None:
        """Add the doubts of later rows, which were read apart and without a sample; `column` has their ids."""
        words, rows = self.null_words + later.null_words, self.rows + len(column)
        if self.rows < SAMPLE:
            clean_ids(column.head(SAMPLE - self.rows), normalize, self)
        self.null_words, self.rows = words, rows

    def warn(self, column: str, normalize: str | None) -> None:
        """Warn about the ids."""
        if self.null_words:
            counts = ", ".join(f"{word!r} {count:,}" for word, count in most_common(self.null_words, 5))
            rows = self.null_words.total()
            warn(
                f"column {column!r} has {rows:,} {'row' if rows == 1 else 'rows'} whose user is text that often "
                f"stands for a missing value: {counts}. They count as users"
            )
        if self.doubtful:
            ids = pl.concat(self.sample).unique()
            folded = ids.str.strip_chars(SPACES).str.to_lowercase()
            zeros = folded.str.ends_with("0").arg_true()
            folded = folded.scatter(zeros, folded.gather(zeros).str.replace(r"^(-?\d+)\.0+$", "$1"))
            if folded.n_unique() == len(folded):
                return
            twins = ids.filter(folded.is_duplicated()).to_list()
            groups: dict[str, list[str]] = {}
            for text in sorted(twins):
                groups.setdefault(fold(text), []).append(text)
            self._warn_of_twins(column, normalize, [group for group in groups.values() if len(group) > 1])

    def _warn_of_twins(self, column: str, normalize: str | None, groups: list[list[str]]) -> None:
        where = f", in its first {SAMPLE:,} rows," if self.rows > SAMPLE else ""
        spelled = [group for group in groups if len({_spelling(text) for text in group}) < len(group)]
        numbers = [group for group in groups if len({_number(text) for text in group}) < len(group)]
        if spelled:
            example = min(spelled)
            hint = "casefold" if len({text.strip(SPACES) for text in example}) > 1 else "strip"
            suffix = (". Hint: ", Arg("normalize", hint), " makes them one") if normalize != hint else ()
            warn((
                f"column {column!r} has{where} {sum(map(len, spelled)):,} users whose ids differ only in case or in "
                f"blanks around them, such as {example[0]!r} and {example[1]!r}",
                *suffix,
            ))  # fmt: skip
        if numbers:
            example = min(numbers)
            warn(
                f"column {column!r} has{where} {sum(map(len, numbers)):,} users that are the same number written with "
                f"and without decimal places, such as {example[0]!r} and {example[1]!r}. They count as different users"
            )


def most_common(counts: Counter[str], most: int) -> list[tuple[str, int]]:
    """Return the texts with the highest counts; ties in the order of text, whatever the order of rows."""
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:most]


def _spelling(text: str) -> str:
    return text.strip(SPACES).casefold()


def _number(text: str) -> str:
    """Cut decimal places of 0 off a whole number."""
    whole, point, places = text.partition(".")
    is_whole = point and places and not places.strip("0") and whole.lstrip("-").isdecimal()
    return whole if is_whole else text


def fold(text: str) -> str:
    """Return what an id has in common with those that differ in case, blanks around or decimal places of 0.

    >>> fold(" Ann "), fold("17850.0")
    ('ann', '17850')
    """
    return _number(_spelling(text))


def clean_ids(column: pl.Series, normalize: str | None, doubts: Doubts | None, workers: int = 1) -> pl.Series:
    """Return a column of text ids with nulls for blanks, normalized; add what is doubtful to `doubts`."""
    if column.dtype != pl.String:
        column = column.cast(pl.String)
    flags = np.empty(len(column), np.uint8)
    # Beyond the sample only blanks and words for null matter, and these show in the views; unless ids are normalized.
    sampled = len(column) if normalize is not None or doubts is None else max(SAMPLE - doubts.rows, 0)

    def work(piece: tuple[Any, ...], offset: int, first: int, last: int) -> int:
        rows = slice(offset, offset + piece[0].size // 2)
        return int(inspect_ids(*piece, first, last, offset + first < sampled, _TABLE, flags[rows]))

    union = 0
    for flag in each_block(column, workers, work):
        union |= flag
    name, column = column.name, column.alias("")
    if union & BLANK_ID or union & DOUBTFUL_ID:
        blank = flags == BLANK_ID
        is_doubtful = (flags & DOUBTFUL_ID).astype(np.bool_)
        doubtful = column.filter(pl.Series(is_doubtful))
        if len(doubtful):
            blank[np.flatnonzero(is_doubtful)[np.asarray(doubtful.str.strip_chars(SPACES) == "")]] = True
        if blank.any():
            column = column.set(pl.Series(blank), None)
        if normalize is not None and len(doubtful):
            column = _normalized(column, doubtful, normalize)
    if doubts is not None:
        if union & NULL_WORD:
            words = column.filter(pl.Series((flags & NULL_WORD).astype(np.bool_))).value_counts()
            doubts.null_words.update(dict(words.iter_rows()))
        doubts.doubtful |= doubts.rows < SAMPLE and bool(union & DOUBTFUL_ID)
        doubts.add_sample(column)
    return column.alias(name)


def has_clean_categories(column: pl.Series, doubts: Doubts) -> bool:
    """Return whether no category is blank or doubtful, so that the categories can stand for the ids.

    If so, add the ids to `doubts`, as :func:`clean_ids` does: those of other batches can differ only in case.
    """
    categories = column.alias("").unique().cast(pl.String)
    found = Doubts()
    if clean_ids(categories, None, found).null_count() or found.doubtful or found.null_words:
        return False
    doubts.add_sample(column.alias(""))
    return True


def _normalized(column: pl.Series, doubtful: pl.Series, normalize: str) -> pl.Series:
    """Strip blanks, and fold letters' case; only doubtful ids can change."""
    texts = doubtful.unique()
    new = texts.str.strip_chars(SPACES)
    if normalize == "casefold":
        new = pl.Series([text.casefold() for text in new], dtype=pl.String)
    changed = texts != new
    return column.replace(texts.filter(changed), new.filter(changed))
