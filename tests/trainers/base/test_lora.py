"""Adapters in every trainer: they alone are trained and saved, resume to the last bit, and come back as the best."""

from functools import partial
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file
from transformers import TrainerCallback

from hf_localgan.models.loading import load_generator
from hf_localgan.trainers import (
    ExpectedRewardConfig,
    ExpectedRewardTrainer,
    GanAelConfig,
    GanAelTrainer,
    LocalGanConfig,
    LocalGanTrainer,
    MleConfig,
    MleTrainer,
    RamlConfig,
    RamlTrainer,
)

TARGETS = {"t5": ["q", "v"], "bart": ["q_proj", "v_proj"], "rnn_seq2seq": ["query", "readout", "bridge"]}
GAN = {
    "discriminator_warmup_steps": 1, "discriminator_steps": 1, "generator_steps": 1, "max_soft_length": 5,
    "relaxation_top_k": 8, "collapse_share": 1.0, "collapse_length": 100.0, "discriminator_learning_rate": 2e-2,
}  # fmt: skip
KINDS = {
    "mle": (MleTrainer, MleConfig, {}),
    "raml": (RamlTrainer, RamlConfig, {"temperature": 1.5}),
    "expected_reward": (ExpectedRewardTrainer, ExpectedRewardConfig, {"policy_max_new_tokens": 4}),
    "localgan": (LocalGanTrainer, LocalGanConfig, GAN),
    "gan_ael": (GanAelTrainer, GanAelConfig, GAN),
}
GANS = ("localgan", "gan_ael")
# Every kind with one of the two, every other one of which waits for the slow tests.
RUNS = [
    *((kind, ("t5", "bart")[row % 2]) for row, kind in enumerate(KINDS)),
    *(pytest.param(kind, ("bart", "t5")[row % 2], marks=pytest.mark.slow) for row, kind in enumerate(KINDS)),
    ("mle", "rnn_seq2seq"),
    ("localgan", "rnn_seq2seq"),
]


@pytest.fixture
def adapted(family, tiny_tokenizer, tmp_path):
    """`adapted(name)`: a saved model with dropout, and new adapters with dropout around it; the same at each call."""

    def build(name: str) -> PeftModel:
        model, base = family(name, dropout=True), tmp_path / "base"
        if not base.exists():
            model.save_pretrained(base)
            tiny_tokenizer.save_pretrained(base)
        model.name_or_path = str(base)
        config = LoraConfig(task_type="SEQ_2_SEQ_LM", r=2, target_modules=TARGETS[name], lora_dropout=0.1)
        with torch.random.fork_rng():
            torch.manual_seed(0)
            return get_peft_model(model, config)

    return build


@pytest.fixture
def of_kind(tiny_discriminator, token_energy):
    """`of_kind(kind)`: arguments of `trainer` and `interrupted` for a trainer of the kind, its other parts new."""

    def build(kind: str) -> dict:
        cls, config, settings = KINDS[kind]

        def make(model, args, **kwargs):
            parts = {"discriminator": tiny_discriminator(dropout=0.2)} if kind in GANS else {}
            parts |= {"energy": token_energy()} if kind == "localgan" else {}
            if kind == "expected_reward":
                parts["reward"] = lambda candidate, reference: len(set(candidate) & set(reference)) / len(reference)
            return cls(model, args, **parts, **kwargs)

        return {"cls": make, "config": config, **settings}

    return build


def assert_adapters_alone(folder: Path, model: PeftModel, kind: str, run):
    """The folder holds all adapters and nothing else of the generator; the other parts are whole."""
    names = {path.name for path in folder.iterdir()}
    assert {"adapter_config.json", "adapter_model.safetensors", "tokenizer.json"} <= names
    assert {"model.safetensors", "config.json"}.isdisjoint(names)
    found = load_file(folder / "adapter_model.safetensors")
    wanted = {name.replace(".default", ""): one for name, one in model.named_parameters() if one.requires_grad}
    assert found.keys() == wanted.keys() and all("lora_" in name for name in found)
    assert all(torch.equal(found[name], one) for name, one in wanted.items())
    for part in ("discriminator", "energy"):
        assert (
            (part in names) == hasattr(run, part) == (kind in GANS if part == "discriminator" else kind == "localgan")
        )
        if part in names:
            state = load_file(folder / part / "model.safetensors")
            assert all(torch.equal(state[name], one) for name, one in getattr(run, part).state_dict().items())


@pytest.mark.parametrize(("kind", "name"), RUNS)
def test_adapters_alone_are_trained_and_saved_and_resume(
    kind, name, adapted, of_kind, pairs, interrupted, assert_equal_runs, tmp_path
):
    # 24 pairs in batches of 2 x 2: 6 updates an epoch; stopped after 7, resumed from 5.
    before = dict(adapted(name).named_parameters())
    whole, resumed, start = interrupted(
        partial(adapted, name), pairs(24), None, 7, max_steps=8, save_steps=5, eval_strategy="no", **of_kind(kind)
    )
    assert start == 5 and whole.state.global_step == 8
    assert_equal_runs(whole, resumed)
    for part in ("discriminator", "energy"):
        if hasattr(whole, part):
            states = [getattr(run, part).state_dict() for run in (whole, resumed)]
            assert all(torch.equal(one, states[1][key]) for key, one in states[0].items())
    moved = {key for key, one in whole.model.named_parameters() if not torch.equal(one, before[key])}
    assert moved and all("lora_" in key for key in moved)
    assert {key for key in before if "lora_B" in key} <= moved

    assert_adapters_alone(Path("whole/checkpoint-8"), whole.model, kind, whole)
    whole.save_model()
    assert_adapters_alone(Path("whole"), whole.model, kind, whole)
    merged, _ = load_generator("whole")
    given = {"input_ids": torch.tensor([[4, 5, 2]]), "decoder_input_ids": torch.tensor([[1, 9, 4]])}
    torch.testing.assert_close(merged(**given).logits, whole.model.eval()(**given).logits, rtol=1e-4, atol=1e-5)


