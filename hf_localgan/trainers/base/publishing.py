"""Trainers on the Hub: their model cards, what they upload and when, and checkpoints that come back from there."""

import logging
import os
import shutil
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from accelerate import PartialState
from accelerate.utils import gather_object
from huggingface_hub import HfApi
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR, HubStrategy, get_last_checkpoint
from transformers.utils.hub import PushInProgress

from hf_localgan.hub.download import BEST, CHECKPOINT, LAST, STAGES, pull_checkpoint
from hf_localgan.hub.upload import UploadError, create_repository, laid_out, link_files, push_folder
from hf_localgan.trainers.base.cards import REPORTS, read_report, write_card
from hf_localgan.trainers.base.method import MethodMixin

PUSHING = ".pushing-"
# What of an output folder stays here: hidden files, stages of a recipe, other checkpoints, pickles of arguments.
LOCAL = (".*", "_*", STAGES, "checkpoint-*", f"{LAST}*", "*.bin.tmp", "training_args.bin", "settings.json",
         "finished.json")  # fmt: skip
# What of a checkpoint is needed to go on and not to use the model.
TRAINING_STATE = ("optimizer*", "scheduler*", "scaler*", "rng_state*", "trainer_state.json", "dbm_chains*",
                  "pytorch_model_fsdp*", "global_step*", "latest", "zero_to_fp32.py")  # fmt: skip
# What of the stages is not needed to go on after them.
STAGE_EXTRAS = (".*", "*checkpoint-*", "*.png", "*.md", "*.parquet", "*training_args.bin")

logger = logging.getLogger(__name__)


