"""The weighted Hamming payoff against brute force; alias tables; where neighbours come from."""

import math
import pickle
from itertools import product

import numpy as np
import pytest

from hf_localgan.payoff.alias import alias_tables, choose_by_alias
from hf_localgan.payoff.hamming import HammingPayoff
from hf_localgan.payoff.neighbours import Neighbours, translation_vectors
from hf_localgan.payoff.weighted_hamming import WeightedHammingPayoff

DRAWS = {"sample": 6_000, "draw": 60_000}
# Of 2: two neighbours, one outside of the smaller sets below; of 4 one; of 3, 5 and 6 none. Not symmetric.
TABLE = {2: {3: 0.7, 6: 0.2, 40: 0.9}, 4: {2: 0.5}}


def exact_probs(tokens, reference, temperature, table, rest):
    """`exp(-sum of costs / tau)`, normalised over all strings of the length of drawable or original tokens."""
    full = 1 + math.log(len(tokens))

    def score(new, old):
        if new == old:
            return 1.0
        near = table.get(old, {}) if old in tokens else {}
        if new in near:
            return math.exp(-full * (1 - near[new]) / temperature)
        return math.exp(-full / temperature) if rest else 0.0

    options = [sorted({*tokens, token}) for token in reference]
    scores = {
        string: math.prod(score(new, old) for new, old in zip(string, reference, strict=True))
        for string in product(*options)
    }
    total = sum(scores.values())
    return {string: value / total for string, value in scores.items() if value}


CASES = {
    "neighbours and a rest": ((2, 3, 4, 5, 6), (2, 4), 0.9, True),
    "neighbours alone": ((2, 3, 4, 5, 6), (4, 5, 2), 1.3, False),
    "cold": ((2, 3, 4, 6), (2, 2), 0.45, True),
    "an unknown word": ((2, 3, 5), (9, 2), 1.5, True),
    "hot": ((2, 3, 4), (2, 4), math.inf, True),
    "no token is left for the rest": ((2, 3, 6), (2, 3), 0.8, True),
}


@pytest.mark.parametrize("how", DRAWS)
@pytest.mark.parametrize("case", CASES)
def test_draws_agree_with_brute_force(case, how, draw_many, chi_square, alpha):
    tokens, reference, temperature, rest = CASES[case]
    payoff = WeightedHammingPayoff(tokens, temperature, Neighbours.of_table(TABLE), rest=rest)
    probs = exact_probs(tokens, reference, temperature, TABLE, rest)
    assert chi_square(draw_many(payoff, list(reference), DRAWS[how], how), probs) > alpha
    for string, prob in probs.items():
        assert payoff.log_prob(string, reference) == pytest.approx(math.log(prob))
    assert payoff.log_prob([40, *reference[1:]], reference) == -math.inf == payoff.log_prob(reference[1:], reference)


def test_a_large_set_is_normalised_and_its_draws_follow_the_probabilities(chi_square, alpha):
    rng, size = np.random.default_rng(2), 500
    payoff = WeightedHammingPayoff(
        range(10, 10 + size), 0.7, Neighbours.of_vectors(range(10, 10 + size), rng.normal(size=(size, 6)), 8, 0.1)
    )
    probs = {(token,): math.exp(payoff.log_prob([token], [33])) for token in range(10, 10 + size)}
    assert sum(probs.values()) == pytest.approx(1, abs=1e-12) and len(set(probs.values())) == 10
    drawn = payoff.sample_batch([[33]] * 100_000, np.arange(100_000, dtype=np.uint64))
    assert chi_square(drawn, probs) > alpha


def test_without_neighbours_it_is_hamming():
    plain, weighted = HammingPayoff(range(4, 20), 0.8), WeightedHammingPayoff(range(4, 20), 0.8, Neighbours.none())
    rng = np.random.default_rng(0)
    references = [rng.integers(2, 22, size=length).tolist() for length in rng.integers(0, 9, size=50)]
    candidates = [[*row[:1], *rng.integers(4, 20, size=max(0, len(row) - 1)).tolist()] for row in references]
    np.testing.assert_allclose(
        weighted.log_probs(candidates, references), plain.log_probs(candidates, references), rtol=1e-10
    )
    assert weighted.temperature_for(0.05) == pytest.approx(plain.temperature_for(0.05))
    # The same random bits decide which tokens are replaced; a colder draw replaces some of those of a hotter one.
    places = [
        [[new != old for new, old in zip(*pair, strict=True)] for pair in zip(rows, references, strict=True)]
        for rows in (
            weighted.sample_batch(references, np.arange(50, dtype=np.uint64), temperature=tau) for tau in (0.6, 0.9)
        )
    ]
    assert places[0] != places[1]
    assert all(hot or not cold for rows in zip(*places, strict=True) for cold, hot in zip(*rows, strict=True))


def test_a_draw_depends_on_its_key_reference_and_temperature_alone():
    rng = np.random.default_rng(0)
    neighbours = Neighbours.of_vectors(range(4, 60), rng.normal(size=(56, 5)), 4)
    labels = [rng.integers(2, 60, size=length).tolist() for length in rng.integers(0, 12, size=100)]
    keys, payoff = np.arange(100, dtype=np.uint64), WeightedHammingPayoff(range(4, 60), 1.0, neighbours)
    whole = payoff.sample_batch(labels, keys)
    before = len(pickle.dumps(payoff))
    copy = pickle.loads(pickle.dumps(payoff))
    for row in reversed(range(100)):
        copy.sample_batch([labels[row]], keys[row : row + 1], temperature=0.3 + row / 100)  # other tables in between
        assert copy.sample_batch([labels[row]], keys[row : row + 1]) == [whole[row]]
    order = rng.permutation(100)
    assert payoff.sample_batch([labels[row] for row in order], keys[order]) == [whole[row] for row in order]
    assert len(pickle.dumps(copy)) == before and whole != labels
    assert payoff.sample_batch(labels, keys, temperature=0) == labels
    assert payoff.sample_batch([[], []], keys[:2]) == [[], []] and payoff.draw([], keys[:0]).labels == []
    drawn = payoff.draw(labels, keys)
    assert drawn.edits.tolist() == [
        sum(new != old for new, old in zip(*pair, strict=True)) for pair in zip(whole, labels, strict=True)
    ]


