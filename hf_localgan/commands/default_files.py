"""The settings files for the shipped corpus, which commands read by default."""

from pathlib import Path


def default_file(name: str) -> Path:
    """The settings file for the shipped corpus, which a training reads by default.

    Args:
        name: `mle` for `recipes/smalltalk/mle.yaml`; in a wheel these files lie beside this module.
    """
    folder = Path(__file__).parent / "smalltalk"
    if not folder.is_dir():
        folder = Path(__file__).parents[2] / "recipes" / "smalltalk"
    return folder / f"{name}.yaml"


def training_epilog(general: str, default: str, prog: str) -> str:
    """Last lines of the help of a training.

    Args:
        general: what holds for all commands with settings.
        default: name of its default file, see `default_file`.
        prog: name of the command.
    """
    epilog = (
        f"{general}\nWithout CONFIG the settings are those of {default_file(default)}. With --dataset those that "
        "belong to its\ncorpus are left out: licence and language on the card, decodings; `output_dir` is another."
    )
    if prog.startswith("hf-localgan "):
        command = prog.replace("hf-localgan", "hf_localgan.cli", 1)
        epilog += f"\nSeveral processes: accelerate launch --module {command} [CONFIG] [--field value ...]"
    return epilog
