"""Trainings without a settings file: what is about the shipped corpus does not carry over to another one."""

import json

import pytest
import yaml

from hf_localgan.commands.default_files import default_file
from hf_localgan.commands.default_settings import fitted_defaults
from hf_localgan.commands.recipe import run, training_parser
from hf_localgan.recipes.earlier_stages import EarlierStages
from hf_localgan.recipes.settings.data import DataArguments
from hf_localgan.recipes.settings.evaluation import EvaluationArguments
from hf_localgan.recipes.settings.generator import GeneratorArguments
from hf_localgan.recipes.settings.stages import StageArguments
from hf_localgan.recipes.settings.tokenizer import TokenizerArguments
from hf_localgan.trainers import LocalGanConfig, MleConfig
from hf_localgan.trainers.base.launching import warn_once

COMMANDS = sorted(path.stem for path in default_file("mle").parent.glob("*.yaml"))
MLE = (DataArguments, TokenizerArguments, GeneratorArguments, EvaluationArguments, MleConfig)
LOCALGAN = (DataArguments, StageArguments, EvaluationArguments, LocalGanConfig)


@pytest.fixture
def read():
    """`read(*words, groups=MLE, default="mle")`: the settings of a training command, the trainer's last."""

    def parse(*words: str, groups=MLE, default: str = "mle"):
        parser = training_parser(*groups, default=default, description="", prog="train")
        return parser.read([*words, "--use_cpu"])

    return parse


@pytest.mark.parametrize("name", COMMANDS)
def test_no_file_hands_facts_of_its_corpus_to_another_one(name):
    settings = yaml.safe_load(default_file(name).read_text(encoding="utf-8"))
    fitted = fitted_defaults(settings, {"dataset": "/data/chat-2.train.jsonl.gz"})
    about = json.dumps(fitted)
    assert not any(word in about for word in ("smalltalk", "tones", "cc0", "card_", "temperatures"))
    assert fitted["output_dir"].startswith("runs/chat-2.train-")
    assert fitted_defaults(settings, {"dataset": settings["dataset"]}) == {
        key: value for key, value in settings.items() if key != "dataset"
    } | ({"save_steps": settings["eval_steps"]} if settings.get("eval_strategy") == "steps" else {})


def test_values_that_are_given_stand_beside_the_rest_of_the_file(read):
    data, _, generator, _, args = read("--dataset", "me/talk", "--card-license", "mit")
    assert (data.dataset, args.output_dir, args.card_license) == ("me/talk", "runs/talk-mle", "mit")
    file = yaml.safe_load(default_file("mle").read_text(encoding="utf-8"))
    names = ("num_train_epochs", "learning_rate", "load_best_model_at_end")
    assert [getattr(args, name) for name in names] == [file[name] for name in names]
    assert generator.embedding_dropout == file["embedding_dropout"] != 0
    assert read("--dataset", "me/talk", "--output_dir", "here")[-1].output_dir == "here"
    assert read()[-1].card_license == read("--dataset", "smalltalk")[-1].card_license == "cc0-1.0"
    stages, _, args = read("--dataset", "me/talk", groups=LOCALGAN, default="localgan")[1:]
    assert stages.mle_options == []  # the temperatures that stand there are small talk's
    assert args.output_dir == "runs/talk-localgan"
    settings = {"dataset": "smalltalk", "mle_options": ["num_train_epochs=12", "temperatures=[0.5]"]}
    assert fitted_defaults(settings, {"dataset": "me/talk"})["mle_options"] == ["num_train_epochs=12"]


@pytest.mark.parametrize(
    ("words", "eval_", "save", "best"),
    [
        ("--eval_strategy steps", ("steps", 50), ("steps", 50), True),
        ("--eval_strategy=steps --eval_steps 30", ("steps", 30), ("steps", 30), True),
        ("--eval-strategy steps --save_steps 7", ("steps", 50), ("steps", 7), False),
        ("--eval_strategy no", ("no", None), ("epoch", 500), False),
        ("--save_strategy no", ("epoch", None), ("no", 500), False),
        ("--save_strategy best", ("epoch", None), ("best", 500), True),
    ],
)
def test_checkpoints_follow_the_evaluations_that_are_asked_for(read, caplog, words, eval_, save, best):
    warn_once.cache_clear()
    args = read(*words.split())[-1]
    assert (args.eval_strategy, args.eval_steps) == eval_ and (args.save_strategy, args.save_steps) == save
    assert args.load_best_model_at_end == best == ("The last model is kept" not in caplog.text)
    assert args.early_stopping_patience == (0 if eval_[0] == "no" else 3)
    assert "does nothing" not in caplog.text


