"""Training of a deep Boltzmann machine."""

import logging
import os
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, cast

import torch
from accelerate.utils import broadcast
from torch import Tensor, nn
from torch.utils.data import Dataset
from transformers import DataCollator, PreTrainedTokenizerBase, Trainer, TrainerCallback, TrainingArguments
from transformers.trainer_utils import TrainOutput

from hf_localgan.data.vocabulary import vocabulary_fingerprint
from hf_localgan.hub.citations import DEEP_BOLTZMANN_MACHINES, LOCALGAN
from hf_localgan.hub.objective import Objective
from hf_localgan.models.dbm import DbmModel
from hf_localgan.models.dbm.contrastive_dbm import (
    Chains,
    bottom_loss,
    bottom_means,
    bottom_phases,
    joint_loss,
    joint_phases,
    pair_loss,
    pair_phases,
    top_loss,
    top_phases,
)
from hf_localgan.models.dbm.swap_dbm import swap_loss
from hf_localgan.models.output_head import replaced_forward
from hf_localgan.models.scorers import load_scorer, load_tokenizer
from hf_localgan.trainers.base.checkpoints import CheckpointMixin, damage_explained
from hf_localgan.trainers.base.data_order import DataOrderMixin
from hf_localgan.trainers.base.formatting import FormattingFunction
from hf_localgan.trainers.base.given import GivenRows, settle_rows
from hf_localgan.trainers.base.launching import refuse_several_gpus, refuse_sharding
from hf_localgan.trainers.base.randomness import UpdateRandomness, keyed_seed
from hf_localgan.trainers.base.tracking import TrackingMixin
from hf_localgan.trainers.dbm.config import DbmTrainingConfig
from hf_localgan.trainers.dbm.data import COLUMNS, check_dataset, collate_pairs, fit_scalers, standardised
from hf_localgan.trainers.dbm.divergence import RunningError, Watch
from hf_localgan.trainers.dbm.evaluation import DbmEvaluationMixin, measure_training
from hf_localgan.trainers.dbm.periods import PeriodProgress, has_progress, plan_periods

logger = logging.getLogger(__name__)


def load_energy(
    path_or_id: str | os.PathLike, *, revision: str | None = None, subfolder: str = ""
) -> tuple[DbmModel, PreTrainedTokenizerBase | None]:
    """An energy and its tokenizer, which one over vectors does not have. Arguments and errors as `load_scorer`."""
    place: Any = {"revision": revision, "subfolder": subfolder}
    model = load_scorer(DbmModel, path_or_id, **place)
    return model, None if model.word_vectors is None else load_tokenizer(path_or_id, **place)


