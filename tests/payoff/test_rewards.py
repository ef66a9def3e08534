"""Rewards against sacrebleu, plain dynamic programmes and arithmetic; what is refused of a reward."""

import math
import pickle
from collections import Counter

import numpy as np
import pytest
import torch
from sacrebleu.metrics import BLEU, CHRF

from hf_localgan.payoff.ngrams import clipped_matches
from hf_localgan.payoff.rewards import (
    SMOOTHING,
    BatchReward,
    Chrf,
    NegativeTokenErrorRate,
    RougeL,
    SentenceBleu,
    evaluate_rewards,
)

WORDS = list(range(4, 20))  # regular tokens of the tiny tokenizer


def random_pairs(number, vocab_size, longest, seed=0):
    """References, and candidates that share much with them: some tokens replaced, dropped, doubled or moved."""
    rng = np.random.default_rng(seed)
    candidates, references = [], []
    for _ in range(number):
        reference = rng.integers(vocab_size, size=rng.integers(longest + 1)).tolist()
        candidate = reference[:]
        for _ in range(rng.integers(5)):
            place = int(rng.integers(len(candidate) + 1))
            change = [[], [int(rng.integers(vocab_size))], candidate[place : place + 3] * 2][rng.integers(3)]
            candidate[place : place + int(rng.integers(3))] = change
        candidates.append(candidate)
        references.append(reference)
    return candidates, references


def spelled(tokens):
    return " ".join(map(str, tokens))


def sentence_bleu(candidate, reference, **settings):
    """What sacrebleu says, 0 to 1, with ids as words."""
    metric = BLEU(tokenize="none", effective_order=True, **settings)
    return metric.sentence_score(spelled(candidate), [spelled(reference)]).score / 100


def table(candidate, reference, first, step):
    """A plain dynamic programme over prefixes: `step(above, left, diagonal, equal)`."""
    row = [first * i for i in range(len(reference) + 1)]
    for i, token in enumerate(candidate):
        new = [first * (i + 1)]
        for j, other in enumerate(reference):
            new.append(step(row[j + 1], new[j], row[j], token == other))
        row = new
    return row[-1]


def levenshtein(candidate, reference):
    return table(candidate, reference, 1, lambda up, left, diagonal, same: min(up + 1, left + 1, diagonal + (not same)))


def longest_common(candidate, reference):
    return table(candidate, reference, 0, lambda up, left, diagonal, same: max(up, left, diagonal + same))


def test_bleu_by_hand():
    # 1 2 3 4 against 1 2 3 5: 3 of 4 words, 2 of 3 pairs, 1 of 2 triples, no quadruple, which counts as 1/2 of 1
    expected = (3 / 4 * 2 / 3 * 1 / 2 * 1 / 2) ** (1 / 4)
    assert SentenceBleu()([1, 2, 3, 4], [1, 2, 3, 5]) == pytest.approx(expected, abs=1e-12)
    # 1 2 against 1 2 3: orders 1 and 2 are whole, the candidate has no others, and is shorter by 1/2
    assert SentenceBleu()([1, 2], [1, 2, 3]) == pytest.approx(math.exp(1 - 3 / 2), abs=1e-12)


@pytest.mark.parametrize("vocab_size", [1, 3, 1000])
@pytest.mark.parametrize("smoothing", SMOOTHING)
def test_bleu_is_sacrebleus_on_random_pairs(smoothing, vocab_size):
    candidates, references = random_pairs(250, vocab_size, longest=12, seed=vocab_size)
    actual = SentenceBleu(smoothing=smoothing).batch(candidates, references)
    pairs = zip(candidates, references, strict=True)
    expected = [sentence_bleu(*pair, smooth_method=smoothing) if any(pair) else 1.0 for pair in pairs]
    equal = [candidate == reference for candidate, reference in zip(candidates, references, strict=True)]
    assert 10 < sum(equal) < 200
    if smoothing == "add-k":  # adds to the missing orders of a short sentence, too: even a perfect one falls below 1
        expected = np.where(equal, 1.0, expected)
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize("max_order", [1, 2, 6])
def test_bleu_of_other_orders_is_sacrebleus(max_order):
    candidates, references = random_pairs(100, 5, longest=12, seed=9)
    actual = SentenceBleu(max_order=max_order).batch(candidates, references)
    for candidate, reference, score in zip(candidates, references, actual, strict=True):
        if candidate or reference:
            assert score == pytest.approx(sentence_bleu(candidate, reference, max_ngram_order=max_order), abs=1e-9)