def test_the_sampler_for_a_rate_replaces_that_many_tokens_of_the_references(alpha):
    rng, size = np.random.default_rng(0), 300
    # Vectors of frequent tokens lie close together, so these are replaced more often.
    vectors = rng.normal(size=(size, 8)) + 3 * (np.arange(size) < 100)[:, None]
    counts = np.append(np.zeros(4, int), np.where(np.arange(size) < 100, 50, 1))
    settings = {"tokens": range(4, 4 + size), "neighbours": Neighbours.of_vectors(range(4, 4 + size), vectors, 6)}
    payoff = WeightedHammingPayoff.for_edit_rate(edit_rate=0.04, counts=counts, **settings)
    references = rng.choice(304, size=(4_000, 20), p=counts / counts.sum()).tolist()
    edits = payoff.draw(references, np.arange(4_000, dtype=np.uint64)).edits.sum()
    assert abs(edits - 3_200) < 5 * math.sqrt(3_200)
    uniform = WeightedHammingPayoff.for_edit_rate(edit_rate=0.04, **settings)
    assert uniform.temperature > 1.05 * payoff.temperature
    assert payoff.edit_rate() == pytest.approx(0.04) and payoff.temperature_for(0) == 0
    assert payoff.replacement_probs() @ counts[4:] / counts.sum() == pytest.approx(0.04)
    with pytest.raises(ValueError, match="under 0.99"):
        WeightedHammingPayoff.for_edit_rate(edit_rate=0.999, **settings)
    with pytest.raises(ValueError, match="under 0,"):
        WeightedHammingPayoff.for_edit_rate(tokens=range(9), neighbours=Neighbours.none(), edit_rate=0.01, rest=False)


def test_alias_tables_hold_the_probabilities_exactly():
    rng = np.random.default_rng(1)
    probs = rng.dirichlet(np.full(7, 0.3), size=200)
    probs[::3, 2] = 0
    probs /= probs.sum(axis=1, keepdims=True)
    keep, alias = alias_tables(probs)
    implied = keep / 7
    for column in range(7):
        np.add.at(implied, (np.arange(200), alias[:, column]), (1 - keep[:, column]) / 7)
    np.testing.assert_allclose(implied, probs, atol=1e-15)
    outcomes = choose_by_alias(keep, alias, np.zeros(5_000, int), rng.random(5_000))
    assert 2 not in outcomes and len(set(outcomes.tolist())) > 2


def test_neighbours_of_vectors_prefixes_and_translations():
    near = Neighbours.of_vectors([7, 8, 9, 10], np.array([[1, 0], [2, 0.1], [0, 0], [-1, 0.1]]), 2)
    assert near.ids.tolist() == [[8, -1], [7, -1], [-1, -1], [-1, -1]]  # 9 has no vector, 10 points elsewhere
    assert near.similarities[0, 0] == 0.99  # a cosine of 0.9988
    texts = ["▁house", "▁houses", "house", "▁h", "▁12", "▁123", "▁household"]
    alike = Neighbours.of_prefixes(range(7), texts, 3)
    assert alike.ids[0].tolist() == [1, 6, -1] and alike.similarities[0, :2] == pytest.approx([5 / 6, 5 / 9])
    assert alike.ids[2].tolist() == [-1] * 3  # none of the others goes on with a word
    assert alike.ids[4].tolist() == [5, -1, -1]
    # Two words of the target for each of the source: those of one source word are neighbours.
    rng = np.random.default_rng(0)
    sources = [rng.choice(20, size=4, replace=False).tolist() for _ in range(600)]
    targets = [[2 * token + int(rng.integers(2)) for token in row] for row in sources]
    vectors = translation_vectors(targets, sources, range(41), 20)
    assert not vectors[40].any() and vectors.shape == (41, 20)
    nearest = Neighbours.of_vectors(range(40), vectors[:40], 1)
    assert nearest.ids[:, 0].tolist() == [token ^ 1 for token in range(40)]


def test_wrong_neighbours_are_refused():
    for ids, similarities, message in (
        ([[5], [4]], [[0.5], [1.0]], "above 0 and below 1, got 1.0"),
        ([[5], [4]], [[0.0], [0.4]], "above 0 and below 1, got 0.0"),
        ([[4], [4]], [[0.5], [0.5]], "Token 4 has itself"),
        ([[5, 5], [4, -1]], [[0.5, 0.4], [0.5, 0.0]], "Token 4 has itself, or one token twice"),
        ([[5], [4]], [[0.5]], "a row for each"),
    ):
        with pytest.raises(ValueError, match=message):
            Neighbours([4, 5], ids, similarities)
    with pytest.raises(ValueError, match="given twice"):
        Neighbours([4, 4], [[5], [6]], [[0.5], [0.5]])
    with pytest.raises(ValueError, match="finite"):
        Neighbours.of_vectors([4, 5], np.array([[1.0], [np.nan]]), 1)
    with pytest.raises(ValueError, match="`counts` are 0"):
        WeightedHammingPayoff(range(4, 6), 0.5, Neighbours.none(), counts=[3, 3])
