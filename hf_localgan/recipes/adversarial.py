"""Settings of the recipes that train a generator against a discriminator, and the stages that lead there."""

import copy
import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, ClassVar

import yaml
from accelerate.state import AcceleratorState
from datasets import Dataset, IterableDataset
from transformers import AutoTokenizer, DataCollatorForSeq2Seq, PreTrainedModel, PreTrainedTokenizerBase
from transformers.trainer_utils import get_last_checkpoint

from hf_localgan.data import Pairs
from hf_localgan.data.vocabulary import vocabulary_fingerprint
from hf_localgan.evaluation import Evaluation, require_matplotlib
from hf_localgan.hub.download import CHECKPOINT, split_place
from hf_localgan.models.dbm import DbmModel
from hf_localgan.models.discriminator import PairDiscriminator
from hf_localgan.models.loading import load_generator
from hf_localgan.recipes.discriminator import DiscriminatorArguments, load_discriminator, set_up_discriminator
from hf_localgan.recipes.energy import EnergyArguments, EnergyReportArguments, load_energy, set_up_energy
from hf_localgan.recipes.finish import finish_training
from hf_localgan.recipes.finish_energy import finish_energy_training
from hf_localgan.recipes.finish_matching import finish_matching
from hf_localgan.recipes.generator import TrainingSetup, set_up_training
from hf_localgan.recipes.parser import RecipeParser, expand_path
from hf_localgan.recipes.settings.generator import (
    DataArguments,
    EvaluationArguments,
    GeneratorArguments,
    TokenizerArguments,
    checkpoint_to_resume,
    option,
)
from hf_localgan.recipes.settings.lora import LoraArguments
from hf_localgan.recipes.stage import Stage, fingerprints, settings_of, train_from
from hf_localgan.trainers import (
    DbmTrainer,
    DbmTrainingConfig,
    MatchingConfig,
    MatchingTrainer,
    MleConfig,
    MleTrainer,
)
from hf_localgan.trainers.adversarial.monitor import ResponseMonitor


@dataclass
class StageArguments(LoraArguments):
    """Where generator, energy and discriminator of an adversarial training come from.

    Each is given, or is trained first, as the file of its own recipe says. The pairs, `seed`, `use_cpu` and
    `disable_tqdm` of the file of the whole win over those of these files. All have one tokenizer, the generator's.

    `lora_rank` is of the adversarial stage: it trains adapters of the generator that the stage begins with.
    """

    _argument_group_name: ClassVar[str] = "stages"
    _argument_alternatives: ClassVar[list[tuple[str, ...]]] = [
        ("generator", "mle_config"),
        ("energy_model", "energy_config"),
        ("discriminator_model", "discriminator_config"),
    ]

    mle_config: str = option(
        "mle.yaml",
        "File for `train_mle.py` that says how the generator is trained at first; its name is relative to the folder "
        "of this file.",
    )
    energy_config: str = option("dbm.yaml", "File for `train_dbm.py`. Where it names a `generator`, ours is meant.")
    discriminator_config: str = option(
        "matching.yaml",
        "File for `train_matching.py`. Where it names a `generator` or an `energy_model`, ours are meant.",
    )
    mle_options: list[str] | None = option(
        None, "What of the file is changed, such as `num_train_epochs=1` or `temperatures=[0.5,1.0]`."
    )
    energy_options: list[str] | None = option(None, "The same of `energy_config`.")
    discriminator_options: list[str] | None = option(
        None, "The same of `discriminator_config`: `energy_model=ours` makes the discriminator of a copy of the energy."
    )
    generator: str | None = option(
        None, "Folder or Hub id of a generator with its tokenizer, with which the training begins."
    )
    energy_model: str | None = option(
        None,
        "Folder or Hub id of a trained energy of the generator's tokenizer. A generator that is trained here takes its "
        "tokenizer.",
    )
    discriminator_model: str | None = option(
        None, "Folder or Hub id of a trained discriminator of the generator's tokenizer; the same holds."
    )

    def given(self, name: str) -> str | None:
        """The path or id that a field names, with environment variables replaced."""
        value = getattr(self, name)
        return None if value is None else expand_path(value, name)


