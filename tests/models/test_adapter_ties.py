"""A folder of adapters is read back as the model that was trained, whatever layers share their weights."""

import pytest
import torch
from peft import IA3Config, LoraConfig, TrainableTokensConfig, get_peft_model
from transformers import (
    AutoModelForSeq2SeqLM,
    BertConfig,
    EncoderDecoderConfig,
    EncoderDecoderModel,
    UMT5Config,
    UMT5ForConditionalGeneration,
)

from hf_localgan.hub import export_with_code, merge_adapter
from hf_localgan.models import (
    LogMelFeatureExtractor,
    RnnSpeechConfig,
    RnnSpeechForConditionalGeneration,
    RnnSpeechProcessor,
)
from hf_localgan.models.loading import load_generator
from hf_localgan.models.recognisers import load_recogniser

IDS = torch.tensor([[4, 5, 6, 2], [7, 8, 2, 0]])
TARGET = {"decoder_input_ids": torch.tensor([[1, 9, 5], [1, 12, 6]])}
# Names of a layer that shares nothing, of the output layer and of the embeddings.
LAYERS = {
    "gru": ("readout", "lm_head", "embed_tokens"),
    "lstm": ("readout", "lm_head", "embed_tokens"),
    "t5": ("q", "lm_head", "embed_tokens"),
    "umt5": ("q", "lm_head", "embed_tokens"),
    "bart": ("q_proj", "lm_head", "embed_tokens"),
    "encoder_decoder": ("query", "decoder.cls.predictions.decoder", "word_embeddings"),
    "speech": ("readout", "lm_head", "embed_tokens"),
}
EVERYWHERE = {
    "output layer": lambda plain, head, table: {"target_modules": [plain, head]},
    "embeddings": lambda plain, head, table: {"target_modules": [plain, table]},
    "both": lambda plain, head, table: {"target_modules": [head, table], "use_dora": True},
    "saved modules": lambda plain, head, table: {"target_modules": [plain], "modules_to_save": [head]},
}
ADAPTERS = EVERYWHERE | {
    "all linear layers": lambda plain, head, table: {"target_modules": "all-linear"},
    "encoder": lambda plain, head, table: {"target_modules": [f"encoder.{table}"], "bias": "all"},
    "decoder": lambda plain, head, table: {"target_modules": [f"decoder.{table}"], "bias": "lora_only"},
    "scaled": lambda plain, head, table: {"target_modules": [head], "use_rslora": True, "lora_alpha": 3},
    "begun in the weights": lambda plain, head, table: {"target_modules": [plain, head], "init_lora_weights": "pissa"},
    "some tokens": lambda plain, head, table: {"target_modules": [plain], "trainable_token_indices": {table: [5, 6]}},
    "some tokens alone": lambda plain, head, table: TrainableTokensConfig(token_indices=[5, 6]),
    "factors": lambda plain, head, table: IA3Config(target_modules=[plain, head], feedforward_modules=[]),
}
CASES = [(name, adapter) for name in ("lstm", "t5") for adapter in ADAPTERS]
CASES += [(name, adapter) for name in ("gru", "umt5", "bart", "encoder_decoder", "speech") for adapter in EVERYWHERE]


def umt5():
    sizes = {"vocab_size": 20, "d_model": 8, "d_kv": 4, "d_ff": 16, "num_layers": 1, "num_heads": 2}
    return UMT5ForConditionalGeneration(
        UMT5Config(**sizes, pad_token_id=0, eos_token_id=2, decoder_start_token_id=1)
    ).eval()


def encoder_decoder():
    sizes = {
        "vocab_size": 20, "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16,
        "max_position_embeddings": 32,
    }  # fmt: skip
    sides = BertConfig(**sizes), BertConfig(**sizes, is_decoder=True, add_cross_attention=True)
    tokens = {"pad_token_id": 0, "eos_token_id": 2, "decoder_start_token_id": 1}
    config = EncoderDecoderConfig.from_encoder_decoder_configs(*sides, **tokens)
    return EncoderDecoderModel(config=config).eval()


def speech():
    return RnnSpeechForConditionalGeneration(
        RnnSpeechConfig(
            vocab_size=20, hidden_size=8, embedding_size=6, encoder_hidden_size=8, encoder_layers=1,
            tie_word_embeddings=True, ctc_weight=0.3,
        )
    ).eval()  # fmt: skip


def load(name, place):
    return load_recogniser(place) if name == "speech" else load_generator(place)


def logits(name, model):
    if name == "speech":
        return model(input_features=torch.linspace(-1, 1, 2 * 9 * 123).view(2, 9, 123), **TARGET).logits
    return model(input_ids=IDS, attention_mask=IDS.ne(0).long(), **TARGET).logits


def assert_same(name, model, trained):
    torch.testing.assert_close(logits(name, model.eval()), logits(name, trained), rtol=1e-4, atol=1e-4)


@pytest.fixture(scope="module")
def bases(tmp_path_factory, tiny_generator, tiny_t5, tiny_bart):
    """`bases(name)`: the folder of a model whose weights are tied, with what reads its inputs; made once."""
    build = {
        "gru": tiny_generator,
        "lstm": lambda: tiny_generator(cell_type="lstm", tie_word_embeddings=True, input_feeding=True),
        "t5": tiny_t5, "umt5": umt5, "bart": tiny_bart, "encoder_decoder": encoder_decoder, "speech": speech,
    }  # fmt: skip
    made = {}

    def folder(name, tokenizer):
        if name not in made:
            made[name] = tmp_path_factory.mktemp("bases") / name
            with torch.random.fork_rng():
                torch.manual_seed(0)
                build[name]().save_pretrained(made[name])
            reader = RnnSpeechProcessor(LogMelFeatureExtractor(), tokenizer) if name == "speech" else tokenizer
            reader.save_pretrained(made[name])
        return made[name]

    return folder


