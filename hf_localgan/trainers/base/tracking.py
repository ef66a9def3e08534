"""Experiment trackers: tables, pictures, and runs that a resume continues, in TensorBoard, trackio and W&B."""

import copy
import logging
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.integrations import TensorBoardCallback, TrackioCallback, WandbCallback
from transformers.integrations.integration_utils import default_logdir, rewrite_logs
from transformers.trainer_callback import ExportableState

from hf_localgan.markdown import markdown_table
from hf_localgan.trainers.base.callbacks import resumed_attributes, saved_states
from hf_localgan.trainers.base.method import MethodMixin
from hf_localgan.trainers.base.settings import output_folder

# Logged once per training; the Trainer's own callback leaves them out of trackio's charts as well.
SINGLE_VALUES = ("train_runtime", "train_samples_per_second", "train_steps_per_second", "train_loss", "total_flos")

logger = logging.getLogger(__name__)


class TrackingMixin(MethodMixin):
    """Shows tables, pictures and reports in the trackers that `report_to` names, beside the numbers.

    Subclasses replace the Trainer's callbacks for TensorBoard, trackio and Weights & Biases: a resumed training
    continues in its earlier run, log lines after the training go there, too, and the steps are the optimizer's. Only
    the main process writes.
    """

    def __init__(self, *args: Any, **kwargs: Any):  # those of the Trainer that comes next in the class's order
        super().__init__(*args, **kwargs)
        handler = self.callback_handler
        handler.callbacks = [self._with_tracker(callback) for callback in handler.callbacks]

    def add_callback(self, callback: type[TrainerCallback] | TrainerCallback):
        super().add_callback(self._with_tracker(callback() if isinstance(callback, type) else callback))

    def _with_tracker(self, callback: TrainerCallback) -> TrainerCallback:
        """The tracker that replaces one of the Trainer's own callbacks; any other callback as it is."""
        tracker_class = TRACKERS.get(type(callback))
        if tracker_class is not None:
            callback = tracker_class.from_callback(callback)
        if isinstance(callback, Tracker):
            callback.trainer = self
        return callback

    def _load_callback_state(self):
        super()._load_callback_state()  # with `restore_callback_states_from_checkpoint` callbacks are made anew
        for tracker in self._trackers():
            tracker.trainer = self

    def _trackers(self) -> list["Tracker"]:
        return [callback for callback in self.callback_handler.callbacks if isinstance(callback, Tracker)]

    def track_table(self, name: str, columns: Sequence[str], rows: Sequence[dict[str, Any]]):
        """Shows a table at the current step.

        Args:
            name: name of the table, equal at all steps.
            columns: the columns that are shown, in this order.
            rows: values by column.
        """
        if self.is_world_process_zero():
            for tracker in self._trackers():
                _warn_on_error(tracker, partial(tracker.add_table, name, columns, rows))

    def track_results(self, files: Iterable[str | Path]):
        """Shows the results of a finished training, and closes the trackers; a later log line opens them again.

        Args:
            files: pictures, `*.png`, are shown as `pictures/NAME`, reports, `*.md`, as `reports/NAME`. Other files and
                missing ones are skipped.
        """
        if not self.is_world_process_zero():
            return
        paths = [path for path in map(Path, files) if path.is_file()]
        for tracker in self._trackers():
            _warn_on_error(tracker, partial(tracker.add_files, paths))


class Tracker(TrainerCallback, ExportableState):
    """What the trackers share: their run, which checkpoints name, and access to their trainer."""

    trainer: MethodMixin  # set by the trainer that the tracker is added to
    run: str | None = None  # folder, name or id, by which the tracker finds the run again

    @classmethod
    def from_callback(cls, callback: TrainerCallback) -> "Tracker":
        tracker = cls()
        vars(tracker).update(vars(callback))
        return tracker

    def state(self) -> dict[str, Any]:
        return {"args": {}, "attributes": {"run": self.run}}

    def _earlier_run(self, state: TrainerState) -> str | None:
        """The run of the training that is resumed; `None` in a new training."""
        saved_states(state).setdefault(type(self).__name__, self.state())  # a checkpoint made without this tracker
        return resumed_attributes(self, state).get("run")

    def _part_configs(self) -> dict[str, Any]:
        """Configurations of the models beside the trained one, by name."""
        return {name: part.config for name, part in self.trainer.parts.items()}

    @property
    def _step(self) -> int:
        return self.trainer.state.global_step

    def add_files(self, files: Sequence[Path]):
        """Shows pictures and reports, and closes the run."""
        for path in files:
            if path.suffix == ".png":
                self.add_picture(f"pictures/{path.stem}", path)
            elif path.suffix == ".md":
                self.add_text(f"reports/{path.stem}", path.read_text(encoding="utf-8"))
        self.close()

    def add_table(self, name: str, columns: Sequence[str], rows: Sequence[dict[str, Any]]):
        raise NotImplementedError

    def add_picture(self, name: str, path: Path):
        raise NotImplementedError

    def add_text(self, name: str, text: str):
        """Shows a text in Markdown."""
        raise NotImplementedError

    def close(self):
        """Writes pending data; a later line opens the same run again."""
        raise NotImplementedError


