"""Small models with a trainer around them; runs in two processes, and runs that are stopped and resumed.

All data are token ids; nothing is read from outside.
"""

import importlib.util
import json
import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
import torch
from filelock import FileLock
from peft import LoraConfig, get_peft_model
from transformers import (
    BertConfig,
    DataCollatorForSeq2Seq,
    EncoderDecoderConfig,
    EncoderDecoderModel,
    MarianConfig,
    MarianMTModel,
    TrainerCallback,
)

from hf_localgan.models import DbmConfig, DbmModel, PairDiscriminator, PairDiscriminatorConfig
from hf_localgan.trainers import (
    DbmTrainer,
    DbmTrainingConfig,
    GanAelConfig,
    LocalGanConfig,
    LocalGanTrainer,
    MleConfig,
    MleTrainer,
)


@pytest.fixture(scope="session", autouse=True)
def workers_end_at_once():
    """Waits for the workers of a loader for a tenth of a second.

    Workers that persist belong to a trainer, which is garbage with cycles. Their queues are closed first then, so that
    they never hear that they should end, and torch waits five seconds for each before it terminates it.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.utils.data._utils, "MP_STATUS_CHECK_INTERVAL", 0.1)
        yield


def _marian(**fields):
    sizes = {"vocab_size": 20, "d_model": 8, "max_position_embeddings": 64, "scale_embedding": True}
    for side in ("encoder", "decoder"):
        sizes |= {f"{side}_layers": 1, f"{side}_attention_heads": 2, f"{side}_ffn_dim": 16}
    tokens = {"pad_token_id": 0, "eos_token_id": 2, "decoder_start_token_id": 0, "forced_eos_token_id": None}
    return MarianMTModel(MarianConfig(**{**sizes, **tokens, **fields}))


def _encoder_decoder():
    sizes = {"vocab_size": 20, "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
    sizes |= {"intermediate_size": 16, "max_position_embeddings": 64, "pad_token_id": 0}
    config = EncoderDecoderConfig.from_encoder_decoder_configs(BertConfig(**sizes), BertConfig(**sizes))
    config.pad_token_id, config.decoder_start_token_id, config.eos_token_id = 0, 1, 2
    return EncoderDecoderModel(config=config)


@pytest.fixture
def family(tiny_generator, tiny_t5, tiny_bart):
    """`family(name, dropout=False)`: a fresh tiny model of the family, the same at each call.

    Every parameter is moved from its initial value, biases of the output layer and BART's added one included.
    """

    def build(name: str, dropout: bool = False):
        with torch.random.fork_rng(), torch.no_grad():
            torch.manual_seed(3)
            model = {
                "rnn_seq2seq": tiny_generator,
                "t5": tiny_t5,
                "bart": tiny_bart,
                "marian": _marian,
                "encoder_decoder": _encoder_decoder,
            }[name]()
            for parameter in model.parameters():
                parameter.add_(torch.randn_like(parameter), alpha=0.2)
            if name in ("bart", "marian"):
                model.final_logits_bias.normal_()
        for module in model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.2 if dropout else 0.0
            elif isinstance(getattr(module, "dropout", None), float):
                module.dropout = 0.2 if dropout else 0.0
        return model

    return build


@pytest.fixture
def adapted_t5(family):
    """`adapted_t5()`: a T5 with dropout and LoRA adapters, the same at each call."""

    def build():
        config = LoraConfig(task_type="SEQ_2_SEQ_LM", r=2, target_modules=["q", "v"], lora_dropout=0.1)
        with torch.random.fork_rng():
            torch.manual_seed(0)
            return get_peft_model(family("t5", dropout=True), config)

    return build


@pytest.fixture(scope="session")
def pairs():
    """`pairs(number, seed=0)`: rows of token ids whose responses have 2 to 12 tokens, the last one `</s>`."""

    def build(number: int, seed: int = 0) -> list[dict]:
        draw = torch.Generator().manual_seed(seed)

        def sentence(longest: int) -> list[int]:
            length = int(torch.randint(1, longest, (), generator=draw))
            return torch.randint(4, 20, (length,), generator=draw).tolist() + [2]

        rows = [{"input_ids": sentence(8), "labels": sentence(12)} for _ in range(number)]
        return [{**row, "attention_mask": [1] * len(row["input_ids"])} for row in rows]

    return build


@pytest.fixture
def collate(tiny_tokenizer):
    return DataCollatorForSeq2Seq(tiny_tokenizer)


@pytest.fixture
def trainer(tmp_path, tiny_tokenizer, collate):
    """`trainer(model, train=None, evaluate=None, cls=MleTrainer, **arguments)`: plain descent without noise.

    SGD without clipping moves parameters in proportion to the gradient, so that a scale of the loss shows.
    """

    def build(model, train=None, evaluate=None, cls=MleTrainer, callbacks=None, compute_metrics=None, **arguments):
        arguments = {
            "output_dir": str(tmp_path / "run"), "use_cpu": True, "optim": "sgd", "max_grad_norm": 0.0,
            "learning_rate": 0.5, "lr_scheduler_type": "constant", "logging_steps": 1, "save_strategy": "no",
            "disable_tqdm": True, "sample_rows": 0, "per_device_train_batch_size": 8, **arguments,
        }  # fmt: skip
        config = arguments.pop("config", MleConfig)
        return cls(
            model, config(**arguments), train_dataset=train, eval_dataset=evaluate, data_collator=collate,
            processing_class=tiny_tokenizer, callbacks=callbacks, compute_metrics=compute_metrics,
        )  # fmt: skip

    return build


@pytest.fixture(scope="session")
def losses():
    """`losses(trainer, key="loss")`: what was logged under the key, in order."""

    def read(trainer, key: str = "loss") -> list[float]:
        return [row[key] for row in trainer.state.log_history if key in row]

    return read


# ---- deep Boltzmann machines ----


@pytest.fixture(scope="session")
def vectors():
    """`vectors(number, seed=0)`: rows of vectors of 3 and 4 dimensions that depend on each other, not standardised."""

    def build(number: int, seed: int = 0) -> list[dict]:
        draw = torch.Generator().manual_seed(seed)
        mixing = torch.randn(2, 7, generator=torch.Generator().manual_seed(99))
        values = torch.randn(number, 2, generator=draw).sign() @ mixing + torch.randn(number, 7, generator=draw) / 2 + 3
        return [{"query_features": row[:3].tolist(), "response_features": row[3:].tolist()} for row in values]

    return build


@pytest.fixture(scope="session")
def tiny_energy():
    """`tiny_energy(seed=0, **fields)`: a fresh `DbmModel` for such vectors, 5 and 3 binary units."""

    def build(seed: int = 0, **fields) -> DbmModel:
        sizes = {"query_size": 3, "response_size": 4, "hidden_size": 5, "top_size": 3, "visible_std": "learned"}
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            return DbmModel(DbmConfig(**{**sizes, **fields}))

    return build


@pytest.fixture
def energy_trainer(tmp_path):
    """`energy_trainer(model, train=None, evaluate=None, **arguments)`: a `DbmTrainer` on the processor, 10 chains."""

    def build(model, train=None, evaluate=None, callbacks=None, data_collator=None, cls=DbmTrainer, **arguments):
        arguments = {
            "output_dir": str(tmp_path / "run"), "use_cpu": True, "disable_tqdm": True, "save_strategy": "no",
            "logging_steps": 1, "learning_rate": 0.01, "per_device_train_batch_size": 8, "chains": 10,
            "final_log_likelihood": False, **arguments,
        }  # fmt: skip
        return cls(
            model, DbmTrainingConfig(**arguments), train_dataset=train, eval_dataset=evaluate,
            data_collator=data_collator, callbacks=callbacks,
        )  # fmt: skip

    return build


# ---- a generator against a discriminator ----


@pytest.fixture(scope="session")
def tiny_discriminator():
    """`tiny_discriminator(seed=0, **fields)`: a fresh convolutional `PairDiscriminator` of the tiny vocabulary."""

    def build(seed: int = 0, **fields) -> PairDiscriminator:
        sizes = {"vocab_size": 20, "embedding_size": 6, "filters": 4, "widths": [1, 2], "head_size": 6}
        sizes |= {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "dropout": 0.0, "embedding_dropout": 0.0}
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            return PairDiscriminator(PairDiscriminatorConfig(**{**sizes, "initializer_range": 1.0, **fields}))

    return build


@pytest.fixture(scope="session")
def token_energy():
    """`token_energy(seed=0, **fields)`: a `DbmModel` as if trained, whose words are tokens from 4 on."""

    def build(seed: int = 0, **fields) -> DbmModel:
        sizes = {"query_size": 5, "response_size": 5, "hidden_size": 6, "top_size": 4, "vocab_size": 20}
        with torch.random.fork_rng(), torch.no_grad():
            torch.manual_seed(seed)
            model = DbmModel(DbmConfig(**{**sizes, **fields}))
            for parameter in model.parameters():
                parameter.normal_(std=0.5)
            if model.word_vectors is not None:
                words = torch.randn(model.config.vocab_size, model.config.query_size)
                model.word_vectors.load(words, range(4, model.config.vocab_size))
            for scaler in (model.query_scaler, model.response_scaler):
                scaler.mean.normal_(std=0.3)
                scaler.std.uniform_(0.3, 1.0)
                scaler.count.fill_(9)
        return model

    return build


@pytest.fixture
def players(trainer, tiny_discriminator, token_energy):
    """`players(model, train=None, evaluate=None, cls=LocalGanTrainer, **arguments)`: a trainer of two, as `trainer` is.

    `discriminator`, `energy` and `monitor` are handed on; by default the first two are fresh, the same at each call.
    Without another word there is no warm-up, and one update of each in turn.
    """

    def build(model, train=None, evaluate=None, cls=LocalGanTrainer, **arguments):
        arguments = {"discriminator_warmup_steps": 0, "max_soft_length": 6, "relaxation_top_k": 8, **arguments}
        arguments = {"discriminator_learning_rate": 0.1, "learning_rate": 0.1, "max_steps": 2, **arguments}
        local = issubclass(cls, LocalGanTrainer)
        parts = {name: arguments.pop(name) for name in ("energy", "monitor", "discriminator") if name in arguments}
        parts.setdefault("discriminator", tiny_discriminator())
        if local:
            parts.setdefault("energy", token_energy())
        arguments.setdefault("config", LocalGanConfig if local else GanAelConfig)
        return trainer(model, train, evaluate, cls=partial(cls, **parts), **arguments)

    return build


@pytest.fixture(scope="session")
def parameters():
    """`parameters(module)`: copies of its parameters by name."""

    def read(module: torch.nn.Module) -> dict[str, torch.Tensor]:
        return {name: parameter.detach().clone() for name, parameter in module.named_parameters()}

    return read


# ---- two processes ----


def launch_two(folder: Path, script: str, *words: str):
    """Runs `script 2 folder words...` in two processes under torchrun; they leave `rank0.json` and `rank1.json`."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    command += [Path(__file__).parent / "processes" / script, "2", folder, *words]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stderr[-4000:]


