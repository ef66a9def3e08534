"""Experiment trackers: tables, pictures, and runs that go on after a resume, in TensorBoard, trackio and W&B."""

import copy
import logging
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from datetime import datetime
from pathlib import Path
from typing import Any

from transformers import Trainer
from transformers.integrations import TensorBoardCallback, TrackioCallback, WandbCallback
from transformers.integrations.integration_utils import default_logdir, rewrite_logs
from transformers.trainer_callback import ExportableState

from hf_localgan.markdown import markdown_table
from hf_localgan.trainers.base.callbacks import resumed_attributes

# Once per training; the Trainer's own callback leaves them out of trackio's charts as well.
SINGLE_VALUES = ("train_runtime", "train_samples_per_second", "train_steps_per_second", "train_loss", "total_flos")

logger = logging.getLogger(__name__)


class TrackingMixin(Trainer):
    """Shows tables, pictures and reports in the trackers that `report_to` names, beside the numbers.

    The Trainer's callbacks for TensorBoard, trackio and Weights & Biases are replaced by subclasses of theirs: a
    resumed training goes on in the run it came from, what is logged after training goes there too, and the steps are
    those of the optimizer. Only the main process writes.
    """

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        handler = self.callback_handler
        handler.callbacks = [self._tracker_of(callback) for callback in handler.callbacks]

    def add_callback(self, callback):
        super().add_callback(self._tracker_of(callback() if isinstance(callback, type) else callback))

    def _tracker_of(self, callback):
        """The tracker in place of one of the Trainer's own callbacks; any other callback is left as it is."""
        kind = TRACKERS.get(type(callback))
        if kind is not None:
            callback = kind.in_place_of(callback)
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
        """Shows a table at the step that is reached.

        Args:
            name: of the table; the tables of later steps have the same.
            columns: which of the rows' values are shown, in this order.
            rows: values by column.
        """
        if self.is_world_process_zero():
            for tracker in self._trackers():
                _told_if_failing(tracker, lambda to=tracker: to.add_table(name, columns, rows))

    def track_results(self, files: Iterable[str | Path]):
        """Shows what a finished training has written, and closes the trackers; a later log line opens them again.

        Args:
            files: pictures, `*.png`, are shown as `pictures/NAME`, reports, `*.md`, as `reports/NAME`. Others, and
                those that are not there, are passed over.
        """
        if not self.is_world_process_zero():
            return
        files = [path for path in map(Path, files) if path.is_file()]
        for tracker in self._trackers():
            _told_if_failing(tracker, lambda to=tracker: to.add_files(files))


class Tracker(ExportableState):
    """What the trackers share: the run they write to, which checkpoints name, and access to their trainer."""

    trainer: Trainer | None = None
    run: str | None = None  # folder, name or id, whichever finds it again

    @classmethod
    def in_place_of(cls, callback) -> "Tracker":
        tracker = cls()
        vars(tracker).update(vars(callback))
        return tracker

    def state(self) -> dict:
        return {"args": {}, "attributes": {"run": self.run}}

    def _run_of_checkpoint(self, state) -> str | None:
        """The run that a resumed training came from, `None` where there is none."""
        state.stateful_callbacks.setdefault(type(self).__name__, self.state())  # a checkpoint made without this tracker
        return resumed_attributes(self, state).get("run")

    def _parts(self) -> dict[str, Any]:
        """Configurations of what is trained or used beside the model, by name."""
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
        """Writes out what is pending; whatever comes later opens the same run again."""
        raise NotImplementedError


