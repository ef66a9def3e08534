import json
import shutil
from pathlib import Path

import huggingface_hub.constants
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    BartConfig,
    BartForSequenceClassification,
    BartModel,
    GPT2Config,
    GPT2LMHeadModel,
    T5EncoderModel,
)

from hf_localgan.models import RnnSeq2SeqForConditionalGeneration
from hf_localgan.models.loading import load_generator


@pytest.fixture
def save(tmp_path, tiny_tokenizer):
    """`save(model)`: a folder with the model and its tokenizer."""

    def write(model, name="checkpoint", tokenizer=tiny_tokenizer) -> Path:
        model.save_pretrained(tmp_path / name)
        if tokenizer is not None:
            tokenizer.save_pretrained(tmp_path / name)
        return tmp_path / name

    return write


@pytest.fixture
def folder(save, tiny_generator) -> Path:
    return save(tiny_generator())


@pytest.fixture
def offline(monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)


def refused(path, *parts, error=ValueError, **arguments):
    with pytest.raises(error) as caught:
        load_generator(path, **arguments)
    for part in parts:
        assert part in str(caught.value)


def edit(path: Path, **changes):
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


@pytest.mark.parametrize("tied", [False, True])
def test_a_recurrent_generator_comes_back_as_it_was_saved(save, tiny_generator, tiny_tokenizer, tied):
    sizes = {"tie_word_embeddings": tied, "embedding_size": 8}
    model = tiny_generator(**sizes)
    loaded, tokenizer = load_generator(save(model))
    assert isinstance(loaded, RnnSeq2SeqForConditionalGeneration) and not loaded.training
    assert tokenizer.get_vocab() == tiny_tokenizer.get_vocab()
    for (name, one), (other_name, other) in zip(model.named_parameters(), loaded.named_parameters(), strict=True):
        assert name == other_name and torch.equal(one, other)


def test_t5_and_bart_load_and_a_string_is_as_good_as_a_path(save, tiny_t5, tiny_bart):
    for build in (tiny_t5, tiny_bart):
        path = save(build(), build().config.model_type)
        for given in (path, str(path), f"{path}/"):
            assert load_generator(given)[0].config.model_type == build().config.model_type


def test_a_body_whose_output_layer_is_tied_is_complete(save, tiny_bart):
    # BART's output layer is its embedding table, and the Hub's own BART was saved as `BartModel`
    assert load_generator(save(BartModel(tiny_bart().config)))[0].lm_head.weight.shape == (20, 8)


@pytest.mark.parametrize("dtype", ["bfloat16", torch.bfloat16])
def test_dtype_and_device_are_those_asked_for(folder, dtype):
    model, _ = load_generator(folder, dtype=dtype, device="cpu")
    assert model.dtype == torch.bfloat16 and model.device.type == "cpu"
    assert load_generator(folder, dtype="auto")[0].dtype == torch.float32


@pytest.mark.parametrize("arguments", [{"dtype": "float17"}, {"dtype": "Tensor"}, {"device": "toaster"}])
def test_a_dtype_or_device_that_there_is_not_is_refused_before_anything_is_loaded(arguments):
    ((name, value),) = arguments.items()
    refused("no/such", f"`{name}`", value, **arguments)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_there_is_not_is_refused(folder):
    refused(folder, "`device`", '"cuda:0"', device="cuda:0")


