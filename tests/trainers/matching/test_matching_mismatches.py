"""Responses of other queries, in a batch and over a split, and what is computed from their scores."""

import math

import pytest
import torch
import torch.nn.functional as F

from hf_localgan.trainers.matching.mismatches import (
    ContrastedRows,
    draw_mismatches,
    matching_loss,
    matching_metrics,
)


def rows(*numbers: int) -> torch.Tensor:
    """A row of two tokens for each number, the second one the same for all."""
    return torch.tensor([[number, 7] for number in numbers])


def draw(*arguments, seed: int = 0):
    return draw_mismatches(*arguments, torch.Generator().manual_seed(seed))


# ---- in a batch ----


def test_a_mismatch_is_of_another_query_and_no_response_of_the_pair():
    queries, responses = rows(1, 1, 1, 2, 2, 3), rows(10, 11, 12, 13, 10, 14)
    found, drawn = set(), draw(queries, responses, 400)
    assert drawn[1].all() and drawn[0].shape == (6, 400)
    for row, others in enumerate(drawn[0].tolist()):
        found |= {(row, other) for other in others}
    # Of 36 couples of rows 9 + 4 + 1 have one query; rows 0 and 4 have one response.
    allowed = {(i, j) for i in range(6) for j in range(6) if not torch.equal(queries[i], queries[j])} - {(0, 4), (4, 0)}
    assert len(allowed) == 20 and found == allowed  # 400 draws of at most 5 miss one with probability < 20 * 0.8 ** 400


def test_all_other_responses_are_drawn_equally_often():
    # Row 0 may take rows 1 to 4: 20,000 draws, of each 5,000 with a standard deviation of 61; 5 of them is 306.
    drawn, _ = draw(rows(1, 2, 3, 4, 5), rows(1, 2, 3, 4, 5), 20_000)
    counts = torch.bincount(drawn[0], minlength=5)
    assert counts[0] == 0 and (counts[1:] - 5_000).abs().max() < 306


@pytest.mark.parametrize("queries", [(1,), (1, 1, 1)])
def test_a_batch_of_one_query_has_no_mismatches(queries):
    drawn, found = draw(rows(*queries), rows(*range(len(queries))), 2)
    assert not found.any() and drawn.shape == (len(queries), 2) and drawn.max() < len(queries)


def test_a_pair_may_be_the_only_one_without_a_mismatch():
    # The other queries have the response that row 0 has.
    drawn, found = draw(rows(1, 2, 3, 1), rows(10, 10, 10, 11), 5)
    assert found.tolist() == [False, True, True, True]
    assert set(drawn[1].tolist()) == set(drawn[2].tolist()) == {3}


def test_draws_depend_on_the_generator_alone():
    queries = rows(*range(20))
    assert torch.equal(draw(queries, queries, 3)[0], draw(queries, queries, 3)[0])
    assert not torch.equal(draw(queries, queries, 3)[0], draw(queries, queries, 3, seed=1)[0])


# ---- over a split ----


def split(number: int) -> list[dict]:
    """Three responses to each query; the queries differ in their last token alone."""
    return [{"input_ids": [4, 5, query], "labels": [query, reply]} for query in range(number) for reply in range(3)]


def test_each_row_is_followed_by_its_query_with_responses_of_other_queries():
    made = ContrastedRows(split(5), 4, seed=0)
    assert len(made) == 15 * 5 and made.groups.tolist() == [query for query in range(5) for _ in range(3)]
    for number, row in enumerate(split(5)):
        true, *others = (made[number * 5 + place] for place in range(5))
        assert true == row
        for other in others:
            assert other["input_ids"] == row["input_ids"] and other["labels"][0] != row["labels"][0]
    assert [made[i] for i in range(75)] == [ContrastedRows(split(5), 4, seed=0)[i] for i in range(75)]
    assert [made[i] for i in range(75)] != [ContrastedRows(split(5), 4, seed=1)[i] for i in range(75)]


def test_rows_of_one_query_cannot_be_contrasted():
    with pytest.raises(ValueError, match="the 3 rows to evaluate have 1 different query"):
        ContrastedRows(split(1), 1, seed=0)
    with pytest.raises(ValueError, match="the 0 rows to evaluate have 0 different queries"):
        ContrastedRows([], 1, seed=0)


# ---- numbers ----


def test_the_loss_by_hand():
    # Logits ln 3 and -ln 3 are probabilities 3/4 and 1/4, 0 is 1/2.
    logits, others = torch.tensor([math.log(3), 0.0]), torch.tensor([[-math.log(3), math.log(3)], [0.0, 0.0]])
    first = (-math.log(3 / 4) + (-math.log(3 / 4) - math.log(1 / 4)) / 2) / 2
    torch.testing.assert_close(matching_loss(logits, others), torch.tensor([first, math.log(2)]))


def test_the_best_logit_is_the_log_ratio_of_the_joint_to_the_product():
    # Two queries and two responses with p(q, r) = [[0.4, 0.1], [0.1, 0.4]]: all marginals are 1/2, so that the best
    # logits are ln(0.4 / 0.25) and ln(0.1 / 0.25), for any number of mismatches.
    joint = torch.tensor([[0.4, 0.1], [0.1, 0.4]], dtype=torch.float64)
    for negatives in (1, 3):
        table = torch.zeros(2, 2, dtype=torch.float64, requires_grad=True)
        optimizer = torch.optim.LBFGS([table], max_iter=100)

        def expected(table=table, negatives=negatives):
            # All draws of a mismatched response are alike: its expectation stands for every one of them.
            total = 0
            for query in range(2):
                for response in range(2):
                    for other in range(2):
                        others = table[query, other].expand(1, negatives)
                        loss = matching_loss(table[query, response][None], others)[0]
                        total = total + joint[query, response] * 0.5 * loss
            return total

        def step(optimizer=optimizer, expected=expected):
            optimizer.zero_grad()
            loss = expected()
            loss.backward()
            return loss

        optimizer.step(step)
        torch.testing.assert_close(table.detach(), (joint / 0.25).log(), atol=1e-4, rtol=0)


def test_the_metrics_by_hand():
    logits, others = torch.tensor([2.0, -1.0]), torch.tensor([[1.0, 2.0], [-3.0, 0.0]])
    found = matching_metrics(logits, others)
    assert found["matching"] == (1 + 0.5 + 1 + 0) / 4
    assert found["accuracy"] == (1 / 2 + 2 / 4) / 2  # 2 is right, and so are -3 and 0
    assert found["loss"] == pytest.approx(matching_loss(logits, others).mean().item())
    assert found["real"] == pytest.approx(logits.sigmoid().mean().item())
    assert found["mismatched"] == pytest.approx(F.sigmoid(others).mean().item())
