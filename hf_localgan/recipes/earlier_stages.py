"""The stages before an adversarial training: they make the models that it needs and that are not given."""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import yaml
from transformers import PreTrainedTokenizerBase

from hf_localgan.data.vocabulary import first_difference, vocabulary_fingerprint
from hf_localgan.hub.download import CHECKPOINT, split_place
from hf_localgan.models.loading import load_generator
from hf_localgan.models.scorers import load_tokenizer
from hf_localgan.recipes.discriminator import train_discriminator
from hf_localgan.recipes.energy import train_energy
from hf_localgan.recipes.generator import train_generator
from hf_localgan.recipes.parser import RecipeParser, expand_path, read_config
from hf_localgan.recipes.parts import LOADERS
from hf_localgan.recipes.resuming import checkpoint_to_resume
from hf_localgan.recipes.settings.data import DataArguments
from hf_localgan.recipes.settings.discriminator import DiscriminatorArguments
from hf_localgan.recipes.settings.energy import EnergyArguments, EnergyReportArguments
from hf_localgan.recipes.settings.evaluation import EvaluationArguments
from hf_localgan.recipes.settings.generator import GeneratorArguments
from hf_localgan.recipes.settings.stages import StageArguments
from hf_localgan.recipes.settings.tokenizer import TokenizerArguments
from hf_localgan.recipes.stage import Stage, fingerprints, settings_of
from hf_localgan.trainers.adversarial.config import TwoPlayerConfig
from hf_localgan.trainers.base.lineage import last_checkpoint
from hf_localgan.trainers.base.settings import output_folder
from hf_localgan.trainers.dbm.config import DbmTrainingConfig
from hf_localgan.trainers.matching.config import MatchingConfig
from hf_localgan.trainers.mle.config import MleConfig
from hf_localgan.trainers.mle.trainer import MleTrainer


