"""Players that learn in turn inside one `Trainer`: a generator and the models beside it."""

import logging
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import torch
from accelerate.utils.memory import clear_device_cache
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from transformers import (
    DataCollator,
    EvalPrediction,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    TrainerCallback,
    TrainingArguments,
    get_scheduler,
)
from transformers.trainer_utils import EvalLoopOutput

from hf_localgan.models.output_head import base_model, replaced_forward
from hf_localgan.models.quantization import GivenQuantization
from hf_localgan.trainers.adversarial.collapse import CollapseGuard
from hf_localgan.trainers.adversarial.config import TwoPlayerConfig
from hf_localgan.trainers.adversarial.monitor import ResponseMonitor
from hf_localgan.trainers.adversarial.parts import freeze_discriminator, freeze_generator
from hf_localgan.trainers.adversarial.players import (
    DISCRIMINATOR,
    GENERATOR,
    PlayerOptimizers,
    PlayerSchedulers,
    without_gradients,
)
from hf_localgan.trainers.base.formatting import FormattingFunction
from hf_localgan.trainers.base.given import GivenModel, GivenRows
from hf_localgan.trainers.base.launching import refuse_sharding
from hf_localgan.trainers.base.randomness import UpdateRandomness
from hf_localgan.trainers.base.token_loss import TokenLossTrainer

if TYPE_CHECKING:
    from peft import PeftConfig

BEAM_ADVICE = (
    "No term sees what stands behind the longest generation in training: set `soft_length_percentile` to 99, lower the "
    "`learning_rate`, or raise `teacher_forcing_weight`."
)

logger = logging.getLogger(__name__)


