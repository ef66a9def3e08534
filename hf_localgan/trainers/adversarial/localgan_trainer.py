"""LocalGAN: adversarial training with a radial term from the free energy of a deep Boltzmann machine."""

import json
import logging
import os
from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, cast

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
    TrainingArguments,
)

from hf_localgan.data.padding import PADDING
from hf_localgan.decoding.noisy_samples import noisy_samples
from hf_localgan.decoding.sampling import without_dropout
from hf_localgan.decoding.soft_rollout import SoftRollout
from hf_localgan.evaluation.energy.features import regular_words
from hf_localgan.evaluation.energy.meaning import (
    SAFE_QUERIES,
    RadiusMeaning,
    evenly,
    greedy_answers,
    radius_meaning,
)
from hf_localgan.functional.adversarial import discriminator_loss
from hf_localgan.functional.radial import (
    center_distance,
    delta_alpha,
    generator_loss,
    radius_spread,
    wrong_sign_share,
)
from hf_localgan.functional.score_function import (
    sample_advantages,
    score_function_loss,
    token_advantages,
    unit_deviation,
)
from hf_localgan.hub.citations import DEEP_BOLTZMANN_MACHINES, LOCALGAN
from hf_localgan.hub.objective import Objective
from hf_localgan.models.dbm import DbmModel
from hf_localgan.models.discriminator import PairDiscriminator
from hf_localgan.models.quantization import GivenQuantization
from hf_localgan.trainers.adversarial.clamping import ClampHead
from hf_localgan.trainers.adversarial.clusters import ClusterRadii
from hf_localgan.trainers.adversarial.localgan_config import LocalGanConfig
from hf_localgan.trainers.adversarial.monitor import ResponseMonitor
from hf_localgan.trainers.adversarial.parts import check_energy
from hf_localgan.trainers.adversarial.soft_trainer import SoftRolloutTrainer, spaced_rows, within_vocabulary
from hf_localgan.trainers.base.checkpoints import damage_explained
from hf_localgan.trainers.base.formatting import FormattingFunction
from hf_localgan.trainers.base.given import GivenModel, GivenRows

if TYPE_CHECKING:
    from peft import PeftConfig

SPREAD_ROWS = 20_000  # training references whose radii are measured, evenly spaced
CHECKED_ROWS = 2_000  # those among which safe answers are looked for
SCORE = 2  # purpose of the random numbers of samples; a rollout has 0, mismatches have 1

logger = logging.getLogger(__name__)