@pytest.fixture(scope="session")
def launched(request, tmp_path_factory) -> Path:
    """The folder of what two processes measured, by one launch, with the scripts of all modules of this session.

    Of the workers of a parallel run one launches them, and others that need them wait.
    """
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent
    folder /= "two"
    modules = {item.module for item in request.session.items if Path(__file__).parent in item.path.parents}
    shared = [module for module in modules if hasattr(module, "SCRIPT") and not hasattr(module, "OWN_LAUNCH")]
    scripts = {module.SCRIPT.removesuffix(".py") for module in shared}
    with FileLock(folder.with_suffix(".lock")):
        if not (folder / "ended-well").exists():
            folder.mkdir(exist_ok=True)
            launch_two(folder, "all_in_two.py", *sorted(scripts))
            (folder / "ended-well").touch()
    return folder


@pytest.fixture(scope="module")
def two(request, tmp_path_factory) -> list[dict]:
    """What each of two processes under torchrun measured with the script that the module names `SCRIPT`.

    A module whose script changes the process it runs in sets `OWN_LAUNCH`.
    """
    if hasattr(request.module, "OWN_LAUNCH"):
        folder = tmp_path_factory.mktemp("two")
        launch_two(folder, request.module.SCRIPT)
        return [json.loads((folder / f"rank{rank}.json").read_text()) for rank in range(2)]
    folder, name = request.getfixturevalue("launched"), request.module.SCRIPT.removesuffix(".py")
    return [json.loads((folder / f"rank{rank}.json").read_text())[name] for rank in range(2)]


