"""Settings of recipes: YAML files, command-line options, and the groups that recipes share."""

from hf_localgan.recipes.adversarial import (
    AdversarialSetup,
    StageArguments,
    check_same_tokens,
    make_monitor,
    set_up_adversarial,
)
from hf_localgan.recipes.discriminator import (
    DiscriminatorArguments,
    DiscriminatorSetup,
    load_discriminator,
    set_up_discriminator,
)
from hf_localgan.recipes.energy import (
    EnergyArguments,
    EnergyReportArguments,
    EnergySetup,
    load_energy,
    make_energy,
    set_up_energy,
)
from hf_localgan.recipes.finish import finish_training, likelihood_about
from hf_localgan.recipes.finish_adversarial import finish_adversarial_training
from hf_localgan.recipes.finish_energy import finish_energy_training
from hf_localgan.recipes.finish_matching import finish_matching
from hf_localgan.recipes.generator import TrainingSetup, set_up_training
from hf_localgan.recipes.parser import RecipeParser, expand_path, read_config
from hf_localgan.recipes.settings.generator import (
    DataArguments,
    EvaluationArguments,
    GeneratorArguments,
    ModelArguments,
    TokenizerArguments,
    checkpoint_to_resume,
)
from hf_localgan.recipes.stage import Stage, settings_of, train_from

__all__ = [
    "AdversarialSetup",
    "DataArguments",
    "DiscriminatorArguments",
    "DiscriminatorSetup",
    "EnergyArguments",
    "EnergyReportArguments",
    "EnergySetup",
    "EvaluationArguments",
    "GeneratorArguments",
    "ModelArguments",
    "RecipeParser",
    "Stage",
    "StageArguments",
    "TokenizerArguments",
    "TrainingSetup",
    "check_same_tokens",
    "checkpoint_to_resume",
    "expand_path",
    "finish_adversarial_training",
    "finish_energy_training",
    "finish_matching",
    "finish_training",
    "likelihood_about",
    "load_discriminator",
    "load_energy",
    "make_energy",
    "make_monitor",
    "read_config",
    "set_up_adversarial",
    "set_up_discriminator",
    "set_up_energy",
    "set_up_training",
    "settings_of",
    "train_from",
]
