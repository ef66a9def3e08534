"""`torch.export` of the recurrent models: one program for every batch size, length and place of padding."""

import io

import pytest
import torch
from torch.export import Dim, export

from hf_localgan.models import RnnSpeechConfig, RnnSpeechForConditionalGeneration

EXAMPLE = {
    "input_ids": torch.tensor([[5, 9, 4, 17, 2], [8, 3, 2, 0, 0], [1, 4, 2, 0, 0]]),
    "decoder_input_ids": torch.tensor([[1, 7, 12, 5], [1, 4, 4, 2], [1, 1, 1, 1]]),
}
EXAMPLE["attention_mask"] = (EXAMPLE["input_ids"] != 0).long()
# Another number of rows and longer sides; padding behind, before and between tokens, and a row of nothing else.
OTHER = {
    "input_ids": torch.tensor([[5, 9, 4, 17, 2, 7, 8, 0], [0, 0, 0, 8, 3, 2, 9, 2], [6, 0, 7, 0, 8, 0, 9, 2], [0] * 8]),
    "decoder_input_ids": torch.arange(3, 11).tile(4, 1)[:, :6] + torch.arange(4)[:, None],
}
OTHER["attention_mask"] = (OTHER["input_ids"] != 0).long()
TARGET_MASK = torch.tensor([[1, 1, 1, 1, 1, 1], [0, 1, 1, 1, 0, 1], [1, 0, 1, 1, 0, 0], [1, 1, 0, 0, 0, 0]])


def exported(model, inputs):
    """The exported program after a round trip through a file."""
    dynamic = {name: {0: Dim.DYNAMIC, 1: Dim.DYNAMIC} for name in inputs}
    file = io.BytesIO()
    with torch.no_grad():
        torch.export.save(export(model, (), inputs, dynamic_shapes=dynamic), file)
    file.seek(0)
    return torch.export.load(file).module()


@torch.no_grad()
def check(model, program, inputs):
    torch.testing.assert_close(program(**inputs).logits, model(**inputs).logits, rtol=1e-5, atol=1e-6)


def test_an_exported_generator_equals_the_model_for_other_sizes_and_masks(tiny_generator):
    model = tiny_generator(bidirectional=False)
    program = exported(model, EXAMPLE)
    check(model, program, EXAMPLE)
    check(model, program, OTHER)
    check(model, program, {**OTHER, "attention_mask": torch.ones_like(OTHER["input_ids"])})


def test_a_cache_in_an_exported_model_is_refused(tiny_generator):
    states = {"encoder_hidden_states": torch.zeros(3, 5, 8), "encoder_final_state": torch.zeros(3, 1, 1, 8)}
    with pytest.raises(ValueError, match="cannot be exported, got `use_cache=True`. Leave it out"):
        export(tiny_generator().get_decoder(), (), {**states, "input_ids": EXAMPLE["input_ids"], "use_cache": True})


@pytest.mark.slow
@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"cell_type": "lstm", "encoder_layers": 2, "decoder_layers": 2, "tie_word_embeddings": True},
        {"attention": "none"},
        {"attention": "additive", "attention_position": "before", "cell_type": "lstm"},
        {"input_feeding": True, "bidirectional": False, "decoder_layers": 2},
    ],
    ids=["GRU", "LSTM, deep", "no attention", "attention first", "input feeding"],
)
def test_every_architecture_is_exported(tiny_generator, fields):
    model = tiny_generator(**fields)
    example = {**EXAMPLE, "decoder_attention_mask": torch.ones_like(EXAMPLE["decoder_input_ids"])}
    program = exported(model, example)
    check(model, program, example)
    check(model, program, {**OTHER, "decoder_attention_mask": TARGET_MASK})
    del example["attention_mask"]
    program = exported(model, example)
    check(model, program, {**example, "input_ids": OTHER["input_ids"][:3]})


@pytest.mark.slow
def test_an_exported_recogniser_equals_the_model():
    torch.manual_seed(0)
    sizes = {"encoder_layers": 2, "encoder_hidden_size": 8, "hidden_size": 6, "embedding_size": 6}
    model = RnnSpeechForConditionalGeneration(RnnSpeechConfig(vocab_size=16, feature_size=6, **sizes)).eval()

    def inputs(lengths, frames, tokens):
        mask = (torch.arange(frames) < torch.tensor(lengths)[:, None]).long()
        features = torch.randn(len(lengths), frames, 6)
        read = torch.randint(3, 16, (len(lengths), tokens))
        return {"input_features": features, "attention_mask": mask, "decoder_input_ids": read}

    example = inputs([17, 11, 8], 17, 4)
    program = exported(model, example)
    check(model, program, example)
    other = inputs([23, 9], 23, 6)
    check(model, program, other)
    check(model, program, {**other, "attention_mask": other["attention_mask"].flip(1)})