def test_a_number_of_evaluations_alone_fits_too(read):
    args = read("--eval_steps", "33", groups=LOCALGAN, default="localgan")[-1]
    assert (args.eval_steps, args.save_steps, args.load_best_model_at_end) == (33, 33, True)


def test_what_the_user_asks_for_is_not_taken_back(read):
    with pytest.raises(ValueError, match="load_best_model_at_end"):
        read("--load_best_model_at_end", "true", "--save_strategy", "no")


def test_a_length_of_the_command_line_takes_the_place_of_the_files(read, tmp_path):
    args = read("--num_train_epochs", "2", groups=LOCALGAN, default="localgan")[-1]
    assert (args.max_steps, args.num_train_epochs) == (-1, 2.0)  # the file has 500 steps
    (tmp_path / "mine.yaml").write_text("output_dir: o\nnum_train_epochs: 4\n")
    assert read(str(tmp_path / "mine.yaml"), "--max_steps", "9")[-1].max_steps == 9
    assert read(str(tmp_path / "mine.yaml"), "--max_steps", "-1")[-1].num_train_epochs == 4.0


def test_a_file_that_is_named_is_taken_as_it_is(read, tmp_path):
    (tmp_path / "mine.yaml").write_text("dataset: a\noutput_dir: o\ncard_license: mit\ntemperatures: [0.5]\n")
    _, _, _, evaluation, args = read(str(tmp_path / "mine.yaml"), "--dataset", "b")
    assert (args.output_dir, args.card_license, evaluation.temperatures) == ("o", "mit", [0.5])


def test_cards_of_stages_say_what_the_run_says_of_its_data(tmp_path):
    folder = default_file("mle").parent
    for facts, license, language in (({}, None, None), ({"card_license": "mit", "card_language": "fr"}, "mit", "fr")):
        args = LocalGanConfig(output_dir=str(tmp_path), use_cpu=True, **facts)
        stages = EarlierStages(DataArguments(dataset="mine"), StageArguments(), args, folder, ["energy"])
        for name in ("mle", "energy"):
            settings = stages.read(name)[-1]
            assert (settings.card_license, settings.card_language) == (license, language)
    args = LocalGanConfig(output_dir=str(tmp_path), use_cpu=True)
    stages = EarlierStages(DataArguments(), StageArguments(), args, folder, ["energy"])
    assert stages.read("mle")[-1].card_license == "cc0-1.0"


def test_settings_of_a_new_model_beside_one_that_exists_are_warned_of(caplog, tmp_path, capsys):
    warn_once.cache_clear()
    done = []

    def command(*words: str) -> int:
        parser = training_parser(*MLE, default="mle", description="", prog="train")
        return run(parser, lambda *settings: done.append(settings), [*words, "--use_cpu"])

    assert command("--generator", "there") == 0 and "nothing" not in caplog.text  # the default file's shape
    command("--generator", "there", "--hidden_size", "9", "--vocab_size", "50")
    assert '`hidden_size`, `vocab_size` do nothing: `generator` names "there"' in caplog.text
    command("--tokenizer", "words", "--lowercase", "true")
    assert '`lowercase` does nothing: `tokenizer` names "words"' in caplog.text
    (tmp_path / "mine.yaml").write_text("output_dir: o\ncell_type: lstm\n")
    command(str(tmp_path / "mine.yaml"), "--generator", "there")
    assert "`cell_type` does nothing" in caplog.text
    assert len(done) == 4 and command("--do_train", "false") == 2
    assert "`do_train: false`: this command trains" in capsys.readouterr().err and len(done) == 4