class TensorBoardTracker(Tracker, TensorBoardCallback):
    """Event files in `runs/` of the output folder, or in the folder that TENSORBOARD_LOGGING_DIR names.

    A resumed training writes into the folder of the interrupted one; events of the steps after the checkpoint, which
    are trained again, are hidden. A writer that the user gave is used as it is.
    """

    tb_writer: Any
    logging_dir: str | None
    _opened_here = False

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs):
        earlier = self._earlier_run(state)
        if not state.is_world_process_zero:
            return
        if self._opened_here:
            self.close()  # the writer of an earlier training
        if self.tb_writer is not None:
            self.logging_dir = getattr(self.tb_writer, "log_dir", self.logging_dir)
        elif not state.is_hyper_param_search:
            self._choose_folder(args, earlier)
            purged = state.global_step + 1 if state.global_step else None
            self.tb_writer, self._opened_here = self._SummaryWriter(self.logging_dir, purge_step=purged), True
        super().on_train_begin(args, state, control, **kwargs)
        for name, config in self._part_configs().items():
            self._writer().add_text(f"{name}_config", config.to_json_string())

    def _choose_folder(self, args: TrainingArguments, earlier: str | None):
        if os.getenv("TENSORBOARD_LOGGING_DIR") is None:
            self.run = Path(earlier or default_logdir()).name  # the last part alone, for a checkpoint may name any path
            self.logging_dir = str(output_folder(args) / "runs" / self.run)

    def _init_summary_writer(self, args: TrainingArguments):
        if self.logging_dir is None:  # an evaluation without training; the stock callback uses the working directory
            self._choose_folder(args, None)
        self._opened_here = True
        super()._init_summary_writer(args)

    def on_predict(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, metrics, **kwargs):
        self.on_log(args, state, control, logs=metrics, **kwargs)

    def _writer(self) -> Any:
        if self.tb_writer is None:
            self._init_summary_writer(self.trainer.args)
        return self.tb_writer

    def add_table(self, name: str, columns: Sequence[str], rows: Sequence[dict[str, Any]]):
        writer = self._writer()
        writer.add_text(name, "\n".join(markdown_table(columns, _cells(columns, rows))), self._step)
        writer.flush()

    def add_picture(self, name: str, path: Path):
        import numpy as np
        from PIL import Image

        with Image.open(path) as picture:
            self._writer().add_image(name, np.asarray(picture.convert("RGB")), self._step, dataformats="HWC")

    def add_text(self, name: str, text: str):
        self._writer().add_text(name, text, self._step)

    def close(self):
        if self.tb_writer is not None:
            self.tb_writer.close()
            self.tb_writer = None


class TrackioTracker(Tracker, TrackioCallback):
    """A run of trackio: on this machine unless `trackio_space_id` names a Space.

    The run's name is `run_name`, by default the output folder's name with date and time. A new training whose name is
    taken gets a number at its end; a resumed one continues its run. trackio's steps are the optimizer's.
    """

    _opened: Any = None

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, model=None, **kwargs
    ):
        earlier = self._earlier_run(state)
        if state.is_world_process_zero:
            self.close()  # the run of an earlier training
            self.run = earlier or self._new_name(args)
        super().on_train_begin(args, state, control, model=model, **kwargs)

    def _new_name(self, args: TrainingArguments) -> str:
        name = args.run_name or f"{output_folder(args).resolve().name}-{datetime.now():%b%d_%H-%M-%S}"
        if not _is_local(args):
            return name
        try:
            taken = {run.name for run in self._trackio.Api().runs(args.project)}
        except ValueError:  # the project does not exist yet
            return name
        number, free_name = 1, name
        while free_name in taken:
            number += 1
            free_name = f"{name}-{number}"
        return free_name

    def setup(self, args: TrainingArguments, state: TrainerState, model, **kwargs):
        if state.is_world_process_zero:
            self.run = self.run or self._new_name(args)  # an evaluation without training has none yet
        named = copy.copy(args)
        named.run_name = self.run
        with _without_user_lookup(self._trackio) if _is_local(args) else nullcontext():
            super().setup(named, state, model, **kwargs)
        if state.is_world_process_zero:
            self._opened = self._trackio.context_vars.current_run.get()
            self._trackio.config.update({name: config.to_dict() for name, config in self._part_configs().items()})

    def _ensure_open(self):
        """Opens this tracker's run if it is closed, or if another trainer has opened its own run since."""
        current = self._trackio.context_vars.current_run.get()
        if not self._initialized or current is None or current is not self._opened:
            self.setup(self.trainer.args, self.trainer.state, self.trainer.model)

    def _log(self, values: dict[str, Any]):
        self._ensure_open()
        self._trackio.log({**values, "train/global_step": self._step}, step=self._step)

    def on_log(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, model=None, logs=None, **kwargs
    ):
        if state.is_world_process_zero:
            self._log(rewrite_logs({name: value for name, value in logs.items() if name not in SINGLE_VALUES}))

    def on_predict(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, metrics, **kwargs):
        self.on_log(args, state, control, logs=metrics)

    def on_push_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, model=None, **kwargs
    ):
        if args.trackio_static_space_id:  # by default the stock callback would make a public Space at every push
            super().on_push_begin(args, state, control, model, **kwargs)

    def add_table(self, name: str, columns: Sequence[str], rows: Sequence[dict[str, Any]]):
        self._log({name: self._trackio.Table(columns=list(columns), data=_cells(columns, rows))})

    def add_picture(self, name: str, path: Path):
        self._log({name: self._trackio.Image(path, caption=path.stem)})

    def add_text(self, name: str, text: str):
        self._log({name: self._trackio.Markdown(text)})

    def close(self):
        if self._opened is not None and self._trackio.context_vars.current_run.get() is self._opened:
            self._trackio.finish()
        self._opened, self._initialized = None, False


