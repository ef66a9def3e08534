"""The README's snippets, run as they are printed, each in an empty folder and with nothing from the ones before."""

import ast
import re
import shlex
import sys
from pathlib import Path

import pytest
from transformers import T5ForConditionalGeneration

from hf_localgan import cli

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PYTHON = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
TYPED = "".join(re.findall(r"```bash\n(.*?)```", README, flags=re.DOTALL))
SHELL = [line.partition("#")[0].strip() for line in TYPED.splitlines()]
OUTPUT = re.findall(r"```text\n(.*?)```", README, flags=re.DOTALL)


@pytest.fixture
def in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(snippet: str) -> dict:
    names = {"__name__": "snippet"}
    exec(compile(snippet, "README.md", "exec"), names)
    return names


def test_the_first_screen_is_short():
    """Words are counted as `wc -w` counts them, code and tables included."""
    assert len(README.split()) < 900
    assert (len(PYTHON), README.count("![")) == (2, 1)
    code = [line for line in PYTHON[0].splitlines() if line.strip()]
    assert len(code) <= 12


def test_t5_is_trained_by_raml_as_printed_and_prints_what_is_printed(in_an_empty_folder, capsys):
    names = run(PYTHON[0])
    assert isinstance(names["model"], T5ForConditionalGeneration)
    said = ast.literal_eval([line for line in capsys.readouterr().out.splitlines() if "raml/edit_rate" in line][-1])
    printed = {name: float(value) for name, value in re.findall(r"'([\w/]+)': ([\d.]+)", OUTPUT[0])}
    assert {"raml/edit_rate", "raml/edits_0", "raml/temperature"} <= set(printed)
    for name, value in printed.items():
        assert said[name] == pytest.approx(value, abs=0.02), name


def test_the_pipeline_answers_as_printed(in_an_empty_folder, hub, tiny_t5, tiny_tokenizer, tmp_path, capsys):
    """On a stand-in for the Hub, which has a tiny T5 of that name."""
    (name,) = re.findall(r'model="(.+?)"', PYTHON[1])
    tiny_t5().save_pretrained(tmp_path / "t5")
    tiny_tokenizer.save_pretrained(tmp_path / "t5")
    hub.commits[name] = {"main": []}
    hub.commit(name, "main", "T5", {path.name: path.read_bytes() for path in (tmp_path / "t5").iterdir()})
    run(PYTHON[1])
    (answer,) = ast.literal_eval(capsys.readouterr().out.splitlines()[-1])
    assert set(answer) == {"generated_text"}


def commands() -> list[list[str]]:
    return [shlex.split(line) for line in SHELL if line.startswith("hf-localgan ")]


def test_the_recipe_is_a_command_and_its_options_are_read(in_an_empty_folder, capsys):
    (command,) = commands()
    assert cli.main([*command[1:], "--help"]) == 0
    assert cli.main([*command[1:], "--no_such_option"]) == 2
    assert "no_such_option" in capsys.readouterr().err


@pytest.mark.slow
def test_the_recipe_runs_as_printed(in_an_empty_folder, monkeypatch):
    (command,) = commands()
    (left,) = re.findall(r"in `(runs/.+?)`:\n\n```bash\n" + re.escape(shlex.join(command)), README)
    monkeypatch.setattr(sys, "argv", command)
    assert cli.main(command[1:]) == 0
    files = {"config.json", "model.safetensors", "tokenizer.json", "evaluation.json", "training.png", "README.md"}
    assert files <= {path.name for path in (in_an_empty_folder / left).iterdir()}


def test_two_commands_of_make_stay():
    targets = re.findall(r"^(\w[\w-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    made = [line.split()[1] for line in SHELL if line.startswith("make ")]
    assert made == ["train", "test"] and set(made) <= set(targets)


@pytest.mark.parametrize("path", sorted(set(re.findall(r"\]\(([^)#:]+)[^)]*\)", README))))
def test_every_file_that_the_readme_links_to_is_there(path):
    assert (ROOT / path).exists()
