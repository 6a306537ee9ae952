"""The loops that read text."""

import numpy as np
import polars as pl
import pytest

from cohortlib.adapty.aggregate import sorted_keys
from cohortlib.adapty.arrays import TextColumn
from cohortlib.adapty.kernels.vocabulary import Vocabulary, recognise
from cohortlib.adapty.read.events import read_events
from tests.test_adapty_events import frame

pytestmark = pytest.mark.unit


def keys(texts, rows=None, *, wide=True):
    rows = np.arange(len(texts)) if rows is None else rows
    return TextColumn.of(pl.Series("id", texts, pl.String)).keys(np.asarray(rows, np.uint32), wide=wide)


def test_fingerprints_take_in_every_byte():
    texts = {"x" * size: None for size in range(600)}
    for size in (*range(1, 60), 239, 240, 241, 255, 256, 257, 479, 480, 481, 500):
        texts |= {"x" * at + "y" + "x" * (size - at - 1): None for at in range(size)}
    texts = list(texts)
    for word in (*keys(texts), keys(texts, wide=False)[0]):
        assert len(set(word.tolist())) == len(texts)


def test_fingerprints_tell_nothing_but_the_text():
    texts = ["a" * 5, "b" * 20, None, "c" * 300, "", "b" * 20]
    one, two = keys(texts), keys(texts[::-1])
    for there, back in zip(one, two, strict=True):
        assert there.tolist() == back[::-1].tolist()
        assert there[1] == there[5]
        assert there[2] == 0
    assert keys(texts, [3, 1])[0].tolist() == one[0][[3, 1]].tolist()
    assert keys(texts, wide=False)[0].tolist() == one[0].tolist()
    assert keys(texts, wide=False)[1].size == 0


def test_words_are_told_by_every_byte():
    words = ["a", "exactly_12ab", "thirteen_char", "subscription_renewal_reactivated", "subscription_renewed"]
    vocabulary = Vocabulary.of(words)
    texts = [*words, "", "a\0", "A", "x" * 12, "x" * 40]
    for word in words:
        texts += [word[:at] + "?" + word[at + 1 :] for at in range(len(word))]
        texts += [word + "?", "?" + word, word[:-1]]
    column = pl.DataFrame({"event_type": texts})["event_type"]
    codes = np.empty(len(texts), np.int8)
    recognise(*TextColumn.of(column).views, *vocabulary, codes)
    assert codes.tolist() == [words.index(text) if text in words else len(words) for text in texts]


def test_every_type_of_event_is_known():
    assert len({(len(text), text[:4], text[-8:]) for text in read_types()}) == len(read_types())


def read_types():
    from cohortlib.adapty.read import event_types

    return list(event_types.KINDS)


def test_types_in_pieces():
    whole = frame(4, event_type=["subscription_renewed", None, "new", "trial_started"])
    pieces = pl.concat([whole[:1], whole[1:2], whole[2:]], rechunk=False)
    asked = {"user_unit": "profile_id", "refund_upgraded": "zero", "nulls": "drop"}
    assert read_events(pieces, **asked).kind.to_list() == read_events(whole, **asked).kind.to_list() == [3, -1, -1, 0]


@pytest.mark.parametrize("most", [2**64 - 1, 2**40, 2])  # spread, crowded, and equal keys
@pytest.mark.parametrize("size", [0, 1, 9, 5_000])
def test_keys_are_sorted(size, most):
    keys = np.random.default_rng(size).integers(0, most, size, dtype=np.uint64)
    np.testing.assert_array_equal(sorted_keys(np.array_split(keys, 3)), np.sort(keys))
