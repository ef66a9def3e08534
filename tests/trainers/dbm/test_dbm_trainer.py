"""Periods, scalers and data of `DbmTrainer`, its optimizer and what it logs and saves."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from datasets import Dataset
from sklearn.preprocessing import StandardScaler
from transformers import AutoModel, DataCollatorForSeq2Seq, TrainerCallback

from hf_localgan.models.dbm.contrastive_dbm import bottom_means
from hf_localgan.models.dbm.swap_dbm import swap_loss
from hf_localgan.trainers import DbmTrainer
from hf_localgan.trainers.dbm.data import collate_pairs
from hf_localgan.trainers.dbm.periods import plan_periods

PERIODS = {"bottom_share": 0.3, "top_share": 0.3, "max_steps": 10}  # 3, 3 and 4 updates


class Watcher(TrainerCallback):
    """Keeps the parameters after every update."""

    def __init__(self):
        self.after = []

    def on_step_end(self, args, state, control, model=None, **kwargs):
        self.after.append({name: one.detach().clone() for name, one in model.named_parameters()})


def sides(rows: list[dict]) -> tuple[np.ndarray, np.ndarray]:
    return tuple(np.array([row[name] for row in rows]) for name in ("query_features", "response_features"))


def changed(before: dict, after: dict) -> set[str]:
    return {name for name in before if not torch.equal(before[name], after[name])}


# ---- periods ----


def test_each_period_trains_its_own_parameters(vectors, tiny_energy, energy_trainer):
    watcher, model = Watcher(), tiny_energy()
    watcher.after.append({name: one.detach().clone() for name, one in model.named_parameters()})
    energy_trainer(model, vectors(40), callbacks=[watcher], weight_decay=0.1, **PERIODS).train()
    bottom = {"visible_to_hidden", "hidden_bias", "visible_bias", "visible_log_std"}
    top = {"hidden_to_top", "top_bias", "hidden_bias"}
    found = [changed(*watcher.after[i : i + 2]) for i in range(10)]
    assert found == [bottom] * 3 + [top] * 3 + [bottom | top] * 4


@pytest.mark.parametrize(
    ("fields", "expected"), [({"top_size": 0}, [0] * 3 + [2] * 7), ({"energy": "rbm_pair"}, [2] * 10)]
)
def test_without_a_top_layer_and_for_a_pair_periods_are_left_out(
    fields, expected, vectors, tiny_energy, energy_trainer, losses
):
    model = tiny_energy(**{"visible_std": "unit", **fields})
    before = {name: one.detach().clone() for name, one in model.named_parameters()}
    run = energy_trainer(model, vectors(40), **PERIODS)
    run.train()
    assert losses(run, "dbm/period") == expected
    after = dict(model.named_parameters())
    assert changed(before, after) == {name for name, one in before.items() if one.numel()}


def test_updates_of_the_periods_are_rounded_shares(tiny_energy):
    config = tiny_energy().config
    assert plan_periods(config, 101, 0.2, 0.1) == (20, 10)
    assert plan_periods(config, 7, 0.0, 0.5) == (0, 4)
    plan = plan_periods(config, 10, 0.2, 0.1)
    assert [plan.period(step) for step in (0, 1, 2, 3, 9)] == ["bottom", "bottom", "top", "joint", "joint"]


def test_joint_training_starts_from_the_average_of_both_hidden_biases_and_from_fresh_moments(
    vectors, tiny_energy, energy_trainer
):
    seen = []

    class Watched(DbmTrainer):
        def _period_loss(self, *args):
            seen.append((self.period, len(self.optimizer.state), self.model.hidden_bias.detach().clone()))
            return super()._period_loss(*args)

    energy_trainer(tiny_energy(), vectors(40), cls=Watched, callbacks=[watcher := Watcher()], **PERIODS).train()
    periods, moments, biases = zip(*seen, strict=True)
    assert periods == ("bottom",) * 3 + ("top",) * 3 + ("joint",) * 4
    assert moments == (0, 4, 4, 0, 3, 3, 0, 6, 6, 6)
    bottom, top = watcher.after[2]["hidden_bias"], watcher.after[5]["hidden_bias"]
    assert torch.equal(biases[6], (bottom + top) / 2) and not torch.equal(bottom, top)


def test_the_top_rbm_begins_with_the_log_odds_of_the_means_of_its_first_batch(vectors, tiny_energy, energy_trainer):
    class Watched(DbmTrainer):
        def _enter_period(self, query, response):
            before = self.period
            super()._enter_period(query, response)
            if before == "bottom" and self.period == "top":
                means = bottom_means(self.model, torch.cat([query, response], dim=1), self._progress.bottom_bias)
                self.expected, self.found = torch.logit(means.mean(dim=0)), self.model.hidden_bias.detach().clone()

    run = energy_trainer(tiny_energy(), vectors(40), cls=Watched, **PERIODS)
    run.train()
    torch.testing.assert_close(run.found, run.expected)


def test_shares_of_nothing_train_all_layers_from_the_first_update(vectors, tiny_energy, energy_trainer, losses):
    run = energy_trainer(tiny_energy(), vectors(40), bottom_share=0.0, top_share=0.0, max_steps=3)
    assert run.period is None
    run.train()
    assert losses(run, "dbm/period") == [2] * 3 and run.period == "joint"


# ---- the loss over a batch ----


def test_accumulated_batches_count_by_their_pairs(vectors, tiny_energy, energy_trainer, losses):
    # 11 rows in batches of 4, two of them accumulated: 8 pairs, then 3.
    class Simple(DbmTrainer):
        def _period_loss(self, model, query, response):
            return query.mean() + 0 * self.model.visible_bias.sum()

    rows = vectors(11)
    run = energy_trainer(
        tiny_energy(), rows, cls=Simple, per_device_train_batch_size=4, gradient_accumulation_steps=2,
        num_train_epochs=1, train_sampling_strategy="sequential",
    )  # fmt: skip
    run.train()
    query = torch.tensor(sides(rows)[0]).float()
    query = run.model.query_scaler(query).mean(dim=1)
    assert losses(run) == pytest.approx([query[:8].mean().item(), query[8:].mean().item()], abs=1e-6)


def test_every_batch_of_every_update_draws_anew_and_by_the_seed(vectors, tiny_energy, energy_trainer):
    class Watched(DbmTrainer):
        def _generator(self, device):
            made = super()._generator(device)
            self.seeds.append(made.initial_seed())
            return made

    drawn = []
    for seed in (1, 1, 2):
        run = energy_trainer(
            tiny_energy(), vectors(40), cls=Watched, seed=seed, gradient_accumulation_steps=2, **PERIODS
        )
        run.seeds = []
        run.train()
        drawn.append(run.seeds)
    assert len(drawn[0]) > 15 and len(set(drawn[0])) == len(drawn[0])
    assert drawn[0] == drawn[1] and not set(drawn[0]) & set(drawn[2])


@pytest.mark.parametrize("fields", [{}, {"energy": "rbm_pair", "visible_std": "unit"}], ids=["dbm", "pair"])
def test_the_swap_loss_is_added_in_joint_training(fields, vectors, tiny_energy, energy_trainer, losses):
    class Watched(DbmTrainer):
        def compute_loss(self, *args, **kwargs):
            loss = super().compute_loss(*args, **kwargs)
            wanted = [one.detach().clone() for one in self.model.parameters()]
            self.seen.append((self.period, *self._last_batch, wanted))
            return loss

    found = []
    for weight in (0.0, 3.0):
        run = energy_trainer(
            tiny_energy(**fields), vectors(40), cls=Watched, optim="sgd", learning_rate=0.1, swap_weight=weight,
            lr_scheduler_type="constant", bottom_share=0.5, top_share=0.0, max_steps=4, mean_field_steps=7,
        )  # fmt: skip
        run.seen = []
        run.train()
        found.append(run)
    joint = 0 if fields else 2  # the first update of joint training, up to which both runs are the same
    (period, query, response, before), (_, *_, same) = (run.seen[joint] for run in found)
    assert period == "joint" and all(torch.equal(*pair) for pair in zip(before, same, strict=True))
    model = tiny_energy(**fields)
    with torch.no_grad():
        for parameter, value in zip(model.parameters(), before, strict=True):
            parameter.copy_(value)
    swap = swap_loss(model, query, response, mean_field_steps=7)
    plain, added = (losses(run)[joint] for run in found)
    assert added - plain == pytest.approx(3 * swap.item(), abs=1e-5)
    gradients = torch.autograd.grad(swap, list(model.parameters()), allow_unused=True)
    for one, other, gradient in zip(*(run.seen[joint + 1][3] for run in found), gradients, strict=True):
        expected = torch.zeros_like(one) if gradient is None else -0.1 * 3 * gradient
        torch.testing.assert_close(other - one, expected, atol=1e-6, rtol=1e-4)
    assert losses(found[1], "dbm/swap_loss")[0] == pytest.approx(swap.item(), abs=1e-6)
    assert losses(found[0], "dbm/swap_loss") == []


def test_autocast_changes_nothing(vectors, tiny_energy, energy_trainer):
    finals = []
    for bf16 in (False, True):
        run = energy_trainer(tiny_energy(), vectors(40), bf16=bf16, **PERIODS)
        run.train()
        finals.append(torch.cat([one.flatten() for one in run.model.parameters()]))
    assert torch.equal(*finals)


def test_the_decay_acts_on_couplings_alone_and_plain_descent_can_have_momentum(vectors, tiny_energy, energy_trainer):
    model = tiny_energy()
    run = energy_trainer(model, vectors(8), optim="sgd", momentum=0.8, weight_decay=0.01)
    optimizer = run.create_optimizer()
    assert type(optimizer) is torch.optim.SGD and {group["momentum"] for group in optimizer.param_groups} == {0.8}
    decayed, others = ({id(one) for one in group["params"]} for group in optimizer.param_groups)
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.01, 0.0]
    assert decayed == {id(model.visible_to_hidden), id(model.hidden_to_top)}
    assert others == {id(one) for one in model.parameters()} - decayed


# ---- scalers and data ----


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("limit", [0, 13])
def test_scalers_are_those_of_scikit_learn_over_the_training_rows(stream, limit, vectors, tiny_energy, energy_trainer):
    rows = vectors(50)
    for row in rows:
        row["query_features"][1] = 2.5  # never varies
    data = Dataset.from_list(rows).to_iterable_dataset() if stream else rows
    run = energy_trainer(tiny_energy(), data, max_steps=1, scaler_rows=limit, per_device_eval_batch_size=5)
    run.train()
    scalers = run.model.query_scaler, run.model.response_scaler
    for values, scaler in zip(sides(rows[: limit or 50]), scalers, strict=True):
        expected = StandardScaler().fit(values)
        np.testing.assert_allclose(scaler.mean.numpy(), expected.mean_, rtol=1e-5)
        np.testing.assert_allclose(scaler.std.numpy(), expected.scale_, rtol=1e-5)
        assert scaler.count == (limit or 50)
    assert run.model.query_scaler.std[1] == 1


def test_scalers_that_whiten_take_the_correlations_out_of_either_side(vectors, tiny_energy, energy_trainer):
    rows = vectors(60)
    run = energy_trainer(tiny_energy(whiten=True), rows, max_steps=1, scaler_rows=50, per_device_eval_batch_size=8)
    run.train()
    scalers = run.model.query_scaler, run.model.response_scaler
    for values, scaler in zip(sides(rows[:50]), scalers, strict=True):
        whitened = scaler(torch.tensor(values).float()).double()
        torch.testing.assert_close(whitened.mean(dim=0), torch.zeros(values.shape[1]).double(), atol=1e-5, rtol=0)
        expected = torch.eye(values.shape[1]).double()
        torch.testing.assert_close(whitened.T.cov(correction=0), expected, atol=1e-4, rtol=0)


def test_fitted_scalers_are_left_alone_and_the_pass_draws_no_random_numbers(vectors, tiny_energy, energy_trainer):
    run = energy_trainer(tiny_energy(), vectors(30), max_steps=2)
    state = torch.random.get_rng_state()
    run.fit_scalers()
    assert torch.equal(state, torch.random.get_rng_state())
    buffers = {name: one.clone() for name, one in run.model.named_buffers()}
    again = energy_trainer(run.model, vectors(30, seed=4), max_steps=2)
    again.train()
    assert all(torch.equal(one, buffers[name]) for name, one in again.model.named_buffers())


@pytest.fixture
def spoken(pairs, tiny_energy):
    """Rows of tokens, the same as vectors, and `model()` with the word vectors they are made of."""
    table = torch.randn(20, 4, generator=torch.Generator().manual_seed(5))
    regular = range(6, 20)
    rows = pairs(40)
    rows[7]["labels"] = [4, 5, 2]  # no regular token

    def vector(tokens: list[int]) -> list[float]:
        kept = [token for token in tokens if token in regular]
        return table[kept].mean(dim=0).tolist() if kept else None

    def model():
        made = tiny_energy(query_size=4, vocab_size=20)
        made.word_vectors.load(table, regular)
        return made

    return rows, [{"query": vector(row["input_ids"]), "response": vector(row["labels"])} for row in rows], model


@pytest.mark.parametrize("padded_by", [collate_pairs, DataCollatorForSeq2Seq])
def test_tokens_give_the_run_of_their_vectors(padded_by, spoken, energy_trainer, tiny_energy, tiny_tokenizer, losses):
    rows, vectors, model = spoken
    collator = collate_pairs if padded_by is collate_pairs else DataCollatorForSeq2Seq(tiny_tokenizer)
    of_tokens = energy_trainer(model(), rows, data_collator=collator, **PERIODS)
    of_tokens.train()
    for name, scaler in (("query", of_tokens.model.query_scaler), ("response", of_tokens.model.response_scaler)):
        values = np.array([one[name] for one in vectors if one[name] is not None])
        np.testing.assert_allclose(scaler.mean.numpy(), values.mean(axis=0), atol=1e-6)
        assert scaler.count == len(values)
    assert of_tokens.model.response_scaler.count < 40
    # An utterance that says nothing lies at the mean; with vectors that has to be said.
    said = [
        {f"{name}_features": one[name] or scaler.mean.tolist() for name, scaler in (
            ("query", of_tokens.model.query_scaler), ("response", of_tokens.model.response_scaler)
        )} for one in vectors
    ]  # fmt: skip
    plain = tiny_energy(query_size=4)
    for name in ("query_scaler", "response_scaler"):
        getattr(plain, name).load_state_dict(getattr(of_tokens.model, name).state_dict())
    of_vectors = energy_trainer(plain, said, **PERIODS)
    of_vectors.train()
    assert losses(of_vectors) == pytest.approx(losses(of_tokens), abs=1e-4)
    for name, one in of_vectors.model.named_parameters():
        torch.testing.assert_close(one, dict(of_tokens.model.named_parameters())[name], atol=1e-4, rtol=1e-3)


def test_masked_tokens_and_other_columns_do_not_count(spoken, energy_trainer, losses):
    rows, _, model = spoken
    plain = energy_trainer(model(), rows, max_steps=3)
    plain.train()
    # As load_pairs and a tokenizer with padding leave them: text beside the tokens, masked words before them.
    texts = [
        {**row, "input_ids": [9, 9, *row["input_ids"]], "attention_mask": [0, 0, *row["attention_mask"]],
         "query": "text", "response": "text"} for row in rows
    ]  # fmt: skip
    for data in (texts, Dataset.from_list(texts)):
        run = energy_trainer(model(), data, max_steps=3)
        run.train()
        assert losses(run) == pytest.approx(losses(plain), abs=1e-5)
    energy_trainer(model(), Dataset.from_list(texts).to_iterable_dataset(), max_steps=3).train()


@pytest.mark.parametrize("shards", [1, 3])
def test_a_stream_is_trained_on_and_evaluated(shards, vectors, tiny_energy, energy_trainer, losses):
    stream = Dataset.from_list(vectors(40)).to_iterable_dataset(num_shards=shards)
    held_out = Dataset.from_list(vectors(21, seed=1)).to_iterable_dataset()
    run = energy_trainer(tiny_energy(), stream, held_out, per_device_eval_batch_size=4, **PERIODS)
    run.train()
    assert len(losses(run)) == 10 and run.period == "joint"
    assert run.evaluate()["eval_free_energy"] == pytest.approx(
        energy_trainer(run.model, evaluate=vectors(21, seed=1)).evaluate()["eval_free_energy"], abs=1e-5
    )


# ---- what is logged and saved ----


def test_what_is_logged_in_each_period(vectors, tiny_energy, energy_trainer):
    run = energy_trainer(tiny_energy(), vectors(40), **PERIODS)
    run.train()
    lines = [row for row in run.state.log_history if "loss" in row]
    always = {"dbm/period", "dbm/reconstruction", "dbm/weight_norm_visible", "dbm/weight_norm_top"}
    joint = {"dbm/free_energy_gap", "dbm/residual", "dbm/mean_field_steps", "dbm/chain_spread"}
    found = [{name for name in line if name.startswith("dbm/")} for line in lines]
    assert found == [always] * 6 + [always | joint] * 4
    assert [line["dbm/period"] for line in lines] == [0] * 3 + [1] * 3 + [2] * 4
    last = lines[-1]
    assert last["dbm/weight_norm_visible"] == pytest.approx(run.model.visible_to_hidden.norm().item())
    assert last["dbm/weight_norm_top"] == pytest.approx(run.model.hidden_to_top.norm().item())
    query, response = run._last_batch
    means = run.model.mean_field(query, response)
    rebuilt = means.hidden @ run.model.visible_to_hidden + run.model.visible_bias
    error = (rebuilt - torch.cat([query, response], dim=1)).square().mean().item()
    assert last["dbm/reconstruction"] == pytest.approx(error, rel=1e-5)
    assert last["dbm/mean_field_steps"] == pytest.approx(means.steps.float().mean().item())
    spread = run._progress.chains.hidden.std(dim=0, correction=0).mean().item()
    assert last["dbm/chain_spread"] == pytest.approx(spread) and 0 < spread <= 0.5
    gap = [run.model.free_energy(*run._progress.chains.visible(run.model)).mean() for _ in range(200)]
    expected = torch.stack(gap).mean() - run.model.free_energy(query, response).mean()
    scale = torch.stack(gap).std()  # over other draws of the chains' visible units
    assert abs(last["dbm/free_energy_gap"] - expected) < 6 * scale


def test_a_trained_model_is_read_back_by_auto_model_and_scores_the_same(vectors, tiny_energy, energy_trainer, tmp_path):
    run = energy_trainer(tiny_energy(), vectors(40), vectors(16, seed=1), **PERIODS)
    run.train()
    run.save_model(str(tmp_path / "saved"))
    model = AutoModel.from_pretrained(tmp_path / "saved")
    for name, tensor in run.model.state_dict().items():
        assert torch.equal(tensor, model.state_dict()[name]), name
    metrics = energy_trainer(model, evaluate=vectors(16, seed=1)).evaluate()
    assert metrics["eval_matching"] == run.evaluate()["eval_matching"]


def test_a_model_saved_in_the_top_period_is_the_one_that_joint_training_would_begin_with(
    vectors, tiny_energy, energy_trainer, tmp_path
):
    watcher = Watcher()
    run = energy_trainer(
        tiny_energy(), vectors(40), vectors(16, seed=1), callbacks=[watcher], save_strategy="steps", save_steps=5,
        eval_strategy="steps", eval_steps=5, **PERIODS,
    )  # fmt: skip
    run.train()
    saved = AutoModel.from_pretrained(tmp_path / "run" / "checkpoint-5")
    expected = (watcher.after[2]["hidden_bias"] + watcher.after[4]["hidden_bias"]) / 2
    assert torch.equal(saved.hidden_bias, expected)
    assert not torch.equal(expected, watcher.after[4]["hidden_bias"])
    scored = next(row for row in run.state.log_history if "eval_free_energy" in row and row["step"] == 5)
    again = energy_trainer(saved, evaluate=vectors(16, seed=1)).evaluate()
    assert scored["eval_free_energy"] == pytest.approx(again["eval_free_energy"], abs=1e-5)


def test_the_model_that_matched_best_is_the_one_that_is_left(vectors, tiny_energy, energy_trainer, losses, tmp_path):
    run = energy_trainer(
        tiny_energy(), vectors(40), vectors(30, seed=1), load_best_model_at_end=True, eval_strategy="steps",
        save_strategy="steps", eval_steps=2, save_steps=2, learning_rate=0.1, **PERIODS,
    )  # fmt: skip
    run.train()
    matching = losses(run, "eval_matching")
    best = 2 + 2 * matching.index(max(matching))
    assert Path(run.state.best_model_checkpoint).name == f"checkpoint-{best}" and len(set(matching)) > 1
    assert run.evaluate()["eval_matching"] == max(matching)
    saved = AutoModel.from_pretrained(run.state.best_model_checkpoint)
    assert all(torch.equal(*pair) for pair in zip(saved.parameters(), run.model.parameters(), strict=True))


def test_the_log_likelihood_is_logged_at_the_end(vectors, tiny_energy, energy_trainer, losses):
    run = energy_trainer(
        tiny_energy(), vectors(40), vectors(16, seed=1), final_log_likelihood=True, ais_temperatures=50, ais_chains=20,
        **PERIODS,
    )  # fmt: skip
    run.train()
    (value,), (per_dimension,) = losses(run, "eval_log_likelihood"), losses(run, "eval_log_likelihood_per_dimension")
    assert math.isfinite(value) and per_dimension == pytest.approx(value / 7)
