"""Every command with wrong input of many kinds: one line that names what is wrong, and never a traceback."""

import gzip
import json
import shutil

import pytest

from hf_localgan.cli import COMMANDS, MODULES, main
from hf_localgan.models import DbmConfig, DbmModel, PairDiscriminator, PairDiscriminatorConfig

TRAININGS = [name for name in COMMANDS["training"] if name not in ("reproduce", "train-speech")]
QUICK = ["empty.yaml", "--use_cpu", "true", "--max_steps", "1", "--output_dir", "out"]
ROWS = [{"query": f"{a} {b}", "response": f"{c} ."} for a in ("hello", "how", "are") for b in "?!" for c in ("i", "am")]


@pytest.fixture(scope="module")
def place(tmp_path_factory, tiny_generator):
    """A folder with models, data and settings, whole and damaged."""
    place = tmp_path_factory.mktemp("wrong")
    sizes = {"vocab_size": 20, "embedding_size": 6, "filters": 4, "widths": [1], "head_size": 6}
    tokens = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    energy = {"query_size": 5, "response_size": 5, "hidden_size": 6, "top_size": 4, "vocab_size": 20}
    models = {
        "gen": (tiny_generator(), "hidden_size"), "energy": (DbmModel(DbmConfig(**energy)), "hidden_size"),
        "judge": (PairDiscriminator(PairDiscriminatorConfig(**sizes, **tokens)), "filters"),
    }  # fmt: skip
    for name, (model, size) in models.items():
        model.save_pretrained(place / name)
        config = json.loads((place / name / "config.json").read_text())
        for damage in ("sizes", "type", "json", "list", "cut", "weightless"):
            folder = place / f"{name}_{damage}"
            shutil.copytree(place / name, folder)
            weights = folder / "model.safetensors"
            if damage in ("sizes", "type"):
                value = 12 if damage == "sizes" else "many"
                (folder / "config.json").write_text(json.dumps({**config, size: value}))
            elif damage in ("json", "list"):
                (folder / "config.json").write_text('{"model_type": "rnn' if damage == "json" else "[1]")
            elif damage == "cut":
                weights.write_bytes(weights.read_bytes()[:200])
            else:
                weights.unlink()
    for name in ("data", "gz", "columns", "empty", "bytes"):
        (place / name).mkdir()
    for split in ("train", "validation", "test"):
        text = "".join(json.dumps(row) + "\n" for row in ROWS)
        (place / "data" / f"{split}.jsonl").write_text(text)
        (place / "gz" / f"{split}.jsonl.gz").write_bytes(gzip.compress(text.encode())[:-12])
        (place / "columns" / f"{split}.jsonl").write_text('{"a": "x", "b": "y"}\n')
        (place / "bytes" / f"{split}.jsonl").write_bytes(bytes(range(256)))
    (place / "file").write_text("x")
    (place / "empty.yaml").write_text("")
    (place / "broken.yaml").write_text("a: [1")
    (place / "key").mkdir()
    (place / "key" / "key.json").write_text("[]")
    return place


@pytest.fixture
def refused(place, monkeypatch, capsys):
    """`refused(words, told)`: the command ends with an error of the user, whose last line holds the text."""
    monkeypatch.chdir(place)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    before = sorted(place.rglob("*"))

    def run(words: list[str], told: str):
        assert main(words) in (1, 2), words
        said = capsys.readouterr().err
        last = said.strip().splitlines()[-1]
        assert "Traceback" not in said and "fault of hf-localgan" not in said, said
        assert last.startswith("hf-localgan") and told in last, said
        assert sorted(path for path in place.rglob("*") if "out" not in path.parts) == before  # nothing is left

    return run


@pytest.mark.parametrize("command", list(MODULES))
def test_options_that_are_not_known(command, refused):
    refused([command, "--nonsense", "1"], "")
    refused([command, "--nonsense"], "")


@pytest.mark.parametrize("command", TRAININGS)
def test_settings_of_trainings(command, refused):
    refused([command, "missing.yaml"], 'no configuration file "missing.yaml"')
    refused([command, "data"], 'no configuration file "data"')
    refused([command, "broken.yaml"], '"broken.yaml" is not YAML')
    refused([command, *QUICK, "--gradient_accumulation_steps", "0"], "`gradient_accumulation_steps` must be a whole")
    refused([command, *QUICK, "--learning_rate", "nan"], "`learning_rate` must be a number of at least 0, got nan")
    refused([command, "empty.yaml", "--output_dir", "file"], '`output_dir` must be a folder, and "file" is a file')