class LocalGanTrainer(SoftRolloutTrainer):
    """Trains a generator to pass for the data and to keep the references' distance from the centre of the responses.

    The generator minimises the hybrid objective (LocalGAN, Eq. 18) of its own generations `r^`,

        -ln D(q, r^) + radial_weight * relu(delta_alpha),  delta_alpha = (F(q, r) - F(q, r^)) / scale

    (`functional/radial.py`), the discriminator the cross-entropy of true pairs against generated and mismatched ones.
    With `radial_gradient="score"` the radial term is that of samples, whose gradient is the score function's
    (`functional/score_function.py`); with `radial_target="cluster"` the mean over all training responses to the query
    stands for `F(q, r)`; with `radial_measure="distance"` the root of the radius stands for the energy.
    The energy is frozen, and saved in `energy/` of every checkpoint and of the output. The scale "spread" is the
    standard deviation of the references' radii, measured at the start unless the energy's configuration holds it.
    Logged beside the terms of `SoftRolloutTrainer`: `loss/adversarial`, `loss/radial`, `gan/delta_alpha` (mean) and
    `gan/phase2_fraction`, the share of generations nearer to the centre than their reference; with the gradient `score`
    also `gan/radial_deviation`, the root mean square of what the log-probabilities are weighted with.

    Args:
        model: an encoder-decoder that takes `decoder_inputs_embeds`, or a PEFT model around one.
        args (`LocalGanConfig`): the settings.
        discriminator: a `PairDiscriminator` of the generator's tokenizer, or its folder or id on the Hub.
        energy: a trained `DbmModel` with word vectors, of the generator's tokenizer, or its folder or id on the Hub.
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
        quantization_config: GivenQuantization | None = None,
        formatting_func: FormattingFunction | None = None,
        discriminator: PairDiscriminator | str | os.PathLike | None = None,
        energy: DbmModel | str | os.PathLike | None = None,
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
            quantization_config=quantization_config, formatting_func=formatting_func,
        )  # fmt: skip
        if settings.preset == "authors_code" and energy.config.energy != "rbm_pair":
            logger.warning(
                'The preset "authors_code" is meant for `energy="rbm_pair"`, the sum of two machines; this energy is '
                f'"{energy.config.energy}".'
            )
        self._clamping = self._replace_callback(None, self._make_clamping())
        self._clusters: ClusterRadii | None = None

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
        surrogate = None
        if self.args.radial_gradient == "score" and self.args.radial_weight:
            deltas, surrogate = self.score_terms(inputs)
            delta = deltas.mean(dim=1)
        else:
            deltas = self.radial_difference(inputs, rollout, places)[:, None]
            delta = deltas[:, 0]
        total, adversarial, radial = generator_loss(logits, delta, self.args.radial_weight)
        if surrogate is not None:  # the value of the term, the gradient of the estimator
            radial = torch.relu(deltas).mean(dim=1) + surrogate - surrogate.detach()
            total = adversarial + self.args.radial_weight * radial
        if self.args.length_ratio:
            lengths = self.reference_lengths(inputs["labels"]).clamp(min=1)
            adversarial = adversarial / (1 - torch.relu(lengths - rollout.lengths.clamp(min=1)) / lengths)
        if self.args.length_ratio or self.args.adversarial_weight != 1:
            total = self.args.adversarial_weight * adversarial + self.args.radial_weight * radial
        self.record(
            **{
                "loss/adversarial": adversarial, "loss/radial": radial, "gan/delta_alpha": delta,
                "gan/phase2_fraction": (deltas > 0).float(),
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
        energy = self.energy
        assert energy.config.vocab_size is not None  # an energy over vectors alone was refused
        query, center, reference = self._around(inputs)
        weights, ids = within_vocabulary(rollout, energy.config.vocab_size)
        features = energy.soft_response_features(weights, places, ids)
        return self._difference(reference, self._measure(query, features, center), center)

    def score_terms(self, inputs: dict[str, Any]) -> tuple[Tensor, Tensor]:
        """`delta_alpha` of samples, and a loss whose gradient is the score function's of `relu(delta_alpha)`.

        Args:
            inputs: the batch.

        Returns:
            Shapes `(batch, samples)`, without gradient, and `(batch,)`.
        """
        args, number = self.args, self.args.radial_samples
        with without_dropout(self.model):
            drawn = noisy_samples(
                self.model, inputs, samples=number, max_length=self.rollout_length, temperature=args.noise_scale,
                top_k=args.relaxation_top_k, generator=self.draws.generator(inputs["input_ids"].device, SCORE),
            )  # fmt: skip
        with torch.no_grad():
            query, center, reference = (values.repeat_interleave(number, dim=0) for values in self._around(inputs))
            content = drawn.content > 0
            if args.soft_length == "reference":
                lengths = self.reference_lengths(inputs["labels"]).repeat_interleave(number)
                content = content & (torch.arange(content.shape[1], device=content.device) < lengths[:, None])
            assert self.energy.config.vocab_size is not None
            content = content & (drawn.labels < self.energy.config.vocab_size)
            words = drawn.labels.masked_fill(~content, PADDING)

            def delta_of(rows: Tensor, words: Tensor) -> Tensor:
                features = self.energy.response_features(words)
                measured = self._measure(query[rows], features, center[rows])
                return self._difference(reference[rows], measured, center[rows])

            every = torch.arange(len(words), device=words.device)
            delta = delta_of(every, words).view(-1, number)
            rewards = -torch.relu(delta)
            of_references = self._reference_rewards(inputs) if args.radial_baseline == "references" else None
            advantages = sample_advantages(rewards, args.radial_baseline, of_references)
            shape, mask = (*rewards.shape, -1), (drawn.labels != PADDING).to(rewards.dtype)
            if args.radial_credit == "token":
                row, place = content.nonzero(as_tuple=True)
                taken = words[row].scatter(1, place[:, None], PADDING)  # each answer without one of its tokens
                without = torch.zeros_like(mask)
                without[row, place] = -torch.relu(delta_of(row, taken)) if len(row) else without[row, place]
                advantages = token_advantages(rewards, without.view(shape), advantages, content.view(shape))
            if args.radial_scaled:
                counted = mask.view(shape) if advantages.dim() == 3 else None
                advantages = unit_deviation(advantages, counted)
        self.record(**{"gan/radial_deviation": advantages.square().mean().sqrt()})
        return delta, score_function_loss(drawn.log_probs.view(shape), advantages, mask.view(shape))

    def _around(self, inputs: Mapping[str, Any]) -> tuple[Tensor, Tensor, Tensor]:
        """Vectors of the queries, energies of their centres, and what generations are compared with.

        The centres' energies are zeros where nothing needs them: a spread is one number for all queries.
        """
        energy, args = self.energy, self.args
        with torch.no_grad():
            query = energy.query_features(inputs["input_ids"], inputs.get("attention_mask"))
            if args.radial_scale == "spread" and args.radial_measure == "energy":
                center = torch.zeros(len(query), dtype=query.dtype, device=query.device)
            else:
                center = energy.free_energy(query, energy.center(query))
            if args.radial_target == "cluster":
                reference = self.clusters.means(inputs).to(query.dtype)
            else:
                reference = self._measure(query, energy.response_features(inputs["labels"]), center)
        return query, center, reference

    def _measure(self, query: Tensor, features: Tensor, center_energy: Tensor) -> Tensor:
        """Energies or distances of responses by `radial_measure`, shape `(batch,)`, with the features' gradient."""
        free_energy = self.energy.free_energy(query, features)
        return free_energy if self.args.radial_measure == "energy" else center_distance(free_energy, center_energy)

    def _difference(self, reference: Tensor, generation: Tensor, center_energy: Tensor) -> Tensor:
        """`delta_alpha` of what `_measure` returned."""
        config, scale = self.energy.config, self.args.radial_scale
        spread = config.radius_spread if self.args.radial_measure == "energy" else config.distance_spread
        spread = spread if scale == "spread" else None
        return delta_alpha(reference, generation, center_energy.to(reference), scale, spread, self.args.radial_floor)

    def _reference_rewards(self, inputs: dict[str, Any]) -> Tensor:
        """Mean of `-relu(delta_alpha)` over the training responses to each query, shape `(batch,)`."""
        _, center, target = self._around(inputs)

        def rewards(values: Tensor, places: Tensor) -> Tensor:
            values, places = values.to(target), places.to(target.device)
            return -torch.relu(self._difference(target[places], values, center[places])).cpu()

        return self.clusters.mean_of(inputs, rewards).to(target)

    @property
    def clusters(self) -> ClusterRadii:
        """The radii of all training responses by query, measured on every process when they are first needed."""
        if self._clusters is None:
            if not hasattr(self.train_dataset, "__len__"):
                raise ValueError(
                    '`radial_target="cluster"` and `radial_baseline="references"` need all responses to a query, which '
                    "a stream does not tell. Set `streaming: false`, or other values."
                )

            def measured(batch: Mapping[str, Any]) -> Tensor:
                query = self.energy.query_features(batch["input_ids"], batch.get("attention_mask"))
                features, center = self.energy.response_features(batch["labels"]), query.new_zeros(len(query))
                if self.args.radial_measure == "distance":
                    center = self.energy.free_energy(query, self.energy.center(query))
                return self._measure(query, features, center)

            with torch.no_grad():
                self._clusters = ClusterRadii(self._batches(len(cast(Any, self.train_dataset))), measured)
        return self._clusters

    def discriminator_terms(self, real: Tensor, fake: Tensor, mismatched: Tensor | None) -> Tensor:
        return discriminator_loss(real, fake, mismatched, mismatched_weight=self.args.mismatched_weight).total

    # ---- the energy's statistics ----

    def _prepare_for_training(self, *args: Any, **kwargs: Any) -> Any:
        prepared = super()._prepare_for_training(*args, **kwargs)
        self.measure_radii()
        self._clusters = None  # the energy or the data may be others now
        if self.args.radial_weight and self.args.process_index == 0:
            self.check_safe_answers()
        return prepared

    def check_safe_answers(self) -> RadiusMeaning:
        """Measures what the radius says of training references and of the generator's greedy answers.

        Warns where it does not rank safe answers lowest: pushed outwards by such a radius, a generator learns to be
        brief, or whatever else the radius measures. On up to 2,000 references, evenly spaced; nothing is drawn.
        """
        energy, number = self.energy, CHECKED_ROWS
        rows = list(spaced_rows(self.train_dataset, number))
        words = regular_words(energy, (row["labels"] for row in rows))
        queries, radii = [], []
        for batch in self._batches(number):
            query = energy.query_features(batch["input_ids"], batch.get("attention_mask"))
            queries.append(query)
            with torch.no_grad():
                radii.append(energy.radius(query, energy.response_features(batch["labels"])).double().cpu())
        asked = evenly(len(rows), SAFE_QUERIES)
        tokens = greedy_answers(
            self.base_model, [list(rows[row]["input_ids"]) for row in asked], max_new_tokens=self.rollout_length
        )
        meaning = radius_meaning(
            energy, torch.cat(queries), torch.cat(radii).numpy(), words, words,
            greedy=regular_words(energy, tokens), greedy_rows=asked,
        )  # fmt: skip
        if meaning.ranks_safe_lowest is False:
            logger.warning(f"{meaning.verdict()} (On {len(rows)} training references and the generator's answers.)")
        return meaning

    @torch.no_grad()
    def measure_radii(self) -> float:
        """Standard deviation of the radii of training references, in nats.

        Unless the energy's configuration holds it, the main process measures it on up to 20,000 pairs, evenly spaced
        (the first pairs of a stream), and sends it to the others. With the scale "center" the main process also warns
        of the share of queries with the wrong sign.
        """
        config, distances = self.energy.config, self.args.radial_measure == "distance"
        known = config.radius_spread is not None and not (distances and config.distance_spread is None)
        if known and self.args.radial_scale != "center":
            return cast(float, config.radius_spread)
        statistics = torch.zeros(3, dtype=torch.float64, device=self.args.device)
        if self.args.process_index == 0:
            radii, centers = self._radii()
            values = [radius_spread(radii, centers), wrong_sign_share(centers), 0.0]
            if distances:
                values[2] = radius_spread(center_distance(radii, torch.zeros_like(radii)))
            statistics = torch.tensor(values, dtype=torch.float64).to(statistics)
        if self.args.world_size > 1:
            statistics = broadcast(statistics, from_process=0)
        spread, wrong_share, distance_spread = statistics.tolist()
        if config.radius_spread is None:
            config.radius_spread = spread
        if distances and config.distance_spread is None:
            config.distance_spread = distance_spread
        if self.args.radial_scale == "center" and wrong_share and self.args.process_index == 0:
            logger.warning(
                f'`radial_scale="center"`: F(q, rc) is negative for {wrong_share:.1%} of the queries. There the radial '
                'term is on when it should be off, and pulls the wrong way. `radial_scale="spread"` has no sign.'
            )
        return config.radius_spread

    def _radii(self) -> tuple[Tensor, Tensor]:
        """Radii of training references and the energies of their centres, shape `(pairs,)` of each, in nats."""
        energy = self.energy
        radii: list[Tensor] = []
        centers: list[Tensor] = []
        for batch in self._batches(SPREAD_ROWS):
            query = energy.query_features(batch["input_ids"], batch.get("attention_mask"))
            reference = energy.free_energy(query, energy.response_features(batch["labels"]))
            centers.append(energy.free_energy(query, energy.center(query)).cpu())
            radii.append(reference.cpu() - centers[-1])
        return torch.cat(radii), torch.cat(centers)

    def _batches(self, number: int) -> Iterator[dict[str, Any]]:
        """Collated batches of at most so many training rows, evenly spaced, on the device."""
        rows = spaced_rows(self.train_dataset, number)
        collate = self._get_collator_with_removed_columns(self.data_collator, description="radii")
        while examples := list(islice(rows, self.args.per_device_eval_batch_size)):
            batch = collate(examples)
            names = [name for name in ("input_ids", "attention_mask", "labels") if batch.get(name) is not None]
            yield {name: batch[name].to(self.args.device) for name in names}

    # ---- files ----

    def _load_parts(self, checkpoint: Path):
        super()._load_parts(checkpoint)
        folder = checkpoint / "energy"
        with damage_explained(str(folder)):
            saved = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        for name in ("radius_spread", "distance_spread"):
            setattr(self.energy.config, name, saved.get(name))