class PublishingMixin(MethodMixin):
    """Cards and uploads of the package's trainers.

    Every upload is one commit: the repository holds the old model or the new one. What is uploaded:

    * at each save, unless `hub_strategy` is "end": the checkpoint's model, its `parts` and the tokenizer, with a card;
      with "checkpoint" also the whole checkpoint as `last-checkpoint/`, with "all_checkpoints" under its own name, in
      the same commit, each with the models that a recipe's stages made before it. It happens in the background; a
      failure is told in a warning, and training goes on.
    * by `push_to_hub`: all of the output folder but its stages, hidden files and checkpoints, and of these as the
      strategy says. Scores that are not of these weights stay here. A failure is an `UploadError`.
    """

    _hub: HfApi | None = None

    # ---- cards ----

    def create_model_card(
        self,
        language: str | Sequence[str] | None = None,
        license: str | None = None,
        tags: str | Sequence[str] | None = None,
        model_name: str | None = None,
        finetuned_from: str | None = None,
        tasks: Any = None,
        dataset_tags: Any = None,
        dataset: str | Sequence[str] | None = None,
        dataset_args: Any = None,
    ) -> Path | None:
        """Writes `README.md` into the output folder: from the scores there, if they are of the weights there.

        Without scores it tells what the trainer knows: objective, settings, progress. The arguments are those of the
        stock method; `language`, `license` and `dataset` (ids on the Hub) default to `card_language`, `card_license`
        and `card_datasets` of the configuration. `tasks`, `dataset_tags` and `dataset_args` change nothing: they
        belong to scores that this card takes from the evaluation.

        Returns:
            The file, on the main process.
        """
        if not self.is_world_process_zero():
            return None
        told = {"language": language, "license": license, "datasets": dataset, "base_model": finetuned_from}
        told |= {"tags": [tags] if isinstance(tags, str) else tags, "repo_id": self._card_name(model_name)}
        return self._write_card(Path(self.args.output_dir), **told)

    def _write_card(self, folder: Path, **told: Any) -> Path:
        args = self.args
        defaults = {
            "language": args.card_language, "license": args.card_license, "datasets": args.card_datasets,
            "base_model": self._base_model_id(), "tags": getattr(self.model, "model_tags", None),
            "repo_id": self._card_name(None),
        }  # fmt: skip
        told = {**defaults, **{name: value for name, value in told.items() if value is not None}}
        return write_card(folder, type(self), args, self.state, example=self._example(), **told)

    def _card_name(self, model_name: str | None) -> str:
        name = self.hub_model_id or self.args.hub_model_id
        return name or model_name or Path(self.args.output_dir).resolve().name

    def _base_model_id(self) -> str | None:
        """Id on the Hub of what the model was loaded from; `None` for a folder and for a new model."""
        config = getattr(self.model, "peft_config", None)
        name = self.model.config._name_or_path
        if config:
            name = next(iter(config.values())).base_model_name_or_path
        return None if not name or name.count("/") != 1 or os.path.exists(name) or name.startswith((".", "/")) else name

    def _example(self) -> tuple[str, str, str] | None:
        """A query, its response and that of another query, from the data that training is watched on."""
        rows = self.train_dataset if self.eval_dataset is None else self.eval_dataset
        rows = next(iter(rows.values())) if isinstance(rows, dict) and rows else rows
        if self.processing_class is None or not hasattr(rows, "__len__") or not hasattr(rows, "__getitem__"):
            return None
        found: dict[str, str] = {}
        for row in islice(rows, 100):
            if not {"input_ids", "labels"} <= set(row):
                return None
            ids = (row["input_ids"], [token for token in row["labels"] if token >= 0])
            query, response = (self.processing_class.decode(one, skip_special_tokens=True).strip() for one in ids)
            if query and response and query not in found and response not in found.values():
                found[query] = response
            if len(found) == 2:
                (query, response), (_, other) = found.items()
                return query, response, other
        return None

    # ---- uploads ----

    def init_hf_repo(self, token: str | None = None, private: bool | None = None):
        if not self.is_world_process_zero():
            return
        args = self.args
        self.hub_model_id = create_repository(
            args.hub_model_id or Path(args.output_dir).absolute().name,
            token=args.hub_token if token is None else token,
            private=args.hub_private_repo if private is None else private, api=self._client(),
        )  # fmt: skip
        self.push_in_progress = None
        for leftover in Path(args.output_dir).glob(f"{PUSHING}*"):  # of a process that was killed while it uploaded
            shutil.rmtree(leftover, ignore_errors=True)

    def push_to_hub(
        self,
        commit_message: str | None = "End of training",
        blocking: bool = True,
        token: str | None = None,
        revision: str | None = None,
        private: bool | None = None,
        **kwargs: Any,
    ):
        """Saves the model, writes the card and uploads the output folder; to be called on every process.

        Args:
            commit_message: of the one commit.
            blocking: wait for its end.
            token, private: instead of `hub_token` and `hub_private_repo`.
            revision: a branch, made where it is missing; by default `hub_revision`.
            kwargs: of `create_model_card`.

        Returns:
            What the Hub said of the commit, or a future of it; on the main process.

        Raises:
            UploadError: naming the repository and what to do.
        """
        self.callback_handler.on_push_begin(self.args, self.state, self.control)
        token = self.args.hub_token if token is None else token
        if self.hub_model_id is None:  # `push_to_hub` is off
            self.init_hf_repo(token=token, private=private)
        self.save_model(_internal_call=True)
        if not self.is_world_process_zero():
            return None
        self.create_model_card(**kwargs)
        self._finish_current_push()
        settings = {"message": commit_message or "End of training", "token": token, "revision": revision}
        return self._client().run_as_future(self._push_output, **settings) if not blocking else self._push_output(
            **settings
        )  # fmt: skip

    def _push_output(self, **settings: Any):
        output = Path(self.args.output_dir)
        with laid_out(output, PUSHING) as folder:
            report = read_report(output)
            stale = () if report is None or report.belongs else REPORTS[report.role]
            link_files(output, folder, ignored=(*LOCAL, *stale))
            whole, last = (), get_last_checkpoint(output)
            if self.args.hub_strategy == HubStrategy.CHECKPOINT and last is not None:
                whole = self._add_last(folder, Path(last))
            if self.args.hub_strategy == HubStrategy.ALL_CHECKPOINTS:
                for path in output.glob(f"{PREFIX_CHECKPOINT_DIR}-*"):
                    self._add_whole(folder / path.name, path)
            return self._push(folder, whole, **settings)

    def _push_from_checkpoint(self, checkpoint_folder: str):
        if not self.is_world_process_zero() or self.args.hub_strategy == HubStrategy.END:
            return
        running = self.push_in_progress is not None and not self.push_in_progress.is_done()
        if running and not self.args.hub_always_push:
            return
        self.callback_handler.on_push_begin(self.args, self.state, self.control)
        unit = f"step {self.state.global_step}"
        if self.args.save_strategy == "epoch":
            unit = f"epoch {int(self.state.epoch)}"
        # Laid out now, for the next save may remove this checkpoint.
        layout = laid_out(Path(self.args.output_dir), PUSHING)
        folder = layout.__enter__()
        try:
            whole = self._lay_out_checkpoint(folder, Path(checkpoint_folder))
            job = self._client().run_as_future(
                self._push_quietly, layout, folder, whole, f"Training in progress, {unit}"
            )
        except BaseException as error:
            layout.__exit__(type(error), error, error.__traceback__)
            raise
        self.push_in_progress = PushInProgress([*(self.push_in_progress.jobs if running else []), job])

    def _lay_out_checkpoint(self, folder: Path, checkpoint: Path) -> tuple[str, ...]:
        link_files(checkpoint, folder, ignored=TRAINING_STATE)
        self._write_card(folder)
        if self.args.hub_strategy == HubStrategy.CHECKPOINT:
            return self._add_last(folder, checkpoint)
        if self.args.hub_strategy == HubStrategy.ALL_CHECKPOINTS:
            self._add_whole(folder / checkpoint.name, checkpoint)
            return (checkpoint.name,)
        return ()

    def _add_whole(self, folder: Path, checkpoint: Path):
        """A checkpoint with all that is needed to go on: the stages of a recipe lie beside it."""
        link_files(checkpoint, folder)
        stages = Path(self.args.output_dir) / STAGES
        if stages.is_dir():
            link_files(stages, folder / STAGES, ignored=STAGE_EXTRAS)

    def _add_last(self, folder: Path, checkpoint: Path) -> tuple[str, ...]:
        """The checkpoint as `last-checkpoint`, with the best model so far where it is of another one."""
        self._add_whole(folder / LAST, checkpoint)
        best = self.state.best_model_checkpoint
        if best is not None and Path(best).name != checkpoint.name and Path(best).is_dir():
            link_files(Path(best), folder / LAST / BEST, ignored=TRAINING_STATE)
        return (LAST,)

    def _push_quietly(self, layout, folder: Path, whole: tuple[str, ...], message: str):
        try:
            return self._push(folder, whole, message=message, token=self.args.hub_token)
        except UploadError as error:
            logger.warning("%s Training goes on.", error)
            return None
        finally:
            layout.__exit__(None, None, None)

    def _push(self, folder: Path, whole: tuple[str, ...], *, message: str, token, revision: str | None = None):
        advice = f'All files are in "{self.args.output_dir}". Then call `trainer.push_to_hub()` again.'
        return push_folder(
            folder, self.hub_model_id, message=message, token=token, revision=revision or self.args.hub_revision,
            whole=whole, advice=advice, api=self._client(),
        )  # fmt: skip

    def _client(self) -> HfApi:
        """One client for all uploads of a training: its background uploads follow each other."""
        if self._hub is None:
            self._hub = HfApi(library_name="hf_localgan")
        return self._hub

    # ---- checkpoints from the Hub ----

    def train(self, resume_from_checkpoint: str | bool | None = None, *args, **kwargs):
        """As the Trainer's; `last-checkpoint` and `checkpoint-STEP` may lie in the Hub (see `find_checkpoint`)."""
        return super().train(find_checkpoint(self.args, resume_from_checkpoint), *args, **kwargs)


