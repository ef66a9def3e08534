"""The command as a whole: its help, its commands, its exit codes, and what it does not wait for."""

import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

import hf_localgan
from hf_localgan.cli import COMMANDS, MODULES, main
from hf_localgan.commands.exits import MEANINGS

ROOT = Path(__file__).parents[1]


def process(*words: str, code: str = "") -> subprocess.CompletedProcess:
    """A process that is called `hf-localgan`, as the installed script is; `code` is run at its end."""
    script = f"import sys; sys.argv[0] = 'hf-localgan'; from hf_localgan.cli import main; ended = main()\n{code}"
    return subprocess.run(
        [sys.executable, "-c", f"{script}\nsys.exit(ended)", *words], cwd=ROOT, text=True, capture_output=True
    )


def test_help_lists_every_command_in_its_group_and_every_exit_code(capsys):
    assert main(["--help"]) == 0
    said = capsys.readouterr().out
    places = [
        said.index(f"\n{group}:\n") for group in ("training", "using", "publishing and help", "options", "exit codes")
    ]
    assert places == sorted(places)
    for group, commands in COMMANDS.items():
        block = said.split(f"\n{group}:\n")[1].split("\n\n")[0]
        assert [line.split()[0] for line in block.splitlines()] == list(commands)
    for code, meaning in MEANINGS.items():
        assert f"\n  {code:>3}  {meaning}" in said


@pytest.mark.parametrize("name", MODULES)
def test_every_command_has_a_module_and_its_own_help(name, capsys):
    assert callable(import_module(f"hf_localgan.commands.{MODULES[name]}").main)
    assert main([name, "--help"]) == 0
    captured = capsys.readouterr()
    assert captured.out.startswith(f"usage: hf-localgan {name} ") and captured.err == ""
    assert "recipes/train" not in captured.out  # which an installed package does not have


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["sing"], "There is no command `sing`. `hf-localgan --help` lists all."),
        (["evalute"], "There is no command `evalute`. Did you mean `evaluate`?"),
        (["--loud", "chat"], "hf-localgan: error"),
    ],
)
def test_wrong_usage_exits_with_2_and_says_why(arguments, message, capsys):
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert message in captured.err and captured.out == ""


def test_the_bare_command_is_its_help_and_so_is_the_module(capsys):
    assert main([]) == 0
    bare = capsys.readouterr().out
    assert main(["--help"]) == 0
    assert bare == capsys.readouterr().out
    done = subprocess.run([sys.executable, "-m", "hf_localgan", "--version"], cwd=ROOT, text=True, capture_output=True)
    assert done.stdout == f"hf-localgan {hf_localgan.__version__}\n"


def test_version_is_the_packages(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"hf-localgan {hf_localgan.__version__}\n"


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--help"], 0),
        (["--version"], 0),
        (["sing"], 2),
        (["chat", "--help"], 0),
        (["chat", "m", "--top-p", "2"], 2),
        (["demo"], 2),
        (["card", "--help"], 0),
        (["export", "one"], 2),
        (["annotate", "power", "2", "0.5"], 2),
        (["train-localgan", "--help"], 0),
        (["train-raml", "mine.yaml", "--taU", "0.5"], 2),
        (["evaluate", "--help"], 0),
        (["compare"], 2),
        (["tau-curve", "--help"], 0),
        (["completion", "zsh"], 0),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_help_and_wrong_usage_do_not_wait_for_torch(words, expected):
    done = process(*words, code="assert not {'torch', 'transformers', 'datasets', 'gradio'} & set(sys.modules)")
    assert done.returncode == expected, done.stderr


def test_the_command_registers_models_and_pipelines_before_it_works(tmp_path):
    code = """
from transformers import AutoConfig
from transformers.pipelines import PIPELINE_REGISTRY
assert AutoConfig.for_model("rnn_seq2seq") and "text2text-generation" in PIPELINE_REGISTRY.supported_tasks
"""
    done = process("chat", str(tmp_path / "none"), code=code)
    assert done.returncode == 1 and done.stderr.startswith("hf-localgan chat: There is no folder"), done.stderr


def test_the_module_is_the_command():
    """So `accelerate launch --module hf_localgan.cli` starts it on several processes."""
    command = [sys.executable, "-m", "hf_localgan.cli", "export", "one"]  # wrong usage that is told without torch
    done = subprocess.run(command, cwd=ROOT, text=True, capture_output=True)
    assert done.returncode == 2 and "\nhf-localgan export: error: " in done.stderr
