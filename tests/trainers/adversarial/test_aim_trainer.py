"""AIM and DAIM: the terms by hand, gradients by finite differences, who learns, the mirror, resuming."""

import math
from functools import partial

import pytest
import torch
import torch.nn.functional as F

from hf_localgan.decoding.soft_rollout import SoftRollout
from hf_localgan.models.loading import load_generator
from hf_localgan.trainers import AimConfig, AimTrainer, DaimConfig, DaimTrainer
from hf_localgan.trainers.adversarial.aim_parts import reading_nll, tokens_before_text, turned

FAMILIES = ("rnn_seq2seq", "t5", "bart")
SETTINGS = {
    "discriminator_warmup_steps": 0, "max_soft_length": 6, "relaxation_top_k": 8, "monitor_queries": 0,
    "collapse_share": 1.0, "collapse_length": 100.0, "learning_rate": 0.05, "discriminator_learning_rate": 0.05,
    "backward_learning_rate": 0.05,
}  # fmt: skip


@pytest.fixture
def parts(family, tiny_discriminator):
    """`parts(dual=False, name="rnn_seq2seq", dropout=0.0)`: fresh models beside a generator, the same at each call."""

    def build(dual: bool = False, name: str = "rnn_seq2seq", dropout: float = 0.0) -> dict:
        made = {
            "discriminator": tiny_discriminator(seed=1, head="cosine", dropout=dropout),
            "backward": family(name, dropout=bool(dropout)),
        }
        if name == "rnn_seq2seq":
            made["backward"].resize_noise(0)
        with torch.no_grad():
            for parameter in made["backward"].parameters():
                parameter.mul_(0.9)
        return made | ({"backward_discriminator": tiny_discriminator(seed=2, head="cosine")} if dual else {})

    return build


@pytest.fixture
def aim(trainer, parts, pairs):
    """`aim(model, rows=None, dual=False, beside=None, **arguments)`: a trainer of AIM or DAIM."""

    def build(model, rows=None, dual=False, beside=None, **arguments):
        cls, config = (DaimTrainer, DaimConfig) if dual else (AimTrainer, AimConfig)
        arguments = {**SETTINGS, "max_steps": 4, **({"backward_discriminator_learning_rate": 0.05} if dual else {})} | (
            arguments
        )
        beside = parts(dual) if beside is None else beside
        return trainer(
            model, pairs(8) if rows is None else rows, cls=partial(cls, **beside), config=config, **arguments
        )

    return build


@pytest.fixture
def batch(pairs, collate):
    rows = pairs(5, seed=4)
    return dict(collate(rows).items())


def hard_rollout(rows: list[list[int]], vocab: int = 20) -> SoftRollout:
    """Generations that are certain of their tokens; 2 ends them."""
    best = torch.tensor(rows)
    mask = ((best == 2).cumsum(dim=1) == 0).float()
    return SoftRollout(F.one_hot(best, vocab).float(), None, best, mask)


