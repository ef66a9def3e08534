"""Players that learn in turn inside one `Trainer`: a generator, and what stands beside it."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset, IterableDataset
from transformers import (
    DataCollator,
    EvalPrediction,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    TrainerCallback,
    get_scheduler,
)

from hf_localgan.trainers.adversarial.collapse import CollapseGuard
from hf_localgan.trainers.adversarial.config import TwoPlayerConfig
from hf_localgan.trainers.adversarial.monitor import ResponseMonitor
from hf_localgan.trainers.adversarial.parts import freeze_discriminator, freeze_generator
from hf_localgan.trainers.adversarial.players import (
    GENERATOR,
    PlayerOptimizers,
    PlayerSchedulers,
    without_gradients,
)
from hf_localgan.trainers.base.launching import refuse_sharding
from hf_localgan.trainers.base.output_head import replaced_forward
from hf_localgan.trainers.base.randomness import UpdateRandomness
from hf_localgan.trainers.base.token_loss import TokenLossTrainer


class TwoPlayerTrainer(TokenLossTrainer):
    """Trains a generator and other players in turn.

    The generator is `self.model`, so that saving, generating, pushing and choosing the best model are the Trainer's.
    Every other model stands beside it in `parts`, and in a folder of its name in every checkpoint and in the output.
    Those that `args.schedule()` names are players: each has an optimizer and a schedule of its learning rate. The
    others are frozen. One update belongs to one player, as its number says (`Schedule`).

    A method is a subclass with an `objective`, a `config_class` and `part_roles`. It says in `player_loss` what each
    player minimises on a batch, and in `prepare_turn` what is computed before, without a gradient for the player:
    generations that a discriminator is to tell from responses, say. `token_loss` and `compute_loss` give the nats of
    references; `draws` gives random numbers that a resumed run draws again.

    Logged are, over the updates of a player since the last line, the norm of its gradient before clipping as
    `gan/PLAYER_grad_norm`, and the number of generator updates so far as `gan/generator_updates`.

    Args:
        model: an encoder-decoder, or a PEFT model around one.
        args (`TwoPlayerConfig`): the settings.
        parts: the models beside it, by the names that `part_roles` says.
        monitor: answers validation queries at each evaluation; its scores are added as `eval_...`, and training stops
            when they collapse.
        data_collator, train_dataset, eval_dataset, processing_class and others: as `TokenLossTrainer`.

    Raises:
        ValueError: for parts that do not fit together, parameters sharded over processes, and other optimizers.
    """

    config_class = TwoPlayerConfig

    def __init__(
        self,
        model: PreTrainedModel | nn.Module | None = None,
        args: TwoPlayerConfig | None = None,
        data_collator: DataCollator | None = None,
        train_dataset: Dataset | IterableDataset | None = None,
        eval_dataset: Dataset | dict[str, Dataset] | None = None,
        processing_class: PreTrainedTokenizerBase | None = None,
        model_init: Callable[[], PreTrainedModel] | None = None,
        compute_metrics: Callable[[EvalPrediction], dict[str, float]] | None = None,
        callbacks: list[TrainerCallback] | None = None,
        optimizers: tuple[torch.optim.Optimizer | None, torch.optim.lr_scheduler.LRScheduler | None] = (None, None),
        preprocess_logits_for_metrics: Callable[[Tensor, Tensor], Tensor] | None = None,
        *,
        parts: Mapping[str, PreTrainedModel],
        monitor: ResponseMonitor | None = None,
    ):
        self.check_args(args)
        self._check_parts(parts, args)
        if any(optimizer is not None for optimizer in optimizers):
            raise ValueError(
                "Each player needs an optimizer, which this trainer makes. Leave out `optimizers`, and choose by "
                "`optim` and the learning rates of `args`."
            )
        super().__init__(
            model, args, data_collator=data_collator, train_dataset=train_dataset, eval_dataset=eval_dataset,
            processing_class=processing_class, model_init=model_init, compute_metrics=compute_metrics,
            callbacks=callbacks, optimizers=optimizers, preprocess_logits_for_metrics=preprocess_logits_for_metrics,
        )  # fmt: skip
        refuse_sharding(self, "needs the whole generator on every process, and updates several models")
        self._check_monitor(monitor)
        self.schedule = args.schedule()
        self.parts = {name: part.to(args.device) for name, part in parts.items()}
        for name, part in self.parts.items():
            if name not in self.schedule.players:
                part.eval().requires_grad_(False)
        self._freeze()
        self._first_parts = self._copied_parts() if model_init is not None else None
        self._wrapped: dict[str, nn.Module] = {}
        self.monitor = monitor
        self.guard = CollapseGuard(args.collapse_share, args.collapse_length)
        self.add_callback(self.guard)
        self.current_gradient_accumulation_steps = args.gradient_accumulation_steps  # the last update may have fewer
        self.draws = UpdateRandomness(self)

    @classmethod
    def _check_parts(cls, parts: Mapping[str, nn.Module], args: TwoPlayerConfig):
        if set(parts) != set(cls.part_roles):
            raise ValueError(
                f"`{cls.__name__}` has {', '.join(f'`{name}`' for name in cls.part_roles)} beside the generator, got "
                f"{', '.join(f'`{name}`' for name in parts) or 'nothing'}."
            )
        unknown = [name for name in args.schedule().players if name not in (GENERATOR, *cls.part_roles)]
        if unknown:
            raise ValueError(f"The schedule names the player `{unknown[0]}`, and `{cls.__name__}` has no such part.")

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
                "of `monitor` belong to one evaluation. Give one of them, and look at the others by `evaluate`."
            )

    def _freeze(self):
        """Takes from learning what `generator_parts` and `discriminator_parts` leave out."""
        freeze_generator(self.base_model, self.args.generator_parts)
        if "discriminator" in self.players:
            freeze_discriminator(self.discriminator, self.args.discriminator_parts)

    @property
    def base_model(self) -> nn.Module:
        """The generator without its adapters' wrapper."""
        return self.model.get_base_model() if hasattr(self.model, "get_base_model") else self.model

    @property
    def discriminator(self) -> PreTrainedModel:
        return self.parts["discriminator"]

    # ---- whose turn it is ----

    @property
    def players(self) -> dict[str, nn.Module]:
        """The models that learn, by name, the generator among them."""
        return {GENERATOR: self.model} | {
            name: part for name, part in self.parts.items() if name in self.schedule.players
        }

    @property
    def player(self) -> str:
        """The player that the next update belongs to."""
        return self.schedule.player(self.state.global_step)

    def create_optimizer(self, model=None):
        if self.optimizer is not None:  # `train` is called again
            return self.optimizer
        super().create_optimizer(model)
        optimizers = {GENERATOR: self.optimizer}
        for name, part in self.players.items():
            if name != GENERATOR:
                optimizers[name] = self._optimizer_of(part, self.args.learning_rate_of(name))
        self.optimizer = PlayerOptimizers(optimizers)
        return self.optimizer

    def _optimizer_of(self, part: nn.Module, learning_rate: float) -> torch.optim.Optimizer:
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

    def create_scheduler(self, num_training_steps: int, optimizer=None):
        if self.lr_scheduler is not None:
            return self.lr_scheduler
        players = self._optimizers(optimizer)
        # Some schedules divide by the number of updates.
        updates = {name: max(1, number) for name, number in self.schedule.updates(num_training_steps).items()}
        schedulers = {
            name: get_scheduler(
                self.args.lr_scheduler_type, optimizer=own, num_warmup_steps=self.args.get_warmup_steps(updates[name]),
                num_training_steps=updates[name], scheduler_specific_kwargs=self.args.lr_scheduler_kwargs,
            )
            for name, own in players.optimizers.items()
        }  # fmt: skip
        self.lr_scheduler = PlayerSchedulers(schedulers, players)
        self._created_lr_scheduler = True
        return self.lr_scheduler

    def _optimizers(self, optimizer=None) -> PlayerOptimizers:
        optimizer = self.optimizer if optimizer is None else optimizer
        return getattr(optimizer, "optimizer", optimizer)  # accelerate wraps it

    def _prepare_for_training(self, *args, **kwargs):
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

    def call_model_init(self, trial=None):
        """A new generator for a new training; the parts begin again, too, as they were given."""
        for name, state in (getattr(self, "_first_parts", None) or {}).items():
            self.parts[name].load_state_dict(state)
        return super().call_model_init(trial)

    # ---- an update ----

    def training_step(self, model, inputs, num_items_in_batch=None) -> Tensor:
        model.train()
        for player in self.players.values():
            player.train()
        inputs = self._prepare_inputs(inputs)
        if inputs.get("labels") is None:
            raise ValueError(
                "The batch has no `labels`. Make the data set by `encode_pairs`, and let a collator pad it."
            )
        self.draws.next_batch()
        player = self._optimizers().active = self.player
        # The model's own call is the only one that accelerate puts under autocast; the encoder is called by itself.
        with self.compute_loss_context_manager(), self.accelerator.autocast():
            loss = self._take_turn(player, model, inputs, num_items_in_batch)
        self.accelerator.backward(loss)
        # The Trainer adds up what the batches of an update return.
        return loss.detach()

    def _take_turn(self, player: str, model: nn.Module, inputs: dict[str, Any], num_items_in_batch) -> Tensor:
        """Everything that the player does runs inside one call of its wrapped model.

        Data parallelism averages the gradients of what is computed in there, and of nothing else.
        """
        prepared = self.prepare_turn(player, inputs)
        own = self.players[player]
        others = [part for name, part in self.players.items() if name not in (player, GENERATOR)]
        forward = own.forward

        def loss() -> Tensor:
            with replaced_forward(own, forward):
                return self.player_loss(player, inputs, prepared, num_items_in_batch)

        wrapped = self._active(model)
        with replaced_forward(own, loss), without_gradients(*others):
            if player == GENERATOR or self.accelerator.sync_gradients:
                return wrapped()
            with self.accelerator.no_sync(wrapped):
                return wrapped()

    # ---- what a method says ----

    def prepare_turn(self, player: str, inputs: dict[str, Any]) -> Any:
        """What a player's loss needs of the other players, made outside of its own call. By default nothing.

        Args:
            player: whose turn it is.
            inputs: the batch, with `labels`.
        """

    def player_loss(self, player: str, inputs: dict[str, Any], prepared: Any, num_items_in_batch=None) -> Tensor:
        """What a player minimises on a batch, its share of the update's: a scalar.

        A mean over examples is divided by `current_gradient_accumulation_steps`; nats per token of references, as
        `compute_loss` gives them, are divided already.

        Args:
            player: whose turn it is.
            inputs: the batch, with `labels`.
            prepared: what `prepare_turn` returned.
            num_items_in_batch: labels of the whole update, for `compute_loss`.
        """
        raise NotImplementedError

    # ---- gradients, log lines, evaluation ----

    def _active(self, model) -> nn.Module:
        return model if self.player == GENERATOR else self._wrapped[self.player]

    def _clip_grad_norm(self, model):
        return super()._clip_grad_norm(self._active(model))

    def _get_grad_norm(self, model, grad_norm=None):
        norm = super()._get_grad_norm(self._active(model), grad_norm=grad_norm)
        self.record(**{f"gan/{self.player}_grad_norm": torch.as_tensor(norm, device=self.args.device)})
        return norm

    def log(self, logs: dict[str, float], start_time: float | None = None):
        if "loss" in logs:
            logs["gan/generator_updates"] = self.schedule.updates(self.state.global_step)[GENERATOR]
        super().log(logs, start_time)

    def evaluation_loop(self, *args, metric_key_prefix: str = "eval", **kwargs):
        output = super().evaluation_loop(*args, metric_key_prefix=metric_key_prefix, **kwargs)
        if self.monitor is not None and metric_key_prefix == "eval":
            scores = self.monitor.measure_once(self.accelerator.unwrap_model(self.model), self.accelerator)
            output.metrics.update({f"eval_{name}": value for name, value in scores.items()})
        return output

    def _load_callback_state(self):
        super()._load_callback_state()  # with `restore_callback_states_from_checkpoint` callbacks are made anew
        guards = (callback for callback in self.callback_handler.callbacks if isinstance(callback, CollapseGuard))
        self.guard = next(guards)
