"""The work of the commands: settings from YAML files and the command line, the trainings, their stages and ends."""

from hf_localgan.recipes.adversarial import AdversarialSetup, make_monitor, set_up_adversarial
from hf_localgan.recipes.discriminator import DiscriminatorSetup, set_up_discriminator, train_discriminator
from hf_localgan.recipes.earlier_stages import EarlierStages, check_same_tokens
from hf_localgan.recipes.energy import EnergySetup, set_up_energy, train_energy
from hf_localgan.recipes.finish import finish_training, likelihood_about
from hf_localgan.recipes.finish_adversarial import finish_adversarial_training
from hf_localgan.recipes.finish_energy import finish_energy_training
from hf_localgan.recipes.finish_matching import finish_matching
from hf_localgan.recipes.generator import TrainingSetup, set_up_training, train_generator
from hf_localgan.recipes.parser import RecipeParser, expand_path, read_config
from hf_localgan.recipes.parts import load_discriminator, load_energy, make_energy
from hf_localgan.recipes.resuming import checkpoint_to_resume
from hf_localgan.recipes.settings.data import DataArguments
from hf_localgan.recipes.settings.discriminator import DiscriminatorArguments
from hf_localgan.recipes.settings.energy import EnergyArguments, EnergyReportArguments
from hf_localgan.recipes.settings.evaluation import EvaluationArguments
from hf_localgan.recipes.settings.generator import GeneratorArguments, ModelArguments
from hf_localgan.recipes.settings.stages import StageArguments
from hf_localgan.recipes.settings.tokenizer import TokenizerArguments
from hf_localgan.recipes.stage import Stage, settings_of

__all__ = [
    "AdversarialSetup",
    "DataArguments",
    "DiscriminatorArguments",
    "DiscriminatorSetup",
    "EarlierStages",
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
    "train_discriminator",
    "train_energy",
    "train_generator",
]
