"""Importance sampling against the exact law of its draws, by enumeration; keys, extremes, the trap, refusals."""

import math
import pickle
import warnings
from collections import Counter, defaultdict
from itertools import product

import numpy as np
import pytest

from hf_localgan.payoff.base import Draws, Payoff
from hf_localgan.payoff.edit import EditPayoff
from hf_localgan.payoff.exact_edit import ExactEditPayoff
from hf_localgan.payoff.hamming import HammingPayoff
from hf_localgan.payoff.importance import ImportancePayoff
from hf_localgan.payoff.rewards import NegativeTokenErrorRate, SentenceBleu


class GivenPayoff(Payoff):
    """Draws what it is told to, candidate after candidate for each reference, with the probabilities told."""

    def __init__(self, candidates, probs=()):
        super().__init__(1.0)
        self.given, self.probs = candidates, dict(zip(map(tuple, candidates), probs, strict=False))

    def sample(self, labels, rng):
        return self.given[int(rng.integers(len(self.given)))]

    def draw(self, labels, keys, *, temperature=None):
        drawn = [self.given[i % len(self.given)] for i in range(len(labels))]
        return Draws(drawn, np.arange(len(drawn)) % len(self.given))

    def log_prob(self, candidate, reference, *, temperature=None):
        return math.log(self.probs[tuple(candidate)])


def odd_reward(candidate, reference):
    """No function of the number of edits, so that a wrong weight shows."""
    return 0.3 * len(candidate) + (0.8 if candidate[:1] == [1] else 0.0) - sum(candidate) / 5


def keys_of(number, seed=0):
    return np.random.default_rng(seed).integers(2**63, size=number).astype(np.uint64)


def strings(tokens, longest):
    return [list(string) for length in range(longest + 1) for string in product(tokens, repeat=length)]


def support(proposal, reference, longest):
    """All strings that the proposal draws, and their probabilities."""
    probs = {tuple(string): math.exp(proposal.log_prob(string, reference)) for string in strings([0, 1], longest)}
    probs = {string: prob for string, prob in probs.items() if prob > 0}
    assert sum(probs.values()) == pytest.approx(1, abs=1e-9)
    return probs


def law_of_draws(probs, weights, number):
    """Of one of `number` independent strings, chosen in proportion to its weight: the sum over all tuples of them."""
    law = defaultdict(float)
    for chosen in product(probs, repeat=number):
        chance = math.prod(probs[string] for string in chosen)
        total = sum(weights[string] for string in chosen)
        for string in chosen:
            law[string] += chance * weights[string] / total
    return law


def target_of(probs, weights):
    total = sum(probs[string] * weights[string] for string in probs)
    return {string: probs[string] * weights[string] / total for string in probs}


def total_variation(left, right):
    return sum(abs(left.get(string, 0) - right.get(string, 0)) for string in {*left, *right}) / 2


CASES = {  # proposal, reference, longest string
    "hamming": (HammingPayoff([0, 1], 1.5, "unit"), [0, 1, 1], 3),
    # Deletions and insertions: several scripts give one string, whose probability is their sum.
    "edit": (EditPayoff([0, 1], 1.5), [0], 3),
}


def weights_of(probs, reference, temperature, base):
    weights = {string: math.exp(odd_reward(list(string), reference) / temperature) for string in probs}
    return {string: weight / (probs[string] if base == "uniform" else 1) for string, weight in weights.items()}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("base", ["proposal", "uniform"])
@pytest.mark.parametrize("number", [1, 2, 3])
def test_draws_follow_the_law_that_enumeration_of_all_candidates_gives(
    number, base, case, draw_many, chi_square, alpha
):
    proposal, reference, longest = CASES[case]
    payoff = ImportancePayoff(proposal, odd_reward, number, temperature=0.4, base=base)
    probs = support(proposal, reference, longest)
    law = law_of_draws(probs, weights_of(probs, reference, 0.4, base), number)
    for how, draws in (("draw", 8_000), ("sample", 500)):
        assert chi_square(draw_many(payoff, reference, draws, how), law) > alpha


