"""Scores of MMI: by hand, step by step against whole sequences, and how their numbers are tuned."""

import math

import pytest
import torch

from hf_localgan.functional.mutual_information import (
    anti_lm_scores,
    anti_lm_step,
    best_candidates,
    best_rows,
    bidirectional_scores,
    climb_settings,
    settings_grid,
    tune_scores,
)


def test_anti_lm_by_hand():
    # Two tokens, lambda 1/2, gamma 1, mu 0.1:
    #   (-1) + (-2) - 0.5 * (-3) + 2 * 0.1 = -1.3        with gamma 2 also - 0.5 * (-4): 0.7
    log_probs, other = torch.tensor([[-1.0, -2.0, 9.0]]), torch.tensor([[-3.0, -4.0, 9.0]])
    mask = torch.tensor([[1, 1, 0]])
    for steps, expected in ((0, -2.8), (1, -1.3), (2, 0.7), (None, 0.7), (9, 0.7)):
        actual = anti_lm_scores(log_probs, other, mask, 0.5, steps, 0.1)
        torch.testing.assert_close(actual, torch.tensor([expected]))


def test_padding_in_front_is_no_step():
    log_probs, other = torch.tensor([[9.0, -1.0, -2.0]]), torch.tensor([[9.0, -3.0, -4.0]])
    actual = anti_lm_scores(log_probs, other, torch.tensor([[0, 1, 1]]), 0.5, 1, 0.1)
    torch.testing.assert_close(actual, torch.tensor([-1.3]))
    assert anti_lm_scores(log_probs, other, torch.zeros(1, 3), 0.5).item() == 0


@pytest.mark.parametrize("steps", [0, 2, None])
def test_steps_of_the_search_add_up_to_the_score_of_the_sequence(steps):
    draw = torch.Generator().manual_seed(0)
    logits, other = torch.randn(2, 5, 7, generator=draw), torch.randn(2, 5, 7, generator=draw)
    tokens = torch.randint(7, (2, 5), generator=draw)
    total = 0
    for step in range(5):
        asked = other[:, step] if steps is None or step < steps else None
        scores = anti_lm_step(logits[:, step], asked, 0.7, 0.2)
        # logits and log-probabilities are the same thing for it
        torch.testing.assert_close(scores, anti_lm_step(logits[:, step].log_softmax(1), asked, 0.7, 0.2))
        total = total + scores.gather(1, tokens[:, step, None])[:, 0]
    at = [one.log_softmax(2).gather(2, tokens[:, :, None])[:, :, 0] for one in (logits, other)]
    torch.testing.assert_close(total, anti_lm_scores(*at, torch.ones(2, 5), 0.7, steps, 0.2))