def find_checkpoint(args, wanted: str | bool | None) -> str | bool | None:
    """The folder of a checkpoint that is named as the Hub names them; anything else as it is.

    `last-checkpoint` or `checkpoint-STEP` is a folder here, or one of the output folder, or is downloaded from the
    repository `hub_model_id` (with `push_to_hub` by default the one of the output folder's name), to `checkpoint-STEP`
    in the output folder. To be called on every process.

    Args:
        args: of the trainer.
        wanted: `resume_from_checkpoint`.

    Raises:
        OSError: if it can be had from nowhere.
        ValueError: if what was downloaded is not whole or is of another training.
    """
    if not isinstance(wanted, str) or not CHECKPOINT.fullmatch(wanted) or Path(wanted).is_dir():
        return wanted
    inside = Path(args.output_dir) / wanted
    if inside.is_dir() and wanted != LAST:
        return str(inside)
    if args.hub_model_id is None and not args.push_to_hub:
        return str(inside) if inside.is_dir() else wanted
    found: list[Any] = [None, None, False]
    if PartialState().is_local_main_process:  # machines need not share their disks
        try:
            found[0] = str(
                pull_checkpoint(
                    args.hub_model_id or Path(args.output_dir).absolute().name, wanted, args.output_dir,
                    revision=args.hub_revision, token=args.hub_token, needs_best=args.load_best_model_at_end,
                )
            )  # fmt: skip
        except (ValueError, OSError) as error:
            found[1:] = str(error), isinstance(error, OSError)
    everywhere = gather_object([found])  # and no process goes on before every machine has it
    for _, wrong, unreachable in everywhere:
        if wrong is not None:
            raise (OSError if unreachable else ValueError)(wrong)
    return next(path for path, *_ in everywhere if path is not None)