@dataclass(frozen=True)
class AdversarialSetup:
    """What a recipe hands to its trainer, and to `finish_adversarial_training`.

    Attributes:
        model: the generator to train.
        start: a copy of it, to be compared with.
        tokenizer: of all parts.
        discriminator, energy: the other parts; without an energy where the objective has none.
        monitor: answers validation queries; `None` with `monitor_queries` 0.
        train, validation, test: encoded pairs.
        checkpoint: to resume from, `None` for a new run.
        metrics, score, about, pairs: see `TrainingSetup`.
        stage: to be finished at the end.
    """

    model: PreTrainedModel
    start: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    discriminator: PairDiscriminator
    energy: DbmModel | None
    monitor: ResponseMonitor | None
    train: Dataset | IterableDataset
    validation: Dataset
    test: Dataset
    checkpoint: str | None
    metrics: Callable[..., dict[str, float]] | None
    score: Callable[..., Evaluation] | None
    about: dict[str, Any]
    pairs: Pairs
    stage: Stage


def set_up_adversarial(
    data: DataArguments,
    stages: StageArguments,
    evaluation: EvaluationArguments,
    args,
    *,
    folder: Path,
    training: str,
    with_energy: bool = True,
) -> AdversarialSetup | None:
    """Trains what is not given and not finished, each in a folder of `stages`; then loads all parts.

    The parts are read from their folders even if they have just been trained, and every stage begins with its seed, so
    that it makes no difference when and how often the run was interrupted.

    Args:
        args (`TwoPlayerConfig`): of the adversarial trainer.
        folder: of the file that the settings are from.
        training: name of the adversarial one, for the files.
        with_energy: whether it needs an energy.

    Returns:
        `None` if all was finished before.

    Raises:
        ValueError, OSError, ImportError: for what is missing or does not fit together, and for a run that was begun
            with other settings. What can be looked at before the first stage is.
    """
    require_matplotlib()
    earlier = EarlierStages(data, stages, args, folder, with_energy)
    earlier.check()
    generator = earlier.train_generator()
    energy = earlier.train_energy(generator) if with_energy else None
    discriminator = earlier.train_discriminator(generator, energy)
    made_from = {"generator": generator, "discriminator": discriminator} | ({"energy": energy} if with_energy else {})
    earlier.check_tokenizers(made_from)

    stage = Stage("adversarial", earlier.folder_of("adversarial"), args.output_dir)
    lora = {one.name: getattr(stages, one.name) for one in fields(LoraArguments)}
    settings = {**settings_of(data, evaluation, args), "training": training, **_made_from(made_from)}
    settings |= lora if stages.lora_rank is not None else {}
    if not stage.begin(settings):
        return None
    args.resume_from_checkpoint = stage.checkpoint
    AcceleratorState._reset_state()  # that of the stage before may have another precision
    found = set_up_training(data, TokenizerArguments(), GeneratorArguments(model=generator, **lora), evaluation, args)
    start = copy.deepcopy(found.model)
    if stages.lora_rank is not None:
        start = start.unload()  # without the new adapters
    return AdversarialSetup(
        found.model, start, found.tokenizer, load_discriminator(discriminator)[0],
        load_energy(energy)[0] if with_energy else None, make_monitor(data, evaluation, args, found), found.train,
        found.validation, found.test, found.checkpoint, found.metrics, found.score,
        found.about | {"objective": training}, found.pairs, stage,
    )  # fmt: skip


