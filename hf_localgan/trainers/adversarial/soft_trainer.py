"""What trainers of a generator against a discriminator share: two players in one `Trainer`."""

from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import get_scheduler

from hf_localgan.data.padding import PADDING
from hf_localgan.data.vocabulary import check_same_vocabulary
from hf_localgan.decoding.soft_rollout import SoftRollout, check_rollout, decoder_embeddings, soft_rollout
from hf_localgan.functional.adversarial import accuracies
from hf_localgan.models.discriminator import PairDiscriminator
from hf_localgan.trainers.adversarial.collapse import CollapseGuard
from hf_localgan.trainers.adversarial.monitor import ResponseMonitor
from hf_localgan.trainers.adversarial.players import (
    DISCRIMINATOR,
    GENERATOR,
    GanOptimizer,
    GanScheduler,
    phase_of_step,
    updates_until,
    without_gradients,
)
from hf_localgan.trainers.base.checkpoints import told_if_damaged
from hf_localgan.trainers.base.output_head import replaced_forward
from hf_localgan.trainers.base.token_loss import TokenLossTrainer
from hf_localgan.trainers.matching.mismatches import draw_mismatches


class GanTrainer(TokenLossTrainer):
    """Trains a generator and a discriminator in turn.

    The generator is `self.model`, so that saving, generating, pushing and choosing the best model are the Trainer's;
    the discriminator stands beside it, in `discriminator/` of every checkpoint and of the output. One update belongs
    to one player, as its number says (`phase_of_step`). A generation is a rollout with a gradient (`soft_rollout`) with
    the generator in training mode, drawn from the seed, the update, the batch and the process alone, so that a resumed
    run draws the same.

    Subclasses say what the players minimise: `generator_terms` and `discriminator_terms`. The trainer adds
    `teacher_forcing_weight` times the nats per token of the references to the generator's. Logged are, over the updates
    of the player since the last line, `loss/generator`, `loss/adversarial`, `loss/teacher_forcing`,
    `loss/discriminator`, `gan/real_accuracy`, `gan/fake_accuracy`, `gan/mismatched_accuracy`, `gan/soft_length` (in
    tokens) and both gradient norms before clipping; and the number of generator updates so far.

    Args:
        model: an encoder-decoder that takes `decoder_inputs_embeds`, or a PEFT model around one.
        args (`GanConfig`): the settings.
        discriminator: a `PairDiscriminator` of the same tokenizer.
        monitor: answers validation queries at each evaluation; its scores are added as `eval_...`, and training stops
            when they collapse.
        kwargs: as `MleTrainer`.

    Raises:
        ValueError: for parts that do not fit together, parameters sharded over processes, and other optimizers.
    """

    def __init__(self, model=None, args=None, *, discriminator=None, monitor: ResponseMonitor | None = None, **kwargs):
        if not hasattr(args, "discriminator_steps"):
            raise ValueError(
                f"`args` must be a configuration of two players, such as `LocalGanConfig`, got {type(args).__name__}."
            )
        if not isinstance(discriminator, PairDiscriminator):
            raise ValueError(f"`discriminator` must be a `PairDiscriminator`, got {type(discriminator).__name__}.")
        if any(one is not None for one in kwargs.get("optimizers", (None, None))):
            raise ValueError("Two players need two optimizers, which this trainer makes. Leave out `optimizers`.")
        super().__init__(model, args, **kwargs)
        if self.is_fsdp_enabled or self.is_deepspeed_enabled:
            raise ValueError(
                f"`{type(self).__name__}` rolls the whole generator out on every process and updates two models, but "
                "FSDP and DeepSpeed spread the parameters of one. Train with plain data parallelism."
            )
        base = self._base_model()
        check_rollout(base)
        self._vocab_size = decoder_embeddings(base).weight.shape[0]
        if discriminator.config.body == "cnn" and discriminator.config.eos_token_id is None:
            raise ValueError(
                "The discriminator's `eos_token_id` is None, so that it would tell references from generations by the "
                "end token, which generations are given without. Set `eos_token_id`, `bos_token_id` and "
                "`pad_token_id` of its configuration to the tokenizer's."
            )
        check_same_vocabulary("discriminator", discriminator.config, self._vocab_size, self.processing_class)
        if args.metric_for_best_model in ("quality", "eval_quality") and not getattr(
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
        self.discriminator = discriminator.to(args.device)
        self._wrapped_discriminator: nn.Module | None = None
        self.monitor = monitor
        self.guard = CollapseGuard(args.collapse_share, args.collapse_length)
        self.add_callback(self.guard)
        _freeze_parts(base, discriminator, args)
        self.current_gradient_accumulation_steps = args.gradient_accumulation_steps  # the last update may have fewer
        self._update, self._batch_of_update = -1, 0

    def _base_model(self) -> nn.Module:
        return self.model.get_base_model() if hasattr(self.model, "get_base_model") else self.model

    # ---- whose turn it is ----

    @property
    def phase(self) -> str:
        """The player that the next update belongs to."""
        return phase_of_step(self.state.global_step, *self._cycle())

    def _cycle(self) -> tuple[int, int, int]:
        return self.args.discriminator_warmup_steps, self.args.discriminator_steps, self.args.generator_steps

    def create_optimizer(self, model=None):
        if self.optimizer is not None:  # `train` is called again
            return self.optimizer
        super().create_optimizer(model)
        kind, settings = self.get_optimizer_cls_and_kwargs(self.args, self.discriminator)
        decayed = set(self.get_decay_parameter_names(self.discriminator))
        groups = [
            {
                "params": [
                    parameter
                    for name, parameter in self.discriminator.named_parameters()
                    if parameter.requires_grad and (name in decayed) == decays
                ],
                "weight_decay": self.args.weight_decay if decays else 0.0,
            }
            for decays in (True, False)
        ]
        discriminator = kind(groups, **{**settings, "lr": self.args.discriminator_learning_rate})
        self.optimizer = GanOptimizer({GENERATOR: self.optimizer, DISCRIMINATOR: discriminator})
        return self.optimizer

    def create_scheduler(self, num_training_steps: int, optimizer=None):
        if self.lr_scheduler is not None:
            return self.lr_scheduler
        players = self._players(optimizer)
        updates = updates_until(num_training_steps, *self._cycle())
        updates = {name: max(1, number) for name, number in updates.items()}  # some schedules divide by it
        schedulers = {
            name: get_scheduler(
                self.args.lr_scheduler_type, optimizer=one, num_warmup_steps=self.args.get_warmup_steps(updates[name]),
                num_training_steps=updates[name], scheduler_specific_kwargs=self.args.lr_scheduler_kwargs,
            )
            for name, one in players.optimizers.items()
        }  # fmt: skip
        self.lr_scheduler = GanScheduler(schedulers, players)
        self._created_lr_scheduler = True
        return self.lr_scheduler

    def _players(self, optimizer=None) -> GanOptimizer:
        optimizer = self.optimizer if optimizer is None else optimizer
        return getattr(optimizer, "optimizer", optimizer)  # accelerate wraps it

    def _prepare_for_training(self, *args, **kwargs):
        prepared = super()._prepare_for_training(*args, **kwargs)
        if self._wrapped_discriminator is None:
            self._wrapped_discriminator = self.accelerator.prepare_model(self.discriminator)
        self._update = -1  # a second training draws as the first
        return prepared

    # ---- an update ----

    def training_step(self, model, inputs, num_items_in_batch=None) -> Tensor:
        model.train()
        self.discriminator.train()
        inputs = self._prepare_inputs(inputs)
        if inputs.get("labels") is None:
            raise ValueError(
                "The batch has no `labels`. Make the data set by `encode_pairs`, and let a collator pad it."
            )
        if self._update != self.state.global_step:
            self._update, self._batch_of_update = self.state.global_step, 0
        player = self._players().active = self.phase
        step = self._generator_step if player == GENERATOR else self._discriminator_step
        # The model's own call is the only one that accelerate puts under autocast; the encoder is called by itself.
        with self.compute_loss_context_manager(), self.accelerator.autocast():
            loss = step(model, inputs, num_items_in_batch)
        self._batch_of_update += 1
        self.accelerator.backward(loss)
        # The Trainer adds up what the batches of an update return.
        return loss.detach()

    def _generator_step(self, model, inputs: dict, num_items_in_batch) -> Tensor:
        """Everything that the generator does runs inside one call of the wrapped model.

        Data parallelism averages the gradients of what is computed in there, and of nothing else.
        """
        if self.args.teacher_forcing_weight:
            self._head_is_separable(self._without_labels(inputs))  # tried once, on a small batch of this kind
        forward = self.model.forward

        def objective() -> Tensor:
            with replaced_forward(self.model, forward):
                return self.generator_objective(inputs, num_items_in_batch)

        with replaced_forward(self.model, objective), without_gradients(self.discriminator):
            return model()

    def generator_objective(self, inputs: dict, num_items_in_batch=None) -> Tensor:
        """What the generator minimises on a batch, its share of the update's: a scalar in nats."""
        batch = {name: inputs[name] for name in ("input_ids", "attention_mask") if inputs.get(name) is not None}
        encoder_outputs = self._base_model().get_encoder()(**batch, return_dict=True)
        rollout = self.roll_out(inputs, encoder_outputs)
        terms = self.generator_terms(inputs, rollout, self.places(rollout, inputs["labels"]))
        loss = terms.mean() / self.current_gradient_accumulation_steps
        if self.args.teacher_forcing_weight:
            # The rollout's encoder pass serves here as well.
            forced = {"encoder_outputs": encoder_outputs, "labels": inputs["labels"]}
            if "attention_mask" in batch:
                forced["attention_mask"] = batch["attention_mask"]
            nats = self.compute_loss(self.model, forced, num_items_in_batch=num_items_in_batch)
            loss = loss + self.args.teacher_forcing_weight * nats
            self.record(**{"loss/teacher_forcing": nats * self.current_gradient_accumulation_steps})
        self.record(
            **{"loss/generator": loss * self.current_gradient_accumulation_steps, "gan/soft_length": rollout.lengths}
        )
        return loss

    def _discriminator_step(self, model, inputs: dict, num_items_in_batch) -> Tensor:
        with torch.no_grad():
            rollout = self.roll_out(inputs)
        forward = self.discriminator.forward

        def objective() -> Tensor:
            with replaced_forward(self.discriminator, forward):
                return self.discriminator_objective(inputs, rollout)

        wrapped = self._wrapped_discriminator
        with replaced_forward(self.discriminator, objective):
            if self.accelerator.sync_gradients:
                return wrapped()
            with self.accelerator.no_sync(wrapped):
                return wrapped()

    def discriminator_objective(self, inputs: dict, rollout: SoftRollout) -> Tensor:
        """What the discriminator minimises on a batch, its share of the update's: a scalar."""
        discriminator, labels = self.discriminator, inputs["labels"]
        query = discriminator.query_features(inputs["input_ids"], inputs.get("attention_mask"))
        real = discriminator.response_features(labels)
        fake = self.generation_features(rollout, self.places(rollout, labels))
        real_logits, fake_logits = (discriminator.score(query, some).float() for some in (real, fake))
        mismatched = None
        if self.args.mismatched_weight and len(labels) > 1:
            rows, found = self._mismatches(inputs)
            mismatched = discriminator.score(query[found], real[rows[found, 0]]).float()
            mismatched = mismatched if len(mismatched) else None
        loss = self.discriminator_terms(real_logits, fake_logits, mismatched)
        real_accuracy, fake_accuracy = accuracies(real_logits, fake_logits)
        told = {"loss/discriminator": loss, "gan/real_accuracy": real_accuracy, "gan/fake_accuracy": fake_accuracy}
        if self.args.mismatched_weight:
            told["gan/mismatched_accuracy"] = (
                real_accuracy.new_tensor(0.5) if mismatched is None else ((mismatched < 0).float().mean())
            )
        self.record(**told)
        return loss / self.current_gradient_accumulation_steps

    # ---- what subclasses say ----

    def generator_terms(self, inputs: dict, rollout: SoftRollout, places: Tensor) -> Tensor:
        """The generator's objective without teacher forcing, nats, shape `(batch,)`.

        Args:
            inputs: the batch.
            rollout: generations to its queries, with a gradient.
            places: how much each place of a generation counts, shape `(batch, time)`.
        """
        raise NotImplementedError

    def discriminator_terms(self, real: Tensor, fake: Tensor, mismatched: Tensor | None) -> Tensor:
        """The discriminator's objective, a scalar, of the logits of true, generated and mismatched pairs."""
        raise NotImplementedError

    # ---- generations ----

    def roll_out(self, inputs: dict, encoder_outputs=None) -> SoftRollout:
        """Generations to the queries of a batch, as the configuration says."""
        args = self.args
        return soft_rollout(
            self.model, inputs["input_ids"], inputs.get("attention_mask"), max_length=args.max_soft_length,
            relaxation=args.relaxation, temperature=args.relaxation_temperature, noise_scale=args.noise_scale,
            top_k=args.relaxation_top_k, encoder_outputs=encoder_outputs,
            generator=self._random(inputs["input_ids"].device, 0), end_probabilities=args.soft_length == "survival",
        )  # fmt: skip

    def places(self, rollout: SoftRollout, labels: Tensor) -> Tensor:
        """How much each place of a generation counts, 0 to 1, shape `(batch, time)`; see `soft_length`."""
        if self.args.soft_length == "survival":
            return rollout.mask * rollout.survival
        if self.args.soft_length == "reference":
            lengths = self.reference_lengths(labels)
            return rollout.mask * (torch.arange(rollout.mask.shape[1], device=labels.device) < lengths[:, None])
        return rollout.mask

    def reference_lengths(self, labels: Tensor) -> Tensor:
        """Tokens of each reference without its end, shape `(batch,)`."""
        config, around = self._base_model().config, [PADDING]
        for name in ("pad_token_id", "bos_token_id", "eos_token_id"):  # not every family has all of them
            ids = getattr(config, name, None)
            around += ids if isinstance(ids, list) else [] if ids is None else [ids]
        around = torch.tensor(around, device=labels.device)
        return (~torch.isin(labels, around)).sum(dim=1)

    def generation_features(self, rollout: SoftRollout, places: Tensor) -> Tensor:
        """What the discriminator's body sees in generations, shape `(batch, size)`, with their gradient."""
        size = self.discriminator.config.vocab_size
        if self.args.relaxation == "straight_through" and not rollout.weights.requires_grad:
            # One token at each place: its id says the same and costs less.
            silent = (places == 0) | (rollout.best >= size)
            return self.discriminator.response_features(rollout.best.masked_fill(silent, PADDING), places)
        weights, ids = within_vocabulary(rollout, size)
        return self.discriminator.response_features(mask=places, probabilities=weights, ids=ids)

    def generation_logits(self, inputs: dict, rollout: SoftRollout, places: Tensor) -> Tensor:
        """The discriminator's logits of generations, shape `(batch,)`, with a gradient for these."""
        query = self.discriminator.query_features(inputs["input_ids"], inputs.get("attention_mask"))
        return self.discriminator.score(query, self.generation_features(rollout, places)).float()

    def _mismatches(self, inputs: dict) -> tuple[Tensor, Tensor]:
        queries = inputs["input_ids"]
        if inputs.get("attention_mask") is not None:
            queries = queries.masked_fill(inputs["attention_mask"] == 0, PADDING)
        return draw_mismatches(queries, inputs["labels"], 1, self._random(torch.device("cpu"), 1))

    def _random(self, device: torch.device, purpose: int) -> torch.Generator:
        """Random numbers of this batch of this update on this process."""
        keys = [self.args.seed, self.state.global_step, self._batch_of_update, self.args.process_index, purpose]
        seed = int(np.random.SeedSequence(keys).generate_state(1, np.uint64)[0] >> np.uint64(1))
        return torch.Generator(device).manual_seed(seed)

    # ---- gradients, log lines, evaluation ----

    def _active(self, model) -> nn.Module:
        return model if self.phase == GENERATOR else self._wrapped_discriminator

    def _clip_grad_norm(self, model):
        return super()._clip_grad_norm(self._active(model))

    def _get_grad_norm(self, model, grad_norm=None):
        norm = super()._get_grad_norm(self._active(model), grad_norm=grad_norm)
        self.record(**{f"gan/{self.phase}_grad_norm": torch.as_tensor(norm, device=self.args.device)})
        return norm

    def log(self, logs: dict[str, float], start_time: float | None = None):
        if "loss" in logs:
            logs["gan/generator_updates"] = updates_until(self.state.global_step, *self._cycle())[GENERATOR]
        super().log(logs, start_time)

    def evaluation_loop(self, *args, metric_key_prefix: str = "eval", **kwargs):
        output = super().evaluation_loop(*args, metric_key_prefix=metric_key_prefix, **kwargs)
        if self.monitor is not None and metric_key_prefix == "eval":
            scores = self.monitor.measure_once(self.accelerator.unwrap_model(self.model), self.accelerator)
            output.metrics.update({f"eval_{name}": value for name, value in scores.items()})
        return output

    # ---- files ----

    def _save_extra(self, folder: Path):
        super()._save_extra(folder)
        self._save_beside(self.discriminator, folder / "discriminator")

    def _save_beside(self, module: nn.Module, folder: Path):
        module.save_pretrained(folder)
        if self.processing_class is not None:
            self.processing_class.save_pretrained(folder)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model=None):
        super()._load_from_checkpoint(resume_from_checkpoint, model)
        self._load_beside(self.discriminator, Path(resume_from_checkpoint) / "discriminator")

    def _load_callback_state(self):
        super()._load_callback_state()  # with `restore_callback_states_from_checkpoint` callbacks are made anew
        self.guard = next(one for one in self.callback_handler.callbacks if isinstance(one, CollapseGuard))

    def _load_best_model(self):
        super()._load_best_model()
        self._load_beside(self.discriminator, Path(self.state.best_model_checkpoint) / "discriminator")

    def _load_beside(self, module: nn.Module, folder: Path):
        """Takes the parameters over from what `_save_beside` wrote."""
        for name in ("config.json", "model.safetensors"):
            if not (folder / name).is_file():
                raise ValueError(
                    f'"{folder.parent}" is no checkpoint of `{type(self).__name__}`: it has no {folder.name}/{name}. '
                    "Resume from one that this trainer wrote, or start anew."
                )
        with told_if_damaged(str(folder)):
            state = load_file(folder / "model.safetensors")
        own = module.state_dict()
        wrong = {
            "missing": own.keys() - state.keys(),
            "unknown": state.keys() - own.keys(),
            "of another shape": {name for name in own.keys() & state.keys() if own[name].shape != state[name].shape},
        }
        if any(wrong.values()):
            told = ", ".join(f"{what} {sorted(names)}" for what, names in wrong.items() if names)
            raise ValueError(
                f'"{folder}" does not fit this {type(module).__name__}: {told}. Resume with the {folder.name} it was '
                "made with."
            )
        module.load_state_dict(state)


