"""Settings of recipes: YAML files, command-line options, and the groups that recipes share."""

from hf_localgan.arguments.groups import (
    DataArguments,
    EvaluationArguments,
    GeneratorArguments,
    ModelArguments,
    TokenizerArguments,
    checkpoint_to_resume,
)
from hf_localgan.arguments.parser import RecipeParser, expand_path, read_config
from hf_localgan.arguments.setup import TrainingSetup, set_up_training

__all__ = [
    "DataArguments",
    "EvaluationArguments",
    "GeneratorArguments",
    "ModelArguments",
    "RecipeParser",
    "TokenizerArguments",
    "TrainingSetup",
    "checkpoint_to_resume",
    "expand_path",
    "read_config",
    "set_up_training",
]