class Remembers(TrainerCallback):
    """The parameters at each evaluation."""

    def __init__(self, read):
        self.read, self.seen = read, {}

    def on_evaluate(self, args, state, control, **kwargs):
        self.seen[state.global_step] = self.read()


@pytest.mark.parametrize(("kind", "name"), RUNS)
def test_the_best_adapters_come_back_at_the_end(kind, name, adapted, of_kind, trainer, pairs, parameters, tmp_path):
    run = trainer(
        adapted(name), pairs(16), pairs(2), max_steps=6, per_device_train_batch_size=2, gradient_accumulation_steps=2,
        learning_rate=0.1, eval_strategy="steps", eval_steps=2, save_strategy="steps", save_steps=2,
        load_best_model_at_end=True, metric_for_best_model="eval_score", greater_is_better=True, **of_kind(kind),
    )  # fmt: skip
    scores, measure = iter([1.0, 3.0, 2.0]), run.evaluate
    run.evaluate = lambda *args, **kwargs: {**measure(*args, **kwargs), "eval_score": next(scores)}
    remembered = Remembers(lambda: parameters(run.model))
    run.add_callback(remembered)
    run.train()
    assert run.state.best_global_step == 4
    best, last = remembered.seen[4], remembered.seen[6]
    assert any(not torch.equal(best[key], last[key]) for key in best)
    assert all(torch.equal(best[key], one) for key, one in parameters(run.model).items())
    run.save_model()
    assert_adapters_alone(tmp_path / "run", run.model, kind, run)


@pytest.mark.parametrize(
    ("name", "targets"),
    [
        ("t5", ["q", "lm_head", "embed_tokens"]),
        ("bart", ["lm_head"]),
        ("rnn_seq2seq", ["readout", "lm_head", "bridge"]),
    ],
)
def test_the_loss_of_a_folder_is_that_of_the_training_where_layers_share_weights(
    name, targets, family, tiny_generator, tiny_tokenizer, trainer, pairs, tmp_path
):
    def build() -> PeftModel:
        model = tiny_generator(tie_word_embeddings=True, cell_type="lstm") if name == "rnn_seq2seq" else family(name)
        model.save_pretrained(tmp_path / "base")
        tiny_tokenizer.save_pretrained(tmp_path / "base")
        model.name_or_path = str(tmp_path / "base")
        with torch.random.fork_rng():
            torch.manual_seed(0)
            return get_peft_model(model, LoraConfig(task_type="SEQ_2_SEQ_LM", r=2, target_modules=targets))

    settings = {"per_device_train_batch_size": 4, "learning_rate": 0.1, "save_strategy": "steps", "save_steps": 2}
    run = trainer(build(), pairs(16), pairs(4), max_steps=4, **settings)
    run.train()
    run.save_model()
    trained = run.evaluate()["eval_loss"]
    for folder in (tmp_path / "run", tmp_path / "run" / "checkpoint-4"):
        read = trainer(load_generator(folder)[0], pairs(16), pairs(4), output_dir=str(tmp_path / "other"))
        assert read.evaluate()["eval_loss"] == pytest.approx(trained, abs=1e-4)
    resumed = trainer(build(), pairs(16), pairs(4), max_steps=4, output_dir=str(tmp_path / "resumed"), **settings)
    resumed.train(resume_from_checkpoint=str(tmp_path / "run" / "checkpoint-2"))
    assert resumed.evaluate()["eval_loss"] == pytest.approx(trained, abs=1e-6)


def test_a_trainer_refuses_and_tells_before_it_trains(family, trainer, pairs, caplog):
    model = get_peft_model(family("t5"), LoraConfig(task_type="SEQ_2_SEQ_LM", target_modules=["q", "shared"]))
    trainer(model, pairs(2))
    assert "Adapters of `shared` learn nothing" in caplog.text
    model.get_base_model().lm_head.requires_grad_(True)
    with pytest.raises(ValueError, match="not saved with its adapter: `shared.weight`"):
        trainer(model, pairs(2))


def test_a_folder_holds_the_model_of_the_last_training_alone(adapted, family, trainer, pairs, tmp_path):
    names = lambda: {path.name for path in (tmp_path / "run").iterdir()}  # noqa: E731
    whole, adapters = {"config.json", "model.safetensors"}, {"adapter_config.json", "adapter_model.safetensors"}
    trainer(family("bart"), pairs(2)).save_model()
    assert whole <= names()
    trainer(adapted("t5"), pairs(2)).save_model()
    assert adapters <= names() and whole.isdisjoint(names())
    assert load_generator(tmp_path / "run")[0].config.model_type == "t5"
    trainer(family("bart"), pairs(2)).save_model()
    assert whole <= names() and adapters.isdisjoint(names())
    model = load_generator(tmp_path / "base")[0]  # whose folder its adapter may share
    config = LoraConfig(task_type="SEQ_2_SEQ_LM", r=2, target_modules=["q"])
    trainer(get_peft_model(model, config), pairs(2), output_dir=str(tmp_path / "base")).save_model()
    assert whole | adapters <= {path.name for path in (tmp_path / "base").iterdir()}
    load_generator(tmp_path / "base")