class DbmTrainer(DbmEvaluationMixin, TrackingMixin, CheckpointMixin, DataOrderMixin, Trainer):
    """Trains a `DbmModel`: layer by layer, then all layers together (Salakhutdinov & Hinton 2009).

    The periods follow each other by the number of updates: "bottom" (contrastive divergence for the RBM of `[q; r]` and
    `hq`), "top" (the same for the RBM of the means of `hq` and `h`), "joint" (mean field at the data, persistent Gibbs
    chains for the model). Without a top layer there is no top period; a pair of RBMs follows one rule, its own, from
    start to end. The rules are in `models/dbm/contrastive_dbm.py`. An optimizer begins each period without moments.

    Scalers that are not fitted yet are fitted at the start, by one pass over the training data. Logged beside the loss
    (the difference of mean energies that is descended, nats), for the last batch and the chains:

    * `dbm/period`: 0 bottom, 1 top, 2 joint;
    * `dbm/reconstruction`: squared error per dimension of a reconstruction by means; in the top period of `hq`;
    * `dbm/weight_norm_visible`, `dbm/weight_norm_top`: Frobenius norms of both couplings;
    * `dbm/swap_loss` with a `swap_weight`: see `models/dbm/swap_dbm.py`, nats;
    * in joint training `dbm/free_energy_gap` (mean `F~` of the chains less that of the data, nats), `dbm/residual`
      (largest movement of a mean in the last training step of the mean field), `dbm/mean_field_steps` (steps to the
      model's own tolerance) and `dbm/chain_spread` (mean over `hq` of the standard deviation over the chains).

    A run that diverges ends with a `DivergenceError`. The trainer checks for it at every log line and before every
    checkpoint, on one CPU process at every batch. For evaluation see `DbmEvaluationMixin`.

    Args:
        model: a `DbmModel` with parameters in float32 or float64, a folder, or an id on the Hub.
        args (`DbmTrainingConfig`): the settings, by default their defaults.
        data_collator: by default `collate_pairs`, which is faster than `DataCollatorForSeq2Seq` with the same result.
        train_dataset: rows of `input_ids`, `attention_mask` and `labels` (see `encode_pairs`) for a model with word
            vectors, or of `query_features` and `response_features`, vectors of any sentence encoder; map-style or a
            stream; or pairs of text, see `TokenLossTrainer`.
        eval_dataset: the same, or a dictionary of such data sets by name.
        processing_class: the tokenizer, saved with the model; by default that of a model that is given by its name.
        model_init, callbacks, optimizers: as `transformers.Trainer`.
        formatting_func: see `TokenLossTrainer`.
        model_init_kwargs: arguments of `load_scorer` for a model that is given by its name: `revision`, `subfolder`.

    Raises:
        ValueError: for another model or configuration, the energy as printed, and data without these columns.
    """

    objective = Objective(
        "deep Boltzmann machine", "deep-boltzmann-machine",
        "The log-likelihood of the vectors of queries and their responses, layer by layer and then all layers "
        "together.", (DEEP_BOLTZMANN_MACHINES, LOCALGAN),
    )  # fmt: skip
    config_class = DbmTrainingConfig
    role = "energy"
    loader = staticmethod(load_energy)
    measured = frozenset({"free_energy", "reconstruction", "residual", "matching", "center_cosine"})
    args: DbmTrainingConfig
    model: DbmModel

    def __init__(
        self,
        model: DbmModel | str | os.PathLike | None = None,
        args: DbmTrainingConfig | TrainingArguments | None = None,
        data_collator: DataCollator | None = None,
        train_dataset: GivenRows | None = None,
        eval_dataset: GivenRows | dict[str, Dataset] | None = None,
        processing_class: PreTrainedTokenizerBase | None = None,
        model_init: Callable[[], DbmModel] | None = None,
        callbacks: list[TrainerCallback] | None = None,
        optimizers: tuple[torch.optim.Optimizer | None, torch.optim.lr_scheduler.LRScheduler | None] = (None, None),
        *,
        model_init_kwargs: Mapping[str, Any] | None = None,
        formatting_func: FormattingFunction | None = None,
    ):
        settings: DbmTrainingConfig = self.check_args(args)
        model, processing_class = self.load_given(model, processing_class, model_init_kwargs)
        if model_init is None:
            model = _checked_model(model)
        datasets: dict[str, Any] = {"train_dataset": train_dataset, "eval_dataset": eval_dataset}
        for name, dataset in datasets.items():
            datasets[name] = settle_rows(
                name, dataset, processing_class, data_collator, others=True, formatting_func=formatting_func
            )
            check_dataset(name, datasets[name])
        super().__init__(
            model, settings, data_collator=data_collator or collate_pairs, **datasets,
            processing_class=processing_class, model_init=model_init, callbacks=callbacks, optimizers=optimizers,
        )  # fmt: skip
        self._check_parallelism()
        if processing_class is not None:
            self.model.config.vocabulary = vocabulary_fingerprint(processing_class)
        self.model_accepts_loss_kwargs = True  # the Trainer then leaves the scale of the loss to `compute_loss`
        self._watch = self._make_watch()
        self._progress: PeriodProgress | None = None
        self._last_batch: tuple[Tensor, Tensor] | None = None
        self._reconstructed: tuple[Tensor, Tensor] | None = None
        self._swapped: Tensor | None = None
        self._diagnosed: tuple[int, dict[str, float]] = (-1, {})
        self._draws = UpdateRandomness(self)

    def call_model_init(self, trial: Any = None) -> nn.Module:
        model = _checked_model(super().call_model_init(trial))
        tokenizer = getattr(self, "processing_class", None)  # set later than the first model
        if tokenizer is not None:
            model.config.vocabulary = vocabulary_fingerprint(tokenizer)
        return model

    def adopt_settings(self):
        super().adopt_settings()
        self._watch = self._make_watch()

    def _make_watch(self) -> Watch:
        config = self.model.config
        return Watch(self.args, len(self.model.visible_bias) + config.hidden_size + config.top_size)

    def _check_parallelism(self):
        refuse_sharding(self, "needs the whole model on every process")
        refuse_several_gpus(self.args, "with which the chains and the data of an update belong together")
        if self.args.chains % self.args.world_size:
            raise ValueError(
                f"`chains` must be a multiple of the number of processes, got {self.args.chains} and "
                f"{self.args.world_size}."
            )

    @property
    def period(self) -> str | None:
        """Period of the last update, "bottom", "top" or "joint"; `None` before the first update."""
        return None if self._progress is None else self._progress.period

    @property
    def _periods(self) -> PeriodProgress:
        assert self._progress is not None, "training has not begun"
        return self._progress

    def train(
        self,
        resume_from_checkpoint: str | bool | None = None,
        trial: Any = None,
        ignore_keys_for_eval: list[str] | None = None,
    ) -> TrainOutput:
        """As `Trainer.train`; with `final_log_likelihood` the evaluation data are scored at the end."""
        output = super().train(resume_from_checkpoint, trial, ignore_keys_for_eval)
        if self.args.final_log_likelihood and self.eval_dataset is not None:
            datasets = self.eval_dataset if isinstance(self.eval_dataset, dict) else {"": self.eval_dataset}
            for name, dataset in datasets.items():
                prefix = f"eval_{name}" if name else "eval"
                scores = self.log_likelihood(dataset)
                self.log({f"{prefix}_{key}": value for key, value in scores._asdict().items()})
        return output

    # ---- preparation ----

    def fit_scalers(self):
        """Fits the model's scalers on the first `scaler_rows` pairs of the training data, in their order.

        One process makes the pass and sends the statistics to the others.
        """
        if self.args.process_index == 0:
            collate = self._get_collator_with_removed_columns(self.data_collator)
            rows, device = self.args.scaler_rows, self.args.device
            fit_scalers(self.model, self.train_dataset, collate, self.args.per_device_eval_batch_size, rows, device)
        for scaler in (self.model.query_scaler, self.model.response_scaler):
            for values in scaler.buffers():
                values.copy_(broadcast(values, from_process=0))

    def _set_signature_columns_if_needed(self):
        self._signature_columns = list(COLUMNS)  # `query` and `response` may be columns of text

    def get_decay_parameter_names(self, model: nn.Module) -> list[str]:
        return [name for name, parameter in model.named_parameters() if parameter.dim() > 1]

    def create_optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer:
        if not self.args.momentum or self.optimizer_cls_and_kwargs is not None:
            return super().create_optimizer(model)
        settings = {"lr": self.args.learning_rate, "momentum": self.args.momentum}
        self.optimizer_cls_and_kwargs = torch.optim.SGD, settings
        try:
            return super().create_optimizer(model)
        finally:
            self.optimizer_cls_and_kwargs = None  # the next trial of a search has its own

    def _prepare_for_training(self, max_steps, train_dataloader, resume_from_checkpoint):
        scalers = self.model.query_scaler, self.model.response_scaler
        if resume_from_checkpoint is None and not all(scaler.is_fitted for scaler in scalers):
            self.fit_scalers()
        plan = plan_periods(self.model.config, max_steps, self.args.bottom_share, self.args.top_share)
        self._progress = PeriodProgress(plan)
        self._last_batch = self._reconstructed = self._swapped = None
        self._draws.restart()
        self._diagnosed = -1, {}
        self._watch.checkpoint = resume_from_checkpoint
        return super()._prepare_for_training(max_steps, train_dataloader, resume_from_checkpoint)

    def floating_point_ops(self, inputs: dict[str, Any]) -> int:
        return 0  # the Trainer's estimate holds for transformers

    # ---- the loss ----

    def _get_num_items_in_batch(self, batch_samples: list, device) -> Tensor | int | None:
        """Pairs of all accumulated batches, and of all processes."""
        number = sum(_rows(batch) for batch in batch_samples)
        if self.args.average_tokens_across_devices and self.args.world_size > 1:
            return self.accelerator.reduce(torch.tensor(number, device=device), "sum")
        return number

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        """Difference of mean energies that the period descends, nats; accumulated batches count by their pairs."""
        query, response = self._last_batch = standardised(self.model, inputs)
        self._enter_period(query, response)
        loss = self._period_loss(model, query, response)
        if query.device.type == "cpu" and self.args.world_size == 1:
            self._watch.check_energy(self.state.global_step, "the loss", loss.item())
        if num_items_in_batch is None:
            return loss
        loss = loss * (len(query) / num_items_in_batch)
        return loss * self.accelerator.num_processes if self.args.average_tokens_across_devices else loss

    def _period_loss(self, model, query: Tensor, response: Tensor) -> Tensor:
        args, progress, energy, generator = self.args, self._periods, self.model, self._generator(query.device)
        steps = args.contrastive_steps
        if energy.config.energy == "rbm_pair":
            first, second = pair_phases(energy, query, response, steps=steps, generator=generator)
            visible = torch.cat([cast(Tensor, negative.visible) for _, negative in (first, second)])
            self._reconstructed = visible[:, : query.shape[1]], visible[:, query.shape[1] :]
            return self._inside(model, lambda: pair_loss(energy, first, second) + self._swap_loss(query, response))
        if progress.period == "bottom":
            data = torch.cat([query, response], dim=1)
            positive, negative = bottom_phases(energy, data, steps=steps, generator=generator)
            return self._inside(model, lambda: bottom_loss(energy, positive, negative))
        if progress.period == "top":
            hidden = bottom_means(energy, torch.cat([query, response], dim=1), progress.bottom_bias)
            positive, negative = top_phases(energy, hidden, steps=steps, generator=generator)
            return self._inside(model, lambda: top_loss(energy, positive, negative))
        assert progress.chains is not None
        positive, negative, progress.chains = joint_phases(
            energy, query, response, progress.chains, mean_field_steps=args.mean_field_steps,
            gibbs_steps=args.gibbs_steps, generator=generator,
        )  # fmt: skip
        return self._inside(model, lambda: joint_loss(energy, positive, negative) + self._swap_loss(query, response))

    def _swap_loss(self, query: Tensor, response: Tensor) -> Tensor | float:
        if not self.args.swap_weight:
            return 0.0
        loss = swap_loss(self.model, query, response, mean_field_steps=self.args.mean_field_steps)
        self._swapped = loss.detach()
        return self.args.swap_weight * loss

    def _inside(self, model, loss: Callable[[], Tensor]) -> Tensor:
        """The loss inside one call of the wrapped model, so that data parallelism averages its gradient."""
        with replaced_forward(self.model, loss):
            return model()

    def _generator(self, device: torch.device) -> torch.Generator:
        """Random numbers that depend on update, batch and process alone, so that a resumed run draws the same."""
        self._draws.next_batch()
        return self._draws.generator(device)

    # ---- periods ----

    @torch.no_grad()
    def _enter_period(self, query: Tensor, response: Tensor):
        """Makes the first state of a period at its first batch."""
        progress, model = self._periods, self.model
        period = progress.plan.period(self.state.global_step)
        if period == progress.period:
            return
        if progress.period is not None:
            assert self.optimizer is not None
            self.optimizer.state.clear()  # moments of another period's gradients
        if progress.period == "top":
            progress.average_biases(model)
        if period == "top":
            progress.bottom_bias = model.hidden_bias.detach().clone()
            means = bottom_means(model, torch.cat([query, response], dim=1)).mean(dim=0)
            # Biases that give `hq` its means without couplings; clamped, for a batch is a small part of the data.
            means = self.accelerator.reduce(means, "mean").clamp(0.01, 0.99)
            model.hidden_bias.copy_(torch.logit(means))
        if period == "joint" and model.config.energy != "rbm_pair":
            progress.chains = self._first_chains(query, response)
        progress.period, progress.errors = period, RunningError()

    def _first_chains(self, query: Tensor, response: Tensor) -> Chains:
        """Chains that start at the pairs of this batch, which are repeated if there are more chains than pairs."""
        number = self.args.chains // self.args.world_size
        rows = torch.arange(number, device=query.device) % len(query)
        query, response = query[rows], response[rows]
        means = self.model.mean_field(query, response, steps=self.args.mean_field_steps, tolerance=0)
        return Chains(means.hidden.round(), means.top.round())

    # ---- logging ----

    def log(self, logs: dict[str, float], start_time: float | None = None):
        if "loss" in logs:  # a training line, which every process reaches
            self._watch.check_energy(self.state.global_step, "the loss", logs["loss"])
            logs |= self.diagnose()
        super().log(logs, start_time)

    @torch.no_grad()
    def diagnose(self) -> dict[str, float]:
        """Logged numbers of the last batch and the chains, means over all processes, with `dbm/` before each name.

        Raises:
            DivergenceError: if a number is out of the bounds of `args`.
        """
        step = self.state.global_step
        if self._last_batch is None or self._diagnosed[0] == step:
            return self._diagnosed[1]
        progress = self._periods
        states = self._reconstructed
        if progress.chains is not None:
            seed = keyed_seed(self.args.seed, step, self.args.process_index)
            generator = torch.Generator(self.args.device).manual_seed(seed)
            states = progress.chains.visible(self.model, generator)
        tensors = measure_training(self.model, self._last_batch, progress, self.args.mean_field_steps, states)
        if progress.chains is not None:
            all_chains = self.accelerator.gather(progress.chains.hidden)
            tensors["chain_spread"] = all_chains.std(dim=0, correction=0).mean()
        if self._swapped is not None:
            tensors["swap_loss"] = self._swapped
        values = torch.stack([value.to(torch.float32) for value in tensors.values()])
        means = self.accelerator.reduce(values, "mean").tolist()
        measured: dict[str, float] = dict(zip(tensors, means, strict=True))
        pairs = len(self._last_batch[0]) * self.args.world_size
        progress.errors = self._watch.check(step, measured, pairs, progress.errors)
        measured.pop("free_energy", None)  # not comparable between models
        self._diagnosed = step, {f"dbm/{name}": value for name, value in measured.items()}
        return self._diagnosed[1]

    # ---- checkpoints ----

    def _as_joint(self) -> AbstractContextManager[None]:
        """Inside the context, the model is as joint training would begin with it, whatever the period."""
        progress = self._progress or PeriodProgress(plan_periods(self.model.config, 0, 0, 0))
        return progress.averaged(self.model)

    def _save(self, output_dir: str | None = None, state_dict: dict | None = None):
        with self._as_joint():
            super()._save(output_dir, state_dict if self.period != "top" else None)

    def _save_checkpoint(self, model, trial):
        self._watch.check_parameters(self.state.global_step, self.model)
        self.diagnose()
        with self._as_joint():
            super()._save_checkpoint(model, trial)
        self._watch.checkpoint = str(Path(self._get_output_dir(trial)) / f"checkpoint-{self.state.global_step}")

    def _save_rng_state(self, output_dir: str):
        super()._save_rng_state(output_dir)
        self._periods.save(Path(output_dir), self.args.process_index, self.args.world_size)

    def _load_optimizer_and_scheduler(self, checkpoint: str | None):
        super()._load_optimizer_and_scheduler(checkpoint)
        if checkpoint is None or (self._final_checkpoint is not None and not has_progress(Path(checkpoint))):
            return  # a model that was saved alone, with which nothing is left to do
        planned = self._periods.plan
        with damage_explained(checkpoint):
            self._progress = PeriodProgress.load(
                Path(checkpoint), self.model, self.args.process_index, self.args.world_size, self.args.chains
            )
        if self._progress.plan != planned:
            logger.warning(
                "The periods keep the lengths they had when the run began: bottom %d updates, top %d updates.",
                *self._progress.plan,
            )


def _checked_model(model: Any) -> DbmModel:
    if not isinstance(model, DbmModel):
        raise ValueError(f"`model` must be a `DbmModel`, got {type(model).__name__}.")
    if model.config.energy == "printed":
        raise ValueError(
            "Eq. 8 as printed cannot be trained: without the quadratic term the energy falls without end along the "
            'couplings, so there is no distribution to learn. Use `energy="dbm"`.'
        )
    if model.visible_to_hidden.dtype not in (torch.float32, torch.float64):
        raise ValueError(
            f"The model's parameters are {model.visible_to_hidden.dtype}, in which small updates are lost. Load it "
            "with `dtype=torch.float32`; `bf16` in `args` is harmless."
        )
    if model.word_vectors is not None and not model.word_vectors.regular.any():
        raise ValueError("The model's word vectors are empty. Fill them with `model.word_vectors.load(...)` first.")
    return model


def _rows(batch: Mapping[str, Any]) -> int:
    return len(next(value for value in batch.values() if isinstance(value, Tensor)))
