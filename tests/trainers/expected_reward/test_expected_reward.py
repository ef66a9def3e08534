"""`ExpectedRewardTrainer`: its gradient against the exact one, its baselines, and what training does."""

import math
import shutil
from itertools import product

import pytest
import torch
from transformers import TrainerCallback

from hf_localgan.functional.exponentiated import entropy, expected_reward_loss
from hf_localgan.trainers import MleConfig, MleTrainer
from hf_localgan.trainers.expected_reward.config import ExpectedRewardConfig
from hf_localgan.trainers.expected_reward.trainer import ExpectedRewardTrainer

END, LONGEST = 2, 2
# What a model of four tokens that stops after two can generate: 1 + 3 + 9 strings, the last nine with or without end.
OUTPUTS = [[END], *[[a, b] for a, b in product((0, 1, 3), range(4))]]


def overlap(candidate: list[int], reference: list[int]) -> float:
    """Shares of the reference's tokens and length, on no round scale: its mean is far from 0."""
    shared = sum(min(candidate.count(token), reference.count(token)) for token in set(candidate))
    return 2.0 + shared / len(reference) - 0.3 * abs(len(candidate) - len(reference))


@pytest.fixture
def policy(trainer):
    """`policy(model, train=None, reward=overlap, **arguments)`: an `ExpectedRewardTrainer`."""

    def build(model, train=None, reward=overlap, **arguments):
        class Run(ExpectedRewardTrainer):
            def __init__(self, *args, **kwargs):
                super().__init__(*args, reward=reward, **kwargs)

        arguments = {"config": ExpectedRewardConfig, "policy_max_new_tokens": LONGEST, **arguments}
        return trainer(model, train, cls=Run, **arguments)

    return build


@pytest.fixture
def small(tiny_generator, tiny_t5, tiny_bart):
    """`small(name)`: a model of four tokens, the third of which is the end."""

    def build(name: str, dropout: float = 0.0):
        if name == "rnn_seq2seq":
            return tiny_generator(seed=1, vocab_size=4, dropout=dropout)
        with torch.random.fork_rng(), torch.no_grad():
            torch.manual_seed(4)
            model = {"t5": tiny_t5, "bart": tiny_bart}[name](vocab_size=4)
            for parameter in model.parameters():
                parameter.add_(torch.randn_like(parameter), alpha=0.3)
        return model

    return build


def batch_of(examples: int) -> dict:
    """One query and reference (3, 1) again and again, with padding."""
    return {
        "input_ids": torch.tensor([[3, 1, 3, END, 0]]).repeat(examples, 1),
        "attention_mask": torch.tensor([[1, 1, 1, 1, 0]]).repeat(examples, 1),
        "labels": torch.tensor([[3, 1, END, -100]]).repeat(examples, 1),
    }


