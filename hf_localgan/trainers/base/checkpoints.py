"""Checkpoints of trainers: they appear whole or not at all, and a finished training takes no further step."""

import json
import logging
import math
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from json import JSONDecodeError
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn
from transformers import PreTrainedModel, Trainer, TrainerState
from transformers.trainer import TRAINER_STATE_NAME, TRAINING_ARGS_NAME, rotate_checkpoints
from transformers.trainer_callback import ExportableState, TrainerControl
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from hf_localgan.models.places import ADAPTER_CONFIG
from hf_localgan.trainers.base.callbacks import saved_states
from hf_localgan.trainers.base.precision import warn_of_new_precision
from hf_localgan.trainers.base.publishing import PublishingMixin
from hf_localgan.trainers.base.settings import output_folder

STAGING = ".saving"

logger = logging.getLogger(__name__)


class CheckpointMixin(PublishingMixin, Trainer):
    """Writes checkpoints under a temporary name, renames them when they are whole, and recognises a finished training.

    A full disk, Ctrl-C or a kill at any moment leaves the earlier checkpoints, and no folder that only looks like one.
    The training arguments are saved as JSON, without the pickle that the Trainer writes.

    A training that is resumed from its last checkpoint after it finished takes no step, warns, and leaves what the
    uninterrupted training left: the best model if `load_best_model_at_end` is set. (The stock Trainer takes another
    step.) It continues if more is requested: a larger `max_steps` or `num_train_epochs` or, after an early stop, other
    settings of the callback that stopped it.
    """

    _staging: Path | None = None
    _final_checkpoint: str | None = None  # the resumed checkpoint, if the training had finished in it

    def _get_output_dir(self, trial) -> str:
        run_dir = super()._get_output_dir(trial)
        return run_dir if self._staging is None else str(self._staging)

    def _save_checkpoint(self, model: nn.Module, trial):
        run_dir = Path(super()._get_output_dir(trial))
        name = f"{PREFIX_CHECKPOINT_DIR}-{self.state.global_step}"
        # The same name on every process; only the main process removes and renames.
        staging = run_dir / f"{STAGING}-{name}"
        if self.args.should_save:
            _remove_leftovers(run_dir)
        self.accelerator.wait_for_everyone()
        try:
            self._staging = staging
            super()._save_checkpoint(model, trial)
            self._staging = None
            self.accelerator.wait_for_everyone()
            if self.state.best_global_step == self.state.global_step:
                self.state.best_model_checkpoint = str(run_dir / name)
            if self.args.should_save:
                self.state.save_to_json(str(staging / name / TRAINER_STATE_NAME))
                _move_all(staging, run_dir)
        finally:
            self._staging = None
            if self.args.should_save:
                shutil.rmtree(staging, ignore_errors=True)
        self.accelerator.wait_for_everyone()
        if self.args.push_to_hub:
            self._push_from_checkpoint(str(run_dir / name))
        if self.args.should_save:
            rotate_checkpoints(
                output_dir=str(run_dir),
                save_total_limit=self.args.save_total_limit,
                best_model_checkpoint=self.state.best_model_checkpoint,
                use_mtime=True,
            )

    def _push_from_checkpoint(self, checkpoint_folder: str):
        if self._staging is None:  # while it is staged, the folder has a temporary name
            super()._push_from_checkpoint(checkpoint_folder)

    def _save(self, output_dir: str | None = None, state_dict: dict | None = None):
        folder = Path(output_dir) if output_dir else output_folder(self.args)
        if not self.args.should_save:
            return super()._save(str(folder), state_dict=state_dict)
        folder.mkdir(parents=True, exist_ok=True)
        _remove_leftovers(folder)
        with tempfile.TemporaryDirectory(prefix=f"{STAGING}-", dir=folder) as temporary:
            super()._save(temporary, state_dict=state_dict)
            self._save_extra(Path(temporary))
            (Path(temporary) / TRAINING_ARGS_NAME).unlink(missing_ok=True)
            (Path(temporary) / "README.md").unlink(missing_ok=True)  # PEFT's, which would replace the model card
            arguments = {**self.args.to_sanitized_dict(), "trainer": type(self).__name__}
            text = json.dumps(arguments, indent=2, sort_keys=True) + "\n"
            (Path(temporary) / "training_args.json").write_text(text, encoding="utf-8")
            stale = _stale_files(Path(temporary), folder)
            _move_all(Path(temporary), folder)
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
            return progress
        saved = TrainerState.load_from_json(str(Path(resume_from_checkpoint) / TRAINER_STATE_NAME))
        for name, state in self._callback_states().items():
            # The Trainer saves the states only of callbacks that existed when its own state was made.
            saved_states(self.state).setdefault(name, state)
        self._find_best_model(saved, Path(resume_from_checkpoint))
        if is_at_end(saved, max_steps, settings):
            self._final_checkpoint = str(resume_from_checkpoint)
            self._require_best_model(saved)
            if self.is_world_process_zero():
                logger.warning(
                    'The training had ended in "%s", so it takes no step. To continue, set a larger `max_steps` or '
                    "`num_train_epochs`, or change the settings that stopped it.", self._final_checkpoint,
                )  # fmt: skip
        return progress

    def _callback_states(self) -> dict[str, dict[str, Any]]:
        """Current states of the callbacks that keep one, by the names of their classes."""
        callbacks = [callback for callback in self.callback_handler.callbacks if isinstance(callback, ExportableState)]
        return {type(callback).__name__: callback.state() for callback in callbacks}

    def _find_best_model(self, saved: TrainerState, checkpoint: Path):
        """Looks for the best checkpoint beside the resumed one, for the output folder may have been moved."""
        best = saved.best_model_checkpoint
        if best is not None and not Path(best).is_dir():
            beside = checkpoint.resolve().parent / Path(best).name
            self.state.best_model_checkpoint = str(beside) if beside.is_dir() else None

    def _require_best_model(self, saved: TrainerState):
        if self.args.load_best_model_at_end and saved.best_model_checkpoint and not self.state.best_model_checkpoint:
            raise ValueError(
                f'The training had ended, and its best checkpoint, "{saved.best_model_checkpoint}", is missing. Put it '
                "beside the resumed checkpoint, or set `load_best_model_at_end` to false to keep the last model."
            )

    def _run_epoch(self, *args, **kwargs):
        if self._final_checkpoint is None:
            return super()._run_epoch(*args, **kwargs)
        self.control.should_training_stop = True

    def _finalize_training(self, *args, **kwargs):
        if self._final_checkpoint is not None:
            self._load_rng_state(self._final_checkpoint)
            for callback in self.callback_handler.callbacks:  # the reason of an early stop, for example
                saved = saved_states(self.state).get(type(callback).__name__)
                if isinstance(callback, ExportableState) and isinstance(saved, dict):
                    for attribute, value in saved["attributes"].items():
                        setattr(callback, attribute, value)
        return super()._finalize_training(*args, **kwargs)

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
        config = Path(resume_from_checkpoint) / "config.json"  # adapters have none
        with damage_explained(resume_from_checkpoint):
            TrainerState.load_from_json(str(Path(resume_from_checkpoint) / TRAINER_STATE_NAME))
            saved_type = json.loads(config.read_text(encoding="utf-8")).get("model_type") if config.exists() else None
        model_type = self.model.config.model_type
        if saved_type not in (None, model_type):
            raise ValueError(
                f'"{resume_from_checkpoint}" is a checkpoint of the architecture `{saved_type}`, but the model to '
                f"train is `{model_type}`. Resume with the model that the checkpoint was made with, or start anew "
                "without `resume_from_checkpoint`."
            )
        with damage_explained(resume_from_checkpoint):
            super()._load_from_checkpoint(resume_from_checkpoint, model)
            warn_of_new_precision(resume_from_checkpoint, self.args)
        self._load_parts(Path(resume_from_checkpoint))

    def _load_best_model(self):
        super()._load_best_model()
        self._load_parts(Path(self.state.best_model_checkpoint))

    def _load_parts(self, checkpoint: Path):
        """Loads the parameters of the `parts` from the folders that `_save_extra` wrote."""
        for name, part in self.parts.items():
            self._load_part(part, checkpoint / name)

    def _load_part(self, part: PreTrainedModel, folder: Path):
        for name in ("config.json", "model.safetensors"):
            if not (folder / name).is_file():
                raise ValueError(
                    f'"{folder.parent}" is no checkpoint of `{type(self).__name__}`: it has no {folder.name}/{name}. '
                    "Resume from a checkpoint that this trainer wrote, or start anew."
                )
        with damage_explained(str(folder)):
            saved = load_file(folder / "model.safetensors")
        current = part.state_dict()
        # A file holds a tensor once, under one of the names that its model ties to it.
        tensors = {current[name].data_ptr() for name in current.keys() & saved.keys()}
        reshaped = {name for name in current.keys() & saved.keys() if current[name].shape != saved[name].shape}
        differences = {
            "missing": {name for name in current.keys() - saved.keys() if current[name].data_ptr() not in tensors},
            "unknown": saved.keys() - current.keys(), "of another shape": reshaped,
        }  # fmt: skip
        if any(differences.values()):
            listed = ", ".join(f"{label} {sorted(names)}" for label, names in differences.items() if names)
            raise ValueError(
                f'"{folder}" does not fit this {type(part).__name__}: {listed}. Resume with the {folder.name} that the '
                "checkpoint was made with."
            )
        part.load_state_dict(saved, strict=False)  # the names were compared above

    def _load_optimizer_and_scheduler(self, checkpoint: str | None):
        with damage_explained(checkpoint):
            super()._load_optimizer_and_scheduler(checkpoint)

    def _load_rng_state(self, checkpoint: str | None):
        with damage_explained(checkpoint):
            super()._load_rng_state(checkpoint)