@pytest.fixture
def adapted(bases, tiny_tokenizer, tmp_path):
    """`adapted(name, adapter)`: a PEFT model whose trained weights were all changed, and the folder of its adapter."""

    def build(name: str, settings):
        base, reader = load(name, bases(name, tiny_tokenizer))
        config = LoraConfig(r=2, **settings) if isinstance(settings, dict) else settings
        config.task_type = "SEQ_2_SEQ_LM"
        model = get_peft_model(base, config).eval()
        draw = torch.Generator().manual_seed(1)
        with torch.no_grad():
            for weight in model.parameters():
                if weight.requires_grad:
                    weight.add_(torch.randn(weight.shape, generator=draw) / 3)
        model.save_pretrained(tmp_path / "adapter")
        return model, tmp_path / "adapter", reader

    return build


@pytest.mark.parametrize(("name", "adapter"), CASES)
def test_what_is_read_is_what_was_trained(name, adapter, adapted, tmp_path):
    trained, folder, _ = adapted(name, ADAPTERS[adapter](*LAYERS[name]))
    before = logits(name, trained)
    merged, _ = load(name, folder)
    assert_same(name, merged, trained)
    merged.save_pretrained(tmp_path / "merged")  # an ordinary checkpoint, for plain transformers too
    again = type(merged).from_pretrained(tmp_path / "merged")
    assert_same(name, again, trained)
    assert torch.equal(logits(name, trained), before)  # the trained model itself is left as it was


@pytest.mark.parametrize("name", ["lstm", "t5", "speech"])
def test_exports_and_merged_folders_are_what_was_trained(name, adapted, tmp_path):
    trained, folder, reader = adapted(name, EVERYWHERE["both"](*LAYERS[name]))
    written = [
        merge_adapter(folder, tmp_path / "merged"),
        merge_adapter(trained, tmp_path / "of memory", reader),
        export_with_code(folder, tmp_path / "exported"),
        export_with_code(trained, tmp_path / "exported of memory", reader),
    ]
    for place in written:
        assert_same(name, load(name, place)[0], trained)


def test_adapters_of_adapters_of_tied_layers(adapted, tmp_path):
    first, folder, _ = adapted("t5", {"target_modules": ["lm_head", "decoder.embed_tokens"]})
    base, _ = load_generator(folder)
    second = get_peft_model(base, LoraConfig(task_type="SEQ_2_SEQ_LM", target_modules=["lm_head", "embed_tokens"]))
    with torch.no_grad():
        for name, weight in second.eval().named_parameters():
            if "lora_" in name:
                weight.fill_(0.2)
    second.save_pretrained(tmp_path / "second")
    assert_same("t5", load_generator(tmp_path / "second")[0], second)
    assert not torch.allclose(logits("t5", first), logits("t5", second), atol=1e-2)


def test_ties_whose_adapters_agree_stay_ties(adapted):
    trained, folder, _ = adapted("t5", {"target_modules": ["q", "v"]})
    model, _ = load_generator(folder)
    assert model.lm_head.weight is model.shared.weight is model.encoder.embed_tokens.weight
    trained, folder, _ = adapted("lstm", {"target_modules": ["lm_head"], "ensure_weight_tying": True})
    model, _ = load_generator(folder)
    assert model.lm_head.weight is model.model.decoder.embed_tokens.weight
    assert_same("lstm", model, trained)


def test_the_layers_that_differ_are_no_ties_of_the_merged_model(adapted, caplog):
    _, folder, tokenizer = adapted("t5", {"target_modules": ["lm_head"]})
    model, _ = load_generator(folder)
    assert model.all_tied_weights_keys.keys() == {"encoder.embed_tokens.weight", "decoder.embed_tokens.weight"}
    assert model.shared.weight is model.encoder.embed_tokens.weight is not model.lm_head.weight
    model.save_pretrained(folder.parent / "merged")
    tokenizer.save_pretrained(folder.parent / "merged")
    caplog.clear()
    load_generator(folder.parent / "merged")
    assert "tie_word_embeddings" not in caplog.text  # advice that would be wrong for T5


def test_one_layer_under_two_names(adapted, bases, tiny_tokenizer):
    # `set_input_embeddings`, as after a change of the vocabulary's size, puts one module in three places.
    base = AutoModelForSeq2SeqLM.from_pretrained(bases("t5", tiny_tokenizer))
    base.set_input_embeddings(torch.nn.Embedding(20, 8))
    base.lm_head.weight = base.shared.weight
    model = get_peft_model(base, LoraConfig(task_type="SEQ_2_SEQ_LM", r=2, target_modules=["shared", "lm_head"]))
    with torch.no_grad():
        for name, weight in model.eval().named_parameters():
            if "lora_" in name:
                weight.fill_(0.3)
    before = logits("t5", model)
    merged = merge_adapter(model, bases("t5", tiny_tokenizer).parent / "two names", tiny_tokenizer)
    torch.testing.assert_close(logits("t5", load_generator(merged)[0]), before, rtol=1e-4, atol=1e-4)


def test_an_adapter_that_transformers_has_added(bases, tiny_tokenizer, tmp_path):
    model = AutoModelForSeq2SeqLM.from_pretrained(bases("bart", tiny_tokenizer)).eval()
    model.add_adapter(LoraConfig(r=2, target_modules=["lm_head", "embed_tokens"]))
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "lora_" in name:
                weight.fill_(0.3)
    model.save_pretrained(tmp_path / "adapter")
    assert_same("bart", load_generator(tmp_path / "adapter")[0], model)
    assert_same("bart", load_generator(merge_adapter(model, tmp_path / "merged", tiny_tokenizer))[0], model)
