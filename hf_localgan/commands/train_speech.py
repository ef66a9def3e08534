"""Trains a recogniser of speech, Listen, Attend and Spell, and scores its transcripts of the test split.

Without CONFIG it trains on synthetic speech of tones, in a minute. It trains by maximum likelihood or, with `payoff` in
the file or as an option, by reward augmented maximum likelihood (RAML, Norouzi et al. 2016), whose options stand below.
Writes to `output_dir` the recogniser with its processor, checkpoints, transcripts, scores, pictures
and a model card.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from hf_localgan.commands.exits import WRONG_USAGE, print_error
from hf_localgan.commands.recipe import run, training_parser
from hf_localgan.options import help_asked
from hf_localgan.recipes.finish import objective_about
from hf_localgan.recipes.parser import RecipeParser, read_config
from hf_localgan.recipes.settings.speech import RecogniserArguments, RecognitionArguments, SpeechArguments
from hf_localgan.recipes.speech import finish_speech, make_speech_trainer, set_up_speech
from hf_localgan.terminal import report_console
from hf_localgan.trainers.mle.config import MleConfig
from hf_localgan.trainers.raml.config import SERIES_FIELDS, RamlConfig
from hf_localgan.trainers.raml.draws import summarize_draws
from hf_localgan.trainers.speech.trainer import SpeechMixin, SpeechMleTrainer, SpeechRamlTrainer


def train(speech: SpeechArguments, recogniser: RecogniserArguments, recognition: RecognitionArguments, args: MleConfig):
    if isinstance(args, RamlConfig):
        args.check_weighted()  # before anything is loaded
    elif recogniser.ctc_labels != "reference":
        raise ValueError(
            f"`ctc_labels: {recogniser.ctc_labels}` needs draws, and training by maximum likelihood has none. Set a "
            "`payoff`, or leave it out."
        )
    setup = set_up_speech(speech, recogniser, args)
    method: type[SpeechMixin] = SpeechRamlTrainer if isinstance(args, RamlConfig) else SpeechMleTrainer
    trainer = make_speech_trainer(method, setup, speech, recogniser, recognition, args)
    about = objective_about(method, args)
    if isinstance(trainer, SpeechRamlTrainer) and isinstance(args, RamlConfig):
        draws = summarize_draws(trainer.raml_collator, setup.train, setup.processor.tokenizer)
        if trainer.is_world_process_zero():
            print(draws)
            report_console().print(draws.table())
        reward = {"reward": args.reward} if args.payoff == "importance" else {}
        about |= {"payoff": args.payoff, **reward, **args.changed(SERIES_FIELDS), **draws.about()}
        if setup.model.config.ctc_weight:
            about["ctc_labels"] = recogniser.ctc_labels
    trainer.train(resume_from_checkpoint=setup.checkpoint)
    trainer.save_model()
    finish_speech(trainer, setup, speech, recognition, about)


def settings_parser(prog: str | None = None, config: type[MleConfig] | type[RamlConfig] = RamlConfig) -> RecipeParser:
    """The parser of the command.

    Args:
        prog: its name.
        config: class of the trainer's configuration; RAML's has all options of the command.
    """
    return training_parser(
        SpeechArguments, RecogniserArguments, RecognitionArguments, config,
        default="speech", description=__doc__, prog=prog,
    )  # fmt: skip


def main(argv: Sequence[str] | None = None, prog: str | None = None) -> int:
    argv = list(sys.argv[1:] if argv is None else argv)
    try:
        config = RamlConfig if help_asked(argv) is not None or _names_payoff(argv) else MleConfig
    except (OSError, ValueError) as error:  # a file that cannot be read
        return print_error(prog or "train_speech.py", error, WRONG_USAGE)
    return run(settings_parser(prog, config), train, argv)


def _names_payoff(argv: Sequence[str]) -> bool:
    """Whether an option or the file names a payoff."""
    if any(word == "--payoff" or word.startswith("--payoff=") for word in argv):
        return True
    file = argv[0] if argv and not argv[0].startswith("-") else None
    return file is not None and Path(file).suffix != "" and read_config(file).get("payoff") is not None
