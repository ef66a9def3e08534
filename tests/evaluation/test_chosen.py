"""The checkpoint that was chosen: the best evaluation where the best model is loaded, else the last one."""

import pytest

from hf_localgan.evaluation.chosen import chosen_evaluation

HISTORY = [
    {"step": 2, "loss": 5.0},
    {"step": 2, "eval_loss": 3.0, "eval_bleu": 10.0},
    {"step": 4, "eval_loss": 3.5},
    {"step": 4, "eval_matching": 0.5},
    {"step": 6, "train_runtime": 9.0},
    {"step": 6, "test_loss": 3.2},
]


@pytest.mark.parametrize(
    ("best", "load_best_model", "expected"),
    [
        (2, True, (2, True, 3.0)),
        (2, False, (4, False, 3.5)),  # the weights are the last ones, whichever evaluation was the best
        (None, True, (4, False, 3.5)),
        (6, True, (4, False, 3.5)),  # whose evaluation has left no record
    ],
)
def test_the_best_evaluation_counts_where_the_best_model_is_loaded(best, load_best_model, expected):
    state = {"log_history": HISTORY, "best_global_step": best}
    chosen = chosen_evaluation(state, load_best_model, ["eval_loss"])
    assert (chosen.step, chosen.is_best, chosen.scores["eval_loss"]) == expected


def test_an_evaluation_is_what_has_one_of_the_keys_with_all_that_was_logged_of_it():
    state = {"log_history": HISTORY, "best_global_step": None}
    assert chosen_evaluation(state, True, ["eval_matching"]).scores == {"step": 4, "eval_matching": 0.5}
    both = {"step": 4, "eval_loss": 3.5, "eval_matching": 0.5}
    assert chosen_evaluation(state, True, ["eval_loss", "eval_matching"]).scores == both
    assert chosen_evaluation(state, True, ["eval_quality"]) is None
    assert chosen_evaluation({}, True, ["eval_loss"]) is None
