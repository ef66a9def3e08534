"""LocalGAN: adversarial training with a radial term from the free energy of a deep Boltzmann machine."""

import json
import logging
from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import torch
from accelerate.utils import broadcast
from torch import Tensor
from torch.utils.data import Dataset
from transformers import (
    DataCollator,
    EvalPrediction,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)

from hf_localgan.decoding.soft_rollout import SoftRollout
from hf_localgan.functional.adversarial import discriminator_loss
from hf_localgan.functional.radial import delta_alpha, generator_loss, radius_spread, wrong_sign_share
from hf_localgan.hub.citations import DEEP_BOLTZMANN_MACHINES, LOCALGAN
from hf_localgan.hub.objective import Objective
from hf_localgan.models.dbm import DbmModel
from hf_localgan.models.discriminator import PairDiscriminator
from hf_localgan.trainers.adversarial.localgan_config import LocalGanConfig
from hf_localgan.trainers.adversarial.monitor import ResponseMonitor
from hf_localgan.trainers.adversarial.soft_trainer import SoftRolloutTrainer, within_vocabulary
from hf_localgan.trainers.base.checkpoints import damage_explained
from hf_localgan.trainers.base.given import GivenModel, GivenRows

if TYPE_CHECKING:
    from peft import PeftConfig

SPREAD_ROWS = 20_000  # training references whose radii are measured, evenly spaced

logger = logging.getLogger(__name__)


