"""Settings of adversarial training: where the generator and what stands beside it come from."""

from dataclasses import dataclass
from typing import ClassVar

from hf_localgan.recipes.parser import expand_path
from hf_localgan.recipes.settings.data import option
from hf_localgan.recipes.settings.lora import LoraArguments


@dataclass
class StageArguments(LoraArguments):
    """Where the generator of an adversarial training and what stands beside it come from.

    Each is given, or is trained first by the settings file of its own recipe. The pairs, `seed`, `use_cpu` and
    `disable_tqdm` of the adversarial training win over those of these files. All models have the generator's tokenizer.

    `lora_rank` belongs to the adversarial stage: it trains adapters of the generator that the stage begins with.
    """

    _argument_group_name: ClassVar[str] = "stages"
    _argument_alternatives: ClassVar[list[tuple[str, ...]]] = [
        ("generator", "mle_config"),
        ("energy", "energy_config"),
        ("discriminator", "discriminator_config"),
        ("backward", "backward_config"),
    ]
    _argument_former_names: ClassVar[dict[str, str]] = {
        "model": "generator", "energy_model": "energy", "discriminator_model": "discriminator"
    }  # fmt: skip

    mle_config: str = option(
        "mle.yaml",
        "File for `train_mle.py` that says how the generator is trained first. Its path is relative to the folder of "
        "this file.",
    )
    energy_config: str = option(
        "dbm.yaml",
        "File for `train_dbm.py` that says how the energy is trained. If it names a `generator`, the one of this run "
        "is taken.",
    )
    discriminator_config: str = option(
        "matching.yaml",
        "File for `train_matching.py` that says how the discriminator is trained first. If it names a `generator` or "
        "an `energy`, those of this run are taken.",
    )
    backward_config: str = option(
        "mle.yaml",
        "File for `train_mle.py` that says how the generator of queries from responses is trained first, for AIM and "
        "DAIM. Its pairs are turned round, and its tokenizer is the generator's.",
    )
    mle_options: list[str] | None = option(
        None,
        "Settings that replace those of `mle_config`, such as `num_train_epochs=1` or `temperatures=[0.5,1.0]`.",
    )
    energy_options: list[str] | None = option(None, "Settings that replace those of `energy_config`.")
    discriminator_options: list[str] | None = option(
        None,
        "Settings that replace those of `discriminator_config`. `energy=ours` makes the discriminator of a copy of the "
        "energy.",
    )
    backward_options: list[str] | None = option(None, "Settings that replace those of `backward_config`.")
    backward_discriminator_options: list[str] | None = option(
        None,
        "Settings that replace those of `discriminator_config` for the discriminator of queries, for DAIM. By default "
        "`discriminator_options`.",
    )
    generator: str | None = option(
        None,
        "Folder or Hub id of a generator with its tokenizer, which the training starts from instead of training one.",
    )
    energy: str | None = option(
        None,
        "Folder or Hub id of a trained energy with the generator's tokenizer. A generator that is trained here takes "
        "the energy's tokenizer.",
    )
    discriminator: str | None = option(
        None,
        "Folder or Hub id of a trained discriminator with the generator's tokenizer. A generator that is trained here "
        "takes the discriminator's tokenizer.",
    )
    backward: str | None = option(
        None, "Folder or Hub id of a generator of queries from responses with the generator's tokenizer."
    )
    backward_discriminator: str | None = option(
        None,
        "Folder or Hub id of a discriminator of queries, trained on swapped pairs, with the generator's tokenizer.",
    )

    def file_of(self, stage: str) -> str:
        """The file that says how a stage is run."""
        return self.discriminator_config if stage == "backward_discriminator" else getattr(self, f"{stage}_config")

    def options_of(self, stage: str) -> list[str]:
        """Settings that replace those of the file of a stage."""
        options = getattr(self, f"{stage}_options")
        if options is None and stage == "backward_discriminator":
            options = self.discriminator_options
        return options or []

    def given(self, name: str) -> str | None:
        """The path or id that a field names, with environment variables replaced."""
        value = getattr(self, name)
        return None if value is None else expand_path(value, name)