@pytest.fixture(scope="module")
def one(request, tmp_path_factory) -> dict:
    """The same measured in this process."""
    path = Path(__file__).parent / "processes" / request.module.SCRIPT
    spec = importlib.util.spec_from_file_location(path.stem, path)
    script = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(path.parent)  # where torchrun looks for what the script imports
        spec.loader.exec_module(script)
    return json.loads(json.dumps(script.measure(1, tmp_path_factory.mktemp("one"))))


# ---- resumed runs ----

UNTIMED = (
    "loss", "grad_norm", "learning_rate", "eval_loss", "eval_tokens", "epoch", "step", "raml/temperature",
    "raml/edit_rate",
)  # fmt: skip


class StopAfter(TrainerCallback):
    """Ends training at a step as a pulled plug would: nothing is saved beyond what was."""

    def __init__(self, step: int):
        self.step = step

    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step == self.step:
            raise KeyboardInterrupt


class Beginning(TrainerCallback):
    """Remembers the step at which training began."""

    def on_train_begin(self, args, state, control, **kwargs):
        self.step = state.global_step


@pytest.fixture
def interrupted(trainer, tmp_path, monkeypatch):
    """`interrupted(model, rows, held_out, stop, **arguments)`: a whole run, one resumed after step `stop`, its start.

    `model()` builds the same model each time. Runs are in the folders `whole` and `parts` of the working directory.
    """
    monkeypatch.chdir(tmp_path)

    def run_both(model, rows, held_out, stop: int, **arguments):
        arguments = {
            "optim": "adamw_torch", "learning_rate": 1e-2, "lr_scheduler_type": "linear", "max_grad_norm": 1.0,
            "per_device_train_batch_size": 2, "gradient_accumulation_steps": 2, "save_strategy": "steps",
            "save_steps": 7, "eval_strategy": "steps", "eval_steps": 3, **arguments,
        }  # fmt: skip
        whole = trainer(model(), rows, held_out, output_dir="whole", **arguments)
        whole.train()
        stopped = trainer(model(), rows, held_out, output_dir="parts", callbacks=[StopAfter(stop)], **arguments)
        with pytest.raises(KeyboardInterrupt):
            stopped.train()
        beginning = Beginning()
        resumed = trainer(model(), rows, held_out, output_dir="parts", callbacks=[beginning], **arguments)
        resumed.train(resume_from_checkpoint=True)
        return whole, resumed, beginning.step

    return run_both


@pytest.fixture(scope="session")
def assert_equal_runs():
    """`assert_equal_runs(first, second)`: parameters, optimizer and what was logged, times aside, to the last bit."""

    def states(first, second, path: str):
        assert type(first) is type(second), path
        if isinstance(first, dict):
            assert first.keys() == second.keys(), path
            for key in first:
                states(first[key], second[key], f"{path}/{key}")
        elif isinstance(first, torch.Tensor):
            assert torch.equal(first, second), path
        elif isinstance(first, list):
            for i, (a, b) in enumerate(zip(first, second, strict=True)):
                states(a, b, f"{path}/{i}")
        else:
            assert first == second, path

    def history(run) -> list[dict]:  # JSON keeps floats exactly
        rows = [row for row in run.state.log_history if "train_runtime" not in row]
        return [{name: row[name] for name in UNTIMED if name in row} for row in rows]

    def compare(first, second):
        states(dict(first.model.state_dict()), dict(second.model.state_dict()), "model")
        states(first.optimizer.state_dict(), second.optimizer.state_dict(), "optimizer")
        assert history(first) == history(second)

    return compare
