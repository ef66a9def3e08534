"""Saving of trainers: checkpoints and final outputs appear whole or not at all."""

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from json import JSONDecodeError
from pathlib import Path
from pickle import UnpicklingError

from safetensors import SafetensorError
from transformers import Trainer, TrainerState
from transformers.trainer import TRAINER_STATE_NAME, TRAINING_ARGS_NAME, rotate_checkpoints
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from hf_localgan.trainers.base.precision import tell_other_precision
from hf_localgan.trainers.base.publishing import PublishingMixin

STAGING = ".saving"


class CheckpointMixin(PublishingMixin, Trainer):
    """Writes checkpoints under another name and renames them when they are whole.

    A full disk, Ctrl-C or a kill at any moment leaves the checkpoints there were, and nothing that looks like one and
    is not. The training arguments are saved as JSON; the pickle that the Trainer writes is left out.
    """

    _staging: Path | None = None

    def _get_output_dir(self, trial) -> str:
        run_dir = super()._get_output_dir(trial)
        return run_dir if self._staging is None else str(self._staging)

    def _save_checkpoint(self, model, trial):
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
        if self._staging is None:  # while staging the folder has not got its name yet
            super()._push_from_checkpoint(checkpoint_folder)

    def _save(self, output_dir: str | None = None, state_dict: dict | None = None):
        output_dir = Path(output_dir or self.args.output_dir)
        if not self.args.should_save:
            return super()._save(str(output_dir), state_dict=state_dict)
        output_dir.mkdir(parents=True, exist_ok=True)
        _remove_leftovers(output_dir)
        with tempfile.TemporaryDirectory(prefix=f"{STAGING}-", dir=output_dir) as temporary:
            super()._save(temporary, state_dict=state_dict)
            self._save_extra(Path(temporary))
            (Path(temporary) / TRAINING_ARGS_NAME).unlink(missing_ok=True)
            (Path(temporary) / "README.md").unlink(missing_ok=True)  # PEFT's, which would replace the model card
            arguments = json.dumps(self.args.to_sanitized_dict(), indent=2, sort_keys=True)
            (Path(temporary) / "training_args.json").write_text(arguments + "\n", encoding="utf-8")
            _move_all(Path(temporary), output_dir)

    def _save_extra(self, folder: Path):
        """What a trainer saves beside model and tokenizer; `folder` is renamed afterwards."""

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model=None):
        if not (Path(resume_from_checkpoint) / TRAINER_STATE_NAME).is_file():
            raise ValueError(
                f'"{resume_from_checkpoint}" is not a whole checkpoint: it has no {TRAINER_STATE_NAME}, which is '
                "written last. Resume from an earlier one, or start anew without `resume_from_checkpoint`."
            )
        config = Path(resume_from_checkpoint) / "config.json"  # not there for adapters
        with told_if_damaged(resume_from_checkpoint):
            TrainerState.load_from_json(str(Path(resume_from_checkpoint) / TRAINER_STATE_NAME))
            found = json.loads(config.read_text(encoding="utf-8")).get("model_type") if config.exists() else None
        wanted = self.model.config.model_type
        if found not in (None, wanted):
            raise ValueError(
                f'"{resume_from_checkpoint}" is a checkpoint of the architecture `{found}`, but the model to train is '
                f"`{wanted}`. Resume with the model it was made with, or start anew without `resume_from_checkpoint`."
            )
        with told_if_damaged(resume_from_checkpoint):
            super()._load_from_checkpoint(resume_from_checkpoint, model)
            tell_other_precision(resume_from_checkpoint, self.args)

    def _load_optimizer_and_scheduler(self, checkpoint: str | None):
        with told_if_damaged(checkpoint):
            super()._load_optimizer_and_scheduler(checkpoint)

    def _load_rng_state(self, checkpoint: str | None):
        with told_if_damaged(checkpoint):
            super()._load_rng_state(checkpoint)


@contextmanager
def told_if_damaged(checkpoint: str | None) -> Iterator[None]:
    """Turns the errors of reading a truncated or damaged file of a checkpoint into a `ValueError` that says so."""
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
    """Removes what a process that was killed while it saved has left behind."""
    for leftover in folder.glob(f"{STAGING}-*"):
        shutil.rmtree(leftover, ignore_errors=True)


def _move_all(source: Path, target: Path):
    """Moves files and folders from `source` over those in `target`; on an error `target` is as it was before."""
    old = source / STAGING
    moved = []
    names = sorted(path.name for path in source.iterdir())
    old.mkdir()
    try:
        for name in names:
            moved.append(name)
            if (target / name).exists():
                _put_aside(target / name, old / name)
            os.replace(source / name, target / name)
    except BaseException:
        for name in moved:
            if (old / name).exists():
                if (target / name).is_dir():
                    shutil.rmtree(target / name)
                os.replace(old / name, target / name)
            elif not (source / name).exists():
                os.replace(target / name, source / name)
        raise


def _put_aside(path: Path, aside: Path):
    try:
        os.link(path, aside)  # a second name for a file, so that there is no moment without it
    except OSError:  # a folder, or a file system without links
        os.replace(path, aside)