@pytest.mark.parametrize(
    ("data", "told"),
    [
        ("nowhere/data", "no split|There is no|nowhere/data"),
        ("data/typo", '"data" is a folder here, and holds no "typo"'),
        ("gz", "train.jsonl.gz"),
        ("columns", "no `query` column"),
        ("empty", "has no train, validation or test file"),
        ("bytes", "train.jsonl"),
        ("file", ""),
    ],
)
def test_data_of_trainings(data, told, refused):
    refused(["train-mle", *QUICK, "--dataset", data], told.split("|")[-1])


DAMAGES = {
    "sizes": "of another shape", "type": "onfig", "json": "valid JSON", "list": "cannot be read",
    "cut": "safetensors", "weightless": "cannot be found",
}  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_models(damage, refused):
    told, data = DAMAGES[damage], ["--dataset", "data"]
    refused(["train-mle", *QUICK, *data, "--generator", f"gen_{damage}"], told)
    refused(["train-dbm", *QUICK, *data, "--energy", f"energy_{damage}"], told)
    refused(["train-matching", *QUICK, *data, "--discriminator", f"judge_{damage}"], told)
    refused(["chat", f"gen_{damage}"], told)
    refused(["evaluate", f"gen_{damage}", "data", "--output_dir", "out"], told)
    refused(["export", f"gen_{damage}", "new"], told)
    refused(["card", f"gen_{damage}"], "")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["chat", "data/typo"], '"data" is a folder here'),
        (["chat", "no/model"], "neither a folder"),
        (["chat", "energy"], "no encoder-decoder"),
        (["chat", "file"], "is a file"),
        (["chat", "gen", "--temperature", "nan"], "must be above 0 and finite, got nan"),
        (["chat", "gen", "--seed", "9" * 30], "--seed must be from 0"),
        (["chat", "gen", "--device", "gpu9"], '"gpu9"'),
        (["train-dbm", *QUICK, "--dataset", "data", "--energy", "gen"], "and no energy model"),
        (["train-dbm", *QUICK, "--dataset", "data", "--energy", "empty"], "has no config.json"),
        (["train-matching", *QUICK, "--dataset", "data", "--discriminator", "file"], '"file" is no folder'),
        (["train-matching", *QUICK, "--dataset", "data", "--discriminator", "data/typo"], 'no "data/typo"'),
        (["train-mle", *QUICK, "--dataset", "data", "--tokenizer", "empty"], '"empty" has no tokenizer'),
        (["evaluate", "gen", "data", "--seed", "-1"], "`seed` must be a whole number of at least 0"),
        (["evaluate"], "`hf-localgan evaluate MODEL DATASET`"),
        (["export", "gen", "file"], "must be a new or an empty folder"),
        (["demo", "gen", "--port", "99999"], "--port must be from 0 to 65535"),
        (["transcribe", "file", "--model", "gen"], "is no recogniser of speech"),
        (["transcribe", "file", "--model", "data/typo"], '"data" is a folder here'),
        (["card", "nowhere"], "no folder"),
        (["metrics-against-people", "file", "new"], "cannot be read as parquet"),
        (["metrics-against-people", "nowhere", "new"], 'no file "nowhere"'),
        (["annotate", "export", "new", "--runs", "gen"], "has no evaluation.json"),
        (["annotate", "serve", "file"], "writes .csv sheets only"),
        (["annotate", "score", "key"], "is not a key"),
        (["annotate", "power", "nan", "0.4"], "got nan"),
        (["reproduce", "table1", "--dataset", "empty"], "has no mle.yaml"),
        (["reproduce", "table1", "--seeds", "-1"], "--seeds must be from 0"),
        (["nonsense"], "There is no command `nonsense`"),
    ],
    ids=lambda value: " ".join(value)[:60] if isinstance(value, list) else "",
)
def test_what_else_a_command_gets(words, told, refused):
    refused(words, told)
