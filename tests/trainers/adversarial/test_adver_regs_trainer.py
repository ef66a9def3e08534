"""Adver-REGS: the gradient by enumeration, values of beginnings by hand and by statistics, the control, resuming."""

from functools import partial
from itertools import product

import pytest
import torch

from hf_localgan.decoding.sampling import Responses, repeat_rows
from hf_localgan.trainers import AdverRegsConfig, AdverRegsTrainer

VOCAB, LONGEST, END = 5, 3, 2
QUIET = {"discriminator_warmup_steps": 0, "collapse_share": 1.0, "collapse_length": 100.0, "monitor_queries": 0}


@pytest.fixture
def policy(trainer, tiny_discriminator, pairs):
    """`policy(model, rows=None, **arguments)`: a trainer whose samples have up to 3 tokens."""

    def build(model, rows=None, held_out=None, dropout=0.0, **arguments):
        cls = partial(AdverRegsTrainer, discriminator=tiny_discriminator(dropout=dropout))
        arguments = {"policy_max_new_tokens": LONGEST, "teacher_forcing_weight": 0.0, **QUIET, **arguments}
        rows = pairs(8) if rows is None else rows
        return trainer(model, rows, held_out, cls=cls, config=AdverRegsConfig, **arguments)

    return build


def every_response() -> torch.Tensor:
    """Responses that end with the token 2, or are cut after three tokens; -100 behind: 1 + 4 + 16 * 5 = 85."""
    rows = []
    for length in range(1, LONGEST + 1):
        for before in product([token for token in range(VOCAB) if token != END], repeat=length - 1):
            last = range(VOCAB) if length == LONGEST else [END]
            rows += [[*before, token, *[-100] * (LONGEST - length)] for token in last]
    return torch.tensor(rows)


def queries(number: int, first: int = 4) -> dict[str, torch.Tensor]:
    ids = torch.tensor([[first, 3, END]]).expand(number, -1)
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}


def log_probs(model, inputs, labels) -> torch.Tensor:
    decoder = model.prepare_decoder_input_ids_from_labels(labels)
    logits = model(**inputs, decoder_input_ids=decoder, use_cache=False).logits.log_softmax(-1)
    return logits.gather(2, labels.clamp(min=0)[:, :, None])[:, :, 0].masked_fill(labels == -100, 0.0)


def gradient(model, loss) -> torch.Tensor:
    found = torch.autograd.grad(loss, list(model.parameters()), allow_unused=True, retain_graph=True)
    return torch.cat([one.flatten() for one in found if one is not None])


@pytest.fixture
def world(policy, tiny_generator):
    """`world(**arguments)`: a trainer, all responses to one query, and their probabilities."""

    def build(**arguments):
        run = policy(tiny_generator(seed=2, vocab_size=VOCAB, dropout=0.3).double(), **arguments)
        run.model.train()
        labels = every_response()
        inputs = queries(len(labels))
        run.model.eval()
        probabilities = log_probs(run.model, inputs, labels).sum(1).exp()
        run.model.train()
        ended = (labels == END).any(dim=1)
        return run, Responses({**inputs, "labels": labels}, ended), probabilities

    return build


@pytest.mark.parametrize("reward", ["probability", "logit"])
def test_the_expected_gradient_is_that_of_the_expected_reward(world, reward):
    run, responses, p = world(step_reward="sequence", reward=reward, adversarial_weight=0.7)
    assert p.sum().item() == pytest.approx(1.0)
    batch = run.policy_batch(queries(85), responses)
    logits = run.logits_of(queries(85), responses.labels)
    expected = logits.sigmoid() if reward == "probability" else logits
    torch.testing.assert_close(batch.rewards, expected)
    # The baseline of a sample is the mean of the 84 others, (total - r) / 84, so that r - baseline is 85 / 84 of the
    # distance from the mean of all: a constant baseline, which changes nothing, and a known factor.
    weights = batch.weights * p.detach()[:, None] * 84  # * 85 for the mean over the batch, / (85 / 84)
    loss = run.generator_loss(queries(85), batch._replace(weights=weights))
    run.model.eval()
    exact = gradient(run.model, -0.7 * (p * batch.rewards.double()).sum())
    actual = gradient(run.model, loss)
    assert ((actual - exact).norm() / exact.norm()).item() < 1e-5
    assert loss.item() == pytest.approx(-0.7 * batch.rewards.mean().item())