class WandbTracker(Tracker, WandbCallback):
    """A run of Weights & Biases for every training, which a resumed training finds again by its id.

    A run that the user opened with `wandb.init` is used as it is and left open.
    """

    _opened: Any = None
    _latest_run: Any = None  # a class attribute: the run that a tracker of this process opened last

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, model=None, **kwargs
    ):
        earlier = self._earlier_run(state)
        if state.is_world_process_zero and not state.is_hyper_param_search:
            self.close()  # the run of an earlier training
            self.run = earlier
        super().on_train_begin(args, state, control, model=model, **kwargs)

    def setup(self, args: TrainingArguments, state: TrainerState, model, **kwargs):
        if not state.is_world_process_zero or state.is_hyper_param_search:
            return super().setup(args, state, model, **kwargs)
        if self._wandb.run is not None and self._wandb.run is WandbTracker._latest_run:
            self._wandb.finish()  # the run of another trainer in this process, which counts other steps
        if self._wandb.run is None:
            project = os.getenv("WANDB_PROJECT", "huggingface")
            resumed = {"id": self.run, "resume": "allow"} if self.run else {}
            self._wandb.init(project=project, name=args.run_name, **resumed)
            WandbTracker._latest_run = self._wandb.run
        super().setup(args, state, model, **kwargs)
        self._opened, self.run = self._wandb.run, self._wandb.run.id
        self._wandb.config.update(
            {name: config.to_dict() for name, config in self._part_configs().items()}, allow_val_change=True
        )

    def _ensure_open(self):
        if not self._initialized or self._wandb.run is None or self._wandb.run is not self._opened:
            self.setup(self.trainer.args, self.trainer.state, self.trainer.model)

    def _log(self, values: dict[str, Any]):
        self._ensure_open()
        self._wandb.log({**values, "train/global_step": self._step})

    def on_log(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, model=None, logs=None, **kwargs
    ):
        if state.is_world_process_zero:
            self._ensure_open()
            super().on_log(args, state, control, model=model, logs=logs, **kwargs)

    def on_predict(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, metrics, **kwargs):
        if state.is_world_process_zero:
            self._log(rewrite_logs(metrics))

    def add_table(self, name: str, columns: Sequence[str], rows: Sequence[dict[str, Any]]):
        self._log({name: self._wandb.Table(columns=list(columns), data=_cells(columns, rows))})

    def add_picture(self, name: str, path: Path):
        self._log({name: self._wandb.Image(str(path), caption=path.stem)})

    def add_text(self, name: str, text: str):
        import html

        self._log({name: self._wandb.Html(f"<pre>{html.escape(text)}</pre>")})

    def close(self):
        if self._opened is not None and self._opened is WandbTracker._latest_run and self._wandb.run is self._opened:
            self._wandb.finish()
            WandbTracker._latest_run, self._initialized = None, False
        self._opened = None


TRACKERS: dict[type[TrainerCallback], type[Tracker]] = {
    TensorBoardCallback: TensorBoardTracker, TrackioCallback: TrackioTracker, WandbCallback: WandbTracker
}  # fmt: skip


def _cells(columns: Sequence[str], rows: Iterable[dict[str, Any]]) -> list[list[Any]]:
    return [[row[column] for column in columns] for row in rows]


def _warn_on_error(tracker: Tracker, show: Callable[[], None]):
    """Warns if `show` fails, for the training is worth more than its display."""
    try:
        show()
    except Exception as error:
        logger.warning(
            "%s shows neither table nor pictures here: %s: %s", type(tracker).__name__, type(error).__name__, error
        )


def _is_local(args: TrainingArguments) -> bool:
    """Whether trackio writes to this machine alone."""
    remote = os.getenv("TRACKIO_SPACE_ID") or os.getenv("TRACKIO_SERVER_URL")
    return not (args.trackio_space_id or remote)


@contextmanager
def _without_user_lookup(trackio: Any) -> Iterator[None]:
    """Keeps a local run of trackio from asking the Hub for the name of the user that is logged in."""
    run_class = trackio.Run
    lookup = getattr(run_class, "_get_username", None)
    if lookup is None:
        yield
        return
    run_class._get_username = lambda self: None
    try:
        yield
    finally:
        run_class._get_username = lookup
