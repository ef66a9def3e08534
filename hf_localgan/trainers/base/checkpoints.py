"""Checkpoints of trainers: they appear whole or not at all, and a finished training takes no further step."""

import json
import logging
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import broadcast_object_list
from safetensors.torch import load_file
from torch import nn
from transformers import PreTrainedModel, Trainer, TrainerState
from transformers.trainer import SCHEDULER_NAME, TRAINER_STATE_NAME, TRAINING_ARGS_NAME
from transformers.trainer_callback import ExportableState
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from hf_localgan.data.tokenization import forget_last_call
from hf_localgan.files import unwritten_named
from hf_localgan.trainers.base.callbacks import saved_states
from hf_localgan.trainers.base.compatibility import (
    alike,
    changed_config,
    changed_settings,
    check_part,
    check_vocabulary,
    missing_state,
    read_object,
    saved_trainer,
)
from hf_localgan.trainers.base.lineage import (
    RECORD,
    CheckpointRecord,
    Lineage,
    continues,
    foreign_checkpoints,
    new_run,
    rotate_own_checkpoints,
)
from hf_localgan.trainers.base.method import trainer_named
from hf_localgan.trainers.base.precision import warn_of_new_precision
from hf_localgan.trainers.base.publishing import PublishingMixin
from hf_localgan.trainers.base.settings import output_folder
from hf_localgan.trainers.base.staging import STAGING, move_all, remove_leftovers, stale_files
from hf_localgan.trainers.base.training_end import end_message, is_at_end
from hf_localgan.trainers.base.training_facts import FINGERPRINT, ROWS, base_fingerprint, data_facts, fingerprint_of

# Facts of a record that must be the same in a resumed training, and what to say where one is not.
IDENTITY = {
    "base_model": (
        "another base model under its adapters",
        "The base model's weights are in no checkpoint. Resume with the one that the adapters were trained on",
    ),
    "features": ("another feature extractor", "Its model hears other features. Resume with the checkpoint's processor"),
}
# What an optimizer keeps from its checkpoint, whatever the arguments say.
KEPT_BY_OPTIMIZER = ("learning_rate", "weight_decay", "adam_beta1", "adam_beta2", "adam_epsilon", "optim_args")
SHOWN = 6  # changed settings in a warning

logger = logging.getLogger(__name__)