# ---- reading a query back ----


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("begin", [(), (1,)])
def test_a_certain_generation_is_read_as_its_tokens(name, begin, family):
    reader = family(name).eval()
    rollout = hard_rollout([[5, 6, 7, 2], [8, 2, 9, 9], [4, 5, 6, 7], [2, 2, 2, 2]])
    labels = torch.tensor([[9, 8, 2], [7, 2, -100], [5, 4, 2], [6, 6, 2]])
    found = reading_nll(reader, rollout, rollout.mask > 0, labels, begin)
    for row, tokens in enumerate([[5, 6, 7, 2], [8, 2], [4, 5, 6, 7, 2], [2]]):  # each with its end, the cut one too
        own = labels[row : row + 1, : (labels[row] != -100).sum()]
        logits = reader(input_ids=torch.tensor([[*begin, *tokens]]), labels=own).logits
        torch.testing.assert_close(found[row], F.cross_entropy(logits[0], own[0]), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", FAMILIES)
def test_the_gradient_for_a_generation_by_finite_differences(name, family):
    reader = family(name).double().eval()
    draw = torch.Generator().manual_seed(0)
    weights = torch.rand(2, 3, 4, dtype=torch.float64, generator=draw).softmax(dim=2).requires_grad_()
    ids = torch.randint(4, 20, (2, 3, 4), generator=draw)
    labels, counted = torch.tensor([[9, 8, 2], [7, 2, -100]]), torch.tensor([[True, True, True], [True, False, False]])

    def nll(weights):
        return reading_nll(reader, SoftRollout(weights, ids, ids[:, :, 0], counted.double()), counted, labels).sum()

    (gradient,) = torch.autograd.grad(nll(weights), weights)
    assert not gradient[1, 1:].any()  # behind the end
    for row, place, column in ((0, 0, 1), (0, 2, 3), (1, 0, 0)):
        size, exact = (1e-3, 2e-2) if name == "t5" else (1e-6, 1e-5)  # T5 takes norms in float32
        step = torch.zeros_like(weights)
        step[row, place, column] = size
        with torch.no_grad():
            difference = (nll(weights + step) - nll(weights - step)).item() / (2 * size)
        assert gradient[row, place, column].item() == pytest.approx(difference, rel=exact, abs=1e-8)


def test_a_batch_turned_round():
    inputs = {"input_ids": torch.tensor([[5, 2, 0]]), "attention_mask": torch.tensor([[1, 1, 0]])}
    back = turned({**inputs, "labels": torch.tensor([[7, 8, 2, -100]])}, pad_token_id=0)
    assert back["input_ids"].tolist() == [[7, 8, 2, 0]] and back["attention_mask"].tolist() == [[1, 1, 1, 0]]
    assert back["labels"].tolist() == [[5, 2, -100]]


def test_tokens_around_the_text(tiny_tokenizer):
    from tokenizers import processors

    assert tokens_before_text(tiny_tokenizer) == [] == tokens_before_text(None)
    frame = processors.TemplateProcessing(single="<s> $A </s>", special_tokens=[("<s>", 1), ("</s>", 2)])
    tiny_tokenizer._tokenizer.post_processor = frame
    assert tokens_before_text(tiny_tokenizer) == [1]
    tiny_tokenizer._tokenizer.post_processor = processors.TemplateProcessing(single="$A", special_tokens=[])
    with pytest.raises(ValueError, match="must be encoded alike and end with the end token"):
        tokens_before_text(tiny_tokenizer)


# ---- the objectives ----


@pytest.mark.parametrize("convex", [False, True])
@pytest.mark.parametrize("log_odds", ["artanh", "code"])
def test_the_objective_by_hand(convex, log_odds, aim, family, batch):
    run = aim(
        family("rnn_seq2seq"), convex_mixture=convex, log_odds=log_odds, teacher_forcing_weight=0.25,
        information_weight=0.3, noise_scale=1.0,
    )  # fmt: skip
    run.model.train()
    run.draws.next_batch()
    run.prepare_turn("generator", batch)
    loss = run.generator_loss(batch, num_items_in_batch=None)
    rollout = run.silent_rollout(run.direction, batch)
    cosines = []
    for answer in (
        {"labels": batch["labels"]}, {"probabilities": rollout.weights, "ids": rollout.ids, "mask": rollout.mask},
    ):  # fmt: skip
        query = run.discriminator.query_features(batch["input_ids"], batch["attention_mask"])
        sides = run.discriminator.embed(query, run.discriminator.response_features(**answer))
        cosines.append((sides[0] * sides[1]).sum(1) / sides[0].norm(dim=1) / sides[1].norm(dim=1))
    d = cosines[0] - cosines[1]
    odds = 2 * torch.atanh(d / 2) if log_odds == "artanh" else torch.logit(d / 4.1 + 0.51)
    read = torch.stack([
        F.cross_entropy(
            run.parts["backward"](
                input_ids=torch.tensor([[*rollout.best[row, : int(rollout.mask[row].sum())].tolist(), 2]]),
                labels=batch["input_ids"][row : row + 1, : int(batch["attention_mask"][row].sum())],
            ).logits[0],
            batch["input_ids"][row, : int(batch["attention_mask"][row].sum())],
        )
        for row in range(5)
    ])  # fmt: skip
    forced = run.model(
        encoder_outputs=run.encode(run.model, batch), attention_mask=batch["attention_mask"], labels=batch["labels"]
    ).logits
    taught = F.cross_entropy(forced.flatten(0, 1), batch["labels"].flatten())
    if convex:
        expected = 0.7 * (0.25 * taught + 0.75 * odds.mean()) + 0.3 * read.mean()
    else:
        expected = odds.mean() + 0.3 * read.mean() + 0.25 * taught
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    # The discriminator minimises the other side of the same number.
    assert run.comparison_loss(run.direction, batch, rollout).item() == pytest.approx(-odds.mean().item(), rel=1e-5)


def test_the_generators_gradient_by_finite_differences(aim, family, batch):
    run = aim(
        family("rnn_seq2seq").double(), teacher_forcing_weight=0.0, relaxation="softmax", soft_length="survival",
        information_weight=0.4,
    )  # fmt: skip
    run.discriminator.double(), run.parts["backward"].double()
    run.model.train()
    run.draws.next_batch()
    bridge = run.model.get_decoder().noise_bridge.weight
    torch.nn.init.normal_(bridge, generator=torch.Generator().manual_seed(0))
    run.generator_loss(batch).backward()
    head = run.model.get_output_embeddings().weight
    for parameter in (bridge, head):
        index = parameter.grad.abs().flatten().argmax()
        values, values_of_gradient = parameter.data.view(-1), parameter.grad.view(-1)
        found = []
        with torch.no_grad():
            for step in (1e-2, -2e-2):  # cosines are compared in float32
                values[index] += step
                found.append(run.generator_loss(batch).item())
            values[index] += 1e-2
        difference = (found[0] - found[1]) / 2e-2
        assert difference and values_of_gradient[index].item() == pytest.approx(difference, rel=1e-2)


def test_an_empty_generation_does_not_blow_the_gradient_up(aim, family, batch):
    run = aim(family("t5"))
    empty = hard_rollout([[2, 2]] * 5)
    run.comparison_loss(run.direction, batch, empty).backward()
    norms = [parameter.grad.norm() for parameter in run.discriminator.parameters() if parameter.grad is not None]
    assert norms and torch.stack(norms).norm() < 100


def test_noise_is_of_the_update_and_comes_back(aim, family, batch):
    run = aim(family("rnn_seq2seq"), latent_noise_size=4)
    assert run.model.config.noise_size == 4
    run.draws.next_batch()
    first, again = (run.encode(run.model, batch).noise for _ in range(2))
    run.draws.next_batch()
    other = run.encode(run.model, batch).noise
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert first.shape == (5, 4) and first.abs().max() <= 1
    still = aim(family("rnn_seq2seq"), latent_noise_scale=0.0)
    assert still.model.config.noise_size == 0 and still.encode(still.model, batch).noise is None
    t5, noisy = aim(family("t5")), aim(family("t5"), latent_noise_scale=0.5)
    plain, moved = (run.encode(run.model, batch).last_hidden_state for run in (t5, noisy))
    torch.testing.assert_close(
        plain, t5.model.get_encoder()(**{k: batch[k] for k in ("input_ids", "attention_mask")})[0]
    )
    assert not torch.equal(plain, moved)


# ---- who learns ----


def moved(run, parameters) -> set[str]:
    before = {name: parameters(part) for name, part in {"generator": run.model, **run.parts}.items()}
    run.train()
    return {
        name
        for name, part in {"generator": run.model, **run.parts}.items()
        if any(not torch.equal(value, before[name][key]) for key, value in parameters(part).items())
    }


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("update", ["frozen", "real", "joint"])
def test_the_backward_generator_learns_where_it_is_to(name, update, aim, family, parts, parameters):
    beside = parts(name=name, dropout=0.2)
    run = aim(family(name, dropout=True), beside=beside, backward_update=update, max_steps=3, optim="adamw_torch")
    players = {"generator", "discriminator"} | (set() if update == "frozen" else {"backward"})
    assert set(run.schedule.players) == players
    assert moved(run, parameters) == (players if update != "frozen" else {"generator", "discriminator"})
    logged = {key for row in run.state.log_history for key in row}
    assert {"loss/information", "loss/adversarial", "gan/paired_accuracy", "gan/soft_entropy"} <= logged
    assert ("loss/backward" in logged) == (update != "frozen")


def test_all_four_players_of_daim_move_in_their_turns(aim, family, parameters, losses, tmp_path):
    run = aim(family("rnn_seq2seq"), dual=True, max_steps=6, discriminator_warmup_steps=1, teacher_forcing_weight=0.5)
    turns = [run.schedule.player(step) for step in range(6)]
    both = ["discriminator", "backward_discriminator"]
    assert turns == [*both, *both, "generator", "backward"]
    assert moved(run, parameters) == {"generator", "backward", *both}
    assert losses(run, "loss/read_queries") and losses(run, "loss/read_responses")
    assert not any(parameter.grad is not None for part in run.players.values() for parameter in part.parameters())
    run.save_model()
    backward, _ = load_generator(tmp_path / "run" / "backward")
    assert torch.equal(backward.lm_head.weight, run.parts["backward"].lm_head.weight)
    assert (tmp_path / "run" / "backward_discriminator" / "config.json").is_file()
    assert backward.config.noise_size == 10


def test_adapters_alone_learn(aim, adapted_t5, parameters):
    run = aim(adapted_t5(), max_steps=2)
    before = parameters(run.model)
    run.train()
    changed = {key for key, value in parameters(run.model).items() if not torch.equal(value, before[key])}
    assert changed and all("lora_" in key for key in changed)


# ---- DAIM and AIM ----


def history(run, *without) -> list[dict]:
    timed = ("train_runtime", "tokens_per_second", "epoch", *without)
    return [
        {key: value for key, value in row.items() if key not in timed}
        for row in run.state.log_history
        if "train_runtime" not in row
    ]


def test_without_the_way_back_daim_is_aim(aim, family, parts):
    plain = aim(family("rnn_seq2seq", dropout=True), max_steps=5)
    plain.train()
    dual = aim(
        family("rnn_seq2seq", dropout=True), dual=True, max_steps=5, backward_weight=0.0, backward_steps=0,
        backward_discriminator_steps=0,
    )  # fmt: skip
    dual.train()
    assert history(plain) == history(dual)
    for key, value in plain.model.state_dict().items():
        assert torch.equal(value, dual.model.state_dict()[key]), key


def test_swapped_columns_and_models_mirror_every_term(aim, family, parts, batch):
    """A turn of the backward generator is what one of the generator would be, were all things the other way round."""
    arguments = {"backward_weight": 1.0, "relaxation": "softmax", "soft_length": "survival"}
    beside = parts(dual=True)
    back = turned(batch, 0)
    run = aim(family("rnn_seq2seq"), dual=True, beside=beside, **arguments)
    mirrored_parts = {
        "discriminator": beside["backward_discriminator"], "backward": run.model,
        "backward_discriminator": beside["discriminator"],
    }  # fmt: skip
    mirror = aim(beside["backward"], dual=True, beside=mirrored_parts, **arguments)
    recorded = []
    for one, player, given in ((run, "backward", batch), (mirror, "generator", back)):
        one.draws.restart()
        one.draws.next_batch()
        one._terms.clear()
        one.model.train(), one.parts["backward"].train()
        loss = one.player_loss(player, given, one.prepare_turn(player, given))
        terms = {name: (total / times).item() for name, (total, times) in one._terms.items()}
        recorded.append((loss.item(), terms))
    names = {
        "loss/backward_adversarial": "loss/adversarial", "loss/backward_information": "loss/information",
        "loss/backward_teacher_forcing": "loss/teacher_forcing",
        "loss/read_queries": "loss/read_responses", "gan/backward_soft_length": "gan/soft_length",
        "gan/backward_soft_entropy": "gan/soft_entropy",
    }  # fmt: skip
    assert recorded[0][0] == pytest.approx(recorded[1][0], rel=1e-5)
    assert set(recorded[0][1]) == set(names) and set(recorded[1][1]) == set(names.values())
    for name, mirrored in names.items():
        assert recorded[0][1][name] == pytest.approx(recorded[1][1][mirrored], rel=1e-5), name


def test_the_phases_of_daim_by_hand(aim, family, batch):
    run = aim(family("rnn_seq2seq"), dual=True, backward_weight=0.5, information_weight=0.2, noise_scale=1.0)
    run.draws.next_batch()
    run.model.train(), run.parts["backward"].train()
    total = {
        player: run.player_loss(player, batch, run.prepare_turn(player, batch)).item()
        for player in ("generator", "backward")
    }
    terms = {name: (value / times).item() for name, (value, times) in run._terms.items()}
    aim_forward = terms["loss/adversarial"] + 0.2 * terms["loss/information"] + terms["loss/teacher_forcing"]
    aim_back = (
        terms["loss/backward_adversarial"] + 0.2 * terms["loss/backward_information"]
        + terms["loss/backward_teacher_forcing"]
    )  # fmt: skip
    assert total["generator"] == pytest.approx(aim_forward + 0.5 * 0.2 * terms["loss/read_responses"], rel=1e-5)
    assert total["backward"] == pytest.approx(0.5 * aim_back + 0.2 * terms["loss/read_queries"], rel=1e-5)
    # The reader of a generation and the one that reads it back are one model on one generation.
    assert terms["loss/read_queries"] == pytest.approx(terms["loss/information"], rel=1e-5)


# ---- resuming ----


@pytest.mark.parametrize(("dual", "stop"), [(False, 7), (True, 8), (True, 9)])
def test_a_resumed_run_is_the_whole_one(dual, stop, family, pairs, parts, interrupted, assert_equal_runs):
    cls, config = (DaimTrainer, DaimConfig) if dual else (AimTrainer, AimConfig)
    settings = {**SETTINGS, "discriminator_warmup_steps": 1, "max_soft_length": 4, "relaxation_top_k": 6}
    settings |= {} if dual else {"backward_update": "real"}
    whole, resumed, start = interrupted(
        partial(family, "rnn_seq2seq", dropout=True), pairs(24), None, stop,
        cls=lambda model, args, **given: cls(model, args, **parts(dual, dropout=0.2), **given), config=config,
        max_steps=10, save_steps=stop - 1, eval_strategy="no", **settings,
    )  # fmt: skip
    assert start == stop - 1
    assert_equal_runs(whole, resumed)
    assert history(whole) == history(resumed)
    for name, part in whole.parts.items():
        for key, value in part.state_dict().items():
            assert torch.equal(value, resumed.parts[name].state_dict()[key]), f"{name} {key}"


# ---- settings ----


def test_presets_give_way_to_what_is_given(tmp_path):
    def config(cls=AimConfig, **given):
        return cls(str(tmp_path), use_cpu=True, **given)

    paper = config(preset="paper", information_weight=0.2)
    assert (paper.relaxation, paper.relaxation_temperature, paper.log_odds) == ("softmax", 1e-3, "artanh")
    assert paper.supervised_share == pytest.approx(0.8 * 1e-3) and paper.backward_update == "frozen"
    assert config(preset="authors_code").backward_update == "joint"
    assert config(DaimConfig, preset="authors_code").backward_update == "dual"
    assert config().supervised_share == 1.0 and config().relaxation == "straight_through"


def test_what_is_refused(aim, family, parts, tiny_discriminator):
    for settings, message in (
        ({"backward_update": "never"}, "`backward_update` must be one of frozen, real, joint"),
        ({"log_odds": "logit"}, "`log_odds` must be one of artanh, code"),
        ({"log_odds_limit": 2.0}, "`log_odds_limit` must be above 0 and below 2"),
        ({"mismatched_weight": 1.0}, "`mismatched_weight` must be 0"),
        ({"convex_mixture": True, "teacher_forcing_weight": 2.0}, "must be at most 1, got 0.1 and 2.0"),
        ({"latent_noise_scale": math.inf}, "`latent_noise_scale` must be finite"),
        ({"dual": True, "backward_update": "real"}, "`backward_update` must be one of dual"),
    ):
        with pytest.raises(ValueError, match=message):
            aim(family("t5"), **settings)
    with pytest.raises(ValueError, match='its head must be "cosine", got "mlp"'):
        aim(family("t5"), beside={**parts(), "discriminator": tiny_discriminator()})
    with pytest.raises(ValueError, match="`backward` must be a generator of queries from responses, got NoneType"):
        aim(family("t5"), beside={**parts(), "backward": None})
    model = family("t5")
    with pytest.raises(ValueError, match="`backward` is the generator itself"):
        aim(model, beside={**parts(), "backward": model})
