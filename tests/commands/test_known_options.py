"""Help and wrong options that are answered before torch is loaded: the same as afterwards."""

import json
from importlib import import_module
from pathlib import Path

import pytest

from hf_localgan import cli
from hf_localgan.cli import COMMANDS as GROUPS
from hf_localgan.cli import main
from hf_localgan.commands.completion import whole_parser
from hf_localgan.commands.known_options import COMMANDS, FILE, describe_commands, known_options
from hf_localgan.options import NAMED, SHOWN


def parser_of(command: str):
    return import_module(f"hf_localgan.commands.{command.replace('-', '_')}").settings_parser(f"hf-localgan {command}")


def test_the_file_holds_the_options_that_there_are():
    assert json.loads(FILE.read_text(encoding="utf-8")) == describe_commands(), (
        "Options have changed: python -m hf_localgan.commands.known_options"
    )
    assert set(COMMANDS) == {*GROUPS["training"], "evaluate"} - {"reproduce"}


@pytest.mark.parametrize("command", COMMANDS)
def test_names_and_short_help_are_those_of_the_parser(command, capsys):
    parser = parser_of(command)
    known = known_options(command)
    assert set(known.names) == {name.lstrip("-").replace("-", "_") for name in parser._option_string_actions}
    assert main([command, "--help"]) == 0
    early = capsys.readouterr().out
    with pytest.raises(SystemExit) as end:
        parser.read(["--help"])
    assert end.value.code == 0 and capsys.readouterr().out == early
    assert len(early.splitlines()) < 190 and "(default: " in early  # the paper's options, and names of the others
    details = {group.detail for group in known.groups}
    assert {SHOWN, NAMED} <= details


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["train-mle", "--learnig_rate", "1"], "Unknown option: `learnig_rate` (did you mean `learning_rate`"),
        (["train-mle", "--learnig-rate=1"], "Unknown option: `learnig-rate` (did you mean `learning_rate`"),
        (["train-dbm", "a.yaml", "--zzz", "--qqq"], "Unknown options: `zzz`, `qqq`. `--help all` lists every option."),
        (["evaluate", "m", "d", "--beam", "5"], "Unknown option: `beam` (did you mean `beams`"),
        (["train-matching", "--model", "m"], "`model` (it is called `discriminator` now)"),
    ],
)
def test_wrong_options_are_answered_with_the_words_of_the_parser(words, message, capsys):
    assert main(words) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"hf-localgan {words[0]}: Unknown option") and message in said
    with pytest.raises(ValueError) as error:
        parser_of(words[0]).read([word for word in words[1:] if word != "a.yaml"])
    assert said == f"hf-localgan {words[0]}: {error.value}\n"


def test_a_missing_settings_file_is_answered_at_once_with_its_neighbour(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("my.yaml").write_text("max_steps: 1\n", encoding="utf-8")
    monkeypatch.setattr(cli, "import_module", lambda name: pytest.fail(f"{name} was imported"))
    assert main(["train-raml", "my.yml", "--max_steps", "1"]) == 2
    assert 'no configuration file "my.yml". Did you mean "my.yaml"?' in capsys.readouterr().err
    assert main(["train-mle", "elsewhere/none.yaml"]) == 2
    assert 'no configuration file "elsewhere/none.yaml". Give a YAML file' in capsys.readouterr().err


def test_completion_knows_every_command_and_option(capsys):
    parser = whole_parser()
    (commands,) = (action for action in parser._actions if action.dest == "command")
    assert list(commands.choices) == [name for group in GROUPS.values() for name in group]
    assert "--radial_weight" in commands.choices["train-localgan"]._option_string_actions
    assert "--top-p" in commands.choices["chat"]._option_string_actions
    for shell in ("bash", "zsh", "tcsh"):
        assert main(["completion", shell]) == 0
        said = capsys.readouterr().out
        assert "train-localgan" in said and "radial_weight" in said
