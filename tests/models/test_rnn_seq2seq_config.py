"""Fields of the configuration: defaults, round trip, what is refused and in which words."""

import pytest
from huggingface_hub.errors import StrictDataclassFieldValidationError
from transformers import AutoConfig

from hf_localgan.models import RnnSeq2SeqConfig


def test_the_defaults_are_the_papers_generator_and_the_usual_tokens():
    config = RnnSeq2SeqConfig()
    assert (config.cell_type, config.hidden_size, config.encoder_layers, config.decoder_layers) == ("gru", 256, 1, 1)
    assert config.vocab_size == 40_000 and config.attention == "general" and config.attention_position == "after"
    assert (config.pad_token_id, config.bos_token_id, config.eos_token_id) == (0, 1, 2)
    assert config.decoder_start_token_id == 1
    assert config.is_encoder_decoder and config.use_cache


def test_the_second_papers_translation_model_can_be_written_down():
    config = RnnSeq2SeqConfig(
        cell_type="lstm", encoder_layers=3, decoder_layers=3, hidden_size=1024, attention="additive"
    )
    assert config.state_tensors == 2 and config.num_hidden_layers == 3


def test_other_names_of_fields_read_and_write_them():
    config = RnnSeq2SeqConfig(num_hidden_layers=4)
    assert config.decoder_layers == 4
    config.num_hidden_layers = 2
    assert config.decoder_layers == 2


def test_every_field_survives_saving(tmp_path):
    fields = {
        "vocab_size": 31,
        "encoder_vocab_size": 17,
        "embedding_size": 6,
        "hidden_size": 10,
        "encoder_layers": 2,
        "decoder_layers": 3,
        "cell_type": "lstm",
        "bidirectional": False,
        "attention": "additive",
        "attention_position": "before",
        "input_feeding": True,
        "bridge": "copy",
        "share_embeddings": False,
        "tie_word_embeddings": True,
        "dropout": 0.1,
        "embedding_dropout": 0.2,
        "output_dropout": 0.3,
        "initializer_range": 0.05,
        "use_cache": False,
        "pad_token_id": 5,
        "bos_token_id": 6,
        "eos_token_id": 7,
        "decoder_start_token_id": 8,
    }
    config = RnnSeq2SeqConfig(**fields)
    config.save_pretrained(tmp_path)
    reloaded = AutoConfig.from_pretrained(tmp_path)
    assert type(reloaded) is RnnSeq2SeqConfig
    assert {name: getattr(reloaded, name) for name in fields} == fields
    assert reloaded.to_diff_dict() == config.to_diff_dict()


@pytest.mark.parametrize(("cell", "tensors"), [("gru", 1), ("lstm", 2)])
def test_an_lstm_carries_two_tensors_per_layer(cell, tensors):
    assert RnnSeq2SeqConfig(cell_type=cell).state_tensors == tensors


def test_equal_vocabularies_are_one(tiny_config):
    assert tiny_config(encoder_vocab_size=20).encoder_vocab_size is None


REFUSED = [
    ({"cell_type": "rnn"}, '`cell_type` must be one of "gru", "lstm", got "rnn".'),
    ({"attention": "bilinear"}, '`attention` must be one of "none", "dot", "general", "additive", got "bilinear".'),
    ({"attention_position": "inside"}, '`attention_position` must be one of "after", "before", got "inside".'),
    ({"bridge": "sum"}, '`bridge` must be one of "copy", "dense", got "sum".'),
    ({"vocab_size": 0}, "`vocab_size` must be at least 1, got 0."),
    ({"embedding_size": 0}, "`embedding_size` must be at least 1, got 0."),
    ({"hidden_size": -2}, "`hidden_size` must be at least 1, got -2."),
    ({"encoder_layers": 0}, "`encoder_layers` must be at least 1, got 0."),
    ({"decoder_layers": 0}, "`decoder_layers` must be at least 1, got 0."),
    ({"dropout": 1.0}, "`dropout` is a probability below 1, got 1.0."),
    ({"embedding_dropout": -0.1}, "`embedding_dropout` is a probability below 1, got -0.1."),
    ({"output_dropout": 2}, "`output_dropout` is a probability below 1, got 2."),
    ({"hidden_size": 7}, "`hidden_size` must be even for a bidirectional encoder (half of it per direction), got 7."),
    ({"attention": "none", "input_feeding": True}, '`input_feeding` and `attention_position="before"` need an'),
    ({"attention": "none", "attention_position": "before"}, 'Choose "dot", "general" or "additive".'),
    ({"encoder_vocab_size": 9, "vocab_size": 11}, "needs one vocabulary, got 9 source and 11 target tokens."),
]


@pytest.mark.parametrize(("fields", "message"), REFUSED, ids=["-".join(fields) for fields, _ in REFUSED])
def test_a_bad_value_is_named_with_what_is_accepted(fields, message):
    with pytest.raises(ValueError) as error:
        RnnSeq2SeqConfig(**fields)
    assert message in str(error.value)


def test_an_odd_hidden_size_is_fine_in_one_direction():
    assert RnnSeq2SeqConfig(hidden_size=7, bidirectional=False).hidden_size == 7


@pytest.mark.parametrize("fields", [{"hidden_size": "256"}, {"bidirectional": "yes"}, {"dropout": "0.1"}])
def test_a_value_of_another_type_is_refused(fields):
    (name,) = fields
    with pytest.raises(StrictDataclassFieldValidationError, match=f"'{name}'"):
        RnnSeq2SeqConfig(**fields)