class CheckpointMixin(PublishingMixin, Trainer):
    """Writes checkpoints under a temporary name, renames them when they are whole, and recognises a finished training.

    A full disk, Ctrl-C or a kill at any moment leaves the earlier checkpoints, and no folder that only looks like one.
    The training arguments are saved as JSON, without the pickle that the Trainer writes.

    A training that is resumed from its last checkpoint after it finished takes no step, warns, and leaves what the
    uninterrupted training left: the best model if `load_best_model_at_end` is set. (The stock Trainer takes another
    step.) It continues if more is requested: a larger `max_steps` or `num_train_epochs` or, after an early stop, other
    settings of the callback that stopped it.

    A checkpoint is resumed only if it is whole and belongs to this trainer, model, tokenizer and adapters; data and
    settings that have changed are told in a warning. In a folder with checkpoints of several trainings, each training
    resumes from its own and removes none of the others'.
    """

    _staging: Path | None = None
    _final_checkpoint: str | None = None  # the resumed checkpoint, if the training had finished in it
    _record = CheckpointRecord()  # of the checkpoints that this call of `train` writes, but for their time

    def _get_output_dir(self, trial) -> str:
        run_dir = super()._get_output_dir(trial)
        return run_dir if self._staging is None else str(self._staging)

    def _save_checkpoint(self, model: nn.Module, trial):
        run_dir = Path(super()._get_output_dir(trial))
        name = f"{PREFIX_CHECKPOINT_DIR}-{self.state.global_step}"
        # The same name on every process; only the main process removes and renames.
        staging = run_dir / f"{STAGING}-{name}"
        if self.args.should_save:
            remove_leftovers(run_dir)
        self.accelerator.wait_for_everyone()
        try:
            self._staging = staging
            with unwritten_named(run_dir):
                super()._save_checkpoint(model, trial)
            self._staging = None
            self.accelerator.wait_for_everyone()
            if self.state.best_global_step == self.state.global_step:
                self.state.best_model_checkpoint = str(run_dir / name)
            if self.args.should_save:
                replace(self._record, saved_at=time.time()).write(staging / name)
                self.state.save_to_json(str(staging / name / TRAINER_STATE_NAME))
                move_all(staging, run_dir)
        finally:
            self._staging = None
            if self.args.should_save:
                shutil.rmtree(staging, ignore_errors=True)
        self.accelerator.wait_for_everyone()
        if self.args.push_to_hub:
            self._push_from_checkpoint(str(run_dir / name))
        if self.args.should_save:
            rotate_own_checkpoints(
                run_dir, self._record.lineage, self.args.save_total_limit, kept=[self.state.best_model_checkpoint],
                newest=self._newest_kept(),
            )  # fmt: skip

    def _newest_kept(self) -> int:
        """Number of the last checkpoints that stay, whatever `save_total_limit` says, and beside the best one."""
        return 1

    def _push_from_checkpoint(self, checkpoint_folder: str):
        if self._staging is None:  # while it is staged, the folder has a temporary name
            super()._push_from_checkpoint(checkpoint_folder)

    def _save(self, output_dir: str | None = None, state_dict: dict | None = None):
        folder = Path(output_dir) if output_dir else output_folder(self.args)
        if not self.args.should_save:
            return super()._save(str(folder), state_dict=state_dict)
        folder.mkdir(parents=True, exist_ok=True)
        remove_leftovers(folder)
        forget_last_call(self.processing_class)
        with tempfile.TemporaryDirectory(prefix=f"{STAGING}-", dir=folder) as temporary:
            with unwritten_named(output_folder(self.args)):
                super()._save(temporary, state_dict=state_dict)
                self._save_extra(Path(temporary))
            (Path(temporary) / TRAINING_ARGS_NAME).unlink(missing_ok=True)
            (Path(temporary) / "README.md").unlink(missing_ok=True)  # PEFT's, which would replace the model card
            arguments = {**self.args.to_sanitized_dict(), "trainer": type(self).__name__}
            text = json.dumps(arguments, indent=2, sort_keys=True) + "\n"
            (Path(temporary) / "training_args.json").write_text(text, encoding="utf-8")
            stale = stale_files(Path(temporary), folder)
            move_all(Path(temporary), folder)
            for path in stale:
                path.unlink(missing_ok=True)

    # ---- the end of a training ----

    def _init_training_state(
        self, max_steps, num_update_steps_per_epoch, num_train_epochs, resume_from_checkpoint, trial
    ) -> tuple[int, int]:
        settings = {name: state["args"] for name, state in self._callback_states().items()}  # those of this run
        progress = super()._init_training_state(
            max_steps, num_update_steps_per_epoch, num_train_epochs, resume_from_checkpoint, trial
        )
        self._final_checkpoint = None
        if resume_from_checkpoint is None:
            self._begin_run(trial)
            return progress
        checkpoint = Path(resume_from_checkpoint)
        saved = TrainerState.load_from_json(str(checkpoint / TRAINER_STATE_NAME))
        for name, state in self._callback_states().items():
            # The Trainer saves the states only of callbacks that existed when its own state was made.
            saved_states(self.state).setdefault(name, state)
        record = self._record = CheckpointRecord.read(checkpoint)
        self._find_best_model(saved, checkpoint)
        self._require_best_model(saved)
        if is_at_end(saved, max_steps, settings):
            self._final_checkpoint = str(resume_from_checkpoint)
            if self.is_world_process_zero():
                logger.warning(end_message(self._final_checkpoint, saved, max_steps))
            return progress
        self._require_training_state(checkpoint, record)
        self._begin_run(trial, record.lineage)
        if self.is_world_process_zero():
            self._warn_of_changes(checkpoint, record)
        return progress

    def _begin_run(self, trial, earlier: Lineage = ()):
        """Gives this call of `train` its place among the trainings; warns of checkpoints that it does not continue."""
        # One id on all processes.
        lineage = broadcast_object_list([new_run(self.state.global_step, earlier)])[0]
        self._record = CheckpointRecord(lineage, 0.0, self.identity_facts(), self.settings_facts())
        if not self.is_world_process_zero():
            return
        run_dir = super()._get_output_dir(trial)
        others = [path.name for path in foreign_checkpoints(run_dir, lineage)]
        if others:
            logger.warning(
                '"%s" holds checkpoints that this training does not continue (%s). They stay, but where this training '
                "saves one of the same number, it replaces theirs. To keep both, take another `output_dir`.",
                run_dir, f"{', '.join(others[:SHOWN])}{', ...' if len(others) > SHOWN else ''}",
            )  # fmt: skip

    def _callback_states(self) -> dict[str, dict[str, Any]]:
        """Current states of the callbacks that keep one, by the names of their classes."""
        callbacks = [callback for callback in self.callback_handler.callbacks if isinstance(callback, ExportableState)]
        return {type(callback).__name__: callback.state() for callback in callbacks}

    def _find_best_model(self, saved: TrainerState, checkpoint: Path):
        """Looks for the best checkpoint beside the resumed one, for the output folder may have been moved."""
        best = saved.best_model_checkpoint
        if best is None:
            return
        places = [Path(best), checkpoint.resolve().parent / Path(best).name]
        found = next((place for place in places if place.is_dir() and not self._is_foreign(place, saved)), None)
        self.state.best_model_checkpoint = None if found is None else str(found)

    def _is_foreign(self, best: Path, saved: TrainerState) -> bool:
        """Whether another training has replaced the best checkpoint; one without a record may be the model alone."""
        if not (best / RECORD).is_file():
            return False
        lineage = CheckpointRecord.read(best).lineage
        return not continues(self._record.lineage, lineage, saved.best_global_step or 0)

    def _require_best_model(self, saved: TrainerState):
        if self.args.load_best_model_at_end and saved.best_model_checkpoint and not self.state.best_model_checkpoint:
            raise ValueError(
                f'The training has a best model, and its best checkpoint, "{saved.best_model_checkpoint}", is missing '
                "or was replaced by another training. Put it beside the resumed checkpoint, or set "
                "`load_best_model_at_end` to false to keep the last model."
            )

    def _run_epoch(self, *args, **kwargs):
        if self._final_checkpoint is None:
            return super()._run_epoch(*args, **kwargs)
        self.control.should_training_stop = True

    def _finalize_training(self, trial, num_train_samples, start_time):
        if self._final_checkpoint is not None:
            self._load_rng_state(self._final_checkpoint)
            for callback in self.callback_handler.callbacks:  # the reason of an early stop, for example
                saved = saved_states(self.state).get(type(callback).__name__)
                if isinstance(callback, ExportableState) and isinstance(saved, dict):
                    for attribute, value in saved["attributes"].items():
                        setattr(callback, attribute, value)
        # The Trainer would remove every checkpoint but the best one, those of other trainings, too.
        limit, self.args.save_total_limit = self.args.save_total_limit, None
        try:
            output = super()._finalize_training(trial, num_train_samples, start_time)
        finally:
            self.args.save_total_limit = limit
        best = self.state.best_model_checkpoint
        if self.args.should_save and limit == 1 and best is not None:
            rotate_own_checkpoints(super()._get_output_dir(trial), self._record.lineage, 1, kept=[best], newest=0)
        return output

    def log(self, logs: dict[str, float], start_time: float | None = None):
        if self._final_checkpoint is None or "train_runtime" not in logs:  # meaningless without a step
            super().log(logs, start_time)

    # ---- saving and loading ----

    def _save_extra(self, folder: Path):
        """Saves the `parts` and, in subclasses, other files of a checkpoint; `folder` is renamed afterwards."""
        for name, part in self.parts.items():
            part.save_pretrained(folder / name)
            if self.processing_class is not None:
                self.processing_class.save_pretrained(folder / name)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None):
        if not (Path(resume_from_checkpoint) / TRAINER_STATE_NAME).is_file():
            raise ValueError(
                f'"{resume_from_checkpoint}" is not a whole checkpoint: it has no {TRAINER_STATE_NAME}, which is '
                "written last. Resume from an earlier one, or start anew without `resume_from_checkpoint`."
            )
        checkpoint = Path(resume_from_checkpoint)
        with damage_explained(resume_from_checkpoint):
            read_object(checkpoint / TRAINER_STATE_NAME)
            TrainerState.load_from_json(str(checkpoint / TRAINER_STATE_NAME))
            self._check_checkpoint(checkpoint)
            super()._load_from_checkpoint(resume_from_checkpoint, model)
            warn_of_new_precision(resume_from_checkpoint, self.args)
        self._load_parts(checkpoint)

    def _check_checkpoint(self, checkpoint: Path):
        """Refuses a checkpoint of another trainer, model, tokenizer or adapter than this training's."""
        for name in self.parts:
            self._require_part(checkpoint / name)
        self._check_trainer(checkpoint)
        config = checkpoint / "config.json"  # adapters have none
        saved_type = read_object(config).get("model_type") if config.exists() else None
        model_type = self.model.config.model_type
        if saved_type not in (None, model_type):
            raise ValueError(
                f'"{checkpoint}" is a checkpoint of the architecture `{saved_type}`, but the model to '
                f"train is `{model_type}`. Resume with the model that the checkpoint was made with, or start anew "
                "without `resume_from_checkpoint`."
            )
        record = CheckpointRecord.read(checkpoint)
        check_vocabulary(checkpoint, record.identity.get("vocabulary"), self.processing_class)
        if not (self.is_fsdp_enabled or self.is_deepspeed_enabled):  # no process has the whole model
            check_part(checkpoint, self.model)
        for name, own in self.identity_facts().items():
            saved = record.identity.get(name)
            if name in IDENTITY and None not in (own, saved) and not alike(saved, own):
                what, advice = IDENTITY[name]
                raise ValueError(
                    f'"{checkpoint}" was trained with {what} than that of this run. {advice}, or start anew without '
                    "`resume_from_checkpoint`."
                )

    def _check_trainer(self, checkpoint: Path):
        name = saved_trainer(checkpoint)
        own = type(self)  # of an instance the Trainer makes it the value of a search's trial
        trainer = None if name in (None, own.__name__) else trainer_named(name)
        if trainer is not None and trainer.objective != own.objective:
            raise ValueError(
                f'"{checkpoint}" was written by `{name}` ({trainer.objective.name}), and this is '
                f"`{own.__name__}` ({own.objective.name}): optimizer, schedule and steps belong to the other "
                "training. Resume with that trainer; or train its model further in a new run, by giving the "
                f"checkpoint as the model{self._option(checkpoint)}, without `resume_from_checkpoint`."
            )

    def _option(self, checkpoint: Path) -> str:
        """The setting of the recipes that starts from a checkpoint's model, in brackets."""
        return f' (`{"model" if self.role == "recogniser" else self.role}: "{checkpoint}"`)'

    def _require_training_state(self, checkpoint: Path, record: CheckpointRecord):
        """Refuses a checkpoint without optimizer, schedule or random numbers: what is missing would start anew."""
        processes = self.args.world_size
        if self.is_deepspeed_enabled:
            return  # it looks for its own files
        needs_scaler = getattr(self.accelerator, "scaler", None) is not None
        known = processes if record.settings.get("processes") == processes else 0
        missing = missing_state(checkpoint, known, needs_scaler)
        if missing:
            raise ValueError(
                f'"{checkpoint}" holds no whole state of a training: it has no {", ".join(missing)}, and what is '
                "missing would start anew. (`save_only_model: true` leaves the state out.) Resume from a whole "
                "checkpoint; or train its model further in a new run, by giving the checkpoint as the "
                f"model{self._option(checkpoint)}, without `resume_from_checkpoint`."
            )

    # ---- what belongs to a training ----

    def identity_facts(self) -> dict[str, Any]:
        """Facts without which the weights of a checkpoint mean something else, by name; a resume compares them.

        Those in `IDENTITY` must be the same; `None` where a fact is unknown, which fits all values.
        """
        return {"vocabulary": fingerprint_of(self.processing_class), "base_model": base_fingerprint(self.model)}

    def settings_facts(self) -> dict[str, Any]:
        """Facts that shape the training and stand in no argument, by name; a resume warns where they have changed.

        The training data's rows and fingerprint and the number of processes; subclasses add what they are given.
        """
        return {**data_facts(self.train_dataset), "processes": self.args.world_size}

    def _warn_of_changes(self, checkpoint: Path, record: CheckpointRecord):
        """Tells in one line which data and settings are others than those of the checkpoint."""
        own, before = self._record.settings, record.settings
        changes: dict[str, tuple[Any, Any]] = {
            name: (before[name], own[name]) for name in own if name in before and before[name] != own[name]
        }
        if ROWS in changes:
            changes.pop(FINGERPRINT, None)
        with damage_explained(str(checkpoint)):
            changes |= changed_settings(checkpoint, self.args) | changed_config(checkpoint, self.model)
        if not changes:
            return
        told = [
            "the training data has as many rows, but others"
            if name == FINGERPRINT
            else f"`{name}` was {json.dumps(old)}, now {json.dumps(new)}"
            for name, (old, new) in changes.items()
        ]
        told[SHOWN:] = [f"and {len(told) - SHOWN} more"] if len(told) > SHOWN else []
        kept = [name for name in changes if name.endswith(KEPT_BY_OPTIMIZER)]
        keeps = (
            f" The optimizer keeps the {' and '.join(f'`{name}`' for name in kept)} of the checkpoint." if kept else ""
        )
        logger.warning(
            'The training in "%s" had other data or settings than this run: %s. It goes on, but not as it would have '
            "without the interruption.%s", checkpoint, "; ".join(told), keeps,
        )  # fmt: skip

    def _load_best_model(self):
        with damage_explained(self.state.best_model_checkpoint):
            super()._load_best_model()
        self._load_parts(Path(self.state.best_model_checkpoint))

    def _load_parts(self, checkpoint: Path):
        """Loads the parameters of the `parts` from the folders that `_save_extra` wrote."""
        for name, part in self.parts.items():
            self._load_part(part, checkpoint / name)

    def _load_part(self, part: PreTrainedModel, folder: Path):
        self._require_part(folder)
        with damage_explained(str(folder)):
            check_part(folder, part, folder.name)
            part.load_state_dict(load_file(folder / "model.safetensors"), strict=False)  # the names were compared

    def _require_part(self, folder: Path):
        for name in ("config.json", "model.safetensors"):
            if not (folder / name).is_file():
                raise ValueError(
                    f'"{folder.parent}" is no checkpoint of `{type(self).__name__}`: it has no {folder.name}/{name}. '
                    "Resume from a checkpoint that this trainer wrote, or start anew."
                )

    def _issue_warnings_after_load(self, load_result: Any):
        """As the Trainer's, but a name that is tied to a loaded one is not missing."""
        state = self.model.state_dict()
        loaded = {value.data_ptr() for name, value in state.items() if name not in load_result.missing_keys}
        missing = [
            name for name in load_result.missing_keys if name not in state or state[name].data_ptr() not in loaded
        ]
        super()._issue_warnings_after_load(type(load_result)(missing, load_result.unexpected_keys))

    def _load_optimizer_and_scheduler(self, checkpoint: str | None):
        if checkpoint is None or self.is_deepspeed_enabled:
            return super()._load_optimizer_and_scheduler(checkpoint)
        if self._final_checkpoint is not None:
            return  # no step is left that would need them
        with damage_explained(checkpoint):
            self._check_schedule(Path(checkpoint))
            assert self.optimizer is not None
            settings = [set(group) for group in self.optimizer.param_groups]
            try:
                super()._load_optimizer_and_scheduler(checkpoint)
            except (KeyError, ValueError) as error:
                if isinstance(error, UnicodeDecodeError):  # of a damaged file
                    raise
                raise ValueError(
                    f'The optimizer in "{checkpoint}" does not fit that of this run ({error}): it is damaged, or '
                    "belongs to other parameters or to another `optim`. Resume with the settings of the checkpoint, or "
                    "from an earlier one."
                ) from error
            lost = {name for own, group in zip(settings, self.optimizer.param_groups, strict=False)
                    for name in own - group.keys()}  # fmt: skip
            if lost:
                raise ValueError(
                    f'The optimizer in "{checkpoint}" is another than `optim: {_value(self.args.optim)}` of this run: '
                    f"it has no {', '.join(sorted(lost))}. Resume with the `optim` of the checkpoint."
                )

    def _check_schedule(self, checkpoint: Path):
        """Refuses the state of another class of schedules, which would be taken over without a word."""
        path = checkpoint / SCHEDULER_NAME
        if not path.is_file() or self.lr_scheduler is None:
            return
        saved, own = torch.load(path, weights_only=True), self.lr_scheduler.state_dict()
        if isinstance(saved, dict) and saved.keys() != own.keys():
            raise ValueError(
                f'The schedule in "{checkpoint}" is another than `lr_scheduler_type: '
                f"{_value(self.args.lr_scheduler_type)}` of this run. Resume with the schedule of the checkpoint."
            )

    def _load_rng_state(self, checkpoint: str | None):
        with damage_explained(checkpoint):
            super()._load_rng_state(checkpoint)


def _value(setting: Any) -> Any:
    return getattr(setting, "value", setting)


@contextmanager
def damage_explained(checkpoint: str | None) -> Iterator[None]:
    """Turns the errors of reading a truncated or damaged file of a checkpoint into a `ValueError` that names it.

    A few flipped bytes make the readers raise almost anything: `IndexError` and `OverflowError` in a pickle without
    code, `OSError` without a name in an archive, `TypeError` in a state. What names the checkpoint says enough.
    """
    try:
        yield
    except (ImportError, MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        if checkpoint is None or os.fspath(checkpoint) in str(error) or "loading state_dict" in str(error):
            raise
        raise ValueError(
            f'"{checkpoint}" cannot be read ({type(error).__name__}: {" ".join(str(error).split())}): a file in it is '
            "truncated or damaged. Resume from an earlier checkpoint."
        ) from error
