"""Saving, reloading, ties, incomplete checkpoints and new vocabulary sizes."""

import json

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import AutoConfig, AutoModel, AutoModelForSeq2SeqLM

from hf_localgan.models import RnnSeq2SeqConfig, RnnSeq2SeqForConditionalGeneration, RnnSeq2SeqModel

TIES = pytest.mark.parametrize(("tie", "share"), [(False, False), (True, False), (False, True), (True, True)])
KINDS = pytest.mark.parametrize(
    "fields",
    [
        {},
        {"cell_type": "lstm", "encoder_layers": 2, "decoder_layers": 3},
        {"attention": "additive", "attention_position": "before", "input_feeding": True, "bidirectional": False},
        {"attention": "none", "bridge": "copy"},
        {"share_embeddings": False, "encoder_vocab_size": 13},
    ],
)
SOURCE, TARGET = torch.tensor([[5, 9, 4, 2]]), torch.tensor([[1, 7, 12]])


def assert_equal_parameters(actual, expected):
    actual, expected = actual.state_dict(), expected.state_dict()
    assert actual.keys() == expected.keys()
    for name in expected:
        assert torch.equal(actual[name], expected[name]), name


def assert_ties(model, tie, share):
    encoder, decoder, head = model.get_encoder().embed_tokens, model.get_decoder().embed_tokens, model.lm_head
    assert (head.weight is decoder.weight) == tie
    assert (encoder.weight is decoder.weight) == share


@KINDS
def test_a_saved_model_comes_back_through_the_auto_classes(tiny_generator, fields, tmp_path):
    model = tiny_generator(**fields)
    model.save_pretrained(tmp_path)
    reloaded = AutoModelForSeq2SeqLM.from_pretrained(tmp_path)
    assert type(reloaded) is RnnSeq2SeqForConditionalGeneration
    assert_equal_parameters(reloaded, model)
    inputs = {"input_ids": SOURCE, "decoder_input_ids": TARGET}
    torch.testing.assert_close(reloaded(**inputs).logits, model(**inputs).logits, rtol=1e-6, atol=1e-6)
    body = AutoModel.from_pretrained(tmp_path)
    assert type(body) is RnnSeq2SeqModel
    assert_equal_parameters(body, model.model)
    expected = model.model(**inputs).last_hidden_state
    torch.testing.assert_close(body(**inputs).last_hidden_state, expected, rtol=1e-6, atol=1e-6)


def test_the_auto_classes_know_the_model_type(tiny_config):
    config = tiny_config()
    assert type(AutoConfig.for_model("rnn_seq2seq")) is RnnSeq2SeqConfig
    assert type(AutoModel.from_config(config)) is RnnSeq2SeqModel
    assert type(AutoModelForSeq2SeqLM.from_config(config)) is RnnSeq2SeqForConditionalGeneration


@TIES
def test_ties_hold_after_building_reloading_and_training_one_step(tiny_generator, tmp_path, tie, share):
    model = tiny_generator(tie_word_embeddings=tie, share_embeddings=share)
    assert_ties(model, tie, share)
    model.save_pretrained(tmp_path)
    reloaded = AutoModelForSeq2SeqLM.from_pretrained(tmp_path)
    assert_ties(reloaded, tie, share)
    assert_equal_parameters(reloaded, model)
    optimizer = torch.optim.SGD(reloaded.parameters(), lr=0.1)
    reloaded(SOURCE, labels=TARGET).loss.backward()
    optimizer.step()
    assert_ties(reloaded, tie, share)


@TIES
def test_a_checkpoint_holds_each_parameter_once(tiny_generator, tmp_path, tie, share):
    model = tiny_generator(tie_word_embeddings=tie, share_embeddings=share)
    model.save_pretrained(tmp_path)
    with safe_open(tmp_path / "model.safetensors", "pt") as file:
        saved = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    # 20 x 6 embeddings: one table, and one more for each tie that is missing; an untied head is 20 x 8.
    tables = [name for name, tensor in saved.items() if tensor.shape[0] == 20]
    assert len(tables) == 3 - tie - share, tables
    assert sum(tensor.numel() for tensor in saved.values()) == sum(p.numel() for p in model.parameters())


@TIES
def test_the_body_alone_saves_and_reloads_with_its_ties(tiny_generator, tmp_path, tie, share):
    body = tiny_generator(tie_word_embeddings=tie, share_embeddings=share).model
    body.save_pretrained(tmp_path)
    reloaded = AutoModel.from_pretrained(tmp_path)
    assert_equal_parameters(reloaded, body)
    assert (reloaded.encoder.embed_tokens.weight is reloaded.decoder.embed_tokens.weight) == share


