"""The checkpoint that a run resumes from."""

from pathlib import Path

from hf_localgan.trainers.base.lineage import last_checkpoint
from hf_localgan.trainers.base.publishing import find_checkpoint
from hf_localgan.trainers.base.settings import SharedSettings, output_folder


def checkpoint_to_resume(args: SharedSettings) -> str | None:
    """The checkpoint that `args.resume_from_checkpoint` names: a folder, or the last one of `output_dir` for `last`.

    In a folder with checkpoints of several trainings, `last` is that of the training that saved last.
    `last-checkpoint` is the one that an interrupted run has left on the Hub; see `find_checkpoint`.

    Returns:
        The folder; `None` for a new run.

    Raises:
        ValueError: if there is no such checkpoint.
        OSError: if it cannot be downloaded from the Hub.
    """
    name = find_checkpoint(args, args.resume_from_checkpoint)
    if name is None:
        return None
    output = output_folder(args)
    folder = last_checkpoint(output) if name == "last" else str(name)
    if folder is None or not Path(folder).is_dir():
        raise ValueError(
            f'There is no checkpoint to resume from: `resume_from_checkpoint` is "{name}", `output_dir` is '
            f'"{args.output_dir}". Name a checkpoint folder, or `last` for the last one of `output_dir`, or '
            "`last-checkpoint` together with `hub_model_id` for that of a repository, or leave the option out to start "
            "anew."
        )
    return folder
