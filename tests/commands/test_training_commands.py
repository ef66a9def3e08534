"""The training commands: their options, their default files, how their recipes start them, and how they stop."""

import re
import sys
from importlib import import_module
from pathlib import Path

import pytest

from hf_localgan.cli import COMMANDS, MODULES, main
from hf_localgan.commands import default_files
from hf_localgan.commands.default_files import default_file
from hf_localgan.commands.recipe import run, training_parser
from hf_localgan.recipes import DataArguments
from hf_localgan.trainers import DivergenceError, GanAelTrainer, MleConfig

ROOT = Path(__file__).parents[2]
TRAININGS = [name for name in COMMANDS["training"] if name != "reproduce"]  # which starts the others


def groups(said: str) -> dict[str, str]:
    """The help of each group of options, by its title, in order."""
    parts = re.split(r"^(\S.*):\n(?=  )", said, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


@pytest.mark.parametrize("name", TRAININGS)
def test_options_stand_in_groups_ours_before_the_frameworks(name, capsys):
    assert main([name, "--help", "all"]) == 0
    said = capsys.readouterr().out
    found = groups(said)
    titles = list(found)
    assert titles[:2] == ["help", "data"] and "--" not in found["help"].replace("--help", "")
    assert titles[-1].startswith("training, as everywhere in transformers (")
    assert "--output_dir" in found[titles[-1]] and "--weight_decay" in found[titles[-1]]
    own = [title for title in titles if re.fullmatch(r"training \(\w+\)", title)]
    assert own == titles[-1 - len(own) : -1] and "--report_to" in "".join(found[title] for title in own)
    # every option once, with its default
    names = [option for option in re.findall(r"^  --(\w+)", said, re.MULTILINE) if option != "help"]
    assert len(names) == len(set(names)) > 150
    assert len(re.findall(r"\(default:", said)) >= len([one for one in names if not one.startswith("no_")])
    assert f"accelerate launch --module hf_localgan.cli {name}" in " ".join(said.split())


@pytest.mark.parametrize("name", TRAININGS)
def test_a_training_without_a_file_reads_that_of_the_shipped_corpus(name, capsys):
    path = default_file(MODULES[name].removeprefix("train_"))
    assert path == ROOT / "recipes" / "smalltalk" / path.name and path.is_file()
    assert main([name, "--help"]) == 0
    assert f"Without CONFIG the settings are those of {path}." in capsys.readouterr().out.replace("\n", " ")


def test_in_a_wheel_the_default_files_lie_beside_the_commands(tmp_path, monkeypatch):
    monkeypatch.setattr(default_files, "__file__", str(tmp_path / "default_files.py"))
    (tmp_path / "smalltalk").mkdir()
    assert default_file("mle") == tmp_path / "smalltalk" / "mle.yaml"


@pytest.mark.parametrize("name", [*TRAININGS, "evaluate"])
def test_the_recipe_of_a_command_is_the_command(name, monkeypatch, run_recipe):
    calls = []
    module = import_module(f"hf_localgan.commands.{MODULES[name]}")
    monkeypatch.setattr(module, "main", lambda *args, **names: calls.append((args, names)) or 3)
    assert run_recipe(MODULES[name]) == 3
    assert calls == [((), {})]


@pytest.fixture
def run_recipe():
    """`run_recipe(name)`: the exit code of a script of `recipes/`."""
    import runpy

    def run(name: str) -> int:
        with pytest.raises(SystemExit) as end:
            runpy.run_path(str(ROOT / "recipes" / f"{name}.py"), run_name="__main__")
        return end.value.code

    return run


def parser(prog=None):
    return training_parser(DataArguments, MleConfig, default="mle", description="Trains.", prog=prog)


def test_settings_are_read_and_handed_over(tmp_path):
    seen, words = [], [str(tmp_path / "own.yaml"), "--output_dir", str(tmp_path), "--use_cpu"]
    (tmp_path / "own.yaml").write_text("max_steps: 3\ndataset: mine\n")
    assert run(parser("p"), lambda *settings: seen.append(settings), words) == 0
    ((data, args),) = seen
    assert data.dataset == "mine" and args.max_steps == 3 and args.output_dir == str(tmp_path)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--learning_rat", "1"], "`learning_rat` (did you mean `learning_rate`"),
        (["--max_steps", "many"], "'many'"),
        (["none.yaml"], 'no configuration file "none.yaml"'),
        (["--sample_rows", "-1"], "`sample_rows`"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_settings_that_cannot_be_meant_are_wrong_usage(tmp_path, words, told, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = [*words, "--output_dir", "new"] if words[0] != "none.yaml" else words
    assert main(["train-mle", *words]) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("hf-localgan train-mle: ") and told in captured.err
    assert captured.err.count("\n") == 1 and not list(tmp_path.iterdir())


def test_a_training_that_diverges_is_stopped_with_3(tmp_path, capsys):
    def diverge(*settings):
        raise DivergenceError(7, "`dbm/energy`", float("inf"), "finite", "Lower `learning_rate`.", None)

    (tmp_path / "own.yaml").write_text("use_cpu: true\n")
    assert run(parser("prog"), diverge, [str(tmp_path / "own.yaml"), "--output_dir", str(tmp_path)]) == 3
    captured = capsys.readouterr()
    assert captured.err.startswith("prog: Training diverged after 7 updates") and captured.err.count("\n") == 1


def test_a_training_whose_answers_collapse_is_stopped_with_3(monkeypatch, capsys):
    from types import SimpleNamespace

    from hf_localgan.commands import adversarial

    finished = []
    stage = SimpleNamespace(finish=lambda: finished.append("stage"))
    setup = SimpleNamespace(
        model=None, parts={"energy": "energy"}, monitor=None, train=None, validation=None, tokenizer=None,
        metrics=None, checkpoint=None, test=None, score=None, about={}, start=None, pairs={"train": []}, stage=stage,
    )  # fmt: skip
    for reason, code in ((None, None), ("stopped at step 4: `eval_ent_4` fell from 7 to 0.1", 3)):
        made = []

        class Trainer:
            objective = SimpleNamespace(name="LocalGAN")
            part_roles = {"energy": "it looks on"}  # noqa: RUF012
            guard = SimpleNamespace(reason=reason)

            def __init__(self, model, args, **parts):
                made.append(parts)  # noqa: B023

            def train(self, resume_from_checkpoint):
                pass

            def save_model(self):
                pass

            is_world_process_zero = staticmethod(lambda: True)

        monkeypatch.setattr(adversarial, "set_up_adversarial", lambda *args, **names: setup)
        monkeypatch.setattr(adversarial, "DataCollatorForSeq2Seq", lambda *args, **names: None)
        monkeypatch.setattr(adversarial, "finish_adversarial_training", lambda *a, **n: finished.append("report"))
        words = SimpleNamespace(language="en")
        assert adversarial.train(parser("prog"), Trainer, words, None, None, None) == code
        assert made[0]["energy"] == "energy"
    assert finished == ["report", "stage"] * 2  # all is written before the code is told
    assert capsys.readouterr().err == "prog: Training was stopped at step 4: `eval_ent_4` fell from 7 to 0.1.\n"


def test_what_was_finished_before_is_done(monkeypatch):
    from hf_localgan.commands import adversarial

    monkeypatch.setattr(adversarial, "set_up_adversarial", lambda *args, **names: None)
    assert adversarial.train(parser("prog"), GanAelTrainer, None, None, None, None) is None


def test_the_name_of_a_script_stands_before_its_errors(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["train_mle.py", "--max_stepz", "3"])
    assert import_module("hf_localgan.commands.train_mle").main() == 2
    assert capsys.readouterr().err.startswith("train_mle.py: Unknown option: `max_stepz`")
