"""Every YAML file of an experiment can be read, and builds the generator it describes."""

import ast
import re
from dataclasses import fields
from pathlib import Path

import pytest
import torch
import yaml
from transformers import get_scheduler

from hf_localgan.models import RnnSeq2SeqForConditionalGeneration
from hf_localgan.recipes import (
    DataArguments,
    EvaluationArguments,
    GeneratorArguments,
    RecipeParser,
    TokenizerArguments,
    expand_path,
)
from hf_localgan.trainers import ExpectedRewardConfig, MleConfig
from hf_localgan.trainers.raml.config import RamlConfig, make_payoff

RECIPES = Path(__file__).parents[3] / "recipes"
CONFIGS = {
    "recipes/train_mle.py": MleConfig, "recipes/train_raml.py": RamlConfig,
    "recipes/train_expected_reward.py": ExpectedRewardConfig,
}  # fmt: skip
EVERY_FILE = sorted(path for path in RECIPES.glob("**/*.yaml") if path.parent.name != "accelerate_configs")


def script_of(path: Path) -> str:
    """The script that the file's own command line runs."""
    command = next(line for line in path.read_text().splitlines() if "recipes/train_" in line)
    return next(word for word in command.split() if word.startswith("recipes/"))


FILES = [path for path in EVERY_FILE if script_of(path) in CONFIGS]  # the generators'


def read(path: Path, tmp_path, monkeypatch, *words: str) -> tuple:
    """The settings of a file, on the processor, whatever its machine has."""
    for name in re.findall(r"\$\{?(HF_LOCALGAN_\w+)", path.read_text()):
        monkeypatch.setenv(name, str(tmp_path))
    kinds = (DataArguments, TokenizerArguments, GeneratorArguments, EvaluationArguments, CONFIGS[script_of(path)])
    options = ["--use_cpu", "--bf16", "false", "--fp16", "false", "--tf32", "false", *words]
    return RecipeParser(*kinds).read([str(path), *options])


def test_there_are_recipes_of_every_training_script():
    assert RECIPES / "smalltalk" / "mle.yaml" in FILES
    scripts = {f"recipes/{path.name}" for path in RECIPES.glob("train_*.py")}
    assert {script_of(path) for path in EVERY_FILE} == scripts >= set(CONFIGS)


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_a_recipe_file_is_read_and_builds_its_generator(path, tmp_path, monkeypatch, tiny_tokenizer):
    data, _, generator, evaluation, args = read(path, tmp_path, monkeypatch)
    assert args.output_dir and not Path(args.output_dir).is_absolute()
    where = expand_path(data.dataset, "dataset")
    assert not Path(data.dataset).is_absolute() and (where == data.dataset or where.startswith(str(tmp_path)))
    assert evaluation.chosen_decodings()
    # BLEU chooses a model only where it is computed
    assert evaluation.scores == (
        "translation"
        if re.search("en_fr|de_en", path.parent.name + path.stem) and path.stem != "raml_wmt14_en_fr_mle"
        else "dialogue"
    )
    assert args.predict_with_generate == (evaluation.scores == "translation")
    assert "bleu" not in (args.metric_for_best_model or "") or args.predict_with_generate
    config = generator.config(tiny_tokenizer)
    with torch.device("meta"):  # the papers' generators are large
        model = RnnSeq2SeqForConditionalGeneration(config)
    given = yaml.safe_load(path.read_text())
    for name in ("cell_type", "hidden_size", "encoder_layers", "decoder_layers", "attention"):
        if name in given:
            assert getattr(model.config, name) == given[name]


# Training rows of the tiny tokenizer's tokens, from which some samplers are made.
ROWS = [{"input_ids": [4 + number % 5, 9, 2], "labels": [4 + number % 16, 10, 2]} for number in range(64)]
RAML_FILES = [path for path in FILES if script_of(path).endswith("raml.py")]


