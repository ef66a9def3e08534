"""`card`, `export` and `demo`: their options reach the functions that do the work, and what these leave."""

import json
import sys
from types import ModuleType

import pytest

from hf_localgan.cli import main
from hf_localgan.trainers import MleConfig


@pytest.fixture
def folder(tiny_generator, tiny_tokenizer, tmp_path):
    tiny_generator().save_pretrained(tmp_path / "model")
    tiny_tokenizer.save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def test_export_writes_a_checkpoint_with_its_code(folder, tmp_path, capsys):
    assert main(["export", str(folder), str(tmp_path / "out")]) == 0
    assert capsys.readouterr().out == f"written: {tmp_path / 'out'}\n"
    assert list((tmp_path / "out").glob("modeling_*.py"))
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert "AutoModelForSeq2SeqLM" in config["auto_map"]


def test_export_merges_an_adapter_into_an_ordinary_checkpoint_or_one_with_code(tmp_path, monkeypatch, capsys):
    calls = []

    def note(name):
        def run(model, output, **names):
            calls.append((name, str(model), str(output), names))
            return output

        return run

    for name in ("export_with_code", "merge_adapter"):
        monkeypatch.setattr(f"hf_localgan.hub.export.{name}", note(name))
    out, loading = str(tmp_path / "out"), {"revision": "v2", "trust_remote_code": False}
    options = ["adapter", out, "--merge", "--base-model", "base", "--revision", "v2"]
    assert main(["export", *options]) == 0
    assert calls == [("merge_adapter", "adapter", out, {"base_model": "base", **loading})]
    calls.clear()
    assert main(["export", *options, "--with-code"]) == 0
    (merge, model, merged, names), exported = calls
    assert (merge, model, names) == ("merge_adapter", "adapter", {"base_model": "base", **loading}) and merged != out
    assert exported == ("export_with_code", merged, out, {"trust_remote_code": False})


def test_what_is_in_the_way_of_an_export_stays(folder, tmp_path, capsys):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("mine")
    assert main(["export", str(folder), str(tmp_path / "out")]) == 1
    assert capsys.readouterr().err.startswith("hf-localgan export: ")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["mine.txt"]


def test_a_card_is_written_of_what_lies_in_a_folder(folder, capsys):
    (folder / "README.md").write_text("old")
    (folder / "training_args.json").write_text(MleConfig(str(folder), use_cpu=True).to_json_string())
    assert main(["card", str(folder), "--license", "cc0-1.0", "--repo-id", "me/mine", "--language", "en", "fr"]) == 0
    assert capsys.readouterr().out == f"written: {folder / 'README.md'}\n"
    text = (folder / "README.md").read_text()
    assert "license: cc0-1.0" in text and "me/mine" in text and "- fr" in text and "old" not in text.split()


def test_a_folder_without_a_model_has_no_card(tmp_path, capsys):
    assert main(["card", str(tmp_path / "none")]) == 1
    captured = capsys.readouterr()
    assert captured.err.startswith("hf-localgan card: ") and captured.err.count("\n") == 1
    assert not (tmp_path / "none").exists()


def test_every_option_of_the_demo_reaches_the_page(monkeypatch):
    calls = []
    module = ModuleType("hf_localgan.demo")
    module.launch = lambda models, **names: calls.append((models, names))
    monkeypatch.setitem(sys.modules, "hf_localgan.demo", module)
    assert main(["demo", "one", "two"]) == 0
    given = {
        "energy": "e", "dataset": "d", "split": "s", "reference_queries": 7, "host": "localhost", "port": 80,
        "device": "cpu", "open_browser": True, "trust_remote_code": True,
    }  # fmt: skip
    words = [word for name, value in given.items() if value is not True for word in (name, str(value))]
    words = [f"--{word.replace('_', '-')}" if index % 2 == 0 else word for index, word in enumerate(words)]
    decodings = ["greedy", "beam 2"]
    assert main(["demo", "one", *words, "--open-browser", "--trust-remote-code", "--decodings", *decodings]) == 0
    (models, default), (_, found) = calls
    assert models == ["one", "two"] and found == {**given, "decodings": decodings}
    assert default["decodings"] == []
    assert default["host"] == "127.0.0.1" and default["port"] == 7860 and default["reference_queries"] == 1000


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["export", "one"], "OUTPUT"),
        (["export", "one", "two", "--base-model", "three"], "add --merge"),
        (["card"], "FOLDER"),
        (["card", "one", "--licence", "x"], "there is no option --licence"),
        (["demo"], "MODEL"),
        (["demo", "one", "--port", "70000"], "--port must be from 0 to 65535, got 70000"),
        (["demo", "one", "--reference-queries", "0"], "must be at least 1, got 0"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_wrong_usage_exits_with_2(words, told, capsys):
    assert main(words) == 2
    assert told in capsys.readouterr().err