@pytest.mark.parametrize("cell", ["gru", "lstm"])
def test_what_a_checkpoint_lacks_is_initialised_and_the_rest_untouched(tiny_generator, tmp_path, cell):
    model = tiny_generator(cell_type=cell, encoder_layers=2)
    model.save_pretrained(tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    # All of the second layer, and one single tensor of the first, whose neighbours must stay as they are.
    lacking = {name for name in tensors if "encoder.layers.1." in name} | {"model.decoder.layers.0.weight_hh_l0"}
    assert len(lacking) == 9
    kept = {name: tensor for name, tensor in tensors.items() if name not in lacking}
    save_file(kept, tmp_path / "model.safetensors", metadata={"format": "pt"})
    reloaded = AutoModelForSeq2SeqLM.from_pretrained(tmp_path)
    state = reloaded.state_dict()
    for name, tensor in kept.items():
        assert torch.equal(state[name], tensor), name
    for name in lacking:
        assert state[name].isfinite().all() and state[name].abs().max() <= 1.5, name
    for layer in (*reloaded.get_encoder().layers[1:], reloaded.get_decoder().layers[0]):
        for name, weight in layer.named_parameters():
            if name.startswith("weight_hh"):
                for gate in weight.split(layer.hidden_size):
                    torch.testing.assert_close(gate @ gate.T, torch.eye(layer.hidden_size), rtol=0, atol=1e-5)


@pytest.mark.parametrize("cell", ["gru", "lstm"])
def test_initial_weights_are_orthogonal_and_forget_gates_open(tiny_config, cell):
    model = RnnSeq2SeqForConditionalGeneration(tiny_config(cell_type=cell, initializer_range=0.02))
    for layer in (module for module in model.modules() if isinstance(module, nn.RNNBase)):
        size = layer.hidden_size
        for name, weight in layer.named_parameters():
            if name.startswith("weight_hh"):
                for gate in weight.split(size):
                    torch.testing.assert_close(gate @ gate.T, torch.eye(size), rtol=0, atol=1e-5)
            elif name.startswith("bias_ih") and cell == "lstm":  # torch's order of gates: input, forget, cell, output
                assert weight.tolist() == [0] * size + [1] * size + [0] * 2 * size
            elif name.startswith("bias"):
                assert not weight.any()
    table = model.get_input_embeddings().weight
    assert not table[0].any() and 0.01 < table[1:].std() < 0.03


@TIES
@pytest.mark.parametrize("size", [27, 11])
def test_resizing_changes_every_table_and_keeps_the_rows(tiny_generator, tmp_path, tie, share, size):
    model = tiny_generator(tie_word_embeddings=tie, share_embeddings=share)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    model.resize_token_embeddings(size)
    assert model.config.vocab_size == size
    assert_ties(model, tie, share)
    for name, tensor in model.state_dict().items():
        rows = min(11, len(tensor)) if before[name].shape[0] == 20 else len(tensor)
        assert torch.equal(tensor[:rows], before[name][:rows]), name
        assert tensor.shape[0] == (size if before[name].shape[0] == 20 else before[name].shape[0]), name
    outputs = model(torch.tensor([[5, size - 1, 2]]), labels=torch.tensor([[size - 1, 2]]))
    assert outputs.logits.shape == (1, 2, size) and outputs.loss.isfinite()
    model.save_pretrained(tmp_path)
    reloaded = AutoModelForSeq2SeqLM.from_pretrained(tmp_path)
    assert_ties(reloaded, tie, share)
    assert_equal_parameters(reloaded, model)


@pytest.mark.parametrize("share", [False, True])
def test_resizing_the_body_changes_both_of_its_tables(tiny_generator, share):
    body = tiny_generator(share_embeddings=share).model
    body.resize_token_embeddings(27)
    assert body.encoder.embed_tokens.weight.shape == body.decoder.embed_tokens.weight.shape == (27, 6)
    assert (body.encoder.embed_tokens.weight is body.decoder.embed_tokens.weight) == share


def test_resizing_two_vocabularies_is_refused(tiny_generator):
    model = tiny_generator(share_embeddings=False, encoder_vocab_size=13)
    for part in (model, model.model):
        with pytest.raises(ValueError, match="separate vocabularies \\(13 and 20 tokens\\)"):
            part.resize_token_embeddings(27)


def test_another_embedding_can_be_set(tiny_generator):
    model, table = tiny_generator(), nn.Embedding(20, 6)
    model.set_input_embeddings(table)
    assert model.get_encoder().embed_tokens is table and model.get_decoder().embed_tokens is table
    separate, table = tiny_generator(share_embeddings=False), nn.Embedding(20, 6)
    separate.set_input_embeddings(table)
    assert separate.get_encoder().embed_tokens is table and separate.get_decoder().embed_tokens is not table


def test_the_saved_configuration_is_plain_and_complete(tiny_generator, tmp_path):
    tiny_generator(cell_type="lstm", attention="dot").save_pretrained(tmp_path)
    saved = json.loads((tmp_path / "config.json").read_text())
    assert saved["model_type"] == "rnn_seq2seq"
    assert saved["architectures"] == ["RnnSeq2SeqForConditionalGeneration"]
    assert (saved["cell_type"], saved["attention"]) == ("lstm", "dot")
    generation = json.loads((tmp_path / "generation_config.json").read_text())
    assert (generation["decoder_start_token_id"], generation["eos_token_id"], generation["pad_token_id"]) == (1, 2, 0)