class TwoPlayerTrainer(TokenLossTrainer):
    """Trains a generator and other players in turn.

    The generator is `self.model`, so that the Trainer saves, generates, pushes and chooses the best model. All other
    models are in `parts`, and in folders of their names in every checkpoint and in the output. Those that
    `args.schedule()` names are players, each with an optimizer and a learning-rate schedule; the others are frozen.
    Each update belongs to one player, which follows from the update's number (`Schedule`).

    A method is a subclass with an `objective`, a `config_class` and `part_roles`. `player_loss` returns a player's loss
    on a batch; `prepare_turn` computes beforehand what has no gradient for the player, such as generations that a
    discriminator compares with references. `token_loss` and `compute_loss` return nats of references; `draws` gives
    random numbers that a resumed run draws again.

    Logged are, as means over a player's updates since the last line, its loss as `loss/PLAYER`, unless `player_loss`
    records that itself, and the norm of its gradient before clipping as `gan/PLAYER_grad_norm`; and the number of
    generator updates so far as `gan/generator_updates`. The Trainer's `loss` is that of whoever's turn it was.

    Args:
        model: an encoder-decoder, or a PEFT model around one.
        args (`TwoPlayerConfig`): the settings.
        parts: the models beside the generator, by the names in `part_roles`.
        monitor: answers validation queries at each evaluation; its scores are added as `eval_...`, and training stops
            when they collapse.
        data_collator, train_dataset, eval_dataset, processing_class and others: as `TokenLossTrainer`.

    Raises:
        ValueError: for parts that do not fit together, parameters sharded over processes, and given `optimizers`.
    """

    config_class = TwoPlayerConfig
    args: TwoPlayerConfig
    lr_scheduler: torch.optim.lr_scheduler.LRScheduler | None  # type: ignore[assignment]  # declared too narrowly

    def __init__(
        self,
        model: GivenModel | None = None,
        args: TwoPlayerConfig | TrainingArguments | None = None,
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
        parts: Mapping[str, PreTrainedModel],
        monitor: ResponseMonitor | None = None,
    ):
        settings: TwoPlayerConfig = self.check_args(args)
        self._check_parts(parts, settings)
        if any(optimizer is not None for optimizer in optimizers):
            raise ValueError(
                "This trainer makes an optimizer for each player. Leave out `optimizers`, and set `optim` and the "
                "learning rates of `args`."
            )
        super().__init__(
            model, settings, data_collator=data_collator, train_dataset=train_dataset, eval_dataset=eval_dataset,
            processing_class=processing_class, model_init=model_init, compute_metrics=compute_metrics,
            callbacks=callbacks, optimizers=optimizers, preprocess_logits_for_metrics=preprocess_logits_for_metrics,
            peft_config=peft_config, model_init_kwargs=model_init_kwargs,
            quantization_config=quantization_config, formatting_func=formatting_func,
        )  # fmt: skip
        refuse_sharding(self, "needs the whole generator on every process, and updates several models")
        self._check_monitor(monitor)
        self.schedule = settings.schedule()
        self.parts = dict(parts)
        for name, part in self.parts.items():
            part.to(settings.device)  # type: ignore[arg-type]  # transformers hides the arguments of torch's method
            if name not in self.schedule.players:
                part.eval().requires_grad_(False)
        self._freeze()
        self._first_parts = self._copied_parts() if model_init is not None else None
        self._wrapped: dict[str, nn.Module] = {}
        self.monitor = monitor
        self.measured |= getattr(monitor, "names", frozenset())
        self.guard = CollapseGuard(settings.collapse_share, settings.collapse_length)
        self.add_callback(self.guard)
        self.current_gradient_accumulation_steps = (
            settings.gradient_accumulation_steps
        )  # the last update may have fewer
        self.draws = UpdateRandomness(self)

    def adopt_settings(self):
        super().adopt_settings()
        self.schedule = self.args.schedule()
        self.guard.share, self.guard.length = self.args.collapse_share, self.args.collapse_length

    @classmethod
    def _check_parts(cls, parts: Mapping[str, PreTrainedModel], args: TwoPlayerConfig):
        if set(parts) != set(cls.part_roles):
            raise ValueError(
                f"`{cls.__name__}` has {', '.join(f'`{name}`' for name in cls.part_roles)} beside the generator, got "
                f"{', '.join(f'`{name}`' for name in parts) or 'nothing'}."
            )
        unknown = [name for name in args.schedule().players if name not in (GENERATOR, *cls.part_roles)]
        if unknown:
            raise ValueError(
                f"The schedule names the player `{unknown[0]}`, but `{cls.__name__}` has no such part. Add it to "
                "`part_roles`, or leave it out of the schedule."
            )

    def _check_monitor(self, monitor: ResponseMonitor | None):
        if self.args.metric_for_best_model in ("quality", "eval_quality") and not getattr(
            monitor, "scores_relevance", False
        ):
            raise ValueError(
                "`load_best_model_at_end` chooses by `eval_quality`, which needs a `monitor` with word vectors: "
                "`ResponseMonitor(queries, references, tokenizer, vectors)`. Or set `metric_for_best_model`."
            )
        if monitor is not None and isinstance(self.eval_dataset, dict):
            raise ValueError(
                f"`eval_dataset` has {len(self.eval_dataset)} splits ({', '.join(self.eval_dataset)}), and the scores "
                "of `monitor` belong to one evaluation. Give one split, and measure the others by `evaluate`."
            )

    def _freeze(self):
        """Freezes the layers that `generator_parts` and `discriminator_parts` leave out."""
        freeze_generator(self.base_model, self.args.generator_parts)
        if DISCRIMINATOR in self.players:
            freeze_discriminator(self.discriminator, self.args.discriminator_parts)

    @property
    def base_model(self) -> PreTrainedModel:
        """The generator without its adapters' wrapper."""
        return base_model(self.model)

    @property
    def discriminator(self) -> PreTrainedModel:
        """The part of this name, for methods that have one."""
        return self.parts[DISCRIMINATOR]

    # ---- turns ----

    @property
    def players(self) -> dict[str, PreTrainedModel]:
        """The models that learn, by name, the generator among them."""
        return {GENERATOR: self.model} | {
            name: part for name, part in self.parts.items() if name in self.schedule.players
        }

    @property
    def player(self) -> str:
        """Name of the next update's player."""
        return self.schedule.player(self.state.global_step)

    def create_optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer:
        if self.optimizer is not None:  # `train` is called again
            return self.optimizer
        optimizers = {GENERATOR: super().create_optimizer(model)}
        for name, part in self.players.items():
            if name != GENERATOR:
                optimizers[name] = self._part_optimizer(part, self.args.player_learning_rate(name))
        self.optimizer = PlayerOptimizers(optimizers)
        return self.optimizer

    def _part_optimizer(self, part: PreTrainedModel, learning_rate: float) -> torch.optim.Optimizer:
        optimizer_class, settings = self.get_optimizer_cls_and_kwargs(self.args, part)
        decayed = set(self.get_decay_parameter_names(part))
        groups = [
            {
                "params": [
                    parameter
                    for name, parameter in part.named_parameters()
                    if parameter.requires_grad and (name in decayed) == decays
                ],
                "weight_decay": self.args.weight_decay if decays else 0.0,
            }
            for decays in (True, False)
        ]
        return optimizer_class(groups, **{**settings, "lr": learning_rate})

    def create_scheduler(
        self, num_training_steps: int, optimizer: torch.optim.Optimizer | None = None
    ) -> torch.optim.lr_scheduler.LRScheduler:
        if self.lr_scheduler is not None:
            return self.lr_scheduler
        players, args = self._optimizers(optimizer), self.args
        assert not isinstance(args.lr_scheduler_kwargs, str)  # `TrainingArguments` has parsed a text
        updates = self.schedule.updates(num_training_steps)
        idle = [name for name, number in updates.items() if not number]
        if idle:
            logger.warning(
                f"The {' and the '.join(idle)} will not learn: training ends after {num_training_steps} updates of all "
                f"players, of which the warm-up takes {sum(number for _, number in self.schedule.warmup)}. Raise "
                "`max_steps` (or `num_train_epochs`), or shorten the warm-up."
            )
        updates = {name: max(1, number) for name, number in updates.items()}  # some schedules divide by it
        schedulers = {
            name: get_scheduler(
                args.lr_scheduler_type, optimizer=player_optimizer, num_training_steps=updates[name],
                num_warmup_steps=args.get_warmup_steps(updates[name]),
                scheduler_specific_kwargs=args.lr_scheduler_kwargs,
            )
            for name, player_optimizer in players.optimizers.items()
        }  # fmt: skip
        self.lr_scheduler = PlayerSchedulers(schedulers, players)
        self._created_lr_scheduler = True
        return self.lr_scheduler

    def _optimizers(self, optimizer: torch.optim.Optimizer | None = None) -> PlayerOptimizers:
        wrapped: Any = self.optimizer if optimizer is None else optimizer
        return getattr(wrapped, "optimizer", wrapped)  # accelerate's wrapper holds it

    def _prepare_for_training(self, *args: Any, **kwargs: Any) -> Any:
        self._freeze()  # `model_init` may have made a new generator
        prepared = super()._prepare_for_training(*args, **kwargs)
        for name, part in self.players.items():
            if name != GENERATOR and name not in self._wrapped:
                self._wrapped[name] = self.accelerator.prepare_model(part)
        self.draws.restart()
        return prepared

    # ---- trials ----

    def _copied_parts(self) -> dict[str, dict[str, Tensor]]:
        return {
            name: {key: value.detach().cpu().clone() for key, value in part.state_dict().items()}
            for name, part in self.players.items()
            if name != GENERATOR
        }

    def call_model_init(self, trial: Any = None) -> nn.Module:
        """A new generator for a new training; the parts get back the parameters that they were given with."""
        for name, state in (getattr(self, "_first_parts", None) or {}).items():
            self.parts[name].load_state_dict(state)
        return super().call_model_init(trial)

    # ---- an update ----

    def training_step(
        self, model: nn.Module, inputs: dict[str, Any], num_items_in_batch: Tensor | int | None = None
    ) -> Tensor:
        model.train()
        for learner in self.players.values():
            learner.train()
        inputs = self._prepare_inputs(inputs)
        if inputs.get("labels") is None:
            raise ValueError(
                "The batch has no `labels`. Make the data set by `encode_pairs`, and let a collator pad it."
            )
        self.draws.next_batch()
        player = self._optimizers().active = self.player
        # accelerate puts only the model's own call under autocast, and the encoder is called by itself.
        with self.compute_loss_context_manager(), self.accelerator.autocast():
            loss = self._take_turn(player, model, inputs, num_items_in_batch)
        pause = self.args.torch_empty_cache_steps
        if pause is not None and self.state.global_step % pause == 0:
            clear_device_cache()
        self.accelerator.backward(loss)
        # The Trainer adds up what the batches of an update return.
        return loss.detach()

    def _take_turn(
        self, player: str, model: nn.Module, inputs: dict[str, Any], num_items_in_batch: Tensor | int | None
    ) -> Tensor:
        """Computes the player's loss inside one call of its wrapped model.

        Data parallelism averages over the processes only gradients of what is computed inside that call.
        """
        prepared = self.prepare_turn(player, inputs)
        learner = self.players[player]
        others = [part for name, part in self.players.items() if name not in (player, GENERATOR)]
        forward = learner.forward
        name = f"loss/{player}"

        def loss() -> Tensor:
            recorded = self._terms.get(name)
            with replaced_forward(learner, forward):
                share = self.player_loss(player, inputs, prepared, num_items_in_batch)
            if self._terms.get(name) is recorded:  # a method may record it itself
                self.record(**{name: share * self.current_gradient_accumulation_steps})
            return share

        wrapped = self._active(model)
        with replaced_forward(learner, loss), without_gradients(*others):
            if player == GENERATOR or self.accelerator.sync_gradients:
                return wrapped()
            with self.accelerator.no_sync(wrapped):
                return wrapped()

    # ---- what a method defines ----

    def prepare_turn(self, player: str, inputs: dict[str, Any]) -> Any:
        """Computes what a player's loss needs from the other players, outside of its own call. By default nothing.

        Args:
            player: name of the player.
            inputs: the batch, with `labels`.

        Returns:
            Any value; `player_loss` gets it as `prepared`.
        """

    def player_loss(
        self, player: str, inputs: dict[str, Any], prepared: Any, num_items_in_batch: Tensor | int | None = None
    ) -> Tensor:
        """The batch's share of a player's loss in an update, a scalar.

        A mean over examples must be divided by `current_gradient_accumulation_steps`. `compute_loss` returns nats per
        token of references that are already divided.

        Args:
            player: name of the player.
            inputs: the batch, with `labels`.
            prepared: the value that `prepare_turn` returned.
            num_items_in_batch: number of labels of the whole update, for `compute_loss`.
        """
        raise NotImplementedError

    # ---- gradients, log lines, evaluation ----

    def _active(self, model: nn.Module) -> nn.Module:
        return model if self.player == GENERATOR else self._wrapped[self.player]

    def _clip_grad_norm(self, model: nn.Module) -> Any:
        return super()._clip_grad_norm(self._active(model))

    def _get_grad_norm(self, model: nn.Module, grad_norm: Any = None) -> Any:
        norm = super()._get_grad_norm(self._active(model), grad_norm=grad_norm)
        self.record(**{f"gan/{self.player}_grad_norm": torch.as_tensor(norm, device=self.args.device)})
        return norm

    def log(self, logs: dict[str, float], start_time: float | None = None):
        if "loss" in logs:
            logs["gan/generator_updates"] = self.schedule.updates(self.state.global_step)[GENERATOR]
        super().log(logs, start_time)

    def evaluation_loop(
        self,
        dataloader: DataLoader,
        description: str,
        prediction_loss_only: bool | None = None,
        ignore_keys: list[str] | None = None,
        metric_key_prefix: str = "eval",
    ) -> EvalLoopOutput:
        output = super().evaluation_loop(dataloader, description, prediction_loss_only, ignore_keys, metric_key_prefix)
        if self.monitor is not None and metric_key_prefix == "eval":
            assert output.metrics is not None
            scores = self.monitor.measure_once(self.accelerator.unwrap_model(self.model), self.accelerator)
            output.metrics.update({f"eval_{name}": value for name, value in scores.items()})
            if self.is_world_process_zero():
                self._warn_of_beams(scores)
        return output

    def _warn_of_beams(self, scores: Mapping[str, float]):
        """Warns where beams have broken down; greedy answers, which choose the best model, do not show it."""
        share = self.args.beam_fault_share
        repetition = scores.get("beam_repetition", 0.0)
        usual = getattr(self.monitor, "reference_repetition", 0.0)
        if scores.get("beam_long", 0.0) > share:
            logger.warning(
                f"Step {self.state.global_step}: {scores['beam_long']:.0%} of the beam search's answers are longer "
                f"than 99 % of the references ({scores['beam_length']:.3g} words on average). {BEAM_ADVICE}"
            )
        if repetition > usual + share:
            logger.warning(
                f"Step {self.state.global_step}: {repetition:.0%} of the beam search's answers have a trigram twice, "
                f"of the references {usual:.0%}. {BEAM_ADVICE}"
            )

    def _load_callback_state(self):
        super()._load_callback_state()  # with `restore_callback_states_from_checkpoint` callbacks are made anew
        guards = (callback for callback in self.callback_handler.callbacks if isinstance(callback, CollapseGuard))
        self.guard = next(guards)