@pytest.mark.parametrize("base", ["proposal", "uniform"])
def test_draws_near_the_target_as_candidates_grow(base):
    proposal, reference, longest = CASES["hamming"]
    probs = support(proposal, reference, longest)
    weights = weights_of(probs, reference, 0.4, base)
    target = target_of(probs, weights)
    distances = [total_variation(law_of_draws(probs, weights, number), target) for number in (1, 2, 3, 4)]
    assert distances == sorted(distances, reverse=True) and distances[0] > 0.25
    # From here there are too many tuples. 2,000 draws of 8 strings differ from their own law by about
    # 0.5 * sum sqrt(2 p (1 - p) / (pi * 2000)) < 0.5 * 8 * sqrt(2 * 1/8 * 7/8 / (pi * 2000)) = 0.024.
    payoff = ImportancePayoff(proposal, odd_reward, 100, temperature=0.4, base=base)
    drawn = Counter(map(tuple, payoff.sample_batch([reference] * 2_000, keys_of(2_000))))
    observed = {string: count / 2_000 for string, count in drawn.items()}
    assert total_variation(observed, target) < 0.045 < distances[-1]


@pytest.mark.parametrize("base", ["proposal", "uniform"])
def test_weighted_candidates_estimate_means_under_the_target_within_their_standard_error(base):
    proposal, reference, longest = CASES["edit"]
    payoff = ImportancePayoff(proposal, odd_reward, 5_000, temperature=0.5, base=base)
    candidates = payoff.candidates([reference], keys_of(1))
    probs = support(proposal, reference, longest)
    target = target_of(probs, weights_of(probs, reference, 0.5, base))
    for function in (len, sum, lambda string: odd_reward(list(string), reference)):
        exact = sum(prob * function(string) for string, prob in target.items())
        values = np.array([function(tuple(string)) for string in candidates.labels[0]], dtype=float)
        estimate = candidates.weights[0] @ values
        standard_error = math.sqrt(np.square(candidates.weights[0] * (values - estimate)).sum())
        assert 0 < standard_error < 0.06
        assert abs(estimate - exact) < 4 * standard_error


@pytest.mark.parametrize("base", ["proposal", "uniform"])
def test_the_softmax_of_log_target_is_the_target(base):
    proposal, reference, longest = CASES["edit"]
    payoff = ImportancePayoff(proposal, odd_reward, 4, temperature=0.7, base=base)
    probs = support(proposal, reference, longest)
    logs = np.array([payoff.log_target(list(string), reference) for string in probs])
    target = target_of(probs, weights_of(probs, reference, 0.7, base))
    np.testing.assert_allclose(np.exp(logs) / np.exp(logs).sum(), list(target.values()), rtol=1e-9)
    hot = payoff.log_target([1], reference, temperature=1.4) - (base == "proposal") * proposal.log_prob([1], reference)
    assert hot == pytest.approx(odd_reward([1], reference) / 1.4)


@pytest.mark.parametrize("base", ["proposal", "uniform"])
def test_a_proposal_without_its_normaliser_gives_the_same_weights_for_references_of_any_length(base):
    # Eq. 4 around 20 different tokens: the strings at each distance are too many to count. An edit loses 1/20 of
    # reward, 5.6 nats at 0.009, and gains as much in 1 / P.
    proposal, reference = ExactEditPayoff(range(61), 0.9), list(range(20))
    payoff = ImportancePayoff(proposal, NegativeTokenErrorRate(), 50, temperature=0.009, base=base)
    found = payoff.candidates([reference], keys_of(1))
    assert found.edits.min() < found.edits.max()
    rate, cost = found.edits[0] / 20, proposal.edit_cost / 0.9
    logs = -rate / 0.009 + (found.edits[0] * cost if base == "uniform" else 0)
    np.testing.assert_allclose(found.weights[0], np.exp(logs - logs.max()) / np.exp(logs - logs.max()).sum())
    assert payoff.draw([reference], keys_of(1)).labels[0] in found.labels[0]
    assert payoff.sample(reference, np.random.default_rng(0))
    two = [payoff.log_target(candidate, reference) for candidate in (reference, reference[2:])]
    assert two[1] - two[0] == pytest.approx(-0.1 / 0.009 - (2 * cost if base == "proposal" else 0))