def is_at_end(saved: TrainerState, max_steps: int, settings: dict[str, dict[str, Any]]) -> bool:
    """Whether a resumed training has no update left to do.

    Args:
        saved: the state in the checkpoint.
        max_steps: updates of the whole training that this run requests.
        settings: this run's settings of the callbacks that keep a state, by the names of their classes.

    Returns:
        `True` if all updates have been made; or if a callback had stopped the training for good, has the same settings
        in this run, and no more updates are requested. A callback that keeps no state does not count.
    """
    if saved.global_step >= max_steps:
        return True
    states = {name: state for name, state in saved_states(saved).items() if isinstance(state, dict)}
    control = states.pop(TrainerControl.__name__, None)
    if control is None or not control["args"]["should_training_stop"] or max_steps > saved.max_steps:
        return False
    return any(has_stopped(state) and settings.get(name) == state["args"] for name, state in states.items())


def has_stopped(state: dict[str, dict[str, Any]]) -> bool:
    """Whether the saved state of a callback shows that it has stopped the training.

    The sign is a `reason` among its attributes or, for transformers' early stopping, a patience that has run out.
    """
    attributes, patience = state["attributes"], state["args"].get("early_stopping_patience", math.inf)
    return attributes.get("reason") is not None or attributes.get("early_stopping_patience_counter", 0) >= patience


