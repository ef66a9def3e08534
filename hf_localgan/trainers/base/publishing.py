"""Trainers on the Hub: their model cards, their uploads, and checkpoints that are downloaded to resume."""

import logging
import os
import shutil
from collections.abc import Sequence
from contextlib import AbstractContextManager
from itertools import islice
from pathlib import Path
from typing import Any

from accelerate import PartialState
from accelerate.utils import gather_object
from huggingface_hub import CommitInfo, HfApi
from transformers import TrainingArguments
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR, HubStrategy, TrainOutput
from transformers.utils.hub import PushInProgress

from hf_localgan.hub.download import BEST, CHECKPOINT, LAST, STAGES, pull_checkpoint
from hf_localgan.hub.scores import RESULTS_FILE, RESULTS_FOLDER
from hf_localgan.hub.upload import UploadError, create_repository, laid_out, link_files, push_folder
from hf_localgan.trainers.base.cards import REPORTS, read_report, write_card
from hf_localgan.trainers.base.lineage import RECORD, last_checkpoint
from hf_localgan.trainers.base.method import MethodMixin
from hf_localgan.trainers.base.settings import output_folder

PUSHING = ".pushing-"
# Files of an output folder that are not uploaded: hidden ones, a recipe's stages, other checkpoints, pickled arguments.
LOCAL_FILES = (".*", "_*", STAGES, "checkpoint-*", f"{LAST}*", "*.bin.tmp", "training_args.bin", "settings.json",
               "finished.json")  # fmt: skip
# Files of a checkpoint that a resumed training needs, and a user of the model does not.
TRAINING_STATE = ("optimizer*", "scheduler*", "scaler*", "rng_state*", "trainer_state.json", RECORD, "dbm_chains*",
                  "pytorch_model_fsdp*", "global_step*", "latest", "zero_to_fp32.py")  # fmt: skip
# Files of a recipe's stages that the training after them does not need.
STAGE_EXTRAS = (".*", "*checkpoint-*", "*.png", "*.md", "*.parquet", "*training_args.bin")

logger = logging.getLogger(__name__)