def exact(model, temperature: float) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Eq. 3 on all outputs, its gradient, and the log-probabilities of the outputs."""
    labels = torch.tensor([output + [-100] * (LONGEST - len(output)) for output in OUTPUTS])
    batch = {name: value for name, value in batch_of(len(OUTPUTS)).items() if name != "labels"}
    decoder = model.prepare_decoder_input_ids_from_labels(labels=labels)
    token_log_probs = model(**batch, decoder_input_ids=decoder).logits.log_softmax(dim=-1)
    at_label = token_log_probs.gather(2, labels.clamp(min=0).unsqueeze(2)).squeeze(2)
    log_p = at_label.masked_fill(labels == -100, 0.0).sum(dim=1)
    stripped = [[token for token in output if token != END] for output in OUTPUTS]
    rewards = torch.tensor([overlap(output, [3, 1]) for output in stripped])
    loss = expected_reward_loss(rewards, log_p, temperature)
    return loss.detach(), flat_gradient(loss, model), log_p.detach()


def flat_gradient(loss: torch.Tensor, model) -> torch.Tensor:
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    gradients = torch.autograd.grad(loss, parameters, allow_unused=True)
    return torch.cat([
        torch.zeros_like(parameter).flatten() if gradient is None else gradient.flatten()
        for parameter, gradient in zip(parameters, gradients, strict=True)
    ])  # fmt: skip


def estimates(run, times: int, examples: int = 48) -> tuple[torch.Tensor, torch.Tensor]:
    """Losses and gradients of repeated batches, shapes `(times,)` and `(times, parameters)`."""
    losses, gradients = [], []
    run.model.train()
    for step in range(times):
        run.state.global_step = step  # another seed
        loss = run.compute_loss(run.model, batch_of(examples), num_items_in_batch=torch.tensor(1))
        losses.append(loss.detach())
        gradients.append(flat_gradient(loss, run.model))
    return torch.stack(losses), torch.stack(gradients)


def assert_unbiased(samples: torch.Tensor, truth: torch.Tensor):
    """The mean of independent estimates is within its standard errors of the truth.

    Of a thousand standard normal values the largest exceeds 5 once in 1,700 times. The mean square is about 1; it
    spreads, for 13 outputs leave the gradient 12 free directions. Seeds are fixed: it is the same at each run.
    """
    error = samples.std(dim=0) / math.sqrt(len(samples))
    scores = (samples.mean(dim=0) - truth)[error > 1e-7] / error[error > 1e-7]
    assert scores.numel() > 0.2 * truth.numel()
    assert scores.abs().max() < 5
    assert scores.square().mean() < 2.5


@pytest.mark.parametrize("baseline", ["leave_one_out", "mean", "greedy", "none"])
@pytest.mark.parametrize("temperature", [0.0, 0.5])
def test_the_estimated_gradient_and_loss_are_those_of_equation_3(baseline, temperature, small, policy):
    model = small("rnn_seq2seq")
    loss, gradient, log_p = exact(model, temperature)
    assert log_p.exp().sum().item() == pytest.approx(1.0, abs=1e-5)  # the outputs are all there are
    run = policy(model, baseline=baseline, temperature=temperature, num_samples=3)
    losses, gradients = estimates(run, times=50)
    assert_unbiased(gradients, gradient)
    assert (losses.mean() - loss).abs() < 4 * losses.std() / math.sqrt(len(losses))
    # The estimate is good enough to tell: 50 batches of 144 samples point the same way as the truth.
    assert torch.cosine_similarity(gradients.mean(dim=0), gradient, dim=0) > 0.9


@pytest.mark.parametrize("name", ["t5", "bart"])
def test_the_estimated_gradient_is_right_for_transformers(name, small, policy):
    model = small(name)
    _, gradient, _ = exact(model, 0.3)
    _, gradients = estimates(policy(model, temperature=0.3), times=40)
    assert_unbiased(gradients, gradient)


def test_every_baseline_lowers_the_variance(small, policy):
    # The rewards lie around 2: without a baseline every sample is pushed up, the more the likelier it was drawn.
    variance = {
        baseline: estimates(policy(small("rnn_seq2seq"), baseline=baseline), times=25)[1].var(dim=0).sum().item()
        for baseline in ("leave_one_out", "mean", "greedy", "none")
    }
    for baseline in ("leave_one_out", "mean", "greedy"):
        assert variance[baseline] < 0.5 * variance["none"]


def test_dropout_is_off_for_samples_and_their_probability_and_back_on_afterwards(small, policy):
    model = small("rnn_seq2seq", dropout=0.5).train()
    plain = small("rnn_seq2seq")
    for temperature in (0.0, 0.5):
        ours, theirs = (estimates(policy(some, temperature=temperature), times=3) for some in (model, plain))
        assert torch.equal(ours[0], theirs[0]) and torch.equal(ours[1], theirs[1])
    assert all(module.training for module in model.modules())


def test_dropout_is_on_in_the_maximum_likelihood_part(family, policy, pairs, collate):
    model, batch = family("t5", dropout=True), collate(pairs(4))
    run = policy(model, mle_weight=1.0)
    model.train()
    nats = []
    for _ in range(2):
        run.policy_loss = lambda model, inputs: torch.zeros(())
        nats.append(run.compute_loss(model, dict(batch), num_items_in_batch=torch.tensor(10)).item())
    assert nats[0] != nats[1]


# ---- samples ----


def test_samples_have_the_frequencies_of_the_model_whatever_its_generation_settings_say(small, policy):
    model = small("bart")
    model.generation_config.update(
        forced_eos_token_id=END, no_repeat_ngram_size=1, temperature=0.1, top_p=0.5, top_k=1, suppress_tokens=[3],
        do_sample=True, min_new_tokens=2, repetition_penalty=5.0, num_beams=3, forced_bos_token_id=1,
    )  # fmt: skip
    before = model.generation_config
    _, _, log_p = exact(model, 0.0)
    run = policy(model, num_samples=8)
    drawn = [run.sample(batch_of(500))[0]["labels"] for _ in range(2)]  # 2 * 500 * 8 samples
    rows = [[token for token in row if token != -100] for labels in drawn for row in labels.tolist()]
    counts = torch.tensor([rows.count(output) for output in OUTPUTS]).double()
    assert counts.sum() == 8000  # no other string
    expected = 8000 * log_p.double().exp()
    assert expected.min() > 5
    # chi-square of 13 - 1 degrees of freedom: 32.9 is exceeded once in a thousand times
    assert ((counts - expected) ** 2 / expected).sum() < 32.9
    assert model.generation_config is before and before.no_repeat_ngram_size == 1


def test_the_end_token_is_kept_and_samples_that_reach_the_limit_have_none(small, policy):
    run = policy(small("rnn_seq2seq"), num_samples=5)
    inputs = batch_of(40)
    repeated, finished = run.sample(inputs)
    labels = repeated["labels"]
    assert labels.shape == (200, 2) and finished.shape == (200,)
    assert torch.equal(repeated["input_ids"], inputs["input_ids"].repeat_interleave(5, dim=0))
    assert torch.equal(finished, (labels == END).any(dim=1)) and 0 < finished.float().mean() < 1
    ended_first = labels[:, 0] == END
    assert (labels[ended_first, 1] == -100).all() and ended_first.any()
    assert (labels[~ended_first] >= 0).all()
    assert (labels[~ended_first] == 0).any()  # padding, drawn as a token, is no end


def test_samples_differ_between_updates_batches_and_processes_and_not_with_the_global_state(small, policy, monkeypatch):
    run = policy(small("rnn_seq2seq"))

    def draw(step: int, noise: int = 0) -> list:
        run.state.global_step = step
        torch.manual_seed(noise)
        return run.sample(batch_of(30))[0]["labels"].tolist()

    first, second_batch, later = draw(0), draw(0), draw(1)
    assert first != second_batch != later != first
    run._draws.restart()
    assert draw(0, noise=7) == first
    assert draw(0, noise=8) == second_batch
    assert torch.equal(torch.random.get_rng_state(), torch.Generator().manual_seed(8).get_state())  # left alone
    run._draws.restart()
    monkeypatch.setattr(type(run.args), "process_index", 1)
    assert draw(0) != first


def test_terms_are_logged(small, policy, losses):
    # A constant model: samples are "3 3", never ended, with entropy 0; two tokens each.
    model = small("bart")
    with torch.no_grad():
        model.lm_head.weight.zero_()
    model.final_logits_bias = torch.tensor([[-90.0, -90.0, -90.0, 90.0]])
    rows = [{"input_ids": [3, END], "attention_mask": [1, 1], "labels": [3, 1, END]}] * 4
    run = policy(model, rows, max_steps=1, temperature=0.5, learning_rate=0.0)
    run.train()
    # overlap("3 3", "3 1") = 2 + 1/2
    assert losses(run, "policy/reward") == [2.5] == losses(run, "policy/baseline")
    assert losses(run, "policy/entropy") == [pytest.approx(0.0, abs=1e-6)]
    assert losses(run, "policy/sample_length") == [2.0]
    assert losses(run, "policy/finished") == [0.0]
    assert losses(run) == [-2.5]


# ---- the baseline of a running mean ----


def test_the_running_mean_moves_once_an_update_by_all_its_batches(small, policy, losses):
    rows = [{"input_ids": [3, END], "attention_mask": [1, 1], "labels": [3, 1, END]}] * 8
    run = policy(
        small("rnn_seq2seq"), rows, max_steps=2, baseline="mean", per_device_train_batch_size=2,
        gradient_accumulation_steps=2, learning_rate=0.0, baseline_decay=0.5,
    )  # fmt: skip
    run.train()
    first, second = losses(run, "policy/reward")
    assert run.running_mean.value == pytest.approx((first + 2 * second) / 3)
    # In the first update each batch takes its own mean, which is its reward; in the second the mean of the first.
    assert losses(run, "policy/baseline") == [pytest.approx(first), pytest.approx(first)]


# ---- the scale ----


def deterministic_samples(monkeypatch):
    """Samples that depend on the query and the sample's number, so that splitting a batch changes nothing."""

    def sample(self, inputs):
        number = self.args.num_samples
        repeated = {name: inputs[name].repeat_interleave(number, dim=0) for name in ("input_ids", "attention_mask")}
        rows = [[4 + (int(row.sum()) + 3 * k) % 16, 4 + (int(row.sum()) * (k + 1)) % 16]
                for row in inputs["input_ids"] for k in range(number)]  # fmt: skip
        labels = torch.tensor(rows)
        return {**repeated, "labels": labels}, torch.zeros(len(labels), dtype=torch.bool)

    monkeypatch.setattr(ExpectedRewardTrainer, "sample", sample)


