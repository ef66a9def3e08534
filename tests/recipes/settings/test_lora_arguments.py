"""Settings of LoRA: what they make of a generator, and what they refuse."""

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import BertConfig, EncoderDecoderConfig, EncoderDecoderModel

from hf_localgan.models.loading import load_generator
from hf_localgan.recipes import GeneratorArguments, RecipeParser, StageArguments, TokenizerArguments
from hf_localgan.recipes.settings.lora import LoraArguments


@pytest.fixture
def saved(tmp_path, tiny_t5, tiny_bart, tiny_generator, tiny_tokenizer):
    """`saved(name)`: the folder of a generator with its tokenizer."""

    def build(name: str) -> str:
        {"t5": tiny_t5, "bart": tiny_bart, "rnn_seq2seq": tiny_generator}[name]().save_pretrained(tmp_path / name)
        tiny_tokenizer.save_pretrained(tmp_path / name)
        return str(tmp_path / name)

    return build


def adapted_layers(model) -> set[str]:
    names = [name for name, one in model.named_parameters() if one.requires_grad]
    assert names and all("lora_" in name for name in names)
    return {name.split(".lora_")[0].rsplit(".", 1)[-1] for name in names}


@pytest.mark.parametrize(
    ("name", "targets", "layers"),
    [
        ("t5", None, {"q", "v"}),
        ("bart", None, {"q_proj", "v_proj"}),
        ("rnn_seq2seq", None, {"query", "readout", "bridge"}),
        ("t5", ["wi", "wo"], {"wi", "wo"}),
        ("bart", ["all-linear"], {"q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2"}),
    ],
)
def test_adapters_are_on_the_layers_that_are_asked_for(name, targets, layers, saved):
    chosen = GeneratorArguments(saved(name), lora_rank=3, lora_targets=targets, lora_dropout=0.1)
    model, tokenizer = chosen.load_or_make(TokenizerArguments(), None, "en")
    assert isinstance(model, PeftModel) and adapted_layers(model) == layers and len(tokenizer) == 20
    config = model.peft_config["default"]
    assert (config.r, config.lora_alpha, config.lora_dropout) == (3, 3, 0.1)
    assert config.base_model_name_or_path == chosen.generator
    given = {"input_ids": torch.tensor([[4, 5, 2]]), "decoder_input_ids": torch.tensor([[1, 9]])}
    plain = load_generator(chosen.generator)[0]
    torch.testing.assert_close(model.eval()(**given).logits, plain(**given).logits)  # they begin with nothing


def test_without_a_rank_the_generator_is_as_it_was(saved):
    model, _ = GeneratorArguments(saved("t5")).load_or_make(TokenizerArguments(), None, "en")
    assert not isinstance(model, PeftModel) and all(one.requires_grad for one in model.parameters())


def test_alpha_is_what_the_adapters_count(saved, tiny_t5):
    model = LoraArguments(lora_rank=2, lora_alpha=6).adapt(tiny_t5())
    assert model.base_model.model.encoder.block[0].layer[0].SelfAttention.q.scaling == {"default": 3.0}