@contextmanager
def damage_explained(checkpoint: str | None) -> Iterator[None]:
    """Turns the errors of reading a truncated or damaged file of a checkpoint into a `ValueError` that names it."""
    try:
        yield
    except (SafetensorError, UnpicklingError, EOFError, UnicodeDecodeError, JSONDecodeError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and "PytorchStreamReader" not in str(error):
            raise
        raise ValueError(
            f'"{checkpoint}" cannot be read ({error}): a file in it is truncated or damaged. Resume from an earlier '
            "checkpoint."
        ) from error


def _remove_leftovers(folder: Path):
    """Removes the temporary folders of a process that was killed while it saved."""
    for leftover in folder.glob(f"{STAGING}-*"):
        shutil.rmtree(leftover, ignore_errors=True)


def _stale_files(new: Path, folder: Path) -> list[Path]:
    """Files of the model of an earlier training in a folder that a new one does not write over: a whole one's or an
    adapter's.

    Both together would be read back as an adapter on a model that it was not trained on. The base model of the new
    adapter stays, for it is read with it.
    """
    adapter = new / ADAPTER_CONFIG
    if not adapter.is_file():
        if not any(new.glob("model*.safetensors")):  # shards of a distributed training
            return []
        return [folder / name for name in (ADAPTER_CONFIG, "adapter_model.safetensors")]
    base = json.loads(adapter.read_text(encoding="utf-8")).get("base_model_name_or_path")
    if base and Path(base).is_dir() and Path(base).samefile(folder):
        return []
    whole = [folder / name for name in ("config.json", "model.safetensors", "model.safetensors.index.json")]
    return [*whole, *folder.glob("model-*-of-*.safetensors")]


def _move_all(source: Path, target: Path):
    """Moves files and folders from `source` over those in `target`; on an error `target` is as it was before."""
    backup = source / STAGING
    moved = []
    names = sorted(path.name for path in source.iterdir())
    backup.mkdir()
    try:
        for name in names:
            moved.append(name)
            if (target / name).exists():
                _back_up(target / name, backup / name)
            os.replace(source / name, target / name)
    except BaseException:
        for name in moved:
            if (backup / name).exists():
                if (target / name).is_dir():
                    shutil.rmtree(target / name)
                os.replace(backup / name, target / name)
            elif not (source / name).exists():
                os.replace(target / name, source / name)
        raise


def _back_up(path: Path, backup: Path):
    try:
        os.link(path, backup)  # a second name for the file, so that it exists at every moment
    except OSError:  # a folder, or a file system without links
        os.replace(path, backup)
