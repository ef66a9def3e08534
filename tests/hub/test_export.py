"""Exports with code and merged adapters: what is in the folder, that it is whole or not there, and what is refused."""

import json
import re
from pathlib import Path

import pytest
import torch
from huggingface_hub import ModelCard
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForSeq2SeqLM, T5ForConditionalGeneration

from hf_localgan.hub import export_with_code, merge_adapter, write_model_card
from hf_localgan.hub.export import MERGED
from hf_localgan.models import DbmConfig, DbmModel, PairDiscriminator, PairDiscriminatorConfig
from hf_localgan.models.loading import load_generator
from hf_localgan.trainers import RamlTrainer

BATCH = {"input_ids": torch.tensor([[4, 5, 6, 2]]), "decoder_input_ids": torch.tensor([[1, 9, 12]])}
CARD = """---
library_name: peft
tags:
- hf-localgan
- lora
model-index: []
---

# mine

## Use

```python
answer = pipeline("text2text-generation", model="owner/mine")
```

## Scores

![Curves](training.png) Signatures are in `evaluation.json`; beside it are `energy/` and `start/`. Settings: `optim`.
"""


@pytest.fixture
def save(tmp_path, tiny_tokenizer):
    """`save(model, name)`: a folder with the model and its tokenizer."""

    def write(model, name="trained") -> Path:
        model.save_pretrained(tmp_path / name)
        tiny_tokenizer.save_pretrained(tmp_path / name)
        return tmp_path / name

    return write


@pytest.fixture
def adapted(save, tiny_t5, tmp_path):
    """A PEFT model whose adapters change its answers, and the folder of its adapters; they have no tokenizer."""
    base = AutoModelForSeq2SeqLM.from_pretrained(save(tiny_t5(), "base"))
    model = get_peft_model(base, LoraConfig(task_type="SEQ_2_SEQ_LM", r=2, target_modules=["q", "v"])).eval()
    with torch.no_grad(), torch.random.fork_rng():
        torch.manual_seed(0)
        for name, parameter in model.named_parameters():
            if "lora_" in name:
                parameter.normal_()
    model.save_pretrained(tmp_path / "adapters")
    return model, tmp_path / "adapters"


def config_of(folder) -> dict:
    return json.loads((Path(folder) / "config.json").read_text())


def code_of(folder) -> set[str]:
    return {path.name for path in Path(folder).glob("*.py")}


def assert_equal_logits(one, other):
    torch.testing.assert_close(one(**BATCH).logits, other(**BATCH).logits, rtol=1e-4, atol=1e-5)