def test_a_uniform_language_model_is_a_length_reward():
    # - lambda log(1 / V) = lambda ln V for each token
    logits = torch.randn(3, 8, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(
        anti_lm_step(logits, torch.zeros(3, 8), 0.4), anti_lm_step(logits, None, 0.4, 0.4 * math.log(8))
    )


def test_a_forbidden_token_stays_forbidden():
    scores = torch.tensor([[0.0, -math.inf, 0.0]])
    for other in (torch.tensor([[0.0, -math.inf, 0.0]]), torch.zeros(1, 3)):
        step = anti_lm_step(scores, other, 2.0)
        assert step.isneginf().tolist() == [[False, True, False]] and not step.isnan().any()


def test_bidi_by_hand():
    # (1 - 1/4) (-4) + 1/4 (-6) + 2 * 0.5 = -3.5; per token of 2 and 3: 3/4 (-2) + 1/4 (-2) + 1 = -1
    parts = (torch.tensor([-4.0]), torch.tensor([-6.0]), torch.tensor([2]), torch.tensor([3]))
    assert bidirectional_scores(*parts, 0.25, 0.5).item() == -3.5
    assert bidirectional_scores(*parts, 0.25, 0.5, "token").item() == -1.0


def test_a_weight_of_one_is_the_backward_order_even_for_impossible_responses():
    forward, backward = torch.tensor([-math.inf, -1.0, -2.0]), torch.tensor([-1.0, -3.0, -2.0])
    lengths = torch.tensor([0, 2, 5])
    scores = bidirectional_scores(forward, backward, lengths, lengths, 1.0, normalise="sum")
    assert scores.argsort(descending=True).tolist() == [0, 2, 1]
    assert bidirectional_scores(forward, backward, lengths, lengths, 0.0).tolist()[1:] == [-1.0, -2.0]
    assert bidirectional_scores(forward[1:], backward[1:], lengths[:2], lengths[:2], 0.5, normalise="token")[0] == -2.0


def test_bayes_rule_makes_both_forms_one_order():
    # (1 - l) log p(y|q) + l log p(q|y) = log p(y|q) - l log p(y) + l log p(q): the same order for every query.
    joint = torch.rand(4, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    joint = joint / joint.sum()
    forward = (joint / joint.sum(1, keepdim=True)).log()
    backward = (joint / joint.sum(0)).log()
    ones = torch.ones(5, dtype=torch.long)
    for row in range(4):
        bidi = bidirectional_scores(forward[row], backward[row], ones, ones, 0.3)
        anti = anti_lm_scores(forward[row][:, None], joint.sum(0).log()[:, None], torch.ones(5, 1), 0.3)
        difference = bidi - anti
        torch.testing.assert_close(difference, 0.3 * joint.sum(1).log()[row].expand(5))


def test_the_best_of_each_query_and_cut_candidates_last():
    scores = torch.tensor([1.0, 3.0, math.nan, 5.0, 4.0, 4.0])
    groups = torch.tensor([0, 0, 0, 1, 1, 1])
    assert best_rows(scores, groups).tolist() == [1, 0, 2, 3, 4, 5]
    finished = torch.tensor([True, False, True, False, True, True])
    assert best_rows(scores, groups, finished).tolist() == [0, 2, 1, 4, 5, 3]
    assert best_candidates(scores, groups, finished).tolist() == [0, 4]
    assert best_candidates(scores, groups, torch.zeros(6)).tolist() == [1, 3]  # nothing ended
    assert best_candidates(scores[[3, 0, 4, 1]], groups[[3, 0, 4, 1]]).tolist() == [3, 0]  # in any order


def test_tuning_finds_the_point_of_the_best_answers():
    # Query 0 wants its longer candidate, query 1 its likelier one: mu must lie between 1 and 3 nats.
    forward, lengths = torch.tensor([-1.0, -2.0, -1.0, -4.0]), torch.tensor([1, 2, 1, 2])
    groups, wanted = torch.tensor([0, 0, 1, 1]), {1, 2}
    tuned = tune_scores(
        lambda length_reward: forward + length_reward * lengths, groups,
        lambda rows: len(wanted & set(rows.tolist())), settings_grid(length_reward=(0.0, 1.5, 2.0, 4.0)),
    )  # fmt: skip
    assert tuned.settings == {"length_reward": 1.5} and tuned.quality == 2  # the first of equal ones
    assert [quality for _, quality in tuned.tried] == [1, 2, 2, 1]
    assert list(settings_grid(a=(1, 2), b=(3,))) == [{"a": 1, "b": 3}, {"a": 2, "b": 3}]


def test_what_is_refused():
    ones, mask = torch.zeros(2, 3), torch.ones(2, 3)
    with pytest.raises(ValueError, match="`penalty` must be a number of at least 0, got -0.1"):
        anti_lm_scores(ones, ones, mask, -0.1)
    with pytest.raises(ValueError, match="`steps` must be at least 0, or `None` for all steps, got -1"):
        anti_lm_scores(ones, ones, mask, 0.1, -1)
    with pytest.raises(ValueError, match=r"Shapes must be equal, got .*\(2, 3\).*\(3,\)"):
        anti_lm_scores(ones, torch.zeros(3), mask, 0.1)
    with pytest.raises(ValueError, match="the same vocabulary"):
        anti_lm_step(ones, torch.zeros(2, 4), 0.1)
    for weight in (-0.1, 1.1, math.nan):
        with pytest.raises(ValueError, match="`weight` must be from 0"):
            bidirectional_scores(*[torch.zeros(2)] * 4, weight)
    with pytest.raises(ValueError, match='"sum" or "token", got "mean"'):
        bidirectional_scores(*[torch.zeros(2)] * 4, 0.5, normalise="mean")
    with pytest.raises(ValueError, match="has no point"):
        tune_scores(lambda: ones[0], torch.zeros(3), lambda rows: 0, [])
    with pytest.raises(ValueError, match="all 1 points is NaN"):
        tune_scores(lambda: ones[0], torch.zeros(3), lambda rows: math.nan, [{}])


def test_climbing_ends_where_no_setting_alone_is_better_and_tries_nothing_twice():
    asked = []

    def quality(a, b):
        asked.append((a, b))
        return -((a - 3) ** 2) - (b - 2) ** 2 - 0.5 * (a - 3) * (b - 2)  # one summit, at 3 and 2

    tuned = climb_settings(quality, {"a": range(6), "b": (0, 1, 2, 3)}, {"a": 0, "b": 0})
    assert (tuned.settings, tuned.quality) == ({"a": 3, "b": 2}, 0.0)
    assert len(asked) == len(set(asked)) == len(tuned.tried) < 24


def test_climbing_keeps_its_start_where_nothing_is_better_and_passes_over_nan():
    flat = climb_settings(lambda a: 1.0, {"a": (1, 2)}, {"a": 7})
    assert flat.settings == {"a": 7}
    some = climb_settings(lambda a: math.nan if a == 7 else float(a), {"a": (1, 2)}, {"a": 7})
    assert some.settings == {"a": 2} and len(some.tried) == 3
    with pytest.raises(ValueError, match="quality of all 2 points is NaN"):
        climb_settings(lambda a: math.nan, {"a": (1,)}, {"a": 7})
    for grid, start in (({}, {}), ({"a": ()}, {"a": 1}), ({"a": (1,)}, {"b": 1})):
        with pytest.raises(ValueError, match="The grid must give values of at least one setting"):
            climb_settings(lambda **point: 1.0, grid, start)
