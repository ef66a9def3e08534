"""What the commands of AIM and DAIM have in common: discriminators that compare."""

from collections.abc import Sequence

from hf_localgan.commands.adversarial import train
from hf_localgan.recipes.settings.data import DataArguments
from hf_localgan.recipes.settings.evaluation import EvaluationArguments
from hf_localgan.recipes.settings.stages import StageArguments

COMPARING = ("head=cosine", "head_size=100")  # dimensions as in the paper


def comparing(options: Sequence[str] | None) -> list[str]:
    """Options of a discriminator that compares; those that are given stand behind these, and win."""
    return [*COMPARING, *(options or ())]


def train_comparing(
    parser, method, data: DataArguments, stages: StageArguments, evaluation: EvaluationArguments, args
) -> int | None:
    """As `train`; discriminators that are trained here compare two responses by cosines."""
    stages.discriminator_options = comparing(stages.discriminator_options)
    if stages.backward_discriminator_options is not None:
        stages.backward_discriminator_options = comparing(stages.backward_discriminator_options)
    return train(parser, method, data, stages, evaluation, args)