def test_a_name_whose_parent_is_a_folder_here_is_not_looked_up_on_the_hub(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("hf_localgan.models.loading.find_adapter", None)  # the first that would ask
    (tmp_path / "runs" / "smalltalk-mle").mkdir(parents=True)
    refused("runs/smaltalk-mle", 'no "runs/smaltalk-mle"', "mean runs/smalltalk-mle?", error=FileNotFoundError)


@pytest.mark.parametrize("name", ["./runs/none", "/nowhere/at/all", "~/no-such-model", "a/b/c", "runs/", "with space"])
def test_a_path_that_does_not_exist_is_not_looked_up_on_the_hub(name, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)  # where nobody has trained anything
    monkeypatch.setattr("transformers.AutoConfig.from_pretrained", None)
    refused(name, f"no folder `{name}`", "owner/name", error=FileNotFoundError)
    refused(Path("runs"), "no folder `runs`", error=FileNotFoundError)


@pytest.mark.parametrize("name", ["nobody/nothing-here", "nothing-here"])
def test_a_hub_id_that_cannot_be_reached_is_an_error_with_the_reasons_to_check(name, offline):
    refused(name, f"`{name}` is neither a folder", "revision (v2)", "offline", error=OSError, revision="v2")


def test_a_file_is_refused(folder):
    refused(folder / "model.safetensors", "is a file", "Give the folder")


def test_a_folder_without_a_configuration_is_refused(folder, tmp_path):
    refused(tmp_path, "has no config.json", "Its subfolders with one are: checkpoint", error=FileNotFoundError)
    (folder / "config.json").unlink()
    refused(folder, "has no config.json", "save_pretrained", error=FileNotFoundError)


def test_a_damaged_configuration_is_refused(folder):
    config = folder / "config.json"
    text = config.read_text()
    config.write_text(text[: len(text) // 2])
    refused(folder, "config.json` is not valid JSON")
    config.write_text('{"vocab_size": 20}')
    refused(folder, "cannot be read", "model_type", "trust_remote_code")
    config.write_text('{"model_type": "not_a_model"}')
    refused(folder, "not_a_model", "rnn_seq2seq")
    config.write_text(text)
    edit(config, cell_type="tanh")
    refused(folder, '`cell_type` must be one of "gru", "lstm", got "tanh"')


def test_models_that_are_no_encoder_decoders_are_refused_by_name(save):
    model = GPT2LMHeadModel(GPT2Config(vocab_size=20, n_embd=8, n_layer=1, n_head=1))
    refused(save(model), "GPT2LMHeadModel", "no encoder-decoder", "AutoModelForSeq2SeqLM")


def test_parts_and_relatives_of_an_encoder_decoder_are_refused_with_the_weights_that_do_not_fit(
    save, tiny_bart, tiny_t5
):
    config = BartConfig(**{**tiny_bart().config.to_dict(), "architectures": None, "num_labels": 3})
    # a dense and an output layer, each with weight and bias
    refused(
        save(BartForSequenceClassification(config), "classifier"),
        "saved as BartForSequenceClassification", "4 unknown to the model", "classification_head.dense.bias",
    )  # fmt: skip
    refused(
        save(T5EncoderModel(tiny_t5().config), "encoder"),
        "saved as T5EncoderModel", "missing", "decoder.block.0", ", ...",
    )  # fmt: skip


def test_weights_of_another_model_type_are_refused(save, folder, tiny_t5):
    other = save(tiny_t5(), "other")
    shutil.copy(other / "model.safetensors", folder)
    refused(folder, '`model_type` "rnn_seq2seq"', "missing", "unknown to the model", "lm_head.weight")


def test_weights_of_other_sizes_are_refused_with_both_shapes(folder):
    edit(folder / "config.json", vocab_size=30)
    refused(folder, "of another shape", "lm_head.weight (20, 8) in the file, (30, 8) in the model")


def test_a_checkpoint_that_lacks_a_weight_is_refused_and_not_filled_in(folder):
    weights = load_file(folder / "model.safetensors")
    del weights["lm_head.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    refused(folder, "1 missing (lm_head.weight)")


@pytest.mark.parametrize("share", [0, 0.0005, 0.1, 0.5, 0.9, 1])
def test_a_truncated_weights_file_is_named_with_its_size(folder, share):
    file = folder / "model.safetensors"
    data = file.read_bytes()
    data = data[: min(int(len(data) * share), len(data) - 1)]
    file.write_bytes(data)
    refused(folder, str(file), f"({len(data):,} bytes)", "cut off")


def test_a_weights_file_of_noise_or_with_something_behind_it_is_refused(folder):
    file = folder / "model.safetensors"
    data = file.read_bytes()
    file.write_bytes(data + b"more")
    refused(folder, str(file), "no complete safetensors file")
    file.write_bytes(bytes(range(256)) * 20)
    refused(folder, str(file), "(5,120 bytes)")


def test_of_several_parts_the_truncated_one_is_named(tmp_path, tiny_generator, tiny_tokenizer):
    tiny_generator().save_pretrained(tmp_path, max_shard_size="2KB")
    tiny_tokenizer.save_pretrained(tmp_path)
    load_generator(tmp_path)
    *_, last = sorted(tmp_path.glob("model-*.safetensors"))
    assert last.name != "model-00001-of-00001.safetensors"
    data = last.read_bytes()
    last.write_bytes(data[:-1])
    refused(tmp_path, str(last), f"({len(data) - 1:,} bytes)")
    last.unlink()
    refused(tmp_path, "weights", "cannot be found", error=FileNotFoundError)


def test_missing_and_pickled_weights_are_refused_and_never_unpickled(folder):
    (folder / "model.safetensors").unlink()
    refused(folder, "model.safetensors", "cannot be found", error=FileNotFoundError)
    (folder / "pytorch_model.bin").write_bytes(b"would raise another error if it were read")
    refused(folder, "holds pytorch_model.bin", "unpickled", "save_pretrained", error=FileNotFoundError)


def test_code_of_a_checkpoint_is_not_run_unless_trusted(folder):
    (folder / "code.py").write_text("raise RuntimeError('was run')")
    edit(folder / "config.json", model_type="its_own", auto_map={"AutoConfig": "code.C"})
    refused(folder, "cannot be read", "trust_remote_code=True")


@pytest.mark.parametrize("kind", ["rnn_seq2seq", "t5", "bart"])
def test_a_missing_tokenizer_is_refused_and_not_made_up(save, tiny_generator, tiny_t5, tiny_bart, kind):
    model = {"rnn_seq2seq": tiny_generator, "t5": tiny_t5, "bart": tiny_bart}[kind]()
    refused(save(model, tokenizer=None), "has no tokenizer", "tokenizer.save_pretrained", error=FileNotFoundError)


def test_a_damaged_tokenizer_is_refused(folder):
    file = folder / "tokenizer.json"
    file.write_text(file.read_text()[:100])
    refused(folder, "tokenizer", "cannot be read")
    file.write_text('{"version": "1.0", "model": {"type": "None such"}}')
    refused(folder, "tokenizer", "cannot be read")


@pytest.mark.parametrize("absent", [["pad_token"], ["eos_token"], ["pad_token", "eos_token"]])
def test_a_tokenizer_without_padding_or_end_is_refused(save, tiny_generator, tiny_tokenizer, absent):
    for name in absent:
        setattr(tiny_tokenizer, name, None)
    refused(save(tiny_generator(), tokenizer=tiny_tokenizer), *(f"no `{name}`" for name in absent), "save it")


def test_a_tokenizer_with_more_ids_than_the_model_has_embeddings_is_refused(save, tiny_generator, tiny_tokenizer):
    path = save(tiny_generator(vocab_size=19))  # the tokenizer's ids are 0 to 19
    refused(path, "ids up to 19", "ids up to 18", "resize_token_embeddings(20)")
    assert load_generator(save(tiny_generator(vocab_size=21), "larger"))[0].config.vocab_size == 21


def test_a_downloaded_model_loads_offline_and_is_checked_like_a_folder(folder, tmp_path, offline, monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    repository = tmp_path / "cache" / "models--owner--name"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text("c0ffee")
    snapshot = Path(shutil.copytree(folder, repository / "snapshots" / "c0ffee"))
    assert load_generator("owner/name")[0].config.vocab_size == 20
    data = (snapshot / "model.safetensors").read_bytes()
    (snapshot / "model.safetensors").write_bytes(data[:-1])
    refused("owner/name", "c0ffee", f"({len(data) - 1:,} bytes)")
    (snapshot / "model.safetensors").write_bytes(data)
    (snapshot / "tokenizer.json").unlink()
    refused("owner/name", "tokenizer", error=FileNotFoundError)