class EarlierStages:
    """Makes the generator by maximum likelihood, and the parts that stand beside it, each in a stage of its own.

    Args:
        data: the pairs of all stages.
        stages: the settings files of the stages, and models that are given instead.
        args: configuration of the adversarial trainer.
        folder: the folder to which the names of the files are relative.
        part_names: parts beside the generator, of "energy", "discriminator", and, trained on pairs that are turned
            round, "backward" (a generator) and "backward_discriminator".

    Attributes:
        given: the folder or Hub id that is given instead of each stage, `None` for a stage that runs.

    Raises:
        ValueError: for a part that no stage makes, and an environment variable that is not set.
    """

    SETTINGS: ClassVar[dict[str, tuple[type, ...]]] = {  # in the order in which the stages are run
        "mle": (DataArguments, TokenizerArguments, GeneratorArguments, EvaluationArguments, MleConfig),
        "energy": (DataArguments, TokenizerArguments, EnergyArguments, EnergyReportArguments, DbmTrainingConfig),
        "discriminator": (DataArguments, TokenizerArguments, DiscriminatorArguments, MatchingConfig),
        "backward": (DataArguments, TokenizerArguments, GeneratorArguments, EvaluationArguments, MleConfig),
        "backward_discriminator": (DataArguments, TokenizerArguments, DiscriminatorArguments, MatchingConfig),
    }

    def __init__(
        self,
        data: DataArguments,
        stages: StageArguments,
        args: TwoPlayerConfig,
        folder: Path,
        part_names: Sequence[str],
    ):
        known = [name for name in self.SETTINGS if name != "mle"]
        unknown = [name for name in part_names if name not in known]
        if unknown:
            raise ValueError(f"No stage makes the part `{unknown[0]}`. There are stages for {', '.join(known)}.")
        self.data, self.stages, self.args, self.folder = data, stages, args, folder
        self.part_names = tuple(name for name in known if name in part_names)
        self.given = {"mle": stages.given("generator"), **{name: stages.given(name) for name in self.part_names}}

    def folder_of(self, name: str) -> Path:
        """Folder of a stage."""
        return output_folder(self.args) / "stages" / name

    def read(self, name: str, checkpoint: str | None = None) -> tuple:
        """The settings of a stage, except those of the pairs.

        Args:
            name: of the stage.
            checkpoint: the checkpoint to resume from.

        Raises:
            ValueError: for settings that are not accepted; names the stage.
        """
        config = Path(expand_path(self.stages.file_of(name), f"the file of the stage {name}"))
        path = self.folder / config
        if not path.is_file() and config.is_file():  # on a command line names are relative to the working folder
            path = config
        shared = {field: getattr(self.args, field) for field in ("seed", "use_cpu", "disable_tqdm")}
        shared |= {"output_dir": self.folder_of(name)} | ({"resume_from_checkpoint": checkpoint} if checkpoint else {})
        words = [word for text in self.stages.options_of(name) for word in _words(text, name)]
        words += [f"--{field}={value}" for field, value in shared.items()]
        parser = RecipeParser(*self.SETTINGS[name])
        parser.prog += f": stage {name}"
        try:
            _, *settings = parser.read([str(path), *words])
        except ValueError as error:
            raise ValueError(f"Stage {name}: {error}") from error
        is_about_it = read_config(path).get("dataset") in (None, self.data.dataset)
        for fact in ("card_language", "card_license", "card_datasets"):  # of the run's data, not of those of the file
            if getattr(self.args, fact) is not None or not is_about_it:
                setattr(settings[-1], fact, getattr(self.args, fact))
        return tuple(settings)

    # ---- before the first stage ----

    def check(self):
        """Checks all settings and given models, and downloads the checkpoint of an interrupted run on the Hub.

        Raises:
            ValueError, OSError: for settings, models and checkpoints that are missing or do not fit together.
        """
        args, checkpoint = self.args, self.args.resume_from_checkpoint
        if checkpoint is not None and not CHECKPOINT.fullmatch(str(checkpoint)):
            raise ValueError(
                "An interrupted run resumes by itself when it is started again with the same settings. Leave out "
                f"`resume_from_checkpoint` (it is {checkpoint!r}); or set it to `last-checkpoint`, together with "
                "`hub_model_id`, for a run that is only on the Hub."
            )
        if not args.monitor_queries and args.metric_for_best_model in ("quality", "eval_quality"):
            raise ValueError(
                "`load_best_model_at_end` chooses by `eval_quality`, which needs answers to validation queries, but "
                "`monitor_queries` is 0. Set it, or another `metric_for_best_model`."
            )
        loaders = {"mle": load_generator, **LOADERS}
        given = {name: path for name, path in self.given.items() if path is not None}
        for name, path in given.items():
            loaders[name](path)
        settings = {name: self.read(name) for name in self.given if name not in given}
        self.data.check_steps(args)
        for name, (*_, stage_args) in settings.items():
            self.data.check_steps(stage_args, f"Stage {name}: ")
        judges = [name for name in ("discriminator", "backward_discriminator") if name in settings]
        copies = [name for name in judges if settings[name][1].energy]
        if copies and ("energy" not in self.part_names or copies[-1] != "discriminator"):
            raise ValueError(
                f"Stage {copies[-1]}: its file or options name an `energy`, but this objective has no energy. Leave it "
                "out, so that the discriminator has convolutions."
            )
        if "energy" in settings and settings["energy"][1].energy_type == "printed":
            raise ValueError("Stage energy: Eq. 8 as printed cannot be trained. Leave out `energy_type: printed`.")
        for name, (_, model, *_) in settings.items():  # errors that would show only after earlier stages
            vectors = getattr(model, "word_vectors", None)
            if vectors is not None and not Path(expand_path(vectors, "word_vectors")).is_file():
                raise ValueError(f'Stage {name}: There is no word vector file "{vectors}".')
        generator = given.pop("mle", None) or self._tokenizer(*settings["mle"][:2])
        if given:
            self.check_tokenizers({"generator": generator, **given})
        if checkpoint is not None:
            self._fetch(str(checkpoint))

    def _fetch(self, name: str):
        """Downloads a checkpoint and the stages before it into the folders where a run on this machine writes them."""
        args = self.args
        checkpoint, args.resume_from_checkpoint = checkpoint_to_resume(args), None
        last = last_checkpoint(output_folder(args))
        if last is None or checkpoint is None or Path(last).resolve() != Path(checkpoint).resolve():
            raise ValueError(
                f"`resume_from_checkpoint` is `{name}`, but an interrupted run resumes from the last checkpoint of "
                f'`output_dir`, "{last}". Take another `output_dir`, or leave out `resume_from_checkpoint`.'
            )

    def _tokenizer(self, tokens: TokenizerArguments, generator: GeneratorArguments) -> str | None:
        """Folder or Hub id of the tokenizer for a generator that is trained here; `None` if it is trained, too."""
        if generator.generator is not None:
            return expand_path(generator.generator, "generator")
        if tokens.tokenizer is not None:
            return expand_path(tokens.tokenizer, "tokenizer")
        return next((self.given[name] for name in self.part_names if self.given[name] is not None), None)

    @staticmethod
    def check_tokenizers(paths: Mapping[str, str]):
        """Refuses parts whose tokenizer is not the generator's.

        Args:
            paths: folder or id of every part, `generator` among them.
        """
        places = {name: split_place(str(path)) for name, path in paths.items()}
        tokenizers = {name: load_tokenizer(place, subfolder=inside) for name, (place, inside) in places.items()}
        for name, tokenizer in tokenizers.items():
            check_same_tokens(name, paths[name], tokenizer, paths["generator"], tokenizers["generator"])

    # ---- the stages ----

    def train(self) -> dict[str, str]:
        """Runs the stages that are neither given nor finished.

        Returns:
            The folder or id of the `generator` and of every part, all with one tokenizer.

        Raises:
            ValueError: if a stage was begun with other settings, or a part has another tokenizer.
            OSError, ImportError: as `train_generator`, `train_energy` and `train_discriminator`.
        """
        made = {"generator": self.given["mle"] or self._train_generator()}
        if "energy" in self.part_names:
            made["energy"] = self.given["energy"] or self._train_energy(made)
        if "discriminator" in self.part_names:
            made["discriminator"] = self.given["discriminator"] or self._train_discriminator(made)
        if "backward" in self.part_names:
            made["backward"] = self.given["backward"] or self._train_backward(made)
        if "backward_discriminator" in self.part_names:
            made["backward_discriminator"] = self.given["backward_discriminator"] or self._train_discriminator(
                made, "backward_discriminator", self.swapped_data()
            )
        self.check_tokenizers(made)
        return made

    def _train_generator(self) -> str:
        tokens, generator, evaluation, args = self.read("mle")
        tokens = replace(tokens, tokenizer=self._tokenizer(tokens, generator))
        train = partial(train_generator, MleTrainer, self.data, tokens, generator, evaluation)
        return self._run("mle", settings_of(self.data, tokens, generator, evaluation, args), train)

    def _train_energy(self, made: Mapping[str, str]) -> str:
        _, energy, report, args = self.read("energy")
        source = {"tokenizer": made["generator"]}
        if energy.generator is not None:
            energy, source = replace(energy, generator=made["generator"]), {"generator": made["generator"]}
        elif energy.energy is not None:
            source = {"energy": expand_path(energy.energy, "energy")}
        settings = settings_of(self.data, energy, report, args, without=("generator", "energy", "safe_generator"))
        report = report if report.safe_generator else replace(report, safe_generator=made["generator"])
        train = partial(train_energy, self.data, TokenizerArguments(tokenizer=made["generator"]), energy, report)
        return self._run("energy", settings | made_from(source), train)

    def _train_backward(self, made: Mapping[str, str]) -> str:
        """A generator of queries from responses, by maximum likelihood."""
        _, generator, evaluation, args = self.read("backward")
        data, source = self.swapped_data(), {"tokenizer": made["generator"]}
        settings = settings_of(data, generator, evaluation, args) | made_from(source)
        tokens = TokenizerArguments(tokenizer=made["generator"])
        train = partial(train_generator, MleTrainer, data, tokens, generator, evaluation)
        return self._run("backward", settings, train)

    def swapped_data(self) -> DataArguments:
        """The pairs turned round; the limits on queries are then those on responses."""
        data = self.data
        turned = replace(
            data, swap_sides=not data.swap_sides, min_query=data.min_response, max_query=data.max_response,
            min_response=data.min_query, max_response=data.max_query, max_source_length=data.max_target_length,
            max_target_length=data.max_source_length, language=data.language if data.language_given else None,
        )  # fmt: skip
        # given ones, or what was kept with a model
        turned.language, turned.history = data.language, data.history
        return turned

    def _train_discriminator(
        self, made: Mapping[str, str], name: str = "discriminator", data: DataArguments | None = None
    ) -> str:
        data = self.data if data is None else data
        _, discriminator, args = self.read(name)
        source = {"tokenizer": made["generator"]}
        for part in ("generator", "energy"):
            if getattr(discriminator, part) is not None:
                discriminator, source = replace(discriminator, **{part: made[part]}), {part: made[part]}
        if discriminator.discriminator is not None:
            source = {"discriminator": expand_path(discriminator.discriminator, "discriminator")}
        settings = settings_of(data, discriminator, args, without=("generator", "energy", "discriminator"))
        train = partial(train_discriminator, data, TokenizerArguments(tokenizer=made["generator"]), discriminator)
        return self._run(name, settings | made_from(source), train)

    def _run(self, name: str, settings: Mapping[str, Any], train: Callable[[Any], Any]) -> str:
        """Runs a stage unless it is finished; returns its folder."""
        stage = Stage(name, self.folder_of(name))
        if stage.begin(settings):
            *_, args = self.read(name, stage.checkpoint)
            train(args)
            stage.finish()
        return str(stage.output)