class TensorBoardTracker(Tracker, TensorBoardCallback):
    """Event files in `runs/` of the output folder, or where TENSORBOARD_LOGGING_DIR says.

    A resumed training writes into the folder of the interrupted one; events of steps behind the checkpoint, which are
    trained again, are hidden. A writer that the user gave is used as it is.
    """

    _opened_here = False

    def on_train_begin(self, args, state, control, **kwargs):
        earlier = self._run_of_checkpoint(state)
        if not state.is_world_process_zero:
            return
        if self._opened_here:
            self.close()  # of an earlier training
        if self.tb_writer is not None:
            self.logging_dir = getattr(self.tb_writer, "log_dir", self.logging_dir)
        elif not state.is_hyper_param_search:
            self._choose_folder(args, earlier)
            purged = state.global_step + 1 if state.global_step else None
            self.tb_writer, self._opened_here = self._SummaryWriter(self.logging_dir, purge_step=purged), True
        super().on_train_begin(args, state, control, **kwargs)
        for name, config in self._parts().items():
            self.tb_writer.add_text(f"{name}_config", config.to_json_string())

    def _choose_folder(self, args, earlier: str | None):
        if os.getenv("TENSORBOARD_LOGGING_DIR") is None:
            self.run = Path(earlier or default_logdir()).name  # a name alone, whatever a checkpoint may say
            self.logging_dir = str(Path(args.output_dir) / "runs" / self.run)

    def _init_summary_writer(self, args):
        if self.logging_dir is None:  # an evaluation without training; the stock callback takes the working directory
            self._choose_folder(args, None)
        self._opened_here = True
        super()._init_summary_writer(args)

    def on_predict(self, args, state, control, metrics, **kwargs):
        self.on_log(args, state, control, logs=metrics, **kwargs)

    def _writer(self):
        if self.tb_writer is None:
            self._init_summary_writer(self.trainer.args)
        return self.tb_writer

    def add_table(self, name, columns, rows):
        self._writer().add_text(name, "\n".join(markdown_table(columns, _cells(columns, rows))), self._step)
        self.tb_writer.flush()

    def add_picture(self, name, path):
        import numpy as np
        from PIL import Image

        with Image.open(path) as picture:
            self._writer().add_image(name, np.asarray(picture.convert("RGB")), self._step, dataformats="HWC")

    def add_text(self, name, text):
        self._writer().add_text(name, text, self._step)

    def close(self):
        if self.tb_writer is not None:
            self.tb_writer.close()
            self.tb_writer = None


class TrackioTracker(Tracker, TrackioCallback):
    """A run of trackio: on this machine unless `trackio_space_id` names a Space.

    It is called `run_name`, by default the output folder's name with date and time. A new training whose name is taken
    gets a number behind it; a resumed one goes on in its run. trackio's steps are those of the optimizer.
    """

    _opened: Any = None

    def on_train_begin(self, args, state, control, model=None, **kwargs):
        earlier = self._run_of_checkpoint(state)
        if state.is_world_process_zero:
            self.close()  # of an earlier training
            self.run = earlier or self._new_name(args)
        super().on_train_begin(args, state, control, model=model, **kwargs)

    def _new_name(self, args) -> str:
        name = args.run_name or f"{Path(args.output_dir).resolve().name}-{datetime.now():%b%d_%H-%M-%S}"
        if not _is_local(args):
            return name
        try:
            taken = {run.name for run in self._trackio.Api().runs(args.project)}
        except ValueError:  # there is no such project yet
            return name
        number, free = 1, name
        while free in taken:
            number += 1
            free = f"{name}-{number}"
        return free

    def setup(self, args, state, model, **kwargs):
        if state.is_world_process_zero:
            self.run = self.run or self._new_name(args)  # an evaluation without training has none yet
        named = copy.copy(args)
        named.run_name = self.run
        with _asking_nobody(self._trackio) if _is_local(args) else nullcontext():
            super().setup(named, state, model, **kwargs)
        if state.is_world_process_zero:
            self._opened = self._trackio.context_vars.current_run.get()
            self._trackio.config.update({name: config.to_dict() for name, config in self._parts().items()})

    def _ensure_open(self):
        """The run of this tracker is open, though another trainer may have opened one of its own in between."""
        current = self._trackio.context_vars.current_run.get()
        if not self._initialized or current is None or current is not self._opened:
            self.setup(self.trainer.args, self.trainer.state, self.trainer.model)

    def _log(self, values: dict[str, Any]):
        self._ensure_open()
        self._trackio.log({**values, "train/global_step": self._step}, step=self._step)

    def on_log(self, args, state, control, model=None, logs=None, **kwargs):
        if state.is_world_process_zero:
            self._log(rewrite_logs({name: value for name, value in logs.items() if name not in SINGLE_VALUES}))

    def on_predict(self, args, state, control, metrics, **kwargs):
        self.on_log(args, state, control, logs=metrics)

    def on_push_begin(self, args, state, control, model, **kwargs):
        if args.trackio_static_space_id:  # by default the stock callback would make a public Space at every push
            super().on_push_begin(args, state, control, model, **kwargs)

    def add_table(self, name, columns, rows):
        self._log({name: self._trackio.Table(columns=list(columns), data=_cells(columns, rows))})

    def add_picture(self, name, path):
        self._log({name: self._trackio.Image(path, caption=path.stem)})

    def add_text(self, name, text):
        self._log({name: self._trackio.Markdown(text)})

    def close(self):
        if self._opened is not None and self._trackio.context_vars.current_run.get() is self._opened:
            self._trackio.finish()
        self._opened, self._initialized = None, False