def test_beginnings_are_worth_what_the_discriminator_says_of_them(world):
    run, responses, _ = world(step_reward="prefix")
    rows = slice(20, 32)
    some = Responses({**queries(12), "labels": responses.labels[rows]}, responses.finished[rows])
    values, rewards = run.values(queries(12), some)
    batch = run.policy_batch(queries(12), some)
    for row, label in enumerate(some.labels):
        tokens = [token for token in label.tolist() if token != -100]
        worth = [
            run.logits_of(queries(1), torch.tensor([tokens[:length]])).sigmoid().item()
            for length in range(1, len(tokens) + 1)
        ]
        assert values[row, : len(tokens) - 1].tolist() == pytest.approx(worth[:-1], abs=1e-5)
        assert rewards[row].item() == pytest.approx(worth[-1], abs=1e-5)
        # Q_t minus the value before the token; before the first one that of the others' mean.
        before = [(rewards.sum() - rewards[row]).item() / 11, *worth[:-1]]
        advantages = [now - then for now, then in zip(worth, before, strict=True)]
        assert batch.weights[row, : len(tokens)].tolist() == pytest.approx(advantages, abs=1e-5)
        assert not batch.weights[row, len(tokens) :].any()


def test_rollouts_belong_to_their_own_prefix_and_response(policy, tiny_generator, monkeypatch):
    run = policy(tiny_generator(seed=2), step_reward="rollout", reward="logit", rollout_samples=2, rollout_rows=3)
    labels = torch.tensor([[5, 6, 7], [8, 9, END], [END, -100, -100]])
    ids = torch.tensor([[10, END], [11, END], [12, END]])
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}

    def score(given, responses):  # names the query and the first two tokens
        return given["input_ids"][:, 0] * 10_000 + responses[:, 0] * 100 + responses[:, 1].clamp(min=0).float()

    monkeypatch.setattr(run, "logits_of", score)
    values, rewards = run.values(inputs, Responses({**inputs, "labels": labels}, torch.tensor([False, True, True])))
    assert rewards.tolist() == [100_506.0, 110_809.0, 120_200.0]
    assert values[:2, 1].tolist() == [100_506.0, 110_809.0]  # both tokens are given
    assert (values[:2, 0] - torch.tensor([100_500.0, 110_800.0])).abs().max() < 20  # one, and any second one


def test_rollouts_estimate_the_enumerated_values(world):
    run, responses, p = world(step_reward="rollout", rollout_samples=400, seed=11)
    rows = torch.tensor([21, 40, 70])
    some = Responses({**queries(3), "labels": responses.labels[rows]}, responses.finished[rows])
    values, _ = run.values(queries(3), some)
    rewards = run.logits_of(queries(85), responses.labels).sigmoid().double()
    for row, label in enumerate(some.labels):
        for length in (1, 2):
            share = p * (responses.labels[:, :length] == label[:length]).all(dim=1)
            share = share / share.sum()
            mean = (share * rewards).sum()
            deviation = ((share * (rewards - mean) ** 2).sum() / 400).sqrt()
            assert abs(values[row, length - 1] - mean) < 5 * deviation + 1e-6  # six of them: wrong once in 3e5 runs


def test_rewards_that_are_all_the_same_train_nothing(world, monkeypatch):
    # Scaled by their deviation, advantages of rounding alone would be as large as any others.
    for step_reward in ("sequence", "prefix", "rollout"):
        run, responses, _ = world(step_reward=step_reward, advantage_scale="batch_std", rollout_samples=3)
        monkeypatch.setattr(run, "logits_of", lambda inputs, labels: torch.full((len(labels),), 2.0))
        assert not run.policy_batch(queries(85), responses).weights.any(), step_reward


def test_the_control_pays_another_response(world, monkeypatch):
    run, responses, _ = world(step_reward="prefix", shuffle_rewards=True)
    number = torch.tensor([0.01, 0.1, 1.0])
    monkeypatch.setattr(run, "logits_of", lambda inputs, labels: (labels * number).sum(dim=1) / 10)  # no two the same
    some = Responses({**queries(8), "labels": responses.labels[3:85:11]}, responses.finished[3:85:11])
    values, own = run.values(queries(8), some)
    paid = run.policy_batch(queries(8), some).rewards
    assert sorted(paid.tolist()) == sorted(own.tolist()) and (paid != own).all()
    assert torch.equal(paid, run.policy_batch(queries(8), some).rewards)  # of this update, whenever it is asked


def test_every_length_of_a_random_beginning_is_as_probable(policy, family):
    run = policy(family("t5"))
    labels = torch.full((3000, 5), 7)
    labels[:, 4] = -100
    kept = (run.random_beginnings(labels) != -100).sum(dim=1)
    counts = torch.bincount(kept, minlength=6)
    assert counts[0] == counts[5] == 0
    # 750 each; chi-squared of 3 degrees of freedom is above 24 once in 40,000
    assert ((counts[1:5] - 750.0) ** 2 / 750).sum() < 24