def make_monitor(
    data: DataArguments, evaluation: EvaluationArguments, args, setup: TrainingSetup
) -> ResponseMonitor | None:
    """Watches `monitor_queries` different queries of the validation split, evenly spaced, as the evaluation scores."""
    if not args.monitor_queries:
        return None
    grouped = setup.pairs.grouped[data.eval_split]
    number = min(args.monitor_queries, len(grouped))
    rows = grouped.select([row * len(grouped) // number for row in range(number)])
    return ResponseMonitor(
        rows["query"][:], rows["responses"][:], setup.tokenizer, evaluation.vectors(setup.pairs, data),
        tokenization=evaluation.tokenization(data.language), lowercase=evaluation.metric_lowercase,
        max_new_tokens=args.monitor_max_new_tokens, max_source_length=data.max_source_length,
        batch_size=evaluation.answer_batch_size,
    )  # fmt: skip


class EarlierStages:
    """The stages before the adversarial one; each returns the folder or id of what it has made or was given."""

    KINDS: ClassVar[dict[str, tuple]] = {
        "mle": (DataArguments, TokenizerArguments, GeneratorArguments, EvaluationArguments, MleConfig),
        "energy": (DataArguments, TokenizerArguments, EnergyArguments, EnergyReportArguments, DbmTrainingConfig),
        "discriminator": (DataArguments, TokenizerArguments, DiscriminatorArguments, MatchingConfig),
    }
    GIVEN: ClassVar[dict[str, str]] = {
        "mle": "generator", "energy": "energy_model", "discriminator": "discriminator_model"
    }  # fmt: skip

    def __init__(self, data: DataArguments, stages: StageArguments, args, folder: Path, with_energy: bool):
        self.data, self.stages, self.args, self.folder, self.with_energy = data, stages, args, folder, with_energy
        self.given = {
            name: stages.given(field) for name, field in self.GIVEN.items() if name != "energy" or with_energy
        }

    def folder_of(self, name: str) -> Path:
        return Path(self.args.output_dir) / "stages" / name

    def read(self, name: str, checkpoint: str | None = None) -> tuple:
        """The settings of a stage, the pairs' left out."""
        config = Path(expand_path(getattr(self.stages, f"{name}_config"), f"{name}_config"))
        path = self.folder / config
        if not path.is_file() and config.is_file():  # on a command line names are relative to the working folder
            path = config
        shared = {field: getattr(self.args, field) for field in ("seed", "use_cpu", "disable_tqdm")}
        shared |= {"output_dir": self.folder_of(name)} | ({"resume_from_checkpoint": checkpoint} if checkpoint else {})
        words = [word for text in getattr(self.stages, f"{name}_options") or () for word in _words(text, name)]
        words += [f"--{field}={value}" for field, value in shared.items()]
        parser = RecipeParser(*self.KINDS[name])
        parser.prog += f": stage {name}"
        try:
            return parser.read([str(path), *words])[1:]
        except ValueError as error:
            raise ValueError(f"Stage {name}: {error}") from error

    def check(self):
        """Looks at all settings and at all that is given, and fetches what an interrupted run has left on the Hub."""
        args, wanted = self.args, self.args.resume_from_checkpoint
        if wanted is not None and not CHECKPOINT.fullmatch(str(wanted)):
            raise ValueError(
                "An interrupted run goes on by itself when it is started again with the same settings. Leave out "
                f"`resume_from_checkpoint` (it is {wanted!r}); or let it be `last-checkpoint`, together with "
                "`hub_model_id`, for a run that is only on the Hub."
            )
        if not args.monitor_queries and args.metric_for_best_model in ("quality", "eval_quality"):
            raise ValueError(
                "`load_best_model_at_end` chooses by `eval_quality`, which needs answers to validation queries, but "
                "`monitor_queries` is 0. Set it, or another `metric_for_best_model`."
            )
        loaders = {"mle": load_generator, "energy": load_energy, "discriminator": load_discriminator}
        given = {name: path for name, path in self.given.items() if path is not None}
        for name, path in given.items():
            loaders[name](path)
        read = {name: self.read(name) for name in self.given if name not in given}
        if not self.with_energy and "discriminator" in read and read["discriminator"][1].energy_model is not None:
            raise ValueError(
                "Stage discriminator: its file or options name an `energy_model`, but this objective has no energy. "
                "Leave it out, so that the discriminator has convolutions."
            )
        if "energy" in read and read["energy"][1].energy == "printed":
            raise ValueError("Stage energy: Eq. 8 as printed cannot be trained. Leave out `energy: printed`.")
        for name, (_, model, *_) in read.items():  # what would only show after the stages before
            vectors = getattr(model, "word_vectors", None)
            if vectors is not None and not Path(expand_path(vectors, "word_vectors")).is_file():
                raise ValueError(f'Stage {name}: There is no word vector file "{vectors}".')
        generator = given.pop("mle", None) or self._tokenizer(*read["mle"][:2])
        if given:
            self.check_tokenizers({"generator": generator, **given})
        if wanted is not None:
            self._fetch(wanted)

    def _fetch(self, wanted: str):
        """Brings a checkpoint of the Hub, and the stages before it, to where a run on this machine leaves them."""
        args = self.args
        found, args.resume_from_checkpoint = checkpoint_to_resume(args), None
        last = get_last_checkpoint(args.output_dir)
        if last is None or Path(last).resolve() != Path(found).resolve():
            raise ValueError(
                f"`resume_from_checkpoint` is `{wanted}`, but an interrupted run goes on from the last checkpoint of "
                f'`output_dir`, "{last}". Take another `output_dir`, or leave out `resume_from_checkpoint`.'
            )

    def _tokenizer(self, tokens: TokenizerArguments, generator: GeneratorArguments) -> str | None:
        """Where the tokenizer of a generator that is trained here is from; `None` if it is trained, too."""
        if generator.model is not None:
            return expand_path(generator.model, "model")
        if tokens.tokenizer is not None:
            return expand_path(tokens.tokenizer, "tokenizer")
        return self.given.get("energy") or self.given["discriminator"]

    @staticmethod
    def check_tokenizers(paths: dict[str, str]):
        """Refuses parts whose tokenizer is not the generator's.

        Args:
            paths: folder or id of every part, `generator` among them.
        """
        places = {name: split_place(str(path)) for name, path in paths.items()}
        tokenizers = {name: AutoTokenizer.from_pretrained(one, subfolder=sub) for name, (one, sub) in places.items()}
        for name, tokenizer in tokenizers.items():
            check_same_tokens(name, paths[name], tokenizer, paths["generator"], tokenizers["generator"])

    def train_generator(self) -> str:
        if self.given["mle"] is not None:
            return self.given["mle"]
        stage = Stage("mle", self.folder_of("mle"))
        tokens, generator, evaluation, args = self.read("mle")
        tokens = replace(tokens, tokenizer=self._tokenizer(tokens, generator))
        if stage.begin(settings_of(self.data, tokens, generator, evaluation, args)):
            *_, args = self.read("mle", stage.checkpoint)
            setup = set_up_training(self.data, tokens, generator, evaluation, args)
            trainer = setup.trainer(MleTrainer, args)
            train_from(trainer, setup.checkpoint)
            trainer.save_model()
            finish_training(trainer, setup.test, setup.score, setup.about | {"objective": "maximum likelihood"})
            stage.finish()
        return str(stage.output)

    def train_energy(self, generator: str) -> str:
        if self.given["energy"] is not None:
            return self.given["energy"]
        stage = Stage("energy", self.folder_of("energy"))
        tokens = TokenizerArguments(tokenizer=generator)
        _, energy, report, args = self.read("energy")
        made_from = _made_from({"tokenizer": generator})
        if energy.generator is not None:
            energy = replace(energy, generator=generator)
            made_from = _made_from({"generator": generator})
        if stage.begin(settings_of(self.data, energy, report, args, without=("generator",)) | made_from):
            *_, args = self.read("energy", stage.checkpoint)
            setup = set_up_energy(self.data, tokens, energy, report, args)
            trainer = DbmTrainer(
                setup.model, args, train_dataset=setup.train, eval_dataset=setup.validation,
                processing_class=setup.tokenizer,
            )  # fmt: skip
            train_from(trainer, setup.checkpoint)
            trainer.save_model()
            finish_energy_training(trainer, setup.train, setup.test, setup.about, **setup.report)
            stage.finish()
        return str(stage.output)

    def train_discriminator(self, generator: str, energy: str | None) -> str:
        if self.given["discriminator"] is not None:
            return self.given["discriminator"]
        stage = Stage("discriminator", self.folder_of("discriminator"))
        tokens = TokenizerArguments(tokenizer=generator)
        _, discriminator, args = self.read("discriminator")
        made_from = _made_from({"tokenizer": generator})
        if discriminator.generator is not None:
            discriminator = replace(discriminator, generator=generator)
            made_from = _made_from({"generator": generator})
        elif discriminator.energy_model is not None:
            discriminator = replace(discriminator, energy_model=energy)
            made_from = _made_from({"energy": energy})
        own = ("generator", "energy_model")
        if stage.begin(settings_of(self.data, discriminator, args, without=own) | made_from):
            *_, args = self.read("discriminator", stage.checkpoint)
            setup = set_up_discriminator(self.data, tokens, discriminator, args)
            trainer = MatchingTrainer(
                setup.model, args, train_dataset=setup.train, eval_dataset=setup.validation,
                data_collator=DataCollatorForSeq2Seq(setup.tokenizer), processing_class=setup.tokenizer,
            )  # fmt: skip
            train_from(trainer, setup.checkpoint)
            trainer.save_model()
            finish_matching(trainer, setup.test, setup.about)
            stage.finish()
        return str(stage.output)


def check_same_tokens(
    name: str, path: str, tokenizer: PreTrainedTokenizerBase, generator: str, own: PreTrainedTokenizerBase
):
    """Refuses a part that was made with another tokenizer than the generator's.

    Args:
        name: of the part, for the error.
        path: of the part.
        tokenizer: of the part.
        generator: folder or id of the generator.
        own: its tokenizer.

    Raises:
        ValueError: with the first token, in the order of its ids, that the tokenizers do not share.
    """
    ours, theirs = own.get_vocab(), tokenizer.get_vocab()
    for token in sorted({**theirs, **ours}, key=lambda token: (ours.get(token, len(ours)), theirs.get(token, 0))):
        if ours.get(token) != theirs.get(token):
            has = [f"has the id {known[token]} in" if token in known else "is missing in" for known in (theirs, ours)]
            raise ValueError(
                f'The {name} "{path}" was made with another tokenizer than the generator "{generator}": the token '
                f"{token!r} {has[0]} its own and {has[1]} the generator's. Leave out what names it, so that one is "
                f'trained here; or train one by its own recipe with `--tokenizer "{generator}"`.'
            )


def _made_from(parts: dict[str, str]) -> dict[str, dict[str, str]]:
    """What a stage is made from, for its settings: fingerprints of weights and tokens of a folder, or a Hub id."""
    found = {}
    for name, path in parts.items():
        mark: Any = path
        if name == "tokenizer" or Path(path).is_dir():
            tokens = vocabulary_fingerprint(AutoTokenizer.from_pretrained(path))
            weights = {} if name == "tokenizer" else fingerprints(path)
            mark = hashlib.sha256(json.dumps([tokens, weights], sort_keys=True).encode()).hexdigest()[:16]
        found[name] = mark
    return {"made_from": found}


def _words(text: str, name: str) -> list[str]:
    """`name=value` of the options of a stage as words of a command line."""
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