class PublishingMixin(MethodMixin):
    """Cards and uploads of the package's trainers.

    Every upload is one commit, so that the repository holds the old model or the new one:

    * Each save uploads the checkpoint's model, its `parts` and the tokenizer, with a card, unless `hub_strategy` is
      "end". In the same commit go, with "checkpoint", the whole checkpoint as `last-checkpoint/`, and, with
      "all_checkpoints", the whole checkpoint under its own name, each with the models of a recipe's earlier stages. The
      upload runs in the background; a failure is logged as a warning, and training continues.
    * `push_to_hub` uploads the output folder without stages, hidden files (but `.eval_results`) and scores of other
      weights, and those checkpoints that the strategy names. A failure raises an `UploadError`.
    """

    # The Trainer declares these as `None` alone.
    hub_model_id: str | None  # type: ignore[assignment]
    push_in_progress: PushInProgress | None  # type: ignore[assignment]
    _hub: HfApi | None = None

    # ---- cards ----

    def create_model_card(  # type: ignore[override]  # the stock method returns nothing
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
        """Writes `README.md` into the output folder, with the scores there if they belong to the weights there.

        Without scores it describes objective, settings and progress. The arguments are those of the stock method;
        `language`, `license` and `dataset` (ids on the Hub) default to `card_language`, `card_license` and
        `card_datasets` of the configuration. `tasks`, `dataset_tags` and `dataset_args` change nothing: they belong to
        scores, which this card takes from the evaluation.

        Returns:
            Path of the card on the main process, `None` on the others.
        """
        if not self.is_world_process_zero():
            return None
        return self._write_card(
            output_folder(self.args), language=language, license=license, datasets=dataset, base_model=finetuned_from,
            tags=[tags] if isinstance(tags, str) else tags, repo_id=self._card_name(model_name),
        )  # fmt: skip

    def _write_card(self, folder: Path, **facts: Any) -> Path:
        args = self.args
        defaults = {
            "language": args.card_language, "license": args.card_license, "datasets": args.card_datasets,
            "base_model": self._base_model_id(), "tags": getattr(self.model, "model_tags", None),
            "repo_id": self._card_name(None),
        }  # fmt: skip
        facts = {**defaults, **{name: value for name, value in facts.items() if value is not None}}
        return write_card(folder, type(self), args, self.state, example=self._example(), **facts)

    def _card_name(self, model_name: str | None) -> str:
        name = self.hub_model_id or self.args.hub_model_id
        return name or model_name or output_folder(self.args).resolve().name

    def _base_model_id(self) -> str | None:
        """Hub id of the model that training started from; `None` for a local folder and for a new model."""
        config = getattr(self.model, "peft_config", None)
        name = self.model.config._name_or_path
        if config:
            name = next(iter(config.values())).base_model_name_or_path
        return None if not name or name.count("/") != 1 or os.path.exists(name) or name.startswith((".", "/")) else name

    def _example(self) -> tuple[str, str, str] | None:
        """A query, its response and the response to another query, from the validation data or else the training data.

        `None` for data that is streamed or has other columns, and without a tokenizer.
        """
        rows: Any = self.train_dataset if self.eval_dataset is None else self.eval_dataset
        rows = next(iter(rows.values())) if isinstance(rows, dict) and rows else rows
        if self.processing_class is None or not hasattr(rows, "__len__") or not hasattr(rows, "__getitem__"):
            return None
        decode, responses = self.processing_class.decode, dict[str, str]()
        for row in islice(rows, 100):
            if not {"input_ids", "labels"} <= set(row):
                return None
            ids = (row["input_ids"], [token for token in row["labels"] if token >= 0])
            query, response = (str(decode(tokens, skip_special_tokens=True)).strip() for tokens in ids)
            if query and response and query not in responses and response not in responses.values():
                responses[query] = response
            if len(responses) == 2:
                (query, response), (_, other) = responses.items()
                return query, response, other
        return None

    # ---- uploads ----

    def init_hf_repo(self, token: str | None = None, private: bool | None = None):
        if not self.is_world_process_zero():
            return
        args, output = self.args, output_folder(self.args)
        self.hub_model_id = create_repository(
            args.hub_model_id or output.absolute().name, token=args.hub_token if token is None else token,
            private=args.hub_private_repo if private is None else private, api=self._client(),
        )  # fmt: skip
        self.push_in_progress = None
        for leftover in output.glob(f"{PUSHING}*"):  # from a process that was killed while it uploaded
            shutil.rmtree(leftover, ignore_errors=True)

    def push_to_hub(
        self,
        commit_message: str | None = "End of training",
        blocking: bool = True,
        token: str | None = None,
        revision: str | None = None,
        private: bool | None = None,
        **kwargs: Any,
    ) -> Any:
        """Saves the model, writes the card and uploads the output folder; to be called on every process.

        Args:
            commit_message: message of the one commit.
            blocking: whether to wait for the end of the upload.
            token, private: replace `hub_token` and `hub_private_repo`.
            revision: branch, created if it is missing; by default `hub_revision`.
            kwargs: arguments of `create_model_card`.

        Returns:
            On the main process the `CommitInfo`, or a future of it if not `blocking`; `None` on the others.

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
        if blocking:
            return self._push_output(**settings)
        return self._client().run_as_future(self._push_output, **settings)

    def _push_output(self, **settings: Any) -> CommitInfo:
        output = output_folder(self.args)
        with laid_out(output, PUSHING) as folder:
            report = read_report(output)
            stale: tuple[str, ...] = () if report is None or report.is_current else REPORTS[report.role]
            link_files(output, folder, ignored=(*LOCAL_FILES, *stale))
            if (output / RESULTS_FOLDER).is_dir():  # hidden, and yet the Hub's
                link_files(output, folder, [RESULTS_FOLDER])
            whole: tuple[str, ...] = ()
            last = last_checkpoint(output)
            if self.args.hub_strategy == HubStrategy.CHECKPOINT and last is not None:
                whole = self._add_last(folder, Path(last))
            if self.args.hub_strategy == HubStrategy.ALL_CHECKPOINTS:
                for path in output.glob(f"{PREFIX_CHECKPOINT_DIR}-*"):
                    self._add_whole(folder / path.name, path)
            return self._push(folder, whole, **settings)

    def _push_from_checkpoint(self, checkpoint_folder: str):
        if not self.is_world_process_zero() or self.args.hub_strategy == HubStrategy.END:
            return
        current = self.push_in_progress
        jobs: Any = [] if current is None or current.is_done() else current.jobs
        if jobs and not self.args.hub_always_push:
            return
        self.callback_handler.on_push_begin(self.args, self.state, self.control)
        unit = f"step {self.state.global_step}"
        if self.args.save_strategy == "epoch":
            unit = f"epoch {int(self.state.epoch)}"
        # The files are linked now, for the next save may remove this checkpoint.
        layout = laid_out(output_folder(self.args), PUSHING)
        folder = layout.__enter__()
        try:
            whole = self._lay_out_checkpoint(folder, Path(checkpoint_folder))
            job = self._client().run_as_future(
                self._push_quietly, layout, folder, whole, f"Training in progress, {unit}"
            )
        except BaseException as error:
            layout.__exit__(type(error), error, error.__traceback__)
            raise
        jobs = [*jobs, job]
        self.push_in_progress = PushInProgress(jobs)

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
        """Links a checkpoint and, from beside it, the recipe's stages, which a resumed training needs, too."""
        link_files(checkpoint, folder)
        stages = output_folder(self.args) / STAGES
        if stages.is_dir():
            link_files(stages, folder / STAGES, ignored=STAGE_EXTRAS)

    def _add_last(self, folder: Path, checkpoint: Path) -> tuple[str, ...]:
        """Links the checkpoint as `last-checkpoint`, with the best model so far if another checkpoint holds it."""
        self._add_whole(folder / LAST, checkpoint)
        best = self.state.best_model_checkpoint
        if best is not None and Path(best).name != checkpoint.name and Path(best).is_dir():
            state = [name for name in TRAINING_STATE if name != RECORD]  # which says whose model it is
            link_files(Path(best), folder / LAST / BEST, ignored=state)
        return (LAST,)

    def _push_quietly(
        self, layout: AbstractContextManager[Path], folder: Path, whole: tuple[str, ...], message: str
    ) -> CommitInfo | None:
        try:
            return self._push(folder, whole, message=message, token=self.args.hub_token)
        except UploadError as error:
            logger.warning("%s Training continues.", error)
            return None
        finally:
            layout.__exit__(None, None, None)

    def _push(
        self, folder: Path, whole: tuple[str, ...], *, message: str, token: str | None, revision: str | None = None
    ) -> CommitInfo:
        assert self.hub_model_id is not None  # `init_hf_repo` has set it
        advice = f'All files are in "{self.args.output_dir}". Then call `trainer.push_to_hub()` again.'
        return push_folder(
            folder, self.hub_model_id, message=message, token=token, revision=revision or self.args.hub_revision,
            whole=whole, owned=(RESULTS_FILE,), advice=advice, api=self._client(),
        )  # fmt: skip

    def _client(self) -> HfApi:
        """One client for all uploads of a training, so that background uploads run one after the other."""
        if self._hub is None:
            self._hub = HfApi(library_name="hf_localgan")
        return self._hub

    # ---- checkpoints from the Hub ----

    def train(
        self,
        resume_from_checkpoint: str | bool | None = None,
        trial: Any = None,
        ignore_keys_for_eval: list[str] | None = None,
    ) -> TrainOutput:
        """As the Trainer's method, but `last-checkpoint` and `checkpoint-STEP` may be on the Hub: `find_checkpoint`.

        `True` is the last checkpoint in `output_dir`, see `last_checkpoint`.
        """
        return super().train(find_checkpoint(self.args, resume_from_checkpoint), trial, ignore_keys_for_eval)


def find_checkpoint(args: TrainingArguments, checkpoint: str | bool | None) -> str | bool | None:
    """The folder of a checkpoint that has a name of the Hub's, or of the last one for `True`; others as they are.

    `last-checkpoint` or `checkpoint-STEP` is a local folder, or a folder in the output folder, or is downloaded from
    the repository `hub_model_id` (with `push_to_hub` by default the one named as the output folder) to
    `checkpoint-STEP` in the output folder. To be called on every process.

    Args:
        args: the trainer's arguments.
        checkpoint: value of `resume_from_checkpoint`.

    Raises:
        OSError: if the Hub cannot be reached or has no such checkpoint.
        ValueError: if the download is not whole or belongs to another training, or the folder has no checkpoint.
    """
    if checkpoint is True:
        last = last_checkpoint(output_folder(args))
        if last is None:
            raise ValueError(
                f'There is no checkpoint to resume from in "{args.output_dir}". Name a checkpoint folder by '
                "`resume_from_checkpoint`, or leave it out to start anew."
            )
        return last
    if not isinstance(checkpoint, str) or not CHECKPOINT.fullmatch(checkpoint) or Path(checkpoint).is_dir():
        return checkpoint
    output = output_folder(args)
    folder = output / checkpoint
    if folder.is_dir() and checkpoint != LAST:
        return str(folder)
    if args.hub_model_id is None and not args.push_to_hub:
        return str(folder) if folder.is_dir() else checkpoint
    path: str | None = None
    failure: str | None = None
    unreachable = False
    if PartialState().is_local_main_process:  # machines need not share their disks
        try:
            path = str(
                pull_checkpoint(
                    args.hub_model_id or output.absolute().name, checkpoint, output,
                    revision=args.hub_revision, token=args.hub_token, needs_best=args.load_best_model_at_end,
                )
            )  # fmt: skip
        except (ValueError, OSError) as error:
            failure, unreachable = str(error), isinstance(error, OSError)
    results = gather_object([(path, failure, unreachable)])  # no process continues before every machine has the files
    for _, failure, unreachable in results:
        if failure is not None:
            raise (OSError if unreachable else ValueError)(failure)
    return next(path for path, *_ in results if path is not None)