def test_a_smoothed_discriminator_loss_by_hand(policy, family, collate, pairs):
    run = policy(family("t5"), step_reward="sequence", mismatched_weight=0.0, real_smoothing=0.2)
    batch = {name: value for name, value in collate(pairs(4)).items() if name != "length"}
    responses = run.sample(batch)
    loss = run.discriminator_loss(batch, responses)
    real = run.logits_of(batch, batch["labels"]).sigmoid()
    fake = run.logits_of(batch, responses.labels).sigmoid()
    by_hand = (-0.8 * real.log() - 0.2 * (1 - real).log() - (1 - fake).log()).mean()
    assert loss.item() == pytest.approx(by_hand.item(), rel=1e-5)


@pytest.mark.parametrize("name", ["rnn_seq2seq", "t5", "bart"])
def test_both_players_move_in_turn(name, policy, family, parameters, losses):
    run = policy(
        family(name, dropout=True), max_steps=4, discriminator_warmup_steps=1, teacher_forcing_weight=1.0,
        step_reward={"rnn_seq2seq": "rollout", "t5": "prefix", "bart": "sequence"}[name], rollout_samples=2,
    )  # fmt: skip
    before = {part: parameters(model) for part, model in run.players.items()}
    run.train()
    for part, model in run.players.items():
        assert any(not torch.equal(value, before[part][key]) for key, value in parameters(model).items()), part
    logged = {key for row in run.state.log_history for key in row}
    assert {"policy/reward", "policy/advantage_std", "policy/finished", "policy/sample_length"} <= logged
    assert all(0 < reward < 1 for reward in losses(run, "policy/reward"))


def test_a_resumed_run_is_the_whole_one(policy, family, pairs, interrupted, assert_equal_runs, tiny_discriminator):
    def build(model, args, **others):
        return AdverRegsTrainer(model, args, discriminator=tiny_discriminator(dropout=0.2), **others)

    whole, resumed, start = interrupted(
        partial(family, "rnn_seq2seq", dropout=True), pairs(24), None, 9, cls=build, config=AdverRegsConfig,
        num_train_epochs=2, save_steps=8, eval_strategy="no", step_reward="rollout", rollout_samples=2,
        policy_max_new_tokens=4, shuffle_rewards=True, **QUIET,
    )  # fmt: skip
    assert start == 8
    assert_equal_runs(whole, resumed)
    for key, value in whole.discriminator.state_dict().items():
        assert torch.equal(value, resumed.discriminator.state_dict()[key]), key
    for key in ("policy/reward", "policy/advantage_std", "loss/discriminator", "gan/mismatched_accuracy"):
        lines = [[row[key] for row in run.state.log_history if key in row] for run in (whole, resumed)]
        assert lines[0] == lines[1] and lines[0], key


def test_adapters_alone_learn(policy, adapted_t5, parameters):
    run = policy(adapted_t5(), max_steps=2, step_reward="prefix")
    before = parameters(run.model)
    run.train()
    moved = {key for key, value in parameters(run.model).items() if not torch.equal(value, before[key])}
    assert moved and all("lora_" in key for key in moved)


def test_one_query_repeats_beside_its_prefixes():
    # What `values` relies on: copies of one row stand side by side, as beginnings of one response do.
    assert repeat_rows({"input_ids": torch.tensor([[1], [2]])}, 2)["input_ids"].tolist() == [[1], [1], [2], [2]]


def test_what_is_refused(policy, family, tiny_discriminator, trainer, pairs):
    for settings, message in (
        ({"step_reward": "token"}, "`step_reward` must be one of sequence, prefix, rollout"),
        ({"reward": "cosine"}, "`reward` must be one of probability, logit, rank"),
        ({"step_reward": "sequence", "baseline": "previous"}, "not known before the token"),
        ({"rollout_samples": 0}, "`rollout_samples` must be at least 1"),
        ({"real_smoothing": 1.0}, "`real_smoothing` is a probability below 1"),
        ({"per_device_train_batch_size": 1, "mismatched_weight": 0.0}, "mean reward of the batch's other responses"),
    ):
        with pytest.raises(ValueError, match=message):
            policy(family("t5"), **settings)
    cosine = partial(AdverRegsTrainer, discriminator=tiny_discriminator(head="cosine"))
    with pytest.raises(ValueError, match='scores of `head="cosine"` are no logits'):
        trainer(family("t5"), pairs(4), cls=cosine, config=AdverRegsConfig)


def test_the_paper_preset_gives_way_to_what_is_given(tmp_path):
    paper = AdverRegsConfig(str(tmp_path), use_cpu=True, preset="paper", discriminator_steps=2)
    assert (paper.step_reward, paper.chosen_baseline, paper.discriminator_steps) == ("rollout", "batch", 2)
    assert AdverRegsConfig(str(tmp_path), use_cpu=True).chosen_baseline == "previous"
    assert AdverRegsConfig(str(tmp_path), use_cpu=True, step_reward="sequence").chosen_baseline == "batch"