@pytest.mark.parametrize("name", ["rnn_seq2seq", "t5", "bart", "marian", "encoder_decoder"])
@pytest.mark.parametrize("mle_weight", [0.0, 0.7])
def test_half_batches_with_accumulation_equal_whole_ones(name, mle_weight, family, policy, pairs, losses, monkeypatch):
    deterministic_samples(monkeypatch)
    rows, ends = pairs(16), []
    for fast in (True, False):
        for accumulation in (1, 2):
            run = policy(
                family(name), rows, max_steps=2, fast_loss=fast, gradient_accumulation_steps=accumulation,
                per_device_train_batch_size=8 // accumulation, mle_weight=mle_weight, temperature=0.1,
            )  # fmt: skip
            run.train()
            assert run._separable is fast
            parameters = torch.cat([parameter.detach().flatten() for parameter in run.model.parameters()])
            ends.append((parameters, torch.tensor([losses(run), losses(run, "policy/reward")])))
    before = torch.cat([parameter.detach().flatten() for parameter in family(name).parameters()])
    assert (ends[0][0] - before).abs().max() > 0.003
    for parameters, logged in ends[1:]:
        torch.testing.assert_close(parameters, ends[0][0], atol=2e-6, rtol=1e-5)
        torch.testing.assert_close(logged, ends[0][1], atol=1e-5, rtol=1e-5)


