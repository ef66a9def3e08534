"""Phone error rate in classes of phones, with silence that counts or may be left out."""

from itertools import product

import numpy as np
import pytest
from rapidfuzz.distance import Levenshtein

from hf_localgan.metrics import align_phones, phone_confusions, phone_error_rate


def test_both_sides_are_folded_first():
    # reference h# sh ix h# -> sil sh ih sil; generation h# zh ih q pau -> sil sh ih sil: no edit of 4
    actual = phone_error_rate(["h# zh ih q pau"], ["h# sh ix h#"], fold="timit39")
    assert actual.rate == 0 and actual.reference_tokens.tolist() == [4]
    assert actual.signature.startswith("per|tok:phones|fold:timit39|sil:counted|N:1|v:")
    # without folding: zh for sh, ih for ix, q inserted, pau for h#
    assert phone_error_rate(["h# zh ih q pau"], ["h# sh ix h#"]).rate == pytest.approx(4 / 4)


def test_optional_silence_by_hand():
    # sil aa sil b sil against aa b: three silences left out; against aa sil c: two left out, b to c substituted
    references = [["sil", "aa", "sil", "b", "sil"], ["sil", "aa", "sil", "b", "sil"]]
    generations = [["aa", "b"], ["aa", "sil", "c"]]
    counted = phone_error_rate(generations, references)
    assert counted.edits.tolist() == [3, 3]
    optional = phone_error_rate(generations, references, silence="optional")
    assert optional.edits.tolist() == [0, 1] and optional.substitutions == 1 and optional.rate == pytest.approx(1 / 10)
    assert "sil:optional" in optional.signature
    # a silence that is inserted is an edit all the same
    assert phone_error_rate(["aa sil"], ["aa"], silence="optional").insertions == 1


def test_without_optional_phones_an_alignment_is_the_edit_distance():
    rng = np.random.default_rng(0)
    for _ in range(200):
        left, right = (list(rng.choice(list("abc"), rng.integers(0, 7))) for _ in range(2))
        steps = align_phones(left, right)
        assert [a for a, _ in steps if a is not None] == left and [b for _, b in steps if b is not None] == right
        assert sum(a != b for a, b in steps) == Levenshtein.distance(left, right)


def test_leaving_out_optional_phones_is_the_best_of_all_ways_to_do_so():
    rng = np.random.default_rng(1)
    for _ in range(100):
        reference = list(rng.choice(["a", "b", "sil"], rng.integers(1, 6)))
        generation = list(rng.choice(["a", "b", "sil"], rng.integers(0, 6)))
        silences = [i for i, phone in enumerate(reference) if phone == "sil"]
        left_out = product([(), (1,)], repeat=len(silences))
        gone = [{place for place, out in zip(silences, outs, strict=True) if out} for outs in left_out]
        kept = [[phone for i, phone in enumerate(reference) if i not in some] for some in gone]
        best = min(Levenshtein.distance(some, generation) for some in kept)
        assert phone_error_rate([generation], [reference], silence="optional").edits.tolist() == [best]


def test_confusions_by_hand():
    confusions = phone_confusions([["a", "c"], ["a", "b", "b"]], [["a", "b"], ["a", "b"]])
    assert confusions.counts == {("a", "a"): 2, ("b", "c"): 1, ("b", "b"): 1, (None, "b"): 1}
    assert confusions.errors(1) == [(None, "b", 1)] and confusions.recall("b") == 0.5 and confusions.recall("z") == 0


def test_mistakes_are_named():
    with pytest.raises(ValueError, match='`silence` must be "counted" or "optional", got \'deleted\''):
        phone_error_rate(["a"], ["a"], silence="deleted")
    with pytest.raises(ValueError, match="`timit39` has no class for 'a'"):
        phone_error_rate(["a"], ["aa"], fold="timit39")
    with pytest.raises(ValueError, match="got 2 and 1"):
        phone_error_rate(["a", "a"], ["a"], fold="arpabet")