def test_bleu_of_long_sequences_is_sacrebleus():
    candidates, references = random_pairs(6, 30, longest=2_000, seed=3)
    actual = SentenceBleu().batch(candidates, references)
    expected = [sentence_bleu(*pair) for pair in zip(candidates, references, strict=True)]
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize(("number", "longest"), [(3_000, 5), (300, 200), (3, 20_000)])
def test_common_ngrams_are_those_of_a_counter_also_where_pairs_are_counted_in_parts(number, longest):
    # 3,000 short pairs are more than fit a part by number, 300 longer ones by tokens, and each of the last fills one.
    candidates, references = random_pairs(number, 6, longest, seed=longest)
    matches, lengths, reference_lengths = clipped_matches(candidates, references, 3)
    assert lengths.tolist() == list(map(len, candidates)) and reference_lengths.tolist() == list(map(len, references))
    for order in (1, 2, 3):
        counters = [
            [Counter(zip(*(row[start:] for start in range(order)), strict=False)) for row in rows]
            for rows in (candidates, references)
        ]
        expected = [(left & right).total() for left, right in zip(*counters, strict=True)]
        assert matches[:, order - 1].tolist() == expected


def test_error_rate_by_hand_and_against_an_empty_reference():
    reward = NegativeTokenErrorRate()
    assert reward([1, 9, 3, 4, 4], [1, 2, 3, 4]) == -2 / 4  # one replaced, one too many
    assert reward([1, 2], [1, 2]) == 0 and math.copysign(1, reward([1, 2], [1, 2])) == 1  # not -0.0
    assert reward([], [5, 6]) == -1
    assert reward([5, 6, 7], []) == -3 and reward([], []) == 0


def test_rouge_l_by_hand():
    # 1 . 3 4 is common: 3 tokens of 4 and of 5
    assert RougeL()([1, 9, 3, 4], [1, 2, 3, 4, 4]) == pytest.approx(2 * (3 / 4) * (3 / 5) / (3 / 4 + 3 / 5), abs=1e-12)
    assert RougeL()([], [1]) == 0 and RougeL()([], []) == 1 and RougeL()([2], [1]) == 0


def test_error_rate_and_rouge_l_are_those_of_a_plain_dynamic_programme():
    candidates, references = random_pairs(150, 4, longest=12, seed=1)
    pairs = list(zip(candidates, references, strict=True))
    rates = [-levenshtein(*pair) / max(len(pair[1]), 1) for pair in pairs]
    np.testing.assert_allclose(NegativeTokenErrorRate().batch(candidates, references), rates, rtol=0, atol=1e-12)
    rouge = [2 * longest_common(*pair) / sum(map(len, pair)) if any(pair) else 1.0 for pair in pairs]
    np.testing.assert_allclose(RougeL().batch(candidates, references), rouge, rtol=0, atol=1e-12)


@pytest.mark.parametrize("settings", [{}, {"word_order": 2}, {"char_order": 3, "beta": 1}])
def test_chrf_is_sacrebleus_on_the_decoded_text(settings, tiny_tokenizer):
    candidates, references = random_text_pairs(seed=2)
    actual = Chrf(tiny_tokenizer, **settings).batch(candidates, references)
    metric = CHRF(**settings)
    texts = zip(tiny_tokenizer.batch_decode(candidates), tiny_tokenizer.batch_decode(references), strict=True)
    expected = [metric.sentence_score(text, [other]).score / 100 for text, other in texts]
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-12)
    assert np.median(actual) < 0.9 and actual.max() == 1