class WandbTracker(Tracker, WandbCallback):
    """A run of Weights & Biases, of its own for every training, found again by its id after a resume.

    A run that the user opened with `wandb.init` is used as it is and left open.
    """

    _opened: Any = None
    _ours: Any = None  # of all trackers: the run that one of them opened last

    def on_train_begin(self, args, state, control, model=None, **kwargs):
        earlier = self._run_of_checkpoint(state)
        if state.is_world_process_zero and not state.is_hyper_param_search:
            self.close()  # of an earlier training
            self.run = earlier
        super().on_train_begin(args, state, control, model=model, **kwargs)

    def setup(self, args, state, model, **kwargs):
        if not state.is_world_process_zero or state.is_hyper_param_search:
            return super().setup(args, state, model, **kwargs)
        if self._wandb.run is not None and self._wandb.run is WandbTracker._ours:
            self._wandb.finish()  # of another trainer of this process, whose steps are others
        if self._wandb.run is None:
            project = os.getenv("WANDB_PROJECT", "huggingface")
            found = {"id": self.run, "resume": "allow"} if self.run else {}
            self._wandb.init(project=project, name=args.run_name, **found)
            WandbTracker._ours = self._wandb.run
        super().setup(args, state, model, **kwargs)
        self._opened, self.run = self._wandb.run, self._wandb.run.id
        self._wandb.config.update(
            {name: config.to_dict() for name, config in self._parts().items()}, allow_val_change=True
        )

    def _ensure_open(self):
        if not self._initialized or self._wandb.run is None or self._wandb.run is not self._opened:
            self.setup(self.trainer.args, self.trainer.state, self.trainer.model)

    def _log(self, values: dict[str, Any]):
        self._ensure_open()
        self._wandb.log({**values, "train/global_step": self._step})

    def on_log(self, args, state, control, model=None, logs=None, **kwargs):
        if state.is_world_process_zero:
            self._ensure_open()
            super().on_log(args, state, control, model=model, logs=logs, **kwargs)

    def on_predict(self, args, state, control, metrics, **kwargs):
        if state.is_world_process_zero:
            self._log(rewrite_logs(metrics))

    def add_table(self, name, columns, rows):
        self._log({name: self._wandb.Table(columns=list(columns), data=_cells(columns, rows))})

    def add_picture(self, name, path):
        self._log({name: self._wandb.Image(str(path), caption=path.stem)})

    def add_text(self, name, text):
        import html

        self._log({name: self._wandb.Html(f"<pre>{html.escape(text)}</pre>")})

    def close(self):
        if self._opened is not None and self._opened is WandbTracker._ours and self._wandb.run is self._opened:
            self._wandb.finish()
            WandbTracker._ours, self._initialized = None, False
        self._opened = None


TRACKERS = {TensorBoardCallback: TensorBoardTracker, TrackioCallback: TrackioTracker, WandbCallback: WandbTracker}


def _cells(columns: Sequence[str], rows: Iterable[dict[str, Any]]) -> list[list]:
    return [[row[column] for column in columns] for row in rows]


def _told_if_failing(tracker: Tracker, show: Callable[[], None]):
    """Training and what it wrote are worth more than their display."""
    try:
        show()
    except Exception as error:
        logger.warning(
            "%s shows neither table nor pictures here: %s: %s", type(tracker).__name__, type(error).__name__, error
        )


def _is_local(args) -> bool:
    """Whether trackio writes to this machine alone."""
    elsewhere = os.getenv("TRACKIO_SPACE_ID") or os.getenv("TRACKIO_SERVER_URL")
    return not (args.trackio_space_id or elsewhere)


@contextmanager
def _asking_nobody(trackio) -> Iterator[None]:
    """A run on this machine would ask the Hub for the name of the user that is logged in there."""
    kind = trackio.Run
    ask = getattr(kind, "_get_username", None)
    if ask is None:
        yield
        return
    kind._get_username = lambda self: None
    try:
        yield
    finally:
        kind._get_username = ask