def test_label_smoothing_leaves_samples_alone_and_acts_on_references(small, policy):
    plain, smoothed = (policy(small("t5"), label_smoothing_factor=value) for value in (0.0, 0.3))
    for ours, theirs in zip(estimates(smoothed, times=2), estimates(plain, times=2), strict=True):
        assert torch.equal(ours, theirs)
    losses = []
    for run in (plain, smoothed):
        run.args.mle_weight = 1.0
        losses.append(estimates(run, times=1)[0].item())
    assert abs(losses[0] - losses[1]) > 1e-3


def test_the_maximum_likelihood_part_alone_equals_the_other_trainer(family, policy, trainer, pairs):
    # A constant reward: with a baseline of the other samples all weights are 0.
    models = family("t5"), family("t5")
    policy(models[0], pairs(16), reward=lambda candidate, reference: 1.0, mle_weight=1.0, max_steps=2).train()
    trainer(models[1], pairs(16), cls=MleTrainer, config=MleConfig, max_steps=2).train()
    for ours, theirs in zip(models[0].parameters(), models[1].parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-7, rtol=1e-6)


# ---- training ----


@pytest.mark.parametrize("name", ["rnn_seq2seq", "t5", "bart", "lora"])
@pytest.mark.parametrize("baseline", ["mean", "leave_one_out"])
def test_a_resumed_run_equals_an_uninterrupted_one(
    name, baseline, family, adapted_t5, policy, pairs, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)

    def build(folder: str, **arguments):
        model = adapted_t5() if name == "lora" else family(name, dropout=True)
        return policy(
            model, pairs(12), output_dir=folder, baseline=baseline, temperature=0.05, mle_weight=0.1, max_steps=4,
            save_strategy="steps", save_steps=2, per_device_train_batch_size=2, gradient_accumulation_steps=2,
            **arguments,
        )  # fmt: skip

    whole = build("whole")
    whole.train()
    shutil.copytree("whole/checkpoint-2", "parts/checkpoint-2")
    torch.manual_seed(99)

    class Beginning(TrainerCallback):
        def on_train_begin(self, args, state, control, **kwargs):
            self.step = state.global_step

    beginning = Beginning()
    resumed = build("parts", callbacks=[beginning])
    resumed.train(resume_from_checkpoint=True)
    assert beginning.step == 2
    for key, value in whole.model.state_dict().items():
        assert torch.equal(value, resumed.model.state_dict()[key]), key
    assert whole.running_mean.state() == resumed.running_mean.state()
    assert (whole.running_mean.weight > 0) == (baseline == "mean")