def within_vocabulary(rollout: SoftRollout, size: int) -> tuple[Tensor, Tensor | None]:
    """Weights and tokens of a rollout, without tokens from `size` on: T5 has more logits than its tokenizer has tokens.

    Returns:
        As `SoftRollout` has them, the weights `(batch, time, size)` where they are of the whole vocabulary.
    """
    if rollout.ids is None:
        return rollout.weights[:, :, :size], None
    outside = rollout.ids >= size
    return rollout.weights.masked_fill(outside, 0.0), rollout.ids.masked_fill(outside, 0)


def _freeze_parts(generator: nn.Module, discriminator: PairDiscriminator, args):
    """Takes from learning what `generator_parts` and `discriminator_parts` leave out."""
    if args.generator_parts == "decoder":
        for module in (generator.get_encoder(), generator.get_input_embeddings(), generator.get_output_embeddings()):
            if module is not None:
                module.requires_grad_(False)
        decoder_embeddings(generator).requires_grad_(False)
        if not any(parameter.requires_grad for parameter in generator.parameters()):
            raise ValueError(
                '`generator_parts="decoder"` leaves nothing to learn: the decoder of '
                f"{type(generator).__name__} has no parameters of its own. Set it to `all`."
            )
    if args.discriminator_parts == "head":
        discriminator.body.requires_grad_(False)
