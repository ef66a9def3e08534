"""Adapters load as the merged model, with errors that say what is missing or does not fit."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, PeftModel, PromptTuningConfig, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForSeq2SeqLM, pipeline

from hf_localgan.models.loading import load_generator

IDS = torch.tensor([[4, 5, 6, 2], [7, 8, 2, 0]])
BATCH = {"input_ids": IDS, "attention_mask": IDS.ne(0).long(), "decoder_input_ids": torch.tensor([[1, 9], [1, 12]])}
TARGETS = {"t5": ["q", "v"], "bart": ["q_proj", "v_proj"], "rnn_seq2seq": "all-linear"}


def adapt(model, targets, seed: int = 0, **settings):
    """The model with adapters that change its answers, as if trained."""
    adapted = get_peft_model(model, LoraConfig(task_type="SEQ_2_SEQ_LM", r=2, target_modules=targets, **settings))
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if "lora_" in name:
                parameter.copy_(torch.randn(parameter.shape, generator=draw) / 2)
    return adapted.eval()


@pytest.fixture
def saved(tmp_path, tiny_t5, tiny_bart, tiny_generator, tiny_tokenizer):
    """`saved(name)`: a PEFT model, the folder of its base model with the tokenizer, and that of its adapters."""

    def build(name: str) -> tuple[PeftModel, Path, Path]:
        {"t5": tiny_t5, "bart": tiny_bart, "rnn_seq2seq": tiny_generator}[name]().save_pretrained(tmp_path / "base")
        tiny_tokenizer.save_pretrained(tmp_path / "base")
        model = adapt(AutoModelForSeq2SeqLM.from_pretrained(tmp_path / "base"), TARGETS[name])
        model.save_pretrained(tmp_path / "adapter")
        return model, tmp_path / "base", tmp_path / "adapter"

    return build


def refused(path, *parts, error=ValueError, **arguments):
    with pytest.raises(error) as caught:
        load_generator(path, **arguments)
    for part in parts:
        assert part in str(caught.value)


def edit(path: Path, **changes):
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def assert_same_answers(one, other):
    torch.testing.assert_close(one(**BATCH).logits, other(**BATCH).logits, rtol=1e-4, atol=1e-5)
    settings = {"input_ids": IDS, "attention_mask": BATCH["attention_mask"], "max_new_tokens": 6, "num_beams": 2}
    assert torch.equal(one.generate(**settings), other.generate(**settings))


@pytest.mark.parametrize("name", ["t5", "bart", "rnn_seq2seq"])
def test_adapters_are_merged_into_their_base_model(name, saved, tiny_tokenizer):
    adapted, base, folder = saved(name)
    assert not (folder / "config.json").exists() and not (folder / "model.safetensors").exists()
    model, tokenizer = load_generator(folder)
    assert not isinstance(model, PeftModel) and not any("lora" in key for key, _ in model.named_parameters())
    assert_same_answers(adapted, model)
    plain = load_generator(base)[0]
    assert not torch.allclose(plain(**BATCH).logits, model(**BATCH).logits, atol=1e-2)
    assert {key for key, _ in model.named_parameters()} == {key for key, _ in plain.named_parameters()}
    assert tokenizer.get_vocab() == tiny_tokenizer.get_vocab()
    model.save_pretrained(folder.parent / "merged")  # an ordinary checkpoint
    assert_same_answers(AutoModelForSeq2SeqLM.from_pretrained(folder.parent / "merged"), model)


def test_transformers_loads_the_same_folder_by_its_own_integration(saved):
    adapted, _, folder = saved("t5")
    assert_same_answers(adapted, AutoModelForSeq2SeqLM.from_pretrained(folder).eval())
    answers = pipeline("text2text-generation", model=str(folder), device="cpu")  # its tokenizer is the base model's
    merged = pipeline(
        "text2text-generation", model=load_generator(folder)[0], tokenizer=answers.tokenizer, device="cpu"
    )
    assert answers(["hello how are you", "my name"], max_new_tokens=6) == merged(
        ["hello how are you", "my name"], max_new_tokens=6
    )


def test_the_tokenizer_that_lies_with_the_adapters_wins(saved, tiny_tokenizer):
    _, base, folder = saved("t5")
    tiny_tokenizer.add_special_tokens({"additional_special_tokens": ["hello"]})
    tiny_tokenizer.save_pretrained(folder)
    (base / "tokenizer.json").unlink()  # then the base model needs none
    assert "hello" in load_generator(folder)[1].all_special_tokens


def test_a_base_model_that_has_moved_is_named(saved):
    adapted, base, folder = saved("bart")
    base.rename(base.with_name("moved"))
    refused(
        folder,
        str(folder),
        f"`{base}` by its adapter_config.json",
        "no folder",
        "name it by `base_model`",
        error=OSError,
    )
    assert_same_answers(load_generator(folder, base_model=base.with_name("moved"))[0], adapted)
    refused(folder, "`none/at-all/here` by `base_model`", error=OSError, base_model="none/at-all/here")
    refused(base.with_name("moved"), "is a whole model and no adapter", "Leave out `base_model`", base_model=folder)


def test_a_base_model_without_a_name(saved):
    _, base, folder = saved("t5")
    edit(folder / "adapter_config.json", base_model_name_or_path=None)
    refused(folder, "names no base model", "`base_model`")
    load_generator(folder, base_model=base)
    edit(folder / "adapter_config.json", base_model_name_or_path=str(folder))
    refused(folder, "its own base model")


def test_adapters_of_adapters(saved):
    first, _, folder = saved("t5")
    merged = load_generator(folder)[0]
    assert_same_answers(merged, first)
    second = adapt(merged, ["k"], seed=1)
    second.save_pretrained(folder.with_name("second"))
    named = json.loads((folder.with_name("second") / "adapter_config.json").read_text())["base_model_name_or_path"]
    assert named == str(folder)
    assert_same_answers(load_generator(folder.with_name("second"))[0], second)


def test_other_base_models_are_refused(saved, tiny_t5, tiny_bart, tiny_tokenizer, tmp_path):
    _, _, folder = saved("t5")
    for model, name, told in (
        (tiny_t5(d_model=12), "wider", "size mismatch"),
        (tiny_t5(num_layers=2), "deeper", "missing"),
        (tiny_bart(), "bart", "Target modules"),
    ):
        model.save_pretrained(tmp_path / name)
        tiny_tokenizer.save_pretrained(tmp_path / name)
        refused(folder, "does not fit", str(tmp_path / name), told, base_model=tmp_path / name)


def test_damaged_and_missing_files(saved):
    _, _, folder = saved("t5")
    config, weights = folder / "adapter_config.json", folder / "adapter_model.safetensors"
    text, whole = config.read_text(), weights.read_bytes()
    config.write_text(text[: len(text) // 2])
    refused(folder, "adapter_config.json", "cannot be read")
    config.write_text("{}")
    refused(folder, "adapter_config.json", "no `peft_type`")
    config.write_text(text)
    weights.write_bytes(whole[: len(whole) // 2])
    refused(folder, "no complete safetensors file")
    weights.write_bytes(whole)
    state = load_file(weights)
    name = next(iter(state))
    save_file({f"{key}.other" if key == name else key: value for key, value in state.items()}, weights)
    refused(folder, "1 missing", "1 unknown to the model")
    weights.unlink()
    (folder / "adapter_model.bin").write_bytes(b"would raise another error if it were read")
    refused(folder, "has no adapter_model.safetensors", error=FileNotFoundError)


def test_soft_prompts_are_refused(saved, tiny_t5, tmp_path):
    _, base, _ = saved("t5")
    model = AutoModelForSeq2SeqLM.from_pretrained(base)
    get_peft_model(model, PromptTuningConfig(task_type="SEQ_2_SEQ_LM", num_virtual_tokens=2)).save_pretrained(
        tmp_path / "prompt"
    )
    refused(tmp_path / "prompt", "PROMPT_TUNING adapter", "cannot be merged")


def test_the_dtype_is_that_asked_for(saved):
    _, _, folder = saved("t5")
    assert load_generator(folder, dtype="bfloat16")[0].dtype == torch.bfloat16
    assert load_generator(folder, dtype="auto")[0].dtype == torch.float32


def test_an_adapter_beside_its_own_base_model_is_merged_into_it(saved, tmp_path):
    # transformers itself loads such a folder with its adapter
    adapted, base, folder = saved("t5")
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        shutil.copy(folder / name, base)
    model = load_generator(base)[0]
    assert not hasattr(model, "peft_config")
    assert_same_answers(model, adapted)


def test_a_folder_of_two_trainings_is_no_mixture_of_both(saved, tiny_t5, tiny_tokenizer, tmp_path):
    adapted, base, folder = saved("t5")
    tiny_t5(seed=5).save_pretrained(folder)
    refused(
        folder, "a whole model and an adapter of another model", str(base), "`base_model`", "move adapter_config.json"
    )
    assert_same_answers(load_generator(folder, base_model=base)[0], adapted)


def test_trained_weights_that_are_not_in_the_file(saved, tiny_generator, tiny_tokenizer, tmp_path):
    tiny_generator().save_pretrained(tmp_path / "rnn")
    tiny_tokenizer.save_pretrained(tmp_path / "rnn")
    model = adapt(load_generator(tmp_path / "rnn")[0], ["readout"], bias="all", modules_to_save=["lm_head"])
    model.save_pretrained(tmp_path / "adapter")
    weights = tmp_path / "adapter" / "adapter_model.safetensors"
    state = load_file(weights)
    for lost in ("decoder.bridge.bias", "lm_head.weight"):
        save_file({name: one for name, one in state.items() if not name.endswith(lost)}, weights)
        refused(tmp_path / "adapter", "1 missing", lost)