@pytest.mark.filterwarnings("ignore:The weights of 30")
def test_weights_of_a_short_reference_do_not_feel_its_normaliser():
    proposal = ExactEditPayoff(range(3), 0.9)
    payoff = ImportancePayoff(proposal, odd_reward, 30, temperature=0.8, base="uniform")
    found = payoff.candidates([[0, 1]], keys_of(1))
    probs = np.array([math.exp(proposal.log_prob(candidate, [0, 1])) for candidate in found.labels[0]])
    weights = np.exp(found.rewards[0] / 0.8) / probs
    np.testing.assert_allclose(found.weights[0], weights / weights.sum())


def test_weights_and_effective_sample_size_by_hand():
    # Rewards 0 and tau ln 3: weights 1 : 3, so 1/4 and 3/4; 1 / (1/16 + 9/16) = 1.6
    proposal = GivenPayoff([[1], [2]], probs=[0.5, 0.25])
    reward = {1: 0.0, 2: 0.5 * math.log(3)}
    settings = dict(reward=lambda candidate, reference: reward[candidate[0]], num_candidates=2, temperature=0.5)
    candidates = ImportancePayoff(proposal, **settings).candidates([[7], [8, 9]], keys_of(2))
    assert candidates.labels == [[[1], [2]], [[1], [2]]]
    np.testing.assert_allclose(candidates.rewards, [[0.0, reward[2]]] * 2)
    np.testing.assert_allclose(candidates.weights, [[1 / 4, 3 / 4]] * 2, rtol=1e-12)
    np.testing.assert_array_equal(candidates.edits, [[0, 1], [0, 1]])
    np.testing.assert_allclose(candidates.effective_sample_size, [1.6, 1.6], rtol=1e-12)
    # Divided by the proposal's 1/2 and 1/4: 2 : 12, so 1/7 and 6/7; 49 / 37
    uniform = ImportancePayoff(proposal, **settings, base="uniform").candidates([[7]], keys_of(1))
    np.testing.assert_allclose(uniform.weights, [[1 / 7, 6 / 7]], rtol=1e-12)
    np.testing.assert_allclose(uniform.effective_sample_size, [49 / 37], rtol=1e-12)


def test_a_draw_is_one_of_its_candidates_with_their_sample_size_and_its_edits():
    payoff = bleu_payoff()
    references, keys = batch_of_references()
    candidates, draws = payoff.candidates(references, keys), payoff.draw(references, keys)
    for row, label in enumerate(draws.labels):
        place = candidates.labels[row].index(label)
        assert candidates.edits[row, place] == draws.edits[row]
        assert candidates.weights[row, place] > 0
    np.testing.assert_array_equal(draws.effective_sample_size, candidates.effective_sample_size)
    assert draws.labels != references and draws.labels == payoff.sample_batch(references, keys)


def bleu_payoff(**settings):
    proposal = EditPayoff.for_edit_rate(tokens=range(4, 60), edit_rate=0.2, length=8)
    return ImportancePayoff(proposal, SentenceBleu(), **{"num_candidates": 6, "temperature": 0.3, **settings})


def batch_of_references():
    rng = np.random.default_rng(3)
    return [rng.integers(4, 60, size=length).tolist() for length in (0, 1, 8, 8, 13, 30)], keys_of(6, seed=8)


@pytest.mark.parametrize("base", ["proposal", "uniform"])
def test_a_draw_depends_on_its_key_and_reference_only(base):
    payoff = bleu_payoff(base=base)
    references, keys = batch_of_references()
    together = payoff.draw(references, keys)
    for row in range(len(references)):
        alone = payoff.draw([references[row]], keys[[row]])
        assert alone.labels[0] == together.labels[row] and alone.edits[0] == together.edits[row]
        assert alone.effective_sample_size[0] == pytest.approx(together.effective_sample_size[row], rel=1e-12)
    order = [4, 2, 0, 5, 1, 3]
    assert payoff.sample_batch([references[i] for i in order], keys[order]) == [together.labels[i] for i in order]