@pytest.mark.parametrize("path", RAML_FILES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_a_raml_file_describes_a_payoff_and_differs_from_its_baseline_in_nothing_else(
    path, tmp_path, monkeypatch, tiny_tokenizer
):
    *_, args = read(path, tmp_path, monkeypatch)
    payoff = make_payoff(args, tiny_tokenizer, ROWS)
    given = yaml.safe_load(path.read_text())
    if "edit_rate" in given:
        assert payoff.edit_rate(args.edit_rate_length) == pytest.approx(given["edit_rate"])
    else:
        assert payoff.temperature == given.get("temperature", 0.85) > 0
    baseline = path.parent / ("raml_wmt14_en_fr_mle.yaml" if path.parent.name == "papers" else "mle.yaml")
    own, other = (yaml.safe_load(one.read_text()) for one in (path, baseline))
    raml = {one.name for one in fields(RamlConfig)} - {one.name for one in fields(MleConfig)}
    changed = {name for name in own | other if own.get(name) != other.get(name)}
    allowed = {"output_dir"}
    if path.stem.endswith("_smoothing"):  # whose rival is smoothed, too
        allowed |= {"label_smoothing_factor"}
    if path.parent.name == "papers":  # whose baseline is scored by its likelihood
        allowed |= {"scores", "predict_with_generate", "max_new_tokens", "lr_scheduler_type", "lr_scheduler_kwargs"}
    assert changed <= raml | allowed and "payoff" in changed


@pytest.mark.parametrize("path", RAML_FILES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_the_options_of_the_page_on_raml_win_over_any_raml_file(path, tmp_path, monkeypatch, tiny_tokenizer):
    page = (RECIPES.parent / "docs" / "raml.md").read_text()
    words = re.search(r"train-raml my.yaml (.*?) +#", page)[1].split()
    assert "--edit_rate" in words
    *_, args = read(path, tmp_path, monkeypatch, *words)
    payoff = make_payoff(args, tiny_tokenizer, ROWS)
    assert args.payoff == "edit" and payoff.edit_rate(args.edit_rate_length) == pytest.approx(0.05)
    *_, args = read(path, tmp_path, monkeypatch, "--payoff", "edit", "--temperature", "0.5")
    assert make_payoff(args, tiny_tokenizer, ROWS).temperature == 0.5


def test_the_papers_translation_run_has_the_papers_settings(tmp_path, monkeypatch):
    path = RECIPES / "papers" / "raml_wmt14_en_fr.yaml"
    data, _, generator, evaluation, args = read(path, tmp_path, monkeypatch)
    assert (args.payoff, args.temperature, args.num_samples, args.edit_cost) == ("hamming", 0.85, 1, "log_vocab")
    assert (args.optim.value, args.learning_rate, args.per_device_train_batch_size) == ("sgd", 0.5, 128)
    assert [one.name for one in evaluation.chosen_decodings()] == ["greedy", "beam 8"]
    assert (generator.cell_type, generator.encoder_layers, generator.hidden_size) == ("lstm", 3, 1024)
    assert (data.max_query, data.max_response) == (80, 80)
    # 0.5, and a tenth of it after 800,000 steps
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=args.learning_rate)
    with pytest.warns(UserWarning, match="num_stable_steps will be used"):
        schedule = get_scheduler(
            args.lr_scheduler_type, optimizer, num_warmup_steps=0, num_training_steps=args.max_steps,
            scheduler_specific_kwargs=args.lr_scheduler_kwargs,
        )  # fmt: skip
    (factor,) = schedule.lr_lambdas
    assert [round(factor(step), 6) for step in (0, 400_000, 800_000, 800_001, 1_199_999)] == [1, 1, 1, 0.1, 0.1]


@pytest.mark.parametrize("path", EVERY_FILE, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_a_recipe_file_says_how_it_is_run(path):
    command = next(line for line in path.read_text().splitlines() if "recipes/train_" in line)
    script, config = (word for word in command.split() if word.startswith("recipes/"))
    assert (RECIPES.parent / script).is_file() and RECIPES.parent / config == path


@pytest.mark.parametrize("path", sorted(RECIPES.glob("*.py")), ids=lambda path: path.stem)
def test_a_recipe_imports_no_other_recipe(path):
    names = {node.module for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ImportFrom)}
    assert not {one.stem for one in RECIPES.glob("*.py")} & names and "recipes" not in names


@pytest.mark.parametrize("path", sorted(RECIPES.glob("accelerate_configs/*.yaml")), ids=lambda path: path.stem)
def test_an_accelerate_config_is_one_that_accelerate_reads(path):
    from accelerate.commands.config.config_args import load_config_from_file

    assert load_config_from_file(str(path)).num_processes >= 1