def test_bleu_of_text_is_sacrebleus_on_the_decoded_text(tiny_tokenizer):
    candidates, references = random_text_pairs(seed=4)
    actual = SentenceBleu(tokenizer=tiny_tokenizer, tokenize="char").batch(candidates, references)
    metric = BLEU(tokenize="char", effective_order=True)
    texts = zip(tiny_tokenizer.batch_decode(candidates), tiny_tokenizer.batch_decode(references), strict=True)
    expected = [metric.sentence_score(text, [other]).score / 100 for text, other in texts]
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-12)
    # "hello ?" is two words to 13a as it is to the ids; "name ?!" would not be
    assert SentenceBleu(tokenizer=tiny_tokenizer)([4, 17], [4, 18]) == pytest.approx(
        SentenceBleu()([4, 17], [4, 18]), abs=1e-9
    )


def random_text_pairs(seed):
    candidates, references = random_pairs(60, len(WORDS), longest=9, seed=seed)
    kept = [i for i, (left, right) in enumerate(zip(candidates, references, strict=True)) if left and right]
    return [[[WORDS[token] for token in rows[i]] for i in kept] for rows in (candidates, references)]


def test_special_tokens_are_no_text(tiny_tokenizer):
    assert Chrf(tiny_tokenizer)([4, 5, 2, 0], [4, 5]) == 1


def rewards(tokenizer):
    return [SentenceBleu(), SentenceBleu(tokenizer=tokenizer), NegativeTokenErrorRate(), RougeL(), Chrf(tokenizer)]


@pytest.mark.parametrize("number", range(5))
def test_every_reward_is_best_for_the_reference_and_the_same_alone_in_batches_and_after_pickling(
    number, tiny_tokenizer
):
    reward = rewards(tiny_tokenizer)[number]
    candidates, references = random_pairs(40, 12, longest=8, seed=5)
    candidates, references = ([[token + 4 for token in row] for row in rows] for rows in (candidates, references))
    together = reward.batch(candidates, references)
    assert together.dtype == np.float64 and together.shape == (40,)
    assert together.tolist() == [reward(*pair) for pair in zip(candidates, references, strict=True)]
    assert (together <= reward.batch(references, references)).all()
    assert reward([], []) == reward([4], [4]) == (0 if isinstance(reward, NegativeTokenErrorRate) else 1)
    assert pickle.loads(pickle.dumps(reward)).batch(candidates, references).tolist() == together.tolist()
    assert reward.batch([], []).shape == (0,)


@pytest.mark.parametrize("number", range(5))
@pytest.mark.parametrize("make", [tuple, np.array, torch.tensor], ids=["tuple", "array", "tensor"])
def test_rows_may_be_any_sequence_of_ids(number, make, tiny_tokenizer):
    reward = rewards(tiny_tokenizer)[number]
    expected = reward([4, 5, 6, 7], [4, 5, 7])
    assert reward(make([4, 5, 6, 7]), [4, 5, 7]) == reward(make([4, 5, 6, 7]), make([4, 5, 7])) == expected
    assert reward(make([4, 5]), [4, 5]) == reward([4, 5], [4, 5])


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: SentenceBleu(max_order=0), r"`max_order` must be a whole number of at least 1, got 0"),
        (lambda: SentenceBleu(max_order=2.5), r"`max_order` must be .* got 2.5"),
        (lambda: SentenceBleu(smoothing="lin"), r"`smoothing` must be one of 'exp', .* got 'lin'"),
        (lambda: SentenceBleu(tokenizer="13a"), r"`tokenizer` of `SentenceBleu` must be a transformers tokenizer"),
        (lambda: Chrf(None), r"`tokenizer` of `Chrf` must be a transformers tokenizer.* got None"),
    ],
)
def test_rewards_refuse_bad_settings(build, message):
    with pytest.raises(ValueError, match=message):
        build()


class Judge(BatchReward):
    """Gives what it is told to, and remembers what it was asked."""

    def __init__(self, judge):
        self.judge, self.sizes = judge, []

    def batch(self, candidates, references):
        self.sizes.append(len(candidates))
        return self.judge(candidates, references)