class LocalGanTrainer(SoftRolloutTrainer):
    """Trains a generator to pass for the data and to keep the references' distance from the centre of the responses.

    The generator minimises the hybrid objective (LocalGAN, Eq. 18) of its own generations `r^`,

        -ln D(q, r^) + radial_weight * relu(delta_alpha),  delta_alpha = (F(q, r) - F(q, r^)) / scale

    (`functional/radial.py`), the discriminator the cross-entropy of true pairs against generated and mismatched ones.
    The energy is frozen, and saved in `energy/` of every checkpoint and of the output. The scale "spread" is the
    standard deviation of the references' radii, measured at the start unless the energy's configuration holds it.
    Logged beside the terms of `SoftRolloutTrainer`: `loss/adversarial`, `loss/radial`, `gan/delta_alpha` (mean) and
    `gan/phase2_fraction`, the share of generations nearer to the centre than their reference.

    Args:
        model: an encoder-decoder that takes `decoder_inputs_embeds`, or a PEFT model around one.
        args (`LocalGanConfig`): the settings.
        discriminator: a `PairDiscriminator` of the generator's tokenizer.
        energy: a trained `DbmModel` with word vectors, of the generator's tokenizer.
        monitor: see `SoftRolloutTrainer`.
        data_collator, train_dataset, eval_dataset, processing_class and others: as `TokenLossTrainer`.

    Raises:
        ValueError: for parts that do not fit together; see `SoftRolloutTrainer`.
    """

    objective = Objective(
        "LocalGAN", "localgan",
        "Trained against a discriminator, and at the distance from the centre of a query's responses at which the "
        "references lie, as the free energy of a deep Boltzmann machine measures it.",
        (LOCALGAN, DEEP_BOLTZMANN_MACHINES),
    )  # fmt: skip
    config_class = LocalGanConfig
    args: LocalGanConfig
    part_roles = MappingProxyType({**SoftRolloutTrainer.part_roles, "energy": "the deep Boltzmann machine"})

    def __init__(
        self,
        model: GivenModel | None = None,
        args: LocalGanConfig | TrainingArguments | None = None,
        data_collator: DataCollator | None = None,
        train_dataset: GivenRows | None = None,
        eval_dataset: GivenRows | dict[str, Dataset] | None = None,
        processing_class: PreTrainedTokenizerBase | None = None,
        model_init: Callable[[], PreTrainedModel] | None = None,
        compute_metrics: Callable[[EvalPrediction], dict[str, float]] | None = None,
        callbacks: list[TrainerCallback] | None = None,
        optimizers: tuple[torch.optim.Optimizer | None, torch.optim.lr_scheduler.LRScheduler | None] = (None, None),
        preprocess_logits_for_metrics: Callable[[Tensor, Tensor], Tensor] | None = None,
        *,
        peft_config: "PeftConfig | None" = None,
        model_init_kwargs: Mapping[str, Any] | None = None,
        discriminator: PairDiscriminator | None = None,
        energy: DbmModel | None = None,
        monitor: ResponseMonitor | None = None,
    ):
        energy = check_energy(energy)
        settings: LocalGanConfig = self.check_args(args)
        super().__init__(
            model, settings, data_collator=data_collator, train_dataset=train_dataset, eval_dataset=eval_dataset,
            processing_class=processing_class, model_init=model_init, compute_metrics=compute_metrics,
            callbacks=callbacks, optimizers=optimizers, preprocess_logits_for_metrics=preprocess_logits_for_metrics,
            discriminator=discriminator, parts={"energy": energy}, monitor=monitor, peft_config=peft_config,
            model_init_kwargs=model_init_kwargs,
        )  # fmt: skip
        if settings.preset == "authors_code" and energy.config.energy != "rbm_pair":
            logger.warning(
                'The preset "authors_code" is meant for `energy="rbm_pair"`, the sum of two machines; this energy is '
                f'"{energy.config.energy}".'
            )
        self._clamping = self._replace_callback(None, self._make_clamping())

    def adopt_settings(self):
        super().adopt_settings()
        self._clamping = self._replace_callback(self._clamping, self._make_clamping())

    def _make_clamping(self) -> "ClampHead | None":
        if self.args.clamp_warmup is None:
            return None
        return ClampHead(self.discriminator, self.args.clamp_warmup, self.args.discriminator_warmup_steps)

    @property
    def energy(self) -> DbmModel:
        """The frozen energy."""
        energy = self.parts["energy"]
        assert isinstance(energy, DbmModel)
        return energy

    # ---- the objectives ----

    def generator_terms(self, inputs: dict[str, Any], rollout: SoftRollout, places: Tensor) -> Tensor:
        logits = self.generation_logits(inputs, rollout, places)
        delta = self.radial_difference(inputs, rollout, places)
        total, adversarial, radial = generator_loss(logits, delta, self.args.radial_weight)
        if self.args.length_ratio:
            lengths = self.reference_lengths(inputs["labels"]).clamp(min=1)
            adversarial = adversarial / (1 - torch.relu(lengths - rollout.lengths.clamp(min=1)) / lengths)
        if self.args.length_ratio or self.args.adversarial_weight != 1:
            total = self.args.adversarial_weight * adversarial + self.args.radial_weight * radial
        self.record(
            **{
                "loss/adversarial": adversarial, "loss/radial": radial, "gan/delta_alpha": delta,
                "gan/phase2_fraction": (delta > 0).float(),
            }
        )  # fmt: skip
        return total

    def radial_difference(self, inputs: dict[str, Any], rollout: SoftRollout, places: Tensor) -> Tensor:
        """`delta_alpha` of references and generations (Eq. 17), shape `(batch,)`, with a gradient for generations.

        Args:
            inputs: the batch.
            rollout: generations to its queries.
            places: weight of each token of a generation, shape `(batch, time)`.
        """
        energy, scale = self.energy, self.args.radial_scale
        query = energy.query_features(inputs["input_ids"], inputs.get("attention_mask"))
        assert energy.config.vocab_size is not None  # an energy over vectors alone was refused
        weights, ids = within_vocabulary(rollout, energy.config.vocab_size)
        generation = energy.free_energy(query, energy.soft_response_features(weights, places, ids))
        with torch.no_grad():
            reference = energy.free_energy(query, energy.response_features(inputs["labels"]))
            # The spread is one number for all queries and needs no centre.
            center = reference if scale == "spread" else energy.free_energy(query, energy.center(query))
        spread = energy.config.radius_spread if scale == "spread" else None
        return delta_alpha(reference, generation, center, scale, spread, self.args.radial_floor)

    def discriminator_terms(self, real: Tensor, fake: Tensor, mismatched: Tensor | None) -> Tensor:
        return discriminator_loss(real, fake, mismatched, mismatched_weight=self.args.mismatched_weight).total

    # ---- the energy's statistics ----

    def _prepare_for_training(self, *args: Any, **kwargs: Any) -> Any:
        prepared = super()._prepare_for_training(*args, **kwargs)
        self.measure_radii()
        return prepared

    @torch.no_grad()
    def measure_radii(self) -> float:
        """Standard deviation of the radii of training references, in nats.

        Unless the energy's configuration holds it, the main process measures it on up to 20,000 pairs, evenly spaced
        (the first pairs of a stream), and sends it to the others. With the scale "center" the main process also warns
        of the share of queries with the wrong sign.
        """
        config = self.energy.config
        if config.radius_spread is not None and self.args.radial_scale != "center":
            return config.radius_spread
        statistics = torch.zeros(2, dtype=torch.float64, device=self.args.device)
        if self.args.process_index == 0:
            radii, centers = self._radii()
            values = [radius_spread(radii, centers), wrong_sign_share(centers)]
            statistics = torch.tensor(values, dtype=torch.float64).to(statistics)
        if self.args.world_size > 1:
            statistics = broadcast(statistics, from_process=0)
        spread, wrong_share = statistics.tolist()
        if config.radius_spread is None:
            config.radius_spread = spread
        if self.args.radial_scale == "center" and wrong_share and self.args.process_index == 0:
            logger.warning(
                f'`radial_scale="center"`: F(q, rc) is negative for {wrong_share:.1%} of the queries. There the radial '
                'term is on when it should be off, and pulls the wrong way. `radial_scale="spread"` has no sign.'
            )
        return config.radius_spread

    def _radii(self) -> tuple[Tensor, Tensor]:
        """Radii of training references and the energies of their centres, shape `(pairs,)` of each, in nats."""
        dataset: Any = self.train_dataset
        rows: Iterator[Any] = islice(dataset, SPREAD_ROWS)
        if hasattr(dataset, "__len__"):
            number = min(SPREAD_ROWS, len(dataset))
            rows = (dataset[index * len(dataset) // number] for index in range(number))
        energy, device = self.energy, self.args.device
        collate = self._get_collator_with_removed_columns(self.data_collator, description="radii")
        radii: list[Tensor] = []
        centers: list[Tensor] = []
        while examples := list(islice(rows, self.args.per_device_eval_batch_size)):
            batch = collate(examples)
            mask = batch.get("attention_mask")
            query = energy.query_features(batch["input_ids"].to(device), None if mask is None else mask.to(device))
            reference = energy.free_energy(query, energy.response_features(batch["labels"].to(device)))
            centers.append(energy.free_energy(query, energy.center(query)).cpu())
            radii.append(reference.cpu() - centers[-1])
        return torch.cat(radii), torch.cat(centers)

    # ---- files ----

    def _load_parts(self, checkpoint: Path):
        super()._load_parts(checkpoint)
        folder = checkpoint / "energy"
        with damage_explained(str(folder)):
            saved = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        self.energy.config.radius_spread = saved.get("radius_spread")


class ClampHead(TrainerCallback):
    """Clips the weights of a discriminator's head after each update of the warm-up, as the paper's authors do.

    Args:
        discriminator: the discriminator.
        bound: largest absolute weight.
        steps: number of updates of the warm-up.
    """

    def __init__(self, discriminator: PairDiscriminator, bound: float, steps: int):
        self.discriminator, self.bound, self.steps = discriminator, bound, steps

    @torch.no_grad()
    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs):
        if state.global_step <= self.steps:
            for parameter in self.discriminator.head.parameters():
                parameter.clamp_(-self.bound, self.bound)


def check_energy(energy: Any) -> DbmModel:
    """Refuses an energy from which no radius can be measured.

    Args:
        energy: a trained `DbmModel`.

    Returns:
        The energy.

    Raises:
        ValueError: for another class, the energy as printed and one that was not trained.
    """
    if not isinstance(energy, DbmModel):
        raise ValueError(f"`energy` must be a `DbmModel`, got {type(energy).__name__}. Train one by `DbmTrainer`.")
    if energy.config.energy == "printed":
        raise ValueError('The energy as printed has no lowest point, so no centre. Train one with `energy="dbm"`.')
    if not (energy.query_scaler.is_fitted and energy.response_scaler.is_fitted):
        raise ValueError("The energy's scalers are not fitted, so it was not trained. Train it by `DbmTrainer`.")
    return energy