def check_same_tokens(
    name: str, path: str, tokenizer: PreTrainedTokenizerBase, generator: str, own: PreTrainedTokenizerBase
):
    """Refuses a part that was made with another tokenizer than the generator's.

    Args:
        name: name of the part, for the error.
        path: folder or id of the part.
        tokenizer: the part's tokenizer.
        generator: folder or id of the generator.
        own: the generator's tokenizer.

    Raises:
        ValueError: with the first token, in the order of its ids, that the tokenizers do not share.
    """
    difference = first_difference(own, tokenizer)
    if difference is not None:
        token, here, there = difference
        raise ValueError(
            f'The {name} "{path}" was made with another tokenizer than the generator "{generator}": the token '
            f"{token!r} {there} its own and {here} the generator's. Leave out the {name}, so that it is trained here; "
            f'or train one by its own recipe with `--tokenizer "{generator}"`.'
        )


def made_from(parts: Mapping[str, str]) -> dict[str, dict[str, str]]:
    """The models that a stage starts from, for its settings: a fingerprint of weights and tokens, or a Hub id, each."""
    marks = {}
    for name, path in parts.items():
        mark = path
        if name == "tokenizer" or Path(path).is_dir():
            tokens = vocabulary_fingerprint(load_tokenizer(path))
            weights = {} if name == "tokenizer" else fingerprints(path)
            mark = hashlib.sha256(json.dumps([tokens, weights], sort_keys=True).encode()).hexdigest()[:16]
        marks[name] = mark
    return {"made_from": marks}


def _words(text: str, name: str) -> list[str]:
    """The option `name=value` of a stage as words of a command line."""
    field, mark, value = text.partition("=")
    field = field.strip().removeprefix("--")
    if not mark or not field:
        raise ValueError(f"`{name}_options` are written `name=value`, got {text!r}.")
    if value.strip().startswith("["):
        try:
            return [f"--{field}", *map(str, yaml.safe_load(value))]
        except yaml.YAMLError as error:
            raise ValueError(f"`{name}_options`: {text!r} holds no list: {' '.join(str(error).split())}") from error
    return [f"--{field}={value.strip()}"]