def test_a_reward_with_a_batch_is_asked_once_and_a_plain_one_once_for_each_different_pair():
    candidates, references = [[1], [2], [1], [1]], [[5], [5], [5], [6]]
    judge = Judge(lambda candidates, references: np.arange(len(candidates)))
    assert evaluate_rewards(judge, candidates, references).tolist() == [0, 1, 2, 3]
    assert judge.sizes == [4]
    asked = []

    def reward(candidate, reference):
        asked.append((candidate, reference))
        return candidate[0] + 10 * reference[0]

    actual = evaluate_rewards(reward, candidates, references)
    assert actual.tolist() == [51, 52, 51, 61] and actual.dtype == np.float64
    assert asked == [([1], [5]), ([2], [5]), ([1], [6])]


@pytest.mark.parametrize("value", [1, True, np.float32(1), np.array(1.0), torch.tensor(1.0)])
def test_a_reward_may_be_any_single_number(value):
    assert evaluate_rewards(lambda candidate, reference: value, [[1]], [[2]]).tolist() == [1.0]


def test_minus_infinity_is_a_reward():
    assert evaluate_rewards(lambda candidate, reference: -math.inf, [[1]], [[2]]).tolist() == [-math.inf]


@pytest.mark.parametrize("batched", [False, True])
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_nan_and_infinity_are_refused_with_the_pair(value, batched):
    def reward(candidate, reference):
        return value if candidate == [3, 4] else 0.5

    if batched:
        reward = Judge(lambda candidates, references: np.array([0.5, value]))
    with pytest.raises(ValueError, match=rf"returned {value} for candidate \[3, 4\] and reference \[7, 8\]"):
        evaluate_rewards(reward, [[1], [3, 4]], [[2], [7, 8]])


@pytest.mark.parametrize("batched", [False, True])
def test_a_reward_that_raises_is_reported_with_the_pair_and_its_own_error(batched):
    def one(candidate, reference):
        return 1 / (candidate[0] - 3)

    def many(candidates, references):
        return np.array([one(*pair) for pair in zip(candidates, references, strict=True)])

    reward = Judge(many) if batched else one
    with pytest.raises(RuntimeError, match=r"ZeroDivisionError.* for candidate \[3\] and reference \[8, 9\]") as caught:
        evaluate_rewards(reward, [[1], [3], [5]], [[2], [8, 9], [6]])
    assert isinstance(caught.value.__cause__, ZeroDivisionError)


def test_a_batch_that_raises_where_no_pair_does_is_reported_as_such():
    def many(candidates, references):
        if len(candidates) > 1:
            raise MemoryError("too many")
        return np.zeros(len(candidates))

    with pytest.raises(RuntimeError, match=r"`Judge` raised MemoryError\('too many'\) on 2 pairs") as caught:
        evaluate_rewards(Judge(many), [[1], [3]], [[2], [4]])
    assert isinstance(caught.value.__cause__, MemoryError)


@pytest.mark.parametrize("value", [None, "0.5", [0.5], np.zeros(2), 1j])
def test_what_is_not_one_number_is_refused_with_the_pair(value):
    with pytest.raises(ValueError, match=r"must return one number, got .* for candidate \[1\] and reference \[2\]"):
        evaluate_rewards(lambda candidate, reference: value, [[1]], [[2]])


@pytest.mark.parametrize("value", [None, 0.5, np.zeros(3), np.zeros((2, 1)), ["a", "b"]])
def test_a_batch_of_another_shape_is_refused(value):
    with pytest.raises(ValueError, match=r"`batch` of the reward `Judge` must return one number for each of the 2"):
        evaluate_rewards(Judge(lambda candidates, references: value), [[1], [3]], [[2], [4]])


def test_candidates_and_references_must_be_as_many():
    with pytest.raises(ValueError, match="must be as many, got 2 and 1"):
        evaluate_rewards(RougeL(), [[1], [2]], [[1]])