def test_candidates_of_one_reference_and_of_equal_references_differ():
    payoff = bleu_payoff(num_candidates=50)
    references = [list(range(10, 30))] * 2
    candidates = payoff.candidates(references, keys_of(2))
    assert len(set(map(tuple, candidates.labels[0]))) > 40
    assert len(set(map(tuple, candidates.labels[0])) & set(map(tuple, candidates.labels[1]))) < 5
    repeated = payoff.candidates(references, keys_of(2))
    assert repeated.labels == candidates.labels
    np.testing.assert_array_equal(repeated.weights, candidates.weights)


def test_a_pickled_sampler_draws_the_same():
    references, keys = batch_of_references()
    payoff = bleu_payoff()
    assert pickle.loads(pickle.dumps(payoff)).draw(references, keys).labels == payoff.draw(references, keys).labels


def refuse(candidate, reference):
    raise AssertionError("the reward was asked")


@pytest.mark.parametrize("base", ["proposal", "uniform"])
def test_temperature_zero_returns_the_reference_without_randomness(base):
    references, keys = batch_of_references()
    payoff = bleu_payoff(temperature=0.0, base=base)
    payoff.reward = refuse
    draws = payoff.draw(references, keys)
    assert draws.labels == references and not draws.edits.any()
    assert draws.effective_sample_size.tolist() == [6.0] * 6
    assert draws.labels[4] is not references[4]
    rng = np.random.default_rng(0)
    assert payoff.sample(references[4], rng) == references[4]
    assert rng.random() == np.random.default_rng(0).random()
    payoff.reward = SentenceBleu()
    candidates = payoff.candidates(references, keys)
    assert candidates.labels == [[reference] * 6 for reference in references]
    assert (candidates.weights == 1 / 6).all() and (candidates.rewards == 1).all()
    np.testing.assert_allclose(candidates.effective_sample_size, 6)


def test_the_temperature_of_a_call_replaces_the_rewards_and_leaves_the_proposals():
    references, keys = batch_of_references()
    other, own = bleu_payoff(temperature=5.0), bleu_payoff(temperature=0.1)
    expected, actual = own.candidates(references, keys), other.candidates(references, keys, temperature=0.1)
    assert actual.labels == expected.labels
    np.testing.assert_array_equal(actual.weights, expected.weights)
    assert other.draw(references, keys, temperature=0.1).labels == own.draw(references, keys).labels
    assert own.draw(references, keys, temperature=0).labels == references


def test_extreme_temperatures_and_rewards_overflow_nothing():
    rewards = {1: -math.inf, 2: -1e300, 3: 2.0, 4: 2.0}
    payoff = ImportancePayoff(GivenPayoff([[1], [2], [3], [4]]), lambda candidate, _: rewards[candidate[0]], 4, 1.0)
    for temperature, weights in ((5e-324, [0, 0, 0.5, 0.5]), (1.0, [0, 0, 0.5, 0.5]), (math.inf, [0, 1, 1, 1])):
        candidates = payoff.candidates([[9]], keys_of(1), temperature=temperature)
        np.testing.assert_allclose(candidates.weights[0], np.array(weights) / sum(weights))
    drawn = payoff.sample_batch([[9]] * 100, keys_of(100), temperature=math.inf)
    assert {label[0] for label in drawn} == {2, 3, 4}


@pytest.mark.parametrize("base", ["proposal", "uniform"])
def test_a_finite_reward_that_overflows_over_its_temperature_is_not_taken_for_minus_infinity(base):
    # -1e308 / 1e-10 = -1e318, beyond float64. Draws compare rewards: equal ones have equal weights.
    payoff = ImportancePayoff(GivenPayoff([[1], [2]], [0.5, 0.5]), lambda candidate, _: -1e308, 2, 1e-10, base)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert payoff.candidates([[9]], keys_of(1)).weights.tolist() == [[0.5, 0.5]]
        assert payoff.sample([9], np.random.default_rng(0)) in ([1], [2])
        with pytest.raises(ValueError, match=r"The reward -1e\+308 over the temperature 1e-10 overflows"):
            payoff.log_target([1], [9])
        assert math.isfinite(payoff.log_target([1], [9], temperature=1.0))
        payoff.reward = lambda candidate, reference: -math.inf
        assert payoff.log_target([1], [9]) == -math.inf


