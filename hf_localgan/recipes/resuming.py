"""The checkpoint that a run goes on from."""

from pathlib import Path

from transformers.trainer_utils import get_last_checkpoint

from hf_localgan.trainers.base.publishing import find_checkpoint


def checkpoint_to_resume(args) -> str | None:
    """The checkpoint that `args.resume_from_checkpoint` names: a folder, or the last one of `output_dir` for `last`.

    `last-checkpoint` is the one that an interrupted run has left on the Hub; see `find_checkpoint`.

    Raises:
        ValueError: if there is none.
        OSError: if it cannot be had from the Hub.
    """
    wanted = find_checkpoint(args, args.resume_from_checkpoint)
    if wanted is None:
        return None
    found = get_last_checkpoint(args.output_dir) if wanted == "last" and Path(args.output_dir).is_dir() else wanted
    if found is None or not Path(found).is_dir():
        raise ValueError(
            f'There is no checkpoint to resume from: `resume_from_checkpoint` is "{wanted}", `output_dir` is '
            f'"{args.output_dir}". Name a checkpoint folder, or `last` for the last one of `output_dir`, or '
            "`last-checkpoint` together with `hub_model_id` for that of a repository, or leave the option out to start "
            "anew."
        )
    return found