def with_card(folder: Path):
    """Puts a card, what it names and what it does not name into the folder of a generator."""
    (folder / "README.md").write_text(CARD)
    for name in ("training.png", "evaluation.json", "notes.txt", "optimizer.pt", "start/evaluation.json"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("{}")
    sizes = {"query_size": 3, "response_size": 4, "hidden_size": 5, "top_size": 3}
    DbmModel(DbmConfig(**sizes)).save_pretrained(folder / "energy")


# ---- with code ----


def test_a_recurrent_generator_carries_its_code_and_that_of_its_pipeline(save, tiny_generator, tmp_path):
    model = tiny_generator()
    source = save(model)
    folder = export_with_code(source, tmp_path / "new" / "exported")
    assert folder == tmp_path / "new" / "exported" and [path.name for path in folder.parent.iterdir()] == ["exported"]
    modules = (
        "attention", "base", "beams", "cache", "configuration", "decoder", "encoder", "generation", "modeling",
        "precision", "recurrence", "stopping",
    )  # fmt: skip
    assert code_of(folder) == {"text2text.py", "turns.py", *(f"{name}_rnn_seq2seq.py" for name in modules)}
    config = config_of(folder)
    assert set(config["auto_map"]) == {"AutoConfig", "AutoModel", "AutoModelForSeq2SeqLM"}
    named = [*config["auto_map"].values(), config["custom_pipelines"]["text2text-generation"]["impl"]]
    for name in named:
        file, _, kind = name.partition(".")
        assert f"class {kind}" in (folder / f"{file}.py").read_text()
    for name in code_of(folder):  # nothing that only this package has
        assert not re.search(r"^\s*(from|import)\s+hf_localgan", (folder / name).read_text(), re.MULTILINE)
    assert {**config_of(source), **{key: config[key] for key in ("auto_map", "custom_pipelines")}} == config
    loaded, tokenizer = load_generator(folder)
    assert all(torch.equal(value, loaded.state_dict()[name]) for name, value in model.state_dict().items())
    assert tokenizer("hello")["input_ids"] == [4, 2]


@pytest.mark.parametrize("name", ["t5", "bart"])
def test_architectures_of_transformers_carry_the_pipeline_alone(name, save, tiny_t5, tiny_bart, tmp_path):
    folder = export_with_code(save({"t5": tiny_t5, "bart": tiny_bart}[name]()), tmp_path / "exported")
    assert code_of(folder) == {"text2text.py", "turns.py"} and "auto_map" not in config_of(folder)


def test_saves_stay_free_of_code(save, tiny_generator, tiny_tokenizer, tmp_path):
    model = tiny_generator()
    folder = export_with_code(model, tmp_path / "exported", tiny_tokenizer)
    again, _ = load_generator(folder)
    for name, one in (("same", model), ("other", tiny_generator(seed=1)), ("loaded", again)):
        saved = save(one, name)
        assert not code_of(saved) and {"auto_map", "custom_pipelines"}.isdisjoint(config_of(saved))
    assert config_of(export_with_code(folder, tmp_path / "twice")) == config_of(folder)


def test_energies_and_discriminators_load_by_auto_model(save, tiny_tokenizer, tmp_path):
    energy = DbmModel(DbmConfig(query_size=3, response_size=4, hidden_size=5, top_size=3))
    folder = export_with_code(energy, tmp_path / "energy")  # over vectors, so there is no tokenizer
    assert set(config_of(folder)["auto_map"]) == {"AutoConfig", "AutoModel"} and "modeling_dbm.py" in code_of(folder)
    assert "custom_pipelines" not in config_of(folder) and "text2text.py" not in code_of(folder)
    assert "energy = AutoModel.from_pretrained" in (folder / "README.md").read_text()
    sizes = {"vocab_size": 20, "embedding_size": 6, "filters": 4, "widths": [1, 2], "head_size": 6}
    other = PairDiscriminator(PairDiscriminatorConfig(**sizes, pad_token_id=0, eos_token_id=2))
    folder = export_with_code(save(other), tmp_path / "discriminator")
    assert "modeling_discriminator.py" in code_of(folder) and (folder / "tokenizer.json").is_file()
    assert list(PairDiscriminator.from_pretrained(folder).state_dict()) == list(other.state_dict())


def test_a_card_goes_along_with_what_it_names_and_says_how_to_load(save, tiny_generator, tmp_path):
    source = save(tiny_generator())
    with_card(source)
    folder = export_with_code(source, tmp_path / "exported")
    for name in ("training.png", "evaluation.json", "start/evaluation.json", "energy/modeling_dbm.py"):
        assert (folder / name).is_file(), name
    assert not (folder / "notes.txt").exists() and not (folder / "optimizer.pt").exists()
    assert "modeling_dbm.py" in code_of(folder)  # for `subfolder="energy"`, which looks for code here
    assert set(config_of(folder / "energy")["auto_map"]) == {"AutoConfig", "AutoModel"}
    assert not code_of(source / "energy")
    card = ModelCard.load(folder / "README.md")
    assert card.data.tags == ["hf-localgan", "custom_code"]
    order = [card.text.index(title) for title in ("## Use", "## Without the package", "## Scores")]
    assert order == sorted(order)
    assert 'pipeline("text2text-generation", model="owner/mine", trust_remote_code=True)' in card.text
    assert 'energy = AutoModel.from_pretrained("owner/mine", subfolder="energy", trust_remote_code=True)' in card.text
    again = ModelCard.load(export_with_code(folder, tmp_path / "twice") / "README.md")
    assert again.text.strip() == card.text.strip() and again.data.tags == card.data.tags


def test_without_a_card_there_is_a_short_one(save, tiny_t5, tmp_path):
    card = ModelCard.load(export_with_code(save(tiny_t5()), tmp_path / "exported") / "README.md")
    assert card.data.pipeline_tag == "text2text-generation" and "custom_code" in card.data.tags
    code = re.search(r"```python\n(.*?)```", card.text, re.DOTALL)[1]
    assert 'model="exported", trust_remote_code=True' in code
    compile(code, "README.md", "exec")


def test_adapters_are_merged_before_the_export(adapted, tiny_tokenizer, tmp_path):
    model, folder = adapted
    for given, tokenizer, name in ((folder, None, "of folder"), (model, tiny_tokenizer, "of memory")):
        exported = export_with_code(given, tmp_path / name, tokenizer)
        assert code_of(exported) == {"text2text.py", "turns.py"} and not list(exported.glob("adapter*"))
        assert_equal_logits(AutoModelForSeq2SeqLM.from_pretrained(exported).eval(), model)


class Derived(T5ForConditionalGeneration):
    """A model whose code is here."""


def test_what_cannot_be_exported_is_refused_and_leaves_nothing(save, tiny_generator, tiny_t5, tiny_tokenizer, tmp_path):
    source, target = save(tiny_generator()), tmp_path / "exported"
    with pytest.raises(ValueError, match="Give the `tokenizer`"):
        export_with_code(tiny_generator(), target)
    with pytest.raises(ValueError, match="code of Derived .* neither this package's nor part of transformers"):
        export_with_code(Derived(tiny_t5().config), target, tiny_tokenizer)
    with pytest.raises(OSError, match="no folder"):
        export_with_code(tmp_path / "none", target)
    (source / "model.safetensors").write_bytes(b"short")
    with pytest.raises(ValueError, match="no complete safetensors file"):
        export_with_code(source, target)
    assert {path.name for path in tmp_path.iterdir()} == {"trained"}


@pytest.mark.parametrize("write", [export_with_code, merge_adapter])
def test_a_folder_with_something_in_it_is_not_overwritten(write, adapted, tmp_path):
    target = tmp_path / "there"
    target.mkdir()
    write(adapted[1], target)  # empty
    before = {path: path.read_bytes() for path in target.rglob("*") if path.is_file()}
    for one in (target, target / "config.json"):
        with pytest.raises(ValueError, match="`output_dir` must be a new or an empty folder"):
            write(adapted[1], one)
    assert {path: path.read_bytes() for path in target.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("write", [export_with_code, merge_adapter])
def test_an_export_that_is_interrupted_leaves_nothing(write, adapted, tmp_path, monkeypatch):
    def full(self, folder, **kwargs):
        (Path(folder) / "model.safetensors").write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(T5ForConditionalGeneration, "save_pretrained", full)
    with pytest.raises(KeyboardInterrupt):
        write(adapted[1], tmp_path / "exported")
    assert {path.name for path in tmp_path.iterdir()} == {"base", "adapters"}


# ---- merged adapters ----


def test_a_merged_adapter_is_an_ordinary_checkpoint(adapted, tiny_tokenizer, tmp_path, monkeypatch):
    model, folder = adapted
    model.generation_config.max_new_tokens = 7
    merged = merge_adapter(folder, tmp_path / "merged")
    in_memory = merge_adapter(model, tmp_path / "of memory", tiny_tokenizer)
    assert any("lora_" in name for name, _ in model.named_parameters())  # left as it was
    base = json.loads((tmp_path / "base" / "generation_config.json").read_text())
    assert json.loads((merged / "generation_config.json").read_text())["eos_token_id"] == base["eos_token_id"]
    assert json.loads((in_memory / "generation_config.json").read_text())["max_new_tokens"] == 7
    monkeypatch.setattr("peft.PeftModel.from_pretrained", None)
    for one in (merged, in_memory):
        assert not list(one.glob("adapter*")) and not code_of(one)
        assert (one / "tokenizer.json").is_file() and "custom_pipelines" not in config_of(one)
        assert_equal_logits(AutoModelForSeq2SeqLM.from_pretrained(one).eval(), model)
    batch = {"input_ids": BATCH["input_ids"], "max_new_tokens": 6, "num_beams": 2}
    assert torch.equal(load_generator(merged)[0].generate(**batch), model.generate(**batch))


def test_a_merged_adapter_keeps_its_card_but_not_that_of_peft(adapted, tmp_path):
    _, folder = adapted
    assert (folder / "README.md").is_file()  # PEFT's
    assert not (merge_adapter(folder, tmp_path / "plain") / "README.md").exists()
    with_card(folder)
    merged = merge_adapter(folder, tmp_path / "merged")
    card = ModelCard.load(merged / "README.md")
    assert card.data.library_name == "transformers" and card.data.tags == ["hf-localgan"]
    assert MERGED not in card.text
    assert (merged / "training.png").is_file() and (merged / "energy" / "model.safetensors").is_file()


@pytest.mark.parametrize("write", [export_with_code, merge_adapter])
def test_the_card_of_adapters_becomes_one_of_a_whole_model(write, adapted, tmp_path):
    _, folder = adapted
    write_model_card(folder, trainer=RamlTrainer, repo_id="owner/mine")
    assert "adapters alone" in (folder / "README.md").read_text()
    card = ModelCard.load(write(folder, tmp_path / "whole") / "README.md")
    assert MERGED in card.text and "adapters alone" not in card.text
    assert card.data.library_name == "transformers" and "lora" not in card.data.tags
    calls = re.findall(r"\bpipeline\(.*", card.text)
    assert len(calls) == (2 if write is export_with_code else 1)
    assert all(("trust_remote_code=True" in call) == (write is export_with_code) for call in calls)


def test_what_cannot_be_merged_is_refused(adapted, save, tiny_t5, tiny_tokenizer, tmp_path):
    model, folder = adapted
    target, whole = tmp_path / "merged", tmp_path / "base"
    with pytest.raises(ValueError, match="holds no adapter: an adapter_config.json"):
        merge_adapter(whole, target)
    with pytest.raises(ValueError, match="T5ForConditionalGeneration has no adapters"):
        merge_adapter(tiny_t5(), target, tiny_tokenizer)
    with pytest.raises(ValueError, match="leave out `base_model`"):
        merge_adapter(model, target, tiny_tokenizer, base_model=whole)
    with pytest.raises(ValueError, match="Give the `tokenizer`"):
        merge_adapter(model, target)
    whole.rename(tmp_path / "moved")
    with pytest.raises(OSError, match=f"{whole}` by its adapter_config.json: .* name it by `base_model`"):
        merge_adapter(folder, target)
    assert not target.exists()
    assert_equal_logits(
        AutoModelForSeq2SeqLM.from_pretrained(merge_adapter(folder, target, base_model=tmp_path / "moved")), model
    )
