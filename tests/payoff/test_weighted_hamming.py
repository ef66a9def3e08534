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

DRAWS = {"sample": 2_500, "draw": 25_000}
# Of 2: two neighbours, one outside of the smaller sets below; of 4 one; of 3, 5 and 6 none. Not symmetric.
TABLE = {2: {3: 0.7, 6: 0.2, 40: 0.9}, 4: {2: 0.5}}


SHARP = 0.2  # similarity temperature


def exact_probs(tokens, reference, temperature, table, rest, even_rate):
    """Of every string of the length, normalised: `exp(-sum of costs / tau)`, or by an even rate Hamming's
    `exp(-edit_cost * edits / tau)` under a base measure whose factors of one edit sum to the number of its choices."""
    full = 1 + math.log(len(tokens))

    def score(new, old):
        if new == old:
            return 1.0
        near = table.get(old, {}) if old in tokens else {}
        if not even_rate:
            if new in near:
                return math.exp(-full * (1 - near[new]) / temperature)
            return math.exp(-full / temperature) if rest else 0.0
        others = [token for token in tokens if token != old]
        factors = {token: math.exp(near.get(token, 0.0) / SHARP) for token in others if rest or token in near}
        if new not in factors:
            return 0.0
        return len(others) * factors[new] / sum(factors.values()) * math.exp(-full / temperature)

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
@pytest.mark.parametrize("even_rate", [True, False], ids=["even rate", "costs"])
@pytest.mark.parametrize("case", CASES)
def test_draws_agree_with_brute_force(case, even_rate, how, draw_many, chi_square, alpha):
    tokens, reference, temperature, rest = CASES[case]
    payoff = WeightedHammingPayoff(
        tokens, temperature, Neighbours.of_table(TABLE), rest=rest, even_rate=even_rate, similarity_temperature=SHARP
    )
    probs = exact_probs(tokens, reference, temperature, TABLE, rest, even_rate)
    assert chi_square(draw_many(payoff, list(reference), DRAWS[how], how), probs) > alpha
    for string, prob in probs.items():
        assert payoff.log_prob(string, reference) == pytest.approx(math.log(prob))
    assert payoff.log_prob([40, *reference[1:]], reference) == -math.inf == payoff.log_prob(reference[1:], reference)


@pytest.mark.parametrize("even_rate", [True, False], ids=["even rate", "costs"])
def test_a_large_set_is_normalised_and_its_draws_follow_the_probabilities(even_rate, chi_square, alpha):
    rng, size = np.random.default_rng(2), 500
    payoff = WeightedHammingPayoff(
        range(10, 10 + size), 0.7, Neighbours.of_vectors(range(10, 10 + size), rng.normal(size=(size, 6)), 8, 0.1),
        even_rate=even_rate, similarity_temperature=0.3,
    )  # fmt: skip
    probs = {(token,): math.exp(payoff.log_prob([token], [33])) for token in range(10, 10 + size)}
    assert sum(probs.values()) == pytest.approx(1, abs=1e-12) and len(set(probs.values())) == 10
    drawn = payoff.sample_batch([[33]] * 100_000, np.arange(100_000, dtype=np.uint64))
    assert chi_square(drawn, probs) > alpha


@pytest.mark.parametrize("even_rate", [True, False], ids=["even rate", "costs"])
def test_without_neighbours_it_is_hamming(even_rate):
    plain = HammingPayoff(range(4, 20), 0.8)
    weighted = WeightedHammingPayoff(range(4, 20), 0.8, Neighbours.none(), even_rate=even_rate)
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
    settings = {"tokens": range(4, 4 + size), "neighbours": Neighbours.of_vectors(range(4, 4 + size), vectors, 6),
                "even_rate": False}  # fmt: skip
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


def test_by_an_even_rate_all_tokens_are_replaced_alike_and_mostly_by_neighbours():
    # The first ten tokens have a near twin, as `two` and `three` have: by costs a low rate falls on them alone.
    size, width = 300, 10
    ids = (np.arange(size)[:, None] + 1 + np.arange(width)) % size
    nearest = np.where(np.arange(size) < 10, 0.95, 0.55)
    similarities = nearest[:, None] * np.linspace(1, 0.75, width)
    counts = np.append(np.zeros(4, int), np.where(np.arange(size) < 10, 300, 100))
    settings = {"tokens": range(4, 4 + size), "edit_rate": 0.01, "counts": counts,
                "neighbours": Neighbours(4 + np.arange(size), 4 + ids, similarities)}  # fmt: skip
    costs = WeightedHammingPayoff.for_edit_rate(even_rate=False, **settings)
    assert costs.replacement_probs()[10:].max() < 0.001 < 0.08 < costs.replacement_probs()[:10].min()
    even = WeightedHammingPayoff.for_edit_rate(**settings)
    np.testing.assert_allclose(even.replacement_probs(), 0.01, rtol=1e-9)
    assert even.temperature == pytest.approx(HammingPayoff.for_edit_rate(tokens=range(300), edit_rate=0.01).temperature)
    # How often, and where, is Hamming's; by what, similarity's.
    plain = HammingPayoff(range(4, 4 + size), even.temperature)
    references = np.random.default_rng(3).integers(2, 4 + size, size=(4_000, 20))  # 2 and 3 may not be drawn
    weights = even._log_masses(1 / even.temperature)
    for row in (0, 200, size):
        near = np.exp(similarities[row] / even.similarity_temperature) if row < size else np.zeros(0)
        rest = size - width - 1 if row < size else size
        assert np.exp(weights[row]).sum() == pytest.approx(
            (rest + len(near)) * math.exp(-even.edit_cost / even.temperature)
        )
        assert np.exp(weights[row, -1]) / np.exp(weights[row]).sum() == pytest.approx(rest / (near.sum() + rest))
    keys = np.arange(4_000, dtype=np.uint64)
    drawn, by_hamming = (np.array(payoff.draw(references.tolist(), keys).labels) for payoff in (even, plain))
    replaced = drawn != references
    assert abs(replaced.sum() - (by_hamming != references).sum()) < 5 * math.sqrt(1_600)
    # Neighbours lie one to ten places on.
    steps = (drawn - references)[replaced & (references >= 4)] % size
    shares = counts[4:] / counts.sum() @ (1 - np.exp(weights[:-1, -1] - np.log(np.exp(weights[:-1]).sum(axis=1))))
    assert even.neighbour_share() == pytest.approx(shares) and shares > 0.95
    assert (steps <= width).mean() == pytest.approx(shares, abs=0.03)
    # At another similarity temperature as many edits, and others.
    flat = WeightedHammingPayoff.for_edit_rate(similarity_temperature=0.5, **settings)
    assert flat.temperature == pytest.approx(even.temperature) and flat.neighbour_share() < 0.2
    for value in (0, -1.0, math.nan, math.inf, True, "0.1"):
        with pytest.raises(ValueError, match="`similarity_temperature` must be a number above 0, finite"):
            WeightedHammingPayoff.for_edit_rate(similarity_temperature=value, **settings)


def test_without_a_rest_the_rate_is_met_by_the_tokens_that_have_neighbours():
    counts = [0, 0, 5, 1, 3, 1]  # 2 and 4 have neighbours: 8 of 10 tokens
    payoff = WeightedHammingPayoff.for_edit_rate(
        tokens=range(2, 6), neighbours=Neighbours.of_table(TABLE), edit_rate=0.2, rest=False, counts=counts
    )
    np.testing.assert_allclose(payoff.replacement_probs(), [0.25, 0, 0.25, 0])
    assert payoff.neighbour_share() == 1 and payoff.log_prob([5], [4]) == -math.inf


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