def test_an_empty_batch_and_an_empty_reference():
    payoff = bleu_payoff(base="uniform")
    draws = payoff.draw([], np.zeros(0, dtype=np.uint64))
    assert draws.labels == [] and draws.edits.shape == draws.effective_sample_size.shape == (0,)
    assert payoff.candidates([], np.zeros(0, dtype=np.uint64)).weights.shape == (0, 6)
    assert payoff.sample_batch([[]], keys_of(1)) == [[]]  # nothing can be edited: Eq. 11 has 2 m edits at most


def test_uniform_base_picks_the_most_corrupted_candidate_and_says_so():
    # 8,000 words, 13 tokens, 0.7 edits on average. A second edit costs at most 1 of BLEU, so exp(-1 / tau) at most, and
    # gains a factor of nearly 8,000 = exp(9) over P: tau = 0.2 gives exp(-5) at worst.
    proposal = HammingPayoff.for_edit_rate(tokens=range(4, 8004), edit_rate=0.7 / 13)
    rng = np.random.default_rng(0)
    references, keys = [rng.integers(4, 8004, size=13).tolist() for _ in range(64)], keys_of(64)
    payoff = ImportancePayoff(proposal, SentenceBleu(), 64, temperature=0.2, base="uniform")
    with pytest.warns(UserWarning, match=r"The weights of 64 candidates are worth [12]\.\d equal ones") as caught:
        draws = payoff.draw(references, keys)
    candidates = payoff.candidates(references, keys)  # warns once only
    assert len(caught) == 1
    assert candidates.edits.mean() == pytest.approx(0.7, abs=0.05)
    assert draws.edits.mean() == pytest.approx(3.0, abs=0.3)
    assert (draws.edits == candidates.edits.max(axis=1)).mean() > 0.95
    assert draws.effective_sample_size.mean() < 6.4

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        proposed = ImportancePayoff(proposal, SentenceBleu(), 64, temperature=0.2).draw(references, keys)
        candidates = payoff.candidates(references, keys)
    assert proposed.edits.mean() < 0.5 and proposed.effective_sample_size.mean() > 32


@pytest.mark.parametrize("base", ["proposal", "uniform"])
def test_few_effective_candidates_warn_with_the_uniform_base_only(base):
    # One of 20 equally probable candidates has all the weight: 1 < 20 / 10. By the proposal that is what a low
    # temperature asks for, the best candidate.
    given = [[token] for token in range(20)]
    payoff = ImportancePayoff(GivenPayoff(given, [1 / 20] * 20), lambda candidate, _: candidate[0], 20, 0.01, base)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert payoff.draw([[30]], keys_of(1)).labels == [[19]]
    assert [str(warning.message)[:43] for warning in caught] == ["The weights of 20 candidates are worth 1.0 "] * (
        base == "uniform"
    )


@pytest.mark.parametrize("how", ["draw", "sample_batch", "candidates"])
def test_the_warning_of_few_effective_candidates_points_at_the_callers_line(how):
    given = [[token] for token in range(20)]
    payoff = ImportancePayoff(
        GivenPayoff(given, [1 / 20] * 20), lambda candidate, _: candidate[0], 20, 0.01, base="uniform"
    )
    method = getattr(payoff, how)
    with pytest.warns(UserWarning, match="worth 1.0 equal ones") as caught:
        method([[30]], keys_of(1))
    here = (lambda: 0).__code__
    assert (caught[0].filename, caught[0].lineno) == (here.co_filename, here.co_firstlineno - 1)


def test_uniform_base_at_the_scale_of_an_edit_does_not_pick_the_most_corrupted():
    # 1 / tau = 2 ln 8,000 per edit of the reward's own kind: one edit costs exp(-18) and gains exp(9).
    proposal = HammingPayoff.for_edit_rate(tokens=range(4, 8004), edit_rate=0.7 / 13)
    reference = list(range(100, 113))
    cost = 2 * math.log(8_000) * 13  # the error rate of 13 tokens falls by 1/13 with each edit
    payoff = ImportancePayoff(proposal, NegativeTokenErrorRate(), 64, temperature=1 / cost, base="uniform")
    draws = payoff.draw([reference] * 64, keys_of(64))
    assert draws.edits.mean() < 0.1 and draws.effective_sample_size.mean() > 6.4


