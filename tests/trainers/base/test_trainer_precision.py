"""bfloat16 and what takes its place on processors without, the precision of the output layer, and compilation."""

from functools import partial

import pytest
import torch

from hf_localgan.models.rnn_seq2seq.precision_rnn_seq2seq import processor_has

FALLS_BACK = not processor_has(torch.bfloat16)
FAMILIES = ("rnn_seq2seq", "t5", "bart", "marian", "encoder_decoder")


def parameters_of(model) -> torch.Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("fast", [True, False])
def test_bfloat16_keeps_float32_parameters_and_stays_close(name, fast, family, trainer, pairs, losses):
    rows, runs = pairs(16), {}
    for bf16 in (False, True):
        model = family(name)
        run = trainer(model, rows, pairs(4), bf16=bf16, fast_loss=fast, max_steps=3, learning_rate=0.1)
        run.train()
        assert run._separable is fast
        assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
        moved = parameters_of(model) - parameters_of(family(name))
        runs[bf16] = (moved, losses(run), run.evaluate()["eval_loss"])
    (exact, exact_losses, exact_eval), (low, low_losses, low_eval) = runs[False], runs[True]
    assert torch.equal(exact, low) is FALLS_BACK
    # bfloat16 has 8 bits: single products are off by up to 2^-8 = 0.4 %
    assert (low - exact).norm() / exact.norm() < 0.05
    assert low_losses == pytest.approx(exact_losses, rel=0.01)
    assert low_eval == pytest.approx(exact_eval, rel=0.01)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, torch.float32),
        ({"bf16": True}, torch.bfloat16),
        ({"head_dtype": "bfloat16"}, torch.bfloat16),
        ({"bf16": True, "head_dtype": "float32"}, torch.float32),
    ],
)
def test_the_output_layer_is_computed_in_the_precision_that_was_asked_for(
    settings, expected, family, trainer, pairs, monkeypatch
):
    from hf_localgan.trainers.base import token_loss as base

    seen, compute = [], base.linear_cross_entropy

    def spy(*args, matmul_dtype=None, **kwargs):
        seen.append(matmul_dtype)
        return compute(*args, matmul_dtype=matmul_dtype, **kwargs)

    monkeypatch.setattr(base, "linear_cross_entropy", spy)
    trainer(family("rnn_seq2seq"), pairs(8), max_steps=2, **settings).train()
    assert seen == 2 * [torch.float32 if FALLS_BACK else expected]


def test_an_output_layer_in_bfloat16_learns_nearly_the_same(family, trainer, pairs):
    moved = []
    for dtype in ("float32", "bfloat16"):
        model = family("rnn_seq2seq")
        trainer(model, pairs(16), max_steps=2, head_dtype=dtype).train()
        moved.append(parameters_of(model) - parameters_of(family("rnn_seq2seq")))
    assert torch.equal(*moved) is FALLS_BACK
    assert (moved[0] - moved[1]).norm() / moved[0].norm() < 0.02


def test_an_lstm_asked_for_bfloat16_trains_answers_and_resumes_on_any_processor(
    tiny_generator, pairs, interrupted, assert_equal_runs
):
    whole, resumed, start = interrupted(
        partial(tiny_generator, cell_type="lstm"), pairs(8), pairs(3, seed=1), 3, max_steps=4, save_steps=2,
        bf16=True, sample_rows=2, sample_max_new_tokens=5,
    )  # fmt: skip
    assert whole.state.global_step == 4 and start == 2
    assert whole.args.bf16 is resumed.args.bf16 is not FALLS_BACK
    assert_equal_runs(whole, resumed)


def test_a_model_that_is_itself_in_bfloat16_trains(family, trainer, pairs, losses):
    model = family("t5").bfloat16()
    run = trainer(model, pairs(8), pairs(3), max_steps=2)
    run.train()
    assert run._separable is True
    assert all(0 < loss < 10 for loss in losses(run))
    assert 0 < run.evaluate()["eval_loss"] < 10


@pytest.mark.slow
@pytest.mark.parametrize("name", ["rnn_seq2seq", "t5"])
def test_a_compiled_model_trains_as_the_plain_one(name, family, trainer, pairs, losses):
    from torch._dynamo.utils import counters

    runs = []
    for compiled in (False, True):
        torch._dynamo.reset()
        counters.clear()
        model = family(name)
        run = trainer(model, pairs(16), pairs(4), torch_compile=compiled, max_steps=2, save_strategy="no")
        run.train()
        assert (counters["stats"]["unique_graphs"] > 0) is compiled
        assert run._separable is not compiled  # a compiled model keeps its forward
        runs.append((parameters_of(model), losses(run), run.evaluate()["eval_loss"]))
    torch.testing.assert_close(runs[0][0], runs[1][0], atol=1e-5, rtol=1e-4)
    assert runs[0][1] == pytest.approx(runs[1][1], abs=1e-4)
    assert runs[0][2] == pytest.approx(runs[1][2], abs=1e-4)