@pytest.mark.parametrize("name", ["rnn_seq2seq", "t5", "bart", "lora"])
def test_training_raises_the_reward(name, family, adapted_t5, policy, losses):
    # The reward is the share of the sample's tokens that are the token 7; queries are all alike.
    def sevens(candidate, reference):
        return candidate.count(7) / 4

    rows = [{"input_ids": [5, 6, END], "attention_mask": [1, 1, 1], "labels": [7, 7, 7, END]}] * 64
    model = adapted_t5() if name == "lora" else family(name)
    run = policy(
        model, rows, reward=sevens, max_steps=40, num_samples=8, policy_max_new_tokens=4, optim="adamw_torch",
        learning_rate=0.1 if name == "lora" else 0.02, logging_steps=10, temperature=0.0,
    )  # fmt: skip
    run.train()
    rewards = losses(run, "policy/reward")
    assert rewards[-1] > rewards[0] + (0.2 if name == "lora" else 0.3)
    assert losses(run)[-1] == pytest.approx(-rewards[-1], abs=1e-5)


def test_a_high_temperature_raises_the_entropy_and_the_exact_optimum_is_the_payoff_distribution(small, policy):
    # Eq. 5: Eq. 3 is least, at -tau log Z, where the model equals exp(r / tau) / Z.
    model, temperature = small("rnn_seq2seq"), 1.0
    rows = [{name: values[0].tolist() for name, values in batch_of(1).items()}] * 64
    rows = [{**row, "labels": [3, 1, END]} for row in rows]
    before, _, log_p = exact(model, temperature)
    run = policy(
        model, rows, temperature=temperature, num_samples=8, max_steps=100, optim="adamw_torch", learning_rate=0.03,
        lr_scheduler_type="linear",
    )  # fmt: skip
    run.train()
    after, _, trained = exact(model, temperature)
    stripped = [[token for token in output if token != END] for output in OUTPUTS]
    best = -temperature * torch.tensor([overlap(output, [3, 1]) / temperature for output in stripped]).logsumexp(dim=0)
    assert best < after < best + 0.1 * (before - best)
    assert entropy(trained) > entropy(log_p) + 0.2


def test_evaluation_sees_references_and_draws_nothing(family, policy, trainer, pairs, monkeypatch):
    rows = pairs(6)
    expected = trainer(family("t5"), evaluate=rows).evaluate()["eval_loss"]
    run = policy(family("t5"), evaluate=rows, mle_weight=0.5)
    monkeypatch.setattr(run, "sample", None)
    assert run.evaluate()["eval_loss"] == expected


@pytest.mark.parametrize(("name", "low", "high"), [
    ("bleu", 0, 0.5), ("rouge_l", 0, 0.8), ("chrf", 0, 0.8), ("token_error_rate", -6, 0),
])  # fmt: skip
def test_named_rewards(name, low, high, family, trainer, pairs, losses):
    run = trainer(
        family("t5"), pairs(8), cls=ExpectedRewardTrainer, config=ExpectedRewardConfig, max_steps=1, reward=name,
        policy_max_new_tokens=6,
    )  # fmt: skip
    run.train()
    (reward,) = losses(run, "policy/reward")
    assert low <= reward < high


# ---- what is refused ----


def test_a_reward_that_is_not_finite_or_raises(family, policy, pairs):
    def failing(candidate, reference):
        raise KeyError("no such token")

    with pytest.raises(ValueError, match=r"nan"):
        policy(family("t5"), pairs(4), reward=lambda candidate, reference: math.nan, max_steps=1).train()
    with pytest.raises(ValueError, match=r"`rewards` must be finite, got -inf"):
        policy(family("t5"), pairs(4), reward=lambda candidate, reference: -math.inf, max_steps=1).train()
    with pytest.raises(RuntimeError, match=r"no such token"):
        policy(family("t5"), pairs(4), reward=failing, max_steps=1).train()


def test_a_model_without_an_end_and_a_batch_without_labels(family, policy, pairs):
    run = policy(family("t5"), pairs(4))
    run.model.config.eos_token_id = run.model.generation_config.eos_token_id = None  # the tokenizer's until now
    with pytest.raises(ValueError, match=r"no `eos_token_id`, so that its samples never end"):
        run.sample(batch_of(1))
    rows = [{name: value for name, value in row.items() if name != "labels"} for row in pairs(2)]
    with pytest.raises(ValueError, match=r"no `labels` \(found: "):
        policy(family("t5"), rows, max_steps=1).train()
