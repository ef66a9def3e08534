"""Small models with a trainer around them. All data are token ids; nothing is read from outside."""

import gc

import pytest
import torch
from transformers import (
    BertConfig,
    DataCollatorForSeq2Seq,
    EncoderDecoderConfig,
    EncoderDecoderModel,
    MarianConfig,
    MarianMTModel,
)

from hf_localgan.trainers import MleConfig, MleTrainer


@pytest.fixture(scope="module", autouse=True)
def frozen_heap():
    """The trainer collects garbage when it starts, over all modules that are loaded: half a second each time."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


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