def test_a_generator_of_adapters_is_merged_and_may_have_new_ones(saved, tmp_path):
    first, base = LoraArguments(lora_rank=2), saved("t5")
    model = first.adapt(load_generator(base)[0])
    model.save_pretrained(tmp_path / "adapters")
    again, _ = GeneratorArguments(str(tmp_path / "adapters"), lora_rank=4).load_or_make(None, None, "en")
    assert again.peft_config["default"].base_model_name_or_path == str(tmp_path / "adapters")
    (tmp_path / "t5").rename(tmp_path / "moved")
    with pytest.raises(OSError, match="`base_model`"):
        GeneratorArguments(str(tmp_path / "adapters")).load()
    GeneratorArguments(str(tmp_path / "adapters"), base_model=str(tmp_path / "moved")).load()


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"lora_rank": 0}, "`lora_rank` must be at least 1, got 0"),
        ({"lora_rank": 2, "lora_alpha": 0.0}, "`lora_alpha` must be positive"),
        ({"lora_rank": 2, "lora_dropout": 1.0}, "`lora_dropout` must be at least 0 and below 1"),
        ({"lora_rank": 2, "lora_targets": []}, "`lora_targets` is empty"),
        ({"lora_alpha": 4.0}, "`lora_alpha` says how adapters are made. Set `lora_rank`"),
        ({"lora_targets": ["q"]}, "`lora_targets` says how"),
        ({"lora_dropout": 0.1}, "`lora_dropout` says how"),
    ],
)
def test_settings_that_say_nothing_are_refused(settings, told):
    for kind in (LoraArguments, StageArguments):
        with pytest.raises(ValueError, match=told):
            kind(**settings)


def test_a_generator_from_scratch_has_no_adapters():
    with pytest.raises(ValueError, match="Name it by `generator`"):
        GeneratorArguments(lora_rank=8)


@pytest.mark.parametrize(("name", "target", "told"), [("t5", "query", "not found"), ("rnn_seq2seq", "rnn", "rnn")])
def test_layers_that_cannot_have_adapters_are_refused_with_those_that_can(name, target, told, saved):
    chosen = GeneratorArguments(saved(name), lora_rank=2, lora_targets=[target])
    with pytest.raises(ValueError, match=f"`lora_targets` .*{told}.* Its linear layers are .*`all-linear`"):
        chosen.load_or_make(TokenizerArguments(), None, "en")


def test_a_layer_that_nothing_reads_is_refused_and_a_part_of_a_name_is_told(saved, caplog):
    for name in ("t5", "bart"):
        with pytest.raises(ValueError, match="`lora_targets` has `shared`.* learn nothing.*decoder.embed_tokens`"):
            LoraArguments(lora_rank=2, lora_targets=["lm_head", "shared"]).adapt(load_generator(saved(name))[0])
    config = {"vocab_size": 20, "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
    sides = BertConfig(**config), BertConfig(**config, is_decoder=True, add_cross_attention=True)
    model = EncoderDecoderModel(EncoderDecoderConfig.from_encoder_decoder_configs(*sides))
    LoraArguments(lora_rank=2, lora_targets=["dense"]).adapt(model)
    assert "`encoder.pooler.dense` learn nothing" in caplog.text and "The other adapters are trained" in caplog.text


def test_recurrent_layers_cannot_have_adapters(tiny_generator):
    model = tiny_generator()
    names = [name for name, one in model.named_modules() if isinstance(one, torch.nn.GRU)]
    with pytest.raises(ValueError, match="GRU.*Its linear layers are bridge"):
        LoraArguments(lora_rank=2, lora_targets=names).adapt(model)


def test_the_settings_are_read_from_files_and_command_lines(tmp_path):
    (tmp_path / "one.yaml").write_text("generator: some/where\nlora_rank: 8\nlora_targets: [q, k]\n")
    parser = RecipeParser(GeneratorArguments)
    (found,) = parser.read([str(tmp_path / "one.yaml"), "--lora_alpha", "16"])
    assert (found.lora_rank, found.lora_alpha, found.lora_targets) == (8, 16.0, ["q", "k"])
    (found,) = parser.read([str(tmp_path / "one.yaml"), "--lora_rank", "none", "--lora_targets", "none"])
    assert found.lora_rank is None
    (found,) = RecipeParser(StageArguments).read(["--lora_rank", "4"])
    assert found.lora_rank == 4


def test_adapters_of_a_model_in_memory_would_have_no_base(tiny_t5):
    # what the settings avoid: PEFT then records no base model
    model = get_peft_model(tiny_t5(), LoraConfig(task_type="SEQ_2_SEQ_LM", target_modules=["q"]))
    assert not model.peft_config["default"].base_model_name_or_path
