import math

import numpy as np
import pytest

from hf_localgan.metrics import (
    embedding_average,
    embedding_scores,
    greedy_matching,
    relevance,
    utterance_vectors,
    vector_coverage,
    vector_extrema,
)


class Vectors(dict):
    name, dim = "tiny", 2


@pytest.fixture
def vectors():
    east, north, west = np.array([1.0, 0.0]), np.array([0.0, 1.0]), np.array([-2.0, 0.5])
    return Vectors(east=east, north=north, west=west, nowhere=np.zeros(2))


def test_average_by_hand(vectors):
    # mean of east and north (1/2, 1/2) against (1, 0): cosine 1 / sqrt 2
    assert embedding_average(["east", "north"], ["east"], vectors) == pytest.approx(1 / math.sqrt(2))


def test_greedy_by_hand_is_the_mean_of_both_directions(vectors):
    # east finds itself (1), north finds east (0): 1/2.  Back, east finds east: 1.  Mean 3/4
    assert greedy_matching(["east", "north"], ["east"], vectors) == pytest.approx(0.75)
    assert greedy_matching(["east"], ["east", "north"], vectors) == pytest.approx(0.75)


def test_extrema_by_hand_takes_the_largest_magnitude_with_its_sign(vectors):
    # east (1, 0), west (-2, 0.5): extremes (-2, 0.5); against (1, 0): -2 / sqrt(4 + 1/4)
    assert vector_extrema(["east", "west"], ["east"], vectors) == pytest.approx(-2 / math.sqrt(4.25))


def test_relevance_is_the_sum(vectors):
    # east, north against east: average .7071, greedy .75, extrema (1, 1) . (1, 0) / sqrt 2 = .7071
    assert relevance(["east", "north"], ["east"], vectors) == pytest.approx(0.75 + math.sqrt(2))
    assert relevance(["east", "west"], ["east", "west"], vectors) == pytest.approx(3)


def test_unknown_words_change_nothing(vectors):
    plain = relevance(["east", "north"], ["west"], vectors)
    assert relevance(["east", "zzz", "north"], ["zzz", "west"], vectors) == pytest.approx(plain)


@pytest.mark.parametrize("generation, reference", [([], ["east"]), (["east"], []), (["zzz"], ["east"]), ([], [])])
def test_an_empty_side_scores_zero(vectors, generation, reference):
    assert relevance(generation, reference, vectors) == 0.0


def test_a_word_whose_vector_is_zero_has_no_direction(vectors):
    assert relevance(["nowhere"], ["east"], vectors) == 0.0


def test_words_that_cancel_out_have_no_direction():
    # 0.1 + 0.2 - 0.3 is 0 on paper and 5.6e-17 in arithmetic, whose direction would be a cosine of 1.
    far = Vectors(a=np.array([0.1, 0.0]), b=np.array([0.2, 0.0]), c=np.array([-0.3, 0.0]))
    assert embedding_average(["a", "b", "c"], ["a"], far) == 0.0
    assert embedding_average(["a", "b"], ["a"], far) == pytest.approx(1)


def test_several_references_first_mean_and_maximum(vectors):
    generations = [["east", "north"], ["west"]]
    references = [[["east"], ["zzz"], ["north", "west"]], [["west"]]]
    scores = embedding_scores(generations, references, vectors)
    assert all(values.shape == (2,) for values in scores.values()) and len(scores) == 12
    pairwise = {
        "average": embedding_average,
        "greedy": greedy_matching,
        "extrema": vector_extrema,
        "relevance": relevance,
    }
    for name, score in pairwise.items():
        for query, (generation, one_query) in enumerate(zip(generations, references, strict=True)):
            one_by_one = [score(generation, reference, vectors) for reference in one_query]
            assert scores[f"{name}_first"][query] == pytest.approx(one_by_one[0])
            assert scores[f"{name}_mean"][query] == pytest.approx(sum(one_by_one) / len(one_by_one))
            assert scores[f"{name}_max"][query] == pytest.approx(max(one_by_one))


def test_utterance_vectors_leave_out_utterances_without_a_known_word(vectors):
    # mean of east and west: (-1/2, 1/4)
    actual = utterance_vectors([["east", "west", "zzz"], [], ["zzz"]], vectors)
    np.testing.assert_allclose(actual, [[-0.5, 0.25]])
    assert utterance_vectors([["zzz"]], vectors).shape == (0, 2)
    # 2 of east, west, zzz, zzz are known
    assert vector_coverage([["east", "west", "zzz"], ["zzz"]], vectors) == 0.5


def test_mistakes_in_the_references_are_named(vectors):
    with pytest.raises(ValueError, match="got 2 and 1"):
        embedding_scores([["east"], ["west"]], [[["east"]]], vectors)
    with pytest.raises(ValueError, match="Query 1 has no reference"):
        embedding_scores([["east"], ["west"]], [[["east"]], []], vectors)