def importance(reward=odd_reward, **settings):
    settings = {"proposal": GivenPayoff([[1], [2]]), "num_candidates": 2, "temperature": 1.0, **settings}
    return ImportancePayoff(reward=reward, **settings)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_candidates": 0}, "`num_candidates` must be a whole number of at least 1, got 0"),
        ({"num_candidates": 2.5}, "`num_candidates` must be .* got 2.5"),
        ({"base": "target"}, '`base` must be "proposal" or "uniform", got \'target\''),
        ({"temperature": -0.1}, "`temperature` must be at least 0, got -0.1"),
        ({"temperature": math.nan}, "`temperature` must be at least 0, got nan"),
        ({"proposal": [[1]]}, "`proposal` must be a sampler .* got list"),
        ({"reward": 0.5}, "`reward` must be callable .* got 0.5"),
        ({"reward": SentenceBleu}, r"`reward` .* got the class SentenceBleu. Make one: `SentenceBleu\(...\)`"),
        ({"temperature": True}, "`temperature` must be a number of at least 0, .* got True"),
        ({"num_candidates": True}, "`num_candidates` must be a whole number of at least 1, got True"),
    ],
)
def test_bad_settings_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        importance(**settings)


def test_a_negative_temperature_of_a_call_is_refused():
    with pytest.raises(ValueError, match="`temperature` must be at least 0, got -1.0"):
        importance().draw([[5]], keys_of(1), temperature=-1)


@pytest.mark.parametrize("how", ["draw", "sample"])
@pytest.mark.parametrize(
    ("value", "message"),
    [
        (math.nan, r"returned nan for candidate \[[12]\] and reference \[5\]"),
        (math.inf, r"returned inf for candidate \[[12]\] and reference \[5\]"),
        ([1.0, 2.0], r"must return one number, got \[1.0, 2.0\] for candidate \[[12]\]"),
        (-math.inf, r"All 2 candidates for the reference \[5\] have the reward -inf.*Raise `num_candidates` \(2\)"),
    ],
)
def test_what_a_reward_must_not_return_is_refused_when_drawing(value, message, how):
    payoff = importance(lambda candidate, reference: value)
    with pytest.raises(ValueError, match=message):
        payoff.draw([[5]], keys_of(1)) if how == "draw" else payoff.sample([5], np.random.default_rng(0))


def test_only_the_reference_that_no_candidate_satisfies_is_named():
    payoff = importance(lambda candidate, reference: -math.inf if reference == [6] else 0.0)
    with pytest.raises(ValueError, match=r"for the reference \[6\] have"):
        payoff.draw([[5], [6], [7]], keys_of(3))


def test_a_reward_that_raises_names_candidate_and_reference_when_drawing():
    with pytest.raises(RuntimeError, match=r"AssertionError.* for candidate \[1\] and reference \[5\]") as caught:
        importance(refuse).draw([[5]], keys_of(1))
    assert isinstance(caught.value.__cause__, AssertionError)


def test_log_prob_is_refused_here_and_where_a_proposal_needs_it():
    payoff = importance()
    with pytest.raises(NotImplementedError, match="sums over all sets of candidates.*`log_target"):
        payoff.log_prob([1], [5])
    with pytest.raises(NotImplementedError, match='which ImportancePayoff does not have.*base="proposal"'):
        importance(proposal=payoff, base="uniform").draw([[5]], keys_of(1))
    with pytest.raises(ValueError, match="at 0 every draw is the reference"):
        importance(temperature=0).log_target([1], [5])
    assert importance(lambda candidate, reference: -math.inf, base="uniform").log_target([1], [5]) == -math.inf


def test_there_is_one_key_for_each_reference():
    with pytest.raises(ValueError, match="one for each of the 2 references"):
        importance().draw([[5], [6]], keys_of(3))
