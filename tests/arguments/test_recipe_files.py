"""Every YAML file of an experiment can be read, and builds the generator it describes."""

import ast
import re
from pathlib import Path

import pytest
import torch
import yaml

from hf_localgan.arguments import (
    DataArguments,
    EvaluationArguments,
    GeneratorArguments,
    RecipeParser,
    TokenizerArguments,
    expand_path,
)
from hf_localgan.models import RnnSeq2SeqForConditionalGeneration
from hf_localgan.trainers import MleConfig

RECIPES = Path(__file__).parents[2] / "recipes"
FILES = sorted(path for path in RECIPES.glob("*/*.yaml") if path.parent.name != "accelerate_configs")


def test_there_are_recipes():
    assert RECIPES / "smalltalk" / "mle.yaml" in FILES


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_a_recipe_file_is_read_and_builds_its_generator(path, tmp_path, monkeypatch, tiny_tokenizer):
    for name in re.findall(r"\$\{?(HF_LOCALGAN_\w+)", path.read_text()):
        monkeypatch.setenv(name, str(tmp_path))
    kinds = (DataArguments, TokenizerArguments, GeneratorArguments, EvaluationArguments, MleConfig)
    # on the processor, whatever the file's machine has
    options = ["--use_cpu", "--bf16", "false", "--fp16", "false", "--tf32", "false"]
    data, _, generator, evaluation, args = RecipeParser(*kinds).read([str(path), *options])
    assert args.output_dir and not Path(args.output_dir).is_absolute()
    where = expand_path(data.dataset, "dataset")
    assert not Path(data.dataset).is_absolute() and (where == data.dataset or where.startswith(str(tmp_path)))
    assert evaluation.decodings()
    config = generator.config(tiny_tokenizer)
    with torch.device("meta"):  # the papers' generators are large
        model = RnnSeq2SeqForConditionalGeneration(config)
    given = yaml.safe_load(path.read_text())
    for name in ("cell_type", "hidden_size", "encoder_layers", "decoder_layers", "attention"):
        if name in given:
            assert getattr(model.config, name) == given[name]


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.stem}")
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
